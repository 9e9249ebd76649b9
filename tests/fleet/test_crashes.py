"""Killed at any boundary, on clouds of every kind, the next process leaves no machine behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from allpairspy import AllPairs

from gpubroker.fleet.errors import NothingToBeHad
from gpubroker.fleet.observing import observe
from gpubroker.fleet.requests import LaunchRequest
from gpubroker.model.errors import BrokerError
from gpubroker.model.terms import Carrier
from gpubroker.testing.fake_cloud import SWITCHES, Crashed

House = Any
COOLED_S = 400.0
"""After so long an offer that was sold out is planned with again."""

# What changes nothing about who is found and ended is left at its default.
VARIED = (
    "carrier",
    "gone",
    "scoped",
    "async_create",
    "create_deadline_s",
    "list_lag_s",
    "needs",
    "ssh_keys",
    "terminate_s",
)
PAIRWISE = [
    dict(zip(VARIED, values, strict=True))
    for values in AllPairs([SWITCHES[name] for name in VARIED])
]


class _CrashAt:
    """Dies at the n-th boundary it is told of."""

    def __init__(self, number: int | None = None) -> None:
        self.seen: list[str] = []
        self._number = number

    def __call__(self, boundary: str) -> None:
        self.seen.append(boundary)
        if len(self.seen) - 1 == self._number:
            raise Crashed(boundary)


async def _life(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet)
    await fleet.terminate("train-1")


@pytest.mark.parametrize("switches", PAIRWISE, ids=lambda s: "-".join(str(v) for v in s.values()))
async def test_every_boundary_of_a_life_can_be_the_last(
    make_house: Callable[..., House], switches: dict[str, Any]
) -> None:
    await _every_boundary(lambda: make_house(**switches))


@pytest.mark.parametrize("switches", PAIRWISE[:3], ids=lambda s: str(s["carrier"]))
async def test_every_boundary_can_be_the_last_on_postgresql(
    make_house: Callable[..., House], postgres: str, switches: dict[str, Any]
) -> None:
    """Fewer clouds: what differs is the store."""
    await _every_boundary(lambda: make_house(postgres=postgres, **switches))


async def _every_boundary(make: Callable[[], House]) -> None:
    rehearsal = _CrashAt()
    house = make()
    house.on_boundary = rehearsal
    await _life(house)
    assert {"intent committed", "sending committed", "created", "terminate sent"} <= set(
        rehearsal.seen
    )
    assert house.cloud.billed() == []
    seen, existed = rehearsal.seen, 0
    # What is waited for is looked at many times over: the first and the last of them tell enough.
    last = {boundary: number for number, boundary in enumerate(seen)}
    crashes = {seen.index(boundary) for boundary in seen} | set(last.values())
    for number in sorted(crashes):
        boundary, house = seen[number], make()
        house.on_boundary = _CrashAt(number)
        with pytest.raises(Crashed):
            await _life(house)
        existed += bool(house.cloud.machines)
        house.on_boundary = lambda _: None
        await _comes_back(house, boundary)
        house.close()
    assert existed >= len(crashes) // 2


async def _at_rest(house: House, fleet: Any) -> None:
    """As one command after the other would."""
    for _ in range(60):
        assert await fleet.settle() == ()
        if not house.store.due(house.cloud.clock.now().timestamp()):
            return
        house.cloud.clock.advance(5)
    pytest.fail("never at rest")


async def _comes_back(house: House, boundary: str) -> None:
    ended = "end wanted" in boundary or "terminate" in boundary or boundary == "gone recorded"
    fleet = house.open()
    await _at_rest(house, fleet)
    assert house.leaks() == [], boundary
    billed = house.cloud.billed()
    assert len(billed) == len(house.wanted()) <= 1, boundary
    if house.store.names() and not ended:
        # The goal of the launch is reached by whoever comes next.
        assert len(billed) == 1, boundary
    if house.store.names():
        await fleet.terminate("train-1")
    assert house.cloud.billed() == [], boundary
    assert house.leaks() == [], boundary


@pytest.mark.parametrize("carrier", SWITCHES["carrier"])
@pytest.mark.parametrize("kind", ["crash_before", "crash_after"])
@pytest.mark.parametrize("operation", ["create", "ensure", "attach_key", "terminate", "get"])
async def test_a_crash_inside_a_call_is_picked_up(
    make_house: Callable[..., House], carrier: Any, kind: Any, operation: str
) -> None:
    house = make_house(
        carrier=carrier, needs=SWITCHES["needs"][1], ssh_keys="attached", list_lag_s=10.0
    )
    house.cloud.script(operation, kind)
    with pytest.raises(Crashed):
        await _life(house)
    assert house.cloud.count(operation) == 1
    fleet = house.open()
    await _at_rest(house, fleet)
    assert house.leaks() == []
    assert len(house.cloud.billed()) == len(house.wanted())
    for name in house.store.names():
        await fleet.terminate(name)
    assert house.cloud.billed() == []
    assert house.leaks() == []


async def _waits_for_stock(house: House) -> None:
    fleet = house.open()
    for key in house.cloud.stock:
        house.cloud.sell_out(key)
    request = LaunchRequest(disk_gb=20, retry_for=timedelta(hours=6))
    await house.launch(fleet, request, wait=False)
    house.cloud.restock("4090-north")
    house.cloud.clock.advance(COOLED_S)
    await fleet.settle()
    await fleet.terminate("train-1")


async def _together(house: House) -> None:
    fleet = house.open()
    await house.launch_gang(fleet, LaunchRequest(disk_gb=20, nodes=2), name="train")
    await asyncio.gather(*(fleet.terminate(name) for name in fleet.named("train")))


async def _taken_away(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet, LaunchRequest(disk_gb=20, on_preempt="replace"))
    house.cloud.preempt(house.cloud.machines[0])
    house.cloud.clock.advance(120)
    await observe(fleet.context)
    await fleet.settle()
    await fleet.terminate("train-1")


async def _stopped_and_started(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet)
    await fleet.stop("train-1")
    await fleet.start("train-1")
    await fleet.terminate("train-1")


LIVES = {
    "waits for stock": (_waits_for_stock, 1, {"waiting for stock", "planned", "planned anew"}),
    "together": (_together, 2, {"intent committed", "gang formed"}),
    "taken away": (_taken_away, 1, {"taken away", "replacement wanted", "planned anew"}),
    "stopped": (_stopped_and_started, 1, {"stop sent", "stop reached", "start sent"}),
}
"""What happens, how many machines are wanted then, boundaries that must be met."""


@pytest.mark.parametrize("carrier", [Carrier.TOKEN, Carrier.NAME])
@pytest.mark.parametrize("life", LIVES)
async def test_every_boundary_of_a_longer_life_can_be_the_last(
    make_house: Callable[..., House], life: str, carrier: Any
) -> None:
    lives, machines, met = LIVES[life]
    switches = {"carrier": carrier, "list_lag_s": 10.0, "needs": SWITCHES["needs"][1]}
    rehearsal = _CrashAt()
    house = make_house(**switches)
    house.on_boundary = rehearsal
    await lives(house)
    assert met <= set(rehearsal.seen)
    assert house.cloud.billed() == []
    for number, boundary in enumerate(rehearsal.seen):
        house = make_house(**switches)
        house.on_boundary = reached = _CrashAt(number)
        with pytest.raises(Crashed):
            await lives(house)
        house.on_boundary = lambda _: None
        house.cloud.restock("4090-north")
        fleet = house.open()
        for _ in range(60):
            house.cloud.clock.advance(10)
            assert await observe(fleet.context) == ()
            assert await fleet.settle() == ()
        assert house.leaks() == [], boundary
        wanted = [row for row in house.store.launches() if row.wanted != "gone"]
        # All of them or none, until the user ends one after the other.
        assert len(wanted) in {0, machines} or "end wanted next" in reached.seen, boundary
        assert len(house.cloud.billed()) == len(house.wanted()) == len(wanted), boundary
        for one in house.cloud.billed():
            assert {row.wanted for row in wanted} == {one.state.value}, boundary
        for name in house.store.names():
            await fleet.terminate(name)
        assert house.cloud.billed() == [], boundary
        assert house.leaks() == [], boundary


@pytest.mark.parametrize("carrier", SWITCHES["carrier"])
async def test_a_broker_without_the_look_up_leaks(
    make_house: Callable[..., House], carrier: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The matrix can fail: a fleet that takes an unknown create for a refusal leaves a machine."""
    from gpubroker.fleet import fleet as module
    from gpubroker.fleet import launching

    async def give_up(ctx: Any, work: Any, attempt: Any) -> float:
        with work.writing() as write:
            write.attempt(attempt.id, status="absent", closed_at=ctx.at())
        return 0.0

    monkeypatch.setattr(launching, "look_up", give_up)
    monkeypatch.setattr(module, "_WANTED", {**module._WANTED, "unknown": give_up})
    monkeypatch.setattr(module, "_UNWANTED", {**module._UNWANTED, "unknown": give_up})
    house = make_house(carrier=carrier)
    house.cloud.script("create", "unknown_after")
    fleet = house.open()
    await house.launch(fleet)
    assert len(house.leaks()) == 1


@pytest.mark.parametrize("operation", ["get", "list", "find", "whoami", "terminate", "billing"])
@pytest.mark.parametrize("kind", ["unavailable", "garbage"])
async def test_trouble_delays_and_changes_nothing_else(
    house: House, operation: str, kind: Any
) -> None:
    house.cloud.script(operation, kind, times=3)
    try:
        await _life(house)
    except NothingToBeHad:
        assert operation == "whoami"
    except BrokerError as error:
        pytest.fail(f"{operation} {kind}: {error}")
    assert house.cloud.billed() == []
    assert house.leaks() == []
