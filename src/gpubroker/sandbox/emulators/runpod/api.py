"""RunPod's addresses: REST v2 to the letter, GraphQL beside it, and the retired v1."""

from __future__ import annotations

import json
from typing import ClassVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Limit, Refusal, Route, answer, vendor_path
from gpubroker.sandbox.emulators.runpod import billing, catalog, keeping, pods
from gpubroker.sandbox.emulators.runpod.door import FORBIDDEN, Door
from gpubroker.sandbox.emulators.runpod.graphql_api import RunPodGraphql
from gpubroker.sandbox.emulators.runpod.quota import POLICY, Crossed, Quota
from gpubroker.sandbox.emulators.runpod.words import problem_response
from gpubroker.sandbox.faults import Fault
from gpubroker.sandbox.rented import Machine

V2 = "/v2"
RETIRED = {"message": "REST API v1 was retired on 15 November 2026: use https://api.runpod.io/v2"}
FAULT_RETRY_S = 2
"""Retry-After of a 429 that a test asked for."""


class RunPod(Door):
    """The API at api.runpod.io."""

    routes: ClassVar[tuple[Route, ...]] = (
        Route("GET", f"{V2}/openapi.json", "account", catalog.document, key="none"),
        Route("GET", f"{V2}/catalog/gpus", "offers", catalog.list_gpus),
        Route("GET", f"{V2}/catalog/gpus/{{}}", "offers", catalog.show_gpu),
        Route("GET", f"{V2}/catalog/cpus", "offers", catalog.list_cpus),
        Route("GET", f"{V2}/catalog/cpus/{{}}", "offers", catalog.show_cpu),
        Route("GET", f"{V2}/catalog/datacenters", "offers", catalog.list_places),
        Route("GET", f"{V2}/catalog/datacenters/{{}}", "offers", catalog.show_place),
        Route("GET", f"{V2}/pods", "list", pods.list_all),
        Route("POST", f"{V2}/pods", "create", pods.create),
        Route("GET", f"{V2}/pods/{{}}", "get", pods.show),
        Route("PATCH", f"{V2}/pods/{{}}", "update", pods.update),
        Route("DELETE", f"{V2}/pods/{{}}", "terminate", pods.terminate),
        Route("GET", f"{V2}/pods/{{}}/logs", "logs", pods.logs),
        Route("POST", f"{V2}/pods/{{}}/action", "update", pods.act),
        Route("GET", f"{V2}/account/ssh-keys", "keys", keeping.show_keys),
        Route("PUT", f"{V2}/account/ssh-keys", "keys", keeping.replace_keys),
        Route("GET", f"{V2}/network-volumes", "volumes", keeping.list_volumes),
        Route("POST", f"{V2}/network-volumes", "volumes", keeping.create_volume),
        Route("GET", f"{V2}/network-volumes/{{}}", "volumes", keeping.show_volume),
        Route("PATCH", f"{V2}/network-volumes/{{}}", "volumes", keeping.update_volume),
        Route("DELETE", f"{V2}/network-volumes/{{}}", "volumes", keeping.delete_volume),
        Route("GET", f"{V2}/registries", "account", keeping.list_registries),
        Route("POST", f"{V2}/registries", "account", keeping.create_registry),
        Route("GET", f"{V2}/registries/{{}}", "account", keeping.show_registry),
        Route("DELETE", f"{V2}/registries/{{}}", "account", keeping.delete_registry),
        Route("GET", f"{V2}/billing", "billing", billing.account),
        Route("GET", f"{V2}/billing/pods", "billing", billing.pods),
        Route("GET", f"{V2}/billing/network-volumes", "billing", billing.volumes),
    )

    def __init__(self, cloud: Cloud, base_url: str) -> None:
        super().__init__(cloud, base_url)
        self._graphql = RunPodGraphql(cloud, base_url)
        self._quota = Quota()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """By the path: GraphQL, the retired API, or this one."""
        path = vendor_path(Request(scope))
        if path == "/graphql":
            await self._graphql(scope, receive, send)
        elif path == "/v1" or path.startswith("/v1/"):
            await answer(RETIRED, 410)(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def operation_of(self, request: Request, route: Route) -> str:
        """An action is told in the body."""
        if not route.path.endswith("/action"):
            return route.operation
        try:
            body = json.loads(await request.body())
        except ValueError:
            return route.operation
        action = body.get("action") if isinstance(body, dict) else None
        known = {"start": "start", "stop": "stop", "terminate": "terminate"}
        return known.get(str(action), route.operation)

    async def _do(self, call: Call, route: Route) -> Response:
        response = await super()._do(call, route)
        if call.account is not None:
            response.headers.update(self._quota.headers(call.account.name, call.now))
        return response

    async def _befall(self, fault: Fault, call: Call, route: Route) -> Response:
        if fault.kind == "server_error" and call.operation == "create":
            # The vendor's 500 is worse than none: the pod is there, and is paid for.
            await self._do(call, route)
            return self.server_error()
        return await super()._befall(fault, call, route)

    def _admit(self, call: Call, route: Route) -> None:
        super()._admit(call, route)
        if call.account is None:
            return
        crossed = self._quota.spend(call.account.name, call.now)
        if crossed is not None:
            raise Refusal(self._too_many(crossed))

    def may_do(self, call: Call, _route: Route, pod: Machine) -> bool:
        """By the id in the path."""
        return call.operation in self.by_pods and call.ids == (pod.id,)

    # --- words ----------------------------------------------------------------------------

    def forbidden(self) -> Response:
        """403."""
        return problem_response(403, FORBIDDEN)

    def refuse_no_key(self) -> Response:
        """401."""
        return problem_response(401, "missing bearer token")

    def refuse_key(self, status: int | None = None) -> Response:
        """401 too."""
        return problem_response(status or 401, "invalid bearer token")

    def refuse_path(self, method_exists: bool) -> Response:
        """404, or 405."""
        if method_exists:
            return problem_response(405, "The requested method is not allowed for this path.")
        return problem_response(404, "resource not found")

    def refuse_json(self) -> Response:
        """400."""
        return problem_response(400, "request body is not valid JSON")

    def rate_limited(self, _limit: Limit | None) -> Response:
        """The 429 of a fault."""
        return self._too_many(Crossed("minute", FAULT_RETRY_S))

    @staticmethod
    def _too_many(crossed: Crossed) -> Response:
        detail = f"rate limit exceeded for the {crossed.window} window"
        after = str(crossed.retry_after_s)
        return problem_response(
            429, detail, headers={"Retry-After": after, "RateLimit-Policy": POLICY}
        )

    def server_error(self) -> Response:
        """500."""
        return problem_response(500, "internal server error")
