"""What every REST emulator does with a call, whatever the vendor's words for it are.

In this order: route, fault of the whole call, key, rate limit, body, handler. Vendors' refusals
are raised as `Refusal`. Nothing is answered before the state that it tells of is committed.
"""

from __future__ import annotations

import asyncio
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.faults import Fault, Kind
from gpubroker.sandbox.rented import Account

DROP_CONNECTION = "gpubroker.drop_connection"
"""Key of the scope: a callable that cuts the caller's connection."""

GARBAGE = '{"success": true, "offers": [{"id": 1, "gpu_na'


class Dropped(Exception):
    """The connection was cut on purpose: there is nothing to answer."""


class Refusal(Exception):
    """The vendor's own answer to a call that it does not carry out."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"HTTP {response.status_code}")
        self.response = response


class Limit(Struct, frozen=True):
    """At most `burst` calls at once, then one every `interval_s`, in sandbox time."""

    bucket: str
    interval_s: float
    burst: int = 2


class Call(Struct):
    """One request, with what was found out about it so far."""

    request: Request
    operation: str
    ids: tuple[str, ...]
    """The variable parts of the path."""
    now: float
    account: Account | None = None
    body: Any = None

    @property
    def owner(self) -> Account:
        """The account that asks; only where the route demands a key."""
        if self.account is None:
            raise RuntimeError("the route takes calls without a key")
        return self.account


Handler = Callable[[Any, Call], Awaitable[Response]]


class Route(Struct, frozen=True):
    """A path of the vendor, to the letter; `{}` stands for one variable part."""

    method: str
    path: str
    operation: str
    handler: Handler
    limit: Limit | None = None
    key: str = "required"
    """"required", "optional" (prices, where the vendor gives them away) or "none"."""


class Emulator(ABC):
    """An ASGI application for one vendor. Subclasses give routes and the vendor's words."""

    routes: ClassVar[tuple[Route, ...]]

    def __init__(self, cloud: Cloud, base_url: str) -> None:
        self.cloud = cloud
        self.base_url = base_url
        self._patterns = [
            (re.compile(re.escape(route.path).replace(r"\{\}", "([^/]+)")), route)
            for route in self.routes
        ]
        self._allowances: dict[tuple[str, str], float] = {}

    # --- the vendor's words ---------------------------------------------------------------

    @abstractmethod
    def key_of(self, request: Request) -> str | None:
        """The key that a request carries, None where it has none."""

    @abstractmethod
    def refuse_no_key(self) -> Response:
        """The answer to a call without the key that it needs."""

    @abstractmethod
    def refuse_key(self, status: int | None = None) -> Response:
        """The answer to a bad key; `status` where a fault asks for another form."""

    @abstractmethod
    def refuse_path(self, method_exists: bool) -> Response:
        """The answer to a path, or a method on a path, that there is not."""

    @abstractmethod
    def refuse_json(self) -> Response:
        """The answer to a body that is no JSON."""

    @abstractmethod
    def rate_limited(self, limit: Limit | None) -> Response:
        """The 429; `limit` is the one that was crossed, None for a fault."""

    @abstractmethod
    def server_error(self) -> Response:
        """The 500."""

    def account_of(self, key: str, *, other: bool) -> Account | None:
        """Whose a call's key is, None for a bad one; `other` as `Books.account`."""
        return self.cloud.account(key, other=other)

    async def operation_of(self, _request: Request, route: Route) -> str:
        """What a call does; for protocols that tell it in the body, not in the path."""
        return route.operation

    # --- what happens to a call -----------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, or cuts its connection."""
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except Dropped:
            scope[DROP_CONNECTION]()
            return
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = vendor_path(request)
        matches = [(m, r) for pattern, r in self._patterns if (m := pattern.fullmatch(path))]
        found = next(((m, r) for m, r in matches if r.method == request.method), None)
        if found is None:
            return self.refuse_path(method_exists=bool(matches))
        match, route = found
        operation = await self.operation_of(request, route)
        call = Call(request, operation, match.groups(), self.cloud.clock.now())
        fault = self.cloud.faults.take_call(operation)
        response = await (self._befall(fault, call, route) if fault else self._do(call, route))
        self.cloud.commit()
        return response

    async def _befall(self, fault: Fault, call: Call, route: Route) -> Response:
        instead = self._instead(fault.kind)
        if instead is not None:
            return instead
        if fault.kind == "disconnect_before":
            raise Dropped
        if fault.kind == "timeout":
            await _until_caller_gives_up(call.request)
            raise Dropped
        if fault.kind == "slow":
            await asyncio.sleep(fault.delay_s)
        response = await self._do(call, route)
        if fault.kind == "disconnect_after":
            self.cloud.commit()
            raise Dropped
        return response

    def _instead(self, kind: Kind) -> Response | None:
        match kind:
            case "rate_limit":
                return self.rate_limited(None)
            case "server_error":
                return self.server_error()
            case "bad_credentials":
                return self.refuse_key(401)
            case "not_found_for_bad_key":
                return self.refuse_key(404)
            case "garbage":
                return Response(GARBAGE, media_type="application/json")
            case _:
                return None

    async def _do(self, call: Call, route: Route) -> Response:
        try:
            self._admit(call, route)
            if call.request.method in ("POST", "PUT", "PATCH", "DELETE"):
                call.body = await self._body(call.request)
            return await route.handler(self, call)
        except Refusal as refusal:
            return refusal.response

    def _admit(self, call: Call, route: Route) -> None:
        if route.key == "none":
            return
        key = self.key_of(call.request)
        if key is None:
            if route.key == "required":
                raise Refusal(self.refuse_no_key())
        else:
            other = self.cloud.faults.take(call.operation, "other_account")
            call.account = self.account_of(key, other=other is not None)
            if call.account is None:
                raise Refusal(self.refuse_key())
        if route.limit:
            self._spend(call, route.limit)

    def _spend(self, call: Call, limit: Limit) -> None:
        who = call.account.name if call.account else "anonymous"
        earliest = self._allowances.get((who, limit.bucket), 0.0)
        if earliest - call.now > limit.interval_s * (limit.burst - 1):
            raise Refusal(self.rate_limited(limit))
        self._allowances[who, limit.bucket] = max(earliest, call.now) + limit.interval_s

    async def _body(self, request: Request) -> Any:
        raw = await request.body()
        if not raw:
            return None
        try:
            return json.loads(raw)
        except ValueError:
            raise Refusal(self.refuse_json()) from None


async def _until_caller_gives_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def vendor_path(request: Request) -> str:
    """The path below the emulator's base address."""
    path: str = request.scope["path"]
    return path.removeprefix(request.scope.get("root_path", ""))


def answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return JSONResponse(body, status, headers)
