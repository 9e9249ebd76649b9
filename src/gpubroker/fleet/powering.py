"""Stopping and starting a machine: asked until its provider says that it is so."""

from __future__ import annotations

from typing import Protocol

from gpubroker.fleet import booting, following, watching
from gpubroker.fleet.context import Context, Work, identity_of, ref_of
from gpubroker.fleet.errors import StillThere
from gpubroker.model.errors import NoCapacity, NotFound, OutcomeUnknown, Trouble, WrongState
from gpubroker.model.terms import State
from gpubroker.providers.base import Provider, Stoppable
from gpubroker.store.rows import AttemptRow

STATE_DEADLINE_S = 180.0
ASK_AGAIN_S = 20.0


class StoppableProvider(Provider, Stoppable, Protocol):
    """A cloud whose machines can be stopped."""


def in_use(work: Work) -> AttemptRow:
    """The attempt whose machine is wanted. WrongState where there is none."""
    for attempt in reversed(work.attempts):
        if attempt.status == "made" and attempt.wanted == "running":
            return attempt
    raise WrongState(f"{work.launch.name} has no machine at a provider now")


async def bring(ctx: Context, work: Work, provider: StoppableProvider, state: State) -> None:
    """To RUNNING or STOPPED. StillThere where it takes too long; NoCapacity: it stays stopped."""
    deadline = ctx.at() + STATE_DEADLINE_S
    asked_at = float("-inf")
    while True:
        attempt = in_use(work)
        try:
            if await _reached(ctx, work, attempt, provider, state):
                return
            if ctx.at() - asked_at > ASK_AGAIN_S:
                await _ask(ctx, work, attempt, provider, state)
                asked_at = ctx.at()
        except NotFound:
            await _missed(ctx, work, attempt, provider)
        except NoCapacity:
            ctx.store.want(work.launch.id, "stopped", ctx.at(), "no capacity")
            raise
        except (Trouble, OutcomeUnknown) as trouble:
            if isinstance(trouble, OutcomeUnknown):
                asked_at = ctx.at()  # It may have been taken: not again at once.
            work.tell("waiting", what=str(trouble), seconds=None)
        if ctx.at() > deadline:
            raise StillThere(
                f"{work.launch.name} is not {state} after {STATE_DEADLINE_S:.0f} s; the provider "
                "still works on it. gpubroker show follows."
            )
        await ctx.clock.sleep(watching.LOOK_S)
        work.renew()


async def _reached(
    ctx: Context, work: Work, attempt: AttemptRow, provider: Provider, state: State
) -> bool:
    instance = await watching.look(ctx, work, attempt, provider)
    if instance.state is not state or state is State.STOPPED:
        return instance.state is state
    if instance.ssh is None:
        return not provider.capabilities.logs_in
    await booting.again(ctx, work, attempt, provider, instance.ssh)
    return True


async def _ask(
    ctx: Context, work: Work, attempt: AttemptRow, provider: StoppableProvider, state: State
) -> None:
    if provider.capabilities.stop_wipes:
        ctx.forget_host(identity_of(ctx, attempt).name)
    if state is State.STOPPED:
        await provider.stop(ref_of(attempt))
        return
    booting.forget(work, attempt, provider)
    following.start_asked(work, attempt, provider)
    ctx.boundary("start next")
    moved = await provider.start(ref_of(attempt))
    ctx.boundary("start sent")
    if moved is not None:
        following.follow(ctx, work, attempt, provider, moved)


async def _missed(ctx: Context, work: Work, attempt: AttemptRow, provider: Provider) -> None:
    """It may have another id by now. NotFound where it has not."""
    if await following.find(ctx, work, attempt, provider):
        return
    if not following.on_its_way(ctx, attempt, provider):
        raise NotFound(f"{provider.display_name} has no such machine any more")
