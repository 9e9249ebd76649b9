"""The facade: everything that a face, a program or an agent asks gpubroker to do.

Importing it imports no provider, no HTTP and no event loop: `ps` must not pay for them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Self

from msgspec import structs

from gpubroker.model.errors import Invalid, WrongState
from gpubroker.model.home import Home
from gpubroker.model.query import Query, SortKey
from gpubroker.model.terms import Market
from gpubroker.ssh_access import SshAccess

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from gpubroker.accounts import Accounts
    from gpubroker.fleet.fleet import Fleet
    from gpubroker.fleet.requests import Event, LaunchRequest, Plan, SweepReport
    from gpubroker.market.marketplace import Marketplace, Mode
    from gpubroker.market.results import SearchResult
    from gpubroker.model.gpu import GpuModel
    from gpubroker.model.launch import LaunchSpec
    from gpubroker.model.machine import Machine
    from gpubroker.model.offer import Offer
    from gpubroker.model.reports import Check, ProviderInfo
    from gpubroker.providers.exchange import Exchange
    from gpubroker.realm import Realm
    from gpubroker.store.store import Store

PLANNED_FROM = 200
"""So many matching offers are looked at for a plan: enough to step over what is cooling down."""


class Broker:
    """One realm's market and fleet, for one asyncio loop. Use it as `async with Broker() as b`."""

    def __init__(
        self,
        *,
        home: Home | None = None,
        environ: Mapping[str, str] | None = None,
        sandbox: str | None = None,
        on_event: Callable[[Event], None] | None = None,
        on_boundary: Callable[[str], None] | None = None,
        trace_http: Callable[[str], None] | None = None,
    ) -> None:
        """`sandbox`: base URL of a running sandbox (default: GPUBROKER_SANDBOX, else live).

        `on_boundary` is told each step between two of which this process may die: for tests.
        """
        self._environ = os.environ if environ is None else environ
        self._home = home or Home.from_env(self._environ)
        self._on_event = on_event or (lambda _: None)
        self._on_boundary = on_boundary or (lambda _: None)
        self._trace_http = trace_http
        self._world = self._enter(sandbox or self._environ.get("GPUBROKER_SANDBOX"))
        self._ssh = SshAccess(self._home, self.realm, lambda: self._store().owner, self._environ)
        self._opened_store: Store | None = None
        self._opened_accounts: Accounts | None = None
        self._opened_fleet: Fleet | None = None
        self._opened_market: Marketplace | None = None

    def _enter(self, sandbox: str | None) -> Realm:
        from gpubroker import realm

        if sandbox:
            return realm.sandbox(sandbox)
        return realm.live()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close connections and the store."""
        accounts, self._opened_accounts = self._opened_accounts, None
        if accounts is not None:
            await accounts.aclose()
        self.close()

    def close(self) -> None:
        """Close the store; enough where nothing was asked of a provider."""
        self._opened_fleet = None
        store, self._opened_store = self._opened_store, None
        if store is not None:
            store.close()

    @property
    def realm(self) -> str:
        """Its name: live, or sandbox:<id>."""
        return self._world.name

    # Collaborators, made when first needed

    def _store(self) -> Store:
        if self._opened_store is None:
            from gpubroker.store.opened import open_store

            _, _, sandbox_id = self.realm.partition(":")
            # A sandbox's state is its own: whatever DATABASE_URL names is not touched by it.
            place = (
                self._home.sandbox_store(sandbox_id)
                if sandbox_id
                else self._environ.get("DATABASE_URL") or self._home.live_store
            )
            self._opened_store = open_store(place, self.realm)
        return self._opened_store

    def _accounts(self) -> Accounts:
        if self._opened_accounts is None:
            from gpubroker.accounts import Accounts

            self._opened_accounts = Accounts(
                self._world, self._environ, self._store, self._trace_http
            )
        return self._opened_accounts

    def _market(self) -> Marketplace:
        if self._opened_market is None:
            from gpubroker.market.marketplace import Marketplace
            from gpubroker.market.snapshots import Snapshots

            # Shipped prices are the real clouds': they have no place among a sandbox's.
            self._opened_market = Marketplace(
                Snapshots(self._home, self.realm), shipped=not self._world.is_sandbox
            )
        return self._opened_market

    def _fleet(self) -> Fleet:
        if self._opened_fleet is None:
            from gpubroker.fleet.context import Context
            from gpubroker.fleet.fleet import Fleet
            from gpubroker.store.seal import Seal

            context = Context(
                self._store(),
                self._accounts(),
                self._world.clock,
                Seal(self._home.seal_key, self._environ.get("GPUBROKER_SECRET_KEY")),
                probe=self._ssh.probe(),
                forget_host=self._ssh.forget_host,
                on_event=self._on_event,
                on_boundary=self._on_boundary,
            )
            self._opened_fleet = Fleet(context)
        return self._opened_fleet

    # The market

    async def search(
        self,
        query: Query,
        *,
        sort: SortKey = "price",
        descending: bool | None = None,
        limit: int | None = 20,
        mode: Mode = "auto",
        refresh_timeout_s: float = 3.0,
    ) -> SearchResult:
        """Ranked offers, with the part of every source and the way to the nearest miss."""
        known = self.search_known(query, sort=sort, descending=descending, limit=limit, mode=mode)
        if known is not None:
            return known
        return await self._market().search(
            query,
            self._accounts().searchable(),
            now=self._world.clock.now(),
            sort=sort,
            descending=descending,
            limit=limit,
            mode=mode,
            refresh_timeout_s=refresh_timeout_s,
            keyless=self._accounts().keyless(),
        )

    def search_known(
        self,
        query: Query,
        *,
        sort: SortKey = "price",
        descending: bool | None = None,
        limit: int | None = 20,
        mode: Mode = "auto",
    ) -> SearchResult | None:
        """What `search` answers where no cloud has to be asked, None where one has to be.

        Needs no event loop.
        """
        market, now = self._market(), self._world.clock.now()
        names = () if mode == "cached" else self._accounts().searchable_names()
        if market.due(names, query, now=now, mode=mode):
            return None
        return market.known(
            query,
            names,
            now=now,
            sort=sort,
            descending=descending,
            limit=limit,
            keyless=self._accounts().keyless(),
        )

    def gpus(self) -> tuple[GpuModel, ...]:
        """Every GPU model of the catalog."""
        from gpubroker.catalog.gpus import models

        return models()

    def providers(self) -> tuple[ProviderInfo, ...]:
        """Every cloud, those that are not built yet too."""
        from gpubroker.catalog.clouds import CLOUDS
        from gpubroker.model.reports import ProviderInfo
        from gpubroker.providers import registry

        infos = []
        for known in CLOUDS:
            status = registry.status(known.name)
            account = self._accounts().account(known.name)
            infos.append(
                ProviderInfo(
                    name=known.name,
                    display_name=known.display_name,
                    website=known.website,
                    configured=account is not None,
                    key_variable=None if account is None else account.found,
                    variables=known.key_variables,
                    capabilities=registry.provider_class(known.name).capabilities
                    if status == "ready"
                    else None,
                    health=self._accounts().health(known.name),
                    status=status,
                )
            )
        return tuple(infos)

    # The fleet

    async def plan(self, request: LaunchRequest) -> Plan:
        """What a launch would do, and the most it can cost. Raises NoOfferMatches."""
        from gpubroker.fleet.errors import NoOfferMatches
        from gpubroker.fleet.planning import plan

        now = self._world.clock.now()
        hours = None if request.ttl is None else request.ttl.total_seconds() / 3600
        query = structs.replace(
            request.query,
            disk_gb=request.disk_gb or request.query.disk_gb,
            min_hours=request.query.min_hours or hours,
        )
        if request.bid is not None and query.market is None:
            query = structs.replace(query, market=Market.SPOT)
        result = await self.search(query, limit=PLANNED_FROM, refresh_timeout_s=10.0)
        if not result.total:
            nearest = tuple(f"{miss.change} ({miss.offers} offers)" for miss in result.nearest)
            raise NoOfferMatches(result.scanned, nearest)
        keys = {name for name, _ in self._accounts().configured()}
        if not any(offer.provider in keys for offer in result.offers):
            # Names the variable and the page of the cloud that has the best of the matches.
            self._accounts().provider(result.offers[0].provider, result.offers[0].account)
        cooldowns = self._store().cooldowns(now.timestamp())
        return plan(
            [offer for offer in result.offers if offer.provider in keys],
            request,
            disk_gb=result.disk_gb,
            total=result.total,
            now=now,
            cooldowns=cooldowns,
        )

    async def launch(
        self, request: LaunchRequest, *, plan: Plan | None = None, wait: bool = True
    ) -> Machine:
        """Rent a machine by the plan that was shown, or by a new one.

        Raises NoOfferMatches, NothingToBeHad (every offer tried), PolicyRefused, NameTaken.
        """
        from gpubroker.fleet.errors import NothingToBeHad
        from gpubroker.store.errors import NameTaken

        plan = plan or await self.plan(request)
        if not plan.ranked:
            raise NothingToBeHad(())
        taken = self._store().names()
        if request.name in taken:
            raise NameTaken(
                f"a machine named {request.name} has not ended. Its twin: --name {request.name}-2"
            )
        name = request.name or _free_name(plan.ranked[0].offer, taken)
        spec = self._spec(request, plan)
        try:
            machine = await self._fleet().launch(request, plan, spec, name, wait=wait)
        finally:
            self._write_ssh_config()
        self._include_ssh_config()
        return machine

    def _spec(self, request: LaunchRequest, plan: Plan) -> LaunchSpec:
        from gpubroker.market.pricing import wanted_disk_gb
        from gpubroker.model.launch import LaunchSpec
        from gpubroker.remote.keys import check_public_key

        own = self._ssh.key().public_line
        try:
            users = [check_public_key(line) for line in request.ssh_keys]
        except ValueError as error:
            raise Invalid(f"{error}. Nothing was rented.") from None
        disk_gb = request.disk_gb or wanted_disk_gb(request.query)
        return LaunchSpec(
            image=request.image,
            command=request.command,
            startup_script=request.startup_script,
            env=request.env,
            ports=request.ports,
            ssh_keys=tuple(dict.fromkeys([own, *users])),
            disk_gb=math.ceil(disk_gb),
            max_price=request.query.max_price,
            bid=request.bid,
            expires_at=plan.expires_at,
        )

    def machines(self, *, include_ended: bool = False) -> tuple[Machine, ...]:
        """Every machine of this store. Asks no provider and needs no event loop."""
        from gpubroker.fleet.view import machines

        now = self._world.clock.now()
        return machines(self._store(), now, include_ended=include_ended)

    def due(self) -> bool:
        """Whether something is expired, undecided, not ready or owed an end."""
        return bool(self._store().due(self._world.clock.now().timestamp()))

    async def settle(self) -> tuple[str, ...]:
        """Act on what is due. Answer: what could not be done, in words; it is tried again."""
        try:
            return await self._fleet().settle()
        finally:
            self._write_ssh_config()

    async def show(self, name: str) -> Machine:
        """The machine as its provider describes it now. Raises UnknownName."""
        try:
            return await self._fleet().show(name)
        finally:
            self._write_ssh_config()

    async def endpoint(self, name: str) -> Machine:
        """Like show, and sure to have an SSH endpoint. Raises WrongState where it has none."""
        machine = await self.show(name)
        if machine.ssh is None:
            raise WrongState(
                f"{name} is {machine.state} ({machine.phase}): there is nothing to log in to. "
                f"gpubroker show {name} follows it"
            )
        return machine

    async def stop(self, name: str) -> Machine:
        """Stop it; its disk goes on costing. Raises Unsupported where the cloud has no stop."""
        return await self._fleet().stop(name)

    async def start(self, name: str) -> Machine:
        """Start it again. Raises NoCapacity where its GPU was taken meanwhile."""
        try:
            return await self._fleet().start(name)
        finally:
            self._write_ssh_config()

    async def terminate(self, *names: str) -> tuple[Machine, ...]:
        """End machines, wait until their providers confirm it, look up their bills."""
        import asyncio

        fleet = self._fleet()
        for name in names:
            fleet.find(name)  # an unknown name ends none of the others by halves
        try:
            return tuple(await asyncio.gather(*(fleet.terminate(name) for name in names)))
        finally:
            self._write_ssh_config()

    async def sweep(self, *, fix: bool = False, owner: str | None = None) -> SweepReport:
        """Every machine of every account: ours, orphans, ghosts, foreign ones."""
        try:
            return await self._fleet().sweep(fix=fix, owner=owner)
        finally:
            self._write_ssh_config()

    async def doctor(self) -> tuple[Check, ...]:
        """Look at the store, the tools and every configured account."""
        from gpubroker.accounts import Accounts
        from gpubroker.doctor import examine

        seen: list[Exchange] = []
        accounts = Accounts(
            self._world, self._environ, self._store, self._trace_http, (seen.append,)
        )
        try:
            return await examine(self._store(), accounts, self._world.clock, seen)
        finally:
            await accounts.aclose()

    # SSH

    def ssh_folder(self) -> Path:
        """This realm's ssh configuration, keys and known hosts."""
        return self._ssh.folder

    def _write_ssh_config(self) -> None:
        if self._opened_store is None:
            return
        at = self._world.clock.now().timestamp()
        for name, why in self._ssh.write_config(self.machines()).items():
            self._store().add_event(at, "ssh_endpoint_refused", name=name, why=why)

    def _include_ssh_config(self) -> None:
        from gpubroker.fleet.requests import Event

        if (done := self._ssh.include_in_users()) is not None:
            self._on_event(Event(at=self._world.clock.now(), kind="ssh_include", data=done))


def _free_name(offer: Offer, taken: set[str]) -> str:
    """rtx-4090-1: the GPU and the first free number."""
    words = "".join(c if c.isalnum() else " " for c in offer.gpu.name or offer.gpu.raw).split()
    stem = "-".join(words).lower() or "machine"
    number = 1
    while f"{stem}-{number}" in taken:
        number += 1
    return f"{stem}-{number}"
