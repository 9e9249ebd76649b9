"""RunPod's client and its emulator together, where their parts could each be right and not fit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpubroker.model.offer import Offer
from gpubroker.model.query import GpuWanted, Query
from gpubroker.model.terms import Availability, Market, State
from gpubroker.providers.registry import provider_class
from gpubroker.testing.conformance import SandboxBench, sandbox_bench

PATIENCE_S = 40.0


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[SandboxBench]:
    async with sandbox_bench(provider_class("runpod"), tmp_path) as ready:
        yield ready


async def one(bench: SandboxBench, tier: str, market: Market = Market.ON_DEMAND) -> Offer:
    return next(
        offer
        for offer in await bench.offers()
        if (offer.tier, offer.market, offer.gpu_count) == (tier, market, 1)
        and bool(offer.region) is (tier == "secure" and market is Market.ON_DEMAND)
        and offer.availability is not Availability.NO
    )


async def test_a_pod_of_the_secure_cloud_ends_itself_with_its_own_key(bench: SandboxBench) -> None:
    made = await bench.make(offer=await one(bench, "secure"))
    await bench.ready(made)
    requests = bench.sandbox.requests
    requests.clear()
    await bench.clock.sleep(bench.ttl_s + 60)
    ends = time.monotonic() + PATIENCE_S
    while not requests and time.monotonic() < ends:
        await asyncio.sleep(0.2)
    # Nobody of ours asked anything: this is the pod's own client.
    assert {(asked.method, asked.path) for asked in requests} == {("POST", "/graphql")}
    assert bench.billed() == frozenset()
    assert await bench.seen(made.ref) is None


@pytest.mark.parametrize(
    ("tier", "market"),
    [
        ("secure", Market.ON_DEMAND),
        ("community", Market.ON_DEMAND),
        ("secure", Market.SPOT),
        ("community", Market.SPOT),
    ],
)
@pytest.mark.parametrize("image", [None, "ubuntu:24.04"])
async def test_every_way_to_rent_leads_to_a_machine_of_that_kind(
    bench: SandboxBench, tier: str, market: Market, image: str | None
) -> None:
    offer = await one(bench, tier, market)
    made = await bench.make(bench.spec(image=image, ports=((8888, "tcp"),)), offer)
    machine = await bench.ready(made)
    assert machine.raw["cloud"] == tier.upper()
    assert machine.gpu == offer.gpu.raw
    assert machine.price == offer.price.compute
    assert not offer.region or machine.raw["data_center_id"] == offer.region
    assert set(machine.ports) == {"8888/tcp"}
    ran = await bench.on(made, "nvidia-smi -L | wc -l")
    assert ran.stdout.strip() == "1"
    await bench.end(made)


async def test_a_bid_as_told_for_a_data_center_is_enough_there(bench: SandboxBench) -> None:
    asked = Query(gpus=(GpuWanted("RTX 4090", count=1),), market=Market.SPOT)
    pages = await bench.pages(asked)
    there = [offer for offer in pages[-1].rows if offer.market is Market.SPOT and offer.region]
    assert len({offer.price.compute for offer in there}) > 1
    for offer in there:
        if offer.gpu.name == "RTX 4090" and offer.availability is not Availability.NO:
            made = await bench.make(offer=offer)
            machine = await bench.ready(made)
            assert machine.raw["data_center_id"] == offer.region
            await bench.end(made)


async def test_a_container_that_ended_by_itself_costs_what_both_say(bench: SandboxBench) -> None:
    offer = await one(bench, "secure")
    for options, paid in (({}, False), ({"persistent_gb": 20}, True)):
        made = await bench.make(bench.spec(options=options), offer)
        await bench.ready(made)
        await bench.sandbox.machine_exited("runpod", made.ref.id, 0)
        ended = await bench.provider.get(made.ref)
        assert ended.state is State.STOPPED
        assert (ended.bills_compute, ended.bills_disk) == (False, paid)
        assert (made.ref.id in bench.billed()) is paid
