"""What our client and Vast.ai's own see of one sandbox is the same, and not nothing."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import Struct

from gpubroker.model.errors import NotFound
from gpubroker.model.identity import Attempt, Ref, new_attempt_id
from gpubroker.model.instance import Instance
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import NANOS_PER_USD, nanos
from gpubroker.model.offer import Offer
from gpubroker.model.query import GpuWanted, Query
from gpubroker.model.terms import Market, State

if TYPE_CHECKING:
    from tests.contract.conftest import Judge
    from tests.sandbox.conftest import Served

    from gpubroker.providers.vast_ai import VastAi

pytestmark = [pytest.mark.judge, pytest.mark.slow]
STATES = {"running": State.RUNNING, "exited": State.STOPPED}
DISK_GB = 20
HOURS_PER_MONTH = 720
CHEAPEST = "search offers 'gpu_name=RTX_4090 num_gpus=1' -o dph_total"
SEARCH = "search offers {kind} 'gpu_name={gpu} num_gpus>=1' --storage {disk} --limit 3000"


class Planted(Struct):
    """Machines on one sandbox: of one account, and one of another."""

    running: int
    """Ours, as is the next."""
    stopped: int
    theirs: int
    """Made by the vendor's client, for the same account."""
    foreign: int

    @property
    def mine(self) -> set[int]:
        """Of the account that both clients ask for."""
        return {self.running, self.stopped, self.theirs}


class Both:
    """The two clients of one account, and the sandbox's log of what they asked."""

    def __init__(self, ours: VastAi, vastai: Judge, served: Served) -> None:
        self.ours, self._vastai, self.served = ours, vastai, served

    async def do(self, words: str) -> list[tuple[str, str]]:
        """Method and path of what `vastai WORDS` asked, by the sandbox's own log."""
        return (await self._said(words))[1]

    async def vendor(self, words: str) -> tuple[Any, list[tuple[str, str]]]:
        """What `vastai WORDS --raw` tells, and what it asked."""
        printed, requests = await self._said(f"{words} --raw")
        return json.loads(printed), requests

    async def _said(self, words: str) -> tuple[str, list[tuple[str, str]]]:
        await self.served.advance(30)
        before = len(await self.served.control("GET", "requests"))
        printed = await self._vastai(*shlex.split(words))
        log = await self.served.control("GET", "requests")
        return printed, [(row["method"], row["path"]) for row in log[before:]]

    async def offers(self, market: Market, gpu: str) -> tuple[Offer, ...]:
        """What our client finds of a GPU, priced for the same disk."""
        query = Query(gpus=(GpuWanted(gpu),), market=market, disk_gb=DISK_GB)
        (page,) = [page async for page in self.ours.offers(query)]
        assert page.complete
        return page.rows

    async def listed(self) -> dict[int, Instance]:
        """What our client lists, by id."""
        listing = await self.ours.list("")
        assert listing.complete
        return {int(machine.ref.id): machine for machine in listing.instances}

    async def create(self, gpu: str) -> Ref:
        """A machine by our client."""
        offer = min(await self.offers(Market.ON_DEMAND, gpu), key=lambda o: o.price.compute)
        spec = LaunchSpec(
            image="ubuntu:22.04", disk_gb=DISK_GB, ports=((8888, "tcp"),), expires_at=None
        )
        return await self.ours.create(spec, offer, Attempt("abcdef", new_attempt_id(), "l"), {})


@pytest.fixture
async def both(ours: VastAi, vastai: Judge, served: Served) -> Both:
    await vastai("show", "user")
    return Both(ours, vastai, served)


@pytest.fixture
async def planted(both: Both) -> Planted:
    running = await both.create("RTX 4090")
    stopped = await both.create("H200")
    foreign = await both.served.rent("RTX 3090", key="somebody-else", label="foreign")
    (cheapest, *_), _ = await both.vendor(CHEAPEST)
    made, _ = await both.vendor(
        f"create instance {cheapest['id']} --image ubuntu:22.04 --disk {DISK_GB} "
        "--label by-vastai --ssh --direct"
    )
    await both.served.advance(30)
    await both.ours.stop(stopped)
    await both.served.advance(30)
    return Planted(int(running.id), int(stopped.id), made["new_contract"], foreign)


def _both_see(row: dict[str, Any], machine: Instance) -> None:
    assert machine.ref.id == str(row["id"])
    assert machine.name == row["label"]
    assert machine.state == STATES[row["actual_status"]]
    assert machine.price == nanos(row["dph_total"])
    assert (machine.gpu, machine.gpu_count) == (row["gpu_name"], row["num_gpus"])
    assert (machine.image, machine.disk_gb) == (row["image_uuid"], row["disk_space"])
    told = row["ports"] or {}
    assert machine.ports == {
        inside: f"127.0.0.1:{outside[0]['HostPort']}"
        for inside, outside in told.items()
        if inside != "22/tcp"
    }


async def test_lists_and_single_machines_agree(both: Both, planted: Planted) -> None:
    rows, requests = await both.vendor("show instances")
    assert requests == [("GET", "/api/v1/instances/")]
    listed = await both.listed()
    assert {row["id"] for row in rows} == set(listed) == planted.mine
    assert planted.foreign not in listed
    assert {row["actual_status"] for row in rows} == {"running", "exited"}
    assert {row["gpu_name"] for row in rows} == {"RTX 4090", "H200"}
    assert listed[planted.theirs].name == "by-vastai"
    assert listed[planted.running].ports
    for row in rows:
        _both_see(row, listed[row["id"]])
    for id_ in planted.mine:
        row, requests = await both.vendor(f"show instance {id_}")
        assert requests == [("GET", f"/api/v0/instances/{id_}/")]
        _both_see(row, await both.ours.get(listed[id_].ref))


async def test_both_are_told_the_same_door(both: Both, planted: Planted, vastai: Judge) -> None:
    listed = await both.listed()
    for id_ in (planted.running, planted.theirs):
        door = listed[id_].ssh
        assert door
        url = await vastai("ssh-url", str(id_))
        assert url.strip() == f"ssh://{door.user}@{door.host}:{door.port}"
        await both.served.advance(30)


@pytest.mark.parametrize(
    ("market", "kind", "price"),
    [(Market.ON_DEMAND, "-d", "dph_base"), (Market.SPOT, "-b", "min_bid")],
)
@pytest.mark.parametrize("gpu", ["RTX 4090", "H200"])
async def test_markets_agree(both: Both, market: Market, kind: str, price: str, gpu: str) -> None:
    words = SEARCH.format(kind=kind, gpu=gpu.replace(" ", "_"), disk=DISK_GB)
    rows, requests = await both.vendor(words)
    assert requests == [("POST", "/api/v0/bundles/")]
    offers = {int(offer.key.partition(":")[0]): offer for offer in await both.offers(market, gpu)}
    assert len(rows) > 1
    assert {row["id"] for row in rows} == set(offers)
    for row in rows:
        offer = offers[row["id"]]
        assert (offer.gpu.raw, offer.gpu_count) == (row["gpu_name"], row["num_gpus"])
        assert offer.price.compute == nanos(row[price])
        assert offer.region == row["geolocation"]
        assert offer.host == str(row["machine_id"])
        disk = row["storage_cost"] / HOURS_PER_MONTH * DISK_GB
        whole = (offer.price.compute + offer.price.disk_gb * DISK_GB) / NANOS_PER_USD
        assert whole == pytest.approx(row["dph_total"], abs=1e-6)
        assert row["dph_total"] == pytest.approx(row["dph_base"] + disk, abs=1e-6)


async def test_what_one_ends_is_gone_for_the_other(both: Both, planted: Planted) -> None:
    refs = {id_: machine.ref for id_, machine in (await both.listed()).items()}
    requests = await both.do(f"destroy instance {planted.running} -y")
    assert requests == [("DELETE", f"/api/v0/instances/{planted.running}/")]
    await both.served.advance(30)
    with pytest.raises(NotFound):
        await both.ours.get(refs[planted.running])
    assert set(await both.listed()) == planted.mine - {planted.running}

    await both.ours.terminate(refs[planted.theirs])
    await both.ours.terminate(refs[planted.running])
    rows, _ = await both.vendor("show instances")
    assert {row["id"] for row in rows} == {planted.stopped}
    assert (await both.served.truth(planted.theirs))["billed"] is False
    assert (await both.served.truth(planted.foreign))["billed"] is True


async def test_a_state_that_one_changes_the_other_sees(both: Both, planted: Planted) -> None:
    refs = {id_: machine.ref for id_, machine in (await both.listed()).items()}
    change = "PUT", f"/api/v0/instances/{planted.theirs}/"
    assert await both.do(f"stop instance {planted.theirs}") == [change]
    await both.do(f"start instance {planted.stopped}")
    await both.served.advance(30)
    assert (await both.ours.get(refs[planted.theirs])).state == State.STOPPED
    assert (await both.ours.get(refs[planted.stopped])).state == State.RUNNING
    await both.ours.start(refs[planted.theirs])
    await both.served.advance(30)
    row, _ = await both.vendor(f"show instance {planted.theirs}")
    assert row["actual_status"] == "running"
