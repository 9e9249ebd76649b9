"""What Hyperstack sells: its flavors, each priced by the pricebook, GPU by GPU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from msgspec import Struct

from gpubroker.catalog.gpus import resolve
from gpubroker.model.money import FREE, Nanos, nanos
from gpubroker.model.offer import Offer, Price
from gpubroker.model.terms import Availability, Kind, Market
from gpubroker.providers.fields import Amount, Count, Word
from gpubroker.providers.newest import newest
from gpubroker.providers.offering import Gathered, live, placed
from gpubroker.providers.quarantine import Rejected, RowReader

NAME = "hyperstack"
INCREMENT_S = 60
"""Billed by the minute."""

_SPOT = "-spot"
_WITHOUT_HIBERNATION = frozenset({("RTX-A4000", ""), ("H100-80G-SXM5", "US-1")})
"""(GPU, region; "" for all): Hyperstack docs, flavor features. Others are marked by a label."""
_NO_HIBERNATION = "no_hibernation"


class Label(Struct):
    """A mark of a flavor."""

    label: Word = ""


class Flavor(Struct):
    """What a machine is, the same in offers and on its record. No GPU: a plain computer."""

    name: Word
    gpu: Word | None = None
    gpu_count: Count | None = None
    cpu: Count | None = None
    ram: Amount | None = None
    disk: Amount | None = None
    stock_available: bool | None = None
    labels: tuple[Label, ...] | None = None
    features: Mapping[str, Any] | None = None

    @property
    def model(self) -> str:
        """Its GPU, by the name that it has in either market."""
        return (self.gpu or "").removesuffix(_SPOT)

    def hibernates(self, region: str) -> bool:
        """Whether it can be stopped without being billed on."""
        marks = {one.label.replace("-", "_") for one in self.labels or ()}
        if _NO_HIBERNATION in marks or (self.features or {}).get(_NO_HIBERNATION):
            return False
        return _WITHOUT_HIBERNATION.isdisjoint({(self.model, ""), (self.model, region)})


class Flavors(Struct):
    """Those with one GPU in one region; each is read on its own."""

    region_name: Word
    flavors: tuple[Any, ...]


class Listed(Struct):
    """An hour of one unit of something."""

    name: Word
    value: float | Word


class Image(Struct):
    """An operating system; one that is not public is the account's own."""

    name: Word
    is_public: bool | None = None


class Images(Struct):
    """Those of one kind in one region."""

    region_name: Word
    images: tuple[Image, ...]


_groups = RowReader(Flavors, under="data", provider=NAME)
_flavors = RowReader(Flavor, under="", provider=NAME)
_pricebook = RowReader(Listed, under="", provider=NAME)


def prices_of(body: bytes) -> dict[str, Nanos]:
    """The pricebook: NAME in capitals -> USD per hour and unit."""
    prices = {}
    for row in _pricebook.read(body)[0]:
        with suppress(ValueError, ArithmeticError):
            prices[row.name.upper()] = nanos(row.value)
    return prices


def images_of(groups: Iterable[Images]) -> dict[str, str]:
    """Region -> its newest Ubuntu, one with Docker and CUDA before others; of the vendor's own."""
    names: dict[str, list[str]] = {}
    for group in groups:
        names.setdefault(group.region_name, []).extend(
            image.name for image in group.images if image.is_public
        )
    best = {region: newest(there, "ubuntu", "docker", "cuda") for region, there in names.items()}
    return {region: name for region, name in best.items() if name}


def parse_offers(
    body: bytes,
    *,
    account: str,
    fetched_at: datetime,
    prices: Mapping[str, Nanos],
    images: Mapping[str, str],
) -> tuple[tuple[Offer, ...], tuple[Rejected, ...]]:
    """One offer a flavor and region, and the flavors that are none with the reason.

    `prices`, `images`: as `prices_of` and `images_of` tell them. Flavors without GPU are left out.
    Raises BadResponse where it is no answer of this call.
    """
    groups, rejected = _groups.read(body)
    shared, found = live(NAME, account, Kind.VM, fetched_at), Gathered(rejected)
    beside = _beside(prices)
    for group in groups:
        flavors, faulty = _flavors.each(group.flavors)
        rejected += faulty
        for flavor in flavors:
            if flavor.gpu and flavor.gpu_count:
                # One that is sold as spot never falls back to the price on demand.
                one = prices.get(flavor.gpu.upper(), FREE)
                price = Price(compute=Nanos(one * flavor.gpu_count), **beside)
                found.add(flavor, _offer(flavor, group.region_name, price, images, shared))
    return found.told()


def _beside(prices: Mapping[str, Nanos]) -> dict[str, Any]:
    """Of the pricebook what is charged beside the flavor: its address, its disk when it is off.

    A machine that hibernates keeps its address, which costs on.
    """
    addresses = [price for name, price in prices.items() if "PUBLIC" in name and "IP" in name]
    disks = [price for name, price in prices.items() if "SSD" in name]
    address, disk = max(addresses, default=FREE), max(disks, default=FREE)
    return {
        "extras": address,
        "stopped": address,
        "disk_gb_stopped": disk,
        "increment_s": INCREMENT_S,
    }


def _offer(
    flavor: Flavor, region: str, price: Price, images: Mapping[str, str], shared: Mapping[str, Any]
) -> Offer:
    free = {True: Availability.YES, False: Availability.NO, None: Availability.UNKNOWN}
    spot = (flavor.gpu or "").endswith(_SPOT)
    return Offer(
        **shared,
        **placed(region, provider=NAME),
        key=f"{flavor.name}:{region}",
        gpu=resolve(flavor.model),
        gpu_count=flavor.gpu_count or 0,
        market=Market.SPOT if spot else Market.ON_DEMAND,
        vcpus=flavor.cpu or None,
        ram_gb=flavor.ram or None,
        disk_gb=flavor.disk or None,
        price=price,
        availability=free[flavor.stock_available],
        datacenter=True,
        launch={"image": images[region]} if region in images else {},
    )
