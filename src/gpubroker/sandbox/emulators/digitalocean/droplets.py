"""DigitalOcean's droplets: listed, looked at, deleted."""

from __future__ import annotations

from starlette.responses import Response

from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.digitalocean.droplet_record import (
    check_can_end,
    droplet_json,
    droplet_of,
    living,
)
from gpubroker.sandbox.emulators.digitalocean.words import (
    PAGED,
    check_query,
    no_body,
    no_content,
    not_found,
    paged,
    unprocessable,
)

_FILTERS = (*PAGED, "tag_name", "name", "type")


async def list_droplets(api: Emulator, call: Call) -> Response:
    """GET droplets: those with GPUs only where `type=gpus` asks for them, and then no others."""
    query = check_query(call, _FILTERS)
    if "tag_name" in query and ("type" in query or "name" in query):
        raise unprocessable("tag_name cannot be combined with name or type")
    wanted = query.get("type", "droplets")
    if wanted not in ("droplets", "gpus"):
        raise unprocessable("type must be droplets or gpus")
    cloud = api.cloud
    lag = cloud.faults.take("list", "list_lag")
    rows = [
        droplet_json(cloud, machine, call.now)
        for machine in living(cloud, call.owner.name)
        if bool(cloud.slot(machine).gpu_count) == (wanted == "gpus")
        and machine.hidden_until <= call.now
        and not (lag and call.now - machine.created_at < lag.delay_s)
        and query.get("name", machine.label).lower() == machine.label.lower()
        and ("tag_name" not in query or query["tag_name"] in machine.wire["tags"])
    ]
    return paged(api, call, "droplets", rows)


async def show(api: Emulator, call: Call) -> Response:
    """GET droplets/{id}: one that lists do not show yet is not found either."""
    check_query(call)
    machine = droplet_of(api.cloud, call)
    if machine.hidden_until > call.now:
        raise not_found()
    return answer({"droplet": droplet_json(api.cloud, machine, call.now)})


async def delete(api: Emulator, call: Call) -> Response:
    """DELETE droplets/{id}."""
    no_body(call)
    machine = droplet_of(api.cloud, call)
    check_can_end(machine, call.now)
    await api.cloud.terminate(machine)
    return no_content()


async def delete_tagged(api: Emulator, call: Call) -> Response:
    """DELETE droplets: all with a tag, those with GPUs too."""
    query = no_body(call, ("tag_name",))
    if not query.get("tag_name"):
        raise unprocessable("tag_name is required")
    cloud = api.cloud
    tagged = [m for m in cloud.owned(call.owner.name) if query["tag_name"] in m.wire["tags"]]
    if not tagged:
        raise not_found()
    alive = [m for m in living(cloud, call.owner.name) if m in tagged]
    for machine in alive:
        check_can_end(machine, call.now)
    for machine in alive:
        await cloud.terminate(machine)
    return no_content()
