"""DigitalOcean's actions: what is done to a droplet, one thing at a time, and its outcome.

A droplet that is off keeps its place and bills in full; only its end frees it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

from msgspec import Struct
from starlette.responses import Response

from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud, NoSlot
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.digitalocean import attachments
from gpubroker.sandbox.emulators.digitalocean.droplet_record import (
    OFF_S,
    SHORT_S,
    STARTING,
    STOPPING,
    action_json,
    actions_of,
    begin_action,
    check_idle,
    droplet_of,
    living,
)
from gpubroker.sandbox.emulators.digitalocean.images import add_snapshot, image_json
from gpubroker.sandbox.emulators.digitalocean.words import (
    NO_CAPACITY,
    PAGED,
    check_query,
    not_found,
    paged,
    read_body,
    unprocessable,
)
from gpubroker.sandbox.rented import Machine, Thing

ALREADY_OFF = "Droplet is already powered off."
ALREADY_ON = "Droplet is already powered on."
BY_TAG = frozenset(
    {"power_cycle", "power_on", "power_off", "shutdown", "enable_ipv6", "enable_backups",
     "disable_backups", "snapshot"}
)  # fmt: skip
_NOT_HERE = ("resize", "restore", "change_kernel", "change_backup_policy")
"""What a droplet with GPUs does not do."""


class ActionWanted(Struct, forbid_unknown_fields=True):
    """Body of POST droplets/{id}/actions."""

    type: Literal[
        "enable_backups", "disable_backups", "change_backup_policy", "reboot", "power_cycle",
        "shutdown", "power_off", "power_on", "restore", "password_reset", "resize", "rebuild",
        "rename", "change_kernel", "enable_ipv6", "snapshot",
    ]  # fmt: skip
    name: str | None = None
    image: str | int | None = None
    size: str | None = None
    disk: bool | None = None
    kernel: int | None = None
    backup_policy: dict[str, Any] | None = None


async def act(api: Emulator, call: Call) -> Response:
    """POST droplets/{id}/actions."""
    wanted = read_body(call, ActionWanted)
    machine = droplet_of(api.cloud, call)
    row = await _act(api.cloud, machine, wanted, call.now)
    return answer({"action": row}, 201)


async def act_on_tagged(api: Emulator, call: Call) -> Response:
    """POST droplets/actions?tag_name=: all that have the tag, or none."""
    wanted = read_body(call, ActionWanted, ("tag_name",))
    tag = call.request.query_params.get("tag_name")
    if not tag:
        raise unprocessable("tag_name is required")
    if wanted.type not in BY_TAG:
        raise unprocessable(f"{wanted.type} cannot be done by tag")
    machines = [m for m in living(api.cloud, call.owner.name) if tag in m.wire["tags"]]
    for machine in machines:
        _check(machine, wanted, call.now)
    rows = [await _act(api.cloud, machine, wanted, call.now) for machine in machines]
    return answer({"actions": rows}, 201)


def _check(machine: Machine, wanted: ActionWanted, now: float) -> None:
    check_idle(machine, now)
    is_on = machine.state == State.RUNNING
    if wanted.type in _NOT_HERE:
        raise unprocessable(f"{wanted.type} is not available for this Droplet.")
    if wanted.type == "power_on" and is_on:
        raise unprocessable(ALREADY_ON)
    if wanted.type in (*STOPPING, "reboot", "power_cycle", "password_reset") and not is_on:
        raise unprocessable(ALREADY_OFF)
    if wanted.type == "rename" and not wanted.name:
        raise unprocessable("name is required")
    if wanted.type == "rebuild" and wanted.image is None:
        raise unprocessable("image is required")


async def _act(cloud: Cloud, machine: Machine, wanted: ActionWanted, now: float) -> dict[str, Any]:
    _check(machine, wanted, now)
    await _DEEDS[wanted.type](cloud, machine, wanted, now)
    lasts_s = SHORT_S
    if wanted.type in STARTING:
        lasts_s = cloud.facts.boot_s
    elif wanted.type in STOPPING:
        lasts_s = OFF_S
    action = begin_action(cloud, machine, wanted.type, now, lasts_s)
    return action_json(cloud, machine, action, now)


async def _off(cloud: Cloud, machine: Machine, _: ActionWanted, __: float) -> None:
    await cloud.stop(machine)


def _boot(cloud: Cloud, machine: Machine, *, wipe: bool = False) -> None:
    if machine.state == State.RUNNING:
        cloud.reboot(machine, wipe=wipe)
        return
    try:
        cloud.start(machine, wipe=wipe)
    except NoSlot:
        raise unprocessable(NO_CAPACITY) from None


async def _on(cloud: Cloud, machine: Machine, _: ActionWanted, __: float) -> None:
    _boot(cloud, machine)


async def _rebuild(cloud: Cloud, machine: Machine, wanted: ActionWanted, __: float) -> None:
    image = image_json(cloud, machine.account, wanted.image or "")
    if image is None:
        raise unprocessable("You specified an invalid image.")
    machine.wire["image"] = image
    _boot(cloud, machine, wipe=True)


async def _rename(cloud: Cloud, machine: Machine, wanted: ActionWanted, __: float) -> None:
    machine.label = wanted.name or machine.label
    cloud.save(machine)


async def _snapshot(cloud: Cloud, machine: Machine, wanted: ActionWanted, now: float) -> None:
    name = wanted.name or f"{machine.label}-{int(now)}"
    made = add_snapshot(cloud, machine, name, now)
    machine.wire["snapshot_ids"] = [*machine.wire["snapshot_ids"], int(made.id)]


async def _feature(cloud: Cloud, machine: Machine, wanted: ActionWanted, __: float) -> None:
    verb, _, feature = wanted.type.partition("_")
    others = [known for known in machine.wire["features"] if known != feature]
    machine.wire["features"] = [*others, feature] if verb == "enable" else others
    cloud.save(machine)


_DEEDS: dict[str, Callable[[Cloud, Machine, ActionWanted, float], Awaitable[None]]] = {
    "shutdown": _off,
    "power_off": _off,
    "power_on": _on,
    "reboot": _on,
    "power_cycle": _on,
    "password_reset": _on,
    "rebuild": _rebuild,
    "rename": _rename,
    "snapshot": _snapshot,
    "enable_ipv6": _feature,
    "enable_backups": _feature,
    "disable_backups": _feature,
}


# --- looking at them ----------------------------------------------------------------------


def _all(cloud: Cloud, account: str) -> list[tuple[Machine | Thing, dict[str, Any]]]:
    """The account's, newest first, of droplets and volumes that are gone too."""
    volumes = [
        thing
        for thing in cloud.things.values()
        if (thing.account, thing.kind) == (account, attachments.VOLUME)
    ]
    owners: list[Machine | Thing] = [*cloud.owned(account), *volumes]
    found = [(owner, action) for owner in owners for action in actions_of(owner)]
    return sorted(found, key=lambda pair: -pair[1]["id"])


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise not_found()
    return int(text)


async def list_all(api: Emulator, call: Call) -> Response:
    """GET actions."""
    check_query(call, PAGED)
    found = _all(api.cloud, call.owner.name)
    rows = [action_json(api.cloud, owner, action, call.now) for owner, action in found]
    return paged(api, call, "actions", rows)


async def show(api: Emulator, call: Call) -> Response:
    """GET actions/{id}."""
    check_query(call)
    wanted = _number(call.ids[0])
    for owner, action in _all(api.cloud, call.owner.name):
        if action["id"] == wanted:
            return answer({"action": action_json(api.cloud, owner, action, call.now)})
    raise not_found()


async def list_of_droplet(api: Emulator, call: Call) -> Response:
    """GET droplets/{id}/actions."""
    check_query(call, PAGED)
    machine = droplet_of(api.cloud, call)
    rows = [action_json(api.cloud, machine, a, call.now) for a in reversed(actions_of(machine))]
    return paged(api, call, "actions", rows)


async def show_of_droplet(api: Emulator, call: Call) -> Response:
    """GET droplets/{id}/actions/{id}."""
    check_query(call)
    machine, wanted = droplet_of(api.cloud, call), _number(call.ids[1])
    for action in actions_of(machine):
        if action["id"] == wanted:
            return answer({"action": action_json(api.cloud, machine, action, call.now)})
    raise not_found()
