"""What is done to Hyperstack's VMs. What changes a state is a GET, all the same."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud, NoSlot
from gpubroker.sandbox.emulators.base import Call, Emulator
from gpubroker.sandbox.emulators.hyperstack import network, volumes
from gpubroker.sandbox.emulators.hyperstack.catalog import flavors_named, free_count
from gpubroker.sandbox.emulators.hyperstack.create import check_means, no_stock
from gpubroker.sandbox.emulators.hyperstack.machines import found, status_of
from gpubroker.sandbox.emulators.hyperstack.words import (
    bad,
    check_query,
    done,
    flag,
    no_body,
    not_found,
    read_body,
)
from gpubroker.sandbox.rented import Machine


class Labels(Struct, forbid_unknown_fields=True):
    """Body of PUT label."""

    labels: list[str]


class Resize(Struct, forbid_unknown_fields=True):
    """Body of POST resize."""

    flavor_name: Annotated[str, Meta(min_length=1)]


def _in_status(cloud: Cloud, call: Call, *statuses: str) -> Machine:
    """The VM, or the refusal where it is in another status."""
    machine = found(cloud, call)
    status = status_of(machine, call.now)
    if status not in statuses:
        raise bad(f"Virtual machine is in {status} state, this needs {' or '.join(statuses)}")
    return machine


async def stop(api: Emulator, call: Call) -> Response:
    """GET stop: SHUTOFF keeps the GPU, and is paid for as ACTIVE is."""
    check_query(call)
    machine = _in_status(api.cloud, call, "ACTIVE")
    machine.order = replace(machine.order, keeps_gpu=True)
    machine.wire["stopped_at"] = call.now
    machine.wire["shutoffs"].append(int(call.now))
    # A stretch of its own, for the record of charges.
    machine.ledger.close(call.now, "gpu")
    await api.cloud.stop(machine)
    machine.ledger.open("gpu", machine.gpu_rate, call.now)
    api.cloud.save(machine)
    return done("Virtual machine stopping initiated successfully")


async def hibernate(api: Emulator, call: Call) -> Response:
    """GET hibernate: gives the hardware back; the public address too, unless it is retained."""
    retain = flag(check_query(call, ("retain_ip",)), "retain_ip", otherwise=False)
    machine = _in_status(api.cloud, call, "ACTIVE")
    slot = api.cloud.slot(machine)
    if "no-hibernation" in slot.facts["labels"]:
        raise bad(f"Flavor {slot.facts['flavor']} does not support hibernation")
    machine.wire["stopped_at"] = call.now
    await api.cloud.stop(machine)
    if not retain:
        network.take_address(api.cloud, machine)
    return done("Virtual machine hibernation initiated successfully")


async def start(api: Emulator, call: Call) -> Response:
    """GET start: what is SHUTOFF; on its way it is free."""
    check_query(call)
    machine = _in_status(api.cloud, call, "SHUTOFF")
    _boot(api, call, machine, "STARTING")
    machine.order = replace(machine.order, keeps_gpu=False)
    machine.ledger.close(call.now, "gpu")
    api.cloud.save(machine)
    return done("Virtual machine starting initiated successfully")


async def restore(api: Emulator, call: Call) -> Response:
    """GET hibernate-restore: needs stock."""
    check_query(call)
    machine = _in_status(api.cloud, call, "HIBERNATED")
    _boot(api, call, machine, "RESTORING")
    return done("Virtual machine restore from hibernation initiated successfully")


def _boot(api: Emulator, call: Call, machine: Machine, status: str) -> None:
    cloud = api.cloud
    check_means(cloud, call, "start")
    if cloud.faults.take("start", "no_capacity"):
        raise no_stock(cloud.slot(machine))
    try:
        cloud.start(machine)
    except NoSlot:
        raise no_stock(cloud.slot(machine)) from None
    machine.wire["boot"] = status
    cloud.save(machine)


async def hard_reboot(api: Emulator, call: Call) -> Response:
    """GET hard-reboot."""
    check_query(call)
    machine = _in_status(api.cloud, call, "ACTIVE")
    machine.wire["boot"] = "HARD_REBOOT"
    api.cloud.reboot(machine)
    return done("Virtual machine hard reboot initiated successfully")


async def resize(api: Emulator, call: Call) -> Response:
    """POST resize: to another flavor of the region, with a reboot."""
    body = read_body(call, Resize)
    cloud = api.cloud
    machine = _in_status(cloud, call, "ACTIVE")
    slot = flavors_named(cloud, body.flavor_name).get(cloud.slot(machine).place)
    if slot is None:
        raise not_found(f"Flavor {body.flavor_name} does not exist in this region")
    if slot.key == machine.order.slot:
        raise bad("Virtual machine already has this flavor")
    if not free_count(cloud, slot):
        raise no_stock(slot)
    machine.order = replace(machine.order, slot=slot.key)
    machine.gpu, machine.gpu_rate = slot.gpu, cloud.stock.price(slot, call.now)
    machine.ledger.open("gpu", machine.gpu_rate, call.now)
    machine.wire["boot"] = "RESIZING"
    cloud.reboot(machine)
    return done("Virtual machine resize initiated successfully")


async def delete(api: Emulator, call: Call) -> Response:
    """DELETE: not while it is being created; what deletes already is told so again."""
    no_body(call)
    machine = found(api.cloud, call)
    if status_of(machine, call.now) == "CREATING":
        raise bad(
            f"VM {machine.order.name} is currently being created and cannot be deleted yet. "
            "Please wait until the creation process is finished before attempting deletion."
        )
    await api.cloud.terminate(machine)
    return done("Deleting virtual machine initiated successfully")


async def set_labels(api: Emulator, call: Call) -> Response:
    """PUT label: these and no others."""
    body = read_body(call, Labels)
    machine = found(api.cloud, call)
    machine.wire["labels"] = body.labels
    api.cloud.save(machine)
    return done("Virtual machine labels updated successfully")


async def create_rule(api: Emulator, call: Call) -> Response:
    """POST sg-rules."""
    return await network.create_rule(api, call, found(api.cloud, call))


async def delete_rule(api: Emulator, call: Call) -> Response:
    """DELETE sg-rules/{id}."""
    return await network.delete_rule(api, call, found(api.cloud, call))


async def attach_address(api: Emulator, call: Call) -> Response:
    """POST attach-floatingip."""
    return await network.attach(api, call, found(api.cloud, call))


async def detach_address(api: Emulator, call: Call) -> Response:
    """POST detach-floatingip."""
    return await network.detach(api, call, found(api.cloud, call))


async def attach_volumes(api: Emulator, call: Call) -> Response:
    """POST attach-volumes."""
    return await volumes.attach_many(api, call, found(api.cloud, call))


async def detach_volumes(api: Emulator, call: Call) -> Response:
    """POST detach-volumes."""
    return await volumes.detach_many(api, call, found(api.cloud, call))
