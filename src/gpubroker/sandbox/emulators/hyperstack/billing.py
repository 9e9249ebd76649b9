"""Hyperstack's account and its record of charges: per VM and stretch, by the minute.

Times in questions are UTC without a zone; durations are in minutes, amounts in USD as numbers.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping

from starlette.responses import Response

from gpubroker.model.money import usd
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.hyperstack.machines import found, status_of
from gpubroker.sandbox.emulators.hyperstack.network import ADDRESS
from gpubroker.sandbox.emulators.hyperstack.volumes import KIND as VOLUME
from gpubroker.sandbox.emulators.hyperstack.words import (
    bad,
    check_query,
    done,
    flag,
    moment,
    not_found,
    owned_thing,
    page_of,
    read_moment,
)
from gpubroker.sandbox.money import Usage
from gpubroker.sandbox.rented import Machine, Thing

_PERIOD = ("start_date", "end_date")
_TYPES: Mapping[str, str] = {VOLUME: "volume", ADDRESS: "public_ip"}
_MONTH_S = 30 * 86_400


def _email(account: str) -> str:
    return f"{account}@example.com"


async def me(_: Emulator, call: Call) -> Response:
    """GET auth/me: whose key it is."""
    check_query(call)
    owner = call.owner
    user = {
        "email": _email(owner.name),
        "name": "You",
        "username": owner.name,
        "created_at": moment(owner.created_at),
    }
    return done("Getting user details successful", user=user)


async def organizations(api: Emulator, call: Call) -> Response:
    """GET auth/me/organizations: without the envelope."""
    check_query(call)
    owner = call.owner
    living = [m for m in api.cloud.owned(owner.name) if not m.ended]
    row = {
        "id": owner.number,
        "name": owner.name,
        "credit": int(usd(api.cloud.credit(owner.name))),
        "threshold": 0,
        "total_instances": len(living),
        "total_volumes": len(api.cloud.live_things(owner.name, VOLUME)),
        "total_clusters": 0,
        "total_containers": 0,
        "created_at": moment(owner.created_at),
        "users": [],
    }
    return answer({"organizations": [row]})


async def credit(api: Emulator, call: Call) -> Response:
    """GET billing/user-credit/credit."""
    check_query(call)
    amount = api.cloud.credit(call.owner.name)
    told = {"credit": usd(amount), "threshold": 0, "can_create_instance": amount > 0}
    return done("Getting user credit successful", data=told)


async def rate(api: Emulator, call: Call) -> Response:
    """GET pricebook/calculate/resource/{type}/{id}: per hour, as it is now."""
    check_query(call)
    kind, id_ = call.ids
    if kind == "vm":
        machine = api.cloud.machines.get(id_)
        if machine is None or machine.account != call.owner.name or machine.ended:
            raise not_found("Resource not found")
        slot = api.cloud.slot(machine)
        amount, name = usd(machine.ledger.rate), machine.order.name
        status = status_of(machine, call.now)
        unit, count = slot.gpu, slot.gpu_count
    elif kind == VOLUME:
        thing = owned_thing(api.cloud, call, VOLUME, id_, "Resource")
        amount, name, status = usd(thing.ledger.rate), thing.name, "ACTIVE"
        unit, count = "Cloud-SSD", thing.wire["size"]
    else:
        raise bad(f"Invalid resource type: {kind}")
    part = {
        "name": unit,
        "type": kind,
        "amount": count,
        "rate": amount / max(1, count),
        "discounted_rate": amount / max(1, count),
        "price": amount,
        "actual_price": amount,
    }
    resource = {
        "infrahub_id": int(id_),
        "name": name,
        "type": kind,
        "host": "",
        "status": status,
        "price": amount,
        "actual_price": amount,
        "resources": [part],
    }
    bills = {"org_id": call.owner.number, "resource": resource}
    return done("Calculating bill successful", calculated_resource_bills=bills)


# --- what was charged ---------------------------------------------------------------------


def _minutes(one: Machine | Thing, until: float, since: float = 0.0) -> float:
    lines = [line for line in one.ledger.lines if line.rate]
    return sum(line.seconds(until, since) for line in lines) / 60


def _status(machine: Machine, now: float) -> str:
    return "DELETED" if machine.ended else status_of(machine, now)


async def history(api: Emulator, call: Call) -> Response:
    """GET billing/billing/history/virtual-machine: a row a VM, deleted ones too."""
    query = check_query(call, (*_PERIOD, "search", "page", "per_page"))
    since = read_moment(query, "start_date", call.now - _MONTH_S)
    until = min(read_moment(query, "end_date", call.now), call.now)
    words = query.get("search", "").lower()
    rows = [
        {
            "attributes": {
                "id": str(uuid.UUID(bytes=hashlib.sha256(machine.id.encode()).digest()[:16])),
                "infrahub_id": int(machine.id),
                "resource_name": machine.order.name,
                "status": _status(machine, call.now),
                "contract_id": None,
            },
            "metrics": {
                "incurred_bill": usd(machine.ledger.cost(until, since)),
                "price_per_hour": usd(machine.gpu_rate),
                "usage_time": _minutes(machine, until, since),
            },
        }
        for machine in api.cloud.owned(call.owner.name)
        if (words in machine.order.name.lower() or words == machine.id)
        and machine.created_at <= until
        and (machine.ended_at is None or machine.ended_at >= since)
    ]
    shown, page, size = page_of(query, rows, "per_page")
    bills = {
        "billing_history": shown,
        "org_id": call.owner.number,
        "total_count": len(rows),
        "pagination": {"page": page, "pages": max(1, -(-len(rows) // size)), "per_page": size},
    }
    return done("Getting billing history successful", billing_history_vm=bills)


def _event(machine: Machine, line: Usage) -> str:
    """The status in which a stretch was charged."""
    if line.component != "gpu":
        return "HIBERNATED"
    return "SHUTOFF" if line.start in machine.wire["shutoffs"] else "ACTIVE"


async def events(api: Emulator, call: Call) -> Response:
    """GET billing/billing/virtual-machine/{id}/billing-events: what was charged, and why."""
    query = check_query(call, _PERIOD)
    since = read_moment(query, "start_date", 0.0)
    until = min(read_moment(query, "end_date", call.now), call.now)
    machine = api.cloud.machines.get(call.ids[0])
    if machine is None or machine.account != call.owner.name:
        machine = found(api.cloud, call)
    rows = [
        {
            "event": _event(machine, line),
            "start": moment(line.start),
            "event_duration": line.seconds(until, since) / 60,
            "price_per_hour": usd(line.rate),
            "total_cost": usd(line.cost(until, since)),
        }
        for line in machine.ledger.lines
        if line.rate and line.seconds(until, since)
    ]
    return done("Getting billing events successful", billing_events_history=rows)


def _charged(cloud: Cloud, account: str) -> Iterator[tuple[str, str, Machine | Thing]]:
    """Type, name and the thing itself of all that costs."""
    for machine in cloud.owned(account):
        yield "vm", machine.order.name, machine
    for thing in cloud.things.values():
        if thing.account == account and thing.kind in _TYPES:
            yield _TYPES[thing.kind], thing.name, thing


async def usage(api: Emulator, call: Call) -> Response:
    """GET billing/billing/usage: what is there now, or with `deleted` what was."""
    query = check_query(call, ("deleted", "environment"))
    deleted = flag(query, "deleted", otherwise=False)
    place = query.get("environment")
    rows = [
        {
            "resource_id": int(one.id),
            "resource_type": kind,
            "name": name,
            "organization_id": call.owner.number,
            "active": one.ended_at is None,
            "exclude_billing": False,
            "bill_per_minute": usd(one.ledger.rate) / 60,
            "total_up_time": _minutes(one, call.now),
            "total_bill": usd(one.ledger.cost(call.now)),
            "create_time": moment(one.created_at),
            "terminate_time": None if one.ended_at is None else moment(one.ended_at),
        }
        for kind, name, one in _charged(api.cloud, call.owner.name)
        if (one.ended_at is not None) == deleted and place in (None, one.wire.get("environment"))
    ]
    return done("Getting billing usage successful", data=rows)
