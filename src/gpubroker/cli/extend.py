"""`extend`: another end for a machine, done when its cloud or its timer has confirmed it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import click

from gpubroker.cli import failures
from gpubroker.cli.launch_inputs import duration_flag
from gpubroker.cli.lookup import find
from gpubroker.cli.progress import Progress
from gpubroker.cli.session import Realm, Session
from gpubroker.cli.words import clock_time, ended_by

if TYPE_CHECKING:
    from gpubroker.model.machine import Machine


class _OnlyLater(click.Command):
    """A span with a minus is a wish, and no flag."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if any(word[:1] == "-" and word[1:2].isdigit() for word in args):
            raise click.UsageError(
                "an end is moved earlier by its time: gpubroker extend NAME --until 18:30. "
                "Nothing was changed.",
                ctx,
            )
        return super().parse_args(ctx, args)


@click.command("extend", cls=_OnlyLater)
@click.argument("name")
@click.argument("by", required=False, metavar="[2h]")
@click.option("--until", metavar="TIME", help="Instead: 18:30, or 2026-11-21T18:30.")
@click.pass_obj
def extend_command(session: Session, name: str, by: str | None, until: str | None) -> int:
    """Move the expiry of a machine, or of all of a gang: so much later, or to a time.

    It is done when its cloud or the timer on the machine has confirmed it. Until then the earlier
    of both ends counts, and later commands go on asking.
    """
    if (by is None) == (until is None):
        raise click.UsageError("say by how much (2h), or --until when: one of both")
    later = None if by is None else duration_flag(by, "extend")
    ((realm, _),) = find(session, [name], gangs=True).items()
    now = session.now(realm)
    at = None if until is None else moment(until, now)

    async def ask() -> tuple[Machine, ...]:
        async with session.broker(realm, Progress(session)) as broker:
            return await broker.extend_gang(name, by=later, until=at)

    machines = session.run(ask())
    from gpubroker import wire

    rows = [wire.instance(machine) for machine in machines]
    session.show(
        lambda: rows if len(rows) > 1 else rows[0],
        lambda: [told(realm, machine, now) for machine in machines],
    )
    pending = any(not one.confirmed and one.expiry != "controller_only" for one in machines)
    return failures.FAILED if pending else failures.DONE


def moment(text: str, now: datetime) -> datetime:
    """A local time of today or tomorrow, or a date with a time."""
    try:
        if "-" in text:
            at = datetime.fromisoformat(text)
            return at.astimezone() if at.tzinfo is None else at
        clock = datetime.strptime(text, "%H:%M").time()  # noqa: DTZ007 - of the local day, below
    except ValueError:
        raise click.UsageError(f'--until "{text}": expected 18:30, or 2026-11-21T18:30') from None
    here = now.astimezone()
    at = here.replace(hour=clock.hour, minute=clock.minute, second=0, microsecond=0)
    return at if at > here else at + timedelta(days=1)


def told(realm: Realm, machine: Machine, now: datetime) -> str:
    """When it ends, by what, and what is not confirmed yet."""
    name = f"{machine.name} {realm.label}".rstrip()
    if machine.expires_at is None:
        return f"{name} has no expiry"
    wished = clock_time(machine.expires_at, now)
    if machine.confirmed or machine.expiry == "controller_only":
        return f"{name} ends {wished}, by: {ended_by(machine.expiry)}"
    known = clock_time(machine.ends_at, now) if machine.ends_at else "?"
    return (
        f"{name} is to end {wished}, which {ended_by(machine.expiry)} has not confirmed: until "
        f"then it ends {known} if nobody runs gpubroker. Later commands go on asking."
    )
