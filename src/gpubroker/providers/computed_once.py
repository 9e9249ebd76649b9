"""What is computed once a value, for the few hundred values that thousands of rows hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Told = TypeVar("Told")
Meant = TypeVar("Meant")


class ComputedOnce(dict[Told, Meant]):
    """`meant[told]`. For one answer: it lives as long as the loop over its rows."""

    def __init__(self, compute: Callable[[Told], Meant]) -> None:
        super().__init__()
        self._compute = compute

    def __missing__(self, told: Told) -> Meant:
        """Called for a value not seen before."""
        self[told] = meant = self._compute(told)
        return meant
