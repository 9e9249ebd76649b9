"""Acme Cloud on loopback, from its (invented) API reference, without a look at the client."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import Struct, ValidationError, convert
from starlette.requests import Request
from starlette.responses import Response

from gpubroker.model.terms import State
from gpubroker.sandbox.app import Guest
from gpubroker.sandbox.cloud import NoSlot
from gpubroker.sandbox.emulators.base import Call, Emulator, Limit, Refusal, Route, answer
from gpubroker.sandbox.rented import Machine, Order
from gpubroker.sandbox.stock import CloudFacts, GpuFacts, SlotRow

CENT = 10_000_000
STATES = {State.PENDING: "starting", State.RUNNING: "up", State.FAILED: "broken"}


class Wanted(Struct, forbid_unknown_fields=True):
    """Body of POST machines."""

    name: str
    type: str
    image: str
    keys: tuple[str, ...]
    env: dict[str, str] = {}
    ports: tuple[str, ...] = ()
    script: str = ""
    delete_at: float | None = None


def refusal(status: int, error: str, message: str = "") -> Refusal:
    """Acme's form of a no."""
    return Refusal(answer({"error": error, "message": message}, status))


class AcmeEmulator(Emulator):
    """The API below /v1."""

    def key_of(self, request: Request) -> str | None:
        """A bearer token."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        return key if scheme == "Bearer" and key else None

    def refuse_no_key(self) -> Response:
        """As a bad one."""
        return self.refuse_key()

    def refuse_key(self, status: int | None = None) -> Response:
        """401."""
        return refusal(status or 401, "bad_key", "This key opens nothing.").response

    def refuse_path(self, method_exists: bool) -> Response:
        """Without words."""
        return answer({}, 405 if method_exists else 404)

    def refuse_json(self) -> Response:
        """400."""
        return refusal(400, "bad_request", "The body is no JSON.").response

    def rate_limited(self, limit: Limit | None) -> Response:
        """With Retry-After."""
        headers = {"retry-after": str(limit.interval_s if limit else 5)}
        return answer({"error": "slow_down"}, 429, headers)

    def server_error(self) -> Response:
        """500."""
        return answer({"error": "oops"}, 500)

    async def types(self, _call: Call) -> Response:
        """Everything that is sold."""
        stock = self.cloud.stock
        return answer({"types": [
            {
                "id": slot.key, "gpu": slot.gpu, "gpus": slot.gpu_count,
                "gpu_mib": self.cloud.gpu(slot.gpu).memory_mib, "price_cents": slot.price // CENT,
                "place": slot.place, "vcpus": int(slot.vcpus), "ram_gb": slot.ram_mb // 1000,
                "free": int(stock.free(slot)),
            }
            for slot in stock.slots.values()
        ]})  # fmt: skip

    async def whose(self, call: Call) -> Response:
        """The account."""
        return answer({"account": call.owner.name})

    async def create(self, call: Call) -> Response:
        """Makes one, or says why not."""
        try:
            wanted = convert(call.body, Wanted)
        except ValidationError as error:
            raise refusal(400, "bad_request", str(error)) from None
        if wanted.type not in self.cloud.stock.slots:
            raise refusal(400, "bad_request", "no such type")
        faults, owner = self.cloud.faults, call.owner.name
        if faults.take("create", "quota"):
            raise refusal(409, "quota_reached", "Ask for more.")
        living = {m.order.name for m in self.cloud.owned(owner) if not m.ended}
        if wanted.name in living:
            raise refusal(409, "name_taken")
        ports = tuple(
            (int(port), kind) for port, _, kind in (p.partition("/") for p in wanted.ports)
        )
        order = Order(
            slot=wanted.type, name=wanted.name, image=wanted.image, keys=wanted.keys,
            env=wanted.env, ports=ports, startup_script=wanted.script,
            ends_at=wanted.delete_at,
        )  # fmt: skip
        try:
            if faults.take("create", "no_capacity"):
                raise NoSlot(wanted.type)
            machine = self.cloud.create(owner, order, named=lambda number: f"box-{number:05d}")
        except NoSlot:
            raise refusal(409, "sold_out", "Somebody was faster.") from None
        return answer({"id": machine.id}, 201)

    async def every(self, call: Call) -> Response:
        """Of the account, without those that ended."""
        rows = [self._told(m) for m in self.cloud.owned(call.owner.name) if not m.ended]
        return answer(
            {"machines": rows * (2 if self.cloud.faults.take("list", "duplicate_list") else 1)}
        )

    async def one(self, call: Call) -> Response:
        """By its id."""
        return answer(self._told(self._machine(call)))

    async def delete(self, call: Call) -> Response:
        """For good."""
        await self.cloud.terminate(self._machine(call))
        return answer({}, 202)

    def _machine(self, call: Call) -> Machine:
        machine = self.cloud.machines.get(call.ids[0])
        if machine is None or machine.ended or machine.account != call.owner.name:
            raise refusal(404, "no_such_machine")
        return machine

    def _told(self, machine: Machine) -> dict[str, Any]:
        up, slot = machine.state is State.RUNNING, self.cloud.slot(machine)
        return {
            "id": machine.id, "name": machine.order.name,
            "state": STATES.get(machine.state, "broken"), "gpu": machine.gpu,
            "gpus": slot.gpu_count, "price_cents": slot.price // CENT,
            "image": machine.order.image, "ip": "127.0.0.1" if up else None,
            "ssh_port": machine.ssh_port if up else None,
            "ports": dict(machine.published) if up else {},
            "created": machine.created_at, "delete_at": machine.ends_at,
        }  # fmt: skip

    routes: ClassVar[tuple[Route, ...]] = (
        Route("GET", "/v1/types", "offers", types),
        Route("GET", "/v1/account", "account", whose),
        Route("POST", "/v1/machines", "create", create, Limit("launch", 5.0)),
        Route("GET", "/v1/machines", "list", every),
        Route("GET", "/v1/machines/{}", "get", one),
        Route("DELETE", "/v1/machines/{}", "terminate", delete),
    )


def _slot(key: str, gpu: str, count: int, price: float, place: str, quantity: int = 4) -> SlotRow:
    return SlotRow(
        key=key, gpu=gpu, gpu_count=count, price=price, place=place, quantity=quantity,
        vcpus=16.0 * count, ram_mb=64_000 * count, disk_max_gb=500,
    )  # fmt: skip


GUEST = Guest(
    AcmeEmulator,
    CloudFacts(
        price_swing=0,
        gpus=(
            GpuFacts(name="RTX 4090", memory_mib=24564, tool_name="NVIDIA GeForce RTX 4090"),
            GpuFacts(name="H100 SXM", memory_mib=81559, tool_name="NVIDIA H100 80GB HBM3"),
        ),
        slots=(
            _slot("small-de", "RTX 4090", 1, 0.59, "Germany"),
            _slot("small-us", "RTX 4090", 1, 0.61, "Texas, US"),
            _slot("large-us", "H100 SXM", 8, 19.92, "Texas, US"),
            _slot("large-de", "H100 SXM", 8, 20.40, "Germany", quantity=0),
        ),
    ),
)
