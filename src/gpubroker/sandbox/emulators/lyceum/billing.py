"""Lyceum's organisations and their ledger: every hour that was used is a debit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.model.money import Nanos, nanos, usd
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.fastapi_words import Nothing, read_query
from gpubroker.sandbox.emulators.lyceum.words import (
    as_uuid,
    check_org,
    moment,
    org_id,
    org_slug,
)
from gpubroker.sandbox.money import Usage, total
from gpubroker.sandbox.rented import Account

_HOUR_S = 3600


class Page(Struct, forbid_unknown_fields=True):
    """Query of lists by pages."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 50
    offset: Annotated[int, Meta(ge=0)] = 0


class Transactions(Page):
    """Query of the ledger."""

    kind: Literal["credit", "debit"] | None = None
    source: str | None = None


class Aggregate(Struct, forbid_unknown_fields=True):
    """Query of the sums."""

    category: Literal[
        "vms",
        "executions",
        "dedicated_inference",
        "inference_prompt_tokens",
        "inference_completion_tokens",
        "serverless_inference_prompt_tokens",
        "serverless_inference_completion_tokens",
    ]
    group_by: Literal["vm_id", "hardware_profile", "deployment_id"]


class Debit(Struct, frozen=True):
    """An hour of a VM or a volume, or what is left of one."""

    at: float
    amount: Nanos
    metadata: dict[str, str]


def _hours(line: Usage, now: float) -> Iterator[tuple[int, Nanos]]:
    """The hours of a stretch that are over, and its rest where it has ended."""
    since = line.start
    last = int(now) if line.end is None else min(line.end, int(now))
    while since < last:
        until = since + _HOUR_S
        if until > last:
            if line.end is None or line.end > now:
                return
            until = last
        yield until, line.cost(until, since)
        since = until


def debits(cloud: Cloud, account: str, now: float) -> list[Debit]:
    """All of an account, the newest first."""
    found = []
    for machine in cloud.owned(account):
        told = {"source": "vm", "vm_id": machine.id, "hardware_profile": cloud.slot(machine).gpu}
        for line in machine.ledger.lines:
            found += [Debit(at, nano, told) for at, nano in _hours(line, now) if nano]
    for thing in cloud.things.values():
        if thing.account == account:
            told = {"source": "block_storage", "volume_id": thing.id}
            for line in thing.ledger.lines:
                found += [Debit(at, nano, told) for at, nano in _hours(line, now) if nano]
    return sorted(found, key=lambda debit: debit.at, reverse=True)


def _amount(amount: int) -> str:
    return f"{usd(amount):.9f}"


def _rows(cloud: Cloud, account: Account, now: float) -> list[dict[str, Any]]:
    rows = [
        {
            "id": as_uuid(*debit.metadata.values(), str(debit.at)),
            "created_at": moment(debit.at),
            "kind": "debit",
            "amount": _amount(debit.amount),
            "metadata": debit.metadata,
        }
        for debit in debits(cloud, account.name, now)
    ]
    paid = {
        "id": as_uuid(account.name, "first"),
        "created_at": moment(account.created_at),
        "kind": "credit",
        "amount": _amount(nanos(cloud.facts.credit_usd)),
        "metadata": {"source": "purchase"},
    }
    return [*rows, paid]


# --- the calls ----------------------------------------------------------------------------


async def my_org(_: Emulator, call: Call) -> Response:
    """GET user/org: whose the key is."""
    read_query(call, Nothing)
    slug = org_slug(call.owner)
    row = {"org_id": org_id(call.owner), "slug": slug, "name": slug.title()}
    return answer(row | {"is_personal": False, "is_key_scoped": True})


async def orgs(_: Emulator, call: Call) -> Response:
    """GET orgs: a bare list."""
    read_query(call, Nothing)
    slug = org_slug(call.owner)
    row = {
        "id": org_id(call.owner),
        "slug": slug,
        "name": slug.title(),
        "is_default": False,
        "role": "owner",
        "billing_email": None,
        "created_at": moment(call.owner.created_at),
    }
    return answer([row])


async def credit(api: Emulator, call: Call) -> Response:
    """GET billing/credits."""
    read_query(call, Nothing)
    bought = api.cloud.facts.credit_usd
    left = usd(max(0, api.cloud.credit(call.owner.name)))
    return answer(
        {
            "available_credits": bought,
            "used_credits": round(bought - left, 6),
            "remaining_credits": round(left, 6),
            "monthly_free_credits": 0.0,
            "purchased_credits": bought,
        }
    )


async def history(_: Emulator, call: Call) -> Response:
    """GET billing/history: of runs alone."""
    read_query(call, Page)
    return answer({"executions": []})


async def activities(api: Emulator, call: Call) -> Response:
    """GET billing/activities: runs and purchases."""
    page = read_query(call, Page)
    rows = _rows(api.cloud, call.owner, call.now)
    bought = [row for row in rows if row["kind"] == "credit"]
    return answer({"activities": bought[page.offset : page.offset + page.limit]})


async def balance(api: Emulator, call: Call) -> Response:
    """GET orgs/{slug}/balance: as text."""
    read_query(call, Nothing)
    check_org(call, call.ids[0])
    left = api.cloud.credit(call.owner.name)
    return answer({"balance": f"{usd(max(0, left)):.4f}", "account_suspended": left <= 0})


async def transactions(api: Emulator, call: Call) -> Response:
    """GET orgs/{slug}/transactions: the newest first."""
    query = read_query(call, Transactions)
    check_org(call, call.ids[0])
    rows = [
        row
        for row in _rows(api.cloud, call.owner, call.now)
        if query.kind in (None, row["kind"]) and query.source in (None, row["metadata"]["source"])
    ]
    return answer({"transactions": rows[query.offset : query.offset + query.limit]})


async def aggregate(api: Emulator, call: Call) -> Response:
    """GET orgs/{slug}/transactions/aggregate: what each VM has cost."""
    query = read_query(call, Aggregate)
    check_org(call, call.ids[0])
    groups: dict[str, list[Debit]] = {}
    if query.category == "vms":
        for debit in reversed(debits(api.cloud, call.owner.name, call.now)):
            if (group := debit.metadata.get(query.group_by)) is not None:
                groups.setdefault(group, []).append(debit)
    rows = [
        {
            "group_by_value": group,
            "count": len(found),
            "total_amount": _amount(total(debit.amount for debit in found)),
            "first_created_at": moment(found[0].at),
            "last_created_at": moment(found[-1].at),
        }
        for group, found in groups.items()
    ]
    return answer({"aggregates": rows})
