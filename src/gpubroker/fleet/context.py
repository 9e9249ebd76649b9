"""What every reconciler needs, handed in once; and the boundaries at which a crash is tested."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from gpubroker.fleet.lists import Lists
from gpubroker.fleet.requests import Event, LaunchRequest, Plan
from gpubroker.model.clock import Clock
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import Endpoint, Instance
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.offer import Offer
from gpubroker.providers.base import Provider
from gpubroker.store.errors import LeaseLost
from gpubroker.store.rows import AttemptRow, LaunchRow
from gpubroker.store.seal import Seal
from gpubroker.store.store import Lease, Store, Writer

if TYPE_CHECKING:
    from gpubroker.fleet.outbox import Route

WARN_BEFORE_S = (1800.0, 300.0)


class Clouds(Protocol):
    """The configured accounts, ready to be called."""

    def provider(self, name: str, account: str) -> Provider:
        """Raises AuthFailed where there are no credentials."""
        ...

    def configured(self) -> tuple[tuple[str, str], ...]:
        """(provider, account) of all."""
        ...


class Probed(msgspec.Struct, frozen=True, kw_only=True):
    """What a look over SSH found."""

    answers: bool
    detail: str
    """Shown to the user: why it does not answer, or the GPUs that it has."""
    problems: tuple[str, ...] = ()
    """Why it must not be used, whatever the policy."""
    differs: tuple[tuple[str, str], ...] = ()
    """(field, words) where the machine is not what was offered; judged by the launch's policy."""
    disk_gb: float | None = None
    in_container: bool | None = None
    """Whether the login landed in the container that a VM runs; None where nobody looked."""
    waits: str = ""
    """What a machine that can be logged in to waits for: its image."""


Probe = Callable[[Endpoint, str, Offer], Awaitable[Probed]]
"""(endpoint, host key alias, offer)."""


Planner = Callable[[LaunchRequest], Awaitable[Plan]]
"""A plan from a fresh search; raises what `Broker.plan` raises."""


TimerAt = Callable[[Endpoint, str, float | None], Awaitable[float | None]]
"""(endpoint, host key alias, seconds) -> seconds until the machine's own timer ends it, None where
it has none. The timer is set anew where seconds are given. Raises Unavailable."""
BootOver = Callable[[Endpoint, str, str], Awaitable[tuple[int, str]]]
"""(endpoint, host key alias, script) -> its exit code and last words. Raises Unavailable."""
IdleAt = Callable[[Endpoint, str], Awaitable[str]]
"""(endpoint, host key alias) -> busy, idle, or cannot tell. Raises Unavailable."""


class Context:
    """Collaborators of all reconcilers."""

    def __init__(
        self,
        store: Store,
        clouds: Clouds,
        clock: Clock,
        seal: Seal,
        *,
        probe: Probe | None = None,
        forget_host: Callable[[str], None] = lambda _: None,
        on_event: Callable[[Event], None] = lambda _: None,
        on_boundary: Callable[[str], None] = lambda _: None,
        routes: Callable[[], tuple[Route, ...]] = tuple,
        warn_before_s: Callable[[], tuple[float, ...]] = lambda: WARN_BEFORE_S,
        timer_at: TimerAt | None = None,
        idle_at: IdleAt | None = None,
        run_boot: BootOver | None = None,
        planner: Planner | None = None,
    ) -> None:
        self.store = store
        self.clouds = clouds
        self.clock = clock
        self.seal = seal
        self.probe = probe
        self.lists = Lists(clock)
        self.locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """By launch: two tasks of this process take turns."""
        self.left: dict[str, float] = {}
        """By launch: until then it is left to processes that have the key which this one lacks."""
        self.forget_host = forget_host
        self.planner = planner
        self.on_event = on_event
        self.routes = routes
        """Channels that warnings go to, as they are configured now."""
        self.timer_at, self.idle_at = timer_at, idle_at
        self.run_boot = run_boot
        self.warn_before_s = warn_before_s
        """So long before its end a machine's end is warned of."""
        self.boundary = on_boundary
        """Called at every step between two of which a process may die."""

    def at(self) -> float:
        """Now, in the realm's time, as the store keeps it."""
        return self.clock.now().timestamp()

    def now(self) -> datetime:
        """Now, in the realm's time."""
        return self.clock.now()


class Work:
    """One launch under our lease."""

    def __init__(self, ctx: Context, lease: Lease) -> None:
        self._ctx = ctx
        self.lease = lease
        self.asked = False
        """Whether somebody asked this process for this launch, and waits for its answer."""
        self.refresh()

    def refresh(self) -> None:
        """Read the rows again."""
        self.launch: LaunchRow = self._ctx.store.launch(self.lease.launch_id)
        self.attempts: list[AttemptRow] = self._ctx.store.attempts(self.lease.launch_id)

    def fresh(self, attempt: AttemptRow) -> AttemptRow:
        """The same attempt as it was last written."""
        return next(one for one in self.attempts if one.id == attempt.id)

    def renew(self) -> None:
        """A full lease again; raises LeaseHeld where another process took over."""
        self.lease = self._ctx.store.acquire(self.lease.launch_id)

    def renew_unbroken(self) -> None:
        """As `renew`; LeaseLost where another process had it since, and what we know is old."""
        fence = self.lease.fence
        self.renew()
        if self.lease.fence != fence:
            raise LeaseLost(f"{self.launch.name} was taken over by another gpubroker")

    @contextmanager
    def writing(self) -> Iterator[Transition]:
        """One fenced transaction; its events are told once it is committed."""
        told: list[Event] = []
        with self._ctx.store.fenced(self.lease, self._ctx.at()) as writer:
            yield Transition(writer, told, self.launch.name, self._ctx.now())
        self.refresh()
        for event in told:
            self._ctx.on_event(event)

    def tell(self, kind: str, **data: Any) -> None:
        """Progress that is shown and not kept."""
        self._ctx.on_event(Event(at=self._ctx.now(), kind=kind, name=self.launch.name, data=data))


class Transition:
    """Writes of one transaction, and the events that go with them."""

    def __init__(self, writer: Writer, told: list[Event], name: str, now: datetime) -> None:
        self._writer = writer
        self._told = told
        self._name = name
        self._now = now
        self.launch = writer.launch
        self.power = writer.power
        self.counted_end = writer.counted_end
        self.attempt = writer.attempt
        self.add_attempt = writer.add_attempt
        self.guarded = writer.guarded
        self.need = writer.need
        self.meter = writer.meter
        self.metered_from = writer.metered_from

    def event(self, kind: str, attempt_id: str | None = None, **data: Any) -> None:
        """Keep it, and tell it after the commit."""
        self._writer.event(kind, attempt_id, **data)
        self._told.append(Event(at=self._now, kind=kind, name=self._name, data=data))


def offer_of(attempt: AttemptRow) -> Offer:
    """The offer that the attempt asks for."""
    return msgspec.json.decode(attempt.offer, type=Offer)


def instance_of(attempt: AttemptRow) -> Instance | None:
    """The machine as last seen."""
    return (
        None if attempt.instance is None else msgspec.json.decode(attempt.instance, type=Instance)
    )


def spec_of(ctx: Context, launch: LaunchRow) -> LaunchSpec:
    """Opens the seal; raises NoSecretKey."""
    return msgspec.json.decode(ctx.seal.open(launch.spec), type=LaunchSpec)


def request_of(ctx: Context, launch: LaunchRow) -> LaunchRequest:
    """What a new plan is made from; raises NoSecretKey."""
    if launch.request is None:
        raise LookupError(f"launch {launch.id} is not planned anew")
    return msgspec.json.decode(ctx.seal.open(launch.request), type=LaunchRequest)


def identity_of(ctx: Context, attempt: AttemptRow) -> Attempt:
    """What the cloud knows the attempt by."""
    return Attempt(owner=ctx.store.owner, id=attempt.id, launch=attempt.launch_id)


def ref_of(attempt: AttemptRow) -> Ref:
    """Where its machine is."""
    if attempt.ref_id is None:
        raise LookupError(f"attempt {attempt.id} has no machine")
    return Ref(attempt.provider, attempt.account, attempt.scope, attempt.ref_id)


def encoded(value: Any) -> str:
    """JSON text for a column."""
    return msgspec.json.encode(value).decode()
