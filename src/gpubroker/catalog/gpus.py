"""GPU models, their names in the wild, and what a person means by one.

The table is `data/gpus.json`, read when first needed. A name is matched without regard to case,
spaces, hyphens, underscores and vendor words; memory and form factor are read out of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from pathlib import Path

import msgspec
from msgspec import Struct

from gpubroker.model.gpu import Category, Gpu, GpuModel, Vendor
from gpubroker.model.query import GpuWanted

_TABLE = Path(__file__).parent / "data" / "gpus.json"

_TOLERANCE = 0.07
"""Vendors report 0.93 to 1.07 of the nominal memory: MiB, ECC and driver reserves."""
_MIB_PER_GIB = 1024
_MOST_GPUS = 4096
_NEAREST = 3

_NOISE = re.compile(
    r"nvidia|geforce|tesla|amd(?= )|instinct|radeon"
    r"|\b(?:gpus?|graphics|generation|edition|blackwell|tensor core|hbm\d?e?|nvlink|google|intel)\b"
)
_MEMORY = re.compile(r"\b(\d{1,4}) ?g(?:i?b)?\b")
_FORM = re.compile(r"\b(sxm|pcie?|nvl|oam|server|workstation|max ?q|fhhl)\d?\b")
_FORMS = {
    "sxm": "SXM",
    "pci": "PCIe",
    "pcie": "PCIe",
    "nvl": "NVL",
    "oam": "OAM",
    "server": "Server",
    "workstation": "Workstation",
    "maxq": "Max-Q",
    "fhhl": "FHHL",
}
_MIG = re.compile(r"\b(?:mig )?\d{1,2}g[ .](\d{1,4})gb\b")
_COUNT_FIRST = re.compile(r"(\d{1,3}) ?x ?(.+)", re.IGNORECASE)
_COUNT_LAST = re.compile(r"(.+?):(\d+)|(.+\d) ?x(\d{1,2})", re.IGNORECASE)
_FAMILY_WORD = re.compile(r"^(?:rtx|gtx|rx) ", re.IGNORECASE)


class UnknownGpuName(LookupError):
    """The catalog has no such GPU; `nearest` are names that look like it."""

    def __init__(self, name: str, nearest: tuple[str, ...]) -> None:
        super().__init__(name)
        self.name = name
        self.nearest = nearest

    def __str__(self) -> str:
        hint = f". Did you mean {', '.join(self.nearest)}?" if self.nearest else ""
        return f'no GPU is called "{self.name}"{hint}'


class _Variant(Struct, frozen=True):
    memory_gb: float
    form: str
    fp16: float | None = None
    fp32: float | None = None
    fp8: float | None = None
    bandwidth: float | None = None
    tdp: float | None = None
    aliases: tuple[str, ...] = ()
    """Names that mean this memory and form."""


class _Entry(Struct, frozen=True):
    name: str
    vendor: Vendor
    architecture: str
    compute_capability: float
    category: Category
    score: int
    source: str
    variants: tuple[_Variant, ...]
    """The most usual first: its figures stand for the model."""
    year: int | None = None
    aliases: tuple[str, ...] = ()

    def fitting(self, form: str, memory_gb: float | None) -> tuple[_Variant, ...]:
        """The variants of this form and memory, where "" and None leave open."""
        return tuple(
            variant
            for variant in self.variants
            if (not form or variant.form == form)
            and (memory_gb is None or variant.memory_gb == memory_gb)
        )


class _Spelling(Struct, frozen=True):
    """What a spelling means; form and memory where it means one variant."""

    entry: _Entry
    form: str = ""
    memory_gb: float | None = None


class _Reading(Struct, frozen=True):
    """What a name says in so many words, and what its spelling implies."""

    spelling: str = ""
    meaning: _Spelling | None = None
    form: str = ""
    memory_gb: float | None = None


@cache
def _entries() -> tuple[_Entry, ...]:
    return msgspec.json.decode(_TABLE.read_bytes(), type=tuple[_Entry, ...])


@cache
def _spellings() -> dict[str, _Spelling]:
    """Squashed spelling -> what it means; canonical names win over short forms."""
    found: dict[str, _Spelling] = {}
    for entry in _entries():
        for variant in entry.variants:
            for alias in variant.aliases:
                found[_squash(alias)] = _Spelling(entry, variant.form, variant.memory_gb)
    for entry in _entries():
        for spelling in (entry.name, *entry.aliases):
            found.setdefault(_squash(spelling), _Spelling(entry))
    for entry in _entries():
        for spelling in _short_forms(entry.name):
            found.setdefault(_squash(spelling), _Spelling(entry))
    return found


def _short_forms(name: str) -> Iterator[str]:
    yield _clean(name)
    bare = _FAMILY_WORD.sub("", name)
    yield bare
    for full in (name, bare):
        if full.endswith("SUPER"):
            # "RTX 4070 Ti SUPER" is sold as 4070S Ti, 4070 Ti S and 4070 Ti Super.
            yield full.replace("SUPER", "S")
            yield re.sub(r"( Ti)? SUPER", r"S\1", full)


def _squash(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def _spaced(text: str) -> str:
    return re.sub(r"[^\w.+]|_", " ", text.casefold())


def _clean(text: str) -> str:
    return _NOISE.sub(" ", _spaced(text))


@lru_cache(maxsize=4096)
def _read(text: str) -> _Reading:
    """By its words: memory and form are taken out, the rest must be a spelling."""
    words = _MIG.sub(" ", _clean(text))
    memory = _MEMORY.search(words)
    words = _MEMORY.sub(" ", words)
    form = _FORM.search(words)
    rest = _squash(_FORM.sub(" ", words))
    if rest not in _spellings():
        rest = _squash(words)  # a form word may be part of the spelling
    return _Reading(
        rest,
        _spellings().get(rest),
        _FORMS[form[1].replace(" ", "")] if form else "",
        float(memory[1]) if memory else None,
    )


def _nominal(entry: _Entry, told: float) -> float | None:
    """The size as sold that the told one stands for."""
    sizes = {variant.memory_gb for variant in entry.variants}
    nearest = min(sizes, key=lambda size: abs(told / size - 1))
    return nearest if abs(told / nearest - 1) <= _TOLERANCE + 1e-9 else None


def _as_told(told: float) -> float:
    """48 for 47.99: whole where it nearly is, else one decimal."""
    whole = round(told)
    return float(whole) if whole and abs(told / whole - 1) <= 0.02 else round(told, 1)  # noqa: PLR2004 - rounding, not a rule


@lru_cache(maxsize=4096)
def resolve(raw: str, *, memory_mib: float | None = None, memory_gb: float | None = None) -> Gpu:
    """The GPU that a vendor means by `raw`, with one GPU's memory where the vendor tells it.

    Memory becomes the size as sold where it is within 7 % of one, else stays as told (a modified
    board). An unknown name gives `name=None` and keeps `raw`. Never raises.
    """
    told = memory_gb if memory_mib is None else memory_mib / _MIB_PER_GIB
    if told is not None and not 0 < told < math.inf:  # NaN compares false too
        told = None
    exact = _spellings().get(_squash(raw))
    read = _Reading(meaning=exact) if exact is not None else _read(raw)
    if read.meaning is None:
        return Gpu(name=None, raw=raw, memory_gb=_as_told(told or read.memory_gb or 0.0))
    entry, form = read.meaning.entry, read.form or read.meaning.form
    if part := _MIG.search(_spaced(raw)):
        return _slice(entry, raw, form, float(part[1]))
    told = told or read.memory_gb or read.meaning.memory_gb
    nominal = None if told is None else _nominal(entry, told)
    fitting = entry.fitting(form, nominal) or entry.fitting(form, None) or entry.variants
    memory = fitting[0].memory_gb if told is None else nominal or _as_told(told)
    forms = {variant.form for variant in fitting}
    form = form or (forms.pop() if len(forms) == 1 else "")
    return Gpu(name=entry.name, raw=raw, memory_gb=memory, form=form, vendor=entry.vendor)


def _slice(entry: _Entry, raw: str, form: str, memory_gb: float) -> Gpu:
    """A MIG slice: its own memory, and that share of the card."""
    share = min(1.0, round(memory_gb / entry.variants[0].memory_gb, 3))
    return Gpu(
        name=entry.name,
        raw=raw,
        memory_gb=memory_gb,
        form=form,
        vendor=entry.vendor,
        fraction=share,
    )


def wanted(text: str, *, known_raw: Iterable[str] = ()) -> GpuWanted:
    """What a person asks for: "H100", "8xH100", "H100:8", "A100 80GB", "h100 sxm", "4090".

    `known_raw` are raw names of offers at hand, searchable though the catalog does not know them.
    Raises UnknownGpuName, and ValueError for a count that no machine has.
    """
    name, count = _counted(text.strip())
    read = _read(name)
    if read.meaning is None and (whole := _spellings().get(_squash(name))):
        read = _Reading(_squash(name), whole)
    if read.meaning is None:
        squashed = _squash(name)
        for raw in known_raw:
            if squashed and _squash(raw) == squashed:
                return GpuWanted(name=raw, count=count)
        raise UnknownGpuName(name, nearest_names(name))
    entry, form, memory = read.meaning.entry, read.form, read.memory_gb
    if read.spelling != _squash(entry.name):
        # A vendor's "H200" is the SXM board; a person's "H200" is any.
        form, memory = form or read.meaning.form, memory or read.meaning.memory_gb
    if memory is not None:
        memory = _nominal(entry, memory) or memory
    return GpuWanted(name=entry.name, form=form, memory_gb=memory, count=count)


def _counted(text: str) -> tuple[str, int | None]:
    if match := _COUNT_LAST.fullmatch(text):
        name, count = match[1] or match[3], int(match[2] or match[4])
    elif match := _COUNT_FIRST.fullmatch(text):
        name, count = match[2], int(match[1])
    else:
        return text, None
    if not 1 <= count <= _MOST_GPUS:
        raise ValueError(f'"{text}": a machine has 1 to {_MOST_GPUS} GPUs')
    return name, count


def nearest_names(text: str) -> tuple[str, ...]:
    """Canonical names that look like `text`, best first."""
    import difflib

    close = difflib.get_close_matches(_squash(_clean(text)), _spellings(), n=9, cutoff=0.6)
    names = dict.fromkeys(_spellings()[spelling].entry.name for spelling in close)
    return tuple(names)[:_NEAREST]


def same_spelling(one: str, other: str) -> bool:
    """Whether two names differ in case, spaces and punctuation at most."""
    return _squash(one) == _squash(other)


@cache
def models() -> tuple[GpuModel, ...]:
    """Every model of the catalog."""
    return tuple(_model(entry) for entry in _entries())


@cache
def _by_name() -> dict[str, GpuModel]:
    return {model.name: model for model in models()}


def model(name: str | None) -> GpuModel | None:
    """The model of a canonical name, None for any other."""
    return _by_name().get(name) if name is not None else None


def _model(entry: _Entry) -> GpuModel:
    usual = entry.variants[0]
    return GpuModel(
        name=entry.name,
        memory_gb=usual.memory_gb,
        memory_sizes=tuple(sorted({variant.memory_gb for variant in entry.variants})),
        forms=tuple(dict.fromkeys(variant.form for variant in entry.variants)),
        compute_capability=entry.compute_capability,
        architecture=entry.architecture,
        category=entry.category,
        performance_score=entry.score,
        vendor=entry.vendor,
        fp16_tflops=usual.fp16,
        fp8_tflops=usual.fp8,
        memory_bandwidth_gbs=usual.bandwidth,
        tdp_w=usual.tdp,
        year=entry.year,
        source=entry.source,
    )
