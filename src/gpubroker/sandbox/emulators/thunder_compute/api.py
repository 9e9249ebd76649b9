"""Thunder Compute's routes, to the letter, and how it refuses a call before it reads it."""

from __future__ import annotations

from typing import ClassVar

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gpubroker.sandbox.emulators.base import Call, Emulator, Limit, Route
from gpubroker.sandbox.emulators.thunder_compute import (
    account,
    catalog,
    create,
    instances,
    keys,
    snapshots,
)
from gpubroker.sandbox.emulators.thunder_compute.words import banned, error

_BANNED_AGENT = "Python-urllib"


def _catalogue(version: str, calls: catalog.Catalog) -> tuple[Route, ...]:
    """Of one version: it is for everybody."""
    return (
        Route("GET", f"{version}/pricing", "offers", calls.pricing, key="none"),
        Route("GET", f"{version}/specs", "offers", calls.specs, key="none"),
        Route("GET", f"{version}/status", "offers", calls.status, key="none"),
    )


def _machines(version: str) -> tuple[Route, ...]:
    """What the older client asks too, without a version before it."""
    one = f"{version}/instances/{{}}"
    return (
        Route("GET", f"{version}/thunder-templates", "images", catalog.templates, key="none"),
        Route("GET", f"{version}/instances/list", "list", instances.list_all),
        Route("POST", f"{version}/instances/create", "create", create.create),
        Route("POST", f"{one}/delete", "terminate", instances.delete),
        Route("POST", f"{one}/modify", "update", instances.modify),
        Route("POST", f"{one}/add_key", "keys", keys.add_to_instance),
    )


class ThunderCompute(Emulator):
    """The API at api.thundercompute.com, on its port 8443."""

    routes: ClassVar[tuple[Route, ...]] = (
        *_catalogue("/v1", catalog.WITH_MODES),
        *_catalogue("/v2", catalog.MODELESS),
        *_machines("/v1"),
        *_machines(""),
        Route("GET", "/v1/auth/validate", "account", account.validate),
        Route("GET", "/v1/keys/list", "keys", keys.list_all),
        Route("POST", "/v1/keys/add", "keys", keys.add),
        Route("DELETE", "/v1/keys/{}", "keys", keys.delete),
        Route("GET", "/v1/snapshots/list", "volumes", snapshots.list_all),
        Route("POST", "/v1/snapshots/create", "volumes", snapshots.create),
        Route("DELETE", "/v1/snapshots/{}", "volumes", snapshots.delete),
        Route("GET", "/min_version", "account", account.least_version, key="none"),
        Route("GET", "/next_id", "account", account.next_id),
        Route("GET", "/get-disclaimer-status", "account", account.disclaimer),
        Route("POST", "/prototyping-disclaimer", "account", account.accept_disclaimer),
    )

    def _admit(self, call: Call, route: Route) -> None:
        if call.request.headers.get("user-agent", _BANNED_AGENT).startswith(_BANNED_AGENT):
            raise banned()
        super()._admit(call, route)

    def key_of(self, request: Request) -> str | None:
        """A bearer token."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        return key if scheme == "Bearer" and key else None

    def refuse_no_key(self) -> Response:
        """As a bad one."""
        return self.refuse_key()

    def refuse_key(self, status: int | None = None) -> Response:
        """401 unauthorized."""
        if status in (None, 401):
            return error(401, "Unauthorized: invalid or missing API token")
        return self.refuse_path(method_exists=False)

    def refuse_path(self, method_exists: bool) -> Response:
        """Not documented: as servers written in Go answer by themselves, in plain text."""
        if method_exists:
            return PlainTextResponse("405 method not allowed", 405)
        return PlainTextResponse("404 page not found", 404)

    def refuse_json(self) -> Response:
        """400 invalid_request."""
        return error(400, "the request body is not valid JSON")

    def rate_limited(self, _limit: Limit | None) -> Response:
        """No limit is published, nor the body, nor a Retry-After."""
        return error(429, "too many requests")

    def server_error(self) -> Response:
        """500."""
        return error(500, "internal server error")
