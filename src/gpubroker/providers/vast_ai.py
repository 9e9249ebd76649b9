"""Vast.ai: a marketplace of hosts that rent containers with GPUs.

Three traps: a wrong key is answered 404, an error answer may still have made a contract
(`new_contract`), and paths end in a slash, but for a few.
"""

# ruff: noqa: ARG002 - the interface hands every cloud what any of them needs

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from operator import attrgetter
from typing import Any, ClassVar, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gpubroker.catalog.gpus import resolve
from gpubroker.catalog.places import locate
from gpubroker.model.bill import Bill, BillLine
from gpubroker.model.capabilities import Capabilities, Limit
from gpubroker.model.errors import (
    AuthFailed,
    BadResponse,
    Invalid,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    OutOfFunds,
    RateLimited,
    Refused,
    Unsupported,
)
from gpubroker.model.gpu import Gpu
from gpubroker.model.identity import Attempt, Ref, parse_name
from gpubroker.model.instance import Endpoint, Instance, Listing
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import FREE, NANOS_PER_USD, Nanos, nanos, usd
from gpubroker.model.offer import Offer, OfferPage, Price
from gpubroker.model.query import GpuWanted, Query
from gpubroker.model.terms import Availability, Carrier, Expiry, Kind, Market, Source, State
from gpubroker.providers.bills import bill_of
from gpubroker.providers.bounds import Bounds
from gpubroker.providers.circuit import PERMISSION
from gpubroker.providers.computed_once import ComputedOnce
from gpubroker.providers.fields import (
    Amount,
    Count,
    Id,
    Share,
    Text,
    Usd,
    Word,
    moment,
    signed_nanos,
)
from gpubroker.providers.paging import Whole
from gpubroker.providers.pushdown import (
    Option,
    Pushed,
    options_of,
    push_down,
    read_options,
    spellings,
    yes_or_no,
)
from gpubroker.providers.quarantine import Rejected, RowReader, mostly_sound, shortened
from gpubroker.providers.refusals import Rule
from gpubroker.providers.rest import RestCloud, json_text
from gpubroker.providers.startup_text import environment_lines, startup_text
from gpubroker.providers.states import StateTable, state_by

# What it is

NAME = "vast_ai"
DEFAULT_IMAGE = "nvidia/cuda:12.4.1-runtime-ubuntu22.04"
SMALLEST_DISK_GB, DEFAULT_DISK_GB = 8, 10
LONGEST_STARTUP, LONGEST_VARIABLE, ALL_VARIABLES, MOST_PORTS = 4096, 256, 32768, 64
LOWEST_BID, HIGHEST_BID = 0.001, 128.0
MOST_OFFERS, LIST_PAGE, CHARGES_PAGE = 3000, 25, 500
"""The search has no pages; the lists have."""
HOURS_PER_MONTH = 720
"""The vendor's storage month: 30 days."""
LONGEST_REFUSAL = 64 * 1024
UID_HOLDS_S = 10.0

CAPABILITIES = Capabilities(
    kinds=frozenset({Kind.CONTAINER}),
    markets=frozenset({Market.ON_DEMAND, Market.SPOT}),
    carriers=(Carrier.NAME,),
    image="container",
    startup="script",
    startup_max_bytes=LONGEST_STARTUP,
    ssh="sshd",
    ssh_keys="attached",
    env="native",
    ports="at_create",
    stop="keeps_disk",
    expiry=Expiry.CONTROLLER_ONLY,
    # The figures in seconds from here on are ours: the vendor promises none.
    create_deadline_s=60,
    list_lag_s=60,
    absence_grace_s=60,
    gone="404",
    billing="exact",
    # "0.8 h invoiced of 6.5 real ones" was seen: the record follows by hours.
    billing_lag_s=8 * 3600,
    public_prices=True,
    limits=(
        # "10 per minute per IP", kept in every window of 60 s: a burst of 4 and 6 more.
        Limit("search", frozenset({"offers"}), interval_s=10.0, burst=4, per="ip"),
        Limit("create", frozenset({"create"}), interval_s=4.5),
        Limit("destroy", frozenset({"terminate"}), interval_s=3.0),
        Limit("show", frozenset({"get"}), interval_s=2.0),
        Limit("list", frozenset({"list", "find"}), interval_s=1.0),
        Limit("state", frozenset({"stop", "start"}), interval_s=1.0),
        Limit("bid", frozenset({"bid"}), interval_s=5.5),
        Limit("charges", frozenset({"billing"}), interval_s=1.0),
        Limit("ssh_keys", frozenset({"attach_key"}), interval_s=1.0),
    ),
)

_TAKEN = ("resources_unavailable", "resources are currently unavailable")
RULES = (
    Rule(RateLimited, ("search_quota_exceeded",), code="search_quota_exceeded"),
    Rule(RateLimited, ("api requests too frequent", "rate_limit_exceeded"), code="rate_limited"),
    Rule(RateLimited, statuses=(429,)),
    # Before any word about a missing thing: a wrong key is a 404 too.
    Rule(AuthFailed, ("auth_error", "invalid user key", "requires login"), (401, 403, 404, 200)),
    Rule(NoCapacity, ("no_such_ask",), operations=("create",), code="no_such_ask"),
    Rule(NoCapacity, _TAKEN, operations=("start",), code="resources_unavailable"),
    Rule(OutcomeUnknown, _TAKEN, operations=("create",), code="resources_unavailable"),
    Rule(Refused, ("not your own",), (403,), code="own_machine"),
    Rule(Invalid, ("invalid_price", "set a bid price"), (400,), code="invalid_price"),
    Rule(Invalid, ("label_too_long",), (400,), code="label_too_long"),
    Rule(Invalid, ("no_ssh_key_for_vm",), (400,), code="no_ssh_key_for_vm"),
    Rule(BadResponse, ("invalid_token", "pagination token"), (400,), ("list", "find", "billing")),
    # "lacks credit", "insufficient_balance", "missing_billing" and their like.
    Rule(OutOfFunds, ("credit", "balance", "billing"), (400, 402, 200)),
    Rule(NotFound, ("no_such_instance", "not_found", "instance not found"), (404, 200),
         ("get", "terminate", "stop", "start", "bid", "attach_key"), code="no_such_instance"),
    Rule(AuthFailed, statuses=(401,)),
    Rule(AuthFailed, statuses=(403,), code=PERMISSION),
)  # fmt: skip

_SHOWN = """
success error msg message detail ask_id new_contract offers instances instances_found
total_instances next_token results count total source amount items start end type id limit order
allocated_storage eq neq gt gte lt lte in notin verified external rentable num_gpus gpu_name
gpu_ram cpu_ram disk_space dph_base dph_total min_bid storage_cost machine_id host_id
actual_status cur_state next_state intended_status label is_bid geolocation disk image
image_uuid runtype price state target_state cancel_unavail client_id select_filters order_by
after_token latest_first format col dir day start_date end_date owner reliability2 duration
verification inet_up inet_down credit
"""
SHOWN = frozenset(_SHOWN.split())
"""Fields whose values may be written down. Not among them: env, onstart, image_login, api keys."""

_TYPES = {Market.ON_DEMAND: "on-demand", Market.SPOT: "bid"}
_MIB, _TOLERANCE = 1024, 0.07
"""Hosts report 0.93 to 1.07 of a card's memory."""
_PUSHED = (
    Pushed("min_count", "num_gpus", "gte", int),
    Pushed("max_count", "num_gpus", "lte", int),
    Pushed("min_vram_gb", "gpu_ram", "gte", lambda gb: gb * _MIB * (1 - _TOLERANCE)),
    Pushed("max_vram_gb", "gpu_ram", "lte", lambda gb: gb * _MIB * (1 + _TOLERANCE)),
    Pushed("min_vcpus", "cpu_cores_effective", "gte"),
    Pushed("min_ram_gb", "cpu_ram", "gte", lambda gb: gb * 1000),
    Pushed("min_disk_gb", "disk_space", "gte"),
    # Rows tell it as `reliability2` too; the vendor's own client 1.9.1 filters by this name.
    Pushed("min_reliability", "reliability", "gte"),
    Pushed("min_compute_capability", "compute_cap", "gte", lambda version: round(version * 100)),
    Pushed("min_down_mbps", "inet_down", "gte"),
    Pushed("min_up_mbps", "inet_up", "gte"),
    Pushed("min_hours", "duration", "gte", lambda hours: hours * 3600),
)
_SWITCHES = (
    "verified", "external", "rentable", "datacenter", "static_ip", "has_avx", "vms_enabled",
)  # fmt: skip
OPTIONS: Mapping[str, Option] = {name: Option(name, "eq", yes_or_no) for name in _SWITCHES} | {
    "min_direct_ports": Option("direct_port_count", "gte", int),
    "min_dlperf": Option("dlperf", "gte", float),
    "min_disk_bandwidth": Option("disk_bw", "gte", float),
    "machine_id": Option("machine_id", "eq", int),
    "host_id": Option("host_id", "eq", int),
}
_DEFAULTS: Mapping[str, bool] = {"verified": True, "external": False, "rentable": True}
"""As the vendor's client sends them: without, junk comes back."""
_USUAL_STORAGE_GB = 5.0

_NAMES = """
A10 A10g A40 A100_PCIE A100_SXM4 A100X A800_PCIE H100_PCIE H100_SXM H100_NVL H200 H200_NVL B200
L4 L40 L40S Tesla_T4 Tesla_P4 Tesla_P40 Tesla_P100 Tesla_V100 Titan_V Titan_RTX Titan_Xp
Q_RTX_4000 Q_RTX_5000 Q_RTX_6000 Q_RTX_8000 Quadro_P2000 Quadro_P4000 RTX_A2000 RTX_A4000
RTX_A4500 RTX_A5000 RTX_A6000 RTX_2000Ada RTX_4000Ada RTX_4500Ada RTX_5000Ada RTX_5880Ada
RTX_6000Ada RTX_PRO_4000 RTX_PRO_4500 RTX_PRO_5000 RTX_PRO_6000_S RTX_PRO_6000_WS RTX_5060
RTX_5060_Ti RTX_5070 RTX_5070_Ti RTX_5080 RTX_5090 RTX_4060 RTX_4060_Ti RTX_4070 RTX_4070S
RTX_4070_Ti RTX_4070S_Ti RTX_4080 RTX_4080S RTX_4090 RTX_4090D RTX_3050 RTX_3060 RTX_3060_Ti
RTX_3060_laptop RTX_3070 RTX_3070_laptop RTX_3070_Ti RTX_3080 RTX_3080_Ti RTX_3090 RTX_3090_Ti
RTX_2060 RTX_2060S RTX_2070 RTX_2070S RTX_2080 RTX_2080S RTX_2080_Ti GTX_1050 GTX_1050_Ti
GTX_1060 GTX_1070 GTX_1070_Ti GTX_1080 GTX_1080_Ti GTX_1650 GTX_1650_S GTX_1660 GTX_1660_S
GTX_1660_Ti CMP_50HX
"""
GPU_NAMES = tuple(name.replace("_", " ") for name in _NAMES.split())
"""As the vendor's client lists them; hosts bring new ones before any list has them."""

_UNHEARD = frozenset({"unknown", "offline"})
_STATES: StateTable = (
    (State.TERMINATED, {"cur_state": {"unloaded"}}),
    (State.UNKNOWN, {"actual_status": _UNHEARD}),
    (State.RUNNING, {"actual_status": {"frozen"}}),
    (State.STOPPING, {"actual_status": {"running"}, "intended_status": {"stopped"}}),
    (State.RUNNING, {"actual_status": {"running"}}),
    (State.STOPPED, {"intended_status": {"stopped"}, "actual_status": {"stopped", "exited"}}),
    (State.STOPPED, {"intended_status": {"stopped"}, "cur_state": {"stopped"}}),
    # Stopped, and nobody asked for it: outbid.
    (State.PREEMPTED, {"is_bid": {True}, "actual_status": {"stopped"}}),
    (State.PREEMPTED, {"is_bid": {True}, "actual_status": {"exited"}, "cur_state": {"stopped"}}),
    # Its GPU is somebody else's: it may never start.
    (State.PENDING, {"intended_status": {"running"}, "cur_state": {"stopped"}}),
    (State.STOPPED, {"actual_status": {"stopped"}}),
    (State.FAILED, {"actual_status": {"exited"}}),
    (State.FAILED, {"creation_failed": {True}}),
    (State.PENDING, {"actual_status": {None, "creating", "created", "loading", "rebooting"}}),
)
"""From the container's status, the wish and the contract's state."""
_RAW = (
    "id", "machine_id", "actual_status", "intended_status", "cur_state", "next_state", "is_bid",
    "min_bid", "geolocation",
)  # fmt: skip
_LONGEST_REASON = 200


# How offers are read


class Ask(Struct, kw_only=True, gc=False):
    """One offer, its fields in the order of the answer, in which they are found fastest.

    Only id, GPU, size and price must be there.
    """

    id: Id
    machine_id: Id | None = None
    gpu_name: Word
    gpu_arch: Literal["nvidia", "amd"] | None = None
    num_gpus: Count
    gpu_ram: Amount
    """MiB of one GPU."""
    cpu_arch: Literal["amd64", "x86_64", "arm64", "aarch64"] | None = None
    cpu_cores: Amount | None = None
    """Of the whole machine, as is `cpu_ram`."""
    cpu_cores_effective: Amount | None = None
    cpu_ram: Amount | None = None
    bw_nvlink: Amount | None = None
    disk_space: Amount | None = None
    storage_cost: Usd
    """USD per GB and month."""
    inet_up: Amount | None = None
    inet_down: Amount | None = None
    inet_up_cost: Usd | None = None
    inet_down_cost: Usd | None = None
    reliability2: Share | None = None
    verification: Literal["verified", "unverified", "deverified"] | None = None
    rentable: bool | None = None
    rented: bool | None = None
    external: bool | None = None
    cuda_max_good: Amount | None = None
    duration: Amount | None = None
    """Seconds that the host will stay."""
    geolocation: Word | None = None


class OnDemandAsk(Ask, kw_only=True, gc=False):
    """Its price an hour of the whole slice, without disk."""

    price: Usd = msgspec.field(name="dph_base")


class SpotAsk(Ask, kw_only=True, gc=False):
    """Its price the lowest bid for an hour of the whole slice."""

    price: Usd = msgspec.field(name="min_bid", default=0.0)


_ASKS: Mapping[Market, RowReader[Any]] = {
    Market.ON_DEMAND: RowReader(OnDemandAsk, under="offers", provider=NAME),
    Market.SPOT: RowReader(SpotAsk, under="offers", provider=NAME),
}
_KIND = (
    "geolocation", "cuda_max_good", "cpu_arch", "verification", "rentable", "rented", "external",
)  # fmt: skip
"""Few values in thousands of rows: what is made of them is made once. In the loop's order."""


def parse_offers(
    body: bytes,
    *,
    account: str,
    market: Market,
    fetched_at: datetime,
    required: Mapping[str, Any],
) -> tuple[tuple[Offer, ...], tuple[Rejected, ...]]:
    """The offers of a search for `market`, and the rows that are none with the reason.

    `required`: field of _KIND -> the only value wanted, where the row tells one; servers have
    been seen to return rows that their own filters exclude. Raises BadResponse where it is no
    search answer.
    """
    asks, rejected = _ASKS[market].read(body)
    suffix = ":spot" if market is Market.SPOT else ""
    kinds: ComputedOnce[tuple[Any, ...], Offer | None] = ComputedOnce(
        lambda told: _kind(
            dict(zip(_KIND, told, strict=True)), required, account, market, fetched_at
        )
    )
    gpus: ComputedOnce[tuple[str, float], Gpu] = ComputedOnce(
        lambda named: resolve(named[0], memory_mib=named[1] or None)
    )
    per_hour: ComputedOnce[float, Nanos] = ComputedOnce(
        lambda month: nanos(month / HOURS_PER_MONTH)
    )
    per_gb: ComputedOnce[float | None, Nanos] = ComputedOnce(lambda told: nanos(told or 0.0))
    seen, offers = set[int](), list[Offer]()
    # The broker's most frequent work: one loop over local names, what repeats computed once.
    for ask in asks:
        number, count, dollars = ask.id, ask.num_gpus, ask.price
        disk_gb = per_hour[ask.storage_cost]
        kind = kinds[
            ask.geolocation, ask.cuda_max_good, ask.cpu_arch, ask.verification,
            ask.rentable, ask.rented, ask.external,
        ]  # fmt: skip
        if kind is None or not (count and dollars and ask.gpu_name) or number in seen:
            rejected.append((shortened(ask), _fault(ask, seen, required)))
            continue
        seen.add(number)
        share, ram, seconds = ask.cpu_cores_effective, ask.cpu_ram, ask.duration
        if ram and share and (cores := ask.cpu_cores):
            # Of the whole machine's memory, as much as of its cores.
            ram = ram * share / cores / 1000 if share < cores else ram / 1000
        else:
            ram = None
        # Fewer than 16 keywords: from there on CPython builds a dict for each call.
        offers.append(
            replace(
                kind,
                key=str(number) + suffix,
                gpu=gpus[ask.gpu_name, ask.gpu_ram],
                gpu_count=count,
                vcpus=share // 1 if share is not None else None,
                ram_gb=ram,
                disk_max_gb=ask.disk_space,
                price=Price(
                    compute=round(dollars * NANOS_PER_USD),
                    disk_gb=disk_gb,
                    disk_gb_stopped=disk_gb,
                    egress_gb=per_gb[ask.inet_up_cost],
                    ingress_gb=per_gb[ask.inet_down_cost],
                ),
                reliability=ask.reliability2,
                host=str(ask.machine_id) if ask.machine_id else None,
                max_hours=seconds / 3600 if seconds is not None else None,
                down_mbps=ask.inet_down,
                up_mbps=ask.inet_up,
                interconnect="nvlink" if ask.bw_nvlink and count > 1 else None,
            )
        )
    return tuple(offers), tuple(rejected)


def _kind(
    told: Mapping[str, Any],
    required: Mapping[str, Any],
    account: str,
    market: Market,
    fetched_at: datetime,
) -> Offer | None:
    """What all rows share that tell the same; None where it is not what was asked for."""
    if _outside(told, required):
        return None
    place = locate(told["geolocation"] or "")
    cuda, rentable = told["cuda_max_good"], told["rentable"]
    free = Availability.YES if rentable and not told["rented"] else Availability.NO
    return Offer(
        provider=NAME,
        account=account,
        key="",
        gpu=Gpu(name=None, raw="", memory_gb=0.0),
        gpu_count=0,
        kind=Kind.CONTAINER,
        market=market,
        tier=told["verification"] or "",
        arch="arm64" if told["cpu_arch"] in {"arm64", "aarch64"} else "x86_64",
        region=told["geolocation"] or "",
        country=place.country,
        area=place.area,
        price=Price(compute=FREE),
        availability=Availability.UNKNOWN if rentable is None else free,
        min_cuda=str(cuda) if cuda else None,
        source=Source.LIVE,
        fetched_at=fetched_at,
    )


def _outside(told: Mapping[str, Any], required: Mapping[str, Any]) -> str:
    """The first field that is told otherwise than asked for; "" where none is."""
    return next((f for f, wanted in required.items() if told[f] not in (None, wanted)), "")


def _fault(ask: Ask, seen: set[int], required: Mapping[str, Any]) -> str:
    if not ask.num_gpus or not ask.gpu_name:
        return "no GPU"
    if ask.id in seen:
        return "duplicate id"
    field = _outside(msgspec.structs.asdict(ask), required)
    return f"outside the query: {field}" if field else "no price"


class Search(Struct, frozen=True):
    """One search request and how to read its answer."""

    body: Mapping[str, Any]
    covers: Query
    """Exactly what was pushed down, known values only: hosts without a value are not found."""
    required: Mapping[str, Any]
    """What `parse_offers` checks again in each row."""


_spelled = cache(lambda: spellings(GPU_NAMES))


def search(query: Query, market: Market) -> Search:
    """The request for one market. Invalid for an option that is not in OPTIONS."""
    filters, covered = push_down(query, _PUSHED)
    covered |= {"market": market, "strict": True}
    wanted = [_spelled().get(gpu.name, ()) for gpu in query.gpus]
    if wanted and all(wanted):
        names = list(dict.fromkeys(raw for spelled in wanted for raw in spelled))
        filters.append(("gpu_name", "in", names))
        covered["gpus"] = tuple(GpuWanted(raw) for raw in names)
    asks = dict.fromkeys(key.partition(":")[0] for key in query.keys)
    if asks and all(ask.isdecimal() for ask in asks):
        filters.append(("id", "in", [int(ask) for ask in asks]))
        covered["keys"] = query.keys
    chosen = read_options(query, NAME, OPTIONS, _DEFAULTS)
    filters += [(OPTIONS[o].theirs, OPTIONS[o].operator, value) for o, value in chosen.items()]
    if options := options_of(query, NAME):
        covered["options"] = options
    body: dict[str, Any] = {}
    for field, operator, value in filters:
        body.setdefault(field, {})[operator] = value
    body |= {
        "type": _TYPES[market],
        "order": [["dph_total", "asc"]],
        "allocated_storage": query.disk_gb or _USUAL_STORAGE_GB,
        "limit": MOST_OFFERS,
    }
    required: dict[str, Any] = {
        option: chosen[option] for option in ("external", "rentable") if option in chosen
    }
    if chosen.get("verified"):
        required["verification"] = "verified"
    return Search(body, Query(**covered), required)


# What a create sends

_bounds = Bounds(NAME)


def contract(spec: LaunchSpec, offer: Offer, attempt: Attempt) -> dict[str, Any]:
    """The body of a create. Invalid names the field that is out of bounds."""
    require = _bounds.require
    disk = spec.disk_gb if spec.disk_gb is not None else DEFAULT_DISK_GB
    require(disk >= SMALLEST_DISK_GB, "disk_gb", f"at least {SMALLEST_DISK_GB} GB")
    if offer.disk_max_gb is not None:
        require(disk <= offer.disk_max_gb, "disk_gb", f"at most {offer.disk_max_gb:g} GB here")
    _bounds.variables(spec.env, longest=LONGEST_VARIABLE, together=ALL_VARIABLES)
    _bounds.ports(spec.ports, most=MOST_PORTS)
    # Variables and port mappings stand in one object, a mapping as a flag of docker.
    mappings = {f"-p {port}:{port}{'/udp' * (protocol == 'udp')}": "1"
                for port, protocol in spec.ports}  # fmt: skip
    body: dict[str, Any] = {
        "client_id": "me",
        "image": spec.image or DEFAULT_IMAGE,
        "disk": disk,
        "label": attempt.name,
        "runtype": "ssh_direct",
        "env": dict(spec.env) | mappings,
        "target_state": "running",
        "cancel_unavail": True,
    }
    if onstart := _onstart(spec):
        body["onstart"] = onstart
    if offer.market is Market.SPOT:
        body["price"] = bid_usd(spec.bid if spec.bid is not None else offer.price.compute)
    if spec.volumes:
        require(len(spec.volumes) == 1, "volumes", "at most one")
        volume, path = spec.volumes[0]
        number = _bounds.number(volume.id, "volumes")
        body["volume_info"] = {"create_new": False, "volume_id": number, "mount_path": path}
    if login := spec.options.get("image_login"):
        body["image_login"] = login
    elif spec.registry_auth:
        error = Unsupported(f"{NAME} has no store of registry logins", provider=NAME)
        error.capability = "registry_auth"
        raise error
    return body


def _onstart(spec: LaunchSpec) -> str:
    """The variables, the script, then the command beside the SSH server.

    The vendor's ssh run types replace the image's own command, and their SSH sessions see of the
    variables only what stands in /etc/environment.
    """
    text = startup_text(spec.startup_script, spec.command, environment_lines(spec.env))
    own = len(startup_text(spec.startup_script, spec.command))
    field = "startup_script" if own else "env"
    rule = f"at most {LONGEST_STARTUP} characters, the command and the variables included"
    _bounds.require(len(text) <= LONGEST_STARTUP, field, rule)
    return text


def bid_usd(price: Nanos) -> float:
    """A bid as the vendor takes it; Invalid where it takes no such bid."""
    inside = LOWEST_BID * NANOS_PER_USD <= price <= HIGHEST_BID * NANOS_PER_USD
    _bounds.require(inside, "bid", f"${LOWEST_BID} to ${HIGHEST_BID:g} an hour")
    return usd(price)


# How machines, the user and verdicts are read


class PublishedPort(Struct, gc=False):
    """Where a container's port is on the host."""

    HostPort: Word
    HostIp: Word | None = None


class Contract(Struct):
    """One instance. Everything but the id may be missing; its secrets are never read."""

    id: Id
    actual_status: Word | None = None
    intended_status: Word | None = None
    cur_state: Word | None = None
    next_state: Word | None = None
    status_msg: Text | None = None
    label: Text | None = None
    gpu_name: Word | None = None
    num_gpus: Count | None = None
    machine_id: Id | None = None
    dph_total: Usd | None = None
    is_bid: bool | None = None
    min_bid: Usd | None = None
    disk_space: Amount | None = None
    image_uuid: Text | None = None
    geolocation: Word | None = None
    public_ipaddr: Word | None = None
    ssh_host: Word | None = None
    ssh_port: Count | None = None
    ports: Mapping[Word, tuple[PublishedPort, ...] | None] | None = None
    start_date: Amount | None = None
    end_date: Amount | None = None

    @property
    def creation_failed(self) -> bool:
        """Told in the status text alone."""
        failed = "OCI runtime create failed" in (self.status_msg or "")
        return self.actual_status == "created" and failed


class Shown(Struct):
    """Of one instance: the plural key holds one object."""

    instances: Contract | None


class InstancePage(Struct):
    """Of the list. `total` counts all pages of this filter."""

    rows: tuple[Contract, ...] = msgspec.field(name="instances")
    next_token: Text | None = None
    total: Count | None = msgspec.field(name="total_instances", default=None)


class User(Struct):
    """Of users/current."""

    id: Id
    credit: float | None = None


class Verdict(Struct):
    """Of an answer to a change, and of any refusal."""

    success: Any = None
    error: Any = None
    new_contract: Any = None


def state_of(row: Contract) -> State:
    """One word of the vendor's three; UNKNOWN for words that it has not had."""
    return state_by(_STATES, row)


def instance_of(row: Contract, account: str) -> Instance:
    """A machine as the vendor tells it."""
    state = state_of(row)
    carried = parse_name(row.label)
    on = row.cur_state == "running" and state in {State.PENDING, State.UNKNOWN, State.FAILED}
    ports = _ports(row)
    return Instance(
        ref=Ref(NAME, account, "", str(row.id)),
        owner=carried[0] if carried else None,
        attempt=carried[1] if carried else None,
        name=row.label,
        state=state,
        raw_state="/".join(
            w or "-" for w in (row.actual_status, row.intended_status, row.cur_state)
        ),
        reason=(row.status_msg or "")[:_LONGEST_REASON],
        healthy=row.actual_status not in _UNHEARD and state is not State.FAILED,
        pulling=state is State.PENDING and row.actual_status == "loading",
        bills_compute=state in {State.RUNNING, State.STOPPING} or on,
        bills_disk=state is not State.TERMINATED,
        price=nanos(row.dph_total) if row.dph_total is not None else None,
        gpu=row.gpu_name,
        gpu_count=row.num_gpus,
        image=row.image_uuid,
        disk_gb=row.disk_space,
        ssh=_ssh(row, ports) if state is not State.TERMINATED else None,
        ports={inside: outside for inside, outside in ports.items() if inside != "22/tcp"},
        created_at=moment(row.start_date),
        expires_at=moment(row.end_date),
        raw={field: told for field in _RAW if (told := getattr(row, field)) is not None},
    )


def _ports(row: Contract) -> dict[str, str]:
    address = (row.public_ipaddr or "").strip()
    host = f"[{address}]" if ":" in address else address
    told = (row.ports or {}) if address else {}
    return {inside: f"{host}:{outside[0].HostPort}" for inside, outside in told.items() if outside}


def _ssh(row: Contract, ports: Mapping[str, str]) -> Endpoint | None:
    """Direct where port 22 is published, else the vendor's proxy."""
    host, _, port = ports.get("22/tcp", "").rpartition(":")
    if host and port.isdecimal():
        return Endpoint(host=host.strip("[]"), port=int(port), user="root")
    if row.ssh_host and row.ssh_port:
        return Endpoint(host=row.ssh_host.strip(), port=row.ssh_port, user="root")
    return None


def verdict_of(body: bytes) -> Verdict:
    """An empty one where the body is no object."""
    try:
        return msgspec.json.decode(body, type=Verdict)
    except (msgspec.DecodeError, RecursionError):
        return Verdict()


def new_contract(body: bytes) -> int | None:
    """The contract that a create made, in an error answer too."""
    made = verdict_of(body).new_contract
    return made if isinstance(made, int) and not isinstance(made, bool) and made > 0 else None


# How charges are read


class ChargeItem(Struct):
    """One kind of a charge: gpu, disk, bwd, bwu."""

    type: Word
    amount: float
    start: Amount | None = None
    end: Amount | None = None


class Charge(Struct):
    """What one contract was charged in some days. A contract may have several rows."""

    source: Word | None = None
    amount: float = 0.0
    start: Amount | None = None
    end: Amount | None = None
    items: tuple[ChargeItem, ...] = ()

    def lines(self) -> tuple[BillLine, ...]:
        """Its items, or itself where it has none."""
        told = [
            (item, moment(item.start) or moment(self.start), moment(item.end) or moment(self.end))
            for item in self.items or (ChargeItem("total", self.amount),)
        ]
        return tuple(
            BillLine(item.type, signed_nanos(item.amount), start, end)
            for item, start, end in told
            if start and end
        )


class Charges(Struct):
    """A page of them."""

    rows: tuple[Charge, ...] = msgspec.field(name="results")
    next_token: Text | None = None
    total: Count | None = None


# Calls

_TOKEN = "after_token"  # noqa: S105 - a parameter's name
_id = attrgetter("id")
_charge = attrgetter("source", "start", "end", "amount")
"""One contract may have several rows, each with its own time."""


class VastAi(RestCloud):
    """One account at Vast.ai: each call one question."""

    name: ClassVar[str] = NAME
    display_name: ClassVar[str] = "Vast.ai"
    website: ClassVar[str] = "https://vast.ai/"
    credentials: ClassVar[tuple[str, ...]] = ("VAST_AI_API_KEY", "VAST_API_KEY")
    capabilities: ClassVar[Capabilities] = CAPABILITIES
    base_url: ClassVar[str] = "https://console.vast.ai"
    rules: ClassVar[Sequence[Rule]] = RULES
    shown: ClassVar[frozenset[str]] = SHOWN
    keyless: ClassVar[frozenset[str]] = frozenset({"offers"})
    _told: tuple[str, float] | None = None
    """The uid that `whoami` was told, and when."""

    @staticmethod
    def says_no(body: bytes) -> bool:
        """`success` is false, or there is an `error` and no `success`."""
        # Ten megabytes of offers are no refusal, and are not read twice to find out.
        if len(body) > LONGEST_REFUSAL or body[:1] != b"{":
            return False
        said = verdict_of(body)
        return said.success is False or (said.success is None and isinstance(said.error, str))

    async def whoami(self) -> str:
        """The user's number."""
        uid = str((await self._user("whoami")).id)
        self._told = uid, self.http.clock.boot_s()
        return uid

    async def balance(self) -> Nanos:
        """The `credit`: what can be spent. `balance` is the invoice's side of it."""
        user = await self._user("balance")
        if user.credit is None:
            raise self.http.error(BadResponse, "balance", "an answer without `credit`")
        return signed_nanos(user.credit)

    async def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        """One page a market: on-demand, and interruptible as spot."""
        for market in (Market.ON_DEMAND, Market.SPOT):
            if query.market not in {None, market}:
                continue
            asked = search(query, market)
            answer = await self.ask("offers", "POST", "/api/v0/bundles/", asked.body)
            rows, rejected = parse_offers(
                answer.body,
                account=self.account,
                market=market,
                fetched_at=answer.asked_at,
                required=asked.required,
            )
            all_told = len(rows) + len(rejected) < MOST_OFFERS
            complete = all_told and mostly_sound(len(rows), len(rejected))
            yield OfferPage(asked.covers, complete, rows, rejected)

    async def create(
        self, spec: LaunchSpec, offer: Offer, attempt: Attempt, have: Mapping[Any, Ref]
    ) -> Ref:
        """One request. Keys are attached afterwards: given at creation they are unreliable."""
        body = contract(spec, offer, attempt)
        path = f"/api/v0/asks/{_bounds.number(offer.key.partition(':')[0], 'offer')}/"
        hide = (*spec.env.values(), *environment_lines(spec.env))
        answer = await self.send("create", "PUT", path, body, hide=hide)
        made, refused = new_contract(answer.body), self.refused(answer)
        if made is not None and not refused:
            return Ref(self.name, self.account, "", str(made))
        if made is None and refused:
            raise self.refusal("create", answer, hide)
        happened = f"an error that made contract {made}" if refused else "no contract in the answer"
        raise self.http.error(OutcomeUnknown, "create", happened, answer)

    async def attach_key(self, ref: Ref, public_key: str) -> None:
        """Admits one more public key."""
        await self.ask("attach_key", "POST", _path(ref, "ssh/"), {"ssh_key": public_key})

    async def find(self, attempt: Attempt, offer: Offer) -> tuple[Instance, ...]:
        """By label, which is not unique at the vendor but is at ours."""
        found = await self._machines("find", {"label": {"in": [attempt.name]}})
        machines = (instance_of(row, self.account) for row in found.rows)
        return tuple(machine for machine in machines if machine.attempt == attempt.id)

    async def get(self, ref: Ref) -> Instance:
        """NotFound where the vendor shows no contract, in its own words or as null."""
        answer = await self.ask("get", "GET", _path(ref), params={"owner": "me"})
        machine = self.http.decode("get", answer, Shown).instances
        if machine is None:
            error = self.http.error(NotFound, "get", f"no instance {ref.id}", answer)
            error.code = "no_such_instance"
            raise error
        if str(machine.id) != ref.id:
            raise self.http.error(BadResponse, "get", f"another instance than {ref.id}")
        return instance_of(machine, self.account)

    async def list(self, scope: str) -> Listing:
        """All machines of the account, with the account's number read beside them.

        A `whoami` just before is not asked again: the key is the same. It counts once, so that
        of two lists the second never rests on it.
        """
        asked_at = self.http.clock.now()
        told, self._told = self._told, None
        fresh = told is not None and self.http.clock.boot_s() - told[1] < UID_HOLDS_S
        uid = told[0] if told and fresh else str((await self._user("list")).id)
        whole = await self._machines("list", {})
        machines = tuple(instance_of(row, self.account) for row in whole.rows)
        return Listing(uid, scope, whole.complete, asked_at, machines)

    async def terminate(self, ref: Ref) -> None:
        """Destroys the contract and its disk; one that is gone already is fine."""
        try:
            await self.ask("terminate", "DELETE", _path(ref), {})
        except NotFound:
            return

    async def stop(self, ref: Ref) -> None:
        """Keeps the disk, which goes on costing."""
        await self.ask("stop", "PUT", _path(ref), {"state": "stopped"})

    async def start(self, ref: Ref) -> None:
        """NoCapacity where somebody else has its GPU now."""
        await self.ask("start", "PUT", _path(ref), {"state": "running"})

    async def bid(self, ref: Ref, price: Nanos) -> None:
        """Changes the bid of a spot machine, per hour of the whole machine."""
        path = f"/api/v0/instances/bid_price/{_bounds.number(ref.id, 'ref')}/"
        await self.ask("bid", "PUT", path, {"client_id": "me", "price": bid_usd(price)})

    async def billing(self, ref: Ref, since: datetime, until: datetime | None) -> Bill:
        """The charges of this contract. Final only `billing_lag_s` after its end."""
        now = self.http.clock.now()
        first = since.replace(hour=0, minute=0, second=0, microsecond=0)
        last = (until or now) + timedelta(days=1)
        days = {"gte": int(first.timestamp()), "lte": int(last.timestamp())}
        params = {
            "select_filters": json_text({"day": days, "type": {"in": ["instance"]}}),
            "latest_first": "true",
            "limit": str(CHARGES_PAGE),
            "format": "table",
        }
        whole = await self.pages(
            "billing", "/api/v0/charges/", params, Charges, identity=_charge, token_name=_TOKEN
        )
        source = f"instance-{ref.id}"
        ours = [charge for charge in whole.rows if charge.source == source]
        return bill_of(
            [signed_nanos(charge.amount) for charge in ours],
            tuple(line for charge in ours for line in charge.lines()),
            until=until,
            now=now,
            lag_s=self.capabilities.billing_lag_s,
            complete=whole.complete,
            evidence=f"{source}: {len(ours)} charge rows",
        )

    def console_url(self, ref: Ref) -> str | None:
        """The list: there is no page for one machine."""
        return "https://cloud.vast.ai/instances/"

    async def _user(self, operation: str) -> User:
        # No slash: the vendor's client sends none here.
        answer = await self.ask(operation, "GET", "/api/v0/users/current")
        return self.http.decode(operation, answer, User)

    async def _machines(self, operation: str, filters: Mapping[str, Any]) -> Whole[Contract]:
        params = {
            "select_filters": json_text(filters),
            "order_by": '[{"col": "id", "dir": "asc"}]',
            "limit": str(LIST_PAGE),
        }
        return await self.pages(
            operation, "/api/v1/instances/", params, InstancePage, identity=_id, token_name=_TOKEN
        )


def _path(ref: Ref, below: str = "") -> str:
    return f"/api/v0/instances/{_bounds.number(ref.id, 'ref')}/{below}"
