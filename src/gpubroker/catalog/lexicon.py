"""One state of what is known of GPUs: the entries, their spellings, and all that was read by them.

A lexicon never changes. Who learns of other models makes a new one and swaps it in, and every
cache goes with the old one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, lru_cache

from msgspec import Struct, structs

from gpubroker.catalog.entries import Entry
from gpubroker.catalog.spelling import (
    MigProfile,
    Words,
    clean_words,
    mig_profile,
    short_forms,
    squash,
    whole_card,
    words,
)
from gpubroker.model.gpu import Gpu, GpuModel

_MIB_PER_GIB = 1024
_NEAREST = 3
_KEPT = 4096

_EIGHTHS = {1: 1, 2: 2, 3: 4, 4: 4, 7: 8}
"""Of the memory, by the compute slices of a MIG profile, on cards that are cut in seven."""
_SLICE_TOLERANCE = 0.12
"""Slice sizes are rounded: 18 GB is an eighth of 141."""


class Spelling(Struct, frozen=True):
    """What a spelling means; form and memory where it means one variant."""

    entry: Entry
    form: str = ""
    memory_gb: float | None = None


class Reading(Struct, frozen=True):
    """What a name says in so many words, and what its spelling implies."""

    words: Words = Words(())
    spelling: str = ""
    meaning: Spelling | None = None


class Lexicon:
    """`resolve(raw, memory_mib, memory_gb)` and its kin over one set of entries.

    The entries are read when first needed. `resolve_name` is the same for a name alone, whose
    cache is looked up in half the time.
    """

    def __init__(self, read_entries: Callable[[], tuple[Entry, ...]]) -> None:
        self._read_entries = read_entries
        self.resolve = lru_cache(maxsize=_KEPT)(self._resolve)
        self.resolve_name = lru_cache(maxsize=_KEPT)(self._resolve)
        self.read = lru_cache(maxsize=_KEPT)(self._read)

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Every model, in the order of the table."""
        return self._read_entries()

    @cached_property
    def models(self) -> tuple[GpuModel, ...]:
        """The same for the rest of gpubroker."""
        return tuple(entry.model() for entry in self.entries)

    @cached_property
    def by_name(self) -> dict[str, GpuModel]:
        """Canonical name -> model."""
        return {model.name: model for model in self.models}

    @cached_property
    def spellings(self) -> dict[str, Spelling]:
        """Squashed spelling -> what it means; canonical names win over short forms."""
        found: dict[str, Spelling] = {}
        for entry in self.entries:
            for variant in entry.variants:
                for alias in variant.aliases:
                    if not _is_literal(alias):
                        found[squash(alias)] = Spelling(entry, variant.form, variant.memory_gb)
        for entry in self.entries:
            for spelling in (entry.name, *entry.aliases):
                found.setdefault(squash(spelling), Spelling(entry))
        for entry in self.entries:
            for spelling in short_forms(entry.name):
                found.setdefault(squash(spelling), Spelling(entry))
        return found

    @cached_property
    def literals(self) -> dict[str, Spelling]:
        """Identifiers that mean one variant as they are written, and less when written otherwise.

        "nvidia-a100-80gb" is Google's SXM board, "NVIDIA A100 (80GB)" may be any.
        """
        return {
            alias: Spelling(entry, variant.form, variant.memory_gb)
            for entry in self.entries
            for variant in entry.variants
            for alias in variant.aliases
            if _is_literal(alias)
        }

    def nearest_names(self, text: str) -> tuple[str, ...]:
        """Canonical names that look like `text`, best first."""
        import difflib

        close = difflib.get_close_matches(
            squash(clean_words(text)), self.spellings, n=9, cutoff=0.6
        )
        names = dict.fromkeys(self.spellings[spelling].entry.name for spelling in close)
        return tuple(names)[:_NEAREST]

    def _read(self, text: str) -> Reading:
        """By its words: memory and form are taken out, the rest must be a spelling."""
        said = words(text)
        for rest in said.rests:
            if meaning := self.spellings.get(rest):
                return Reading(said, rest, meaning)
        return Reading(said, said.rests[-1])

    def _resolve(
        self, raw: str, memory_mib: float | None = None, memory_gb: float | None = None
    ) -> Gpu:
        told = memory_gb if memory_mib is None else memory_mib / _MIB_PER_GIB
        if told is not None and not 0 < told < math.inf:  # NaN compares false too
            told = None
        known = self._named(raw, told) or self._by_type_name(raw, told)
        if known is None:
            said = self.read(raw).words.memory_gb
            return Gpu(name=None, raw=raw, memory_gb=_as_told(told or said or 0.0))
        return known

    def _named(self, raw: str, told: float | None) -> Gpu | None:
        """The GPU that is called so."""
        if raw.endswith("+"):
            return None  # "B200+": that or better, at the cloud's choice
        name = whole_card(raw)
        exact = self.literals.get(name.casefold()) or self.spellings.get(squash(name))
        read = Reading(meaning=exact) if exact is not None else self.read(name)
        if read.meaning is None:
            return None
        entry, form = read.meaning.entry, read.words.form or read.meaning.form
        said = read.words.memory_gb or read.meaning.memory_gb
        if part := mig_profile(raw):
            return _slice(entry, raw, form, part, said)
        told = told or said
        nominal = None if told is None else entry.nominal(told)
        fitting = entry.fitting(form, nominal) or entry.fitting(form, None) or entry.variants
        memory = fitting[0].memory_gb if told is None else nominal or _as_told(told)
        forms = {variant.form for variant in fitting}
        form = form or (forms.pop() if len(forms) == 1 else "")
        return Gpu(name=entry.name, raw=raw, memory_gb=memory, form=form, vendor=entry.vendor)

    def _by_type_name(self, raw: str, told: float | None) -> Gpu | None:
        """The GPU of an instance type: "p5.48xlarge", "gpu_8x_h100_sxm5"."""
        from gpubroker.catalog.type_names import readings

        for said in readings(raw):
            if gpu := self._named(said.gpu, told if said.fraction == 1 else None):
                return cut(gpu, raw, said.fraction)
        return None


def _is_literal(alias: str) -> bool:
    return "-" in alias and alias == alias.lower()


def cut(gpu: Gpu, raw: str, fraction: float) -> Gpu:
    """That share of a card, under the name that a vendor has for it."""
    memory = gpu.memory_gb if fraction == 1 else _as_told(gpu.memory_gb * fraction)
    share = round(gpu.fraction * fraction, 3)
    return structs.replace(gpu, raw=raw, memory_gb=memory, fraction=share)


def _slice(entry: Entry, raw: str, form: str, part: MigProfile, said: float | None) -> Gpu:
    """A MIG slice: its own memory, and that share of the card."""
    fitting = entry.fitting(form, None) or entry.variants
    sizes = [variant.memory_gb for variant in fitting]
    forms = {variant.form for variant in fitting}
    card = sizes[0]
    if said is not None:
        card = entry.nominal(said) or said
    elif part.slices in _EIGHTHS:
        whole = part.memory_gb * 8 / _EIGHTHS[part.slices]
        nearest = min(sizes, key=lambda size: abs(whole / size - 1))
        card = nearest if abs(whole / nearest - 1) <= _SLICE_TOLERANCE else card
    return Gpu(
        name=entry.name,
        raw=raw,
        memory_gb=part.memory_gb,
        form=form or (forms.pop() if len(forms) == 1 else ""),
        vendor=entry.vendor,
        fraction=min(1.0, round(part.memory_gb / card, 3)),
    )


def _as_told(told: float) -> float:
    """48 for 47.99: whole where it nearly is, else one decimal."""
    whole = round(told)
    return float(whole) if whole and abs(told / whole - 1) <= 0.02 else round(told, 1)  # noqa: PLR2004 - rounding, not a rule
