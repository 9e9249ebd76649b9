"""GPU = family + memory + form factor; and what is known of each model."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Vendor = Literal["nvidia", "amd", "intel", "google", "aws", "qualcomm", "tenstorrent", ""]
Category = Literal["consumer", "professional", "datacenter"]


class Gpu(Struct, frozen=True, gc=False):
    """One accelerator of an offer. `name` is canonical, None where the raw name is unknown."""

    name: str | None
    raw: str
    """As the vendor spells it: searchable where `name` is None, never dropped."""
    memory_gb: float
    """As sold: 80 for an H100, whatever unit the vendor counts in."""
    form: str = ""
    """SXM, PCIe, NVL…, "" where not known."""
    vendor: Vendor = ""
    fraction: float = 1.0
    """Below 1 for MIG slices and shared GPUs."""

    @property
    def label(self) -> str:
        """The canonical name, the vendor's own where there is none."""
        return self.name or self.raw


class GpuVariant(Struct, frozen=True, kw_only=True):
    """One memory size and form factor of a model. Rates are dense; None where not known."""

    memory_gb: float
    form: str = ""
    """As in `Gpu.form`: SXM, PCIe, NVL…"""
    board: str = ""
    """The exact socket where the form has several: SXM2, SXM5."""
    fp32_tflops: float | None = None
    """Of the vector units."""
    fp16_tflops: float | None = None
    """Of the matrix units, FP32 accumulate; BF16 where a chip has no FP16."""
    bf16_tflops: float | None = None
    fp8_tflops: float | None = None
    memory_bandwidth_gbs: float | None = None
    tdp_w: float | None = None
    year: int | None = None
    source: str = ""
    """Of this variant's figures; "" where it is the model's."""


class GpuModel(Struct, frozen=True, kw_only=True):
    """A model of the catalog. Rates are dense, FP32 accumulate; None where not known.

    The figures are those of the most usual variant, the first of `variants`.
    """

    name: str
    memory_gb: float
    """The most usual size; `memory_sizes` lists all."""
    memory_sizes: tuple[float, ...] = ()
    forms: tuple[str, ...] = ()
    compute_capability: float
    """0 for other vendors than NVIDIA."""
    architecture: str
    category: Category
    performance_score: int
    """0-150; fixed points in docs/gpus.md."""
    vendor: Vendor
    fp16_tflops: float | None = None
    bf16_tflops: float | None = None
    fp8_tflops: float | None = None
    memory_bandwidth_gbs: float | None = None
    tdp_w: float | None = None
    year: int | None = None
    source: str = ""
    """Whose figures these are; a path where the user told them."""
    variants: tuple[GpuVariant, ...] = ()
