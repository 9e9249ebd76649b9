"""How SaladCloud keeps what is wanted running: it waits for computers, and restarts what ended."""

from __future__ import annotations

import shlex
from functools import wraps
from typing import Any

from msgspec.structs import replace
from starlette.responses import Response

from gpubroker.model.money import FREE
from gpubroker.model.terms import Market, State
from gpubroker.sandbox.cloud import Cloud, NoSlot
from gpubroker.sandbox.emulators.base import Call, Emulator, Handler
from gpubroker.sandbox.emulators.salad.catalog import GIB, large_enough, price, slots_of
from gpubroker.sandbox.emulators.salad.events import note, note_life
from gpubroker.sandbox.emulators.salad.groups import instances_of
from gpubroker.sandbox.emulators.salad.phases import CREATING, waits
from gpubroker.sandbox.emulators.salad.words import new_id
from gpubroker.sandbox.rented import Machine, Order
from gpubroker.sandbox.stock import Slot

ALWAYS, ON_FAILURE = "always", "on_failure"


def fitting(cloud: Cloud, record: dict[str, Any]) -> list[Slot]:
    """Everything that a group can run on, whoever has it now."""
    wants, countries = record["container"]["resources"], record["country_codes"]
    size = wants["cpu"], wants["memory"], wants["storage_amount"]
    return [
        slot
        for slot in slots_of(cloud, wants["gpu_classes"])
        if large_enough(slot, *size) and (not countries or slot.place in countries)
    ]


def free(cloud: Cloud, record: dict[str, Any]) -> Slot | None:
    """The first of them that nobody has."""
    return next((slot for slot in fitting(cloud, record) if cloud.stock.free(slot)), None)


def order_of(cloud: Cloud, record: dict[str, Any], slot: Slot, now: float) -> Order:
    """One instance of a group, on something."""
    container, networking = record["container"], record["networking"]
    priority = record["priority"]
    return Order(
        slot=slot.key,
        market=Market.ON_DEMAND if priority == "high" else Market.SPOT,
        # Every priority has its own price, and none is an auction.
        bid=price(cloud, slot, priority, now) or FREE,
        disk_gb=container["resources"]["storage_amount"] / GIB,
        name=record["name"],
        label=record["display_name"],
        image=container["image"],
        env=container["environment_variables"],
        command=shlex.join(container["command"]) if container["command"] else None,
        ports=() if networking is None else ((networking["port"], "http"),),
        start=False,
        comes_back=False,
    )


def arrive(machine: Machine) -> None:
    """It is another instance from now on, on another computer."""
    machine.wire["instance"], machine.wire["node"] = new_id(), new_id()


def begin(cloud: Cloud, group: Machine, machine: Machine, now: float) -> bool:
    """Starts an instance where there is a computer for it; else it goes on waiting."""
    wire, record = machine.wire, group.wire["record"]
    slot = None if wire["starved"] else free(cloud, record)
    if slot is None:
        return False
    order = order_of(cloud, record, slot, now)
    env = order.env | _own_env(group, machine)
    if order.bid != machine.order.bid:
        machine.gpu_rate = order.bid or FREE
    machine.order = replace(order, env=env, hostname=machine.wire["node"])
    try:
        cloud.start(machine, wipe=True)
    except NoSlot:
        return False
    wire["boot_from"], wire["steps"] = now, 0
    return True


def _own_env(group: Machine, machine: Machine) -> dict[str, str]:
    """What SaladCloud puts into every container."""
    return {
        "SALAD_MACHINE_ID": machine.wire["node"],
        "SALAD_INSTANCE_ID": machine.wire["instance"],
        "SALAD_CONTAINER_GROUP_ID": group.wire["id"],
        "SALAD_CONTAINER_GROUP_NAME": group.order.name,
        "SALAD_ORGANIZATION_NAME": group.wire["organization"],
        "SALAD_PROJECT_NAME": group.wire["project"],
    }


async def tend(cloud: Cloud, account: str, now: float) -> None:
    """Writes down what became of the account's instances, and does what is due to them."""
    for machine in cloud.owned(account):
        if machine.ended or "instance" not in machine.wire:
            continue
        group = cloud.machines[machine.wire.get("of", machine.id)]
        note_life(cloud, group, machine, now)
        if machine.wire["wanted"]:
            await _keep(cloud, group, machine, now)
        cloud.save(machine)
        cloud.save(group)


async def _keep(cloud: Cloud, group: Machine, machine: Machine, now: float) -> None:
    if machine.reason == "no credit" and machine.state == State.STOPPED:
        machine.wire["wanted"] = False
        if group.wire["on"]:
            group.wire["on"] = False
            note(group, "Container Group Stopped", now)
    elif machine.exited:
        await _after_exit(cloud, group, machine, now)
    elif waits(machine):
        if machine.state == State.PREEMPTED:
            arrive(machine)
        begin(cloud, group, machine, now)


async def _after_exit(cloud: Cloud, group: Machine, machine: Machine, now: float) -> None:
    failed = not machine.reason.endswith(" 0")
    policy = group.wire["record"]["restart_policy"]
    if policy == ALWAYS or (policy == ON_FAILURE and failed):
        cloud.reboot(machine)
        # It is on its computer already, with its image.
        machine.wire["boot_from"] = now - CREATING * cloud.facts.boot_s
        return
    why = machine.reason
    machine.wire["wanted"] = False
    await cloud.stop(machine)
    if not any(m.wire["wanted"] for m in instances_of(cloud, group)):
        group.wire["on"] = False
        group.wire["outcome"] = "failed" if failed else "succeeded"
        group.wire["why"] = why if failed else ""
        group.wire["changed_at"] = now


def tended(handler: Handler) -> Handler:
    """A handler that finds everything as it has become by now."""

    @wraps(handler)
    async def run(api: Emulator, call: Call) -> Response:
        await tend(api.cloud, call.owner.name, call.now)
        return await handler(api, call)

    return run
