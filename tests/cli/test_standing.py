"""Launches that go on after their first plan: flags, what `ps` and `show` tell, gangs by name."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from gpubroker.cli.words import clock_time
from gpubroker.model.terms import State

from .conftest import NOW, make_machine


def test_the_flags_reach_the_request(run: Any, world: Any) -> None:
    flags = "--retry-for 6h --on-preempt on-demand-after:2 --on-mismatch warn"
    ran = run("launch", "--gpu", "4090", "--yes", *flags.split())
    assert ran.code == 0, ran.err
    request = world.last("launch")[1]
    assert request.retry_for == timedelta(hours=6)
    assert (request.on_preempt, request.on_mismatch) == ("on-demand-after:2", "warn")
    assert (request.nodes, request.all_within) == (1, timedelta(minutes=15))
    assert "planned anew for 6h" in ran.err


def test_several_nodes_are_launched_together_and_told_as_hosts(run: Any, world: Any) -> None:
    ran = run("launch", "--json", "--yes", "--nodes", "3", "--name", "train", "--all-within", "5m")
    assert ran.code == 0, ran.err
    request = world.last("launch_gang")[1]
    assert (request.nodes, request.all_within) == (3, timedelta(minutes=5))
    assert ran.json["gang"] == "train"
    assert [host["ssh"] for host in ran.json["hosts"]] == [f"gb-train-{n}" for n in (1, 2, 3)]
    assert [one["name"] for one in ran.json["instances"]] == ["train-1", "train-2", "train-3"]
    assert {one["gang"] for one in ran.json["instances"]} == {"train"}


def test_nothing_for_sale_yet_is_no_error_where_it_is_waited_for(run: Any, world: Any) -> None:
    world.offers = []
    assert run("launch", "--gpu", "4090", "--yes").code == 3
    ran = run("launch", "--gpu", "4090", "--yes", "--retry-for", "6h")
    assert ran.code == 0, ran.err
    assert world.last("launch")[2].ranked == ()
    assert run("launch", "--gpu", "no such thing", "--yes", "--retry-for", "6h").code == 3


def test_a_waiting_launch_says_when_it_is_tried_next(run: Any, world: Any) -> None:
    until = NOW + timedelta(hours=5)
    waiting = make_machine(
        state=State.PENDING,
        phase="allocating",
        provider_id=None,
        ssh=None,
        next_try_at=NOW + timedelta(minutes=4),
        retry_until=until,
    )
    world.machines[None] = (waiting,)
    ran = run("ps")
    assert "waiting for stock, next try in" in ran.out
    assert clock_time(until, NOW) in ran.out
    assert run("ps", "--json").json["instances"][0]["next_try_at"] == "2026-11-21T12:04:00Z"


def test_a_gangs_name_ends_all_of_it(run: Any, world: Any) -> None:
    world.machines[None] = tuple(
        make_machine(name=f"train-{number}", launch_id=f"l-{number}", gang="train")
        for number in (1, 2)
    )
    assert run("terminate", "train").code == 0
    assert world.last("terminate")[1:] == ("train",)
    # Other verbs are about one machine.
    assert run("show", "train").code == 7


def test_what_is_not_as_asked_is_shown(run: Any, world: Any) -> None:
    words = "asked for 100 GB of disk, the cloud's record says 50 GB"
    world.machines[None] = (make_machine(mismatch=(words,), preempted=1, on_preempt="replace"),)
    assert "not as asked" in run("ps").out
    shown = run("show", "train-1").out
    assert f"not as asked: {words}" in shown
    assert "replace; so far 1 time" in shown
