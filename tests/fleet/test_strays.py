"""Machines that carry a closed attempt, or are one too many of an attempt, appear when they like:
the next look ends them, though nobody asked for a sweep."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from msgspec import structs

from gpubroker.fleet import strays
from gpubroker.fleet.adopting import Adoption, adopt
from gpubroker.fleet.keeping import Keeper
from gpubroker.fleet.observing import CADENCE_S
from gpubroker.fleet.warned import recent
from gpubroker.model.errors import AuthFailed, WrongState
from gpubroker.model.identity import attempt_name
from gpubroker.model.offer import Offer
from gpubroker.model.terms import Carrier
from gpubroker.testing.fake_cloud import Crashed

House = Any
HOUR = 3600.0


async def kept(house: House, fleet: Any, seconds: float) -> list[str]:
    """A keeper for so long. Answer: what it could not do."""
    problems: list[str] = []
    keeper = Keeper(fleet.context, fleet)
    until = house.cloud.clock.now() + timedelta(seconds=seconds)
    while house.cloud.clock.now() < until:
        problems += (await keeper.round()).problems
        house.cloud.clock.advance(CADENCE_S)
    return problems


def events(house: House, kind: str) -> int:
    row = house.store._db.execute("SELECT count(*) AS n FROM events WHERE kind = ?", (kind,))
    return int(row.fetchone()["n"])


def warned(house: House) -> list[str]:
    return [one.kind for one in recent(house.store, house.cloud.clock.now().timestamp())]


async def with_a_closed_attempt(house: House) -> tuple[Any, str]:
    """A fleet with one machine in use, had by its second attempt; and the first, not made."""
    house.cloud.script("create", "unknown_before")
    fleet = house.open()
    machine = await house.launch(fleet)
    first, second = machine.tries
    assert (first.outcome, second.outcome) == ("refused", "created")
    house.cloud.clock.advance(HOUR)
    return fleet, first.attempt


def late(house: House, attempt: str, **where: Any) -> Any:
    return house.cloud.plant(owner=house.store.owner, attempt=attempt, name="late", **where)


@pytest.mark.parametrize("gone", ["404", "tombstone", "absent"])
async def test_a_machine_of_a_closed_attempt_that_appears_late_is_ended_by_the_next_look(
    make_house: Callable[..., House], gone: str
) -> None:
    house = make_house(carrier=Carrier.NAME, gone=gone)
    fleet, attempt = await with_a_closed_attempt(house)
    machine = late(house, attempt)
    began = house.cloud.clock.now()
    assert await kept(house, fleet, 5 * CADENCE_S) == []
    assert [one.attempt for one in house.cloud.billed()] == list(house.wanted())
    assert machine.ended_at - began <= timedelta(seconds=CADENCE_S)
    assert (events(house, "owed_end"), events(house, "orphan_found")) == (1, 0)
    assert warned(house) == ["owed_end"]
    assert house.cloud.count("terminate") == 1


async def test_the_second_machine_of_one_attempt_is_ended_and_the_known_one_kept(
    make_house: Callable[..., House],
) -> None:
    house = make_house(carrier=Carrier.NAME)
    fleet = house.open()
    await house.launch(fleet)
    [known] = house.cloud.machines
    twin = late(house, known.attempt)
    await kept(house, fleet, 5 * CADENCE_S)
    assert house.cloud.billed() == [known]
    assert twin.ended_at is not None
    assert house.fleet_row("train-1").ended_at is None


BY_MARKS = pytest.mark.parametrize("carrier", [Carrier.TAG, Carrier.KEY_COMMENT])


@BY_MARKS
async def test_what_may_have_inherited_our_marks_is_warned_of_and_ended_by_a_sweep_alone(
    make_house: Callable[..., House], carrier: Carrier
) -> None:
    """A person's own machine, from a snapshot or with the same key."""
    house = make_house(carrier=carrier, create_deadline_s=60.0)
    fleet, closed = await with_a_closed_attempt(house)
    [known] = house.cloud.billed()
    own = [late(house, closed), late(house, known.attempt)]
    await kept(house, fleet, 2 * HOUR)
    assert house.cloud.billed() == [known, *own]
    assert house.cloud.count("terminate") == 0
    assert (events(house, "owed_end"), events(house, "orphan_found")) == (0, 2)
    report = await fleet.sweep(fix=True, owner=None)
    assert len(report.orphans) == 2
    assert house.cloud.billed() == [known]


@pytest.mark.parametrize(
    "carriers", [(Carrier.TAG, Carrier.NAME), (Carrier.UNIQUE_NAME, Carrier.TAG)]
)
@pytest.mark.parametrize("named", [True, False])
async def test_where_names_are_ours_too_a_copied_tag_is_not_enough(
    make_house: Callable[..., House],
    monkeypatch: pytest.MonkeyPatch,
    carriers: tuple[Carrier, ...],
    named: bool,
) -> None:
    house = make_house(carrier=Carrier.TAG)
    fleet, attempt = await with_a_closed_attempt(house)
    provider = type(fleet.context.clouds.provider("fake", "default"))
    can = structs.replace(provider.capabilities, carriers=carriers)
    monkeypatch.setattr(provider, "capabilities", can)
    machine = late(house, attempt)
    machine.name = attempt_name(house.store.owner, attempt) if named else "copy-of-it"
    await kept(house, fleet, 5 * CADENCE_S)
    assert (machine.ended_at is not None) == named
    assert warned(house) == ["owed_end" if named else "orphan_found"]


@BY_MARKS
async def test_what_was_made_while_its_create_could_take_effect_is_ended_by_its_marks(
    make_house: Callable[..., House], carrier: Carrier
) -> None:
    house = make_house(carrier=carrier, create_deadline_s=60.0)
    fleet, closed = await with_a_closed_attempt(house)
    [known] = house.cloud.billed()
    for row in house.store.attempts_of_provider("fake"):
        made_s = timedelta(seconds=house.cloud.clock.now().timestamp() - row.sent_at - 50)
        late(house, row.id).created_at -= made_s
    assert closed in {one.attempt for one in house.cloud.billed()}
    await kept(house, fleet, 5 * CADENCE_S)
    assert house.cloud.billed() == [known]


async def test_a_second_machine_is_left_alone_while_the_known_one_is_not_listed(
    make_house: Callable[..., House],
) -> None:
    house = make_house(carrier=Carrier.TAG)
    fleet = house.open()
    await house.launch(fleet)
    [known] = house.cloud.machines
    twin = late(house, known.attempt)
    known.visible_at = house.cloud.clock.now() + timedelta(days=1)
    await kept(house, fleet, 5 * CADENCE_S)
    assert twin.ended_at is None
    assert house.cloud.count("terminate") == 0


async def test_an_account_without_machines_in_use_is_looked_at_once_an_hour_by_one_process(
    make_house: Callable[..., House],
) -> None:
    house = make_house(carrier=Carrier.NAME, scoped=True)
    fleet, attempt = await with_a_closed_attempt(house)
    await fleet.terminate("train-1")
    house.cloud.clock.advance(HOUR)
    store = house.another_store()
    other = house.fleet_on(store)
    before = house.cloud.count("list")
    for _ in range(3):
        await strays.look(fleet.context)
        await strays.look(other.context)
        house.cloud.clock.advance(CADENCE_S)
    assert house.cloud.count("list") == before + 2  # one a scope
    store.close()
    late(house, attempt, scope="south")
    await kept(house, fleet, HOUR + CADENCE_S)
    assert house.cloud.billed() == []
    assert house.cloud.count("list") <= before + 8


async def test_a_machine_where_no_other_is_in_use_is_found_beside_those_that_are(
    make_house: Callable[..., House],
) -> None:
    house = make_house(carrier=Carrier.NAME, scoped=True)
    fleet, attempt = await with_a_closed_attempt(house)
    [used] = house.cloud.billed()
    late(house, attempt, scope="south" if used.scope == "north" else "north")
    await kept(house, fleet, HOUR + CADENCE_S)
    assert house.cloud.billed() == [used]


async def test_a_delete_that_fails_is_sent_again_and_told_when_it_is_overdue(
    make_house: Callable[..., House],
) -> None:
    house = make_house(carrier=Carrier.NAME)
    fleet, attempt = await with_a_closed_attempt(house)
    await fleet.terminate("train-1")
    house.cloud.clock.advance(HOUR)
    late(house, attempt)
    sent = house.cloud.count("terminate")
    house.cloud.script("terminate", "error", times=None, error=AuthFailed)
    problems = await kept(house, fleet, 20 * CADENCE_S)
    assert any("late" in problem or "m-" in problem for problem in problems)
    assert 10 <= house.cloud.count("terminate") - sent <= 21
    assert (events(house, "owed_end"), events(house, "orphan_found")) == (1, 1)
    house.cloud.heal()
    await kept(house, fleet, 2 * CADENCE_S)
    assert house.cloud.billed() == []


async def test_a_look_that_fails_is_repeated_in_minutes(make_house: Callable[..., House]) -> None:
    house = make_house(carrier=Carrier.NAME)
    fleet, attempt = await with_a_closed_attempt(house)
    await fleet.terminate("train-1")
    house.cloud.clock.advance(HOUR)
    late(house, attempt)
    house.cloud.script("list", "unavailable", times=1)
    assert await kept(house, fleet, 10 * CADENCE_S) != []
    assert house.cloud.billed() == []


async def test_a_key_that_is_refused_takes_no_look_from_a_process_with_a_good_one(
    make_house: Callable[..., House],
) -> None:
    house = make_house(carrier=Carrier.NAME)
    fleet, attempt = await with_a_closed_attempt(house)
    await fleet.terminate("train-1")
    house.cloud.clock.advance(HOUR)
    late(house, attempt)
    house.cloud.script("list", "error", times=1, error=AuthFailed)
    assert await strays.look(fleet.context) != ()
    house.cloud.clock.advance(CADENCE_S)
    assert await strays.look(fleet.context) == ()  # not asked: it is left to others for a while
    other = house.another_store()
    assert await strays.look(house.fleet_on(other).context) == ()
    other.close()
    assert house.cloud.billed() == []


async def test_what_is_too_early_to_be_ended_is_looked_at_again_soon(
    make_house: Callable[..., House],
) -> None:
    house = make_house(carrier=Carrier.NAME, absence_grace_s=120.0)
    fleet = house.open()
    await house.launch(fleet)
    [known] = house.cloud.machines
    await fleet.terminate("train-1")
    late(house, known.attempt)
    house.cloud.clock.advance(CADENCE_S)  # no list from before it is used any more
    await kept(house, fleet, 5 * CADENCE_S)
    assert house.cloud.billed() == []


async def test_our_owner_with_an_attempt_that_the_store_never_had_is_only_warned_of(
    house: House,
) -> None:
    """A copy of this store may know it."""
    fleet = house.open()
    await house.launch(fleet)
    late(house, "z" * 16)
    await kept(house, fleet, 2 * HOUR)
    assert len(house.cloud.billed()) == 2
    assert (house.cloud.count("terminate"), events(house, "orphan_found")) == (0, 1)


async def test_foreign_machines_and_those_of_other_owners_are_never_touched(
    make_house: Callable[..., House],
) -> None:
    house = make_house(carrier=Carrier.NAME)
    fleet, attempt = await with_a_closed_attempt(house)
    house.cloud.plant()
    house.cloud.plant(owner="zzzzzz", attempt=attempt, name="late")
    house.cloud.plant(owner=None, attempt=attempt)
    await kept(house, fleet, 2 * HOUR)
    assert len(house.cloud.billed()) == 4
    assert house.cloud.count("terminate") == 0
    assert warned(house) == []


async def test_a_machine_in_the_making_is_never_taken_for_a_stray(
    make_house: Callable[..., House],
) -> None:
    """At each boundary of a launch, another process looks."""
    house = make_house(carrier=Carrier.TAG, create_deadline_s=60.0)
    fleet = house.open()
    await house.launch(fleet, name="first")
    other = house.another_store()
    looked: list[str] = []
    import asyncio
    import threading

    def look(boundary: str) -> None:
        def now() -> None:
            other_store = house.another_store()
            context = house.fleet_on(other_store).context
            context.boundary = lambda _: None
            provider = context.clouds.provider("fake", "default")

            async def once() -> None:
                listing = await provider.list("")
                assert await strays.tend(context, provider, [listing], {}) == strays.Seen(0, ())

            asyncio.run(once())
            other_store.close()

        thread = threading.Thread(target=now)
        thread.start()
        thread.join()
        looked.append(boundary)

    house.on_boundary = look
    house.cloud.script("create", "unknown_after")
    fleet = house.fleet_on(other)
    await house.launch(fleet, name="second")
    other.close()
    assert {"sending committed", "create unknown", "adopted", "ready"} <= set(looked)
    assert len(house.cloud.billed()) == 2
    assert house.cloud.count("terminate") == 0
    assert warned(house) == []


async def test_a_list_from_before_the_end_makes_no_stray_of_what_has_ended(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet)
    provider = fleet.context.clouds.provider("fake", "default")
    house.cloud.clock.advance(HOUR)
    listing = await provider.list("")
    await fleet.terminate("train-1")
    sent = house.cloud.count("terminate")
    await strays.tend(fleet.context, provider, [listing], {})
    assert house.cloud.count("terminate") == sent
    assert (events(house, "owed_end"), events(house, "orphan_found")) == (0, 0)


@pytest.mark.parametrize("resume_id", ["new", "told"])
async def test_a_started_machine_with_another_id_is_no_second_machine(
    make_house: Callable[..., House], resume_id: str
) -> None:
    house = make_house(carrier=Carrier.NAME, resume_id=resume_id, create_deadline_s=60.0)
    fleet = house.open()
    await house.launch(fleet)
    await fleet.stop("train-1")
    [machine] = house.cloud.machines
    known_as = machine.id
    provider = fleet.context.clouds.provider("fake", "default")
    await fleet.start("train-1")
    former = late(house, machine.attempt)
    former.id = known_as  # told of for a while under both
    await strays.tend(fleet.context, provider, [await provider.list("")], {})
    assert former.ended_at is None
    house.cloud.clock.advance(HOUR)
    await strays.tend(fleet.context, provider, [await provider.list("")], {})
    assert house.cloud.billed() == [machine]


async def test_a_machine_that_is_adopted_is_no_stray_whatever_it_carries(
    make_house: Callable[..., House],
) -> None:
    house = make_house(carrier=Carrier.NAME)
    fleet, attempt = await with_a_closed_attempt(house)
    machine = late(house, attempt)

    async def no_offers(_: Any) -> tuple[Offer, ...]:
        return ()

    ends = house.cloud.clock.now() + timedelta(days=2)
    asked = Adoption(
        provider="fake", account="default", id=machine.id, name="mine-now", expires_at=ends
    )
    await adopt(fleet.context, asked, no_offers)
    await kept(house, fleet, 2 * HOUR)
    assert machine.ended_at is None
    assert warned(house) == []


def adoption(house: House, machine: Any) -> Adoption:
    ends = house.cloud.clock.now() + timedelta(days=2)
    return Adoption(
        provider="fake", account="default", id=machine.id, name="mine-now", expires_at=ends
    )


async def test_what_is_being_adopted_is_not_ended_meanwhile(
    make_house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    house = make_house(carrier=Carrier.NAME)
    fleet, attempt = await with_a_closed_attempt(house)
    machine = late(house, attempt)
    provider = type(fleet.context.clouds.provider("fake", "default"))
    told = provider._instance
    monkeypatch.setattr(
        provider, "_instance", lambda self, one: structs.replace(told(self, one), price=None)
    )
    other = house.another_store()

    async def looked_at(_: Any) -> tuple[Offer, ...]:
        await strays.look(house.fleet_on(other).context)
        return tuple(house.cloud.stock.values())

    await adopt(fleet.context, adoption(house, machine), looked_at)
    other.close()
    assert machine.ended_at is None
    assert house.cloud.count("terminate") == 0


async def test_what_is_being_ended_is_not_adopted_meanwhile(
    make_house: Callable[..., House], monkeypatch: pytest.MonkeyPatch
) -> None:
    house = make_house(carrier=Carrier.NAME)
    fleet, attempt = await with_a_closed_attempt(house)
    machine = late(house, attempt)
    provider = type(fleet.context.clouds.provider("fake", "default"))
    terminate = provider.terminate

    async def no_offers(_: Any) -> tuple[Offer, ...]:
        return ()

    async def slow(self: Any, ref: Any) -> None:
        with pytest.raises(WrongState, match="or ended by another"):
            await adopt(fleet.context, adoption(house, machine), no_offers)
        await terminate(self, ref)

    monkeypatch.setattr(provider, "terminate", slow)
    await strays.look(fleet.context)
    assert machine.ended_at is not None
    assert house.store.names() == {"train-1"}


async def test_another_accounts_key_ends_nothing(make_house: Callable[..., House]) -> None:
    house = make_house(carrier=Carrier.NAME)
    fleet, attempt = await with_a_closed_attempt(house)
    late(house, attempt)
    house.cloud.script("whoami", "other_account", times=None)
    await kept(house, fleet, 3 * CADENCE_S)
    assert len(house.cloud.billed()) == 2
    assert house.cloud.count("terminate") == 0


@pytest.mark.parametrize("boundary", ["owed end recorded", "owed end sent"])
async def test_killed_while_it_ends_a_stray_the_next_process_goes_on(
    make_house: Callable[..., House], boundary: str
) -> None:
    house = make_house(carrier=Carrier.NAME)
    _, attempt = await with_a_closed_attempt(house)
    late(house, attempt)

    def die(here: str) -> None:
        if here == boundary:
            raise Crashed(here)

    house.on_boundary = die
    fleet = house.open()
    with pytest.raises(Crashed):
        await kept(house, fleet, CADENCE_S)
    house.on_boundary = lambda _: None
    fleet = house.open()
    house.cloud.clock.advance(CADENCE_S)
    await kept(house, fleet, 2 * CADENCE_S)
    assert [one.attempt for one in house.cloud.billed()] == list(house.wanted())
    assert events(house, "owed_end") == 1
