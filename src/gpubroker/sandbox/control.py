"""The controls below /_sandbox: look into every account, move time and market, make trouble."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gpubroker.model.money import usd
from gpubroker.sandbox.clock import iso
from gpubroker.sandbox.emulators import EMULATORS
from gpubroker.sandbox.faults import APPLIES_TO, Fault, Kind, Operation
from gpubroker.sandbox.stock import Push

if TYPE_CHECKING:
    from gpubroker.sandbox.app import Sandbox
    from gpubroker.sandbox.cloud import Cloud
    from gpubroker.sandbox.rented import Machine, Thing

T = TypeVar("T")
_LONGEST_ADVANCE_S = 366 * 86_400


class BadInput(Exception):
    """A request that is not carried out. `field` names what is wrong with it, "" = the body."""

    def __init__(self, field: str, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.field, self.status = field, status


class FaultWanted(Struct, forbid_unknown_fields=True):
    """Body of POST faults."""

    provider: str
    operation: Operation
    kind: Kind
    times: Annotated[int, Meta(ge=1)] | None = None
    probability: Annotated[float, Meta(ge=0, le=1)] = 1.0
    delay_s: Annotated[float, Meta(ge=0)] = 0.0


class PreemptWanted(Struct, forbid_unknown_fields=True):
    """Body of POST preempt."""

    provider: str
    provider_id: str


class AdvanceWanted(Struct, forbid_unknown_fields=True):
    """Body of POST clock."""

    advance_s: Annotated[float, Meta(ge=0, le=_LONGEST_ADVANCE_S)]


class MarketWanted(Struct, forbid_unknown_fields=True):
    """Body of POST market. `available`: true = all again, false = none, n = that many slots."""

    provider: str
    gpu_model: str
    price_factor: Annotated[float, Meta(gt=0, le=1000)] | None = None
    available: bool | Annotated[int, Meta(ge=0)] | None = None


def routes(sandbox: Sandbox) -> list[Route]:
    """Every control, as a route."""
    controls = _Controls(sandbox)
    table: tuple[tuple[str, str, Callable[[Request], Awaitable[Response]]], ...] = (
        ("GET", "/status", controls.status),
        ("GET", "/providers", controls.providers),
        ("GET", "/machines", controls.machines),
        ("GET", "/resources", controls.resources),
        ("GET", "/requests", controls.requests),
        ("GET", "/faults", controls.faults),
        ("POST", "/faults", controls.add_fault),
        ("DELETE", "/faults", controls.clear_faults),
        ("POST", "/preempt", controls.preempt),
        ("GET", "/clock", controls.clock),
        ("POST", "/clock", controls.advance),
        ("POST", "/market", controls.market),
        ("POST", "/reset", controls.reset),
    )
    return [Route(path, _guarded(handler), methods=[method]) for method, path, handler in table]


def _guarded(
    handler: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    async def answered(request: Request) -> Response:
        try:
            return await handler(request)
        except BadInput as bad:
            error = {"code": "invalid", "field": bad.field, "message": str(bad)}
            return JSONResponse({"error": error}, bad.status)

    return answered


async def _body(request: Request, type_: type[T]) -> T:
    raw = await request.body()
    try:
        return msgspec.json.decode(raw, type=type_)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$.")
        field = path.rstrip("`")
        if not field and "`" in problem:
            field = problem.split("`")[-2]
        raise BadInput(field, f"{field}: {problem}" if field else problem) from None
    except msgspec.DecodeError as error:
        raise BadInput("", f"the body is not JSON: {error}", 400) from None


class _Controls:
    """Handlers; see contract/sandbox-v1."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def _cloud(self, name: str) -> Cloud:
        cloud = self._sandbox.clouds.get(name)
        if cloud is None:
            known = ", ".join(self._sandbox.clouds)
            raise BadInput("provider", f"provider: there is no {name!r} here, only {known}")
        return cloud

    async def status(self, _: Request) -> Response:
        return JSONResponse(self._sandbox.status())

    async def providers(self, _: Request) -> Response:
        sandbox = self._sandbox
        return JSONResponse(
            {
                name: {
                    "base_url": sandbox.url(name),
                    "env": sandbox.env(name),
                    "protocol": EMULATORS[name].protocol if name in EMULATORS else "rest",
                }
                for name in sandbox.clouds
            }
        )

    async def machines(self, _: Request) -> Response:
        now = self._sandbox.clock.now()
        return JSONResponse(
            [
                machine_json(cloud, machine, now)
                for cloud in self._sandbox.clouds.values()
                for machine in cloud.machines.values()
            ]
        )

    async def resources(self, _: Request) -> Response:
        now = self._sandbox.clock.now()
        return JSONResponse(
            [
                thing_json(thing, now)
                for cloud in self._sandbox.clouds.values()
                for thing in cloud.things.values()
            ]
        )

    async def requests(self, request: Request) -> Response:
        wanted = request.query_params.get("provider")
        if wanted is not None:
            self._cloud(wanted)
        rows = [r for r in self._sandbox.requests if wanted in (None, r.provider)]
        return JSONResponse(msgspec.to_builtins(rows))

    async def faults(self, _: Request) -> Response:
        clouds = self._sandbox.clouds.values()
        return JSONResponse([msgspec.to_builtins(f) for c in clouds for f in c.faults.active])

    async def add_fault(self, request: Request) -> Response:
        wanted = await _body(request, FaultWanted)
        cloud = self._cloud(wanted.provider)
        possible = APPLIES_TO.get(wanted.kind)
        if possible and wanted.operation not in (*possible, "*"):
            words = ", ".join(sorted(possible))
            raise BadInput("operation", f"operation: {wanted.kind} befalls only {words} (or *)")
        fault = Fault(
            id=f"fault-{cloud.number('fault')}",
            provider=wanted.provider,
            operation=wanted.operation,
            kind=wanted.kind,
            times=wanted.times,
            probability=wanted.probability,
            delay_s=wanted.delay_s,
        )
        cloud.faults.active.append(fault)
        cloud.save_faults()
        cloud.commit()
        return JSONResponse({"id": fault.id}, 201)

    async def clear_faults(self, _: Request) -> Response:
        cleared = 0
        for cloud in self._sandbox.clouds.values():
            gone, cloud.faults.active = cloud.faults.active, []
            cloud.save_faults(dropped=gone)
            cloud.commit()
            cleared += len(gone)
        return JSONResponse({"cleared": cleared})

    async def preempt(self, request: Request) -> Response:
        wanted = await _body(request, PreemptWanted)
        cloud = self._cloud(wanted.provider)
        machine = cloud.machines.get(wanted.provider_id)
        if machine is None:
            raise BadInput("provider_id", f"provider_id: no machine {wanted.provider_id!r}", 404)
        if not machine.is_spot or not machine.holds_slot:
            kind = "spot" if machine.is_spot else "on-demand"
            raise BadInput("provider_id", f"provider_id: a {machine.state} {kind} machine", 409)
        await cloud.preempt(machine)
        cloud.commit()
        return JSONResponse(machine_json(cloud, machine, self._sandbox.clock.now()))

    async def clock(self, _: Request) -> Response:
        clock = self._sandbox.clock
        return JSONResponse(
            {"now": iso(clock.now()), "offset_s": clock.offset_s, "speed": clock.speed}
        )

    async def advance(self, request: Request) -> Response:
        wanted = await _body(request, AdvanceWanted)
        self._sandbox.clock.advance(wanted.advance_s)
        self._sandbox.save_clock()
        await self._sandbox.settle()
        return await self.clock(request)

    async def market(self, request: Request) -> Response:
        wanted = await _body(request, MarketWanted)
        cloud = self._cloud(wanted.provider)
        models = cloud.stock.models(wanted.gpu_model)
        if not models:
            raise BadInput("gpu_model", f"gpu_model: {wanted.provider} has no {wanted.gpu_model!r}")
        for model in models:
            push = cloud.stock.pushes.setdefault(model, Push())
            if wanted.price_factor is not None:
                push.price_factor = wanted.price_factor
            if wanted.available is not None:
                push.available = _slots_left(wanted.available)
        cloud.save_market()
        await cloud.check_market(self._sandbox.clock.now())
        cloud.commit()
        return JSONResponse({"gpu_models": models})

    async def reset(self, _: Request) -> Response:
        for cloud in self._sandbox.clouds.values():
            await cloud.reset()
        self._sandbox.requests.clear()
        return JSONResponse({"reset": True})


def _slots_left(available: bool | int) -> int | None:
    if available is True:
        return None
    return int(available)


def machine_json(cloud: Cloud, machine: Machine, now: float) -> dict[str, Any]:
    """A machine as the contract shows it."""
    accrued = machine.ledger.cost(now)
    return {
        "provider": machine.provider,
        "provider_id": machine.id,
        "account": machine.account,
        "name": machine.order.name,
        "label": machine.label,
        "state": machine.state,
        "billed": machine.billed,
        "billed_for": [line.component for line in machine.ledger.running],
        "created_at": iso(machine.created_at),
        "ended_at": None if machine.ended_at is None else iso(machine.ended_at),
        "accrued_usd": usd(accrued),
        "accrued_nanos": accrued,
        "price_per_hour": usd(machine.price),
        "gpu_model": machine.gpu,
        "gpu_count": cloud.slot(machine).gpu_count,
        "address": machine.address or None,
        "ssh": {"host": machine.ssh_host, "port": machine.ssh_port} if machine.ssh_port else None,
    }


def thing_json(thing: Thing, now: float) -> dict[str, Any]:
    """What is no machine, in the same form."""
    accrued = thing.ledger.cost(now)
    return {
        "provider": thing.provider,
        "kind": thing.kind,
        "provider_id": thing.id,
        "account": thing.account,
        "name": thing.name,
        "label": "",
        "state": thing.state,
        "billed": thing.ledger.rate > 0,
        "created_at": iso(thing.created_at),
        "ended_at": None if thing.ended_at is None else iso(thing.ended_at),
        "accrued_usd": usd(accrued),
        "accrued_nanos": accrued,
        "price_per_hour": usd(thing.ledger.rate),
    }
