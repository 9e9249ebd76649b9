"""What another process lacks or wishes: it closes no launch, and nothing is sent that was ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gpubroker.accounts import missing
from gpubroker.fleet.errors import NothingToBeHad
from gpubroker.fleet.keeping import Keeper, Round
from gpubroker.fleet.leaving import LEFT_S
from gpubroker.fleet.requests import LaunchRequest
from gpubroker.model.terms import Carrier, Resource
from gpubroker.providers.calling import Call, check_before_sending
from gpubroker.providers.decorated import decorate
from gpubroker.store.seal import Seal
from gpubroker.testing.fake_cloud import Crashed

House = Any


class NoKeyForTheCloud:
    """The accounts of a process whose environment lacks the cloud's variables."""

    def provider(self, name: str, account: str) -> Any:
        raise missing(name, account)

    def configured(self) -> tuple[tuple[str, str], ...]:
        return ()


def without_secret_key(fleet: Any, folder: Path) -> str:
    fleet.context.seal = Seal(folder / "another.key", None)
    return "another.key is missing"


def without_the_clouds_key(fleet: Any, folder: Path) -> str:
    del folder
    fleet.context.clouds = NoKeyForTheCloud()
    return "no key for fake was found"


LACKING = (without_secret_key, without_the_clouds_key)


@pytest.fixture(params=["sqlite", "postgresql"])
def house(request: pytest.FixtureRequest, make_house: Callable[..., House]) -> House:
    postgres = request.getfixturevalue("postgres") if request.param == "postgresql" else ""
    return make_house(postgres=postgres, needs=(Resource.NETWORK,))


def die_at(boundary: str) -> Callable[[str], None]:
    def told(reached: str) -> None:
        if reached == boundary:
            raise Crashed(reached)

    return told


async def left_by_a_process_that_died(
    house: House, request: LaunchRequest | None = None, boundary: str = "intent committed"
) -> Any:
    house.on_boundary = die_at(boundary)
    with pytest.raises(Crashed):
        await house.launch(house.open(), request)
    house.on_boundary = lambda _: None
    return house.open()


@pytest.mark.parametrize("lacking", LACKING)
async def test_who_lacks_a_key_leaves_an_intent_to_who_has_it(
    house: House, tmp_path: Path, lacking: Callable[[Any, Path], str]
) -> None:
    why = lacking(fleet := await left_by_a_process_that_died(house), tmp_path)
    before = house.store.attempts(house.fleet_row("train-1").id)
    for _ in range(5):
        [problem] = await fleet.settle()
        assert problem.startswith("train-1: ")
        assert why in problem
    row = house.fleet_row("train-1")
    assert (row.ended_at, row.error, row.holder) == (None, "", "")
    assert house.store.attempts(row.id) == before
    assert house.cloud.machines == []
    assert await house.open().settle() == ()
    assert len(house.cloud.billed()) == 1
    assert house.leaks() == []


@pytest.mark.parametrize("lacking", LACKING)
async def test_a_keeper_that_lacks_a_key_says_so_and_looks_again_after_a_long_pause(
    house: House, tmp_path: Path, lacking: Callable[[Any, Path], str]
) -> None:
    why = lacking(fleet := await left_by_a_process_that_died(house), tmp_path)
    began = house.cloud.clock.now()
    rounds: list[Round] = []

    def stop_in_time(done: Round) -> None:
        rounds.append(done)
        if house.cloud.clock.now() - began > timedelta(seconds=3 * LEFT_S):
            keeper.stop()

    keeper = Keeper(fleet.context, fleet, on_round=stop_in_time)
    await keeper.run()
    told = [problem for done in rounds for problem in done.problems]
    assert 3 <= len(told) <= 4
    assert all(why in problem for problem in told)
    assert len(rounds) < 30  # it does not ask every two seconds
    assert house.fleet_row("train-1").ended_at is None
    # Who has the key waits for nothing.
    assert await house.open().settle() == ()
    assert len(house.cloud.billed()) == 1


@pytest.mark.parametrize("lacking", LACKING)
async def test_what_is_left_to_others_is_ended_at_its_expiry_and_when_wished(
    house: House, tmp_path: Path, lacking: Callable[[Any, Path], str]
) -> None:
    request = LaunchRequest(disk_gb=20, ttl=timedelta(seconds=LEFT_S / 2))
    fleet = await left_by_a_process_that_died(house, request)
    lacking(fleet, tmp_path)
    keeper = Keeper(fleet.context, fleet)
    await keeper.round()
    house.cloud.clock.advance(LEFT_S / 2 + 1)
    await keeper.round()
    assert house.fleet_row("train-1").ended_at is not None

    fleet = await left_by_a_process_that_died(house)
    lacking(fleet, tmp_path)
    keeper = Keeper(fleet.context, fleet)
    await keeper.round()
    await fleet.terminate("train-1")
    assert house.store.launches() == []


async def test_an_end_that_is_owed_beside_what_is_left_does_not_wait(
    house: House, tmp_path: Path
) -> None:
    """A first machine was given back, and the next attempt is for another process to send."""
    house.cloud.script("create", "boot_failure")
    house.cloud.script("terminate", "ignored")
    fleet = await left_by_a_process_that_died(house, boundary="next attempt committed")
    without_secret_key(fleet, tmp_path)
    keeper = Keeper(fleet.context, fleet)
    row = house.fleet_row("train-1")
    given_back, to_send = house.store.attempts(row.id)
    began = house.cloud.clock.now()
    while house.cloud.billed() or house.store.owed_releases(row.id) or given_back.open:
        assert house.cloud.clock.now() - began < timedelta(seconds=LEFT_S / 2)
        await keeper.round()
        house.cloud.clock.advance(2)
        given_back, to_send = house.store.attempts(row.id)
    assert house.cloud.count("terminate") == 2
    assert (given_back.status, to_send.status) == ("gone", "intent")
    assert house.fleet_row("train-1").ended_at is None


@pytest.mark.parametrize("wish", ["stop", "start"])
async def test_a_keeper_without_the_key_hides_no_stop_and_no_start_from_who_has_it(
    house: House, tmp_path: Path, wish: str
) -> None:
    fleet = house.open()
    await house.launch(fleet)
    if wish == "start":
        await fleet.stop("train-1")
    house.on_boundary = die_at(f"{wish} wanted")
    with pytest.raises(Crashed):
        await getattr(house.open(), wish)("train-1")
    house.on_boundary = lambda _: None
    house.open()
    fleet = house.fleet_on(house.another_store())
    why = without_the_clouds_key(fleet, tmp_path)
    wished_at = house.fleet_row("train-1").power_at
    keeper = Keeper(fleet.context, fleet)
    told: list[str] = []
    for _ in range(10):
        told += (await keeper.round()).problems
        house.cloud.clock.advance(20)
    assert [why in problem for problem in told if problem.startswith("train-1: ")] == [True]
    assert house.fleet_row("train-1").power_at == wished_at
    fleet.context.store.close()
    assert await house.fleet_on(house.store).settle() == ()
    assert house.cloud.count(wish) == 1


@pytest.mark.parametrize("lacking", LACKING)
async def test_who_was_asked_for_the_launch_is_told_at_once(
    house: House, tmp_path: Path, lacking: Callable[[Any, Path], str]
) -> None:
    fleet = house.open()
    why: list[str] = []

    def lose_it(boundary: str) -> None:
        if boundary == "intent committed":
            why.append(lacking(fleet, tmp_path))

    fleet.context.boundary = lose_it
    began = house.cloud.clock.now()
    with pytest.raises(NothingToBeHad) as told:
        await house.launch(fleet)
    assert why[0] in str(told.value)
    assert house.cloud.clock.now() - began < timedelta(seconds=30)
    assert house.store.launches() == []
    assert house.cloud.machines == []


def end_it(house: House) -> None:
    """Another process of the same user."""
    other = house.another_store()
    [row] = other.launches()
    other.want(row.id, "gone", house.cloud.clock.now().timestamp(), "asked")
    other.close()


@pytest.mark.parametrize("at", ["need network made", "sending committed"])
async def test_nothing_is_sent_once_the_end_is_wished(house: House, at: str) -> None:
    def told(boundary: str) -> None:
        if boundary == at:
            house.on_boundary = fleet.context.boundary = lambda _: None
            end_it(house)

    house.on_boundary = told
    fleet = house.open()
    await house.launch(fleet)
    assert house.cloud.count("create") == 0
    [attempt] = house.store.attempts(house.fleet_row("train-1").id)
    assert (attempt.status, attempt.sent_at) == ("unsent", None)
    assert house.fleet_row("train-1").ended_at is not None
    assert house.leaks() == []


async def test_nothing_is_sent_where_the_end_is_wished_while_it_waits_for_its_turn(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = house.open()
    provider = fleet.context.clouds.provider("fake", "default")

    async def turn(call: Call, proceed: Callable[[], Awaitable[Any]]) -> Any:
        if call.operation == "create":
            end_it(house)
            check_before_sending()
        return await proceed()

    monkeypatch.setattr(fleet.context.clouds, "provider", lambda *_: decorate(provider, [turn]))
    await house.launch(fleet)
    assert house.cloud.count("create") == 0
    assert house.fleet_row("train-1").ended_at is not None
    assert house.leaks() == []


async def test_an_attempt_that_may_be_there_is_looked_for_and_not_sent_again_once_ended(
    make_house: Callable[..., House],
) -> None:
    """It was sent before: what the wish keeps back is only the second sending."""
    house = make_house(
        carrier=Carrier.TOKEN, needs=(Resource.NETWORK,), create_deadline_s=60.0, list_lag_s=10.0
    )
    house.cloud.script("create", "unknown_late")
    sent: list[str] = []

    def told(boundary: str) -> None:
        sent.append(boundary)
        if sent.count("sending committed") == 2:
            house.on_boundary = fleet.context.boundary = lambda _: None
            end_it(house)

    house.on_boundary = told
    fleet = house.open()
    await house.launch(fleet)
    assert house.cloud.count("create") == 1
    house.cloud.clock.advance(600)
    assert len(house.cloud.machines) == 1
    assert house.cloud.billed() == []
    assert house.leaks() == []
