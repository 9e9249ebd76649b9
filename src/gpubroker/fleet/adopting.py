"""A machine made elsewhere, taken under management: explicitly, with an expiry, and by its id.

At its cloud it stays what it was. Our store knows it by its place from then on, so that `ps`,
`ssh`, `terminate` and the bill work as for a machine of ours, and a sweep counts it as ours.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

from msgspec import Struct

from gpubroker.catalog.gpus import resolve
from gpubroker.fleet import accounts, watching
from gpubroker.fleet.context import Context, Work, encoded, ref_of
from gpubroker.fleet.leases import held
from gpubroker.fleet.strays import DECIDED_S, decision
from gpubroker.model.errors import (
    BrokerError,
    Invalid,
    NotFound,
    PolicyRefused,
    Trouble,
    WrongState,
)
from gpubroker.model.identity import new_attempt_id
from gpubroker.model.instance import Instance, Listing
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import FREE, Nanos
from gpubroker.model.offer import Offer, Price
from gpubroker.model.terms import Availability, Expiry, Market, Source, State
from gpubroker.providers.base import KeyAttachable, Provider
from gpubroker.store.rows import AttemptRow
from gpubroker.store.store import Store

ENDING = frozenset({State.TERMINATED, State.TERMINATING})
OffersLike = Callable[[Instance], Awaitable[Sequence[Offer]]]
"""What such a machine is sold for at its cloud now, best first."""


class SomebodyElses(PolicyRefused):
    """Another gpubroker's machine, which may be in use by it."""

    word = "somebody_elses"


class Adoption(Struct, frozen=True, kw_only=True):
    """What is asked for."""

    provider: str
    account: str
    id: str
    """The cloud's own."""
    name: str
    """Yours for it."""
    expires_at: datetime | None
    """None only where a person spelled out "none"."""
    scope: str | None = None
    """Region or the like, where the cloud's ids repeat."""
    owner: str | None = None
    """The other gpubroker that it is taken from, named on purpose."""
    price: Nanos | None = None
    """Per hour, where neither the cloud's record nor an offer tells it."""
    ssh_keys: tuple[str, ...] = ()
    """Public keys to be admitted, where the cloud lets them be given to a made machine."""


async def adopt(ctx: Context, wanted: Adoption, offers_like: OffersLike) -> str:
    """Take it under management. Answer: the launch's id.

    Raises NotFound, WrongState (it is managed already, or ending), SomebodyElses (another
    gpubroker's, not named), Invalid (several of that id, or no price), NameTaken.
    """
    provider = ctx.clouds.provider(wanted.provider, wanted.account)
    await accounts.confirm(ctx, provider)
    instance = await _find(provider, wanted)
    _refuse(ctx.store, instance, wanted)
    if not ctx.store.claim(decision(instance.ref), ctx.at(), DECIDED_S):
        raise WrongState(
            f"{wanted.id} is being adopted or ended by another gpubroker command right now"
        )
    price, offer = await _priced(instance, wanted, offers_like)
    spec = LaunchSpec(image=instance.image, ssh_keys=wanted.ssh_keys, expires_at=wanted.expires_at)
    ctx.boundary("adoption next")
    launch_id = _commit(ctx, provider, instance, wanted, spec, price, offer)
    ctx.boundary("adoption committed")
    async with held(ctx, launch_id) as work:
        [attempt] = work.attempts
        # Its meter starts with the machine itself; where this does not come to be, the next
        # look at the account does the same.
        watching.record(ctx, work, attempt, instance)
        with work.writing() as write:
            write.event(
                "adopted",
                attempt.id,
                provider=attempt.provider,
                provider_id=attempt.ref_id,
                owner=instance.owner,
                price=price,
            )
        if isinstance(provider, KeyAttachable):
            await _give_keys(work, provider, work.fresh(attempt), wanted.ssh_keys)
    return launch_id


async def _give_keys(
    work: Work, provider: KeyAttachable, attempt: AttemptRow, keys: Sequence[str]
) -> None:
    """A machine that takes none is managed all the same."""
    for given, key in enumerate(keys, 1):
        try:
            await provider.attach_key(ref_of(attempt), key)
        except BrokerError as error:
            with work.writing() as write:
                write.event("key_refused", attempt.id, why=str(error))
            return
        with work.writing() as write:
            write.attempt(attempt.id, keys_given=given)


async def _find(provider: Provider, wanted: Adoption) -> Instance:
    """In the lists of all scopes: foreign machines are in them too."""
    scopes = (wanted.scope,) if wanted.scope is not None else await provider.scopes()
    told = await asyncio.gather(*(provider.list(one) for one in scopes), return_exceptions=True)
    troubles = []
    found: list[Instance] = []
    for one in told:
        if isinstance(one, Listing):
            found += [row for row in one.instances if row.ref.id == wanted.id]
        elif isinstance(one, BrokerError):
            troubles.append(one)
        else:
            raise one
    if len(found) > 1:
        places = ", ".join(sorted(row.ref.scope for row in found))
        raise Invalid(f"{wanted.id} is in several places ({places}): say which. Nothing was done.")
    if found:
        return found[0]
    if troubles:
        raise troubles[0]
    if not all(isinstance(one, Listing) and one.complete for one in told):
        raise Trouble(
            f"{provider.display_name} told only a part of its machines, and {wanted.id} is not "
            "among them. Nothing was done."
        )
    raise NotFound(
        f"{provider.display_name} has no machine {wanted.id} in account {wanted.account}. "
        "Nothing was done."
    )


def _refuse(store: Store, instance: Instance, wanted: Adoption) -> None:
    if instance.state in ENDING:
        raise WrongState(f"{wanted.id} is {instance.state}: there is nothing to manage")
    for row in store.attempts_of_provider(wanted.provider):
        if row.open and (row.scope, row.ref_id) == (instance.ref.scope, instance.ref.id):
            name = store.launch(row.launch_id).name
            raise WrongState(f"{wanted.id} is managed already: it is {name}")
        if row.open and instance.owner == store.owner and row.id == instance.attempt:
            name = store.launch(row.launch_id).name
            raise WrongState(f"{wanted.id} belongs to {name}, which is being decided about")
    if instance.owner not in {None, store.owner, wanted.owner}:
        raise SomebodyElses(
            f"{wanted.id} was made by gpubroker owner {instance.owner}, who may be using it. If "
            f"that one is lost: --owner {instance.owner}. Nothing was done."
        )


async def _priced(
    instance: Instance, wanted: Adoption, offers_like: OffersLike
) -> tuple[Nanos, Offer | None]:
    """Told by a person, by the cloud's own record, or by what is for sale."""
    price = wanted.price if wanted.price is not None else instance.price
    if price is not None:
        return price, None
    for offer in await offers_like(instance):
        return offer.price.hourly(instance.disk_gb or 0.0), offer
    raise Invalid(
        f"{wanted.id}: neither its cloud's record nor an offer tells what it costs. Say it: "
        "--price USD_PER_HOUR. Nothing was done."
    )


def _commit(
    ctx: Context,
    provider: Provider,
    instance: Instance,
    wanted: Adoption,
    spec: LaunchSpec,
    price: Nanos,
    known: Offer | None,
) -> str:
    at = ctx.at()
    stopped = instance.state is State.STOPPED
    can = provider.capabilities
    lease = ctx.store.add_launch(
        {
            "id": f"l-{secrets.token_hex(6)}",
            "name": wanted.name,
            "wanted": "stopped" if stopped else "running",
            "spec": ctx.seal.close(encoded(spec).encode()),
            "image": instance.image,
            "disk_gb": instance.disk_gb,
            "candidates": "[]",
            "tolerance": 0.0,
            "max_price": None,
            "created_at": at,
            "expires_at": None if spec.expires_at is None else spec.expires_at.timestamp(),
        },
        {
            "id": _attempt_id(ctx.store, instance),
            "seq": 1,
            "provider": wanted.provider,
            "account": wanted.account,
            "scope": instance.ref.scope,
            "offer": encoded(_offer(ctx, provider, instance, price, known)),
            "price": price,
            "price_stopped": _stopped_price(instance, price, known),
            "status": "made",
            "ref_id": instance.ref.id,
            "console_url": provider.console_url(instance.ref),
            # The cloud ends it by itself only where it was told so by whoever made it.
            "expiry": can.expiry
            if can.expiry is Expiry.PROVIDER and instance.expires_at is not None
            else Expiry.CONTROLLER_ONLY,
            "created_at": at,
            "made_at": at,
            "ready_at": at,
            "phase": "ready",
            "phase_since": at,
            "outcome": "created",
            "reason": "adopted",
        },
        at,
    )
    return lease.launch_id


def _attempt_id(store: Store, instance: Instance) -> str:
    """The one that it carries, where the store has no such attempt; else a new one."""
    if instance.attempt is not None:
        known = {row.id for row in store.attempts_of_provider(instance.ref.provider)}
        if instance.attempt not in known:
            return instance.attempt
    return new_attempt_id()


def _offer(
    ctx: Context, provider: Provider, instance: Instance, price: Nanos, known: Offer | None
) -> Offer:
    """As if it had been rented by an offer: what is known of it, and no more."""
    if known is not None:
        return known
    return Offer(
        provider=instance.ref.provider,
        account=instance.ref.account,
        key=f"adopted:{instance.ref.id}",
        gpu=resolve(instance.gpu or "unknown"),
        gpu_count=instance.gpu_count or 1,
        kind=min(provider.capabilities.kinds),
        market=Market.ON_DEMAND,
        disk_gb=instance.disk_gb,
        region=instance.ref.scope,
        price=Price(compute=price),
        availability=Availability.UNKNOWN,
        source=Source.LIVE,
        fetched_at=ctx.now(),
    )


def _stopped_price(instance: Instance, price: Nanos, known: Offer | None) -> Nanos:
    """Told by the offer; of a stopped machine, what its record tells now."""
    if known is not None:
        return known.price.hourly_stopped(instance.disk_gb or 0.0)
    return price if instance.state is State.STOPPED else FREE
