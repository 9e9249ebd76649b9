"""FluidStack's routes, to the letter, and how it refuses a call before it reads it."""

from __future__ import annotations

from typing import ClassVar

from starlette.requests import Request
from starlette.responses import Response

from gpubroker.sandbox.emulators import fastapi_words as framework
from gpubroker.sandbox.emulators.base import Emulator, Limit, Route
from gpubroker.sandbox.emulators.fluidstack import catalog, create, instances, keys
from gpubroker.sandbox.emulators.fluidstack.words import message


class FluidStack(Emulator):
    """The API at platform.fluidstack.io."""

    routes: ClassVar[tuple[Route, ...]] = (
        Route("GET", "/healthcheck", "health", catalog.health, key="none"),
        Route("HEAD", "/healthcheck", "health", catalog.health, key="none"),
        Route("GET", "/list_available_configurations", "offers", catalog.configurations),
        Route("GET", "/list_available_os_templates", "images", catalog.systems),
        Route("POST", "/instances", "create", create.create),
        Route("GET", "/instances", "list", instances.list_all),
        Route("GET", "/instances/{}", "get", instances.show),
        Route("DELETE", "/instances/{}", "terminate", instances.terminate),
        Route("PUT", "/instances/{}/stop", "stop", instances.stop),
        Route("PUT", "/instances/{}/start", "start", instances.start),
        Route("PUT", "/instances/{}/rename", "update", instances.rename),
        Route("GET", "/ssh_keys", "keys", keys.list_all),
        Route("POST", "/ssh_keys", "keys", keys.add),
        Route("DELETE", "/ssh_keys/{}", "keys", keys.delete),
    )

    def key_of(self, request: Request) -> str | None:
        """A header of its own; an authorization header counts for nothing."""
        return request.headers.get("api-key") or None

    def refuse_no_key(self) -> Response:
        """401."""
        return message(401, "Not authenticated")

    def refuse_key(self, status: int | None = None) -> Response:
        """401."""
        if status in (None, 401):
            return message(401, "Invalid API key")
        return framework.no_path(method_exists=False)

    def refuse_path(self, method_exists: bool) -> Response:
        """404 or 405."""
        return framework.no_path(method_exists)

    def refuse_json(self) -> Response:
        """422."""
        return framework.not_json()

    def rate_limited(self, _limit: Limit | None) -> Response:
        """No limit is documented, nor the body, nor a Retry-After."""
        return message(429, "Too many requests")

    def server_error(self) -> Response:
        """500."""
        return message(500, "Internal server error")
