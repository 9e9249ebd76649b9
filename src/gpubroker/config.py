"""GPUBROKER_HOME/config.toml: what a launch does when it is not told otherwise.

    [defaults]
    ttl = "8h"                  # or "none", in so many letters
    image = "pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime"
    disk_gb = 40
    max_price = 2.50            # USD per hour
    max_price_increase = 0.1
    tries = 5

    [ssh]
    include = true              # one Include line in ~/.ssh/config

An unknown name or a value of the wrong kind is an error that names file and line: a setting is
never ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gpubroker.model.durations import duration
from gpubroker.model.errors import Invalid

NO_EXPIRY = "none"
MOST_TRIES = 50
_EXPECTED = re.compile(r"(.*?)(?: - at `\$\.?(.*)`)?$")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")


class ConfigError(Invalid):
    """The configuration cannot be used; nothing was done."""

    word = "config"


class Defaults(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `launch` takes where no flag says otherwise; None leaves gpubroker's own default."""

    ttl: str | None = None
    image: str | None = None
    disk_gb: int | None = None
    max_price: float | None = None
    max_price_increase: float | None = None
    tries: int | None = None


class Ssh(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far gpubroker goes into the user's own ssh."""

    include: bool = True


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    defaults: Defaults = Defaults()
    ssh: Ssh = Ssh()


def load(path: Path) -> Config:
    """The configuration; an absent file is an empty one. Raises ConfigError with file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}. Nothing was done.") from None
    import tomllib

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {error}. Nothing was done.") from None
    try:
        config = msgspec.convert(document, type=Config)
    except msgspec.ValidationError as error:
        raise _explained(path, text, str(error)) from None
    for name, why in _out_of_range(config.defaults):
        raise _error(path, text, f"defaults.{name}", why)
    return config


def _out_of_range(defaults: Defaults) -> Iterator[tuple[str, str]]:
    if defaults.ttl is not None and defaults.ttl != NO_EXPIRY:
        try:
            duration(defaults.ttl)
        except ValueError as error:
            yield "ttl", f'{error}, or "{NO_EXPIRY}"'
    bounds: Mapping[str, tuple[float, float]] = {
        "disk_gb": (1, 1_000_000),
        "max_price": (0, 1_000_000),
        "max_price_increase": (0, 10),
        "tries": (1, MOST_TRIES),
    }
    for name, (least, most) in bounds.items():
        value = getattr(defaults, name)
        if value is not None and not least <= value <= most:
            yield name, f"{value} is out of range: from {least:g} to {most:g}"


def _explained(path: Path, text: str, message: str) -> ConfigError:
    """The message of msgspec in the words of the file."""
    match = _EXPECTED.fullmatch(message)
    what, where = (match[1], match[2] or "") if match else (message, "")
    if unknown := _UNKNOWN.fullmatch(what):
        known: Mapping[str, Any] = {"": Config, "defaults": Defaults, "ssh": Ssh}
        from difflib import get_close_matches

        names = known[where].__struct_fields__
        near = get_close_matches(unknown[1], names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names)}"
        return _error(path, text, f"{where}.{unknown[1]}", f"there is no such setting; {hint}")
    return _error(path, text, where, what[:1].lower() + what[1:])


def _error(path: Path, text: str, where: str, why: str) -> ConfigError:
    place = where.strip(".")
    return ConfigError(f"{path}, line {_line_of(text, place)}: {place}: {why}. Nothing was done.")


def _line_of(text: str, place: str) -> int:
    """Where a setting stands: its line within its section, else the section's."""
    section, _, name = place.rpartition(".")
    spellings = {section: name, "": place}
    current, at = "", 1
    for number, line in enumerate(text.splitlines(), 1):
        plain = line.strip()
        if plain.startswith("["):
            current = plain.strip("[] ")
            at = number if current == (section or name) else at
        elif re.match(rf"{re.escape(spellings.get(current, place))}\s*=", plain):
            return number
    return at
