"""A droplet as DigitalOcean tells it: its status, what is being done to it, its record."""

from __future__ import annotations

import hashlib
from typing import Any

from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call
from gpubroker.sandbox.emulators.digitalocean.attachments import attached_ids
from gpubroker.sandbox.emulators.digitalocean.catalog import (
    disks_json,
    gpu_json,
    region_json,
    regions_of,
    size_json,
)
from gpubroker.sandbox.emulators.digitalocean.words import (
    PENDING_EVENT,
    moment,
    not_found,
    unprocessable,
    uuid_of,
)
from gpubroker.sandbox.rented import Machine, Thing

OFF_S = 2.0
"""So long a droplet takes to go off."""
SHORT_S = 1.0
"""So long other actions take."""
UNBORN_S = 1.0
"""So long after its create even a delete finds the create in its way."""
STARTING = ("power_on", "reboot", "power_cycle", "rebuild", "password_reset")
STOPPING = ("power_off", "shutdown")
_FIRST_ACTION = 2_400_000_001


# --- what is being done -------------------------------------------------------------------


def begin_action(
    cloud: Cloud, owner: Machine | Thing, type_: str, now: float, lasts_s: float
) -> dict[str, Any]:
    """A new action of a droplet or volume; it is kept with it."""
    action = {
        "id": cloud.number("action", _FIRST_ACTION),
        "type": type_,
        "at": now,
        "until": now + lasts_s,
    }
    owner.wire.setdefault("actions", []).append(action)
    cloud.save(owner)
    return action


def actions_of(owner: Machine | Thing) -> list[dict[str, Any]]:
    """Oldest first."""
    found: list[dict[str, Any]] = owner.wire.get("actions", [])
    return found


def action_status(owner: Machine | Thing, action: dict[str, Any], now: float) -> str:
    """In the vendor's words."""
    if now < action["until"]:
        return "in-progress"
    if isinstance(owner, Machine) and action["type"] == "create":
        if owner.state == State.PENDING and not owner.address:
            return "in-progress"
        if "boot_failure" in owner.trouble:
            return "errored"
    return "completed"


def action_json(
    cloud: Cloud, owner: Machine | Thing, action: dict[str, Any], now: float
) -> dict[str, Any]:
    """As everywhere."""
    is_droplet = isinstance(owner, Machine)
    place = cloud.slot(owner).place if isinstance(owner, Machine) else owner.wire["region"]
    status = action_status(owner, action, now)
    return {
        "id": action["id"],
        "status": status,
        "type": action["type"],
        "started_at": moment(action["at"]),
        "completed_at": None if status == "in-progress" else moment(action["until"]),
        "resource_id": int(owner.id) if is_droplet else None,
        "resource_type": "droplet" if is_droplet else "volume",
        "region": region_json(cloud, place),
        "region_slug": place,
    }


def busy(machine: Machine, now: float) -> bool:
    """Whether an action runs."""
    return any(action_status(machine, a, now) == "in-progress" for a in actions_of(machine))


def check_idle(machine: Machine, now: float) -> None:
    """One action at a time."""
    if busy(machine, now):
        raise unprocessable(PENDING_EVENT)


def check_can_end(machine: Machine, now: float) -> None:
    """A droplet that is just being made, or to which something else is done, cannot be deleted."""
    create, *later = actions_of(machine)
    if now - create["at"] < UNBORN_S or any(
        action_status(machine, action, now) == "in-progress" for action in later
    ):
        raise unprocessable(PENDING_EVENT)


# --- droplets -----------------------------------------------------------------------------


def gone(machine: Machine) -> bool:
    """A spot droplet that was taken away is destroyed, not stopped."""
    return machine.ended or machine.state == State.PREEMPTED


def living(cloud: Cloud, account: str) -> list[Machine]:
    """The account's droplets, oldest first."""
    return [machine for machine in cloud.owned(account) if not gone(machine)]


def droplet_of(cloud: Cloud, call: Call) -> Machine:
    """The one that the path names."""
    machine = cloud.machines.get(call.ids[0])
    if machine is None or machine.account != call.owner.name or gone(machine):
        raise not_found()
    return machine


def status_of(machine: Machine, now: float) -> str:
    """In the vendor's words."""
    last = actions_of(machine)[-1]
    match machine.state:
        case State.RUNNING:
            return "active"
        case State.PENDING | State.FAILED if not machine.address:
            return "new"
        case State.PENDING:
            return "off" if last["type"] == "power_on" else "active"
    if last["type"] in STOPPING and now < last["until"]:
        return "active"
    return "off"


def private_ip(machine_id: str) -> str:
    """In the account's network."""
    digest = hashlib.sha256(machine_id.encode()).digest()
    return f"10.116.{digest[0] % 16}.{digest[1] or 1}"


def default_vpc(account: str, region: str) -> str:
    """The account's network in a region."""
    return uuid_of(account, "vpc", region)


def _networks(machine: Machine) -> dict[str, Any]:
    """Nothing before the first boot."""
    if not machine.address:
        return {"v4": [], "v6": []}
    private = {
        "ip_address": private_ip(machine.id),
        "netmask": "255.255.240.0",
        "gateway": "10.116.0.1",
        "type": "private",
    }
    public = {
        "ip_address": machine.address,
        "netmask": "255.255.240.0",
        "gateway": "127.0.0.1",
        "type": "public",
    }
    shown = [private, public] if machine.wire["public_networking"] else [private]
    return {"v4": shown, "v6": []}


def droplet_json(cloud: Cloud, machine: Machine, now: float) -> dict[str, Any]:
    """As everywhere."""
    wire, slot = machine.wire, cloud.slot(machine)
    size = slot.facts["size"]
    row = {
        "id": int(machine.id),
        "name": machine.label,
        "memory": slot.ram_mb,
        "vcpus": int(slot.vcpus),
        "disk": int(slot.disk_max_gb),
        "disk_info": disks_json(slot),
        "locked": busy(machine, now),
        "status": status_of(machine, now),
        "kernel": None,
        "created_at": moment(machine.created_at),
        "features": wire["features"],
        "backup_ids": [],
        "next_backup_window": None,
        "snapshot_ids": wire["snapshot_ids"],
        "image": wire["image"],
        "volume_ids": attached_ids(cloud, machine),
        "size": size_json(cloud, slot, machine.gpu_rate, regions_of(cloud, size)),
        "size_slug": size,
        "networks": _networks(machine),
        "region": region_json(cloud, slot.place),
        "tags": wire["tags"],
        "vpc_uuid": wire["vpc_uuid"],
    }
    if slot.gpu_count:
        row["gpu_info"] = gpu_json(cloud, machine.gpu, slot.gpu_count)
    return row
