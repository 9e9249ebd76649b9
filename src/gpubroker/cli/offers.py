"""`offers`: what can be rented, and why what is missing is missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from gpubroker.cli import failures
from gpubroker.cli.search_flags import ANY, Amount, Unknown, query_of, search_flags
from gpubroker.cli.session import Session
from gpubroker.cli.table import Column, table
from gpubroker.cli.words import NOTHING, age, at_account, counted, number, price, whole

if TYPE_CHECKING:
    from gpubroker.broker import Broker
    from gpubroker.market.results import SearchResult
    from gpubroker.model.offer import Offer
    from gpubroker.model.query import Query

SORT_KEYS = (
    "price",
    "price-per-gpu",
    "performance",
    "performance-per-dollar",
    "reliability",
    "vram",
)
NARROW = 60
"""Columns below which an offer takes two lines."""
COLUMNS = (
    Column("GPU"),
    Column("N", right=True),
    Column("VRAM", right=True),
    Column("vCPU", right=True, drop=2),
    Column("RAM", right=True, drop=3),
    Column("PRICE/H", right=True),
    Column("/GPU-H", right=True, drop=5),
    Column("CLOUD"),
    Column("REGION", drop=4),
    Column("KIND"),
    Column("REL", right=True, drop=1),
    Column("AGE", right=True),
)
AVAILABILITY_MARKS = {"yes": "", "unknown": "?", "no": " gone"}
"""Behind the kind of machine: what is not known to be free is not shown as if it were."""


@click.command("offers")
@search_flags
@click.option("--disk", type=ANY, metavar="GB", help="Disk that prices are computed for.")
@click.option("--explain", is_flag=True, help="Which filter removed how many, and near misses.")
@click.option("--sort", type=click.Choice(SORT_KEYS), default="price", show_default=True)
@click.option("--desc", is_flag=True, help="Highest first.")
@click.option("--limit", type=Amount(1, whole=True), default=20, show_default=True, metavar="N")
@click.option("--live", "mode", flag_value="live", help="Ask every cloud now.")
@click.option("--cached", "mode", flag_value="cached", help="Ask none.")
@click.option(
    "--refresh-timeout", type=click.UNPROCESSED, default="3s", show_default=True, metavar="TIME"
)
@click.pass_obj
def offers_command(
    session: Session,
    /,
    disk: float | None,
    explain: bool,
    sort: Any,
    desc: bool,
    limit: int,
    mode: Any,
    refresh_timeout: str,
    **flags: Any,
) -> int:
    """Search what can be rented, in every cloud at once.

    Each row has its source and age: live (asked now), cached (asked before), catalog (shipped).
    A "?" behind the kind: the cloud does not say whether it is free.
    """
    session.load_gpu_models()
    query, unknown = query_of(flags, disk_gb=disk)
    timeout_s = seconds(refresh_timeout, "--refresh-timeout")
    result = found(
        session,
        session.broker(session.realm()),
        query,
        sort=sort,
        descending=True if desc else None,
        limit=limit,
        mode=mode or "auto",
        refresh_timeout_s=timeout_s,
    )
    if not result.total and unknown:
        raise unknown[0]
    session.show(
        lambda: _document(result, explain=explain),
        lambda: _screen(session, result, explain=explain),
    )
    _warn(session, result, unknown)
    return failures.DONE if result.total else failures.NO_OFFER


def found(
    session: Session,
    broker: Broker,
    query: Query,
    *,
    refresh_timeout_s: float = 3.0,
    **options: Any,
) -> SearchResult:
    """The search's answer; an event loop is run only where a cloud has to be asked for it."""
    try:
        known = broker.search_known(query, **options)
    finally:
        broker.close()
    if known is not None:
        return known

    async def ask() -> SearchResult:
        async with broker:
            return await broker.search(query, refresh_timeout_s=refresh_timeout_s, **options)

    return session.run(ask())


def _document(result: SearchResult, *, explain: bool) -> dict[str, Any]:
    from gpubroker import wire

    return wire.search(result, explain=explain)


def seconds(text: str, flag: str) -> float:
    """A duration of a flag, in seconds."""
    from gpubroker.model.durations import duration

    try:
        return duration(text).total_seconds()
    except ValueError as error:
        raise click.UsageError(f"{flag}: {error}") from None


def offer_rows(result: SearchResult) -> list[list[str]]:
    """One row an offer, as COLUMNS."""
    return [_row(offer, result) for offer in result.offers]


def narrow_lines(result: SearchResult) -> Iterator[str]:
    """Two lines an offer, for a telephone's terminal."""
    for row in offer_rows(result):
        cell = {column.title: text for column, text in zip(COLUMNS, row, strict=True)}
        yield f"  {cell['N']}x {cell['GPU']}  {cell['PRICE/H']}/h  {cell['KIND']}"
        yield f"    {cell['CLOUD']}  {cell['REGION']}  {cell['VRAM']} GB  {cell['AGE']}"


def _screen(session: Session, result: SearchResult, *, explain: bool) -> Iterator[str]:
    width = session.width
    if result.offers and width is not None and width < NARROW:
        yield from narrow_lines(result)
    elif result.offers:
        header, *rows = table(COLUMNS, offer_rows(result), width)
        yield session.styled(header, bold=True)
        yield from rows
    if (more := result.total - len(result.offers)) > 0:
        yield f"  … {more:,} more (--limit)"
    if explain or not result.total:
        yield from funnel_lines(result)
    yield from _summary(session, result)


def _row(offer: Offer, result: SearchResult) -> list[str]:
    from gpubroker.catalog.clouds import offer_id, way_in
    from gpubroker.market.same_machine import direct_offer

    hourly = offer.price.hourly(result.disk_gb)
    seen = age((result.now - offer.fetched_at).total_seconds())
    report = result.sources.get(offer.provider)
    unproven = offer_id(offer.provider, offer.key) in result.unknown
    return [
        offer.gpu.label + (f" ({offer.gpu.fraction:g})" if offer.gpu.fraction < 1 else ""),
        str(offer.gpu_count),
        number(offer.gpu.memory_gb),
        whole(offer.vcpus),
        whole(offer.ram_gb),
        price(hourly),
        price(round(hourly / max(offer.gpu_count, 1))),
        at_account(offer.provider, offer.account)
        + (f" ({offer.upstream})" if offer.upstream else "")
        + ("=" if direct_offer(offer) else "")
        + ("*" if report is not None and report.needs_key else "")
        + ("^" if way_in(offer.provider) else ""),
        offer.region if offer.area == "Global" and offer.region else offer.area,
        f"{offer.market.replace('_', '-')}{AVAILABILITY_MARKS[offer.availability]}"
        + ("~" if unproven else ""),
        NOTHING if offer.reliability is None else f"{offer.reliability:.2f}",
        seen if offer.source != "catalog" else f"{seen} catalog",
    ]


def funnel_lines(result: SearchResult) -> Iterator[str]:
    """4,120 offers → GPU H100: 212 → …, and the changes that would bring offers."""
    steps = "".join(f" → {step.filter}: {step.left:,}" for step in result.funnel)
    yield f"  {counted(result.scanned, 'offer')}{steps}"
    misses = [
        f"{miss.change} ({counted(miss.offers, 'offer')}"
        + (f", from {price(miss.best)}/h)" if miss.best is not None else ")")
        for miss in result.nearest
    ]
    if misses:
        yield f"  Nearest: {' · '.join(misses)}"


def _summary(session: Session, result: SearchResult) -> Iterator[str]:
    from gpubroker.catalog.clouds import way_in
    from gpubroker.market.same_machine import direct_offer

    told = [f"{result.total:,} of {counted(result.scanned, 'offer')} match", *_sources(result)]
    yield f"  {' · '.join(told)}"
    marks = {
        "* needs a key to be rented (gpubroker providers)": any(
            report.needs_key for report in result.sources.values()
        ),
        "^ gpubroker does not log in there: rented only where it is named (--provider)": any(
            way_in(offer.provider) for offer in result.offers
        ),
        "= the same machine as a direct offer (same_as in --json)": any(
            map(direct_offer, result.offers)
        ),
        "? not told whether it is free": any(o.availability == "unknown" for o in result.offers),
        "~ a filtered value is not told (--strict drops it)": bool(result.unknown),
    }
    if notes := [note for note, there in marks.items() if there and result.offers]:
        yield f"  {' · '.join(notes)}"
    if not result.offers:
        return
    from gpubroker.catalog.clouds import cloud, offer_id
    from gpubroker.model.terms import Source

    best = result.offers[0]
    hourly = best.price.hourly(result.disk_gb)
    sandbox = "--sandbox " if session.sandbox else ""
    following = f"Next: gpubroker launch {sandbox}--offer {offer_id(best.provider, best.key)}"
    if best.source is Source.CATALOG:
        # A price is no offer: what can be rented is told by the cloud itself.
        following = f"Next: set {cloud(best.provider).key_in_words}"
    if result.median and hourly < result.median and result.total > 1:
        share = round(100 * (1 - hourly / result.median))
        yield f"  The first is {share} % under the median of these {result.total}.   {following}"
    else:
        yield f"  {following}"


def _sources(result: SearchResult) -> Iterator[str]:
    """6 clouds live, 17 from the catalog (3 d old), 1 down (lambda_labs: 503)."""
    by_status: dict[str, list[str]] = {}
    for name, report in result.sources.items():
        by_status.setdefault(report.status, []).append(name)

    def oldest(names: list[str]) -> str:
        times = [at for name in names if (at := result.sources[name].as_of)]
        return age((result.now - min(times)).total_seconds()) if times else "age not known"

    if live := by_status.get("live"):
        yield f"{counted(len(live), 'cloud')} live"
    if cached := by_status.get("cached"):
        yield f"{len(cached)} cached ({oldest(cached)} old)"
    if catalog := by_status.get("catalog"):
        yield f"{len(catalog)} from the catalog ({oldest(catalog)} old)"
    if down := by_status.get("error"):
        reasons = "; ".join(f"{name}: {result.sources[name].error}"[:80] for name in down)
        yield f"{len(down)} down ({reasons})"


def _warn(session: Session, result: SearchResult, unknown: tuple[Unknown, ...]) -> None:
    for error in unknown:
        session.say(f"note: {error}")
    if not result.total:
        session.say("no offer matches")
