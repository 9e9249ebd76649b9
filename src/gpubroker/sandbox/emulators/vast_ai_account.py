"""Vast.ai's account: SSH keys, volumes, money."""

from __future__ import annotations

import re
from typing import Any

from starlette.responses import Response

from gpubroker.model.money import usd
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.vast_ai_offers import offer_view, volume_offer_number
from gpubroker.sandbox.emulators.vast_ai_query import BadToken, page_after, page_token
from gpubroker.sandbox.emulators.vast_ai_records import (
    charge_json,
    instance_keys_json,
    key_json,
    volume_json,
)
from gpubroker.sandbox.emulators.vast_ai_words import (
    check_body,
    check_json,
    check_number,
    check_query,
    find_machine,
    refusal,
    success,
    the_machine,
)
from gpubroker.sandbox.rented import Machine, Thing
from gpubroker.sandbox.stock import Slot

KEYS_FROM = 410_000
VOLUMES_FROM = 26_900_000
VOLUME_GB = 15
_DAY_S = 86_400
_CHARGES_AT_MOST = 500
_PUBLIC_KEY = re.compile(r"(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2}( .*)?")
_CHARGED = ("instance", "volume", "serverless")


# --- SSH keys -----------------------------------------------------------------------------


def _public_key(call: Call) -> str:
    body = check_body(call, {"ssh_key": str, "id": int})
    key = str(body.get("ssh_key", "")).strip()
    if not key:
        raise refusal(400, "no_ssh_key", "No ssh key provided")
    if not _PUBLIC_KEY.fullmatch(key):
        raise refusal(400, "invalid_args", "Invalid ssh key")
    return key


def _account_key(cloud: Cloud, call: Call, id_: str) -> Thing:
    number = str(check_number(id_, "ssh key id"))
    for thing in cloud.live_things(call.owner.name, "ssh_key"):
        if thing.id == number:
            return thing
    raise refusal(400, "no_ssh_key", "No ssh key provided")


async def list_keys(api: Emulator, call: Call) -> Response:
    """GET ssh: a bare array."""
    check_query(call.request)
    keys = api.cloud.live_things(call.owner.name, "ssh_key")
    return answer([key_json(key, call.owner) for key in keys])


async def add_key(api: Emulator, call: Call) -> Response:
    """POST ssh: onto the account and onto every instance that there is."""
    check_query(call.request)
    key = _public_key(call)
    thing = api.cloud.add_thing(call.owner.name, "ssh_key", number_from=KEYS_FROM, public_key=key)
    for machine in api.cloud.owned(call.owner.name):
        if not machine.ended and key not in machine.keys:
            await api.cloud.admit(machine, (*machine.keys, key))
    shown = key_json(thing, call.owner)
    shown["public_key"] = shown.pop("key")
    return success(key=shown)


async def change_key(api: Emulator, call: Call) -> Response:
    """PUT ssh/{id}."""
    check_query(call.request)
    thing = _account_key(api.cloud, call, call.ids[0])
    thing.wire["public_key"] = _public_key(call)
    api.cloud.save(thing)
    return success(key=key_json(thing, call.owner))


async def delete_key(api: Emulator, call: Call) -> Response:
    """DELETE ssh/{id}: instances that have it keep it."""
    check_query(call.request)
    check_body(call, {})
    api.cloud.end_thing(_account_key(api.cloud, call, call.ids[0]))
    return success()


def _instance_keys(cloud: Cloud, call: Call, machine: Machine) -> list[dict[str, Any]]:
    named = {t.wire["public_key"]: int(t.id) for t in cloud.live_things(call.owner.name, "ssh_key")}
    named.update({row["public_key"]: row["id"] for row in machine.wire["extra_keys"]})
    return [{"id": named.get(key, 0), "public_key": key} for key in machine.keys]


async def instance_keys(api: Emulator, call: Call) -> Response:
    """GET instances/{id}/ssh."""
    check_query(call.request)
    machine = the_machine(api.cloud, call, call.ids[0])
    return success(ssh_keys=instance_keys_json(_instance_keys(api.cloud, call, machine)))


async def attach_key(api: Emulator, call: Call) -> Response:
    """POST instances/{id}/ssh."""
    check_query(call.request)
    key = _public_key(call)
    machine = the_machine(api.cloud, call, call.ids[0])
    if key not in machine.keys:
        number = api.cloud.number("ssh_key", KEYS_FROM)
        extra = {"id": number, "public_key": key}
        machine.wire["extra_keys"] = [*machine.wire["extra_keys"], extra]
        await api.cloud.admit(machine, (*machine.keys, key))
    return success(msg="SSH key added to instance.")


async def detach_key(api: Emulator, call: Call) -> Response:
    """DELETE instances/{id}/ssh/{key}."""
    check_query(call.request)
    check_body(call, {})
    machine = find_machine(api.cloud, call, call.ids[0])
    if machine is None:
        raise refusal(404, "no_such_instance", "Instance not found.")
    number = check_number(call.ids[1], "ssh key id")
    gone = {
        row["public_key"] for row in _instance_keys(api.cloud, call, machine) if row["id"] == number
    }
    if not gone:
        raise refusal(404, "no_such_ssh_key", "SSH key not found.")
    await api.cloud.admit(machine, tuple(key for key in machine.keys if key not in gone))
    return success(msg="SSH key removed from instance.")


# --- volumes ------------------------------------------------------------------------------


def _volume_slot(cloud: Cloud, offer_id: int) -> Slot:
    for slot in cloud.stock.slots.values():
        if volume_offer_number(slot) == offer_id:
            return slot
    raise refusal(404, "no_such_ask", f"Volume offer {offer_id} is not available.")


def open_volume(cloud: Cloud, call: Call, *, offer_id: int, size_gb: int, name: str) -> Thing:
    """A new volume on the offer's machine; charged until it is deleted."""
    slot = _volume_slot(cloud, offer_id)
    if not 0 < size_gb <= slot.facts["volume_gb"]:
        raise refusal(400, "invalid_args", f"Invalid args: size exceeds {slot.facts['volume_gb']}")
    thing = cloud.add_thing(
        call.owner.name,
        "volume",
        number_from=VOLUMES_FROM,
        name=name,
        slot=slot.key,
        size_gb=size_gb,
        instances=[],
    )
    thing.name = name or f"V.{thing.id}"
    thing.ledger.open("volume", cloud.facts.disk_rate(slot, size_gb), call.now)
    cloud.save(thing)
    return thing


def _volume(cloud: Cloud, call: Call, number: int) -> Thing:
    for thing in cloud.live_things(call.owner.name, "volume"):
        if thing.id == str(number):
            return thing
    raise refusal(404, "no_such_volume", "Volume with that ID does not exist.")


def attach_volume(cloud: Cloud, call: Call, number: int, slot: Slot) -> Thing:
    """The account's volume, if it is on the slot's machine."""
    thing = _volume(cloud, call, number)
    if cloud.stock.slots[thing.wire["slot"]].facts["machine"] != slot.facts["machine"]:
        raise refusal(400, "invalid_args", "Invalid args: the volume is on another machine")
    return thing


async def create_volume(api: Emulator, call: Call) -> Response:
    """PUT volumes."""
    check_query(call.request)
    body = check_body(call, {"size": int, "id": int, "name": str}, required=("id",))
    thing = open_volume(
        api.cloud,
        call,
        offer_id=body["id"],
        size_gb=body.get("size", VOLUME_GB),
        name=body.get("name", ""),
    )
    return success(volume_name=thing.name)


async def list_volumes(api: Emulator, call: Call) -> Response:
    """GET volumes, with or without the slash."""
    query = check_query(call.request, ("owner", "type"))
    wanted = query.get("type", "all_volume")
    if wanted not in ("all_volume", "local_volume", "network_volume"):
        raise refusal(400, "invalid_args", f"Invalid args: type '{wanted}' is not known")
    things = api.cloud.live_things(call.owner.name, "volume")
    rows = [
        volume_json(
            thing,
            offer_view(
                api.cloud,
                api.cloud.stock.slots[thing.wire["slot"]],
                bid=False,
                disk_gb=thing.wire["size_gb"],
                now=call.now,
            ),
        )
        for thing in things
        if wanted != "network_volume"
    ]
    return answer({"volumes": rows})


async def delete_volume(api: Emulator, call: Call) -> Response:
    """DELETE volumes: the id in the query or in the body."""
    query = check_query(call.request, ("id",))
    body = check_body(call, {"id": int})
    if "id" not in query and "id" not in body:
        raise refusal(400, "invalid_args", "Please provide a valid volume ID.")
    number = body["id"] if "id" in body else check_number(query["id"], "volume id")
    thing = _volume(api.cloud, call, number)
    if thing.wire["instances"]:
        raise refusal(400, "invalid_args", "Invalid args: the volume is used by an instance")
    api.cloud.end_thing(thing)
    return success()


# --- money --------------------------------------------------------------------------------


async def user(api: Emulator, call: Call) -> Response:
    """GET users/current."""
    check_query(call.request, ("owner",))
    keys = api.cloud.live_things(call.owner.name, "ssh_key")
    name = call.owner.name
    return answer(
        {
            "id": call.owner.number,
            "email": f"{name}@sandbox.invalid",
            "credit": round(usd(api.cloud.credit(name)), 6),
            "balance": 0.0,
            "ssh_key": keys[0].wire["public_key"] if keys else "",
            "sid": "",
        }
    )


async def deposit(api: Emulator, call: Call) -> Response:
    """GET instances/balance/{id}."""
    check_query(call.request, ("owner",))
    the_machine(api.cloud, call, call.ids[0])
    return success(refundable_deposit=0.0, total_discount=0.0, discount_months=0)


def _range(filters: Any, field: str, lower: tuple[str, ...], upper: tuple[str, ...]) -> Any:
    span = filters.get(field) if isinstance(filters, dict) else None
    values = span if isinstance(span, dict) else {}
    since = next((values[op] for op in lower if op in values), None)
    until = next((values[op] for op in upper if op in values), None)
    if not isinstance(since, int | float) or not isinstance(until, int | float):
        msg = f"Must provide both '{field}' gte and lte filters for instance charges"
        raise refusal(400, "invalid_request", msg)
    return float(since), float(until)


def _page(call: Call, rows: list[dict[str, Any]], *, default: int, most: int) -> Response:
    """Rows by pages; each row's number is its contract's."""
    query = call.request.query_params
    limit = check_number(query.get("limit", str(default)), "limit")
    if limit < 1:
        raise refusal(400, "invalid_args", "Invalid args: limit must be above 0")
    latest_first = query.get("latest_first", "true")
    if latest_first not in ("true", "false"):
        raise refusal(400, "invalid_args", "Invalid args: latest_first must be true or false")
    rows.sort(key=lambda row: (row["start"], row["source"]), reverse=latest_first == "true")
    try:
        rest = page_after(rows, query.get("after_token"), _contract_number)
    except BadToken:
        raise refusal(400, "invalid_token", "Invalid pagination token") from None
    page = rest[: min(limit, most)]
    more = len(rest) > len(page)
    seen = len(rows) - len(rest) + len(page)
    return success(
        count=len(page),
        total=len(rows),
        next_token=page_token(_contract_number(page[-1]), seen) if more else None,
        results=page,
    )


def _contract_number(row: Any) -> int:
    return int(str(row["source"]).rpartition("-")[2])


async def charges(api: Emulator, call: Call) -> Response:
    """GET charges: what contracts cost in a span of days, as far as it is on record yet."""
    query = check_query(
        call.request, ("select_filters", "limit", "latest_first", "format", "after_token")
    )
    filters = check_json(query.get("select_filters", "{}"), "select_filters")
    since, until = _range(filters, "day", ("gte",), ("lte",))
    kinds = filters.get("type", {}).get("in", _CHARGED)
    if set(filters) - {"day", "type"} or not set(kinds) <= set(_CHARGED):
        raise refusal(400, "invalid_request", "Error in query parameters: day and type only")
    if query.get("format", "table") not in ("table", "tree"):
        raise refusal(400, "invalid_args", "Invalid args: format must be table or tree")
    if "after_token" in query and api.cloud.faults.take("billing", "page_cursor_expired"):
        raise refusal(400, "invalid_token", "Invalid pagination token")
    first = since // _DAY_S * _DAY_S
    last = min(until // _DAY_S * _DAY_S + _DAY_S, call.now - api.cloud.facts.billing_lag_s)
    owner = call.owner.name
    machines = api.cloud.owned(owner) if "instance" in kinds else []
    volumes = [t for t in api.cloud.things.values() if (t.kind, t.account) == ("volume", owner)]
    rows = [charge_json("instance", m.id, m.label, m.ledger, first, last) for m in machines]
    if "volume" in kinds:
        rows += [charge_json("volume", v.id, v.name, v.ledger, first, last) for v in volumes]
    return _page(call, [row for row in rows if row], default=100, most=_CHARGES_AT_MOST)


async def invoices(api: Emulator, call: Call) -> Response:
    """GET v1 invoices: the one payment that fills a sandbox account."""
    query = check_query(
        call.request, ("select_filters", "limit", "latest_first", "order_by", "after_token")
    )
    filters = check_json(query.get("select_filters", "{}"), "select_filters")
    since, until = _range(filters, "when", ("gte", "gt"), ("lte", "lt"))
    paid = call.owner.created_at
    row = {
        "start": paid,
        "end": paid,
        "type": "transfer",
        "source": f"sandbox-{call.owner.number}",
        "description": "Sandbox credit",
        "amount": api.cloud.facts.credit_usd,
        "metadata": {"invoice_id": call.owner.number, "service": "transfer"},
        "items": [],
    }
    return _page(call, [row] if since <= paid <= until else [], default=100, most=500)
