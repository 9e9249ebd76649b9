"""What becomes of an instance in the course of time, as SaladCloud tells it."""

from __future__ import annotations

from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.rented import Machine

PREPARING = 0.25
"""That share of a first boot the image is being prepared, and no instance is there."""
CREATING = 0.75
_BOOT = ((0.5, "allocating"), (CREATING, "downloading"), (1.0, "creating"))
"""Until which share of the boot it is in a state."""
STEPS = (
    (PREPARING, "Instance Allocated"),
    (0.5, "Instance Downloading"),
    (CREATING, "Instance Creating"),
    (0.95, "Instance Starting"),
)
"""What the system's log says of a boot, and when."""


def share(cloud: Cloud, machine: Machine, now: float) -> float:
    """How much of its boot is over, 0 to 1."""
    began: float = machine.wire["boot_from"]
    return min(1.0, (now - began) / cloud.facts.boot_s)


def preparing(cloud: Cloud, group: Machine, now: float) -> bool:
    """Whether the image is not there yet: only before the first boot."""
    return now < group.created_at + PREPARING * cloud.facts.boot_s


def waits(machine: Machine) -> bool:
    """Whether it is wanted, and no computer was found for it."""
    return bool(machine.wire["wanted"]) and machine.state in (State.STOPPED, State.PREEMPTED)


def phase_of(cloud: Cloud, machine: Machine, now: float) -> str | None:
    """The state of an instance; None where there is none."""
    if machine.state == State.RUNNING and not machine.wire["wanted"]:
        return "stopping"
    if machine.state == State.RUNNING and machine.running_since is not None:
        return "running"
    if waits(machine) or "stuck_pending" in machine.trouble:
        born = now >= machine.created_at + PREPARING * cloud.facts.boot_s
        return "allocating" if born and machine.wire["wanted"] else None
    if machine.state in (State.PENDING, State.RUNNING):
        over = share(cloud, machine, now)
        if over < PREPARING and machine.wire["boot_from"] == machine.created_at:
            return None
        return next((name for until, name in _BOOT if over < until), "creating")
    return None
