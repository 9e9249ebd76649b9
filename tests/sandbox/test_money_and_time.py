"""Money to the nano-dollar, and time that never goes back."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubroker.model.money import cost
from gpubroker.sandbox.clock import SandboxClock, iso
from gpubroker.sandbox.money import Ledger
from gpubroker.sandbox.stock import PRICE_STEP_S, Push, Stock, shipped_facts, shipped_slots


def test_a_stretch_is_charged_once_rounded_by_the_whole_second() -> None:
    ledger = Ledger()
    ledger.open("gpu", 400_000_001, at=1000.9)
    ledger.close(1000.9 + 3601)
    assert ledger.cost(9999) == cost(400_000_001, 3601)


def test_components_add_up_and_the_rate_is_that_of_now() -> None:
    ledger = Ledger()
    ledger.open("disk", 3_000_000, at=0)
    ledger.open("gpu", 360_000_000, at=10)
    assert ledger.rate == 363_000_000
    ledger.close(3610, "gpu")
    assert ledger.rate == 3_000_000
    assert ledger.cost(3610) == 360_000_000 + cost(3_000_000, 3610)


@given(
    rate=st.integers(1, 10**11), start=st.integers(0, 10**6), cuts=st.lists(st.integers(0, 10**5))
)
def test_a_window_counts_each_second_once(rate: int, start: int, cuts: list[int]) -> None:
    ledger = Ledger()
    ledger.open("gpu", rate, start)
    edges = sorted({start, *(start + cut for cut in cuts)})
    seconds = [ledger.lines[0].seconds(b, a) for a, b in pairwise(edges)]
    assert sum(seconds) == edges[-1] - start


def test_opening_what_runs_at_the_same_rate_changes_nothing() -> None:
    ledger = Ledger()
    ledger.open("gpu", 5, 0)
    ledger.open("gpu", 5, 10)
    ledger.open("gpu", 7, 20)
    assert [(line.rate, line.start, line.end) for line in ledger.lines] == [
        (5, 0, 20),
        (7, 20, None),
    ]


def test_sandbox_time_is_wall_time_plus_an_offset_at_any_speed() -> None:
    wall = [1000.0]
    clock = SandboxClock(offset_s=50, speed=10, wall=lambda: wall[0])
    assert clock.now() == 1050
    wall[0] += 2
    assert clock.now() == 1070
    clock.advance(30)
    assert (clock.now(), clock.offset_s) == (1100, 98)
    assert clock.real_seconds(5) == 0.5
    assert iso(clock.now()) == "1970-01-01T00:18:20.000000Z"


def test_time_only_moves_forward() -> None:
    clock = SandboxClock()
    with pytest.raises(ValueError, match="forward"):
        clock.advance(-1)
    with pytest.raises(ValueError, match="speed"):
        SandboxClock(speed=0)


def _stock(seed: int = 1, held: tuple[str, ...] = ()) -> Stock:
    slots = shipped_slots(shipped_facts("vast_ai"))
    return Stock(slots, seed=seed, holders=held.count)


def test_prices_move_a_little_with_time_and_the_same_for_the_same_seed() -> None:
    one, same, other = _stock(), _stock(), _stock(seed=2)
    slot = next(iter(one.slots.values()))
    hours = [one.price(slot, h * PRICE_STEP_S) for h in range(48)]
    assert hours == [same.price(slot, h * PRICE_STEP_S) for h in range(48)]
    assert hours != [other.price(slot, h * PRICE_STEP_S) for h in range(48)]
    assert len(set(hours)) > 10
    assert all(abs(p / slot.price - 1) < 0.021 for p in hours)


def test_a_price_holds_until_its_next_step() -> None:
    stock = _stock()
    for slot in stock.slots.values():
        step = stock.next_step(slot, 1_800_000_000)
        assert 0 < step - 1_800_000_000 <= PRICE_STEP_S
        assert stock.price(slot, 1_800_000_000) == stock.price(slot, step - 0.001)


def test_a_model_is_meant_by_its_very_name_or_by_how_names_begin() -> None:
    stock = _stock()
    assert stock.models("rtx_4090") == ("RTX 4090",)
    assert set(stock.models("H100")) == {"H100 PCIE", "H100 SXM", "H100 NVL"}
    assert stock.models("nothing") == ()
    assert stock.models("") == ()


def test_a_held_or_emptied_slot_is_not_free() -> None:
    stock = _stock(held=("s000",))
    first, *rest = (slot for slot in stock.slots.values() if slot.gpu == "RTX 4090")
    assert not stock.free(first)
    assert all(stock.free(slot) for slot in rest)
    stock.pushes["RTX 4090"] = Push(available=2)
    assert [slot.key for slot in rest if stock.free(slot)] == [rest[0].key]
    stock.pushes["RTX 4090"] = Push(available=0)
    assert not any(stock.free(slot) for slot in rest)


def test_the_shipped_market_is_wide_and_cheap_enough_for_a_first_minute() -> None:
    facts = shipped_facts("vast_ai")
    slots = shipped_slots(facts)
    good = [slot for slot in slots if slot.facts["verification"] == "verified"]
    assert len(slots) >= 60
    assert len({slot.gpu for slot in slots}) >= 20
    assert len({slot.place for slot in slots}) >= 30
    under_a_dollar = [s for s in good if s.gpu == "RTX 4090" and s.price * 1.02 < 10**9]
    assert len(under_a_dollar) >= 5
    assert all(slot.spot_floor and slot.spot_floor < slot.price for slot in slots)
    assert {slot.gpu for slot in slots} == {gpu.name for gpu in facts.gpus}
    assert any(gpu.vendor == "amd" for gpu in facts.gpus)
    assert len(good) < len(slots)
