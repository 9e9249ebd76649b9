"""Plain tables that fit: columns that matter least go first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

GAP = 2


class Column(NamedTuple):
    """`drop`: the lower, the sooner it goes where the terminal is narrow; None stays."""

    title: str
    right: bool = False
    drop: int | None = None


def fitting(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None
) -> list[int]:
    """Indexes of the columns that stay within `width`; None is any width."""
    kept = list(range(len(columns)))
    if width is None:
        return kept
    widths = _widths(columns, rows)
    droppable = sorted(
        (index for index in kept if columns[index].drop is not None),
        key=lambda index: columns[index].drop or 0,
    )
    for index in droppable:
        if sum(widths[i] + GAP for i in kept) <= width:
            break
        kept.remove(index)
    return kept


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None = None
) -> list[str]:
    """Header and rows, indented by the gap, without trailing blanks."""
    kept = fitting(columns, rows, width)
    widths = _widths(columns, rows)

    def line(cells: Sequence[str]) -> str:
        padded = (
            cells[i].rjust(widths[i]) if columns[i].right else cells[i].ljust(widths[i])
            for i in kept
        )
        return (" " * GAP + (" " * GAP).join(padded)).rstrip()

    return [line([column.title for column in columns]), *(line(row) for row in rows)]


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[int]:
    return [
        max([len(column.title), *(len(row[index]) for row in rows)])
        for index, column in enumerate(columns)
    ]
