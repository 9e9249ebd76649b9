"""The end of a droplet together with what hangs on it: its volumes and its snapshots."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from starlette.responses import Response

from gpubroker.model.money import usd
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.digitalocean import attachments
from gpubroker.sandbox.emulators.digitalocean.droplet_record import check_can_end, droplet_of
from gpubroker.sandbox.emulators.digitalocean.images import snapshots_of
from gpubroker.sandbox.emulators.digitalocean.words import (
    check_query,
    moment,
    no_body,
    not_found,
    read_body,
    refusal,
    unprocessable,
)
from gpubroker.sandbox.rented import Machine, Thing

_KINDS = ("reserved_ips", "floating_ips", "snapshots", "volumes", "volume_snapshots")


class Chosen(Struct, forbid_unknown_fields=True):
    """Body of DELETE …/selective: ids of what is to end with the droplet."""

    floating_ips: list[str] = []
    reserved_ips: list[str] = []
    snapshots: list[str] = []
    volumes: list[str] = []
    volume_snapshots: list[str] = []


def _things(api: Emulator, machine: Machine) -> dict[str, list[Thing]]:
    return {
        "snapshots": snapshots_of(api.cloud, machine),
        "volumes": attachments.attached(api.cloud, machine),
    }


async def preview(api: Emulator, call: Call) -> Response:
    """GET …: what could end with it, and what that costs a month."""
    check_query(call)
    things = _things(api, droplet_of(api.cloud, call))
    hours = api.cloud.facts.hours_per_month
    return answer(
        {
            kind: [
                {"id": t.id, "name": t.name, "cost": f"{usd(t.ledger.rate * hours):.2f}"}
                for t in things.get(kind, [])
            ]
            for kind in _KINDS
        }
    )


async def destroy_all(api: Emulator, call: Call) -> Response:
    """DELETE …/dangerous: only with the header that says so."""
    no_body(call)
    if call.request.headers.get("x-dangerous") != "true":
        raise refusal("bad_request", "the header X-Dangerous must be true")
    machine = droplet_of(api.cloud, call)
    return await _destroy(api, call, machine, _things(api, machine))


async def destroy_chosen(api: Emulator, call: Call) -> Response:
    """DELETE …/selective."""
    chosen = read_body(call, Chosen)
    machine = droplet_of(api.cloud, call)
    wanted: dict[str, list[str]] = {kind: getattr(chosen, kind) for kind in _KINDS}
    known = _things(api, machine)
    ending = {kind: [t for t in known.get(kind, []) if t.id in wanted[kind]] for kind in _KINDS}
    if any(len(ending[kind]) < len(set(wanted[kind])) for kind in _KINDS):
        raise unprocessable("a resource is not associated with the Droplet")
    return await _destroy(api, call, machine, ending)


async def _destroy(
    api: Emulator, call: Call, machine: Machine, ending: dict[str, list[Thing]]
) -> Response:
    check_can_end(machine, call.now)
    await api.cloud.terminate(machine)
    told = {
        kind: [
            {"id": thing.id, "name": thing.name, "destroyed_at": moment(call.now)}
            for thing in ending.get(kind, [])
        ]
        for kind in _KINDS
    }
    if machine.ended:
        for thing in (thing for things in ending.values() for thing in things):
            api.cloud.end_thing(thing)
    machine.wire["destroyed"] = told
    api.cloud.save(machine)
    return Response(status_code=202)


def _asked(api: Emulator, call: Call) -> Machine:
    """A droplet that was told to end so, gone though it may be."""
    machine = api.cloud.machines.get(call.ids[0])
    if machine is None or machine.account != call.owner.name or "destroyed" not in machine.wire:
        raise not_found()
    return machine


async def status(api: Emulator, call: Call) -> Response:
    """GET …/status."""
    check_query(call)
    machine = _asked(api, call)
    droplet: dict[str, Any] = {"id": machine.id, "name": machine.label}
    told = {"droplet": droplet, "resources": machine.wire["destroyed"], "failures": 0}
    if machine.ended_at is not None:
        droplet["destroyed_at"] = moment(machine.ended_at)
        told["completed_at"] = moment(machine.ended_at)
    return answer(told)


async def retry(api: Emulator, call: Call) -> Response:
    """POST …/retry: 409 where nothing failed."""
    no_body(call)
    machine = _asked(api, call)
    if machine.ended:
        raise refusal("conflict")
    await api.cloud.terminate(machine)
    return Response(status_code=202)
