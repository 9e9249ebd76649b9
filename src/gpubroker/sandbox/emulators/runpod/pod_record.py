"""A pod as REST v2 shows it."""

from __future__ import annotations

from typing import Any

from gpubroker.model.money import usd
from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.runpod.pod import SSH, exited, host_id, open_ports, shown_rate
from gpubroker.sandbox.emulators.runpod.sheet import sheet
from gpubroker.sandbox.emulators.runpod.words import moment
from gpubroker.sandbox.rented import Machine

PROXY = "ssh.runpod.io"
ACTIONS: dict[str, tuple[str, ...]] = {
    "RUNNING": ("stop", "restart", "terminate"),
    "EXITED": ("start", "terminate"),
    "ERROR": ("start", "terminate"),
    "PROVISIONING": ("stop", "terminate"),
    "STARTING": ("stop", "terminate"),
}
_LOCKED_OUT = ("stop", "restart")


def status(cloud: Cloud, machine: Machine, now: float) -> str:
    """The vendor's word for its state: allocated in the first half of a boot, starting then."""
    if exited(machine):
        return "EXITED"
    if machine.state == State.RUNNING:
        return "RUNNING"
    if machine.state == State.FAILED:
        return "ERROR"
    booting = machine.due_at is not None and machine.due_at - now <= cloud.facts.boot_s / 2
    return "STARTING" if booting else "PROVISIONING"


def actions(machine: Machine, word: str) -> list[str]:
    """What can be done to it in that state; a lock takes away what would stop or reset it."""
    locked = _LOCKED_OUT if machine.wire["locked"] else ()
    return [action for action in ACTIONS[word] if action not in locked]


def _ssh_endpoint(host: str, port: int, user: str) -> dict[str, Any]:
    command = f"ssh {user}@{host}" + ("" if port == SSH else f" -p {port}")
    return {"host": host, "port": port, "username": user, "command": command}


def _direct(ports: list[dict[str, Any]]) -> dict[str, Any] | None:
    for port in ports:
        if (port["private"], port["type"]) == (SSH, "tcp") and port["public"] is not None:
            return _ssh_endpoint(port["ip"], port["public"], "root")
    return None


def _mounts(machine: Machine) -> dict[str, Any]:
    wire = machine.wire
    if wire["network_volume"] is not None:
        return {"network": [{"volumeId": wire["network_volume"], "path": wire["volume_path"]}]}
    if wire["volume_gb"]:
        return {"persistent": {"size": wire["volume_gb"], "path": wire["volume_path"]}}
    return {}


def _compute(cloud: Cloud, machine: Machine) -> dict[str, Any]:
    slot = cloud.slot(machine)
    if sheet().flavor(slot.gpu) is not None:
        memory = slot.ram_mb // 1000
        return {"cpu": {"id": slot.gpu, "vcpuCount": int(slot.vcpus), "memory": memory}}
    return {"gpu": {"id": machine.gpu, "count": slot.gpu_count}}


def _global_networking(machine: Machine) -> dict[str, Any]:
    if not machine.wire["global_networking"]:
        return {"enabled": False}
    return {"enabled": True, "internalDns": f"{machine.id}.runpod.internal"}


def pod_json(cloud: Cloud, machine: Machine, now: float) -> dict[str, Any]:
    """The whole record."""
    slot, wire = cloud.slot(machine), machine.wire
    word, ports, since = status(cloud, machine, now), open_ports(machine), machine.running_since
    user = host_id(machine)
    runtime = None
    if word == "RUNNING":
        gpus = [{"util": 0, "memoryUtil": 0}] * slot.gpu_count
        runtime = {
            "uptime": max(0, int(now - (since or now))),
            "gpus": gpus,
            "cpu": {"util": 0},
            "memory": {"util": 1},
            "ports": ports,
        }
    return {
        "id": machine.id,
        "name": machine.order.name,
        "status": word,
        "actions": actions(machine, word),
        "image": machine.order.image,
        "args": wire["args"],
        "disk": wire["container_gb"],
        "ports": wire["ports"],
        "env": wire["env"],
        "registry": wire["registry"],
        "mounts": _mounts(machine),
        **_compute(cloud, machine),
        "cloud": slot.facts["cloud"],
        "dataCenterId": slot.facts["data_center"],
        "cudaVersion": slot.cuda_version if slot.gpu_count else None,
        "ssh": {"proxy": _ssh_endpoint(PROXY, SSH, user), "direct": _direct(ports)},
        "template": None,
        "cost": usd(shown_rate(machine)),
        "locked": wire["locked"],
        "globalNetworking": _global_networking(machine),
        "runtime": runtime,
        "createdAt": moment(machine.created_at),
        "startedAt": None if since is None else moment(since),
    }
