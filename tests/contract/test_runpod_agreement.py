"""What our client and RunPod's own see of one sandbox is the same, and not nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import Struct

from gpubroker.model.errors import NotFound
from gpubroker.model.identity import Attempt, Ref, new_attempt_id
from gpubroker.model.instance import Instance
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import nanos
from gpubroker.model.offer import Offer
from gpubroker.model.query import GpuWanted, Query
from gpubroker.model.terms import Availability, Market, State

if TYPE_CHECKING:
    from tests.contract.conftest import Judge
    from tests.sandbox.conftest import Served

    from gpubroker.providers.runpod import RunPod

pytestmark = [pytest.mark.judge, pytest.mark.slow]
STATES = {"RUNNING": State.RUNNING, "EXITED": State.STOPPED}
GPU, OWN = "NVIDIA GeForce RTX 4090", "RTX 4090"


class Planted(Struct):
    """Pods on one sandbox: of one account, and one of another."""

    secure: str
    """Ours, as are the next two."""
    community: str
    spot: str
    theirs: str
    """Made by the vendor's client, for the same account."""
    foreign: str

    @property
    def mine(self) -> set[str]:
        """Of the account that both clients ask for."""
        return {self.secure, self.community, self.spot, self.theirs}


class Both:
    """The two clients of one account."""

    def __init__(self, ours: RunPod, judge: Judge, served: Served) -> None:
        self.ours, self._judge, self.served = ours, judge, served

    async def vendor(self, expression: str) -> Any:
        """What `runpod.EXPRESSION` returns. It asks at GraphQL's address alone."""
        self.served.ear.heard.clear()
        text = f"import json, runpod; print('=' + json.dumps(runpod.{expression}))"
        printed = await self._judge.code(text)
        heard = {(h.method, h.path) for h in self.served.ear.heard if "/runpod" in h.path}
        assert heard == {("POST", "/runpod/graphql")}
        await self.served.advance(10)
        return json.loads(printed.splitlines()[-1].removeprefix("="))

    async def vendors_pods(self) -> dict[str, Any]:
        """What it lists, by id."""
        return {row["id"]: row for row in await self.vendor("get_pods()")}

    async def offer(self, tier: str, market: Market) -> Offer:
        """One that our client finds, of one RTX 4090."""
        query = Query(gpus=(GpuWanted(OWN, count=1),), market=market)
        rows = [row async for page in self.ours.offers(query) for row in page.rows]
        fit = [
            row
            for row in rows
            if (row.gpu.raw, row.gpu_count, row.tier, row.market) == (GPU, 1, tier, market)
            and row.availability is not Availability.NO
        ]
        return min(fit, key=lambda row: row.price.compute)

    async def create(self, tier: str, market: Market = Market.ON_DEMAND) -> Ref:
        """A pod by our client."""
        spec = LaunchSpec(
            image="ubuntu:22.04",
            disk_gb=20,
            ports=((8888, "tcp"),),
            env={"COLOUR": "red"},
            ssh_keys=(),
            expires_at=None,
        )
        attempt = Attempt("abcdef", new_attempt_id(), "l")
        ref = await self.ours.create(spec, await self.offer(tier, market), attempt, {})
        await self.served.advance(10)
        return ref

    async def listed(self) -> dict[str, Instance]:
        """What our client lists, by id."""
        listing = await self.ours.list("")
        assert listing.complete
        return {machine.ref.id: machine for machine in listing.instances}


@pytest.fixture
def both(our_runpod: RunPod, runpod: Judge, served: Served) -> Both:
    return Both(our_runpod, runpod, served)


@pytest.fixture
async def planted(both: Both) -> Planted:
    secure, community = await both.create("secure"), await both.create("community")
    spot = await both.create("community", Market.SPOT)
    theirs = await both.vendor(
        f"create_pod('by-runpod', 'ubuntu:22.04', {GPU!r}, cloud_type='SECURE', "
        "container_disk_in_gb=30, ports='22/tcp', env={'COLOUR': 'blue'})"
    )
    body = {"name": "foreign", "image": "ubuntu", "gpu": {"id": GPU}}
    made = await both.served.ask("POST", "/runpod/v2/pods", body, key="somebody-else")
    await both.ours.stop(community)
    await both.served.advance(10)
    return Planted(secure.id, community.id, spot.id, theirs["id"], made.json()["id"])


def _both_see(row: dict[str, Any], machine: Instance) -> None:
    assert machine.ref.id == row["id"]
    assert machine.name == row["name"]
    assert machine.state == STATES[row["desiredStatus"]]
    assert (machine.price or 0) == nanos(row["costPerHr"])
    assert machine.gpu_count == row["gpuCount"]
    assert (machine.image, machine.disk_gb) == (row["imageName"], row["containerDiskInGb"])
    runtime = row["runtime"] or {"ports": []}
    told = {port["privatePort"]: port for port in runtime["ports"] if port["type"] == "tcp"}
    assert machine.ports == {
        f"{inside}/tcp": f"{port['ip']}:{port['publicPort']}"
        for inside, port in told.items()
        if inside != 22
    }
    door = told.get(22)
    assert (machine.ssh is None) == (door is None)
    if machine.ssh and door:
        assert (machine.ssh.host, machine.ssh.port) == (door["ip"], door["publicPort"])


async def test_lists_and_single_pods_agree(both: Both, planted: Planted) -> None:
    theirs, ours = await both.vendors_pods(), await both.listed()
    assert set(theirs) == set(ours) == planted.mine
    assert {row["desiredStatus"] for row in theirs.values()} == {"RUNNING", "EXITED"}
    assert ours[planted.theirs].name == "by-runpod"
    assert ours[planted.theirs].owner is None
    assert ours[planted.secure].owner == "abcdef"
    assert ours[planted.secure].ports
    assert theirs[planted.secure]["env"] == ["COLOUR=red"]
    for id_, row in theirs.items():
        _both_see(row, ours[id_])
        _both_see(await both.vendor(f"get_pod({id_!r})"), await both.ours.get(ours[id_].ref))


async def test_account_and_prices_agree(both: Both) -> None:
    user = await both.vendor("get_user()")
    assert await both.ours.whoami() == user["id"]
    row = await both.vendor(f"get_gpu({GPU!r})")
    secure = await both.offer("secure", Market.ON_DEMAND)
    assert secure.price.compute == nanos(row["securePrice"])
    assert (await both.offer("community", Market.ON_DEMAND)).price.compute == nanos(
        row["communityPrice"]
    )
    assert secure.gpu.memory_gb == row["memoryInGb"]


async def test_what_one_ends_is_gone_for_the_other(both: Both, planted: Planted) -> None:
    refs = {id_: machine.ref for id_, machine in (await both.listed()).items()}
    await both.vendor(f"terminate_pod({planted.secure!r})")
    with pytest.raises(NotFound):
        await both.ours.get(refs[planted.secure])
    assert set(await both.listed()) == planted.mine - {planted.secure}
    await both.ours.terminate(refs[planted.theirs])
    await both.ours.terminate(refs[planted.secure])
    assert await both.vendor(f"get_pod({planted.theirs!r})") is None
    assert set(await both.vendors_pods()) == {planted.community, planted.spot}


async def test_a_state_that_one_changes_the_other_sees(both: Both, planted: Planted) -> None:
    refs = {id_: machine.ref for id_, machine in (await both.listed()).items()}
    await both.vendor(f"stop_pod({planted.theirs!r})")
    stopped = await both.ours.get(refs[planted.theirs])
    assert (stopped.state, stopped.bills_compute) == (State.STOPPED, False)
    await both.vendor(f"resume_pod({planted.community!r}, 1)")
    assert (await both.ours.get(refs[planted.community])).state == State.RUNNING
    await both.ours.start(refs[planted.theirs])
    await both.served.advance(10)
    row = await both.vendor(f"get_pod({planted.theirs!r})")
    assert (row["desiredStatus"], bool(row["runtime"])) == ("RUNNING", True)
