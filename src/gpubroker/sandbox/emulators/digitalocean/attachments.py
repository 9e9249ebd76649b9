"""Which volumes hang on which droplet: a volume knows its droplet, a droplet that ends lets go."""

from __future__ import annotations

from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.rented import Machine, Thing

VOLUME = "volume"


def droplet_with(cloud: Cloud, volume: Thing) -> Machine | None:
    """The living droplet that a volume is attached to."""
    machine = cloud.machines.get(volume.wire["droplet_id"])
    if machine is None or machine.ended or machine.state == State.PREEMPTED:
        return None
    return machine


def attach(cloud: Cloud, volume: Thing, machine: Machine | None) -> None:
    """To a droplet, or to none."""
    volume.wire["droplet_id"] = machine.id if machine else ""
    cloud.save(volume)


def attached(cloud: Cloud, machine: Machine) -> list[Thing]:
    """A droplet's volumes."""
    things = cloud.live_things(machine.account, VOLUME)
    return [thing for thing in things if droplet_with(cloud, thing) is machine]


def attached_ids(cloud: Cloud, machine: Machine) -> list[str]:
    """Their ids."""
    return [thing.id for thing in attached(cloud, machine)]
