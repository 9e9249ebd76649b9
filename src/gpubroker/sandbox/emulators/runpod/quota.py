"""RunPod's published rate limits: three windows for each account, told in every answer."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

WINDOWS: Mapping[str, tuple[int, int]] = {
    "minute": (60, 60),
    "hour": (3000, 3600),
    "day": (50_000, 86_400),
}
"""Window: (calls, seconds). Windows begin at whole minutes, hours and days."""
POLICY = ", ".join(f'"{name}";q={calls};w={length}' for name, (calls, length) in WINDOWS.items())


class Crossed(Struct, frozen=True):
    """The window that a call has no room in."""

    window: str
    retry_after_s: int


class Quota:
    """How many calls each account has made in the windows of now."""

    def __init__(self) -> None:
        self._used: dict[tuple[str, str], tuple[int, int]] = {}

    def _count(self, account: str, window: str, now: float) -> int:
        began, count = self._used.get((account, window), (-1, 0))
        return count if began == int(now) // WINDOWS[window][1] else 0

    def spend(self, account: str, now: float) -> Crossed | None:
        """Counts a call; where a window is full, says which, and counts nothing."""
        for window, (calls, _) in WINDOWS.items():
            if self._count(account, window, now) >= calls:
                return Crossed(window, _resets_in(window, now))
        for window, (_, length) in WINDOWS.items():
            used = self._count(account, window, now) + 1
            self._used[account, window] = (int(now) // length, used)
        return None

    def headers(self, account: str, now: float) -> dict[str, str]:
        """What is left, and the policy."""
        left = ", ".join(
            f'"{window}";r={calls - self._count(account, window, now)};t={_resets_in(window, now)}'
            for window, (calls, _) in WINDOWS.items()
        )
        return {"RateLimit": left, "RateLimit-Policy": POLICY}


def _resets_in(window: str, now: float) -> int:
    length = WINDOWS[window][1]
    return length - int(now) % length
