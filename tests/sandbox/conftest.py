"""A sandbox served on a free loopback port, on a wall clock that only the test moves."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from msgspec import Struct
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tests.sandbox.customer import Customer
from tests.sandbox.fake_host import FakeHost

from gpubroker.sandbox.app import Mode, Sandbox, create_sandbox
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.listener import HttpListener
from gpubroker.sandbox.published import listening

V0, V1 = "/vast_ai/api/v0", "/vast_ai/api/v1"
KEY = "a" * 64


class Wall:
    """A wall clock that stands still until it is moved."""

    def __init__(self, at: float = 1_800_000_000.0) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


class Heard(Struct, kw_only=True):
    """A request of a client, whole."""

    method: str
    path: str
    query: list[tuple[str, str]]
    key: str
    """Of the authorization header, with its scheme."""
    body: bytes = b""


class Ear:
    """Before the sandbox's application: keeps what clients send."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.heard: list[Heard] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        heard = Heard(
            method=request.method,
            path=request.url.path,
            query=request.query_params.multi_items(),
            key=request.headers.get("authorization", ""),
        )
        self.heard.append(heard)

        async def listening_in() -> Message:
            message = await receive()
            heard.body += message.get("body", b"")
            return message

        await self._app(scope, listening_in, send)


class Served:
    """A running sandbox and one customer's client."""

    def __init__(self, sandbox: Sandbox, host: FakeHost, wall: Wall | None, base_url: str) -> None:
        self.sandbox, self.host, self.wall, self.url = sandbox, host, wall, base_url
        self.ear = Ear(sandbox.app)
        self.http = httpx2.AsyncClient(base_url=base_url, timeout=10)

    @property
    def cloud(self) -> Cloud:
        return self.sandbox.clouds["vast_ai"]

    async def ask(
        self, method: str, path: str, body: Any = None, *, key: str | None = KEY, **more: Any
    ) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        if body is not None:
            more["json"] = body
        return await self.http.request(method, path, headers=headers, **more)

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self.ask(method, f"/_sandbox/{path}", body, key=None)
        assert answer.status_code < 300, answer.text
        return answer.json()

    async def advance(self, seconds: float) -> None:
        await self.control("POST", "clock", {"advance_s": seconds})

    async def fault(self, operation: str, kind: str, **more: Any) -> str:
        body = {"provider": "vast_ai", "operation": operation, "kind": kind, **more}
        answer = await self.control("POST", "faults", body)
        return str(answer["id"])

    async def offers(self, **query: Any) -> list[dict[str, Any]]:
        query = {"order": [["dph_total", "asc"]], "verified": {"eq": True}, **query}
        query = {"rentable": {"eq": True}, "external": {"eq": False}, **query}
        answer = await self.ask("POST", f"{V0}/bundles/", query)
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["offers"]
        return found

    async def rent(self, gpu: str = "RTX 4090", *, key: str = KEY, **order: Any) -> int:
        """An instance of the cheapest offer, created and booted."""
        offer = (await self.offers(gpu_name={"eq": gpu}, num_gpus={"eq": 1}))[0]
        body = {"image": "ubuntu:22.04", "disk": 20, "runtype": "ssh_direct", **order}
        answer = await self.ask("PUT", f"{V0}/asks/{offer['id']}/", body, key=key)
        assert answer.status_code == 200, answer.text
        # Long enough for the next create to be within the vendor's rate limit.
        await self.advance(10)
        return int(answer.json()["new_contract"])

    async def instance(self, id_: int, *, key: str = KEY) -> dict[str, Any]:
        await self.advance(2)
        answer = await self.ask("GET", f"{V0}/instances/{id_}/?owner=me", key=key)
        found: dict[str, Any] = answer.json()["instances"]
        return found

    async def instances(self, *, key: str = KEY, **query: Any) -> dict[str, Any]:
        await self.advance(2)
        params = {name: json.dumps(value) for name, value in query.items()}
        answer = await self.ask("GET", f"{V1}/instances/", key=key, params=params)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def truth(self, id_: int) -> dict[str, Any]:
        """What the sandbox's books say of a machine."""
        rows = await self.control("GET", "machines")
        found: dict[str, Any] = next(row for row in rows if row["provider_id"] == str(id_))
        return found


@contextlib.asynccontextmanager
async def serve(
    folder: Path, *, mode: Mode = "foreground", wall: Wall | None = None, speed: float = 1.0
) -> AsyncIterator[Served]:
    """A sandbox on a state folder, for as long as the block lasts."""
    bound = listening(0)
    base_url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    host = FakeHost()
    sandbox = create_sandbox(
        folder, host, mode=mode, speed=speed, base_url=base_url, wall=wall or time.time
    )
    await sandbox.start()
    served = Served(sandbox, host, wall, base_url)
    listener = HttpListener(served.ear)
    await listener.open(bound)
    try:
        yield served
    finally:
        await served.http.aclose()
        await listener.close()
        bound.close()
        await sandbox.close()


@pytest.fixture
def make_host() -> Callable[[], FakeHost]:
    return FakeHost


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
async def served(tmp_path: Path, wall: Wall) -> AsyncIterator[Served]:
    """A foreground sandbox whose time stands still until it is advanced."""
    async with serve(tmp_path / "state", wall=wall) as running:
        yield running


@pytest.fixture
def customer(served: Served) -> Callable[..., Customer]:
    """`customer("/acme/v1", {"authorization": "Bearer …"})`: one account at any emulator."""

    def make(root: str, headers: Mapping[str, str]) -> Customer:
        return Customer(served, root, headers)

    return make


@pytest.fixture
def serving(tmp_path: Path) -> Callable[..., contextlib.AbstractAsyncContextManager[Served]]:
    """Serves a sandbox with other settings, again and again on one folder."""

    def start(**more: Any) -> contextlib.AbstractAsyncContextManager[Served]:
        return serve(tmp_path / "state", **more)

    return start
