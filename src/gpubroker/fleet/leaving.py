"""What this process lacks a key for: nobody refused it, so it is left to who has the key."""

from __future__ import annotations

from gpubroker.fleet.context import Context, Work
from gpubroker.store.rows import AttemptRow, LaunchRow

LEFT_S = 300.0
"""So long a keeper leaves a launch alone before it looks again whether it has the key by now."""


def leave(ctx: Context, work: Work, attempt: AttemptRow) -> None:
    """The launch, from now on for a while; not where an end is owed beside that attempt."""
    others = any(one.open and one.id != attempt.id for one in work.attempts)
    if not others and not ctx.store.owed_releases(work.launch.id):
        ctx.left[work.launch.id] = ctx.at() + LEFT_S


def left(ctx: Context, launch: LaunchRow) -> bool:
    """Whether there is nothing to do here for a launch that is due; its end never waits."""
    expired = launch.expires_at is not None and launch.expires_at <= ctx.at()
    return launch.wanted != "gone" and not expired and ctx.left.get(launch.id, 0.0) > ctx.at()
