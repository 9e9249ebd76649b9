"""Lambda's routes, to the letter, and how it refuses a call before it reads it."""

from __future__ import annotations

import base64
import binascii
from typing import ClassVar

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gpubroker.sandbox.emulators.base import Call, Emulator, Limit, Route
from gpubroker.sandbox.emulators.lambda_labs import (
    audit,
    catalog,
    filesystems,
    firewall,
    instances,
    keys,
    launch,
)
from gpubroker.sandbox.emulators.lambda_labs.words import GENERAL, INVALID, LAUNCH, error

V1 = "/api/v1"
_OPERATIONS = f"{V1}/instance-operations"


class LambdaLabs(Emulator):
    """The API at cloud.lambda.ai, and under its older name cloud.lambdalabs.com."""

    routes: ClassVar[tuple[Route, ...]] = (
        Route("GET", f"{V1}/instance-types", "offers", catalog.instance_types),
        Route("GET", f"{V1}/images", "images", catalog.images),
        Route("GET", f"{V1}/instances", "list", instances.list_all),
        Route("GET", f"{V1}/instances/{{}}", "get", instances.show),
        Route("POST", f"{V1}/instances/{{}}", "update", instances.rename),
        Route("POST", f"{_OPERATIONS}/launch", "create", launch.launch, LAUNCH),
        Route("POST", f"{_OPERATIONS}/restart", "update", instances.restart),
        Route("POST", f"{_OPERATIONS}/terminate", "terminate", instances.terminate),
        Route("GET", f"{V1}/ssh-keys", "keys", keys.list_keys),
        Route("POST", f"{V1}/ssh-keys", "keys", keys.add_key),
        Route("DELETE", f"{V1}/ssh-keys/{{}}", "keys", keys.delete_key),
        Route("GET", f"{V1}/file-systems", "volumes", filesystems.list_filesystems),
        Route("POST", f"{V1}/filesystems", "volumes", filesystems.create_filesystem),
        Route("DELETE", f"{V1}/filesystems/{{}}", "volumes", filesystems.delete_filesystem),
        Route("GET", f"{V1}/firewall-rules", "firewall", firewall.list_rules),
        Route("PUT", f"{V1}/firewall-rules", "firewall", firewall.set_rules),
        Route("GET", f"{V1}/firewall-rulesets", "firewall", firewall.list_rulesets),
        Route("POST", f"{V1}/firewall-rulesets", "firewall", firewall.create_ruleset),
        Route("GET", f"{V1}/firewall-rulesets/global", "firewall", firewall.show_global),
        Route("PATCH", f"{V1}/firewall-rulesets/global", "firewall", firewall.change_global),
        Route("GET", f"{V1}/firewall-rulesets/{{}}", "firewall", firewall.show_ruleset),
        Route("PATCH", f"{V1}/firewall-rulesets/{{}}", "firewall", firewall.change_ruleset),
        Route("DELETE", f"{V1}/firewall-rulesets/{{}}", "firewall", firewall.delete_ruleset),
        Route("GET", f"{V1}/audit-events", "billing", audit.events),
    )

    def _admit(self, call: Call, route: Route) -> None:
        super()._admit(call, route)
        self._spend(call, GENERAL)

    def key_of(self, request: Request) -> str | None:
        """A bearer token, or the user name of basic authentication with an empty password."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and key:
            return key
        if scheme.lower() == "basic":
            try:
                user, _, password = base64.b64decode(key, validate=True).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                return None
            return user if user and not password else None
        return None

    def refuse_no_key(self) -> Response:
        """As a bad key."""
        return self.refuse_key()

    def refuse_key(self, status: int | None = None) -> Response:
        """401 global/invalid-api-key."""
        return error(status or 401, "global/invalid-api-key")

    def refuse_path(self, method_exists: bool) -> Response:
        """Not documented: a code that no documented thing has."""
        if method_exists:
            return error(405, "global/method-not-allowed", "Method not allowed.")
        return error(404, "global/not-found", "Not found.")

    def refuse_json(self) -> Response:
        """400 global/invalid-parameters."""
        return error(400, INVALID, "The body is not valid JSON.")

    def rate_limited(self, _limit: Limit | None) -> Response:
        """The body is not documented, and no Retry-After is."""
        return PlainTextResponse("Too Many Requests", 429)

    def server_error(self) -> Response:
        """500 global/internal-error."""
        return error(500, "global/internal-error")
