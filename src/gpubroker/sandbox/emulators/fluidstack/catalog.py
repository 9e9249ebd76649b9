"""What FluidStack offers: GPU types with prices, and systems. What is sold out is not listed."""

from __future__ import annotations

from typing import Any, Literal

from starlette.responses import Response

from gpubroker.model.money import Nanos, nanos, usd
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.fastapi_words import Nothing, read_query
from gpubroker.sandbox.stock import Slot

GpuType = Literal[
    "RTX_A4000_16GB", "RTX_A6000_48GB", "RTX_A5000_24GB", "TESLA_V100_16GB", "A100_PCIE_80GB",
    "A40_48GB", "A30_24GB", "A100_SXM4_80GB", "A10_PCIE_24GB", "A100_SXM4_40GB",
    "A100_PCIE_40GB", "A100_NVLINK_80GB", "A100_NVLINK_40GB", "H100_SXM5_80GB",
    "H100_SXM4_80GB", "A10_24GB", "RTX_6000_24GB", "H100_PCIE_80GB", "H100_NVLINK_80GB",
    "RTX_A6000_ADA_48GB", "L40_48GB", "L40S_48GB", "L4_24GB", "T4_16GB", "RTX_4090_24GB",
]  # fmt: skip
Region = Literal[
    "NORWAY", "FINLAND", "CANADA", "SWEDEN", "NETHERLANDS", "TEXAS_USA", "CALIFORNIA_USA",
    "ARIZONA_USA", "VIRGINIA_USA", "ILLINOIS_USA", "JAPAN", "UTAH_USA", "WASHINGTON_USA",
    "GERMANY", "INDIA", "ISRAEL", "LUXEMBOURG", "ICELAND", "NORTH_DAKOTA_USA",
]  # fmt: skip
SYSTEMS: dict[str, tuple[str, str]] = {
    "ubuntu_20_04_lts_nvidia": (
        "Ubuntu 20.04 LTS (Nvidia)",
        "Ubuntu 20.04 LTS with Nvidia/CUDA 12 drivers preinstalled",
    ),
    "ubuntu_22_04_lts_nvidia": (
        "Ubuntu 22.04 LTS (Nvidia)",
        "Ubuntu 22.04 LTS with Nvidia/CUDA 12 drivers preinstalled",
    ),
}
"""By label: name and description."""
PROVISIONING_MINUTES = 5


def per_gpu(rate: int, gpus: int) -> float:
    """USD an hour of one GPU, from a whole machine's."""
    return round(usd(rate) / gpus, 4)


def memory_gb(type_: str) -> int:
    """Of one GPU: the end of its name."""
    return int(type_.rpartition("_")[2].removesuffix("GB"))


def stopped_rate(slot: Slot) -> Nanos:
    """Of the whole machine; the price list tells it for one GPU, as it does the other price."""
    return Nanos(nanos(slot.facts["stopped_usd"]) * slot.gpu_count)


def _row(cloud: Cloud, type_: str, free: list[Slot], now: float) -> dict[str, Any]:
    """Counts and regions, each for itself: not every pair of them can be had."""
    first = free[0]
    return {
        "gpu_type": type_,
        "gpu_counts": sorted({slot.gpu_count for slot in free}),
        "price_per_gpu_hr": str(per_gpu(cloud.stock.price(first, now), first.gpu_count)),
        "stopped_price_per_hour": str(first.facts["stopped_usd"]),
        "estimated_provisioning_time_minutes": PROVISIONING_MINUTES,
        "regions": list(dict.fromkeys(slot.place for slot in free)),
    }


async def configurations(api: Emulator, call: Call) -> Response:
    """GET list_available_configurations: prices are text, and for one GPU."""
    read_query(call, Nothing)
    cloud = api.cloud
    rows = [
        _row(cloud, type_, free, call.now)
        for type_, slots in cloud.stock.by_gpu.items()
        if (free := [slot for slot in slots if cloud.stock.free(slot)])
    ]
    if cloud.faults.take("offers", "no_capacity"):
        rows = []
    if cloud.faults.take("offers", "duplicate_list"):
        rows = [row for row in rows for _ in range(2)]
    return answer(rows)


async def systems(_: Emulator, call: Call) -> Response:
    """GET list_available_os_templates."""
    read_query(call, Nothing)
    return answer(
        [
            {"name": name, "description": description, "label": label}
            for label, (name, description) in SYSTEMS.items()
        ]
    )


async def health(_: Emulator, call: Call) -> Response:
    """GET and HEAD healthcheck: for everybody."""
    read_query(call, Nothing)
    return answer({"status": "ok"})
