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
from gpubroker.cli.standing_flags import standing_notes, waiting_words
from gpubroker.cli.table import Column, table
from gpubroker.cli.words import (
    NOTHING,
    at_account,
    clock_time,
    counted,
    ended_by,
    masked,
    money,
    price,
    span,
)

if TYPE_CHECKING:
    from pathlib import Path

    from gpubroker.model.machine import Machine
    from gpubroker.model.notices import Warned

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
PROJECT = Column("PROJECT", drop=0)
"""Shown where a machine has one."""
MOST_NOTES = 5
SAME_END_S = 90.0
"""Timers and clouds keep an end to about a minute."""
Placed = list[tuple[Realm, "Machine"]]


@click.command("ps")
@click.option("--all", "include_ended", is_flag=True, help="Ended ones too.")
@click.pass_obj
def ps_command(session: Session, include_ended: bool) -> None:
    """Your machines and what they cost, from the record: no cloud is asked.

    Machines of the background sandbox are shown too, marked (sandbox).
    """
    placed: Placed = []
    warned: list[Warned] = []
    for number, realm in enumerate(session.realms()):
        # History is asked of one realm only: the one that is meant.
        ended = include_ended and number == 0
        machines = session.recorded(realm, include_ended=ended, settle=True)
        placed += [(realm, machine) for machine in machines]
        warned += session.warnings(realm)
    session.show(
        lambda: _document(placed) | _warnings(warned), lambda: _screen(session, placed, warned)
    )


def _document(placed: Placed) -> dict[str, Any]:
    from gpubroker import wire

    return {"instances": [wire.instance(machine) for _, machine in placed]}


def _warnings(warned: list[Warned]) -> dict[str, Any]:
    from gpubroker import wire_budgets

    return {"warnings": [wire_budgets.warning(one) for one in warned]}


@click.command("show")
@click.argument("name")
@click.pass_obj
def show_command(session: Session, name: str) -> None:
    """One machine, refreshed from its cloud."""
    ((realm, _),) = find(session, [name]).items()

    async def ask() -> tuple[Machine, tuple[str, ...], Path]:
        async with session.broker(realm) as broker:
            return await broker.show(name), broker.variables(name), broker.ssh_folder()

    machine, env, folder = session.run(ask())
    from gpubroker import wire

    way_in = way_in_of(machine, folder)

    session.show(
        lambda: wire.instance(machine) | {"env": dict.fromkeys(env, "***"), "way_in": way_in},
        lambda: _details(realm, machine, session.now(realm), env, way_in),
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
    where = _all_of(session, yes=yes) if everything else find(session, names, gangs=True)
    return _terminate(session, where)


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
        disk = machine.price_stopped
        cost = f"its disk still costs {price(disk)}/h" if disk else "it costs nothing now"
    return f"{_name(realm, machine)} is {machine.state}: {cost}"


def burn(machine: Machine) -> int:
    """What it costs an hour now."""
    if machine.ended_at is not None or machine.provider_id is None:
        return 0
    return machine.price_stopped if machine.state == "stopped" else machine.price


def rows(placed: Placed, now: Mapping[Realm, datetime], width: int | None) -> list[str]:
    """The table of `ps`; `now` by each realm's clock."""
    lines = [_row(realm, machine, now[realm]) for realm, machine in placed]
    if not any(machine.project for _, machine in placed):
        return table(COLUMNS, lines, width)
    for line, (_, machine) in zip(lines, placed, strict=True):
        line.insert(1, machine.project or NOTHING)
    return table((COLUMNS[0], PROJECT, *COLUMNS[1:]), lines, width)


def _times(session: Session, placed: Placed) -> dict[Realm, datetime]:
    return {realm: session.now(realm) for realm in {realm for realm, _ in placed}}


def _screen(session: Session, placed: Placed, warned: list[Warned]) -> Iterator[str]:
    notes = [f"  ! {one.text}" for one in warned[-MOST_NOTES:]]
    if len(warned) > MOST_NOTES:
        notes.insert(0, f"  ! {len(warned) - MOST_NOTES} earlier warnings: ps --json")
    if not placed:
        yield "  No machines. To rent one: gpubroker launch --gpu NAME (ended ones: ps --all)"
        yield from notes
        return
    header, *lines = rows(placed, _times(session, placed), session.width)
    yield session.styled(header, bold=True)
    yield from lines
    if any(unheld(one) and one.ends_at and not one.ended_at for _, one in placed):
        yield "  * ends only where gpubroker runs then: gpubroker keeper status"
    burning = sum(burn(machine) for realm, machine in placed if not realm.label)
    pretended = sum(burn(machine) for realm, machine in placed if realm.label)
    if burning or not pretended:
        yield f"  Burning {price(burning)}/h."
    if pretended:
        yield f"  In the sandbox, where nothing is paid: {price(pretended)}/h."
    yield from notes


def _row(realm: Realm, machine: Machine, now: datetime) -> list[str]:
    return [
        _name(realm, machine),
        _state(machine),
        f"{machine.gpu_count}x {machine.gpu.label}",
        at_account(machine.provider, machine.account),
        price(burn(machine)).removeprefix("$"),
        money(machine.cost_so_far),
        _ends(machine, now),
        waiting_words(machine, now) or "; ".join([_reached(machine), *standing_notes(machine)]),
    ]


def _name(realm: Realm, machine: Machine) -> str:
    return f"{machine.name} {realm.label}".rstrip()


def _state(machine: Machine) -> str:
    told = "waiting" if machine.next_try_at else str(machine.state)
    if machine.wanted == "gone" and machine.ended_at is None:
        told = "ending"
    elif machine.state == "running" and machine.phase != "ready":
        told = machine.phase
    return f"{told}?" if machine.stale else told


def _ends(machine: Machine, now: datetime) -> str:
    if machine.ended_at is not None:
        return "ended"
    if machine.ends_at is None:
        return "never"
    left = (machine.ends_at - now).total_seconds()
    return f"{span(left) if left > 0 else 'now'}{unheld(machine)}"


def unheld(machine: Machine) -> str:
    """A mark where only a running gpubroker ends it in time."""
    return "" if machine.confirmed else "*"


def _reached(machine: Machine) -> str:
    if machine.ended_at is not None:
        return NOTHING
    if machine.state == "stopped":
        return "stopped machines still cost: disk" if machine.price_stopped else NOTHING
    if machine.error:
        return machine.error
    if machine.ssh is not None:
        return f"gb-{machine.name}"
    return ", ".join(at for at in machine.ports.values() if "://" in at) or NOTHING


def _when_taken(machine: Machine) -> str:
    if machine.on_preempt == "stay":
        return ""
    return f"when taken away: {machine.on_preempt}; so far {counted(machine.preempted, 'time')}"


def _details(
    realm: Realm, machine: Machine, now: datetime, env: tuple[str, ...] = (), way_in: str = ""
) -> Iterator[str]:
    from gpubroker.wire import instance_id

    ssh = machine.ssh
    told = {
        "state": _state(machine) + (f" ({machine.error})" if machine.error else ""),
        "machine": f"{machine.gpu_count}x {machine.gpu.label}"
        f" at {at_account(machine.provider, machine.account)}"
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
        "project": machine.project,
        "tags": ", ".join(f"{key}={value}" for key, value in machine.tags.items()),
        "ends": "" if machine.ended_at else _end(machine, now),
        "idle": "" if machine.ended_at else _idle(machine, now),
        "ended": clock_time(machine.ended_at, now) if machine.ended_at else "",
        "waits": waiting_words(machine, now),
        "spot": _when_taken(machine),
        "gang": machine.gang,
        "ssh": f"{ssh.user}@{ssh.host} port {ssh.port}" if ssh else "",
        "way in": "" if machine.ended_at else way_in,
        "ports": ", ".join(f"{key} at {where}" for key, where in machine.ports.items()),
        "image": machine.image or "",
        "env": masked(env),
        "console": machine.console_url or "",
        "bill": bill_words(machine).removeprefix("bill: ") if machine.ended_at else "",
    }
    yield _name(realm, machine)
    yield from (f"  {label:<8} {text}" for label, text in told.items() if text)
    yield from (f"  ! not as asked: {words}" for words in machine.mismatch)
    for one in machine.tries:
        yield f"  attempt  {one.offer_id}: {one.outcome}" + (
            f", {one.reason}" if one.reason else ""
        )


def way_in_of(machine: Machine, folder: Path) -> str:
    """What a person does where gpubroker itself does not log in; "" where it does.

    `folder`: of the realm's keys.
    """
    from gpubroker.catalog.clouds import way_in
    from gpubroker.model.identity import parse_name

    owner, _ = parse_name(machine.host_key_alias) or ("*", "")
    key = str(folder / f"gb-{owner}.pub")
    return way_in(machine.provider, machine.provider_id, key)


def _end(machine: Machine, now: datetime) -> str:
    if machine.ends_at is None:
        return "no expiry"
    by = ended_by(machine.expiry)
    told = f"{clock_time(machine.ends_at, now)} (by: {by})"
    wished = machine.expires_at
    if wished is None:
        return f"{clock_time(machine.ends_at, now)} (by its cloud; no expiry was asked for)"
    if abs((wished - machine.ends_at).total_seconds()) > SAME_END_S:
        told += f"; wished: {clock_time(wished, now)}"
    if machine.confirmed or machine.expiry == "controller_only":
        return told
    return f"{told}, not confirmed yet"


def _idle(machine: Machine, now: datetime) -> str:
    if machine.idle_after is None:
        return ""
    ends = f"ends after {span(machine.idle_after.total_seconds())} idle"
    if machine.idle_since is None:
        return f"{ends}; {machine.idle_word or 'not looked at yet'}"
    return f"{ends}; idle for {span((now - machine.idle_since).total_seconds())}"


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
    if bill.status == "ended" and bill.by == "balance":
        return f"{metered}, {money(bill.amount)} by the balance at {machine.provider}, not exact ✓"
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
