"""`bill`: what a machine cost, told by each who knows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from gpubroker.cli.lookup import find
from gpubroker.cli.progress import Progress
from gpubroker.cli.session import Session
from gpubroker.cli.table import Column, table
from gpubroker.cli.words import NOTHING, at_account, money, price, span

if TYPE_CHECKING:
    from gpubroker.model.bill import BillCheck

COLUMNS = (Column(""), Column("$/H", right=True), Column("AMOUNT", right=True), Column("BY"))
LINES = (Column("ITEM"), Column("AMOUNT", right=True), Column("FROM"), Column("TO"))
VERDICTS = {
    "agrees": "agrees within {tolerance}",
    "differs": "DIFFERS by more than {tolerance}",
    "open": "the bill is not final",
    "cannot_tell": "cannot be compared",
}


@click.command("bill")
@click.argument("name")
@click.pass_obj
def bill_command(session: Session, name: str) -> None:
    """What a machine cost: quoted, metered, reported by its cloud, and billed.

    A cloud's record follows by hours; it is asked again here where asking is free.
    """
    ((realm, _),) = find(session, [name]).items()

    async def ask() -> tuple[BillCheck, ...]:
        async with session.broker(realm, Progress(session)) as broker:
            return await broker.bill(name)

    checks = session.run(ask())
    from gpubroker import wire

    session.show(
        lambda: {"name": name, "bills": [wire.bill_check(seen) for seen in checks]},
        lambda: _screen(checks, name),
    )


def _screen(checks: tuple[BillCheck, ...], name: str) -> Iterator[str]:
    if not checks:
        yield f"{name}: no machine was made, nothing is billed"
    for seen in checks:
        yield from lines(seen)


def lines(seen: BillCheck) -> Iterator[str]:
    """One machine's bill."""
    where = at_account(seen.provider, seen.account)
    yield f"{seen.name}  {where} {seen.provider_id}  {span(seen.seconds)}"
    bill = seen.bill
    by = "the account's balance, not exact" if bill.by == "balance" else f"{where}'s record"
    rows = [
        ["quoted", price(seen.quoted_price), money(seen.quoted), "the offer"],
        ["metered", NOTHING, money(seen.metered), "our clock"],
        ["reported", price(seen.reported_price), money(seen.reported), "the machine's own record"],
        ["billed", NOTHING, money(bill.amount), f"{by} ({bill.status})"],
        ["difference", NOTHING, _signed(seen.difference), _verdict(seen)],
    ]
    yield from table(COLUMNS, rows)
    if bill.evidence:
        yield f"  evidence    {bill.evidence}"
    if seen.console_url and bill.status in {"manual", "unknown"}:
        yield f"  look at     {seen.console_url}"
    if seen.next_at is not None:
        yield f"  asked next  {seen.next_at:%Y-%m-%d %H:%M} UTC"
    if bill.lines:
        times = "%Y-%m-%d %H:%M"
        yield from table(
            LINES,
            [
                [one.item, money(one.amount), f"{one.start:{times}}", f"{one.end:{times}}"]
                for one in bill.lines
            ],
        )


def _verdict(seen: BillCheck) -> str:
    return VERDICTS[seen.verdict].format(tolerance=money(seen.tolerance))


def _signed(amount: int | None) -> str:
    if amount is None:
        return NOTHING
    return f"{'-' if amount < 0 else '+'}{money(abs(amount))}"
