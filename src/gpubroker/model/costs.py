"""Spend, in sums that add up."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from gpubroker.model.money import FREE, Nanos


class CostRow(Struct, frozen=True, kw_only=True):
    """What one of something cost: a machine, a cloud, a GPU, a day, a project, a tag."""

    key: str
    """Stable: a launch's id, a provider's name, a GPU's name, 2026-11-21, a project, key=value."""
    name: str
    """For people; as `key` but for a machine."""
    metered: Nanos
    """By our clock, at the prices that each stretch was metered at."""
    billed: Nanos
    """By the providers' records, of machines whose bill is final."""
    not_billed: Nanos
    """The part of `metered` of machines without a final amount from their provider."""
    seconds: float
    """Metered time."""
    machines: int


class Costs(Struct, frozen=True, kw_only=True):
    """Spend between two times; every table sums to `total`, but `tag`, where tags overlap."""

    since: datetime | None
    """None: from the beginning."""
    until: datetime
    total: CostRow
    by: Mapping[str, tuple[CostRow, ...]]
    """"instance", "provider", "gpu", "day" (UTC), "project", "tag": dearest first, days in order.

    Machines without a project or tag are in no row of those two.
    """


NOTHING_SPENT = CostRow(
    key="total", name="total", metered=FREE, billed=FREE, not_billed=FREE, seconds=0.0, machines=0
)
