"""What the user looks for. Every field narrows; None and () leave the field open."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from gpubroker.model.money import Nanos
from gpubroker.model.terms import Market

SortKey = Literal[
    "price", "price-per-gpu", "performance", "performance-per-dollar", "reliability", "vram"
]


class GpuWanted(Struct, frozen=True):
    """One `--gpu`: "H100" matches every variant, "H100 SXM" and "A100 80GB" narrow."""

    name: str
    """Canonical name, or the raw one where the catalog knows none."""
    form: str = ""
    memory_gb: float | None = None
    count: int | None = None


class Query(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The filters of the contracts. A provider may push down any subset; we re-check all."""

    gpus: tuple[GpuWanted, ...] = ()
    min_count: int | None = None
    max_count: int | None = None
    min_vram_gb: float | None = None
    """Per GPU."""
    max_vram_gb: float | None = None
    total_vram_gb: float | None = None
    categories: tuple[str, ...] = ()
    vendors: tuple[str, ...] = ()
    min_price: Nanos | None = None
    max_price: Nanos | None = None
    """Per hour, whole machine, with the wanted disk."""
    market: Market | None = None
    regions: tuple[str, ...] = ()
    """A vendor's region, a country (code or name), a zone word, or "US"; case-insensitive."""
    providers: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    """Offer keys: `launch --offer` asks for exactly these."""
    min_vcpus: float | None = None
    min_ram_gb: float | None = None
    max_ram_gb: float | None = None
    min_disk_gb: float | None = None
    disk_gb: float | None = None
    """The disk that prices are computed for, where disk is bought by the GB."""
    min_reliability: float | None = None
    min_performance: float | None = None
    include_unavailable: bool = False
    min_cuda: str | None = None
    min_compute_capability: float | None = None
    arch: Literal["x86_64", "arm64"] | None = None
    tier: str | None = None
    datacenter_only: bool = False
    interconnect: str | None = None
    min_down_mbps: float | None = None
    min_up_mbps: float | None = None
    min_hours: float | None = None
    """The offer must last this long (a launch sets it to its TTL)."""
    options: tuple[tuple[str, str, str], ...] = ()
    """(provider, field, value): typed filters of one provider."""
    strict: bool = False
    """An unknown value of a filtered field drops the offer."""
