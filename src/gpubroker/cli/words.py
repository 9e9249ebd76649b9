"""How amounts, ages, durations and times read."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from gpubroker.model.money import usd

MINUTE, HOUR, DAY = 60, 3600, 86400
NOTHING = "–"


def price(amount: int | None) -> str:
    """Per hour: $0.312."""
    return NOTHING if amount is None else f"${usd(amount):,.3f}"


def money(amount: int | None) -> str:
    """A sum: $1.36; below ten cents with a third digit, so that little is not nothing."""
    if amount is None:
        return NOTHING
    digits = 2 if amount == 0 or abs(usd(amount)) >= 0.1 else 3  # noqa: PLR2004 - ten cents
    return f"${usd(amount):,.{digits}f}"


def age(seconds: float) -> str:
    """12s, 2m, 5h, 3 d: one unit, rounded down."""
    seconds = max(seconds, 0)
    if seconds < MINUTE:
        return f"{seconds:.0f}s" if seconds < MINUTE - 0.5 else "59s"
    if seconds < HOUR:
        return f"{seconds // MINUTE:.0f}m"
    return f"{seconds // HOUR:.0f}h" if seconds < 2 * DAY else f"{seconds // DAY:.0f} d"


def span(seconds: float) -> str:
    """2h 47m, 5m, 1d 12h: what is left of something."""
    minutes = int(max(seconds, 0) // MINUTE)
    if minutes < 1:
        return f"{max(seconds, 0):.0f}s"
    days, minutes = divmod(minutes, 24 * 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(days, "d"), (hours, "h"), (minutes, "m")]
    return " ".join(f"{amount}{unit}" for amount, unit in parts if amount)


def clock_time(at: datetime, now: datetime) -> str:
    """18:42 by the local clock, with the date where it is another day."""
    here, today = at.astimezone(), now.astimezone()
    return f"{here:%H:%M}" if here.date() == today.date() else f"{here:%a %d %b %H:%M}"


def number(value: float | None) -> str:
    """24, 0.5 or a dash."""
    return NOTHING if value is None else f"{value:g}"


def whole(value: float | None) -> str:
    """64 for 64.21, 0.5 for what is below one."""
    return number(value if value is None or value < 1 else round(value))


def counted(amount: int, noun: str) -> str:
    """1 offer, 2 offers."""
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"


def at_account(provider: str, account: str) -> str:
    """vast_ai, and vast_ai:lab where the account has a name."""
    return provider if account in {"", "default", "keyless"} else f"{provider}:{account}"


ENDED_BY = {
    "provider": "the cloud itself",
    "machine_ends_billing": "a timer on the machine",
    "machine_frees_gpu": "a timer on the machine (its disk goes on costing)",
    "controller_only": "gpubroker, where one runs",
}


def ended_by(expiry: str) -> str:
    """What ends a machine at its expiry while nobody types."""
    return ENDED_BY[expiry]


def masked(names: Iterable[str]) -> str:
    """Variables as they may be seen: names without their values."""
    return " ".join(f"{name}=***" for name in names)
