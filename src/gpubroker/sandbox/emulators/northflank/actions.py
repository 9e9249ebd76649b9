"""What is done to Northflank's services: paused, resumed, restarted, scaled, deleted."""

from __future__ import annotations

from starlette.responses import Response

from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator
from gpubroker.sandbox.emulators.northflank.bodies import Instances
from gpubroker.sandbox.emulators.northflank.life import again, begin, rest
from gpubroker.sandbox.emulators.northflank.projects import VOLUME
from gpubroker.sandbox.emulators.northflank.services import the_service
from gpubroker.sandbox.emulators.northflank.volumes import detach
from gpubroker.sandbox.emulators.northflank.words import (
    data,
    flag,
    invalid,
    no_body,
    read_body,
    refusal,
)
from gpubroker.sandbox.rented import Machine


def run(cloud: Cloud, service: Machine, now: float) -> None:
    """Wants it, and starts it where its GPUs are free."""
    service.wire |= {"wanted": True, "paused": False, "changed_at": now, "fell": ""}
    service.wire["record"]["deployment"]["instances"] = 1
    if service.state == State.STOPPED:
        service.wire["boot_from"] = now
        begin(cloud, service, now)


async def put_on(cloud: Cloud, service: Machine, instances: int, now: float) -> None:
    """So many instances."""
    if instances > 1:
        raise invalid("Invalid request", {"body": ["instances must not exceed 1 with a GPU"]})
    if instances and not service.wire["wanted"]:
        run(cloud, service, now)
    elif not instances and service.wire["wanted"]:
        await cloud.stop(service)
        service.wire |= {"wanted": False, "changed_at": now}
        service.wire["record"]["deployment"]["instances"] = 0


async def pause(api: Emulator, call: Call) -> Response:
    """POST pause: nothing is charged from now on but for volumes."""
    no_body(call)
    cloud, (_, service) = api.cloud, the_service(api.cloud, call)
    if not service.wire["paused"]:
        await cloud.stop(service)
        rest(service, call.now)
        cloud.save(service)
    return data({})


async def resume(api: Emulator, call: Call) -> Response:
    """POST resume: 409 where it is not paused."""
    body = read_body(call, Instances)
    cloud, (_, service) = api.cloud, the_service(api.cloud, call)
    if not service.wire["paused"]:
        raise refusal(409, "The service could not be resumed as it is not paused")
    if cloud.faults.take("start", "quota"):
        raise refusal(403, "The GPU quota of this account is exceeded")
    service.wire["starved"] = cloud.faults.take("start", "no_capacity") is not None
    service.wire["paused"] = False
    await put_on(cloud, service, 1 if body.instances is None else body.instances, call.now)
    cloud.save(service)
    return data({})


async def restart(api: Emulator, call: Call) -> Response:
    """POST restart: in a new container, with an empty disk."""
    no_body(call)
    cloud, (_, service) = api.cloud, the_service(api.cloud, call)
    if service.state == State.RUNNING:
        again(cloud, service, call.now)
        service.wire["changed_at"] = call.now
        cloud.save(service)
    return data({})


async def scale(api: Emulator, call: Call) -> Response:
    """POST scale."""
    body = read_body(call, Instances)
    cloud, (_, service) = api.cloud, the_service(api.cloud, call)
    if body.instances is not None:
        await put_on(cloud, service, body.instances, call.now)
        cloud.save(service)
    return data({})


async def delete(api: Emulator, call: Call) -> Response:
    """DELETE services/{id}: its volumes stay, and cost, unless they are to go too."""
    too = flag(no_body(call, ("delete_child_objects",)), "delete_child_objects")
    cloud, (_, service) = api.cloud, the_service(api.cloud, call)
    if cloud.faults.take("terminate", "terminate_ignored"):
        return data({})
    for volume in cloud.live_things(service.account, VOLUME):
        if volume.wire["attached"] == service.id:
            if too:
                cloud.end_thing(volume)
            else:
                detach(cloud, volume)
    await cloud.terminate(service)
    return data({})
