"""SaladCloud's creating and updating calls."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, Refusal, answer
from gpubroker.sandbox.emulators.salad.actions import put_up, redeploy, scale
from gpubroker.sandbox.emulators.salad.bodies import ContainerPatch, GroupPatch, NewGroup
from gpubroker.sandbox.emulators.salad.catalog import (
    class_ids,
    large_enough,
    price,
    replicas_used,
    slots_of,
)
from gpubroker.sandbox.emulators.salad.events import note
from gpubroker.sandbox.emulators.salad.groups import (
    group_json,
    groups_of,
    project,
    the_living_group,
)
from gpubroker.sandbox.emulators.salad.words import (
    MERGE_PATCH,
    REPLICAS_QUOTA,
    invalid,
    read_body,
    refusal,
)

_SECRETS = "registry_authentication"


async def create(api: Emulator, call: Call) -> Response:
    """POST containers: it always succeeds, whether or not such computers can be had."""
    body = read_body(call, NewGroup)
    cloud, account = api.cloud, call.owner.name
    organization_name, project_name = project(call)
    groups = groups_of(cloud, account, organization_name, project_name)
    if any(group.order.name == body.name for group in groups):
        raise invalid(f"A container group named '{body.name}' already exists in this project.")
    record = _record(body)
    check_classes(cloud, record, call.now)
    check_means(cloud, call, organization_name, record["replicas"], "create")
    if cloud.faults.take("create", "ignored_field"):
        record["display_name"] = record["name"]
    group = await put_up(cloud, account, record, (organization_name, project_name), call.now)
    path = f"/api/public/organizations/{organization_name}/projects/{project_name}/containers"
    headers = {"Location": f"{path}/{body.name}"}
    return answer(group_json(cloud, group, call.now), 201, headers)


def _record(body: NewGroup) -> dict[str, Any]:
    """What was asked for, its gaps filled in, without a registry's password."""
    record: dict[str, Any] = msgspec.to_builtins(body)
    record["container"].pop(_SECRETS, None)
    record["display_name"] = body.display_name or body.name
    asked = record["container"].pop("priority", None)
    # Without a GPU there is one priority, whatever was asked for.
    record["priority"] = (asked or "high") if body.container.resources.gpu_classes else "batch"
    return record


def check_classes(cloud: Cloud, record: dict[str, Any], now: float) -> None:
    """That they exist, are sold at this priority, and are large enough somewhere."""
    wants = record["container"]["resources"]
    if unknown := set(wants["gpu_classes"]) - class_ids(cloud):
        raise invalid(f"The GPU class '{min(unknown)}' does not exist.")
    slots = slots_of(cloud, wants["gpu_classes"])
    if slots and all(price(cloud, s, record["priority"], now) is None for s in slots):
        raise invalid(f"The priority '{record['priority']}' is not available for this GPU class.")
    size = wants["cpu"], wants["memory"], wants["storage_amount"]
    if slots and not any(large_enough(slot, *size) for slot in slots):
        raise invalid("The requested resources exceed what the GPU class offers.")


def check_means(
    cloud: Cloud, call: Call, organization_name: str, replicas: int, operation: str
) -> None:
    """Quota and money. Raises the 403."""
    used = replicas_used(cloud, call.owner.name, organization_name)
    if cloud.faults.take(operation, "quota") or used + replicas > REPLICAS_QUOTA:
        raise refusal(403, "The organization's quota of container group replicas is exceeded.")
    if cloud.credit(call.owner.name) <= 0:
        raise no_credit()


def no_credit() -> Refusal:
    """403."""
    return refusal(403, "The organization has insufficient credits.")


async def update(api: Emulator, call: Call) -> Response:
    """PATCH containers/{name}, a merge patch. A changed container is deployed anew."""
    body = read_body(call, GroupPatch, MERGE_PATCH)
    cloud, group = api.cloud, the_living_group(api.cloud, call)
    old = group.wire["record"]
    record = _patched(old, body)
    check_classes(cloud, record, call.now)
    more = max(0, record["replicas"] - old["replicas"])
    if more:
        check_means(cloud, call, group.wire["organization"], more, "update")
    group.wire["record"] = record
    if record["replicas"] != old["replicas"]:
        told = f"{old['replicas']} to {record['replicas']}"
        note(group, f"Container Group Desired Replica Count Updated from {told}", call.now)
    if any(record[n] != old[n] for n in ("container", "networking", "priority", "country_codes")):
        group.wire["version"] += 1
        note(group, f"Container Group Updated (Version {group.wire['version']})", call.now)
        await redeploy(cloud, group, call.now)
    await scale(cloud, group, call.now)
    cloud.save(group)
    return answer(group_json(cloud, group, call.now), headers={"Content-Type": MERGE_PATCH})


def _patched(old: dict[str, Any], body: GroupPatch) -> dict[str, Any]:
    record = {**old, "container": {**old["container"]}}
    for name in ("display_name", "replicas", "country_codes"):
        if (value := getattr(body, name)) is not None:
            record[name] = value
    if body.networking is not None and body.networking.port is not None:
        if old["networking"] is None:
            raise invalid("The container group has no networking.")
        record["networking"] = old["networking"] | {"port": body.networking.port}
    if body.container is not None:
        _patch_container(record, body.container)
    return record


def _patch_container(record: dict[str, Any], change: ContainerPatch) -> None:
    container = record["container"]
    for name in ("image", "command", "environment_variables"):
        if (value := getattr(change, name)) is not None:
            container[name] = value
    if change.image_caching is not UNSET:
        container["image_caching"] = change.image_caching
    if change.resources is not None:
        told = msgspec.to_builtins(change.resources).items()
        changed = {name: value for name, value in told if value is not None}
        container["resources"] = container["resources"] | changed
    if change.priority is not None and container["resources"]["gpu_classes"]:
        record["priority"] = change.priority
