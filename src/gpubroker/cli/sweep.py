"""`sweep`: what is billed and not wanted, what is recorded and gone, what is left behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from gpubroker.cli import failures
from gpubroker.cli.progress import Progress
from gpubroker.cli.session import Session
from gpubroker.cli.words import counted, money, price

if TYPE_CHECKING:
    from gpubroker.fleet.requests import Stray, StrayResource, SweepReport
    from gpubroker.model.machine import Machine


@click.command("sweep")
@click.option(
    "--fix", is_flag=True, help="End the orphans, close the ghosts, release what is unused."
)
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
        session.say(f"warning: {account}: {why}. Nothing is concluded from what is not told")
    return failures.FAILED if report.errors else failures.DONE


def lines(report: SweepReport) -> Iterator[str]:
    """One line for each machine that is not as recorded, and for what is left behind."""
    so_far = sum(machine.cost_so_far for machine in report.ours)
    spent = f", {money(so_far)} so far" if report.ours else ""
    yield f"  ours     {counted(len(report.ours), 'machine')}, as recorded{spent}"
    yield from (f"  orphan   {_stray(stray)}" for stray in report.orphans)
    yield from (f"  ghost    {_ghost(machine)}" for machine in report.ghosts)
    yield from (f"  foreign  {_stray(stray)}; left alone" for stray in report.foreign)
    unused = [one for one in report.resources if one.whose == "orphan"]
    yield from (f"  unused   {_resource(one)}" for one in unused)
    kept = Counter(one.whose for one in report.resources if one.whose != "orphan")
    if kept:
        told = ", ".join(f"{kept[whose]} {whose}" for whose in ("ours", "foreign") if kept[whose])
        yield f"  kept     keys, scripts, rules and the like: {told}"
    yield from _ending(report, len(unused))
    if owners := sorted({stray.owner for stray in report.foreign if stray.owner}):
        yield (
            f"  If the store of {', '.join(owners)} is lost: gpubroker adopt PROVIDER ID --ttl 4h "
            "--owner OWNER manages its machine."
        )


def _ending(report: SweepReport, unused: int) -> Iterator[str]:
    orphans, ghosts = len(report.orphans), len(report.ghosts)
    if not orphans and not ghosts and not unused:
        yield "  Nothing to mend."
    elif report.fixed and report.errors:
        yield "  Not all could be mended: the warnings say what. Run it again."
    elif report.fixed:
        released = f", released {unused} unused" if unused else ""
        yield f"  Ended {counted(orphans, 'orphan')}, closed {counted(ghosts, 'ghost')}{released}."
    else:
        releases = ", releases what is unused" if unused else ""
        ends = "ends orphans and closes ghosts"
        yield f"  Nothing was changed. gpubroker sweep --fix {ends}{releases}."


def _stray(stray: Stray) -> str:
    costs = f"{price(stray.price)}/h" if stray.price is not None else "price not told"
    so_far = f" ({money(stray.cost)} so far)" if stray.cost is not None else ""
    gpu = stray.gpu or "GPU not told"
    return f"{stray.provider} {stray.ref.id}  {gpu}  {stray.state}  {costs}{so_far}   {stray.why}"


def _resource(one: StrayResource) -> str:
    return f"{one.provider} {one.what.replace('_', ' ')} {one.name}   {one.why}"


def _ghost(machine: Machine) -> str:
    where = f"{machine.provider} {machine.provider_id or 'without an id'}"
    return f"{machine.name}  {where}  recorded as {machine.state}, gone at the cloud"
