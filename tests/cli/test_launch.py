"""`launch`: plan before rent, questions on a terminal only, every flag in the request."""

from __future__ import annotations

import io
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gpubroker.cli.main import invoke
from gpubroker.fleet.errors import NothingToBeHad
from gpubroker.model.errors import BudgetExceeded
from gpubroker.model.money import nanos

from .conftest import KEY

SANDBOX = {"GPUBROKER_SANDBOX": "http://127.0.0.1:9900"}


def test_every_flag_reaches_the_request(run: Any, world: Any, tmp_path: Path) -> None:
    script, env = tmp_path / "up.sh", tmp_path / "job.env"
    script.write_text("echo up\n")
    env.write_text("A=file\n")
    ran = run(
        *"launch --gpu 4090 --name train-1 --image pytorch/pytorch --env B=flag".split(),
        *("--env-file", str(env), "--startup-script", str(script), "--ssh-key", KEY),
        *"--port 8888/tcp --port 53/udp --disk 100 --ttl 1d12h --bid 0.3 --yes --no-wait".split(),
        *"--max-price-increase 30% --max-cost 20 --tries 3 --nodes 1".split(),
    )
    assert ran.code == 0, ran.err
    request = world.last("launch")[1]
    assert request.query.gpus[0].name == "RTX 4090"
    assert request.query.disk_gb == 100
    assert request.name == "train-1"
    assert request.image == "pytorch/pytorch"
    assert request.env == {"A": "file", "B": "flag"}
    assert request.startup_script == "echo up\n"
    assert request.ssh_keys == (KEY,)
    assert request.ports == ((8888, "tcp"), (53, "udp"))
    assert request.disk_gb == 100
    assert request.ttl == timedelta(hours=36)
    assert request.bid == nanos(0.3)
    assert request.max_price_increase == 0.3
    assert request.max_cost == nanos(20)
    assert request.tries == 3
    assert world.last("launch")[3] is False


def test_an_offer_is_asked_for_by_its_id(run: Any, world: Any) -> None:
    assert run("launch", "--offer", "vastai_20410003:spot", "--yes").code == 0
    query = world.last("launch")[1].query
    assert query.keys == ("20410003:spot",)
    assert query.providers == ("vast_ai",)


def test_no_expiry_must_be_spelled_out(run: Any, world: Any) -> None:
    run("launch", "--yes")
    assert world.last("launch")[1].ttl == timedelta(hours=24)
    run("launch", "--yes", "--ttl", "none")
    request = world.last("launch")[1]
    assert (request.ttl, request.no_expiry) == (None, True)


def test_the_users_keys_are_admitted_where_none_is_named(
    run: Any, world: Any, tmp_path: Path
) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519.pub").write_text(KEY + "\n")
    run("launch", "--yes", HOME=str(tmp_path))
    assert world.last("launch")[1].ssh_keys == (KEY,)


def test_what_was_planned_is_what_is_rented(run: Any, world: Any) -> None:
    ran = run("launch", "--gpu", "4090", "--yes")
    assert world.verbs() == ["plan", "launch"]
    assert world.last("launch")[2].ranked[0].offer_id == "vast_12345"
    assert "At most $1.36 for 1d" in ran.err
    assert "✗ vast_ai 12345  taken" in ran.err
    assert "✓ ready: RTX 4090 24 GB" in ran.err
    assert "bookkeeping" not in ran.err
    assert ran.out.startswith("train-1 is running: $0.340/h, ends ")
    assert "gpubroker terminate train-1" in ran.out


def test_without_a_terminal_and_a_yes_nothing_is_rented(run: Any, world: Any) -> None:
    ran = run("launch", "--gpu", "4090", "--json")
    assert (ran.code, ran.out) == (2, "")
    assert "--yes" in ran.error["message"]
    assert world.verbs() == ["plan"]


def test_the_sandbox_needs_no_yes(run: Any, world: Any) -> None:
    assert run("launch", "--gpu", "4090", **SANDBOX).code == 0
    assert world.last("launch")[0] == SANDBOX["GPUBROKER_SANDBOX"]


@pytest.mark.parametrize(("answer", "code", "asked"), [("y\n", 0, True), ("n\n", 1, False)])
def test_on_a_terminal_it_is_asked(
    world: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    answer: str,
    code: int,
    asked: bool,
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    monkeypatch.setattr(sys, "stderr", Terminal())
    environ = {"GPUBROKER_HOME": str(tmp_path), "NO_COLOR": "1"}
    assert invoke(["launch", "--gpu", "4090"], environ) == code
    assert ("launch" in world.verbs()) is asked


def test_a_dry_run_shows_the_plan_and_rents_nothing(run: Any, world: Any) -> None:
    ran = run("launch", "--gpu", "4090", "--dry-run")
    assert ran.code == 0
    assert "vast_12345" in ran.out
    told = run("launch", "--gpu", "4090", "--dry-run", "--json").json
    assert told["plan"][0]["offer_id"] == "vast_12345"
    assert told["most"] == 1.36
    assert world.verbs() == ["plan", "plan"]


def test_the_instance_tells_its_attempts(run: Any) -> None:
    told = run("launch", "--gpu", "4090", "--yes", "--json").json
    assert told["id"] == "vast_998"
    assert told["attempts"] == [
        {
            "attempt": "a1",
            "offer_id": "vast_12345",
            "provider": "vast_ai",
            "outcome": "refused",
            "reason": "taken by somebody else",
            "error_code": "no_capacity",
            "price_per_hour": 0.312,
            "seconds": None,
        }
    ]


def test_when_none_can_be_had_each_try_is_listed(
    run: Any, world: Any, tries: NothingToBeHad
) -> None:
    world.fails["launch"] = tries
    ran = run("launch", "--yes")
    assert ran.code == 4
    assert "vast_12345: taken by somebody else" in ran.err
    assert "Nothing is left behind" in ran.err
    told = run("launch", "--yes", "--json").error
    assert told["attempts"][0]["offer_id"] == "vast_12345"


def test_nothing_that_matches_exits_3_and_an_unknown_gpu_is_named(run: Any, world: Any) -> None:
    world.offers = ()
    assert run("launch", "--gpu", "4090", "--yes").code == 3
    ran = run("launch", "--gpu", "RTX 4900", "--yes")
    assert ran.code == 3
    assert "Did you mean" in ran.err


def test_a_refusal_of_policy_exits_6(run: Any, world: Any) -> None:
    world.fails["plan"] = BudgetExceeded("this launch could cost $5.44")
    ran = run("launch", "--yes")
    assert ran.code == 6
    assert "--ttl" in ran.err


def test_what_is_due_is_done_first(run: Any, world: Any) -> None:
    world.due = True
    ran = run("launch", "--yes")
    assert world.verbs() == ["settle", "plan", "launch"]
    assert "vast_ai does not answer" in ran.err


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--ttl", "4"], "--ttl"),
        (["--ttl", "0h"], "out of range"),
        (["--env", "x"], "NAME=VALUE"),
        (["--port", "70000"], "8888/tcp"),
        (["--disk", "-1"], "a whole number of 1 or more"),
        (["--tries", "0"], "a whole number from 1 to 50"),
        (["--max-price-increase", "lots"], "0.1 or 10%"),
        (["--offer", "mystery"], "vast_12345"),
        (["--ssh-key", "/no/such.pub"], "no such key file"),
        (["--env-file", "/no/such.env"], "does not exist"),
        (["--idle", "never"], "--idle"),
        (["--retry-for", "soon"], "--retry-for"),
        (["--retry-for", "6h", "--nodes", "2"], "--all-within"),
        (["--nodes", "0"], "a whole number from 1 to 512"),
        (["--all-within", "5m"], "several --nodes"),
        (["--on-preempt", "panic"], "expected stay, replace"),
        (["--on-mismatch", "ignore"], "'warn', 'replace'"),
    ],
)
def test_a_bad_value_is_refused_before_anything_is_asked(
    run: Any, world: Any, argv: list[str], expected: str
) -> None:
    ran = run("launch", "--yes", *argv)
    assert (ran.code, ran.out) == (2, "")
    assert expected in ran.err
    assert world.asked == []


def test_regions_of_the_configuration_hold_for_a_search_and_not_for_a_named_offer(
    run: Any, world: Any, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/config.toml").write_text('[defaults]\nregions = ["Europe"]\n')
    run("launch", "--gpu", "4090", "--yes")
    assert world.last("launch")[1].query.regions == ("Europe",)
    run("launch", "--gpu", "4090", "--region", "US", "--yes")
    assert world.last("launch")[1].query.regions == ("US",)
    run("launch", "--offer", "vast_12345", "--yes")
    assert world.last("launch")[1].query.regions == ()
