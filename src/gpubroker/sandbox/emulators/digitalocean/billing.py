"""DigitalOcean's account and books: balance, invoices by month, nightly estimates by day.

Amounts are decimal strings in USD. The items of an invoice, and the estimates, end with the last
midnight (UTC); the balance does not wait.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

from msgspec import Struct
from starlette.responses import Response

from gpubroker.model.money import nanos, usd
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.digitalocean.create import DROPLET_LIMIT
from gpubroker.sandbox.emulators.digitalocean.words import (
    PAGED,
    check_query,
    moment,
    not_found,
    page_of,
    paged,
    team_of,
    unprocessable,
    uuid_of,
)
from gpubroker.sandbox.rented import Machine, Thing

_LONGEST = timedelta(days=31)
_DAY_S = 86_400
_PRODUCTS = {"volume": "Block Storage", "snapshot": "Snapshots"}


class Month(Struct, frozen=True):
    """A calendar month in UTC, as epoch seconds."""

    name: str
    since: float
    until: float


def _month_at(moment_s: float) -> Month:
    first = datetime.fromtimestamp(moment_s, UTC).replace(
        day=1, hour=0, minute=0, second=0, microsecond=0
    )
    following = (first + timedelta(days=32)).replace(day=1)
    return Month(first.strftime("%Y-%m"), first.timestamp(), following.timestamp())


def _months(account_since: float, now: float) -> list[Month]:
    """From this one back to the account's first."""
    months = [_month_at(now)]
    while months[-1].since > account_since:
        months.append(_month_at(months[-1].since - 1))
    return months


def _midnight(now: float) -> float:
    return now // _DAY_S * _DAY_S


def _owned(cloud: Cloud, account: str) -> list[Machine | Thing]:
    """All that can cost, gone or not."""
    things = [t for t in cloud.things.values() if t.account == account and t.kind in _PRODUCTS]
    return [*cloud.owned(account), *things]


def _spent(cloud: Cloud, account: str, since: float, until: float) -> int:
    return sum(one.ledger.cost(until, since) for one in _owned(cloud, account))


def _text(amount: int) -> str:
    return f"{usd(amount):.2f}"


def _told(cloud: Cloud, one: Machine | Thing) -> tuple[str, str, str]:
    """Product, description and region."""
    if isinstance(one, Machine):
        slot = cloud.slot(one)
        product = "GPU Droplets" if slot.gpu_count else "Droplets"
        return product, f"{one.label} ({slot.facts['size']})", slot.place
    return _PRODUCTS[one.kind], one.name, one.wire["region"]


def _start(api: Emulator, call: Call) -> float:
    """Since when the account can have charges."""
    owned = _owned(api.cloud, call.owner.name)
    return min([call.owner.created_at, *(one.created_at for one in owned)])


# --- account and balance ------------------------------------------------------------------


async def account(api: Emulator, call: Call) -> Response:
    """GET account."""
    check_query(call)
    owner = call.owner
    solvent = api.cloud.credit(owner.name) > 0
    return answer(
        {
            "account": {
                "droplet_limit": DROPLET_LIMIT,
                "floating_ip_limit": 5,
                "email": "you@example.com",
                "name": "",
                "uuid": uuid_of(owner.name),
                "email_verified": True,
                "status": "active" if solvent else "locked",
                "status_message": "" if solvent else "There is an unpaid balance.",
                "team": {"uuid": team_of(owner), "name": "My Team"},
            }
        }
    )


async def balance(api: Emulator, call: Call) -> Response:
    """GET customers/my/balance: what is owed, so that credit is below zero."""
    check_query(call)
    cloud, name = api.cloud, call.owner.name
    month = _month_at(call.now)
    usage = _spent(cloud, name, month.since, call.now)
    owed = _spent(cloud, name, 0.0, month.since) - nanos(cloud.facts.credit_usd)
    return answer(
        {
            "month_to_date_balance": _text(owed + usage),
            "account_balance": _text(owed),
            "month_to_date_usage": _text(usage),
            "generated_at": moment(call.now),
        }
    )


# --- invoices -----------------------------------------------------------------------------


def _invoice_json(api: Emulator, call: Call, month: Month) -> dict[str, Any]:
    until = min(month.until, _midnight(call.now))
    return {
        "invoice_uuid": uuid_of(call.owner.name, "invoice", month.name),
        "invoice_id": f"{call.owner.number}{month.name.replace('-', '')}",
        "amount": _text(_spent(api.cloud, call.owner.name, month.since, until)),
        "invoice_period": month.name,
        "updated_at": moment(until),
    }


async def invoices(api: Emulator, call: Call) -> Response:
    """GET customers/my/invoices: of finished months, and a preview of this one."""
    check_query(call, PAGED)
    this, *past = _months(_start(api, call), call.now)
    rows = [_invoice_json(api, call, month) for month in past]
    preview = _invoice_json(api, call, this)
    return paged(api, call, "invoices", rows, invoice_preview=preview)


async def history(api: Emulator, call: Call) -> Response:
    """GET customers/my/billing_history: the invoices; nobody pays here."""
    check_query(call, PAGED)
    _, *past = _months(_start(api, call), call.now)
    rows = []
    for month in past:
        bill = _invoice_json(api, call, month)
        rows.append(
            {
                "description": f"Invoice for {month.name}",
                "amount": bill["amount"],
                "invoice_id": bill["invoice_id"],
                "invoice_uuid": bill["invoice_uuid"],
                "date": moment(month.until),
                "type": "Invoice",
            }
        )
    return paged(api, call, "billing_history", rows)


async def invoice(api: Emulator, call: Call) -> Response:
    """GET customers/my/invoices/{uuid}: one item a resource, the preview's too."""
    check_query(call, PAGED)
    for month in _months(_start(api, call), call.now):
        if uuid_of(call.owner.name, "invoice", month.name) == call.ids[0]:
            rows = list(_items(api.cloud, call.owner.name, month, _midnight(call.now)))
            return paged(api, call, "invoice_items", rows)
    raise not_found()


def _items(cloud: Cloud, account_name: str, month: Month, midnight: float) -> Iterator[Any]:
    until = min(month.until, midnight)
    for one in _owned(cloud, account_name):
        amount = one.ledger.cost(until, month.since)
        if not amount:
            continue
        product, description, _ = _told(cloud, one)
        lines = [line for line in one.ledger.lines if line.rate]
        began = max(month.since, min(line.start for line in lines))
        ended = min(until, max(until if line.end is None else line.end for line in lines))
        is_droplet = isinstance(one, Machine)
        yield {
            "product": product,
            "resource_uuid": uuid_of(one.id) if is_droplet else one.id,
            "resource_id": one.id if is_droplet else "",
            "group_description": "",
            "description": description,
            "amount": _text(amount),
            "duration": str(max(1, -(-int(ended - began) // 3600))),
            "duration_unit": "Hours",
            "start_time": moment(began),
            "end_time": moment(ended),
            "project_name": "first-project",
        }


# --- nightly estimates --------------------------------------------------------------------


def _day(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        raise unprocessable("dates are to be YYYY-MM-DD") from None


async def insights(api: Emulator, call: Call) -> Response:
    """GET billing/{urn}/insights/{start}/{end}: a row a day and resource, both days included."""
    check_query(call, PAGED)
    urn = f"do:team:{team_of(call.owner)}"
    if call.ids[0] != urn:
        raise not_found()
    start, end = _day(call.ids[1]), _day(call.ids[2])
    if end < start or end - start >= _LONGEST:
        raise unprocessable("the range of dates must be 1 to 31 days")
    days = [start + timedelta(days=ahead) for ahead in range((end - start).days + 1)]
    rows = [row for day in days for row in _estimates(api.cloud, call, urn, day)]
    page, per_page = page_of(call)
    return answer(
        {
            "data_points": rows[(page - 1) * per_page : page * per_page],
            "total_items": len(rows),
            "total_pages": max(1, -(-len(rows) // per_page)),
            "current_page": page,
        }
    )


def _estimates(cloud: Cloud, call: Call, urn: str, day: date) -> Iterator[dict[str, Any]]:
    since = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
    until = since + _DAY_S
    if until > call.now:
        return
    for one in _owned(cloud, call.owner.name):
        if amount := one.ledger.cost(until, since):
            product, description, region = _told(cloud, one)
            yield {
                "usage_team_urn": urn,
                "start_date": day.isoformat(),
                "total_amount": _text(amount),
                "region": region,
                "sku": f"1-DO-{product.upper().replace(' ', '-')}",
                "description": description,
                "group_description": "",
            }
