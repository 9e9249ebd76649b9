"""Northflank's creating and updating calls of deployment services."""

from __future__ import annotations

import base64
import binascii
import shlex
from typing import Any

import msgspec
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator
from gpubroker.sandbox.emulators.northflank.actions import put_on, run
from gpubroker.sandbox.emulators.northflank.bodies import (
    Docker,
    Gpu,
    NewService,
    ServicePatch,
)
from gpubroker.sandbox.emulators.northflank.catalog import plan_of, sheet, sold
from gpubroker.sandbox.emulators.northflank.identities import keys_for
from gpubroker.sandbox.emulators.northflank.life import KEPT_S, again
from gpubroker.sandbox.emulators.northflank.projects import (
    services_of,
    the_project,
    volumes_of,
)
from gpubroker.sandbox.emulators.northflank.services import service_json, the_service
from gpubroker.sandbox.emulators.northflank.volumes import attach
from gpubroker.sandbox.emulators.northflank.words import (
    data,
    invalid,
    not_found,
    read_body,
    refusal,
    slug,
    unused,
)
from gpubroker.sandbox.rented import Order, Thing
from gpubroker.sandbox.stock import Slot

_MB_PER_GB = 1024
_USUAL_STORAGE_MB = 20_480
_PROTOCOLS = {"HTTP": "http", "HTTP/2": "http", "TCP": "tcp", "UDP": "udp"}
NO_CREDIT = "GPU deployments are disabled due to insufficient credits"


async def create(api: Emulator, call: Call) -> Response:
    """POST services/deployment: want of GPUs is no refusal."""
    cloud, project = api.cloud, the_project(api.cloud, call)
    body = read_body(call, NewService)
    id_ = slug(body.name)
    if any(service.wire["id"] == id_ for service in services_of(cloud, project)):
        raise refusal(409, "There is already a service with the same derived identifier")
    slot = _slot(cloud, project, body)
    volumes = [_spare(cloud, project, name) for name in body.createOptions.volumesToAttach]
    _check_means(cloud, call)
    record = msgspec.to_builtins(body)
    record["deployment"]["gpu"] = msgspec.to_builtins(_gpu(body))
    if cloud.faults.take("create", "ignored_field"):
        record["tags"] = []
    order = _order(cloud, project, body, slot, call.now)
    service = cloud.create(
        call.owner.name, order, named=lambda _: unused(id_, cloud.machines.keys())
    )
    service.wire |= {
        "id": id_,
        "uid": f"{cloud.number('uid', 0x1000):024x}",
        "project": project.id,
        "record": record,
        "wanted": False,
        "paused": False,
        "starved": cloud.faults.take("create", "no_capacity") is not None,
        "boot_from": call.now,
        "changed_at": call.now,
        "container": "",
        "fell": "",
    }
    for volume in volumes:
        attach(cloud, volume, service)
    if body.deployment.instances:
        run(cloud, service, call.now)
    cloud.save(service)
    return data(service_json(cloud, project, service, call.now))


def _gpu(body: NewService) -> Gpu | None:
    """It may stand in two places."""
    return body.deployment.gpu or body.billing.gpu


def _slot(cloud: Cloud, project: Thing, body: NewService) -> Slot:
    """What the plan and the GPU's own words mean; they must agree."""
    plan, gpu = body.billing.deploymentPlan, _gpu(body)
    if body.deployment.instances > 1:
        raise invalid("Invalid request", {"body": ["instances must not exceed 1 with a GPU"]})
    if gpu is None or not gpu.enabled or gpu.configuration is None:
        known = plan in {one.id for one in sheet().plans}
        told = "gpu is required: no others are to be had here" if known else "plan not found"
        raise invalid("Invalid request", {"billing": [told]})
    wanted = gpu.configuration
    counts = sold(cloud, project.wire["region"], wanted.gpuType)
    slot = counts.get(wanted.gpuCount)
    if not counts:
        raise invalid("Invalid request", {"gpu": ["gpuType is not available in this region"]})
    if slot is None:
        raise invalid("Invalid request", {"gpu": ["gpuCount is not available"]})
    if plan != plan_of(slot):
        raise invalid("Invalid request", {"billing": ["deploymentPlan does not match the GPU"]})
    return slot


def _check_means(cloud: Cloud, call: Call) -> None:
    if cloud.faults.take("create", "quota"):
        raise refusal(403, "The GPU quota of this account is exceeded")
    if cloud.credit(call.owner.name) <= 0:
        raise refusal(403, NO_CREDIT)


def _spare(cloud: Cloud, project: Thing, name: str) -> Thing:
    for volume in volumes_of(cloud, project):
        if volume.wire["id"] == name:
            if volume.wire["attached"]:
                raise refusal(409, "The volume is already attached")
            return volume
    raise not_found("Volume")


def _order(cloud: Cloud, project: Thing, body: NewService, slot: Slot, now: float) -> Order:
    storage = body.deployment.storage
    ephemeral = storage.ephemeralStorage if storage else None
    size_mb = ephemeral.storageSize if ephemeral else _USUAL_STORAGE_MB
    if size_mb > slot.disk_max_gb * _MB_PER_GB:
        raise invalid("Invalid request", {"storage": ["storageSize is too large"]})
    ssh = body.deployment.ssh is not None and body.deployment.ssh.enabled
    lasts = body.createOptions.expiryTime
    return Order(
        slot=slot.key,
        disk_gb=size_mb / _MB_PER_GB,
        name=body.name,
        label=body.description or "",
        hostname=slug(body.name),
        image=body.deployment.external.imagePath,
        env=body.runtimeEnvironment,
        command=_command(body.deployment.docker),
        ports=tuple((port.internalPort, _PROTOCOLS[port.protocol]) for port in body.ports),
        programs=_files(body.runtimeFiles),
        keys=keys_for(cloud, project, body.tags) if ssh else (),
        start=False,
        stops_at=None if lasts is None else now + lasts,
        ends_at=None if lasts is None else now + lasts + KEPT_S,
    )


def _command(docker: Docker | None) -> str | None:
    """Entrypoint and command as one; their words are split and nothing in them is expanded."""
    if docker is None:
        return None
    told = {
        "default": (),
        "customEntrypoint": ("customEntrypoint",),
        "customCommand": ("customCommand",),
        "customEntrypointCustomCommand": ("customEntrypoint", "customCommand"),
    }[docker.configType]
    words: list[str] = []
    for name in told:
        text = getattr(docker, name)
        if not text:
            raise invalid("Invalid request", {"docker": [f"{name} is required"]})
        try:
            words += shlex.split(text)
        except ValueError:
            raise invalid("Invalid request", {"docker": [f"{name} is invalid"]}) from None
    return shlex.join(words) or None


def _files(told: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Path -> text; the vendor takes them in base64."""
    files = {}
    for path, file in told.items():
        try:
            files[path] = base64.b64decode(file["data"], validate=True).decode()
        except (KeyError, TypeError, ValueError, binascii.Error):
            raise invalid("Invalid request", {"runtimeFiles": [f"{path} is invalid"]}) from None
    return files


async def update(api: Emulator, call: Call) -> Response:
    """PATCH services/deployment/{id}: other variables mean another container."""
    cloud, (project, service) = api.cloud, the_service(api.cloud, call)
    body = read_body(call, ServicePatch)
    record = service.wire["record"]
    for name in ("description", "tags"):
        if (value := getattr(body, name)) is not None:
            record[name] = value
    if body.runtimeEnvironment is not None:
        service.order = msgspec.structs.replace(service.order, env=body.runtimeEnvironment)
        again(cloud, service, call.now)
    if body.deployment is not None and body.deployment.instances is not None:
        await put_on(cloud, service, body.deployment.instances, call.now)
    service.wire["changed_at"] = call.now
    cloud.save(service)
    return data(service_json(cloud, project, service, call.now))
