"""What is done to Paperspace's machines: started, stopped, restarted, changed, deleted."""

from __future__ import annotations

from typing import Literal

from msgspec.structs import replace
from starlette.responses import Response

from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud, NoSlot
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.paperspace import addresses
from gpubroker.sandbox.emulators.paperspace.account import check_standing
from gpubroker.sandbox.emulators.paperspace.catalog import sold
from gpubroker.sandbox.emulators.paperspace.create import (
    DOOMED_S,
    Settings,
    check_quota,
    shuts_down_at,
)
from gpubroker.sandbox.emulators.paperspace.events import NO_CAPACITY, Event, event_json, record
from gpubroker.sandbox.emulators.paperspace.machines import (
    MONTHLY_USD,
    STOPPING_S,
    charge_disk,
    found,
    machine_json,
    state_of,
)
from gpubroker.sandbox.emulators.paperspace.words import (
    Name,
    Nothing,
    invalid,
    not_found,
    read_body,
    read_query,
    refusal,
)
from gpubroker.sandbox.rented import Machine

UNDELETABLE_S = 2.0
"""So long a new machine cannot be deleted."""
UPGRADE_S = 3.0


class Change(Settings, kw_only=True):
    """Body of the update."""

    name: Name | None = None
    machine_type: str | None = None
    disk_size: int | None = None
    public_ip_type: Literal["static", "dynamic", "none"] | None = None
    network_id: str | None = None
    restore_point_snapshot_id: str | None = None


def _in_state(cloud: Cloud, call: Call, *states: str) -> Machine:
    """The machine, or the refusal where it is in another state, or ended."""
    machine = found(cloud, call, call.ids[0])
    if machine.ended:
        raise not_found("Machine")
    state = state_of(machine, call.now)
    if state not in states:
        raise refusal(409, f"This machine is currently {state}.")
    return machine


def _done(cloud: Cloud, call: Call, machine: Machine, event: Event) -> Response:
    machine.wire["modified_at"] = call.now
    cloud.save(machine)
    row = machine_json(cloud, machine, call.now)
    return answer({"data": row, "event": event_json(cloud, event, call.now)})


async def start(api: Emulator, call: Call) -> Response:
    """PATCH start: without a free place it is off again after a while, and the event tells why."""
    read_body(call, Nothing)
    cloud = api.cloud
    machine = _in_state(cloud, call, "off")
    check_standing(api, call.owner)
    check_quota(cloud, call.owner.name, "start")
    if machine.state != State.STOPPED:
        await cloud.stop(machine)
    machine.wire |= {"boot": "starting", "stopped_at": 0.0}
    try:
        if cloud.faults.take("start", "no_capacity"):
            raise NoSlot(machine.order.slot)
        cloud.start(machine)
    except NoSlot:
        machine.wire["doomed_until"] = call.now + DOOMED_S
        event = record(cloud, machine, "start", lasts_s=DOOMED_S, error=NO_CAPACITY)
        return _done(cloud, call, machine, event)
    machine.stops_at = shuts_down_at(machine.wire["settings"], call.now + cloud.facts.boot_s)
    return _done(cloud, call, machine, record(cloud, machine, "start"))


async def stop(api: Emulator, call: Call) -> Response:
    """PATCH stop: gives the GPU back; the disk and a static address go on to cost."""
    read_body(call, Nothing)
    machine = _in_state(api.cloud, call, "serviceready", "ready")
    await api.cloud.stop(machine)
    machine.stops_at, machine.wire["stopped_at"] = None, call.now
    event = record(api.cloud, machine, "stop", lasts_s=STOPPING_S)
    return _done(api.cloud, call, machine, event)


async def restart(api: Emulator, call: Call) -> Response:
    """PATCH restart: it keeps its GPU."""
    read_body(call, Nothing)
    machine = _in_state(api.cloud, call, "serviceready", "ready")
    api.cloud.reboot(machine)
    event = record(api.cloud, machine, "restart", lasts_s=api.cloud.facts.boot_s)
    return _done(api.cloud, call, machine, event)


async def delete(api: Emulator, call: Call) -> Response:
    """DELETE: snapshots go with it; a static address, drives and networks stay."""
    read_query(call, Nothing)
    cloud = api.cloud
    machine = found(cloud, call, call.ids[0])
    if machine.ended:
        raise not_found("Machine")
    if call.now - machine.created_at < UNDELETABLE_S:
        raise refusal(409, "This machine is currently provisioning.")
    event = record(cloud, machine, "deactivate", lasts_s=STOPPING_S)
    await cloud.terminate(machine)
    if machine.ended_at is not None:
        addresses.set_free(cloud, machine)
    return _done(cloud, call, machine, event)


async def update(api: Emulator, call: Call) -> Response:
    """PUT: another type or disk only while it is off."""
    body, cloud = read_body(call, Change), api.cloud
    machine = found(cloud, call, call.ids[0])
    if machine.ended:
        raise not_found("Machine")
    if body.network_id is not None or body.restore_point_snapshot_id is not None:
        raise invalid("The network and the restore point cannot be changed")
    event = None
    if body.machine_type is not None or body.disk_size is not None:
        _resize(cloud, _in_state(cloud, call, "off"), body, call.now)
        machine.wire["upgraded_at"] = call.now + UPGRADE_S
        event = record(cloud, machine, "vm-upgrade", lasts_s=UPGRADE_S)
    machine.label = body.name or machine.label
    machine.wire["settings"] |= body.said()
    if machine.running_since is not None:
        machine.stops_at = shuts_down_at(machine.wire["settings"], machine.running_since)
    if body.public_ip_type is not None and body.public_ip_type != machine.wire["ip_type"]:
        _set_address(cloud, machine, body.public_ip_type)
    machine.wire["modified_at"] = call.now
    cloud.save(machine)
    told = {"data": machine_json(cloud, machine, call.now)}
    return answer(told if event is None else told | {"event": event_json(cloud, event, call.now)})


def _resize(cloud: Cloud, machine: Machine, body: Change, now: float) -> None:
    if body.disk_size is not None:
        if body.disk_size not in MONTHLY_USD or body.disk_size < machine.order.disk_gb:
            raise invalid(f"diskSize must be one of {sorted(MONTHLY_USD)}, and no smaller one")
        machine.order = replace(machine.order, disk_gb=body.disk_size)
        charge_disk(cloud, machine, body.disk_size)
    if body.machine_type is not None:
        slot = sold(cloud, body.machine_type).get(cloud.slot(machine).place)
        if slot is None:
            raise invalid("Invalid machine type")
        machine.order = replace(machine.order, slot=slot.key)
        machine.gpu, machine.gpu_rate = slot.gpu, cloud.stock.price(slot, now)


def _set_address(cloud: Cloud, machine: Machine, ip_type: str) -> None:
    """A static one that is not wanted any more is released."""
    static = addresses.static_of(cloud, machine)
    if static is not None:
        cloud.end_thing(static)
    if ip_type == "static":
        addresses.claim(cloud, machine.account, cloud.slot(machine).place, machine)
    machine.wire["ip_type"] = ip_type
