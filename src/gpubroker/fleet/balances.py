"""What accounts have left, read now and then, against what runs there and will still cost."""

from __future__ import annotations

import asyncio

from gpubroker.fleet.context import Context
from gpubroker.model.errors import BrokerError
from gpubroker.model.money import cost
from gpubroker.providers.base import HasBalance
from gpubroker.store.rows import AttemptRow

READ_EVERY_S = 3600.0
WARN_AGAIN_S = 86400.0
HORIZON_S = 86400.0
"""So far is looked ahead for a machine without an expiry."""


async def watch_balances(ctx: Context) -> tuple[str, ...]:
    """Accounts with machines in use, each once an hour by whichever process claims it.

    Answer: balances that could not be read, in words.
    """
    in_use = ctx.store.notices.accounts_in_use()
    read = await asyncio.gather(*(_account(ctx, *account) for account in in_use))
    return tuple(problem for problem in read if problem)


async def _account(ctx: Context, name: str, account: str) -> str:
    try:
        provider = ctx.clouds.provider(name, account)
        if not isinstance(provider, HasBalance):
            return ""
        if not ctx.store.claim(f"balance:{name}/{account}", ctx.at(), READ_EVERY_S):
            return ""
        balance = await provider.balance()
    except BrokerError as trouble:
        return f"{name}/{account}: the balance could not be read: {trouble}"
    ctx.store.note_balance(name, account, ctx.at(), balance)
    ctx.boundary("balance recorded")
    machines = [a for a in ctx.store.steady() if (a.provider, a.account) == (name, account)]
    burn, needed = _ahead(ctx, machines)
    if balance < needed:
        ctx.store.notices.once(
            f"low_balance:{name}:{account}",
            ctx.at(),
            "low_balance",
            again_after=ctx.at() + WARN_AGAIN_S,
            provider=name,
            account=account,
            balance=balance,
            needed=needed,
            burn=burn,
        )
    return ""


def _ahead(ctx: Context, machines: list[AttemptRow]) -> tuple[int, int]:
    """(per hour now, until each of them ends)."""
    at, burn, needed = ctx.at(), 0, 0
    for attempt in machines:
        expires_at = ctx.store.launch(attempt.launch_id).expires_at
        left_s = HORIZON_S if expires_at is None else max(0.0, expires_at - at)
        for stretch in ctx.store.usage(attempt.id):
            if stretch.until is None:
                burn += stretch.rate
                needed += cost(stretch.rate, left_s)
    return burn, needed
