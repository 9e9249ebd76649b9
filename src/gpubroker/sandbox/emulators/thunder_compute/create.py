"""Thunder Compute's creating call. It takes no name: the service makes one up."""

from __future__ import annotations

import secrets
import string
from typing import Literal

from msgspec import Struct
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud, NoSlot
from gpubroker.sandbox.emulators.base import Call, Emulator, Refusal, answer, vendor_path
from gpubroker.sandbox.emulators.key_pair import new_pair
from gpubroker.sandbox.emulators.thunder_compute import snapshots
from gpubroker.sandbox.emulators.thunder_compute.catalog import (
    INCLUDED_GB,
    TEMPLATES,
    found_spec,
    memory_gib,
    rate,
)
from gpubroker.sandbox.emulators.thunder_compute.instances import SSH_PORT, number_of
from gpubroker.sandbox.emulators.thunder_compute.words import (
    check_public_key,
    invalid,
    new_id,
    read_body,
    refusal,
)
from gpubroker.sandbox.rented import Order
from gpubroker.sandbox.stock import Slot

USER = "ubuntu"
_NAME_LETTERS = string.ascii_lowercase + string.digits


class Create(Struct, forbid_unknown_fields=True):
    """Body of the call. The newest clients leave the mode out."""

    cpu_cores: int
    disk_size_gb: int
    gpu_type: str
    num_gpus: int
    template: str
    mode: Literal["prototyping", "production"] | None = None
    public_key: str | None = None


def _no_capacity(body: Create) -> Refusal:
    """The vendor names no code for it."""
    return refusal(400, f"{body.gpu_type} x{body.num_gpus} has no capacity available right now")


def _spec(cloud: Cloud, call: Call, body: Create) -> tuple[Slot, bool]:
    """What is wanted, and whether it is made from a snapshot."""
    slot = found_spec(cloud, body.gpu_type, body.num_gpus, body.mode)
    if slot is None:
        raise invalid(f"unsupported GPU configuration: {body.gpu_type} x{body.num_gpus}")
    if body.cpu_cores not in slot.facts["vcpu_options"]:
        raise invalid(f"cpu_cores must be one of {slot.facts['vcpu_options']}")
    if not INCLUDED_GB <= body.disk_size_gb <= slot.disk_max_gb:
        raise invalid(f"disk_size_gb must be {INCLUDED_GB} to {int(slot.disk_max_gb)}")
    if body.template in TEMPLATES:
        return slot, False
    snapshot = snapshots.ready(cloud, call.owner.name, body.template, call.now)
    if snapshot is None:
        raise invalid(f"unknown template: {body.template}")
    if body.disk_size_gb < snapshot.wire["gb"]:
        raise invalid(f"disk_size_gb must be at least {snapshot.wire['gb']} for this snapshot")
    return slot, True


async def create(api: Emulator, call: Call) -> Response:
    """POST instances/create: 201, and 200 at the older address."""
    body = read_body(call, Create)
    cloud = api.cloud
    slot, is_snapshot = _spec(cloud, call, body)
    public, private = (
        new_pair() if body.public_key is None else (check_public_key(body.public_key), "")
    )
    if cloud.faults.take("create", "quota"):
        raise refusal(400, "instance limit reached: your quota is used up")
    if cloud.credit(call.owner.name) <= 0:
        raise refusal(400, "payment required: your balance is used up")
    if cloud.faults.take("create", "no_capacity"):
        raise _no_capacity(body)
    if cloud.faults.take("create", "ignored_field"):
        public, private = new_pair()
    name = "".join(secrets.choice(_NAME_LETTERS) for _ in range(8))
    order = Order(
        slot=slot.key,
        disk_gb=body.disk_size_gb,
        name=name,
        label=name,
        image=body.template,
        user=USER,
        is_vm=True,
        own_address=False,
        vcpus=body.cpu_cores,
        ram_mb=memory_gib(slot, body.cpu_cores) * 1024,
        ports=((SSH_PORT, "tcp"),),
        keys=(public,),
        wire={
            "template": body.template,
            "snapshot": is_snapshot,
            "http_ports": TEMPLATES.get(body.template, {}).get("openPorts", []),
            "snapped_at": 0.0,
        },
    )
    list_price = cloud.stock.price(slot, call.now)
    try:
        machine = cloud.create(call.owner.name, order, named=new_id)
    except NoSlot:
        raise _no_capacity(body) from None
    wanted = rate(cloud, slot, body.cpu_cores, body.disk_size_gb, call.now)
    machine.gpu_rate = type(wanted)(machine.gpu_rate + wanted - list_price)
    cloud.save(machine)
    number = number_of(cloud, machine, call.now)
    told = {"identifier": number, "key": private, "uuid": machine.id}
    return answer(told, 201 if vendor_path(call.request).startswith("/v1/") else 200)
