"""Between a vendor's client and the sandbox: what was sent, and time that goes by for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served


class Sent(Struct, frozen=True):
    """A request, whole."""

    method: str
    path: str
    """Below the emulator's own."""
    query: list[tuple[str, str]]
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        """What was sent as JSON, None where nothing was."""
        return json.loads(self.raw) if self.raw else None


class Wire:
    """An application before the sandbox's.

    `slow`: how paths end whose work takes `seconds`. They are over before the answer is given, so
    that a client that looks after its work finds it done, and has no reason to sleep.
    """

    def __init__(
        self, served: Served, root: str, *, slow: tuple[str, ...] = (), seconds: float = 10.0
    ) -> None:
        self.served, self.root = served, root
        self.sent: list[Sent] = []
        self._slow, self._seconds = slow, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, body, held = Request(scope), b"", list[Message]()

        async def listening() -> Message:
            nonlocal body
            message = await receive()
            body += message.get("body", b"")
            return message

        async def hold(message: Message) -> None:
            held.append(message)

        await self.served.sandbox.app(scope, listening, hold)
        path = request.url.path.removeprefix(self.root)
        query = request.query_params.multi_items()
        self.sent.append(Sent(request.method, path, query, dict(request.headers), body))
        if self._slow and path.endswith(self._slow):
            self.served.sandbox.clock.advance(self._seconds)
            await self.served.sandbox.settle()
        for message in held:
            await send(message)
