"""The keeper as a service of the user's own session: systemd, launchd, Task Scheduler.

Everything here is data: what is written where, and which commands make it so. No file holds a
secret: keys come from where every command finds them, or from a file of the user's that only the
user can read.
"""

from __future__ import annotations

import plistlib
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

NAME = "gpubroker-keeper"
LABEL = "dev.gpubroker.keeper"


class Service(Struct, frozen=True, kw_only=True):
    """How the keeper is made to run in the background on one system."""

    kind: str
    file: Path | None
    """What is written, None where the system keeps it by itself."""
    text: str
    on: tuple[tuple[str, ...], ...]
    """Commands that start it now and at each login, in order; safe to run again."""
    off: tuple[tuple[str, ...], ...]
    state: tuple[str, ...]
    """Ends with 0 where it is there and runs."""
    hint: str = ""
    """What a person may want to do beside it."""


def command(python: str, home: Path, env_file: Path | None, *, once: bool = False) -> list[str]:
    """What the service runs."""
    words = [python, "-m", "gpubroker", "keeper", "run", "--home", str(home)]
    if env_file is not None:
        words += ["--env-file", str(env_file)]
    return [*words, "--once"] if once else words


def service(
    platform: str,
    *,
    python: str,
    home: Path,
    environ: Mapping[str, str],
    uid: int,
    env_file: Path | None = None,
) -> Service:
    """For `sys.platform`. Raises ValueError on a system that is not known."""
    if platform.startswith("linux"):
        return _systemd(command(python, home, env_file), environ)
    if platform == "darwin":
        return _launchd(command(python, home, env_file), environ, home, uid)
    if platform == "win32":
        return _task(command(_without_window(python), home, env_file, once=True))
    raise ValueError(
        f"no background service is known for {platform}: let its scheduler run "
        "gpubroker keeper run --once each minute"
    )


def _systemd(words: list[str], environ: Mapping[str, str]) -> Service:
    unit = f"{NAME}.service"
    configured = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "~")) / ".config")
    text = f"""\
[Unit]
Description=gpubroker keeper: ends rented machines in time, and warns before

[Service]
ExecStart={" ".join(_systemd_word(word) for word in words)}
Restart=always
RestartSec=30
KillMode=mixed
TimeoutStopSec=30
Nice=10
UMask=0077
NoNewPrivileges=yes

[Install]
WantedBy=default.target
"""
    user = ("systemctl", "--user")
    return Service(
        kind="systemd",
        file=Path(configured) / "systemd/user" / unit,
        text=text,
        on=((*user, "daemon-reload"), (*user, "enable", unit), (*user, "restart", unit)),
        off=((*user, "disable", "--now", unit),),
        state=(*user, "is-active", "--quiet", unit),
        hint="It runs while you are logged in. To keep it running after: loginctl enable-linger",
    )


def _systemd_word(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def _launchd(words: list[str], environ: Mapping[str, str], home: Path, uid: int) -> Service:
    file = Path(environ.get("HOME", "~")) / "Library/LaunchAgents" / f"{LABEL}.plist"
    log = str(home / "keeper.log")
    plist = {
        "Label": LABEL,
        "ProgramArguments": words,
        "RunAtLoad": True,
        "KeepAlive": True,
        "ThrottleInterval": 30,
        "ProcessType": "Background",
        "LowPriorityIO": True,
        "Umask": 0o077,
        "StandardOutPath": log,
        "StandardErrorPath": log,
    }
    domain = f"gui/{uid}"
    return Service(
        kind="launchd",
        file=file,
        text=plistlib.dumps(plist).decode(),
        on=(
            ("launchctl", "enable", f"{domain}/{LABEL}"),
            ("launchctl", "bootstrap", domain, str(file)),
        ),
        off=(("launchctl", "bootout", f"{domain}/{LABEL}"),),
        state=("launchctl", "print", f"{domain}/{LABEL}"),
    )


def _task(words: list[str]) -> Service:
    run = " ".join(f'"{word}"' if " " in word else word for word in words)
    return Service(
        kind="Task Scheduler",
        file=None,
        text=run,
        # One that is stopped with its session goes on from the store at the next minute.
        on=(("schtasks", "/Create", "/F", "/SC", "MINUTE", "/MO", "1", "/TN", NAME, "/TR", run),),
        off=(("schtasks", "/Delete", "/F", "/TN", NAME),),
        state=("schtasks", "/Query", "/TN", NAME),
    )


def _without_window(python: str) -> str:
    """The interpreter that opens no console each minute."""
    return python[: -len("python.exe")] + "pythonw.exe" if python.endswith("python.exe") else python
