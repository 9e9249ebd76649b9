"""Host keys pinned per machine, under the attempt's name: addresses are reused, names are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gpubroker.remote.files import private_folder, replace_file
from gpubroker.remote.keys import check_public_key


def pinned(folder: Path, alias: str) -> tuple[str, ...]:
    """Host keys ("kind blob") that are pinned for this machine."""
    return tuple(
        " ".join(line.split()[1:3]) for line in _lines(_file(folder)) if _is_of(line, alias)
    )


def pin_host(folder: Path, alias: str, host_key: str) -> None:
    """Pins the key that the provider itself told; ssh then admits no other."""
    kind, blob = check_public_key(host_key).split()[:2]
    line = f"{alias} {kind} {blob}"
    _rewrite(folder, lambda lines: lines if line in lines else [*lines, line])


def forget_host(folder: Path, alias: str) -> None:
    """Removes what is pinned for a machine that has ended."""
    if pinned(folder, alias):
        _rewrite(folder, lambda lines: [line for line in lines if not _is_of(line, alias)])


def _file(folder: Path) -> Path:
    return folder / "known_hosts"


def _lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines() if path.exists() else []


def _is_of(line: str, alias: str) -> bool:
    words = line.split()
    return len(words) > 2 and alias in words[0].split(",")  # noqa: PLR2004 - alias, kind, blob


def _rewrite(folder: Path, change: Callable[[list[str]], list[str]]) -> None:
    from filelock import FileLock

    path = _file(private_folder(folder))
    with FileLock(folder / "known_hosts.lock", timeout=30):
        while True:
            before = _size(path)
            lines = change(_lines(path))
            # ssh appends without our lock: what it added meanwhile is read again, not lost.
            if _size(path) == before:
                replace_file(path, "".join(f"{line}\n" for line in lines).encode())
                return


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
