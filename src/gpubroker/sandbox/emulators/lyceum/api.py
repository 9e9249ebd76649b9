"""Lyceum's routes, to the letter, and how it refuses a call before it reads it."""

from __future__ import annotations

from typing import ClassVar

from starlette.requests import Request
from starlette.responses import Response

from gpubroker.sandbox.emulators import fastapi_words as framework
from gpubroker.sandbox.emulators.base import Emulator, Limit, Route
from gpubroker.sandbox.emulators.lyceum import billing, create, market, vms, volumes
from gpubroker.sandbox.emulators.lyceum.words import KEY_PREFIX
from gpubroker.sandbox.rented import Account

ROOT = "/api/v2/external"
_ORG = f"{ROOT}/orgs/{{}}"


class Lyceum(Emulator):
    """The API at api.lyceum.technology. `X-Org-Slug` counts for nothing: keys name their own."""

    routes: ClassVar[tuple[Route, ...]] = (
        Route("GET", f"{ROOT}/vms/availability", "offers", market.availability),
        Route("GET", f"{ROOT}/pricing", "prices", market.pricing),
        Route("POST", f"{ROOT}/vms/create", "create", create.create),
        Route("GET", f"{ROOT}/vms/list", "list", vms.list_all),
        Route("GET", f"{ROOT}/vms/{{}}/status", "get", vms.show),
        Route("PATCH", f"{ROOT}/vms/{{}}", "update", vms.rename),
        Route("DELETE", f"{ROOT}/vms/{{}}", "terminate", vms.terminate),
        Route("GET", f"{ROOT}/storage/block", "volumes", volumes.list_all),
        Route("DELETE", f"{ROOT}/storage/block/{{}}", "volumes", volumes.delete),
        Route("GET", f"{ROOT}/user/org", "account", billing.my_org),
        Route("GET", f"{ROOT}/orgs", "account", billing.orgs),
        Route("GET", f"{ROOT}/billing/credits", "billing", billing.credit),
        Route("GET", f"{ROOT}/billing/history", "billing", billing.history),
        Route("GET", f"{ROOT}/billing/activities", "billing", billing.activities),
        Route("GET", f"{_ORG}/balance", "billing", billing.balance),
        Route("GET", f"{_ORG}/transactions", "billing", billing.transactions),
        Route("GET", f"{_ORG}/transactions/aggregate", "billing", billing.aggregate),
        Route("GET", f"{ROOT}/machine-types", "runs", market.machine_types),
        Route("GET", f"{ROOT}/user/quotas/available-hardware", "runs", market.run_hardware),
        Route("GET", f"{ROOT}/workloads/list", "runs", market.no_runs),
        Route("GET", f"{ROOT}/auth/api-keys/", "account", market.no_runs),
    )

    def key_of(self, request: Request) -> str | None:
        """A bearer token."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        return key if scheme == "Bearer" and key else None

    def account_of(self, key: str, *, other: bool) -> Account | None:
        """By what stands behind the vendor's prefix."""
        return super().account_of(key.removeprefix(KEY_PREFIX), other=other)

    def refuse_no_key(self) -> Response:
        """401."""
        return framework.detail(401, "Not authenticated")

    def refuse_key(self, status: int | None = None) -> Response:
        """401."""
        if status in (None, 401):
            return framework.detail(401, "Invalid or expired token")
        return framework.detail(status, "Not Found")

    def refuse_path(self, method_exists: bool) -> Response:
        """404 or 405."""
        return framework.no_path(method_exists)

    def refuse_json(self) -> Response:
        """422."""
        return framework.not_json()

    def rate_limited(self, _limit: Limit | None) -> Response:
        """No limit is documented, nor the body, nor a Retry-After."""
        return framework.detail(429, "Too Many Requests")

    def server_error(self) -> Response:
        """500."""
        return framework.detail(500, "Internal server error")
