"""What Paperspace sells: the templates that are told, priced and placed by tables, as offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from msgspec import Struct

from gpubroker.catalog.shapes import shape
from gpubroker.model.money import HOURS_PER_MONTH, nanos
from gpubroker.model.offer import Offer, Price
from gpubroker.model.terms import Availability, Kind, Market
from gpubroker.providers.fields import Count, Told, Word
from gpubroker.providers.newest import newest
from gpubroker.providers.offering import Gathered, live, placed
from gpubroker.providers.quarantine import Rejected, RowReader

NAME = "paperspace"
INCREMENT_S = 3600
"""By the hour in its older docs, by the second on its price page. The dearer one counts."""
DISKS_GB = (50, 100, 250, 500, 1000, 2000)
DISK_GB = nanos(5 / DISKS_GB[0] / HOURS_PER_MONTH)
""""Starting at 50GB for $5/month" (Paperspace support, billing overview)."""
_REGIONS = {"NY2": "East Coast (NY2)", "CA1": "West Coast (CA1)", "AMS1": "Europe (AMS1)"}


class Sold(NamedTuple):
    """A machine type."""

    usd: float
    """An hour."""
    regions: str = "NY2"
    vcpus: int | None = None
    ram_gb: int | None = None


_SOLD: Mapping[str, Sold] = {
    "H100": Sold(5.95, "NY2", 15, 80),
    "H100x8": Sold(47.60, "NY2", 128, 640),
    "A100-80G": Sold(3.18, "NY2", 12, 80),
    "A100-80Gx8": Sold(25.44, "NY2", 96, 640),
    "A100": Sold(3.09, "NY2", 8, 90),
    "A6000": Sold(1.89, "NY2 CA1", 8, 45),
    "A6000x2": Sold(3.78, "NY2 CA1", 16, 90),
    "A6000x4": Sold(7.56, "NY2 CA1", 32, 180),
    "A5000": Sold(1.38, "NY2 CA1", 8, 45),
    "A5000x2": Sold(2.76, "NY2 CA1", 16, 90),
    "A5000x4": Sold(5.52, "NY2 CA1", 32, 180),
    "A4000": Sold(0.76, "NY2 CA1 AMS1", 8, 32),
    "A4000x2": Sold(1.52, "NY2 CA1 AMS1", 16, 90),
    "A4000x4": Sold(3.04, "NY2 CA1 AMS1", 32, 180),
    "V100-32G": Sold(2.30, "NY2", 8, 30),
    "V100-32Gx2": Sold(4.60, "NY2", 16, 60),
    "V100-32Gx4": Sold(9.20, "NY2", 32, 120),
    "V100": Sold(2.30, "NY2 AMS1", 8, 30),
    "P6000": Sold(1.10, "NY2 CA1 AMS1"),
    "P5000": Sold(0.78, "NY2 CA1 AMS1"),
    "P4000": Sold(0.51, "NY2 CA1 AMS1", 8, 32),
    "P4000x2": Sold(1.02, "NY2 CA1 AMS1", 16, 64),
    "RTX5000": Sold(0.82, "NY2"),
    "RTX4000": Sold(0.56, "NY2 CA1 AMS1"),
    "GPU+": Sold(0.45, "NY2 AMS1", 8, 32),
}
"""Paperspace's price page and docs (machines, availability), sizes by SkyPilot's and Shadeform's
catalogs, the least of them. What is not in here has no price."""


class Fit(Struct, rename="camel"):
    """Whether a template can be had on a machine type."""

    machine_type_label: Word
    is_available: bool


class Template(Struct, rename="camel"):
    """A system that a machine can have."""

    id: Told
    name: Word
    agent_type: Word
    operating_system_label: Word
    available_machine_types: tuple[Fit, ...]
    default_size_gb: Count | None = None

    @property
    def words(self) -> str:
        """All that is told of it, in one spelling."""
        return f"{self.name} {self.operating_system_label}".lower().replace("-", " ")


_templates = RowReader(Template, under="", provider=NAME)
_ML_IN_A_BOX = "ml in a box"
"""Has drivers and "Docker CE" (Paperspace's ml-in-a-box repository)."""


def parse_offers(
    raw_templates: Sequence[Any], *, account: str, fetched_at: datetime
) -> tuple[tuple[Offer, ...], tuple[Rejected, ...]]:
    """One offer a type and region, and what is none with the reason.

    That a template can be had on a type is no word on stock.
    """
    templates, rejected = _templates.each(raw_templates)
    shared, found = live(NAME, account, Kind.VM, fetched_at), Gathered(rejected)
    linux: dict[str, dict[str, Template]] = {}
    for template in templates:
        for fit in template.available_machine_types:
            fitting = linux.setdefault(fit.machine_type_label, {})
            if fit.is_available and template.agent_type.startswith("Linux"):
                fitting[template.words] = template
    for kind, fitting in linux.items():
        known, sold = shape(NAME, kind), _SOLD.get(kind)
        if known is None:
            continue
        if sold is None:
            found.reject({"machineType": kind}, "no price")
            continue
        best = fitting.get(newest(fitting, "", _ML_IN_A_BOX, "ubuntu"))
        system = {"template": best.id, "smallest_gb": best.default_size_gb} if best else {}
        docker = best is not None and _ML_IN_A_BOX in best.words
        for short in sold.regions.split():
            offer = Offer(
                **shared,
                **placed(_REGIONS[short], provider=NAME),
                key=f"{kind.replace('+', '-plus')}:{short}",
                gpu=known.gpu,
                gpu_count=known.count,
                market=Market.ON_DEMAND,
                vcpus=sold.vcpus,
                ram_gb=sold.ram_gb,
                disk_max_gb=DISKS_GB[-1],
                price=Price(
                    compute=nanos(sold.usd),
                    disk_gb=DISK_GB,
                    disk_gb_stopped=DISK_GB,
                    increment_s=INCREMENT_S,
                ),
                availability=Availability.UNKNOWN if best else Availability.NO,
                launch={"type": kind, "docker": docker, **system},
            )
            found.add(offer.launch, offer)
    return found.told()
