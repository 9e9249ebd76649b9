"""What is done to Verda's instances: started, shut down, deleted; several in one call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

from msgspec import Struct
from starlette.responses import Response

from gpubroker.sandbox.cloud import NoSlot
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.verda.deploy import check_means, no_capacity
from gpubroker.sandbox.emulators.verda.instances import UNMADE, owned_machine, status_of
from gpubroker.sandbox.emulators.verda.storage import Fate, attached, dispose, settle
from gpubroker.sandbox.emulators.verda.words import FORBIDDEN, INVALID, invalid, read_body, refusal
from gpubroker.sandbox.rented import Machine

_GONE = ("deleting", "starting_hibernation", "hibernating", "discontinued")


class Action(Struct, forbid_unknown_fields=True):
    """Body of PUT instances."""

    id: str | list[str]
    action: Literal[
        "boot", "start", "shutdown", "force_shutdown", "delete", "discontinue", "hibernate",
        "restore", "configure_spot", "delete_stuck", "deploy", "transfer",
    ]  # fmt: skip
    volume_ids: list[str] | None = None
    delete_permanently: bool = False


class _Failed(Exception):
    """An action on one instance that is not carried out."""

    def __init__(self, message: str, status: int = 400, code: str = INVALID) -> None:
        super().__init__(message)
        self.status, self.code = status, code


async def _start(api: Emulator, call: Call, machine: Machine, _: Action) -> None:
    status = status_of(machine, call.now)
    if status != "offline":
        raise _Failed(f"Can't start a {status} instance")
    check_means(api.cloud, call, "start")
    slot = api.cloud.slot(machine)
    if api.cloud.faults.take("start", "no_capacity"):
        raise no_capacity(slot, slot.facts["type"], slot.place)
    try:
        api.cloud.start(machine)
    except NoSlot:
        raise no_capacity(slot, slot.facts["type"], slot.place) from None


async def _shut_down(api: Emulator, call: Call, machine: Machine, _: Action) -> None:
    """It keeps its GPU, and goes on to be charged."""
    status = status_of(machine, call.now)
    if status != "running":
        raise _Failed(f"Can't shutdown a {status} instance")
    await api.cloud.stop(machine)


async def _delete(api: Emulator, call: Call, machine: Machine, body: Action) -> None:
    status = status_of(machine, call.now)
    if status == "provisioning":
        raise _Failed("Can't discontinue a provisioning instance")
    if status in _GONE:
        raise _Failed("Can't discontinue a discontinued instance")
    await _end(api, call, machine, body, unmade=status in UNMADE)


async def _hibernate(api: Emulator, call: Call, machine: Machine, _: Action) -> None:
    """Ends the instance, and keeps all volumes: deprecated by the vendor."""
    status = status_of(machine, call.now)
    if status != "offline":
        raise _Failed(f"Can't hibernate a {status} instance")
    machine.wire["hibernated"] = True
    keeping = Action(id=machine.id, action="hibernate", volume_ids=[])
    await _end(api, call, machine, keeping, unmade=False)


async def _end(api: Emulator, call: Call, machine: Machine, body: Action, *, unmade: bool) -> None:
    """Ends it, then does with each volume what the call says.

    Without a list the system's volume goes to the trash. Those that the list does not name are
    kept, and paid for. What was not made yet never is.
    """
    cloud, volumes = api.cloud, attached(api.cloud, machine)
    bound = {volume.id: volume.ends_with for volume in volumes}
    for volume in volumes:
        volume.ends_with = ""
    await cloud.terminate(machine)
    if not machine.ended:
        for volume in volumes:
            volume.ends_with = bound[volume.id]
        machine.wire["hibernated"] = False
        return
    named: Fate = "delete_permanently" if body.delete_permanently else "move_to_trash"
    for volume in volumes:
        fate: Fate = "keep_detached"
        if unmade and volume.wire["made_for"] == machine.id:
            fate = "delete_permanently"
        elif body.volume_ids is None:
            fate = "move_to_trash" if volume.wire["is_os"] else "keep_detached"
        elif volume.id in body.volume_ids:
            fate = named
        dispose(cloud, volume, fate, call.now)


async def _forbidden(_api: Emulator, _call: Call, _machine: Machine, body: Action) -> None:
    raise _Failed(f"The action {body.action} is not available", 403, FORBIDDEN)


_ACTIONS: dict[str, Callable[[Emulator, Call, Machine, Action], Awaitable[None]]] = {
    "boot": _start,
    "start": _start,
    "shutdown": _shut_down,
    "force_shutdown": _shut_down,
    "delete": _delete,
    "discontinue": _delete,
    "hibernate": _hibernate,
}
"""The others are for the vendor's own people, or gone with hibernation."""


async def act(api: Emulator, call: Call) -> Response:
    """PUT instances.

    One id as text, the older form, is refused as a whole; of a list each has its own outcome, and
    the answer is 207 where one failed.
    """
    body = read_body(call, Action)
    cloud = api.cloud
    settle(cloud, call.owner.name, call.now)
    ids = [body.id] if isinstance(body.id, str) else list(dict.fromkeys(body.id))
    if not ids:
        raise invalid("id should not be empty")
    machines = {id_: owned_machine(cloud, call.owner.name, id_, call.now) for id_ in ids}
    _check_volumes(api, call, body, [machine for machine in machines.values() if machine])
    rows = []
    for id_, machine in machines.items():
        row: dict[str, Any] = {"action": body.action, "instanceId": id_, "status": "success"}
        try:
            await _one(api, call, machine, body)
        except _Failed as failed:
            if isinstance(body.id, str):
                raise refusal(failed.status, failed.code, str(failed)) from None
            row |= {"status": "error", "error": str(failed), "statusCode": failed.status}
        rows.append(row)
    return answer(rows, 207 if any(row["status"] == "error" for row in rows) else 202)


async def _one(api: Emulator, call: Call, machine: Machine | None, body: Action) -> None:
    if machine is None:
        raise _Failed("Invalid instance id")
    await _ACTIONS.get(body.action, _forbidden)(api, call, machine, body)


def _check_volumes(api: Emulator, call: Call, body: Action, machines: list[Machine]) -> None:
    """Only those of the instances can be named; of one that is gone nobody knows any more."""
    if not machines or any(status_of(machine, call.now) in _GONE for machine in machines):
        return
    known = {volume.id for machine in machines for volume in attached(api.cloud, machine)}
    if not set(body.volume_ids or ()) <= known:
        raise invalid("Invalid volume id")
