"""The rows of the GPU table: `data/gpus.json`, read when first needed."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from gpubroker.model.gpu import Category, GpuModel, GpuVariant, Vendor

_TABLE = Path(__file__).parent / "data" / "gpus.json"

_TOLERANCE = 0.07
"""Vendors report 0.93 to 1.07 of the nominal memory: MiB, ECC and driver reserves."""


class Variant(Struct, frozen=True):
    """One memory size and form factor of a model; figures as in GpuVariant."""

    memory_gb: float
    form: str = ""
    board: str = ""
    fp16: float | None = None
    bf16: float | None = None
    fp8: float | None = None
    fp32: float | None = None
    bandwidth: float | None = None
    tdp: float | None = None
    year: int | None = None
    source: str = ""
    """"" where it is the model's; likewise `year`."""
    told: tuple[float, ...] = ()
    """Sizes that vendors report for it and that the tolerance does not reach."""
    aliases: tuple[str, ...] = ()
    """Names that mean this memory and form."""


class Entry(Struct, frozen=True):
    """One model with all that is known of it."""

    name: str
    vendor: Vendor
    architecture: str
    compute_capability: float
    category: Category
    score: int
    source: str
    variants: tuple[Variant, ...]
    """The most usual first: its figures stand for the model."""
    year: int | None = None
    aliases: tuple[str, ...] = ()

    def fitting(self, form: str, memory_gb: float | None) -> tuple[Variant, ...]:
        """The variants of this form and memory, where "" and None leave open."""
        return tuple(
            variant
            for variant in self.variants
            if (not form or variant.form == form)
            and (memory_gb is None or variant.memory_gb == memory_gb)
        )

    def nominal(self, told: float) -> float | None:
        """The size as sold that the told one stands for; None where it is near to none."""
        sizes = {variant.memory_gb: variant.memory_gb for variant in self.variants}
        sizes |= {size: variant.memory_gb for variant in self.variants for size in variant.told}
        nearest = min(sizes, key=lambda size: abs(told / size - 1))
        return sizes[nearest] if abs(told / nearest - 1) <= _TOLERANCE + 1e-9 else None

    def model(self) -> GpuModel:
        """What the rest of gpubroker sees of it."""
        usual = self.variants[0]
        return GpuModel(
            name=self.name,
            memory_gb=usual.memory_gb,
            memory_sizes=tuple(sorted({variant.memory_gb for variant in self.variants})),
            forms=tuple(dict.fromkeys(variant.form for variant in self.variants if variant.form)),
            compute_capability=self.compute_capability,
            architecture=self.architecture,
            category=self.category,
            performance_score=self.score,
            vendor=self.vendor,
            fp16_tflops=usual.fp16,
            bf16_tflops=usual.bf16,
            fp8_tflops=usual.fp8,
            memory_bandwidth_gbs=usual.bandwidth,
            tdp_w=usual.tdp,
            year=self.year,
            source=self.source,
            variants=tuple(self._variant(variant) for variant in self.variants),
        )

    def _variant(self, variant: Variant) -> GpuVariant:
        return GpuVariant(
            memory_gb=variant.memory_gb,
            form=variant.form,
            board=variant.board,
            fp32_tflops=variant.fp32,
            fp16_tflops=variant.fp16,
            bf16_tflops=variant.bf16,
            fp8_tflops=variant.fp8,
            memory_bandwidth_gbs=variant.bandwidth,
            tdp_w=variant.tdp,
            year=variant.year or self.year,
            source=variant.source or self.source,
        )


def shipped_entries() -> tuple[Entry, ...]:
    """The table that comes with gpubroker."""
    return msgspec.json.decode(_TABLE.read_bytes(), type=tuple[Entry, ...])
