"""The part of a machine's start that comes over SSH, and the container that a VM is to run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.fleet.conftest import House

from gpubroker.fleet.context import Probed
from gpubroker.fleet.errors import NothingToBeHad
from gpubroker.fleet.planning import plan
from gpubroker.fleet.requests import LaunchRequest
from gpubroker.model.capabilities import needed
from gpubroker.model.instance import Endpoint
from gpubroker.model.launch import LaunchSpec, RegistryAuth
from gpubroker.model.offer import Offer
from gpubroker.model.terms import Resource
from gpubroker.testing.fake_cloud import Switches
from gpubroker.testing.stock import first_stock

MakeHouse = Callable[..., House]


class Logins:
    """What the looks at a machine find, one after the other; the last for ever."""

    def __init__(self, *found: Probed) -> None:
        self.found = list(found)

    async def __call__(self, endpoint: Endpoint, alias: str, offer: Offer) -> Probed:
        return self.found.pop(0) if len(self.found) > 1 else self.found[0]


GOOD = Probed(answers=True, detail="GPU checked", in_container=True)
ON_THE_VM = Probed(answers=True, detail="GPU checked", in_container=False)
PULLS = Probed(answers=True, detail="pulling", waits="gpubroker: pulling big/image")


async def test_what_did_not_fit_is_run_once_before_the_machine_is_ready(
    make_house: MakeHouse,
) -> None:
    house = make_house(boots_over_ssh=True)
    house.probe = Logins(Probed(answers=False, detail="refused"), ON_THE_VM)
    fleet = house.open()
    await house.launch(fleet)
    [machine] = house.cloud.machines
    assert machine.boots == [f"boot {machine.name}"]
    [attempt] = house.store.attempts(house.fleet_row("train-1").id)
    assert attempt.booted_at is not None
    assert attempt.ready_at is not None
    assert attempt.booted_at <= attempt.ready_at


async def test_a_process_that_died_leaves_the_script_to_the_next_one(
    make_house: MakeHouse,
) -> None:
    house = make_house(boots_over_ssh=True)
    house.probe = Logins(GOOD)

    class Killed(BaseException):
        pass

    def die(boundary: str) -> None:
        if boundary == "booted":
            raise Killed

    house.on_boundary = die
    with pytest.raises(Killed):
        await house.launch(house.open())
    house.on_boundary = lambda _: None
    await house.open().settle()
    [machine] = house.cloud.machines
    assert machine.boots == [f"boot {machine.name}"] * 2
    assert house.fleet_row("train-1").ended_at is None


async def test_a_script_that_fails_gives_the_machine_back_with_its_words(
    make_house: MakeHouse,
) -> None:
    house = make_house(boots_over_ssh=True)
    house.probe = Logins(GOOD)

    def fail(boundary: str) -> None:
        for machine in house.cloud.machines:
            machine.boot_code = 1

    house.on_boundary = fail
    with pytest.raises(NothingToBeHad) as caught:
        await house.launch(house.open())
    assert "exit code 1: said by the machine" in str(caught.value)
    assert house.leaks() == []


async def test_a_vm_is_ready_when_a_login_lands_in_its_container(make_house: MakeHouse) -> None:
    house = make_house()
    waits = [PULLS] * 1000
    house.probe = Logins(ON_THE_VM, *waits, GOOD)
    machine = await house.launch(house.open(), LaunchRequest(disk_gb=20, image="big/image"))
    assert machine.phase == "ready"
    phases = [event.data["phase"] for event in house.events if event.kind == "phase"]
    assert phases.count("pulling") == 1, "a phase that begins anew at each look never ends"


async def test_an_image_that_never_comes_is_given_up(make_house: MakeHouse) -> None:
    house = make_house()
    house.probe = Logins(PULLS)
    with pytest.raises(NothingToBeHad, match="not ready: pulling for more than 3600 s"):
        await house.launch(house.open(), LaunchRequest(disk_gb=20, image="big/image"))


async def test_without_an_image_a_login_lands_on_the_vm(make_house: MakeHouse) -> None:
    house = make_house()
    house.probe = Logins(ON_THE_VM)
    machine = await house.launch(house.open())
    assert machine.phase == "ready"


@pytest.mark.parametrize(
    ("asked", "made"),
    [
        ({}, (Resource.SSH_KEY,)),
        (
            {"registry_auth": RegistryAuth("a", "b", "c", "d")},
            (Resource.SECRET, Resource.SSH_KEY),
        ),
    ],
)
def test_a_secret_is_made_for_who_has_one(
    asked: dict[str, Any], made: tuple[Resource, ...]
) -> None:
    switches = Switches(needs=(Resource.SECRET, Resource.SSH_KEY, Resource.VOLUME))
    assert needed(switches.capabilities(), LaunchSpec(expires_at=None, **asked)) == made


def test_offers_of_clouds_that_cannot_do_what_is_asked_are_left_out_with_the_reason() -> None:
    offers = first_stock("fake")
    planned = plan(
        offers,
        LaunchRequest(registry_auth="hub"),
        disk_gb=20,
        total=len(offers),
        now=datetime(2026, 1, 2, tzinfo=UTC),
        cooldowns={},
        unable={"fake": "Fake Cloud takes no login"},
    )
    assert planned.ranked == ()
    assert {why for _, why in planned.left_out} == {"Fake Cloud takes no login"}
