"""`extend`, and what the verbs say of a machine's end and of what brings it about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest

from gpubroker.cli.extend import moment
from gpubroker.model.terms import Expiry

from .conftest import NOW, make_machine

HOUR = timedelta(hours=1)


def held(**more: Any) -> Any:
    return make_machine(expiry=Expiry.PROVIDER, confirmed=True, **more)


def pending() -> Any:
    return make_machine(
        expiry=Expiry.MACHINE_ENDS_BILLING, ends_at=NOW + HOUR, expires_at=NOW + 3 * HOUR
    )


def test_an_end_is_moved_by_a_span_or_to_a_time(run: Any, world: Any) -> None:
    world.extended = held()
    ran = run("extend", "train-1", "2h")
    assert ran.code == 0
    assert "by: the cloud itself" in ran.out
    assert world.last("extend")[1:] == ("train-1", {"by": 2 * HOUR, "until": None})
    assert run("extend", "train-1", "--until", "2026-11-22T08:00+00:00").code == 0
    at = datetime(2026, 11, 22, 8, tzinfo=UTC)
    assert world.last("extend")[1:] == ("train-1", {"by": None, "until": at})


def test_what_is_not_confirmed_is_no_success(run: Any, world: Any) -> None:
    world.extended = pending()
    ran = run("extend", "train-1", "2h")
    assert ran.code == 1
    assert "a timer on the machine has not confirmed" in ran.out
    told = run("extend", "train-1", "2h", "--json").json
    assert told["expiry_confirmed"] is False
    assert told["ends_at"] < told["ttl_expires_at"]


def test_where_only_gpubroker_ends_it_the_wish_is_the_end(run: Any, world: Any) -> None:
    world.extended = make_machine()
    ran = run("extend", "train-1", "2h")
    assert ran.code == 0
    assert "gpubroker, where one runs" in ran.out


@pytest.mark.parametrize("words", [[], ["2h", "--until", "18:00"], ["soon"], ["-1h"]])
def test_what_makes_no_sense_is_refused_and_nothing_asked(
    run: Any, world: Any, words: list[str]
) -> None:
    ran = run("extend", "train-1", *words)
    assert ran.code == 2
    assert "extend" not in world.verbs()
    if words == ["-1h"]:
        assert "--until" in ran.err


def test_a_time_of_day_that_is_over_is_tomorrows() -> None:
    here = NOW.astimezone()
    over, ahead = here - HOUR, here + HOUR
    assert moment(f"{ahead:%H:%M}", NOW) - NOW <= timedelta(hours=1)
    assert timedelta(hours=22) < moment(f"{over:%H:%M}", NOW) - NOW < timedelta(hours=24)
    with pytest.raises(click.UsageError, match="expected 18:30"):
        moment("tea time", NOW)


def test_show_tells_both_ends_and_which_is_not_confirmed(run: Any, world: Any) -> None:
    world.machines[None] = (pending(),)
    told = run("show", "train-1").out
    assert "(by: a timer on the machine); wished:" in told
    assert "not confirmed yet" in told


def test_ps_shows_the_earlier_end_and_marks_what_only_gpubroker_ends(run: Any, world: Any) -> None:
    world.machines[None] = (held(), pending())
    rows = run("ps").out.splitlines()
    assert " 23h " in rows[1]
    assert " 1h* " in rows[2]
    world.machines[None] = (held(),)
    assert "*" not in run("ps").out


def test_show_tells_how_idle_a_machine_is(run: Any, world: Any) -> None:
    world.machines[None] = (
        held(idle_after=timedelta(minutes=30), idle_since=NOW - timedelta(minutes=10)),
    )
    assert "ends after 30m idle; idle for" in run("show", "train-1").out
    world.machines[None] = (held(idle_after=timedelta(minutes=30), idle_word="cannot tell"),)
    assert "ends after 30m idle; cannot tell" in run("show", "train-1").out
    assert run("show", "train-1", "--json").json["idle"]["word"] == "cannot tell"


def test_idle_reaches_the_request(run: Any, world: Any) -> None:
    assert run("launch", "--idle", "30m", "--yes").code == 0
    assert world.last("launch")[1].idle == timedelta(minutes=30)
    assert run("launch", "--idle", "never", "--yes").code == 2


def test_a_launch_that_nothing_ends_says_so_and_needs_a_yes(run: Any, world: Any) -> None:
    ran = run("launch", "--dry-run")
    assert "Nothing ends it at vast_ai unless gpubroker runs then" in ran.out
    assert run("launch", "--dry-run", "--json").json["only_gpubroker_ends"] == ["vast_ai"]
    assert run("launch").code == 2
    assert "launch" not in world.verbs()
    assert run("launch", "--yes").code == 0


def test_a_keeper_or_a_cloud_that_ends_it_is_named(run: Any, world: Any) -> None:
    world.kept_by = ("workstation",)
    told = run("launch", "--dry-run").out
    assert "then the keeper on workstation ends it" in told
    assert "Nothing ends it" not in told
    world.kept_by, world.ended_by = (), {"runpod": Expiry.MACHINE_ENDS_BILLING}
    told = run("launch", "--dry-run").out
    assert "then a timer on the machine ends it" in told
    assert "Nothing ends it" not in told
