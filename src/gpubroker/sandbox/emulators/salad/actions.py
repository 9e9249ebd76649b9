"""What is done to SaladCloud's container groups: put up, stopped, started, scaled, deleted."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator
from gpubroker.sandbox.emulators.salad.events import note
from gpubroker.sandbox.emulators.salad.groups import instances_of, the_group, the_living_group
from gpubroker.sandbox.emulators.salad.life import arrive, begin, fitting, order_of
from gpubroker.sandbox.emulators.salad.words import new_id, no_body, refusal
from gpubroker.sandbox.rented import Machine

STOPPING_S = 5.0
"""So long an instance runs on, and is charged for, after it was told to stop."""


def _accepted() -> Response:
    return Response(status_code=202)


def _machine(
    cloud: Cloud,
    account: str,
    record: dict[str, Any],
    now: float,
    named: str,
    wire: dict[str, Any],
) -> Machine:
    slots = fitting(cloud, record) or list(cloud.stock.slots.values())
    machine = cloud.create(account, order_of(cloud, record, slots[0], now), named=lambda _: named)
    machine.wire |= {
        "wanted": False,
        "starved": False,
        "boot_from": now,
        "steps": 0,
        "runs": 0,
        "ends": 0,
        "deletion_cost": 0,
    } | wire
    arrive(machine)
    return machine


async def put_up(
    cloud: Cloud, account: str, record: dict[str, Any], place: tuple[str, str], now: float
) -> Machine:
    """A new group in an organization's project."""
    wire = {
        "id": new_id(),
        "record": record,
        "organization": place[0],
        "project": place[1],
        "on": False,
        "outcome": "",
        "why": "",
        "ran": False,
        "version": 1,
        "changed_at": now,
        "started_at": now,
        "events": [],
    }
    group = _machine(cloud, account, record, now, f"{record['name']}/{wire['id']}", wire)
    # Nobody is refused for want of computers: there is just none for this one.
    group.wire["starved"] = cloud.faults.take("create", "no_capacity") is not None
    if record["autostart_policy"]:
        await raise_group(cloud, group, now)
    cloud.save(group)
    return group


async def raise_group(cloud: Cloud, group: Machine, now: float) -> None:
    """Wants it, and starts as many of its instances as it can."""
    wire = group.wire
    wire |= {"on": True, "outcome": "", "why": "", "ran": False, "started_at": now}
    note(group, "Container Group Started", now)
    await scale(cloud, group, now)


def _enough(cloud: Cloud, group: Machine, now: float) -> list[Machine]:
    """The group's machines, as many as there are to be instances."""
    machines = instances_of(cloud, group)
    record = group.wire["record"]
    for number in range(len(machines), record["replicas"]):
        name = f"{group.id}-{cloud.number(f'instance of {group.id}', number)}"
        machine = _machine(cloud, group.account, record, now, name, {"of": group.id})
        machine.wire["starved"] = group.wire["starved"]
        machines.append(machine)
    return machines


async def let_go(cloud: Cloud, machine: Machine, now: float, *, for_good: bool = False) -> None:
    """One that runs goes on for a while; one that does not is gone at once."""
    machine.wire["wanted"] = False
    if machine.state == State.RUNNING:
        if for_good:
            machine.ends_at = now + STOPPING_S
        else:
            machine.stops_at = now + STOPPING_S
    elif for_good:
        await cloud.terminate(machine)
    else:
        await cloud.stop(machine)
    cloud.save(machine)


async def scale(cloud: Cloud, group: Machine, now: float) -> None:
    """As many instances as its record says; those that cost least to delete go first."""
    if not group.wire["on"]:
        return
    machines, replicas = _enough(cloud, group, now), group.wire["record"]["replicas"]
    wanted = [machine for machine in machines if machine.wire["wanted"]]
    cheapest = sorted(wanted, key=lambda m: (m is group, int(m.wire["deletion_cost"])))
    for machine in cheapest[: max(0, len(wanted) - replicas)]:
        await let_go(cloud, machine, now, for_good=machine is not group)
    idle = [m for m in machines if not m.wire["wanted"] and m.ends_at is None]
    for machine in idle[: max(0, replicas - len(wanted))]:
        machine.wire["wanted"], machine.stops_at = True, None
        if machine.state == State.STOPPED:
            begin(cloud, group, machine, now)
        cloud.save(machine)


async def redeploy(cloud: Cloud, group: Machine, now: float) -> None:
    """Every instance anew, on another computer."""
    for machine in instances_of(cloud, group):
        if machine.wire["wanted"]:
            await move(cloud, group, machine, now)


async def move(cloud: Cloud, group: Machine, machine: Machine, now: float) -> None:
    """One instance to another computer, its disk empty."""
    await cloud.stop(machine)
    arrive(machine)
    begin(cloud, group, machine, now)
    cloud.save(machine)


async def stop(api: Emulator, call: Call) -> Response:
    """POST stop: accepted at once, done later."""
    no_body(call)
    cloud, group = api.cloud, the_group(api.cloud, call)
    if group.wire["on"]:
        note(group, "Container Group Stopped", call.now)
    group.wire["on"] = False
    for machine in instances_of(cloud, group):
        await let_go(cloud, machine, call.now)
    return _accepted()


async def start(api: Emulator, call: Call) -> Response:
    """POST start: likewise; without money, or over quota, it is refused."""
    no_body(call)
    cloud, group = api.cloud, the_living_group(api.cloud, call)
    if cloud.faults.take("start", "quota"):
        raise refusal(403, "The organization's quota of container group replicas is exceeded.")
    if cloud.credit(call.owner.name) <= 0:
        raise refusal(403, "The organization has insufficient credits.")
    if group.state == State.FAILED and not group.exited:
        raise refusal(400, "A container group that failed to prepare cannot be started.")
    if not group.wire["on"]:
        starved = cloud.faults.take("start", "no_capacity") is not None
        for machine in instances_of(cloud, group):
            machine.wire["starved"] = starved
        await raise_group(cloud, group, call.now)
    cloud.save(group)
    return _accepted()


async def delete(api: Emulator, call: Call) -> Response:
    """DELETE containers/{name}: accepted; it is gone when the last of its instances is."""
    no_body(call)
    cloud, group = api.cloud, the_group(api.cloud, call)
    if cloud.faults.take("terminate", "terminate_ignored"):
        return _accepted()
    group.wire["on"] = False
    for machine in reversed(instances_of(cloud, group)):
        if machine.ends_at is None:
            await let_go(cloud, machine, call.now, for_good=True)
    return _accepted()
