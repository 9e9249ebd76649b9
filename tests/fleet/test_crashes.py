"""Killed at any boundary, on clouds of every kind, the next process leaves no machine behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from allpairspy import AllPairs

from gpubroker.fleet.errors import NothingToBeHad
from gpubroker.model.errors import BrokerError
from gpubroker.testing.fake_cloud import SWITCHES, Crashed

House = Any

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
    rehearsal = _CrashAt()
    house = make_house(**switches)
    house.on_boundary = rehearsal
    await _life(house)
    assert {"intent committed", "sending committed", "created", "terminate sent"} <= set(
        rehearsal.seen
    )
    assert house.cloud.billed() == []
    existed = 0
    for number, boundary in enumerate(rehearsal.seen):
        house = make_house(**switches)
        house.on_boundary = _CrashAt(number)
        with pytest.raises(Crashed):
            await _life(house)
        existed += bool(house.cloud.machines)
        house.on_boundary = lambda _: None
        await _comes_back(house, boundary)
    assert existed >= len(rehearsal.seen) // 2


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
