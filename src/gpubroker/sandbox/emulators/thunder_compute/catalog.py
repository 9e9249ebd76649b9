"""What Thunder Compute offers: specs, prices, where there is some, and templates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from gpubroker.model.money import Nanos, nanos, usd
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.thunder_compute.words import check_query
from gpubroker.sandbox.stock import Slot

INCLUDED_GB = 100
"""Disk in the price of each GPU."""
VCPU_RATE, DISK_GB_RATE, SNAPSHOT_GB_RATE = nanos(0.04), nanos(0.0003), nanos(0.00006849)
_ADD_ONS = {
    "additional_vcpus": usd(VCPU_RATE),
    "disk_gb": usd(DISK_GB_RATE),
    "snapshot_gb": usd(SNAPSHOT_GB_RATE),
}
_UNSOLD = {"a100xl_native": 1.79}
"""Prices of what there is no spec for."""


def _template(name: str, *, ports: tuple[int, ...] = (), default: bool = False) -> dict[str, Any]:
    specs = {"cores": 4, "gpu_type": "a6000", "num_gpus": 1, "storage": INCLUDED_GB}
    return {
        "displayName": name,
        "openPorts": list(ports),
        "startupCommands": [],
        "defaultSpecs": specs,
        "default": default,
    }


TEMPLATES: Mapping[str, dict[str, Any]] = {
    "base": _template("Base", default=True),
    "ollama": _template("Ollama", ports=(11434,)),
    "comfy-ui": _template("ComfyUI", ports=(8188,)),
    "forge-neo": _template("Forge Neo", ports=(7860,)),
    "unsloth": _template("Unsloth", ports=(8888,)),
}


def spec_key(slot: Slot, *, with_mode: bool) -> str:
    """A spec's name: the older catalogue has one for each mode."""
    key = f"{slot.facts['gpu_type']}_x{slot.gpu_count}"
    return f"{key}_{slot.facts['mode']}" if with_mode else key


def specs_of(cloud: Cloud, *, with_mode: bool) -> dict[str, Slot]:
    """By name. Without modes there is one spec for a number of GPUs."""
    slots = cloud.stock.slots.values()
    shown = [slot for slot in slots if with_mode or slot.facts["modeless"]]
    return {spec_key(slot, with_mode=with_mode): slot for slot in shown}


def found_spec(cloud: Cloud, gpu_type: str, count: int, mode: str | None) -> Slot | None:
    """What a create means."""
    key = f"{gpu_type.lower()}_x{count}" + (f"_{mode}" if mode else "")
    return specs_of(cloud, with_mode=mode is not None).get(key)


def memory_gib(slot: Slot, vcpus: int) -> int:
    """With so many vCPUs; where there is a cap, it is what the most vCPUs have."""
    facts = slot.facts
    if "ram_cap_gib" in facts:
        missing = max(facts["vcpu_options"]) - vcpus
        return int(facts["ram_cap_gib"] - missing * facts["ram_per_vcpu_gib"])
    return int(vcpus * facts["ram_per_vcpu_gib"])


def rate(cloud: Cloud, slot: Slot, vcpus: int, disk_gb: int, now: float) -> Nanos:
    """An hour of the whole configuration."""
    more_vcpus = max(0, vcpus - min(slot.facts["vcpu_options"]))
    more_gb = max(0, disk_gb - INCLUDED_GB * slot.gpu_count)
    return Nanos(cloud.stock.price(slot, now) + more_vcpus * VCPU_RATE + more_gb * DISK_GB_RATE)


def _spec_json(slot: Slot, *, with_mode: bool) -> dict[str, Any]:
    facts = slot.facts
    row: dict[str, Any] = {
        "displayName": facts["display_name"],
        "vramGB": facts["vram_gb"],
        "gpuCount": slot.gpu_count,
        "vcpuOptions": facts["vcpu_options"],
        "ramPerVCPUGiB": facts["ram_per_vcpu_gib"],
        "storageGB": {"min": INCLUDED_GB, "max": int(slot.disk_max_gb)},
    }
    if "ram_cap_gib" in facts:
        row["ramCapGiB"] = facts["ram_cap_gib"]
    if with_mode:
        most = max(facts["vcpu_options"])
        row |= {
            "mode": facts["mode"],
            "limits": {
                "maxCPUPerGPU": most // slot.gpu_count,
                "maxMemoryGiBPerGPU": memory_gib(slot, most) // slot.gpu_count,
            },
        }
    return row


class Catalog:
    """The three calls of one version of the catalogue."""

    def __init__(self, *, with_mode: bool) -> None:
        self._with_mode = with_mode

    def _specs(self, api: Emulator) -> dict[str, Slot]:
        return specs_of(api.cloud, with_mode=self._with_mode)

    async def pricing(self, api: Emulator, call: Call) -> Response:
        """GET pricing: of whole configurations, and of what comes on top."""
        check_query(call)
        stock = api.cloud.stock
        prices = {k: usd(stock.price(slot, call.now)) for k, slot in self._specs(api).items()}
        return answer({"pricing": {**prices, **_UNSOLD, **_ADD_ONS}})

    async def specs(self, api: Emulator, call: Call) -> Response:
        """GET specs."""
        check_query(call)
        rows = {
            key: _spec_json(slot, with_mode=self._with_mode)
            for key, slot in self._specs(api).items()
        }
        return answer({"specs": rows})

    async def status(self, api: Emulator, call: Call) -> Response:
        """GET status: by spec, and once more by GPU, where a mode that has some is enough."""
        check_query(call)
        none_left = api.cloud.faults.take("offers", "no_capacity") is not None
        told: dict[str, str] = {}
        by_gpu: dict[str, dict[str, str]] = {}
        for key, slot in self._specs(api).items():
            free = api.cloud.stock.free(slot) and not none_left
            told[key] = "available" if free else "unavailable"
            counts = by_gpu.setdefault(slot.facts["gpu_type"], {})
            if counts.get(str(slot.gpu_count)) != "available":
                counts[str(slot.gpu_count)] = told[key]
        return answer({"specs": told, "gpu_type": by_gpu})


WITH_MODES, MODELESS = Catalog(with_mode=True), Catalog(with_mode=False)


async def templates(_: Emulator, call: Call) -> Response:
    """GET thunder-templates."""
    check_query(call)
    return answer(TEMPLATES)
