"""What Jarvis Labs sells: one answer for all regions, a row for each server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gpubroker.catalog.gpus import resolve
from gpubroker.model.gpu import Gpu
from gpubroker.model.money import FREE, HOURS_PER_MONTH, Nanos, nanos
from gpubroker.model.offer import Offer, Price
from gpubroker.model.terms import Availability, Kind, Market
from gpubroker.providers.fields import Amount, Usd, Word
from gpubroker.providers.offering import Gathered, live, placed
from gpubroker.providers.quarantine import Rejected, RowReader

NAME = "jarvislabs"
DEFAULT_REGION = "india-noida-01"
HOSTS = {
    DEFAULT_REGION: "https://backendn.jarvislabs.net",
    "india-chennai-01": "https://backendc.jarvislabs.net",
    "europe-01": "https://backendeu.jarvislabs.net",
    "india-01": "https://backendprod.jarvislabs.net",
}
"""Of what changes a machine, by region. No call lists them; the vendor's client has this table."""
ONE_GPU_ONLY = frozenset({"europe-01"})
"""Where the vendor's client allows no more (jarvislabs 0.2.19)."""
LARGEST_DISK_GB = 2048
STORAGE = Nanos(round(nanos(0.10) / HOURS_PER_MONTH))
"""Per GB and hour, running or paused: "about $0.10 per GB and month"."""
INCREMENT_S = 60
MOST_GPUS = 16
MEANT = {"A100": "A100 40GB", "H100": "H100 SXM"}
"""What its shortest names stand for here."""

_NUMBER = re.compile(r"\s*([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*[A-Za-z]{0,3}\s*")
Number = Amount | Word | None
"""`3`, `"8"`, `"112GB"`, `""`: the vendor writes all of them."""


def amount(of: Number, otherwise: float = 0) -> float:
    """The number in it."""
    if not isinstance(of, str):
        return otherwise if of is None else of
    found = _NUMBER.fullmatch(of)
    return float(found[1]) if found else otherwise


class Server(Struct):
    """GPUs that one machine can take together; all figures are of one GPU."""

    gpu_type: Word
    region: Word
    price_per_hour: Usd | None = None
    spot_price: Usd | None = None
    num_free_devices: Number = None
    effective_num_free_devices: Number = None
    """What can be had on demand: it may be taken from spot machines."""
    spot_num_free_devices: Number = None
    vram: Number = None
    cpus_per_gpu: Number = None
    ram_per_gpu: Number = None
    num_gpus: Number = None
    workload_type: Word | None = None
    spot_only_server: bool | None = None

    @property
    def kind(self) -> str:
        """Where it is not told, all clients agree on containers alone."""
        return self.workload_type or Kind.CONTAINER

    @property
    def known(self) -> bool:
        """Whether a machine can be asked for there."""
        return self.region in HOSTS and self.kind in {Kind.CONTAINER, Kind.VM}

    @property
    def most(self) -> int:
        """GPUs of one machine."""
        there = int(amount(self.num_gpus, 1))
        return min(there, 1 if self.region in ONE_GPU_ONLY else MOST_GPUS)

    def price(self, market: Market) -> float:
        """Of one GPU, 0 where it is not sold so: spot machines are containers."""
        if market is Market.SPOT:
            return (self.spot_price or 0) if self.kind == Kind.CONTAINER else 0
        return 0 if self.spot_only_server else self.price_per_hour or 0

    def free(self, market: Market) -> float:
        """GPUs that can be had now."""
        spot, own = self.spot_num_free_devices, self.effective_num_free_devices
        told = spot if market is Market.SPOT else own
        return amount(self.num_free_devices if told is None else told)


_servers = RowReader(Server, under="server_meta", provider=NAME)


def parse_offers(
    body: bytes, *, account: str, fetched_at: datetime, currency: str = "USD"
) -> tuple[tuple[Offer, ...], tuple[Rejected, ...]]:
    """An offer for each type, region, kind, market and count that fits in one server.

    Raises BadResponse where it is no answer of this call.
    """
    rows, rejected = _servers.read(body)
    found = Gathered(rejected)
    alike: dict[tuple[str, str, str], list[Server]] = {}
    for row in rows:
        if not row.known:
            found.reject(row, "a region or workload that is not known")
        elif not any(map(row.price, (Market.ON_DEMAND, Market.SPOT))):
            found.reject(row, "no price")
        else:
            alike.setdefault((row.gpu_type, row.region, row.kind), []).append(row)
    for servers in alike.values():
        for market in (Market.ON_DEMAND, Market.SPOT):
            sold = [server for server in servers if server.price(market)]
            for count in range(1, max((server.most for server in sold), default=0) + 1):
                best = _best([one for one in sold if one.most >= count], market, count)
                shared = live(NAME, account, Kind(best.kind), fetched_at)
                found.add(best, _offer(best, market, count, currency, shared))
    return found.told()


def gpu_of(server: Server) -> Gpu:
    """One of its GPUs, by the vendor's own name."""
    meant = MEANT.get(server.gpu_type, server.gpu_type)
    return replace(resolve(meant, memory_gb=amount(server.vram) or None), raw=server.gpu_type)


def _best(fitting: list[Server], market: Market, count: int) -> Server:
    """With room for it first, and of those the cheapest."""
    return min(fitting, key=lambda one: (one.free(market) < count, one.price(market)))


def _offer(
    server: Server, market: Market, count: int, currency: str, shared: Mapping[str, Any]
) -> Offer:
    gpu, spot = server.gpu_type.replace(" ", "_"), ":spot" if market is Market.SPOT else ""
    storage = STORAGE if currency == "USD" else FREE
    return Offer(
        **shared,
        **placed(server.region, provider=NAME),
        key=f"{gpu}:{server.region}:{server.kind}:{count}{spot}",
        gpu=gpu_of(server),
        gpu_count=count,
        market=market,
        vcpus=amount(server.cpus_per_gpu) * count or None,
        ram_gb=amount(server.ram_per_gpu) * count or None,
        disk_max_gb=LARGEST_DISK_GB,
        price=Price(
            compute=nanos(server.price(market) * count),
            disk_gb=storage,
            disk_gb_stopped=storage,
            increment_s=INCREMENT_S,
            quoted=currency,
        ),
        availability=Availability.YES if server.free(market) >= count else Availability.NO,
        datacenter=True,
        launch={"gpu_type": server.gpu_type},
    )
