"""What Vast.ai's offers look like: one table of fields, of which volume offers show a part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from gpubroker.model.money import usd
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.stock import GpuFacts, Slot

OFFER_NUMBERS_FROM = 20_410_000
VOLUME_OFFERS_FROM = 8_000_000
_DAY_S = 86_400
_HOURS_PER_MONTH = 720


def always(value: Any) -> Callable[[Any], Any]:
    """A field that says the same of everything."""
    return lambda _: value


class OfferView(Struct, frozen=True):
    """A slot as it is offered now, priced for a disk."""

    slot: Slot
    gpu: GpuFacts
    number: int
    base: float
    """$/h for the slice, without disk."""
    min_bid: float | None
    disk: float
    """$/h for the disk."""
    storage_cost: float
    """$/GB/month."""
    bid: bool
    volume_number: int | None
    now: float

    @property
    def total(self) -> float:
        """$/h with the disk."""
        return self.base + self.disk

    def fact(self, name: str) -> Any:
        """One of the slot's own facts."""
        return self.slot.facts[name]

    @property
    def dlperf(self) -> float:
        """The vendor's benchmark; made from the card's rate here."""
        return round(self.gpu.tflops * self.slot.gpu_count * 1.21, 4)

    @property
    def ends_at(self) -> float:
        """When the host takes the machine off the market."""
        return float(round(self.now + self.fact("days") * _DAY_S))


def offer_view(cloud: Cloud, slot: Slot, *, bid: bool, disk_gb: float, now: float) -> OfferView:
    """How the market shows a slot."""
    floor = cloud.stock.floor(slot, now)
    price = floor if bid and floor is not None else cloud.stock.price(slot, now)
    return OfferView(
        slot=slot,
        gpu=cloud.gpu(slot.gpu),
        number=cloud.listing(slot, OFFER_NUMBERS_FROM),
        base=usd(price),
        min_bid=None if floor is None else usd(floor),
        disk=usd(cloud.facts.disk_rate(slot, disk_gb)),
        storage_cost=usd(slot.disk_gb_month),
        bid=bid,
        volume_number=volume_offer_number(slot),
        now=now,
    )


def volume_offer_number(slot: Slot) -> int | None:
    """The volume offer on the slot's machine, None where there is none."""
    if not slot.facts["volume_gb"]:
        return None
    return VOLUME_OFFERS_FROM + int(slot.facts["machine"])


def _numeric_version(version: str) -> int:
    major, minor, patch = (*version.split("."), "0")[:3]
    return int(f"{int(major)}{int(minor):03d}{int(patch):03d}")


OFFER_FIELDS: Mapping[str, Callable[[OfferView], Any]] = {
    "id": lambda o: o.number,
    "ask_contract_id": lambda o: o.number,
    "bundle_id": lambda o: 500_000_000 + o.fact("machine") * 16 + o.slot.gpu_count,
    "bundled_results": always(None),
    "machine_id": lambda o: o.fact("machine"),
    "host_id": lambda o: o.fact("host"),
    "cluster_id": always(None),
    "gpu_name": lambda o: o.fact("name"),
    "num_gpus": lambda o: o.slot.gpu_count,
    "gpu_frac": lambda o: o.fact("gpu_frac"),
    "gpu_arch": lambda o: o.gpu.vendor,
    "compute_cap": lambda o: o.gpu.compute_cap,
    "gpu_ram": lambda o: o.gpu.memory_mib,
    "gpu_total_ram": lambda o: o.gpu.memory_mib * o.slot.gpu_count,
    "gpu_mem_bw": lambda o: o.gpu.bandwidth_gbs,
    "gpu_lanes": always(16),
    "gpu_max_power": lambda o: float(o.fact("watts")),
    "gpu_max_temp": always(90.0),
    "gpu_display_active": always(False),
    "bw_nvlink": lambda o: o.fact("nvlink"),
    "cpu_arch": always("amd64"),
    "cpu_cores": lambda o: o.fact("cores"),
    "cpu_cores_effective": lambda o: o.slot.vcpus,
    "cpu_ghz": lambda o: o.fact("ghz"),
    "cpu_name": lambda o: o.fact("cpu"),
    "cpu_ram": lambda o: o.fact("ram"),
    "has_avx": always(1),
    "disk_space": lambda o: o.slot.disk_max_gb,
    "disk_bw": lambda o: o.fact("disk_bw"),
    "disk_name": lambda o: o.fact("disk"),
    "dph_base": lambda o: o.base,
    "dph_total": lambda o: o.total,
    "discounted_dph_total": lambda o: o.total,
    "discount_rate": always(0.0),
    "min_bid": lambda o: o.min_bid,
    "storage_cost": lambda o: o.storage_cost,
    "storage_total_cost": lambda o: o.disk,
    "inet_up": lambda o: o.fact("up"),
    "inet_down": lambda o: o.fact("down"),
    "inet_up_cost": lambda o: o.fact("up_cost"),
    "inet_down_cost": lambda o: o.fact("down_cost"),
    "reliability": lambda o: o.fact("reliability"),
    "reliability2": lambda o: o.fact("reliability"),
    "expected_reliability": lambda o: o.fact("reliability"),
    "verification": lambda o: o.fact("verification"),
    "vericode": lambda o: 1 if o.fact("verification") == "verified" else 0,
    "rentable": lambda o: o.fact("rentable"),
    "rented": always(False),
    "is_bid": lambda o: o.bid,
    "external": lambda o: o.fact("external"),
    "static_ip": lambda o: o.fact("static_ip"),
    "direct_port_count": lambda o: o.fact("ports"),
    "cuda_max_good": lambda o: float(o.slot.cuda_version) if o.gpu.vendor == "nvidia" else None,
    "driver_version": lambda o: o.slot.driver_version,
    "driver_vers": lambda o: _numeric_version(o.slot.driver_version),
    "hosting_type": lambda o: int(o.fact("datacenter")),
    "total_flops": lambda o: o.gpu.tflops * o.slot.gpu_count,
    "dlperf": lambda o: o.dlperf,
    "dlperf_per_dphtotal": lambda o: o.dlperf / o.total,
    "flops_per_dphtotal": lambda o: o.gpu.tflops * o.slot.gpu_count / o.total,
    "score": lambda o: o.dlperf / o.total * o.fact("reliability"),
    "start_date": lambda o: round(o.now - 40 * _DAY_S),
    "end_date": lambda o: o.ends_at,
    "duration": lambda o: o.ends_at - o.now,
    "geolocation": lambda o: o.slot.place,
    "geolocode": always(None),
    "mobo_name": lambda o: o.fact("mobo"),
    "os_version": always("22.04"),
    "pci_gen": lambda o: o.fact("pci_gen"),
    "pcie_bw": lambda o: o.fact("pcie"),
    "vms_enabled": lambda o: o.fact("vms"),
    "avail_vol_ask_id": lambda o: o.volume_number,
    "avail_vol_dph": lambda o: o.storage_cost / _HOURS_PER_MONTH if o.volume_number else None,
    "avail_vol_size": lambda o: float(o.fact("volume_gb")) if o.volume_number else None,
    "search": lambda o: {
        "gpuCostPerHour": o.base,
        "diskHour": o.disk,
        "totalHour": o.total,
        "discountTotalHour": 0,
        "discountedTotalPerHour": o.total,
    },
}


def offer_json(view: OfferView) -> dict[str, Any]:
    """An offer as the search answers it."""
    return {name: field(view) for name, field in OFFER_FIELDS.items()}


def offer_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """What an offer's filters compare: its fields, some by another meaning."""
    return {
        **row,
        "verified": row["verification"] == "verified",
        "datacenter": row["hosting_type"] == 1,
        "geolocation": row["geolocation"].rpartition(",")[2].strip(),
        "driver_version": row["driver_vers"],
        "ubuntu_version": row["os_version"],
    }


OFFER_FILTERS = frozenset(OFFER_FIELDS) - {"search", "bundled_results"} | {
    "verified",
    "datacenter",
    "ubuntu_version",
}
_VOLUME_OFFER_FIELDS = (
    "bundle_id", "cpu_arch", "cpu_ghz", "cpu_name", "cuda_max_good", "disk_bw", "disk_name",
    "driver_version", "driver_vers", "duration", "end_date", "external", "geolocation", "gpu_arch",
    "host_id", "inet_down", "inet_up", "machine_id", "mobo_name", "reliability", "reliability2",
    "start_date", "static_ip", "storage_cost", "vericode", "verification", "vms_enabled",
)  # fmt: skip
_VOLUME_HIDDEN = ("hosting_type", "os_version", "has_avx", "total_flops", "pci_gen", "pcie_bw")
"""Compared in a volume search, not shown."""
VOLUME_FILTERS = frozenset(
    (*_VOLUME_OFFER_FIELDS, "id", "disk_space", "cluster_id", "verified", "datacenter", "score",
     "ubuntu_version", "has_avx", "total_flops", "pci_gen", "pcie_bw")
)  # fmt: skip


def volume_offer_json(view: OfferView, size_gb: float) -> dict[str, Any]:
    """A volume offer as the search answers it; priced for `size_gb`."""
    row = {name: OFFER_FIELDS[name](view) for name in _VOLUME_OFFER_FIELDS}
    return {
        **row,
        "driver_vers": str(row["driver_vers"]),
        "vericode": str(row["vericode"]),
        "id": view.volume_number,
        "ask_contract_id": view.volume_number,
        "disk_space": float(view.fact("volume_gb")),
        "storage_total_cost": view.storage_cost / _HOURS_PER_MONTH * size_gb,
    }


def volume_columns(view: OfferView) -> dict[str, Any]:
    """What a volume search compares and sorts by."""
    columns = offer_columns({name: field(view) for name, field in OFFER_FIELDS.items()})
    return {**columns, "id": view.volume_number, "disk_space": float(view.fact("volume_gb"))}
