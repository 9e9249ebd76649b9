"""`ps`, `show`, `stop`, `start`, `terminate`, `sweep`, `doctor`, and which realm a NAME is in."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gpubroker.cli.machines import bill_words
from gpubroker.model.bill import Bill
from gpubroker.model.money import nanos
from gpubroker.model.reports import Check
from gpubroker.model.terms import State

from .conftest import NOW, RUNNING, make_machine


@pytest.fixture
def both_realms(world: Any, daemon: Any, tmp_path: Path) -> str:
    """One machine live, one in a sandbox that runs."""
    (tmp_path / "home" / "sandbox" / "stores").mkdir(parents=True)
    daemon.running = True
    url: str = RUNNING.base_url
    world.machines[url] = (make_machine(name="play-1", launch_id="l-play", provider_id="7"),)
    return url


def test_ps_shows_what_is_in_view_of_money(run: Any) -> None:
    row, unheld, burning = run("ps").out.splitlines()[1:]
    assert row.split() == "train-1 running 1x RTX 4090 vast_ai 0.340 $0.41 23h* gb-train-1".split()
    assert unheld == "  * ends only where gpubroker runs then: gpubroker keeper status"
    assert burning == "  Burning $0.340/h."


def test_stopped_machines_are_shown_to_cost(run: Any, world: Any) -> None:
    world.machines[None] = (make_machine(state=State.STOPPED, wanted="stopped"),)
    told = run("ps").out
    assert "0.020" in told
    assert "stopped machines still cost: disk" in told
    assert "Burning $0.020/h." in told


def test_ps_asks_no_cloud_unless_something_is_due(run: Any, world: Any) -> None:
    run("ps")
    assert world.verbs() == ["machines"]
    world.due = True
    ran = run("ps")
    assert world.verbs() == ["machines", "settle", "machines"]
    assert ran.code == 0
    assert "warning: not done yet" in ran.err


def test_ps_without_machines_says_what_to_type(run: Any, world: Any) -> None:
    world.machines[None] = ()
    assert "gpubroker launch" in run("ps").out
    assert run("ps", "--json").json == {"instances": [], "warnings": []}


def test_an_instance_has_the_fields_of_the_contract(run: Any) -> None:
    row = run("show", "train-1", "--json").json
    promised = {
        "id": "vast_998",
        "name": "train-1",
        "provider": "vast_ai",
        "provider_id": "998",
        "status": "running",
        "state": "running",
        "gpu_model": "RTX 4090",
        "gpu_count": 1,
        "price_per_hour": 0.34,
        "region": "California, US",
        "created_at": "2026-11-21T11:00:00Z",
        "ended_at": None,
        "ssh": {"host": "127.0.0.1", "port": 2222, "user": "root"},
        "console_url": None,
        "cost_so_far": 0.41,
        "ttl_expires_at": "2026-11-22T11:00:00Z",
        "expiry": "controller_only",
    }
    assert promised == {field: row[field] for field in promised}
    assert row["ports"] == [
        {"container_port": 8888, "host": "127.0.0.1", "host_port": 40001, "protocol": "tcp"},
        {
            "container_port": 80,
            "host": None,
            "host_port": None,
            "protocol": "tcp",
            "url": "https://x.example",
        },
    ]
    assert row["billing"]["status"] == "running"
    assert {"checked_at", "evidence"} <= set(row["billing"])


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"state": State.PENDING, "phase": "allocating"}, "loading"),
        ({"state": State.PENDING, "phase": "pulling"}, "loading"),
        ({"state": State.PENDING, "phase": "booting"}, "starting"),
        ({"state": State.STOPPING}, "stopping"),
        ({"state": State.TERMINATING}, "stopping"),
        ({"state": State.STOPPED}, "offline"),
        ({"state": State.TERMINATED}, "offline"),
        ({"state": State.FAILED}, "error"),
        ({"state": State.PREEMPTED}, "error"),
        ({"state": State.UNKNOWN}, "running"),
        ({"state": State.UNKNOWN, "started_at": None, "phase": "allocating"}, "loading"),
    ],
)
def test_states_have_the_words_that_clients_know(
    run: Any, world: Any, change: dict[str, Any], status: str
) -> None:
    world.machines[None] = (make_machine(**change),)
    row = run("ps", "--json").json["instances"][0]
    assert row["status"] == status
    assert row["state"] == change["state"]
    assert row["stale"] is (change["state"] is State.UNKNOWN)


def test_a_name_is_found_live_first_and_then_in_the_sandbox(
    run: Any, world: Any, both_realms: str
) -> None:
    run("show", "train-1")
    assert world.last("show")[0] is None
    ran = run("show", "play-1")
    assert world.last("show")[0] == both_realms
    assert ran.out.startswith("play-1 (sandbox)")


def test_a_machine_is_found_by_its_ids_too(run: Any, world: Any) -> None:
    assert run("show", "vast_998").code == 0
    assert run("show", "l-abc").code == 0


def test_what_runs_is_meant_before_what_has_ended(run: Any, world: Any, both_realms: str) -> None:
    world.machines[None] = (make_machine(name="play-1", ended_at=NOW),)
    run("show", "play-1")
    assert world.last("show")[0] == both_realms


def test_ps_marks_the_sandbox_and_keeps_its_money_apart(run: Any, both_realms: str) -> None:
    told = run("ps").out
    assert "play-1 (sandbox)" in told
    assert "Burning $0.340/h." in told
    assert "In the sandbox, where nothing is paid: $0.340/h." in told


def test_a_sandbox_that_does_not_run_is_started_for_its_machine_only_by_name(
    run: Any, world: Any, daemon: Any, both_realms: str, tmp_path: Path
) -> None:
    daemon.running = False
    run("ps")
    assert daemon.started == 0
    (tmp_path / "home" / "sandbox" / "stores" / "abc.db").touch()
    assert run("show", "play-1").code == 0
    assert daemon.started == 1


def test_an_unknown_name_exits_7_with_its_nearest(run: Any) -> None:
    ran = run("show", "train-2", "--json")
    assert (ran.code, ran.out) == (7, "")
    assert ran.error["nearest"] == ["train-1"]


def test_terminate_shows_the_bill(run: Any, world: Any) -> None:
    ran = run("terminate", "train-1")
    assert ran.out == "train-1: bill: $0.41 metered, $0.43 billed by vast_ai ✓\n"
    assert world.last("terminate") == (None, "train-1")


def test_an_unknown_name_among_several_ends_none(run: Any, world: Any) -> None:
    assert run("terminate", "train-1", "train-9").code == 7
    assert "terminate" not in world.verbs()


def test_terminate_all_needs_a_yes_and_never_crosses_realms(
    run: Any, world: Any, both_realms: str
) -> None:
    assert run("terminate", "--all").code == 2
    assert "terminate" not in world.verbs()
    assert run("terminate", "--all", "--yes").code == 0
    assert [asked for asked in world.asked if asked[0] == "terminate"] == [
        ("terminate", None, "train-1")
    ]
    run("terminate", "--all", "--yes", "--sandbox")
    assert world.last("terminate") == (both_realms, "play-1")


def test_terminate_needs_names_or_all(run: Any) -> None:
    assert run("terminate").code == 2
    assert run("terminate", "train-1", "--all").code == 2


def test_stop_says_that_the_disk_still_costs(run: Any) -> None:
    assert "its disk still costs $0.020/h" in run("stop", "train-1").out


@pytest.mark.parametrize(
    ("bill", "words"),
    [
        (Bill(status="ended", amount=nanos(0.43)), "$0.43 billed by vast_ai ✓"),
        (Bill(status="ended"), "billing ended"),
        (Bill(status="ended", amount=nanos(0.43), by="balance"), "by the balance at vast_ai, not"),
        (Bill(status="manual", evidence="the billing page"), "the billing page"),
        (Bill(status="running"), "STILL BILLS IT"),
        (Bill(status="pending"), "has not told its bill yet"),
        (Bill(status="unknown"), "has not told its bill yet"),
    ],
)
def test_a_bill_is_only_settled_where_the_cloud_says_so(bill: Bill, words: str) -> None:
    told = bill_words(make_machine(bill=bill))
    assert words in told
    assert ("✓" in told) is (bill.status == "ended")


def test_sweep_tells_whose_every_machine_is(run: Any, world: Any) -> None:
    ran = run("sweep")
    assert ran.code == 0
    assert "orphan   vast_ai 998  RTX 3090  running  $0.210/h ($0.63 so far)" in ran.out
    assert "ghost    ghost-1" in ran.out
    assert "Nothing was changed. gpubroker sweep --fix" in ran.out
    assert "Ended 1 orphan, closed 1 ghost." in run("sweep", "--fix").out
    assert world.last("sweep")[1:] == (True, None)
    run("sweep", "--owner", "k7xq2m")
    assert world.last("sweep")[1:] == (False, "k7xq2m")


def test_a_sweep_that_could_not_look_everywhere_has_failed(run: Any, world: Any) -> None:
    world.sweep_errors = {"vast_ai/default": "503"}
    ran = run("sweep")
    assert ran.code == 1
    assert "vast_ai/default: 503. Nothing is concluded" in ran.err


def test_doctor_fails_where_a_check_fails_and_says_what_to_do(run: Any, world: Any) -> None:
    assert run("doctor").code == 0
    bad = Check(provider="vast_ai", what="key", ok=False, detail="refused", fix="make a new one")
    world.checks = (bad,)
    ran = run("doctor")
    assert ran.code == 1
    assert "Next: make a new one" in ran.out
    world.checks = (Check(provider="vast_ai", what="balance", ok=None, detail="not told"),)
    assert run("doctor").code == 0


def test_time_left_is_by_the_realms_clock(run: Any, world: Any) -> None:
    world.machines[None] = (make_machine(expires_at=NOW - timedelta(seconds=1)),)
    assert " now* " in run("ps").out
    world.machines[None] = (make_machine(expires_at=None),)
    assert " never " in run("ps").out
