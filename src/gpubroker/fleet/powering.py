"""Stopping and starting a machine: asked until its provider says that it is so.

A stop holds until something else is wished: what somebody starts at its cloud is stopped again. A
start is over once the machine was seen to run: nothing is started, and paid for, that nobody asked
for since. What the cloud refuses is not wished any more.
"""

from __future__ import annotations

from functools import partial
from typing import Protocol

from gpubroker.fleet import booting, following, leaving, watching
from gpubroker.fleet.context import Context, Work, identity_of, ref_of
from gpubroker.fleet.errors import StillThere
from gpubroker.model.errors import (
    AuthFailed,
    NotFound,
    OutcomeUnknown,
    Refused,
    Trouble,
    Unsupported,
    WrongState,
)
from gpubroker.model.terms import State
from gpubroker.providers.base import Provider, Stoppable
from gpubroker.providers.calling import sent_only_after
from gpubroker.store.errors import LeaseLost
from gpubroker.store.rows import AttemptRow

STATE_DEADLINE_S = 180.0
ASK_AGAIN_S = 20.0
LOOK_AGAIN_S = 20.0
UNWATCHED_S = 60.0
"""Between two questions, where nobody waits for the answer."""
SENT_WITHIN_S = 60.0
"""More than this of the lease is left whenever a stop or start is sent."""
VERBS = {State.STOPPED: "stop", State.RUNNING: "start"}
_UNDER_WAY = {State.STOPPED: {State.STOPPING}, State.RUNNING: {State.PENDING, State.RUNNING}}
_WISHED = {"gone": "ended", "stopped": "stopped", "running": "started"}
_OVER = frozenset({State.FAILED, State.TERMINATING, State.TERMINATED})
_HAD = 0.0
"""In place of a time: a stop that was had, and holds."""


class StoppableProvider(Provider, Stoppable, Protocol):
    """A cloud whose machines can be stopped."""


def in_use(work: Work) -> AttemptRow:
    """The attempt whose machine is wanted. WrongState where there is none."""
    for attempt in reversed(work.attempts):
        if attempt.status == "made" and attempt.wanted == "running":
            return attempt
    raise WrongState(f"{work.launch.name} has no machine at a provider now")


def refuse_unready(work: Work, attempt: AttemptRow) -> None:
    """WrongState for a machine in the making, which, stopped, would be given back as failed.

    And for one that is being ended.
    """
    name = work.launch.name
    if work.launch.wanted == "gone":
        raise WrongState(f"{name} is being ended")
    if attempt.ready_at is None:
        raise WrongState(f"{name} is not ready yet; gpubroker show {name} follows it")


async def bring(ctx: Context, work: Work, provider: StoppableProvider, state: State) -> None:
    """To RUNNING or STOPPED. StillThere where it takes too long; Refused: it stays as it was.

    LeaseLost where something else was wished meanwhile: nothing is sent from then on.
    """
    limit_s = STATE_DEADLINE_S + following.settles_in_s(provider)
    deadline = ctx.at() + limit_s
    asked_at = float("-inf")
    while True:
        _still_wished(ctx, work, state)
        attempt = in_use(work)
        try:
            if await _reached(ctx, work, attempt, provider, state):
                return
            if ctx.at() - asked_at > ASK_AGAIN_S and _may_ask(work, attempt, state):
                await _ask(ctx, work, attempt, provider, state)
                asked_at = ctx.at()
        except NotFound:
            await _missed(ctx, work, attempt, provider)
        except Refused as refusal:
            if not isinstance(refusal, WrongState) or asked_at == float("-inf"):
                _withdraw(work, attempt, state, refusal)
                raise
            work.tell("waiting", what=str(refusal), seconds=None)
        except (Trouble, OutcomeUnknown) as trouble:
            if isinstance(trouble, OutcomeUnknown):
                asked_at = ctx.at()  # It may have been taken: not again at once.
            work.tell("waiting", what=str(trouble), seconds=None)
        await ctx.clock.sleep(watching.LOOK_S)
        work.renew_unbroken()
        work.refresh()
        if ctx.at() > deadline:
            raise StillThere(
                f"{work.launch.name} is not {state} after {limit_s:.0f} s; the provider "
                "still works on it. gpubroker show follows."
            )


def owed(work: Work, attempt: AttemptRow) -> bool:
    """Whether a stop or start was wished, and its machine was not seen to be so."""
    launch = work.launch
    if launch.power_at is None or attempt.state in _OVER:
        return False
    starts = launch.wanted == "running"
    if attempt.state == State.PREEMPTED:
        # What follows where it was taken away is its policy's matter.
        return starts and launch.on_preempt == "stay"
    return starts or attempt.state != State.STOPPED or launch.power_at != _HAD


async def converge(ctx: Context, work: Work, attempt: AttemptRow) -> float:
    """One step of a machine towards the stop or start that is owed. Answer: seconds to wait."""
    left_s = (work.launch.power_at or 0.0) - ctx.at()
    if left_s > 0:
        return left_s
    state = State.STOPPED if work.launch.wanted == "stopped" else State.RUNNING
    provider = _provider(ctx, work, attempt)
    try:
        # Whatever comes of it: not again at once.
        if not _note(work, state, ctx.at() + LOOK_AGAIN_S):
            return 0.0
        if not isinstance(provider, Stoppable):
            raise Unsupported(f"{provider.display_name} cannot stop and start a machine")
        if await _reached(ctx, work, attempt, provider, state):
            return LOOK_AGAIN_S
        claim = f"{VERBS[state]}:{attempt.id}"
        if _may_ask(work, attempt, state) and ctx.store.claim(claim, ctx.at(), UNWATCHED_S):
            await _ask(ctx, work, attempt, provider, state)
    except LeaseLost:
        return 0.0  # what is wished now is read anew
    except NotFound:
        # Where it is not elsewhere, the witnesses decide whether it is gone.
        await following.find(ctx, work, attempt, provider)
    except WrongState as conflict:
        work.tell("waiting", what=str(conflict), seconds=None)
    except Refused as refusal:
        _withdraw(work, attempt, state, refusal)
        raise
    return LOOK_AGAIN_S


def _provider(ctx: Context, work: Work, attempt: AttemptRow) -> Provider:
    """Raises what this process lacks: no cloud refused it, and who has the key finds it due."""
    try:
        return ctx.clouds.provider(attempt.provider, attempt.account)
    except Refused:
        leaving.leave(ctx, work, attempt)
        raise


def _may_ask(work: Work, attempt: AttemptRow, state: State) -> bool:
    """Not while it is on its way there: some clouds refuse what they do already."""
    return work.fresh(attempt).state not in _UNDER_WAY[state]


def _withdraw(work: Work, attempt: AttemptRow, state: State, refusal: Refused) -> None:
    """It stays as it was, and is wanted so."""
    if work.launch.power_at is None or isinstance(refusal, AuthFailed):
        return  # it is as wished already; or another process may have a key that is taken
    taken = work.fresh(attempt).state == State.PREEMPTED
    wanted = "running" if state is State.STOPPED or taken else "stopped"
    with work.writing() as write:
        if write.power(state.value, None):
            write.launch(wanted=wanted)
            write.event("wanted", wanted=wanted, why=f"{VERBS[state]} refused: {refusal}")


async def _reached(
    ctx: Context, work: Work, attempt: AttemptRow, provider: Provider, state: State
) -> bool:
    instance = await watching.look(ctx, work, attempt, provider)
    if instance.state is not state:
        return False
    if state is State.STOPPED:
        # Off from inside, some are billed in full; and what was started may be to come.
        if instance.bills_compute or following.on_its_way(ctx, attempt, provider):
            return False
        _note(work, state, _HAD)
    else:
        if work.launch.power_at is not None:
            _note(work, state, None)  # it runs; what is to be run on it is owed by itself
        if instance.ssh is None and provider.capabilities.logs_in:
            return False
        await booting.again(ctx, work, attempt, provider, instance.ssh)
    ctx.boundary(f"{VERBS[state]} reached")
    return True


def _note(work: Work, state: State, power_at: float | None) -> bool:
    """Whether that is still wished; else what is wished now stays as it is."""
    with work.writing() as write:
        return write.power(state.value, power_at)


def _still_wished(ctx: Context, work: Work, state: State) -> None:
    """Raises LeaseLost where it is not, or where another process may work on it by now."""
    launch = ctx.store.launch(work.launch.id)
    if launch.wanted != state.value:
        raise LeaseLost(f"{launch.name} is to be {_WISHED[launch.wanted]} by now")
    if work.lease.left_s() <= SENT_WITHIN_S or launch.fence != work.lease.fence:
        raise LeaseLost(f"{launch.name}: the turn to {VERBS[state]} it came too late")


async def _ask(
    ctx: Context, work: Work, attempt: AttemptRow, provider: StoppableProvider, state: State
) -> None:
    if provider.capabilities.stop_wipes:
        ctx.forget_host(identity_of(ctx, attempt).name)
    if state is State.STOPPED:
        if following.on_its_way(ctx, attempt, provider):
            await following.find(ctx, work, attempt, provider)
            return  # what was started is stopped once it is known
        ctx.boundary("stop next")
        _still_wished(ctx, work, state)
        with sent_only_after(partial(_still_wished, ctx, work, state)):
            await provider.stop(ref_of(attempt))
        ctx.boundary("stop sent")
        return
    if not await following.may_start(ctx, work, attempt, provider):
        return
    booting.forget(work, attempt, provider)
    ctx.boundary("start next")
    try:
        _still_wished(ctx, work, state)
        with sent_only_after(partial(_still_wished, ctx, work, state)):
            moved = await provider.start(ref_of(attempt))
    except (Refused, Trouble, LeaseLost) as unsent:
        following.start_refused(work, attempt, provider, unsent)
        raise
    ctx.boundary("start sent")
    if moved is not None:
        following.follow(ctx, work, attempt, provider, moved)
    ctx.boundary("start noted")


async def _missed(ctx: Context, work: Work, attempt: AttemptRow, provider: Provider) -> None:
    """It may have another id by now. NotFound where it has not."""
    if await following.find(ctx, work, attempt, provider):
        return
    if not following.on_its_way(ctx, attempt, provider):
        raise NotFound(f"{provider.display_name} has no such machine any more")
