"""An alias is bound to the provider's own uid at first use; a changed uid freezes it."""

from __future__ import annotations

from gpubroker.fleet.context import Context
from gpubroker.fleet.errors import AccountChanged
from gpubroker.providers.base import Provider


async def bound(ctx: Context, provider: Provider) -> str:
    """The uid that the alias is bound to, asked for only where it is not known or frozen."""
    known = ctx.store.account(provider.name, provider.account)
    if known is None or known.frozen:
        return await confirm(ctx, provider)
    return known.uid


async def confirm(ctx: Context, provider: Provider) -> str:
    """The account's uid, compared with the one its machines are recorded under.

    Raises AccountChanged, and records the freeze, where the key is another account's: such an
    account reads and ends nothing, since "no such machine" from it would prove nothing.
    """
    uid = await provider.whoami()
    known = ctx.store.account(provider.name, provider.account)
    if known is None or (known.uid == uid and known.frozen):
        ctx.store.bind_account(provider.name, provider.account, uid, "", ctx.at())
        return uid
    if known.uid == uid:
        return uid
    why = (
        f"the key of {provider.name} ({provider.account}) belongs to account {uid}, its machines "
        f"to account {known.uid}"
    )
    if not known.frozen:
        ctx.store.bind_account(provider.name, provider.account, known.uid, why, ctx.at())
        ctx.store.add_event(
            ctx.at(), "account_frozen", provider=provider.name, account=provider.account, why=why
        )
    raise AccountChanged(
        f"{why}. Nothing was read, ended or closed. Put the former key back, or use another "
        "GPUBROKER_HOME for the new account.",
        provider=provider.name,
        operation="whoami",
    )
