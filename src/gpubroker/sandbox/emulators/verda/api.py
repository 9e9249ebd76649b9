"""Verda's routes, to the letter, and how it refuses a call before it reads it."""

from __future__ import annotations

import json
from typing import Any, ClassVar
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from gpubroker.sandbox.emulators.base import Emulator, Limit, Route, vendor_path
from gpubroker.sandbox.emulators.verda import (
    actions,
    catalog,
    deploy,
    instances,
    keys,
    tags,
    tokens,
    volume_actions,
    volumes,
)
from gpubroker.sandbox.emulators.verda.words import (
    INVALID,
    NOT_FOUND,
    SERVER_ERROR,
    UNAUTHORIZED,
    error,
)
from gpubroker.sandbox.rented import Account

V1 = "/v1"
_TOKEN = f"{V1}/oauth2/token"
_OPERATIONS = {
    "delete": "terminate",
    "discontinue": "terminate",
    "hibernate": "terminate",
    "shutdown": "stop",
    "force_shutdown": "stop",
    "start": "start",
    "boot": "start",
}


def _registry(path: str, kind: keys.Kind) -> tuple[Route, ...]:
    """The calls of one kind of named text: SSH keys, or startup scripts."""
    return (
        Route("GET", f"{V1}/{path}", "keys", kind.list_all),
        Route("POST", f"{V1}/{path}", "keys", kind.add),
        Route("DELETE", f"{V1}/{path}", "keys", kind.delete_many),
        Route("GET", f"{V1}/{path}/{{}}", "keys", kind.show),
        Route("DELETE", f"{V1}/{path}/{{}}", "keys", kind.delete_one),
    )


class Verda(Emulator):
    """The API at api.verda.com, and under its older name api.datacrunch.io."""

    routes: ClassVar[tuple[Route, ...]] = (
        Route("POST", _TOKEN, "token", tokens.issue, key="none"),
        Route("GET", f"{V1}/balance", "account", catalog.balance),
        Route("GET", f"{V1}/locations", "offers", catalog.locations),
        Route("GET", f"{V1}/instance-types", "offers", catalog.instance_types, key="optional"),
        Route("GET", f"{V1}/instance-types/price-history", "prices", catalog.price_history),
        Route("GET", f"{V1}/instance-types/{{}}", "offers", catalog.one_type, key="optional"),
        Route("GET", f"{V1}/instance-availability", "offers", catalog.availability),
        Route("GET", f"{V1}/instance-availability/{{}}", "offers", catalog.is_available),
        Route("GET", f"{V1}/images", "images", catalog.images),
        Route("GET", f"{V1}/images/cluster", "images", catalog.cluster_images),
        Route("GET", f"{V1}/instances", "list", instances.list_all),
        Route("POST", f"{V1}/instances", "create", deploy.deploy),
        Route("PUT", f"{V1}/instances", "update", actions.act),
        Route("GET", f"{V1}/instances/{{}}", "get", instances.show),
        Route("POST", f"{V1}/instances/{{}}/tags", "update", tags.add),
        Route("DELETE", f"{V1}/instances/{{}}/tags/{{}}", "update", tags.delete),
        *_registry("ssh-keys", keys.SSH_KEYS),
        *_registry("sshkeys", keys.SSH_KEYS),
        *_registry("scripts", keys.SCRIPTS),
        Route("GET", f"{V1}/volume-types", "volumes", volumes.volume_types),
        Route("GET", f"{V1}/volumes", "volumes", volumes.list_all),
        Route("POST", f"{V1}/volumes", "volumes", volumes.create),
        Route("PUT", f"{V1}/volumes", "volumes", volume_actions.act),
        Route("GET", f"{V1}/volumes/trash", "volumes", volumes.list_trash),
        Route("GET", f"{V1}/volumes/{{}}", "volumes", volumes.show),
        Route("DELETE", f"{V1}/volumes/{{}}", "volumes", volume_actions.delete_one),
    )

    def key_of(self, request: Request) -> str | None:
        """An access token; the client's secret is none."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        return key if scheme == "Bearer" and key else None

    def account_of(self, key: str, *, other: bool) -> Account | None:
        """Whoever the token was issued to, as long as it lasts."""
        token = tokens.holder(self.cloud, key, "access")
        if token is None:
            return None
        return self.cloud.accounts.get(token.other if other else token.account)

    async def operation_of(self, request: Request, route: Route) -> str:
        """An action on instances is told in the body."""
        if (route.method, route.path) != ("PUT", f"{V1}/instances"):
            return route.operation
        try:
            body = json.loads(await request.body())
        except ValueError:
            return route.operation
        action = body.get("action") if isinstance(body, dict) else None
        return _OPERATIONS.get(str(action), route.operation)

    async def _body(self, request: Request) -> Any:
        kind = request.headers.get("content-type", "").partition(";")[0]
        if vendor_path(request) == _TOKEN and kind == "application/x-www-form-urlencoded":
            return dict(parse_qsl((await request.body()).decode(errors="replace")))
        return await super()._body(request)

    def refuse_no_key(self) -> Response:
        """As a bad one."""
        return self.refuse_key()

    def refuse_key(self, status: int | None = None) -> Response:
        """401 unauthorized_request."""
        if status in (None, 401):
            return error(401, UNAUTHORIZED, "Invalid or expired access token")
        return error(status, NOT_FOUND, "Not found")

    def refuse_path(self, method_exists: bool) -> Response:
        """404 for an unknown method too."""
        del method_exists
        return error(404, NOT_FOUND, "Not found")

    def refuse_json(self) -> Response:
        """400 invalid_request."""
        return error(400, INVALID, "The body is not valid JSON")

    def rate_limited(self, _limit: Limit | None) -> Response:
        """No limit is documented, nor the body, nor a Retry-After."""
        return error(429, None, "Too many requests")

    def server_error(self) -> Response:
        """500 server_error."""
        return error(500, SERVER_ERROR, "Internal server error")
