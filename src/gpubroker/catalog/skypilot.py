"""SkyPilot's published price lists, read into rows that mean what they say.

The lists are CSV, one a cloud. Their columns disagree from file to file: memory is told of one GPU
or of all, in MiB or in GiB; the GPU's description is a Python or JSON dict, a bare name or nothing;
a name may be cut ("RTX4070" for a 4070 Ti SUPER, while the instance type tells it whole); some
prices stand for "none". The shipped snapshot (`data/offers`) was made with this:

    python -m gpubroker.catalog.skypilot FOLDER     # holds aws.csv, lambda.csv, …
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from gpubroker.catalog.clouds import CLOUDS
from gpubroker.catalog.gpus import resolve
from gpubroker.catalog.places import locate
from gpubroker.catalog.shapes import Shape, shape
from gpubroker.catalog.shipped import FOLDER, Row, Sheet, Site, url_safe
from gpubroker.catalog.type_names import Arch
from gpubroker.model.gpu import Gpu
from gpubroker.model.terms import Kind, Market

PROVIDERS: Mapping[str, str] = {
    "do": "digitalocean",
    "lambda": "lambda_labs",
    "vast": "vast_ai",
}
"""SkyPilot's name of a cloud -> ours, where they differ."""

_TOTAL_MEMORY = frozenset({"vast_ai", "primeintellect"})
"""Clouds whose files give the memory of all GPUs where others give one GPU's."""
_LEAST_MIB = 1024
"""Less than this is GiB, whatever the field is called: no accelerator has less than 1 GiB."""
_NO_PRICE: Mapping[str, Decimal] = {"gcp": Decimal(700)}
"""What stands for "no price"."""
_FLOOR_PER_GPU: Mapping[str, Decimal] = {"mithril": Decimal(1)}
"""The lowest bid a GPU, which is no price either."""
_UPSTREAM: Mapping[str, str] = {
    "lambdalabs": "lambda_labs",
    "datacrunch": "verda",
    "dc_wildebeest": "nebius",
    "crusoecloud": "crusoe",
    "oblivus": "fluidstack",
    "primecompute": "primeintellect",
    "dc_roan": "primeintellect",
}
"""Whose type names a reseller's upstream uses."""
_RESELLERS = frozenset({"primeintellect", "shadeform"})
_WRONG_COUNTRY: Mapping[tuple[str, str], str] = {("IS", "me-west-1"): "IL"}
"""Israel under Iceland's code."""

_ANYWHERE = frozenset({"lambda_labs"})
"""Clouds whose file repeats every price for every region: a price, but no place."""
_CONTAINERS = frozenset({"jarvislabs"})
_SOURCE = (
    "Public list prices as SkyPilot's catalog has them; the day is not known, as_of is a bound."
)

_SIZE = re.compile(r"sizeinmib['\"]?\s*:\s*([\d.]+)", re.IGNORECASE)
_NAME = re.compile(r"['\"]name['\"]\s*:\s*['\"]([^'\"]+)", re.IGNORECASE)
_MICRO = Decimal("0.000001")


class PriceRow(Struct, frozen=True, kw_only=True):
    """A machine with GPUs at a place, and what it costs by the hour."""

    provider: str
    instance_type: str
    """The cloud's own, a reseller's name where it has one; "" where the list tells none."""
    gpu: Gpu
    count: int
    usd: Decimal | None = None
    """On demand, the whole machine; None where it is not sold so, or the list has a placeholder."""
    spot_usd: Decimal | None = None
    region: str = ""
    zone: str = ""
    country: str = ""
    vcpus: float | None = None
    ram_gb: float | None = None
    arch: Arch = "x86_64"
    upstream: str = ""
    """The cloud that a reseller rents it from."""


def read_price_list(provider: str, text: str) -> Iterator[PriceRow | None]:
    """One item a row of the file: None for machines without a GPU.

    `provider` is the wire name; LookupError for a row whose GPU is not known.
    """
    for row in csv.DictReader(io.StringIO(text, newline="")):
        yield _read(provider, row) if row["AcceleratorName"] else None


def _read(provider: str, row: Mapping[str, str]) -> PriceRow:
    machine = _machine(provider, row)
    region, zone = row.get("Region") or "", row.get("AvailabilityZone") or ""
    country = region if provider in ("primeintellect", "lium") else ""
    return PriceRow(
        provider=provider,
        instance_type=row["InstanceType"],
        gpu=machine.gpu,
        count=machine.count,
        usd=_price(provider, row["Price"], machine.count),
        spot_usd=_price(provider, row["SpotPrice"], machine.count),
        region=region,
        zone=zone,
        country=_WRONG_COUNTRY.get((country, zone), country),
        vcpus=_number(row["vCPUs"]),
        ram_gb=_number(row["MemoryGiB"]),
        arch=machine.arch,
        upstream=_upstream(provider, row["InstanceType"]),
    )


def _machine(provider: str, row: Mapping[str, str]) -> Shape:
    """By the most telling of its names; memory by the row, where it tells it."""
    count = int(float(row["AcceleratorCount"]))
    told = _memory_mib(provider, row, count)
    column = resolve(row["AcceleratorName"], memory_mib=told)
    described = _NAME.search(row["GpuInfo"])
    for name in (row.get("UpstreamCloudId") or "", row["InstanceType"], row["AcceleratorName"]):
        found = _shape(provider, row["InstanceType"], name)
        if found is None or found.gpu.name is None or not _agree(found.gpu, column):
            continue
        if name == row["AcceleratorName"] and not row["InstanceType"]:
            count *= found.count  # "tpu-v6e-8" is eight chips
        elif found.count != count and row.get("UpstreamCloudId") != name:
            continue
        if found.gpu.form or not described:
            gpu = _sized(found.gpu, told)
            return Shape(structs.replace(gpu, raw=row["AcceleratorName"]), count, found.arch)
    best = column
    if described and (gpu := resolve(described[1], memory_mib=told)).name and gpu.form:
        best = structs.replace(gpu, raw=row["AcceleratorName"])
    if best.name is None:
        raise LookupError(f"{provider}: no GPU is called {row['AcceleratorName']!r}")
    return Shape(best, count)


def _shape(provider: str, instance_type: str, name: str) -> Shape | None:
    if not name:
        return None
    found = shape(provider, name)
    if name == instance_type or provider not in _RESELLERS or (found and found.gpu.form):
        return found
    upstream = _upstream(provider, instance_type)
    return shape(_UPSTREAM.get(upstream, upstream), name)


def _agree(gpu: Gpu, column: Gpu) -> bool:
    """Whether a type's GPU may be the column's: the column drops suffixes, it adds none."""
    if gpu.name is None or column.name is None:
        return column.name is None
    return gpu.name == column.name or gpu.name.startswith(column.name)


def _sized(gpu: Gpu, told_mib: float | None) -> Gpu:
    if told_mib is None or gpu.name is None:
        return gpu
    return structs.replace(gpu, memory_gb=resolve(gpu.name, memory_mib=told_mib).memory_gb)


def _memory_mib(provider: str, row: Mapping[str, str], count: int) -> float | None:
    """Of one GPU."""
    match = _SIZE.search(row["GpuInfo"])
    size = float(match[1]) if match else 0.0
    if not size:
        return None
    if size < _LEAST_MIB:
        size *= 1024
    return size / count if provider in _TOTAL_MEMORY else size


def _upstream(provider: str, instance_type: str) -> str:
    if provider not in _RESELLERS:
        return ""
    mark = "__" if provider == "primeintellect" else "_"
    return instance_type.partition(mark)[0]


def _price(provider: str, text: str, count: int) -> Decimal | None:
    try:
        price = Decimal(text).quantize(_MICRO)
    except InvalidOperation:
        return None
    if price <= 0 or price == _NO_PRICE.get(provider):
        return None
    floor = _FLOOR_PER_GPU.get(provider)
    return None if floor is not None and price == floor * count else price.normalize()


def _number(text: str) -> float | None:
    try:
        return float(text) or None
    except ValueError:
        return None


def sheet(provider: str, rows: Iterable[PriceRow], as_of: date) -> Sheet:
    """The shipped form: one row a type, market and price, with all places that have it."""
    sites: dict[Site, int] = {}
    found: dict[tuple[PriceRow, Market, Decimal], list[int]] = {}
    for row in rows:
        at = sites.setdefault(_site(row), len(sites))
        kept = structs.replace(row, region="", zone="", country="", usd=None, spot_usd=None)
        for market, price in ((Market.ON_DEMAND, row.usd), (Market.SPOT, row.spot_usd)):
            if price is not None:
                places = found.setdefault((kept, market, price), [])
                if at not in places:
                    places.append(at)
    return Sheet(
        provider,
        as_of,
        _SOURCE,
        Kind.CONTAINER if provider in _CONTAINERS else Kind.VM,
        tuple(sites),
        tuple(_shipped(*sold, places) for sold, places in found.items()),
    )


def _site(row: PriceRow) -> Site:
    region = "" if row.provider in _ANYWHERE else row.region
    place = locate(region, row.country or None, provider=row.provider)
    return Site(region, place.country or "", place.area)


def _shipped(row: PriceRow, market: Market, price: Decimal, places: list[int]) -> Row:
    usd = f"{price:f}"
    kind = url_safe(row.instance_type or row.gpu.raw)
    return Row(
        id=f"{kind}:{market}:{usd.replace('.', '-')}",
        raw=row.gpu.raw,
        gpu=row.gpu.label,
        memory_gb=row.gpu.memory_gb,
        form=row.gpu.form,
        vendor=row.gpu.vendor,
        count=row.count,
        usd_per_hour=usd,
        places=tuple(places),
        market=market,
        vcpus=row.vcpus,
        ram_gb=row.ram_gb,
        arch=row.arch,
        upstream=row.upstream,
    )


def _write(folder: Path, as_of: date) -> None:
    """Every list in the folder that is of one of our clouds, but the one that is kept by hand."""
    ours = {cloud.name for cloud in CLOUDS} - {"vast_ai"}
    for path in sorted(folder.glob("*.csv")):
        stem = path.name.partition(".")[0]
        provider = PROVIDERS.get(stem, stem.partition("_")[0])
        if provider in ours:
            rows = read_price_list(provider, path.read_text(encoding="utf-8"))
            made = sheet(provider, (row for row in rows if row is not None), as_of)
            (FOLDER / f"{provider}.json").write_bytes(_lines(made))


def _lines(made: Sheet) -> bytes:
    """A row a line, so that a change can be read."""
    encode = msgspec.json.encode
    parts = {
        name: encode(value)
        if name not in ("places", "rows")
        else b"[\n  " + b",\n  ".join(map(encode, value)) + b"]"
        for name, value in structs.asdict(made).items()
    }
    return b"{" + b",\n ".join(encode(name) + b":" + part for name, part in parts.items()) + b"}\n"


if __name__ == "__main__":
    _write(Path(sys.argv[1]), date.fromisoformat(sys.argv[2]))
