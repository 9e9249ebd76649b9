"""GPUBROKER_HOME/gpus.toml: models of the user's own, and figures that he knows better.

    [[gpu]]
    name = "RTX 4090 48GB"      # a new model needs name and memory_gb
    memory_gb = 48              # or a list, the most usual size first
    forms = ["PCIe"]
    aliases = ["4090-48G"]
    vendor = "nvidia"           # nvidia, amd, intel, google, aws, qualcomm, tenstorrent
    category = "consumer"       # consumer, professional, datacenter
    architecture = "Ada Lovelace"
    compute_capability = 8.9
    performance_score = 100     # 0-150; without it, derived from the 16-bit rate and the bandwidth
    fp16_tflops = 165.2         # dense; likewise bf16_tflops, fp8_tflops, fp32_tflops
    memory_bandwidth_gbs = 1008
    tdp_w = 450
    year = 2023

    [[gpu]]
    name = "L40S"               # a model that gpubroker knows: only what is told changes
    aliases = ["our-l40s-nodes"]

An unknown field or a value of the wrong kind is an error that names file, line and field.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from gpubroker.catalog.entries import Entry, Variant
from gpubroker.catalog.scores import FIXED_POINTS, Speed, derived_score
from gpubroker.catalog.spelling import squash
from gpubroker.model.errors import Invalid
from gpubroker.model.gpu import Category, Vendor

_PLACE = re.compile(r"(.*?)(?: - at `\$\.?(.*?)(?:\[.*)?`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_MISSING = re.compile(r"Object missing required field `(.*)`")
_TABLE = re.compile(r"\s*\[\[\s*gpu\s*\]\]")
_BOUNDS: Mapping[str, tuple[float, float]] = {
    "compute_capability": (0, 100),
    "performance_score": (0, 150),
    "year": (1990, 2100),
}
_FIGURES = {
    "fp16_tflops": "fp16",
    "bf16_tflops": "bf16",
    "fp8_tflops": "fp8",
    "fp32_tflops": "fp32",
    "memory_bandwidth_gbs": "bandwidth",
    "tdp_w": "tdp",
}


class GpuModelsError(Invalid):
    """The user's models cannot be used; those in use stay. Names `path`, `line` and `field`."""

    word = "gpu_models"

    def __init__(self, path: Path, line: int, field: str, why: str) -> None:
        what = f"{field}: {why}" if field else why
        super().__init__(f"{path}, line {line}: {what}. The models in use stay as they are.")
        self.path = path
        self.line = line
        self.field = field


class UserModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[gpu]]` table."""

    name: str
    memory_gb: float | tuple[float, ...] | None = None
    forms: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    vendor: Vendor | None = None
    category: Category | None = None
    architecture: str | None = None
    compute_capability: float | None = None
    performance_score: int | None = None
    fp16_tflops: float | None = None
    bf16_tflops: float | None = None
    fp8_tflops: float | None = None
    fp32_tflops: float | None = None
    memory_bandwidth_gbs: float | None = None
    tdp_w: float | None = None
    year: int | None = None

    @property
    def sizes(self) -> tuple[float, ...]:
        """Memory sizes told, the most usual first."""
        told = self.memory_gb
        return () if told is None else told if isinstance(told, tuple) else (told,)


def read_user_models(path: Path) -> tuple[UserModel, ...]:
    """Every table of the file. Raises GpuModelsError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GpuModelsError(path, 1, "", f"cannot be read: {error}") from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = int(found[1]) if found else max(1, len(text.splitlines()))
        raise GpuModelsError(path, line, "", str(error)) from None
    source = _Source(path, text.splitlines())
    for name, value in document.items():
        if name != "gpu" or not isinstance(value, list):
            raise source.error(None, name, "models are written as [[gpu]] tables")
    return tuple(_checked(source, at, table) for at, table in enumerate(document.get("gpu", ())))


def merged(
    shipped: Sequence[Entry], told: Sequence[UserModel], *, source: str
) -> tuple[Entry, ...]:
    """The told models, laid over the shipped ones they name, and then all other shipped ones.

    The first that has a spelling keeps it.
    """
    known = {squash(entry.name): entry for entry in shipped}
    speeds = {name: _speed(known[squash(name)]) for name in FIXED_POINTS}
    entries: dict[str, Entry] = {}
    for model in told:
        key = squash(model.name)
        entry = _laid(model, entries.get(key) or known.get(key), source)
        if model.performance_score is None and entry.name not in FIXED_POINTS:
            rate, bandwidth = _speed(entry)
            if rate and bandwidth:
                entry = structs.replace(entry, score=derived_score((rate, bandwidth), speeds))
        entries[key] = entry
    return (*entries.values(), *(entry for key, entry in known.items() if key not in entries))


def _laid(model: UserModel, known: Entry | None, source: str) -> Entry:
    figures = {
        short: value
        for name, short in _FIGURES.items()
        if (value := getattr(model, name)) is not None
    }
    if known is None or model.sizes or model.forms:
        usual = known.variants[0] if known else Variant(0.0)
        variants = known.variants if known else ()
        sizes = model.sizes or tuple(dict.fromkeys(variant.memory_gb for variant in variants))
        forms = model.forms or (usual.form,)
        rows = [
            structs.replace(usual, memory_gb=size, form=form, source="", told=(), aliases=())
            for size in sizes
            for form in forms
        ]
    else:
        rows = [structs.replace(variant, source="") for variant in known.variants]
    rows[0] = structs.replace(rows[0], year=model.year, **figures)
    base = known or Entry(model.name, "", "", 0.0, "datacenter", 0, source, ())
    return structs.replace(
        base,
        vendor=base.vendor if model.vendor is None else model.vendor,
        architecture=base.architecture if model.architecture is None else model.architecture,
        compute_capability=_or(model.compute_capability, base.compute_capability),
        category=model.category or base.category,
        score=base.score if model.performance_score is None else model.performance_score,
        source=source,
        variants=tuple(rows),
        year=base.year if model.year is None else model.year,
        aliases=(*base.aliases, *model.aliases),
    )


def _or(told: float | None, known: float) -> float:
    return known if told is None else told


def _speed(entry: Entry) -> Speed:
    usual = entry.variants[0]
    return usual.fp16 or usual.fp32 or 0.0, usual.bandwidth or 0.0


class _Source(Struct, frozen=True):
    path: Path
    lines: list[str]

    def error(self, table: int | None, field: str, why: str) -> GpuModelsError:
        return GpuModelsError(self.path, self.line_of(table, field), field, why)

    def line_of(self, table: int | None, field: str) -> int:
        """Where a field of the table (by its number) stands, else where the table begins."""
        seen, begins = -1, 1
        wanted = re.compile(rf"\s*[\"']?{re.escape(field)}[\"']?\s*=") if field else None
        for number, line in enumerate(self.lines, 1):
            if _TABLE.match(line):
                seen += 1
                begins = number if seen == table else begins
            elif wanted and wanted.match(line) and (table is None or seen == table):
                return number
        return begins


def _checked(source: _Source, at: int, table: object) -> UserModel:
    try:
        model = msgspec.convert(table, type=UserModel)
    except msgspec.ValidationError as error:
        match = _PLACE.fullmatch(str(error))
        what, field = (match[1], match[2] or "") if match else (str(error), "")
        if unknown := _UNKNOWN.fullmatch(what):
            field, what = unknown[1], "there is no such field"
        elif missing := _MISSING.fullmatch(what):
            field, what = missing[1], "is needed"
        raise source.error(at, field, what[:1].lower() + what[1:]) from None
    if not squash(model.name):
        raise source.error(at, "name", "has no letter or digit")
    if not model.sizes and _is_new(model):
        raise source.error(at, "memory_gb", f'is needed: gpubroker knows no "{model.name}"')
    for field in ("memory_gb", *_FIGURES, *_BOUNDS):
        least, most = _BOUNDS.get(field, (0, 1e9))
        value = getattr(model, field)
        for number in model.sizes if field == "memory_gb" else (value,):
            if number is None:
                continue
            if not least <= number <= most or (field not in _BOUNDS and number == 0):
                raise source.error(at, field, f"{number:g} is out of range")
    return model


def _is_new(model: UserModel) -> bool:
    from gpubroker.catalog.entries import shipped_entries

    return squash(model.name) not in {squash(entry.name) for entry in shipped_entries()}
