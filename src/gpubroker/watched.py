"""Whether files changed since they were last looked at: by time, size and inode, not by content."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

CHECK_EVERY_S = 1.0
"""So long a look counts; a change is taken up by the first use after it."""

Stamp = tuple[int, int, int] | None


class Watched:
    """A set of files, of which some may not be there yet."""

    def __init__(self, files: Iterable[Path]) -> None:
        """Look before reading them: what changes meanwhile is then seen as a change."""
        self._stamps: dict[str, Stamp] = {str(file): _stamp(str(file)) for file in files}
        self._looked_at = time.monotonic()

    def changed(self, *, now: bool = False) -> bool:
        """Whether one of them changed; looks at most once a CHECK_EVERY_S, unless `now`."""
        at = time.monotonic()
        if not now and at - self._looked_at < CHECK_EVERY_S:
            return False
        self._looked_at = at
        return any(_stamp(file) != stamp for file, stamp in self._stamps.items())

    def forget(self) -> None:
        """What is there at the next look counts as changed."""
        self._stamps = dict.fromkeys(self._stamps, (0, 0, 0))


def _stamp(file: str) -> Stamp:
    try:
        told = os.stat(file)  # noqa: PTH116 - a Path of each would cost more than the look
    except OSError:
        return None
    return told.st_mtime_ns, told.st_size, told.st_ino
