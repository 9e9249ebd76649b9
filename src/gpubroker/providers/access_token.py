"""The bearer token that a client id and its secret are exchanged for, kept while it holds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from msgspec import Struct

from gpubroker.model.clock import Clock
from gpubroker.providers.fields import Amount, Text

SPARE_S = 30.0
"""A token is not used in its last seconds: the request may arrive after them."""


class Granted(Struct):
    """What an OAuth token endpoint answers; the refresh token is never read."""

    access_token: Text
    expires_in: Amount

    def __repr__(self) -> str:
        return f"Granted({self.expires_in:g} s)"


class AccessToken:
    """One token for all calls of an account: whoever needs it first asks, the others wait."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = asyncio.Lock()
        self._token, self._ends = "", 0.0

    def headers(self) -> Mapping[str, str]:
        """What carries it; nothing where there is none yet."""
        return {"authorization": f"Bearer {self._token}"} if self._token else {}

    async def ready(self, ask: Callable[[], Awaitable[Granted]]) -> str:
        """The token, asked for where there is none that holds."""
        async with self._lock:
            if not self._token or self._clock.boot_s() >= self._ends:
                self._token = ""
                granted = await ask()
                self._token = granted.access_token
                self._ends = self._clock.boot_s() + granted.expires_in - SPARE_S
            return self._token

    def drop(self, token: str) -> None:
        """The vendor takes it no more; another one that came meanwhile stays."""
        if self._token == token:
            self._token = ""
