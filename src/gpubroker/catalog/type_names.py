"""Instance types that name their GPUs: a table of patterns a cloud, in `data/instance_types.json`.

A row is a pattern for the whole name (without regard to case), what it means, and the machine's
architecture where it is not x86. The meaning is a count and a GPU's name; "1/8 L4" is an eighth of
one. `{n}`, `{n2}` and `{gpu}` stand for the groups of the pattern; a missing count is 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

Arch = Literal["x86_64", "arm64"]

_TABLE = Path(__file__).parent / "data" / "instance_types.json"


class TypeName(Struct, frozen=True):
    """What the name of an instance type says."""

    gpu: str
    """To be resolved."""
    count: int
    fraction: float = 1.0
    """Of one GPU, below 1 where it is shared; `count` is 1 then."""
    arch: Arch = "x86_64"


class _Row(Struct, frozen=True, array_like=True):
    pattern: str
    meaning: str
    arch: Arch = "x86_64"


class _Rule(Struct, frozen=True):
    pattern: re.Pattern[str]
    meaning: str
    arch: Arch


@cache
def _rows() -> dict[str, tuple[_Row, ...]]:
    return msgspec.json.decode(_TABLE.read_bytes(), type=dict[str, tuple[_Row, ...]])


@cache
def _rules(provider: str) -> tuple[_Rule, ...]:
    return tuple(
        _Rule(re.compile(row.pattern, re.IGNORECASE), row.meaning, row.arch)
        for row in _rows().get(provider, ())
    )


def readings(name: str, provider: str = "") -> Iterator[TypeName]:
    """What the name says by the table of this provider, or by those of all, most likely first."""
    for known in (provider,) if provider else _rows():
        for rule in _rules(known):
            if match := rule.pattern.fullmatch(name):
                yield _read(rule, match.groupdict())


def _read(rule: _Rule, groups: dict[str, str | None]) -> TypeName:
    told = {key: value for key, value in groups.items() if value is not None}
    number = told.get("n", told.get("n2", "1") if "{n2}" not in rule.meaning else "1")
    meaning = rule.meaning.replace("{n}", number if number.isdigit() else "1")
    meaning = meaning.replace("{n2}", told.get("n2", "")).replace("{gpu}", told.get("gpu", ""))
    share, _, gpu = meaning.partition(" ")
    cards = Fraction(share)
    if cards < 1:
        return TypeName(gpu, 1, float(cards), rule.arch)
    return TypeName(gpu, int(cards), 1.0, rule.arch)
