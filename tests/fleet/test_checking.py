"""A field of the request that the cloud ignored is an error, by policy."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from gpubroker.fleet.checking import differences
from gpubroker.fleet.context import Probed
from gpubroker.fleet.requests import LaunchRequest
from gpubroker.model.identity import Ref
from gpubroker.model.instance import Endpoint, Instance
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.offer import Offer
from gpubroker.model.terms import State
from gpubroker.testing.fake_cloud import FakeCloud, Switches

House = Any
OFFER = structs.replace(FakeCloud().stock["4090-north"], tier="secure")
CAN = structs.replace(Switches().capabilities(), image="container")
SPEC = LaunchSpec(image="ubuntu", disk_gb=100, ports=((8888, "tcp"),), expires_at=None)
TOLD = Instance(
    ref=Ref("fake", "default", "", "m-1"),
    owner=None,
    attempt=None,
    state=State.RUNNING,
    raw_state="RUNNING",
    bills_compute=True,
    bills_disk=True,
    gpu="NVIDIA GeForce RTX 4090",
    gpu_count=1,
    image="docker.io/library/ubuntu:latest",
    disk_gb=93.1,  # GiB
    region="north",
    tier="secure",
    ports={"8888/tcp": "203.0.113.5:40001"},
)


def differing(told: Instance, can: Any = CAN) -> list[str]:
    return [one.field for one in differences(SPEC, OFFER, told, can)]


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({}, []),
        ({"gpu_count": 2}, ["count"]),
        ({"gpu": "NVIDIA Tesla K80"}, ["gpu"]),
        ({"gpu": "something that nobody knows"}, []),
        ({"disk_gb": 50.0}, ["disk"]),
        ({"disk_gb": 400.0}, []),
        ({"image": "ubuntu:24.04"}, ["image"]),
        ({"ports": {"22/tcp": "203.0.113.5:40000"}}, ["ports"]),
        ({"region": "south"}, ["region"]),
        ({"tier": "community"}, ["tier"]),
        # What the record does not tell is not compared.
        (
            dict.fromkeys(("gpu", "gpu_count", "image", "disk_gb", "region", "tier"))
            | {"ports": {}},
            [],
        ),
    ],
)
def test_each_field_is_compared_as_far_as_it_is_told(
    change: dict[str, Any], fields: list[str]
) -> None:
    assert differing(structs.replace(TOLD, **change)) == fields


def test_what_a_cloud_is_known_to_rewrite_is_passed_over() -> None:
    rewritten = structs.replace(TOLD, disk_gb=10.0, image="ami-123", region="south")
    assert differing(rewritten, structs.replace(CAN, untold=frozenset({"disk"}))) == [
        "image",
        "region",
    ]
    on_vm = structs.replace(CAN, image="docker_on_vm")
    assert differing(rewritten, on_vm) == ["disk", "region"]


async def test_other_gpus_are_given_back_before_they_are_used(house: House) -> None:
    house.cloud.script("create", "wrong_gpu")
    fleet = house.open()
    machine = await house.launch(fleet)
    assert [one.outcome for one in machine.tries] == ["failed", "created"]
    assert "asked for RTX 4090" in machine.tries[0].reason
    assert "K80" in machine.tries[0].reason
    assert len(house.cloud.billed()) == 1
    assert house.leaks() == []


@pytest.mark.parametrize(("then", "creates"), [("", 1), ("warn", 1), ("replace", 2)])
async def test_a_smaller_disk_is_told_or_replaced(house: House, then: Any, creates: int) -> None:
    house.cloud.script("create", "ignored_field")
    fleet = house.open()
    machine = await house.launch(fleet, LaunchRequest(disk_gb=20, on_mismatch=then))
    assert house.cloud.count("create") == creates
    told = [event.data for event in house.events if event.kind == "ignored_field"]
    assert [(one["field"], one["what"]) for one in told] == [
        ("disk", "asked for 20 GB of disk, the cloud's record says 10 GB")
    ]
    assert machine.mismatch == (() if creates > 1 else (told[0]["what"],))


async def test_other_gpus_are_kept_where_the_user_only_wants_to_know(house: House) -> None:
    house.cloud.script("create", "wrong_gpu")
    fleet = house.open()
    machine = await house.launch(fleet, LaunchRequest(disk_gb=20, on_mismatch="warn"))
    assert house.cloud.count("create") == 1
    assert len(machine.mismatch) == 1


@pytest.mark.parametrize(
    ("then", "differs", "disk_gb", "creates"),
    [
        ("", ("gpu", "GPU 0: rented RTX 4090, the machine reports Tesla K80"), None, 2),
        ("warn", ("gpu", "GPU 0: rented RTX 4090, the machine reports Tesla K80"), None, 1),
        ("", ("driver", "no driver is installed"), None, 1),
        ("replace", ("driver", "no driver is installed"), None, 2),
        ("", None, 8.0, 1),
        ("replace", None, 8.0, 2),
    ],
)
async def test_what_the_machine_itself_tells_is_judged_alike(
    house: House, then: Any, differs: Any, disk_gb: Any, creates: int
) -> None:
    looks: list[str] = []

    async def probe(endpoint: Endpoint, alias: str, offer: Offer) -> Probed:
        looks.append(alias)
        if len(set(looks)) > 1:
            return Probed(answers=True, detail="as rented", disk_gb=20.0)
        found = (differs,) if differs else ()
        return Probed(answers=True, detail="", differs=found, disk_gb=disk_gb)

    house.probe = probe
    fleet = house.open()
    machine = await house.launch(fleet, LaunchRequest(disk_gb=20, on_mismatch=then))
    assert house.cloud.count("create") == creates
    assert len(machine.mismatch) == (1 if creates == 1 else 0)
    assert len(house.cloud.billed()) == 1


async def test_a_changed_host_key_is_no_matter_of_policy(house: House) -> None:
    answers = iter([("its host key changed",), ()])

    async def probe(endpoint: Endpoint, alias: str, offer: Offer) -> Probed:
        return Probed(answers=True, detail="", problems=next(answers))

    house.probe = probe
    fleet = house.open()
    await house.launch(fleet, LaunchRequest(disk_gb=20, on_mismatch="warn"))
    assert house.cloud.count("create") == 2
