"""A provider over an imaginary cloud: the interface, honestly kept, with faults on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import ClassVar, Self, TypeVar, cast

from msgspec import structs

from gpubroker.model.bill import Bill
from gpubroker.model.capabilities import Capabilities, needed
from gpubroker.model.errors import (
    BadResponse,
    Invalid,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    PriceChanged,
    QuotaExceeded,
    Unavailable,
    WrongState,
)
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import HeldResource, Holdings, Instance, Listing
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import Nanos
from gpubroker.model.offer import Offer, OfferPage
from gpubroker.model.query import Query
from gpubroker.model.quota import Quota
from gpubroker.model.terms import Carrier, Expiry, Resource, State
from gpubroker.providers.base import MUTATIONS
from gpubroker.testing.cloud import Call, FakeCloud
from gpubroker.testing.faults import Crashed, Fault, thinned
from gpubroker.testing.machines import FakeMachine, described, recorded
from gpubroker.testing.switches import Switches

T = TypeVar("T")


class FakeProvider:
    """One account at a FakeCloud.

    `FakeProvider(cloud)` has exactly the optional methods (stop, start, balance, bills,
    attach_key, extend) that the cloud's switches declare, so that code which asks for Stoppable
    and the like is tested too.
    """

    name: ClassVar[str] = "fake"
    display_name: ClassVar[str] = "Fake Cloud"
    website: ClassVar[str] = "https://fake.invalid"
    credentials: ClassVar[tuple[str, ...]] = ("FAKE_CLOUD_API_KEY",)
    capabilities: ClassVar[Capabilities]

    def __new__(cls, cloud: FakeCloud, account: str = "default") -> Self:
        """A class of its own for each set of switches: capabilities belong to the class."""
        del account
        return cast("Self", object.__new__(_shaped(cls, cloud.name, cloud.switches)))

    def __init__(self, cloud: FakeCloud, account: str = "default") -> None:
        self.cloud = cloud
        self.account = account

    # Reads

    async def whoami(self) -> str:
        """The uid of the account, "somebody-else" under `other_account`."""
        fault = await self._arrive("whoami", self.account)
        return await self._answer(fault, self._uid(fault))

    async def scopes(self) -> tuple[str, ...]:
        """Two where the switch says so."""
        fault = await self._arrive("scopes", "")
        return await self._answer(fault, self.cloud.scopes())

    async def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        """The whole stock on one page; no filter is pushed down."""
        del query
        fault = await self._arrive("offers", "")
        now = self.cloud.clock.now()
        rows = [
            structs.replace(offer, account=self.account, fetched_at=now)
            for offer in self.cloud.stock.values()
            if offer.key not in self.cloud.sold_out
        ]
        complete = fault is None or fault.kind != "partial_list"
        yield await self._answer(fault, OfferPage(None, complete, thinned(rows, fault)))

    async def find(self, attempt: Attempt, offer: Offer) -> tuple[Instance, ...]:
        """By the carrier, in the offer's scope."""
        fault = await self._arrive("find", attempt.name)
        found = [
            self._instance(machine)
            for machine in self._listed(self.cloud.scope_of(offer), self._uid(fault))
            if (machine.owner, machine.attempt) == (attempt.owner, attempt.id)
        ]
        return await self._answer(fault, thinned(found, fault))

    async def get(self, ref: Ref) -> Instance:
        """Once gone: NotFound, a TERMINATED tombstone, or a 404 that says nothing (BadResponse)."""
        fault = await self._arrive("get", ref.id)
        machine = self._machine(ref, self._uid(fault))
        if machine is None:
            await self._answer(fault, None)
            if self.cloud.switches.gone == "absent":
                raise BadResponse("404 without words", operation="get", http_status=404)
            raise NotFound("no such machine", operation="get", http_status=404)
        return await self._answer(fault, self._instance(machine))

    async def list(self, scope: str) -> Listing:
        """Every machine of the account in a scope, foreign ones too."""
        fault = await self._arrive("list", scope)
        uid = self._uid(fault)
        rows = [self._instance(machine) for machine in self._listed(scope, uid)]
        listing = Listing(
            account_uid=uid,
            scope=scope,
            complete=fault is None or fault.kind != "partial_list",
            asked_at=self.cloud.clock.now(),
            instances=thinned(rows, fault),
        )
        return await self._answer(fault, listing)

    async def resources(self, scope: str) -> Holdings:
        """Every key, script, address … of the account in a scope, foreign ones too."""
        fault = await self._arrive("resources", scope)
        uid = self._uid(fault)
        held = [
            HeldResource(
                what=one.kind,
                ref=one.ref,
                name=one.name,
                owner=one.owner,
                attempt=one.attempt,
                created_at=one.made_at,
            )
            for one in self.cloud.resources
            if (one.uid, one.ref.scope) == (uid, scope) and not one.released_at
        ]
        complete = fault is None or fault.kind != "partial_list"
        return await self._answer(fault, Holdings(uid, scope, complete, thinned(held, fault)))

    async def billing(self, ref: Ref, since: datetime, until: datetime | None) -> Bill:
        """What the cloud's record says: late, and as much of the truth as the switch lets out."""
        del since, until
        fault = await self._arrive("billing", ref.id)
        machine = self._machine(ref, self._uid(None), ended=True)
        if machine is None:
            return await self._answer(fault, Bill(status="unknown"))
        bill = recorded(machine, self.cloud.switches, self.cloud.clock.now())
        return await self._answer(fault, bill)

    def console_url(self, ref: Ref) -> str | None:
        """A page that does not exist."""
        return f"{self.website}/{ref.scope or 'all'}/{ref.id}"

    # Mutations

    async def ensure(
        self,
        what: Resource,
        spec: LaunchSpec,
        offer: Offer,
        attempt: Attempt,
        have: Mapping[Resource, Ref],
    ) -> Ref:
        """Found by its name before it is made: the same call again makes nothing."""
        fault = await self._arrive("ensure", f"{what} {attempt.name}")
        needs = needed(self.capabilities, spec)
        if what not in needs:
            raise Invalid(f"{what} is not needed here", operation="ensure")
        self._check_have(needs[: needs.index(what)], have)
        resource = self.cloud.ensure_resource(
            what,
            account=self.account,
            scope=self.cloud.scope_of(offer),
            owner=attempt.owner,
            attempt=attempt.id,
        )
        return await self._answer(fault, resource.ref)

    async def create(
        self, spec: LaunchSpec, offer: Offer, attempt: Attempt, have: Mapping[Resource, Ref]
    ) -> Ref:
        """The same machine again for a token or a unique name, a second one for any other carrier.

        A token brings an ended machine back to mind; an ended machine's name is free again.
        """
        fault = await self._arrive("create", attempt.name)
        self._check_have(needed(self.capabilities, spec), have)
        if (known := self._made_before(attempt)) is not None:
            return await self._answer(fault, self._ref(known))
        current = self.cloud.stock.get(offer.key)
        if current is None or offer.key in self.cloud.sold_out:
            raise NoCapacity(f"{offer.key} is gone", operation="create").scoped("offer")
        self._check_quota(current)
        if spec.max_price is not None and current.price.hourly(spec.disk_gb or 0) > spec.max_price:
            raise PriceChanged(f"{offer.key} costs more now", operation="create")
        if fault is not None and fault.kind == "unknown_late":
            # The request is held up on its way, and judged when it gets through.
            def get_through(_: datetime) -> None:
                if self._made_before(attempt) is None:
                    self._make(current, spec, attempt, None)

            self.cloud.at(self.cloud.switches.create_deadline_s, get_through)
            raise OutcomeUnknown("no answer", operation="create")
        return await self._answer(fault, self._ref(self._make(current, spec, attempt, fault)))

    async def terminate(self, ref: Ref) -> None:
        """Accepted: the end comes terminate_s later. Nothing happens to what has ended."""
        fault = await self._arrive("terminate", ref.id)
        machine = self._machine(ref, self._uid(fault), ended=True)
        if machine is None:
            raise NotFound("no such machine", operation="terminate", http_status=404)
        if fault is None or fault.kind != "ignored":
            self.cloud.end(machine)
        await self._answer(fault, None)

    async def release(self, what: Resource, ref: Ref) -> None:
        """WrongState while a machine that needs it has not ended."""
        await self._end_resource("release", what, ref)

    async def discard(self, what: Resource, ref: Ref) -> None:
        """As release."""
        await self._end_resource("discard", what, ref)

    async def _end_resource(self, operation: str, what: Resource, ref: Ref) -> None:
        fault = await self._arrive(operation, f"{what} {ref.id}")
        resource = next(
            (one for one in self.cloud.resources if (one.kind, one.ref) == (what, ref)), None
        )
        if resource is not None and (fault is None or fault.kind != "ignored"):
            for machine in self.cloud.live(resource.uid):
                used = resource.attempt in {None, machine.attempt}
                if machine.owner == resource.owner and used:
                    raise WrongState(f"{what} is in use by {machine.id}", operation=operation)
            resource.released_at = resource.released_at or self.cloud.clock.now()
        await self._answer(fault, None)

    # Behind the door

    async def _arrive(self, operation: str, what: str) -> Fault | None:
        """Notes the call; faults that strike before anything happens are raised here."""
        cloud = self.cloud
        await asyncio.sleep(0)
        cloud.calls.append(Call(cloud.clock.now(), self.account, operation, what))
        fault = cloud.fault(operation)
        if fault is not None:
            await cloud.clock.sleep(fault.delay_s)
            match fault.kind:
                case "unavailable":
                    raise Unavailable("connection refused", operation=operation)
                case "unknown_before":
                    raise OutcomeUnknown("no answer", operation=operation)
                case "crash_before":
                    raise Crashed(operation)
                case "error" if fault.error is not None:
                    raise fault.error(f"scripted {fault.error.word}", operation=operation)
        cloud.settle()
        return fault

    async def _answer(self, fault: Fault | None, answer: T) -> T:
        """Faults that strike when everything has happened are raised here."""
        await asyncio.sleep(0)
        if fault is None:
            return answer
        match fault.kind:
            case "crash_after":
                raise Crashed(fault.operation)
            case "unknown_after" | "left_stopped":
                raise OutcomeUnknown("no answer", operation=fault.operation)
            case "garbage" if fault.operation in MUTATIONS:
                raise OutcomeUnknown("an answer that is not JSON", operation=fault.operation)
            case "garbage":
                raise BadResponse("an answer that is not JSON", operation=fault.operation)
        return answer

    def _uid(self, fault: Fault | None) -> str:
        other = fault is not None and fault.kind == "other_account"
        return "somebody-else" if other else self.cloud.uid(self.account)

    def _ref(self, machine: FakeMachine) -> Ref:
        return Ref(self.cloud.name, self.account, machine.scope, machine.id)

    def _machine(self, ref: Ref, uid: str, *, ended: bool = False) -> FakeMachine | None:
        for machine in self.cloud.machines:
            if (machine.uid, machine.scope, machine.id) == (uid, ref.scope, ref.id):
                told = machine.hidden_until is None or machine.hidden_until <= self._now
                return machine if told and (ended or self.cloud.shown(machine)) else None
        return None

    @property
    def _now(self) -> datetime:
        return self.cloud.clock.now()

    def _listed(self, scope: str, uid: str) -> Iterable[FakeMachine]:
        now = self.cloud.clock.now()
        return (
            machine
            for machine in self.cloud.machines
            if (machine.uid, machine.scope) == (uid, scope)
            and machine.visible_at <= now
            and self.cloud.shown(machine)
        )

    def _made_before(self, attempt: Attempt) -> FakeMachine | None:
        carrier = self.cloud.switches.carrier
        if carrier not in {Carrier.TOKEN, Carrier.UNIQUE_NAME}:
            return None
        for machine in self.cloud.machines:
            same = (machine.owner, machine.attempt) == (attempt.owner, attempt.id)
            mine = machine.uid == self.cloud.uid(self.account)
            if same and mine and (carrier is Carrier.TOKEN or machine.ended_at is None):
                return machine
        return None

    def _check_have(self, needed: tuple[Resource, ...], have: Mapping[Resource, Ref]) -> None:
        standing = {one.ref for one in self.cloud.resources if one.released_at is None}
        for what in needed:
            if have.get(what) not in standing:
                raise Invalid(f"{what} is missing")

    def _quota(self) -> Quota:
        used = sum(machine.offer.gpu_count for machine in self.cloud.live(self._uid(None)))
        limit = float(self.cloud.switches.quota_gpus or 0)
        return Quota(bucket="all GPUs", limit=limit, used=float(used), unit="gpus")

    def _check_quota(self, offer: Offer) -> None:
        if self.cloud.switches.quota_gpus is not None and (why := self._quota().why_not(offer)):
            raise QuotaExceeded(why, operation="create")

    def _make(
        self, offer: Offer, spec: LaunchSpec, attempt: Attempt, fault: Fault | None
    ) -> FakeMachine:
        cloud = self.cloud
        machine = cloud.add_machine(
            uid=cloud.uid(self.account),
            offer=offer,
            spec=spec,
            owner=attempt.owner,
            attempt=attempt.id,
            name=attempt.name,
            fault=fault,
        )
        if cloud.switches.ssh_keys != "attached":
            machine.admitted = spec.ssh_keys
        return machine

    def _instance(self, machine: FakeMachine) -> Instance:
        return described(machine, self._ref(machine), self.cloud.switches)


class _Stops(FakeProvider):
    async def stop(self, ref: Ref) -> None:
        """WrongState unless it runs."""
        fault = await self._arrive("stop", ref.id)
        machine = self._known(ref, "stop")
        if machine.state not in {State.RUNNING, State.STOPPING, State.STOPPED}:
            raise WrongState(f"{ref.id} is {machine.state}", operation="stop")
        # Off from inside it is stopped and billed; the stop is what frees its GPU.
        off_billed = machine.state is State.STOPPED and machine.bills_compute
        on = machine.state is State.RUNNING or off_billed
        if on and (fault is None or fault.kind != "ignored"):
            self.cloud.halt(machine)
        await self._answer(fault, None)

    async def start(self, ref: Ref) -> Ref | None:
        """NoCapacity where the machine lost its GPU and none is left."""
        fault = await self._arrive("start", ref.id)
        machine = self._known(ref, "start")
        startable = {State.STOPPED}
        if not self.cloud.switches.start_once:
            startable |= {State.RUNNING, State.PENDING}
        if machine.state not in startable:
            raise WrongState(f"{ref.id} is {machine.state}", operation="start")
        loses_gpu = self.cloud.switches.stop == "loses_gpu"
        if loses_gpu and machine.offer.key in self.cloud.sold_out:
            raise NoCapacity("its GPU was taken", operation="start").scoped("offer")
        if machine.state is State.STOPPED and (fault is None or fault.kind != "ignored"):
            self.cloud.resume(machine)
        told = self.cloud.switches.resume_id in {"told", "same_after_all"}
        return await self._answer(fault, self._ref(machine) if told else None)

    def _known(self, ref: Ref, operation: str) -> FakeMachine:
        machine = self._machine(ref, self._uid(None))
        if machine is None:
            raise NotFound("no such machine", operation=operation, http_status=404)
        return machine


class _TellsBalance(FakeProvider):
    async def balance(self) -> Nanos:
        """The deposit less what the record holds by now."""
        fault = await self._arrive("balance", self.account)
        cloud = self.cloud
        known = cloud.clock.now() - timedelta(seconds=cloud.switches.billing_lag_s)
        uid = cloud.uid(self.account)
        spent = sum(machine.charged(known) for machine in cloud.machines if machine.uid == uid)
        return await self._answer(fault, Nanos(cloud.balance - spent))


class _BillsTogether(FakeProvider):
    async def bills(self, asked: Sequence[tuple[Ref, datetime, datetime | None]]) -> list[Bill]:
        """One look at the record for all of them."""
        fault = await self._arrive("bills", " ".join(ref.id for ref, _, _ in asked))
        now, uid = self.cloud.clock.now(), self._uid(None)
        told = []
        for ref, _, _ in asked:
            machine = self._machine(ref, uid, ended=True)
            if machine is None:
                told.append(Bill(status="unknown"))
            else:
                told.append(recorded(machine, self.cloud.switches, now))
        return await self._answer(fault, told)


class _TellsQuotas(FakeProvider):
    async def quotas(self) -> tuple[Quota, ...]:
        """One, over all GPUs of the account."""
        fault = await self._arrive("quotas", self.account)
        return await self._answer(fault, (self._quota(),))


class _Extends(FakeProvider):
    async def extend(self, ref: Ref, until: datetime) -> None:
        """NotFound once gone."""
        fault = await self._arrive("extend", ref.id)
        machine = self._machine(ref, self._uid(None))
        if machine is None:
            raise NotFound("no such machine", operation="extend", http_status=404)
        if fault is None or fault.kind != "ignored":
            self.cloud.arm(machine, until)
        await self._answer(fault, None)


class _BootsOverSsh(FakeProvider):
    def after_boot(self, spec: LaunchSpec, offer: Offer, attempt: Attempt, now: datetime) -> str:
        """No shell text: only what a test can know again."""
        del spec, offer, now
        return f"boot {attempt.name}"


class _AttachesKeys(FakeProvider):
    async def attach_key(self, ref: Ref, public_key: str) -> None:
        """WrongState until the machine runs; the same key again changes nothing."""
        fault = await self._arrive("attach_key", ref.id)
        machine = self._machine(ref, self._uid(None))
        if machine is None:
            raise NotFound("no such machine", operation="attach_key", http_status=404)
        if machine.state is not State.RUNNING:
            raise WrongState(f"{ref.id} is {machine.state}", operation="attach_key")
        if public_key not in machine.admitted:
            machine.admitted = (*machine.admitted, public_key)
        await self._answer(fault, None)


def _shaped(base: type[FakeProvider], name: str, switches: Switches) -> type[FakeProvider]:
    optional = (
        (switches.stop != "none", _Stops),
        (switches.billing == "balance", _TellsBalance),
        (switches.billing == "daily", _BillsTogether),
        (switches.boots_over_ssh, _BootsOverSsh),
        (switches.ssh_keys == "attached", _AttachesKeys),
        (switches.expiry is Expiry.PROVIDER and switches.extendable, _Extends),
        (switches.quota_gpus is not None, _TellsQuotas),
    )
    bases = (*(extra for wanted, extra in optional if wanted), base)
    return type(base.__name__, bases, {"name": name, "capabilities": switches.capabilities()})
