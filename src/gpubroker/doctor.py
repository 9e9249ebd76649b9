"""Looks at everything that a launch would need, and says what to do about what is wrong."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from gpubroker.catalog.clouds import cloud
from gpubroker.model.errors import AuthFailed, BrokerError
from gpubroker.model.money import usd
from gpubroker.model.reports import Check
from gpubroker.providers.base import HasBalance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from gpubroker.accounts import Accounts
    from gpubroker.store.store import Store

TOOLS = {
    "ssh": "install OpenSSH's client: machines are checked and used through it",
    "rsync": "install rsync to copy folders; scp works without it",
}
HERE = "this computer"


async def examine(store: Store, accounts: Accounts) -> tuple[Check, ...]:
    """Every check, those of this computer first. A failing one stops none of the others."""
    checks = [
        Check(
            provider=HERE,
            what="store",
            ok=True,
            detail=f"{store.path} ({store.realm}, owner {store.owner})",
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
    return tuple(checks)


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
