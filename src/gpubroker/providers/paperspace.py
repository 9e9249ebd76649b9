"""Paperspace: DigitalOcean's virtual machines in New York, California and Amsterdam, by the hour.

No call tells a price or a place: both stand in a table here; what a machine really costs its own
record says. Keys come by a startup script, an object of the account that is ended with the machine.
It lies in the clear, so that variables go over SSH. A create is only taken down: one without
capacity is a machine that is off. A machine that powered itself off frees its GPU, and its disk
costs on. A disk is bought in six sizes, at less for a GB the larger it is: prices here are those of
the smallest. Docker is in the template ML-in-a-Box alone, which is taken where there is one. All
ports are open. Windows and virtual GPUs are left out.
"""

# ruff: noqa: ARG002 - the interface hands every cloud what any of them needs

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any, Generic, TypeVar

from msgspec import Struct, field
from msgspec.structs import replace

from gpubroker.model.capabilities import Capabilities, Limit
from gpubroker.model.errors import (
    AuthFailed,
    Invalid,
    NoCapacity,
    NotFound,
    OutOfFunds,
    QuotaExceeded,
    RateLimited,
    WrongState,
)
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import Endpoint, Instance
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import nanos
from gpubroker.model.offer import Offer, OfferPage
from gpubroker.model.query import Query
from gpubroker.model.quota import Quota
from gpubroker.model.terms import Carrier, Expiry, Kind, Market, Resource, State
from gpubroker.providers.boot import Boot, seconds_left, secrets_of, vm_boot
from gpubroker.providers.bounds import Bounds
from gpubroker.providers.carriers import whose
from gpubroker.providers.fields import Amount, Count, Moment, Text, Told, Usd, Word, utc
from gpubroker.providers.holdings import KeepsThings, Shelf
from gpubroker.providers.offering import page_of
from gpubroker.providers.paging import Whole
from gpubroker.providers.paperspace_market import DISKS_GB, NAME, parse_offers
from gpubroker.providers.pushdown import read_options
from gpubroker.providers.refusals import Rule, answer_text
from gpubroker.providers.rest import of_attempt
from gpubroker.providers.states import StateTable, state_by

# What it is

USER, SSH_PORT = "paperspace", 22
LONGEST_SCRIPT = 16_384
"""Bytes. The vendor names no bound: as little as the most modest cloud takes."""

_CALLS = "whoami offers find get list ensure create terminate release stop start quotas resources"
CAPABILITIES = Capabilities(
    kinds=frozenset({Kind.VM}),
    markets=frozenset({Market.ON_DEMAND}),
    carriers=(Carrier.NAME,),
    image="docker_on_vm",
    startup="script",
    startup_max_bytes=LONGEST_SCRIPT,
    ssh="sshd",
    ssh_keys="bootstrap",
    env="bootstrap",
    ports="any_tcp",
    stop="keeps_disk",
    # No hours are charged where it is "powered down" (Paperspace docs, machine states).
    expiry=Expiry.MACHINE_FREES_GPU,
    registry_auth=True,
    needs=(Resource.STARTUP_SCRIPT,),
    # The vendor promises none of these three.
    create_deadline_s=120,
    list_lag_s=120,
    absence_grace_s=120,
    gone="404",
    async_create=True,
    billing="manual",
    limits=(
        # The vendor publishes none.
        Limit("all", frozenset({*_CALLS.split(), "discard"}), interval_s=1.0, burst=5),
        Limit("create", frozenset({"create"}), interval_s=10.0),
    ),
)

# Words are not documented; codes are, and they come with a status of 200, too.
_NO_STOCK = ("capacity", "out of stock", "not available", "unavailable", "demand")
_REFUSED = ("BAD_REQUEST", "FORBIDDEN", "CONFLICT", "PRECONDITION_FAILED")
_MACHINE, _SCRIPT = ("get", "terminate", "stop", "start"), ("release", "discard")
RULES = (
    Rule(RateLimited, codes=("TOO_MANY_REQUESTS",)),
    Rule(NoCapacity, _NO_STOCK, (), ("create", "start"), "no_capacity", "type_region", _REFUSED),
    Rule(QuotaExceeded, ("access", "approv"), (), ("create",), "no_access", codes=_REFUSED),
    Rule(QuotaExceeded, ("quota", "limit", "maximum"), (), ("create",), "quota", codes=_REFUSED),
    Rule(OutOfFunds, ("payment", "standing", "billing", "balance"), (), ("create",), "no_funds",
         codes=_REFUSED),
    Rule(NotFound, ("machine",), (), _MACHINE, codes=("NOT_FOUND",)),
    Rule(NotFound, ("script",), (), _SCRIPT, codes=("NOT_FOUND",)),
    Rule(AuthFailed, codes=("UNAUTHORIZED", "FORBIDDEN")),
    Rule(WrongState, codes=("CONFLICT", "PRECONDITION_FAILED")),
    # "This machine is currently starting."
    Rule(WrongState, ("currently", "state", "provisioning"), (), _MACHINE, codes=("BAD_REQUEST",)),
    Rule(Invalid, codes=("BAD_REQUEST", "PARSE_ERROR")),
)  # fmt: skip
_SHOWN = """
code message hasMore nextPage items id name agentType operatingSystemLabel defaultSizeGb dtCreated
availableMachineTypes machineTypeLabel isAvailable available data event machineId state error ram
cpus accelerators memory count region machineType publicIp publicIpType storageTotal usageRate
storageRate dtModified dtDeleted dtStarted dtFinished templateId diskSize startOnCreate
startupScriptId isRunOnce isEnabled assignedMachineIds maxMachines team namespace
"""
SHOWN = frozenset(_SHOWN.split())
"""Fields whose values may be written down. Not among them: script, user, email."""

_STATES: StateTable = (
    (State.PENDING, {"state": {"provisioning", "starting", "restarting", "upgrading"}}),
    (State.PENDING, {"state": {"serviceready", "ready"}, "public_ip": {None, ""}}),
    (State.RUNNING, {"state": {"serviceready", "ready"}}),
    (State.STOPPING, {"state": {"stopping"}}),
    (State.STOPPED, {"state": {"off"}}),
)


# What a create sends

_bounds = Bounds(NAME)


def boot_of(spec: LaunchSpec, left_s: float | None) -> Boot:
    """What it does at its start: keys by the script, all with secrets in it over SSH."""
    # Scripts lie in the clear at the vendor. What does not fit in must not take the keys with it.
    boot = partial(vm_boot, seconds_left=left_s, user=USER)
    if not spec.env and not spec.registry_auth:
        whole = boot(spec, limit=LONGEST_SCRIPT)
        if not whole.after:
            return whole
    bare = LaunchSpec(expires_at=spec.expires_at, ssh_keys=spec.ssh_keys)
    return Boot(boot(bare, limit=LONGEST_SCRIPT).text, boot(spec, limit=0).after)


def order(spec: LaunchSpec, offer: Offer, attempt: Attempt, script: str) -> dict[str, Any]:
    """The body of a create. Invalid names the field that is out of bounds."""
    _bounds.takes_no(spec, "volumes", "options")
    _bounds.ports(spec.ports, most=len(spec.ports))
    _bounds.require(bool(spec.ssh_keys), "ssh_keys", "one at least")
    template = spec.vm_image or offer.launch.get("template")
    _bounds.require(bool(template), "vm_image", "a template: none is known for this type")
    runs = spec.image is None or spec.vm_image is not None or offer.launch["docker"]
    _bounds.require(runs, "image", "none here: no template with Docker is known for this type")
    smallest = offer.launch.get("smallest_gb") or DISKS_GB[0]
    wanted = max(smallest, _bounds.disk(spec, offer, usual=smallest))
    return {
        "name": attempt.name,
        "machineType": offer.launch["type"],
        "templateId": _bounds.plain_id(str(template), "vm_image"),
        "region": offer.region,
        "diskSize": next((size for size in DISKS_GB if size >= wanted), DISKS_GB[-1]),
        # A static one costs on when the machine is gone.
        "publicIpType": "dynamic",
        "startOnCreate": True,
        "startupScriptId": script,
        "autoSnapshotEnabled": False,
        "takeInitialSnapshot": False,
        "emailPassword": False,
    }


# How machines are read


class Accelerator(Struct):
    """Its GPUs of one model."""

    name: Word
    count: Count


class Machine(Struct, rename="camel"):
    """One machine."""

    id: Told
    state: Word
    name: Word | None = None
    region: Word | None = None
    public_ip: Word | None = None
    accelerators: tuple[Accelerator, ...] | None = None
    usage_rate: Usd | None = None
    storage_total: Amount | None = None
    """Bytes."""
    dt_created: Moment | None = None
    dt_deleted: Moment | None = None


class Event(Struct):
    """What was done with a machine, and how it went."""

    name: Word
    state: Word
    error: Text | None = None


class Script(Struct, rename="camel"):
    """A startup script; its text is never read."""

    id: Told
    name: Word | None = None
    dt_deleted: Moment | None = None


class Team(Struct, rename="camel"):
    """Whose key it is."""

    id: Told
    max_machines: Amount


class Session(Struct):
    """Of a key that is taken."""

    team: Team


Row = TypeVar("Row")


class Page(Struct, Generic[Row], rename="camel"):
    """Of any list."""

    rows: tuple[Row, ...] = field(name="items")
    has_more: bool
    next_token: Word | None = field(name="nextPage", default=None)

    @property
    def total(self) -> int | None:
        """Not told; a page without the address of the next one must not pass for the last."""
        return -1 if self.has_more and not self.next_token else None


state_of = partial(state_by, _STATES)


def instance_of(row: Machine, account: str) -> Instance:
    """A machine as the vendor tells it."""
    state = State.TERMINATED if row.dt_deleted else state_of(row)
    (owner, attempt), gpus = whose(row.name), row.accelerators or ()
    there = row.public_ip if state is State.RUNNING else None
    return Instance(
        ref=Ref(NAME, account, "", row.id),
        owner=owner,
        attempt=attempt,
        name=row.name,
        state=state,
        raw_state=row.state,
        healthy=state is not State.UNKNOWN,
        bills_compute=state not in {State.STOPPED, State.TERMINATED},
        bills_disk=state is not State.TERMINATED,
        price=None if row.usage_rate is None else nanos(row.usage_rate),
        gpu=gpus[0].name if gpus else None,
        gpu_count=sum(one.count for one in gpus) or None,
        disk_gb=None if row.storage_total is None else row.storage_total / 2**30,
        region=row.region,
        ssh=Endpoint(there, SSH_PORT, USER) if there else None,
        created_at=utc(row.dt_created),
    )


# Calls

_MACHINES, _SCRIPTS, _NEXT = "/v1/machines", "/v1/startup-scripts", "after"


class Paperspace(KeepsThings):
    """One team at Paperspace: each call one question."""

    name = NAME
    display_name = "Paperspace"
    website = "https://www.paperspace.com/"
    console = "https://console.paperspace.com"
    charges_page = "https://cloud.digitalocean.com/account/billing"
    credentials = ("PAPERSPACE_API_KEY",)
    capabilities = CAPABILITIES
    base_url = "https://api.paperspace.com"
    rules = RULES
    shown = SHOWN
    shelves = (Shelf(Resource.STARTUP_SCRIPT, _SCRIPTS),)

    @staticmethod
    def says_no(body: bytes) -> bool:
        """A 200 may hold an error: a code and a message, at the top, where no answer has one."""
        return bool(answer_text(body)[0])

    async def uid(self, operation: str) -> str:
        """The team's. A key that is not taken is answered with a session that is null."""
        return (await self._team(operation)).id

    async def machines(self, operation: str, name: str = "") -> Whole[Instance]:
        """All that are not gone, or those of a name."""
        asked, each = {"name": name} if name else {}, attrgetter("id")
        whole = await self.pages(
            operation, _MACHINES, asked, Page[Machine], identity=each, token_name=_NEXT
        )
        return Whole(tuple(instance_of(row, self.account) for row in whole.rows), whole.complete)

    async def find(self, attempt: Attempt, offer: Offer) -> tuple[Instance, ...]:
        """By name, which two machines may have."""
        return of_attempt(attempt, await self.machines("find", attempt.name))

    async def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        """All types at once, by the templates that can be had on them."""
        read_options(query, NAME, {}, {})
        if query.market not in {None, Market.ON_DEMAND}:
            return
        asked_at = self.http.clock.now()
        path = "/v1/os-templates"
        whole = await self.pages("offers", path, {}, Page[Any], identity=str, token_name=_NEXT)
        rows, rejected = parse_offers(whole.rows, account=self.account, fetched_at=asked_at)
        yield page_of(rows, rejected, whole=whole.complete)

    async def ensure(
        self,
        what: Resource,
        spec: LaunchSpec,
        offer: Offer,
        attempt: Attempt,
        have: Mapping[Resource, Ref],
    ) -> Ref:
        """The attempt's startup script, where the vendor does not say that the type is sold out."""
        if what is not Resource.STARTUP_SCRIPT:
            raise self.unsupported("ensure", what.value)
        order(spec, offer, attempt, "")
        for script in (await self.on_shelf("ensure", self.shelves[0])).rows:
            if script.name == attempt.name:
                return self.ref(script.id)
        asked = {"machineType": str(offer.launch["type"]), "region": offer.region}
        stock = await self.send("ensure", "GET", "/v1/machine-availability", params=asked)
        if stock.ok and b'"available":false' in stock.body.replace(b" ", b""):
            sold_out = f"{NAME}: {asked['machineType']} is sold out in {offer.region}"
            raise NoCapacity(sold_out, provider=NAME, operation="ensure").scoped("type_region")
        text = boot_of(spec, seconds_left(spec, self.http.clock.now())).text
        # At each start: the timer goes on then, and the command runs again.
        body = {"name": attempt.name, "script": text, "isRunOnce": False}
        make = partial(self.ask_for, Told, "ensure", "POST", _SCRIPTS, body, under="id")
        return self.ref(await make(hide=(*secrets_of(spec), text)))

    async def release(self, what: Resource, ref: Ref) -> None:
        """Ends the attempt's script; gone already is fine."""
        with suppress(NotFound):
            await self.ask("release", "DELETE", _path(_SCRIPTS, ref))

    async def create(
        self, spec: LaunchSpec, offer: Offer, attempt: Attempt, have: Mapping[Resource, Ref]
    ) -> Ref:
        """One request. It only takes the order down: the machine may still fail."""
        body = order(spec, offer, attempt, have[Resource.STARTUP_SCRIPT].id)
        id_ = await self.ask_for(Told, "create", "POST", _MACHINES, body, under="data.id")
        return self.ref(id_)

    def after_boot(self, spec: LaunchSpec, offer: Offer, attempt: Attempt, now: datetime) -> str:
        """What may not lie in the clear at the vendor, or is too long for it."""
        return boot_of(spec, seconds_left(spec, now)).after

    async def get(self, ref: Ref) -> Instance:
        """NotFound by the vendor's words. Why one is off, only its last event says."""
        row = await self.ask_for(Machine, "get", "GET", _path(_MACHINES, ref))
        seen = self.same(ref, instance_of(row, self.account))
        if seen.state is not State.STOPPED:
            return seen
        last = {"machineId": ref.id, "orderBy": "dtCreated", "order": "desc", "limit": "1"}
        page = await self.ask_for(Page[Event], "get", "GET", "/v1/machine-events", params=last)
        for event in (one for one in page.rows[:1] if one.state == "error"):
            state = State.FAILED if event.name == "create" else State.STOPPED
            return replace(seen, state=state, reason=event.error or "")
        return seen

    async def terminate(self, ref: Ref) -> None:
        """Its dynamic address goes with it. Gone already is fine."""
        with suppress(NotFound):
            await self.ask("terminate", "DELETE", _path(_MACHINES, ref))

    async def stop(self, ref: Ref) -> None:
        """Its disk costs on; its address is another when it is started again."""
        # Without a body the content's type is refused.
        await self.ask("stop", "PATCH", f"{_path(_MACHINES, ref)}/stop", {})

    async def start(self, ref: Ref) -> None:
        """Where there is no capacity it may stay off."""
        await self.ask("start", "PATCH", f"{_path(_MACHINES, ref)}/start", {})

    async def quotas(self) -> tuple[Quota, ...]:
        """How many machines the team may have."""
        most = (await self._team("quotas")).max_machines
        used = len((await self.machines("quotas")).rows)
        return (Quota(bucket="maxMachines", limit=most, used=used, unit="machines"),)

    async def on_shelf(self, operation: str, shelf: Shelf) -> Whole[Any]:
        """Startup scripts: their list has pages."""
        whole = await self.pages(
            operation, shelf.path, {}, Page[Script], identity=attrgetter("id"), token_name=_NEXT
        )
        return Whole(tuple(row for row in whole.rows if not row.dt_deleted), whole.complete)

    async def _team(self, operation: str) -> Team:
        answer = await self.ask(operation, "GET", "/v1/auth/session")
        if answer.body.strip() == b"null":
            raise self.http.error(AuthFailed, operation, "no session for this key", answer)
        return self.http.decode(operation, answer, Session).team


def _path(below: str, ref: Ref) -> str:
    return f"{below}/{_bounds.plain_id(ref.id, 'ref')}"
