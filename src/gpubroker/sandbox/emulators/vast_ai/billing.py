"""Vast.ai's user and money: credit, deposits, charges, invoices."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from gpubroker.model.money import usd
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.vast_ai.query import BadToken, page_after, page_token
from gpubroker.sandbox.emulators.vast_ai.words import (
    check_json,
    check_number,
    check_query,
    refusal,
    success,
    the_machine,
)
from gpubroker.sandbox.money import Ledger, Usage

_DAY_S = 86_400
_CHARGES_AT_MOST = 500
_CHARGED = ("instance", "volume", "serverless")
_CHARGE_OF = {"gpu": "gpu", "disk": "disk", "disk_stopped": "disk", "volume": "disk"}


def _charge_item(line: Usage, since: float, until: float) -> dict[str, Any]:
    hours = line.seconds(until, since) / 3600
    return {
        "start": max(line.start, int(since)),
        "end": min(line.end or int(until), int(until)),
        "type": _CHARGE_OF[line.component],
        "source": None,
        "description": f"{hours:.3f} hours at ${usd(line.rate):.3f}/hour",
        "amount": round(usd(line.cost(until, since)), 3),
        "metadata": {},
        "items": [],
    }


def charge_json(
    kind: str, id_: str, label: str, ledger: Ledger, since: float, until: float
) -> dict[str, Any] | None:
    """A contract's charges between two moments, None where there are none."""
    lines = [line for line in ledger.lines if line.rate and line.seconds(until, since) > 0]
    if not lines:
        return None
    items = [_charge_item(line, since, until) for line in lines]
    start, end = min(i["start"] for i in items), max(i["end"] for i in items)
    days = max(1, round((end - start) / _DAY_S))
    return {
        "start": start,
        "end": end,
        "type": kind,
        "source": f"{kind}-{id_}",
        "description": f"{kind.capitalize()} {id_} Charges - {days} day{'s' * (days > 1)}",
        "amount": round(usd(ledger.cost(until, since)), 3),
        "metadata": {"label": label} if label else {},
        "items": items,
    }


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
