"""A pod that exists: found, listed, started again on its host, and where it answers."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from gpubroker.model.money import Nanos
from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud, NoSlot
from gpubroker.sandbox.emulators.runpod.refused import (
    BID_TOO_LOW,
    HOST_FULL,
    HOURS_OF_CREDIT,
    NO_BALANCE,
    OVER_LIMIT,
    Refused,
)
from gpubroker.sandbox.emulators.runpod.words import vendor_id
from gpubroker.sandbox.rented import Machine

ADDRESS = "127.0.0.1"
SSH = 22


def host_id(machine: Machine) -> str:
    """The user name at the vendor's SSH proxy."""
    return f"{machine.id}-{vendor_id('host', machine.order.slot, 8)}"


def find_pod(cloud: Cloud, account: str, id_: str) -> Machine | None:
    """The account's pod of that id; ended ones are gone."""
    machine = cloud.machines.get(id_)
    if machine is None or machine.ended or machine.account != account:
        return None
    return machine


def list_pods(cloud: Cloud, account: str, now: float) -> list[Machine]:
    """The account's pods, with what faults do to lists."""
    lag = cloud.faults.take("list", "list_lag")
    shown = [
        machine
        for machine in cloud.owned(account)
        if not machine.ended
        and machine.hidden_until <= now
        and not (lag and now - machine.created_at < lag.delay_s)
    ]
    if cloud.faults.take("list", "duplicate_list"):
        shown = [machine for machine in shown for _ in range(2)]
    if cloud.faults.take("list", "list_partial"):
        shown = shown[: len(shown) // 2]
    return shown


def exited(machine: Machine) -> bool:
    """Stopped, outbid, or ended from inside: all one to RunPod."""
    stopped = machine.state in (State.STOPPED, State.PREEMPTED)
    return stopped or (machine.state == State.FAILED and machine.exited)


def shown_rate(machine: Machine) -> Nanos:
    """What its record says that it costs an hour: nothing once it has exited, billed or not."""
    return Nanos(0) if exited(machine) else machine.gpu_rate


def open_ports(machine: Machine) -> list[dict[str, Any]]:
    """Where a running pod's ports are found; TCP ones only on a host with a public address."""
    if machine.state != State.RUNNING:
        return []
    return [
        {
            "private": number,
            "public": machine.ssh_port
            if number == SSH
            else machine.published.get(f"{number}/{protocol}"),
            "type": protocol,
            "ip": ADDRESS,
        }
        for number, protocol in machine.order.ports
        if protocol == "http" or machine.wire["public_ip"]
    ]


def start(cloud: Cloud, machine: Machine, *, gpus: int | None = None) -> None:
    """Boots a stopped pod on the host that it is pinned to; its container disk is empty.

    Raises Refused.
    """
    if cloud.faults.take("start", "quota"):
        raise Refused("quota", OVER_LIMIT)
    if cloud.credit(machine.account) < machine.gpu_rate * HOURS_OF_CREDIT:
        raise Refused("balance", NO_BALANCE)
    if cloud.faults.take("start", "no_capacity"):
        raise Refused("host_full", HOST_FULL)
    floor = cloud.stock.floor(cloud.slot(machine), cloud.clock.now()) or 0
    if machine.is_spot and machine.gpu_rate < floor:
        raise Refused("bid", BID_TOO_LOW)
    if gpus is not None and gpus != cloud.slot(machine).gpu_count:
        _resize(cloud, machine, gpus)
    try:
        cloud.start(machine, wipe=True)
    except NoSlot:
        raise Refused("host_full", HOST_FULL) from None


def _resize(cloud: Cloud, machine: Machine, gpus: int) -> None:
    """The same host with another number of GPUs."""
    slot = cloud.slot(machine)
    other = cloud.stock.slots.get(f"{slot.home}/{gpus}")
    if other is None or not cloud.stock.free(other):
        raise Refused("host_full", HOST_FULL)
    machine.order = replace(machine.order, slot=other.key)
    machine.gpu_rate = Nanos(machine.gpu_rate * other.gpu_count // slot.gpu_count)
