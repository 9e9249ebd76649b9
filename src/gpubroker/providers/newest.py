"""Which of a vendor's images is taken where none is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NUMBER = re.compile(r"\d+")


def newest(names: Iterable[str], wanted: str, *better: str) -> str:
    """Of those with the word `wanted`, one with the words `better`, the highest version first.

    "" where there is none. Words are in lower case; the first of `better` counts most.
    """
    fitting = [name for name in names if wanted in name.lower()]
    return max(fitting, key=lambda name: _rank(name.lower(), better), default="")


def _rank(name: str, better: tuple[str, ...]) -> tuple[list[bool], list[int]]:
    return [word in name for word in better], [int(number) for number in _NUMBER.findall(name)]
