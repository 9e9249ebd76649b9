"""A query as a list of named tests.

A test answers True, False, or None where the offer does not tell the filtered value: such an offer
is kept and marked, or dropped under `strict`. Tests never raise for an odd row.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from gpubroker.catalog import places
from gpubroker.catalog.clouds import UnknownCloud, cloud
from gpubroker.catalog.gpus import model, same_spelling
from gpubroker.market.pricing import price_of, wanted_disk_gb
from gpubroker.model.gpu import Gpu, GpuModel
from gpubroker.model.money import NANOS_PER_USD, usd
from gpubroker.model.offer import Offer
from gpubroker.model.query import GpuWanted, Query
from gpubroker.model.terms import Availability

Test = Callable[[Offer], bool | None]
Relaxed = tuple[str, Sequence[Offer]]
"""(the change in words, the offers that it brings)."""

_SAME_MEMORY = 0.08
_CENT = NANOS_PER_USD // 100


class Filter(Struct, frozen=True):
    """One test of a query."""

    label: str
    """For people: "GPU H100", "price ≤ $12.00"."""
    flag: str
    """Of the command line."""
    test: Test
    relax: Callable[[Sequence[Offer]], Relaxed] | None = None
    """The smallest change that brings one of these offers, which fail no other test; None: drop."""

    def passes(self, offer: Offer, *, strict: bool) -> bool:
        """Whether the offer stays."""
        verdict = self.test(offer)
        return verdict is True or (verdict is None and not strict)

    def relaxed(self, offers: Sequence[Offer]) -> Relaxed:
        """What to change, and which of `offers` that brings."""
        return self.relax(offers) if self.relax else (f"drop {self.flag}", offers)


def compile_query(query: Query) -> tuple[Filter, ...]:
    """The query's tests, in the order in which a funnel reads best."""
    return tuple(
        entry
        for part in (_identity, _gpus, _counts, _memory, _models, _terms, _place, _machine, _prices)
        for entry in part(query)
    )


def _one_of(
    label: str, flag: str, value_of: Callable[[Offer], str], wanted: Iterable[str]
) -> Filter:
    accepted = frozenset(wanted)
    return Filter(label, flag, lambda offer: value_of(offer) in accepted)


def _at_least(
    what: str, flag: str, value_of: Callable[[Offer], float | None], bound: float
) -> Filter:
    def test(offer: Offer) -> bool | None:
        value = value_of(offer)
        return None if value is None or math.isnan(value) else value >= bound

    def relax(offers: Sequence[Offer]) -> Relaxed:
        known = _finite(offers, value_of)
        if not known:
            return f"drop {flag}", offers
        best = math.floor(max(value for value, _ in known) * 100) / 100
        return f"lower {flag} to {best:g}", [offer for value, offer in known if value >= best]

    return Filter(f"{what} ≥ {bound:g}", flag, test, relax)


def _at_most(
    what: str, flag: str, value_of: Callable[[Offer], float | None], bound: float
) -> Filter:
    def test(offer: Offer) -> bool | None:
        value = value_of(offer)
        return None if value is None or math.isnan(value) else value <= bound

    def relax(offers: Sequence[Offer]) -> Relaxed:
        known = _finite(offers, value_of)
        if not known:
            return f"drop {flag}", offers
        best = math.ceil(min(value for value, _ in known) * 100) / 100
        return f"raise {flag} to {best:g}", [offer for value, offer in known if value <= best]

    return Filter(f"{what} ≤ {bound:g}", flag, test, relax)


def _finite(
    offers: Sequence[Offer], value_of: Callable[[Offer], float | None]
) -> list[tuple[float, Offer]]:
    values = ((value_of(offer), offer) for offer in offers)
    return [(value, offer) for value, offer in values if value is not None and math.isfinite(value)]


def _identity(query: Query) -> Iterable[Filter]:
    if query.providers:
        names = [_provider_name(name) for name in query.providers]
        yield _one_of(", ".join(names), "--provider", lambda offer: offer.provider, names)
    if query.accounts:
        label = f"account {', '.join(query.accounts)}"
        yield _one_of(label, "--account", lambda offer: offer.account, query.accounts)
    if query.keys:
        label = f"offer {', '.join(query.keys)}"
        yield _one_of(label, "--offer", lambda offer: offer.key, query.keys)


def _provider_name(name: str) -> str:
    try:
        return cloud(name).name
    except UnknownCloud:
        return name  # a provider from outside the table


def _gpus(query: Query) -> Iterable[Filter]:
    if not query.gpus:
        return
    wanted = query.gpus
    names = " or ".join(dict.fromkeys(_wanted_words(want) for want in wanted))
    first = wanted[0]
    yield Filter(
        f"GPU {names}",
        "--gpu",
        (lambda offer: _is_wanted(offer.gpu, first))
        if len(wanted) == 1
        else (lambda offer: _any(_is_wanted(offer.gpu, want) for want in wanted)),
    )
    if any(want.count is not None for want in wanted):
        yield Filter(
            " or ".join(dict.fromkeys(f"{want.count or 'any number'} of them" for want in wanted)),
            "--gpu",
            lambda offer: _any(
                _is_wanted(offer.gpu, want)
                for want in wanted
                if want.count is None or want.count == offer.gpu_count
            ),
            lambda offers: _other_count(offers, wanted[0].count or 1, "ask for {} of them"),
        )


def _wanted_words(want: GpuWanted) -> str:
    memory = f" {want.memory_gb:g} GB" if want.memory_gb is not None else ""
    return f"{want.name}{' ' * bool(want.form)}{want.form}{memory}"


def _is_wanted(gpu: Gpu, want: GpuWanted) -> bool | None:
    """By canonical name, or by the vendor's own spelling: pages cover what was asked for."""
    if gpu.name is None:
        if not same_spelling(gpu.raw, want.name):
            return False
    elif want.name not in (gpu.name, gpu.raw):
        return False
    if want.form and gpu.form and gpu.form != want.form:
        return False
    if want.memory_gb is not None and gpu.memory_gb > 0:
        if abs(gpu.memory_gb / want.memory_gb - 1) > _SAME_MEMORY:
            return False
    elif want.memory_gb is not None:
        return None
    return None if want.form and not gpu.form else True


def _any(verdicts: Iterable[bool | None]) -> bool | None:
    found: bool | None = False
    for verdict in verdicts:
        if verdict:
            return True
        if verdict is None:
            found = None
    return found


def _other_count(offers: Sequence[Offer], wanted: int, change: str) -> Relaxed:
    nearest = min((offer.gpu_count for offer in offers), key=lambda count: abs(count - wanted))
    return change.format(nearest), [offer for offer in offers if offer.gpu_count == nearest]


def _counts(query: Query) -> Iterable[Filter]:
    low, high = query.min_count, query.max_count
    if low is not None and low == high:
        yield Filter(
            f"{low} of them",
            "--count",
            lambda offer: offer.gpu_count == low,
            lambda offers: _other_count(offers, low, "--count {}"),
        )
        return
    if low is not None:
        yield _at_least("GPUs", "--count", lambda offer: offer.gpu_count, low)
    if high is not None:
        yield _at_most("GPUs", "--count", lambda offer: offer.gpu_count, high)


def _vram(offer: Offer) -> float | None:
    return offer.gpu.memory_gb or None


def _total_vram(offer: Offer) -> float | None:
    return offer.gpu.memory_gb * offer.gpu_count or None


def _memory(query: Query) -> Iterable[Filter]:
    if query.min_vram_gb is not None:
        yield _at_least("VRAM", "--min-vram", _vram, query.min_vram_gb)
    if query.max_vram_gb is not None:
        yield _at_most("VRAM", "--max-vram", _vram, query.max_vram_gb)
    if query.total_vram_gb is not None:
        yield _at_least("VRAM in all", "--total-vram", _total_vram, query.total_vram_gb)


def _of_model(value_of: Callable[[GpuModel], float]) -> Callable[[Offer], float | None]:
    def value(offer: Offer) -> float | None:
        known = model(offer.gpu.name)
        return None if known is None else value_of(known)

    return value


def _models(query: Query) -> Iterable[Filter]:
    if query.categories:
        categories = frozenset(query.categories)

        def in_category(offer: Offer) -> bool | None:
            known = model(offer.gpu.name)
            return None if known is None else known.category in categories

        yield Filter(" or ".join(query.categories), "--category", in_category)
    if query.vendors:
        vendors = frozenset(vendor.casefold() for vendor in query.vendors)
        yield Filter(
            " or ".join(query.vendors),
            "--vendor",
            lambda offer: offer.gpu.vendor in vendors if offer.gpu.vendor else None,
        )
    if query.min_performance is not None:
        score = _of_model(lambda known: known.performance_score)
        yield _at_least("performance", "--min-performance", score, query.min_performance)
    if query.min_compute_capability is not None:
        capability = _of_model(lambda known: known.compute_capability)
        bound = query.min_compute_capability
        yield _at_least("compute capability", "--compute-capability", capability, bound)


def _terms(query: Query) -> Iterable[Filter]:
    if query.market is not None:
        words = query.market.value.replace("_", "-")
        yield _one_of(words, f"--{words}", lambda offer: offer.market, [query.market])
    if query.tier is not None:
        yield _text("tier", "--tier", lambda offer: offer.tier, query.tier)
    if query.datacenter_only:
        yield Filter("data centers", "--datacenter-only", lambda offer: offer.datacenter)
    if not query.include_unavailable:
        yield Filter(
            "not known to be gone",
            "--available",
            lambda offer: offer.availability is not Availability.NO,
            lambda offers: ("--all shows what is gone", offers),
        )
    if query.min_hours is not None:
        # No stated end means that it lasts.
        hours = query.min_hours
        yield _at_least(
            "hours",
            "--ttl",
            lambda offer: math.inf if offer.max_hours is None else offer.max_hours,
            hours,
        )


def _text(what: str, flag: str, value_of: Callable[[Offer], str | None], wanted: str) -> Filter:
    folded = wanted.casefold()

    def test(offer: Offer) -> bool | None:
        value = value_of(offer)
        return value.casefold() == folded if value else None

    return Filter(f"{what} {wanted}", flag, test)


def _place(query: Query) -> Iterable[Filter]:
    if query.regions:
        regions = query.regions
        yield Filter(
            " or ".join(regions),
            "--region",
            lambda offer: _any(
                places.matches(region, offer.region, offer.country, offer.area)
                for region in regions
            ),
        )


def _largest_disk(offer: Offer) -> float | None:
    sizes = [size for size in (offer.disk_gb, offer.disk_max_gb) if size is not None]
    return max(sizes) if sizes else None


_LEAST: tuple[tuple[str, str, str, Callable[[Offer], float | None]], ...] = (
    ("min_vcpus", "vCPUs", "--min-cpu", lambda offer: offer.vcpus),
    ("min_ram_gb", "RAM", "--min-ram", lambda offer: offer.ram_gb),
    ("min_disk_gb", "disk", "--min-disk", _largest_disk),
    ("min_reliability", "reliability", "--min-reliability", lambda offer: offer.reliability),
    ("min_down_mbps", "download", "--min-down", lambda offer: offer.down_mbps),
    ("min_up_mbps", "upload", "--min-up", lambda offer: offer.up_mbps),
)
"""(field of the query, what, flag, value)."""


def _machine(query: Query) -> Iterable[Filter]:
    for field, what, flag, value_of in _LEAST:
        bound = getattr(query, field)
        if bound is not None:
            yield _at_least(what, flag, value_of, bound)
    if query.max_ram_gb is not None:
        yield _at_most("RAM", "--max-ram", lambda offer: offer.ram_gb, query.max_ram_gb)
    if query.arch is not None:
        yield _one_of(query.arch, "--arch", lambda offer: offer.arch, [query.arch])
    if query.min_cuda is not None:
        least = _version(query.min_cuda)

        def new_enough(offer: Offer) -> bool | None:
            return _version(offer.min_cuda) >= least if offer.min_cuda else None

        yield Filter(f"CUDA ≥ {query.min_cuda}", "--min-cuda", new_enough)
    if query.interconnect is not None:
        link = query.interconnect.casefold()
        yield Filter(link, "--interconnect", lambda offer: _linked(offer, link))
    for provider, field, value in query.options:
        yield Filter(f"{field}={value}", "--provider-option", _option(provider, field, value))


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))


def _linked(offer: Offer, link: str) -> bool | None:
    if offer.interconnect is not None:
        return link in offer.interconnect.casefold()
    return True if link == "nvlink" and offer.gpu.form == "SXM" else None


def _option(provider: str, field: str, value: str) -> Test:
    """Concerns one provider's offers; the provider asked for it, here it is looked up again."""
    name, folded = _provider_name(provider), value.casefold()

    def test(offer: Offer) -> bool | None:
        if offer.provider != name:
            return True
        told = offer.launch.get(field)
        return None if told is None else str(told).casefold() == folded

    return test


def _prices(query: Query) -> Iterable[Filter]:
    disk_gb = wanted_disk_gb(query)
    low, high = query.min_price, query.max_price
    if low is not None:
        least = low

        def dear_enough(offer: Offer) -> bool | None:
            price = price_of(offer, disk_gb)
            return None if price is None else price >= least

        yield Filter(f"price ≥ ${usd(least):,.2f}", "--min-price", dear_enough)
    if high is not None:
        most = high

        def cheap_enough(offer: Offer) -> bool | None:
            price = price_of(offer, disk_gb)
            return None if price is None else price <= most

        def raise_price(offers: Sequence[Offer]) -> Relaxed:
            priced = [(price, offer) for offer in offers if (price := price_of(offer, disk_gb))]
            if not priced:
                return "drop --max-price", offers
            lowest = min(price for price, _ in priced)
            cap = math.ceil(lowest / _CENT) * _CENT
            brought = [offer for price, offer in priced if price <= cap]
            return f"raise --max-price to ${usd(cap):.2f}", brought

        yield Filter(f"price ≤ ${usd(most):,.2f}", "--max-price", cheap_enough, raise_price)
