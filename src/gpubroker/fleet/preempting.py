"""Spot machines that their cloud took away: what follows, by the launch's policy.

- stay: the machine is left as it is; some clouds start it again
- replace: it is ended, and the same is rented elsewhere
- on-demand-after:N: as replace, from the Nth time on by a machine on demand
- give-up: it is ended, and the launch with it
"""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

from gpubroker.fleet.context import Context, Work, instance_of, offer_of
from gpubroker.model.terms import Market, State
from gpubroker.store.rows import AttemptRow

TAKEN = "preempted"
"""Error code of an attempt whose machine was taken away and is replaced."""
STEADY_S = 5.0
COOL_DOWN_S = 600.0
_ON_DEMAND_AFTER = re.compile(r"on-demand-after:([1-9]\d?)")


class Policy(Struct, frozen=True):
    """What `on_preempt` says."""

    then: Literal["stay", "replace", "give-up"]
    on_demand_after: int | None = None

    def on_demand(self, preempted: int) -> bool:
        """Whether the next machine is rented on demand, after so many were taken away."""
        return self.on_demand_after is not None and preempted >= self.on_demand_after


def policy(text: str) -> Policy:
    """Raises ValueError."""
    match text:
        case "stay" | "replace" | "give-up":
            return Policy(text)
    if found := _ON_DEMAND_AFTER.fullmatch(text):
        return Policy("replace", int(found[1]))
    raise ValueError(f'"{text}": expected stay, replace, on-demand-after:N or give-up')


async def keep(ctx: Context, work: Work, attempt: AttemptRow) -> float:
    """One step of a machine in use. Answer: seconds until the next."""
    if attempt.state != State.PREEMPTED or not _acts(work):
        return STEADY_S
    instance = instance_of(attempt)
    follow(ctx, work, attempt, (instance.reason if instance else "") or "taken away by the cloud")
    return 0.0


def vanished(work: Work) -> AttemptRow | None:
    """The spot machine in use that is gone without being asked to, and that something follows."""
    used = [one for one in work.attempts if one.ready_at is not None]
    if not used or not _acts(work):
        return None
    last = used[-1]
    gone = last.status == "gone" and last.wanted == "running"
    return last if gone and offer_of(last).market is Market.SPOT else None


def replaced(work: Work) -> bool:
    """Whether a machine of this launch was taken away and another is to follow."""
    return any(one.error_code == TAKEN for one in work.attempts)


def follow(ctx: Context, work: Work, attempt: AttemptRow, reason: str) -> None:
    """What the policy says, in one transaction: from here on any process goes on with it."""
    chosen = policy(work.launch.on_preempt)
    offer = offer_of(attempt)
    # Elsewhere: the same offer would be taken away again.
    until = ctx.at() + COOL_DOWN_S
    ctx.store.cool_down(attempt.provider, f"offer:{offer.key}", until, f"taken away: {reason}")
    ctx.boundary("taken away")
    times = work.launch.preempted + 1
    with work.writing() as write:
        if chosen.then == "give-up":
            write.launch(
                wanted="gone",
                preempted=times,
                error=f"its spot machine was taken away: {reason}",
                error_code=TAKEN,
            )
            write.event("given_up", attempt.id, provider=attempt.provider, reason=reason)
        else:
            write.attempt(attempt.id, wanted="gone", error_code=TAKEN, reason=reason)
            write.launch(preempted=times, candidates="[]", next_plan_at=ctx.at())
            write.event(
                "replacing",
                attempt.id,
                provider=attempt.provider,
                reason=reason,
                times=times,
                on_demand=chosen.on_demand(times),
            )
    ctx.boundary("replacement wanted")


def _acts(work: Work) -> bool:
    return work.launch.wanted == "running" and work.launch.on_preempt != "stay"
