"""What a check is: one promise of the provider interface, asked for by its name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Literal, NoReturn

from msgspec import Struct

if TYPE_CHECKING:
    from gpubroker.providers.base import Provider
    from gpubroker.testing.conformance.bench import Bench

Ability = Literal["machine", "many", "requests", "faults", "wire", "truth", "accounts"]
"""What a bench can do.

machine: rent one machine and use it. many: rent as many as one likes. requests: count what
arrived at the cloud. faults: make the cloud fail. wire: put a cloud of our own words in its place.
truth: look into the cloud's books. accounts: use several keys.
"""
Run = Callable[["Bench"], Awaitable[None]]


MOST_TOLD = 10


class Broken(AssertionError):
    """A promise that was not kept; the text names it and says what happened."""


class Check(Struct, frozen=True):
    """One promise and how it is tried. `str()` is its name, for reports and pytest."""

    name: str
    promise: str
    run: Run
    needs: frozenset[Ability] = frozenset()
    applies: Callable[[type[Provider]], bool] = lambda _provider: True
    """Whether a provider of these capabilities makes the promise."""
    ends: bool = False
    """Whether it ends the machine that checks share."""

    def __str__(self) -> str:
        return self.name

    async def __call__(self, bench: Bench) -> None:
        """Broken where the promise is not kept."""
        try:
            await self.run(bench)
        except Broken as broken:
            raise Broken(f"{bench.provider_class.name}: {self.name}: {broken}") from broken


class Chapter:
    """The checks of one subject, in order."""

    def __init__(self) -> None:
        self.checks: list[Check] = []

    def promise(
        self,
        *needs: Ability,
        applies: Callable[[type[Provider]], bool] = lambda _provider: True,
        ends: bool = False,
    ) -> Callable[[Run], Run]:
        """Makes a check of a function; its name and docstring are the check's."""

        def add(run: Run) -> Run:
            name = getattr(run, "__name__", "").replace("_", " ")
            text = " ".join((run.__doc__ or "").split())
            self.checks.append(Check(name, text, run, frozenset(needs), applies, ends))
            return run

        return add


def broken(happened: str) -> NoReturn:
    """Ends the check in progress."""
    raise Broken(happened)


def require(holds: bool, happened: str) -> None:
    """Ends the check in progress where `holds` is False."""
    if not holds:
        broken(happened)


def none_of(faults: Iterable[str]) -> None:
    """Ends the check with all that was found, where anything was."""
    found = tuple(faults)
    more = f" and {len(found) - MOST_TOLD} more" if len(found) > MOST_TOLD else ""
    require(not found, "; ".join(found[:MOST_TOLD]) + more)
