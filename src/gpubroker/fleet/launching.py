"""From intent to a machine: needs, one create, and the look-up where its outcome is unknown."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

import msgspec

from gpubroker.fleet import accounts, billing, leaving
from gpubroker.fleet.context import (
    Context,
    Work,
    encoded,
    identity_of,
    offer_of,
    spec_of,
)
from gpubroker.fleet.planning import causes
from gpubroker.fleet.requests import PlannedOffer
from gpubroker.model.capabilities import needed
from gpubroker.model.errors import (
    AuthFailed,
    Invalid,
    NoCapacity,
    OutcomeUnknown,
    OutOfFunds,
    QuotaExceeded,
    RateLimited,
    Refused,
    Trouble,
    Unavailable,
)
from gpubroker.model.identity import Ref, new_attempt_id
from gpubroker.model.instance import Instance
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.offer import Offer
from gpubroker.model.terms import OWNER_WIDE, Carrier, Resource
from gpubroker.providers.base import Provider
from gpubroker.providers.bounds import BEYOND_BOUNDS
from gpubroker.providers.calling import sent_only_after, urgent
from gpubroker.store.errors import LeaseLost, NoSecretKey
from gpubroker.store.rows import AttemptRow

AGAIN_S = 2.0
TROUBLE_PAUSE_S = 3.0
TROUBLE_TRIES = 3
"""So often an attempt that surely was not sent is begun again before the next offer's turn."""
TURN_S = 60.0
"""So long a create may wait for its turn under the rate limits before it goes out."""
RESENDABLE = frozenset({Carrier.TOKEN, Carrier.UNIQUE_NAME})
ABSENT_LISTS = 2


def attempt_columns(
    planned: PlannedOffer, seq: int, disk_gb: float, at: float
) -> dict[str, object]:
    """A new attempt's row, before it is sent."""
    return {
        "id": new_attempt_id(),
        "seq": seq,
        "provider": planned.offer.provider,
        "account": planned.offer.account,
        "offer": encoded(planned.offer),
        "price": planned.price,
        "price_stopped": planned.offer.price.hourly_stopped(disk_gb),
        "status": "intent",
        "created_at": at,
        "phase_since": at,
    }


async def begin(ctx: Context, work: Work, attempt: AttemptRow) -> float:
    """Needs, then the create, once. Answer: seconds until the next step.

    Raises what this process lacks: NoSecretKey, or why it has no such account.
    """
    offer = offer_of(attempt)
    try:
        spec = spec_of(ctx, work.launch)
        provider = ctx.clouds.provider(attempt.provider, attempt.account)
    except (NoSecretKey, Refused) as lacking:
        # No cloud refused it: another process may have what is lacking here.
        if work.asked:
            return _refused(ctx, work, attempt, offer, lacking)
        leaving.leave(ctx, work, attempt)
        raise
    try:
        await accounts.confirm(ctx, provider)
        await billing.note_balance(ctx, provider)
        have = await _ensure_needs(ctx, work, attempt, provider, spec, offer)
    except Refused as refusal:
        return _refused(ctx, work, attempt, offer, refusal)
    except (Trouble, OutcomeUnknown) as trouble:
        # Nothing was created yet, and needs are idempotent: begin again, a few times.
        return _not_sent(ctx, work, attempt, offer, trouble)
    return await _create(ctx, work, attempt, provider, spec, offer, have)


async def _ensure_needs(
    ctx: Context,
    work: Work,
    attempt: AttemptRow,
    provider: Provider,
    spec: LaunchSpec,
    offer: Offer,
) -> dict[Resource, Ref]:
    done = {need.what: need for need in ctx.store.needs(attempt.id)}
    have: dict[Resource, Ref] = {}
    for seq, what in enumerate(needed(provider.capabilities, spec)):
        known = done.get(what)
        if known is not None and known.ref is not None:
            have[what] = msgspec.json.decode(known.ref, type=Ref)
            continue
        shared = what in OWNER_WIDE
        with work.writing() as write:
            write.need(attempt.id, what, seq, "shared" if shared else "intent", None)
        ctx.boundary(f"need {what} committed")
        have[what] = await provider.ensure(what, spec, offer, identity_of(ctx, attempt), have)
        ctx.boundary(f"need {what} made")
        with work.writing() as write:
            ref = encoded(have[what])
            write.need(attempt.id, what, seq, "shared" if shared else "made", ref)
        ctx.boundary(f"need {what} recorded")
    return have


async def _create(
    ctx: Context,
    work: Work,
    attempt: AttemptRow,
    provider: Provider,
    spec: LaunchSpec,
    offer: Offer,
    have: dict[Resource, Ref],
) -> float:
    capabilities = provider.capabilities
    work.renew_unbroken()
    settled_s = capabilities.create_deadline_s + capabilities.list_lag_s
    with work.writing() as write:
        write.attempt(
            attempt.id,
            status="sending",
            sent_at=ctx.at(),
            absent_after=ctx.at() + work.lease.left_s() + settled_s,
        )
        write.event(
            "attempt_started",
            attempt.id,
            provider=attempt.provider,
            offer=offer.key,
            price=attempt.price,
            seq=attempt.seq,
        )
    ctx.boundary("sending committed")
    deadline_s = capabilities.create_deadline_s
    try:
        _still_to_be_sent(ctx, work, deadline_s + TURN_S)
        with sent_only_after(partial(_still_to_be_sent, ctx, work, deadline_s)):
            ref = await provider.create(spec, offer, identity_of(ctx, attempt), have)
    except LeaseLost:
        with work.writing() as write:
            write.attempt(attempt.id, **_as_before(attempt))
        return 0.0
    except Refused as refusal:
        ctx.boundary("create refused")
        return _refused(ctx, work, attempt, offer, refusal)
    except (RateLimited, Unavailable) as trouble:
        ctx.boundary("create not sent")
        return _not_sent(ctx, work, attempt, offer, trouble)
    except (OutcomeUnknown, Trouble) as trouble:
        ctx.boundary("create unknown")
        _unknown(ctx, work, attempt, provider, str(trouble))
        return 0.0 if attempt.sent_at is None else AGAIN_S
    except asyncio.CancelledError:
        _unknown(ctx, work, attempt, provider, "interrupted while it was being created")
        raise
    ctx.boundary("created")
    _made(ctx, work, attempt, ref, provider)
    ctx.boundary("created recorded")
    return 0.0


def _still_to_be_sent(ctx: Context, work: Work, least_s: float) -> None:
    """Raises LeaseLost where it is not: paused or suspended since, or ended by another process."""
    if work.lease.left_s() <= least_s:
        # Another process may look for this attempt already.
        raise LeaseLost(f"{work.launch.name}: the turn to create it came too late")
    if ctx.store.launch(work.launch.id).wanted == "gone":
        raise LeaseLost(f"{work.launch.name}: it was ended before its turn to be created")


async def look_up(ctx: Context, work: Work, attempt: AttemptRow) -> float:
    """Find an attempt whose create may have happened, or prove that it did not."""
    with urgent():
        return await _look_up(ctx, work, attempt)


async def _look_up(ctx: Context, work: Work, attempt: AttemptRow) -> float:
    provider = ctx.clouds.provider(attempt.provider, attempt.account)
    if attempt.status == "sending":
        # We hold the lease, so its sender is dead or its lease is over: it sends nothing any
        # more, and the time in which the create could still take effect counts from now.
        attempt = _unknown(
            ctx, work, attempt, provider, "its sender did not live to see the answer"
        )
    await accounts.confirm(ctx, provider)
    found = await provider.find(identity_of(ctx, attempt), offer_of(attempt))
    ctx.boundary("looked up")
    if found:
        _adopt(ctx, work, attempt, found, provider)
        ctx.boundary("adopted")
        return 0.0
    resendable = provider.capabilities.carriers[0] in RESENDABLE and attempt.outcome != "refused"
    if work.launch.wanted == "running" and resendable:
        with contextlib.suppress(NoSecretKey):
            return await _send_again(ctx, work, attempt, provider)
    return await _prove_absent(ctx, work, attempt, provider)


async def _send_again(ctx: Context, work: Work, attempt: AttemptRow, provider: Provider) -> float:
    """The same token or name again: the cloud answers with the machine, or makes it now."""
    offer, spec = offer_of(attempt), spec_of(ctx, work.launch)
    have = await _ensure_needs(ctx, work, attempt, provider, spec, offer)
    return await _create(ctx, work, attempt, provider, spec, offer, have)


async def _prove_absent(ctx: Context, work: Work, attempt: AttemptRow, provider: Provider) -> float:
    left_s = (attempt.absent_after or 0.0) - ctx.at()
    if left_s > 0:
        work.tell("waiting", what="whether the machine exists", seconds=left_s)
        return min(left_s, AGAIN_S)
    uid = await accounts.confirm(ctx, provider)
    for scope in await provider.scopes():
        listing = await provider.list(scope)
        if not listing.complete or listing.account_uid != uid:
            return AGAIN_S
        ours = [one for one in listing.instances if one.attempt == attempt.id]
        if ours:
            _adopt(ctx, work, attempt, tuple(ours), provider)
            return 0.0
    misses = attempt.misses + 1
    with work.writing() as write:
        write.attempt(attempt.id, misses=misses)
        if misses >= ABSENT_LISTS:
            write.attempt(attempt.id, status="absent", outcome="refused", closed_at=ctx.at())
            write.event("attempt_absent", attempt.id, reason=attempt.reason)
    return 0.0 if misses >= ABSENT_LISTS else AGAIN_S


def _adopt(
    ctx: Context,
    work: Work,
    attempt: AttemptRow,
    found: tuple[Instance, ...],
    provider: Provider,
) -> None:
    """The first machine is the attempt's; any other of the same attempt is an orphan to sweep."""
    _made(ctx, work, attempt, found[0].ref, provider, found_again=True)


def _made(
    ctx: Context,
    work: Work,
    attempt: AttemptRow,
    ref: Ref,
    provider: Provider,
    *,
    found_again: bool = False,
) -> None:
    with work.writing() as write:
        write.attempt(
            attempt.id,
            status="made",
            scope=ref.scope,
            ref_id=ref.id,
            console_url=provider.console_url(ref),
            expiry=provider.capabilities.expiry,
            made_at=ctx.at(),
            phase="booting",
            phase_since=ctx.at(),
            outcome="created",
            misses=0,
        )
        # Billed from here until the provider's own record tells its start.
        write.meter(attempt.id, attempt.price, ctx.at())
        write.event(
            "attempt_created",
            attempt.id,
            provider=attempt.provider,
            provider_id=ref.id,
            found_again=found_again,
        )


def _unknown(
    ctx: Context, work: Work, attempt: AttemptRow, provider: Provider, reason: str
) -> AttemptRow:
    """Sent, perhaps done, and nobody sends it any more: looked for from now on."""
    capabilities = provider.capabilities
    settled_s = capabilities.create_deadline_s + capabilities.list_lag_s
    with work.writing() as write:
        write.attempt(
            attempt.id,
            status="unknown",
            absent_after=ctx.at() + settled_s,
            misses=0,
            reason=reason,
            error_code=OutcomeUnknown.word,
        )
        write.event("attempt_unknown", attempt.id, reason=reason)
    return work.fresh(attempt)


def _not_sent(
    ctx: Context, work: Work, attempt: AttemptRow, offer: Offer, trouble: Exception
) -> float:
    """Surely nothing was made; the same attempt may be sent again."""
    if attempt.sent_at is not None:
        # This request was not sent; an earlier one was, and its outcome is still not known.
        with work.writing() as write:
            write.attempt(attempt.id, **_as_before(attempt))
        return _pause_s(trouble)
    tries = attempt.misses + 1
    if tries >= TROUBLE_TRIES:
        return _refused(ctx, work, attempt, offer, trouble)
    with work.writing() as write:
        write.attempt(attempt.id, status="intent", misses=tries, sent_at=None, absent_after=None)
        write.event("attempt_delayed", attempt.id, reason=str(trouble))
    return _pause_s(trouble)


def _pause_s(trouble: Exception) -> float:
    pause = trouble.retry_after_s if isinstance(trouble, Trouble) else None
    return TROUBLE_PAUSE_S if pause is None else pause


def _as_before(attempt: AttemptRow) -> dict[str, object]:
    """What `sending` wrote over, put back."""
    status = "intent" if attempt.sent_at is None else "unknown"
    return {
        "status": status,
        "sent_at": attempt.sent_at,
        "absent_after": attempt.absent_after,
    }


def _refused(
    ctx: Context, work: Work, attempt: AttemptRow, offer: Offer, refusal: Exception
) -> float:
    word = getattr(refusal, "word", "refused")
    if attempt.sent_at is not None:
        # An earlier request of this attempt may still take effect: not sent again, looked for.
        with work.writing() as write:
            write.attempt(
                attempt.id,
                **_as_before(attempt),
                outcome="refused",
                reason=str(refusal),
                error_code=word,
            )
            write.event("attempt_unknown", attempt.id, reason=str(refusal))
        return 0.0
    with work.writing() as write:
        write.attempt(
            attempt.id,
            status="refused",
            outcome="refused",
            reason=str(refusal),
            error_code=word,
            closed_at=ctx.at(),
        )
        write.event(
            "attempt_refused",
            attempt.id,
            provider=attempt.provider,
            offer=offer.key,
            reason=str(refusal),
            error_code=word,
        )
    if isinstance(refusal, NoCapacity):
        ctx.store.cool_down(
            attempt.provider,
            causes(offer, refusal.scope),
            ctx.at() + refusal.cool_down_s,
            str(refusal),
        )
    drop_siblings(work, offer, refusal)
    ctx.boundary("refusal recorded")
    return 0.0


def drop_siblings(work: Work, offer: Offer, refusal: Exception) -> None:
    """Candidates that share the cause of a refusal are not tried."""
    candidates = msgspec.json.decode(work.launch.candidates, type=list[PlannedOffer])
    kept = [c for c in candidates if not _shares_cause(c.offer, offer, refusal)]
    if len(kept) != len(candidates):
        with work.writing() as write:
            write.launch(candidates=encoded(kept))


def _shares_cause(other: Offer, offer: Offer, refusal: Exception) -> bool:
    if isinstance(refusal, Invalid) and refusal.code != BEYOND_BOUNDS:
        return True  # the request itself is wrong: it is so everywhere
    if (other.provider, other.account) != (offer.provider, offer.account):
        return False
    if isinstance(refusal, NoCapacity):
        return causes(other, refusal.scope) == causes(offer, refusal.scope)
    return isinstance(refusal, AuthFailed | Invalid | OutOfFunds | QuotaExceeded | Unavailable)
