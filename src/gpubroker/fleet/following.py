"""Machines that change their id: some clouds give a started one another. Its carrier tells."""

from __future__ import annotations

from collections.abc import Iterable

from gpubroker.fleet.context import Context, Work, identity_of, offer_of
from gpubroker.model.identity import Ref
from gpubroker.model.instance import Instance
from gpubroker.model.terms import State
from gpubroker.providers.base import Provider
from gpubroker.store.rows import AttemptRow

_ASKED, _RENAMED = "start_asked", "renamed"


def elsewhere(
    ctx: Context, attempt: AttemptRow, provider: Provider, told: Iterable[Instance]
) -> Instance | None:
    """Its machine under another id; None where its own is among them, or none carries it."""
    if not provider.capabilities.start_renames:
        return None
    there = [one for one in told if one.state is not State.TERMINATED]
    if any((one.ref.scope, one.ref.id) == (attempt.scope, attempt.ref_id) for one in there):
        return None
    mark = ctx.store.owner, attempt.id
    return next((one for one in there if (one.owner, one.attempt) == mark), None)


def follow(
    ctx: Context, work: Work, attempt: AttemptRow, provider: Provider, ref: Ref
) -> AttemptRow:
    """From now on it is there."""
    if (attempt.scope, attempt.ref_id) != (ref.scope, ref.id):
        if provider.capabilities.stop_wipes:
            ctx.forget_host(identity_of(ctx, attempt).name)
        with work.writing() as write:
            write.attempt(attempt.id, ref_id=ref.id, scope=ref.scope, misses=0, missed_at=None)
            write.event(_RENAMED, attempt.id, former=attempt.ref_id, present=ref.id)
    return work.fresh(attempt)


async def find(ctx: Context, work: Work, attempt: AttemptRow, provider: Provider) -> bool:
    """Whether it is found under another id, which it has from now on."""
    found = await provider.find(identity_of(ctx, attempt), offer_of(attempt))
    moved = elsewhere(ctx, attempt, provider, found)
    if moved is not None:
        follow(ctx, work, attempt, provider, moved.ref)
    return moved is not None


def start_asked(work: Work, attempt: AttemptRow, provider: Provider) -> None:
    """Noted before a start is sent: a crash after it leaves a machine whose id nobody knows."""
    if provider.capabilities.start_renames:
        with work.writing() as write:
            write.event(_ASKED, attempt.id)


def on_its_way(ctx: Context, attempt: AttemptRow, provider: Provider) -> bool:
    """Whether it may have another id that no list tells yet: its absence proves nothing then."""
    can = provider.capabilities
    if not can.start_renames:
        return False
    events = [one for one in ctx.store.events(attempt.launch_id) if one.attempt_id == attempt.id]
    last = next((one for one in reversed(events) if one.kind in {_ASKED, _RENAMED}), None)
    if last is None or last.kind == _RENAMED:
        return False
    return ctx.at() - last.at < can.create_deadline_s + can.list_lag_s
