"""Pace: never faster than the vendor allows, and the end of machines first."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubroker.model.capabilities import Limit
from gpubroker.model.errors import RateLimited
from gpubroker.providers.calling import Call, urgent
from gpubroker.providers.limits import Limiter, MemoryLimitBook

LIMIT = Limit("machines", frozenset({"get", "terminate"}), interval_s=2.0)


def limiter(clock: Any, *limits: Limit, book: MemoryLimitBook | None = None) -> Limiter:
    return Limiter(limits, book or MemoryLimitBook(), clock, provider="acme", account="default")


def call(operation: str) -> Call:
    return Call("acme", "default", operation)


@given(
    arrivals=st.lists(st.floats(0, 30), min_size=1, max_size=60),
    interval_s=st.floats(0.1, 10),
    burst=st.integers(1, 5),
)
def test_no_window_holds_more_than_burst_and_rate_allow(
    arrivals: list[float], interval_s: float, burst: int
) -> None:
    book, now, times = MemoryLimitBook(), 1e6, []
    for gap in arrivals:
        now += gap
        times.append(now + book.reserve("b", interval_s, burst, now))
    assert times == sorted(times)
    for first in range(len(times)):
        for last in range(first, len(times)):
            allowed = burst + (times[last] - times[first]) / interval_s
            assert last - first + 1 <= allowed + 1e-3


@given(until=st.floats(0, 100), burst=st.integers(1, 5))
def test_a_penalty_only_ever_moves_a_bucket_later(until: float, burst: int) -> None:
    book = MemoryLimitBook()
    before = [book.reserve("b", 1.0, burst, 0.0) for _ in range(burst + 1)][-1]
    book.penalise("b", until)
    assert book.reserve("b", 1.0, burst, 0.0) >= before


async def test_ordinary_calls_leave_a_fifth_of_the_rate(clock: Any) -> None:
    pace = limiter(clock, LIMIT)
    for _ in range(5):
        await pace.turn(call("get"), 60)
    assert sum(clock.slept) == pytest.approx(4 * 2.0 / 0.8)


async def test_a_queue_of_reads_does_not_delay_the_end_of_a_machine(clock: Any) -> None:
    """Ten readers hold places in the ordinary row; the destroy waits for one interval at most."""
    book = MemoryLimitBook()
    pace = limiter(clock, LIMIT, book=book)
    now = clock.now().timestamp()
    for _ in range(10):
        book.reserve("acme/default/machines#ordinary", 2.5, 1, now)
    await pace.turn(call("get"), 600)
    clock.slept.clear()
    await pace.turn(call("terminate"), 600)
    assert sum(clock.slept) <= 2.0


async def test_look_ups_marked_urgent_take_the_reserved_share(clock: Any) -> None:
    with urgent():
        assert call("list").urgent
    assert not call("list").urgent
    assert call("terminate").urgent
    assert call("find").urgent


async def test_a_turn_beyond_the_deadline_is_rate_limited_and_says_when(clock: Any) -> None:
    pace = limiter(clock, LIMIT)
    await pace.turn(call("terminate"), 60)
    with pytest.raises(RateLimited) as caught:
        await pace.turn(call("terminate"), 1.0)
    assert caught.value.retry_after_s == pytest.approx(2.0)
    assert caught.value.code == "paced"
    assert clock.slept == []


async def test_calls_that_give_up_take_no_places_from_the_others(clock: Any) -> None:
    book = MemoryLimitBook()
    pace = limiter(clock, LIMIT, book=book)
    await pace.turn(call("terminate"), 60)
    for _ in range(20):
        with pytest.raises(RateLimited):
            await pace.turn(call("terminate"), 1.0)
    await clock.sleep(6.0)
    clock.slept.clear()
    await limiter(clock, LIMIT, book=book).turn(call("terminate"), 60)
    assert clock.slept == []


async def test_every_limit_of_an_operation_is_kept(clock: Any) -> None:
    minute = Limit("all", frozenset({"terminate"}), interval_s=10.0, per="ip")
    pace = limiter(clock, LIMIT, minute)
    for _ in range(3):
        await pace.turn(call("terminate"), 600)
    assert sum(clock.slept) == pytest.approx(20.0)


async def test_a_limit_per_address_is_shared_by_accounts(clock: Any) -> None:
    book, limit = MemoryLimitBook(), Limit("s", frozenset({"find"}), interval_s=6.0, per="ip")
    first = Limiter([limit], book, clock, provider="acme", account="a")
    second = Limiter([limit], book, clock, provider="acme", account="b")
    await first.turn(call("find"), 60)
    await second.turn(call("find"), 60)
    assert clock.slept == [6.0]


async def test_after_a_429_all_who_share_the_book_wait(clock: Any) -> None:
    book = MemoryLimitBook()
    limit = Limit("machines", frozenset({"get"}), interval_s=1.0, burst=4)
    one, other = limiter(clock, limit, book=book), limiter(clock, limit, book=book)
    error = RateLimited("slow down")
    error.retry_after_s = 30.0
    one.penalise("get", error)
    await other.turn(call("get"), 600)
    assert sum(clock.slept) == pytest.approx(30.0)
    assert error.bucket == "acme/default/machines"


async def test_a_spent_quota_does_not_stop_the_bucket(clock: Any) -> None:
    pace = limiter(clock, LIMIT)
    pace.penalise("get", RateLimited(code="search_quota_exceeded"))
    await pace.turn(call("get"), 60)
    assert clock.slept == []
