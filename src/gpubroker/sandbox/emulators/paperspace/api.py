"""Paperspace's routes, to the letter, and how it refuses a call before it reads it."""

from __future__ import annotations

from typing import ClassVar

from starlette.requests import Request
from starlette.responses import Response

from gpubroker.sandbox.emulators.base import Emulator, Limit, Route
from gpubroker.sandbox.emulators.paperspace import (
    account,
    actions,
    catalog,
    create,
    events,
    machines,
    network,
    scripts,
    snapshots,
)
from gpubroker.sandbox.emulators.paperspace.words import error

_MACHINE = "/v1/machines/{}"
_SCRIPT = "/v1/startup-scripts/{}"


class Paperspace(Emulator):
    """The API at api.paperspace.com."""

    routes: ClassVar[tuple[Route, ...]] = (
        Route("GET", "/v1/health", "health", account.health, key="none"),
        Route("GET", "/v1/auth/session", "account", account.session, key="none"),
        Route("GET", "/v1/billing/account-standing", "account", account.standing),
        Route("GET", "/v1/os-templates", "offers", catalog.os_templates),
        Route("GET", "/v1/machine-availability", "offers", catalog.availability),
        Route("GET", "/v1/custom-templates", "images", catalog.custom_templates),
        Route("POST", "/v1/machines", "create", create.create),
        Route("GET", "/v1/machines", "list", machines.list_all),
        Route("GET", _MACHINE, "get", machines.show),
        Route("PUT", _MACHINE, "update", actions.update),
        Route("DELETE", _MACHINE, "terminate", actions.delete),
        Route("PATCH", f"{_MACHINE}/start", "start", actions.start),
        Route("PATCH", f"{_MACHINE}/stop", "stop", actions.stop),
        Route("PATCH", f"{_MACHINE}/restart", "update", actions.restart),
        Route("GET", "/v1/machine-events", "logs", events.list_all),
        Route("GET", "/v1/machine-events/{}", "logs", events.show),
        Route("GET", "/v1/startup-scripts", "scripts", scripts.list_all),
        Route("POST", "/v1/startup-scripts", "scripts", scripts.create),
        Route("GET", _SCRIPT, "scripts", scripts.show),
        Route("PUT", _SCRIPT, "scripts", scripts.update),
        Route("DELETE", _SCRIPT, "scripts", scripts.delete),
        Route("POST", f"{_SCRIPT}/assign", "scripts", scripts.assign),
        Route("POST", f"{_SCRIPT}/unassign", "scripts", scripts.unassign),
        Route("GET", "/v1/private-networks", "networks", network.NETWORKS.list_all),
        Route("POST", "/v1/private-networks", "networks", network.create_network),
        Route("GET", "/v1/private-networks/{}", "networks", network.NETWORKS.show),
        Route("DELETE", "/v1/private-networks/{}", "networks", network.NETWORKS.delete),
        Route("GET", "/v1/public-ips", "networks", network.list_addresses),
        Route("POST", "/v1/public-ips", "networks", network.claim),
        Route("PUT", "/v1/public-ips/{}", "networks", network.assign),
        Route("DELETE", "/v1/public-ips/{}", "networks", network.release),
        Route("GET", "/v1/shared-drives", "volumes", network.DRIVES.list_all),
        Route("POST", "/v1/shared-drives", "volumes", network.create_drive),
        Route("GET", "/v1/shared-drives/{}", "volumes", network.DRIVES.show),
        Route("DELETE", "/v1/shared-drives/{}", "volumes", network.DRIVES.delete),
        Route("GET", "/v1/snapshots", "volumes", snapshots.list_all),
        Route("POST", "/v1/snapshots", "volumes", snapshots.create),
        Route("GET", "/v1/snapshots/{}", "volumes", snapshots.show),
        Route("DELETE", "/v1/snapshots/{}", "volumes", snapshots.delete),
        Route("POST", "/v1/snapshots/{}/restore", "volumes", snapshots.restore),
    )

    def key_of(self, request: Request) -> str | None:
        """A bearer token."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        return key if scheme == "Bearer" and key else None

    def refuse_no_key(self) -> Response:
        """401."""
        return error(401, "You must be logged in to perform this action.")

    def refuse_key(self, status: int | None = None) -> Response:
        """401."""
        if status in (None, 401):
            return error(401, "Invalid API key.")
        return self.refuse_path(method_exists=False)

    def refuse_path(self, method_exists: bool) -> Response:
        """404 or 405."""
        return error(405, "Method not supported") if method_exists else error(404, "Not found")

    def refuse_json(self) -> Response:
        """400."""
        return error(400, "Failed to parse request body", "PARSE_ERROR")

    def rate_limited(self, _limit: Limit | None) -> Response:
        """No limit is published, and no Retry-After promised."""
        return error(429, "Too many requests")

    def server_error(self) -> Response:
        """500."""
        return error(500, "Internal server error")
