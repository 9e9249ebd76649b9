"""One search over three clouds, and a machine although two of them have none to give."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import TYPE_CHECKING

import pytest

from gpubroker import LaunchRequest, Market, Query, wanted
from gpubroker.fleet.errors import NothingToBeHad
from gpubroker.model.errors import BrokerError
from gpubroker.model.terms import State

if TYPE_CHECKING:
    from tests.e2e.conftest import FastSandbox

CLOUDS = ("vast_ai", "runpod", "lambda_labs")
GPU = "H100"
WANTED = Query(gpus=(wanted(GPU),), market=Market.ON_DEMAND, providers=CLOUDS)
EVERY_OFFER = 60
ROUNDS = 10


@pytest.fixture
def troubled(fast: FastSandbox) -> Iterator[FastSandbox]:
    yield fast
    fast.control("/_sandbox/faults", method="DELETE")


def fail(fast: FastSandbox, provider: str, kind: str, times: int | None = None) -> None:
    body = {"provider": provider, "operation": "create", "kind": kind, "times": times}
    fast.control("/_sandbox/faults", body)


@pytest.mark.slow
async def test_one_search_ranks_the_offers_of_all_three(fast: FastSandbox) -> None:
    async with fast.broker() as broker:
        found = await broker.search(WANTED, limit=None, mode="live")
    assert {name: part.status for name, part in found.sources.items()} == dict.fromkeys(
        CLOUDS, "live"
    )
    assert {offer.provider for offer in found.offers} == set(CLOUDS)
    assert {offer.gpu.name for offer in found.offers} == {GPU}
    prices = [offer.price.compute / offer.gpu_count for offer in found.offers]
    assert min(prices) > 0


@pytest.mark.slow
@pytest.mark.parametrize(("sold_out", "bad_key", "busy"), list(permutations(CLOUDS)))
async def test_a_launch_goes_on_to_the_cloud_that_only_asked_to_wait(
    troubled: FastSandbox, sold_out: str, bad_key: str, busy: str
) -> None:
    fail(troubled, sold_out, "no_capacity")
    fail(troubled, bad_key, "bad_credentials")
    fail(troubled, busy, "rate_limit", times=2)
    name = f"{sold_out}-{bad_key}".replace("_", "-")
    request = LaunchRequest(query=WANTED, name=name, tries=EVERY_OFFER)
    async with troubled.broker() as broker:
        machine = await broker.launch(request)
        assert (machine.state, machine.provider) == (State.RUNNING, busy)
        (billed,) = troubled.billed()
        assert billed["provider"] == busy
        # A bad key is asked once: all offers of its account share the cause.
        refused = [one.provider for one in machine.tries if one.outcome == "refused"]
        assert refused.count(bad_key) <= 1
        assert set(refused) <= {sold_out, bad_key}
        await broker.terminate(name)
    await ended(troubled)


@pytest.mark.slow
async def test_where_no_cloud_gives_one_each_says_why_and_nothing_is_left(
    troubled: FastSandbox,
) -> None:
    for cloud, kind in zip(CLOUDS, ("no_capacity", "bad_credentials", "quota"), strict=True):
        fail(troubled, cloud, kind)
    async with troubled.broker() as broker:
        with pytest.raises(NothingToBeHad) as none:
            await broker.launch(LaunchRequest(query=WANTED, name="none", tries=EVERY_OFFER))
    assert {one.provider for one in none.value.tries} == set(CLOUDS)
    assert all(one.reason for one in none.value.tries)
    await ended(troubled)


async def ended(fast: FastSandbox) -> None:
    """Nothing costs money once every trouble is over."""
    fast.control("/_sandbox/faults", method="DELETE")
    for _ in range(ROUNDS):
        async with fast.broker() as broker:
            await broker.settle()
            for machine in broker.machines():
                try:
                    await broker.terminate(machine.name)
                except BrokerError:
                    continue  # the circuit is still open; the next round tries again
            if not broker.machines():
                break
    assert fast.billed() == []
