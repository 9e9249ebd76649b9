"""Northflank's services: how they are found, and how they and their containers are told."""

from __future__ import annotations

import hashlib
from typing import Any

from starlette.responses import Response

from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator
from gpubroker.sandbox.emulators.northflank.life import (
    HIDDEN,
    KEPT_S,
    PENDING,
    STAGING,
    expires_at,
    share,
)
from gpubroker.sandbox.emulators.northflank.projects import (
    app_id,
    cluster_json,
    services_of,
    the_project,
)
from gpubroker.sandbox.emulators.northflank.words import (
    PAGING,
    check_query,
    data,
    moment,
    not_found,
    page_of,
)
from gpubroker.sandbox.rented import Machine, Thing

DOMAIN = "code.run"
_HTTP = ("HTTP", "HTTP/2")


def the_service(cloud: Cloud, call: Call) -> tuple[Thing, Machine]:
    """The project and the service that the path names; raises the 404."""
    project = the_project(cloud, call)
    for service in services_of(cloud, project):
        if service.wire["id"] == call.ids[1]:
            return project, service
    raise not_found("Service")


def dns_of(service: Machine, port: dict[str, Any]) -> str | None:
    """The name of a public HTTP port."""
    if not port["public"] or port["protocol"] not in _HTTP:
        return None
    digest = hashlib.sha256(service.wire["project"].encode()).hexdigest()[:12]
    return f"{port['name'].lower()}--{service.wire['id']}--{digest}.{DOMAIN}"


def phase_of(cloud: Cloud, service: Machine, now: float) -> str:
    """In no vendor's words: paused, hidden, pending, waiting, staging, starting, running, failed.

    What waits has no container.
    """
    if not service.wire["wanted"]:
        return "paused"
    if service.state == State.FAILED:
        return "failed"
    if service.state == State.RUNNING and service.running_since is not None:
        return "running"
    over = share(cloud, service, now)
    if service.wire["boot_from"] == service.created_at and over < PENDING:
        return "hidden" if over < HIDDEN else "pending"
    if service.state == State.STOPPED or "stuck_pending" in service.trouble:
        return "waiting"
    return "staging" if over < STAGING else "starting"


_STATUS = {
    "pending": "PENDING",
    "waiting": "IN_PROGRESS",
    "staging": "IN_PROGRESS",
    "starting": "IN_PROGRESS",
    "running": "COMPLETED",
    "failed": "FAILED",
    "paused": "COMPLETED",
}
_TASK = {
    "staging": "TASK_STAGING",
    "starting": "TASK_STARTING",
    "running": "TASK_RUNNING",
    "failed": "TASK_FAILED",
}


def _status_json(cloud: Cloud, service: Machine, now: float) -> dict[str, Any]:
    """Nothing, where it was just made."""
    phase = phase_of(cloud, service, now)
    if phase == "hidden":
        return {}
    since = service.running_since or service.wire["changed_at"]
    reason = "SCALING" if phase == "paused" else "DEPLOYING"
    told = {"status": _STATUS[phase], "reason": reason, "lastTransitionTime": moment(since)}
    return {"deployment": told}


def _short_json(cloud: Cloud, project: Thing, service: Machine, now: float) -> dict[str, Any]:
    """As a list tells it: neither GPU nor plan."""
    record = service.wire["record"]
    return {
        "id": service.wire["id"],
        "uid": service.wire["uid"],
        "appId": app_id(project, service),
        "projectId": project.wire["id"],
        "name": service.order.name,
        "tags": record["tags"],
        **({"description": record["description"]} if record["description"] else {}),
        "serviceType": "deployment",
        "disabledCI": False,
        "disabledCD": False,
        "status": _status_json(cloud, service, now),
    }


def ports_json(service: Machine) -> list[dict[str, Any]]:
    """Its ports, those that have names with them."""
    rows = []
    for port in service.wire["record"]["ports"]:
        dns = dns_of(service, port)
        digest = hashlib.sha256(f"{service.id} {port['name']}".encode()).hexdigest()[:24]
        rows.append({"id": digest, **port, **({"dns": dns} if dns else {}), "domains": []})
    return rows


def _deployment_json(project: Thing, service: Machine) -> dict[str, Any]:
    told = service.wire["record"]["deployment"]
    path = told["external"]["imagePath"]
    hub = "." not in path.partition("/")[0] or path.startswith("docker.io/")
    return {
        "region": project.wire["region"],
        "instances": told["instances"] if service.wire["wanted"] else 0,
        "external": {
            "imagePath": path.removeprefix("docker.io/"),
            "registryProvider": "dockerhub" if hub else "custom",
            "privateImage": told["external"]["credentials"] is not None,
        },
        **{
            name: _filled(told[name])
            for name in ("docker", "gpu", "storage", "ssh", "gracePeriodSeconds")
            if told[name] is not None
        },
    }


def _filled(told: Any) -> Any:
    """Without what was left out."""
    if not isinstance(told, dict):
        return told
    return {name: _filled(value) for name, value in told.items() if value is not None}


def service_json(cloud: Cloud, project: Thing, service: Machine, now: float) -> dict[str, Any]:
    """The whole of it. Variables are not repeated."""
    record, end = service.wire["record"], expires_at(service)
    times = {"createdAt": service.created_at, "updatedAt": service.wire["changed_at"]}
    if end is not None:
        times["expiryTime"] = end
        if now >= end:
            times |= {"expiredAt": end, "scheduledDeletion": end + KEPT_S}
    return {
        **_short_json(cloud, project, service, now),
        "billing": {"deploymentPlan": record["billing"]["deploymentPlan"]},
        "cluster": cluster_json(project),
        "servicePaused": service.wire["paused"],
        "deployment": _deployment_json(project, service),
        "ports": ports_json(service),
        **{name: moment(at) for name, at in times.items()},
    }


async def list_all(api: Emulator, call: Call) -> Response:
    """GET services: of one project; there is no list of all."""
    check_query(call, PAGING)
    cloud, faults = api.cloud, api.cloud.faults
    project = the_project(cloud, call)
    lag = faults.take("list", "list_lag")
    rows = [
        _short_json(cloud, project, service, call.now)
        for service in services_of(cloud, project)
        if service.hidden_until <= call.now
        and (lag is None or call.now - service.created_at >= lag.delay_s)
    ]
    if faults.take("list", "duplicate_list"):
        rows = [row for row in rows for _ in range(2)]
    if faults.take("list", "list_partial"):
        rows = rows[: len(rows) // 2]
    shown, pagination = page_of(api, call, rows)
    return data({"services": shown}, pagination=pagination)


async def show(api: Emulator, call: Call) -> Response:
    """GET services/{id}."""
    check_query(call)
    return data(service_json(api.cloud, *the_service(api.cloud, call), call.now))


async def ports(api: Emulator, call: Call) -> Response:
    """GET services/{id}/ports."""
    check_query(call)
    return data({"ports": ports_json(the_service(api.cloud, call)[1])})


async def containers(api: Emulator, call: Call) -> Response:
    """GET services/{id}/containers: whether it really runs. Times are in whole seconds."""
    check_query(call, PAGING)
    cloud = api.cloud
    _, service = the_service(cloud, call)
    phase = phase_of(cloud, service, call.now)
    began = int(service.wire["boot_from"])
    since = int(service.running_since or call.now)
    rows: list[dict[str, Any]] = []
    if phase in _TASK:
        rows.append(
            {
                "name": service.wire["container"],
                "createdAt": began,
                "updatedAt": since,
                "status": _TASK[phase],
                "ipAddresses": [],
            }
        )
    if phase != "running" and service.wire["fell"]:
        fallen = {"name": service.wire["fell"], "createdAt": began, "updatedAt": began}
        rows.append({**fallen, "status": "TASK_FAILED", "ipAddresses": []})
    shown, pagination = page_of(api, call, rows)
    return data({"containers": shown}, pagination=pagination)
