"""Shadeform's create call: an order that is put into a queue; its failure may come later."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct
from starlette.responses import Response

from gpubroker.model.money import Nanos, nanos
from gpubroker.model.terms import Market
from gpubroker.sandbox.cloud import Cloud, NoSlot
from gpubroker.sandbox.emulators.base import Call, Emulator, Refusal, answer
from gpubroker.sandbox.emulators.shadeform import keys, volumes
from gpubroker.sandbox.emulators.shadeform.catalog import ON_DEMAND, SPOT, sold
from gpubroker.sandbox.emulators.shadeform.launching import LaunchConfiguration, VolumeMount
from gpubroker.sandbox.emulators.shadeform.templates import template_of
from gpubroker.sandbox.emulators.shadeform.words import (
    Env,
    Name,
    Tag,
    Threshold,
    invalid,
    kept,
    new_id,
    read_body,
    read_date,
    refusal,
)
from gpubroker.sandbox.rented import Machine, Order
from gpubroker.sandbox.stock import Slot

T = TypeVar("T")


class Create(Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of the call."""

    cloud: str
    region: str
    shade_instance_type: str
    shade_cloud: bool
    name: Name
    rental_type: Literal["on_demand", "spot"] = "on_demand"
    os: str | None = None
    template_id: str | None = None
    launch_configuration: LaunchConfiguration | None = None
    volume_ids: list[str] | None = None
    ssh_key_id: str | None = None
    auto_delete: Threshold | None = None
    alert: Threshold | None = None
    volume_mount: VolumeMount | None = None
    tags: list[Tag] | None = None
    envs: list[Env] | None = None


def out_of_stock() -> Refusal:
    """409, the one documented code."""
    return refusal("OUT_OF_STOCK", "The requested instance type is out of stock")


def _from_template(cloud: Cloud, call: Call, body: Create) -> None:
    """What the call leaves open."""
    if body.template_id is None:
        return
    template = template_of(cloud, call.owner, body.template_id)

    def part(name: str, type_: type[T]) -> T:
        return msgspec.convert(template[name], type_)

    for name, type_ in (
        ("launch_configuration", LaunchConfiguration),
        ("auto_delete", Threshold),
        ("alert", Threshold),
        ("volume_mount", VolumeMount),
        ("tags", list[Tag]),
        ("envs", list[Env]),
    ):
        if getattr(body, name) is None and name in template:
            setattr(body, name, part(name, type_))


def deadline(threshold: Threshold | None, rate: Nanos, begin: float, spent: Nanos) -> float | None:
    """When a machine is deleted by itself: at the date, or when so much was spent."""
    if threshold is None:
        return None
    times = []
    if threshold.date_threshold is not None:
        times.append(read_date(threshold.date_threshold))
    if threshold.spend_threshold is not None:
        left = nanos(threshold.spend_threshold) - spent
        times.append(begin + max(0, left) * 3600 / max(1, rate))
    return min(times, default=None)


async def create(api: Emulator, call: Call) -> Response:
    """POST instances/create: answers an id and nothing that it stands for yet."""
    body = read_body(call, Create)
    cloud = api.cloud
    _from_template(cloud, call, body)
    slot = _slot(cloud, body)
    if body.launch_configuration is not None:
        _check_task(body.launch_configuration, slot)
    key = keys.default_of(cloud, call.owner)
    if body.ssh_key_id is not None:
        key = keys.found(cloud, call.owner, body.ssh_key_id)
    system = _system(body, slot)
    _check_volumes(cloud, call, body)
    begin = call.now + cloud.facts.boot_s
    ends_at = deadline(body.auto_delete, cloud.stock.price(slot, call.now), begin, Nanos(0))
    if cloud.faults.take("create", "quota"):
        raise refusal("QUOTA_EXCEEDED", "Your account has reached its quota of instances")
    if cloud.credit(call.owner.name) <= 0:
        raise refusal("INSUFFICIENT_FUNDS", "Insufficient wallet balance, please add funds")
    if cloud.faults.take("create", "no_capacity"):
        raise out_of_stock()
    wire = {
        "ssh_key_id": key.id,
        "os": system,
        "volume_ids": body.volume_ids or [],
        "auto_delete": kept(body.auto_delete) or {},
        "alert": kept(body.alert) or {},
        "volume_mount": kept(body.volume_mount),
        "launch_configuration": kept(body.launch_configuration),
        "tags": body.tags or [],
        "envs": kept(body.envs) or [],
        "shade_cloud": body.shade_cloud,
    }
    if cloud.faults.take("create", "ignored_field"):
        wire |= {"tags": [], "auto_delete": {}}
        ends_at = None
    order = _order(slot, body, key.public_key, ends_at, wire)
    try:
        machine: Machine = cloud.create(call.owner.name, order, named=new_id)
    except NoSlot:
        raise out_of_stock() from None
    return answer({"id": machine.id})


def _order(
    slot: Slot, body: Create, key: str, ends_at: float | None, wire: dict[str, Any]
) -> Order:
    vm = slot.facts["deployment"] != "container"
    task = body.launch_configuration
    text = task.text() if task is not None else b""
    # A container has no cloud-init, and its script runs again at each start.
    return Order(
        slot=slot.key,
        market=Market.SPOT if body.rental_type == SPOT else Market.ON_DEMAND,
        disk_gb=slot.disk_max_gb,
        name=body.name,
        label=body.name,
        hostname="shadecloud",
        image=wire["os"],
        user=slot.facts["user"],
        env={env.name: env.value for env in body.envs or ()},
        user_data=text if vm else b"",
        startup_script="" if vm else text.decode(errors="replace"),
        is_vm=vm,
        own_address=vm and not slot.facts["ports"],
        ports=tuple((port, "tcp") for port in slot.facts["ports"]),
        keys=(key,),
        comes_back=False,
        ends_penniless=True,
        ends_at=ends_at,
        wire=wire,
    )


def _slot(cloud: Cloud, body: Create) -> Slot:
    here = sold(cloud, body.cloud, body.shade_instance_type, body.region)
    if ON_DEMAND not in here:
        raise refusal("INVALID_INSTANCE_TYPE", "no such instance type in this cloud and region")
    if body.rental_type == SPOT and SPOT not in here:
        raise refusal("SPOT_NOT_OFFERED", "the instance type does not offer spot in this region")
    if not body.shade_cloud:
        raise refusal("NO_LINKED_ACCOUNT", f"no account at {body.cloud} is linked")
    return here[body.rental_type]


def _check_task(task: LaunchConfiguration, slot: Slot) -> None:
    task.check()
    if task.type == "docker" and slot.facts["deployment"] == "container":
        raise refusal("INVALID_LAUNCH_CONFIGURATION", "a container cannot run docker images")


def _system(body: Create, slot: Slot) -> str:
    systems: list[str] = slot.facts["systems"]
    if body.os not in (None, *systems):
        raise invalid(f"os: {body.os} is not an option of this instance type")
    return body.os or systems[0]


def _check_volumes(cloud: Cloud, call: Call, body: Create) -> None:
    if len(body.volume_ids or ()) > 1:
        raise invalid("volume_ids: only 1 volume is supported")
    for id_ in body.volume_ids or ():
        thing = volumes.found(cloud, call.owner, id_)
        if (thing.wire["cloud"], thing.wire["region"]) != (body.cloud, body.region):
            raise refusal("INVALID_REGION", "the volume is in another cloud or region")
        if volumes.holder_of(cloud, thing) is not None:
            raise refusal("VOLUME_IN_USE", "the volume is mounted by another instance")
