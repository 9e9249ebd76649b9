"""What things cost: one ledger line for each stretch at one rate, charged by the whole second."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from gpubroker.model.money import FREE, Nanos, cost

Component = Literal["gpu", "disk", "disk_stopped", "volume"]


class Usage(Struct):
    """A component at a rate, from `start` to `end` (whole epoch seconds; None = still runs)."""

    component: Component
    rate: int
    """Nano-dollars per hour."""
    start: int
    end: int | None = None

    def seconds(self, until: float, since: float = 0.0) -> int:
        """Whole seconds of it between `since` and `until`."""
        last = int(until) if self.end is None else min(self.end, int(until))
        return max(0, last - max(self.start, int(since)))

    def cost(self, until: float, since: float = 0.0) -> Nanos:
        """Charged between `since` and `until`: rounded once for the stretch."""
        return cost(self.rate, self.seconds(until, since))


class Ledger(Struct):
    """Every stretch that a thing was charged for, oldest first."""

    lines: list[Usage] = []

    def open(self, component: Component, rate: int, at: float) -> None:
        """Starts a stretch; one of the same component that still runs goes on unless dearer."""
        for line in self.running:
            if line.component == component:
                if line.rate == rate:
                    return
                line.end = int(at)
        self.lines.append(Usage(component, rate, int(at)))

    def close(self, at: float, *components: Component) -> None:
        """Ends the running stretches of these components, of all where none is named."""
        for line in self.running:
            if not components or line.component in components:
                line.end = max(line.start, int(at))

    @property
    def running(self) -> tuple[Usage, ...]:
        """What is being charged for now."""
        return tuple(line for line in self.lines if line.end is None and line.rate > 0)

    @property
    def rate(self) -> Nanos:
        """Nano-dollars per hour now."""
        return total(Nanos(line.rate) for line in self.running)

    def cost(self, until: float, since: float = 0.0) -> Nanos:
        """Everything charged between `since` and `until`."""
        return total(line.cost(until, since) for line in self.lines)


def total(amounts: Iterable[Nanos]) -> Nanos:
    """The sum, as money."""
    return Nanos(sum(amounts, FREE))
