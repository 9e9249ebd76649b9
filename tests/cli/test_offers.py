"""`offers`, `gpus`, `providers`: the screens and the query behind them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from gpubroker.cli.offers import COLUMNS, narrow_lines, offer_rows
from gpubroker.cli.table import fitting, table
from gpubroker.cli.words import NOTHING
from gpubroker.model.gpu import Gpu
from gpubroker.model.money import nanos
from gpubroker.model.offer import Price
from gpubroker.model.terms import Availability, Market, Source

from .conftest import NOW, make_offer


def asked(run: Any, world: Any, *argv: str) -> Any:
    ran = run("offers", *argv)
    assert ran.code == 0, ran.err
    return world.last("search")[1]


def test_every_search_flag_reaches_the_query(run: Any, world: Any) -> None:
    query = asked(
        run,
        world,
        *("--gpu H100:8 --count 8 --min-vram 40 --max-vram 90 --total-vram 600").split(),
        *("--category datacenter --vendor nvidia --max-price 30 --min-price 1 --spot").split(),
        *("--region Europe --region US --provider vast --min-cpu 8 --min-ram 32").split(),
        *(
            "--min-disk 50 --min-reliability 0.9 --min-performance 100 --all --min-cuda 12.4"
        ).split(),
        *("--compute-capability 8.9 --arch arm64 --tier secure --datacenter-only").split(),
        *("--interconnect nvlink --min-down 100 --min-up 50 --strict --disk 200").split(),
        *("--provider-option vastai.verified=true --account default").split(),
    )
    assert query.gpus[0].name == "H100"
    assert query.gpus[0].count == 8
    assert (query.min_count, query.max_count) == (8, 8)
    assert (query.min_vram_gb, query.max_vram_gb, query.total_vram_gb) == (40, 90, 600)
    assert (query.categories, query.vendors) == (("datacenter",), ("nvidia",))
    assert (query.min_price, query.max_price) == (nanos(1), nanos(30))
    assert query.market is Market.SPOT
    assert query.regions == ("Europe", "US")
    assert query.providers == ("vast_ai",)
    assert (query.min_vcpus, query.min_ram_gb, query.min_disk_gb) == (8, 32, 50)
    assert (query.min_reliability, query.min_performance) == (0.9, 100)
    assert query.include_unavailable
    assert (query.min_cuda, query.min_compute_capability) == ("12.4", 8.9)
    assert (query.arch, query.tier, query.datacenter_only) == ("arm64", "secure", True)
    assert (query.interconnect, query.min_down_mbps, query.min_up_mbps) == ("nvlink", 100, 50)
    assert query.options == (("vast_ai", "verified", "true"),)
    assert query.strict
    assert query.disk_gb == 200
    assert query.accounts == ("default",)


def test_an_account_with_a_name_stands_behind_its_cloud(run: Any, world: Any) -> None:
    world.offers = (make_offer(), make_offer(account="lab", key="2"))
    assert asked(run, world, "--account", "lab", "--account", "vast:work").accounts == (
        "lab",
        "vast:work",
    )
    ran = run("offers")
    assert "vast_ai:lab*" in ran.out
    assert "vast_ai* " in ran.out


def test_ways_of_asking_reach_the_search(run: Any, world: Any) -> None:
    asked(
        run,
        world,
        "--sort",
        "vram",
        "--desc",
        "--limit",
        "3",
        "--live",
        "--refresh-timeout",
        "500s",
    )
    assert world.last("search")[2] == {
        "sort": "vram",
        "descending": True,
        "limit": 3,
        "mode": "live",
        "refresh_timeout_s": 500.0,
    }
    asked(run, world, "--cached", "--on-demand")
    assert world.last("search")[2]["mode"] == "cached"
    assert world.last("search")[1].market is Market.ON_DEMAND
    asked(run, world)
    assert world.last("search")[2]["mode"] == "auto"
    assert world.last("search")[1].market is None


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--max-price", "cheap"], "a number from 0 to"),
        (["--max-price", "nan"], "a number from 0 to"),
        (["--min-vram", "inf"], "a number of 0 or more"),
        (["--min-reliability", "98"], "a number from 0 to 1"),
        (["--count", "0"], "a whole number of 1 or more"),
        (["--count", "1.5"], "a whole number"),
        (["--limit", "0"], "a whole number of 1 or more"),
        (["--min-performance", "151"], "a number from 0 to 150"),
        (["--sort", "luck"], "'price'"),
        (["--arch", "riscv"], "'arm64'"),
        (["--provider", "lamda"], "lambda_labs"),
        (["--provider-option", "verified=true"], "vast_ai.verified=true"),
        (["--refresh-timeout", "3"], "write 30m"),
        (["--min-price", "2", "--max-price", "1"], "above --max-price"),
        (["--min-cuda", "new"], "12.4"),
        (["--gpu", "H100:0"], "1 to"),
        (["spare-word"], "spare-word"),
    ],
)
def test_a_bad_value_exits_2_and_says_what_was_expected(
    run: Any, world: Any, argv: list[str], expected: str
) -> None:
    ran = run("offers", *argv)
    assert (ran.code, ran.out) == (2, "")
    assert expected in ran.err
    assert world.asked == []


def test_an_unknown_gpu_is_told_its_nearest_names(run: Any, world: Any) -> None:
    world.offers = ()
    ran = run("offers", "--gpu", "RTX 4900", "--json")
    assert (ran.code, ran.out) == (3, "")
    assert "RTX 4090" in ran.error["nearest"]
    assert 'no GPU is called "RTX 4900"' in ran.error["message"]


def test_a_gpu_that_only_an_offer_knows_is_found(run: Any, world: Any) -> None:
    world.offers = (make_offer(gpu=Gpu(None, "Newcomer 9000", 32.0)),)
    ran = run("offers", "--gpu", "Newcomer 9000")
    assert ran.code == 0
    assert "Newcomer 9000" in ran.out
    assert world.last("search")[1].gpus[0].name == "Newcomer 9000"


def test_nothing_found_exits_3_and_says_what_would_bring_offers(run: Any, world: Any) -> None:
    world.offers = ()
    ran = run("offers", "--gpu", "4090")
    assert ran.code == 3
    assert "4,120 offers → GPU RTX 4090: 31" in ran.out
    assert "Nearest: raise --max-price to $14.32 (2 offers, from $14.320/h)" in ran.out
    told = run("offers", "--gpu", "4090", "--json")
    assert told.code == 3
    assert told.json["offers"] == []
    assert told.json["explain"]["nearest"][0]["offers"] == 2


def test_an_offer_has_the_fields_of_the_contract(run: Any) -> None:
    document = run("offers", "--json").json
    row = document["offers"][0]
    promised = {
        "id": "vast_12345",
        "provider": "vast_ai",
        "provider_id": "12345",
        "instance_type": "12345",
        "gpu_model": "RTX 4090",
        "gpu_count": 1,
        "gpu_memory_gb": 24.0,
        "cpu_count": 16.0,
        "ram_gb": 64.0,
        "storage_gb": None,
        "price_per_hour": 0.312,
        "spot": True,
        "region": "California, US",
        "country": "US",
        "available": True,
        "availability": "yes",
        "source": "live",
        "as_of": "2026-11-21T11:59:48Z",
        "reliability": 0.98,
        "performance_score": 100,
        "needs_key": True,
    }
    assert promised == {field: row[field] for field in promised}
    assert document["total"] == 1
    assert document["sources"]["vast_ai"]["status"] == "live"
    assert (
        document["sources"]["lambda_labs"] | {"error": "503", "status": "error"}
        == (document["sources"]["lambda_labs"])
    )
    assert "error" not in document["sources"]["vast_ai"]


def test_rows_say_age_source_and_what_is_not_known(run: Any, world: Any) -> None:
    world.offers = (
        make_offer(),
        make_offer(
            key="2",
            market=Market.ON_DEMAND,
            availability=Availability.UNKNOWN,
            source=Source.CATALOG,
            fetched_at=NOW - timedelta(days=3),
            gpu_count=2,
            price=Price(compute=nanos(0.79)),
            reliability=None,
        ),
    )
    screen = run("offers").out
    first, second = screen.splitlines()[1:3]
    assert first.split() == (
        "RTX 4090 1 24 16 64 $0.312 $0.312 vast_ai* US-West spot 0.98 12s".split()
    )
    assert second.split() == (
        "RTX 4090 2 24 16 64 $0.790 $0.395 vast_ai* US-West on-demand? – 3 d catalog".split()
    )
    assert "1 cloud live" in screen
    assert "1 down (lambda_labs: 503)" in screen
    assert "* needs a key" in screen
    assert "? not told whether it is free" in screen
    assert "Next: gpubroker launch --offer vast_12345" in screen
    assert "61 % under the median of these 2" in screen


def test_narrow_terminals_drop_columns_in_the_agreed_order(world: Any) -> None:
    rows = offer_rows(world.result())
    dropped: list[str] = []
    for width in range(140, 40, -1):
        kept = {COLUMNS[i].title for i in fitting(COLUMNS, rows, width)}
        dropped += [c.title for c in COLUMNS if c.title not in kept and c.title not in dropped]
    assert dropped == ["REL", "vCPU", "RAM", "REGION", "/GPU-H"]


def test_a_table_stays_within_its_width(world: Any) -> None:
    rows = offer_rows(world.result())
    for width in (100, 80, 70):
        assert max(len(line) for line in table(COLUMNS, rows, width)) <= width


def test_under_sixty_columns_an_offer_takes_two_lines(world: Any) -> None:
    lines = list(narrow_lines(world.result()))
    assert len(lines) == 2
    assert max(len(line) for line in lines) < 60
    assert "$0.312/h" in lines[0]
    assert "vast_ai" in lines[1]


def test_gpus_are_listed_with_their_cheapest_price(run: Any, world: Any) -> None:
    world.offers = (make_offer(gpu_count=2), make_offer(key="2", price=Price(compute=nanos(0.2))))
    rows = {row["name"]: row for row in run("gpus", "--json").json["gpus"]}
    assert rows["RTX 4090"]["performance_score"] == 100
    assert rows["RTX 4090"]["cheapest_price_per_gpu_hour"] == 0.156
    assert rows["H100"]["cheapest_price_per_gpu_hour"] is None
    assert "RTX 4090" in run("gpus").out


def test_providers_name_the_variables_that_are_read(run: Any) -> None:
    assert "not set: VAST_AI_API_KEY" in run("providers").out
    told = run("providers", "--json").json["providers"][0]
    assert told["is_configured"] is False
    assert told["variables"] == ["VAST_AI_API_KEY"]


def test_what_clouds_can_do_stands_side_by_side(run: Any, world: Any) -> None:
    from gpubroker.cli.abilities import COLUMNS, Declared, rows
    from gpubroker.providers import registry

    clouds = {
        name: Declared(name, registry.provider_class(name).capabilities, registry.answers(name))
        for name in registry.ready()
    }
    titles = [column.title for column in COLUMNS]
    told = {row[0]: dict(zip(titles, row, strict=True)) for row in rows(clouds.values())}
    assert set(told) == set(registry.ready())
    assert told["vast_ai"]["SPOT"] == "bid"
    assert (told["lambda_labs"]["SPOT"], told["lambda_labs"]["STOP"]) == (NOTHING, NOTHING)
    assert told["lambda_labs"]["ENDED BY"] == "keeper"
    assert told["verda"]["KEYLESS"] == "yes"
    assert all(all(cell for cell in row.values()) for row in told.values())
    screen = run("providers", "--table").out
    assert screen.splitlines()[0].split()[:2] == ["CLOUD", "MACHINES"]
