"""Warnings reach each channel once, are tried again while they do not, and say nothing secret."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.fleet.receivers import http

from gpubroker.fleet.channels import Notice, Undelivered, Webhook
from gpubroker.fleet.context import Context
from gpubroker.fleet.keeping import Keeper
from gpubroker.fleet.outbox import MOST_TRIES, Route, deliver, reports, try_out
from gpubroker.fleet.requests import LaunchRequest
from gpubroker.fleet.warned import recent
from gpubroker.model.errors import Unavailable
from gpubroker.model.notices import kinds_from

House = Any


class Box:
    """A channel that takes what it is sent, or fails so many times."""

    def __init__(self, fails: int = 0) -> None:
        self.fails = fails
        self.got: list[Notice] = []

    async def send(self, notice: Notice) -> None:
        if self.fails:
            self.fails -= 1
            raise Undelivered("answered with 503")
        self.got.append(notice)

    @property
    def kinds(self) -> list[str]:
        return [json.loads(notice.body)["kind"] for notice in self.got]


def route(carrier: Any, name: str = "ops", **change: Any) -> Route:
    kinds = change.pop("kinds", kinds_from("warning"))
    return Route(name, "there", kinds, carrier, **change)


def using(context: Context, *routes: Route) -> Context:
    context.routes = lambda: routes
    return context


async def warned(house: House, context: Context, kind: str = "account_frozen", **data: Any) -> None:
    house.store.add_event(context.at(), kind, **(data or {"why": "another key"}))


async def later(house: House, context: Context, *seconds: float) -> tuple[str, ...]:
    problems: tuple[str, ...] = ()
    for pause in seconds:
        house.cloud.clock.advance(pause)
        problems = await deliver(context)
    return problems


async def test_a_warning_reaches_each_channel_once(house: House) -> None:
    one, other = Box(), Box()
    context = using(house.open().context, route(one), route(other, "mail"))
    await deliver(context)
    house.cloud.clock.advance(1)
    await warned(house, context)
    await later(house, context, 1, 60, 3600)
    assert one.kinds == other.kinds == ["account_frozen"]
    [notice] = one.got
    document = json.loads(notice.body)
    assert document["id"] == notice.id == f"{house.store.owner}-1"
    assert document["text"] == notice.text == "another key. Its machines are neither read nor ended"
    assert document["severity"] == "critical"
    assert document["realm"] == "live"
    assert notice.subject == "gpubroker: account frozen"


async def test_two_processes_send_it_once_together(house: House) -> None:
    import asyncio

    box = Box()
    first = using(house.open().context, route(box))
    store = house.another_store()
    second = using(house.fleet_on(store).context, route(box))
    await deliver(first)
    house.cloud.clock.advance(1)
    for _ in range(5):
        await warned(house, first)
    house.cloud.clock.advance(1)
    await asyncio.gather(deliver(first), deliver(second), deliver(first))
    assert len(box.got) == len({notice.id for notice in box.got}) == 5
    store.close()


async def test_what_fails_is_tried_again_with_longer_pauses(house: House) -> None:
    box = Box(fails=3)
    context = using(house.open().context, route(box))
    await deliver(context)
    house.cloud.clock.advance(1)
    await warned(house, context)
    assert await later(house, context, 1) == ("channel ops: answered with 503",)
    assert await later(house, context, 10) == ()  # not its turn yet
    assert len(await later(house, context, 35)) == 1
    assert await later(house, context, 45) == ()
    await later(house, context, 20, 125)
    assert box.kinds == ["account_frozen"]
    [told] = reports(house.store, context.routes())
    assert (told.sent, told.waiting, told.undelivered, told.last_error) == (1, 0, 0, "")


async def test_a_crash_between_send_and_record_sends_it_again_under_the_same_id(
    house: House,
) -> None:
    class Crash(BaseException):
        pass

    def crash(step: str) -> None:
        if step == "notice sent":
            raise Crash

    box = Box()
    context = using(house.open().context, route(box))
    await deliver(context)
    house.cloud.clock.advance(1)
    await warned(house, context)
    context.boundary = crash
    with pytest.raises(Crash):
        await later(house, context, 1)
    context = using(house.open().context, route(box))
    await later(house, context, 1, 60, 60)
    assert len(box.got) == 2
    assert len({notice.id for notice in box.got}) == 1


async def test_what_never_arrives_is_given_up_and_shown_but_not_sent(house: House) -> None:
    box, dead = Box(), Box(fails=10**6)
    context = using(house.open().context, route(box), route(dead, "dead"))
    await deliver(context)
    house.cloud.clock.advance(1)
    await warned(house, context)
    await later(house, context, 1, *[3600.0] * MOST_TRIES)
    told = {report.name: report for report in reports(house.store, context.routes())}
    assert (told["dead"].undelivered, told["dead"].waiting) == (1, 0)
    assert told["dead"].last_error == "answered with 503"
    assert box.kinds == ["account_frozen"]
    shown = [one.text for one in recent(house.store, context.at())]
    assert shown[-1] == ("the channel dead could not be reached, 1 warning(s): answered with 503")


async def test_a_new_channel_is_not_flooded_with_what_was_before_it(house: House) -> None:
    context = house.open().context
    await warned(house, context)
    house.cloud.clock.advance(10)
    box = Box()
    using(context, route(box))
    await later(house, context, 1)
    await warned(house, context, "account_frozen", why="the second")
    await later(house, context, 1)
    assert [json.loads(notice.body)["data"]["why"] for notice in box.got] == ["the second"]


async def test_an_event_that_is_committed_late_is_still_told(house: House) -> None:
    """Nothing is remembered as "seen up to here", so nothing falls behind it."""
    box = Box()
    context = using(house.open().context, route(box))
    await deliver(context)
    house.cloud.clock.advance(60)
    began = context.at()
    await warned(house, context)
    await later(house, context, 60)
    house.store.add_event(began, "account_frozen", why="of a transaction that took a minute")
    await later(house, context, 60)
    assert len(box.got) == 2


async def test_a_channel_gets_its_own_kinds_only(house: House) -> None:
    box = Box()
    context = using(house.open().context, route(box, kinds=("preempted",)))
    await deliver(context)
    house.cloud.clock.advance(1)
    await warned(house, context)
    await later(house, context, 1)
    assert box.got == []


async def test_a_channel_without_its_secret_says_so_and_loses_nothing(house: House) -> None:
    missing = route(None, problem="its secret is missing")
    context = using(house.open().context, missing)
    await deliver(context)
    house.cloud.clock.advance(1)
    await warned(house, context)
    assert await later(house, context, 1, 60) == ("channel ops: its secret is missing",)
    box = Box()
    using(context, route(box))
    await later(house, context, 60)
    assert box.kinds == ["account_frozen"]


async def test_the_keeper_tells_what_its_own_round_found(
    make_house: Callable[..., House],
) -> None:
    house = make_house()
    box = Box()
    fleet = house.open()
    using(fleet.context, route(box))
    keeper = Keeper(fleet.context, fleet)
    await keeper.round()
    await house.launch(fleet, LaunchRequest(disk_gb=20, ttl=timedelta(hours=1)))
    house.cloud.clock.advance(3500)
    await keeper.round()
    [notice] = box.got
    assert notice.subject == "gpubroker train-1: expiring"
    assert json.loads(notice.body)["launch_id"] == house.fleet_row("train-1").id


async def test_a_real_webhook_that_is_down_for_a_while_gets_it_once(house: House) -> None:
    with http(503, 500, 204) as (url, heard):
        carrier = Webhook(url, "sesame", loopback_only=True)
        context = using(house.open().context, route(carrier))
        await deliver(context)
        house.cloud.clock.advance(1)
        await warned(house, context)
        await later(house, context, 1, 60, 120, 600, 3600)
    assert len(heard.requests) == 3
    assert len({headers["gpubroker-notice"] for _, headers, _ in heard.requests}) == 1
    signatures = {headers["gpubroker-signature"] for _, headers, _ in heard.requests}
    assert len(signatures) == 3  # each of its own time: none can be played again
    stored = house.store._db.execute("SELECT * FROM notices").fetchone()
    assert "sesame" not in str(dict(stored))
    assert "in-the-path" not in str(dict(stored))


async def test_a_test_is_sent_at_once_and_fails_aloud(house: House) -> None:
    context = house.open().context
    box = Box()
    await try_out(context, route(box))
    assert box.kinds == ["test"]
    with pytest.raises(Unavailable, match="channel ops: answered with 503"):
        await try_out(context, route(Box(fails=1)))
    with pytest.raises(Unavailable, match="its secret is missing"):
        await try_out(context, route(None, problem="its secret is missing"))
