"""Thunder Compute's instances: listed, changed, deleted. There is no call for just one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.thunder_compute.catalog import INCLUDED_GB, memory_gib, rate
from gpubroker.sandbox.emulators.thunder_compute.words import (
    check_query,
    invalid,
    moment,
    no_body,
    read_body,
    refusal,
)
from gpubroker.sandbox.rented import Machine

PROVISIONING_S = 1.0
"""So long nothing of a new instance exists yet."""
SNAPPING_S = 20.0
"""So long an instance is busy with its snapshot."""
DELETING_S = 2.0
"""So long an instance that was deleted is listed."""
SSH_PORT = 22
_Port = Annotated[int, Meta(ge=1, le=65535)]


class Modify(Struct, forbid_unknown_fields=True):
    """Body of POST instances/{id}/modify."""

    cpu_cores: int | None = None
    disk_size_gb: int | None = None
    gpu_type: str | None = None
    num_gpus: int | None = None
    mode: Literal["prototyping", "production"] | None = None
    add_ports: list[_Port] = []
    remove_ports: list[_Port] = []

    @property
    def changes_hardware(self) -> bool:
        """Whether it asks for more than disk and ports."""
        return any(
            part is not None for part in (self.cpu_cores, self.gpu_type, self.num_gpus, self.mode)
        )


def _listed(cloud: Cloud, account: str, now: float) -> list[Machine]:
    """The account's; their places here are their numbers, until one of them is gone."""
    return [
        machine
        for machine in cloud.owned(account)
        if machine.ended_at is None or now - machine.ended_at < DELETING_S
    ]


def number_of(cloud: Cloud, machine: Machine, now: float) -> int:
    """The number that an instance has now."""
    return _listed(cloud, machine.account, now).index(machine)


def by_id(cloud: Cloud, call: Call, id_: str) -> Machine:
    """The account's, by number or UUID, or the refusal."""
    for number, machine in enumerate(_listed(cloud, call.owner.name, call.now)):
        if id_ in (str(number), machine.id):
            return machine
    raise refusal(404, "instance not found")


def found(cloud: Cloud, call: Call) -> Machine:
    """Likewise, as the path says."""
    return by_id(cloud, call, call.ids[0])


def status_of(machine: Machine, now: float) -> str:
    """In the vendor's words."""
    if machine.ended:
        return "DELETING"
    if machine.state == State.PENDING:
        return _status_of_new(machine, now)
    if machine.state == State.RUNNING:
        return "SNAPPING" if now - machine.wire["snapped_at"] < SNAPPING_S else "RUNNING"
    return "FAILED" if machine.state == State.FAILED and not machine.exited else "STOPPED"


def _status_of_new(machine: Machine, now: float) -> str:
    if "stuck_pending" in machine.trouble:
        return "PENDING"
    if machine.wire["snapshot"]:
        return "RESTORING"
    return "PROVISIONING" if now - machine.created_at < PROVISIONING_S else "STARTING"


def _gpu_type(cloud: Cloud, gpu: str) -> str:
    slots = cloud.stock.slots.values()
    return next(str(slot.facts["gpu_type"]) for slot in slots if slot.gpu == gpu)


def instance_json(cloud: Cloud, machine: Machine, now: float) -> dict[str, Any]:
    """An instance: its numbers are texts. The address is empty before it has one."""
    order, slot = machine.order, cloud.slot(machine)
    reached = machine.state == State.RUNNING and machine.host_key
    return {
        "uuid": machine.id,
        "name": order.name,
        "status": status_of(machine, now),
        "ip": machine.ssh_host if reached else "",
        "port": machine.ssh_port if reached else 0,
        "cpuCores": str(order.vcpus),
        "memory": str(memory_gib(slot, order.vcpus or 0)),
        "storage": int(order.disk_gb),
        "gpuType": _gpu_type(cloud, machine.gpu).upper(),
        "numGpus": str(slot.gpu_count),
        "mode": slot.facts["mode"],
        "template": machine.wire["template"],
        "httpPorts": machine.wire["http_ports"],
        "sshPublicKeys": list(machine.keys),
        "createdAt": moment(machine.created_at),
        "provisioningTime": moment(machine.created_at + PROVISIONING_S),
        "k8s": True,
        "promoted": False,
    }


async def list_all(api: Emulator, call: Call) -> Response:
    """GET instances/list: by number."""
    query = check_query(call, ("update_ips",))
    if query.get("update_ips") not in (None, "true", "false"):
        raise invalid("update_ips must be true or false")
    cloud, faults = api.cloud, api.cloud.faults
    lag = faults.take("list", "list_lag")
    rows = [
        (number, instance_json(cloud, machine, call.now))
        for number, machine in enumerate(_listed(cloud, call.owner.name, call.now))
        if machine.hidden_until <= call.now
        and not (lag and call.now - machine.created_at < lag.delay_s)
    ]
    if faults.take("list", "duplicate_list"):
        rows += [(len(rows) + number, row) for number, row in rows]
    if faults.take("list", "list_partial"):
        rows = rows[: len(rows) // 2]
    return answer({str(number): row for number, row in rows})


async def delete(api: Emulator, call: Call) -> Response:
    """POST instances/{id}/delete: the snapshots stay."""
    no_body(call)
    await api.cloud.terminate(found(api.cloud, call))
    return answer({"message": "Success"})


async def modify(api: Emulator, call: Call) -> Response:
    """POST instances/{id}/modify: ports, and a larger disk; the rest is switched off."""
    body = read_body(call, Modify)
    cloud, machine = api.cloud, found(api.cloud, call)
    if status_of(machine, call.now) != "RUNNING":
        raise refusal(409, "the instance is not running")
    if body.changes_hardware:
        raise refusal(400, "modifying this is temporarily disabled", "temporarily_disabled")
    if SSH_PORT in (*body.add_ports, *body.remove_ports):
        raise invalid("port 22 is reserved")
    if body.disk_size_gb is not None:
        _grow(cloud, machine, body.disk_size_gb, call.now)
    ports = {*machine.wire["http_ports"], *body.add_ports} - {*body.remove_ports}
    machine.wire["http_ports"] = sorted(ports)
    cloud.save(machine)
    return answer(
        {
            "identifier": str(number_of(cloud, machine, call.now)),
            "instance_name": machine.order.name,
            "http_ports": machine.wire["http_ports"],
        }
    )


def _grow(cloud: Cloud, machine: Machine, gb: int, now: float) -> None:
    slot = cloud.slot(machine)
    if not max(INCLUDED_GB, machine.order.disk_gb) <= gb <= slot.disk_max_gb:
        raise invalid("disk size can only be increased, up to what the spec allows")
    vcpus = machine.order.vcpus or 0
    before = rate(cloud, slot, vcpus, int(machine.order.disk_gb), now)
    cloud.resize_disk(machine, gb=gb, kept_gb=gb)
    machine.gpu_rate = type(before)(machine.gpu_rate + rate(cloud, slot, vcpus, gb, now) - before)
    machine.ledger.open("gpu", machine.gpu_rate, now)
