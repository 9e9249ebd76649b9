"""Shadeform's types: what becomes an offer, in which unit, and whose machine it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpubroker.model.clock import SystemClock
from gpubroker.model.errors import BadResponse
from gpubroker.model.offer import Offer
from gpubroker.model.terms import Availability
from gpubroker.providers.shadeform import parse_offers

FIXTURES = Path(__file__).parent / "fixtures" / "shadeform"
TYPES = json.loads((FIXTURES / "types.json").read_text())["instance_types"]
NOW = SystemClock().now()

KNOWN = [
    ("A100", "sxm4", 40, "A100", "SXM"),
    ("A100", "pcie", 40, "A100", "PCIe"),
    ("A100_80GB", "sxm4", 80, "A100", "SXM"),
    ("A100_80G", "pcie", 80, "A100", "PCIe"),
    ("H100", "sxm5", 80, "H100", "SXM"),
    ("H100", "pcie", 80, "H100", "PCIe"),
    ("H100_94GB", "pcie", 94, "H100", "PCIe"),
    ("H100_nvl", "pcie", 94, "H100", "NVL"),
    ("H200", "sxm5", 141, "H200", "SXM"),
    ("B200", "sxm6", 180, "B200", "SXM"),
    ("B300", "sxm6", 288, "B300", "SXM"),
    ("A10", "pcie", 24, "A10", "PCIe"),
    ("A16", "pcie", 16, "A16", "PCIe"),
    ("A30", "pcie", 24, "A30", "PCIe"),
    ("A40", "pcie", 48, "A40", "PCIe"),
    ("L4", "pcie", 24, "L4", "PCIe"),
    ("L40", "pcie", 48, "L40", "PCIe"),
    ("L40S", "pcie", 48, "L40S", "PCIe"),
    ("T4", "pcie", 16, "T4", "PCIe"),
    ("A4000", "pcie", 16, "RTX A4000", "PCIe"),
    ("A5000", "pcie", 24, "RTX A5000", "PCIe"),
    ("A6000", "pcie", 48, "A6000", "PCIe"),
    ("RTX6000Ada", "pcie", 48, "RTX 6000 Ada", "PCIe"),
    ("RTX4000Ada", "pcie", 20, "RTX 4000 Ada", "PCIe"),
    ("RTXPro6000", "pcie", 96, "RTX PRO 6000", "PCIe"),
    ("RTX4090", "pcie", 24, "RTX 4090", "PCIe"),
    ("RTX3090", "pcie", 24, "RTX 3090", "PCIe"),
    ("RTX5090", "pcie", 32, "RTX 5090", "PCIe"),
    ("V100", "pcie", 16, "V100", "PCIe"),
    ("V100_32GB", "pcie", 32, "V100", "PCIe"),
    ("MI300X", "oam", 192, "MI300X", "OAM"),
]
NAMED = [
    ("sanjose-usa-2", "US, San Jose, CA", "US", "US-West"),
    ("dulles-usa-1", "US, Dulles, VA", "US", "US-East"),
    ("atlanta-usa-1", "US, Atlanta, GA", "US", "US-East"),
    ("calgary-canada-1", "Canada, Calgary, AB", "CA", "Canada"),
    ("eu-north1", "Finland, Helsinki", "FI", "Europe"),
]
PLACES = [
    ("austin-usa-1", "US"), ("bangalore-india-1", "IN"), ("beltsville-usa-1", "US"),
    ("calgary-canada-1", "CA"), ("casper-usa-2", "US"), ("culpeper-usa-1", "US"),
    ("dulles-usa-4", "US"), ("montreal-canada-2", "CA"), ("paris-france-5", "FR"),
    ("saltlakecity-usa-1", "US"), ("tokyo-japan-5", "JP"), ("warsaw-poland-1", "PL"),
    ("wichita-usa-1", "US"),
]  # fmt: skip


def parse(types: Any) -> tuple[tuple[Offer, ...], Any]:
    body = types if isinstance(types, bytes) else json.dumps({"instance_types": types}).encode()
    return parse_offers(body, account="default", fetched_at=NOW)


def one(**changes: Any) -> dict[str, Any]:
    """The first type, with changes; those of its configuration by their names."""
    first: dict[str, Any] = TYPES[0]
    inside = first["configuration"]
    has = inside | {name: value for name, value in changes.items() if name in inside}
    return first | {"configuration": has} | changes


def test_each_cloud_type_and_region_is_an_offer_at_cents_for_the_whole_machine() -> None:
    rows, rejected = parse(TYPES)
    assert [(row.key, row.upstream, row.price.compute) for row in rows] == [
        ("massedcompute:A6000:kansascity-usa-1", "massedcompute", 570_000_000),
        ("massedcompute:A6000:desmoines-usa-1", "massedcompute", 570_000_000),
        ("hyperstack:A100_80GBx2:montreal-canada-2", "hyperstack", 2_700_000_000),
        ("lambdalabs:H100_sxm5x8:dallas-usa-3", "lambdalabs", 27_920_000_000),
        ("datacrunch:V100:FIN-01", "datacrunch", 140_000_000),
        ("excesssupply:GH200:newyork-usa-1", "excesssupply", 1_990_000_000),
    ]
    assert [reason for _, reason in rejected] == ["no price"]
    first = rows[0]
    assert (first.vcpus, first.ram_gb, first.disk_gb, first.arch) == (6, 48, 256, "x86_64")
    assert first.launch == {"upstream_type": "gpu_1x_a6000", "os": "ubuntu22.04_cuda12.6_shade_os"}
    assert [row.availability for row in rows[:2]] == [Availability.YES, Availability.NO]


def test_what_docker_cannot_hand_on_is_left_out() -> None:
    gaudi = one(gpu_type="GAUDI2", interconnect="oam", vram_per_gpu_in_gb=96)
    assert parse([gaudi]) == ((), ())


def test_containers_are_left_out_and_grace_is_arm() -> None:
    rows, _ = parse(TYPES)
    assert "RTX 4090" not in {row.gpu.name for row in rows}
    assert [row.arch for row in rows if row.gpu.name == "GH200"] == ["arm64"]


@pytest.mark.parametrize(("raw", "interconnect", "vram", "name", "form"), KNOWN)
def test_every_gpu_that_the_vendor_lists_is_known(
    raw: str, interconnect: str, vram: float, name: str, form: str
) -> None:
    kind = one(gpu_type=raw, interconnect=interconnect, vram_per_gpu_in_gb=vram)
    row = parse([kind])[0][0]
    assert (row.gpu.name, row.gpu.memory_gb, row.gpu.form) == (name, vram, form)


@pytest.mark.parametrize(("region", "country"), PLACES)
def test_every_region_has_its_country_without_its_words_too(region: str, country: str) -> None:
    there = [{"region": region, "available": True, "display_name": ""}]
    (row,), _ = parse([one(availability=there)])
    assert (row.region, row.country) == (region, country)


@pytest.mark.parametrize(("region", "words", "country", "area"), NAMED)
def test_a_state_is_not_taken_for_a_country(
    region: str, words: str, country: str, area: str
) -> None:
    there = [{"region": region, "available": True, "display_name": words}]
    (row,), _ = parse([one(availability=there)])
    assert (row.country, row.area) == (country, area)


@pytest.mark.parametrize(
    "change",
    [{"hourly_price": "57"}, {"hourly_price": 0}, {"cloud": None}, {"num_gpus": -1},
     {"shade_instance_type": "a b"}],
    ids=str,
)  # fmt: skip
def test_a_bad_type_is_rejected_and_costs_only_itself(change: Any) -> None:
    rows, rejected = parse([one(**change), TYPES[1]])
    assert [row.upstream for row in rows] == ["hyperstack"]
    assert rejected


def test_what_is_no_answer_is_bad() -> None:
    with pytest.raises(BadResponse):
        parse(b'{"message": "hello"}')
