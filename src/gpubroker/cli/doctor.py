"""`doctor`: whether every cloud can be used, and what to do where it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from gpubroker.cli import failures
from gpubroker.cli.session import Session

if TYPE_CHECKING:
    from gpubroker.model.reports import Check

MARKS = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "yellow")}


@click.command("doctor")
@click.pass_obj
def doctor_command(session: Session) -> int:
    """Check each key with a real call: where it was found, account, balance, clock.

    Exit code 1 where a check fails.
    """
    realm = session.realm()

    async def ask() -> tuple[Check, ...]:
        async with session.broker(realm) as broker:
            return await broker.doctor()

    checks = session.run(ask())
    from gpubroker import wire

    def screen() -> Iterator[str]:
        for check in checks:
            mark, colour = MARKS[check.ok]
            shown = session.styled(mark, fg=colour)
            yield f"  {shown} {check.provider or 'gpubroker':<16} {check.what}: {check.detail}"
            if check.fix and not check.ok:
                yield f"    {'':<16} Next: {check.fix}"
        if not checks:
            yield "  Nothing to check."

    session.show(lambda: {"checks": [wire.check(check) for check in checks]}, screen)
    return failures.FAILED if any(check.ok is False for check in checks) else failures.DONE
