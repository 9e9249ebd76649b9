"""Public addresses of Paperspace's machines: a static one is paid for until it is released.

What answers is each machine's own loopback address. A static address that is made with a machine
is that one; one that is claimed for itself leads nowhere, whatever machine it is given to.
"""

from __future__ import annotations

from gpubroker.model.money import Nanos, nanos
from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.paperspace.words import new_id
from gpubroker.sandbox.processes import own_address
from gpubroker.sandbox.rented import Machine, Thing

KIND = "public_ip"
MONTH_USD = 3.0


def claim(cloud: Cloud, account: str, region: str, machine: Machine | None = None) -> Thing:
    """A static one, of the machine's own where one is given."""
    thing = cloud.add_thing(
        account, KIND, named=new_id("ip"), region=region, machine=machine.id if machine else ""
    )
    thing.name = own_address(cloud.provider, machine.id if machine else thing.id)
    rate = Nanos(round(nanos(MONTH_USD) / cloud.facts.hours_per_month))
    thing.ledger.open("volume", rate, cloud.clock.now())
    cloud.save(thing)
    return thing


def static_of(cloud: Cloud, machine: Machine) -> Thing | None:
    """The machine's."""
    things = cloud.live_things(machine.account, KIND)
    return next((thing for thing in things if thing.wire["machine"] == machine.id), None)


def set_free(cloud: Cloud, machine: Machine) -> None:
    """It is kept, and paid for."""
    thing = static_of(cloud, machine)
    if thing is not None:
        thing.wire["machine"] = ""
        cloud.save(thing)


def public_ip(cloud: Cloud, machine: Machine) -> str | None:
    """A dynamic one is there only while the machine runs."""
    if machine.wire["ip_type"] == "none" or machine.ended:
        return None
    running = machine.address if machine.state == State.RUNNING else None
    static = static_of(cloud, machine)
    if static is None:
        return running or None
    own = static.name == own_address(cloud.provider, machine.id)
    return running if own and running else static.name
