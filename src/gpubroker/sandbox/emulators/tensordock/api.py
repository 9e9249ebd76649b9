"""TensorDock's routes, to the letter, and how it refuses a call before it reads it."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from gpubroker.sandbox.emulators.base import Call, Emulator, Limit, Route, answer, vendor_path
from gpubroker.sandbox.emulators.tensordock import account, catalog, create, instances, secrets
from gpubroker.sandbox.emulators.tensordock.words import GENERAL, error

V2, V0 = "/api/v2", "/api/v0"
_INSTANCE = f"{V2}/instances/{{}}"


class TensorDock(Emulator):
    """The API at dashboard.tensordock.com, and the older one, also at marketplace."""

    routes: ClassVar[tuple[Route, ...]] = (
        Route("GET", f"{V2}/locations", "offers", catalog.locations, key="none"),
        Route("GET", f"{V2}/hostnodes", "offers", catalog.list_hostnodes),
        Route("GET", f"{V2}/hostnodes/{{}}", "offers", catalog.show_hostnode),
        Route("POST", f"{V2}/auth/test", "account", account.test),
        Route("GET", f"{V2}/instances", "list", instances.list_all),
        Route("POST", f"{V2}/instances", "create", create.create),
        Route("GET", _INSTANCE, "get", instances.show),
        Route("DELETE", _INSTANCE, "terminate", instances.delete),
        Route("POST", f"{_INSTANCE}/start", "start", instances.start),
        Route("POST", f"{_INSTANCE}/stop", "stop", instances.stop),
        Route("PUT", f"{_INSTANCE}/modify", "update", instances.modify),
        Route("GET", f"{V2}/secrets", "keys", secrets.list_all),
        Route("POST", f"{V2}/secrets", "keys", secrets.create),
        Route("GET", f"{V2}/secrets/{{}}", "keys", secrets.show),
        Route("DELETE", f"{V2}/secrets/{{}}", "keys", secrets.delete),
        Route("POST", f"{V0}/auth/test", "account", account.test_pair, key="none"),
        Route("POST", f"{V0}/billing/balance", "billing", account.balance, key="none"),
    )

    def _admit(self, call: Call, route: Route) -> None:
        super()._admit(call, route)
        if route.key == "required":
            self._spend(call, GENERAL)

    async def _body(self, request: Request) -> Any:
        """JSON, and a form at the older API."""
        if not vendor_path(request).startswith(f"{V0}/"):
            return await super()._body(request)
        text = (await request.body()).decode(errors="replace")
        return dict(parse_qsl(text, keep_blank_values=True))

    def key_of(self, request: Request) -> str | None:
        """A bearer token."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        return key if scheme == "Bearer" and key else None

    def refuse_no_key(self) -> Response:
        """As a bad one."""
        return self.refuse_key()

    def refuse_key(self, status: int | None = None) -> Response:
        """401."""
        if status in (None, 401):
            return error(401, "Invalid API credentials")
        return error(status, "Not found")

    def refuse_path(self, method_exists: bool) -> Response:
        """405 where another method is there."""
        if method_exists:
            return error(405, "Method not allowed")
        return error(404, "Not found")

    def refuse_json(self) -> Response:
        """400."""
        return error(400, "Invalid JSON body")

    def rate_limited(self, _limit: Limit | None) -> Response:
        """In the form that is documented for errors. The names of its headers are not."""
        told = {"status": "429", "title": "Too Many Requests", "detail": "Rate limit exceeded"}
        return answer({"errors": [told]}, 429)

    def server_error(self) -> Response:
        """500."""
        return error(500, "Internal server error")
