"""Pods and volumes as RunPod's GraphQL shows them: all fields, of which a query takes its own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from gpubroker.model.money import usd
from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.runpod.pod import exited, host_id, open_ports, shown_rate
from gpubroker.sandbox.emulators.runpod.sheet import sheet
from gpubroker.sandbox.emulators.runpod.words import moment, vendor_id
from gpubroker.sandbox.rented import Machine, Thing


def _wanted_status(machine: Machine) -> str:
    """What is wanted of the pod: RUNNING from the create on; whether it runs, its runtime says."""
    if exited(machine):
        return "EXITED"
    return "DEAD" if machine.state == State.FAILED else "RUNNING"


def _last_change(machine: Machine) -> str:
    """What happened last, by whom, and when: the only place where a lost bid is told."""
    match machine.state:
        case State.PREEMPTED:
            what = "Outbid"
        case State.STOPPED:
            what = f"Exited by {'Runpod' if machine.reason else 'user'}"
        case State.FAILED:
            what = "Exited by Runpod"
        case _:
            what = "Rented by User"
    at = datetime.fromtimestamp(machine.ledger.lines[-1].start, UTC)
    return f"{what}: {at:%a %b %d %Y %H:%M:%S} GMT+0000 (Coordinated Universal Time)"


def pod_fields(cloud: Cloud, machine: Machine, now: float) -> dict[str, Any]:
    """A pod."""
    slot, wire, rate = cloud.slot(machine), machine.wire, usd(shown_rate(machine))
    uptime = max(0, int(now - (machine.running_since or now)))
    model = sheet().model(machine.gpu)
    name = model.name if model else None
    runs = machine.state == State.RUNNING
    return {
        "id": machine.id,
        "name": machine.order.name,
        "desiredStatus": _wanted_status(machine),
        "lastStatusChange": _last_change(machine),
        "createdAt": moment(machine.created_at),
        "imageName": machine.order.image,
        "dockerArgs": wire["args"],
        "env": [f"{key}={value}" for key, value in wire["env"].items()],
        "ports": ",".join(wire["ports"]) or None,
        "podType": "INTERRUPTABLE" if machine.is_spot else "RESERVED",
        "costPerHr": rate,
        "adjustedCostPerHr": rate,
        "gpuCount": slot.gpu_count,
        "vcpuCount": slot.vcpus,
        "memoryInGb": slot.ram_mb // 1000,
        "containerDiskInGb": wire["container_gb"],
        "volumeInGb": wire["volume_gb"],
        "volumeMountPath": wire["volume_path"],
        "networkVolumeId": wire["network_volume"],
        "uptimeSeconds": uptime if runs else 0,
        "locked": wire["locked"],
        "machineId": vendor_id("host", slot.home, 12),
        "machine": {
            "podHostId": host_id(machine),
            "gpuTypeId": machine.gpu if model else None,
            "gpuDisplayName": name,
            "dataCenterId": slot.facts["data_center"],
            "location": slot.facts["country"],
            "secureCloud": slot.facts["cloud"] == "SECURE",
            "supportPublicIp": slot.facts["public_ip"],
        },
        "runtime": {"uptimeInSeconds": uptime, "ports": _ports(machine)} if runs else None,
    }


def _ports(machine: Machine) -> list[dict[str, Any]]:
    return [
        {
            "ip": port["ip"],
            "isIpPublic": port["type"] == "tcp",
            "privatePort": port["private"],
            "publicPort": port["public"],
            "type": port["type"],
        }
        for port in open_ports(machine)
    ]


def volume_fields(volume: Thing) -> dict[str, Any]:
    """A network volume."""
    return {
        "id": volume.id,
        "name": volume.name,
        "size": volume.wire["size_gb"],
        "dataCenterId": volume.wire["data_center"],
    }
