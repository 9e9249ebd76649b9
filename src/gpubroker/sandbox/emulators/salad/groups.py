"""SaladCloud's container groups: how they are found, and how they are told.

A group of one instance is one machine of the sandbox, called by the group's name and its id, since
names come round again; each further instance is a machine beside it. What the customer asked for
is the first one's `wire["record"]`.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from starlette.responses import Response

from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.salad.phases import phase_of, preparing
from gpubroker.sandbox.emulators.salad.words import NAME, moment, no_query, not_found
from gpubroker.sandbox.rented import Machine

DOMAIN = "salad.cloud"
MOST_LISTED = 100
_WORDS = ("romaine", "caesar", "radish", "fennel", "spinach", "cucumber", "endive", "avocado")
_COUNTS = ("allocating", "creating", "running", "stopping")
_COUNTED_AS = {"downloading": "creating"}


def organization(call: Call) -> str:
    """A customer belongs to every organization that he names, as long as it can be one."""
    name = call.ids[0]
    if not re.fullmatch(NAME, name):
        raise not_found(f"The organization '{name}' does not exist.")
    return name


def project(call: Call) -> tuple[str, str]:
    """Organization and project; they are made in the portal only, and all are there."""
    name = call.ids[1]
    if not re.fullmatch(NAME, name):
        raise not_found(f"The project '{name}' does not exist.")
    return organization(call), name


def groups_of(
    cloud: Cloud, account: str, organization_name: str, project_name: str = ""
) -> list[Machine]:
    """The first machines of an organization's groups, oldest first."""
    return [
        machine
        for machine in cloud.owned(account)
        if not machine.ended
        and "record" in machine.wire
        and machine.wire["organization"] == organization_name
        and project_name in ("", machine.wire["project"])
    ]


def named(cloud: Cloud, call: Call) -> Machine | None:
    """The group that the path names."""
    groups = groups_of(cloud, call.owner.name, *project(call))
    return next((group for group in groups if group.order.name == call.ids[2]), None)


def the_group(cloud: Cloud, call: Call) -> Machine:
    """Likewise; raises the 404."""
    group = named(cloud, call)
    if group is None:
        raise not_found(f"The container group '{call.ids[2]}' does not exist.")
    return group


def the_living_group(cloud: Cloud, call: Call) -> Machine:
    """Likewise, for what cannot be done any more to one that is being deleted."""
    group = the_group(cloud, call)
    if group.ends_at is not None:
        raise not_found(f"The container group '{call.ids[2]}' is being deleted.")
    return group


def instances_of(cloud: Cloud, group: Machine) -> list[Machine]:
    """The group's machines, its first one first."""
    more = [m for m in cloud.machines.values() if m.wire.get("of") == group.id and not m.ended]
    return [group, *more]


def dns_of(group: Machine) -> str:
    """Its name at the gateway."""
    digest = hashlib.sha256(group.id.encode()).hexdigest()
    first, second = (_WORDS[int(digest[at], 16) % len(_WORDS)] for at in (0, 1))
    return f"{first}-{second}-{digest[:16]}.{DOMAIN}"


def _status(cloud: Cloud, group: Machine, phases: list[str], now: float) -> str:
    machines, wire = instances_of(cloud, group), group.wire
    if wire["outcome"]:
        return str(wire["outcome"])
    if any(m.state == State.FAILED and not m.exited for m in machines):
        return "failed"
    if not wire["on"]:
        return "stopped"
    if preparing(cloud, group, now):
        return "pending"
    return "running" if wire["ran"] or "running" in phases else "deploying"


def _description(group: Machine, status: str) -> str:
    if status != "failed":
        return ""
    return group.wire["why"] or "Failed to pull: the container could not be created."


def _networking_json(group: Machine) -> dict[str, Any]:
    told = group.wire["record"]["networking"]
    return {} if told is None else {"networking": told | {"dns": dns_of(group)}}


def _container_json(group: Machine, *, prepared: bool) -> dict[str, Any]:
    record = group.wire["record"]["container"]
    told = {name: record[name] for name in ("image", "command", "environment_variables")}
    if "image_caching" in record:
        told["image_caching"] = record["image_caching"]
    if prepared:
        digest = hashlib.sha256(record["image"].encode()).hexdigest()
        told |= {"hash": f"sha256:{digest}", "size": 1_000_000_000 + int(digest[:8], 16)}
    return told | {"resources": record["resources"]}


def group_json(cloud: Cloud, group: Machine, now: float) -> dict[str, Any]:
    """A group as get, list, create and update tell it. Passwords are not repeated."""
    wire, record = group.wire, group.wire["record"]
    phases = [p for m in instances_of(cloud, group) if (p := phase_of(cloud, m, now))]
    status = _status(cloud, group, phases, now)
    counted = [_COUNTED_AS.get(phase, phase) for phase in phases]
    changed = moment(wire["changed_at"])
    probes = ("startup_probe", "readiness_probe", "liveness_probe")
    return {
        "id": group.wire["id"],
        "name": group.order.name,
        "display_name": record["display_name"],
        "organization_name": wire["organization"],
        "project_name": wire["project"],
        "container": _container_json(group, prepared=not preparing(cloud, group, now)),
        "autostart_policy": record["autostart_policy"],
        "restart_policy": record["restart_policy"],
        "replicas": record["replicas"],
        "priority": record["priority"],
        "country_codes": record["country_codes"],
        **_networking_json(group),
        **{name: record[name] for name in probes if record.get(name) is not None},
        "current_state": {
            "status": status,
            "description": _description(group, status),
            "start_time": moment(wire["started_at"]),
            "finish_time": changed,
            "instance_status_counts": {f"{name}_count": counted.count(name) for name in _COUNTS},
        },
        "pending_change": "stopping" in phases,
        "version": wire["version"],
        "create_time": moment(group.created_at),
        "update_time": changed,
        "scaling-actions": [],
        "scheduled-scaling-enabled": False,
    }


async def list_all(api: Emulator, call: Call) -> Response:
    """GET containers: a hundred at most, and no pages."""
    no_query(call)
    cloud, faults = api.cloud, api.cloud.faults
    lag = faults.take("list", "list_lag")
    rows = [
        group_json(cloud, group, call.now)
        for group in groups_of(cloud, call.owner.name, *project(call))
        if group.hidden_until <= call.now
        and (lag is None or call.now - group.created_at >= lag.delay_s)
    ]
    if faults.take("list", "duplicate_list"):
        rows = [row for row in rows for _ in range(2)]
    if faults.take("list", "list_partial"):
        rows = rows[: len(rows) // 2]
    return answer({"items": rows[:MOST_LISTED]})


async def show(api: Emulator, call: Call) -> Response:
    """GET containers/{name}: by name, not by id."""
    no_query(call)
    return answer(group_json(api.cloud, the_group(api.cloud, call), call.now))
