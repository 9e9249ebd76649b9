"""`sweep`: what is billed and not wanted, and what is recorded and gone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from gpubroker.cli import failures
from gpubroker.cli.progress import Progress
from gpubroker.cli.session import Session
from gpubroker.cli.words import counted, money, price

if TYPE_CHECKING:
    from gpubroker.fleet.requests import Stray, SweepReport
    from gpubroker.model.machine import Machine


@click.command("sweep")
@click.option("--fix", is_flag=True, help="End the orphans, close the ghosts.")
@click.option("--owner", metavar="OWNER", help="Another gpubroker's machines, on purpose.")
@click.pass_obj
def sweep_command(session: Session, fix: bool, owner: str | None) -> int:
    """Compare every cloud's list with the record. Machines of others are never touched."""
    realm = session.realm()

    async def look() -> SweepReport:
        async with session.broker(realm, Progress(session)) as broker:
            return await broker.sweep(fix=fix, owner=owner)

    report = session.run(look())
    from gpubroker import wire

    session.show(lambda: wire.sweep(report), lambda: lines(report))
    for account, why in report.errors.items():
        session.say(f"warning: {account} could not be read, nothing is concluded: {why}")
    return failures.FAILED if report.errors else failures.DONE


def lines(report: SweepReport) -> Iterator[str]:
    """One line for each machine that is not as recorded."""
    yield f"  ours     {counted(len(report.ours), 'machine')}, as recorded"
    yield from (f"  orphan   {_stray(stray)}" for stray in report.orphans)
    yield from (f"  ghost    {_ghost(machine)}" for machine in report.ghosts)
    if report.foreign:
        owners = sorted({stray.owner for stray in report.foreign if stray.owner})
        by = f" (of gpubroker owner {', '.join(owners)})" if owners else ""
        yield f"  foreign  {len(report.foreign)}  not made by this store; left alone{by}"
    orphans, ghosts = len(report.orphans), len(report.ghosts)
    if not orphans and not ghosts:
        yield "  Nothing to mend."
    elif report.fixed:
        yield f"  Ended {counted(orphans, 'orphan')}, closed {counted(ghosts, 'ghost')}."
    else:
        yield "  Nothing was changed. gpubroker sweep --fix ends orphans and closes ghosts."


def _stray(stray: Stray) -> str:
    costs = f"{price(stray.price)}/h" if stray.price is not None else "price not told"
    so_far = f" ({money(stray.cost)} so far)" if stray.cost is not None else ""
    gpu = stray.gpu or "GPU not told"
    return f"{stray.provider} {stray.ref.id}  {gpu}  {stray.state}  {costs}{so_far}   {stray.why}"


def _ghost(machine: Machine) -> str:
    where = f"{machine.provider} {machine.provider_id or 'without an id'}"
    return f"{machine.name}  {where}  recorded as {machine.state}, gone at the cloud"
