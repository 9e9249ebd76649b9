"""Shadeform's routes, to the letter, and how it refuses a call before it reads it."""

from __future__ import annotations

from typing import ClassVar

from starlette.requests import Request
from starlette.responses import Response

from gpubroker.sandbox.emulators.base import Emulator, Limit, Route, answer
from gpubroker.sandbox.emulators.shadeform import (
    catalog,
    create,
    instances,
    keys,
    templates,
    volumes,
)

V1 = "/v1"


class Shadeform(Emulator):
    """The API at api.shadeform.ai: GET and POST alone. Clusters of machines are not here."""

    routes: ClassVar[tuple[Route, ...]] = (
        Route("GET", f"{V1}/instances/types", "offers", catalog.instance_types),
        Route("GET", f"{V1}/instances", "list", instances.list_all),
        Route("POST", f"{V1}/instances/create", "create", create.create),
        Route("GET", f"{V1}/instances/{{}}/info", "get", instances.show),
        Route("POST", f"{V1}/instances/{{}}/update", "update", instances.update),
        Route("POST", f"{V1}/instances/{{}}/restart", "update", instances.restart),
        Route("POST", f"{V1}/instances/{{}}/delete", "terminate", instances.delete),
        Route("GET", f"{V1}/sshkeys", "keys", keys.list_all),
        Route("POST", f"{V1}/sshkeys/add", "keys", keys.add),
        Route("GET", f"{V1}/sshkeys/{{}}/info", "keys", keys.show),
        Route("POST", f"{V1}/sshkeys/{{}}/setdefault", "keys", keys.set_default),
        Route("POST", f"{V1}/sshkeys/{{}}/delete", "keys", keys.delete),
        Route("GET", f"{V1}/volumes", "volumes", volumes.list_all),
        Route("GET", f"{V1}/volumes/types", "volumes", catalog.volume_types),
        Route("POST", f"{V1}/volumes/create", "volumes", volumes.create),
        Route("GET", f"{V1}/volumes/{{}}/info", "volumes", volumes.show),
        Route("POST", f"{V1}/volumes/{{}}/delete", "volumes", volumes.delete),
        Route("GET", f"{V1}/templates", "templates", templates.list_all),
        Route("GET", f"{V1}/templates/featured", "templates", templates.featured),
        Route("POST", f"{V1}/templates/save", "templates", templates.save),
        Route("GET", f"{V1}/templates/{{}}/info", "templates", templates.show),
        Route("POST", f"{V1}/templates/{{}}/update", "templates", templates.update),
        Route("POST", f"{V1}/templates/{{}}/delete", "templates", templates.delete),
    )

    def key_of(self, request: Request) -> str | None:
        """A header of its own."""
        return request.headers.get("x-api-key") or None

    def refuse_no_key(self) -> Response:
        """As a bad one."""
        return self.refuse_key()

    def refuse_key(self, status: int | None = None) -> Response:
        """401 with a message."""
        return answer({"message": "Invalid API key"}, status or 401)

    def refuse_path(self, method_exists: bool) -> Response:
        """404 for an unknown method too."""
        del method_exists
        return answer({"message": "Not Found"}, 404)

    def refuse_json(self) -> Response:
        """400 with a message."""
        return answer({"message": "The body is not valid JSON"}, 400)

    def rate_limited(self, _limit: Limit | None) -> Response:
        """No limit is documented; clients are told to heed the header."""
        return answer({"message": "Too Many Requests"}, 429, {"Retry-After": "5"})

    def server_error(self) -> Response:
        """500 with a message."""
        return answer({"message": "Internal Server Error"}, 500)
