"""Shadeform: one account for the virtual machines of some twenty other clouds.

Each offer names the cloud that runs the machine. A create is only taken down: whether that cloud
has the machine shows later, as a failed one. Shadeform itself ends a machine at its expiry, which
can be moved. A machine cannot be stopped. What it cost is told only while it lives, so the bill is
looked up by a person. A machine's record shows its script to every key of the account: variables,
scripts, commands and logins go over SSH. Its firewall is the machine's own, ports are open where
the cloud behind does not map them; those that it maps are told. Volumes are mounted where the cloud
chooses, so none can be asked for, and types that are containers or have Intel's Gaudis are left
out. Whose a key is it does not tell: another key counts as another account.
"""

# ruff: noqa: ARG002 - the interface hands every cloud what any of them needs

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

from msgspec import Struct

from gpubroker.catalog.gpus import resolve
from gpubroker.model.capabilities import Capabilities, Limit
from gpubroker.model.errors import (
    NoCapacity,
    NotFound,
    OutOfFunds,
    QuotaExceeded,
    RateLimited,
    Refused,
    Unavailable,
    WrongState,
)
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import Endpoint, Instance
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.offer import Offer, OfferPage, Price
from gpubroker.model.query import Query
from gpubroker.model.terms import Availability, Carrier, Expiry, Kind, Market, Resource, State
from gpubroker.providers.absence import absent_is_gone
from gpubroker.providers.accounts import Account
from gpubroker.providers.boot import Boot, seconds_left, secrets_of, vm_boot
from gpubroker.providers.bounds import Bounds
from gpubroker.providers.carriers import tags_of, whose
from gpubroker.providers.endpoints import at
from gpubroker.providers.fields import Amount, Count, Text, Told, Word, cents, told, utc
from gpubroker.providers.fingerprint import fingerprint
from gpubroker.providers.holdings import KeepsThings, Shelf
from gpubroker.providers.http import Transport
from gpubroker.providers.newest import newest
from gpubroker.providers.offering import Gathered, live, page_of, placed
from gpubroker.providers.paging import Whole
from gpubroker.providers.pushdown import read_options
from gpubroker.providers.quarantine import Rejected, RowReader
from gpubroker.providers.refusals import Rule
from gpubroker.providers.registered_keys import broker_key, registered
from gpubroker.providers.states import StateTable, state_by

# What it is

NAME = "shadeform"
USER = "shadeform"
USERS = f"{USER} ubuntu root"
"""Login users of the clouds behind: which one it is, only the machine's record tells."""
SSH_PORT = 22
LONGEST_SCRIPT = 16_384
"""Bytes. The vendor names no bound: as little as the most modest cloud takes."""

_CALLS = "whoami find get list ensure create terminate extend resources discard"
CAPABILITIES = Capabilities(
    kinds=frozenset({Kind.VM}),
    markets=frozenset({Market.ON_DEMAND}),
    carriers=(Carrier.TAG, Carrier.NAME),
    image="docker_on_vm",
    startup="script",
    startup_max_bytes=LONGEST_SCRIPT,
    ssh="sshd",
    ssh_keys="registry",
    env="bootstrap",
    ports="any_tcp",
    stop="none",
    # `auto_delete.date_threshold` (API reference, create).
    expiry=Expiry.PROVIDER,
    registry_auth=True,
    needs=(Resource.SSH_KEY,),
    # The vendor promises none of these three.
    create_deadline_s=120,
    list_lag_s=120,
    absence_grace_s=120,
    # Its words are not recorded: lists decide.
    gone="absent",
    async_create=True,
    billing="manual",
    limits=(
        # None is documented. Clients that work ask for the types once a minute.
        Limit("all", frozenset(_CALLS.split()), interval_s=1.0, burst=5),
        Limit("types", frozenset({"offers"}), interval_s=60.0, burst=2),
        Limit("create", frozenset({"create"}), interval_s=10.0),
    ),
)

_NO_INSTANCE = ("instance not found", "instance does not exist", "no such instance")
RULES = (
    Rule(RateLimited, statuses=(429,)),
    Rule(NoCapacity, codes=("OUT_OF_STOCK",), operations=("create",), scope="type_region"),
    Rule(OutOfFunds, ("balance", "wallet", "funds"), (400, 402, 403, 409), ("create",),
         code="no_funds"),
    Rule(QuotaExceeded, ("quota", "limit"), (400, 403, 409), ("create",), code="quota"),
    # "Business errors" are 409 (as its clients read it): surely nothing was made.
    Rule(Refused, statuses=(409,), operations=("create",)),
    # Read just before and not there: another process of this owner made it meanwhile.
    Rule(Unavailable, ("name must be unique",), (400, 409), ("ensure",)),
    Rule(NotFound, _NO_INSTANCE, (404,), ("get", "terminate", "extend")),
    Rule(NotFound, ("ssh key", "ssh_key", "sshkey"), (404,), ("discard",)),
    # The managed key, the default one and one in use.
    Rule(WrongState, statuses=(400, 409), operations=("discard",)),
)  # fmt: skip
"""From its users' clients: the vendor documents no refusals."""

_SHOWN = """
error error_code message instance_types cloud shade_instance_type cloud_instance_type configuration
memory_in_gb storage_in_gb vcpus num_gpus gpu_type interconnect nvlink os_options vram_per_gpu_in_gb
gpu_manufacturer hourly_price deployment_type availability region available display_name boot_time
min_boot_in_sec max_boot_in_sec instances id cloud_assigned_id shade_cloud name ip ssh_user ssh_port
status status_details cost_estimate tags port_mappings internal_port external_port created_at
active_at deleted_at auto_delete date_threshold ssh_keys is_default ssh_key_id os type
"""
SHOWN = frozenset(_SHOWN.split())
"""Fields whose values may be written down. Not among them: envs, scripts, keys, logins."""

_STATES: StateTable = (
    (State.PENDING, {"status": {"creating", "pending_provider", "pending"}}),
    (State.RUNNING, {"status": {"active"}}),
    (State.FAILED, {"status": {"error"}}),
    (State.TERMINATING, {"status": {"deleting"}}),
    (State.TERMINATED, {"status": {"deleted"}}),
)
_NOT_BILLED = frozenset({"deleting", "deleted"})
""""Billing stops" when a machine is being deleted (Shadeform docs, FAQ)."""
_ARM = re.compile(r"G[BH]\d00")
"""GPUs on one board with an arm64 CPU: the vendor tells no architecture."""
_CONTAINER = "container"


# How offers are read


class Configuration(Struct):
    """What a machine is, the same in offers and on its record."""

    gpu_type: Word
    num_gpus: Count
    interconnect: Word = ""
    vram_per_gpu_in_gb: Amount | None = None
    vcpus: Count | None = None
    memory_in_gb: Amount | None = None
    storage_in_gb: Amount | None = None
    os_options: tuple[Word, ...] = ()

    @property
    def gpu(self) -> str:
        """`A100_80GB sxm4`: the form is told apart."""
        return f"{self.gpu_type} {self.interconnect}".strip()


class Region(Struct):
    """Where a type can be had, and whether it can be now."""

    region: Word
    available: bool
    display_name: Word = ""


class Type(Struct):
    """A type at the cloud that runs it."""

    cloud: Word
    shade_instance_type: Word
    configuration: Configuration
    hourly_price: Count
    availability: tuple[Region, ...]
    cloud_instance_type: Word = ""
    deployment_type: Word = "vm"


_types = RowReader(Type, under="instance_types", provider=NAME)


def parse_offers(
    body: bytes, *, account: str, fetched_at: datetime
) -> tuple[tuple[Offer, ...], tuple[Rejected, ...]]:
    """One offer a cloud, type and region, and the types that are none with the reason.

    Types without GPU, Gaudis and containers are left out. Raises BadResponse where it is no answer.
    """
    types, rejected = _types.read(body)
    shared, found = live(NAME, account, Kind.VM, fetched_at), Gathered(rejected)
    for kind in types:
        if kind.configuration.num_gpus and kind.deployment_type != _CONTAINER:
            for region in kind.availability:
                offer = _offer(kind, region, shared)
                # Docker has Intel's by a runtime of its own, which the images do not bring.
                if offer.gpu.vendor != "intel":
                    found.add(kind, offer)
    return found.told()


def _offer(kind: Type, region: Region, shared: Mapping[str, Any]) -> Offer:
    has = kind.configuration
    os = newest(has.os_options, "ubuntu", "cuda")
    return Offer(
        **shared,
        # `US, San Jose, CA`: the country is its first word, the last is none.
        **placed(region.region, region.display_name, region.display_name.partition(",")[0]),
        key=f"{kind.cloud}:{kind.shade_instance_type}:{region.region}",
        gpu=resolve(has.gpu, memory_gb=has.vram_per_gpu_in_gb or None),
        gpu_count=has.num_gpus,
        market=Market.ON_DEMAND,
        vcpus=has.vcpus or None,
        ram_gb=has.memory_in_gb or None,
        disk_gb=has.storage_in_gb or None,
        arch="arm64" if _ARM.match(has.gpu_type) else "x86_64",
        price=Price(compute=cents(kind.hourly_price)),
        availability=Availability.YES if region.available else Availability.NO,
        upstream=kind.cloud,
        launch={"upstream_type": kind.cloud_instance_type, **({"os": os} if os else {})},
    )


# What a create sends

_bounds = Bounds(NAME)


def boot_of(spec: LaunchSpec, offer: Offer, left_s: float | None) -> Boot:
    """What it does at its start. The cloud ends it: people on it are warned by the timer."""
    # Whoever has a key of the account reads the script: what may be secret goes over SSH.
    gpus: Literal["amd", "nvidia"] = "amd" if offer.gpu.vendor == "amd" else "nvidia"
    boot = partial(vm_boot, seconds_left=left_s, user=USERS, end="", gpus=gpus)
    if not secrets_of(spec):
        return boot(spec, limit=LONGEST_SCRIPT)
    bare = LaunchSpec(expires_at=spec.expires_at, ssh_keys=spec.ssh_keys)
    return Boot(boot(bare, limit=LONGEST_SCRIPT).text, boot(spec, limit=0).after)


def order(
    spec: LaunchSpec,
    offer: Offer,
    attempt: Attempt,
    have: Mapping[Resource, Ref],
    left_s: float | None = None,
) -> dict[str, Any]:
    """The body of a create. Invalid names the field that is out of bounds."""
    _bounds.takes_no(spec, "bid", "volumes")
    _bounds.disk_of_type(spec, offer)
    _bounds.ports(spec.ports, most=len(spec.ports))
    cloud, kind, region = offer.key.split(":")
    body: dict[str, Any] = {
        "cloud": cloud,
        "region": region,
        "shade_instance_type": kind,
        "shade_cloud": True,
        "name": attempt.name,
        "ssh_key_id": have[Resource.SSH_KEY].id,
        "tags": [f"{name}={value}" for name, value in tags_of(attempt).items()],
    }
    if os := spec.vm_image or offer.launch.get("os"):
        body["os"] = os
    if text := boot_of(spec, offer, left_s).text:
        script = {"base64_script": base64.b64encode(text.encode()).decode()}
        body["launch_configuration"] = {"type": "script", "script_configuration": script}
    return body | (_ending(spec.expires_at) if spec.expires_at else {})


def _ending(until: datetime) -> dict[str, Any]:
    moment = until.astimezone(UTC).replace(microsecond=0, tzinfo=None)
    return {"auto_delete": {"date_threshold": f"{moment.isoformat()}Z"}}


# How machines and keys are read


class PortMapping(Struct):
    """Where the cloud behind publishes a port."""

    internal_port: Count | None = None
    external_port: Count | None = None


class AutoDelete(Struct):
    """When the cloud ends it."""

    date_threshold: Word | None = None

    @property
    def at(self) -> datetime | None:
        """None where it is no moment."""
        with suppress(ValueError):
            return utc(datetime.fromisoformat(self.date_threshold or ""))
        return None


class Machine(Struct):
    """One instance. Its variables and its launch configuration are never read."""

    id: Told
    status: Word
    name: Word | None = None
    cloud: Word | None = None
    region: Word | None = None
    configuration: Configuration | None = None
    hourly_price: Count | None = None
    ip: Word | None = None
    ssh_user: Word | None = None
    ssh_port: Count | None = None
    status_details: Text | None = None
    tags: tuple[Word, ...] | None = None
    port_mappings: tuple[PortMapping, ...] | None = None
    auto_delete: AutoDelete | None = None
    """Not in lists."""
    active_at: datetime | None = None


class SshKey(Struct):
    """One of the account's."""

    id: Word
    name: Word
    public_key: Text = ""


class Made(Struct):
    """The answer to what makes something."""

    id: Told


state_of = partial(state_by, _STATES)


def instance_of(row: Machine, account: str) -> Instance:
    """A machine as the vendor tells it."""
    state, has = state_of(row), row.configuration
    tags = dict(tag.split("=", 1) for tag in row.tags or () if "=" in tag)
    owner, attempt = whose(row.name, tags)
    there = row.ip if state is State.RUNNING else None
    user, port = row.ssh_user or USER, row.ssh_port or SSH_PORT
    return Instance(
        ref=Ref(NAME, account, "", row.id),
        owner=owner,
        attempt=attempt,
        name=row.name,
        state=state,
        raw_state=row.status,
        reason=row.status_details or "",
        healthy=state is not State.UNKNOWN,
        bills_compute=row.status not in _NOT_BILLED,
        bills_disk=False,
        price=None if row.hourly_price is None else cents(row.hourly_price),
        gpu=has.gpu if has else None,
        gpu_count=has.num_gpus if has else None,
        disk_gb=has.storage_in_gb if has else None,
        region=row.region,
        ssh=Endpoint(host=there, port=port, user=user) if there else None,
        ports={
            f"{one.internal_port}/tcp": at(there, one.external_port)
            for one in row.port_mappings or ()
            if there and one.internal_port not in {None, SSH_PORT}
        },
        created_at=utc(row.active_at),
        expires_at=row.auto_delete.at if row.auto_delete else None,
        raw=told(row, ("id", "cloud", "region", "status", "status_details")),
    )


# Calls

_INSTANCES, _KEYS = "/v1/instances", "/v1/sshkeys"


class Shadeform(KeepsThings):
    """One account at Shadeform: each call one question."""

    name = NAME
    display_name = "Shadeform"
    website = "https://www.shadeform.ai/"
    console = "https://platform.shadeform.ai/instances/{id}"
    charges_page = "https://platform.shadeform.ai/settings/billing"
    credentials = ("SHADEFORM_API_KEY",)
    capabilities = CAPABILITIES
    base_url = "https://api.shadeform.ai"
    rules = RULES
    shown = SHOWN
    shelves = (Shelf(Resource.SSH_KEY, _KEYS, "ssh_keys", "POST {path}/{id}/delete"),)

    def __init__(self, account: Account, transport: Transport) -> None:
        super().__init__(account, transport)
        self._fingerprint = fingerprint(account)

    @staticmethod
    def authorization(account: Account) -> Mapping[str, str]:
        """The vendor's own header."""
        return {"x-api-key": account.key or ""}

    async def uid(self, operation: str) -> str:
        """The key's fingerprint, once the vendor has taken the key: it names no account."""
        if operation == "whoami":
            await self._keys(operation)
        return self._fingerprint

    async def machines(self, operation: str) -> Whole[Instance]:
        """All that are not deleted: the list has no pages."""
        rows = await self.ask_for(
            tuple[Machine, ...], operation, "GET", _INSTANCES, under="instances"
        )
        once = {row.id: instance_of(row, self.account) for row in rows}
        return Whole(tuple(once.values()), complete=True)

    async def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        """All types of all clouds at once, the sold-out ones too."""
        read_options(query, NAME, {}, {})
        if query.market not in {None, Market.ON_DEMAND}:
            return
        answer = await self.ask("offers", "GET", f"{_INSTANCES}/types")
        rows, rejected = parse_offers(answer.body, account=self.account, fetched_at=answer.asked_at)
        yield page_of(rows, rejected)

    async def ensure(
        self,
        what: Resource,
        spec: LaunchSpec,
        offer: Offer,
        attempt: Attempt,
        have: Mapping[Resource, Ref],
    ) -> Ref:
        """The owner's SSH key."""
        if what is not Resource.SSH_KEY:
            raise self.unsupported("ensure", what.value)
        wanted = broker_key(spec, attempt, NAME)
        if key := registered(await self._keys("ensure"), wanted, NAME):
            return self.ref(key.id)
        body = {"name": wanted.name, "public_key": wanted.public_key}
        made = await self.ask_for(Made, "ensure", "POST", f"{_KEYS}/add", body)
        return self.ref(made.id)

    async def release(self, what: Resource, ref: Ref) -> None:
        """The key is the owner's: it stays for his next machine."""

    async def create(
        self, spec: LaunchSpec, offer: Offer, attempt: Attempt, have: Mapping[Resource, Ref]
    ) -> Ref:
        """One request. It only takes the order down: the machine may still fail."""
        self.takes_no_options("create", spec)
        body = order(spec, offer, attempt, have, seconds_left(spec, self.http.clock.now()))
        script = body.get("launch_configuration", {}).get("script_configuration", {})
        hide = (*secrets_of(spec), *script.values())
        made = await self.ask_for(Made, "create", "POST", f"{_INSTANCES}/create", body, hide=hide)
        return self.ref(made.id)

    def after_boot(self, spec: LaunchSpec, offer: Offer, attempt: Attempt, now: datetime) -> str:
        """What others could read of the create, or is too long for it."""
        return boot_of(spec, offer, seconds_left(spec, now)).after

    async def get(self, ref: Ref) -> Instance:
        """NotFound by the words that are likely; others are a bad response, and lists decide."""
        row = await self.ask_for(Machine, "get", "GET", f"{_path(ref)}/info")
        return self.same(ref, instance_of(row, self.account))

    async def terminate(self, ref: Ref) -> None:
        """The answer is empty. Gone already is fine: a 404 whose machine is in no list, too."""
        async with absent_is_gone(self, ref):
            await self.ask("terminate", "POST", f"{_path(ref)}/delete")

    async def extend(self, ref: Ref, until: datetime) -> None:
        """Moves the end; what is not named in the request stays."""
        await self.ask("extend", "POST", f"{_path(ref)}/update", _ending(until))

    async def _keys(self, operation: str) -> tuple[SshKey, ...]:
        return await self.ask_for(tuple[SshKey, ...], operation, "GET", _KEYS, under="ssh_keys")


def _path(ref: Ref) -> str:
    return f"{_INSTANCES}/{_bounds.plain_id(ref.id, 'ref')}"
