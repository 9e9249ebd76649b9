"""Verda's instances: how they are looked at."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.verda.catalog import dollars, parts_json
from gpubroker.sandbox.emulators.verda.storage import attached, settle
from gpubroker.sandbox.emulators.verda.words import (
    check_query,
    invalid,
    is_id,
    moment,
    not_found,
)
from gpubroker.sandbox.rented import Machine

ORDERED_S = 1.0
"""So long nothing of it exists yet."""
DELETING_S = 3.0
"""So long an instance that was deleted is on its way."""
REMEMBERED_S = 3600.0
"""So long it is found by its id."""
UNMADE = ("ordered", "pending")
"""Statuses in which nothing of it has been made yet."""
STATUSES = (
    *UNMADE, "new", "provisioning", "validating", "running", "offline", "starting_hibernation",
    "hibernating", "restoring", "deleting", "discontinued", "notfound", "error", "no_capacity",
    "unknown",
)  # fmt: skip
_STATUS = {
    State.RUNNING: "running",
    State.STOPPED: "offline",
    State.PREEMPTED: "discontinued",
}


def status_of(machine: Machine, now: float) -> str:
    """In the vendor's words."""
    if machine.ended_at is not None:
        return _ending(now - machine.ended_at, hibernated=machine.wire["hibernated"])
    unreachable = machine.state == State.RUNNING and not machine.address
    if machine.state == State.PENDING or unreachable:
        if "stuck_pending" in machine.trouble:
            return "pending"
        return "ordered" if now - machine.created_at < ORDERED_S else "provisioning"
    if machine.state == State.FAILED:
        return "offline" if machine.exited else "error"
    return _STATUS.get(machine.state, "unknown")


def _ending(ago_s: float, *, hibernated: bool) -> str:
    if ago_s >= DELETING_S:
        return "discontinued"
    if hibernated:
        return "starting_hibernation" if ago_s < DELETING_S / 2 else "hibernating"
    return "deleting"


def instance_json(cloud: Cloud, machine: Machine, now: float) -> dict[str, Any]:
    """An instance; what its provisioning finds out is null before."""
    wire, order, slot = machine.wire, machine.order, cloud.slot(machine)
    status = status_of(machine, now)
    volumes = attached(cloud, machine)
    os_volume = next((volume for volume in volumes if volume.wire["is_os"]), None)
    size_gb = sum(volume.wire["size"] for volume in volumes)
    gone = status == "discontinued"
    return {
        "id": machine.id,
        "status": status,
        "ip": None if gone else machine.address or None,
        "created_at": moment(machine.created_at),
        "hostname": order.hostname,
        "description": machine.label,
        "location": slot.place,
        "instance_type": slot.facts["type"],
        "image": order.image,
        "os_name": wire["os_name"],
        **parts_json(slot, machine.gpu),
        "storage": {"description": f"{size_gb}GB NVMe"},
        "price_per_hour": dollars(machine.gpu_rate),
        "is_spot": machine.is_spot,
        "contract": wire["contract"],
        "pricing": wire["pricing"],
        "ssh_key_ids": wire["ssh_key_ids"],
        "startup_script_id": wire["startup_script_id"],
        "os_volume_id": os_volume.id if os_volume and status not in UNMADE else None,
        "volume_ids": [volume.id for volume in volumes],
        "jupyter_token": wire["jupyter_token"],
        "tags": wire["tags"],
    }


def owned_machine(cloud: Cloud, account: str, id_: str, now: float) -> Machine | None:
    """The account's, as long as it is remembered."""
    machine = cloud.machines.get(id_)
    if machine is None or machine.account != account:
        return None
    if machine.ended_at is not None and now - machine.ended_at >= REMEMBERED_S:
        return None
    return machine


def found(cloud: Cloud, call: Call, id_: str) -> Machine:
    """Or the refusal: a text that cannot be an id is an invalid request."""
    settle(cloud, call.owner.name, call.now)
    if not is_id(id_):
        raise invalid("Invalid instance id")
    machine = owned_machine(cloud, call.owner.name, id_, call.now)
    if machine is None:
        raise not_found("Instance not found")
    return machine


async def list_all(api: Emulator, call: Call) -> Response:
    """GET instances: all that are not gone, or those in a status."""
    wanted = check_query(call, ("status",)).get("status")
    if wanted is not None and wanted not in STATUSES:
        raise invalid("Invalid status")
    cloud, faults = api.cloud, api.cloud.faults
    settle(cloud, call.owner.name, call.now)
    lag = faults.take("list", "list_lag")
    rows = []
    for machine in cloud.owned(call.owner.name):
        status = status_of(machine, call.now)
        shown = status != "discontinued" if wanted is None else status == wanted
        unseen = machine.hidden_until > call.now or (
            lag is not None and call.now - machine.created_at < lag.delay_s
        )
        if shown and not unseen:
            rows.append(instance_json(cloud, machine, call.now))
    if faults.take("list", "duplicate_list"):
        rows = [row for row in rows for _ in range(2)]
    if faults.take("list", "list_partial"):
        rows = rows[: len(rows) // 2]
    return answer(rows)


async def show(api: Emulator, call: Call) -> Response:
    """GET instances/{id}: for an hour after its end too."""
    check_query(call)
    return answer(instance_json(api.cloud, found(api.cloud, call, call.ids[0]), call.now))
