"""A vendor that answers by script, and a client of any cloud that is connected to it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import httpx2

from gpubroker.catalog.clouds import cloud
from gpubroker.providers.accounts import Account
from gpubroker.providers.http import Transport
from gpubroker.providers.redaction import Redactor
from gpubroker.providers.rest import RestCloud

KEY = "k3y-0f-the-tests-n0t-real"
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANY = "*"
"""As a request: whatever is asked and has no answer of its own."""
_Answer = tuple[int, bytes, Mapping[str, str]]
Client = TypeVar("Client", bound=RestCloud)


class ManualClock:
    """Time passes only by `sleep`."""

    def __init__(self) -> None:
        self.at = START
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self.at

    def boot_s(self) -> float:
        return (self.at - START).total_seconds()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += timedelta(seconds=seconds)


class Scripted:
    """Answers by "METHOD /path"; several answers are given in turn, the last one for ever.

    A request without an answer is a KeyError: the client asked what the test does not foresee.
    """

    def __init__(self) -> None:
        self.requests: list[httpx2.Request] = []
        self._answers: dict[str, list[_Answer | Exception]] = {}

    def says(self, request: str, *bodies: Any, status: int = 200, **headers: str) -> Scripted:
        """Bodies of bytes go as they are, None is an empty body, all else is JSON."""
        self._answers[request] = []
        for body in bodies:
            self.then(request, body, status, **headers)
        return self

    def then(self, request: str, body: Any, status: int = 200, **headers: str) -> Scripted:
        """One more answer, after those that are there."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._answers.setdefault(request, []).append((status, _content(body), named))
        return self

    def fails(self, request: str, error: Exception) -> Scripted:
        self._answers[request] = [error]
        return self

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        asked = f"{request.method} {request.url.path}"
        waiting = self._answers.get(asked) or self._answers.get(ANY) or self._answers[asked]
        answer = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if isinstance(answer, Exception):
            raise answer
        status, content, headers = answer
        return httpx2.Response(status, content=content, headers=headers)

    def asked(self) -> list[str]:
        """ "METHOD /path" of each request."""
        return [f"{request.method} {request.url.path}" for request in self.requests]

    def body(self, at: int = -1) -> Any:
        return json.loads(self.requests[at].content)


def connected(
    kind: type[Client],
    wire: Callable[[httpx2.Request], httpx2.Response],
    secrets: Mapping[str, str] | None = None,
    clock: ManualClock | None = None,
    host: str = "https://vendor.test",
) -> Client:
    """The bare provider (no layers around it) with every credential set, on this wire."""
    spellings = [names[0] for names in cloud(kind.name).credentials]
    secrets = secrets if secrets is not None else dict.fromkeys(spellings, KEY)
    account = Account(kind.name, "default", secrets, "test")
    headers = kind.authorization(account) if account.key else {}
    transport = Transport(
        kind.name,
        host,
        auth=lambda: headers,
        redactor=Redactor(kind.shown, tuple(secrets.values())),
        clock=clock or ManualClock(),
        wire=httpx2.MockTransport(wire),
    )
    return kind(account, transport)


def _content(body: Any) -> bytes:
    if body is None:
        return b""
    return body if isinstance(body, bytes) else json.dumps(body).encode()
