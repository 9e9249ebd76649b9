"""One account's HTTP client of an emulator, for the tests of any cloud."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import httpx2

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

    from gpubroker.sandbox.cloud import Cloud


class Customer:
    """`root`: what stands before every path, "/acme/v1"; its first part is the cloud's name."""

    def __init__(self, served: Served, root: str, headers: Mapping[str, str]) -> None:
        self.served, self.root, self.headers = served, root, dict(headers)
        self.provider = root.strip("/").split("/")[0]

    @property
    def cloud(self) -> Cloud:
        return self.served.sandbox.clouds[self.provider]

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> httpx2.Response:
        more["headers"] = {**self.headers, **more.get("headers", {})}
        if body is not None:
            more["json"] = body
        return await self.served.http.request(method, f"{self.root}{path}", **more)

    async def json(
        self, method: str, path: str, body: Any = None, *, status: int | None = None, **more: Any
    ) -> Any:
        """What a call answers that succeeds, with this very status where one is given."""
        answer = await self.ask(method, path, body, **more)
        fits = answer.is_success if status is None else answer.status_code == status
        assert fits, f"{answer.status_code}: {answer.text}"
        return answer.json() if answer.content else None

    async def refused(
        self, method: str, path: str, body: Any = None, **more: Any
    ) -> tuple[int, Any]:
        """(status, body) of a refusal."""
        answer = await self.ask(method, path, body, **more)
        assert not answer.is_success, answer.text
        return answer.status_code, answer.json()

    async def fault(self, operation: str, kind: str, **more: Any) -> str:
        """The id of a fault that is set."""
        body = {"provider": self.provider, "operation": operation, "kind": kind, **more}
        return str((await self.served.control("POST", "faults", body))["id"])

    async def advance(self, seconds: float) -> None:
        await self.served.advance(seconds)

    async def resources(self) -> Any:
        """All that the sandbox holds for this cloud: the judge of every leak."""
        rows = await self.served.control("GET", "resources")
        return [row for row in rows if row["provider"] == self.provider]

    async def truth(self, id_: object, what: str = "machines") -> Any:
        """The sandbox's own row of one machine, or of one of its other lists."""
        rows = await self.served.control("GET", what)
        return next(row for row in rows if row["provider_id"] == str(id_))
