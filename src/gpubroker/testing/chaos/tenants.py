"""Whoever rents in a world: one process's broker or fleet, on a store that outlives it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from gpubroker.broker import Broker
from gpubroker.fleet.context import Context, Probed
from gpubroker.fleet.fleet import Fleet
from gpubroker.fleet.planning import plan
from gpubroker.fleet.requests import LaunchRequest
from gpubroker.model.clock import Clock
from gpubroker.model.errors import Unsupported
from gpubroker.model.home import Home
from gpubroker.model.identity import ATTEMPT_LENGTH, attempt_name
from gpubroker.model.instance import Endpoint
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.offer import Offer
from gpubroker.model.query import Query
from gpubroker.model.terms import Market
from gpubroker.providers.base import Provider
from gpubroker.realm import Realm
from gpubroker.store.opened import open_store
from gpubroker.store.seal import Seal
from gpubroker.store.store import Store
from gpubroker.testing.chaos.fake_door import asked, remote
from gpubroker.testing.chaos.worlds import Truth, World

if TYPE_CHECKING:
    from gpubroker.testing.chaos.times import SharedClock

LONGER = timedelta(hours=1)
DISK_GB = 100
"""What every cloud can give."""
ROUNDS = 400
BETWEEN_S = 5.0
HORIZON_S = 900.0
"""Longer than any cloud's boot, list lag and grace together."""


class Standing(Struct, frozen=True):
    """What a store says once nothing is due any more."""

    wanted: tuple[str, ...]
    """Ids of the machines that should be billed."""
    missed: tuple[str, ...]
    """Launches that are wanted and have no ready machine, or ended without being asked to."""
    unknown: int
    """Attempts whose outcome was not known when the process came back."""
    kept_for_nothing: tuple[str, ...] = ()
    """Names, at the cloud, of what belongs to attempts that are over."""
    stopped: tuple[str, ...] = ()
    """Ids of those of `wanted` that should not run."""


class Tenant(Protocol):
    """One process."""

    fleet: Fleet
    store: Store
    clock: Clock

    async def launch(self, name: str, *, wait: bool = True) -> None:
        """Rent the cheapest."""
        ...

    async def extend(self, name: str) -> None:
        """An hour more, where that can be."""
        ...

    async def stop(self, name: str) -> None:
        """Stop it, where that can be."""
        ...

    async def start(self, name: str) -> None:
        """Start it again, where that can be."""
        ...

    async def terminate(self, name: str) -> None:
        """End it."""
        ...

    async def aclose(self) -> None:
        """Drop every object, as far as a living process can."""
        ...


def opened(place: Path | str, realm: str) -> Store:
    """A store that does not wait for the disk: a process dies here, never the computer."""
    store = open_store(place, realm)
    if isinstance(place, Path):
        store._db.execute("PRAGMA synchronous = OFF")  # noqa: SLF001 - nobody else may have it
    return store


async def _always_answers(endpoint: Endpoint, alias: str, offer: Offer) -> Probed:
    del endpoint, alias, offer
    return Probed(answers=True, detail="not looked at")


async def _timer_set(endpoint: Endpoint, alias: str, seconds: float | None) -> float | None:
    """A machine whose timer does as it is told."""
    del endpoint, alias
    return seconds


async def _booted(endpoint: Endpoint, alias: str, script: str) -> tuple[int, str]:
    """A machine whose start-up text runs well."""
    del endpoint, alias, script
    return 0, ""


class _Broker(Broker):
    """A broker whose realm and store are given, and whose machines need no SSH."""

    def __init__(
        self, realm: Realm, place: Path | str, home: Path, on_boundary: Callable[[str], None]
    ) -> None:
        self._given, self._place = realm, place
        environ = {"HOME": str(home), "GPUBROKER_HOME": str(home / "state"), "PATH": ""}
        super().__init__(home=Home(home / "state"), environ=environ, on_boundary=on_boundary)

    def _enter(self, sandbox: str | None) -> Realm:
        del sandbox
        return self._given

    def _store(self) -> Store:
        if self._opened_store is None:
            self._opened_store = opened(self._place, self.realm)
        return self._opened_store

    def _context(self) -> Context:
        context = super()._context()
        context.probe, context.timer_at = _always_answers, _timer_set
        context.run_boot = _booted
        return context

    @property
    def behind(self) -> tuple[Fleet, Store]:
        """For the proof, which looks behind the facade."""
        return self._fleet(), self._store()


class SandboxTenant:
    """Rents through the Broker."""

    def __init__(
        self,
        world: World,
        home: Path,
        place: Path | str,
        on_boundary: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._provider = world.provider
        self.clock = world.clock()
        self._broker = _Broker(world.realm(self.clock), place, home, on_boundary)
        self.fleet, self.store = self._broker.behind

    async def launch(self, name: str, *, wait: bool = True) -> None:
        """On demand, from the world's one cloud."""
        query = Query(providers=(self._provider,), market=Market.ON_DEMAND)
        request = LaunchRequest(query=query, name=name, disk_gb=DISK_GB)
        await self._broker.launch(request, wait=wait)

    async def extend(self, name: str) -> None:
        """By the broker's verb."""
        with contextlib.suppress(Unsupported):
            await self._broker.extend(name, by=LONGER)

    async def stop(self, name: str) -> None:
        """By the broker's verb."""
        with contextlib.suppress(Unsupported):
            await self._broker.stop(name)

    async def start(self, name: str) -> None:
        """By the broker's verb."""
        with contextlib.suppress(Unsupported):
            await self._broker.start(name)

    async def terminate(self, name: str) -> None:
        """By the broker's verb."""
        await self._broker.terminate(name)

    async def aclose(self) -> None:
        """Connections and store; leases stay as a dead process leaves them."""
        await self._broker.aclose()


class _OneCloud:
    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def provider(self, name: str, account: str) -> Provider:
        del name, account
        return self._provider

    def configured(self) -> tuple[tuple[str, str], ...]:
        return (("fake", "default"),)


class FakeTenant:
    """Rents from a FakeCloud in another process."""

    def __init__(
        self,
        world: World,
        home: Path,
        place: Path | str,
        on_boundary: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._world = world
        self.clock = world.clock()
        self.store = opened(place, "live")
        home.mkdir(parents=True, exist_ok=True)
        self.fleet = Fleet(
            Context(
                self.store,
                _OneCloud(remote(world)),
                self.clock,
                Seal(home / "secret.key", None),
                on_boundary=on_boundary,
            )
        )

    async def launch(self, name: str, *, wait: bool = True) -> None:
        """One of the small ones."""
        request, now = LaunchRequest(disk_gb=20), self.clock.now()
        offers = [one for one in asked(self._world.door, "stock", ()) if one.gpu_count == 1]
        planned = plan(offers, request, disk_gb=20, total=len(offers), now=now, cooldowns={})
        spec = LaunchSpec(
            ssh_keys=("ssh-ed25519 AAAA first",), disk_gb=20, expires_at=planned.expires_at
        )
        await self.fleet.launch(request, planned, spec, name, wait=wait)

    async def extend(self, name: str) -> None:
        """By the fleet's verb."""
        with contextlib.suppress(Unsupported):
            await self.fleet.extend(name, by=LONGER)

    async def stop(self, name: str) -> None:
        """By the fleet's verb."""
        with contextlib.suppress(Unsupported):
            await self.fleet.stop(name)

    async def start(self, name: str) -> None:
        """By the fleet's verb."""
        with contextlib.suppress(Unsupported):
            await self.fleet.start(name)

    async def terminate(self, name: str) -> None:
        """By the fleet's verb."""
        await self.fleet.terminate(name)

    async def aclose(self) -> None:
        """The store; leases stay as a dead process leaves them."""
        self.store.close()


def tenant(
    world: World,
    home: Path,
    database: str = "",
    on_boundary: Callable[[str], None] = lambda _: None,
) -> Tenant:
    """Of any world. `database`: address of a PostgreSQL server, else a file in `home`."""
    place: Path | str = database or home / "state.db"
    kind = FakeTenant if world.door else SandboxTenant
    return kind(world, home, place, on_boundary)


async def life(one: Tenant, name: str) -> None:
    """Everything that may be done to a machine."""
    await one.launch(name)
    await one.extend(name)
    await one.stop(name)
    await one.start(name)
    await one.terminate(name)


async def at_rest(one: Tenant, horizon_s: float = HORIZON_S) -> int:
    """As one command after the other would. Answer: attempts that were unknown at first."""
    unknown = sum(
        attempt.status in {"sending", "unknown"}
        for launch in one.store.launches()
        for attempt in one.store.attempts(launch.id)
    )
    for _ in range(ROUNDS):
        await one.fleet.settle()
        if not one.store.due(one.clock.now().timestamp()):
            # What is not billed yet, or not shown yet, is by then.
            await one.clock.sleep(horizon_s)
            if not one.store.due(one.clock.now().timestamp()):
                return unknown
        await one.clock.sleep(BETWEEN_S)
    due = [row.name for row in one.store.due(one.clock.now().timestamp())]
    raise AssertionError(f"never at rest: {due}")


def standing(one: Tenant, there: Truth, unknown: int = 0) -> Standing:
    """What the store says against what is `there`."""
    wanted, stopped, missed, open_names = [], [], [], set()
    for launch in one.store.launches(include_ended=True):
        attempts = one.store.attempts(launch.id)
        open_names |= {attempt_name(one.store.owner, a.id) for a in attempts if a.open}
        in_use = [a for a in attempts if a.status == "made" and a.wanted == "running"]
        if launch.ended_at is not None:
            reasons = "; ".join(dict.fromkeys(a.reason for a in attempts if a.reason))
            missed += [f"{launch.name} ({launch.error}: {reasons})"] if launch.error_code else []
        elif launch.wanted == "running":
            wanted += [a.ref_id for a in in_use if a.ref_id]
            missed += [] if any(a.ready_at for a in in_use) else [launch.name]
        elif launch.wanted == "stopped":
            stopped += [a.ref_id for a in in_use if a.ref_id]
    idle = [n for n in of_attempts(one.store.owner, there.things) if n not in open_names]
    return Standing(
        wanted=(*wanted, *stopped),
        missed=tuple(missed),
        unknown=unknown,
        kept_for_nothing=tuple(idle),
        stopped=tuple(stopped),
    )


def of_attempts(owner: str, things: Iterable[str]) -> tuple[str, ...]:
    """Names of what was made for one attempt; what the owner's machines share, stays for the next.

    That is called `gb-<owner>`, or `gb-<owner>-<detail>`.
    """
    form = re.compile(f"{attempt_name(owner, '')}[a-z2-7]{{{ATTEMPT_LENGTH}}}")
    return tuple(name for name in things if form.search(name))


def wrong(stands: Standing, there: Truth) -> list[str]:
    """Every way in which a store and a cloud disagree at rest; [] is the aim."""
    problems = []
    wanted = [_in_books(id_, there) for id_ in stands.wanted]
    stopped = {_in_books(id_, there) for id_ in stands.stopped}
    # Some clouds bill a stopped machine nothing; all have it still.
    due = [one for one in wanted if one not in stopped or one in there.billed]
    if gone := sorted(stopped - set(there.exist)):
        problems.append(f"wanted stopped, and gone: {gone}")
    if sorted(due) != sorted(there.billed):
        problems.append(f"wanted {sorted(wanted)}, billed {sorted(there.billed)}")
    if running := sorted(stopped & set(there.running)):
        problems.append(f"wanted stopped, and running: {running}")
    if halted := sorted(set(wanted) - stopped - set(there.running)):
        problems.append(f"wanted running, and not: {halted}")
    if stands.missed:
        problems.append(f"did not reach its goal: {', '.join(stands.missed)}")
    if stands.kept_for_nothing:
        problems.append(f"kept for nothing: {', '.join(stands.kept_for_nothing)}")
    return problems


def _in_books(ref_id: str, there: Truth) -> str:
    """The machine as its cloud numbers it: a ref may tell more, `region/kind/id`."""
    return next((id_ for id_ in (ref_id, *ref_id.split("/")) if id_ in there.exist), ref_id)


def shared(clock: Any) -> SharedClock | None:
    """The clock, where processes share it by a file."""
    from gpubroker.testing.chaos.times import SharedClock

    return clock if isinstance(clock, SharedClock) else None


async def ended(one: Tenant) -> None:
    """Every machine of the store, side by side."""
    names = sorted(one.store.names())
    await asyncio.gather(*(one.terminate(name) for name in names))
