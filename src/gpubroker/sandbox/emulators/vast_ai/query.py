"""Vast.ai's query language: filters, orders and cursors, of offers, volumes and instances."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

Row = Mapping[str, Any]
R = TypeVar("R", bound=Row)


class BadQuery(Exception):
    """The text is the vendor's message."""


class BadToken(Exception):
    """The cursor does not decode, or has expired."""


def _less(a: Any, b: Any) -> bool:
    return bool(a < b)


_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: bool(a == b),
    "neq": lambda a, b: bool(a != b),
    "lt": _less,
    "gt": lambda a, b: _less(b, a),
    "lte": lambda a, b: not _less(b, a),
    "gte": lambda a, b: not _less(a, b),
}
_SETS: Mapping[str, bool] = {"in": True, "notin": False}
_TRUTH = {"true": True, "false": False, "1": True, "0": False}


def _like(actual: Any, given: Any, field: str) -> Any:
    """`given` in the type of the column: the vendor's client sends numbers as text."""
    if given is None or actual is None:
        return given
    if isinstance(actual, bool):
        truth = given if isinstance(given, bool) else _TRUTH.get(str(given).lower())
        if truth is None:
            raise BadQuery(f"Error in query parameters: {field} is not compared with {given!r}")
        return truth
    if isinstance(actual, int | float):
        try:
            return float(given)
        except (TypeError, ValueError):
            raise BadQuery(
                f"Error in query parameters: {field} is not compared with {given!r}"
            ) from None
    return str(given)


def _holds(actual: Any, operator: str, given: Any, field: str) -> bool:
    if operator in _SETS:
        if not isinstance(given, list):
            raise BadQuery(f"Error in query parameters: {field} {operator} needs a list")
        return (actual in [_like(actual, item, field) for item in given]) is _SETS[operator]
    compare = _OPERATORS.get(operator)
    if compare is None:
        raise BadQuery(f"Error in query parameters: {operator} is not a valid operator")
    wanted = _like(actual, given, field)
    if (actual is None or wanted is None) and operator not in ("eq", "neq"):
        return False
    return compare(actual, wanted)


def check_filters(filters: Any, known: Collection[str]) -> dict[str, dict[str, Any]]:
    """The filters, if they are a table of columns to tables of operators. Raises BadQuery."""
    if not isinstance(filters, dict):
        raise BadQuery(f"Invalid query: {filters!r}, must be dict of conditions")
    for field, conditions in filters.items():
        if field not in known:
            raise BadQuery(f"Error in query parameters: {field} is not a valid search key")
        if not isinstance(conditions, dict):
            raise BadQuery(f"Error in query parameters: {field} must be dict of conditions")
        for operator in conditions:
            if operator not in _OPERATORS and operator not in _SETS:
                raise BadQuery(f"Error in query parameters: {operator} is not a valid operator")
    return filters


def passes(columns: Row, filters: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether a row satisfies every condition."""
    return all(
        _holds(columns[field], operator, given, field)
        for field, conditions in filters.items()
        for operator, given in conditions.items()
    )


def check_order(order: Any, known: Collection[str]) -> list[tuple[str, bool]]:
    """(column, descending) for `[["dph_total", "asc"]]`. Raises BadQuery."""
    if not isinstance(order, list):
        raise BadQuery("Error in query parameters: order must be a list")
    parsed = []
    for item in order:
        if not (isinstance(item, list) and len(item) == 2 and item[1] in ("asc", "desc")):  # noqa: PLR2004 - column and direction
            raise BadQuery(f"Error in query parameters: {item!r} is not [column, asc|desc]")
        if item[0] not in known:
            raise BadQuery(f"Error in query parameters: {item[0]} is not a valid search key")
        parsed.append((item[0], item[1] == "desc"))
    return parsed


def check_order_by(order: Any, known: Collection[str]) -> list[tuple[str, bool]]:
    """Likewise for `[{"col": "id", "dir": "asc"}]`; a direction other than desc means asc."""
    if not isinstance(order, list) or not all(isinstance(item, dict) for item in order):
        raise BadQuery("Error in query parameters: order_by must be a list of col and dir")
    for item in order:
        if item.get("col") not in known:
            raise BadQuery(
                f"Error in query parameters: {item.get('col')} is not a valid search key"
            )
    return [(item["col"], item.get("dir") == "desc") for item in order]


def sort_rows(
    rows: list[R], order: Sequence[tuple[str, bool]], columns: Callable[[R], Row]
) -> list[R]:
    """Stable; nothing counts as less than everything."""
    for field, descending in reversed(order):
        rows = sorted(
            rows,
            key=lambda row: ((value := columns(row)[field]) is not None, value or 0),
            reverse=descending,
        )
    return rows


def page_token(last_id: int, seen: int) -> str:
    """Where the next page begins."""
    values = {"values": {"id": last_id}, "seen": seen}
    return base64.b64encode(json.dumps(values).encode()).decode()


def page_after(rows: list[R], token: str | None, id_of: Callable[[R], int]) -> list[R]:
    """The rows that follow the token's; by count where that row is gone. Raises BadToken."""
    if token is None:
        return rows
    try:
        values = json.loads(base64.b64decode(token, validate=True))
        last_id, seen = int(values["values"]["id"]), int(values["seen"])
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise BadToken from None
    ids = [id_of(row) for row in rows]
    return rows[ids.index(last_id) + 1 :] if last_id in ids else rows[max(0, seen - 1) :]
