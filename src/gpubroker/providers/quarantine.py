"""Rows of an answer, each on its own: a bad one is put aside with the reason and costs no other."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, Generic, TypeVar

import msgspec

from gpubroker.model.errors import BadResponse
from gpubroker.providers.exchange import UNREADABLE, tolerant_json

Row = TypeVar("Row", bound=msgspec.Struct)
Rejected = tuple[str, str]
"""(the start of the row, why it is none)."""

RAW_ROW = 200
_SHOWN_FIELDS, _SHOWN_WORD = 12, 40
_BAD_SHARE = 10


class RowReader(Generic[Row]):
    """Reads `{"<under>": [row, …]}`: all rows at once where all are sound, else one by one.

    `keyed`: the rows stand in an object, each under its name: `{"<under>": {"a10": row, …}}`.
    `under` "data.rows": below both; "": the answer is the list itself.
    """

    def __init__(self, row: type[Row], *, under: str, provider: str, keyed: bool = False) -> None:
        shape: Any = dict[str, row] if keyed else list[row]  # type: ignore[valid-type]  # at run time
        self._under = tuple(under.split(".")) if under else ()
        for name in reversed(self._under):
            shape = msgspec.defstruct("Rows", [("rows", shape, msgspec.field(name=name))])
        self._row, self._provider, self._keyed = row, provider, keyed
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(shape)

    def read(self, body: bytes) -> tuple[list[Row], list[Rejected]]:
        """The rows and what was put aside. BadResponse where this is no such answer at all."""
        try:
            answer = self._decoder.decode(body)
        except UNREADABLE:
            return self._one_by_one(body)
        for _ in self._under:
            answer = answer.rows
        return (list(answer.values()) if self._keyed else answer), []

    def _one_by_one(self, body: bytes) -> tuple[list[Row], list[Rejected]]:
        try:
            raw_rows = tolerant_json(body)
        except ValueError as fault:
            raise self._bad(f"an answer that does not parse: {fault}") from None
        for name in self._under:
            raw_rows = raw_rows.get(name) if isinstance(raw_rows, dict) else None
        if self._keyed and isinstance(raw_rows, dict):
            raw_rows = list(raw_rows.values())
        elif self._keyed or not isinstance(raw_rows, list):
            raise self._bad(f"an answer without {'.'.join(self._under) or 'rows'}")
        return self.each(raw_rows)

    def each(self, raw_rows: Iterable[Any]) -> tuple[list[Row], list[Rejected]]:
        """The same of rows that are decoded already: those inside of another row."""
        rows: list[Row] = []
        rejected: list[Rejected] = []
        for raw in raw_rows:
            try:
                rows.append(msgspec.convert(raw, self._row))
            except msgspec.ValidationError as fault:
                rejected.append((shortened(raw), str(fault)[:RAW_ROW]))
        return rows, rejected

    def _bad(self, what: str) -> BadResponse:
        return BadResponse(f"{self._provider}: {what}", provider=self._provider, operation="offers")


def mostly_sound(rows: int, rejected: int) -> bool:
    """Whether so few rows were put aside that the rest may stand for the whole."""
    return rejected <= (rows + rejected) // _BAD_SHARE


def shortened(raw: Any) -> str:
    """The start of a row, without paying for ten megabytes of it."""
    if isinstance(raw, msgspec.Struct):
        raw = msgspec.structs.asdict(raw)
    if isinstance(raw, dict):
        pairs = islice(raw.items(), _SHOWN_FIELDS)
        return "; ".join(f"{name[:_SHOWN_WORD]}: {_word(value)}" for name, value in pairs)[:RAW_ROW]
    return _word(raw)


def _word(value: Any) -> str:
    if isinstance(value, str):
        return value[:_SHOWN_WORD]
    return type(value).__name__ if isinstance(value, dict | list) else str(value)[:_SHOWN_WORD]
