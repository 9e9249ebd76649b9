"""Vast.ai's routes, to the letter, and how it refuses a call before it reads it."""

from __future__ import annotations

from typing import ClassVar

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, Limit, Route, answer
from gpubroker.sandbox.emulators.vast_ai import (
    billing,
    create,
    instances,
    keys,
    market,
    volumes,
    words,
)

V0, V1 = "/api/v0", "/api/v1"
_OF_ITSELF = (instances.show, instances.manage, instances.destroy)
_NOT_PERMITTED = "This key has no such permission."


class VastAi(Emulator):
    """The API at console.vast.ai."""

    routes: ClassVar[tuple[Route, ...]] = (
        Route("POST", f"{V0}/bundles/", "offers", market.search_offers, words.SEARCH, "optional"),
        Route("GET", f"{V0}/bundles/", "offers", market.search_offers, words.SEARCH, "optional"),
        Route("PUT", f"{V0}/search/asks/", "offers", market.search_asks, words.SEARCH, "optional"),
        Route("GET", f"{V0}/gpu_names/unique/", "offers", market.gpu_names, key="none"),
        Route("POST", f"{V0}/asks/bulk/", "create", create.create_many, words.CREATE),
        Route("PUT", f"{V0}/asks/{{}}/", "create", create.create, words.CREATE),
        Route("GET", f"{V0}/instances/filters/", "list", instances.filters),
        Route("GET", f"{V0}/instances/", "list", instances.list_all, words.LIST),
        Route("GET", f"{V1}/instances/", "list", instances.list_page, words.LIST),
        Route("GET", f"{V0}/instances/{{}}/", "get", instances.show, words.SHOW),
        Route("PUT", f"{V0}/instances/", "update", instances.manage_many, words.MANAGE),
        Route("PUT", f"{V0}/instances/{{}}/", "update", instances.manage, words.MANAGE),
        Route("PUT", f"{V0}/instances/reboot/{{}}/", "update", instances.reboot, words.MANAGE),
        Route("PUT", f"{V0}/instances/recycle/{{}}/", "update", instances.recycle, words.MANAGE),
        Route("PUT", f"{V0}/instances/bid_price/{{}}/", "update", instances.change_bid, words.BID),
        Route("PUT", f"{V0}/instances/request_logs/{{}}/", "logs", instances.request_logs),
        Route("GET", "/instance_logs/{}", "logs", instances.fetch_logs, key="none"),
        Route("DELETE", f"{V0}/instances/", "terminate", instances.destroy_many, words.DESTROY),
        Route("DELETE", f"{V0}/instances/{{}}/", "terminate", instances.destroy, words.DESTROY),
        Route("GET", f"{V0}/instances/balance/{{}}/", "billing", billing.deposit, words.DEPOSIT),
        Route("GET", f"{V0}/instances/{{}}/ssh/", "keys", keys.instance_keys, words.KEYS),
        Route("POST", f"{V0}/instances/{{}}/ssh/", "keys", keys.attach_key, words.KEYS),
        Route("DELETE", f"{V0}/instances/{{}}/ssh/{{}}/", "keys", keys.detach_key, words.KEYS),
        Route("GET", f"{V0}/ssh/", "keys", keys.list_keys, words.KEYS),
        Route("POST", f"{V0}/ssh/", "keys", keys.add_key, words.KEYS),
        Route("PUT", f"{V0}/ssh/{{}}/", "keys", keys.change_key, words.KEYS),
        Route("DELETE", f"{V0}/ssh/{{}}/", "keys", keys.delete_key, words.KEYS),
        Route("POST", f"{V0}/volumes/search/", "volumes", market.search_volumes, words.VOLUMES),
        Route("PUT", f"{V0}/volumes/", "volumes", volumes.create_volume, words.VOLUMES),
        Route("GET", f"{V0}/volumes", "volumes", volumes.list_volumes, words.VOLUMES),
        Route("GET", f"{V0}/volumes/", "volumes", volumes.list_volumes, words.VOLUMES),
        Route("DELETE", f"{V0}/volumes/", "volumes", volumes.delete_volume, words.VOLUMES),
        Route("GET", f"{V0}/charges/", "billing", billing.charges, words.CHARGES),
        Route("GET", f"{V1}/invoices/", "billing", billing.invoices, words.CHARGES),
        Route("GET", f"{V0}/users/current", "account", billing.user),
        Route("GET", f"{V0}/users/current/", "account", billing.user),
    )

    def __init__(self, cloud: Cloud, base_url: str) -> None:
        super().__init__(cloud, base_url)
        self.logs: dict[str, str] = {}
        """Texts that were asked for, by the name under which they can be fetched."""

    def key_of(self, request: Request) -> str | None:
        """A bearer token, or `api_key` in the query."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and key:
            return key
        return request.query_params.get("api_key")

    def _admit(self, call: Call, route: Route) -> None:
        """A machine's own key counts for that machine alone."""
        key = self.key_of(call.request)
        for machine in self.cloud.machines.values():
            if key and machine.order.wire.get("instance_api_key") == key and not machine.ended:
                if route.handler not in _OF_ITSELF or call.ids[:1] != (machine.id,):
                    raise words.refusal(403, "auth_error", _NOT_PERMITTED)
                call.account = self.cloud.accounts[machine.account]
                return
        super()._admit(call, route)

    def refuse_no_key(self) -> Response:
        """403 auth_error."""
        return words.refusal(403, "auth_error", "This action requires login.").response

    def refuse_key(self, status: int | None = None) -> Response:
        """404, of all things: a wrong key is "not found"."""
        return words.refusal(status or 404, "auth_error", "Invalid user key").response

    def refuse_path(self, method_exists: bool) -> Response:
        """Slashes at the end are part of a path."""
        if method_exists:
            return answer({"success": False, "error": "method_not_allowed"}, 405)
        return answer({"success": False, "error": "not_found", "msg": "Not found"}, 404)

    def refuse_json(self) -> Response:
        """400 invalid_request."""
        return words.refusal(400, "invalid_request", "Invalid json body").response

    def rate_limited(self, limit: Limit | None) -> Response:
        """Plain text, without Retry-After."""
        text = "API requests too frequent"
        if limit is not None:
            text += f": endpoint threshold={limit.interval_s}"
        return PlainTextResponse(text, 429)

    def server_error(self) -> Response:
        """500 without a word."""
        return PlainTextResponse("Internal Server Error", 500)
