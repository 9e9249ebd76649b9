"""Where a provider is put to the test: what the checks need, whatever cloud is behind it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from gpubroker.model.clock import Clock
from gpubroker.model.entrance import HOST_MARKER, NOT_READY
from gpubroker.model.errors import BrokerError, NotFound, Unsupported
from gpubroker.model.identity import Attempt, Ref, new_attempt_id, new_owner
from gpubroker.model.instance import Endpoint, Instance
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.offer import Offer, OfferPage
from gpubroker.model.query import Query
from gpubroker.model.terms import OWNER_WIDE, Availability, Market, Resource, State
from gpubroker.providers.base import BootsOverSsh, KeyAttachable
from gpubroker.remote.keys import BrokerKey, broker_key
from gpubroker.remote.ssh import SSH_FAILED, Ran, run_command
from gpubroker.remote.ssh_config import HostEntry
from gpubroker.testing.conformance.check import Ability, broken

if TYPE_CHECKING:
    from gpubroker.providers.base import Provider

SHARED_FILE = "${TMPDIR:-/tmp}/gpubroker-bench"
"""A place on a machine that scripts and logins share."""
LOOK_S = 5.0
READY_S = 1800.0
GONE_S = 1800.0
LOGIN_S = 20.0
_LOGIN_AGAIN_S = 0.2
_NOT_YET = (None, SSH_FAILED, NOT_READY)


class Made(Struct, frozen=True, kw_only=True):
    """A machine that a check made, and all that was used for it."""

    ref: Ref
    attempt: Attempt
    spec: LaunchSpec
    offer: Offer
    have: dict[Resource, Ref]


class Bench:
    """One provider at one account. Subclasses say where; the checks use it through this.

    A subclass sets `abilities`, gives `connect` and, by its abilities, the methods below it.
    """

    abilities: frozenset[Ability]
    provider_class: type[Provider]
    clock: Clock
    folder: Path
    """Private: keys and known hosts of the machines that are made."""
    secrets: tuple[str, ...] = ()
    """Of the account: they must show nowhere."""
    ttl_s: float = 3600.0
    """Of every machine that is made."""
    most_price: int | None = None
    """Per hour, in nano-dollars; dearer offers are left alone."""

    def __init__(self) -> None:
        self.owner = new_owner()
        self.made: list[Made] = []
        self.exchanges: list[Any] = []
        """What an observer of the transport was shown."""
        self._shared: Made | None = None

    def connect(
        self,
        key: str | None = None,
        *,
        deadline_s: float | None = None,
        base_url: str | None = None,
    ) -> Provider:
        """The provider, its declared limits kept. `key` "" = without one, None = the bench's.

        `deadline_s`: for each of its requests. `base_url`: another server than the bench's.
        """
        raise NotImplementedError

    @property
    def provider(self) -> Provider:
        """The one that checks use where they need no other."""
        raise NotImplementedError

    def requests(self) -> int:
        """How many requests have arrived at the cloud so far."""
        raise NotImplementedError

    def fail(self, operation: str, kind: str, *, times: int | None = 1) -> None:
        """From now on the cloud fails in this way."""
        raise NotImplementedError

    def heal(self) -> None:
        """No fault is left."""
        raise NotImplementedError

    def billed(self) -> frozenset[str]:
        """Ids of the machines that cost money now, by the cloud's own books."""
        raise NotImplementedError

    def is_billed(self, ref: Ref) -> bool:
        """Whether this one is among them; where names are reused, its Ref is `name/stable-id`."""
        return not self.billed().isdisjoint((ref.id, *ref.id.split("/")))

    def charged(self, machine_id: str) -> int:
        """What a machine has cost so far, in nano-dollars, by the cloud's own books."""
        raise NotImplementedError

    def lost(self, provider: Provider) -> None:
        """`provider` is not used any more."""

    def listen_on(self, machine: Instance) -> str:
        """The address that a server on the machine binds to be reached through its ports."""
        del machine
        return "0.0.0.0"  # noqa: S104 - on a rented machine, for a few seconds

    # What checks do with it

    async def pages(self, query: Query | None = None) -> list[OfferPage]:
        """Every page of a search."""
        return [page async for page in self.provider.offers(query or Query())]

    async def offers(self, query: Query | None = None) -> list[Offer]:
        """Every row of a search."""
        return [row for page in await self.pages(query) for row in page.rows]

    async def affordable(self) -> list[Offer]:
        """What can be had now, the cheapest first; spot only where nothing else is sold."""
        free = [
            offer
            for offer in await self.offers()
            if offer.availability is not Availability.NO
            and offer.price.quoted == "USD"
            and (self.most_price is None or offer.price.compute <= self.most_price)
        ]
        lasting = [offer for offer in free if offer.market is not Market.SPOT] or free
        if not lasting:
            broken("nothing can be rented")
        return sorted(lasting, key=lambda offer: (offer.price.compute, offer.key))

    async def cheapest(self) -> Offer:
        """What can be had now for the least."""
        return (await self.affordable())[0]

    async def make_somewhere(self, spec: LaunchSpec) -> Made:
        """A machine in the first region that can do what is asked for."""
        regions = {offer.region: offer for offer in reversed(await self.affordable())}
        refusal: BrokerError | None = None
        for offer in sorted(regions.values(), key=lambda offer: offer.price.compute):
            try:
                return await self.make(spec, offer)
            except Unsupported as refused:
                refusal = refused
        return broken(f"no region can do it: {refusal}")

    def key(self) -> BrokerKey:
        """The key that every machine admits."""
        return broker_key(self.folder / "keys", self.owner)

    def attempt(self) -> Attempt:
        """A new one."""
        return Attempt(self.owner, new_attempt_id(), "conformance")

    def spec(self, **changes: Any) -> LaunchSpec:
        """What a person asks for who wants nothing special."""
        usual: dict[str, Any] = {
            "ssh_keys": (self.key().public_line,),
            "expires_at": self.clock.now() + timedelta(seconds=self.ttl_s),
        }
        return LaunchSpec(**(usual | changes))

    async def needs(self, spec: LaunchSpec, offer: Offer, attempt: Attempt) -> dict[Resource, Ref]:
        """All that must exist before the machine, made as the fleet does."""
        have: dict[Resource, Ref] = {}
        for what in self.provider.capabilities.needs:
            have[what] = await self.provider.ensure(what, spec, offer, attempt, have)
        return have

    async def make(
        self,
        spec: LaunchSpec | None = None,
        offer: Offer | None = None,
        attempt: Attempt | None = None,
    ) -> Made:
        """A machine, ordered and in the cloud's lists."""
        spec, attempt = spec or self.spec(), attempt or self.attempt()
        offer = offer or await self.cheapest()
        have = await self.needs(spec, offer, attempt)
        ref = await self.provider.create(spec, offer, attempt, have)
        made = Made(ref=ref, attempt=attempt, spec=spec, offer=offer, have=have)
        self.made.append(made)
        await self.clock.sleep(self.provider.capabilities.list_lag_s)
        return made

    async def machine(self) -> Made:
        """One that runs, shared by the checks of this bench."""
        if self._shared is None:
            self._shared = await self.make(self.spec(**self.everything()))
            await self.ready(self._shared)
        return self._shared

    def everything(self) -> dict[str, Any]:
        """What can be seen on a machine, of that which the cloud takes: the shared one has it."""
        can = self.provider_class.capabilities
        wishes: dict[str, Any] = {}
        if can.env != "none":
            wishes["env"] = {"GREETING": 'it\'s "größer" than $5'}
        if can.startup != "none":
            wishes["startup_script"] = f'printf %s "$GREETING" > "{SHARED_FILE}"\n'
        return wishes

    async def ready(self, made: Made) -> Instance:
        """Runs, and all was done that the fleet does before it calls a machine ready."""
        machine = await self.until(made, State.RUNNING)
        provider = self.provider
        if provider.capabilities.ssh_keys == "attached" and isinstance(provider, KeyAttachable):
            for key in made.spec.ssh_keys:
                await provider.attach_key(made.ref, key)
        if isinstance(provider, BootsOverSsh):
            await self._boot(provider, made)
        return machine

    async def _boot(self, provider: BootsOverSsh, made: Made) -> None:
        """Runs what the cloud could not be given at the create."""
        asked = made.spec, made.offer, made.attempt, self.clock.now()
        if script := provider.after_boot(*asked):
            ran = await self.on(made, f"{HOST_MARKER} sh", text=script)
            if ran.code != 0:
                broken(f"its start over SSH ended with {ran.code}: {ran.stderr.strip()[-200:]}")

    async def until(self, made: Made, state: State, *, within_s: float = READY_S) -> Instance:
        """The machine, once it is in this state."""
        ends = self.clock.now() + timedelta(seconds=within_s)
        seen: Instance | None = None
        while self.clock.now() < ends:
            seen = await self.provider.get(made.ref)
            if seen.state is state and (state is not State.RUNNING or self._can_log_in(seen)):
                return seen
            await self.clock.sleep(LOOK_S)
        last = f"{seen.state} ({seen.raw_state}) {seen.reason}" if seen else "not asked for"
        return broken(f"no machine is {state} within {within_s:.0f} s: {last}")

    def _can_log_in(self, machine: Instance) -> bool:
        return not self.provider.capabilities.logs_in or bool(machine.ssh)

    async def end(self, made: Made) -> None:
        """Terminates it, and what was made for it alone, until it is proven gone."""
        if made is self._shared:
            self._shared = None
        await self.provider.terminate(made.ref)
        await self.until_gone(made)
        for what, ref in made.have.items():
            if what not in OWNER_WIDE:
                await self.provider.release(what, ref)
        self.made.remove(made)

    async def until_gone(self, made: Made, *, within_s: float = GONE_S) -> None:
        """Returns when the machine's end is proven as `capabilities.gone` declares."""
        gone = self.provider.capabilities.gone
        ends = self.clock.now() + timedelta(seconds=within_s)
        missed = 0
        while self.clock.now() < ends:
            seen = await self.seen(made.ref)
            if seen is not None and seen.state is State.TERMINATED and not bills(seen):
                return
            listing = await self.provider.list(made.ref.scope)
            listed = made.ref in {machine.ref for machine in listing.instances}
            if seen is None and listing.complete and not listed:
                missed += 1
                if gone == "404" or missed > 1:
                    return
            pause_s = self.provider.capabilities.absence_grace_s if missed else LOOK_S
            await self.clock.sleep(pause_s)
        broken(f"a terminated machine is not gone ({gone}) within {within_s:.0f} s")

    async def seen(self, ref: Ref) -> Instance | None:
        """The machine, None where the cloud says or, by `gone`, may mean that there is none."""
        try:
            return await self.provider.get(ref)
        except NotFound:
            return None
        except BrokerError:
            if self.provider.capabilities.gone != "absent":
                raise
            return None

    async def on(
        self, made: Made, command: str, *, key: Path | None = None, text: str | None = None
    ) -> Ran:
        """A command on the machine, over SSH; waits until it can be logged into.

        `text`: what it reads.
        """
        ends = time.monotonic() + LOGIN_S
        while True:
            ran = await self.try_on(made, command, key=key, text=text)
            if ran.code not in _NOT_YET:
                return ran
            if time.monotonic() > ends:
                broken(f"no login within {LOGIN_S:.0f} s: {ran.stderr.strip()[-200:]}")
            await asyncio.sleep(_LOGIN_AGAIN_S)

    async def try_on(
        self, made: Made, command: str, *, key: Path | None = None, text: str | None = None
    ) -> Ran:
        """A command on the machine, over SSH, tried once."""
        machine = await self.provider.get(made.ref)
        if machine.ssh is None:
            broken("a running machine without an SSH endpoint")
        argv = self._ssh(machine.ssh, made.attempt.name, key or self.key().private_path, command)
        return await run_command(argv, deadline_s=LOGIN_S, text=text)

    def _ssh(self, endpoint: Endpoint, alias: str, key: Path, command: str) -> list[str]:
        entry = HostEntry(name="bench", alias=alias, endpoint=endpoint, identity=key)
        argv = ["ssh", "-F", "none", "-T", "-o", "BatchMode=yes"]
        for keyword, value in entry.options(self.folder):
            argv += ["-o", f"{keyword}={value}"]
        return [*argv, entry.host, "--", command]

    @asynccontextmanager
    async def another(self, key: str | None = None, **more: Any) -> AsyncIterator[Provider]:
        """A second connection, closed at the end."""
        provider = self.connect(key, **more)
        try:
            yield provider
        finally:
            await closed(provider)


async def closed(provider: Provider) -> None:
    """Closes its connections, where it has some."""
    close: Callable[[], Any] | None = getattr(provider, "aclose", None)
    if close is not None:
        await close()


def bills(machine: Instance) -> bool:
    """Whether it costs anything, by what the provider says."""
    return machine.bills_compute or machine.bills_disk


def texts(things: Collection[object]) -> str:
    """All that can be read of some objects: for looking for secrets in them."""
    parts: list[str] = []
    for thing in things:
        parts += [str(thing), repr(thing)]
        if isinstance(thing, BrokerError):
            parts += [str(vars(thing)), str(thing.args)]
        elif isinstance(thing, Struct):
            parts.append(msgspec.json.encode(thing).decode())
    return "\n".join(parts)
