"""What each round looks after beside the machines themselves: budgets, and what is to be warned of.

Every step follows from what the store says now; a warning that was recorded is not recorded again.
"""

from __future__ import annotations

from collections.abc import Iterable

from gpubroker.fleet.balances import watch_balances
from gpubroker.fleet.context import Context
from gpubroker.fleet.ladder import climb
from gpubroker.fleet.requests import Stray

ORPHAN_AGAIN_S = 86400.0


async def tend(ctx: Context) -> tuple[str, ...]:
    """One round. Answer: what could not be done, in words; it is tried again."""
    warn_of_ends(ctx)
    warn_of_drift(ctx)
    unread = await watch_balances(ctx)
    return (*unread, *await climb(ctx))


def warn_of_ends(ctx: Context) -> None:
    """Each machine's end, so long before as is configured; an extension arms the warnings anew."""
    at, before = ctx.at(), sorted(ctx.warn_before_s())
    for launch in ctx.store.notices.ending(at, before[-1]) if before else ():
        left = launch.expires_at - at
        # Of several that are due only the last: "ends in 30 min" is no news five minutes before.
        due = next(mark for mark in before if left <= mark)
        if launch.expires_at - due < launch.created_at:
            continue
        ctx.store.notices.once(
            f"expiring:{launch.id}:{launch.expires_at:.0f}:{due:.0f}",
            at,
            "expiring",
            launch.id,
            seconds=round(left),
            expires_at=launch.expires_at,
        )


def warn_of_drift(ctx: Context) -> None:
    """Machines in use whose cloud charges more than it offered, beyond what was accepted."""
    for drift in ctx.store.notices.drifts():
        ctx.store.notices.once(
            f"drift:{drift.attempt_id}:{drift.rate}",
            ctx.at(),
            "price_drift",
            drift.launch_id,
            rate=drift.rate,
            price=drift.price,
        )


def warn_of_orphans(ctx: Context, orphans: Iterable[Stray]) -> None:
    """What a sweep found billed and wanted by nothing; once a day while it is there."""
    for stray in orphans:
        if stray.owner not in {None, ctx.store.owner}:
            continue  # another's, named by the user: no leak of ours
        ref = stray.ref
        ctx.store.notices.once(
            f"orphan:{ref.provider}:{ref.account}:{ref.scope}:{ref.id}",
            ctx.at(),
            "orphan_found",
            again_after=ctx.at() + ORPHAN_AGAIN_S,
            provider=ref.provider,
            account=ref.account,
            id=ref.id,
            gpu=stray.gpu,
            price=stray.price,
            why=stray.why,
        )
