"""Whether the machine is the one that was rented."""

from __future__ import annotations

import re

from msgspec import Struct

from gpubroker.model.offer import Offer

QUERY = "nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader,nounits"
_COLUMNS = 3
_MIB_PER_GB = 1024
"""Vendors sell in units of 2^30 bytes and say GB."""
MEMORY_TOLERANCE = 0.07
"""Drivers keep some memory to themselves: a 24 GB A10G reports 22.5, a 12 GB K80 11.2."""
_BRANDS = frozenset({"nvidia", "geforce", "quadro", "tesla", "rtx", "gtx"})
"""Printed by some tools and vendors and not by others."""
_VARIANTS = frozenset({"ti", "super", "d", "laptop", "ada", "pro", "max", "q"})
"""Words that make another model of the same number."""


class GpuSeen(Struct, frozen=True):
    """One GPU as nvidia-smi reports it."""

    name: str
    memory_mib: int | None
    """None where the tool does not tell ("[N/A]": memory shared with the CPU)."""
    driver: str


def parse_nvidia_smi(csv: str) -> tuple[GpuSeen, ...]:
    """The rows of QUERY's answer; what login scripts print around them is passed over."""
    seen: list[GpuSeen] = []
    for line in csv.splitlines():
        columns = [column.strip() for column in line.split(",")]
        if len(columns) != _COLUMNS or not columns[0]:
            continue
        name, memory, driver = columns
        if memory.isdecimal():
            seen.append(GpuSeen(name, int(memory), driver))
        elif memory in {"[N/A]", "[Not Supported]"}:
            seen.append(GpuSeen(name, None, driver))
    return tuple(seen)


def acceptance(offer: Offer, seen: tuple[GpuSeen, ...]) -> tuple[str, ...]:
    """What differs from the offer, in words; () where the machine is as rented."""
    problems: list[str] = []
    if len(seen) != offer.gpu_count:
        problems.append(f"rented {offer.gpu_count} GPUs, the machine reports {len(seen)}")
    wanted = offer.gpu
    for number, gpu in enumerate(seen):
        if wanted.name is not None and not _same_model(wanted.name, gpu.name):
            problems.append(f"GPU {number}: rented {wanted.name}, the machine reports {gpu.name}")
        # A slice of a GPU reports the whole one's memory or its own, as the vendor pleases.
        if gpu.memory_mib is None or wanted.memory_gb <= 0 or wanted.fraction < 1:
            continue
        memory_gb = gpu.memory_mib / _MIB_PER_GB
        if abs(memory_gb - wanted.memory_gb) > wanted.memory_gb * MEMORY_TOLERANCE:
            problems.append(
                f"GPU {number}: rented {wanted.memory_gb:g} GB, the machine reports {memory_gb:.1f}"
            )
    return tuple(problems)


def _same_model(wanted: str, reported: str) -> bool:
    want, have = _words(wanted), _words(reported)
    return want <= have and (have & _VARIANTS) <= want


def _words(name: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9]+", name.lower())) - _BRANDS
