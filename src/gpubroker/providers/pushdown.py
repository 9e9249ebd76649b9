"""From a query to a vendor's own filters, by tables; what is not in them we check ourselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct

from gpubroker.catalog.gpus import resolve
from gpubroker.model.errors import Invalid
from gpubroker.model.query import Query


class Pushed(Struct, frozen=True):
    """A field of the query that the vendor filters by itself."""

    field: str
    theirs: str
    operator: str
    translate: Callable[[Any], Any] = float
    """Into the vendor's unit. It may let more through than was asked for, never less."""


class Option(Struct, frozen=True):
    """A filter that only this vendor has: `--provider-option CLOUD.NAME=VALUE`."""

    theirs: str
    operator: str
    read: Callable[[str], Any]
    """KeyError or ValueError where the text is no such value; None for "any"."""


Filter = tuple[str, str, Any]
"""(their field, their operator, their value)."""

_BOOLEANS = {"true": True, "yes": True, "false": False, "no": False, "any": None}


def yes_or_no(text: str) -> bool | None:
    """Reads true, yes, false, no; None for "any"."""
    return _BOOLEANS[text.casefold()]


def push_down(query: Query, table: Iterable[Pushed]) -> tuple[list[Filter], dict[str, Any]]:
    """The vendor's filters, and the fields of the query that they cover."""
    asked = [(entry, getattr(query, entry.field)) for entry in table]
    used = [(entry, value) for entry, value in asked if value is not None]
    filters = [(entry.theirs, entry.operator, entry.translate(value)) for entry, value in used]
    return filters, {entry.field: value for entry, value in used}


def read_options(
    query: Query, provider: str, table: Mapping[str, Option], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Option -> value of those that narrow. Invalid for a name or value that is none."""
    chosen = dict(defaults)
    for _, name, text in options_of(query, provider):
        if name not in table:
            there_are = ", ".join(sorted(table))
            raise _invalid(provider, name, f"is no option; there are {there_are}")
        try:
            chosen[name] = table[name].read(text)
        except (KeyError, ValueError):
            raise _invalid(provider, name, f"cannot be {text!r}") from None
    return {name: value for name, value in chosen.items() if value is not None}


def options_of(query: Query, provider: str) -> tuple[tuple[str, str, str], ...]:
    """The query's options for this provider."""
    return tuple(option for option in query.options if option[0] == provider)


def spellings(vendor_names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Canonical GPU name -> the vendor's spellings of it, of the names that it lists."""
    found: dict[str, tuple[str, ...]] = {}
    for raw in vendor_names:
        name = resolve(raw).name
        if name is not None:
            found[name] = (*found.get(name, ()), raw)
    return found


def _invalid(provider: str, option: str, reason: str) -> Invalid:
    error = Invalid(f"{provider}.{option} {reason}", provider=provider, operation="offers")
    error.field = f"{provider}.{option}"
    return error
