"""From matching offers to a plan: pure, so that what is shown is what will be done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from gpubroker.catalog.clouds import offer_id, way_in
from gpubroker.fleet.errors import BidTooHigh
from gpubroker.fleet.requests import LaunchRequest, Plan, PlannedOffer
from gpubroker.model.capabilities import Capabilities
from gpubroker.model.errors import BudgetExceeded, CapacityScope, NoExpiry
from gpubroker.model.money import Nanos, cost, usd
from gpubroker.model.offer import Offer
from gpubroker.model.quota import Quota
from gpubroker.model.terms import Market, Source

NOT_ENTERED = "gpubroker does not log in at {cloud}; to take it all the same: --provider {cloud}"
"""Why a cloud is left out of a plan that does not name it."""


def plan(
    offers: Sequence[Offer],
    request: LaunchRequest,
    *,
    disk_gb: float,
    total: int,
    now: datetime,
    cooldowns: Mapping[tuple[str, str], str],
    beside: Sequence[Offer] = (),
    quotas: Mapping[tuple[str, str], Sequence[Quota]] = MappingProxyType({}),
    unable: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """Rank what will be tried, `request.tries` at most a node, and say the most it can cost.

    `offers` come ranked as the user sorts them; a bid is compared with what is on demand in
    `beside`. `quotas` by (provider, account), where they can be read.
    `unable`: cloud -> what of the request it cannot do.
    Raises NoExpiry, BidTooHigh, BudgetExceeded.
    """
    if request.ttl is None and not request.no_expiry:
        raise NoExpiry('a launch needs an expiry: say how long (ttl), or "none" in so many letters')
    ranked: list[PlannedOffer] = []
    left_out: list[tuple[str, str]] = []
    unentered: set[str] = set()
    for offer in offers:
        identity = offer_id(offer.provider, offer.key)
        if _not_entered(offer, request):
            # Told once a cloud.
            if offer.provider not in unentered:
                left_out.append((identity, NOT_ENTERED.format(cloud=offer.provider)))
            unentered.add(offer.provider)
            continue
        why = unable.get(offer.provider, "") or _why_not(offer, cooldowns)
        if why := why or _beyond(quotas.get((offer.provider, offer.account), ()), offer):
            left_out.append((identity, why))
            continue
        if len(ranked) == request.tries * request.nodes:
            break
        price = offer.price.hourly(disk_gb)
        if request.bid is not None and offer.market is Market.SPOT:
            price = Nanos(price - offer.price.compute + request.bid)
            _refuse_senseless_bid(offer, request.bid, (*offers, *beside))
        reason = _reason(price, ranked[0].price if ranked else None)
        ranked.append(PlannedOffer(offer=offer, offer_id=identity, price=price, reason=reason))
    most = _most(ranked, request)
    if request.max_cost is not None and request.ttl is None:
        raise BudgetExceeded("a launch without an expiry has no highest cost: give it a ttl")
    if request.max_cost is not None and most is not None and most > request.max_cost:
        raise BudgetExceeded(
            f"this launch could cost ${usd(most):.2f}, more than --max-cost "
            f"${usd(request.max_cost):.2f}. Nothing was rented. Shorter: --ttl"
        )
    return Plan(
        ranked=tuple(ranked),
        left_out=tuple(left_out),
        most=most,
        expires_at=None if request.ttl is None else now + request.ttl,
        total=total,
    )


def unmatched(request: LaunchRequest, now: datetime) -> Plan:
    """The plan of a launch that waits for its first offer. Raises NoExpiry."""
    return plan((), request, disk_gb=0.0, total=0, now=now, cooldowns={})


def causes(offer: Offer, scope: CapacityScope) -> str:
    """What shares the cause of a "no capacity" of this scope, as a key of the store."""
    kind = f"{offer.gpu.name or offer.gpu.raw}x{offer.gpu_count}/{offer.market}/{offer.tier}"
    return {
        "offer": f"offer:{offer.key}",
        "type_region": f"type:{kind}@{offer.region}",
        "region": f"region:{offer.region}",
        "provider": "provider",
    }[scope]


def lacking(request: LaunchRequest, can: Capabilities) -> str:
    """What was asked and a cloud cannot do, "" where it can do all of it."""
    lacks = (
        (request.registry_auth and not can.registry_auth,
         "takes no login for private images (--registry-auth)"),
        (request.image and can.image == "none", "runs no container images (--image)"),
        (request.ports and can.ports == "none", "opens no ports (--port)"),
    )  # fmt: skip
    return next((words for lacks_it, words in lacks if lacks_it), "")


def _why_not(offer: Offer, cooldowns: Mapping[tuple[str, str], str]) -> str:
    if offer.source is Source.CATALOG:
        return "a price from the catalog, not an offer"
    if offer.price.quoted != "USD":
        return f"its price is in {offer.price.quoted}, which is not converted"
    scopes: Iterable[CapacityScope] = ("offer", "type_region", "region", "provider")
    for scope in scopes:
        if reason := cooldowns.get((offer.provider, causes(offer, scope))):
            return reason
    return ""


def _not_entered(offer: Offer, request: LaunchRequest) -> bool:
    """Where gpubroker does not log in nothing is rented, unless the cloud or offer was named."""
    query = request.query
    return not query.keys and offer.provider not in query.providers and bool(way_in(offer.provider))


def _beyond(quotas: Iterable[Quota], offer: Offer) -> str:
    return next((why for quota in quotas if (why := quota.why_not(offer))), "")


def _most(ranked: Sequence[PlannedOffer], request: LaunchRequest) -> Nanos | None:
    if request.ttl is None or not ranked:
        return None
    dearest = max(
        round(planned.price * (1 + request.max_price_increase))
        if planned.offer.market is not Market.SPOT or request.bid is None
        else planned.price
        for planned in ranked
    )
    return Nanos(cost(dearest, request.ttl.total_seconds()) * request.nodes)


def _reason(price: Nanos, best: Nanos | None) -> str:
    if best is None:
        return "best by the chosen order"
    gap = usd(price - best)
    return f"{'+' if gap >= 0 else '-'}${abs(gap):.3f}/h beside the first"


def _refuse_senseless_bid(offer: Offer, bid: Nanos, offers: Sequence[Offer]) -> None:
    """A bid at or above the on-demand price of the same machine buys less for more."""
    for other in offers:
        if other.market is not Market.ON_DEMAND or bid < other.price.compute:
            continue
        if _machine(other) == _machine(offer):
            raise BidTooHigh(
                f"a bid of ${usd(bid):.3f}/h is not below the on-demand price of the same machine "
                f"(${usd(other.price.compute):.3f}/h). Nothing was rented. Use --on-demand, or bid "
                "less"
            )


def _machine(offer: Offer) -> tuple[object, ...]:
    """What two offers share that sell one machine: the host, where it is told, else the type."""
    if offer.host is not None:
        return offer.provider, offer.gpu_count, offer.host
    return offer.provider, offer.gpu_count, offer.gpu, offer.region, offer.tier
