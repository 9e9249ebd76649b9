"""DigitalOcean's routes, to the letter, and how it refuses a call before it reads it."""

from __future__ import annotations

from typing import ClassVar

from starlette.requests import Request
from starlette.responses import Response

from gpubroker.sandbox.emulators.base import Call, Emulator, Limit, Route
from gpubroker.sandbox.emulators.digitalocean import (
    actions,
    associated,
    billing,
    catalog,
    create,
    droplets,
    images,
    keys,
    volumes,
)
from gpubroker.sandbox.emulators.digitalocean.words import (
    KEY_LISTS,
    PER_HOUR,
    PER_MINUTE,
    error,
)

V2 = "/v2"
_ONE = f"{V2}/droplets/{{}}"
_WITH = f"{_ONE}/destroy_with_associated_resources"
_MY = f"{V2}/customers/my"
_RETRY_S = 60


class DigitalOcean(Emulator):
    """The API at api.digitalocean.com."""

    routes: ClassVar[tuple[Route, ...]] = (
        Route("GET", f"{V2}/account", "account", billing.account),
        Route("GET", f"{V2}/account/keys", "keys", keys.list_keys, KEY_LISTS),
        Route("POST", f"{V2}/account/keys", "keys", keys.add_key),
        Route("GET", f"{V2}/account/keys/{{}}", "keys", keys.show_key),
        Route("PUT", f"{V2}/account/keys/{{}}", "keys", keys.rename_key),
        Route("DELETE", f"{V2}/account/keys/{{}}", "keys", keys.delete_key),
        Route("GET", f"{V2}/sizes", "offers", catalog.sizes),
        Route("GET", f"{V2}/regions", "regions", catalog.regions),
        Route("GET", f"{V2}/images", "images", images.list_images),
        Route("GET", f"{V2}/images/{{}}", "images", images.show_image),
        Route("PUT", f"{V2}/images/{{}}", "images", images.rename_image),
        Route("DELETE", f"{V2}/images/{{}}", "images", images.delete_image),
        Route("GET", f"{V2}/droplets", "list", droplets.list_droplets),
        Route("POST", f"{V2}/droplets", "create", create.create),
        Route("DELETE", f"{V2}/droplets", "terminate", droplets.delete_tagged),
        Route("POST", f"{V2}/droplets/actions", "update", actions.act_on_tagged),
        Route("GET", _ONE, "get", droplets.show),
        Route("DELETE", _ONE, "terminate", droplets.delete),
        Route("GET", f"{_ONE}/actions", "get", actions.list_of_droplet),
        Route("POST", f"{_ONE}/actions", "update", actions.act),
        Route("GET", f"{_ONE}/actions/{{}}", "get", actions.show_of_droplet),
        Route("GET", _WITH, "get", associated.preview),
        Route("DELETE", f"{_WITH}/dangerous", "terminate", associated.destroy_all),
        Route("DELETE", f"{_WITH}/selective", "terminate", associated.destroy_chosen),
        Route("GET", f"{_WITH}/status", "get", associated.status),
        Route("POST", f"{_WITH}/retry", "terminate", associated.retry),
        Route("GET", f"{V2}/actions", "actions", actions.list_all),
        Route("GET", f"{V2}/actions/{{}}", "actions", actions.show),
        Route("GET", f"{V2}/volumes", "volumes", volumes.list_volumes),
        Route("POST", f"{V2}/volumes", "volumes", volumes.create_volume),
        Route("DELETE", f"{V2}/volumes", "volumes", volumes.delete_named),
        Route("POST", f"{V2}/volumes/actions", "volumes", volumes.act_by_name),
        Route("GET", f"{V2}/volumes/{{}}", "volumes", volumes.show_volume),
        Route("DELETE", f"{V2}/volumes/{{}}", "volumes", volumes.delete_volume),
        Route("GET", f"{V2}/volumes/{{}}/actions", "volumes", volumes.list_actions),
        Route("POST", f"{V2}/volumes/{{}}/actions", "volumes", volumes.act),
        Route("GET", f"{V2}/volumes/{{}}/actions/{{}}", "volumes", volumes.show_action),
        Route("GET", f"{_MY}/balance", "billing", billing.balance),
        Route("GET", f"{_MY}/billing_history", "billing", billing.history),
        Route("GET", f"{_MY}/invoices", "billing", billing.invoices),
        Route("GET", f"{_MY}/invoices/{{}}", "billing", billing.invoice),
        Route("GET", f"{V2}/billing/{{}}/insights/{{}}/{{}}", "billing", billing.insights),
    )

    def _admit(self, call: Call, route: Route) -> None:
        super()._admit(call, route)
        self._spend(call, PER_MINUTE)
        self._spend(call, PER_HOUR)

    async def _do(self, call: Call, route: Route) -> Response:
        response = await super()._do(call, route)
        if call.account is not None:
            used = max(0.0, self._allowances.get((call.account.name, "hour"), 0.0) - call.now)
            left = PER_HOUR.burst - round(used / PER_HOUR.interval_s)
            response.headers["ratelimit-limit"] = str(PER_HOUR.burst)
            response.headers["ratelimit-remaining"] = str(max(0, left))
            response.headers["ratelimit-reset"] = str(int(call.now + used) + 1)
        return response

    def key_of(self, request: Request) -> str | None:
        """A bearer token."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        return key if scheme.lower() == "bearer" and key else None

    def refuse_no_key(self) -> Response:
        """As a bad key."""
        return self.refuse_key()

    def refuse_key(self, status: int | None = None) -> Response:
        """401 unauthorized."""
        return error("unauthorized", status=status)

    def refuse_path(self, method_exists: bool) -> Response:
        """404; the wrong method on a path is not documented."""
        return error("method_not_allowed" if method_exists else "not_found")

    def refuse_json(self) -> Response:
        """400 bad_request."""
        return error("bad_request")

    def rate_limited(self, limit: Limit | None) -> Response:
        """The 429; only the one of a burst says when to try again."""
        response = error("too_many_requests")
        if limit is not PER_HOUR:
            response.headers["retry-after"] = str(_RETRY_S if limit is KEY_LISTS else 1)
        return response

    def server_error(self) -> Response:
        """500 server_error."""
        return error("server_error")
