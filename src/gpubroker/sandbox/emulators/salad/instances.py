"""SaladCloud's instances: which computers a group runs on, and what can be done to one."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.salad.actions import move
from gpubroker.sandbox.emulators.salad.bodies import InstancePatch
from gpubroker.sandbox.emulators.salad.events import note
from gpubroker.sandbox.emulators.salad.groups import instances_of, the_group
from gpubroker.sandbox.emulators.salad.phases import CREATING, phase_of, share
from gpubroker.sandbox.emulators.salad.words import (
    MERGE_PATCH,
    moment,
    no_body,
    no_query,
    not_found,
    read_body,
)
from gpubroker.sandbox.rented import Machine

_SLEEPY_CPU, _SLEEPY_RAM_MB = 3.0, 512.0


def fingerprint(host_key: str) -> str:
    """As ssh prints it."""
    blob = host_key.split()[1]
    digest = hashlib.sha256(base64.b64decode(blob + "=" * (-len(blob) % 4))).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _where(machine: Machine) -> dict[str, Any]:
    if not machine.ssh_port:
        return {}
    return {
        "ssh_ip": machine.ssh_host,
        "ssh_port": machine.ssh_port,
        "ssh_host_key_fingerprint": fingerprint(machine.host_key),
        "cpu_percent": _SLEEPY_CPU,
        "memory_usage_mb": _SLEEPY_RAM_MB,
    }


def instance_json(
    cloud: Cloud, group: Machine, machine: Machine, phase: str, now: float
) -> dict[str, Any]:
    """An instance; where it answers is told while it runs."""
    runs = phase in ("running", "stopping")
    told: dict[str, Any] = {
        "id": machine.wire["instance"],
        "machine_id": machine.wire["node"],
        "state": phase,
        "update_time": moment(machine.running_since if runs and machine.running_since else now),
        "version": group.wire["version"],
        "ready": phase == "running",
        "started": runs,
        "deletion_cost": machine.wire["deletion_cost"],
    }
    if phase == "downloading":
        whole = CREATING - 0.5
        told["pulling_progress"] = round((share(cloud, machine, now) - 0.5) / whole * 100, 1)
    return told | (_where(machine) if runs else {})


def rows(cloud: Cloud, group: Machine, now: float) -> list[tuple[Machine, dict[str, Any]]]:
    """The instances that there are; one that ended, or failed, is in no list."""
    return [
        (machine, instance_json(cloud, group, machine, phase, now))
        for machine in instances_of(cloud, group)
        if (phase := phase_of(cloud, machine, now))
    ]


async def list_all(api: Emulator, call: Call) -> Response:
    """GET instances."""
    no_query(call)
    group = the_group(api.cloud, call)
    return answer({"instances": [row for _, row in rows(api.cloud, group, call.now)]})


def _the_instance(cloud: Cloud, call: Call) -> tuple[Machine, Machine, dict[str, Any]]:
    group = the_group(cloud, call)
    for machine, row in rows(cloud, group, call.now):
        if row["id"] == call.ids[3]:
            return group, machine, row
    raise not_found(f"The instance '{call.ids[3]}' does not exist.")


async def show(api: Emulator, call: Call) -> Response:
    """GET instances/{id}: 202, of all things."""
    no_query(call)
    return answer(_the_instance(api.cloud, call)[2], 202)


async def update(api: Emulator, call: Call) -> Response:
    """PATCH instances/{id}: what it costs to delete it."""
    body = read_body(call, InstancePatch, MERGE_PATCH)
    _, machine, row = _the_instance(api.cloud, call)
    if body.deletion_cost is not None:
        machine.wire["deletion_cost"] = row["deletion_cost"] = body.deletion_cost
        api.cloud.save(machine)
    return answer(row)


async def reallocate(api: Emulator, call: Call) -> Response:
    """POST reallocate: to another computer."""
    no_body(call)
    group, machine, row = _the_instance(api.cloud, call)
    if row["state"] != "stopping":
        note(group, "Instance Reallocated by User", call.now, machine)
        await move(api.cloud, group, machine, call.now)
        api.cloud.save(group)
    return Response(status_code=202)


async def recreate(api: Emulator, call: Call) -> Response:
    """POST recreate: a new container on the same computer."""
    return await _again(api, call, "Instance Recreated", wipe=True)


async def restart(api: Emulator, call: Call) -> Response:
    """POST restart: the same container."""
    return await _again(api, call, "Instance Restarted", wipe=False)


async def _again(api: Emulator, call: Call, event: str, *, wipe: bool) -> Response:
    no_body(call)
    group, machine, row = _the_instance(api.cloud, call)
    if row["state"] == "running":
        note(group, event, call.now, machine)
        api.cloud.reboot(machine, wipe=wipe)
        machine.wire["boot_from"] = call.now - CREATING * api.cloud.facts.boot_s
        api.cloud.save(machine)
        api.cloud.save(group)
    return Response(status_code=202)
