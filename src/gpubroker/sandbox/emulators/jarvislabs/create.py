"""Jarvis Labs' creating calls: a container of a template, a GPU VM, a CPU VM."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud, NoSlot
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.fastapi_words import read_body, unprocessable
from gpubroker.sandbox.emulators.jarvislabs.catalog import TEMPLATES, VM
from gpubroker.sandbox.emulators.jarvislabs.placing import cpu_slot, place, sold_out, terms
from gpubroker.sandbox.emulators.jarvislabs.settings import (
    Gigabytes,
    Settings,
    account_keys,
    boot_script,
    check_disk,
    check_means,
    check_settings,
    container_ports,
    hostname,
    script_of,
)
from gpubroker.sandbox.emulators.jarvislabs.words import (
    REGIONS,
    Name,
    check_host,
    declined_misspelled,
    refusal_detail,
)
from gpubroker.sandbox.rented import Machine, Order
from gpubroker.sandbox.stock import Slot

FIRST_ID = 312_001
CONTAINER_USER, VM_USER = "root", "ubuntu"


class GpuOrder(Settings, kw_only=True):
    """Body of the create of a container or a GPU VM."""

    region: str
    disk_type: Literal["ssd"] = "ssd"


class CpuOrder(Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of the create of a CPU VM."""

    vcpus: int
    ram_gb: int
    hdd: Gigabytes
    region: str
    name: Name
    num_cpus: Literal[1] = 1
    duration: Literal["hour"] = "hour"
    disk_type: Literal["ssd"] = "ssd"


def _check_region(call: Call, region: str) -> None:
    if region not in REGIONS:
        raise unprocessable(("body", "region"), "Unknown region")
    check_host(call, region)


async def create_gpu(api: Emulator, call: Call) -> Response:
    """POST templates/{template}/create."""
    template, body, cloud = call.ids[0], read_body(call, GpuOrder), api.cloud
    if template not in TEMPLATES:
        raise refusal_detail(404, "Template not found")
    _check_region(call, body.region)
    check_disk(body.hdd, template, body.region)
    check_settings(cloud, call, body, template, body.region)
    keys = account_keys(cloud, call, template)
    check_means(cloud, call, "create")
    try:
        if cloud.faults.take("create", "no_capacity"):
            raise NoSlot(body.gpu_type)
        slot = await place(
            cloud, template, body.region, body.gpu_type, body.num_gpus, is_spot=body.is_spot
        )
        machine = _ordered(cloud, call, template, body, slot, keys)
    except NoSlot:
        raise sold_out(template, body.gpu_type, body.region) from None
    return answer({"machine_id": int(machine.id)})


def _ordered(
    cloud: Cloud, call: Call, template: str, body: GpuOrder, slot: Slot, keys: tuple[str, ...]
) -> Machine:
    market, rate = terms(cloud, slot, call.now, is_spot=body.is_spot)
    # VMs take a script and never run it.
    script = None if template == VM else script_of(cloud, call, body)
    order = Order(
        slot=slot.key,
        market=market,
        bid=rate,
        disk_gb=body.hdd,
        name=body.name,
        label=_label(cloud, body.name),
        hostname=hostname(body.name),
        image=template,
        user=VM_USER if template == VM else CONTAINER_USER,
        is_vm=template == VM,
        startup_script=boot_script(script, body.script_args),
        ports=() if template == VM else container_ports(body.http_ports),
        keys=keys,
        comes_back=False,
        wire={
            "template": template,
            "http_ports": body.http_ports,
            "fs_id": body.fs_id,
            "resumed": False,
            "pausing_until": 0.0,
        },
    )
    return cloud.create(call.owner.name, order, number_from=FIRST_ID)


async def create_cpu(api: Emulator, call: Call) -> Response:
    """POST templates/vm/cpu/create."""
    body, cloud = read_body(call, CpuOrder), api.cloud
    _check_region(call, body.region)
    check_disk(body.hdd, VM, body.region)
    keys = account_keys(cloud, call, VM)
    check_means(cloud, call, "create")
    order = Order(
        slot=cpu_slot(cloud, body.region, body.vcpus, body.ram_gb).key,
        disk_gb=body.hdd,
        name=body.name,
        label=_label(cloud, body.name),
        hostname=hostname(body.name),
        image=VM,
        user=VM_USER,
        is_vm=True,
        keys=keys,
        wire={
            "template": VM,
            "http_ports": "",
            "fs_id": None,
            "resumed": False,
            "pausing_until": 0.0,
        },
    )
    try:
        if cloud.faults.take("create", "no_capacity"):
            raise NoSlot(order.slot)
        machine = cloud.create(call.owner.name, order, number_from=FIRST_ID)
    except NoSlot:
        raise declined_misspelled("This CPU size is out of stock") from None
    return answer({"machine_id": int(machine.id)})


def _label(cloud: Cloud, name: str) -> str:
    return "Name me" if cloud.faults.take("create", "ignored_field") else name
