"""Terminated is what the provider says: ask until it is proven, then release."""

from __future__ import annotations

import contextlib

import msgspec

from gpubroker.fleet import accounts, following
from gpubroker.fleet.context import (
    Context,
    Work,
    encoded,
    identity_of,
    offer_of,
    ref_of,
    spec_of,
)
from gpubroker.fleet.preempting import vanished
from gpubroker.model.errors import (
    BrokerError,
    NotFound,
    OutcomeUnknown,
    Refused,
    Trouble,
    WrongState,
)
from gpubroker.model.identity import Ref
from gpubroker.model.instance import Listing
from gpubroker.model.terms import Resource, State
from gpubroker.providers.base import Provider
from gpubroker.store.expiries import SLACK_S
from gpubroker.store.rows import AttemptRow

LOOK_S = 2.0
ASK_AGAIN_S = 20.0
"""A delete that was accepted and has no effect is sent again after this long."""
AGAIN_MOST_S = 60.0
"""What does not end is asked for ever more rarely, once in so long at last."""
OVERDUE_S = 300.0
COOL_DOWN_S = 600.0
WITNESSES = 2


async def end(ctx: Context, work: Work, attempt: AttemptRow) -> float:
    """One step towards a machine that is proven gone. Answer: seconds until the next."""
    if attempt.status == "intent":
        return _give_up_intent(ctx, work, attempt)
    attempt = _begun(ctx, work, attempt)
    again_s = _again_s(ctx, attempt)
    unsure: OutcomeUnknown | None = None
    try:
        provider = ctx.clouds.provider(attempt.provider, attempt.account)
        if attempt.end_asked_at is None or ctx.at() - attempt.end_asked_at > ASK_AGAIN_S:
            if not ctx.store.claim(f"end:{attempt.id}", ctx.at(), again_s):
                return again_s  # asked a moment ago, by whomever, and it came to nothing
            await accounts.confirm(ctx, provider)
            try:
                await _ask(ctx, work, attempt, provider)
            except OutcomeUnknown as trouble:
                # It may be gone by this request or another one: the witnesses tell.
                unsure = trouble
        uid = await accounts.bound(ctx, provider)
        gone = await _witness(ctx, work, attempt, provider, uid)
    except (Refused, Trouble, OutcomeUnknown) as trouble:
        _alert_when_overdue(ctx, work, attempt, trouble)
        if isinstance(trouble, Refused) and not isinstance(trouble, WrongState):
            raise
        return max(again_s, getattr(trouble, "retry_after_s", None) or 0.0)
    if not gone:
        _alert_when_overdue(ctx, work, attempt, unsure)
        return again_s
    close(ctx, work, attempt)
    ctx.boundary("gone recorded")
    return 0.0


async def proven_gone(ctx: Context, work: Work, attempt: AttemptRow) -> bool:
    """Whether the witnesses agree that a machine which nobody ended is gone."""
    provider = ctx.clouds.provider(attempt.provider, attempt.account)
    uid = await accounts.confirm(ctx, provider)
    return await _witness(ctx, work, attempt, provider, uid)


def close(ctx: Context, work: Work, attempt: AttemptRow, event: str = "gone") -> None:
    """The machine is proven gone: nothing is metered any more, its host key is forgotten."""
    with work.writing() as write:
        write.attempt(attempt.id, status="gone", closed_at=ctx.at(), phase="gone")
        write.meter(attempt.id, None, ctx.at())
        write.event(event, attempt.id, provider=attempt.provider, provider_id=attempt.ref_id)
    ctx.forget_host(identity_of(ctx, attempt).name)


async def lost(ctx: Context, work: Work, attempt: AttemptRow) -> bool:
    """The provider shows no such machine: believed, and closed, only with the witnesses."""
    if not await proven_gone(ctx, work, attempt):
        return False
    close_lost(ctx, work, attempt)
    return True


def close_lost(ctx: Context, work: Work, attempt: AttemptRow) -> None:
    """It went without being asked to; the launch is over once nothing else of it is left."""
    expires_at = work.launch.expires_at
    in_time = expires_at is not None and ctx.at() > expires_at - SLACK_S
    if in_time:
        # Its cloud or its timer did what it was told to.
        ctx.store.want(work.launch.id, "gone", ctx.at(), "expired")
    close(ctx, work, attempt, "expired" if in_time else "lost")
    if vanished(work) is not None:
        return  # the next step follows the launch's policy
    others = any(one.open for one in work.attempts)
    if not others and not ctx.store.owed_releases(work.launch.id):
        finish(ctx, work)


def finish(ctx: Context, work: Work) -> None:
    """Nothing of this launch exists any more."""
    error, code = work.launch.error, work.launch.error_code
    if work.launch.wanted != "gone":
        was_ready = any(attempt.ready_at is not None for attempt in work.attempts)
        error, code = (
            ("the machine is gone at the provider; gpubroker did not end it", "lost")
            if was_ready
            else ("no machine could be had", "no_capacity")
        )
    with work.writing() as write:
        write.launch(ended_at=ctx.at(), error=error, error_code=code)
        write.event("ended", error=error)
    ctx.boundary("ended")


async def release(ctx: Context, work: Work, attempt: AttemptRow) -> float:
    """Release what was made for an attempt that has no machine any more, last made first."""
    provider = ctx.clouds.provider(attempt.provider, attempt.account)
    needs = ctx.store.needs(attempt.id)
    have = {Resource(n.what): msgspec.json.decode(n.ref, type=Ref) for n in needs if n.ref}
    for need in reversed(needs):
        if need.status not in {"intent", "made"}:
            continue
        what = Resource(need.what)
        ref = have.get(what)
        if ref is None:
            # Begun and not recorded: ensure is idempotent and says where it is.
            spec = spec_of(ctx, work.launch)
            identity = identity_of(ctx, attempt)
            ref = await provider.ensure(what, spec, offer_of(attempt), identity, have)
        try:
            await provider.release(what, ref)
        except WrongState:
            return LOOK_S  # the provider has not let go of it yet
        ctx.boundary(f"need {what} released")
        with work.writing() as write:
            write.need(attempt.id, need.what, need.seq, "released", encoded(ref))
    return 0.0


def _give_up_intent(ctx: Context, work: Work, attempt: AttemptRow) -> float:
    with work.writing() as write:
        write.attempt(attempt.id, status="unsent", outcome="refused", closed_at=ctx.at())
        write.event("attempt_unsent", attempt.id)
    return 0.0


def _begun(ctx: Context, work: Work, attempt: AttemptRow) -> AttemptRow:
    """From the first try on, accepted or not, the wait counts; asking again begins no new one."""
    if attempt.phase != "ending":
        with work.writing() as write:
            write.attempt(attempt.id, phase="ending", phase_since=ctx.at())
    return work.fresh(attempt)


def _again_s(ctx: Context, attempt: AttemptRow) -> float:
    """Seconds until the next look or try, by how long it has been asked for already."""
    return min(AGAIN_MOST_S, max(LOOK_S, (ctx.at() - attempt.phase_since) / 10))


async def _ask(ctx: Context, work: Work, attempt: AttemptRow, provider: Provider) -> None:
    ctx.boundary("terminate next")
    # NotFound: gone already, or so it says; the witnesses decide.
    with contextlib.suppress(NotFound):
        await provider.terminate(ref_of(attempt))
    ctx.boundary("terminate sent")
    with work.writing() as write:
        write.attempt(attempt.id, end_asked_at=ctx.at())
        write.event("terminate_accepted", attempt.id, provider=attempt.provider)
    ctx.boundary("terminate recorded")


async def _witness(
    ctx: Context, work: Work, attempt: AttemptRow, provider: Provider, uid: str
) -> bool:
    """Whether it is proven that the machine is gone.

    Proof is a tombstone; or the vendor's own "no such instance" together with a complete list of
    the same account and scope; or two such lists, further apart than the grace period.
    """
    capabilities = provider.capabilities
    ref = ref_of(attempt)
    since = max(attempt.end_asked_at or 0.0, attempt.missed_at or 0.0)
    listing = await ctx.lists.asked_after(provider, ref.scope, since)
    if listing.account_uid != uid:
        await accounts.confirm(ctx, provider)
        return False
    if _there(ctx, work, attempt, provider, listing):
        return False
    said_so = False
    if capabilities.gone != "absent":
        # Only what a list lacks, or calls ended, costs a call of its own.
        try:
            instance = await provider.get(ref)
        except NotFound:
            said_so = True
        else:
            _forget_misses(work, attempt)
            return instance.state is State.TERMINATED and not instance.bills_compute
    if not listing.complete:
        return False
    never_seen = attempt.instance is None
    if never_seen and ctx.at() - (attempt.made_at or 0.0) < capabilities.list_lag_s:
        return False  # too young to be missed
    return said_so or _missed_twice(ctx, work, attempt, capabilities.absence_grace_s)


def _missed_twice(ctx: Context, work: Work, attempt: AttemptRow, grace_s: float) -> bool:
    if attempt.missed_at is not None and ctx.at() - attempt.missed_at < grace_s:
        return False
    with work.writing() as write:
        write.attempt(attempt.id, misses=attempt.misses + 1, missed_at=ctx.at())
    return attempt.misses + 1 >= WITNESSES


def _forget_misses(work: Work, attempt: AttemptRow) -> None:
    if attempt.misses:
        with work.writing() as write:
            write.attempt(attempt.id, misses=0, missed_at=None)


def _there(
    ctx: Context, work: Work, attempt: AttemptRow, provider: Provider, listing: Listing
) -> bool:
    """Whether the list shows it, or it may be on its way there under another id."""
    ref = ref_of(attempt)
    if any(one.ref == ref and one.state is not State.TERMINATED for one in listing.instances):
        _forget_misses(work, attempt)
        return True
    moved = following.elsewhere(ctx, attempt, provider, listing.instances)
    if moved is None:
        return following.on_its_way(ctx, attempt, provider)
    following.follow(ctx, work, attempt, provider, moved.ref)
    with work.writing() as write:
        # It was asked of an id that is none any more, and it is seen under this one.
        write.attempt(attempt.id, end_asked_at=None, instance=encoded(moved))
    return True


def _alert_when_overdue(
    ctx: Context, work: Work, attempt: AttemptRow, trouble: BrokerError | None
) -> None:
    waited = ctx.at() - attempt.phase_since
    why = str(trouble) if trouble is not None else "the provider still shows the machine"
    if waited > OVERDUE_S and attempt.look_failed != "overdue":
        with work.writing() as write:
            write.attempt(attempt.id, look_failed="overdue")
            write.event("delete_overdue", attempt.id, seconds=round(waited), why=why)
    else:
        work.tell("waiting", what=f"the end of the machine ({why})", seconds=None)
