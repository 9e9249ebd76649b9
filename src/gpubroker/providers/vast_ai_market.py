"""Vast.ai's market: what a search asks, and the offers of its answer.

A search has no pages, and hosts by the thousand: what a query asks for is pushed down as far as
the vendor filters it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gpubroker.catalog.gpus import resolve
from gpubroker.model.gpu import Gpu
from gpubroker.model.money import FREE, NANOS_PER_USD, Nanos, nanos
from gpubroker.model.offer import Offer, Price
from gpubroker.model.query import GpuWanted, Query
from gpubroker.model.terms import Availability, Kind, Market
from gpubroker.providers.computed_once import ComputedOnce
from gpubroker.providers.fields import Amount, Count, Id, Share, Usd, Word
from gpubroker.providers.offering import live, placed
from gpubroker.providers.pushdown import (
    Option,
    Pushed,
    options_of,
    push_down,
    read_options,
    spellings,
    yes_or_no,
)
from gpubroker.providers.quarantine import Rejected, RowReader, shortened

NAME = "vast_ai"
MOST_OFFERS = 3000
"""Of one search: it has no pages."""
HOURS_PER_MONTH = 720
"""The vendor's storage month: 30 days."""

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


class Ask(Struct, kw_only=True, gc=False):
    """One offer, its fields in the order of the answer, in which they are found fastest.

    Only id, GPU, size and what is paid for must be there.
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
    inet_up_cost: Usd
    inet_down_cost: Usd
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
    per_gb: ComputedOnce[float, Nanos] = ComputedOnce(nanos)
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
    cuda, rentable = told["cuda_max_good"], told["rentable"]
    free = Availability.YES if rentable and not told["rented"] else Availability.NO
    return Offer(
        **live(NAME, account, Kind.CONTAINER, fetched_at),
        **placed(told["geolocation"] or ""),
        key="",
        gpu=Gpu(name=None, raw="", memory_gb=0.0),
        gpu_count=0,
        market=market,
        tier=told["verification"] or "",
        arch="arm64" if told["cpu_arch"] in {"arm64", "aarch64"} else "x86_64",
        price=Price(compute=FREE),
        availability=Availability.UNKNOWN if rentable is None else free,
        min_cuda=str(cuda) if cuda else None,
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
