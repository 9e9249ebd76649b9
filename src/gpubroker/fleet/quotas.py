"""Limits of the accounts that a plan would rent at, where their clouds tell them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from gpubroker.fleet.context import Clouds
from gpubroker.model.errors import BrokerError
from gpubroker.model.offer import Offer
from gpubroker.model.quota import Quota
from gpubroker.providers.base import HasQuotas


async def quotas_of(
    clouds: Clouds, offers: Iterable[Offer]
) -> Mapping[tuple[str, str], tuple[Quota, ...]]:
    """By (provider, account), all asked at once. One that does not answer limits nothing."""
    accounts = {(offer.provider, offer.account) for offer in offers}
    found = await asyncio.gather(*(_of_account(clouds, *account) for account in accounts))
    return dict(zip(accounts, found, strict=True))


async def _of_account(clouds: Clouds, name: str, account: str) -> tuple[Quota, ...]:
    try:
        provider = clouds.provider(name, account)
        return await provider.quotas() if isinstance(provider, HasQuotas) else ()
    except BrokerError:
        return ()  # its create will tell
