"""Jarvis Labs' routes, to the letter, and how it refuses a call before it reads it."""

from __future__ import annotations

from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import Response

from gpubroker.sandbox.emulators import fastapi_words as framework
from gpubroker.sandbox.emulators.base import (
    Call,
    Emulator,
    Limit,
    Route,
    answer,
    vendor_path,
)
from gpubroker.sandbox.emulators.jarvislabs import (
    account,
    catalog,
    create,
    instances,
    lifecycle,
    registries,
)
from gpubroker.sandbox.emulators.jarvislabs.lifecycle import CONTAINER, CPU_VM, GPU_VM
from gpubroker.sandbox.emulators.jarvislabs.words import (
    DEFAULT_REGION,
    host_region,
    refusal_detail,
)

_FORMS = ("/scripts/add", "/scripts/update")


def _lifecycle(path: str, kind: str) -> tuple[Route, ...]:
    return (
        Route("POST", f"{path}/pause", "stop", lifecycle.pausing(kind)),
        Route("POST", f"{path}/destroy", "terminate", lifecycle.destroying(kind)),
    )


class JarvisLabs(Emulator):
    """The API at each region's host; at the default region's for what concerns the account."""

    routes: ClassVar[tuple[Route, ...]] = (
        Route("GET", "/misc/server_meta", "offers", catalog.server_meta),
        Route("GET", "/misc/frameworks", "images", catalog.frameworks),
        Route("GET", "/misc/", "account", catalog.pays_in_rupees),
        Route("POST", "/templates/vm/cpu/create", "create", create.create_cpu),
        Route("POST", "/templates/vm/cpu/resume", "start", lifecycle.resume_cpu),
        Route("POST", "/templates/{}/create", "create", create.create_gpu),
        Route("POST", "/templates/{}/resume", "start", lifecycle.resume_gpu),
        *_lifecycle("/misc", CONTAINER),
        *_lifecycle("/templates/vm", GPU_VM),
        *_lifecycle("/templates/vm/cpu", CPU_VM),
        Route("GET", "/misc/status", "status", instances.progress),
        Route("GET", "/users/fetch", "list", instances.list_all),
        Route("GET", "/users/fetch/{}", "get", instances.show),
        Route("PUT", "/machines/machine_name", "update", instances.rename),
        Route("GET", "/ssh/", "keys", registries.list_keys),
        Route("POST", "/ssh/", "keys", registries.add_key),
        Route("DELETE", "/ssh/{}", "keys", registries.delete_key),
        Route("GET", "/scripts/", "keys", registries.list_scripts),
        Route("POST", "/scripts/add", "keys", registries.add_script),
        Route("POST", "/scripts/update", "keys", registries.update_script),
        Route("DELETE", "/scripts/", "keys", registries.delete_script),
        Route("GET", "/filesystem/list", "volumes", registries.list_filesystems),
        Route("POST", "/filesystem/create", "volumes", registries.create_filesystem),
        Route("POST", "/filesystem/edit", "volumes", registries.edit_filesystem),
        Route("POST", "/filesystem/delete", "volumes", registries.delete_filesystem),
        Route("GET", "/users/balance", "billing", account.balance),
        Route("GET", "/users/user_info", "account", account.user_info),
        Route("GET", "/misc/resource_metrics", "account", account.resource_metrics),
    )

    def _admit(self, call: Call, route: Route) -> None:
        super()._admit(call, route)
        of_account = route.operation in ("keys", "update") and route.method != "GET"
        if of_account and host_region(call) not in (None, DEFAULT_REGION):
            raise refusal_detail(404, "Not Found")

    async def _body(self, request: Request) -> Any:
        if vendor_path(request) in _FORMS:
            return await registries.uploaded_script(request)
        return await super()._body(request)

    def key_of(self, request: Request) -> str | None:
        """A bearer token."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        return key if scheme == "Bearer" and key else None

    def refuse_no_key(self) -> Response:
        """401, in the framework's own form."""
        return framework.detail(401, "Not authenticated")

    def refuse_key(self, status: int | None = None) -> Response:
        """401."""
        if status in (None, 401):
            return answer({"message": "Invalid or expired token"}, 401)
        return framework.detail(status, "Not Found")

    def refuse_path(self, method_exists: bool) -> Response:
        """404 or 405; a slash too many or too few is another path."""
        return framework.no_path(method_exists)

    def refuse_json(self) -> Response:
        """422."""
        return framework.not_json()

    def rate_limited(self, _limit: Limit | None) -> Response:
        """No limit is documented, nor the body, nor a Retry-After."""
        return answer({"message": "Too many requests"}, 429)

    def server_error(self) -> Response:
        """500, in plain text as the framework has it."""
        return Response("Internal Server Error", 500, media_type="text/plain")
