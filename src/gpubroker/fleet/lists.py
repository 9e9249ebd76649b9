"""One list call serves all machines of an account: whoever wants one at a time shares it."""

from __future__ import annotations

import asyncio

from gpubroker.model.clock import Clock
from gpubroker.model.instance import Listing
from gpubroker.providers.base import Provider

FRESH_S = 2.0
"""A list this young answers the next question too."""


class Lists:
    """The last list of each account and scope."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: dict[tuple[str, str, str], Listing] = {}
        self._asking: dict[tuple[str, str, str], tuple[float, asyncio.Task[Listing]]] = {}

    async def asked_after(self, provider: Provider, scope: str, earliest: float = 0.0) -> Listing:
        """A list that was asked for at `earliest` or later, and is FRESH_S old at most.

        Times are seconds since the epoch, of the realm. Raises what `list` raises.
        """
        key = (provider.name, provider.account, scope)
        now = self._clock.now().timestamp()
        earliest = max(earliest, now - FRESH_S)
        known = self._last.get(key)
        if known is not None and known.asked_at.timestamp() >= earliest:
            return known
        asked_at, asking = self._asking.get(key, (0.0, None))
        if asking is None or asking.done() or asked_at < earliest:
            asking = asyncio.ensure_future(provider.list(scope))
            self._asking[key] = now, asking
        # One of those who wait may be cancelled; the others still want the answer.
        listing = await asyncio.shield(asking)
        self._last[key] = listing
        return listing
