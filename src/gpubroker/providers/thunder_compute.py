"""Thunder Compute: machines in North America with GPUs of its own, billed by the minute.

A machine has no name of ours: it is found again by the comment of its SSH key. It is looked for in
the list of all, by its `uuid`: the list's index shifts when others come and go, and no call is of
one machine. Nothing but the key goes by the create: variables, script, command and further keys go
over SSH. A snapshot is started by its name, as `vm_image`. Ports are only opened on a machine that
runs, for HTTP alone, so that none can be asked for. Only a terminate ends the billing.
"""

# ruff: noqa: ARG002 - the interface hands every cloud what any of them needs

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct, field

from gpubroker.catalog.gpus import resolve
from gpubroker.catalog.shapes import shape
from gpubroker.model.capabilities import Capabilities, Limit
from gpubroker.model.errors import (
    AuthFailed,
    BadResponse,
    NoCapacity,
    NotFound,
    OutOfFunds,
    QuotaExceeded,
    RateLimited,
)
from gpubroker.model.gpu import Gpu
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import Endpoint, Instance
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import Nanos, nanos
from gpubroker.model.offer import Offer, OfferPage, Price
from gpubroker.model.query import Query
from gpubroker.model.terms import Availability, Carrier, Expiry, Kind, Market, Resource, State
from gpubroker.providers.accounts import Account
from gpubroker.providers.boot import seconds_left, vm_boot
from gpubroker.providers.bounds import Bounds
from gpubroker.providers.carriers import whose
from gpubroker.providers.fields import Amount, Count, Moment, Text, Told, Usd, Word, utc
from gpubroker.providers.fingerprint import fingerprint
from gpubroker.providers.http import Transport
from gpubroker.providers.offering import Gathered, live, page_of, placed
from gpubroker.providers.paging import Whole
from gpubroker.providers.pushdown import read_options
from gpubroker.providers.quarantine import Rejected, RowReader
from gpubroker.providers.refusals import Rule
from gpubroker.providers.registered_keys import broker_key, material
from gpubroker.providers.rest import RestCloud
from gpubroker.providers.states import StateTable, state_by

# What it is

NAME = "thunder_compute"
USER = "ubuntu"
TEMPLATE = "base"
REGION = "north-america"
"""The vendor names no regions."""
INCREMENT_S = 60
"""Billed "per minute" (Thunder Compute docs, billing)."""
INCLUDED_GB = 100
"""Of disk: per machine in the vendor's client, per GPU in its docs. The dearer one counts."""

_CALLS = "whoami offers find get list create attach_key terminate"
CAPABILITIES = Capabilities(
    kinds=frozenset({Kind.VM}),
    markets=frozenset({Market.ON_DEMAND}),
    carriers=(Carrier.KEY_COMMENT,),
    image="none",
    startup="over_ssh",
    startup_max_bytes=1_000_000,
    ssh="sshd",
    # One key inline; the others over SSH.
    ssh_keys="inline",
    env="bootstrap",
    ports="none",
    stop="none",
    expiry=Expiry.CONTROLLER_ONLY,
    # The vendor promises none of these three.
    create_deadline_s=120,
    list_lag_s=120,
    absence_grace_s=120,
    gone="absent",
    billing="manual",
    public_prices=True,
    limits=(
        # The vendor publishes none.
        Limit("all", frozenset(_CALLS.split()), interval_s=1.0, burst=5),
        Limit("create", frozenset({"create"}), interval_s=10.0),
    ),
)

# How a create without capacity, quota or money is refused is not documented.
_NO_STOCK = ("capacity", "not available", "unavailable", "no available")
_NO_MONEY = ("payment", "balance", "credit", "billing")
_NOT_MADE, _OF_CREATE = (400, 402, 403, 409, 422), ("create",)
RULES = (
    Rule(RateLimited, statuses=(429,)),
    Rule(NoCapacity, _NO_STOCK, _NOT_MADE, _OF_CREATE, "no_capacity", "type_region"),
    Rule(NoCapacity, (), _NOT_MADE, _OF_CREATE, scope="provider", codes=("temporarily_disabled",)),
    Rule(QuotaExceeded, ("quota", "limit"), _NOT_MADE, _OF_CREATE, "quota"),
    Rule(OutOfFunds, _NO_MONEY, _NOT_MADE, _OF_CREATE, "no_funds"),
    # By its code alone: the words beside it stand in a test of the vendor's client, no more.
    Rule(NotFound, (), (404,), ("terminate", "attach_key"), codes=("not_found",)),
)  # fmt: skip
_SHOWN = """
code error message pricing specs gpu_type displayName vramGB gpuCount vcpuOptions ramPerVCPUGiB
ramCapGiB storageGB min max valid identifier uuid name status ip port cpuCores memory storage
gpuType numGpus mode template httpPorts createdAt provisioningTime k8s promoted lastRestart reason
timestamp exitCode success cpu_cores disk_size_gb num_gpus
"""
SHOWN = frozenset(_SHOWN.split())
"""Fields whose values may be written down. Not among them: key, public_key, sshPublicKeys."""

_STARTING = "provisioning queued pending starting staging creating restoring"
_BUSY = "running modifying snapping migrating"
_STATES: StateTable = (
    (State.PENDING, {"word": _STARTING.split()}),
    # Told before the machine has an address.
    (State.PENDING, {"word": _BUSY.split(), "ip": {None, ""}}),
    (State.RUNNING, {"word": _BUSY.split()}),
    (State.STOPPING, {"word": {"stopping"}}),
    (State.STOPPED, {"word": {"stopped"}}),
    (State.TERMINATING, {"word": {"deleting"}}),
    (State.TERMINATED, {"word": {"deleted", "terminated"}}),
    (State.FAILED, {"word": {"failed", "error"}}),
)


# How offers are read


class Range(Struct):
    """GB of disk."""

    min: Count
    max: Count


class Spec(Struct, rename="camel"):
    """One configuration: so many GPUs, and the vCPUs that one may choose."""

    gpu_count: Count
    vcpu_options: tuple[Count, ...]
    vram_gb: Amount = field(name="vramGB")
    """Of one GPU."""
    ram_per_vcpu: Amount = field(name="ramPerVCPUGiB")
    disk: Range = field(name="storageGB")
    ram_cap: Amount | None = field(name="ramCapGiB", default=None)
    """Of the most vCPUs."""
    display_name: Word = ""

    def ram_gb(self, vcpus: int) -> float:
        """Of a machine with so many."""
        if self.ram_cap is None:
            return vcpus * self.ram_per_vcpu
        return self.ram_cap - (max(self.vcpu_options) - vcpus) * self.ram_per_vcpu


class Stock(Struct):
    """What may be had now: `available`, or any other word."""

    specs: Mapping[str, Any] | None = None


_specs = RowReader(Spec, under="", provider=NAME)


def parse_offers(
    specs: Mapping[str, Any],
    prices: Mapping[str, Any],
    stock: Mapping[str, Any] | None,
    *,
    account: str,
    fetched_at: datetime,
) -> tuple[tuple[Offer, ...], tuple[Rejected, ...]]:
    """Offers by configuration and vCPUs, and the rows that are none with the reason.

    `stock`: what may be had now, None where the vendor does not say.
    """
    found = Gathered(rejected := [])
    shared = live(NAME, account, Kind.VM, fetched_at) | placed(REGION, provider=NAME)
    for name, raw in specs.items():
        rows, faulty = _specs.each((raw,))
        rejected += faulty
        word = Availability.UNKNOWN
        if stock is not None:
            word = Availability.YES if stock.get(name) == "available" else Availability.NO
        for row in rows:
            offers = _offers(name, row, prices, shared | {"availability": word})
            found.add_all(row, offers, "a configuration without a price or a size")
    return found.told()


def _offers(
    name: str, row: Spec, prices: Mapping[str, Any], shared: Mapping[str, Any]
) -> Iterator[Offer]:
    """None where it has no price, or no choice of vCPUs."""
    base, disk_gb = _rate(prices, name), _rate(prices, "disk_gb")
    more = _rate(prices, "additional_vcpus")
    for vcpus in sorted(set(row.vcpu_options)):
        added = vcpus - min(row.vcpu_options)
        if not base or disk_gb is None or (added and more is None):
            return
        yield Offer(
            **shared,
            key=f"{name}:{vcpus}",
            gpu=gpu_of(name, row),
            gpu_count=row.gpu_count,
            market=Market.ON_DEMAND,
            vcpus=vcpus,
            ram_gb=row.ram_gb(vcpus),
            disk_max_gb=row.disk.max,
            price=Price(
                compute=Nanos(base + added * (more or 0)),
                disk_included_gb=INCLUDED_GB,
                disk_gb=disk_gb,
                increment_s=INCREMENT_S,
            ),
            launch={"smallest_disk_gb": row.disk.min},
        )


def _rate(prices: Mapping[str, Any], name: str) -> Nanos | None:
    """Of an hour; None where it is not told, or no price."""
    try:
        return nanos(msgspec.convert(prices.get(name), Usd))
    except msgspec.ValidationError:
        return None


def gpu_of(name: str, row: Spec) -> Gpu:
    """One of its GPUs: by the name of the configuration, which tells more than the words."""
    known = shape(NAME, name)
    if known and known.memory_gb == row.vram_gb:
        return known.gpu
    return resolve(row.display_name or name, memory_gb=row.vram_gb)


# What a create sends

_bounds = Bounds(NAME)


def order(spec: LaunchSpec, offer: Offer, attempt: Attempt) -> dict[str, Any]:
    """The body of a create. Invalid names the field that is out of bounds."""
    _bounds.takes_no(spec, "image", "registry_auth", "ports", "volumes", "bid")
    smallest = offer.launch["smallest_disk_gb"]
    key = broker_key(spec, attempt, NAME).public_key
    return {
        "cpu_cores": round(offer.vcpus or 0),
        "disk_size_gb": max(smallest, _bounds.disk(spec, offer, usual=smallest)),
        "gpu_type": offer.key.rpartition("_x")[0],
        "num_gpus": offer.gpu_count,
        "template": spec.vm_image or TEMPLATE,
        # The only field that a machine keeps of ours.
        "public_key": f"{material(key)} {attempt.name}",
    }


# How machines are read


class Machine(Struct, rename="camel"):
    """One instance. The place in the list is no id of it."""

    uuid: Told
    status: Word = ""
    name: Word | None = None
    ip: Word | None = None
    port: Count | None = None
    gpu_type: Word | None = None
    num_gpus: Word | Count | None = None
    storage: Amount | None = None
    template: Word | None = None
    http_ports: tuple[Count, ...] | None = None
    ssh_public_keys: tuple[Text, ...] | None = None
    created_at: Moment | None = None

    @property
    def word(self) -> str:
        """Told in capitals; compared without regard to them."""
        return self.status.lower()


state_of = partial(state_by, _STATES)


def instance_of(row: Machine, account: str) -> Instance:
    """A machine as the vendor tells it; whose it is says the comment of one of its keys."""
    comments = [" ".join(line.split()[2:]) for line in row.ssh_public_keys or ()]
    ours = next((comment for comment in comments if whose(comment)[0]), None)
    owner, attempt = whose(ours)
    state = state_of(row)
    there = state is State.RUNNING and row.ip and row.port
    count = str(row.num_gpus)
    return Instance(
        ref=Ref(NAME, account, "", row.uuid),
        owner=owner,
        attempt=attempt,
        name=ours or row.name,
        state=state,
        raw_state=row.status,
        healthy=state not in {State.UNKNOWN, State.FAILED},
        bills_compute=state is not State.TERMINATED,
        bills_disk=False,
        gpu=row.gpu_type,
        gpu_count=int(count) if count.isdecimal() else None,
        image=row.template,
        disk_gb=row.storage,
        region=REGION,
        ssh=Endpoint(row.ip or "", row.port or 0, USER) if there else None,
        ports={
            f"{port}/tcp": f"https://{row.uuid}-{port}.thundercompute.net"
            for port in row.http_ports or ()
        },
        created_at=utc(row.created_at),
    )


# Calls

_INSTANCES = "/v1/instances"


class ThunderCompute(RestCloud):
    """One organisation at Thunder Compute: each call one question."""

    name = NAME
    display_name = "Thunder Compute"
    website = "https://www.thundercompute.com/"
    console = "https://console.thundercompute.com"
    charges_page = "https://console.thundercompute.com/settings/billing"
    credentials = ("TNR_API_TOKEN", "THUNDER_COMPUTE_API_KEY")
    capabilities = CAPABILITIES
    base_url = "https://api.thundercompute.com:8443"
    rules = RULES
    shown = SHOWN
    keyless = frozenset({"offers"})

    def __init__(self, account: Account, transport: Transport) -> None:
        super().__init__(account, transport)
        self._fingerprint = fingerprint(account)

    async def uid(self, operation: str) -> str:
        """The key's fingerprint, once the vendor has taken the key: it tells names, and no id.

        Beside a list, too: an empty one is `{}`, and so is many an answer that is none.
        """
        path, under = "/v1/auth/validate", "valid"
        if not await self.ask_for(bool, operation, "GET", path, under=under):
            raise self.http.error(AuthFailed, operation, "the key is not valid")
        return self._fingerprint

    async def machines(self, operation: str) -> Whole[Instance]:
        """All of them: the list has neither pages nor filters."""
        # Addresses change: the vendor's own client asks for new ones.
        path, new_ips = f"{_INSTANCES}/list", {"update_ips": "true"}
        rows = await self.ask_for(dict[str, Machine], operation, "GET", path, params=new_ips)
        once = {row.uuid: instance_of(row, self.account) for row in rows.values()}
        return Whole(tuple(once.values()), complete=True)

    async def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        """All configurations at once, without a key; the calls take no filters."""
        read_options(query, NAME, {}, {})
        if query.market not in {None, Market.ON_DEMAND}:
            return
        asked_at, table = self.http.clock.now(), dict[str, Any]
        prices = await self.ask_for(table, "offers", "GET", "/v2/pricing", under="pricing")
        stock = await self.ask_for(Stock, "offers", "GET", "/v2/status")
        specs = await self.ask_for(table, "offers", "GET", "/v2/specs", under="specs")
        rows, rejected = parse_offers(
            specs, prices, stock.specs, account=self.account, fetched_at=asked_at
        )
        yield page_of(rows, rejected)

    async def create(
        self, spec: LaunchSpec, offer: Offer, attempt: Attempt, have: Mapping[Resource, Ref]
    ) -> Ref:
        """One request for one machine; a private key in its answer is never read."""
        self.takes_no_options("create", spec)
        path, body = f"{_INSTANCES}/create", order(spec, offer, attempt)
        id_ = await self.ask_for(Told, "create", "POST", path, body, under="uuid")
        return self.ref(id_)

    def after_boot(self, spec: LaunchSpec, offer: Offer, attempt: Attempt, now: datetime) -> str:
        """All but the one key: the create takes no script."""
        return vm_boot(spec, limit=0, seconds_left=seconds_left(spec, now), user=USER, end="").after

    async def get(self, ref: Ref) -> Instance:
        """Out of the list. That it is not there is no word of the vendor's: only lists decide."""
        whole = await self.machines("get")
        seen = next((one for one in whole.rows if one.ref == ref), None)
        if seen is None:
            raise self.http.error(BadResponse, "get", f"{ref.id} is not in the list")
        return seen

    async def attach_key(self, ref: Ref, public_key: str) -> None:
        """One key more; one that is there already changes nothing."""
        await self.ask("attach_key", "POST", _act(ref, "add_key"), {"public_key": public_key})

    async def terminate(self, ref: Ref) -> None:
        """By its own id, which no other machine gets. Gone already is fine."""
        with suppress(NotFound):
            await self.ask("terminate", "POST", _act(ref, "delete"), {})


def _act(ref: Ref, what: str) -> str:
    return f"{_INSTANCES}/{_bounds.plain_id(ref.id, 'ref')}/{what}"
