"""Durations as people write them."""

from __future__ import annotations

import re
from datetime import timedelta

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
LONGEST = timedelta(days=3650)
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")


def duration(text: str) -> timedelta:
    """Of "4h", "30m", "1d12h". ValueError says what was expected."""
    plain = text.strip().lower().replace(" ", "")
    parts = _PART.findall(plain) if _DURATION.fullmatch(plain) else []
    units = [unit for _, unit in parts]
    if not parts or len(set(units)) != len(units):
        raise ValueError(f'"{text}" is no duration: write 30m, 4h, 2d or 1d12h')
    seconds = sum(float(amount) * UNITS_S[unit] for amount, unit in parts)
    # Compared before it becomes a timedelta, which has an end of its own.
    if not 0 < seconds <= LONGEST.total_seconds():
        raise ValueError(f'"{text}" is out of range: more than 0, at most {LONGEST.days}d')
    return timedelta(seconds=seconds)
