"""Two gpubrokers on one account, one of them lost: nobody ends the other's; what is left is told,
taken over only by name, and swept with all that stood beside it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gpubroker.fleet.adopting import Adoption, SomebodyElses, adopt
from gpubroker.fleet.billing import told
from gpubroker.model.errors import AuthFailed, Invalid, NotFound, WrongState
from gpubroker.model.money import nanos
from gpubroker.model.offer import Offer
from gpubroker.model.terms import Expiry, Resource, State
from gpubroker.store.errors import NameTaken
from gpubroker.testing.fake_cloud import FakeCloud

House = Any
HOUR = 3600.0
NEEDS = (Resource.NETWORK, Resource.ADDRESS)


@pytest.fixture
def make_two(make_house: Callable[..., House]) -> Callable[..., tuple[House, House]]:
    """Two stores, each with an owner of its own, and one cloud."""

    def make(**switches: Any) -> tuple[House, House]:
        one, two = make_house(**switches), make_house(**switches)
        two.cloud = one.cloud
        return one, two

    return make


async def running(house: House, count: int, prefix: str) -> Any:
    fleet = house.open()
    for number in range(count):
        await house.launch(fleet, name=f"{prefix}-{number}")
    return fleet


async def no_offers(_: Any) -> tuple[Offer, ...]:
    return ()


def wanted(id: str, **changes: Any) -> Adoption:
    asked: dict[str, Any] = {
        "provider": "fake",
        "account": "default",
        "id": id,
        "name": "mine-now",
        "expires_at": datetime(2100, 1, 1, tzinfo=UTC),
    }
    return Adoption(**(asked | changes))


async def test_sweeps_of_both_with_fix_end_nothing_of_the_other(
    make_two: Callable[..., tuple[House, House]],
) -> None:
    one, two = make_two(needs=NEEDS)
    first, second = await running(one, 2, "a"), await running(two, 2, "b")
    one.cloud.clock.advance(HOUR)
    before = {m.id for m in one.cloud.billed()}
    resources = [r for r in one.cloud.resources if r.released_at is None]
    for fleet, other in ((first, two.store.owner), (second, one.store.owner)):
        report = await fleet.sweep(fix=True, owner=None)
        assert report.errors == {}
        assert (len(report.ours), len(report.foreign), report.orphans) == (2, 2, ())
        assert {stray.owner for stray in report.foreign} == {other}
        assert all(stray.cost is not None for stray in report.foreign)
        whose = {(found.whose, found.owner == other) for found in report.resources}
        assert whose == {("ours", False), ("foreign", True)}
    assert {m.id for m in one.cloud.billed()} == before
    assert [r for r in one.cloud.resources if r.released_at is None] == resources


async def test_the_lost_stores_machines_are_listed_and_adopted_by_name_only(
    make_two: Callable[..., tuple[House, House]],
) -> None:
    one, two = make_two()
    fleet = await running(one, 1, "a")
    await running(two, 2, "b")
    lost_owner = two.store.owner
    two.close()  # and never seen again
    one.cloud.clock.advance(HOUR)
    report = await fleet.sweep(fix=True, owner=None)
    assert [stray.owner for stray in report.foreign] == [lost_owner] * 2
    stray = report.foreign[0]
    with pytest.raises(SomebodyElses, match=f"--owner {lost_owner}"):
        await adopt(fleet.context, wanted(stray.ref.id), no_offers)
    with pytest.raises(SomebodyElses):
        await adopt(fleet.context, wanted(stray.ref.id, owner="aaaaaa"), no_offers)
    assert one.store.names() == {"a-0"}
    await adopt(fleet.context, wanted(stray.ref.id, owner=lost_owner), no_offers)
    machine = await fleet.show("mine-now")
    assert (machine.state, machine.phase, machine.provider_id) == (
        State.RUNNING, "ready", stray.ref.id,
    )  # fmt: skip
    # Metered from its own beginning, at its own price.
    [truth] = [m for m in one.cloud.machines if m.id == stray.ref.id]
    assert abs(machine.cost_so_far - one.cloud.charged(truth)) <= 1
    assert machine.ssh is not None
    again = await fleet.sweep(fix=True, owner=None)
    assert {one.name for one in again.ours} == {"a-0", "mine-now"}
    assert len(again.foreign) == 1
    ended = await fleet.terminate("mine-now")
    assert ended.state is State.TERMINATED
    [check] = await told(fleet.context, fleet.find("mine-now"))
    assert check.verdict == "agrees"
    assert len(one.cloud.billed()) == 2


async def test_a_machine_of_nobody_is_adopted_and_ended_at_its_expiry(house: House) -> None:
    fleet = house.open()
    foreign = house.cloud.plant()
    ends = house.cloud.clock.now() + timedelta(hours=2)
    await adopt(fleet.context, wanted(foreign.id, expires_at=ends), no_offers)
    machine = fleet._machine(house.fleet_row("mine-now"))
    assert machine.expires_at == ends
    # Its cloud was never told of an expiry: only we end it.
    assert machine.expiry is Expiry.CONTROLLER_ONLY
    house.cloud.clock.advance(HOUR)
    await fleet.settle()
    assert house.cloud.billed() == [foreign]
    house.cloud.clock.advance(1.1 * HOUR)
    await fleet.settle()
    assert house.cloud.billed() == []
    assert house.fleet_row("mine-now").ended_at is not None


async def test_what_is_managed_is_not_adopted_again(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet)
    with pytest.raises(WrongState, match="it is train-1"):
        await adopt(fleet.context, wanted(house.cloud.machines[0].id), no_offers)
    foreign = house.cloud.plant()
    await adopt(fleet.context, wanted(foreign.id), no_offers)
    with pytest.raises(WrongState, match="it is mine-now"):
        await adopt(fleet.context, wanted(foreign.id, name="twice"), no_offers)
    with pytest.raises(NameTaken):
        await adopt(fleet.context, wanted(house.cloud.plant().id), no_offers)


async def test_our_own_orphan_is_adopted_instead_of_ended(house: House) -> None:
    fleet = house.open()
    orphan = house.cloud.plant(owner=house.store.owner, attempt="a" * 16, name="gb-x")
    await adopt(fleet.context, wanted(orphan.id), no_offers)
    report = await fleet.sweep(fix=True, owner=None)
    assert (len(report.ours), report.orphans) == (1, ())
    assert house.cloud.billed() == [orphan]


async def test_a_machine_that_is_not_there_is_not_adopted(house: House) -> None:
    fleet = house.open()
    with pytest.raises(NotFound, match="no machine m-9"):
        await adopt(fleet.context, wanted("m-9"), no_offers)
    gone = house.cloud.plant()
    house.cloud.end(gone)
    with pytest.raises((NotFound, WrongState)):
        await adopt(fleet.context, wanted(gone.id), no_offers)
    assert house.store.launches(include_ended=True) == []


async def test_an_id_in_two_places_needs_its_place(make_house: Callable[..., House]) -> None:
    house = make_house(scoped=True)
    fleet = house.open()
    north, south = house.cloud.plant(scope="north"), house.cloud.plant(scope="south")
    assert north.id == south.id
    with pytest.raises(Invalid, match="north, south"):
        await adopt(fleet.context, wanted(north.id), no_offers)
    await adopt(fleet.context, wanted(south.id, scope="south"), no_offers)
    await fleet.terminate("mine-now")
    assert house.cloud.billed() == [north]


async def test_a_price_that_no_record_tells_comes_from_an_offer_or_a_person(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    from msgspec import structs

    fleet = house.open()
    provider = type(fleet.context.clouds.provider("fake", "default"))
    honest = provider._instance
    monkeypatch.setattr(
        provider, "_instance", lambda self, m: structs.replace(honest(self, m), price=None)
    )
    ids = [house.cloud.plant().id for _ in range(3)]
    with pytest.raises(Invalid, match="--price"):
        await adopt(fleet.context, wanted(ids[0]), no_offers)
    assert house.store.launches() == []
    offer = next(iter(house.cloud.stock.values()))

    async def alike(_: Any) -> tuple[Offer, ...]:
        return (offer,)

    await adopt(fleet.context, wanted(ids[1], name="by-offer"), alike)
    assert fleet._machine(house.fleet_row("by-offer")).price == offer.price.hourly(20)
    await adopt(fleet.context, wanted(ids[2], name="by-person", price=nanos(1.5)), no_offers)
    assert fleet._machine(house.fleet_row("by-person")).price == nanos(1.5)


async def test_a_made_machine_is_given_our_key_where_the_cloud_takes_it(
    make_house: Callable[..., House],
) -> None:
    house = make_house(ssh_keys="attached")
    fleet = house.open()
    foreign = house.cloud.plant()
    house.cloud.clock.advance(60)
    await adopt(fleet.context, wanted(foreign.id, ssh_keys=("ssh-ed25519 AAAA gb-x",)), no_offers)
    assert foreign.admitted == ("ssh-ed25519 AAAA gb-x",)
    booting = house.cloud.plant()  # it refuses keys until it runs, and is managed all the same
    asked = wanted(booting.id, name="booting", ssh_keys=("ssh-ed25519 AAAA gb-x",))
    await adopt(fleet.context, asked, no_offers)
    kinds = [event.kind for event in house.store.events(house.fleet_row("booting").id)]
    assert "key_refused" in kinds


async def test_killed_after_the_commit_an_adoption_is_whole_at_the_next_look(house: House) -> None:
    from gpubroker.fleet.observing import observe
    from gpubroker.testing.fake_cloud import Crashed

    foreign = house.cloud.plant()
    house.cloud.clock.advance(60)

    def die(boundary: str) -> None:
        if boundary == "adoption committed":
            raise Crashed("here")

    house.on_boundary = die
    fleet = house.open()
    with pytest.raises(Crashed):
        await adopt(fleet.context, wanted(foreign.id), no_offers)
    house.on_boundary = lambda _: None
    fleet = house.open()
    await observe(fleet.context)
    machine = fleet._machine(house.fleet_row("mine-now"))
    assert machine.state is State.RUNNING
    assert abs(machine.cost_so_far - house.cloud.charged(foreign)) <= 1


# What stands beside machines


def standing(cloud: FakeCloud) -> list[tuple[str, str | None]]:
    return [(r.kind.value, r.owner) for r in cloud.resources if r.released_at is None]


async def test_leftovers_of_a_closed_or_unknown_attempt_are_released_and_shared_ones_kept(
    make_house: Callable[..., House],
) -> None:
    house = make_house(needs=NEEDS)
    fleet = house.open()
    await house.launch(fleet)
    owner = house.store.owner
    for who, attempt in ((owner, "c" * 16), ("zzzzzz", "d" * 16)):
        house.cloud.ensure_resource(
            Resource.ADDRESS, account="default", scope="", owner=who, attempt=attempt
        )
    looked = await fleet.sweep(fix=False, owner=None)
    assert sorted(found.whose for found in looked.resources) == [
        "foreign", "orphan", "ours", "ours",
    ]  # fmt: skip
    assert house.cloud.count("discard") == 0
    fixed = await fleet.sweep(fix=True, owner=None)
    assert fixed.errors == {}
    assert house.cloud.count("discard") == 1
    assert sorted(standing(house.cloud), key=str) == sorted(
        [("network", owner), ("address", owner), ("address", "zzzzzz")], key=str
    )
    # With the last machine goes what all of them shared.
    await fleet.terminate("train-1")
    assert ("network", owner) in standing(house.cloud)
    await fleet.sweep(fix=True, owner=None)
    assert standing(house.cloud) == [("address", "zzzzzz")]


async def test_another_owners_leftovers_go_only_when_named_and_without_machines(
    make_two: Callable[..., tuple[House, House]],
) -> None:
    one, two = make_two(needs=NEEDS)
    fleet = await running(one, 1, "a")
    await running(two, 1, "b")
    lost = two.store.owner
    two.close()
    await fleet.sweep(fix=True, owner=lost)  # ends its machine; what that used is swept next
    await fleet.sweep(fix=True, owner=None)
    assert sum(owner == lost for _, owner in standing(one.cloud)) == 2
    await fleet.sweep(fix=True, owner=lost)
    assert [owner for _, owner in standing(one.cloud)] == [one.store.owner] * 2
    assert len(one.cloud.billed()) == 1


async def test_lists_of_machines_pay_for_no_list_of_leftovers(
    make_house: Callable[..., House],
) -> None:
    house = make_house(needs=NEEDS)
    fleet = house.open()
    await house.launch(fleet)
    await fleet.terminate("train-1")
    assert house.cloud.count("resources") == 0
    await fleet.sweep(fix=False, owner=None)
    assert house.cloud.count("resources") == 1


async def test_shared_things_stay_while_the_list_of_machines_is_not_whole(
    make_house: Callable[..., House],
) -> None:
    house = make_house(needs=NEEDS)
    fleet = house.open()
    await house.launch(fleet)
    await fleet.terminate("train-1")
    house.cloud.script("list", "partial_list", times=None)
    report = await fleet.sweep(fix=True, owner=None)
    assert report.errors
    assert [found.why for found in report.resources] == ["whether a machine needs it is not known"]
    assert house.cloud.count("discard") == 0


# An account that cannot be trusted closes nothing, and says so


@pytest.mark.parametrize("needs", [(), NEEDS])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("other_key", "belongs to account"),
        ("partial_list", "not complete"),
        ("bad_key", "Invalid user key"),
        ("down", "connection refused"),
    ],
)
async def test_nothing_is_closed_on_the_word_of_a_doubtful_account(
    make_house: Callable[..., House], fault: str, words: str, needs: tuple[Resource, ...]
) -> None:
    house = make_house(needs=needs)
    fleet = house.open()
    await house.launch(fleet)
    await house.launch(fleet, name="second")
    house.cloud.clock.advance(HOUR)
    before = standing(house.cloud)

    class InvalidUserKey(AuthFailed):
        def __init__(self, *_: Any, **more: Any) -> None:
            super().__init__("404 auth_error: Invalid user key", **more)

    match fault:
        case "other_key":
            house.cloud.answer_as("default", "somebody-else")
        case "partial_list":
            house.cloud.script("list", "partial_list", times=None)
        case "bad_key":
            for operation in ("whoami", "list", "get", "resources"):
                house.cloud.script(operation, "error", times=None, error=InvalidUserKey)
        case "down":
            house.cloud.script("list", "unavailable", times=None)
    report = await fleet.sweep(fix=True, owner=None)
    assert words in report.errors["fake/default"]
    assert report.ghosts == ()
    assert house.store.names() == {"train-1", "second"}
    assert (house.cloud.count("terminate"), house.cloud.count("discard")) == (0, 0)
    house.cloud.heal()
    house.cloud.answer_as("default", "fake-default")
    assert len(house.cloud.billed()) == 2
    assert standing(house.cloud) == before
    after = await fleet.sweep(fix=True, owner=None)
    assert (len(after.ours), after.errors) == (2, {})


async def test_one_scope_in_trouble_leaves_the_others_to_be_seen(
    make_house: Callable[..., House],
) -> None:
    house = make_house(scoped=True)
    fleet = house.open()
    house.cloud.plant(scope="north")
    house.cloud.plant(scope="south")
    house.cloud.script("list", "unavailable", skip=1)
    report = await fleet.sweep(fix=True, owner=None)
    assert len(report.foreign) == 1
    assert "connection refused" in report.errors["fake/default"]


@pytest.mark.parametrize("gone", ["404", "tombstone", "absent"])
async def test_an_orphan_is_ended_with_proof_whatever_words_the_cloud_has(
    make_house: Callable[..., House], gone: str
) -> None:
    house = make_house(gone=gone, terminate_s=40.0)
    fleet = house.open()
    house.cloud.plant(owner=house.store.owner, attempt="a" * 16, name="gb-x")
    report = await fleet.sweep(fix=True, owner=None)
    assert report.errors == {}
    assert house.cloud.billed() == []
