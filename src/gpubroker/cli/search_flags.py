"""The search flags, shared by every verb that looks for offers, and the query they make."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gpubroker.model.query import GpuWanted, Query

HIGHEST_SCORE = 150
ARCHITECTURES = ("x86_64", "arm64")
CATEGORIES = ("consumer", "professional", "datacenter")
VENDORS = ("nvidia", "amd", "google", "aws", "intel")
INTERCONNECTS = ("nvlink", "infiniband", "roce")


class Amount(click.ParamType[Any]):
    """A finite number within bounds; says what was expected otherwise."""

    name = "number"

    def __init__(self, least: float = 0, most: float = math.inf, *, whole: bool = False) -> None:
        self.least, self.most, self.whole = least, most, whole

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | int:
        """A dollar sign before an amount is accepted."""
        try:
            number = float(str(value).removeprefix("$"))
        except ValueError:
            self.fail(f'"{value}" is no number; expected {self.expected}', param, ctx)
        if not self.least <= number <= self.most or math.isinf(number):
            self.fail(f"{value} is out of range; expected {self.expected}", param, ctx)
        if self.whole:
            if number != int(number):
                self.fail(f"{value} is not whole; expected {self.expected}", param, ctx)
            return int(number)
        return number

    @property
    def expected(self) -> str:
        """The bounds in words."""
        kind = "a whole number" if self.whole else "a number"
        if math.isinf(self.most):
            return f"{kind} of {self.least:g} or more"
        return f"{kind} from {self.least:g} to {self.most:g}"


class Unknown(Exception):
    """No GPU of the catalog, nor of any offer, is called so."""

    word = "unknown_gpu"

    def __init__(self, name: str, nearest: tuple[str, ...]) -> None:
        hint = f" Did you mean {', '.join(nearest)}?" if nearest else ""
        super().__init__(f'no GPU is called "{name}".{hint}')
        self.nearest = nearest


ANY, COUNT, SHARE = Amount(), Amount(1, whole=True), Amount(0, 1)
DOLLARS = Amount(0, 1_000_000)

_FLAGS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("--gpu",), {"multiple": True, "metavar": "NAME", "help": "H100, H100:8, A100 80GB, 4090…"}),
    (("--count",), {"type": COUNT, "metavar": "N", "help": "GPUs of the machine, exactly."}),
    (("--min-vram",), {"type": ANY, "metavar": "GB", "help": "Memory of one GPU, at least."}),
    (("--max-vram",), {"type": ANY, "metavar": "GB", "help": "Memory of one GPU, at most."}),
    (("--total-vram",), {"type": ANY, "metavar": "GB", "help": "Memory of all GPUs, at least."}),
    (("--category",), {"multiple": True, "type": click.Choice(CATEGORIES)}),
    (("--vendor",), {"multiple": True, "type": click.Choice(VENDORS)}),
    (
        ("--max-price",),
        {"type": DOLLARS, "metavar": "USD", "help": "Per hour, the whole machine, at most."},
    ),
    (("--min-price",), {"type": DOLLARS, "metavar": "USD", "help": "Likewise, at least."}),
    (
        ("--spot/--on-demand",),
        {"default": None, "help": "Only machines that can be taken away, or that cannot."},
    ),
    (
        ("--region",),
        {"multiple": True, "metavar": "PLACE", "help": "A cloud's region, country, US-East…"},
    ),
    (("--provider",), {"multiple": True, "metavar": "NAME", "help": "Only these clouds."}),
    (
        ("--account",),
        {"multiple": True, "metavar": "NAME", "help": "Through this account: lab, vast:lab."},
    ),
    (("--min-cpu",), {"type": ANY, "metavar": "N", "help": "vCPUs, at least."}),
    (("--min-ram",), {"type": ANY, "metavar": "GB", "help": "Main memory, at least."}),
    (("--min-disk",), {"type": ANY, "metavar": "GB", "help": "Disk to be had, at least."}),
    (("--min-reliability",), {"type": SHARE, "metavar": "0-1"}),
    (("--min-performance",), {"type": Amount(0, HIGHEST_SCORE), "metavar": "0-150"}),
    (
        ("--available/--all", "available"),
        {"default": True, "help": "Default: drop only what is known to be gone."},
    ),
    (("--min-cuda",), {"metavar": "X.Y", "help": "CUDA version of the driver, at least."}),
    (("--compute-capability",), {"type": ANY, "metavar": "X.Y", "help": "At least."}),
    (("--arch",), {"type": click.Choice(ARCHITECTURES)}),
    (("--tier",), {"metavar": "NAME", "help": "The cloud's own word: secure, community…"}),
    (("--datacenter-only",), {"is_flag": True, "help": "No machines in private homes."}),
    (("--interconnect",), {"type": click.Choice(INTERCONNECTS)}),
    (("--min-down",), {"type": ANY, "metavar": "MBPS", "help": "Download speed, at least."}),
    (("--min-up",), {"type": ANY, "metavar": "MBPS", "help": "Upload speed, at least."}),
    (
        ("--provider-option",),
        {"multiple": True, "metavar": "CLOUD.FIELD=VALUE", "help": "vast_ai.verified=true"},
    ),
    (("--strict",), {"is_flag": True, "help": "Drop offers whose filtered field is not known."}),
)

_SAME_MEANING = {
    "min_vram": "min_vram_gb",
    "max_vram": "max_vram_gb",
    "total_vram": "total_vram_gb",
    "min_cpu": "min_vcpus",
    "min_ram": "min_ram_gb",
    "min_disk": "min_disk_gb",
    "min_reliability": "min_reliability",
    "min_performance": "min_performance",
    "min_cuda": "min_cuda",
    "compute_capability": "min_compute_capability",
    "arch": "arch",
    "tier": "tier",
    "datacenter_only": "datacenter_only",
    "interconnect": "interconnect",
    "min_down": "min_down_mbps",
    "min_up": "min_up_mbps",
    "strict": "strict",
    "category": "categories",
    "vendor": "vendors",
    "region": "regions",
    "account": "accounts",
}
"""Flag -> field of the query that takes its value as it is."""


def search_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds all search flags; the command gets them as keyword arguments."""
    for names, attributes in reversed(_FLAGS):
        command = click.option(*names, **attributes)(command)
    return command


def query_of(flags: dict[str, Any], **more: Any) -> tuple[Query, tuple[Unknown, ...]]:
    """The query, and the GPU names that no catalog knows: an error only where nothing matches."""
    from gpubroker.model.money import nanos
    from gpubroker.model.query import Query
    from gpubroker.model.terms import Market

    gpus, unknown = _gpus(flags["gpu"])
    market = {None: None, True: Market.SPOT, False: Market.ON_DEMAND}[flags["spot"]]
    prices: dict[str, Any] = {
        key: None if flags[key] is None else nanos(flags[key]) for key in ("min_price", "max_price")
    }
    _refuse_crossed("--min-price", flags["min_price"], "--max-price", flags["max_price"])
    _refuse_crossed("--min-vram", flags["min_vram"], "--max-vram", flags["max_vram"])
    if flags["min_cuda"] is not None and not flags["min_cuda"].replace(".", "", 1).isdigit():
        raise click.UsageError(f'--min-cuda "{flags["min_cuda"]}": expected a version such as 12.4')
    query = Query(
        gpus=gpus,
        min_count=flags["count"],
        max_count=flags["count"],
        market=market,
        providers=tuple(provider_name(name) for name in flags["provider"]),
        include_unavailable=not flags["available"],
        options=tuple(_option(text) for text in flags["provider_option"]),
        **{field: flags[flag] for flag, field in _SAME_MEANING.items()},
        **prices,
        **more,
    )
    return query, unknown


def provider_name(text: str) -> str:
    """The wire name of a cloud, from any of its spellings."""
    from gpubroker.catalog.clouds import UnknownCloud, cloud

    try:
        return cloud(text).name
    except UnknownCloud as error:
        raise click.UsageError(f"{error}. gpubroker providers lists all") from None


def _gpus(texts: tuple[str, ...]) -> tuple[tuple[GpuWanted, ...], tuple[Unknown, ...]]:
    from gpubroker.catalog.gpus import UnknownGpuName, wanted

    found, unknown = [], []
    for text in texts:
        try:
            found.append(wanted(text))
        except UnknownGpuName as error:
            # An offer may carry the name all the same: vendors are ahead of every catalog.
            unknown.append(Unknown(error.name, error.nearest))
            found.append(wanted(text, known_raw=(error.name,)))
        except ValueError as error:
            raise click.UsageError(f"--gpu {error}") from None
    return tuple(found), tuple(unknown)


def _option(text: str) -> tuple[str, str, str]:
    field, equals, value = text.partition("=")
    provider, dot, name = field.partition(".")
    if not (equals and dot and name and value):
        raise click.UsageError(
            f'--provider-option "{text}": expected CLOUD.FIELD=VALUE, as in vast_ai.verified=true'
        )
    return provider_name(provider), name, value


def _refuse_crossed(low: str, least: float | None, high: str, most: float | None) -> None:
    if least is not None and most is not None and least > most:
        raise click.UsageError(f"{low} {least:g} is above {high} {most:g}: nothing can match")
