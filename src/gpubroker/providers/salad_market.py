"""What SaladCloud sells: classes of GPUs at up to four priorities, and what is free of each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from gpubroker.catalog.gpus import resolve
from gpubroker.model.money import nanos
from gpubroker.model.offer import Offer, Price
from gpubroker.model.terms import Availability, Kind, Market
from gpubroker.providers.fields import Amount, Count, Word
from gpubroker.providers.offering import Gathered, live, placed
from gpubroker.providers.quarantine import Rejected, RowReader

NAME = "salad"
MB_OF_GB, GB = 1024, 1 << 30
USUAL_VCPUS, USUAL_RAM_MB = 4, 16_384
"""Of each GPU, within its class: vCPUs and RAM cost nothing, and more of them leave out PCs."""
MIXED_CLASSES = frozenset({"Stable Diffusion Compatible"})
"""No GPU, but many that will do."""
MARKETS = {
    "high": Market.ON_DEMAND,
    "medium": Market.SPOT,
    "low": Market.SPOT,
    "batch": Market.SPOT,
}
_MEMORY = re.compile(r"\((\d{1,4}) GB\)")


class ClassPrice(Struct):
    """USD an hour of one replica, as decimal text."""

    priority: Word
    price: Annotated[str, Meta(pattern=r"^\d{1,6}(\.\d{1,9})?$")]


class GpuClass(Struct):
    """One class of machines. Only id, name and prices are sure to be told."""

    id: Annotated[str, Meta(pattern="^[0-9a-fA-F-]{36}$")]
    name: Word
    prices: tuple[ClassPrice, ...]
    gpu_class_type: Word | None = None
    gpu_count: Count = 1
    min_vcpu: Count = 1
    max_vcpu: Count = 16
    min_ram: Amount = 1024
    max_ram: Amount = 61_440
    max_storage: Amount = 250 * GB


class Free(Struct):
    """How many replicas could be had now, by priority, and how many more PCs may be woken."""

    available_gpu_high: Count = 0
    available_gpu_medium: Count = 0
    available_gpu_low: Count = 0
    available_gpu_batch: Count = 0
    on_call_gpu: Count = 0

    def at(self, priority: str) -> int:
        """At this priority, woken ones included."""
        return int(getattr(self, f"available_gpu_{priority}")) + self.on_call_gpu


_CLASSES = RowReader(GpuClass, under="items", provider=NAME)


def read_classes(body: bytes) -> tuple[list[GpuClass], list[Rejected]]:
    """The classes of one GPU model, and the rows that are none. BadResponse for no such answer."""
    classes, rejected = _CLASSES.read(body)
    return [one for one in classes if one.name not in MIXED_CLASSES], rejected


def parse_offers(
    body: bytes, *, account: str, fetched_at: datetime, free: Mapping[str, Free]
) -> tuple[tuple[Offer, ...], tuple[Rejected, ...]]:
    """One offer a class and priority, with how many are free by the class's id."""
    classes, rejected = read_classes(body)
    shared = live(NAME, account, Kind.CONTAINER, fetched_at) | placed("")
    found = Gathered(rejected)
    for row in classes:
        size = _MEMORY.search(row.name)
        gpu = resolve(row.name, memory_gb=float(size[1]) if size else None)
        vcpus, ram_mb = shape(row)
        for sold in row.prices:
            if sold.priority not in MARKETS or not gpu.memory_gb:
                found.reject(row, f"priority {sold.priority}, {gpu.memory_gb:g} GB of GPU memory")
                continue
            stock = free[row.id].at(sold.priority) if row.id in free else None
            offer = Offer(
                **shared,
                key=f"{row.id.lower()}:{sold.priority}",
                gpu=gpu,
                gpu_count=row.gpu_count,
                market=MARKETS[sold.priority],
                tier=sold.priority,
                vcpus=vcpus,
                ram_gb=ram_mb / MB_OF_GB,
                disk_max_gb=row.max_storage // GB,
                price=Price(compute=nanos(float(sold.price))),
                availability=_available(stock),
                stock=stock,
                datacenter=row.gpu_class_type == "secure",
            )
            found.add(row, offer)
    return found.told()


def shape(row: GpuClass) -> tuple[int, float]:
    """How many vCPUs and MB a machine of this class gets."""
    vcpus = max(row.min_vcpu, min(row.max_vcpu, USUAL_VCPUS * row.gpu_count))
    return vcpus, max(row.min_ram, min(row.max_ram, USUAL_RAM_MB * row.gpu_count))


def _available(stock: int | None) -> Availability:
    if stock is None:
        return Availability.UNKNOWN
    return Availability.YES if stock else Availability.NO
