"""From what a person says of a machine made elsewhere to its adoption by the fleet."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Protocol

from gpubroker.catalog.clouds import cloud, parse_offer_id
from gpubroker.catalog.gpus import resolve
from gpubroker.fleet import adopting
from gpubroker.fleet.view import machine_of
from gpubroker.model.errors import Invalid, NoExpiry
from gpubroker.model.query import GpuWanted, Query
from gpubroker.providers.accounts import DEFAULT
from gpubroker.store.errors import NameTaken

if TYPE_CHECKING:
    from datetime import timedelta

    from gpubroker.accounts import Accounts
    from gpubroker.fleet.fleet import Fleet
    from gpubroker.market.results import SearchResult
    from gpubroker.model.instance import Instance
    from gpubroker.model.machine import Machine
    from gpubroker.model.money import Nanos
    from gpubroker.model.offer import Offer


class Search(Protocol):
    """As Broker.search."""

    def __call__(self, query: Query, /, *, limit: int | None) -> Awaitable[SearchResult]:
        """Ranked offers."""
        ...


async def adopt(
    fleet: Fleet,
    accounts: Accounts,
    search: Search,
    public_key: str,
    where: tuple[str, str | None],
    id: str,
    *,
    ttl: timedelta | None,
    no_expiry: bool,
    name: str | None,
    scope: str | None,
    owner: str | None,
    price: Nanos | None,
) -> Machine:
    """`where`: the cloud in any of its spellings, and the account's alias. See Broker.adopt."""
    if ttl is None and not no_expiry:
        raise NoExpiry(
            'an adoption needs an expiry: say how long (ttl), or "none" in so many words'
        )
    provider = _provider(accounts, where[0])
    ctx = fleet.context
    if name in ctx.store.names():
        raise NameTaken(f"a machine named {name} has not ended. Choose another --name")
    wanted = adopting.Adoption(
        provider=provider,
        account=_account(accounts, provider, where[1]),
        id=_plain(provider, id),
        name=name or _free(provider, ctx.store.names()),
        expires_at=None if ttl is None else ctx.now() + ttl,
        scope=scope,
        owner=owner,
        price=price,
        ssh_keys=(public_key,),
    )

    async def offers_like(instance: Instance) -> Sequence[Offer]:
        gpu = resolve(instance.gpu or "")
        if gpu.name is None or not instance.gpu_count:
            return ()
        same = GpuWanted(gpu.name, gpu.form or "", gpu.memory_gb, instance.gpu_count)
        query = Query(gpus=(same,), providers=(provider,), disk_gb=instance.disk_gb)
        return (await search(query, limit=1)).offers

    launch_id = await adopting.adopt(ctx, wanted, offers_like)
    return machine_of(ctx.store, ctx.store.launch(launch_id), ctx.now())


def _provider(accounts: Accounts, text: str) -> str:
    """Wire name; a cloud from outside the table is known by its own."""
    return text if text in {name for name, _ in accounts.configured()} else cloud(text).name


def _account(accounts: Accounts, provider: str, alias: str | None) -> str:
    """The one named; without a name the only one, or the default."""
    aliases = sorted(account for name, account in accounts.configured() if name == provider)
    if alias is not None:
        return alias
    if len(aliases) > 1 and DEFAULT not in aliases:
        raise Invalid(
            f"{provider} has several accounts ({', '.join(aliases)}): say which, as "
            f"{provider}:{aliases[0]}. Nothing was done."
        )
    return aliases[0] if len(aliases) == 1 else DEFAULT


def _plain(provider: str, text: str) -> str:
    """The cloud's own id, of vast_12345 too."""
    try:
        named, plain = parse_offer_id(text)
    except ValueError:
        return text
    return plain if named == provider else text


def _free(provider: str, taken: set[str]) -> str:
    """adopted-vast-ai-1: the cloud and the first free number."""
    stem, number = f"adopted-{provider.replace('_', '-')}", 1
    while f"{stem}-{number}" in taken:
        number += 1
    return f"{stem}-{number}"
