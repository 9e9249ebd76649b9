"""On which of RunPod's hosts an order can go, what there is, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from gpubroker.model.money import Nanos
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.runpod.sheet import Tier
from gpubroker.sandbox.stock import Slot

LEVELS = ((1, "LOW"), (2, "MEDIUM"), (3, "HIGH"))
"""(free hosts from which on, level); below the first there is none."""


class Wish(Struct, frozen=True, kw_only=True):
    """The compute that is wanted. Empty = any."""

    gpu: str
    """A GPU type's id, or a CPU flavour's."""
    count: int = 1
    """GPUs; 0 for a CPU pod."""
    vcpus: int | None = None
    """Of a CPU pod, exactly."""
    tier: Tier | None = None
    data_centers: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    cuda_versions: tuple[str, ...] = ()
    min_cuda: str | None = None
    min_vcpus: int = 0
    min_ram_gb: int = 0
    min_mbps: int = 0
    disk_gb: float = 0
    public_ip: bool = False


def version(text: str) -> tuple[int, ...]:
    """12.11 is above 12.2."""
    return tuple(int(part) for part in text.split("."))


def fits(slot: Slot, wish: Wish) -> bool:
    """Whether the slot is what is wanted, free or not."""
    facts = slot.facts
    return (
        (slot.gpu, slot.gpu_count) == (wish.gpu, wish.count)
        and (wish.vcpus is None or slot.vcpus == wish.vcpus)
        and wish.tier in (None, facts["cloud"])
        and (not wish.data_centers or facts["data_center"] in wish.data_centers)
        and (not wish.countries or facts["country"] in wish.countries)
        and (not wish.cuda_versions or slot.cuda_version in wish.cuda_versions)
        and (wish.min_cuda is None or version(slot.cuda_version) >= version(wish.min_cuda))
        and slot.vcpus >= wish.min_vcpus
        and slot.ram_mb >= wish.min_ram_gb * 1000
        and slot.disk_max_gb >= wish.disk_gb
        and facts["mbps"] >= wish.min_mbps
        and (facts["public_ip"] or not wish.public_ip)
    )


def fitting(cloud: Cloud, wish: Wish) -> list[Slot]:
    """Every slot that is what is wanted."""
    return [slot for slot in of_type(cloud, wish.gpu) if fits(slot, wish)]


def free(cloud: Cloud, wish: Wish) -> list[Slot]:
    """Those of them that can be had now."""
    return [slot for slot in fitting(cloud, wish) if cloud.stock.free(slot)]


def level(cloud: Cloud, wish: Wish) -> str:
    """NONE, LOW, MEDIUM or HIGH."""
    hosts = len(free(cloud, wish))
    return next((name for least, name in reversed(LEVELS) if hosts >= least), "NONE")


def list_price(cloud: Cloud, gpu: str, tier: Tier, now: float) -> Nanos | None:
    """Per hour of one GPU; None where that cloud has none."""
    one = next((s for s in of_type(cloud, gpu) if s.facts["cloud"] == tier), None)
    return None if one is None else Nanos(cloud.stock.price(one, now) // max(one.gpu_count, 1))


def floor_price(cloud: Cloud, slots: Iterable[Slot], now: float) -> Nanos | None:
    """The least bid per hour and GPU that wins on one of the slots."""
    floors = [
        Nanos(-(-floor // slot.gpu_count))
        for slot in slots
        if (floor := cloud.stock.floor(slot, now)) is not None
    ]
    return min(floors, default=None)


def of_type(cloud: Cloud, gpu: str) -> Iterator[Slot]:
    """Every slot with that GPU, whatever its size."""
    return iter(cloud.stock.by_gpu.get(gpu, ()))


def largest(cloud: Cloud, gpu: str, tier: Tier) -> int:
    """GPUs of the largest machine of the type in that cloud."""
    counts = (s.gpu_count for s in of_type(cloud, gpu) if s.facts["cloud"] == tier)
    return max(counts, default=0)
