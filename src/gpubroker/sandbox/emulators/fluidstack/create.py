"""FluidStack's creating call: so many GPUs of a type, in a region or anywhere."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud, NoSlot
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.fastapi_words import read_body, unprocessable
from gpubroker.sandbox.emulators.fluidstack.catalog import SYSTEMS, GpuType, Region, stopped_rate
from gpubroker.sandbox.emulators.fluidstack.instances import USER, check_means, out_of_stock
from gpubroker.sandbox.emulators.fluidstack.keys import key_named
from gpubroker.sandbox.emulators.fluidstack.words import new_instance_id
from gpubroker.sandbox.rented import Order
from gpubroker.sandbox.stock import Slot


class VolumeId(Struct, forbid_unknown_fields=True):
    """A volume's id, in two parts."""

    value: UUID
    prefix: str


class Volume(Struct, forbid_unknown_fields=True):
    """A volume, told whole."""

    id: VolumeId
    name: str
    size_gb: int
    cost_gb_hr: float | str
    created_at: datetime | None
    updated_at: datetime | None
    status: (
        Literal["creating", "attached", "attaching", "ready", "unknown", "error", "deleted"] | None
    ) = "creating"


class Create(Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of the call."""

    gpu_type: GpuType
    ssh_key: str
    name: Annotated[str, Meta(min_length=1)] = ""
    gpu_count: Annotated[int, Meta(ge=1)] = 1
    operating_system_label: str = "ubuntu_20_04_lts_nvidia"
    region: Region | None = None
    volumes: list[Volume] = []

    @property
    def words(self) -> str:
        """What is wanted."""
        return f"{self.gpu_count}x {self.gpu_type}" + (f" in {self.region}" if self.region else "")


def _check(cloud: Cloud, call: Call, body: Create) -> str:
    """The public key; refuses what names nothing that there is."""
    if body.operating_system_label not in SYSTEMS:
        raise unprocessable(("body", "operating_system_label"), "Unknown operating system")
    if body.volumes:
        # No call makes one.
        raise unprocessable(("body", "volumes", 0, "id"), "Volume not found")
    counts = {slot.gpu_count for slot in cloud.stock.by_gpu.get(body.gpu_type, ())}
    if counts and body.gpu_count not in counts:
        raise unprocessable(("body", "gpu_count"), f"Must be one of {sorted(counts)}")
    key = key_named(cloud, call.owner.name, body.ssh_key)
    if key is None:
        raise unprocessable(("body", "ssh_key"), "SSH key not found")
    public_key: str = key.wire["public_key"]
    return public_key


def _slot(cloud: Cloud, body: Create) -> Slot:
    """Free, and in the region where one is named. Raises NoSlot."""
    for slot in cloud.stock.by_gpu.get(body.gpu_type, ()):
        here = body.region in (None, slot.place)
        if here and slot.gpu_count == body.gpu_count and cloud.stock.free(slot):
            return slot
    raise NoSlot(body.gpu_type)


async def create(api: Emulator, call: Call) -> Response:
    """POST instances: 202, with neither status nor address nor price."""
    body, cloud = read_body(call, Create), api.cloud
    public_key = _check(cloud, call, body)
    check_means(cloud, call, "create")
    name = body.name or f"instance-{secrets.token_hex(4)}"
    try:
        if cloud.faults.take("create", "no_capacity"):
            raise NoSlot(body.gpu_type)
        slot = _slot(cloud, body)
        ignored = cloud.faults.take("create", "ignored_field")
        order = Order(
            slot=slot.key,
            disk_gb=slot.disk_max_gb,
            name=name,
            label="" if ignored else name,
            hostname=f"fs-{secrets.token_hex(4)}",
            image=body.operating_system_label,
            user=USER,
            is_vm=True,
            keys=(public_key,),
            ends_penniless=True,
            wire={"ssh_key": body.ssh_key, "begun_at": call.now, "boot": "provisioning"},
        )
        machine = cloud.create(call.owner.name, order, named=new_instance_id)
    except NoSlot:
        raise out_of_stock(body.words) from None
    machine.disk_rate_stopped = stopped_rate(slot)
    cloud.save(machine)
    made = {"id": machine.id, "name": name, "gpu_type": body.gpu_type}
    return answer(made | {"operating_system_label": body.operating_system_label}, 202)
