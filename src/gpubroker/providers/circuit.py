"""A breaker for one account at one provider: stop asking who does not answer."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from gpubroker.model.clock import Clock
from gpubroker.model.errors import (
    AuthFailed,
    BadResponse,
    BrokerError,
    OutcomeUnknown,
    TimedOut,
    Unavailable,
)
from gpubroker.providers.calling import Call

FAILURES_TO_OPEN = 5
FIRST_PAUSE_S = 15.0
LONGEST_PAUSE_S = 300.0
_FAILURES = (Unavailable, TimedOut, BadResponse, OutcomeUnknown)

OPEN_CODE = "circuit_open"
PERMISSION = "permission"
"""Code of an AuthFailed where the key is good and may not do this one thing."""

Position = Literal["closed", "open", "half-open"]


class CircuitState(Struct, frozen=True):
    """What a person sees of it."""

    position: Position
    opened_at: datetime | None = None
    reason: str = ""
    failures: int = 0
    """In a row."""


class Circuit:
    """Opens after five failures in a row, and at once where the credentials are refused.

    Urgent calls always pass: a machine that costs money is not kept waiting by a breaker.
    While half-open one call goes through; its outcome decides.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._openings = 0
        self._opened_at: datetime | None = None
        self._reason: BrokerError | None = None
        self._probing = False

    @property
    def state(self) -> CircuitState:
        """As of now."""
        return CircuitState(
            position=self._position(),
            opened_at=self._opened_at,
            reason=str(self._reason) if self._reason else "",
            failures=self._failures,
        )

    def _pause_s(self) -> float:
        return min(math.ldexp(FIRST_PAUSE_S, max(0, self._openings - 1)), LONGEST_PAUSE_S)

    def _left_s(self) -> float:
        if self._opened_at is None:
            return 0.0
        return self._pause_s() - (self._clock.now() - self._opened_at).total_seconds()

    def _position(self) -> Position:
        if self._opened_at is None:
            return "closed"
        return "open" if self._left_s() > 0 else "half-open"

    async def __call__(self, call: Call, proceed: Callable[[], Awaitable[Any]]) -> Any:
        """Lets the call through, or raises what opened the circuit."""
        position = self._position()
        if not call.urgent:
            if position == "open" or (position == "half-open" and self._probing):
                raise self._refusal(call)
            self._probing = position == "half-open"
        try:
            answer = await proceed()
        except _FAILURES as failure:
            self._failed(failure, at_once=position == "half-open")
            raise
        except BrokerError as error:
            if isinstance(error, AuthFailed) and error.http_status and error.code != PERMISSION:
                self._failed(error, at_once=True)
            elif error.http_status:  # Any other is ours: nothing was asked.
                self._answered()
            raise
        finally:
            if not call.urgent:
                self._probing = False
        self._answered()
        return answer

    def _answered(self) -> None:
        self._failures = self._openings = 0
        self._opened_at = self._reason = None

    def _failed(self, failure: BrokerError, *, at_once: bool) -> None:
        self._failures += 1
        self._reason = failure
        if self._position() == "open" or (self._failures < FAILURES_TO_OPEN and not at_once):
            return
        self._openings += 1
        self._opened_at = self._clock.now()

    def _refusal(self, call: Call) -> BrokerError:
        reason = self._reason
        kind = AuthFailed if isinstance(reason, AuthFailed) else Unavailable
        left_s = max(1, math.ceil(self._left_s()))
        error = kind(
            f"{call.provider} is not asked for {left_s} s more, since: {reason}",
            provider=call.provider,
            operation=call.operation,
            code=OPEN_CODE,
        )
        if isinstance(error, Unavailable):
            error.retry_after_s = float(left_s)
        return error
