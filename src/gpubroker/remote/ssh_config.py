"""The ssh configuration of our machines, so that plain `ssh gb-NAME`, scp and rsync work too."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from gpubroker.model.instance import Endpoint
from gpubroker.remote.files import private_folder, replace_file

HOST_PREFIX = "gb-"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252})")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,127}")
_JUMP = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._+-]*@)?[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]{1,5})?")
_HIGHEST_PORT = 65535
_UNSAFE_IN_PATH = re.compile(r'["\x00-\x1f\x7f]|\$\{')


class HostEntry(Struct, frozen=True, kw_only=True):
    """One machine in the configuration.

    Host, user and port come from providers and end up in a file that ssh obeys: anything but the
    plain form of each raises ValueError here, so that one odd machine does not cost the others
    their entries.
    """

    name: str
    """The user's name of the machine: reached as `ssh gb-NAME`."""
    alias: str
    """Under which the host key is pinned: the attempt's name, never reused for another machine."""
    endpoint: Endpoint
    identity: Path | None
    """The broker's private key; None for an adopted machine, which admits the user's keys only."""

    def __post_init__(self) -> None:
        if self.endpoint.via != "ssh":
            raise ValueError(f"{self.name!r} is not reached over SSH")
        _check("machine name", _NAME, self.name)
        _check("host key alias", _NAME, self.alias)
        _check("user", _USER, self.endpoint.user)
        if not _is_ipv6(self.endpoint.host):
            _check("host", _HOST, self.endpoint.host)
        if not 0 < self.endpoint.port <= _HIGHEST_PORT:
            raise ValueError(f"port of an SSH endpoint refused: {self.endpoint.port}")
        if self.endpoint.proxy is not None:
            _check("jump host", _JUMP, self.endpoint.proxy)

    @property
    def host(self) -> str:
        """What stands behind `ssh`."""
        return HOST_PREFIX + self.name

    def options(self, folder: Path) -> tuple[tuple[str, str], ...]:
        """(keyword, value) as ssh_config(5) takes them."""
        known_hosts = _quoted_path(folder / "known_hosts")
        options = [
            ("HostName", self.endpoint.host),
            ("Port", str(self.endpoint.port)),
            ("User", self.endpoint.user),
            ("HostKeyAlias", self.alias),
            ("UserKnownHostsFile", known_hosts),
            *_FIXED,
        ]
        if self.identity is not None:
            # Without IdentitiesOnly every key of the agent is offered first, and servers hang up
            # after six: the one key that is surely admitted would never be tried.
            options += [("IdentityFile", _quoted_path(self.identity)), ("IdentitiesOnly", "yes")]
        if self.endpoint.proxy is not None:
            options.append(("ProxyJump", self.endpoint.proxy))
        return tuple(options)


_FIXED = (
    ("StrictHostKeyChecking", "accept-new"),
    ("CheckHostIP", "no"),
    # Hashed names could not be forgotten again; some systems hash by default.
    ("HashKnownHosts", "no"),
    ("UpdateHostKeys", "no"),
    # A rented machine is somebody else's: it gets no use of the user's agent or display.
    ("ForwardAgent", "no"),
    ("ForwardX11", "no"),
    ("ServerAliveInterval", "15"),
    ("ServerAliveCountMax", "4"),
    ("LogLevel", "ERROR"),
)


def _check(what: str, pattern: re.Pattern[str], text: str) -> None:
    if not pattern.fullmatch(text):
        raise ValueError(f"{what} of an SSH endpoint refused: {text[:80]!r}")


def _is_ipv6(text: str) -> bool:
    try:
        return "%" not in text and ipaddress.ip_address(text).version == 6  # noqa: PLR2004 - IPv6
    except ValueError:
        return False


def _quoted_path(path: Path) -> str:
    text = str(path)
    if _UNSAFE_IN_PATH.search(text):
        raise ValueError(f"ssh cannot be given this path: {text!r}")
    escaped = text.replace("%", "%%")
    return f'"{escaped}"'


def config_path(folder: Path) -> Path:
    """The file to include, or to pass with -F."""
    return folder / "config"


def write_config(folder: Path, entries: Iterable[HostEntry]) -> Path:
    """Writes all entries, replacing the former ones at once; returns the file's path."""
    lines = ["# Written by gpubroker; changes here are lost."]
    for entry in sorted(entries, key=lambda entry: entry.name):
        lines += ["", f"Host {entry.host}"]
        lines += [f"    {keyword} {value}" for keyword, value in entry.options(folder)]
    path = config_path(private_folder(folder))
    replace_file(path, ("\n".join(lines) + "\n").encode())
    return path


def write_index(folder: Path, config: Path) -> Path:
    """The one file that the user's configuration includes: it includes that of each realm.

    Live before sandboxes: where two machines have one name, the live one is meant.
    """
    from filelock import FileLock

    path = config_path(private_folder(folder))
    line = f"Include {_quoted_path(config)}"
    if path.exists() and line in path.read_text().splitlines():
        return path
    with FileLock(folder / "index.lock", timeout=30):
        known = path.read_text().splitlines() if path.exists() else []
        lines = sorted({line, *(one for one in known if one.startswith("Include "))})
        replace_file(path, ("\n".join(lines) + "\n").encode())
    return path


def include_in_user_config(user_ssh_dir: Path, ours: Path) -> bool:
    """Puts one `Include` of `ours` at the top of the user's configuration; False if it was there.

    At the top, since there it is outside of every Host block. Keeps mode, owner and every byte of
    the rest; a linked configuration is changed where it lies. Raises OSError where it cannot be
    written (a configuration managed by another tool).
    """
    from filelock import FileLock

    if re.search(r"[*?\[\]\\]", str(ours)):
        raise ValueError(f"ssh would read this path as a pattern: {str(ours)!r}")
    # Include takes no % tokens: the path is quoted, not escaped.
    if _UNSAFE_IN_PATH.search(str(ours)):
        raise ValueError(f"ssh cannot be given this path: {str(ours)!r}")
    line = f'Include "{ours}"'.encode()
    private_folder(user_ssh_dir)
    with FileLock(private_folder(ours.parent) / "include.lock", timeout=30):
        target = (user_ssh_dir / "config").resolve()
        exists = target.exists()
        former = target.read_bytes() if exists else b""
        if any(have.strip() == line for have in former.splitlines()):
            return False
        replace_file(target, line + b"\n" + former, like=target.stat() if exists else None)
    return True
