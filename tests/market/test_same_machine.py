"""An aggregated offer is the same machine as a direct one only where its names leave no doubt."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gpubroker import wire
from gpubroker.cli.offers import COLUMNS, offer_rows
from gpubroker.market.results import SearchResult
from gpubroker.market.same_machine import UPSTREAM_TYPE, direct_offer
from gpubroker.model.gpu import Gpu
from gpubroker.model.money import nanos
from gpubroker.model.offer import Offer, Price
from gpubroker.model.terms import Availability, Kind, Market, Source
from gpubroker.providers import (
    digitalocean_market,
    hyperstack_market,
    lambda_labs_market,
    shadeform,
)

FIXTURES = Path(__file__).parents[1] / "providers" / "fixtures"
NOW = datetime(2026, 11, 1, tzinfo=UTC)


def aggregated(upstream: str, kind: str, region: str, country: str | None = None) -> Offer:
    return Offer(
        provider="shadeform",
        account="default",
        key=f"{upstream}:X:{region}",
        gpu=Gpu(name="H100", raw="H100", memory_gb=80),
        gpu_count=1,
        kind=Kind.VM,
        market=Market.ON_DEMAND,
        region=region,
        country=country,
        price=Price(compute=nanos(2)),
        availability=Availability.YES,
        upstream=upstream,
        source=Source.LIVE,
        fetched_at=NOW,
        launch={UPSTREAM_TYPE: kind},
    )


CERTAIN = [
    (("hyperstack", "n3-H100x1", "canada-1"), ("hyperstack", "n3-H100x1:CANADA-1")),
    (("hyperstack", "n3-A100x8-NVLink", "montreal-canada-2", "CA"),
     ("hyperstack", "n3-A100x8-NVLink:CANADA-1")),
    (("hyperstack", "n3-RTX-A4000x10", "oslo-norway-1", "NO"),
     ("hyperstack", "n3-RTX-A4000x10:NORWAY-1")),
    (("lambdalabs", "gpu_8x_v100", "us-west-3"), ("lambda_labs", "gpu_8x_v100:us-west-3")),
    (("lambdalabs", "gpu_1x_a10", "frankfurt-germany-1", "DE"),
     ("lambda_labs", "gpu_1x_a10:europe-central-1")),
    (("datacrunch", "1V100.6V", "FIN-01", "FI"), ("verda", "1V100.6V:on_demand:FIN-01")),
    (("verda", "8H100.80S.176V", "ice-01"), ("verda", "8H100.80S.176V:on_demand:ICE-01")),
    (("digitalocean", "gpu-h100x8-640gb", "nyc2"), ("digitalocean", "gpu-h100x8-640gb:nyc2")),
    (("digitalocean", "gpu-h100x1-80gb", "toronto-canada-1", "CA"),
     ("digitalocean", "gpu-h100x1-80gb:tor1")),
]  # fmt: skip
UNCERTAIN = [
    ("massedcompute", "gpu_1x_a6000", "kansascity-usa-1", "US"),
    ("lambdalabs", "gpu_8x_h100_sxm5", "dallas-usa-3", "US"),
    ("datacrunch", "1V100.6V", "helsinki-finland-1", "FI"),
    ("hyperstack", "gpu_1x_a6000", "canada-1", "CA"),
    ("hyperstack", "n3-H100x1", "dallas-usa-1", "US"),
    ("hyperstack", "", "canada-1", "CA"),
    ("digitalocean", "gpu-h100x1-80gb", "amsterdam-netherlands-1", "NL"),
]


@pytest.mark.parametrize(("told", "direct"), CERTAIN, ids=str)
def test_a_machine_that_is_named_as_its_own_cloud_names_it_is_the_same(
    told: Any, direct: Any
) -> None:
    assert direct_offer(aggregated(*told)) == direct


@pytest.mark.parametrize("told", UNCERTAIN, ids=str)
def test_what_the_names_leave_open_is_nobodys(told: Any) -> None:
    assert direct_offer(aggregated(*told)) is None


def test_direct_offers_and_shipped_prices_are_nobodys() -> None:
    one = aggregated("hyperstack", "n3-H100x1", "canada-1")
    assert direct_offer(replace(one, provider="hyperstack")) is None
    assert direct_offer(replace(one, upstream=None)) is None
    assert direct_offer(replace(one, source=Source.CATALOG)) is None
    assert direct_offer(replace(one, launch={})) is None


def direct_rows() -> list[Offer]:
    """Recorded offers of the direct clouds, by their own clients."""

    def read(cloud: str, file: str) -> bytes:
        return (FIXTURES / cloud / f"{file}.json").read_bytes()

    known: dict[str, Any] = {"account": "default", "fetched_at": NOW}
    flavors, _ = hyperstack_market.parse_offers(
        read("hyperstack", "flavors"),
        **known,
        prices=hyperstack_market.prices_of(read("hyperstack", "pricebook")),
        images={},
    )
    types, _ = lambda_labs_market.parse_offers(read("lambda_labs", "types"), **known)
    sizes, _ = digitalocean_market.parse_offers(read("digitalocean", "sizes"), **known)
    return [row for row in (*flavors, *types, *sizes) if row.market is Market.ON_DEMAND]


def test_the_keys_are_those_that_the_direct_providers_make() -> None:
    seen = set()
    for row in direct_rows():
        kind, _, region = row.key.partition(":")
        if region:
            assert direct_offer(aggregated(row.provider, kind, region)) == (row.provider, row.key)
            seen.add(row.provider)
    assert seen == {"digitalocean", "hyperstack", "lambda_labs"}


def test_both_prices_stay_and_the_aggregated_row_names_the_other() -> None:
    rows, _ = shadeform.parse_offers(
        (FIXTURES / "shadeform" / "types.json").read_bytes(), account="default", fetched_at=NOW
    )
    told = {row.key: wire.offer(row, disk_gb=0) for row in rows}
    there = told["hyperstack:A100_80GBx2:montreal-canada-2"]
    assert there["same_as"] == "hyperstack_n3-A100x2:CANADA-1"
    assert there["price_per_hour"] == 2.7
    assert told["massedcompute:A6000:kansascity-usa-1"]["same_as"] is None


def test_the_table_names_the_cloud_behind_and_marks_what_is_the_same_machine() -> None:
    rows = (
        aggregated("hyperstack", "n3-H100x1", "canada-1"),
        aggregated("crusoe", "h100.8x", "culpeper-usa-1"),
        replace(aggregated("hyperstack", "n3-H100x1", "CANADA-1"), provider="x", upstream=None),
    )
    result = SearchResult(
        offers=rows, total=3, scanned=3, sources={}, funnel=(), nearest=(), median=None, now=NOW,
        disk_gb=0,
    )  # fmt: skip
    at = [column.title for column in COLUMNS].index("CLOUD")
    told = [row[at] for row in offer_rows(result)]
    assert told == ["shadeform (hyperstack)=", "shadeform (crusoe)", "x"]
