"""`gpus` and `providers`: what is known before anything is asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from gpubroker.cli.session import Session
from gpubroker.cli.table import Column, table
from gpubroker.cli.words import NOTHING, number, price

if TYPE_CHECKING:
    from gpubroker.market.results import SearchResult
    from gpubroker.model.money import Nanos
    from gpubroker.model.reports import ProviderInfo

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

    session.show(lambda: document, screen)


@click.command("providers")
@click.pass_obj
def providers_command(session: Session) -> None:
    """Every cloud: whether its key is there, the variables it is read from, what it can do."""
    from gpubroker import wire

    infos = session.broker(session.realm()).providers()

    def screen() -> Iterator[str]:
        rows = [[info.name, _key(info), _health(info), _can(info)] for info in infos]
        header, *lines = table(PROVIDER_COLUMNS, rows, session.width)
        yield session.styled(header, bold=True)
        yield from lines
        if not any(info.configured for info in infos):
            yield "  No key is set: prices are shown all the same, and --sandbox rents for nothing."

    session.show(lambda: {"providers": [wire.provider(info) for info in infos]}, screen)


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
    if info.configured:
        return f"set ({info.key_variable})" if info.key_variable else "set"
    return f"not set: {' or '.join(info.variables)}" if info.variables else "not set"


def _health(info: ProviderInfo) -> str:
    return "comes later" if info.status == "planned" else str(info.health)


def _can(info: ProviderInfo) -> str:
    from gpubroker.wire import features

    return ", ".join(features(info.capabilities)) or NOTHING
