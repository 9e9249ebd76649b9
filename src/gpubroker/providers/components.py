"""Prices by component: GPU, vCPU, RAM and disk are each sold apart, and the buyer picks the size.

An offer is one machine. So each count of GPUs is offered in a few sizes that are always the same:
a key stays what it is, whatever is searched for.
"""

from __future__ import annotations

from msgspec import Struct

from gpubroker.model.money import FREE, Nanos, nanos
from gpubroker.model.offer import Price

MULTIPLES = (1, 2, 4)
"""Of the usual size."""


class Size(Struct, frozen=True):
    """Of a whole machine."""

    vcpus: int
    ram_gb: int

    def times(self, factor: int) -> Size:
        """That many of it."""
        return Size(self.vcpus * factor, self.ram_gb * factor)


class Rates(Struct, frozen=True, kw_only=True):
    """What an hour of one of each costs."""

    gpu: Nanos
    vcpu: Nanos
    ram_gb: Nanos
    disk_gb: Nanos = FREE
    disk_gb_stopped: Nanos = FREE

    def price(self, gpus: int, size: Size) -> Price:
        """Of a machine of that size."""
        parts = (self.gpu * gpus, self.vcpu * size.vcpus, self.ram_gb * size.ram_gb)
        return Price(
            compute=Nanos(sum(parts)),
            disk_gb=self.disk_gb,
            disk_gb_stopped=self.disk_gb_stopped,
        )


def in_dollars(*, gpu: float, vcpu: float, ram_gb: float, disk_gb: float = 0) -> Rates:
    """Of rates as most vendors tell them; a stopped machine's disk costs as much."""
    disk = nanos(disk_gb)
    return Rates(
        gpu=nanos(gpu),
        vcpu=nanos(vcpu),
        ram_gb=nanos(ram_gb),
        disk_gb=disk,
        disk_gb_stopped=disk,
    )


def sizes(usual: Size, most: Size, step: Size) -> tuple[Size, ...]:
    """The usual size and its multiples as far as they fit; where none does, the largest.

    `step`: what vCPUs and RAM are multiples of. () where there is no room for one step.
    """
    largest = Size(most.vcpus // step.vcpus * step.vcpus, most.ram_gb // step.ram_gb * step.ram_gb)
    if not largest.vcpus or not largest.ram_gb:
        return ()
    wanted = (usual.times(factor) for factor in MULTIPLES)
    fitting = (s for s in wanted if s.vcpus <= largest.vcpus and s.ram_gb <= largest.ram_gb)
    smallest = Size(min(usual.vcpus, largest.vcpus), min(usual.ram_gb, largest.ram_gb))
    return tuple(fitting) or (smallest,)
