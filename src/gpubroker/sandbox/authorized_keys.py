"""The lines of `authorized_keys`: who comes in, and what a line's options leave him.

As OpenSSH reads them with its default settings: a line that cannot be read admits nobody, a file
that others could have written admits nobody, and `environment=` counts for nothing.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

import asyncssh
from msgspec import Struct

from gpubroker.sandbox.shell import Layout

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
Options = Mapping[str, object]


class Grant(Struct, frozen=True):
    """What a login with one key may do."""

    command: str | None = None
    """Run whatever is asked for."""
    pty: bool = True
    forwarding: bool = True
    destinations: frozenset[tuple[str, int | None]] | None = None
    """Where a forwarded connection may go; None = everywhere."""

    def may_connect(self, host: str, port: int) -> bool:
        """Whether `-L` to there is allowed by the key's line."""
        if not self.forwarding:
            return False
        wanted = self.destinations
        return wanted is None or (host, port) in wanted or (host, None) in wanted


EVERYTHING = Grant()


def admitted(lines: Iterable[str]) -> frozenset[bytes]:
    """The key material of public key lines; a line that is none admits nobody."""
    found = set()
    for line in lines:
        with contextlib.suppress(asyncssh.KeyImportError):
            found.add(asyncssh.import_public_key(line).public_data)
    return frozenset(found)


def grant_of(file: Path, key: asyncssh.SSHKey, address: str) -> Grant | None:
    """What the first line with this key says; None where no line lets it in."""
    for line in _lines(file):
        # One line at a time: one that is wrong must not cost the others.
        with contextlib.suppress(ValueError):
            options = asyncssh.import_authorized_keys(line).validate(key, address, address)
            if options is not None:
                return _grant(options)
    return None


def keep_lines(layout: Layout, old: Iterable[str], new: Iterable[str]) -> None:
    """Writes a cloud's keys into the file: `old` are those that it wrote before."""
    file = layout.authorized_keys
    file.parent.mkdir(mode=0o700, exist_ok=True)
    present = file.read_text().splitlines() if file.exists() else []
    gone, wanted = set(old) - set(new), [line.strip() for line in new]
    kept = [line for line in present if line not in gone]
    kept += [line for line in wanted if line not in kept]
    file.write_text("".join(f"{line}\n" for line in kept))
    file.chmod(0o600)


def _lines(file: Path) -> list[str]:
    try:
        if any(path.stat().st_mode & _WRITABLE_BY_OTHERS for path in (file, file.parent)):
            return []
        text = file.read_text(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip() and line.lstrip()[0] != "#"]


def _grant(options: Options) -> Grant:
    def allowed(what: str) -> bool:
        return f"no-{what}" not in options and ("restrict" not in options or what in options)

    command, opens = options.get("command"), options.get("permitopen")
    return Grant(
        command=command if isinstance(command, str) else None,
        pty=allowed("pty"),
        forwarding=allowed("port-forwarding"),
        destinations=frozenset(opens) if isinstance(opens, set) else None,
    )
