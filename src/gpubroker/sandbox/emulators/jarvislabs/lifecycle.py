"""Jarvis Labs' instances paused, resumed and destroyed: by a path for each of their kinds."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud, NoSlot
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.fastapi_words import read_body, read_query
from gpubroker.sandbox.emulators.jarvislabs.catalog import CPU, VM
from gpubroker.sandbox.emulators.jarvislabs.create import FIRST_ID
from gpubroker.sandbox.emulators.jarvislabs.instances import OneInstance, acted_on
from gpubroker.sandbox.emulators.jarvislabs.placing import cpu_slot, place, sold_out, terms
from gpubroker.sandbox.emulators.jarvislabs.settings import (
    Gigabytes,
    Settings,
    account_keys,
    boot_script,
    check_means,
    check_settings,
    container_ports,
    hostname,
    script_of,
)
from gpubroker.sandbox.emulators.jarvislabs.words import (
    Name,
    declined_misspelled,
    done,
    refusal,
    refusal_detail,
)
from gpubroker.sandbox.rented import Machine, Order
from gpubroker.sandbox.stock import Slot

PAUSING_S = 3.0
CONTAINER, GPU_VM, CPU_VM = "container", "GPU VM", "CPU VM"
_NOT_KEPT = ("root", "opt", "srv", "run", "tmp", "usr", "var")
"""Of a container's disk only /home outlives a pause."""


class Resume(Settings, kw_only=True):
    """Body of the resume of a container or a GPU VM."""

    machine_id: int


class CpuResume(Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of the resume of a CPU VM; without a size it keeps its own."""

    machine_id: int
    hdd: Gigabytes
    name: Name
    num_cpus: Annotated[int, Meta(ge=1, le=1)] = 1
    vcpus: int | None = None
    ram_gb: int | None = None


def _kind(cloud: Cloud, machine: Machine) -> str:
    if machine.wire["template"] != VM:
        return CONTAINER
    return CPU_VM if cloud.slot(machine).gpu == CPU else GPU_VM


def _one(api: Emulator, call: Call, kind: str) -> tuple[Machine, str]:
    """The instance that the query names, which must be of the path's kind."""
    machine, status = acted_on(api, call, read_query(call, OneInstance).machine_id)
    if _kind(api.cloud, machine) != kind:
        raise refusal_detail(400, f"Instance {machine.id} is not a {kind}")
    return machine, status


def destroying(kind: str) -> Callable[[Emulator, Call], Awaitable[Response]]:
    """POST …/destroy."""

    async def destroy(api: Emulator, call: Call) -> Response:
        machine, _ = _one(api, call, kind)
        await api.cloud.terminate(machine)
        return done()

    return destroy


def pausing(kind: str) -> Callable[[Emulator, Call], Awaitable[Response]]:
    """POST …/pause."""

    async def pause(api: Emulator, call: Call) -> Response:
        machine, status = _one(api, call, kind)
        if status != "Running":
            raise refusal(400, f"Can only pause a Running instance (current status: {status})")
        machine.wire["pausing_until"] = call.now + PAUSING_S
        await api.cloud.stop(machine)
        return done()

    return pause


def _paused(api: Emulator, call: Call, id_: int, kinds: tuple[str, ...], hdd: int) -> Machine:
    machine, status = acted_on(api, call, id_)
    if _kind(api.cloud, machine) not in kinds:
        raise refusal_detail(400, f"Instance {machine.id} is not of this kind")
    if status != "Paused":
        raise refusal(400, f"Can only resume a Paused instance (current status: {status})")
    if hdd < machine.order.disk_gb:
        raise refusal(400, "Storage can only be increased")
    return machine


async def resume_gpu(api: Emulator, call: Call) -> Response:
    """POST templates/{template}/resume: a container comes back under another id.

    It stays in its region. What is not said again (spot, the script) does not hold any more.
    """
    template, body, cloud = call.ids[0], read_body(call, Resume), api.cloud
    kinds = (GPU_VM,) if template == VM else (CONTAINER,)
    machine = _paused(api, call, body.machine_id, kinds, body.hdd)
    if machine.wire["template"] != template:
        raise refusal_detail(400, f"Instance {machine.id} is not of this template")
    region = cloud.slot(machine).place
    check_settings(cloud, call, body, template, region)
    keys = account_keys(cloud, call, template)
    check_means(cloud, call, "start")
    try:
        if cloud.faults.take("start", "no_capacity"):
            raise NoSlot(body.gpu_type)
        slot = await place(
            cloud, template, region, body.gpu_type, body.num_gpus, is_spot=body.is_spot
        )
    except NoSlot:
        raise sold_out(template, body.gpu_type, region) from None
    market, rate = terms(cloud, slot, call.now, is_spot=body.is_spot)
    script = None if template == VM else script_of(cloud, call, body)
    order = replace(
        machine.order,
        slot=slot.key,
        market=market,
        bid=rate,
        startup_script=boot_script(script, body.script_args),
        ports=() if template == VM else container_ports(body.http_ports),
    )
    machine.wire |= {"http_ports": body.http_ports, "fs_id": body.fs_id}
    await _start(cloud, call, machine, order, name=body.name, hdd=body.hdd, keys=keys)
    return answer({"machine_id": int(machine.id)})


async def resume_cpu(api: Emulator, call: Call) -> Response:
    """POST templates/vm/cpu/resume."""
    body, cloud = read_body(call, CpuResume), api.cloud
    machine = _paused(api, call, body.machine_id, (CPU_VM,), body.hdd)
    if (body.vcpus is None) != (body.ram_gb is None):
        raise refusal(400, "vcpus and ram_gb go together")
    old = cloud.slot(machine)
    slot = old
    if body.vcpus is not None and body.ram_gb is not None:
        slot = cpu_slot(cloud, old.place, body.vcpus, body.ram_gb)
    keys = account_keys(cloud, call, VM)
    check_means(cloud, call, "start")
    if cloud.faults.take("start", "no_capacity") or not cloud.stock.free(slot):
        raise declined_misspelled("This CPU size is out of stock")
    order = replace(machine.order, slot=slot.key)
    await _start(cloud, call, machine, order, name=body.name, hdd=body.hdd, keys=keys)
    return answer({"machine_id": int(machine.id)})


async def _start(
    cloud: Cloud,
    call: Call,
    machine: Machine,
    order: Order,
    *,
    name: str,
    hdd: int,
    keys: tuple[str, ...],
) -> None:
    """Boots it as the order says; keys that were added meanwhile are let in."""
    slot: Slot = cloud.stock.slots[order.slot]
    machine.order = replace(order, name=name, hostname=hostname(name))
    machine.label, machine.gpu, machine.keys = name, slot.gpu, keys
    machine.gpu_rate = cloud.stock.price(slot, call.now) if order.bid is None else order.bid
    machine.wire["resumed"] = True
    folder = cloud.machine_folder(machine)
    if machine.order.is_vm:
        await asyncio.to_thread(_let_in, folder / "home" / order.user, keys)
    else:
        cloud.renumber(machine, str(cloud.number("machine", FIRST_ID)))
        await asyncio.to_thread(_move, folder, cloud.machine_folder(machine))
    cloud.resize_disk(machine, gb=hdd, kept_gb=hdd)
    cloud.start(machine)


def _let_in(home: Path, keys: tuple[str, ...]) -> None:
    file = home / ".ssh" / "authorized_keys"
    if file.exists():
        present = file.read_text().splitlines()
        file.write_text("".join(f"{line}\n" for line in dict.fromkeys([*present, *keys])))


def _move(folder: Path, new: Path) -> None:
    for name in _NOT_KEPT:
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "etc" / "environment").unlink(missing_ok=True)
    if folder.exists():
        folder.rename(new)
