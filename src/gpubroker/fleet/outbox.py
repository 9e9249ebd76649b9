"""Warnings on their way to people: each to each channel once, tried again while it is not there.

What is to be told follows from the events that are there, whoever wrote them and however late
their transaction ended: no place in a stream is remembered that something could fall behind.
"""

from __future__ import annotations

import asyncio

import msgspec
from msgspec import Struct

from gpubroker.fleet.channels import DEADLINE_S, Carrying, Notice, Undelivered
from gpubroker.fleet.context import Context
from gpubroker.fleet.warned import LOOK_BACK_S, warned
from gpubroker.model.errors import Unavailable
from gpubroker.model.notices import ChannelReport
from gpubroker.store.notices import DueNotice
from gpubroker.store.store import Store

FIRST_PAUSE_S = 30.0
LONGEST_PAUSE_S = 3600.0
MOST_TRIES = 12
"""With the pauses doubling to an hour, about five hours."""
AT_ONCE = 20
PATIENCE_S = 2 * DEADLINE_S
"""So long a try belongs to the process that began it."""


class Route(Struct, frozen=True):
    """A configured channel, ready to be used."""

    name: str
    to: str
    kinds: tuple[str, ...]
    carrier: Carrying | None
    problem: str = ""
    """Why there is no carrier."""


async def deliver(ctx: Context) -> tuple[str, ...]:
    """What is due to every channel, all at once. Answer: what did not get there, in words."""
    routes = [route for route in ctx.routes() if route.kinds]
    told = await asyncio.gather(*(_serve(ctx, route) for route in routes))
    return tuple(problem for problem in told if problem)


def reports(store: Store, routes: tuple[Route, ...]) -> tuple[ChannelReport, ...]:
    """How it went at each channel."""
    rows = []
    for route in routes:
        outcome = store.notices.outcome(route.name, MOST_TRIES)
        rows.append(
            ChannelReport(
                name=route.name,
                to=route.to,
                kinds=route.kinds,
                sent=outcome.sent,
                waiting=outcome.waiting,
                undelivered=outcome.undelivered,
                last_error=outcome.error,
                problem=route.problem,
            )
        )
    return tuple(rows)


async def try_out(ctx: Context, route: Route) -> None:
    """A warning that warns of nothing. Raises Unavailable where it does not get there."""
    if route.carrier is None:
        raise Unavailable(f"channel {route.name}: {route.problem}. Nothing was sent.")
    text = f"A test of the channel {route.name}: warnings of gpubroker arrive here."
    document = {"id": "test", "kind": "test", "severity": "info", "text": text}
    notice = Notice("test", "gpubroker: test", text, msgspec.json.encode(document), ctx.at())
    try:
        await route.carrier.send(notice)
    except Undelivered as failure:
        raise Unavailable(f"channel {route.name}: {failure}") from None


async def _serve(ctx: Context, route: Route) -> str:
    store, at = ctx.store.notices, ctx.at()
    since = max(store.begin(route.name, at), at - LOOK_BACK_S)
    store.fill(route.name, route.kinds, since, at)
    due = store.due(route.name, at, MOST_TRIES, AT_ONCE)
    if not due:
        return ""
    if route.carrier is None:
        return f"channel {route.name}: {route.problem}"
    for row in due:
        pause = max(PATIENCE_S, min(FIRST_PAUSE_S * 2**row.tries, LONGEST_PAUSE_S))
        if not store.take(row.id, route.name, at, at + pause):
            continue  # another process sends it
        ctx.boundary("notice taken")
        try:
            await route.carrier.send(_notice(ctx, row))
        except Undelivered as failure:
            _failed(ctx, route, row, str(failure))
            return f"channel {route.name}: {failure}"
        ctx.boundary("notice sent")
        store.sent(row.id, route.name, ctx.at())
    return ""


def _failed(ctx: Context, route: Route, row: DueNotice, why: str) -> None:
    """The channel is left alone for this round; what waits comes in the next ones."""
    ctx.store.notices.failed(row.id, route.name, why)
    if row.tries + 1 >= MOST_TRIES:
        outcome = ctx.store.notices.outcome(route.name, MOST_TRIES)
        ctx.store.notices.once(
            f"undelivered:{route.name}",
            ctx.at(),
            "notice_undelivered",
            again_after=ctx.at() + LOOK_BACK_S,
            channel=route.name,
            undelivered=outcome.undelivered,
            why=why,
        )


def _notice(ctx: Context, row: DueNotice) -> Notice:
    told = warned(row)
    identity = f"{ctx.store.owner}-{row.id}"
    document = {
        "id": identity,
        "kind": told.kind,
        "severity": told.severity,
        "at": told.at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "realm": ctx.store.realm,
        "name": told.name,
        "launch_id": told.launch_id,
        "text": told.text,
        "data": told.data,
    }
    about = f" {told.name}" if told.name else ""
    return Notice(
        id=identity,
        subject=f"gpubroker{about}: {told.kind.replace('_', ' ')}",
        text=told.text,
        body=msgspec.json.encode(document),
        at=ctx.at(),
    )
