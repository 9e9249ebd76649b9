"""Machines launched together: all of them are had within a deadline, or none is kept.

The rule follows from the rows alone: whoever takes a step of any of the launches applies it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from gpubroker.fleet.context import Context, Work
from gpubroker.fleet.errors import TooFewMachines
from gpubroker.fleet.requests import PlannedOffer
from gpubroker.model.durations import short_span
from gpubroker.model.offer import Offer
from gpubroker.store.rows import LaunchRow

T = TypeVar("T")


def new_gang(name: str) -> str:
    """The gang's own id; `LaunchRow.gang_name` reads its name from it."""
    return f"{name}/{secrets.token_hex(4)}"


def node_names(name: str, nodes: int) -> tuple[str, ...]:
    """NAME-1 to NAME-N."""
    return tuple(f"{name}-{number}" for number in range(1, nodes + 1))


def judge(ctx: Context, work: Work) -> None:
    """Apply the rule to the gang of this launch, while it forms."""
    gang = work.launch.gang
    if not gang or work.launch.gang_until is None:
        return
    members = ctx.store.gangs.members(gang)
    # What was had in time is kept, however late somebody looks.
    if all(_had(ctx, member) for member in members) and ctx.store.gangs.form(gang, ctx.at()):
        ctx.boundary("gang formed")
    elif why := _broken(ctx, members):
        ctx.store.gangs.dissolve(gang, ctx.at(), why)
        ctx.boundary("gang dissolved")
    work.refresh()


def formed(work: Work) -> bool:
    """Whether nothing is left to be decided together."""
    return work.launch.gang_until is None


def _broken(ctx: Context, members: Iterable[LaunchRow]) -> str:
    """Why not all can be had any more, "" while they can."""
    for one in members:
        if one.ended_at is not None or one.wanted == "gone":
            why = f": {one.error}" if one.error and one.error_code != "gang_failed" else ""
            return f"{one.name} could not be had{why}" if one.error else f"{one.name} was ended"
        if one.gang_until is not None and ctx.at() >= one.gang_until:
            waited = short_span(one.gang_until - one.created_at)
            return f"not all of {one.gang_name} were ready within {waited}"
    return ""


def _had(ctx: Context, member: LaunchRow) -> bool:
    """Whether its machine was ready in time, and is kept."""
    if member.gang_until is None or member.wanted == "gone" or member.ended_at is not None:
        return False
    return any(
        one.status == "made"
        and one.wanted == "running"
        and one.ready_at is not None
        and one.ready_at <= member.gang_until
        for one in ctx.store.attempts(member.id)
    )


def deal(ranked: Sequence[PlannedOffer], nodes: int, tries: int) -> list[list[PlannedOffer]]:
    """Each node's offers, in the order they are tried. Raises TooFewMachines.

    An offer of one machine goes to one node. The best type that has room for all comes first:
    equal machines, on as many hosts as it takes.
    """
    room: Counter[tuple[object, ...]] = Counter()
    for planned in ranked:
        room[_type(planned.offer)] += _places(planned.offer, nodes)
    roomy = next((_type(p.offer) for p in ranked if room[_type(p.offer)] >= nodes), None)
    hands: list[list[PlannedOffer]] = [[] for _ in range(nodes)]
    for planned in sorted(ranked, key=lambda one: _type(one.offer) != roomy):
        for hand in sorted(hands, key=len)[: _places(planned.offer, nodes)]:
            if len(hand) < tries:
                hand.append(planned)
    if short := sum(not hand for hand in hands):
        raise TooFewMachines(nodes, nodes - short)
    return hands


def _type(offer: Offer) -> tuple[object, ...]:
    return (
        offer.provider,
        offer.account,
        offer.gpu.label,
        offer.gpu_count,
        offer.market,
        offer.tier,
        offer.region,
    )


def _places(offer: Offer, nodes: int) -> int:
    """How many of them there are: one where it is a certain host's."""
    if offer.stock is not None:
        return min(offer.stock, nodes)
    return nodes if offer.host is None else 1


async def together(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """All of them side by side; where one fails the others are cancelled, and its error raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    failures = [f for task in tasks if not task.cancelled() and (f := task.exception())]
    if failures:
        raise failures[0]
    return [task.result() for task in tasks]
