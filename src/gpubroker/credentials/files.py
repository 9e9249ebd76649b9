"""Files that vendors' own clients keep their keys in: one table, read and never written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

LARGEST = 64 * 1024
FOLDER_DEFAULTS: Mapping[str, str] = {"XDG_CONFIG_HOME": ".config"}
"""Variable of a folder -> where it is below HOME while the variable is not set."""


class KeyFile(NamedTuple):
    """One file, and where in it each secret stands."""

    folder: str
    """The variable that names the folder."""
    path: str
    form: str = "text"
    """Of FORMS."""
    fields: tuple[str, ...] = ()
    """Dotted, one a secret in the cloud's order; of "text" none."""

    def at(self, environ: Mapping[str, str], home: Path) -> Path:
        """Where it would be."""
        base = environ.get(self.folder) if self.folder in FOLDER_DEFAULTS else None
        return (Path(base) if base else home / FOLDER_DEFAULTS.get(self.folder, "")) / self.path


KEY_FILES: Mapping[str, tuple[KeyFile, ...]] = {
    "fluidstack": (KeyFile("HOME", ".fluidstack/api_key"),),
    "hyperstack": (KeyFile("HOME", ".hyperstack/api_key"),),
    "jarvislabs": (KeyFile("XDG_CONFIG_HOME", "jl/config.toml", "toml", ("auth.token",)),),
    "lambda_labs": (KeyFile("HOME", ".lambda_cloud/lambda_keys", "lines", ("api_key",)),),
    "lyceum": (KeyFile("HOME", ".lyceum/config.json", "json", ("api_key",)),),
    "runpod": (
        KeyFile("HOME", ".runpod/config.toml", "toml", ("apikey",)),
        KeyFile("HOME", ".runpod/config.toml", "toml", ("default.api_key",)),
    ),
    "shadeform": (KeyFile("HOME", ".shadeform/api_key"),),
    "thunder_compute": (KeyFile("HOME", ".thunder/token"),),
    "vast_ai": (
        KeyFile("XDG_CONFIG_HOME", "vastai/vast_api_key"),
        KeyFile("HOME", ".vast_api_key"),
    ),
    "verda": (
        KeyFile(
            "HOME",
            ".verda/credentials",
            "lines",
            ("default.verda_client_id", "default.verda_client_secret"),
        ),
    ),
}
"""Cloud -> its files, best first. Of RunPod's one file the first form is that of `runpodctl`, the
second that of the vendor's Python client; Lambda's is the one that SkyPilot made usual."""


def read(file: KeyFile, path: Path) -> tuple[str, ...]:
    """The secrets in it, in order; () where there is no such file or it lacks one of them."""
    try:
        with path.open(encoding="utf-8") as opened:
            text = opened.read(LARGEST)
        found = tuple(_FORMS[file.form](text, file.fields))
    except (OSError, ValueError):
        return ()
    return found if all(found) else ()


def _text(text: str, _fields: tuple[str, ...]) -> Iterator[str]:
    yield text.strip()


def _toml(text: str, fields: tuple[str, ...]) -> Iterator[str]:
    import tomllib

    yield from _picked(tomllib.loads(text), fields)


def _json(text: str, fields: tuple[str, ...]) -> Iterator[str]:
    import json

    yield from _picked(json.loads(text), fields)


def _lines(text: str, fields: tuple[str, ...]) -> Iterator[str]:
    """`name = value` lines, below an optional [section]."""
    section, told = "", {}
    for line in text.splitlines():
        plain = line.strip()
        if header := re.fullmatch(r"\[(.+)\]", plain):
            section = f"{header[1].strip()}."
        elif pair := re.fullmatch(r"([\w.-]+)\s*[=:]\s*(.+)", plain):
            told[section + pair[1]] = pair[2].strip().strip("\"'")
    for field in fields:
        yield told.get(field, "")


def _picked(document: Any, fields: tuple[str, ...]) -> Iterator[str]:
    for field in fields:
        value = document
        for step in field.split("."):
            folded = (
                {name.lower(): inner for name, inner in value.items()} if _is_map(value) else {}
            )
            value = folded.get(step)
        yield value.strip() if isinstance(value, str) else ""


def _is_map(value: Any) -> bool:
    return isinstance(value, dict)


_FORMS: Mapping[str, Callable[[str, tuple[str, ...]], Iterator[str]]] = {
    "text": _text,
    "toml": _toml,
    "json": _json,
    "lines": _lines,
}
