"""Offers: what can be rented, told so that it can be compared and rented."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

import msgspec
from msgspec.structs import replace

from gpubroker.market.filters import compile_query
from gpubroker.model.errors import AuthFailed, BrokerError, Invalid, Unsupported
from gpubroker.model.offer import Offer, OfferPage
from gpubroker.model.query import GpuWanted, Query
from gpubroker.model.terms import Source
from gpubroker.testing.conformance.bench import Bench
from gpubroker.testing.conformance.check import Chapter, broken, none_of, require

_chapter = Chapter()
CHECKS = _chapter.checks
promise = _chapter.promise

_KEY = re.compile(r"[A-Za-z0-9._~:-]{1,200}")
_MOST_GPUS, _MOST_GB, _MOST_TB_RAM = 256, 2048, 64
HIGHEST = 10_000 * 10**9
"""Nano-dollars an hour that no machine costs."""


@promise()
async def offers_are_sound(bench: Bench) -> None:
    """Keys are unique and URL-safe, prices above zero, sizes possible, times aware."""
    offers = await bench.offers()
    require(bool(offers), "no offers at all")
    keys = [offer.key for offer in offers]
    faults = [f"key {key!r} twice" for key in {key for key in keys if keys.count(key) > 1}]
    faults += [f"{offer.key!r}: {fault}" for offer in offers for fault in _faults(bench, offer)]
    none_of(faults)


def _faults(bench: Bench, offer: Offer) -> Iterator[str]:
    can, price = bench.provider_class.capabilities, offer.price
    disk = (price.disk_gb, price.disk_gb_stopped)
    parts = (*disk, price.stopped, price.extras, price.egress_gb, price.ingress_gb)
    ram, cpus = offer.ram_gb, offer.vcpus
    for holds, fault in (
        (_KEY.fullmatch(offer.key), "the key is not URL-safe"),
        (offer.provider == bench.provider_class.name, f"provider {offer.provider!r}"),
        (offer.account == bench.provider.account, f"account {offer.account!r}"),
        (type(price.compute) is int and 0 < price.compute < HIGHEST, f"price {price.compute!r}"),
        (all(type(part) is int and part >= 0 for part in parts), "a part of the price"),
        (price.increment_s >= 1 and price.minimum_s >= 0, "increment or minimum"),
        (1 <= offer.gpu_count <= _MOST_GPUS, f"{offer.gpu_count} GPUs"),
        (0 < offer.gpu.memory_gb <= _MOST_GB, f"GPU memory {offer.gpu.memory_gb}"),
        (offer.gpu.raw, "the GPU has no name of the vendor's"),
        (ram is None or 0 < ram <= _MOST_TB_RAM * 1024, f"RAM {ram}"),
        (cpus is None or cpus > 0, f"vCPUs {cpus}"),
        (offer.kind in can.kinds, f"kind {offer.kind} is not declared"),
        (offer.market in can.markets, f"market {offer.market} is not declared"),
        (offer.source is Source.LIVE, f"source {offer.source}"),
        (offer.fetched_at.utcoffset() is not None, "a naive time"),
    ):
        if not holds:
            yield fault
    try:
        again = msgspec.json.decode(msgspec.json.encode(offer), type=Offer)
    except (TypeError, ValueError, msgspec.MsgspecError) as fault:
        yield f"cannot be stored: {fault}"
    else:
        if again != offer:
            yield "is another one when it was stored and read"


@promise()
async def every_declared_market_is_sold(bench: Bench) -> None:
    """Each market that is declared has offers."""
    sold = {offer.market for offer in await bench.offers()}
    none_of(
        f"nothing is sold as {m}"
        for m in bench.provider_class.capabilities.markets
        if m not in sold
    )


@promise()
async def keys_stay_the_same(bench: Bench) -> None:
    """An offer has the same key in the next answer, and means the same."""
    first = {offer.key: _what(offer) for offer in await bench.offers()}
    second = {offer.key: _what(offer) for offer in await bench.offers()}
    both = first.keys() & second.keys()
    # A market moves between two answers; most of it does not.
    require(2 * len(both) > len(first), f"of {len(first)} keys {len(both)} came again")
    none_of(f"{key!r} is something else now" for key in both if first[key] != second[key])


def _what(offer: Offer) -> tuple[object, ...]:
    return offer.gpu, offer.gpu_count, offer.kind, offer.market, offer.tier, offer.region


@promise()
async def a_narrowed_search_loses_nothing(bench: Bench) -> None:
    """Filters that the cloud applies itself leave all that our own filters leave."""
    whole = await bench.offers()
    faults = []
    for what, query in _narrowed(whole):
        ours = {offer.key for offer in whole if _passes(query, offer)}
        theirs = {offer.key for offer in await bench.offers(query) if _passes(query, offer)}
        if lost := ours - theirs:
            faults.append(f"{what}: {len(lost)} of {len(ours)} are lost, {min(lost)!r} is one")
    none_of(faults)


@promise()
async def what_an_answer_covers_is_in_it(bench: Bench) -> None:
    """A complete answer holds every row that its `covers` describes."""
    whole = await bench.offers()
    faults = []
    for what, query in (("everything", Query()), *_narrowed(whole)):
        pages = await bench.pages(query)
        told = {offer.key for page in pages for offer in page.rows}
        faults += [f"{what}: {fault}" for page in pages for fault in _uncovered(page, whole, told)]
    none_of(faults)


def _uncovered(page: OfferPage, whole: list[Offer], told: set[str]) -> Iterator[str]:
    if not page.complete:
        return
    covered = whole if page.covers is None else [o for o in whole if _passes(page.covers, o)]
    if missing := {offer.key for offer in covered} - told:
        yield f"complete, but {len(missing)} covered rows are missing, {min(missing)!r} is one"


def _narrowed(whole: list[Offer]) -> Iterator[tuple[str, Query]]:
    """Searches that find something, each by another field."""
    if not whole:
        broken("no offers at all")
    middle = sorted(whole, key=lambda o: (o.price.compute, o.key))[len(whole) // 2]
    for market in sorted({offer.market for offer in whole}):
        yield f"market {market}", Query(market=market)
    yield f"key {middle.key}", Query(keys=(middle.key,))
    yield "two GPUs or more", Query(min_count=2)
    yield "one GPU", Query(max_count=1)
    yield "memory", Query(min_vram_gb=middle.gpu.memory_gb, max_vram_gb=middle.gpu.memory_gb)
    yield "price", Query(max_price=middle.price.compute)
    if middle.gpu.name:
        yield f"GPU {middle.gpu.name}", Query(gpus=(GpuWanted(middle.gpu.name),))
    if middle.region:
        yield f"region {middle.region}", Query(regions=(middle.region,))
    if middle.vcpus:
        yield "vCPUs", Query(min_vcpus=middle.vcpus)
    if middle.ram_gb:
        yield "RAM", Query(min_ram_gb=middle.ram_gb)
    if middle.disk_max_gb:
        yield "disk", Query(min_disk_gb=middle.disk_max_gb)
    if middle.reliability:
        yield "reliability", Query(min_reliability=middle.reliability)
    if hours := _between(offer.max_hours for offer in whole):
        yield "hours", Query(min_hours=hours)


def _between(told: Iterable[float | None]) -> float | None:
    """In the widest gap: what shrinks as time goes by is on the same side in the next answer."""
    values = sorted({value for value in told if value})
    gaps = ((above - below, below) for below, above in pairwise(values))
    widest = max(gaps, default=None)
    return widest[1] + widest[0] / 2 if widest else None


def _passes(query: Query, offer: Offer) -> bool:
    plain = replace(query, options=(), include_unavailable=True)
    return all(test.passes(offer, strict=True) for test in compile_query(plain))


@promise()
async def options_are_known_or_refused(bench: Bench) -> None:
    """An option that the cloud has not is refused; one of another cloud is passed over."""
    name = bench.provider_class.name
    try:
        await bench.pages(Query(options=((name, "no_such_option", "1"),)))
    except (Invalid, Unsupported):
        pass
    else:
        broken("an option that there is not was passed over in silence")
    before = len(await bench.offers())
    after = len(await bench.offers(Query(options=(("another_cloud", "verified", "yes"),))))
    require(after == before, "an option of another cloud changed the answer")


@promise("requests", "accounts")
async def without_a_key_prices_are_told_or_refused(bench: Bench) -> None:
    """Where prices are public they come without a key; elsewhere nothing is sent without one."""
    public = bench.provider_class.capabilities.public_prices
    before = bench.requests()
    async with bench.another("") as keyless:
        try:
            rows = [row async for page in keyless.offers(Query()) for row in page.rows]
        except AuthFailed:
            require(not public, "prices are declared public and need a key")
        else:
            require(public, "prices come without a key, and public_prices is not declared")
            require(bool(rows), "no offers without a key")
        sent = bench.requests() - before
        require(public or sent == 0, f"{sent} requests were sent without a key")
        try:
            await keyless.whoami()
        except AuthFailed:
            return
        except BrokerError as error:
            broken(f"without a key `whoami` is {error.word}, not auth_failed")
    broken("`whoami` answers without a key")
