"""Northflank's token, credit and usage: amounts are cents, hours are told when they are over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct
from starlette.responses import Response

from gpubroker.model.money import FREE
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator
from gpubroker.sandbox.emulators.northflank.catalog import NANOS_PER_CENT
from gpubroker.sandbox.emulators.northflank.projects import KIND as PROJECT
from gpubroker.sandbox.emulators.northflank.projects import VOLUME, team_of
from gpubroker.sandbox.emulators.northflank.words import (
    HOUR_S,
    check_query,
    data,
    flag,
    invalid,
    moment,
    page_of,
)
from gpubroker.sandbox.rented import Machine, Thing

_USD, _DAY_S = "usd", 86_400
_STEP = {"hour": HOUR_S, "day": _DAY_S, "month": 30 * _DAY_S}
_FILTERS = ("teamId", "projectId", "resourceType", "removeLegacyFields")
_PAGES = tuple(
    f"{what}{size}" for what in ("teams", "projects", "resources") for size in ("Page", "PerPage")
)
_USUAL_SPAN_S = _DAY_S
_NOTHING = {"total": 0.0, "vcpu": 0.0, "memory": 0.0, "gpuMemory": 0.0, "cluster": 0.0}

Kind = Literal["service", "volume"]


class Charge(Struct):
    """What one thing cost in a stretch; nano-dollars."""

    project: str
    kind: Kind
    id: str
    name: str
    gpu: int
    storage: int


def _charges(
    cloud: Cloud, account: str, told: Mapping[str, str], since: float, until: float
) -> list[Charge]:
    """Everything that cost something, deleted or not."""
    owned: list[tuple[Kind, Machine | Thing]] = []
    owned += [("service", machine) for machine in cloud.owned(account)]
    owned += [
        ("volume", t) for t in cloud.things.values() if (t.account, t.kind) == (account, VOLUME)
    ]
    charges = []
    for kind, one in owned:
        spent = one.ledger.cost(until, since)
        project = cloud.things[PROJECT, one.wire["project"]].wire["id"]
        fits = told.get("resourceType") in (None, kind) and told.get("projectId") in (None, project)
        if not spent or not fits:
            continue
        name = one.order.name if isinstance(one, Machine) else one.name
        gpu, storage = (spent, FREE) if kind == "service" else (FREE, spent)
        charges.append(Charge(project, kind, one.wire["id"], name, gpu, storage))
    return charges


def _cents(amount: int) -> float:
    return round(amount / NANOS_PER_CENT, 6)


def _price(charges: list[Charge]) -> dict[str, float]:
    """What the GPU's price includes is not charged for again."""
    gpu, storage = (sum(getattr(c, name) for c in charges) for name in ("gpu", "storage"))
    told = {"total": gpu + storage, "cpu": 0, "memory": 0, "storage": storage, "gpu": gpu}
    return {name: _cents(amount) for name, amount in told.items()}


def _with_legacy(told: Mapping[str, str], row: dict[str, Any]) -> dict[str, Any]:
    """The newer names, and the older ones too, unless they are declined."""
    byoc = {"price": _NOTHING}
    row |= {"currency": _USD, "byoc": byoc}
    if not flag(told, "removeLegacyFields"):
        row |= {"paasUsage": row["paas"], "byocUsage": byoc}
    return row


def _epoch(told: Mapping[str, str], name: str, usual: float) -> int:
    text = told.get(name, str(int(usual)))
    if not text.isdecimal():
        raise invalid("Invalid request", {"query": [f"{name} is invalid"]})
    return int(text)


def _over(now: float) -> int:
    """The end of the last hour that is over: nothing later is on record yet."""
    return int(now) // HOUR_S * HOUR_S


async def usage(api: Emulator, call: Call) -> Response:
    """GET billing/usage: by hour, day, month, or all in one."""
    own = ("startTime", "endTime", "granularity", "cursor", "perPage")
    told = check_query(call, _FILTERS + own)
    granularity = told.get("granularity", "hour")
    if granularity not in (*_STEP, "total"):
        raise invalid("Invalid request", {"query": ["granularity is invalid"]})
    if "endTime" in told and "startTime" not in told:
        raise invalid("Invalid request", {"query": ["endTime requires startTime"]})
    start = _epoch(told, "startTime", call.now - _USUAL_SPAN_S) // HOUR_S * HOUR_S
    end = _epoch(told, "endTime", call.now)
    last = min(end, _over(call.now))
    step = _STEP.get(granularity, max(1, last - start))
    rows = []
    for begin in range(start, last, step):
        until = min(begin + step, last)
        charges = _charges(api.cloud, call.owner.name, told, begin, until)
        if not charges and granularity != "total":
            continue
        price = _price(charges)
        row = {"timestamp": begin, "total": price["total"], "paas": {"price": price}}
        rows.append(_with_legacy(told, row))
    shown, pagination = page_of(api, call, rows, "perPage")
    body = {"usage": shown, "granularity": granularity, "window": {"start": start, "end": end}}
    return data(body, pagination=pagination)


async def usage_of_hour(api: Emulator, call: Call) -> Response:
    """GET billing/usage/{timestamp}: each thing's cost in the hour that holds this moment."""
    told = check_query(call, _FILTERS + _PAGES)
    if not call.ids[0].isdecimal():
        raise invalid("Invalid request", {"path": ["timestamp is invalid"]})
    hour = int(call.ids[0]) // HOUR_S * HOUR_S
    until = min(hour + HOUR_S, _over(call.now))
    charges = _charges(api.cloud, call.owner.name, told, hour, until) if until > hour else []
    price = _price(charges)
    teams = [_team(api.cloud, call.owner.name, charges)] if charges else []
    row = {"timestamp": hour, "total": price["total"], "paas": {"price": price, "teams": teams}}
    pagination = {"hasNextPage": False, "count": len(teams)}
    return data(_with_legacy(told, row), pagination=pagination)


def _team(cloud: Cloud, account: str, charges: list[Charge]) -> dict[str, Any]:
    names = {
        project.wire["id"]: project.name
        for (kind, _), project in cloud.things.items()
        if kind == PROJECT and project.account == account
    }
    projects = []
    for id_ in sorted({charge.project for charge in charges}):
        own = [charge for charge in charges if charge.project == id_]
        kinds = [
            {
                "resourceType": kind,
                "price": _price([c for c in own if c.kind == kind]),
                "resources": [
                    {"id": c.id, "name": c.name, "price": _price([c])}
                    for c in own
                    if c.kind == kind
                ],
            }
            for kind in sorted({charge.kind for charge in own})
        ]
        row = {"id": id_, "name": names[id_], "price": _price(own), "resourceTypes": kinds}
        projects.append(row)
    team = team_of(account)
    return {"id": team, "name": team, "price": _price(charges), "projects": projects}


async def credit(api: Emulator, call: Call) -> Response:
    """GET billing/credit-balance."""
    check_query(call)
    left = _cents(api.cloud.credit(call.owner.name))
    pool = {"available": left, "pending": 0.0}
    return data(
        {
            "currency": _USD,
            "customerBalance": {"amount": 0.0},
            "grants": pool,
            "total": pool,
            "lastSyncedAt": moment(call.now),
        }
    )


async def invoices(api: Emulator, call: Call) -> Response:
    """GET billing/invoices: none, as long as there is credit."""
    check_query(call, ("cursor", "perPage", "removeLegacyFields"))
    shown, pagination = page_of(api, call, [], "perPage")
    return data({"invoices": shown}, pagination=pagination)


async def whoami(_api: Emulator, call: Call) -> Response:
    """GET auth: whose token it is."""
    check_query(call)
    team = team_of(call.owner.name)
    return data(
        {
            "id": f"token-{team[-12:]}",
            "name": "sandbox",
            "tokenKind": "api",
            "entityType": "team",
            "entityId": team,
            "entityUid": f"{call.owner.number:024x}",
            "permissions": {"projectScope": ["*"], "teamScope": ["*"]},
            "expiresAt": None,
            "createdAt": moment(call.owner.created_at),
        }
    )
