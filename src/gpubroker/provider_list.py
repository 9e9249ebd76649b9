"""Every cloud as `providers` shows it: what it can do, and by which keys it is reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpubroker.catalog.clouds import Cloud, clouds
from gpubroker.model.reports import AccountInfo, ProviderInfo
from gpubroker.providers import registry

if TYPE_CHECKING:
    from gpubroker.accounts import Accounts
    from gpubroker.credentials.sources import Found


def provider_list(accounts: Accounts) -> tuple[ProviderInfo, ...]:
    """Those that are not built yet too."""
    found = accounts.found()
    return tuple(
        _info(known, [one for one in found if one.provider == known.name], accounts)
        for known in clouds()
    )


def _info(known: Cloud, found: list[Found], accounts: Accounts) -> ProviderInfo:
    status = registry.status(known.name)
    keys = [one.key.where for one in found if one.key]
    built = status != "planned"
    return ProviderInfo(
        name=known.name,
        display_name=known.display_name,
        website=known.website,
        configured=bool(keys),
        key_variable=keys[0] if keys else None,
        variables=known.key_variables,
        capabilities=registry.provider_class(known.name).capabilities if built else None,
        health=accounts.health(known.name),
        status=status,
        enabled=known.name not in accounts.switched_off(),
        accounts=tuple(_account(one, accounts) for one in found),
        answers=registry.answers(known.name) if built else frozenset(),
        facts=known.facts,
    )


def _account(one: Found, accounts: Accounts) -> AccountInfo:
    return AccountInfo(
        name=one.alias,
        found=one.key.where if one.key else None,
        shadowed=one.shadowed,
        problem=one.problem,
        health=accounts.health(one.provider, one.alias),
    )
