"""`gpus` and `providers`: what is known before anything is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from gpubroker.cli.session import Session
from gpubroker.cli.table import Column, table
from gpubroker.cli.words import NOTHING, number, price

if TYPE_CHECKING:
    from gpubroker.market.results import SearchResult
    from gpubroker.model.money import Nanos
    from gpubroker.model.reports import Facts, ProviderInfo

GPU_COLUMNS = (
    Column("GPU"),
    Column("GB", right=True),
    Column("ARCHITECTURE", drop=2),
    Column("CATEGORY", drop=1),
    Column("SCORE", right=True),
    Column("FP16 TFLOP/S", right=True, drop=4),
    Column("GB/S", right=True, drop=3),
    Column("FROM $/GPU-H", right=True),
)
PROVIDER_COLUMNS = (
    Column("CLOUD"),
    Column("KEY"),
    Column("HEALTH"),
    Column("CAN", drop=1),
)


@click.command("gpus")
@click.pass_obj
def gpus_command(session: Session) -> None:
    """GPU models known, strongest first, with the cheapest price at hand for one GPU."""
    from gpubroker.cli.offers import found
    from gpubroker.model.query import Query

    session.load_gpu_models()
    broker = session.broker(session.realm())
    cheapest = _cheapest(found(session, broker, Query(), limit=None, mode="cached"))
    models = tuple(sorted(broker.gpus(), key=lambda model: (-model.performance_score, model.name)))
    from gpubroker import wire

    document = {
        "gpus": [
            wire.gpu_model(model)
            | {"cheapest_price_per_gpu_hour": wire.dollars(cheapest.get(model.name))}
            for model in models
        ]
    }

    def screen() -> Iterator[str]:
        rows = [
            [
                model.name,
                "/".join(number(size) for size in model.memory_sizes) or number(model.memory_gb),
                model.architecture,
                model.category,
                str(model.performance_score),
                number(model.fp16_tflops),
                number(model.memory_bandwidth_gbs),
                price(cheapest.get(model.name)),
            ]
            for model in models
        ]
        header, *lines = table(GPU_COLUMNS, rows, session.width)
        yield session.styled(header, bold=True)
        yield from lines
        own = [model.name for model in models if model.source == str(session.home.gpus)]
        if own:
            yield f"  By {session.home.gpus}: {', '.join(own)}."

    session.show(lambda: document, screen)


@click.command("providers")
@click.argument("names", nargs=-1, metavar="[CLOUD]…")
@click.option("--table", "side_by_side", is_flag=True, help="What they can do, side by side.")
@click.pass_obj
def providers_command(session: Session, names: tuple[str, ...], side_by_side: bool) -> None:
    """Every cloud: whether its key is there, the variables it is read from, what it can do.

    Of a CLOUD that is named also the pages of a newcomer, and each account.
    """
    from gpubroker import wire
    from gpubroker.cli.search_flags import provider_name

    wanted = {provider_name(name) for name in names}
    broker = session.broker(session.realm())
    try:
        infos = [info for info in broker.providers() if not wanted or info.name in wanted]
    finally:
        broker.close()

    def screen() -> Iterator[str]:
        if side_by_side:
            yield from _side_by_side(session, infos)
            return
        if wanted:
            for info in infos:
                yield from _about(info)
            return
        rows = [[info.name, _key(info), _health(info), _can(info)] for info in infos]
        header, *lines = table(PROVIDER_COLUMNS, rows, session.width)
        yield session.styled(header, bold=True)
        yield from lines
        if not any(info.configured for info in infos):
            yield "  No key is set: prices are shown all the same, and --sandbox rents for nothing."

    session.show(lambda: {"providers": [wire.provider(info) for info in infos]}, screen)


def _side_by_side(session: Session, infos: Iterable[ProviderInfo]) -> Iterator[str]:
    from gpubroker.cli.abilities import COLUMNS, LEGEND, Declared, rows

    built = [(one, one.capabilities) for one in infos if one.capabilities is not None]
    clouds = (Declared(one.name, can, one.answers) for one, can in built)
    header, *lines = table(COLUMNS, rows(clouds), session.width)
    yield session.styled(header, bold=True)
    yield from lines
    yield from (f"  {line}" for line in LEGEND)


def fact_lines(facts: Facts) -> Iterator[str]:
    """What a newcomer wants to know of a cloud, as far as it is known."""
    deposit = "" if facts.min_deposit_usd is None else f"${facts.min_deposit_usd:g} at least"
    told = (
        ("sign up", facts.sign_up_page),
        ("make a key", facts.key_page),
        ("add funds", facts.billing_page),
        ("deposit", deposit),
        ("payment", facts.payment),
        ("new account", facts.new_account),
        ("told by", facts.source if facts.payment or facts.new_account or deposit else ""),
    )
    for what, text in told:
        if text:
            yield f"    {what:<12} {text}"


def _about(info: ProviderInfo) -> Iterator[str]:
    yield f"{info.display_name} ({info.name}), {_health(info)}, {info.website}"
    yield f"    {'key':<12} {_key(info)}"
    for account in info.accounts:
        yield f"    {'account':<12} {account.name}: {account.found or account.problem}"
        for other in account.shadowed:
            yield f"    {'':<12} not used: {other}"
    yield from fact_lines(info.facts)
    yield f"    {'can':<12} {_can(info)}"


def _cheapest(result: SearchResult) -> dict[str, Nanos]:
    """Per GPU and hour, of whole GPUs that are not known to be gone."""
    found: dict[str, Nanos] = {}
    for offer in result.offers:
        if offer.gpu.name is None or offer.gpu.fraction < 1:
            continue
        each = type(offer.price.compute)(offer.price.hourly(result.disk_gb) // offer.gpu_count)
        found[offer.gpu.name] = min(each, found.get(offer.gpu.name, each))
    return found


def _key(info: ProviderInfo) -> str:
    if info.status == "planned":
        return NOTHING
    named = [account for account in info.accounts if account.name != "default"]
    if info.configured and named:
        return ", ".join(f"{one.name}: {'set' if one.found else 'none'}" for one in info.accounts)
    if info.configured:
        return f"set ({info.key_variable})" if info.key_variable else "set"
    return f"not set: {' or '.join(info.variables)}" if info.variables else "not set"


def _health(info: ProviderInfo) -> str:
    if not info.enabled:
        return "switched off"
    return "comes later" if info.status == "planned" else str(info.health)


def _can(info: ProviderInfo) -> str:
    from gpubroker.wire import features

    return ", ".join(features(info.capabilities)) or NOTHING
