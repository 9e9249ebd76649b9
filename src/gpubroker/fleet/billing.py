"""The bill of a machine that is gone: fetched when its provider knows it, matched and compared.

A record follows the machine by hours, and some are looked at for money: each bill has a time at
which it is due, kept in the store, so that nobody asks in vain and one process asks for all.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import structs

from gpubroker.fleet import bills
from gpubroker.fleet.context import Context, encoded, instance_of, offer_of, ref_of
from gpubroker.fleet.requests import Event
from gpubroker.fleet.view import metered
from gpubroker.model.bill import Bill, BillCheck
from gpubroker.model.errors import BrokerError
from gpubroker.model.identity import Ref
from gpubroker.model.money import Nanos, usd
from gpubroker.providers.base import BillsTogether, HasBalance, Provider
from gpubroker.store.rows import AttemptRow, LaunchRow, when

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
EARLY_LOOKS_S = (0.0, HOUR_S, 4 * HOUR_S)
"""After the provider's lag; then daily."""
GIVE_UP_S = 30 * DAY_S
ASKED_LATELY_S = 60.0
"""A person who asks again within this is told what was told before."""
WITHOUT_RECORD = frozenset({"balance", "manual"})


def next_look(closed_at: float, lag_s: float, now: float) -> float:
    """The first time after `now` at which a bill is due."""
    known_at = closed_at + lag_s
    for offset in EARLY_LOOKS_S:
        if known_at + offset > now:
            return known_at + offset
    days = (now - known_at) // DAY_S + 1
    return known_at + days * DAY_S


async def settle_bills(ctx: Context) -> tuple[str, ...]:
    """Ask for every bill that is due, all accounts at once. Answer: what could not be asked."""
    by_account: dict[tuple[str, str], list[AttemptRow]] = defaultdict(list)
    for attempt in ctx.store.bills_due(ctx.at()):
        by_account[attempt.provider, attempt.account].append(attempt)
    asked = await asyncio.gather(
        *(_account(ctx, name, account, due) for (name, account), due in by_account.items())
    )
    return tuple(problem for problem in asked if problem)


async def look(ctx: Context, attempt: AttemptRow, *, wanted: bool = False) -> None:
    """The bill of one machine that is gone, where it is due, or a person wants to see it now.

    A record that is scarce or costs money is looked at when it is due, whoever wants it. What
    fails is recorded: the machine is gone all the same.
    """
    if attempt.bill_final or attempt.status != "gone":
        return
    if wanted and _may_ask_early(ctx, attempt):
        await _ask(ctx, [attempt])
    elif attempt.bill_due_at is None or attempt.bill_due_at <= ctx.at():
        await _account(ctx, attempt.provider, attempt.account, [attempt])


async def told(ctx: Context, launch: LaunchRow) -> tuple[BillCheck, ...]:
    """Every machine that a launch had, in the order they were made, compared as of now."""
    for attempt in ctx.store.attempts(launch.id):
        await look(ctx, attempt, wanted=True)
    return tuple(
        bills.check(launch.name, attempt, ctx.store.usage(attempt.id), ctx.at())
        for attempt in ctx.store.attempts(launch.id)
        if attempt.ref_id is not None
    )


def _may_ask_early(ctx: Context, attempt: AttemptRow) -> bool:
    try:
        provider = ctx.clouds.provider(attempt.provider, attempt.account)
    except BrokerError:
        return False
    lately = attempt.bill_at is not None and ctx.at() - attempt.bill_at < ASKED_LATELY_S
    return provider.capabilities.billing != "daily" and not lately


async def _account(ctx: Context, name: str, account: str, due: Sequence[AttemptRow]) -> str:
    try:
        can = ctx.clouds.provider(name, account).capabilities
    except BrokerError as error:
        return f"bills of {name}/{account}: {error}"
    now, lag_s = ctx.at(), can.billing_lag_s
    ripe = [one for one in due if (one.closed_at or 0.0) + lag_s <= now]
    for early in due:
        if early not in ripe:
            ctx.store.take_bill(early.id, early.bill_due_at, (early.closed_at or 0.0) + lag_s)
    once_a_day = can.billing == "daily"
    if ripe and once_a_day and not ctx.store.claim(f"bills:{name}/{account}", now, DAY_S):
        return ""
    taken = [
        one
        for one in ripe
        if ctx.store.take_bill(one.id, one.bill_due_at, next_look(one.closed_at or 0.0, lag_s, now))
    ]
    ctx.boundary("bills taken")
    if taken:
        await _ask(ctx, taken)
    return ""


async def _ask(ctx: Context, attempts: Sequence[AttemptRow]) -> None:
    """Of one account: together where one query tells of many, else one by one."""
    provider = ctx.clouds.provider(attempts[0].provider, attempts[0].account)
    if isinstance(provider, BillsTogether):
        try:
            told = await provider.bills([_asked(attempt) for attempt in attempts])
        except BrokerError as error:
            for attempt in attempts:
                _failed(ctx, provider, attempt, error)
            return
        for attempt, bill in zip(attempts, told, strict=True):
            _record(ctx, provider, attempt, bill)
        return
    for attempt in attempts:
        try:
            bill = await provider.billing(*_asked(attempt))
            if bill.amount is None and bill.status in {"ended", "manual"}:
                bill = await _without_record(ctx, provider, attempt, bill)
        except BrokerError as error:
            _failed(ctx, provider, attempt, error)
        else:
            _record(ctx, provider, attempt, bill)


def _asked(attempt: AttemptRow) -> tuple[Ref, datetime, datetime | None]:
    instance = instance_of(attempt)
    since = when(attempt.made_at or attempt.created_at)
    if instance is not None and instance.created_at is not None:
        since = min(since, instance.created_at)
    return ref_of(attempt), since, None if attempt.closed_at is None else when(attempt.closed_at)


def _failed(ctx: Context, provider: Provider, attempt: AttemptRow, error: BrokerError) -> None:
    """Asked again when it is due next; once a month has passed, given up."""
    ctx.store.add_event(ctx.at(), "bill_failed", attempt=attempt.id, why=str(error))
    if _too_late(ctx, provider, attempt):
        _record(ctx, provider, attempt, Bill(status="unknown", evidence=str(error)))


def _record(ctx: Context, provider: Provider, attempt: AttemptRow, bill: Bill) -> None:
    """Keep what was told; what differs from our meter is an event, once."""
    final = bill.status in {"ended", "manual"}
    if not final and _too_late(ctx, provider, attempt):
        final = True
        note = f"not told within {GIVE_UP_S / DAY_S:.0f} days; nobody asks any more"
        bill = structs.replace(bill, status="unknown", evidence=_joined(bill.evidence, note))
    if price := provider.capabilities.billing_query_cost:
        bill = structs.replace(
            bill, evidence=_joined(bill.evidence, f"each query costs ${usd(price):.3f}")
        )
    name = ctx.store.launch(attempt.launch_id).name
    seen = bills.check(name, attempt, ctx.store.usage(attempt.id), ctx.at(), bill)
    kinds: dict[str, dict[str, Any]] = {"billed": {"status": bill.status, "amount": bill.amount}}
    if final and seen.verdict == "differs":
        kinds["bill_differs"] = {
            "provider": attempt.provider,
            "provider_id": attempt.ref_id,
            "quoted": seen.quoted,
            "metered": seen.metered,
            "reported": seen.reported,
            "billed": bill.amount,
            "difference": seen.difference,
            "tolerance": seen.tolerance,
            "evidence": bill.evidence,
        }
    written = ctx.store.bill(attempt.id, encoded(bill), ctx.at(), final=final, events=kinds)
    ctx.boundary("billed")
    if written and "bill_differs" in kinds:
        data = kinds["bill_differs"]
        ctx.on_event(Event(at=ctx.now(), kind="bill_differs", name=name, data=data))


def _too_late(ctx: Context, provider: Provider, attempt: AttemptRow) -> bool:
    known_at = (attempt.closed_at or 0.0) + provider.capabilities.billing_lag_s
    return ctx.at() >= known_at + GIVE_UP_S


# Where there is no record: the account's balance, else a person


async def note_balance(ctx: Context, provider: Provider) -> None:
    """Before a launch: what the account has, where its balance is the only proof of cost.

    No launch waits for it or fails by it.
    """
    if provider.capabilities.billing in WITHOUT_RECORD and isinstance(provider, HasBalance):
        with contextlib.suppress(BrokerError):
            await _read_balance(ctx, provider, provider)


async def _read_balance(ctx: Context, provider: Provider, told_by: HasBalance) -> Nanos:
    left = await told_by.balance()
    ctx.store.note_balance(provider.name, provider.account, ctx.at(), left)
    return left


async def _without_record(
    ctx: Context, provider: Provider, attempt: AttemptRow, bill: Bill
) -> Bill:
    if not isinstance(provider, HasBalance):
        return _by_a_person(attempt, bill, bill.evidence)
    charged_at = (attempt.closed_at or ctx.at()) + provider.capabilities.billing_lag_s
    if ctx.at() < charged_at:
        why = f"the balance is charged by {when(charged_at):%Y-%m-%d %H:%M} UTC"
        return structs.replace(bill, status="pending", amount=None, evidence=why)
    after = await _read_balance(ctx, provider, provider)
    started = attempt.sent_at or attempt.created_at
    earlier = ctx.store.balances(provider.name, provider.account, until=started)
    if not earlier:
        return _by_a_person(attempt, bill, "the balance was not read before it started")
    before = earlier[-1]
    fell = Nanos(before.amount - after)
    span = f"between {when(before.at):%Y-%m-%d %H:%M} and {ctx.now():%Y-%m-%d %H:%M} UTC"
    story = f"the balance {'fell' if fell >= 0 else 'rose'} by ${usd(abs(fell)):.3f} {span}"
    if fell < 0:
        return _by_a_person(attempt, bill, f"{story}: money was added meanwhile")
    # What ended just before that reading may have been charged after it.
    others = _ran_meanwhile(ctx, attempt, before.at - provider.capabilities.billing_lag_s)
    if others:
        return _by_a_person(attempt, bill, f"{story}; it paid meanwhile for {', '.join(others)}")
    alone = "nothing else of this gpubroker ran there; other use of the account is not known"
    return structs.replace(
        bill, status="ended", amount=fell, by="balance", evidence=f"{story}; {alone}"
    )


def _ran_meanwhile(ctx: Context, attempt: AttemptRow, since: float) -> list[str]:
    """Others that the same balance paid for, with what they were metered at in all."""
    told = []
    for other in ctx.store.charged_since(since):
        same = (other.provider, other.account) == (attempt.provider, attempt.account)
        if same and other.id != attempt.id:
            spent = metered(ctx.store.usage(other.id), offer_of(other), ctx.now())
            told.append(f"{ctx.store.launch(other.launch_id).name} (${usd(spent):.3f} metered)")
    return told


def _by_a_person(attempt: AttemptRow, bill: Bill, why: str) -> Bill:
    """What to look for, and where."""
    page = attempt.console_url
    where = f"look for {attempt.ref_id} at {page}" if page and page not in why else ""
    return structs.replace(bill, status="manual", amount=None, evidence=_joined(why, where))


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
