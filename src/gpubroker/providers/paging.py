"""Lists that come in pages, and when all of one is known to be there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

Row = TypeVar("Row")
Row_co = TypeVar("Row_co", covariant=True)
MOST_PAGES = 1000


class Page(Struct, Generic[Row], frozen=True):
    """One page."""

    rows: tuple[Row, ...]
    next_token: str | None
    total: int | None = None
    """Of all pages, where the vendor says so."""


class PageShape(Protocol[Row_co]):
    """What the struct of a vendor's page has, by whatever names on the wire."""

    @property
    def rows(self) -> tuple[Row_co, ...]:
        """Of this page."""
        ...

    @property
    def next_token(self) -> str | None:
        """None or empty on the last page."""
        ...

    @property
    def total(self) -> int | None:
        """Of all pages, None where it is not told."""
        ...


class Whole(Struct, Generic[Row], frozen=True):
    """All pages, each row once (its last version), in the order of first sight."""

    rows: tuple[Row, ...]
    complete: bool


async def all_pages(
    fetch: Callable[[str | None], Awaitable[Page[Row]]], identity: Callable[[Row], object]
) -> Whole[Row]:
    """Follows the tokens to the end.

    Complete only where the end was reached, no token came twice, and every total that was told
    is the number of different rows: rows that moved between pages while we read show as a
    difference. A failing page raises.
    """
    rows: dict[object, Row] = {}
    totals: set[int] = set()
    tokens: set[str] = set()
    token: str | None = None
    for _ in range(MOST_PAGES):
        page = await fetch(token)
        rows.update((identity(row), row) for row in page.rows)
        if page.total is not None:
            totals.add(page.total)
        token = page.next_token
        if not token:
            return Whole(tuple(rows.values()), totals <= {len(rows)})
        if token in tokens:
            break
        tokens.add(token)
    return Whole(tuple(rows.values()), complete=False)
