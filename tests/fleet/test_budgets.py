"""Budgets: refused in the launch transaction, climbed by the keeper alone, and forecast."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gpubroker.fleet import budgets
from gpubroker.fleet.budgets import UnknownBudget
from gpubroker.fleet.keeping import Keeper
from gpubroker.fleet.requests import LaunchRequest
from gpubroker.model.budget import LADDER, SOFT_LADDER, Budget, Period, Rung
from gpubroker.model.errors import BudgetExceeded, Invalid
from gpubroker.model.money import nanos
from gpubroker.model.terms import State

House = Any


def set_budget(house: House, usd: float, **change: Any) -> Budget:
    hard = change.get("hard", True)
    plain: dict[str, Any] = {
        "name": "thesis",
        "amount": nanos(usd),
        "ladder": LADDER if hard else SOFT_LADDER,
        "created_at": house.cloud.clock.now(),
    }
    budget = Budget(**(plain | change))
    budgets.put(house.store, budget)
    return budget


def report(house: House, name: str = "thesis") -> Any:
    return budgets.report(house.store, name, house.cloud.clock.now())


def request(hours: float = 4, **change: Any) -> LaunchRequest:
    return LaunchRequest(disk_gb=20, ttl=timedelta(hours=hours), **change)


async def rounds(house: House, fleet: Any, count: int = 4, apart_s: float = 120) -> Keeper:
    """As the keeper, and nothing else, would run."""
    keeper = Keeper(fleet.context, fleet)
    for _ in range(count):
        house.cloud.clock.advance(apart_s)
        await keeper.round()
    return keeper


def kinds(house: House) -> list[str]:
    found = house.store._db.execute("SELECT kind FROM events WHERE kind LIKE 'budget%' ORDER BY id")
    return [row["kind"] for row in found]


def states(house: House) -> list[State]:
    return [machine.state for machine in house.cloud.machines]


# The launch


async def test_a_launch_that_could_exceed_a_budget_is_refused_with_the_longest_that_fits(
    house: House,
) -> None:
    fleet = house.open()
    set_budget(house, 1.0)
    with pytest.raises(BudgetExceeded) as caught:
        await house.launch(fleet, request(4))
    # The dearest planned offer is $0.404/h with its disk, and may cost 10 % more.
    assert str(caught.value) == (
        'budget "thesis" has $1.00 left; this launch could cost $1.78. '
        "Nothing was rented. Shorter: --ttl 2h15m"
    )
    assert house.store.launches(include_ended=True) == []
    assert house.cloud.count("create") == 0
    await house.launch(fleet, request(2.25))


async def test_what_runs_already_counts_with_all_that_it_can_still_cost(house: House) -> None:
    fleet = house.open()
    set_budget(house, 2.0)
    await house.launch(fleet, request(4))
    told = report(house)
    assert told.spent < nanos(0.01)
    assert nanos(0.8) < told.committed < nanos(0.9)  # it runs as the cheapest of the three
    with pytest.raises(BudgetExceeded, match=r"has \$1\.1\d left; this launch could cost \$1\.78"):
        await house.launch(fleet, request(4), name="train-2")
    await house.launch(fleet, request(2), name="train-2")


async def test_a_budget_counts_its_own_project_or_tag_only(house: House) -> None:
    fleet = house.open()
    set_budget(house, 0.5, name="p", scope="project", value="thesis")
    set_budget(house, 0.5, name="t", scope="tag", value="team=vision")
    await house.launch(fleet, request(4, project="other", tags={"team": "audio"}))
    with pytest.raises(BudgetExceeded, match='"p"'):
        await house.launch(fleet, request(4, project="thesis"), name="a")
    with pytest.raises(BudgetExceeded, match='"t"'):
        await house.launch(fleet, request(4, tags={"team": "vision", "x": "y"}), name="b")
    [machine] = [house.fleet_row("train-1")]
    assert (machine.project, machine.tags) == ("other", '{"team":"audio"}')
    assert report(house, "p").shares == ()


async def test_a_soft_budget_refuses_nothing(house: House) -> None:
    fleet = house.open()
    set_budget(house, 0.01, hard=False)
    await house.launch(fleet, request(4))


async def test_a_launch_without_an_expiry_has_no_place_in_a_budget_without_an_end(
    house: House,
) -> None:
    fleet = house.open()
    set_budget(house, 100.0)
    endless = LaunchRequest(disk_gb=20, ttl=None, no_expiry=True)
    with pytest.raises(BudgetExceeded, match="no highest cost"):
        await house.launch(fleet, endless)
    set_budget(house, 100.0, period="day")
    await house.launch(fleet, endless)
    # It counts to the end of the day: 12 hours from noon.
    assert nanos(2.3) < report(house).committed < nanos(2.5)


async def test_what_runs_without_an_expiry_leaves_nothing_to_promise(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet, LaunchRequest(disk_gb=20, ttl=None, no_expiry=True))
    set_budget(house, 100.0)
    assert report(house).committed is None
    assert report(house).left == 0
    with pytest.raises(BudgetExceeded, match="train-1 has no expiry"):
        await house.launch(fleet, request(1), name="train-2")


async def test_what_is_ended_gives_back_what_it_did_not_use(house: House) -> None:
    fleet = house.open()
    set_budget(house, 1.8)
    await house.launch(fleet, request(4))
    house.cloud.clock.advance(3600)
    await fleet.terminate("train-1")
    told = report(house)
    assert told.committed == told.spent
    assert nanos(0.2) < told.spent < nanos(0.25)
    with pytest.raises(BudgetExceeded):
        await house.launch(fleet, request(4), name="train-2")
    await house.launch(fleet, request(3), name="train-2")


async def test_a_plan_is_refused_before_anybody_is_asked(house: House) -> None:
    from gpubroker.fleet.planning import plan

    house.open()
    set_budget(house, 1.0)
    now = house.cloud.clock.now()
    offers = [offer for offer in house.cloud.stock.values() if offer.gpu_count == 1]
    for hours, fits in ((4, False), (2, True)):
        asked = request(hours)
        planned = plan(offers, asked, disk_gb=20, total=3, now=now, cooldowns={})
        if fits:
            budgets.check_plan(house.store, asked, planned, now)
        else:
            with pytest.raises(BudgetExceeded, match="Shorter: --ttl 2h15m"):
                budgets.check_plan(house.store, asked, planned, now)


async def test_the_plan_of_several_nodes_is_asked_for_together(house: House) -> None:
    from gpubroker.fleet.planning import plan

    house.open()
    set_budget(house, 1.0)
    now = house.cloud.clock.now()
    offers = [offer for offer in house.cloud.stock.values() if offer.gpu_count == 1]
    for nodes, fits in ((1, True), (2, False)):
        asked = request(2, nodes=nodes)
        planned = plan(offers, asked, disk_gb=20, total=3, now=now, cooldowns={})
        if fits:
            budgets.check_plan(house.store, asked, planned, now)
        else:
            with pytest.raises(BudgetExceeded):
                budgets.check_plan(house.store, asked, planned, now)


def test_nothing_shorter_is_suggested_where_hardly_anything_is_left() -> None:
    assert budgets._longest(nanos(1), nanos(0.01), 1) == ""
    assert budgets._longest(nanos(1), nanos(2), 1) == "2h"
    assert budgets._longest(nanos(1), nanos(2.99), 3600) == "2h"
    assert budgets._longest(nanos(1), 0, 1) == ""


# Periods


@pytest.mark.parametrize(
    ("period", "since", "until"),
    [
        ("day", datetime(2026, 2, 28, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)),
        ("week", datetime(2026, 2, 23, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)),
        ("month", datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)),
        ("total", datetime(2026, 1, 5, tzinfo=UTC), None),
    ],
)
def test_periods_are_the_calendars(period: Period, since: datetime, until: datetime | None) -> None:
    first = datetime(2026, 1, 5, tzinfo=UTC)
    budget = Budget(name="b", amount=nanos(1), period=period, created_at=first)
    assert budget.window(datetime(2026, 2, 28, 15, 4, tzinfo=UTC)) == (since, until)


async def test_a_new_period_begins_with_nothing_spent(house: House) -> None:
    fleet = house.open()
    set_budget(house, 10, period="day")
    await house.launch(fleet, request(24))
    house.cloud.clock.advance(11 * 3600)
    assert report(house).spent > nanos(2)
    house.cloud.clock.advance(2 * 3600)
    told = report(house)
    assert nanos(0.2) < told.spent < nanos(0.25)
    assert told.since == datetime(2026, 1, 2, tzinfo=UTC)


async def test_a_budget_counts_from_when_it_was_first_set(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet, request(24))
    house.cloud.clock.advance(3600)
    set_budget(house, 50)
    house.cloud.clock.advance(3600)
    set_budget(house, 60)  # a change of the amount keeps what was counted
    assert nanos(0.2) < report(house).spent < nanos(0.21)


# The forecast


async def test_the_forecast_says_when_the_present_burn_uses_it_up(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet, request(8))
    set_budget(house, 2.04)
    house.cloud.clock.advance(1800)
    told = report(house)
    assert told.burn == nanos(0.204)
    hours = (told.used_up_at - house.cloud.clock.now()) / timedelta(hours=1)
    assert 9.49 < hours < 9.51
    set_budget(house, 200, period="day")
    assert report(house).used_up_at is None
    await fleet.terminate("train-1")
    assert report(house).used_up_at is None
    set_budget(house, 0.00001)
    assert report(house).used_up_at == house.cloud.clock.now()


# The ladder, with only the keeper running


async def test_the_ladder_warns_stops_and_terminates_each_once(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet, request(24))
    set_budget(house, 0.204)  # an hour of it
    await rounds(house, fleet, 2)
    assert kinds(house) == []
    await rounds(house, fleet, 2, 45 * 30)
    assert kinds(house) == ["budget_warn"]
    assert states(house) == [State.RUNNING]
    await rounds(house, fleet, 9, 60)
    assert kinds(house) == ["budget_warn", "budget_stop"]
    assert states(house) == [State.STOPPED]
    assert house.fleet_row("train-1").wanted == "stopped"
    # Its disk goes on costing: $0.006/h, until that is the last cent.
    await rounds(house, fleet, 6, 3600)
    assert kinds(house) == ["budget_warn", "budget_stop", "budget_terminate"]
    assert house.cloud.billed() == []
    assert house.leaks() == []
    assert house.fleet_row("train-1").ended_at is not None
    whys = [event.data for event in house.store.events(house.fleet_row("train-1").id)]
    assert any("budget thesis" in why for why in whys)


async def test_a_cloud_that_cannot_stop_ends_at_the_last_rung_only(
    make_house: Callable[..., House],
) -> None:
    house = make_house(stop="none")
    fleet = house.open()
    await house.launch(fleet, request(24))
    set_budget(house, 0.204)
    await rounds(house, fleet, 1, 3490)
    assert kinds(house) == ["budget_warn", "budget_stop"]
    assert states(house) == [State.RUNNING]
    await rounds(house, fleet, 4, 120)
    assert kinds(house)[-1] == "budget_terminate"
    assert house.cloud.billed() == []


async def test_a_machine_that_is_started_again_is_stopped_again(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet, request(24))
    set_budget(house, 10.0, ladder=(Rung(0.01, "stop"),))
    await rounds(house, fleet, 2, 3000)
    await fleet.start("train-1")
    assert states(house) == [State.RUNNING]
    await rounds(house, fleet, 3, 120)
    assert states(house) == [State.STOPPED]
    assert kinds(house) == ["budget_stop"]


async def test_a_start_counts_what_the_machine_will_cost_when_it_runs(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet, request(24))
    await fleet.stop("train-1")
    set_budget(house, 0.204)  # an hour of 24
    with pytest.raises(BudgetExceeded, match="train-1 was not started"):
        await fleet.start("train-1")
    assert house.fleet_row("train-1").wanted == "stopped"
    assert states(house) == [State.STOPPED]
    set_budget(house, 10.0)
    await fleet.start("train-1")
    assert states(house) == [State.RUNNING]


async def test_a_start_of_what_was_stopped_by_hand_is_checked_too(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet, request(24))
    [machine] = house.cloud.machines
    house.cloud.halt(machine)
    await fleet.show("train-1")
    set_budget(house, 0.204)
    with pytest.raises(BudgetExceeded, match="train-1 was not started"):
        await fleet.start("train-1")
    assert house.cloud.count("start") == 0


async def test_a_soft_budget_only_warns(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet, request(24))
    set_budget(house, 0.1, hard=False)
    await rounds(house, fleet, 3, 3600)
    assert kinds(house) == ["budget_warn", "budget_warn"]
    assert len(house.cloud.billed()) == 1


async def test_a_budget_ends_nothing_of_another_project(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet, request(24, project="a"))
    await house.launch(fleet, request(24, project="b"), name="train-2")
    set_budget(house, 0.1, scope="project", value="a")
    await rounds(house, fleet, 4, 3600)
    assert [row.name for row in house.store.launches()] == ["train-2"]


async def test_a_new_period_and_a_new_amount_tell_their_rungs_anew(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet, request(72))
    warn = (Rung(0.5, "warn"),)
    set_budget(house, 0.1, period="day", hard=False, ladder=warn)
    await rounds(house, fleet, 3, 3600)
    assert len(kinds(house)) == 1
    await rounds(house, fleet, 4, 6 * 3600)
    assert len(kinds(house)) == 2
    set_budget(house, 0.2, period="day", hard=False, ladder=warn)
    await rounds(house, fleet, 2, 3600)
    assert len(kinds(house)) == 3


# What is refused


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"name": "my budget"}, "made of letters"),
        ({"amount": nanos(0)}, r"more than \$0"),
        ({"scope": "project"}, "has a name"),
        ({"scope": "tag", "value": "=x"}, "key=value"),
        ({"ladder": (Rung(1.0, "warn"), Rung(0.5, "stop"))}, "rise"),
        ({"ladder": (Rung(0.0, "warn"),)}, "rise"),
        ({"hard": False, "ladder": LADDER}, "only warns"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(
    house: House, change: dict[str, Any], why: str
) -> None:
    house.open()
    with pytest.raises(Invalid, match=why):
        set_budget(house, 10, **change)
    assert budgets.reports(house.store, house.cloud.clock.now()) == ()


def test_a_budget_that_is_not_there_names_the_nearest(house: House) -> None:
    house.open()
    set_budget(house, 10)
    with pytest.raises(UnknownBudget, match="Did you mean thesis"):
        report(house, "theses")
    with pytest.raises(UnknownBudget):
        budgets.remove(house.store, "theses")
    budgets.remove(house.store, "thesis")
    assert house.store.budgets.all() == []


# What runs already


async def test_an_extension_is_asked_for_like_a_launch(house: House) -> None:
    fleet = house.open()
    await house.launch(fleet, request(2))
    set_budget(house, 1.0)
    before = house.fleet_row("train-1").expires_at
    with pytest.raises(BudgetExceeded) as caught:
        await fleet.extend("train-1", by=timedelta(hours=4))
    assert str(caught.value) == (
        'budget "thesis" has $1.00 left; this launch could cost $1.23 more. '
        "train-1 was not extended. It may run 4h54m from now"
    )
    assert house.fleet_row("train-1").expires_at == before
    await fleet.extend("train-1", by=timedelta(hours=2))
    assert house.fleet_row("train-1").expires_at == before + 7200


# Killed on the way


@pytest.mark.parametrize(
    "step",
    [
        "budget warn recorded",
        "budget stop recorded",
        "budget stop wanted",
        "budget stop sent",
        "budget terminate recorded",
        "budget end wanted",
    ],
)
async def test_a_keeper_killed_on_a_rung_is_gone_on_with(house: House, step: str) -> None:
    class Killed(BaseException):
        pass

    def kill(reached: str) -> None:
        if reached == step:
            raise Killed

    fleet = house.open()
    await house.launch(fleet, request(24))
    set_budget(house, 0.204)
    house.on_boundary = kill
    fleet = house.open()
    killed = 0
    for pause in (2900, 540, *[60] * 3, *[3600] * 6):
        try:
            await rounds(house, fleet, 1, pause)
        except Killed:
            killed += 1
            house.on_boundary = lambda _: None
            fleet = house.open()
    assert killed == 1
    assert kinds(house) == ["budget_warn", "budget_stop", "budget_terminate"]
    assert house.cloud.billed() == []
    assert house.leaks() == []
