"""SaladCloud's routes, to the letter, and how it refuses a call before it reads it."""

from __future__ import annotations

from typing import ClassVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gpubroker.sandbox.emulators.base import Emulator, Handler, Limit, Route
from gpubroker.sandbox.emulators.salad import (
    actions,
    catalog,
    create,
    events,
    gateway,
    groups,
    instances,
)
from gpubroker.sandbox.emulators.salad.life import tended
from gpubroker.sandbox.emulators.salad.words import (
    CALLS,
    REALLOCATIONS,
    RECREATIONS,
    RESTARTS,
    page,
    problem,
)

ROOT = "/api/public/organizations/{}"
GROUPS = f"{ROOT}/projects/{{}}/containers"
GROUP = f"{GROUPS}/{{}}"
INSTANCE = f"{GROUP}/instances/{{}}"


def _route(method: str, path: str, operation: str, handler: Handler, limit: Limit = CALLS) -> Route:
    return Route(method, path, operation, tended(handler), limit)


class Salad(Emulator):
    """The API at api.salad.com, and the gateway to containers at *.salad.cloud."""

    routes: ClassVar[tuple[Route, ...]] = (
        _route("GET", f"{ROOT}/gpu-classes", "offers", catalog.gpu_classes),
        _route(
            "POST",
            f"{ROOT}/availability/sce-gpu-availability",
            "offers",
            catalog.gpu_availability,
        ),
        _route(
            "POST",
            f"{ROOT}/availability/sce-cpu-availability",
            "offers",
            catalog.cpu_availability,
        ),
        _route("GET", f"{ROOT}/quotas", "account", catalog.quotas),
        _route("POST", f"{ROOT}/log-entries", "logs", events.log_entries),
        _route("GET", GROUPS, "list", groups.list_all),
        _route("POST", GROUPS, "create", create.create),
        _route("GET", GROUP, "get", groups.show),
        _route("PATCH", GROUP, "update", create.update),
        _route("DELETE", GROUP, "terminate", actions.delete),
        _route("POST", f"{GROUP}/start", "start", actions.start),
        _route("POST", f"{GROUP}/stop", "stop", actions.stop),
        _route("GET", f"{GROUP}/system-logs", "billing", events.system_logs),
        _route("GET", f"{GROUP}/instances", "get", instances.list_all),
        _route("GET", INSTANCE, "get", instances.show),
        _route("PATCH", INSTANCE, "update", instances.update),
        _route("POST", f"{INSTANCE}/reallocate", "update", instances.reallocate, REALLOCATIONS),
        _route("POST", f"{INSTANCE}/recreate", "update", instances.recreate, RECREATIONS),
        _route("POST", f"{INSTANCE}/restart", "update", instances.restart, RESTARTS),
    )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The gateway has names of its own."""
        request = Request(scope, receive)
        name = gateway.host_of(request)
        if name is None:
            await super().__call__(scope, receive, send)
            return
        told = await gateway.lead(self.cloud, request, name, self.cloud.clock.now())
        await told(scope, receive, send)

    def key_of(self, request: Request) -> str | None:
        """A header of its own; no bearer token."""
        return request.headers.get("Salad-Api-Key") or None

    def refuse_no_key(self) -> Response:
        """As a bad one."""
        return self.refuse_key()

    def refuse_key(self, status: int | None = None) -> Response:
        """401; where a fault asks for it a 404, which says nothing of an organization."""
        if status in (None, 401):
            return problem(401, "The API key is missing or invalid.")
        return page(status)

    def refuse_path(self, method_exists: bool) -> Response:
        """A web page."""
        return page(405 if method_exists else 404)

    def refuse_json(self) -> Response:
        """400."""
        return problem(400, "The request body is not valid JSON.")

    def rate_limited(self, limit: Limit | None) -> Response:
        """Without a Retry-After."""
        del limit
        return problem(429, "Too many requests. Please try again later.")

    def server_error(self) -> Response:
        """A web page."""
        return page(500)
