"""Looks at everything that a launch would need, and says what to do about what is wrong."""

from __future__ import annotations

import shutil
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from gpubroker.catalog.clouds import cloud
from gpubroker.model.errors import AuthFailed, BrokerError
from gpubroker.model.money import usd
from gpubroker.model.reports import Check
from gpubroker.providers.base import HasBalance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from gpubroker.accounts import Accounts
    from gpubroker.model.clock import Clock
    from gpubroker.providers.exchange import Exchange
    from gpubroker.store.store import Store

TOOLS = {
    "ssh": "install OpenSSH's client: machines are checked and used through it",
    "rsync": "install rsync to copy folders; scp works without it",
}
HERE = "this computer"
MOST_SKEW_S = 30.0


async def examine(
    store: Store, accounts: Accounts, clock: Clock, seen: list[Exchange]
) -> tuple[Check, ...]:
    """Every check, those of this computer first. A failing one stops none of the others.

    `seen` grows by every exchange with a provider: its Date tells the clocks apart.
    """
    checks = [
        Check(
            provider=HERE,
            what="store",
            ok=True,
            detail=f"{store.where} ({store.realm}, owner {store.owner})",
        )
    ]
    checks += [_tool(tool, advice) for tool, advice in TOOLS.items()]
    configured = accounts.configured()
    if not configured:
        checks.append(
            Check(
                provider=HERE,
                what="keys",
                ok=False,
                detail="no provider has a key: prices can be seen, nothing can be rented",
                fix="gpubroker providers lists the variables; --sandbox needs no account",
            )
        )
    for name, alias in configured:
        checks += [check async for check in _account(accounts, name, alias)]
        checks += _clock(name, seen, clock.now())
        seen.clear()
    return tuple(checks)


def _clock(name: str, seen: list[Exchange], now: datetime) -> Iterator[Check]:
    """How far this computer's clock is from the provider's, by its last answer."""
    told = [exchange.headers["date"] for exchange in seen if exchange.headers.get("date")]
    if not told:
        return
    try:
        skew_s = (parsedate_to_datetime(told[-1]) - now).total_seconds()
    except ValueError:
        yield Check(provider=name, what="clock", ok=None, detail="its Date is no time")
        return
    right = abs(skew_s) <= MOST_SKEW_S
    yield Check(
        provider=name,
        what="clock",
        ok=right,
        detail=f"{skew_s:+.0f} s from this computer's",
        fix="" if right else "set this computer's clock: expiry and cost are counted by it",
    )


def _tool(tool: str, advice: str) -> Check:
    path = shutil.which(tool)
    return Check(
        provider=HERE,
        what=tool,
        ok=path is not None,
        detail=path or "not found",
        fix="" if path else advice,
    )


async def _account(accounts: Accounts, name: str, alias: str) -> AsyncIterator[Check]:
    known = cloud(name)
    account = accounts.account(name)
    found = account.found if account else ""
    yield Check(provider=name, what="key", ok=True, detail=f"from {found}")
    provider = accounts.provider(name, alias)
    try:
        uid = await provider.whoami()
    except BrokerError as error:
        refused = isinstance(error, AuthFailed)
        yield Check(
            provider=name,
            what="account",
            ok=False,
            detail=str(error),
            fix=f"make a new key at {known.key_page}" if refused else "try again later",
        )
        return
    yield Check(provider=name, what="account", ok=True, detail=f"uid {uid}")
    if isinstance(provider, HasBalance):
        yield await _balance(provider, name, known.billing_page)


async def _balance(provider: HasBalance, name: str, billing_page: str) -> Check:
    try:
        left = await provider.balance()
    except BrokerError as error:
        return Check(provider=name, what="balance", ok=None, detail=str(error))
    enough = left > 0
    return Check(
        provider=name,
        what="balance",
        ok=enough,
        detail=f"${usd(left):.2f}",
        fix="" if enough else f"add funds at {billing_page}",
    )
