"""How Northflank keeps services running: it waits for GPUs, restarts, and ends what is over."""

from __future__ import annotations

from functools import wraps

from starlette.responses import Response

from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud, NoSlot
from gpubroker.sandbox.emulators.base import Call, Emulator, Handler
from gpubroker.sandbox.rented import Machine

HIDDEN, PENDING, STAGING = 0.1, 0.25, 0.6
"""Until which share of a boot a service has no status, no container, a container that is staged."""
KEPT_S = 3600.0
"""So long a service that expired is kept, paused, before it is deleted."""


def share(cloud: Cloud, service: Machine, now: float) -> float:
    """How much of its boot is over."""
    began: float = service.wire["boot_from"]
    return (now - began) / cloud.facts.boot_s


def begin(cloud: Cloud, service: Machine, now: float) -> None:
    """Starts it where its GPUs are free; else it goes on waiting."""
    if service.wire["starved"]:
        return
    try:
        cloud.start(service, wipe=True)
    except NoSlot:
        return
    service.wire["boot_from"] = now
    renew(cloud, service)


def renew(cloud: Cloud, service: Machine) -> None:
    """It runs in another container from now on."""
    number = cloud.number("container", 0x2000)
    service.wire["container"] = f"{service.wire['id']}-{number:010x}-{number % 46655:05d}"


def again(cloud: Cloud, service: Machine, now: float) -> None:
    """Another container where the former one was, its disk empty."""
    cloud.reboot(service, wipe=True)
    service.wire["boot_from"] = now - STAGING * cloud.facts.boot_s
    renew(cloud, service)


def rest(service: Machine, now: float) -> None:
    """It is paused."""
    service.wire |= {"wanted": False, "paused": True, "changed_at": now}


def expires_at(service: Machine) -> float | None:
    """When it is paused by itself."""
    lasts: int | None = service.wire["record"]["createOptions"]["expiryTime"]
    return None if lasts is None else service.created_at + lasts


async def tend(cloud: Cloud, account: str, now: float) -> None:
    """Does what is due to the account's services."""
    for service in cloud.owned(account):
        if service.ended or not service.wire["wanted"]:
            continue
        end = expires_at(service)
        if end is not None and now >= end:
            rest(service, end)
        elif service.reason == "no credit" and service.state == State.STOPPED:
            rest(service, now)
        elif service.exited:
            service.wire["fell"] = service.wire["container"]
            again(cloud, service, now)
        elif service.state == State.STOPPED:
            begin(cloud, service, now)
        cloud.save(service)


def tended(handler: Handler) -> Handler:
    """A handler that finds everything as it has become by now."""

    @wraps(handler)
    async def run(api: Emulator, call: Call) -> Response:
        await tend(api.cloud, call.owner.name, call.now)
        return await handler(api, call)

    return run
