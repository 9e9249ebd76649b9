"""The facade: everything that a face, a program or an agent asks gpubroker to do.

Importing it imports no provider, no HTTP and no event loop: `ps` must not pay for them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Self

from msgspec import structs

from gpubroker.model.errors import Invalid, WrongState
from gpubroker.model.home import Home
from gpubroker.model.query import Query, SortKey
from gpubroker.model.terms import Market, State
from gpubroker.ssh_access import SshAccess, refuse_without_login

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from pathlib import Path
    from types import TracebackType

    from gpubroker.accounts import Accounts
    from gpubroker.credentials.vault import Vault
    from gpubroker.fleet.context import Context
    from gpubroker.fleet.fleet import Fleet
    from gpubroker.fleet.keeping import Round
    from gpubroker.fleet.outbox import Route
    from gpubroker.fleet.requests import Event, LaunchRequest, Plan, SweepReport
    from gpubroker.market.marketplace import Marketplace, Mode
    from gpubroker.market.results import SearchResult
    from gpubroker.model.bill import BillCheck
    from gpubroker.model.budget import BudgetReport, Period, Rung
    from gpubroker.model.costs import Costs
    from gpubroker.model.gpu import GpuModel
    from gpubroker.model.launch import LaunchSpec, RegistryLogin
    from gpubroker.model.machine import Machine
    from gpubroker.model.money import Nanos
    from gpubroker.model.notices import ChannelReport, Warned
    from gpubroker.model.offer import Offer
    from gpubroker.model.reports import Check, Login, ProviderInfo
    from gpubroker.providers.exchange import Exchange, Observer
    from gpubroker.realm import Realm
    from gpubroker.store.seal import Seal
    from gpubroker.store.store import Store

IDLE_EVERY_S = 60.0
KEEP_ENDS_S = 10.0
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
        self._ssh = SshAccess(
            self._home, self.realm, lambda: self._store().owner, self._environ, self._agreed_key
        )
        self._opened_store: Store | None = None
        self._opened_accounts: Accounts | None = None
        self._opened_fleet: Fleet | None = None
        self._opened_market: Marketplace | None = None
        self._gpus_loaded = False

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
            self._opened_accounts = self._new_accounts()
        return self._opened_accounts

    def _new_accounts(self, observers: tuple[Observer, ...] = ()) -> Accounts:
        from gpubroker.accounts import Accounts

        return Accounts(
            self._world,
            self._environ,
            self._home,
            self._store,
            self._trace_http,
            observers,
            lambda why: self._tell(kind="configuration_refused", why=why),
        )

    def _tell(self, kind: str, **data: object) -> None:
        from gpubroker.fleet.requests import Event

        self._on_event(Event(at=self._world.clock.now(), kind=kind, data=data))

    def _follow_gpu_models(self) -> None:
        """The user's own GPU models, as their file has them now."""
        from gpubroker.catalog import gpus

        try:
            if self._gpus_loaded:
                gpus.reload_user_models()
            else:
                self._gpus_loaded = True
                gpus.load_user_models(self._home.gpus)
        except Invalid as error:
            self._tell(kind="gpu_models_refused", why=str(error))

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
            from gpubroker.fleet.fleet import Fleet

            self._opened_fleet = Fleet(self._context())
        return self._opened_fleet

    def _context(self) -> Context:
        from gpubroker.fleet.context import Context

        return Context(
            self._store(),
            self._accounts(),
            self._world.clock,
            self._seal(),
            probe=self._ssh.probe(),
            forget_host=self._ssh.forget_host,
            on_event=self._on_event,
            on_boundary=self._on_boundary,
            routes=self._routes,
            warn_before_s=self._warn_before_s,
            planner=self._planned,
            timer_at=self._ssh.timer_at(),
            idle_at=self._ssh.idle_at(),
            run_boot=self._ssh.run_boot(),
        )

    def _seal(self) -> Seal:
        from gpubroker.store.seal import Seal

        return Seal(self._home.seal_key, self._environ.get("GPUBROKER_SECRET_KEY"))

    def _agreed_key(self, private: bytes) -> bytes:
        """Of the broker's key: the first computer's, where several share the store."""
        store = self._store()
        if not store.shared:
            return private
        seal = self._seal()
        return seal.open(bytes.fromhex(store.agreed("broker_key", seal.close(private).hex())))

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
        from gpubroker.account_choice import asked_of_market, by_account

        accounts = self._accounts()
        result = await self._market().search(
            asked_of_market(query, accounts),
            accounts.searchable(query.accounts),
            now=self._world.clock.now(),
            sort=sort,
            descending=descending,
            limit=limit,
            mode=mode,
            refresh_timeout_s=refresh_timeout_s,
            keyless=accounts.keyless(),
            switched_off=accounts.switched_off(),
        )
        return by_account(result, accounts.chosen(query.accounts))

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
        from gpubroker.account_choice import asked_of_market, by_account

        self._follow_gpu_models()
        market, accounts, now = self._market(), self._accounts(), self._world.clock.now()
        asked = asked_of_market(query, accounts)
        names = () if mode == "cached" else accounts.searchable_names(query.accounts)
        if market.due(names, asked, now=now, mode=mode):
            return None
        result = market.known(
            asked,
            names,
            now=now,
            sort=sort,
            descending=descending,
            limit=limit,
            keyless=accounts.keyless(),
            switched_off=accounts.switched_off(),
        )
        return by_account(result, accounts.chosen(query.accounts))

    def gpus(self) -> tuple[GpuModel, ...]:
        """Every GPU model of the catalog, the user's own too."""
        from gpubroker.catalog.gpus import models

        self._follow_gpu_models()
        return models()

    def providers(self) -> tuple[ProviderInfo, ...]:
        """Every cloud, those that are not built yet too."""
        from gpubroker.provider_list import provider_list

        return provider_list(self._accounts())

    # The fleet

    async def plan(self, request: LaunchRequest) -> Plan:
        """What a launch would do, and the most it can cost. Raises NoOfferMatches.

        With `request.retry_for` nothing that matches is a plan without offers: it may come.
        """
        from gpubroker.fleet.budgets import check_plan
        from gpubroker.fleet.errors import NoOfferMatches
        from gpubroker.fleet.planning import unmatched

        try:
            planned = await self._planned(request)
        except NoOfferMatches:
            if request.retry_for is None:
                raise
            return unmatched(request, self._world.clock.now())
        check_plan(self._store(), request, planned, self._world.clock.now())
        clouds = {one.offer.provider: one.offer.account for one in planned.ranked}
        accounts = self._accounts()
        return structs.replace(
            planned,
            ended_by={
                name: accounts.provider(name, account).capabilities.expiry
                for name, account in clouds.items()
            },
            kept_by=self.kept_by(),
        )

    async def _planned(self, request: LaunchRequest) -> Plan:
        """The plan alone: a launch that is planned anew is in the budgets' books already."""
        from gpubroker.account_choice import at_rentable, no_key_for
        from gpubroker.fleet.errors import NoOfferMatches
        from gpubroker.fleet.planning import plan
        from gpubroker.fleet.quotas import quotas_of

        now = self._world.clock.now()
        hours = None if request.ttl is None else request.ttl.total_seconds() / 3600
        query = structs.replace(
            request.query,
            disk_gb=request.disk_gb or request.query.disk_gb,
            min_hours=request.query.min_hours or hours,
        )
        if request.bid is not None and query.market is None:
            query = structs.replace(query, market=Market.SPOT)
        # Cheap prices of clouds without a key must not crowd out what can be rented.
        rentable = at_rentable(query, self._accounts())
        result = await self.search(rentable, limit=PLANNED_FROM, refresh_timeout_s=10.0)
        if not result.total and rentable != query:
            result = await self.search(query, limit=PLANNED_FROM, refresh_timeout_s=10.0)
        if not result.total:
            nearest = tuple(f"{miss.change} ({miss.offers} offers)" for miss in result.nearest)
            raise NoOfferMatches(result.scanned, nearest)
        keys = self._accounts().chosen(request.query.accounts)
        offers = [offer for offer in result.offers if offer.provider in keys]
        if not offers:
            raise no_key_for(result.offers, request.query.accounts, self._accounts())
        beside: tuple[Offer, ...] = ()
        if request.bid is not None:
            # What the same machines cost on demand: no bid is to reach that.
            at_any_price = structs.replace(
                rentable, market=Market.ON_DEMAND, keys=(), max_price=None, min_price=None
            )
            found = await self.search(at_any_price, limit=None, refresh_timeout_s=10.0)
            beside = found.offers
        unable = self._unable(request, offers)
        return plan(
            offers,
            request,
            disk_gb=result.disk_gb,
            total=result.total,
            now=now,
            cooldowns=self._store().cooldowns(now.timestamp()),
            beside=beside,
            quotas=await quotas_of(self._accounts(), offers),
            unable=unable,
        )

    def _unable(self, request: LaunchRequest, offers: Sequence[Offer]) -> dict[str, str]:
        """Clouds that cannot do what was asked, and what. Raises NoCloudCan where all cannot."""
        from gpubroker.fleet.errors import NoCloudCan
        from gpubroker.fleet.planning import lacking

        asked = {(offer.provider, offer.account) for offer in offers}
        clouds = [self._accounts().provider(*account) for account in sorted(asked)]
        unable = {
            cloud.name: f"{cloud.display_name} {why}"
            for cloud in clouds
            if (why := lacking(request, cloud.capabilities))
        }
        if clouds and len(unable) == len({cloud.name for cloud in clouds}):
            raise NoCloudCan(f"{'; '.join(unable.values())}. Nothing was rented")
        return unable

    async def launch(
        self, request: LaunchRequest, *, plan: Plan | None = None, wait: bool = True
    ) -> Machine:
        """Rent a machine by the plan that was shown, or by a new one.

        With `request.retry_for` a launch that finds nothing goes on trying, here with `wait`, and
        in whichever process looks next. Raises NoOfferMatches, NothingToBeHad (every offer
        tried), PolicyRefused, NameTaken.
        """
        from gpubroker.fleet.errors import NothingToBeHad

        if request.nodes != 1:
            raise Invalid("several nodes are launched by launch_gang")
        plan = plan or await self.plan(request)
        if not plan.ranked and request.retry_for is None:
            raise NothingToBeHad(())
        name, spec = self._name(request, plan), self._spec(request, plan)
        try:
            machine = await self._fleet().launch(request, plan, spec, name, wait=wait)
        finally:
            self._write_ssh_config()
        self._include_ssh_config()
        return machine

    async def launch_gang(
        self, request: LaunchRequest, *, plan: Plan | None = None, wait: bool = True
    ) -> tuple[Machine, ...]:
        """Rent `request.nodes` machines, NAME-1 to NAME-N: all of them in time, or none is kept.

        Raises what `launch` raises, TooFewMachines, GangFailed.
        """
        plan = plan or await self.plan(request)
        name, spec = self._name(request, plan), self._spec(request, plan)
        try:
            machines = await self._fleet().launch_gang(request, plan, spec, name, wait=wait)
        finally:
            self._write_ssh_config()
        self._include_ssh_config()
        return machines

    def _name(self, request: LaunchRequest, plan: Plan) -> str:
        """The one asked for, or a free one. Raises NameTaken."""
        from gpubroker.fleet.gangs import node_names
        from gpubroker.store.errors import NameTaken

        taken = self._store().names()
        wanted = request.name or _free_name(plan, request, taken)
        nodes = node_names(wanted, request.nodes) if request.nodes > 1 else ()
        if clash := next((name for name in (wanted, *nodes) if name in taken), None):
            raise NameTaken(f"a machine named {clash} has not ended. Its twin: --name {wanted}-2")
        return wanted

    def _spec(self, request: LaunchRequest, plan: Plan) -> LaunchSpec:
        from gpubroker.market.pricing import wanted_disk_gb
        from gpubroker.model.launch import LaunchSpec
        from gpubroker.registries import opened
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
            registry_auth=opened(self._store(), self._seal(), request.registry_auth),
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
        """Whether something is expired, undecided, not ready or owed an end, or a bill is due."""
        now = self._world.clock.now().timestamp()
        store = self._store()
        return bool(
            store.due(now)
            or store.bills_due(now)
            or store.expiries.unconfirmed()
            or store.expiries.idle_due(now - IDLE_EVERY_S)
        )

    def kept_by(self) -> tuple[str, ...]:
        """Hosts on which a keeper runs now: it ends what expires, and warns."""
        return self._store().expiries.keepers(self._world.clock.now().timestamp())

    async def keep(
        self, *, rounds: int | None = None, on_round: Callable[[Round], None] | None = None
    ) -> None:
        """Do all that is due, and look at all that is rented, again and again until cancelled.

        `rounds`: so many only. Cancelled, it ends the round in progress first, KEEP_ENDS_S at most.
        """
        import asyncio

        from gpubroker.fleet.keeping import Keeper

        fleet = self._fleet()
        keeper = Keeper(fleet.context, fleet, on_round=on_round or (lambda _: None))
        watching = asyncio.ensure_future(self.watch())
        keeping = asyncio.ensure_future(keeper.run(rounds=rounds))
        try:
            await asyncio.shield(keeping)
        except asyncio.CancelledError:
            keeper.stop()
            await asyncio.wait({keeping}, timeout=KEEP_ENDS_S)
            raise
        finally:
            watching.cancel()
            keeping.cancel()
            await asyncio.gather(watching, keeping, return_exceptions=True)
            self._write_ssh_config()

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

    def variables(self, name: str) -> tuple[str, ...]:
        """The names of the variables that its launch was given; their values stay sealed.

        () where the key that seals them is missing. Asks no provider. Raises UnknownName.
        """
        return self._fleet().variables(name)

    async def endpoint(self, name: str) -> Machine:
        """Like show, and sure to have an SSH endpoint.

        Raises WrongState where it has none, Unsupported where it never will.
        """
        machine = await self.show(name)
        if machine.ssh is None:
            if machine.state is State.RUNNING:
                refuse_without_login(machine)
            raise WrongState(
                f"{name} is {machine.state} ({machine.phase}): there is nothing to log in to. "
                f"gpubroker show {name} follows it"
            )
        return machine

    async def extend(
        self, name: str, *, by: timedelta | None = None, until: datetime | None = None
    ) -> Machine:
        """Move its end: so much later, or to a time. Either, not both.

        The answer is `confirmed` where its cloud or the machine's timer is known to hold the new
        end; until then `ends_at` is the earlier one, and later commands go on asking. Where only
        gpubroker ends it the wish is all there is. Raises WrongState, Invalid, Unsupported,
        BudgetExceeded: nothing was changed then.
        """
        return await self._fleet().extend(name, by=by, until=until)

    async def extend_gang(
        self, name: str, *, by: timedelta | None = None, until: datetime | None = None
    ) -> tuple[Machine, ...]:
        """As `extend`, of all machines of a gang: all of their ends are moved, or none."""
        return await self._fleet().extend_gang(name, by=by, until=until)

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
        # An unknown name ends none of the others by halves; a gang's name means all of it.
        meant = dict.fromkeys(one for name in names for one in fleet.named(name))
        try:
            return tuple(await asyncio.gather(*(fleet.terminate(name) for name in meant)))
        finally:
            self._write_ssh_config()

    async def sweep(self, *, fix: bool = False, owner: str | None = None) -> SweepReport:
        """Every machine of every account: ours, orphans, ghosts, foreign ones."""
        try:
            return await self._fleet().sweep(fix=fix, owner=owner)
        finally:
            self._write_ssh_config()

    async def adopt(
        self,
        provider: str,
        id: str,
        *,
        ttl: timedelta | None,
        no_expiry: bool = False,
        name: str | None = None,
        account: str | None = None,
        scope: str | None = None,
        owner: str | None = None,
        price: Nanos | None = None,
    ) -> Machine:
        """Take a machine that was made elsewhere under management.

        `ttl` None only together with `no_expiry`. `owner` names, on purpose, the other gpubroker
        that made it; `price` (per hour) counts where no record and no offer tells one. Raises
        NotFound, WrongState, PolicyRefused, NameTaken.
        """
        from gpubroker.adoption import adopt

        try:
            return await adopt(
                self._fleet(),
                self._accounts(),
                self.search,
                self._ssh.key().public_line,
                (provider, account),
                id,
                ttl=ttl,
                no_expiry=no_expiry,
                name=name,
                scope=scope,
                owner=owner,
                price=price,
            )
        finally:
            self._write_ssh_config()

    # Money

    async def bill(self, name: str) -> tuple[BillCheck, ...]:
        """What each machine of that name cost: quoted, metered, reported and billed, compared.

        Asks for what its provider may have told by now. Raises UnknownName.
        """
        from gpubroker.fleet.billing import told

        fleet = self._fleet()
        return await told(fleet.context, fleet.find(name))

    def costs(self, *, since: datetime | None = None) -> Costs:
        """Spend by machine, cloud, GPU, day, project and tag. Asks no provider."""
        from gpubroker.fleet.costs import costs

        now = self._world.clock.now().timestamp()
        return costs(self._store(), now, None if since is None else since.timestamp())

    async def doctor(self) -> tuple[Check, ...]:
        """Look at the store, the tools and every configured account."""
        from gpubroker.doctor import examine

        seen: list[Exchange] = []
        accounts = self._new_accounts((seen.append,))
        try:
            return await examine(
                self._store(),
                accounts,
                self._world.clock,
                seen,
                vault=self._vault(),
                gpus=self._home.gpus,
            )
        finally:
            await accounts.aclose()

    # Budgets and warnings

    def budgets(self) -> tuple[BudgetReport, ...]:
        """Every budget in its present period. Asks no provider and needs no event loop."""
        from gpubroker.fleet.budgets import reports

        return reports(self._store(), self._world.clock.now())

    def set_budget(
        self,
        name: str,
        amount: Nanos,
        *,
        period: Period = "total",
        project: str | None = None,
        tag: str | None = None,
        hard: bool = True,
        ladder: tuple[Rung, ...] | None = None,
    ) -> BudgetReport:
        """Limit what a project, a tag (key=value) or, without both, all may spend in a period.

        One of that name is changed and goes on from where it began. Raises Invalid.
        """
        from gpubroker.fleet.budgets import put, report, scoped
        from gpubroker.model.budget import LADDER, SOFT_LADDER, Budget

        now = self._world.clock.now()
        scope, value = scoped(project, tag)
        budget = Budget(
            name=name,
            amount=amount,
            period=period,
            scope=scope,
            value=value,
            hard=hard,
            ladder=(LADDER if hard else SOFT_LADDER) if ladder is None else ladder,
            created_at=now,
        )
        put(self._store(), budget)
        return report(self._store(), name, now)

    def remove_budget(self, name: str) -> None:
        """What it stopped or ended stays so. Raises UnknownBudget."""
        from gpubroker.fleet.budgets import remove

        remove(self._store(), name)

    def warnings(self) -> tuple[Warned, ...]:
        """Warnings of the last day, oldest first. Asks no provider and needs no event loop."""
        from gpubroker.fleet.warned import recent

        return recent(self._store(), self._world.clock.now().timestamp())

    def channels(self) -> tuple[ChannelReport, ...]:
        """Where warnings go by the configuration, and how many got there."""
        from gpubroker.fleet.outbox import reports

        return reports(self._store(), self._routes())

    async def test_channel(self, name: str) -> None:
        """Send a warning that warns of nothing. Raises UnknownChannel, Unavailable."""
        from gpubroker.fleet.outbox import try_out
        from gpubroker.routes import known

        known(self._accounts().config, name)
        [route] = [one for one in self._routes() if one.name == name]
        await try_out(self._context(), route)

    def registries(self) -> tuple[RegistryLogin, ...]:
        """Kept logins for private images, without their passwords."""
        from gpubroker import registries

        return registries.known(self._store())

    def add_registry(
        self, name: str, *, server: str, username: str, password: str
    ) -> RegistryLogin:
        """Keep a login, sealed, in place of one of the same name. Raises Invalid."""
        from gpubroker import registries
        from gpubroker.model.launch import RegistryAuth

        given = RegistryAuth(name, server, username, password)
        now = self._world.clock.now().timestamp()
        return registries.add(self._store(), self._seal(), given, now)

    def remove_registry(self, name: str) -> None:
        """Forget a login. Raises NotFound."""
        from gpubroker import registries

        registries.remove(self._store(), name)

    def set_channel_secret(self, name: str, secret: str) -> str:
        """Seal a webhook's secret or a mail server's password. Answer: where it is."""
        from gpubroker.routes import keep_secret

        return keep_secret(self._accounts().config, self._vault(), name, secret)

    def _warn_before_s(self) -> tuple[float, ...]:
        return self._accounts().config.notify.warn_before_s()

    def _routes(self) -> tuple[Route, ...]:
        accounts = self._accounts()
        accounts.refresh()
        if not accounts.config.notify.channels:
            return ()
        from gpubroker.routes import routes

        return routes(
            accounts.config,
            self._environ,
            self._vault(),
            loopback_only=self._world.is_sandbox,
        )

    # Keys

    async def login(
        self,
        provider: str,
        account: str = "default",
        *,
        secrets: Mapping[str, str],
        keyring: bool = False,
        same_account: bool = False,
    ) -> Login:
        """Try a key with a real call, then store it: sealed in a 0600 file, or in the keyring.

        `secrets`: first spelling of each of the cloud's variables -> value. Raises AuthFailed where
        the cloud refuses it, AccountChanged where it is another account's than the one that this
        alias has machines at; nothing is stored then. `same_account` is a person's word that it is
        not, where the cloud itself cannot tell.
        """
        from gpubroker.logins import login

        return await login(
            self._context(),
            self._accounts(),
            self._vault(),
            (provider, account),
            secrets,
            keyring=keyring,
            same_account=same_account,
        )

    def logout(self, provider: str, account: str = "default") -> bool:
        """Forget the key that `login` stored. Answer: whether there was one."""
        gone = self._vault().drop(f"{provider}:{account}")
        if gone and self._opened_accounts is not None:
            self._opened_accounts.refresh(now=True)
        return gone

    def _vault(self) -> Vault:
        from gpubroker.credentials.vault import Vault

        return Vault(self._home, self._environ)

    async def watch(self) -> None:
        """Take up changed keys, switches and GPU models within two seconds, until cancelled.

        For programs that run long: each use looks, too. What cannot be taken up is told as an
        event, `configuration_refused` or `gpu_models_refused`, and the former state stays.
        """
        import asyncio

        from gpubroker.watched import CHECK_EVERY_S

        while True:
            self._accounts().refresh()
            self._follow_gpu_models()
            await asyncio.sleep(CHECK_EVERY_S)

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
        if not self._accounts().config.ssh.include:
            return
        if (done := self._ssh.include_in_users()) is not None:
            self._tell(kind="ssh_include", **done)


def _free_name(plan: Plan, request: LaunchRequest, taken: set[str]) -> str:
    """rtx-4090-1: the GPU and the first free number."""
    if plan.ranked:
        gpu = plan.ranked[0].offer.gpu.label
    else:
        gpu = next((wanted.name for wanted in request.query.gpus), "")
    words = "".join(c if c.isalnum() else " " for c in gpu).split()
    stem = "-".join(words).lower() or "machine"
    number = 1
    while {f"{stem}-{number}", f"{stem}-{number}-1"} & taken:
        number += 1
    return f"{stem}-{number}"
