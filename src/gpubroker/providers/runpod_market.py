"""RunPod's market: one GraphQL document asks for all prices and stock, without a key.

REST v2 tells no prices. A document is asked for many combinations at once, an alias each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import product
from typing import Any

import msgspec
from msgspec import Struct

from gpubroker.catalog.gpus import resolve
from gpubroker.model.money import HOURS_PER_MONTH, Nanos, nanos
from gpubroker.model.offer import Offer, Price
from gpubroker.model.query import Query
from gpubroker.model.terms import Availability, Kind, Market
from gpubroker.providers import graphql
from gpubroker.providers.fields import Amount, Count, Usd, Word
from gpubroker.providers.offering import live, placed
from gpubroker.providers.quarantine import Rejected, RowReader, mostly_sound, shortened

NAME = "runpod"
ANYWHERE = "any"
"""In the place of a data center."""
MOST_COUNTED, MOST_GPUS = 8, 16
"""GPUs of one machine: those that a search asks about by itself, and the most that it can."""
DISK_MONTH_USD = 0.10
"""Per GB, while it runs."""
_STOCK: Mapping[str, Availability] = {
    "high": Availability.YES,
    "medium": Availability.YES,
    "low": Availability.YES,
    "": Availability.NO,
    "none": Availability.NO,
}
SECURE, COMMUNITY = "SECURE", "COMMUNITY"
NO_GPU = "unknown"
"""An id in the vendor's list that names no GPU."""


class Asked(Struct, frozen=True):
    """One `lowestPrice` of the document, by its alias."""

    cloud: str
    count: int
    center: str = ""
    """Data center id; "" for the whole cloud."""

    @property
    def input(self) -> dict[str, Any]:
        """The variable's value."""
        told: dict[str, Any] = {"gpuCount": self.count, "secureCloud": self.cloud == SECURE}
        if self.cloud == COMMUNITY:
            # A host without a public address is never rented, whatever it costs.
            told["supportPublicIp"] = True
        return told | ({"dataCenterId": self.center} if self.center else {})


class Stocked(Struct, rename="camel", gc=False):
    """Whatever tells its stock."""

    stock_status: Word | None = None

    @property
    def stock(self) -> Availability:
        """No word is no stock; a word that we do not know is no evidence."""
        return _STOCK.get((self.stock_status or "").casefold(), Availability.UNKNOWN)


class Lowest(Stocked, rename="camel", gc=False):
    """Prices for one GPU and an hour, size of the whole machine at that many GPUs."""

    minimum_bid_price: Usd | None = None
    uninterruptable_price: Usd | None = None
    min_vcpu: Amount | None = None
    min_memory: Amount | None = None


class GpuType(Struct, rename="camel"):
    """One GPU type, its list prices for one GPU and an hour."""

    id: Word
    memory_in_gb: Amount | None = None
    secure_cloud: bool | None = None
    community_cloud: bool | None = None
    max_gpu_count_secure_cloud: Count | None = None
    max_gpu_count_community_cloud: Count | None = None
    min_pod_gpu_count: Count | None = None
    secure_price: Usd | None = None
    community_price: Usd | None = None
    secure_spot_price: Usd | None = None
    community_spot_price: Usd | None = None

    def in_cloud(self, cloud: str) -> tuple[bool, int, float | None, float | None]:
        """(sold there, most GPUs of a machine, list price, list price of spot)."""
        if cloud == SECURE:
            sold, most = self.secure_cloud, self.max_gpu_count_secure_cloud
            return bool(sold), most or 1, self.secure_price, self.secure_spot_price
        sold, most = self.community_cloud, self.max_gpu_count_community_cloud
        return bool(sold), most or 1, self.community_price, self.community_spot_price


class CenterStock(Stocked, rename="camel", gc=False):
    """Of one GPU type in one data center."""

    gpu_type_id: Word | None = None


class DataCenter(Struct, rename="camel"):
    """One data center; those not `listed` cannot be asked for."""

    id: Word
    listed: bool | None = None
    gpu_availability: tuple[CenterStock, ...] | None = None


class Told(Struct, frozen=True):
    """What one answer says of the market."""

    rows: tuple[tuple[GpuType, Mapping[Asked, Lowest | None]], ...]
    centers: Mapping[str, Sequence[str]]
    """GPU type -> data centers that have it."""
    rejected: tuple[Rejected, ...]
    whole: bool


_LOWEST = "{ " + " ".join(Lowest.__struct_encode_fields__) + " }"
_TYPE = " ".join(GpuType.__struct_encode_fields__)
_CENTER_ROWS = RowReader(DataCenter, under="dataCenters", provider=NAME)
_CENTERS = "dataCenters { id listed gpuAvailability { gpuTypeId stockStatus } }"


def document(asked: Sequence[Asked]) -> dict[str, Any]:
    """The request that asks all of it at once; without a key it is answered too."""
    aliases = [f"p{at}" for at, _ in enumerate(asked)]
    declared = ", ".join(f"${alias}: GpuLowestPriceInput" for alias in aliases)
    prices = " ".join(f"{alias}: lowestPrice(input: ${alias}) {_LOWEST}" for alias in aliases)
    places = "" if _is_near(asked) else f"{_CENTERS} "
    text = f"query Market({declared}) {{ {places}gpuTypes {{ {_TYPE} {prices} }} }}"
    return graphql.payload(
        text, {alias: one.input for alias, one in zip(aliases, asked, strict=True)}
    )


@cache
def _reader(prices: int) -> RowReader[Any]:
    fields = [(f"p{at}", Lowest | None, None) for at in range(prices)]
    row = msgspec.defstruct("PricedGpuType", fields, bases=(GpuType,))
    return RowReader(row, under="gpuTypes", provider=NAME)


def read_market(body: bytes, asked: Sequence[Asked]) -> Told:
    """What an answer to `document(asked)` says. BadResponse where it is no such answer."""
    data = graphql.data_of(body)
    rows, rejected = _reader(len(asked)).read(data)
    centers, bad_centers = ([], []) if _is_near(asked) else _CENTER_ROWS.read(data)
    having: dict[str, list[str]] = {}
    for center in centers:
        for of_type in (center.gpu_availability or ()) if center.listed is not False else ():
            if of_type.gpu_type_id and of_type.stock is not Availability.NO:
                having.setdefault(_squeezed(of_type.gpu_type_id), []).append(center.id)
    told = tuple(
        (row, {one: getattr(row, f"p{at}") for at, one in enumerate(asked)})
        for row in rows
        if row.id != NO_GPU
    )
    sound = mostly_sound(len(rows), len(rejected)) and not graphql.has_errors(body)
    return Told(told, having, (*rejected, *bad_centers), sound and not bad_centers)


def _is_near(asked: Sequence[Asked]) -> bool:
    """Whether data centers are asked about one by one: which there are is known then."""
    return any(one.center for one in asked)


def parse_offers(
    told: Told, *, account: str, fetched_at: datetime
) -> tuple[tuple[Offer, ...], tuple[Rejected, ...]]:
    """One offer for each type, count, cloud, data center and market that is told.

    A data center tells its stock for one GPU: for more it is known only where the answer was
    asked for that center, or no other center has the type.
    """
    shared = live(NAME, account, Kind.CONTAINER, fetched_at)
    offers: dict[str, Offer] = {}
    rejected = list(told.rejected)
    for row, prices in told.rows:
        centers = told.centers.get(_squeezed(row.id), ())
        found = [
            offer
            for one, lowest in prices.items()
            for offer in _offers_of(row, one, lowest or Lowest(), centers, shared)
        ]
        if not found and (row.secure_cloud or row.community_cloud):
            rejected.append((shortened(row), "no price"))
        offers.update((offer.key, offer) for offer in found)
    return tuple(offers.values()), tuple(rejected)


def _offers_of(
    row: GpuType, one: Asked, lowest: Lowest, centers: Sequence[str], shared: Mapping[str, Any]
) -> Iterator[Offer]:
    sold, most, on_demand, spot = row.in_cloud(one.cloud)
    if not sold or not (row.min_pod_gpu_count or 1) <= one.count <= most:
        return
    places = asked = {one.center: lowest.stock}
    if not one.center and one.cloud == SECURE and centers and lowest.stock is not Availability.NO:
        sure = one.count == 1 or len(centers) == 1
        places = dict.fromkeys(centers, lowest.stock if sure else Availability.UNKNOWN)
    # A bid that is enough somewhere need not be enough in each data center.
    of_bids = places if len(places) == 1 else asked
    sales = (
        (Market.ON_DEMAND, lowest.uninterruptable_price or on_demand, places),
        (Market.SPOT, lowest.minimum_bid_price or spot, of_bids),
    )
    sold_at = (
        (market, dollars, center, available)
        for market, dollars, where in sales
        for center, available in where.items()
        if dollars
    )
    for market, dollars, center, available in sold_at:
        yield Offer(
            **shared,
            **placed(center),
            key=offer_key(row.id, one.count, one.cloud, center, market),
            gpu=resolve(row.id, memory_gb=row.memory_in_gb or None),
            gpu_count=one.count,
            market=market,
            tier=one.cloud.lower(),
            vcpus=lowest.min_vcpu or None,
            ram_gb=lowest.min_memory or None,
            # The disk that is priced is the container's, which ends with a stop.
            price=Price(compute=Nanos(nanos(dollars) * one.count), disk_gb=_DISK),
            # The stock is told for on-demand: it does not say that a bid wins.
            availability=_LIKELY[available] if market is Market.SPOT else available,
            datacenter=one.cloud == SECURE,
        )


_DISK = nanos(DISK_MONTH_USD / HOURS_PER_MONTH)
_LIKELY = {available: available for available in Availability} | {
    Availability.YES: Availability.UNKNOWN
}


def offer_key(gpu_id: str, count: int, cloud: str, center: str, market: Market) -> str:
    """`NVIDIA_RTX_A4000:2:secure:EU-RO-1:spot`: "_" is a space, "any" no data center."""
    spelled = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in ".-") else
        "_" if letter == " " else f"~{ord(letter):02X}~"
        for letter in gpu_id
    )  # fmt: skip
    parts = [spelled, str(count), cloud.lower(), center or ANYWHERE]
    return ":".join([*parts, "spot"] if market is Market.SPOT else parts)


def _squeezed(gpu_id: str) -> str:
    """Some ids are told with two spaces in one place and with one in another."""
    return " ".join(gpu_id.split())


def overview(query: Query) -> tuple[Asked, ...]:
    """Both clouds at every count that machines have; above MOST_COUNTED only where asked for."""
    named = [gpu.count for gpu in query.gpus] + [query.min_count, query.max_count]
    most = max([MOST_COUNTED, *(count for count in named if count and count <= MOST_GPUS)])
    return tuple(Asked(*one) for one in product((SECURE, COMMUNITY), range(1, most + 1)))


def closer(query: Query, told: Told) -> tuple[Asked, ...]:
    """Each data center with stock, where one count is asked for, of several GPUs or as spot."""
    counts = {gpu.count for gpu in query.gpus if gpu.count}
    if query.min_count and query.min_count == query.max_count:
        counts.add(query.min_count)
    fewest = 1 if query.market is Market.SPOT else 2
    if len(counts) != 1 or not fewest <= min(counts) <= MOST_GPUS:
        return ()
    if query.tier is not None and query.tier.upper() != SECURE:
        return ()
    centers = sorted({center for having in told.centers.values() for center in having})
    return tuple(Asked(SECURE, min(counts), center) for center in centers)


def covered(told: Told, asked: Sequence[Asked]) -> Query | None:
    """Everything, unless a type has machines with more GPUs than were asked about."""
    most = max(one.count for one in asked)
    largest = [
        row.in_cloud(cloud)[1] for row, _ in told.rows for cloud in {one.cloud for one in asked}
    ]
    return Query(max_count=most, strict=True) if max(largest, default=0) > most else None
