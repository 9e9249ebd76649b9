"""From a made machine to one that answers: what the provider says, keys, price, SSH, deadlines."""

from __future__ import annotations

from msgspec import structs

from gpubroker.fleet import booting, checking, ending, expiring
from gpubroker.fleet.context import (
    Context,
    Transition,
    Work,
    encoded,
    instance_of,
    offer_of,
    ref_of,
    spec_of,
)
from gpubroker.model.errors import BrokerError, NotFound, Refused
from gpubroker.model.instance import Endpoint, Instance
from gpubroker.model.money import usd
from gpubroker.model.terms import Kind, Market, State
from gpubroker.providers.base import KeyAttachable, Provider
from gpubroker.store.rows import AttemptRow

LOOK_S = 2.0
PHASE_DEADLINE_S = {"allocating": 300.0, "booting": 900.0, "pulling": 3600.0, "ssh": 600.0}
"""A phase that lasts longer has failed, and the next offer has its turn."""
NOT_COMING = frozenset({State.FAILED, State.PREEMPTED, State.STOPPED, State.TERMINATED})
"""States from which a machine that was not ready yet does not get ready."""


async def watch(ctx: Context, work: Work, attempt: AttemptRow) -> float:
    """One look at a machine that is wanted and not ready yet."""
    provider = ctx.clouds.provider(attempt.provider, attempt.account)
    try:
        instance = await look(ctx, work, attempt, provider)
    except NotFound as missing:
        if ctx.at() - (attempt.made_at or 0) > provider.capabilities.list_lag_s:
            _never_seen(work, attempt)
            doom(ctx, work, attempt, f"the provider has no such machine: {missing}")
        return LOOK_S
    except BrokerError as trouble:
        return _look_failed(ctx, work, attempt, trouble)
    ctx.boundary("observed")
    attempt = work.fresh(attempt)
    if dearer := _dearer(work, attempt, instance):
        doom(ctx, work, attempt, dearer)
    elif instance.state in NOT_COMING:
        doom(ctx, work, attempt, instance.reason or f"the machine is {instance.raw_state}")
    elif grave := checking.judge_record(ctx, work, attempt, provider, instance):
        doom(ctx, work, attempt, "; ".join(grave))
    elif instance.state is State.RUNNING:
        return await _get_ready(ctx, work, attempt, provider, instance)
    else:
        _enforce_deadline(ctx, work, attempt)
    return LOOK_S


def _never_seen(work: Work, attempt: AttemptRow) -> None:
    """The cloud said that it made it: if our key was another account's just then, it is there."""
    if attempt.instance is not None:
        return
    with work.writing() as write:
        write.event(
            "never_seen",
            attempt.id,
            provider=attempt.provider,
            provider_id=attempt.ref_id,
            console_url=attempt.console_url,
        )


async def look(ctx: Context, work: Work, attempt: AttemptRow, provider: Provider) -> Instance:
    """Read the machine and record what is said of it. Raises what `get` raises."""
    return record(ctx, work, attempt, await provider.get(ref_of(attempt)))


def record(ctx: Context, work: Work, attempt: AttemptRow, told: Instance) -> Instance:
    """Keep what the provider told of a machine: its state, what it costs now, its phase."""
    instance = _as_wanted(work, attempt, told)
    rate = _rate(attempt, instance)
    with work.writing() as write:
        write.attempt(
            attempt.id,
            instance=encoded(instance),
            state=instance.state,
            seen_at=ctx.at(),
            look_failed="",
            misses=0,
            **expiring.told(attempt, instance),
        )
        _meter(ctx, write, attempt, instance, rate)
        before = _state_before(attempt)
        if before is not instance.state:
            write.event(
                "preempted" if instance.state is State.PREEMPTED else "state",
                attempt.id,
                state=instance.state,
                raw_state=instance.raw_state,
                reason=instance.reason,
            )
        phase = _phase(attempt, instance)
        if phase != attempt.phase:
            write.attempt(attempt.id, phase=phase, phase_since=ctx.at())
            write.event("phase", attempt.id, phase=phase, detail=instance.reason)
    return instance


def _meter(
    ctx: Context, write: Transition, attempt: AttemptRow, instance: Instance, rate: int | None
) -> None:
    """From the start that the cloud tells, however late; what changes later, from when it is seen.

    Some clouds tell the start of what they bill, once it is billed. Others tell when the machine
    was made, and bill from later on: from the last look, then, at which they did not.
    """
    if instance.created_at is None:
        write.meter(attempt.id, rate, ctx.at())
        return
    before, start = instance_of(attempt), instance.created_at.timestamp()
    told_first = before is None or (before.created_at is None and attempt.ready_at is None)
    if told_first and instance.bills_compute:
        write.metered_from(attempt.id, rate, start)
    elif before is None:
        write.meter(attempt.id, None, start)
        write.meter(attempt.id, rate, start)
    elif attempt.ready_at is None and instance.bills_compute and not before.bills_compute:
        write.meter(attempt.id, rate, max(start, attempt.seen_at or start))
    else:
        write.meter(attempt.id, rate, ctx.at())


def _as_wanted(work: Work, attempt: AttemptRow, instance: Instance) -> Instance:
    """A spot machine that was in use and stopped without being asked to was taken away."""
    taken = (
        instance.state is State.STOPPED
        and work.launch.wanted == "running"
        and attempt.ready_at is not None
        and offer_of(attempt).market is Market.SPOT
        and _state_before(attempt) in {State.RUNNING, State.PREEMPTED}
    )
    if not taken:
        return instance
    reason = instance.reason or "outbid: it waits, and its disk costs"
    return structs.replace(instance, state=State.PREEMPTED, reason=reason)


def doom(ctx: Context, work: Work, attempt: AttemptRow, reason: str) -> None:
    """This machine is given back; the launch goes on with the next offer."""
    with work.writing() as write:
        write.attempt(attempt.id, wanted="gone", outcome="failed", reason=reason)
        write.event("attempt_failed", attempt.id, provider=attempt.provider, reason=reason)
    offer = offer_of(attempt)
    ctx.store.cool_down(
        attempt.provider, f"offer:{offer.key}", ctx.at() + ending.COOL_DOWN_S, reason
    )
    ctx.boundary("given back")


async def _get_ready(
    ctx: Context, work: Work, attempt: AttemptRow, provider: Provider, instance: Instance
) -> float:
    try:
        await _give_keys(ctx, work, attempt, provider)
    except Refused as refusal:
        doom(ctx, work, attempt, f"the SSH keys were refused: {refusal}")
        return 0.0
    except BrokerError as trouble:
        return _look_failed(ctx, work, attempt, trouble)
    found = await _inside(ctx, work, work.fresh(attempt), provider, instance)
    if isinstance(found, float):
        return found
    with work.writing() as write:
        write.attempt(attempt.id, ready_at=ctx.at(), phase="ready", phase_since=ctx.at())
        write.event("ready", attempt.id, detail=found)
    ctx.boundary("ready")
    await expiring.bring_if_it_can(ctx, work)
    return 0.0


async def _inside(
    ctx: Context, work: Work, attempt: AttemptRow, provider: Provider, instance: Instance
) -> str | float:
    """What a look at the machine found good; else the seconds until the next step."""
    if not provider.capabilities.logs_in or ctx.probe is None:
        return ""
    if instance.ssh is None:
        _enforce_deadline(ctx, work, attempt)
        return LOOK_S
    pause = await _complete(ctx, work, attempt, provider, instance.ssh)
    if pause is not None:
        return pause
    name = f"gb-{ctx.store.owner}-{attempt.id}"
    probed = await ctx.probe(instance.ssh, name, offer_of(attempt))
    if not probed.answers:
        return _not_yet(ctx, work, attempt, f"SSH ({probed.detail})")
    if what := booting.awaited(work, attempt, provider, probed):
        return _not_yet(ctx, work, _noted_pulling(ctx, work, attempt, what), what)
    seen = checking.of_machine(work, probed)
    grave = probed.problems or checking.judge(ctx, work, attempt, seen)
    if grave:
        doom(ctx, work, attempt, "; ".join(grave))
    return 0.0 if grave else probed.detail


async def _complete(
    ctx: Context, work: Work, attempt: AttemptRow, provider: Provider, endpoint: Endpoint
) -> float | None:
    """Run what did not fit the create. Seconds until the next step, None where nothing is left."""
    try:
        if script := booting.left_over(ctx, work, attempt, provider):
            await booting.run(ctx, work, attempt, script, endpoint)
    except Refused as failure:
        doom(ctx, work, attempt, str(failure))
        return 0.0
    except BrokerError as trouble:
        return _not_yet(ctx, work, attempt, f"SSH ({trouble})")
    return None


async def _give_keys(ctx: Context, work: Work, attempt: AttemptRow, provider: Provider) -> None:
    if provider.capabilities.ssh_keys != "attached" or not isinstance(provider, KeyAttachable):
        return
    keys = spec_of(ctx, work.launch).ssh_keys
    for given, key in enumerate(keys[attempt.keys_given :], attempt.keys_given + 1):
        await provider.attach_key(ref_of(attempt), key)
        ctx.boundary("key attached")
        with work.writing() as write:
            write.attempt(attempt.id, keys_given=given)


def _look_failed(ctx: Context, work: Work, attempt: AttemptRow, trouble: BrokerError) -> float:
    with work.writing() as write:
        write.attempt(attempt.id, look_failed=str(trouble))
    work.tell("waiting", what=f"{attempt.provider}: {trouble}", seconds=None)
    _enforce_deadline(ctx, work, work.fresh(attempt))
    return max(LOOK_S, getattr(trouble, "retry_after_s", None) or 0.0)


def _not_yet(ctx: Context, work: Work, attempt: AttemptRow, what: str) -> float:
    _enforce_deadline(ctx, work, attempt)
    work.tell("waiting", what=what, seconds=None)
    return LOOK_S


def _noted_pulling(ctx: Context, work: Work, attempt: AttemptRow, what: str) -> AttemptRow:
    """A VM that pulls its image answers already, and takes as long as a cloud that pulls it."""
    if attempt.phase != "pulling":
        with work.writing() as write:
            write.attempt(attempt.id, phase="pulling", phase_since=ctx.at())
            write.event("phase", attempt.id, phase="pulling", detail=what)
    return work.fresh(attempt)


def _enforce_deadline(ctx: Context, work: Work, attempt: AttemptRow) -> None:
    limit = PHASE_DEADLINE_S.get(attempt.phase)
    if limit is not None and ctx.at() - attempt.phase_since > limit:
        doom(ctx, work, attempt, f"not ready: {attempt.phase} for more than {limit:.0f} s")


def _dearer(work: Work, attempt: AttemptRow, instance: Instance) -> str:
    """The provider's own price on the record against the offer's (not once it is in use)."""
    if instance.price is None or attempt.ready_at is not None:
        return ""
    most = attempt.price * (1 + work.launch.tolerance)
    if work.launch.max_price is not None:
        most = min(most, work.launch.max_price)
    if instance.price <= most:
        return ""
    increase = instance.price / attempt.price - 1
    return (
        f"the price moved from ${usd(attempt.price):.3f} to ${usd(instance.price):.3f} "
        f"(+{increase:.0%})"
    )


def _phase(attempt: AttemptRow, instance: Instance) -> str:
    if attempt.ready_at is not None:
        return "ready"
    if instance.state is State.RUNNING:
        pulls_itself = attempt.phase == "pulling" and offer_of(attempt).kind is Kind.VM
        return "pulling" if pulls_itself else "ssh"
    return "pulling" if instance.pulling else "booting"


def _rate(attempt: AttemptRow, instance: Instance) -> int | None:
    if instance.bills_compute:
        return instance.price if instance.price is not None else attempt.price
    return attempt.price_stopped if instance.bills_disk else None


def _state_before(attempt: AttemptRow) -> State | None:
    before = instance_of(attempt)
    return None if before is None else before.state
