"""The part of a machine's start that comes over SSH, and the container that a VM is to run."""

from __future__ import annotations

from gpubroker.fleet.context import Context, Probed, Work, identity_of, offer_of, spec_of
from gpubroker.model.errors import Refused
from gpubroker.model.instance import Endpoint
from gpubroker.model.terms import Kind
from gpubroker.providers.base import BootsOverSsh, Provider
from gpubroker.store.rows import AttemptRow


def left_over(ctx: Context, work: Work, attempt: AttemptRow, provider: Provider) -> str:
    """What the cloud could not be given at the create, "" where nothing is left to run."""
    if attempt.booted_at is not None or not isinstance(provider, BootsOverSsh):
        return ""
    spec = spec_of(ctx, work.launch)
    return provider.after_boot(spec, offer_of(attempt), identity_of(ctx, attempt), ctx.now())


async def run(
    ctx: Context, work: Work, attempt: AttemptRow, script: str, endpoint: Endpoint
) -> None:
    """Runs it, and again after a crash: what was done is not done twice.

    Raises Refused with what the machine said where it failed, Unavailable where SSH does not
    answer.
    """
    if ctx.run_boot is None:
        raise Refused("its start-up text is too long for the cloud, and this computer has no ssh")
    ctx.boundary("boot next")
    code, said = await ctx.run_boot(endpoint, identity_of(ctx, attempt).name, script)
    ctx.boundary("booted")
    if code:
        raise Refused(f"its start-up script ended with exit code {code}: {said}")
    with work.writing() as write:
        write.attempt(attempt.id, booted_at=ctx.at())
        write.event("booted", attempt.id)


def forget(work: Work, attempt: AttemptRow, provider: Provider) -> None:
    """Before a start that finds nothing of it: it is to run again."""
    if provider.capabilities.stop_wipes and attempt.booted_at is not None:
        with work.writing() as write:
            write.attempt(attempt.id, booted_at=None)


async def again(
    ctx: Context, work: Work, attempt: AttemptRow, provider: Provider, endpoint: Endpoint | None
) -> None:
    """Runs on a started machine what its stop took from it, where it was run before."""
    attempt = work.fresh(attempt)
    if not endpoint or not owed(ctx, attempt, provider):
        return
    if script := left_over(ctx, work, attempt, provider):
        await run(ctx, work, attempt, script, endpoint)


def owed(ctx: Context, attempt: AttemptRow, provider: Provider) -> bool:
    """Whether what was run on it once is to run again: a stop took it."""
    if attempt.booted_at is not None or not provider.capabilities.stop_wipes:
        return False
    events = ctx.store.events(attempt.launch_id)
    return any((one.kind, one.attempt_id) == ("booted", attempt.id) for one in events)


def awaited(work: Work, attempt: AttemptRow, provider: Provider, probed: Probed) -> str:
    """What a machine that answers still waits for, "" where it is as it will be."""
    if probed.waits:
        return f"its container ({probed.waits.removeprefix('gpubroker: ')})"
    runs_image = provider.capabilities.image == "docker_on_vm" and work.launch.image
    if runs_image and offer_of(attempt).kind is Kind.VM and probed.in_container is False:
        return "its container (the machine is being set up)"
    return ""
