"""One account's provider, and who is using it: closed behind the last call, never under one."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpubroker.providers.base import Provider
    from gpubroker.providers.calling import Call
    from gpubroker.providers.layers import Proceed
    from gpubroker.providers.registry import Connected


class InUse:
    """The outermost layer: how many calls are on their way."""

    def __init__(self) -> None:
        self.calls = 0
        self.when_idle: Callable[[], Coroutine[Any, Any, None]] | None = None

    async def __call__(self, _call: Call, proceed: Proceed) -> Any:
        """Counts the call, and does what is to be done behind the last one."""
        self.calls += 1
        try:
            return await proceed()
        finally:
            self.calls -= 1
            if self.when_idle is not None and self.calls == 0:
                await self.when_idle()


class Connection:
    """One account's provider, and who is using it."""

    def __init__(self, connected: Connected, in_use: InUse) -> None:
        self.connected = connected
        self.in_use = in_use

    @property
    def provider(self) -> Provider:
        """In its layers."""
        return self.connected.provider

    def retire(self) -> None:
        """It closes whenever no call is on its way: a step that still holds it may go on."""
        self.in_use.when_idle = self.close

    async def close(self) -> None:
        """Close what is open; a later call opens it again."""
        close = getattr(self.connected.provider, "aclose", None)
        if close is not None:
            await close()
