"""Whether the machine is the one that was rented."""

from __future__ import annotations

import re

from msgspec import Struct

from gpubroker.model.entrance import CONTAINER_MARK
from gpubroker.model.offer import Offer
from gpubroker.model.terms import Kind

QUERY = (
    "nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader,nounits; "
    "echo nvidia-smi ended with $?; df -Pk /; "
    f"echo gpubroker container ${{{CONTAINER_MARK}:-0}}"
)
"""Of the machine's shell: its GPUs, the disk that it runs on, whether it is a container's."""
NO_SUCH_COMMAND = 127
_COLUMNS = 3
_ENDED = re.compile(r"^nvidia-smi ended with (\d+)$", re.MULTILINE)
_CONTAINER = re.compile(r"^gpubroker container (\d)$", re.MULTILINE)
_DF = re.compile(r"^\S+ +(\d+) +\d+ +\d+ +\d+% +/$", re.MULTILINE)
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


def parse_in_container(text: str) -> bool | None:
    """Whether the shell that answered QUERY is in a container that our recipe runs on a VM."""
    found = _CONTAINER.search(text)
    return None if found is None else found[1] == "1"


def parse_ended(text: str) -> int | None:
    """The exit code of nvidia-smi in QUERY's answer; 127 where there is none."""
    found = _ENDED.search(text)
    return None if found is None else int(found[1])


def parse_disk_gb(text: str) -> float | None:
    """The size of the root file system in QUERY's answer."""
    found = _DF.findall(text)
    return int(found[-1]) * 1024 / 1e9 if found else None


def acceptance(offer: Offer, seen: tuple[GpuSeen, ...]) -> tuple[str, ...]:
    """What differs from the offer, in words; () where the machine is as rented."""
    return tuple(words for _, words in differing(offer, seen))


def no_driver(offer: Offer, ended: int | None) -> tuple[tuple[str, str], ...]:
    """Where nvidia-smi told of no GPU: what that says of the driver, as `differing`.

    An image without the tool says nothing of the machine below it.
    """
    if offer.gpu.vendor not in {"nvidia", ""} or ended in {None, 0}:
        return ()
    if ended != NO_SUCH_COMMAND:
        return (("driver", f"nvidia-smi finds no working driver (exit code {ended})"),)
    if offer.kind is not Kind.VM:
        return ()
    return (("driver", "the machine has no nvidia-smi: no driver is installed"),)


def differing(offer: Offer, seen: tuple[GpuSeen, ...]) -> tuple[tuple[str, str], ...]:
    """(field, words) of what differs: count, gpu, memory."""
    problems: list[tuple[str, str]] = []
    if len(seen) != offer.gpu_count:
        words = f"rented {offer.gpu_count} GPUs, the machine reports {len(seen)}"
        problems.append(("count", words))
    wanted = offer.gpu
    for number, gpu in enumerate(seen):
        if wanted.name is not None and not _same_model(wanted.name, gpu.name):
            words = f"GPU {number}: rented {wanted.name}, the machine reports {gpu.name}"
            problems.append(("gpu", words))
        # A slice of a GPU reports the whole one's memory or its own, as the vendor pleases.
        if gpu.memory_mib is None or wanted.memory_gb <= 0 or wanted.fraction < 1:
            continue
        memory_gb = gpu.memory_mib / _MIB_PER_GB
        if abs(memory_gb - wanted.memory_gb) > wanted.memory_gb * MEMORY_TOLERANCE:
            words = f"rented {wanted.memory_gb:g} GB, the machine reports {memory_gb:.1f}"
            problems.append(("memory", f"GPU {number}: {words}"))
    return tuple(problems)


def _same_model(wanted: str, reported: str) -> bool:
    want, have = _words(wanted), _words(reported)
    return want <= have and (have & _VARIANTS) <= want


def _words(name: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9]+", name.lower())) - _BRANDS
