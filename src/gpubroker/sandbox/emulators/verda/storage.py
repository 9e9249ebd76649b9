"""What becomes of Verda's volumes: made, attached, detached, thrown away, and charged for.

A volume is paid for as long as it exists, attached or not; in the trash too, for all that the
vendor says: it stays there for 96 hours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from gpubroker.model.money import HOURS_PER_MONTH, Nanos, nanos
from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.verda.words import new_id
from gpubroker.sandbox.rented import Machine, Thing

KIND = "volume"
TRASH_S = 96 * 3600.0
OS_TYPE = "NVMe"
USD_PER_GB_MONTH: Mapping[str, float] = {"NVMe": 0.2, "HDD": 0.05, "NVMe_Shared": 0.2}

Fate = Literal["keep_detached", "move_to_trash", "delete_permanently"]
"""What becomes of a volume when its instance ends."""


def hourly_usd(type_: str, size_gb: int) -> float:
    """Per hour, rounded up to the hundredth of a cent."""
    exact = USD_PER_GB_MONTH[type_] * size_gb / HOURS_PER_MONTH
    return math.ceil(round(exact * 10_000, 6)) / 10_000


def new_volume(
    cloud: Cloud,
    account: str,
    *,
    name: str,
    size: int,
    type_: str,
    location: str,
    is_os: bool = False,
    fate: Fate = "keep_detached",
    made_for: str = "",
) -> Thing:
    """A detached one, charged for from now on.

    `fate` is for the end of a spot instance; `made_for` names the instance whose order has it made.
    """
    thing = cloud.add_thing(
        account,
        KIND,
        named=new_id,
        name=name,
        size=size,
        type=type_,
        location=location,
        is_os=is_os,
        fate=fate,
        made_for=made_for,
        instance_id=None,
        target=None,
        trashed_at=None,
    )
    thing.state = "detached"
    charge(cloud, thing)
    return thing


def charge(cloud: Cloud, thing: Thing) -> None:
    """By its present type and size."""
    rate = Nanos(nanos(hourly_usd(thing.wire["type"], thing.wire["size"])))
    thing.ledger.open("volume", rate, cloud.clock.now())
    cloud.save(thing)


def attached(cloud: Cloud, machine: Machine) -> list[Thing]:
    """The instance's volumes, the system's first."""
    things = cloud.live_things(machine.account, KIND)
    mine = [thing for thing in things if thing.wire["instance_id"] == machine.id]
    return sorted(mine, key=lambda thing: not thing.wire["is_os"])


def attach(cloud: Cloud, thing: Thing, machine: Machine) -> None:
    """At the next free device; on a spot instance it may be bound to the instance's end."""
    taken = {volume.wire["target"] for volume in attached(cloud, machine)}
    devices = (f"vd{letter}" for letter in "abcdefghijklmnopqrstuvwxyz")
    thing.wire["target"] = next(device for device in devices if device not in taken)
    thing.wire["instance_id"], thing.state = machine.id, "attached"
    bound = machine.is_spot and thing.wire["fate"] == "delete_permanently"
    thing.ends_with = machine.id if bound else ""
    cloud.save(thing)


def detach(cloud: Cloud, thing: Thing) -> None:
    """It is kept, and paid for."""
    thing.wire["instance_id"] = thing.wire["target"] = None
    thing.state, thing.ends_with = "detached", ""
    cloud.save(thing)


def dispose(cloud: Cloud, thing: Thing, fate: Fate, at: float) -> None:
    """Detaches it, and does with it what is wanted."""
    detach(cloud, thing)
    if fate == "move_to_trash":
        thing.wire["trashed_at"], thing.state = at, "deleted"
        cloud.save(thing)
    elif fate == "delete_permanently":
        cloud.end_thing(thing, at)


def settle(cloud: Cloud, account: str, now: float) -> None:
    """Makes happen to an account's volumes what was due: ends of instances, and of the trash."""
    for machine in cloud.owned(account):
        evicted = machine.state == State.PREEMPTED
        if not (evicted or machine.ended):
            continue
        at = machine.ended_at or _last_charged(machine)
        for thing in attached(cloud, machine):
            kept: Fate = "move_to_trash" if thing.wire["is_os"] else "keep_detached"
            dispose(cloud, thing, thing.wire["fate"] if evicted else kept, at)
    for thing in cloud.live_things(account, KIND):
        trashed_at = thing.wire["trashed_at"]
        if trashed_at is not None and trashed_at + TRASH_S <= now:
            cloud.end_thing(thing, trashed_at + TRASH_S)


def _last_charged(machine: Machine) -> float:
    """When an instance that was taken away was lost."""
    return max((line.end or 0 for line in machine.ledger.lines), default=0) or machine.created_at
