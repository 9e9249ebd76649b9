"""The shipped snapshot, against facts written down by hand."""

from __future__ import annotations

from datetime import UTC

from gpubroker.catalog.places import AREAS
from gpubroker.catalog.shipped import shipped_offers, shipped_providers
from gpubroker.model.money import nanos
from gpubroker.model.terms import Availability, Source

TRAPS = [
    # raw, count, region -> name, form, GB of one GPU, USD, country, zone
    ("H200", 8, "France, FR", "H200", "SXM", 141, 17.88, "FR", "Europe"),
    ("H100 NVL", 2, "Australia, AU", "H100", "NVL", 94, 4.53, "AU", "Oceania"),
    ("H100 SXM", 8, "Vietnam, VN", "H100", "SXM", 80, 16.0, "VN", "Asia"),
    ("B200", 4, "US", "B200", "SXM", 180, 18.82, "US", "US"),
    ("A100 SXM4", 1, "Georgia, US", "A100", "SXM", 40, 0.76, "US", "US-East"),
    ("A100 PCIE", 1, "Oklahoma, US", "A100", "PCIe", 80, 0.87, "US", "US-West"),
    ("Tesla V100", 8, "Sweden, SE", "V100", "", 16, 0.85, "SE", "Europe"),
    ("RTX 4090", 1, "Hong Kong, HK", "RTX 4090", "PCIe", 48, 0.40, "HK", "Asia"),
    ("RTX 4070S Ti", 2, "Bulgaria, BG", "RTX 4070 Ti SUPER", "PCIe", 16, 0.36, "BG", "Europe"),
    ("RTX 3060 Ti", 2, "Michigan, US", "RTX 3060 Ti", "PCIe", 8, 0.20, "US", "US-East"),
    ("RTX 4060 Ti", 1, "United Kingdom, GB", "RTX 4060 Ti", "PCIe", 16, 0.13, "GB", "Europe"),
    ("RTX A2000", 8, "British Columbia, CA", "RTX A2000", "PCIe", 6, 5.33, "CA", "Canada"),
    ("RTX PRO 6000 S", 1, "New York, US", "RTX PRO 6000", "Server", 96, 1.13, "US", "US-East"),
    ("RTX 5090", 2, "Hafnarfjarðarkaupstaður, IS", "RTX 5090", "PCIe", 32, 0.93, "IS", "Europe"),
    ("L40S", 1, "Taichung City, TW", "L40S", "PCIe", 48, 0.60, "TW", "Asia"),
    ("A40", 2, "Australia, AU", "A40", "PCIe", 48, 1.33, "AU", "Oceania"),
]


def test_the_traps_of_the_price_list_are_read_right() -> None:
    rows = {(o.gpu.raw, o.gpu_count, o.region): o for o in shipped_offers("vast_ai")}
    for raw, count, region, name, form, memory, usd, country, area in TRAPS:
        offer = rows[raw, count, region]
        assert (offer.gpu.name, offer.gpu.form, offer.gpu.memory_gb) == (name, form, memory), raw
        assert offer.price.compute == nanos(usd)
        assert (offer.country, offer.area) == (country, area)


def test_every_row_is_known_dated_and_of_unknown_availability() -> None:
    assert shipped_providers() == ("vast_ai",)
    offers = shipped_offers("vast_ai")
    assert len(offers) == 67
    assert len({offer.key for offer in offers}) == 67
    for offer in offers:
        assert offer.gpu.name is not None
        assert 6 <= offer.gpu.memory_gb <= 288
        assert offer.availability is Availability.UNKNOWN
        assert offer.source is Source.CATALOG
        assert offer.fetched_at.tzinfo is UTC
        assert offer.country
        assert offer.area in AREAS
        assert offer.area != "Global"


def test_a_provider_without_a_snapshot_has_no_rows() -> None:
    assert shipped_offers("modal") == ()
