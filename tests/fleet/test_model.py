"""Whatever happens in whatever order: at rest the cloud bills what is wanted, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from gpubroker.fleet import fleet as loop
from gpubroker.fleet import strays
from gpubroker.fleet.fleet import Fleet
from gpubroker.fleet.keeping import Keeper
from gpubroker.fleet.observing import CADENCE_S
from gpubroker.fleet.requests import LaunchRequest
from gpubroker.model.errors import BrokerError
from gpubroker.model.terms import Carrier, Expiry, State
from gpubroker.store.rows import when
from gpubroker.testing.fake_cloud import SWITCHES, Crashed, FaultKind

House = Any
CALLS = (
    "create", "find", "get", "list", "terminate", "whoami", "ensure", "release", "stop", "start",
)  # fmt: skip
KINDS: tuple[FaultKind, ...] = (
    "unavailable", "unknown_before", "unknown_after", "unknown_late", "garbage", "crash_before",
    "crash_after", "partial_list", "empty_list", "duplicate_list", "boot_failure", "late_failure",
    "wrong_gpu", "ignored", "other_account",
)  # fmt: skip
GRANULARITY_S = 1.0
"""The imaginary cloud bills by the second."""
ROUND_S = 5.0
"""Between two commands, or two rounds of a keeper."""
ROUNDS = 200
KEPT = 4
"""Rounds of a keeper until all that appeared is gone."""
AHEAD_S = 120.0
names = st.sampled_from(["a", "b", "c"])


class _CrashAt:
    """Dies at the n-th boundary from now on."""

    def __init__(self) -> None:
        self.left: int | None = None

    def __call__(self, boundary: str) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise Crashed(boundary)


class Fleets(RuleBasedStateMachine):
    """Two stores on one account of one cloud, each driven by processes that may die."""

    houses: list[House]
    make_house: Callable[..., House]

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.crashes = _CrashAt()

    @initialize(
        carrier=st.sampled_from(list(Carrier)),
        lag_s=st.sampled_from(SWITCHES["list_lag_s"]),
        deadline_s=st.sampled_from(SWITCHES["create_deadline_s"]),
        needs=st.sampled_from(SWITCHES["needs"]),
        gone=st.sampled_from(SWITCHES["gone"]),
        terminate_s=st.sampled_from(SWITCHES["terminate_s"]),
        stop=st.sampled_from(SWITCHES["stop"]),
        crash=st.sampled_from([None, *range(10)]),
    )
    def a_cloud(
        self,
        carrier: Any,
        lag_s: Any,
        deadline_s: Any,
        needs: Any,
        gone: Any,
        terminate_s: Any,
        stop: Any,
        crash: int | None,
    ) -> None:
        folder = Path(self._folder.name)
        self.houses = []
        for number in range(2):
            place = folder / str(number)
            place.mkdir()
            house = self.make_house(
                place,
                carrier=carrier,
                list_lag_s=lag_s,
                create_deadline_s=deadline_s,
                needs=needs,
                gone=gone,
                terminate_s=terminate_s,
                stop=stop,
            )
            house.on_boundary = self.crashes
            self.houses.append(house)
        self.houses[1].cloud = self.houses[0].cloud
        for house in self.houses:
            house.open()
        # Without a machine little can happen.
        self._launch(self.houses[0], "a", crash)

    def does(self, house: House, act: Callable[[Fleet], Coroutine[Any, Any, Any]]) -> None:
        """One command; what it dies of, or is refused, is part of life."""
        fleet = house.open()
        with contextlib.suppress(Crashed, BrokerError):
            asyncio.run(act(fleet))
        self.crashes.left = None

    # What happens

    @rule(which=st.integers(0, 1), name=names, crash=st.none() | st.integers(0, 14))
    def launch(self, which: int, name: str, crash: int | None) -> None:
        house = self.houses[which]
        house.open()
        if name not in house.store.names():
            self._launch(house, name, crash)

    def _launch(self, house: House, name: str, crash: int | None) -> None:
        self.crashes.left = crash
        request = LaunchRequest(disk_gb=20, ttl=timedelta(hours=6))
        self.does(house, lambda fleet: house.launch(fleet, request, name=name))

    @rule(which=st.integers(0, 1), name=names, crash=st.none() | st.integers(0, 8))
    def terminate(self, which: int, name: str, crash: int | None) -> None:
        house = self.houses[which]
        self.crashes.left = crash
        self.does(house, lambda fleet: fleet.terminate(name))

    @rule(
        which=st.integers(0, 1),
        name=names,
        stop=st.booleans(),
        crash=st.none() | st.integers(0, 6),
    )
    def stop_or_start(self, which: int, name: str, stop: bool, crash: int | None) -> None:
        house = self.houses[which]
        self.crashes.left = crash
        self.does(house, lambda fleet: fleet.stop(name) if stop else fleet.start(name))

    @rule(seconds=st.sampled_from([5.0, 90.0, 1800.0, 6 * 3600.0]))
    def time_passes(self, seconds: float) -> None:
        self.houses[0].cloud.clock.advance(seconds)

    @rule(operation=st.sampled_from(CALLS), kind=st.sampled_from(KINDS), times=st.integers(1, 3))
    def goes_wrong(self, operation: str, kind: FaultKind, times: int) -> None:
        with contextlib.suppress(ValueError):  # not every fault can happen at every call
            self.houses[0].cloud.script(operation, kind, times=times)

    @rule(which=st.integers(0, 1), name=names)
    def appears_late(self, which: int, name: str) -> None:
        """The cloud is slower than it says: a create that was given up took effect."""
        house = self.houses[which]
        house.cloud.script("create", "unknown_before")
        self.launch(which, name, None)
        rows = house.store.attempts_of_provider("fake")
        given_up = [row.id for row in rows if not row.open and row.end_asked_at is None]
        if given_up:
            late = house.cloud.plant(owner=house.store.owner, attempt=given_up[-1], name="late")
            # Made in time, and told of late: one that was made late may have inherited its marks.
            sent_at = next(row.sent_at for row in rows if row.id == late.attempt)
            late.created_at = when(sent_at or late.created_at.timestamp())

    @rule(which=st.integers(0, 1))
    def sweep(self, which: int) -> None:
        self.does(self.houses[which], lambda fleet: fleet.sweep(fix=True, owner=None))

    @rule(which=st.integers(0, 1))
    def next_command(self, which: int) -> None:
        self.does(self.houses[which], lambda fleet: fleet.settle())

    # What must hold

    @invariant()
    def every_billed_machine_has_an_owner_who_knows_of_it(self) -> None:
        if not getattr(self, "houses", None):
            return
        known = {
            attempt.id
            for house in self.houses
            for attempt in house.store.attempts_of_provider("fake")
        }
        for machine in self.houses[0].cloud.billed():
            assert machine.attempt in known

    def teardown(self) -> None:
        try:
            if getattr(self, "houses", None):
                self.comes_to_rest()
        finally:
            for house in getattr(self, "houses", []):
                house.close()
            self._folder.cleanup()

    def comes_to_rest(self) -> None:
        """No fault is left and every horizon passes: the measure holds."""
        cloud = self.houses[0].cloud
        cloud.heal()
        for house in self.houses:
            fleet = house.open()
            asyncio.run(_at_rest(house, fleet))
        wanted = {attempt for house in self.houses for attempt in house.wanted()}
        billed = cloud.billed()
        assert sorted(machine.attempt or "" for machine in billed) == sorted(wanted), (
            f"billed {[(m.id, m.attempt, m.state) for m in billed]}"
        )
        for house in self.houses:
            assert cloud.leaks(house.store.owner, house.wanted()) == []
            assert _billed_no_longer_than_wanted(house) == []
            assert _not_as_wished(house) == []


async def _at_rest(house: House, fleet: Fleet) -> None:
    for _ in range(ROUNDS):
        await fleet.settle()
        house.cloud.clock.advance(5)
        # What is looked after again soon is not at rest yet.
        if not house.store.due(house.cloud.clock.now().timestamp() + AHEAD_S):
            break
    else:
        pytest.fail(f"never at rest: {house.store.due(house.cloud.clock.now().timestamp())}")
    # Nobody sweeps. What a closed attempt is owed shows itself to the keeper, which looks once an
    # hour at accounts without machines in use.
    house.cloud.clock.advance(3600)
    for _ in range(KEPT):
        await Keeper(fleet.context, fleet).round()
        house.cloud.clock.advance(CADENCE_S)


def _billed_no_longer_than_wanted(house: House) -> list[str]:
    """Machines that were billed past the end of what was wanted, by more than it takes to end."""
    late = []
    for machine in house.cloud.machines:
        if machine.owner != house.store.owner or machine.ended_at is None:
            continue
        rows = [a for a in house.store.attempts_of_provider("fake") if a.id == machine.attempt]
        for row in rows:
            if row.end_asked_at is not None and row.closed_at is not None:
                billed_until = machine.ended_at.timestamp()
                if billed_until > row.closed_at + GRANULARITY_S:
                    late.append(f"{machine.id} was billed after it was proven gone")
    return late


def _not_as_wished(house: House) -> list[str]:
    """Machines that run and should be stopped, or that a start is still owed."""
    states = {machine.attempt: machine.state for machine in house.cloud.billed()}
    wrong = []
    for launch in house.store.launches():
        here = [states[a.id] for a in house.store.attempts(launch.id) if a.id in states]
        if launch.wanted == "stopped" and State.RUNNING in here:
            wrong.append(f"{launch.name} is to be stopped, and runs")
        if launch.wanted == "running" and launch.power_at is not None:
            wrong.append(f"{launch.name} is to be started: {here}")
    return wrong


PROFILE = settings(
    max_examples=40,
    stateful_step_count=18,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def _of(make: Callable[..., House]) -> type[Fleets]:
    class Here(Fleets):
        make_house = staticmethod(make)

    return Here


@pytest.mark.slow
def test_fleets_of_two_stores(make_house_at: Callable[..., House]) -> None:
    """Hypothesis looks for an order of events that leaves something behind."""
    run_state_machine_as_test(_of(make_house_at), settings=PROFILE)


@pytest.mark.slow
def test_a_fleet_that_does_not_look_up_is_found_out(
    make_house_at: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model can fail."""

    async def give_up(ctx: Any, work: Any, attempt: Any) -> float:
        with work.writing() as write:
            write.attempt(attempt.id, status="absent", closed_at=ctx.at())
        return 0.0

    for table in ("_WANTED", "_UNWANTED"):
        blind = dict.fromkeys(("sending", "unknown"), give_up)
        monkeypatch.setattr(loop, table, {**getattr(loop, table), **blind})
    monkeypatch.setattr(Fleet, "sweep", _no_sweep)
    monkeypatch.setattr(strays, "tend", _sees_none)
    found = settings(PROFILE, phases=[Phase.generate])
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        run_state_machine_as_test(_of(make_house_at), settings=found)


async def _no_sweep(self: Fleet, **_: Any) -> None:
    """Which would end what was left."""


async def _sees_none(*_: Any) -> strays.Seen:
    """As would this."""
    return strays.Seen(0, ())


@given(
    hours=st.floats(0.01, 30),
    terminate_s=st.sampled_from([0.0, 60.0]),
    expiry=st.sampled_from([Expiry.PROVIDER, Expiry.CONTROLLER_ONLY]),
    asynchronous=st.booleans(),
    asked=st.booleans(),
)
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_billed_hours_do_not_exceed_wanted_hours_and_the_clouds_grain(
    make_house_at: Callable[..., House],
    hours: float,
    terminate_s: float,
    expiry: Expiry,
    asynchronous: bool,
    asked: bool,
) -> None:
    """Ended by hand or by its expiry: no second is billed beyond what the cloud takes to end it."""
    with tempfile.TemporaryDirectory() as folder:
        switches = {"terminate_s": terminate_s, "expiry": expiry, "async_create": asynchronous}
        house = make_house_at(Path(folder), **switches)
        fleet, clock = house.open(), house.cloud.clock
        began, wanted_s = clock.now(), hours * 3600
        ttl = timedelta(days=3) if asked else timedelta(seconds=wanted_s)
        request = LaunchRequest(disk_gb=20, ttl=ttl)
        asyncio.run(house.launch(fleet, request, name="m"))
        left_s = wanted_s - (clock.now() - began).total_seconds()
        clock.advance(max(0.0, left_s))
        if asked:
            asyncio.run(fleet.terminate("m"))
        else:
            asyncio.run(_at_rest(house, fleet))
        wanted_s = max(wanted_s, wanted_s - left_s)
        [machine] = house.cloud.machines
        assert machine.ended_at is not None
        billed_s = (machine.ended_at - machine.created_at).total_seconds()
        assert billed_s <= wanted_s + terminate_s + GRANULARITY_S + ROUND_S
        house.close()
