"""`budget`, `notify`, the flags of `launch` that go with them, and what `ps` warns of."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest
from msgspec import structs

from gpubroker.cli.budget import ladder_of, limit_of
from gpubroker.cli.main import invoke
from gpubroker.model.budget import Rung
from gpubroker.model.money import nanos
from gpubroker.model.notices import ChannelReport

from .conftest import make_budget, make_machine, make_warning


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("50", ("50", "total", True)),
        ("$50", ("50", "total", True)),
        ("50 USD in all, hard", ("50", "total", True)),
        ("20.5 USD a day", ("20.5", "day", True)),
        ("20 usd per week, soft", ("20", "week", False)),
        ("300/month soft", ("300", "month", False)),
        ("10, soft", ("10", "total", False)),
    ],
)
def test_a_limit_is_read_as_people_say_it(text: str, limit: tuple[str, str, bool]) -> None:
    assert limit_of(text) == limit


@pytest.mark.parametrize("text", ["", "much", "50 EUR", "-5", "50 a fortnight", "50 USD hard soft"])
def test_what_is_no_limit_says_what_was_expected(run: Any, world: Any, text: str) -> None:
    ran = run("budget", "set", "thesis", "--", text)
    assert ran.code == 2
    assert "is no limit: write 50" in ran.err
    assert world.asked == []


def test_set_passes_on_amount_period_whose_and_kind(run: Any, world: Any) -> None:
    ran = run("budget", "set", "thesis", "50", "USD", "in", "all,", "hard", "--project", "thesis")
    assert ran.code == 0
    name, amount, how = world.last("set_budget")[1:]
    assert (name, amount) == ("thesis", nanos(50))
    assert how == {
        "period": "total", "project": "thesis", "tag": None, "hard": True, "ladder": None
    }  # fmt: skip
    run("budget", "set", "team", "20", "--per", "day", "--tag", "team=vision", "--soft")
    how = world.last("set_budget")[3]
    assert (how["period"], how["tag"], how["hard"]) == ("day", "team=vision", False)


def test_rungs_are_moved_and_left_out_by_name(run: Any, world: Any) -> None:
    run("budget", "set", "b", "50", "--warn", "50%", "--stop", "none")
    assert world.last("set_budget")[3]["ladder"] == (Rung(0.5, "warn"), Rung(1.0, "terminate"))
    assert ladder_of(False, warn="0.9", stop=None, terminate=None) == (Rung(0.9, "warn"),)
    ran = run("budget", "set", "b", "50", "--stop", "soon")
    assert (ran.code, world.verbs().count("set_budget")) == (2, 1)
    assert '--stop "soon": expected 80%, 0.8 or none' in ran.err


def test_list_shows_what_is_left_and_when_it_is_used_up(run: Any) -> None:
    told = run("budget").out
    assert told == run("budget", "list").out
    assert "$50.00 in all" in told
    for figure in ("$10.00", "$14.50", "$35.50", "$0.500"):
        assert figure in told
    assert "24 Nov" in told  # 80 hours on


def test_list_without_budgets_says_how_one_is_set(run: Any, world: Any) -> None:
    world.budgets = ()
    assert "gpubroker budget set thesis" in run("budget").out
    assert run("budget", "--json").json == {"budgets": []}


def test_json_holds_every_figure(run: Any) -> None:
    [told] = run("budget", "list", "--json").json["budgets"]
    assert told == run("budget", "show", "thesis", "--json").json
    assert {name: told[name] for name in ("amount", "spent", "committed", "left")} == {
        "amount": 50.0, "spent": 10.0, "committed": 14.5, "left": 35.5
    }  # fmt: skip
    assert told["used_up_at"] == "2026-11-24T20:00:00Z"
    assert told["ladder"][0] == {"at": 0.8, "do": "warn"}
    [machine] = told["machines"]
    assert (machine["name"], machine["to_come"]) == ("train-1", 4.5)


def test_show_names_the_machines_and_what_has_no_end(run: Any, world: Any) -> None:
    told = run("budget", "show", "thesis").out
    assert "warn at 80%, stop at 95%, terminate at 100%" in told
    assert "train-1" in told
    world.budgets = (structs.replace(make_budget(), committed=None, used_up_at=None),)
    told = run("budget", "show", "thesis").out
    assert "no end: something runs without an expiry" in told
    assert "left      $0.00" in told


def test_a_budget_that_is_not_there_is_not_found(run: Any) -> None:
    ran = run("budget", "show", "theses", "--json")
    assert (ran.code, ran.out) == (7, "")
    assert "Did you mean thesis" in ran.error["message"]


def test_remove_says_that_it_is_gone(run: Any, world: Any) -> None:
    assert run("budget", "remove", "thesis", "--json").json == {"name": "thesis", "removed": True}
    assert world.last("remove_budget")[1:] == ("thesis",)


# launch


def test_launch_takes_project_and_tags(run: Any, world: Any) -> None:
    run("launch", "--gpu", "4090", "--yes", "--project", "p", "--tag", "a=1", "--tag", "b=2=3")
    request = world.last("launch")[1]
    assert (request.project, request.tags) == ("p", {"a": "1", "b": "2=3"})
    ran = run("launch", "--gpu", "4090", "--yes", "--tag", "vision")
    assert ran.code == 2
    assert '--tag "vision": expected KEY=VALUE' in ran.err


def test_the_project_may_stand_in_the_configuration(run: Any, world: Any, tmp_path: Any) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.toml").write_text('[defaults]\nproject = "thesis"\n')
    run("launch", "--gpu", "4090", "--yes")
    assert world.last("launch")[1].project == "thesis"
    run("launch", "--gpu", "4090", "--yes", "--project", "other")
    assert world.last("launch")[1].project == "other"


# ps


def test_ps_shows_the_project_where_one_has_one(run: Any, world: Any) -> None:
    assert "PROJECT" not in run("ps").out
    world.machines[None] = (
        make_machine(project="thesis", tags={"team": "vision"}),
        make_machine(name="other", launch_id="l-x"),
    )
    header, first, second, *_ = run("ps").out.splitlines()
    assert header.split()[:3] == ["NAME", "PROJECT", "STATE"]
    assert first.split()[:3] == ["train-1", "thesis", "running"]
    assert second.split()[:3] == ["other", "–", "running"]
    [told, _] = run("ps", "--json").json["instances"]
    assert (told["project"], told["tags"]) == ("thesis", {"team": "vision"})
    shown = run("show", "train-1").out
    assert "project  thesis" in shown
    assert "tags     team=vision" in shown


def test_ps_warns_with_the_last_few(run: Any, world: Any) -> None:
    world.warnings = tuple(make_warning(number) for number in range(1, 8))
    notes = [line for line in run("ps").out.splitlines() if line.startswith("  ! ")]
    assert notes[0] == "  ! 2 earlier warnings: ps --json"
    assert notes[1:] == [f"  ! train-1 ends in {n}m, unless it is extended" for n in range(3, 8)]
    told = run("ps", "--json").json["warnings"]
    assert [one["id"] for one in told] == list(range(1, 8))
    assert told[0]["kind"] == "expiring"


# notify


CHANNEL = ChannelReport(
    name="ops", to="hooks.example", kinds=("preempted",), sent=4, waiting=1, undelivered=0,
    last_error="answered with 503",
)  # fmt: skip


def test_notify_shows_how_it_went_at_each_channel(run: Any, world: Any) -> None:
    assert "[notify.channels.NAME]" in run("notify").out
    world.channels = (CHANNEL,)
    row = run("notify", "list").out.splitlines()[1]
    assert row.split() == "ops hooks.example 4 1 0 answered with 503".split()
    [told] = run("notify", "--json").json["channels"]
    assert told["last_error"] == "answered with 503"


def test_notify_test_sends_one(run: Any, world: Any) -> None:
    assert run("notify", "test", "ops", "--json").json == {"name": "ops", "sent": True}
    assert world.last("test_channel")[1:] == ("ops",)


def test_a_secret_is_read_from_standard_input_and_not_repeated(
    run: Any, world: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Any
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("sesame\n"))
    assert invoke(["notify", "secret", "ops"], {"GPUBROKER_HOME": str(tmp_path)}) == 0
    assert world.last("set_channel_secret")[1:] == ("ops", "sesame\n")
    told = capsys.readouterr()
    assert "sesame" not in told.out + told.err
    assert run("notify", "secret", "ops", "sesame").code == 2
