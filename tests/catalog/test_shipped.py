"""The shipped snapshot: real list prices, for when nobody can be asked."""

from __future__ import annotations

import pytest

from gpubroker.catalog.clouds import CLOUDS
from gpubroker.catalog.gpus import model, resolve
from gpubroker.catalog.places import AREAS, locate
from gpubroker.catalog.shipped import shipped_offers, shipped_providers
from gpubroker.model.money import nanos
from gpubroker.model.offer import Offer
from gpubroker.model.terms import Availability, Market, Source

TRAPS = [
    # spelling, count, region, what it is, and what the whole machine costs
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

ELSEWHERE = [
    # cloud, part of the key, region, what it is, count, market, what the machine costs
    ("aws", "p5-4xlarge", "us-east-1", "H100", "SXM", 80, 1, Market.ON_DEMAND, 6.88),
    ("aws", "p5e-48xlarge", "us-east-2", "H200", "SXM", 141, 8, Market.SPOT, 62.9957),
    ("coreweave", "gd-8xa100-i128", "Europe", "A100", "SXM", 80, 8, Market.SPOT, 9.51),
    ("coreweave", "gb200-4x", "North America", "GB200", "onboard", 186, 4, Market.ON_DEMAND, 42),
    ("digitalocean", "gpu-h100x8", "tor1", "H100", "SXM", 80, 8, Market.ON_DEMAND, 47.6),
    ("fluidstack", "H100-NVLINK", "FINLAND", "H100", "PCIe", 80, 8, Market.ON_DEMAND, 23.92),
    ("gcp", "tpu-v6e-8", "us-east5", "TPU v6e", "onboard", 32, 8, Market.ON_DEMAND, 21.6),
    ("hyperstack", "n3-H100-SXM5x8", "US-1", "H100", "SXM", 80, 8, Market.ON_DEMAND, 19.2),
    ("jarvislabs", "8x-H200", "IN2", "H200", "SXM", 141, 8, Market.ON_DEMAND, 36.72),
    ("lambda_labs", "gpu-1x-gh200", "", "GH200", "onboard", 96, 1, Market.ON_DEMAND, 2.29),
    ("nebius", "gpu-b200-sxm", "us-central1", "B200", "SXM", 180, 8, Market.ON_DEMAND, 44),
    ("northflank", "a100-40-4g", "us-central", "A100", "SXM", 40, 4, Market.ON_DEMAND, 5.68),
    ("paperspace", "GPU", "East Coast (NY2)", "Quadro M4000", "PCIe", 8, 1, Market.ON_DEMAND, 0.45),
    ("shadeform", "vultr-A16x2", "bangalore-india-1", "A16", "PCIe", 16, 2, Market.ON_DEMAND, 1.02),
    ("verda", "2B300-60V", "FIN-03", "B300", "SXM", 288, 2, Market.SPOT, 4.893),
]


def test_the_traps_of_the_price_list_are_read_right() -> None:
    rows = {(o.gpu.raw, o.gpu_count, o.region): o for o in shipped_offers("vast_ai")}
    for raw, count, region, name, form, memory, usd, country, area in TRAPS:
        offer = rows[raw, count, region]
        assert (offer.gpu.name, offer.gpu.form, offer.gpu.memory_gb) == (name, form, memory), raw
        assert offer.price.compute == nanos(usd)
        assert (offer.country, offer.area) == (country, area)


@pytest.mark.parametrize(
    ("cloud", "key", "region", "gpu", "form", "memory", "count", "market", "usd"), ELSEWHERE
)
def test_a_row_of_every_other_cloud_is_what_its_list_says(
    cloud: str,
    key: str,
    region: str,
    gpu: str,
    form: str,
    memory: float,
    count: int,
    market: Market,
    usd: float,
) -> None:
    fitting = [
        offer
        for offer in shipped_offers(cloud)
        if key in offer.key and (offer.region, offer.market) == (region, market)
    ]
    assert nanos(usd) in {offer.price.compute for offer in fitting}
    for offer in fitting:
        assert (offer.gpu.name, offer.gpu.form, offer.gpu.memory_gb) == (gpu, form, memory)
        assert offer.gpu_count == count


def _all() -> list[Offer]:
    return [offer for cloud in shipped_providers() for offer in shipped_offers(cloud)]


def test_every_row_is_known_dated_and_of_unknown_availability() -> None:
    assert set(shipped_providers()) <= {cloud.name for cloud in CLOUDS}
    assert len(shipped_providers()) >= 14
    offers = _all()
    assert len(shipped_offers("vast_ai")) == 67
    assert len({(offer.provider, offer.key) for offer in offers}) == len(offers) > 600
    for offer in offers:
        assert offer.gpu.name is not None
        assert 6 <= offer.gpu.memory_gb <= 288
        assert 0.05 < offer.price.compute / 1e9 / offer.gpu_count < 30
        assert offer.availability is Availability.UNKNOWN
        assert offer.source is Source.CATALOG
        assert offer.fetched_at.utcoffset() is not None
        assert offer.area in AREAS


def test_every_region_told_is_placed_but_a_continent_without_a_word() -> None:
    lost = {offer.region for offer in _all() if offer.area == "Global"}
    assert lost == {"", "North America"}


def test_arm_machines_are_told_as_such() -> None:
    assert {offer.gpu.name for offer in _all() if offer.arch == "arm64"} == {"GB200", "GH200"}


def test_a_provider_without_a_snapshot_has_no_rows() -> None:
    assert shipped_offers("modal") == ()


def test_the_sheets_say_what_the_rest_of_the_catalog_says() -> None:
    for offer in _all():
        known = model(offer.gpu.name)
        assert known is not None
        assert offer.gpu.vendor == known.vendor
        assert offer.gpu.form in ("", *known.forms)
        assert offer.gpu.memory_gb in known.memory_sizes
        assert resolve(offer.gpu.raw).name == offer.gpu.name
        place = locate(offer.region, provider=offer.provider)
        assert (offer.country, offer.area) == (place.country, place.area)
