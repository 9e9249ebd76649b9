"""What an answer covers: whether one query takes in another, and which offers it surely selects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

import msgspec
from msgspec import Struct

from gpubroker.market.filters import compile_query
from gpubroker.model.offer import Offer
from gpubroker.model.query import GpuWanted, Query


class Answer(Struct, frozen=True):
    """That a provider was asked something and answered."""

    asked: Query | None
    """None: everything it sells."""
    at: datetime
    complete: bool


_LOWER_BOUNDS = (
    "min_count",
    "min_vram_gb",
    "total_vram_gb",
    "min_price",
    "min_vcpus",
    "min_ram_gb",
    "min_disk_gb",
    "min_reliability",
    "min_performance",
    "min_compute_capability",
    "min_down_mbps",
    "min_up_mbps",
    "min_hours",
)
_UPPER_BOUNDS = ("max_count", "max_vram_gb", "max_price", "max_ram_gb")
_ANY_OF = ("categories", "vendors", "regions", "accounts", "keys")
_SAME = ("market", "arch", "tier", "interconnect", "min_cuda")
_ALL_OF = ("options",)
_SWITCHES = ("datacenter_only",)
JUDGED_APART = ("providers", "disk_gb", "strict", "include_unavailable", "gpus")
"""An answer is one provider's; disk and strictness are ours alone to judge."""
COMPARED = (*_LOWER_BOUNDS, *_UPPER_BOUNDS, *_ANY_OF, *_SAME, *_ALL_OF, *_SWITCHES)


def includes(wide: Query | None, narrow: Query) -> bool:
    """Whether every offer that `narrow` could select is one that `wide` selects."""
    if wide is None:
        return True
    if not wide.include_unavailable and narrow.include_unavailable:
        return False
    return (
        _gpus_included(wide.gpus, narrow.gpus)
        and all(_no_lower(getattr(wide, f), getattr(narrow, f)) for f in _LOWER_BOUNDS)
        and all(_no_higher(getattr(wide, f), getattr(narrow, f)) for f in _UPPER_BOUNDS)
        and all(_among(getattr(wide, f), getattr(narrow, f)) for f in _ANY_OF)
        and all(getattr(wide, f) in (None, getattr(narrow, f)) for f in _SAME)
        and all(set(getattr(wide, f)) <= set(getattr(narrow, f)) for f in _ALL_OF)
        and all(getattr(narrow, f) or not getattr(wide, f) for f in _SWITCHES)
    )


def _no_lower(wide: float | None, narrow: float | None) -> bool:
    return wide is None or (narrow is not None and narrow >= wide)


def _no_higher(wide: float | None, narrow: float | None) -> bool:
    return wide is None or (narrow is not None and narrow <= wide)


def _among(wide: Sequence[str], narrow: Sequence[str]) -> bool:
    return not wide or (bool(narrow) and set(narrow) <= set(wide))


def _gpus_included(wide: Sequence[GpuWanted], narrow: Sequence[GpuWanted]) -> bool:
    if not wide:
        return True
    return bool(narrow) and all(
        any(_gpu_included(other, want) for other in wide) for want in narrow
    )


def _gpu_included(wide: GpuWanted, narrow: GpuWanted) -> bool:
    return (
        wide.name == narrow.name
        and wide.form in ("", narrow.form)
        and wide.memory_gb in (None, narrow.memory_gb)
        and wide.count in (None, narrow.count)
    )


def covered_by(query: Query | None) -> Callable[[Offer], bool]:
    """Whether an offer is surely among what this query asks for.

    Availability is left out: an offer that is gone is exactly what a complete answer tells by
    leaving it out.
    """
    if query is None:
        return lambda _offer: True
    asked = msgspec.structs.replace(query, include_unavailable=True, strict=True, providers=())
    tests = [entry.test for entry in compile_query(asked)]
    return lambda offer: all(test(offer) is True for test in tests)
