"""Values of launch flags: durations, environment, ports, keys. Bad ones say what was expected."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path

import click

from gpubroker.credentials.dotenv import NAME, lines
from gpubroker.model.durations import duration

HIGHEST_PORT = 65535
_PORT = re.compile(r"(\d{1,5})(?:/(tcp|udp))?", re.IGNORECASE)


def duration_flag(text: str, flag: str) -> timedelta:
    """A duration, or a usage error that names the flag."""
    try:
        return duration(text)
    except ValueError as error:
        raise click.UsageError(f"{flag}: {error}") from None


def environment(pairs: Iterable[str], files: Iterable[Path]) -> dict[str, str]:
    """Files first, in order; `--env` has the last word."""
    found: dict[str, str] = {}
    for file in files:
        found.update(parse_env_file(file))
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not NAME.fullmatch(name):
            # The value may be a secret: only what stands before "=" is repeated.
            shown = name if equals else "a word without ="
            raise click.UsageError(f"--env {shown}: expected NAME=VALUE")
        found[name] = value
    return found


def parse_env_file(file: Path) -> dict[str, str]:
    """NAME=VALUE lines; # comments, `export`, 'literal' and "escaped" values.

    Usage errors name file and line, never a value.
    """
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{file}: not readable as text ({type(error).__name__})") from None
    return dict(_assignments(file, text))


def _assignments(file: Path, text: str) -> Iterator[tuple[str, str]]:
    for line in lines(text):
        if line.fault:
            raise click.UsageError(f"{file}:{line.number}: {line.fault}")
        yield line.name, line.value


def port(text: str) -> tuple[int, str]:
    """(8888, "tcp") of "8888" and "8888/tcp"."""
    match = _PORT.fullmatch(text.strip())
    if not match or not 1 <= int(match[1]) <= HIGHEST_PORT:
        raise click.UsageError(f'--port "{text}": expected 8888/tcp, from 1 to {HIGHEST_PORT}')
    return int(match[1]), (match[2] or "tcp").lower()


def tag(text: str) -> tuple[str, str]:
    """("team", "vision") of "team=vision"."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise click.UsageError(f'--tag "{text}": expected KEY=VALUE')
    return key.strip(), value.strip()


def public_key(text: str) -> str:
    """The line of a public key, given itself or as its file."""
    from gpubroker.remote.keys import check_public_key

    line, where = text, ""
    if " " not in text.strip():
        try:
            line, where = Path(text).expanduser().read_text(errors="replace").strip(), f" {text}"
        except OSError as error:
            raise click.UsageError(
                f"--ssh-key {text}: no such key file ({error.strerror})"
            ) from None
    try:
        return check_public_key(line)
    except ValueError as error:
        raise click.UsageError(f"--ssh-key{where}: {error}") from None
