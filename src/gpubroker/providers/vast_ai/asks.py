"""What Vast.ai answers to a search: bytes in, offers out, no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gpubroker.catalog.gpus import resolve
from gpubroker.catalog.places import Place, locate
from gpubroker.model.errors import BadResponse
from gpubroker.model.gpu import Gpu
from gpubroker.model.money import NANOS_PER_USD, Nanos
from gpubroker.model.offer import Offer, Price
from gpubroker.model.terms import Availability, Kind, Market, Source
from gpubroker.providers.exchange import tolerant_json
from gpubroker.providers.fields import Amount, Count, Id, Share, Usd, Word
from gpubroker.providers.vast_ai.facts import NAME

HOURS_PER_MONTH = 720
"""The vendor's storage month: 30 days."""
RAW_ROW = 200
_ARCH: Mapping[str, Literal["x86_64", "arm64"]] = {
    "amd64": "x86_64",
    "x86_64": "x86_64",
    "arm64": "arm64",
    "aarch64": "arm64",
}


class Ask(Struct, gc=False):
    """One offer. Only `id`, GPU, size and price must be there."""

    id: Id
    gpu_name: Word
    num_gpus: Count
    gpu_ram: Amount
    """MiB of one GPU."""
    dph_base: Usd
    """An hour of the whole slice, without disk."""
    storage_cost: Usd
    """USD per GB and month."""
    machine_id: Id | None = None
    min_bid: Usd | None = None
    cpu_cores: Amount | None = None
    """Of the whole machine, as is `cpu_ram`."""
    cpu_cores_effective: Amount | None = None
    cpu_ram: Amount | None = None
    disk_space: Amount | None = None
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
    gpu_arch: Literal["nvidia", "amd"] | None = None
    cpu_arch: Literal["amd64", "x86_64", "arm64", "aarch64"] | None = None
    bw_nvlink: Amount | None = None
    duration: Amount | None = None
    """Seconds that the host will stay."""
    geolocation: Word | None = None


class Asks(Struct):
    """The answer to a search."""

    offers: list[Ask]


_DECODER = msgspec.json.Decoder(Asks)
Rejected = tuple[str, str]


def parse_offers(
    body: bytes,
    *,
    account: str,
    market: Market,
    fetched_at: datetime,
    required: Mapping[str, Any],
) -> tuple[tuple[Offer, ...], tuple[Rejected, ...]]:
    """The offers of a search for `market`, and the rows that are none with the reason.

    `required`: field -> the only value wanted, where the row tells one; servers have been seen
    to return rows that their own filters exclude. Raises BadResponse where it is no search answer.
    """
    rejected: list[Rejected] = []
    try:
        asks = _DECODER.decode(body).offers
    except msgspec.DecodeError:
        # One bad row would cost all: read them one by one.
        asks, rejected = _one_by_one(body)
    rows: list[Offer] = []
    seen: set[int] = set()
    gpus: dict[tuple[str, float], Gpu] = {}
    places: dict[str, Place] = {}
    checks = tuple(required.items())
    spot = market is Market.SPOT
    for ask in asks:
        reason = _outside(ask, checks) or _unfit(ask, spot)
        if ask.id in seen:
            reason = "duplicate id"
        if reason:
            rejected.append((msgspec.json.encode(ask)[:RAW_ROW].decode("utf-8", "replace"), reason))
            continue
        seen.add(ask.id)
        name, memory = ask.gpu_name, ask.gpu_ram
        gpu = gpus.get((name, memory))
        if gpu is None:
            gpu = gpus[name, memory] = resolve(name, memory_mib=memory or None)
        region = ask.geolocation or ""
        place = places.get(region)
        if place is None:
            place = places[region] = locate(region)
        rows.append(_offer(ask, account, market, spot, gpu, region, place, fetched_at))
    return tuple(rows), tuple(rejected)


def _one_by_one(body: bytes) -> tuple[list[Ask], list[Rejected]]:
    try:
        decoded = tolerant_json(body)
    except ValueError as fault:
        raise BadResponse(
            f"not a search answer: {fault}", provider=NAME, operation="offers"
        ) from None
    raw_rows = decoded.get("offers") if isinstance(decoded, dict) else None
    if not isinstance(raw_rows, list):
        raise BadResponse("an answer without offers", provider=NAME, operation="offers")
    asks: list[Ask] = []
    rejected: list[Rejected] = []
    for raw in raw_rows:
        try:
            asks.append(msgspec.convert(raw, Ask))
        except msgspec.ValidationError as fault:
            rejected.append((_shortened(raw), str(fault)[:RAW_ROW]))
    return asks, rejected


def _shortened(raw: Any) -> str:
    """The start of a row, without paying for ten megabytes of it."""
    if isinstance(raw, dict):
        parts = (f"{str(name)[:40]}: {str(value)[:40]}" for name, value in list(raw.items())[:12])
        return "; ".join(parts)[:RAW_ROW]
    return (raw if isinstance(raw, str) else str(type(raw)))[:RAW_ROW]


def _outside(ask: Ask, checks: Sequence[tuple[str, Any]]) -> str:
    for field, wanted in checks:
        told = getattr(ask, field)
        if told is not None and told != wanted:
            return f"outside the query: {field}"
    return ""


def _unfit(ask: Ask, spot: bool) -> str:
    if not ask.num_gpus or not ask.gpu_name:
        return "no GPU"
    if spot and not ask.min_bid:
        return "no bid price"
    if not spot and not ask.dph_base:
        return "no price"
    return ""


def _offer(
    ask: Ask,
    account: str,
    market: Market,
    spot: bool,
    gpu: Gpu,
    region: str,
    place: Place,
    fetched_at: datetime,
) -> Offer:
    cores, share, ram = ask.cpu_cores, ask.cpu_cores_effective, ask.cpu_ram
    storage = Nanos(round(ask.storage_cost * NANOS_PER_USD / HOURS_PER_MONTH))
    compute = (ask.min_bid or 0.0) if spot else ask.dph_base
    duration, cuda = ask.duration, ask.cuda_max_good
    return Offer(
        provider=NAME,
        account=account,
        key=f"{ask.id}:spot" if spot else str(ask.id),
        gpu=gpu,
        gpu_count=ask.num_gpus,
        kind=Kind.CONTAINER,
        market=market,
        tier=ask.verification or "",
        vcpus=float(int(share)) if share is not None else None,
        ram_gb=round(ram * min(1.0, share / cores) / 1000, 2) if ram and share and cores else None,
        disk_max_gb=ask.disk_space,
        arch=_ARCH[ask.cpu_arch] if ask.cpu_arch else "x86_64",
        region=region,
        country=place.country,
        area=place.area,
        price=Price(
            compute=Nanos(round(compute * NANOS_PER_USD)),
            disk_gb=storage,
            disk_gb_stopped=storage,
            egress_gb=Nanos(round((ask.inet_up_cost or 0.0) * NANOS_PER_USD)),
            ingress_gb=Nanos(round((ask.inet_down_cost or 0.0) * NANOS_PER_USD)),
        ),
        availability=_availability(ask),
        reliability=ask.reliability2,
        host=str(ask.machine_id) if ask.machine_id else None,
        max_hours=duration / 3600 if duration is not None else None,
        min_cuda=str(cuda) if cuda else None,
        down_mbps=ask.inet_down,
        up_mbps=ask.inet_up,
        interconnect="nvlink" if ask.bw_nvlink and ask.num_gpus > 1 else None,
        source=Source.LIVE,
        fetched_at=fetched_at,
    )


def _availability(ask: Ask) -> Availability:
    if ask.rentable is None:
        return Availability.UNKNOWN
    return Availability.YES if ask.rentable and not ask.rented else Availability.NO
