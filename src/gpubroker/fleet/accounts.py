"""An alias is bound to the provider's own uid at first use; a changed uid freezes it."""

from __future__ import annotations

from gpubroker.fleet.context import Context, ref_of
from gpubroker.fleet.errors import AccountChanged
from gpubroker.model.errors import Refused
from gpubroker.providers.base import Provider
from gpubroker.providers.fingerprint import is_fingerprint
from gpubroker.store.rows import AttemptRow

MOST_ASKED = 3
"""So many known machines a new key is shown, where the uid is the key's fingerprint."""


async def bound(ctx: Context, provider: Provider) -> str:
    """The uid that the alias is bound to, asked for only where it is not known or frozen."""
    known = ctx.store.account(provider.name, provider.account)
    if known is None or known.frozen:
        return await confirm(ctx, provider)
    return known.uid


async def confirm(
    ctx: Context, provider: Provider, *, same_account: bool = False, freeze: bool = True
) -> str:
    """The account's uid, compared with the one its machines are recorded under.

    Raises AccountChanged, and records the freeze, where the key is another account's: such an
    account reads and ends nothing, since "no such machine" from it would prove nothing. Where the
    cloud has no uid but the key's fingerprint, a new key counts as the same account's when it sees
    a machine of ours, or when a person says so (`same_account`). `freeze=False`: a key that is
    only tried freezes nothing.
    """
    uid = await provider.whoami()
    known = ctx.store.account(provider.name, provider.account)
    if known is None or (known.uid == uid and known.frozen):
        ctx.store.bind_account(provider.name, provider.account, uid, "", ctx.at())
        return uid
    if known.uid == uid:
        return uid
    by_key = is_fingerprint(uid) and is_fingerprint(known.uid)
    if by_key and (same_account or await _sees_ours(ctx, provider)):
        ctx.store.rebind_account(provider.name, provider.account, uid, ctx.at())
        ctx.store.add_event(
            ctx.at(), "account_rekeyed", provider=provider.name, account=provider.account
        )
        return uid
    why = (
        f"the key of {provider.name} ({provider.account}) belongs to account {uid}, its machines "
        f"to account {known.uid}"
    )
    if by_key:
        why = (
            f"the key of {provider.name} ({provider.account}) is a new one, and sees none of its "
            "machines"
        )
    if freeze and not known.frozen:
        ctx.store.bind_account(provider.name, provider.account, known.uid, why, ctx.at())
        ctx.store.add_event(
            ctx.at(), "account_frozen", provider=provider.name, account=provider.account, why=why
        )
    same = (
        f"If it is the same account's: gpubroker login {provider.name}:{provider.account} "
        "--same-account. "
        if by_key
        else ""
    )
    raise AccountChanged(
        f"{why}. Nothing was read, ended or closed. {same}Put the former key back, or give the new "
        f"account a name of its own: gpubroker login {provider.name}:NAME.",
        provider=provider.name,
        operation="whoami",
    )


async def _sees_ours(ctx: Context, provider: Provider) -> bool:
    """Whether the key can read a machine that the account is recorded to have."""
    rows = ctx.store.attempts_of_provider(provider.name, provider.account)
    made = [row for row in reversed(rows) if row.status == "made" and row.ref_id is not None]
    for row in made[:MOST_ASKED]:
        if await _sees(provider, row):
            return True
    return False


async def _sees(provider: Provider, row: AttemptRow) -> bool:
    try:
        instance = await provider.get(ref_of(row))
    except Refused:  # another account's key is told that there is no such machine, or refused
        return False
    return instance.ref.id == row.ref_id and instance.attempt in (None, row.id)
