"""TensorDock: virtual machines on many owners' hosts, GPU, vCPU, RAM and disk priced apart.

Each count of GPUs is offered in a few sizes. The list of places is stale: many creates find no
host. A disk of 100 GB is the least, and in each price. Only a terminate ends the billing: a stopped
machine keeps its GPU and its price unless it is released, which this interface cannot ask for; so
nothing is stopped, and the timer only warns. A place without addresses forwards TCP ports that are
asked for at the create. The balance is told by an older interface, to another key: a person looks
at the charges.
"""

# ruff: noqa: ARG002 - the interface hands every cloud what any of them needs

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import asdict, replace

from gpubroker.catalog.gpus import resolve
from gpubroker.model.capabilities import Capabilities, Limit
from gpubroker.model.errors import (
    AuthFailed,
    BadResponse,
    Invalid,
    NoCapacity,
    NotFound,
    OutOfFunds,
    RateLimited,
)
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import Endpoint, Instance
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import Nanos, nanos
from gpubroker.model.offer import Offer, OfferPage, Price
from gpubroker.model.query import Query
from gpubroker.model.terms import Availability, Carrier, Expiry, Kind, Market, Resource, State
from gpubroker.providers.absence import absent_is_gone
from gpubroker.providers.boot import as_line, seconds_left, secrets_of, vm_boot
from gpubroker.providers.bounds import Bounds
from gpubroker.providers.carriers import whose
from gpubroker.providers.components import Size, in_dollars, sizes
from gpubroker.providers.endpoints import at, ssh_of, without_ssh
from gpubroker.providers.exchange import UNREADABLE
from gpubroker.providers.fields import Amount, Count, Told, Usd, Word
from gpubroker.providers.offering import Gathered, live, page_of, placed
from gpubroker.providers.paging import Whole
from gpubroker.providers.pushdown import read_options
from gpubroker.providers.quarantine import Rejected, RowReader
from gpubroker.providers.refusals import CLIENT, Rule
from gpubroker.providers.registered_keys import broker_key
from gpubroker.providers.rest import RestCloud
from gpubroker.providers.states import StateTable, state_by

# What it is

NAME = "tensordock"
USER = "user"
IMAGE = "ubuntu2404_ml_everything"
"""The plain images were seen without NVIDIA's driver."""
LONGEST_SCRIPT, MOST_PORTS, MOST_GPUS = 65_536, 16, 16
"""The vendor names no limits."""
SMALLEST_DISK_GB = 100
""""Minimum storage: 100GB" (TensorDock docs, instance creation)."""
USUAL, STEP = Size(vcpus=8, ram_gb=32), Size(vcpus=2, ram_gb=16)
"""For one GPU. CPU "in steps of 2" (TensorDock docs, instance management), RAM of a list."""
DATA_CENTER = 3
"""The tier from which on a host stands in a data center; 0 is somebody's home."""
_CALLS = frozenset({"whoami", "offers", "find", "get", "list", "create", "terminate"})
CAPABILITIES = Capabilities(
    kinds=frozenset({Kind.VM}),
    markets=frozenset({Market.ON_DEMAND}),
    carriers=(Carrier.NAME,),
    image="docker_on_vm",
    startup="cloud_init",
    startup_max_bytes=LONGEST_SCRIPT,
    ssh="sshd",
    # One key inline, which some hosts ignore; all of them by cloud-init.
    ssh_keys="inline",
    env="bootstrap",
    ports="any_tcp",
    # Others read in TensorDock's older API that a stop without a release is billed in full.
    stop="none",
    expiry=Expiry.CONTROLLER_ONLY,
    registry_auth=True,
    # Creates were seen to act more than a minute later; the others nobody promises.
    create_deadline_s=180,
    list_lag_s=120,
    absence_grace_s=120,
    # Nobody records its words, and most clients go by the bare 404: lists decide.
    gone="absent",
    billing="manual",
    public_prices=True,
    limits=(
        # "100 requests per minute per organization" (TensorDock API, rate limits).
        Limit("all", _CALLS, interval_s=1.0, burst=5),
        Limit("create", frozenset({"create"}), interval_s=10.0),
    ),
)

_NO_HOST = ("no available nodes found", "hostnode unavailable", "insufficient capacity")
_NO_MONEY = ("need at least $", "balance", "insufficient")
# A gateway's 504, or a 500, may come of a create that made the machine (as its users' clients saw).
_NOT_MADE = (200, 400, 404, 409)
RULES = (
    Rule(RateLimited, statuses=(429,)),
    Rule(AuthFailed, ("invalid api credentials",), (200, 400, 401, 403)),
    Rule(NoCapacity, _NO_HOST, _NOT_MADE, ("create",), "no_nodes", "type_region"),
    Rule(NoCapacity, ("no available public ip",), _NOT_MADE, ("create",), "no_public_ip"),
    Rule(OutOfFunds, _NO_MONEY, (200, 400, 402, 403), ("create",), code="no_funds"),
    Rule(Invalid, ("must be forwarded",), (200, 400), ("create",), code="ssh_port"),
    Rule(NotFound, ("instance not found", "instance does not exist"), (200, 404),
         ("get", "terminate"), code="instance_not_found"),
)  # fmt: skip
_SHOWN = """
data errors error message code path status title detail type id name success organizationId tier
attributes instances locations city stateprovince country gpus v0Name displayName max_count pricing
resources max_vcpus max_ram_gb max_storage_gb price_per_hr per_vcpu_hr per_gb_ram_hr rateHourly
per_gb_storage_hr network_features dedicated_ip_available port_forwarding_available image count
vcpu_count ram_gb storage_gb ipAddress portForwards internal_port external_port location_id
"""
SHOWN = frozenset(_SHOWN.split())
"""Fields whose values may be written down. Not among them: cloud_init, ssh_key, value."""

_RELEASED = "stoppeddisassociated"
_STATES: StateTable = (
    (State.PENDING, {"word": {"queued", "creating", "pending", "provisioning", "starting"}}),
    # Told before the machine has an address.
    (State.PENDING, {"word": {"running", "online"}, "ip_address": {None, ""}}),
    (State.RUNNING, {"word": {"running", "online"}}),
    (State.STOPPING, {"word": {"stopping"}}),
    (State.STOPPED, {"word": {"stopped", _RELEASED}}),
    (State.TERMINATING, {"word": {"deleting"}}),
    (State.TERMINATED, {"word": {"deleted", "terminated"}}),
    (State.FAILED, {"word": {"error", "failed"}}),
)


# How offers are read


class Limits(Struct):
    """Of one machine with such GPUs in that place."""

    max_vcpus: Count
    max_ram_gb: Count
    max_storage_gb: Count | None = None


class Components(Struct):
    """US dollars for an hour of one."""

    vcpu: Usd = field(name="per_vcpu_hr")
    ram_gb: Usd = field(name="per_gb_ram_hr")
    disk_gb: Usd = field(name="per_gb_storage_hr")


class PlacedGpu(Struct):
    """One GPU model in one place. A component without a price is no offer: it would look cheap."""

    v0_name: Word = field(name="v0Name")
    max_count: Count
    price_per_hr: Annotated[float, Meta(gt=0, le=1_000_000)]
    resources: Limits
    pricing: Components
    network_features: Mapping[str, bool] = {}


class Location(Struct):
    """One place of one owner."""

    id: Word
    gpus: tuple[Any, ...]
    city: Word = ""
    stateprovince: Word = ""
    country: Word = ""
    tier: Count | None = None


_locations = RowReader(Location, under="data.locations", provider=NAME)
_gpus = RowReader(PlacedGpu, under="", provider=NAME)


def parse_offers(
    body: bytes, *, account: str, fetched_at: datetime
) -> tuple[tuple[Offer, ...], tuple[Rejected, ...]]:
    """Offers by place, GPU, count and size, and the rows that are none with the reason.

    Raises BadResponse where it is no answer of this call.
    """
    locations, rejected = _locations.read(body)
    shared = live(NAME, account, Kind.VM, fetched_at)
    found = Gathered(rejected)
    for location in locations:
        gpus, faulty = _gpus.each(location.gpus)
        rejected += faulty
        words = (location.city, location.stateprovince, location.country)
        place = placed(", ".join(word for word in words if word), provider=NAME)
        for gpu in gpus:
            offers = _offers(location, gpu, shared | place)
            found.add_all(gpu, offers, "no GPU with its memory, no room, or no way in")
    return found.told()


def _offers(location: Location, row: PlacedGpu, shared: Mapping[str, Any]) -> Iterator[Offer]:
    """None where no machine could be made of it."""
    gpu, network, limits = resolve(row.v0_name), row.network_features, row.resources
    own_address = network.get("dedicated_ip_available", False)
    enters = own_address or network.get("port_forwarding_available", True)
    room_gb = limits.max_storage_gb
    if not gpu.memory_gb or not enters or (room_gb is not None and room_gb < SMALLEST_DISK_GB):
        return
    rates = in_dollars(gpu=row.price_per_hr, **asdict(row.pricing))
    most = Size(limits.max_vcpus, limits.max_ram_gb)
    for count in range(1, min(row.max_count or 1, MOST_GPUS) + 1):
        for size in sizes(USUAL.times(count), most, STEP):
            yield Offer(
                **shared,
                key=f"{location.id}:{row.v0_name}:{count}x{size.vcpus}c{size.ram_gb}g",
                gpu=gpu,
                gpu_count=count,
                market=Market.ON_DEMAND,
                vcpus=size.vcpus,
                ram_gb=size.ram_gb,
                disk_max_gb=room_gb,
                price=_with_disk(rates.price(count, size)),
                availability=Availability.UNKNOWN if row.max_count else Availability.NO,
                datacenter=None if location.tier is None else location.tier >= DATA_CENTER,
                launch={"dedicated_ip": own_address},
            )


def _with_disk(price: Price) -> Price:
    """The smallest disk is always bought: it is in the price of the machine."""
    disk = price.disk_gb * SMALLEST_DISK_GB
    return replace(price, compute=Nanos(price.compute + disk), disk_included_gb=SMALLEST_DISK_GB)


# What a create sends

_bounds = Bounds(NAME)


def order(spec: LaunchSpec, offer: Offer, attempt: Attempt, left_s: float | None) -> dict[str, Any]:
    """What a create asks for. Invalid names the field that is out of bounds."""
    _bounds.takes_no(spec, "bid", "volumes")
    disk_gb = max(SMALLEST_DISK_GB, _bounds.disk(spec, offer, usual=SMALLEST_DISK_GB))
    boot = vm_boot(spec, limit=LONGEST_SCRIPT, seconds_left=left_s, user=USER, end="")
    _bounds.require(not boot.after, "startup_script", f"at most {LONGEST_SCRIPT} bytes, compressed")
    location, gpu, _ = offer.key.split(":")
    direct = offer.launch["dedicated_ip"]
    _bounds.ports(spec.ports, most=MOST_PORTS, protocols=("tcp", "udp") if direct else ("tcp",))
    # Forwards are ignored in places. Their outer ports are the platform's choice, and read back.
    inside = sorted({22, *(port for port, _ in spec.ports)})
    forwards = [{"internal_port": port, "external_port": port} for port in inside]
    return {
        "name": attempt.name,
        "type": "virtualmachine",
        "image": spec.vm_image or IMAGE,
        "resources": {
            "vcpu_count": round(offer.vcpus or 0),
            "ram_gb": round(offer.ram_gb or 0),
            "storage_gb": disk_gb,
            "gpus": {gpu: {"count": offer.gpu_count}},
        },
        "location_id": location,
        "ssh_key": broker_key(spec, attempt, NAME).public_key,
        "cloud_init": {"runcmd": [as_line(boot.text)]},
        **({"useDedicatedIp": True} if direct else {"port_forwards": forwards}),
    }


# How machines are read


class Forward(Struct):
    """From the host's port to the machine's."""

    internal_port: Count
    external_port: Count


class GpuCount(Struct):
    """Of one model."""

    count: Count


class Resources(Struct):
    """Of one machine."""

    storage_gb: Amount | None = None
    gpus: Mapping[Word, GpuCount] = {}
    """By the vendor's name."""


class Record(Struct, rename="camel"):
    """A machine or a list of them; what it says stands in it, in `attributes` or in `data`."""

    id: Word = ""
    name: Word | None = None
    status: Word = ""
    ip_address: Word | None = None
    port_forwards: tuple[Forward, ...] | None = None
    resources: Resources | None = None
    rate_hourly: Usd | None = None
    instances: tuple[Record, ...] | None = None
    attributes: Record | None = None
    data: Record | None = None

    @property
    def word(self) -> str:
        """`StoppedDisassociated`, `stopped_disassociated` and the like are one."""
        return re.sub(r"[_\- ]", "", self.status).lower()


state_of = partial(state_by, _STATES)


def instance_of(row: Record, account: str) -> Instance:
    """A machine as the vendor tells it: without its place and the time of its start."""
    told = row.attributes or row
    state, (owner, attempt) = state_of(told), whose(told.name)
    resources = told.resources or Resources()
    gpu, count = next(iter(resources.gpus.items()), (None, None))
    there = told.ip_address if state not in {State.TERMINATED, State.PENDING} else None
    forwards = told.port_forwards or ()
    ports = {f"{one.internal_port}/tcp": at(there, one.external_port) for one in forwards if there}
    direct = Endpoint(there, 22, USER) if there and not forwards else None
    return Instance(
        ref=Ref(NAME, account, "", row.id),
        owner=owner,
        attempt=attempt,
        name=told.name,
        state=state,
        raw_state=told.status,
        healthy=state not in {State.UNKNOWN, State.FAILED},
        bills_compute=state is not State.TERMINATED and told.word != _RELEASED,
        bills_disk=state is not State.TERMINATED,
        price=None if told.rate_hourly is None else nanos(told.rate_hourly),
        gpu=gpu,
        gpu_count=count.count if count else None,
        disk_gb=resources.storage_gb,
        ssh=direct or ssh_of(ports, USER),
        ports=without_ssh(ports),
    )


# Calls

_API = "/api/v2"
_VMS = f"{_API}/instances"


class TensorDock(RestCloud):
    """One organisation at TensorDock: each call one question."""

    name = NAME
    display_name = "TensorDock"
    website = "https://www.tensordock.com/"
    console = "https://dashboard.tensordock.com/instances/{id}"
    charges_page = "https://dashboard.tensordock.com"
    credentials = ("TENSORDOCK_API_TOKEN", "TENSORDOCK_API_KEY")
    capabilities = CAPABILITIES
    base_url = "https://dashboard.tensordock.com"
    rules = RULES
    shown = SHOWN
    keyless = frozenset({"offers"})

    @staticmethod
    def says_no(body: bytes) -> bool:
        """An error may come with status 200, its own status beside it."""
        try:
            told = msgspec.json.decode(body, type=dict[str, Any])
        except UNREADABLE:
            return False
        status = told.get("status")
        return bool(told.get("error")) or (isinstance(status, int) and status >= CLIENT)

    async def uid(self, operation: str) -> str:
        """The organisation's id."""
        path = f"{_API}/auth/test"
        return await self.ask_for(Told, operation, "POST", path, under="organizationId")

    async def machines(self, operation: str) -> Whole[Instance]:
        """All of them, in whichever of its three shapes: the list has neither pages nor filters."""
        shape: Any = tuple[Record, ...] | Record
        told = await self.ask_for(shape, operation, "GET", _VMS, under="data")
        rows = (told.attributes or told).instances if isinstance(told, Record) else told
        if rows is None or not all(row.id for row in rows):
            raise self.http.error(BadResponse, operation, "no instances, or one without an id")
        once = {row.id: instance_of(row, self.account) for row in rows}
        return Whole(tuple(once.values()), complete=True)

    async def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        """All places at once, without a key; the call takes no filters."""
        read_options(query, NAME, {}, {})
        if query.market not in {None, Market.ON_DEMAND}:
            return
        answer = await self.ask("offers", "GET", f"{_API}/locations")
        rows, rejected = parse_offers(answer.body, account=self.account, fetched_at=answer.asked_at)
        yield page_of(rows, rejected)

    async def create(
        self, spec: LaunchSpec, offer: Offer, attempt: Attempt, have: Mapping[Resource, Ref]
    ) -> Ref:
        """One request for one machine."""
        self.takes_no_options("create", spec)
        asked = order(spec, offer, attempt, seconds_left(spec, self.http.clock.now()))
        body = {"data": {"type": "virtualmachine", "attributes": asked}}
        hide = (*secrets_of(spec), *asked["cloud_init"]["runcmd"])
        id_ = await self.ask_for(Told, "create", "POST", _VMS, body, under="data.id", hide=hide)
        return self.ref(id_)

    async def get(self, ref: Ref) -> Instance:
        """NotFound by the words that are likely; others are a bad response, and lists decide."""
        row = await self.ask_for(Record, "get", "GET", _path(ref))
        return self.same(ref, instance_of(row.data or row, self.account))

    async def terminate(self, ref: Ref) -> None:
        """Gone already is fine: a 404 in whatever words, where the list lacks it."""
        async with absent_is_gone(self, ref):
            await self.ask("terminate", "DELETE", _path(ref))


def _path(ref: Ref) -> str:
    return f"{_VMS}/{_bounds.plain_id(ref.id, 'ref')}"
