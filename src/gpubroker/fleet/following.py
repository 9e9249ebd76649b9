"""Machines that change their id: some clouds give a started one another. Its carrier tells.

Until the new id is seen, the machine may be told of under both ids, under either or under none.
Then nothing is concluded from what is told, and no second start is sent: it may make a second
machine. That lasts until what was sent has shown itself, or can show itself no more.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from gpubroker.fleet.context import Context, Work, identity_of, instance_of, offer_of
from gpubroker.model.errors import BrokerError
from gpubroker.model.identity import Ref
from gpubroker.model.instance import Instance
from gpubroker.model.terms import State
from gpubroker.providers.base import Provider
from gpubroker.store.events import FOR_EVER
from gpubroker.store.rows import AttemptRow, EventRow

_ASKED, _REFUSED, _RENAMED, _STATE = "start_asked", "start_refused", "renamed", "state"


class _Told(Struct, frozen=True):
    """What the events say."""

    former: str = ""
    """renamed: its id until then."""
    beside: tuple[str, ...] = ()
    """start_asked: ids that carried its mark then, and are none that the start made."""
    state: str = ""


def elsewhere(
    ctx: Context, attempt: AttemptRow, provider: Provider, told: Iterable[Instance]
) -> Instance | None:
    """Its machine under another id; None where its own is the one, or none carries it.

    Its own may be told on for a while after a start that went unanswered.
    """
    if not provider.capabilities.start_renames:
        return None
    there = [one for one in told if one.state is not State.TERMINATED]
    mark = ctx.store.owner, attempt.id
    others = [
        one for one in there if (one.owner, one.attempt) == mark and one.ref.id != attempt.ref_id
    ]
    if not others:
        return None
    events = _events(ctx, attempt)
    own = any((one.ref.scope, one.ref.id) == (attempt.scope, attempt.ref_id) for one in there)
    if own and not (events and events[-1].kind == _ASKED):
        return None
    known = {known for one in events for known in (_said(one).former, *_said(one).beside)}
    return next((one for one in others if one.ref.id not in known), None)


def follow(
    ctx: Context, work: Work, attempt: AttemptRow, provider: Provider, ref: Ref
) -> AttemptRow:
    """From now on it is there."""
    if (attempt.scope, attempt.ref_id) != (ref.scope, ref.id):
        if provider.capabilities.stop_wipes:
            ctx.forget_host(identity_of(ctx, attempt).name)
        with work.writing() as write:
            write.attempt(attempt.id, ref_id=ref.id, scope=ref.scope, misses=0, missed_at=None)
            if provider.capabilities.stop_wipes:
                # Whoever set it going: what was run on it is to run again.
                write.attempt(attempt.id, booted_at=None)
            write.event(_RENAMED, attempt.id, former=attempt.ref_id, present=ref.id)
    return work.fresh(attempt)


async def find(ctx: Context, work: Work, attempt: AttemptRow, provider: Provider) -> bool:
    """Whether it is found under another id, which it has from now on."""
    if not provider.capabilities.start_renames:
        return False
    found = await provider.find(identity_of(ctx, attempt), offer_of(attempt))
    moved = elsewhere(ctx, attempt, provider, found)
    if moved is not None:
        follow(ctx, work, attempt, provider, moved.ref)
    return moved is not None


async def may_start(ctx: Context, work: Work, attempt: AttemptRow, provider: Provider) -> bool:
    """Whether a start can be sent now: none is on its way, and it is not elsewhere already.

    It is noted then: a crash after it leaves a machine whose id nobody knows.
    """
    if not provider.capabilities.start_renames:
        return True
    found = await provider.find(identity_of(ctx, attempt), offer_of(attempt))
    attempt = work.fresh(attempt)
    seen = instance_of(attempt)  # a moment ago; a list may not tell it yet
    moved = elsewhere(ctx, attempt, provider, [*found, seen] if seen else found)
    if moved is not None:
        follow(ctx, work, attempt, provider, moved.ref)
    if moved is not None or on_its_way(ctx, attempt, provider):
        return False
    beside = [one.ref.id for one in found if one.ref.id != attempt.ref_id]
    with work.writing() as write:
        write.event(_ASKED, attempt.id, beside=beside)
    return True


def start_refused(
    work: Work, attempt: AttemptRow, provider: Provider, refusal: BrokerError
) -> None:
    """Nothing came of the start, surely: the machine is what it was."""
    if provider.capabilities.start_renames:
        with work.writing() as write:
            write.event(_REFUSED, attempt.id, why=refusal.word)


def on_its_way(ctx: Context, attempt: AttemptRow, provider: Provider) -> bool:
    """Whether it may have another id that nothing tells yet: its absence proves nothing then."""
    if not provider.capabilities.start_renames:
        return False
    *_, last = (None, *_events(ctx, attempt))
    if last is None or last.kind not in {_ASKED, _RENAMED}:
        return False
    if last.kind == _RENAMED and _seen_there(attempt):
        return False
    return ctx.at() - last.at < settles_in_s(provider)


def may_be(ctx: Context, attempt: AttemptRow, provider: Provider, ref: Ref) -> bool:
    """Whether what carries its mark under this id may be the machine itself, or its former self.

    It may have been started by hand, unseen, and be told under both ids; for so long after the
    second one was first seen.
    """
    if not provider.capabilities.start_renames:
        return False
    if _settling(ctx, attempt, provider, ref):
        return True
    late = ctx.at() - settles_in_s(provider)
    former = {
        _said(one).former for one in _events(ctx, attempt) if one.kind == _RENAMED and one.at > late
    }
    return ref.id in former or on_its_way(ctx, attempt, provider)


def _settling(ctx: Context, attempt: AttemptRow, provider: Provider, ref: Ref) -> bool:
    """Whether it was first seen beside the machine a short while ago."""
    where = f"beside:{attempt.id}:{attempt.ref_id}:{ref.account}:{ref.scope}:{ref.id}"
    seen, settling = f"{where}:seen", f"{where}:settling"
    if ctx.store.free((seen,), ctx.at()):
        # In this order: killed between the two, it is first seen once more.
        ctx.store.claim(settling, ctx.at(), settles_in_s(provider))
        ctx.store.claim(seen, ctx.at(), FOR_EVER)
    return not ctx.store.free((settling,), ctx.at())


def settles_in_s(provider: Provider) -> float:
    """After so long a start that was sent has shown its new id, or it will not."""
    if not provider.capabilities.start_renames:
        return 0.0
    return provider.capabilities.create_deadline_s + provider.capabilities.list_lag_s


def _events(ctx: Context, attempt: AttemptRow) -> list[EventRow]:
    """What decides where it is, oldest first."""
    return [
        one
        for one in ctx.store.events(attempt.launch_id)
        if one.attempt_id == attempt.id
        and (
            one.kind in {_ASKED, _REFUSED, _RENAMED}
            # Under the id that we know: so no other is to come.
            or (one.kind == _STATE and _said(one).state == State.RUNNING)
        )
    ]


def _said(event: EventRow) -> _Told:
    return msgspec.json.decode(event.data, type=_Told)


def _seen_there(attempt: AttemptRow) -> bool:
    """Whether the last sight of it was under its present id."""
    instance = instance_of(attempt)
    return instance is not None and instance.ref.id == attempt.ref_id
