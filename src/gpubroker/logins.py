"""`login` and `logout`: a key is tried with a real call before it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gpubroker.fleet.accounts import confirm
from gpubroker.model.errors import BrokerError
from gpubroker.model.reports import Login
from gpubroker.providers.accounts import Account
from gpubroker.providers.base import HasBalance, Provider

if TYPE_CHECKING:
    from gpubroker.accounts import Accounts
    from gpubroker.credentials.vault import Vault
    from gpubroker.fleet.context import Context
    from gpubroker.model.money import Nanos


async def login(
    context: Context,
    accounts: Accounts,
    vault: Vault,
    identity: tuple[str, str],
    secrets: Mapping[str, str],
    *,
    keyring: bool,
    same_account: bool,
) -> Login:
    """As Broker.login; `identity`: (cloud's wire name, account's alias)."""
    provider, account = identity
    async with accounts.unlisted(Account(provider, account, secrets)) as tried:
        uid = await confirm(context, tried, same_account=same_account, freeze=False)
        balance = await _balance(tried)
    stored = vault.keep(f"{provider}:{account}", secrets, keyring=keyring)
    accounts.refresh(now=True)
    return Login(
        provider=provider,
        account=account,
        uid=uid,
        balance=balance,
        stored=stored,
        overruled_by=accounts.overruled(provider, account),
    )


async def _balance(provider: Provider) -> Nanos | None:
    """The key is good: that this cloud does not tell its balance now is no reason to refuse it."""
    if not isinstance(provider, HasBalance):
        return None
    try:
        return await provider.balance()
    except BrokerError:
        return None
