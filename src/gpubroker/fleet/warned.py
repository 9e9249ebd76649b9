"""Warnings as people read them, from the history: light enough for `ps`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gpubroker.model.notices import KINDS, Warned, sentence
from gpubroker.store.notices import DueNotice, WarningRow
from gpubroker.store.rows import when
from gpubroker.store.store import Store

LOOK_BACK_S = 86400.0
"""Older warnings are neither sent nor shown by `ps` any more."""


def recent(store: Store, at: float) -> tuple[Warned, ...]:
    """Warnings of the last day, oldest first; of machines that have ended only what outlives."""
    outliving = tuple(kind for kind, row in KINDS.items() if row.outlives)
    rows = store.notices.warnings(tuple(KINDS), at - LOOK_BACK_S, outliving)
    return tuple(warned(row) for row in rows)


def warned(row: WarningRow | DueNotice) -> Warned:
    """An event in words."""
    data: Mapping[str, Any] = msgspec.json.decode(row.data, type=dict[str, Any])
    return Warned(
        id=row.id,
        at=when(row.at),
        kind=row.kind,
        severity=KINDS[row.kind].severity,
        name=row.name or "",
        launch_id=row.launch_id,
        text=sentence(row.kind, row.name or "", data),
        data=data,
    )
