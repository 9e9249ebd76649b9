"""`costs`: where the money went."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import click

from gpubroker.cli.session import Session
from gpubroker.cli.table import Column, table
from gpubroker.cli.words import counted, money, span

if TYPE_CHECKING:
    from gpubroker.model.costs import CostRow, Costs

TITLES = {
    "instance": "MACHINE",
    "provider": "CLOUD",
    "gpu": "GPU",
    "day": "DAY (UTC)",
    "project": "PROJECT",
    "tag": "TAG",
}
"""Every table, in the order it is shown."""


@click.command("costs")
@click.option(
    "--since", metavar="TIME", help="7d, or a day: 2026-11-01. From the beginning if not told."
)
@click.option(
    "--by",
    multiple=True,
    type=click.Choice(tuple(TITLES)),
    help="Only this table. Repeatable.",
)
@click.pass_obj
def costs_command(session: Session, since: str | None, by: tuple[str, ...]) -> None:
    """Spend by machine, cloud, GPU, day, project and tag, from the record: no cloud is asked.

    Metered is our clock at the prices of each stretch; billed is what clouds have charged for
    machines whose bill is final. Days are UTC's.
    """
    realm = session.realm()
    broker = session.broker(realm)
    try:
        spent = broker.costs(since=_start(since, session.now(realm)))
    finally:
        broker.close()
    from gpubroker import wire

    def document() -> dict[str, object]:
        whole = wire.costs(spent)
        if by:
            whole["by"] = {name: rows for name, rows in whole["by"].items() if name in by}
        return whole

    session.show(document, lambda: lines(spent, by or tuple(TITLES)))


def _start(text: str | None, now: datetime) -> datetime | None:
    from gpubroker.model.durations import moment

    try:
        return None if text is None else moment(text, now)
    except ValueError as error:
        raise click.UsageError(f"--since: {error}") from None


def lines(spent: Costs, shown: tuple[str, ...]) -> Iterator[str]:
    """A table each; those without rows are left out."""
    if not spent.total.machines:
        yield "  Nothing was spent."
        return
    for name in shown:
        rows = spent.by[name]
        if rows:
            yield from _table(TITLES[name], rows, spent.total if name != "tag" else None)
            yield ""
    total = spent.total
    since = "" if spent.since is None else f" since {spent.since:%Y-%m-%d %H:%M} UTC"
    yield f"  {money(total.metered)} metered{since}, {counted(total.machines, 'machine')}."
    if total.not_billed:
        yield f"  Of that, {money(total.not_billed)} has no final bill (gpubroker bill NAME)."


def _table(title: str, rows: tuple[CostRow, ...], total: CostRow | None) -> Iterator[str]:
    columns = (
        Column(title),
        Column("METERED", right=True),
        Column("BILLED", right=True),
        Column("NOT BILLED", right=True),
        Column("TIME", right=True),
    )
    cells = [_cells(row) for row in rows]
    if total is not None and len(rows) > 1:
        cells.append(_cells(total))
    yield from table(columns, cells)


def _cells(row: CostRow) -> list[str]:
    return [
        row.name,
        money(row.metered),
        money(row.billed),
        money(row.not_billed),
        span(row.seconds),
    ]
