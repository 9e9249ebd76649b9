"""Shadeform's instances: looked at, changed, restarted, deleted. None can be stopped."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType
from starlette.responses import Response

from gpubroker.model.money import Nanos
from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.shadeform.catalog import (
    boot_time,
    cents,
    configuration,
    dollars,
    rental_type,
)
from gpubroker.sandbox.emulators.shadeform.create import deadline
from gpubroker.sandbox.emulators.shadeform.words import (
    Name,
    Tag,
    Threshold,
    check_query,
    cost_text,
    done,
    kept,
    moment,
    no_body,
    not_found,
    read_body,
    refusal,
    stable_id,
)
from gpubroker.sandbox.rented import Machine

QUEUED_S = 1.0
"""So long the order has not been sent to the cloud."""
SETUP_S = 1.0
"""So long Shadeform sets up what the cloud has booted."""
DELETING_S = 3.0
"""So long an instance that was deleted is listed."""
PREEMPTED_S = 3600.0
"""So long one that was taken away tells so."""
_DETAILS = {
    "creating": "",
    "pending_provider": "Instance created, waiting on provider to spin up instance",
    "pending": "Setting up instance",
    "active": "",
    "error": "The provider could not start the instance",
    "deleting": "",
    "deleted": "",
}
_ONLY_IN_INFO = ("ssh_key_id", "volume_ids", "envs", "auto_delete", "alert", "volume_mount")


class Update(Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of POST instances/{id}/update: null deletes, what is left out stays."""

    name: Name | UnsetType = UNSET
    tags: list[Tag] | UnsetType | None = UNSET
    auto_delete: Threshold | UnsetType | None = UNSET
    alert: Threshold | UnsetType | None = UNSET


def _gone_at(machine: Machine) -> float | None:
    """When it was deleted or taken away."""
    if machine.state != State.PREEMPTED:
        return machine.ended_at
    return max((line.end or 0 for line in machine.ledger.lines), default=0) or machine.created_at


def status_of(machine: Machine, now: float) -> str:
    """In the vendor's words."""
    gone_at = _gone_at(machine)
    if gone_at is not None:
        return "deleting" if now - gone_at < DELETING_S else "deleted"
    if machine.booting_again:
        return "active"
    if machine.state == State.PENDING:
        return "creating" if now - machine.created_at < QUEUED_S else "pending_provider"
    if machine.state == State.RUNNING:
        ready = machine.address and now - (machine.running_since or now) >= SETUP_S
        return "active" if ready else "pending"
    return "error"


def _address(machine: Machine) -> tuple[str | None, int | None]:
    """Its own with the usual port, or its host's with another one."""
    if not machine.address:
        return None, None
    if machine.order.is_vm and machine.order.own_address:
        return machine.address, 22
    return machine.ssh_host, machine.ssh_port


def _details(machine: Machine, status: str) -> str:
    if machine.state == State.PREEMPTED:
        return "preempted"
    return machine.reason or _DETAILS[status] if status == "error" else _DETAILS[status]


def instance_json(cloud: Cloud, machine: Machine, now: float) -> dict[str, Any]:
    """As the info has it; what is not known yet is null."""
    wire, slot = machine.wire, cloud.slot(machine)
    status, (ip, port) = status_of(machine, now), _address(machine)
    parts = configuration(slot)
    if machine.gpu != slot.gpu:
        parts["gpu_type"] = machine.gpu
    row = {
        "id": machine.id,
        "cloud": slot.facts["cloud"],
        "region": slot.place,
        "shade_instance_type": slot.facts["type"],
        "cloud_instance_type": slot.facts["cloud_type"],
        "cloud_assigned_id": "" if status == "creating" else stable_id(machine.id, "assigned"),
        "shade_cloud": wire["shade_cloud"],
        "name": machine.label,
        "configuration": {**parts, "os": wire["os"]},
        "ip": ip,
        "ssh_user": machine.order.user,
        "ssh_port": port,
        "status": status,
        "status_details": _details(machine, status),
        "cost_estimate": cost_text(machine, now),
        "hourly_price": cents(machine.gpu_rate),
        "rental_terms": {
            "rental_type": rental_type(slot),
            "hourly_price": dollars(machine.gpu_rate),
            "ending_at": None,
        },
        "tags": wire["tags"],
        "port_mappings": [
            {"internal_port": int(name.partition("/")[0]), "external_port": outside}
            for name, outside in machine.published.items()
        ],
        "ssh_key_id": wire["ssh_key_id"],
        "volume_ids": wire["volume_ids"],
        "envs": wire["envs"],
        "auto_delete": wire["auto_delete"],
        "alert": wire["alert"],
        "active_at": moment(machine.running_since),
        "created_at": moment(machine.created_at),
        "deleted_at": moment(_gone_at(machine)),
        "boot_time": boot_time(slot),
    }
    for name in ("launch_configuration", "volume_mount"):
        if wire[name] is not None:
            row[name] = wire[name]
    return row


def found(cloud: Cloud, call: Call) -> Machine:
    """By the path's id, or the refusal: of what is deleted only a loss is told, for a while."""
    machine = cloud.machines.get(call.ids[0])
    if machine is None or machine.account != call.owner.name:
        raise not_found("instance")
    gone_at = _gone_at(machine)
    told_s = PREEMPTED_S if machine.state == State.PREEMPTED else DELETING_S
    if gone_at is not None and call.now - gone_at >= told_s:
        raise not_found("instance")
    return machine


async def list_all(api: Emulator, call: Call) -> Response:
    """GET instances: all at once; what is being deleted too."""
    check_query(call)
    cloud, faults = api.cloud, api.cloud.faults
    lag = faults.take("list", "list_lag")
    rows = [
        {k: v for k, v in instance_json(cloud, one, call.now).items() if k not in _ONLY_IN_INFO}
        for one in cloud.owned(call.owner.name)
        if status_of(one, call.now) != "deleted"
        and one.hidden_until <= call.now
        and not (lag and call.now - one.created_at < lag.delay_s)
    ]
    if faults.take("list", "duplicate_list"):
        rows = [row for row in rows for _ in range(2)]
    if faults.take("list", "list_partial"):
        rows = rows[: len(rows) // 2]
    return answer({"instances": rows})


async def show(api: Emulator, call: Call) -> Response:
    """GET instances/{id}/info."""
    check_query(call)
    return answer(instance_json(api.cloud, found(api.cloud, call), call.now))


async def update(api: Emulator, call: Call) -> Response:
    """POST instances/{id}/update."""
    body = read_body(call, Update)
    cloud, machine = api.cloud, found(api.cloud, call)
    if body.auto_delete is not UNSET:
        spent = machine.ledger.cost(call.now)
        begin = call.now if machine.running_since else machine.created_at + cloud.facts.boot_s
        rate = Nanos(machine.gpu_rate)
        machine.ends_at = deadline(body.auto_delete, rate, begin, spent)
        machine.wire["auto_delete"] = kept(body.auto_delete) or {}
    if body.alert is not UNSET:
        machine.wire["alert"] = kept(body.alert) or {}
    if body.tags is not UNSET:
        machine.wire["tags"] = msgspec.to_builtins(body.tags or [])
    if body.name is not UNSET:
        machine.label = body.name
    cloud.save(machine)
    return done()


async def restart(api: Emulator, call: Call) -> Response:
    """POST instances/{id}/restart: it is told to be active all along."""
    no_body(call)
    machine = found(api.cloud, call)
    if status_of(machine, call.now) != "active":
        raise refusal("INVALID_STATUS", "only an active instance can be restarted")
    api.cloud.reboot(machine)
    return done()


async def delete(api: Emulator, call: Call) -> Response:
    """POST instances/{id}/delete: what is deleted already is told so again."""
    no_body(call)
    await api.cloud.terminate(found(api.cloud, call))
    return done()
