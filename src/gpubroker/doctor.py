"""Looks at everything that a launch would need, and says what to do about what is wrong."""

from __future__ import annotations

import shutil
from collections import Counter
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from gpubroker.catalog.clouds import Cloud, cloud
from gpubroker.model.errors import AuthFailed, BrokerError
from gpubroker.model.money import usd
from gpubroker.model.reports import Check
from gpubroker.providers.accounts import DEFAULT
from gpubroker.providers.base import HasBalance, HasQuotas
from gpubroker.providers.fingerprint import is_fingerprint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from gpubroker.accounts import Accounts
    from gpubroker.credentials.sources import Found
    from gpubroker.credentials.vault import Vault
    from gpubroker.model.clock import Clock
    from gpubroker.providers.base import Provider
    from gpubroker.providers.exchange import Exchange
    from gpubroker.store.store import Store

TOOLS = {
    "ssh": "install OpenSSH's client: machines are checked and used through it",
    "rsync": "install rsync to copy folders; scp works without it",
}
HERE = "this computer"
MOST_SKEW_S = 30.0


async def examine(
    store: Store,
    accounts: Accounts,
    clock: Clock,
    seen: list[Exchange],
    *,
    vault: Vault,
    gpus: Path,
) -> tuple[Check, ...]:
    """Every check, those of this computer first. A failing one stops none of the others.

    `seen` grows by every exchange with a provider: its Date tells the clocks apart. `gpus`: the
    file of the user's own GPU models.
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
    checks += _files(accounts, vault, gpus)
    found = accounts.found()
    if not any(one.key for one in found):
        checks.append(
            Check(
                provider=HERE,
                what="keys",
                ok=False,
                detail="no provider has a key: prices can be seen, nothing can be rented",
                fix="gpubroker login shows where one is made; --sandbox needs no account",
            )
        )
    uids: list[tuple[str, str]] = []
    for one in found:
        async for check in _account(accounts, store, one, uids):
            checks.append(structs.replace(check, account=one.alias))
        checks += _clock(one.provider, seen, clock.now())
        seen.clear()
    checks += _twice(uids)
    return tuple(checks)


# This computer


def _files(accounts: Accounts, vault: Vault, gpus: Path) -> Iterator[Check]:
    for fault in accounts.faults:
        yield Check(provider=HERE, what="configuration", ok=False, detail=fault, fix="mend it")
    if vault.open_to_others():
        yield Check(
            provider=HERE,
            what="stored keys",
            ok=False,
            detail=f"other users of this computer may read {vault.path}",
            fix=f"chmod 600 {vault.path}",
        )
    if not gpus.exists():
        return
    from gpubroker.catalog.user_models import GpuModelsError, read_user_models

    try:
        read_user_models(gpus)
    except GpuModelsError as error:
        fix = "mend it; until then it is left out"
        yield Check(provider=HERE, what="GPU models", ok=False, detail=str(error), fix=fix)


def _tool(tool: str, advice: str) -> Check:
    path = shutil.which(tool)
    return Check(
        provider=HERE,
        what=tool,
        ok=path is not None,
        detail=path or "not found",
        fix="" if path else advice,
    )


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


# Accounts


async def _account(
    accounts: Accounts, store: Store, found: Found, uids: list[tuple[str, str]]
) -> AsyncIterator[Check]:
    known = cloud(found.provider)
    yield _key(accounts, found)
    if found.key is None:
        return
    try:
        provider = accounts.provider(found.provider, found.alias)
        uid = await provider.whoami()
    except BrokerError as error:
        yield _refused(known, error)
        return
    uids.append((found.provider, uid))
    yield _owner(store, found, uid)
    for check in (_scopes(provider), _balance(provider, known), _quota(provider, known)):
        if (told := await check) is not None:
            yield told


def _key(accounts: Accounts, found: Found) -> Check:
    off = found.provider in accounts.switched_off()
    named = "" if found.alias == DEFAULT else f"account {found.alias}: "
    if found.key is None:
        return Check(
            provider=found.provider,
            what="key",
            ok=False,
            detail=f"{named}none: {found.problem}",
            fix=f"gpubroker login {found.provider}:{found.alias}, or take it out of config.toml",
        )
    detail = f"{named}from {found.key.where}"
    if found.shadowed:
        detail += f"; not used: {'; '.join(found.shadowed)}"
    if off:
        detail += "; the cloud is switched off in config.toml"
    return Check(provider=found.provider, what="key", ok=True, detail=detail)


def _refused(known: Cloud, error: BrokerError) -> Check:
    fix = f"make a new key at {known.key_page}" if isinstance(error, AuthFailed) else ""
    return Check(
        provider=known.name,
        what="account",
        ok=False,
        detail=str(error),
        fix=fix or "try again later",
    )


def _owner(store: Store, found: Found, uid: str) -> Check:
    """Whether it is the account that its machines are recorded under."""
    bound = store.account(found.provider, found.alias)
    if bound is None or bound.uid == uid:
        told = "accepted; the cloud does not tell whose it is" if is_fingerprint(uid) else uid
        return Check(provider=found.provider, what="account", ok=True, detail=f"uid {told}")
    name = f"{found.provider}:{found.alias}"
    fix = f"put the former key back, or gpubroker login {found.provider}:NAME for the new account"
    if is_fingerprint(uid):
        fix = f"if it is the same account's: gpubroker login {name} --same-account"
    return Check(
        provider=found.provider,
        what="account",
        ok=False,
        detail=f"its key is of {uid}, its machines are recorded under {bound.uid}: it is frozen",
        fix=fix,
    )


async def _scopes(provider: Provider) -> Check | None:
    try:
        scopes = await provider.scopes()
    except BrokerError as error:
        return Check(provider=provider.name, what="scopes", ok=None, detail=str(error))
    named = ", ".join(scope for scope in scopes if scope)
    detail = named or "the whole account in one list"
    return Check(provider=provider.name, what="scopes", ok=True, detail=detail)


async def _quota(provider: Provider, known: Cloud) -> Check | None:
    """What the account may have, as it says itself; else what a new account usually may."""
    if not isinstance(provider, HasQuotas):
        if not known.new_account:
            return None
        usual = f"not told by the account; a new one usually: {known.new_account}"
        return Check(provider=known.name, what="quota", ok=None, detail=f"{usual} ({known.source})")
    try:
        quotas = await provider.quotas()
    except BrokerError as error:
        return Check(provider=known.name, what="quota", ok=None, detail=str(error))
    used = (f"{one.used:g} of {one.limit:g} {one.unit} of {one.bucket}" for one in quotas)
    left = all(one.used < one.limit for one in quotas)
    return Check(
        provider=known.name,
        what="quota",
        ok=left,
        detail=", ".join(used) or "none",
        fix="" if left else f"ask {known.display_name} for more, or end what is not needed",
    )


async def _balance(provider: Provider, known: Cloud) -> Check | None:
    if not isinstance(provider, HasBalance):
        return None
    try:
        left = await provider.balance()
    except BrokerError as error:
        return Check(provider=known.name, what="balance", ok=None, detail=str(error))
    enough = left > 0
    least = "" if known.min_deposit_usd is None else f" (${known.min_deposit_usd:g} at least)"
    return Check(
        provider=known.name,
        what="balance",
        ok=enough,
        detail=f"${usd(left):.2f}",
        fix="" if enough else f"add funds at {known.billing_page}{least}",
    )


def _twice(uids: list[tuple[str, str]]) -> Iterator[Check]:
    for (name, uid), times in Counter(uids).items():
        if times > 1:
            detail = f"{times} of its accounts have keys of one and the same account, {uid}"
            yield Check(provider=name, what="accounts", ok=None, detail=detail)
