"""Rate limits as data, shared by every process that uses the account (GCRA).

A bucket is one number, the theoretical arrival time of the next request. Ordinary operations
wait in a second, slower row first (`#ordinary`, four fifths of the rate), so that what ends a
machine, or looks for one of unknown fate, never stands in their queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gpubroker.model.capabilities import Limit
from gpubroker.model.clock import Clock
from gpubroker.model.errors import RateLimited
from gpubroker.providers.calling import Call

ORDINARY_SHARE = 0.8
ORDINARY = "#ordinary"
USUAL_PENALTY_S = 5.0
"""After a 429 that does not say how long."""
LONGEST_PENALTY_S = 3600.0
QUOTA_CODES = frozenset({"search_quota_exceeded"})
"""A day's quota: waiting for it is not a matter of pace."""


class LimitBook(Protocol):
    """Where arrival times are kept. Each method is atomic among all who share the book."""

    def reserve(self, bucket: str, interval_s: float, burst: int, now: float) -> float:
        """Takes the next place; how long to wait for it, in seconds."""
        ...

    def penalise(self, bucket: str, until: float) -> None:
        """Moves the bucket's arrival time to `until` at least."""
        ...


class MemoryLimitBook:
    """For one process."""

    def __init__(self) -> None:
        self._arrivals: dict[str, float] = {}

    def reserve(self, bucket: str, interval_s: float, burst: int, now: float) -> float:
        """Takes the next place; how long to wait for it, in seconds."""
        arrival = max(now, self._arrivals.get(bucket, 0.0))
        self._arrivals[bucket] = arrival + interval_s
        return max(0.0, arrival - (burst - 1) * interval_s - now)

    def penalise(self, bucket: str, until: float) -> None:
        """Moves the bucket's arrival time to `until` at least."""
        self._arrivals[bucket] = max(until, self._arrivals.get(bucket, 0.0))


class Limiter:
    """Paces the requests of one account at one provider."""

    def __init__(
        self, limits: Sequence[Limit], book: LimitBook, clock: Clock, *, provider: str, account: str
    ) -> None:
        self._limits = tuple(limits)
        self._book = book
        self._clock = clock
        self._provider = provider
        self._account = account
        # What this process has learnt of arrival times. They only grow, so these are lower
        # bounds: a call that cannot make it is refused without taking a place it would waste.
        self._at_least: dict[str, float] = {}

    def limits_of(self, operation: str) -> tuple[Limit, ...]:
        """All limits that an operation must keep."""
        return tuple(limit for limit in self._limits if operation in limit.operations)

    def bucket(self, limit: Limit) -> str:
        """The row of a limit: per account, or one for all accounts behind this address."""
        whose = self._account if limit.per == "account" else ""
        return f"{self._provider}/{whose}/{limit.bucket}"

    async def turn(self, call: Call, left_s: float) -> None:
        """Waits for the turn of one request, at most `left_s`; RateLimited where it is later."""
        for limit in self.limits_of(call.operation):
            bucket = self.bucket(limit)
            if not call.urgent:
                slower = limit.interval_s / ORDINARY_SHARE
                left_s -= await self._wait(
                    call, bucket + ORDINARY, slower, limit.burst, left_s=left_s
                )
            left_s -= await self._wait(call, bucket, limit.interval_s, limit.burst, left_s=left_s)

    async def _wait(
        self, call: Call, bucket: str, interval_s: float, burst: int, *, left_s: float
    ) -> float:
        now = self._clock.now().timestamp()
        allowance = (burst - 1) * interval_s
        wait_s = self._at_least.get(bucket, 0.0) - allowance - now
        if wait_s <= left_s:
            wait_s = self._book.reserve(bucket, interval_s, burst, now)
            self._at_least[bucket] = now + wait_s + (allowance if wait_s else 0.0)
        if wait_s > left_s:
            raise self._too_late(call, bucket, wait_s)
        if wait_s > 0:
            await self._clock.sleep(wait_s)
        return wait_s

    def _too_late(self, call: Call, bucket: str, wait_s: float) -> RateLimited:
        error = RateLimited(
            f"{self._provider} takes the next {call.operation} in {wait_s:.0f} s",
            provider=self._provider,
            operation=call.operation,
            code="paced",
        )
        error.bucket, error.retry_after_s = bucket, wait_s
        return error

    def penalise(self, operation: str, error: RateLimited) -> None:
        """A 429: nobody who shares these buckets asks before its time is over."""
        if error.code == "paced" or error.code in QUOTA_CODES:
            return
        pause_s = min(error.retry_after_s or USUAL_PENALTY_S, LONGEST_PENALTY_S)
        until = self._clock.now().timestamp() + pause_s
        for limit in self.limits_of(operation):
            bucket = self.bucket(limit)
            error.bucket = error.bucket or bucket
            for row, interval_s in (
                (bucket, limit.interval_s),
                (bucket + ORDINARY, limit.interval_s / ORDINARY_SHARE),
            ):
                # The burst would let requests in before the arrival time: none is left now.
                self._book.penalise(row, until + (limit.burst - 1) * interval_s)
