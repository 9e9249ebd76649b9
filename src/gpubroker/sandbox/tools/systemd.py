"""systemctl, systemd-run and cloud-init of a machine, as far as scripts of a first boot need them.

A transient unit is a process of the machine; `units/<name>.pid` in the machine's folder leads to
it. A timer waits in sandbox time, and is gone after a reboot, as a transient one is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

from . import power
from .facts import alive, become, refuse, say
from .waiting import seconds_of, start_later, wait

_POWER = ("reboot", "kexec", "poweroff", "halt")
_ALWAYS = {
    "ssh",
    "sshd",
    "cron",
    "cloud-init",
    "systemd-journald",
    "multi-user.target",
    "default.target",
}
_QUIET = {
    "start", "stop", "restart", "reload", "enable", "disable", "mask", "unmask", "daemon-reload",
    "reset-failed", "daemon-reexec", "try-restart", "set-default", "kill",
}  # fmt: skip
_NOT_RUNNING, _NO_SUCH_UNIT = 3, 4
_RUN_FLAGS = {
    "-q", "--quiet", "-G", "--collect", "--no-block", "-r", "--remain-after-exit", "--user",
    "--system", "--scope", "--no-ask-password", "-P", "--pipe", "-t", "--pty",
}  # fmt: skip
_RUN_VALUES = {
    "-u": "--unit", "-p": "--property", "-E": "--setenv", "--unit": "--unit", "-d": "-d",
    "--description": "", "--property": "", "--setenv": "--setenv", "--slice": "", "--uid": "",
    "--gid": "", "--nice": "", "--working-directory": "", "--service-type": "",
    "--timer-property": "", "--on-active": "--on-active", "--on-boot": "--on-active",
    "--on-startup": "--on-active",
}  # fmt: skip


def _units() -> Path:
    folder = Path(os.environ["GPUBROKER_ROOT"]) / "units"
    folder.mkdir(exist_ok=True)
    return folder


def _pid(unit: str) -> int | None:
    """The process of a transient unit that still is."""
    name = unit.removesuffix(".service").removesuffix(".timer")
    with contextlib.suppress(OSError, ValueError):
        pid = int((_units() / f"{name}.pid").read_text())
        return pid if alive(pid) else None
    return None


def _has_docker() -> bool:
    return (Path(os.environ["GPUBROKER_ROOT"]) / "docker").is_dir()


def _active(unit: str) -> bool:
    name = unit.removesuffix(".service").removesuffix(".socket")
    if name in ("docker", "containerd"):
        return _has_docker()
    return name in _ALWAYS or _pid(unit) is not None


def systemctl(words: list[str]) -> int:
    """`systemctl VERB UNIT…`; the exit code."""
    plain = [word for word in words if not word.startswith("-")]
    quiet = bool({"-q", "--quiet"} & set(words))
    verb, units = (plain[0] if plain else "status"), plain[1:]
    if verb in _POWER:
        return power.main([verb])
    if verb in ("is-active", "is-enabled", "status", "is-system-running"):
        states = [_active(unit) for unit in units]
        yes, no = ("enabled", "disabled") if verb == "is-enabled" else ("active", "inactive")
        if not quiet:
            say(*[yes if state else no for state in states] or ["running"])
        return 0 if any(states) or not units else _NOT_RUNNING
    if verb not in _QUIET:
        return refuse(f"Unknown command verb '{verb}'.", 1)
    for unit in units:
        pid = _pid(unit)
        if verb in ("stop", "kill") and pid is not None:
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGTERM)
        elif not _active(unit) and verb in ("start", "restart", "enable"):
            return refuse(f"Failed to {verb} {unit}: Unit {unit} not found.", _NO_SUCH_UNIT + 1)
    return 0


def run(words: list[str]) -> int:
    """`systemd-run [--on-active=TIME] COMMAND…`; the exit code."""
    options: dict[str, str] = {}
    environment = dict(os.environ)
    rest = list(words)
    while rest and rest[0].startswith("-"):
        name, sign, value = rest.pop(0).partition("=")
        if name in _RUN_FLAGS or name == "--":
            options[name] = ""
            continue
        if name not in _RUN_VALUES:
            return refuse(f"systemd-run: unrecognized option '{name}'", 1)
        value = value if sign else rest.pop(0) if rest else ""
        if _RUN_VALUES[name] == "--setenv":
            key, _, text = value.partition("=")
            environment[key] = text
        options[_RUN_VALUES[name] or name] = value
    if not rest:
        return refuse("systemd-run: Command line to execute required.", 1)
    try:
        wait_s = seconds_of(options.get("--on-active", "0"))
    except ValueError:
        return refuse(f"Failed to parse timer value: {options['--on-active']}", 1)
    unit = options.get("--unit", f"run-{os.getpid()}").removesuffix(".service")
    unit = unit.removesuffix(".timer")
    if _pid(unit) is not None:
        return refuse(
            f"Failed to start transient timer unit: Unit {unit}.timer was already loaded "
            "or has a fragment file.", 1
        )  # fmt: skip
    os.environ.update(environment)
    if {"--scope", "-P", "--pipe", "-t", "--pty"} & options.keys() and not wait_s:
        become(rest)
    (_units() / f"{unit}.pid").write_text(str(start_later(wait_s, rest)))
    if not {"-q", "--quiet"} & options.keys():
        kind = "timer" if wait_s else "service"
        sys.stderr.write(f"Running {kind} as unit: {unit}.{kind}\n")
    return 0


def cloud_init(words: list[str]) -> int:
    """`cloud-init status [--wait]`; the exit code."""
    finished = Path(os.environ["GPUBROKER_ROOT"]) / "var/lib/cloud/instance/boot-finished"
    if words[:1] != ["status"]:
        return refuse("cloud-init: the sandbox knows status", 2)
    while "--wait" in words and not finished.exists():
        wait(1.0)
    return say(f"status: {'done' if finished.exists() else 'running'}")


def main(argv: list[str]) -> int:
    """`NAME ARGUMENTS…`, NAME being the command it is called as; the exit code."""
    name, *arguments = argv
    if name == "no-systemctl":
        # In a container there is no init system; only its own power switch works.
        if [word for word in arguments if word in _POWER]:
            return systemctl(arguments)
        return refuse("System has not been booted with systemd as init system.", 1)
    return {"systemctl": systemctl, "systemd-run": run, "cloud-init": cloud_init}[name](arguments)
