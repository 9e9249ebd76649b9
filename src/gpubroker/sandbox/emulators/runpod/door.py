"""What RunPod's two APIs have in common: how a key is read, and what a pod's own key may do."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from typing import ClassVar

from starlette.requests import Request
from starlette.responses import Response

from gpubroker.sandbox.emulators.base import Call, Emulator, Refusal, Route
from gpubroker.sandbox.rented import Machine

FORBIDDEN = "access denied"


class Door(Emulator):
    """One API. A pod finds a key in its environment that is good for that pod alone."""

    by_pods: ClassVar[Collection[str]] = ("get", "stop", "terminate")
    """Operations that a pod's own key may do, to that pod."""

    def key_of(self, request: Request) -> str | None:
        """A bearer token."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        return key if scheme.lower() == "bearer" and key else None

    @abstractmethod
    def forbidden(self) -> Response:
        """The 403."""

    def pod_of_key(self, request: Request) -> Machine | None:
        """The pod whose own key the request carries."""
        key = self.key_of(request)
        machines = self.cloud.machines.values()
        return next((m for m in machines if key is not None and m.wire["pod_key"] == key), None)

    def _admit(self, call: Call, route: Route) -> None:
        pod = self.pod_of_key(call.request)
        if pod is None:
            super()._admit(call, route)
            return
        if pod.ended:
            raise Refusal(self.refuse_key())
        call.account = self.cloud.accounts[pod.account]
        if not self.may_do(call, route, pod):
            raise Refusal(self.forbidden())

    @abstractmethod
    def may_do(self, call: Call, route: Route, pod: Machine) -> bool:
        """Whether the call concerns the pod whose key it carries, and is one of `by_pods`."""
