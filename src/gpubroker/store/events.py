"""The history: rows that are only ever added; some of them once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gpubroker.store.database import Database

FOR_EVER = 9.0e15
"""Later than any time of ours."""


def record(
    db: Database,
    at: float,
    kind: str,
    launch_id: str | None,
    attempt_id: str | None,
    data: Mapping[str, Any],
) -> None:
    """One line."""
    db.execute(
        "INSERT INTO events (at, launch_id, attempt_id, kind, data) VALUES (?, ?, ?, ?, ?)",
        (at, launch_id, attempt_id, kind, msgspec.json.encode(data).decode()),
    )


def claimed(db: Database, name: str, now: float, until: float) -> bool:
    """Whether nobody has claimed it, or all claims are over; the claim is ours then."""
    changed = db.execute(
        "INSERT INTO claims (name, until) VALUES (?, ?) ON CONFLICT (name) DO UPDATE "
        "SET until = excluded.until WHERE claims.until <= ?",
        (name, until, now),
    )
    return changed.rowcount == 1
