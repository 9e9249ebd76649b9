"""Durations as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

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


def short_span(seconds: float) -> str:
    """As `duration` reads it, rounded down to the minute: 2h, 1h30m, 45m, 20s."""
    whole = max(0, int(seconds))
    if whole < UNITS_S["m"]:
        return f"{whole}s"
    days, rest = divmod(whole // 60, 24 * 60)
    hours, minutes = divmod(rest, 60)
    parts = ((days, "d"), (hours, "h"), (minutes, "m"))
    return "".join(f"{amount}{unit}" for amount, unit in parts if amount)


def moment(text: str, now: datetime) -> datetime:
    """The time that "7d" ago was, or the one that "2026-11-21" or RFC 3339 names (UTC if not told).

    ValueError says what was expected.
    """
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        pass
    else:
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    try:
        return now - duration(text)
    except ValueError:
        raise ValueError(f'"{text}" is no time: write 7d, 12h or 2026-11-01') from None
