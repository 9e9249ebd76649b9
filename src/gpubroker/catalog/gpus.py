"""GPU models, their names in the wild, and what a person means by one.

The table is `data/gpus.json`, read when first needed, with the user's own `gpus.toml` laid over it
(`load_user_models`). A name is matched without regard to case, spaces, hyphens, underscores and
vendor words; memory and form factor are read out of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from threading import Lock

from gpubroker.catalog.entries import shipped_entries
from gpubroker.catalog.lexicon import Lexicon
from gpubroker.catalog.spelling import squash
from gpubroker.model.gpu import Gpu, GpuModel
from gpubroker.model.query import GpuWanted

USER_MODELS = "gpus.toml"
"""The user's own models, below GPUBROKER_HOME."""

_MOST_GPUS = 4096
_COUNT_FIRST = re.compile(r"(\d{1,3}) ?x ?(.+)", re.IGNORECASE)
_COUNT_LAST = re.compile(r"(.+?):(\d+)|(.+\d) ?x(\d{1,2})", re.IGNORECASE)

_State = tuple[Path, tuple[int, int, int] | None]
"""A file, and what tells one of its versions from another; None where it is absent."""

_shipped = Lexicon(shipped_entries)
_known = _shipped
"""What all look-ups use: one immutable object, swapped whole."""
_loaded: _State | None = None
_loading = Lock()


class UnknownGpuName(LookupError):
    """The catalog has no such GPU; `nearest` are names that look like it."""

    def __init__(self, name: str, nearest: tuple[str, ...]) -> None:
        super().__init__(name)
        self.name = name
        self.nearest = nearest

    def __str__(self) -> str:
        hint = f". Did you mean {', '.join(self.nearest)}?" if self.nearest else ""
        return f'no GPU is called "{self.name}"{hint}'


def resolve(raw: str, *, memory_mib: float | None = None, memory_gb: float | None = None) -> Gpu:
    """The GPU that a vendor means by `raw`, with one GPU's memory where the vendor tells it.

    `raw` is a GPU's name or, where no GPU is called so, the name of an instance type. Memory
    becomes the size as sold where it is within 7 % of one, else stays as told (a modified board).
    An unknown name gives `name=None` and keeps `raw`. Never raises.
    """
    if memory_mib is None and memory_gb is None:
        return _known.resolve_name(raw)
    return _known.resolve(raw, memory_mib, memory_gb)


def wanted(text: str, *, known_raw: Iterable[str] = ()) -> GpuWanted:
    """What a person asks for: "H100", "8xH100", "H100:8", "A100 80GB", "h100 sxm", "4090".

    `known_raw` are raw names of offers at hand, searchable though the catalog does not know them.
    Raises UnknownGpuName, and ValueError for a count that no machine has.
    """
    lexicon = _known
    name, count = _counted(text.strip())
    read = lexicon.read(name)
    meaning, spelling = read.meaning, read.spelling
    if meaning is None:
        spelling = squash(name)
        meaning = lexicon.spellings.get(spelling)
    if meaning is None:
        for raw in known_raw:
            if spelling and squash(raw) == spelling:
                return GpuWanted(name=raw, count=count)
        raise UnknownGpuName(name, lexicon.nearest_names(name))
    entry, form, memory = meaning.entry, read.words.form, read.words.memory_gb
    if spelling != squash(entry.name):
        # A vendor's "H200" is the SXM board; a person's "H200" is any.
        form, memory = form or meaning.form, memory or meaning.memory_gb
    if memory is not None:
        memory = entry.nominal(memory) or memory
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
    return _known.nearest_names(text)


def same_spelling(one: str, other: str) -> bool:
    """Whether two names differ in case, spaces and punctuation at most."""
    return squash(one) == squash(other)


def models() -> tuple[GpuModel, ...]:
    """Every model of the catalog, the user's own too."""
    return _known.models


def model(name: str | None) -> GpuModel | None:
    """The model of a canonical name, None for any other."""
    return _known.by_name.get(name) if name is not None else None


def load_user_models(path: Path) -> None:
    """Lay the models of this file over the shipped ones, in place of those laid before.

    An absent file is an empty one. Raises GpuModelsError, with file, line and field, for what
    cannot be used: the models stay as they were.
    """
    global _known, _loaded  # noqa: PLW0603 - the one swap that everybody sees
    with _loading:
        state = _version(path)
        if state is None:
            _known, _loaded = _shipped, (path, None)
            return
        from gpubroker.catalog.user_models import merged, read_user_models

        _loaded = (path, state)  # told once, not at every look until it is mended
        entries = merged(shipped_entries(), read_user_models(path), source=str(path))
        _known = Lexicon(lambda: entries)


def reload_user_models() -> bool:
    """Load the same file again where it has changed, appeared or gone; whether it had.

    One look at the file's times where nothing changed. Raises as `load_user_models`, once for
    each version of a bad file; False before anything was loaded.
    """
    loaded = _loaded
    if loaded is None or _version(loaded[0]) == loaded[1]:
        return False
    load_user_models(loaded[0])
    return True


def _version(path: Path) -> tuple[int, int, int] | None:
    try:
        told = path.stat()
    except OSError:
        return None
    return told.st_mtime_ns, told.st_size, told.st_ino
