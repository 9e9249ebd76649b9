"""Northflank's routes, to the letter, and how it refuses a call before it reads it."""

from __future__ import annotations

import re
from typing import ClassVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, Handler, Limit, Refusal, Route
from gpubroker.sandbox.emulators.northflank import (
    actions,
    billing,
    catalog,
    create,
    gateway,
    identities,
    projects,
    services,
    volumes,
)
from gpubroker.sandbox.emulators.northflank.life import tended
from gpubroker.sandbox.emulators.northflank.words import CALLS_AN_HOUR, HOUR_S, error

_CALLS = Limit("calls", HOUR_S / CALLS_AN_HOUR, burst=CALLS_AN_HOUR)
PROJECTS = "/v1/projects"
PROJECT = f"{PROJECTS}/{{}}"
SERVICES, VOLUMES = f"{PROJECT}/services", f"{PROJECT}/volumes"
SERVICE, VOLUME = f"{SERVICES}/{{}}", f"{VOLUMES}/{{}}"
IDENTITIES = "/v1/integrations/ssh-identities"
_OF_TEAM = re.compile(r"/v1/teams/[A-Za-z0-9][A-Za-z0-9-]*(?=/)")


def _route(method: str, path: str, operation: str, handler: Handler) -> Route:
    return Route(method, path, operation, tended(handler), _CALLS)


class Northflank(Emulator):
    """The API at api.northflank.com, and the public ports of services at *.code.run."""

    routes: ClassVar[tuple[Route, ...]] = (
        Route("GET", "/v1/regions", "offers", catalog.regions, key="none"),
        Route("GET", "/v1/plans", "offers", catalog.plans, key="none"),
        _route("GET", "/v1/auth", "account", billing.whoami),
        _route("GET", "/v1/billing/usage", "billing", billing.usage),
        _route("GET", "/v1/billing/usage/{}", "billing", billing.usage_of_hour),
        _route("GET", "/v1/billing/credit-balance", "billing", billing.credit),
        _route("GET", "/v1/billing/invoices", "billing", billing.invoices),
        _route("GET", PROJECTS, "projects", projects.list_all),
        _route("POST", PROJECTS, "projects", projects.create),
        _route("GET", PROJECT, "projects", projects.show),
        _route("DELETE", PROJECT, "projects", projects.delete),
        _route("GET", SERVICES, "list", services.list_all),
        _route("POST", f"{SERVICES}/deployment", "create", create.create),
        _route("PATCH", f"{SERVICES}/deployment/{{}}", "update", create.update),
        _route("GET", SERVICE, "get", services.show),
        _route("DELETE", SERVICE, "terminate", actions.delete),
        _route("GET", f"{SERVICE}/containers", "get", services.containers),
        _route("GET", f"{SERVICE}/ports", "get", services.ports),
        _route("POST", f"{SERVICE}/pause", "stop", actions.pause),
        _route("POST", f"{SERVICE}/resume", "start", actions.resume),
        _route("POST", f"{SERVICE}/restart", "update", actions.restart),
        _route("POST", f"{SERVICE}/scale", "update", actions.scale),
        _route("GET", VOLUMES, "volumes", volumes.list_all),
        _route("POST", VOLUMES, "volumes", volumes.create),
        _route("GET", VOLUME, "volumes", volumes.show),
        _route("DELETE", VOLUME, "volumes", volumes.delete),
        _route("POST", f"{VOLUME}/attach", "volumes", volumes.attach_one),
        _route("POST", f"{VOLUME}/detach", "volumes", volumes.detach_one),
        _route("GET", IDENTITIES, "keys", identities.list_all),
        _route("POST", IDENTITIES, "keys", identities.add),
        _route("GET", f"{IDENTITIES}/{{}}", "keys", identities.show),
        _route("DELETE", f"{IDENTITIES}/{{}}", "keys", identities.delete),
    )

    def __init__(self, cloud: Cloud, base_url: str) -> None:
        super().__init__(cloud, base_url)
        self._hours: dict[str, tuple[float, int]] = {}
        """Account -> begin of its present hour, calls in it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Public ports have names of their own; a token's one team may be named in the path."""
        request = Request(scope, receive)
        name = gateway.host_of(request)
        if name is not None:
            told = await gateway.lead(self.cloud, request, name, self.cloud.clock.now())
            await told(scope, receive, send)
            return
        root = scope.get("root_path", "")
        path = _OF_TEAM.sub("/v1", scope["path"].removeprefix(root), count=1)
        await super().__call__({**scope, "path": root + path}, receive, send)

    async def _do(self, call: Call, route: Route) -> Response:
        told = await super()._do(call, route)
        if call.account is not None:
            began, used = self._hours.get(call.account.name, (call.now, 0))
            told.headers["x-ratelimit-limit"] = str(CALLS_AN_HOUR)
            told.headers["x-ratelimit-remaining"] = str(max(0, CALLS_AN_HOUR - used))
            # Seconds, not a moment.
            told.headers["x-ratelimit-reset"] = str(int(began + HOUR_S - call.now))
        return told

    def _spend(self, call: Call, limit: Limit) -> None:
        who = call.owner.name
        began, used = self._hours.get(who, (call.now, 0))
        if call.now - began >= HOUR_S:
            began, used = call.now, 0
        if used >= CALLS_AN_HOUR:
            raise Refusal(self.rate_limited(limit))
        self._hours[who] = began, used + 1

    def key_of(self, request: Request) -> str | None:
        """A bearer token."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        return key if scheme == "Bearer" and key else None

    def refuse_no_key(self) -> Response:
        """As a bad one."""
        return self.refuse_key()

    def refuse_key(self, status: int | None = None) -> Response:
        """401; where a fault asks for it a 404 of the usual form."""
        if status in (None, 401):
            return error(401, "Unauthorized: the token is missing or invalid")
        return error(status, "Not found")

    def refuse_path(self, method_exists: bool) -> Response:
        """404 for an unknown method too."""
        del method_exists
        return error(404, "Not found")

    def refuse_json(self) -> Response:
        """400."""
        return error(400, "Invalid request", {"body": ["the body is not valid JSON"]})

    def rate_limited(self, limit: Limit | None) -> Response:
        """429; the headers say for how long."""
        told = error(429, "Too many requests")
        if limit is None:
            told.headers["x-ratelimit-remaining"] = "0"
            told.headers["x-ratelimit-reset"] = "60"
        return told

    def server_error(self) -> Response:
        """500."""
        return error(500, "Internal server error")
