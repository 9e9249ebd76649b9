"""Behaviour around a provider, one concern a layer.

A layer is `await layer(call, proceed)`: it may do something before and after `proceed()`, call
it again (retry alone) or not at all. Order, outside in: meter, trace, circuit, retry, rate
limit, record, fault.
"""

from __future__ import annotations

import bisect
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from msgspec import Struct

from gpubroker.model.clock import Clock
from gpubroker.model.errors import BrokerError, RateLimited, Trouble
from gpubroker.providers.base import READS
from gpubroker.providers.calling import Call, check_before_sending
from gpubroker.providers.circuit import OPEN_CODE
from gpubroker.providers.exchange import Exchange
from gpubroker.providers.limits import QUOTA_CODES, Limiter

Proceed = Callable[[], Awaitable[Any]]
Layer = Callable[[Call, Proceed], Awaitable[Any]]

SECONDS_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Meter:
    """Counts calls by outcome and their seconds, for /metrics and the doctor."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """(operation, "ok" or the error's word) -> calls."""
        self.seconds: dict[str, list[int]] = {}
        """operation -> calls per bucket of SECONDS_BUCKETS, the last one for longer ones."""
        self.total_seconds: dict[str, float] = {}
        self.facts: Counter[tuple[str, str]] = Counter()
        """(operation, "pages" | "rows" | "rejected") -> sum."""

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        """Measures the whole call, with its waiting and repetitions."""
        started = self._clock.boot_s()
        outcome = "cancelled"
        try:
            answer = await proceed()
            outcome = "ok"
        except BrokerError as error:
            outcome = error.word
            raise
        finally:
            took = self._clock.boot_s() - started
            self.outcomes[call.operation, outcome] += 1
            self.total_seconds[call.operation] = self.total_seconds.get(call.operation, 0.0) + took
            buckets = self.seconds.setdefault(call.operation, [0] * (len(SECONDS_BUCKETS) + 1))
            buckets[bisect.bisect_left(SECONDS_BUCKETS, took)] += 1
            for fact, amount in call.facts.items():
                self.facts[call.operation, fact] += int(amount)
        return answer


class StartSpan(Protocol):
    """The shape of OpenTelemetry's `tracer.start_as_current_span`."""

    def __call__(self, name: str, *, attributes: Mapping[str, str]) -> AbstractContextManager[Any]:
        """Enters a span that records an exception passing through."""
        ...


class Trace:
    """One span a call."""

    def __init__(self, start_span: StartSpan) -> None:
        self._start_span = start_span

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        """Names only: arguments may hold secrets."""
        attributes = {
            "gpubroker.provider": call.provider,
            "gpubroker.account": call.account,
            "gpubroker.operation": call.operation,
        }
        with self._start_span(f"{call.provider}.{call.operation}", attributes=attributes):
            return await proceed()


class Retry:
    """Repeats reads that had trouble; a mutation never."""

    def __init__(
        self,
        clock: Clock,
        *,
        tries: int = 3,
        first_pause_s: float = 1.0,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._tries = tries
        self._first_pause_s = first_pause_s
        self._jitter = jitter

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        """Within the call's deadline, and not before the provider's own Retry-After."""
        if call.operation not in READS:
            return await proceed()
        ends_at = self._clock.boot_s() + call.deadline_s
        for tried in range(1, self._tries):
            try:
                return await proceed()
            except Trouble as trouble:
                pause_s = self._pause_s(trouble, tried)
                if pause_s is None or self._clock.boot_s() + pause_s >= ends_at:
                    raise
            await self._clock.sleep(pause_s)
        return await proceed()

    def _pause_s(self, trouble: Trouble, tried: int) -> float | None:
        if trouble.code in QUOTA_CODES or trouble.code in {"paced", OPEN_CODE}:
            return None
        backoff_s = math.ldexp(self._first_pause_s, tried - 1) * (0.5 + self._jitter() / 2)
        return max(backoff_s, trouble.retry_after_s or 0.0)


class RateLimit:
    """Each request waits for its turn; a 429 makes all who share the limit wait."""

    def __init__(self, limiter: Limiter, clock: Clock) -> None:
        self._limiter = limiter
        self._clock = clock

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        """The first turn is taken here, those of further pages by the transport."""
        ends_at = self._clock.boot_s() + call.deadline_s
        taken = True

        async def turn() -> None:
            nonlocal taken
            if taken:
                taken = False
                return
            await self._limiter.turn(call, ends_at - self._clock.boot_s())

        await self._limiter.turn(call, call.deadline_s)
        check_before_sending()
        call.before_request = turn
        try:
            return await proceed()
        except RateLimited as error:
            self._limiter.penalise(call.operation, error)
            raise
        finally:
            call.before_request = None


class Recording(Struct, frozen=True, kw_only=True):
    """One call and its exchanges, secrets removed."""

    provider: str
    account: str
    operation: str
    outcome: str
    exchanges: tuple[Exchange, ...]


class Record:
    """Hands each call with what went over the wire to `write`."""

    def __init__(self, write: Callable[[Recording], None]) -> None:
        self._write = write

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        """Records failures too."""
        call.exchanges = []
        outcome = "cancelled"
        try:
            answer = await proceed()
            outcome = "ok"
        except BrokerError as error:
            outcome = error.word
            raise
        finally:
            seen, call.exchanges = tuple(call.exchanges), None
            self._write(
                Recording(
                    provider=call.provider,
                    account=call.account,
                    operation=call.operation,
                    outcome=outcome,
                    exchanges=seen,
                )
            )
        return answer


class Faults:
    """Failures by script, for tests of what stands above a provider."""

    def __init__(self) -> None:
        self._planned: list[tuple[str, BrokerError, bool]] = []
        self.met: list[str] = []
        """Operations that came this far, in order."""

    def plan(
        self, operation: str, error: BrokerError, *, times: int = 1, acts: bool = False
    ) -> None:
        """The next `times` calls of `operation` ("*": any) raise `error`.

        `acts`: the provider does it first, and only the answer is lost.
        """
        self._planned.extend([(operation, error, acts)] * times)

    async def __call__(self, call: Call, proceed: Proceed) -> Any:
        """Raises what was planned, or proceeds."""
        self.met.append(call.operation)
        for at, (operation, error, acts) in enumerate(self._planned):
            if operation in {call.operation, "*"}:
                del self._planned[at]
                if acts:
                    await proceed()
                raise error
        return await proceed()
