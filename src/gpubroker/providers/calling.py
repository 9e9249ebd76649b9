"""The call in progress: what the layers around a provider tell the transport beneath it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gpubroker.providers.base import MUTATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpubroker.providers.exchange import Exchange

URGENT = frozenset({"terminate", "release", "find"})
"""Operations that end a machine or look for one of unknown fate: they go first."""

_urgent: ContextVar[bool] = ContextVar("gpubroker_urgent", default=False)


@contextmanager
def urgent() -> Iterator[None]:
    """Calls within take the reserved share of the limits, and pass an open circuit.

    For look-ups after OutcomeUnknown (`list`, `get`); `find` and `terminate` always do.
    """
    token = _urgent.set(True)
    try:
        yield
    finally:
        _urgent.reset(token)


@dataclass
class Call:
    """One question to one provider, with all its requests and repetitions."""

    provider: str
    account: str
    operation: str
    arguments: tuple[Any, ...] = ()
    deadline_s: float = 30.0
    """For everything together: waiting for a turn, requests, pauses between tries."""
    urgent: bool = False
    before_request: Callable[[], Awaitable[None]] | None = None
    """Set by the rate limit; the transport awaits it before each request."""
    exchanges: list[Exchange] | None = None
    """Set by the recorder; the transport appends to it."""
    facts: dict[str, float] = field(default_factory=dict)
    """Figures for the meter: pages, rows, rejected rows."""

    def __post_init__(self) -> None:
        self.urgent = self.urgent or self.operation in URGENT or _urgent.get()

    @property
    def mutation(self) -> bool:
        """Sent once, whatever happens."""
        return self.operation in MUTATIONS


_may_send: ContextVar[Callable[[], None] | None] = ContextVar("gpubroker_may_send", default=None)


@contextmanager
def sent_only_after(check: Callable[[], None]) -> Iterator[None]:
    """Calls within ask `check` once they have had their turn: what it raises, nothing was sent.

    Waiting for a turn can take long, and a suspended computer makes it longer.
    """
    token = _may_send.set(check)
    try:
        yield
    finally:
        _may_send.reset(token)


def check_before_sending() -> None:
    """Raises what the caller's check raises; fine without one."""
    check = _may_send.get()
    if check is not None:
        check()


_current: ContextVar[Call | None] = ContextVar("gpubroker_call", default=None)


def current_call() -> Call | None:
    """The call that this task is in, None where a provider is used without its layers."""
    return _current.get()


@contextmanager
def in_call(call: Call) -> Iterator[None]:
    """Makes `call` the current one."""
    token = _current.set(call)
    try:
        yield
    finally:
        _current.reset(token)
