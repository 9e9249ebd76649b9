"""From a vendor's words for a machine's state to ours, by a table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from gpubroker.model.terms import State

StateTable = Sequence[tuple[State, Mapping[str, Collection[Any]]]]
"""(ours, {field of the row: the values that fit}); the first line whose fields all fit counts."""


def state_by(table: StateTable, row: object) -> State:
    """UNKNOWN for words that no line has."""
    for state, wanted in table:
        if all(getattr(row, field) in values for field, values in wanted.items()):
            return state
    return State.UNKNOWN
