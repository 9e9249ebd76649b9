"""`ps`, `show`, `stop`, `start`, `terminate`: what is rented."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from gpubroker.cli import failures
from gpubroker.cli.lookup import find
from gpubroker.cli.progress import Progress
from gpubroker.cli.session import Realm, Session
from gpubroker.cli.table import Column, table
from gpubroker.cli.words import NOTHING, clock_time, counted, money, price, span

if TYPE_CHECKING:
    from gpubroker.model.machine import Machine

COLUMNS = (
    Column("NAME"),
    Column("STATE"),
    Column("GPU"),
    Column("CLOUD"),
    Column("$/H", right=True),
    Column("SO FAR", right=True),
    Column("ENDS IN", right=True, drop=2),
    Column("SSH", drop=1),
)
Placed = list[tuple[Realm, "Machine"]]


@click.command("ps")
@click.option("--all", "include_ended", is_flag=True, help="Ended ones too.")
@click.pass_obj
def ps_command(session: Session, include_ended: bool) -> None:
    """Your machines and what they cost, from the record: no cloud is asked.

    Machines of the background sandbox are shown too, marked (sandbox).
    """
    placed: Placed = []
    for number, realm in enumerate(session.realms()):
        # History is asked of one realm only: the one that is meant.
        ended = include_ended and number == 0
        machines = session.recorded(realm, include_ended=ended, settle=True)
        placed += [(realm, machine) for machine in machines]
    session.show(lambda: _document(placed), lambda: _screen(session, placed))


def _document(placed: Placed) -> dict[str, Any]:
    from gpubroker import wire

    return {"instances": [wire.instance(machine) for _, machine in placed]}


@click.command("show")
@click.argument("name")
@click.pass_obj
def show_command(session: Session, name: str) -> None:
    """One machine, refreshed from its cloud."""
    ((realm, _),) = find(session, [name]).items()

    async def ask() -> Machine:
        async with session.broker(realm) as broker:
            return await broker.show(name)

    machine = session.run(ask())
    from gpubroker import wire

    session.show(
        lambda: wire.instance(machine), lambda: _details(realm, machine, session.now(realm))
    )


@click.command("stop")
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.pass_obj
def stop_command(session: Session, names: tuple[str, ...]) -> None:
    """Stop machines. A stopped machine still costs: its disk is kept."""
    _change(session, names, "stop")


@click.command("start")
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.pass_obj
def start_command(session: Session, names: tuple[str, ...]) -> None:
    """Start stopped machines again. Their GPUs may have been taken meanwhile."""
    _change(session, names, "start")


@click.command("terminate")
@click.argument("names", nargs=-1, metavar="NAME…")
@click.option("--all", "everything", is_flag=True, help="Every machine of this realm.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.pass_obj
def terminate_command(session: Session, names: tuple[str, ...], everything: bool, yes: bool) -> int:
    """End machines, wait until their clouds prove it, and show the bill."""
    if bool(names) == everything:
        raise click.UsageError("name the machines to end, or --all (one of both)")
    return _terminate(session, _all_of(session, yes=yes) if everything else find(session, names))


def _all_of(session: Session, *, yes: bool) -> dict[Realm, list[str]]:
    realm = session.realm()
    machines = [m for m in session.recorded(realm) if m.ended_at is None]
    if not machines:
        return {}
    placed = [(realm, machine) for machine in machines]
    for line in rows(placed, _times(session, placed), session.width):
        session.say(line)
    session.confirm(f"End {counted(len(machines), 'machine')}?", yes=yes)
    return {realm: [machine.name for machine in machines]}


def _terminate(session: Session, where: dict[Realm, list[str]]) -> int:
    ended: Placed = []

    async def end(realm: Realm, names: list[str]) -> tuple[Machine, ...]:
        async with session.broker(realm, Progress(session)) as broker:
            return await broker.terminate(*names)

    for realm, names in where.items():
        ended += [(realm, machine) for machine in session.run(end(realm, names))]
    session.show(lambda: _document(ended), lambda: _bills(ended))
    return failures.DONE


def _change(session: Session, names: tuple[str, ...], verb: str) -> None:
    changed: Placed = []

    async def work(realm: Realm, of_realm: list[str]) -> None:
        async with session.broker(realm, Progress(session)) as broker:
            call = {"stop": broker.stop, "start": broker.start}[verb]
            for name in of_realm:
                changed.append((realm, await call(name)))

    for realm, of_realm in find(session, names).items():
        session.run(work(realm, of_realm))
    session.show(
        lambda: _document(changed),
        lambda: [_changed(realm, machine) for realm, machine in changed],
    )


def _changed(realm: Realm, machine: Machine) -> str:
    cost = f"{price(machine.price)}/h"
    if machine.wanted == "stopped":
        cost = f"its disk still costs {price(machine.price_stopped)}/h"
    return f"{_name(realm, machine)} is {machine.state}: {cost}"


def burn(machine: Machine) -> int:
    """What it costs an hour now."""
    if machine.ended_at is not None or machine.provider_id is None:
        return 0
    return machine.price_stopped if machine.state == "stopped" else machine.price


def rows(placed: Placed, now: Mapping[Realm, datetime], width: int | None) -> list[str]:
    """The table of `ps`; `now` by each realm's clock."""
    return table(COLUMNS, [_row(realm, machine, now[realm]) for realm, machine in placed], width)


def _times(session: Session, placed: Placed) -> dict[Realm, datetime]:
    return {realm: session.now(realm) for realm in {realm for realm, _ in placed}}


def _screen(session: Session, placed: Placed) -> Iterator[str]:
    if not placed:
        yield "  No machines. To rent one: gpubroker launch --gpu NAME (ended ones: ps --all)"
        return
    header, *lines = rows(placed, _times(session, placed), session.width)
    yield session.styled(header, bold=True)
    yield from lines
    burning = sum(burn(machine) for realm, machine in placed if not realm.label)
    pretended = sum(burn(machine) for realm, machine in placed if realm.label)
    if burning or not pretended:
        yield f"  Burning {price(burning)}/h."
    if pretended:
        yield f"  In the sandbox, where nothing is paid: {price(pretended)}/h."


def _row(realm: Realm, machine: Machine, now: datetime) -> list[str]:
    return [
        _name(realm, machine),
        _state(machine),
        f"{machine.gpu_count}x {machine.gpu.label}",
        machine.provider,
        price(burn(machine)).removeprefix("$"),
        money(machine.cost_so_far),
        _ends(machine, now),
        _reached(machine),
    ]


def _name(realm: Realm, machine: Machine) -> str:
    return f"{machine.name} {realm.label}".rstrip()


def _state(machine: Machine) -> str:
    told = str(machine.state)
    if machine.wanted == "gone" and machine.ended_at is None:
        told = "ending"
    elif machine.state == "running" and machine.phase != "ready":
        told = machine.phase
    return f"{told}?" if machine.stale else told


def _ends(machine: Machine, now: datetime) -> str:
    if machine.ended_at is not None:
        return "ended"
    if machine.expires_at is None:
        return "never"
    left = (machine.expires_at - now).total_seconds()
    return span(left) if left > 0 else "now"


def _reached(machine: Machine) -> str:
    if machine.ended_at is not None:
        return NOTHING
    if machine.state == "stopped":
        return "stopped machines still cost: disk"
    if machine.error:
        return machine.error
    return f"gb-{machine.name}" if machine.ssh is not None else NOTHING


def _details(realm: Realm, machine: Machine, now: datetime) -> Iterator[str]:
    from gpubroker.wire import instance_id

    ssh = machine.ssh
    told = {
        "state": _state(machine) + (f" ({machine.error})" if machine.error else ""),
        "machine": f"{machine.gpu_count}x {machine.gpu.label} at {machine.provider}"
        f" {machine.region}".rstrip()
        + f" ({machine.market.replace('_', '-')})",
        "id": instance_id(machine),
        "price": f"{price(machine.price)}/h"
        + (
            f", {price(machine.reported_price)}/h by the cloud's record"
            if price(machine.reported_price) not in (NOTHING, price(machine.price))
            else ""
        ),
        "so far": money(machine.cost_so_far),
        "ends": ""
        if machine.ended_at
        else "no expiry"
        if machine.expires_at is None
        else f"{clock_time(machine.expires_at, now)} (by: {machine.expiry.replace('_', ' ')})",
        "ended": clock_time(machine.ended_at, now) if machine.ended_at else "",
        "ssh": f"{ssh.user}@{ssh.host} port {ssh.port}" if ssh else "",
        "ports": ", ".join(f"{key} at {where}" for key, where in machine.ports.items()),
        "image": machine.image or "",
        "console": machine.console_url or "",
        "bill": bill_words(machine).removeprefix("bill: ") if machine.ended_at else "",
    }
    yield _name(realm, machine)
    yield from (f"  {label:<8} {text}" for label, text in told.items() if text)
    for one in machine.tries:
        yield f"  attempt  {one.offer_id}: {one.outcome}" + (
            f", {one.reason}" if one.reason else ""
        )


def _bills(ended: Iterable[tuple[Realm, Any]]) -> Iterator[str]:
    there = False
    for realm, machine in ended:
        there = True
        yield f"{_name(realm, machine)}: {bill_words(machine)}"
    if not there:
        yield "No machine was running."


def bill_words(machine: Machine) -> str:
    """What our clock metered beside what the cloud's own record says."""
    metered = f"bill: {money(machine.cost_so_far)} metered"
    bill = machine.bill
    if bill.status == "ended" and bill.amount is not None:
        return f"{metered}, {money(bill.amount)} billed by {machine.provider} ✓"
    if bill.status == "ended":
        return f"{metered}, billing ended at {machine.provider} ✓"
    if bill.status == "manual":
        return f"{metered}; {machine.provider} tells bills on its own page only: {bill.evidence}"
    if bill.status == "running":
        return f"{metered}; {machine.provider} STILL BILLS IT: gpubroker sweep"
    return (
        f"{metered}; {machine.provider} has not told its bill yet (gpubroker show {machine.name})"
    )
