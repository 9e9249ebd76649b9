"""The account's uid beside a list, without asking for it twice in a row."""

from __future__ import annotations

from gpubroker.model.clock import Clock

UID_HOLDS_S = 10.0


class ToldUid:
    """What `whoami` was told a moment ago. The key is the same, so a list need not ask again.

    It counts once, so that of two lists the second never rests on it.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: tuple[str, float] | None = None

    def tell(self, uid: str) -> str:
        """Keeps it for the next list."""
        self._told = uid, self._clock.boot_s()
        return uid

    def take(self) -> str | None:
        """The uid, where it was told just now and not taken since."""
        told, self._told = self._told, None
        fresh = told is not None and self._clock.boot_s() - told[1] < UID_HOLDS_S
        return told[0] if told and fresh else None
