"""RunPod's pods in REST v2: created, looked at, changed, terminated."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct
from msgspec.structs import replace
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, Refusal, answer
from gpubroker.sandbox.emulators.runpod.bodies import CreatePod, Mounts, PodAction, UpdatePod
from gpubroker.sandbox.emulators.runpod.deploy import (
    PodOrder,
    as_command,
    deploy,
    read_ports,
    with_env,
)
from gpubroker.sandbox.emulators.runpod.placing import Wish
from gpubroker.sandbox.emulators.runpod.pod import find_pod, list_pods, start
from gpubroker.sandbox.emulators.runpod.pod_record import actions, pod_json, status
from gpubroker.sandbox.emulators.runpod.refused import Refused, Why
from gpubroker.sandbox.emulators.runpod.sheet import Template, sheet
from gpubroker.sandbox.emulators.runpod.words import (
    invalid,
    moment,
    no_query,
    not_found,
    problem,
    read_body,
    read_query,
)
from gpubroker.sandbox.rented import Machine

STATUS: dict[Why, int] = {
    "no_capacity": 400,
    "host_full": 400,
    "balance": 402,
    "quota": 400,
    "bid": 400,
    "invalid": 400,
}
"""How a refusal is answered: want of capacity as a bad request, without a code of its own."""


def refusal_of(refused: Refused) -> Refusal:
    """In v2's form."""
    return problem(STATUS[refused.why], str(refused))


def the_pod(cloud: Cloud, call: Call) -> Machine:
    """The pod that the path names. Raises the 404."""
    machine = find_pod(cloud, call.owner.name, call.ids[0])
    if machine is None:
        raise not_found()
    return machine


# --- create -------------------------------------------------------------------------------


async def create(api: Emulator, call: Call) -> Response:
    """POST pods."""
    no_query(call.request)
    body = read_body(call, CreatePod)
    if body.image is UNSET and body.template_id is UNSET:
        raise invalid("$: image is required unless templateId is set")
    try:
        machine = deploy(api.cloud, call.owner.name, _order(body), call.now, api.base_url)
    except Refused as refused:
        raise refusal_of(refused) from None
    return answer(pod_json(api.cloud, machine, call.now), 201)


def _order(body: CreatePod) -> PodOrder:
    mounts, template = body.mounts, _template(body.template_id)
    network = (mounts.network or (None,))[0]
    _check_mounts(mounts)
    if mounts.persistent and body.cpu is not UNSET:
        raise Refused("invalid", "mounts.persistent is not supported on CPU pods")
    ports = body.ports if body.ports is not UNSET else (template.ports if template else ())
    path = mounts.persistent.path if mounts.persistent else (network.path if network else "")
    return PodOrder(
        name=body.name,
        image=body.image if body.image is not UNSET else (template.image if template else ""),
        wish=_wish(body),
        args=body.args,
        container_gb=body.disk,
        volume_gb=mounts.persistent.size if mounts.persistent else 0,
        volume_path=path,
        network_volume=network.volume_id if network else None,
        env=body.env,
        ports=ports,
        registry=body.registry,
        start_ssh=body.start_ssh,
        start_jupyter=body.start_jupyter,
        global_networking=body.global_networking,
    )


def _template(id_: Any) -> Template | None:
    if id_ is UNSET:
        return None
    template = sheet().template(id_)
    if template is None:
        raise not_found()
    return template


def _check_mounts(mounts: Mounts) -> None:
    if mounts.persistent and mounts.network:
        raise Refused("invalid", "mounts.persistent and mounts.network are mutually exclusive")
    if mounts.network == ():
        raise Refused("invalid", "mounts.network must not be empty")


def _wish(body: CreatePod) -> Wish:
    if (body.gpu is UNSET) == (body.cpu is UNSET):
        raise Refused("invalid", "exactly one of gpu or cpu must be set")
    if body.cpu is not UNSET:
        flavor = sheet().flavor(body.cpu.id)
        if flavor is None:
            raise Refused("invalid", f"unknown CPU flavor '{body.cpu.id}'")
        if body.cpu.vcpu_count.bit_count() != 1:
            raise Refused("invalid", "cpu.vcpuCount must be a power of two")
        return Wish(
            gpu=flavor.id,
            count=0,
            vcpus=body.cpu.vcpu_count,
            tier=body.cloud,
            data_centers=body.data_center_ids,
        )
    if body.gpu is UNSET or sheet().model(body.gpu.id) is None:
        raise Refused("invalid", "unknown GPU type")
    if body.gpu.allowed_cuda_versions and body.gpu.min_cuda_version:
        text = "gpu.allowedCudaVersions and gpu.minCudaVersion are mutually exclusive"
        raise Refused("invalid", text)
    return Wish(
        gpu=body.gpu.id,
        count=body.gpu.count,
        tier=body.cloud,
        data_centers=body.data_center_ids,
        cuda_versions=body.gpu.allowed_cuda_versions,
        min_cuda=body.gpu.min_cuda_version,
    )


# --- look ---------------------------------------------------------------------------------


class _ListQuery(Struct, forbid_unknown_fields=True, rename="camel"):
    include_cluster_pods: Literal["true", "false"] = "false"


async def list_all(api: Emulator, call: Call) -> Response:
    """GET pods: whole, oldest first."""
    read_query(call.request, _ListQuery)
    pods = list_pods(api.cloud, call.owner.name, call.now)
    return answer({"pods": [pod_json(api.cloud, machine, call.now) for machine in pods]})


async def show(api: Emulator, call: Call) -> Response:
    """GET pods/{id}."""
    no_query(call.request)
    return answer(pod_json(api.cloud, the_pod(api.cloud, call), call.now))


class _LogQuery(Struct, forbid_unknown_fields=True, rename="camel"):
    source: Literal["container", "system"] | None = None
    tail: Annotated[int, Meta(ge=0, le=5000)] = 100


async def logs(api: Emulator, call: Call) -> Response:
    """GET pods/{id}/logs: the lines there are, as server-sent events; the stream ends with them."""
    query = read_query(call.request, _LogQuery)
    machine = the_pod(api.cloud, call)
    lines: list[tuple[str, str]] = []
    if query.source != "container":
        lines.append(("system", f"create container {machine.order.image}"))
    if query.source != "system":
        file = api.cloud.machine_folder(machine) / "logs" / "container.log"
        text = file.read_text(errors="replace") if file.is_file() else ""
        lines += [("container", line) for line in text.splitlines()]
    kept = lines[-query.tail :] if query.tail else []
    stamp = moment(call.now)
    events = (
        f"id: {stamp}/{number:012}\n"
        f"data: {json.dumps({'ts': stamp, 'source': source, 'line': line})}\n\n"
        for number, (source, line) in enumerate(kept, 1)
    )
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return Response("".join(events), headers=headers, media_type="text/event-stream")


# --- change -------------------------------------------------------------------------------


async def act(api: Emulator, call: Call) -> Response:
    """POST pods/{id}/action."""
    no_query(call.request)
    wanted = read_body(call, PodAction).action
    machine = the_pod(api.cloud, call)
    word = status(api.cloud, machine, call.now)
    if wanted not in actions(machine, word):
        raise problem(409, f"action '{wanted}' is not valid for a pod that is {word}")
    match wanted:
        case "terminate":
            await api.cloud.terminate(machine)
            return Response(status_code=204)
        case "stop":
            await api.cloud.stop(machine)
        case "restart":
            api.cloud.reboot(machine, wipe=True)
        case "start":
            try:
                start(api.cloud, machine)
            except Refused as refused:
                raise refusal_of(refused) from None
    return answer(pod_json(api.cloud, machine, call.now))


async def terminate(api: Emulator, call: Call) -> Response:
    """DELETE pods/{id}."""
    no_query(call.request)
    await api.cloud.terminate(the_pod(api.cloud, call))
    return Response(status_code=204)


_OF_THE_CONTAINER = ("image", "args", "disk", "env", "ports", "registry", "mounts")
"""Changed, they make the container anew."""


async def update(api: Emulator, call: Call) -> Response:
    """PATCH pods/{id}."""
    no_query(call.request)
    body, machine = read_body(call, UpdatePod), the_pod(api.cloud, call)
    template = _template(body.template_id)
    if template is not None:
        body.image = template.image if body.image is UNSET else body.image
        body.ports = template.ports if body.ports is UNSET else body.ports
    try:
        _change_container(api.cloud, machine, body)
    except Refused as refused:
        raise refusal_of(refused) from None
    if body.name is not UNSET:
        machine.order = replace(machine.order, name=body.name)
    if body.locked is not UNSET:
        machine.wire["locked"] = body.locked
    if body.global_networking is not UNSET:
        machine.wire["global_networking"] = body.global_networking
    api.cloud.save(machine)
    if template is not None or set(call.body or ()) & set(_OF_THE_CONTAINER):
        api.cloud.reboot(machine, wipe=True)
    return answer(pod_json(api.cloud, machine, call.now))


def _change_container(cloud: Cloud, machine: Machine, body: UpdatePod) -> None:
    wire = machine.wire
    _change_mounts(wire, body.mounts)
    if body.ports is not UNSET:
        machine.order = replace(machine.order, ports=read_ports(body.ports))
        wire["ports"] = list(body.ports)
    if body.image is not UNSET:
        machine.order = replace(machine.order, image=body.image)
    if body.args is not UNSET:
        machine.order = replace(machine.order, command=as_command(body.args))
        wire["args"] = body.args
    if body.registry is not UNSET:
        wire["registry"] = body.registry
    if body.env is not UNSET:
        machine.order = with_env(machine, cloud.slot(machine), body.env)
    if body.disk is not UNSET:
        wire["container_gb"] = body.disk
    cloud.resize_disk(
        machine, gb=wire["container_gb"] + wire["volume_gb"], kept_gb=wire["volume_gb"]
    )


def _change_mounts(wire: dict[str, Any], mounts: Mounts) -> None:
    """The kind of mount and the network volume are fixed at the create."""
    _check_mounts(mounts)
    if mounts.persistent:
        if not wire["volume_gb"]:
            raise Refused("invalid", "mounts.persistent cannot be added to this pod")
        wire["volume_gb"], wire["volume_path"] = mounts.persistent.size, mounts.persistent.path
    for mount in mounts.network or ():
        if mount.volume_id != wire["network_volume"]:
            raise Refused("invalid", "mounts.network.volume_id is immutable")
        wire["volume_path"] = mount.path
