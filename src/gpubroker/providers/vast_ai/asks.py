"""What Vast.ai answers to a search: bytes in, offers out, no network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from operator import attrgetter
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gpubroker.catalog.gpus import resolve
from gpubroker.catalog.places import locate
from gpubroker.model.errors import BadResponse
from gpubroker.model.money import NANOS_PER_USD, Nanos
from gpubroker.model.offer import Offer, Price
from gpubroker.model.terms import Availability, Kind, Market, Source
from gpubroker.providers.exchange import tolerant_json
from gpubroker.providers.fields import Amount, Count, Id, Share, Usd, Word
from gpubroker.providers.vast_ai.facts import NAME

HOURS_PER_MONTH = 720
"""The vendor's storage month: 30 days."""
RAW_ROW = 200
SHOWN_FIELDS = 12
_ARCH: Mapping[str | None, Literal["x86_64", "arm64"]] = {
    None: "x86_64",
    "amd64": "x86_64",
    "x86_64": "x86_64",
    "arm64": "arm64",
    "aarch64": "arm64",
}
_AVAILABILITY = {
    (rentable, rented): Availability.UNKNOWN
    if rentable is None
    else (Availability.YES if rentable and not rented else Availability.NO)
    for rentable in (None, True, False)
    for rented in (None, True, False)
}
_CONTAINER, _LIVE = Kind.CONTAINER, Source.LIVE


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
    dph_base: Usd
    """An hour of the whole slice, without disk."""
    min_bid: Usd | None = None
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
    except (msgspec.DecodeError, RecursionError):
        # One bad row would cost all: read them one by one.
        asks, rejected = _one_by_one(body)
    asks = _wanted(asks, required, market, rejected)
    return tuple(_offers(asks, account, market, fetched_at)), tuple(rejected)


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
        pairs = islice(raw.items(), SHOWN_FIELDS)
        return "; ".join(f"{name[:40]}: {_word(value)}" for name, value in pairs)[:RAW_ROW]
    return _word(raw)[:RAW_ROW]


def _word(value: Any) -> str:
    if isinstance(value, str):
        return value[:40]
    return type(value).__name__ if isinstance(value, dict | list) else str(value)[:40]


def _wanted(
    asks: list[Ask], required: Mapping[str, Any], market: Market, rejected: list[Rejected]
) -> list[Ask]:
    """The asks that can be offers, each once; the others go to `rejected`."""
    price = attrgetter("min_bid" if market is Market.SPOT else "dph_base")
    told = attrgetter(*required, "id") if required else None
    values = tuple(required.values())
    seen: set[int] = set()
    kept: list[Ask] = []
    for ask in asks:
        sound = ask.num_gpus and ask.gpu_name and price(ask) and ask.id not in seen
        if sound and (told is None or told(ask)[:-1] == values or not _outside(ask, required)):
            seen.add(ask.id)
            kept.append(ask)
        else:
            raw = msgspec.json.encode(ask)[:RAW_ROW].decode("utf-8", "replace")
            rejected.append((raw, _reason(ask, required, seen)))
    return kept


def _outside(ask: Ask, required: Mapping[str, Any]) -> str:
    """The first field that is told otherwise than asked for; "" where none is."""
    for field, wanted in required.items():
        told = getattr(ask, field)
        if told is not None and told != wanted:
            return field
    return ""


def _reason(ask: Ask, required: Mapping[str, Any], seen: set[int]) -> str:
    if not ask.num_gpus or not ask.gpu_name:
        return "no GPU"
    if ask.id in seen:
        return "duplicate id"
    field = _outside(ask, required)
    return f"outside the query: {field}" if field else "no price"


class _Cached(dict[Any, Any]):
    """What is computed once a value, for the few hundred values in thousands of rows."""

    def __init__(self, compute: Callable[[Any], Any]) -> None:
        super().__init__()
        self._compute = compute

    def __missing__(self, value: Any) -> Any:
        self[value] = computed = self._compute(value)
        return computed


def _offers(asks: list[Ask], account: str, market: Market, fetched_at: datetime) -> Iterator[Offer]:
    """One loop over local names: this is the broker's most frequent work."""
    spot = market is Market.SPOT
    gpus = _Cached(lambda named: resolve(named[0], memory_mib=named[1] or None))
    places = _Cached(locate)
    storage = _Cached(lambda month: round(month * NANOS_PER_USD / HOURS_PER_MONTH))
    transfer = _Cached(lambda gigabyte: round((gigabyte or 0.0) * NANOS_PER_USD))
    versions = _Cached(lambda cuda: str(cuda) if cuda else None)
    arch, availability = _ARCH, _AVAILABILITY
    for ask in asks:
        cores, share, ram = ask.cpu_cores, ask.cpu_cores_effective, ask.cpu_ram
        if ram and share and cores:
            # Of the whole machine's memory, as much as of its cores; to 10 MB.
            ram = int((ram * share / cores if share < cores else ram) / 10) / 100
        else:
            ram = None
        region = ask.geolocation or ""
        place = places[region]
        disk_gb = storage[ask.storage_cost]
        count, duration = ask.num_gpus, ask.duration
        yield Offer(
            provider=NAME,
            account=account,
            key=f"{ask.id}:spot" if spot else str(ask.id),
            gpu=gpus[ask.gpu_name, ask.gpu_ram],
            gpu_count=count,
            kind=_CONTAINER,
            market=market,
            tier=ask.verification or "",
            vcpus=share // 1 if share is not None else None,
            ram_gb=ram,
            disk_max_gb=ask.disk_space,
            arch=arch[ask.cpu_arch],
            region=region,
            country=place.country,
            area=place.area,
            price=Price(
                compute=Nanos(
                    round(((ask.min_bid or 0.0) if spot else ask.dph_base) * NANOS_PER_USD)
                ),
                disk_gb=disk_gb,
                disk_gb_stopped=disk_gb,
                egress_gb=transfer[ask.inet_up_cost],
                ingress_gb=transfer[ask.inet_down_cost],
            ),
            availability=availability[ask.rentable, ask.rented],
            reliability=ask.reliability2,
            host=str(ask.machine_id) if ask.machine_id else None,
            max_hours=duration / 3600 if duration is not None else None,
            min_cuda=versions[ask.cuda_max_good],
            down_mbps=ask.inet_down,
            up_mbps=ask.inet_up,
            interconnect="nvlink" if count > 1 and ask.bw_nvlink else None,
            source=_LIVE,
            fetched_at=fetched_at,
        )
