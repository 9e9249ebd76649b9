"""Hyperstack's routes, to the letter, and how it refuses a call before it reads it."""

from __future__ import annotations

from typing import ClassVar

from starlette.requests import Request
from starlette.responses import Response

from gpubroker.sandbox.emulators.base import Emulator, Limit, Route
from gpubroker.sandbox.emulators.hyperstack import (
    actions,
    billing,
    catalog,
    create,
    environments,
    machines,
    volumes,
)
from gpubroker.sandbox.emulators.hyperstack.words import error

CORE = "/v1/core"
_VMS = f"{CORE}/virtual-machines"
_BILLING = "/v1/billing/billing"


class Hyperstack(Emulator):
    """The Infrahub API at infrahub-api.nexgencloud.com. No rate limit is documented."""

    routes: ClassVar[tuple[Route, ...]] = (
        Route("GET", "/v1/auth/me", "account", billing.me),
        Route("GET", "/v1/auth/me/organizations", "account", billing.organizations),
        Route("GET", f"{CORE}/flavors", "offers", catalog.flavors),
        Route("GET", "/v1/pricebook", "offers", catalog.pricebook),
        Route("GET", f"{CORE}/stocks", "offers", catalog.stocks),
        Route("GET", f"{CORE}/regions", "offers", catalog.regions),
        Route("GET", f"{CORE}/images", "images", catalog.images),
        Route("GET", f"{CORE}/environments", "environments", environments.list_all),
        Route("POST", f"{CORE}/environments", "environments", environments.create),
        Route("GET", f"{CORE}/environments/{{}}", "environments", environments.show),
        Route("DELETE", f"{CORE}/environments/{{}}", "environments", environments.delete),
        Route("GET", f"{CORE}/environments/{{}}/vm-quota", "environments", environments.quota),
        Route("GET", f"{CORE}/keypairs", "keys", environments.list_keys),
        Route("POST", f"{CORE}/keypairs", "keys", environments.import_key),
        Route("DELETE", f"{CORE}/keypair/{{}}", "keys", environments.delete_key),
        Route("GET", _VMS, "list", machines.list_all),
        Route("POST", _VMS, "create", create.create),
        Route("GET", f"{_VMS}/name-availability/{{}}", "get", machines.name_availability),
        Route("GET", f"{_VMS}/{{}}", "get", machines.show),
        Route("DELETE", f"{_VMS}/{{}}", "terminate", actions.delete),
        Route("GET", f"{_VMS}/{{}}/start", "start", actions.start),
        Route("GET", f"{_VMS}/{{}}/stop", "stop", actions.stop),
        Route("GET", f"{_VMS}/{{}}/hard-reboot", "update", actions.hard_reboot),
        Route("GET", f"{_VMS}/{{}}/hibernate", "stop", actions.hibernate),
        Route("GET", f"{_VMS}/{{}}/hibernate-restore", "start", actions.restore),
        Route("POST", f"{_VMS}/{{}}/resize", "update", actions.resize),
        Route("PUT", f"{_VMS}/{{}}/label", "update", actions.set_labels),
        Route("POST", f"{_VMS}/{{}}/sg-rules", "update", actions.create_rule),
        Route("DELETE", f"{_VMS}/{{}}/sg-rules/{{}}", "update", actions.delete_rule),
        Route("POST", f"{_VMS}/{{}}/attach-floatingip", "update", actions.attach_address),
        Route("POST", f"{_VMS}/{{}}/detach-floatingip", "update", actions.detach_address),
        Route("POST", f"{_VMS}/{{}}/attach-volumes", "volumes", actions.attach_volumes),
        Route("POST", f"{_VMS}/{{}}/detach-volumes", "volumes", actions.detach_volumes),
        Route("GET", f"{CORE}/volume-types", "volumes", volumes.volume_types),
        Route("GET", f"{CORE}/volumes", "volumes", volumes.list_all),
        Route("POST", f"{CORE}/volumes", "volumes", volumes.create),
        Route("GET", f"{CORE}/volumes/{{}}", "volumes", volumes.show),
        Route("DELETE", f"{CORE}/volumes/{{}}", "volumes", volumes.delete),
        Route("GET", "/v1/billing/user-credit/credit", "account", billing.credit),
        Route("GET", "/v1/pricebook/calculate/resource/{}/{}", "billing", billing.rate),
        Route("GET", f"{_BILLING}/history/virtual-machine", "billing", billing.history),
        Route("GET", f"{_BILLING}/virtual-machine/{{}}/billing-events", "billing", billing.events),
        Route("GET", f"{_BILLING}/usage", "billing", billing.usage),
    )

    def key_of(self, request: Request) -> str | None:
        """A header of its own, with an underscore; a bearer token is the console's."""
        return request.headers.get("api_key") or None

    def refuse_no_key(self) -> Response:
        """As a bad one."""
        return self.refuse_key()

    def refuse_key(self, status: int | None = None) -> Response:
        """401 unauthorized."""
        return error(status or 401, "unauthorized", "Invalid API key")

    def refuse_path(self, method_exists: bool) -> Response:
        """404, or 405 where the path has other methods."""
        if method_exists:
            return error(405, "method_not_allowed", "Method not allowed")
        return error(404, "not_found", "The requested URL was not found on the server")

    def refuse_json(self) -> Response:
        """400 bad_request."""
        return error(400, "bad_request", "The body is not valid JSON")

    def rate_limited(self, _limit: Limit | None) -> Response:
        """Not documented: neither the body nor a Retry-After."""
        return error(429, "too_many_requests", "Too many requests")

    def server_error(self) -> Response:
        """500."""
        return error(500, "internal_server_error", "Internal server error")
