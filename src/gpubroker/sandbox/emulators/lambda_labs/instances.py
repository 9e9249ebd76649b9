"""Lambda's instances: looked at, renamed, restarted, terminated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.responses import Response

from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator
from gpubroker.sandbox.emulators.lambda_labs.catalog import type_json
from gpubroker.sandbox.emulators.lambda_labs.words import (
    INVALID,
    UNKNOWN,
    Named,
    check_query,
    read_body,
    refusal,
    region_json,
    success,
)
from gpubroker.sandbox.rented import Machine

UNLAUNCHED_S = 1.0
"""So long there is no VM yet that could be terminated."""
TERMINATING_S = 15.0
"""So long an instance that was ended is listed."""
REMEMBERED_S = 120.0
"""So long it is found by its id."""
_STATUS = {State.PENDING: "booting", State.RUNNING: "active", State.FAILED: "unhealthy"}
_WHY = {
    "vm-has-not-launched": "The instance has not launched yet.",
    "vm-is-too-old": "The instance is too old for this operation.",
    "vm-is-terminating": "The instance is being terminated.",
}


class Rename(Struct, forbid_unknown_fields=True):
    """Body of POST instances/{id}."""

    name: Named | UnsetType = UNSET


class Ids(Struct, forbid_unknown_fields=True):
    """Body of restart and terminate."""

    instance_ids: Annotated[list[str], Meta(min_length=1)]


def status_of(machine: Machine, now: float) -> str:
    """In the vendor's words."""
    if machine.ended_at is None:
        return _STATUS.get(machine.state, "unhealthy")
    return "terminating" if now - machine.ended_at < TERMINATING_S else "terminated"


def _blocked(machine: Machine, now: float) -> dict[str, str]:
    """Operations that cannot be done now, and why."""
    if machine.ended_at is not None:
        return dict.fromkeys(
            ("migrate", "rebuild", "restart", "cold_reboot", "terminate"), "vm-is-terminating"
        )
    blocked = dict.fromkeys(("migrate", "rebuild"), "vm-is-too-old")
    if machine.state == State.PENDING:
        blocked |= dict.fromkeys(("restart", "cold_reboot"), "vm-has-not-launched")
        if not machine.booting_again and now - machine.created_at < UNLAUNCHED_S:
            blocked["terminate"] = "vm-has-not-launched"
    return blocked


def _actions(machine: Machine, now: float) -> dict[str, Any]:
    blocked = _blocked(machine, now)
    shown: dict[str, Any] = {}
    for action in ("migrate", "rebuild", "restart", "cold_reboot", "terminate"):
        shown[action] = {"available": action not in blocked}
        if why := blocked.get(action):
            shown[action] |= {"reason_code": why, "reason_description": _WHY[why]}
    return shown


def instance_json(cloud: Cloud, machine: Machine, now: float) -> dict[str, Any]:
    """An instance; what is known only after its boot is not there before."""
    wire, slot = machine.wire, cloud.slot(machine)
    row: dict[str, Any] = {
        "id": machine.id,
        "status": status_of(machine, now),
        "ssh_key_names": wire["ssh_key_names"],
        "file_system_names": wire["file_system_names"],
        "region": region_json(slot.place),
        "instance_type": type_json(slot, machine.gpu_rate),
        "actions": _actions(machine, now),
        "tags": wire["tags"],
        "firewall_rulesets": [{"id": id_} for id_ in wire["firewall_rulesets"]],
    }
    if wire["file_system_mounts"]:
        row["file_system_mounts"] = wire["file_system_mounts"]
    if machine.state == State.PENDING and not machine.booting_again:
        return row
    if machine.label:
        row["name"] = machine.label
    if machine.address:
        token = wire["jupyter_token"]
        row |= {
            "ip": machine.address,
            "private_ip": wire["private_ip"],
            "hostname": machine.order.hostname or machine.address.replace(".", "-"),
            "jupyter_token": token,
            "jupyter_url": f"https://jupyter-{machine.id}.lambdaspaces.com/?token={token}",
        }
    return row


def _found(cloud: Cloud, call: Call, id_: str, *, remembered_s: float) -> Machine:
    machine = cloud.machines.get(id_)
    if (
        machine is None
        or machine.account != call.owner.name
        or (machine.ended_at is not None and call.now - machine.ended_at >= remembered_s)
    ):
        raise refusal(404, UNKNOWN)
    return machine


async def list_all(api: Emulator, call: Call) -> Response:
    """GET instances: all at once, those that are ending for a while."""
    query = check_query(call, ("cluster_id",))
    faults = api.cloud.faults
    lag = faults.take("list", "list_lag")
    rows = [
        instance_json(api.cloud, machine, call.now)
        for machine in api.cloud.owned(call.owner.name)
        if status_of(machine, call.now) != "terminated"
        and machine.hidden_until <= call.now
        and not (lag and call.now - machine.created_at < lag.delay_s)
        and "cluster_id" not in query
    ]
    if faults.take("list", "duplicate_list"):
        rows = [row for row in rows for _ in range(2)]
    if faults.take("list", "list_partial"):
        rows = rows[: len(rows) // 2]
    return success(rows)


async def show(api: Emulator, call: Call) -> Response:
    """GET instances/{id}."""
    check_query(call)
    machine = _found(api.cloud, call, call.ids[0], remembered_s=REMEMBERED_S)
    return success(instance_json(api.cloud, machine, call.now))


async def rename(api: Emulator, call: Call) -> Response:
    """POST instances/{id}."""
    body = read_body(call, Rename)
    machine = _found(api.cloud, call, call.ids[0], remembered_s=TERMINATING_S)
    if body.name is not UNSET:
        machine.label = body.name
        api.cloud.save(machine)
    return success(instance_json(api.cloud, machine, call.now))


def _all(
    cloud: Cloud, call: Call, action: str, act: Callable[[Machine], None] | None = None
) -> list[Machine]:
    """Every one named, or the refusal of the whole call."""
    ids = dict.fromkeys(read_body(call, Ids).instance_ids)
    machines = [_found(cloud, call, id_, remembered_s=TERMINATING_S) for id_ in ids]
    for machine in machines:
        if why := _blocked(machine, call.now).get(action):
            raise refusal(400, INVALID, f"{machine.id}: {why}: {_WHY[why]}")
    for machine in machines:
        if act is not None:
            act(machine)
    return machines


async def restart(api: Emulator, call: Call) -> Response:
    """POST instance-operations/restart."""
    machines = _all(api.cloud, call, "restart", api.cloud.reboot)
    rows = [instance_json(api.cloud, machine, call.now) for machine in machines]
    return success({"restarted_instances": rows})


async def terminate(api: Emulator, call: Call) -> Response:
    """POST instance-operations/terminate."""
    machines = _all(api.cloud, call, "terminate")
    rows = []
    for machine in machines:
        await api.cloud.terminate(machine)
        row = instance_json(api.cloud, machine, call.now)
        rows.append(row | {"status": "terminating"})
    return success({"terminated_instances": rows})
