"""The real `ssh`: command lines for people, and calls with a deadline for us."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Literal

from msgspec import Struct

from gpubroker.model.entrance import FAILED, HOST_MARKER, NOT_READY
from gpubroker.model.instance import Endpoint
from gpubroker.model.machine import Machine
from gpubroker.remote.acceptance import (
    QUERY,
    GpuSeen,
    parse_disk_gb,
    parse_ended,
    parse_in_container,
    parse_nvidia_smi,
)
from gpubroker.remote.ssh_config import HOST_PREFIX, HostEntry, config_path

Problem = Literal[
    "", "unreachable", "key_refused", "host_key_changed", "timed_out", "not_ready", "no_container"
]

SSH_FAILED = 255
"""Exit code of `ssh` itself, whatever the command would have answered."""
_LOGIN_SHELL = 'exec "$SHELL" -l'
_PROBLEMS: tuple[tuple[str, Problem], ...] = (
    ("identification has changed", "host_key_changed"),
    ("host key verification failed", "host_key_changed"),
    ("permission denied", "key_refused"),
    ("too many authentication failures", "key_refused"),
)
"""What ssh prints, in lower case -> what it means."""
_ENTRANCE: dict[int, Problem] = {NOT_READY: "not_ready", FAILED: "no_container"}
"""Exit code of a login to a VM that is to run a container -> what it means."""


class Ran(Struct, frozen=True):
    """A finished command. `code` is None where the deadline ended it."""

    code: int | None
    stdout: str
    stderr: str


class Probed(Struct, frozen=True):
    """What one look at a machine found."""

    problem: Problem
    """"" where SSH answers and admits the key."""
    detail: str = ""
    gpus: tuple[GpuSeen, ...] = ()
    """() also where the machine has no nvidia-smi."""
    smi_code: int | None = None
    """Exit code of nvidia-smi; 127 where there is none, None where the shell does not tell."""
    disk_gb: float | None = None
    """Of the root file system."""
    seconds: float = 0.0
    in_container: bool | None = None
    """Whether this is the container that our recipe runs on a VM; None where it was not told."""


def ssh_command(
    machine: Machine,
    folder: Path,
    command: tuple[str, ...] = (),
    *,
    tty: bool | None = None,
    batch: bool = False,
) -> list[str]:
    """The arguments of the real ssh for a machine that `write_config` has written to `folder`.

    One word of `command` is a line for the machine's shell; several are one program and its exact
    arguments. `tty` None leaves the choice to ssh; `batch` never asks the user anything.
    Raises ValueError where the machine is not reached over SSH.
    """
    if machine.ssh is None or machine.ssh.via != "ssh":
        raise ValueError(f"{machine.name} has no SSH endpoint")
    argv = ["ssh", "-F", str(config_path(folder))]
    if tty is not None:
        argv.append("-t" if tty else "-T")
    if batch:
        argv += ["-o", "BatchMode=yes"]
    argv.append(HOST_PREFIX + machine.name)
    if command:
        # ssh goes on reading options behind the host until "--".
        argv += ["--", command[0] if len(command) == 1 else shlex.join(command)]
    return argv


def on_the_vm(command: tuple[str, ...]) -> tuple[str]:
    """The command as one line that is run by a VM itself; a login's shell where there is none."""
    line = command[0] if len(command) == 1 else shlex.join(command)
    return (f"{HOST_MARKER} {line or _LOGIN_SHELL}",)


async def run_command(argv: list[str], *, deadline_s: float, text: str | None = None) -> Ran:
    """Runs it without a terminal; at the deadline it is killed with its children.

    `text`: its standard input; None: it has none.
    """
    import asyncio
    import os
    import signal
    from contextlib import suppress

    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL if text is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    output = asyncio.ensure_future(process.communicate(None if text is None else text.encode()))
    try:
        stdout, stderr = await asyncio.wait_for(asyncio.shield(output), deadline_s)
    except TimeoutError:
        return Ran(None, "", f"no end within {deadline_s:g} s")
    finally:
        if not output.done():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await output
    return Ran(process.returncode, stdout.decode(errors="replace"), stderr.decode(errors="replace"))


async def run_on(
    machine: Machine, folder: Path, command: tuple[str, ...], *, deadline_s: float
) -> Ran:
    """Runs a command on a machine. `code` 255 means that ssh itself failed."""
    argv = ssh_command(machine, folder, command, tty=False, batch=True)
    return await run_command(argv, deadline_s=deadline_s)


async def probe(
    endpoint: Endpoint, key: Path, folder: Path, alias: str, *, deadline_s: float = 20.0
) -> Probed:
    """Whether SSH answers with this private key, and which GPUs the machine itself reports.

    The host key is pinned under `alias` in `folder` at the first answer. Raises ValueError for an
    endpoint that ssh must not be given.
    """
    import time

    argv = _reach(endpoint, key, folder, alias, deadline_s)
    began = time.monotonic()
    ran = await run_command([*argv, QUERY], deadline_s=deadline_s)
    seconds = time.monotonic() - began
    if ran.code is None:
        return Probed("timed_out", ran.stderr, seconds=seconds)
    if ran.code == SSH_FAILED:
        return Probed(_problem(ran.stderr), _last_line(ran.stderr), seconds=seconds)
    if ran.code in _ENTRANCE:
        return Probed(_ENTRANCE[ran.code], _last_line(ran.stderr), seconds=seconds)
    return Probed(
        "",
        _last_line(ran.stderr),
        parse_nvidia_smi(ran.stdout),
        parse_ended(ran.stdout),
        parse_disk_gb(ran.stdout),
        seconds,
        parse_in_container(ran.stdout),
    )


async def run_script(
    endpoint: Endpoint,
    key: Path,
    folder: Path,
    alias: str,
    script: str,
    *,
    command: str = "sh",
    deadline_s: float = 30.0,
) -> Ran:
    """Gives the script to `command` on the machine, as its input: no process list shows it.

    `code` 255 means that ssh itself failed, None that there was no end in time. Raises ValueError
    for an endpoint that ssh must not be given.
    """
    argv = _reach(endpoint, key, folder, alias, deadline_s)
    return await run_command([*argv, command], deadline_s=deadline_s, text=script)


def _reach(endpoint: Endpoint, key: Path, folder: Path, alias: str, deadline_s: float) -> list[str]:
    """The real ssh to an endpoint that no configuration names yet; the command comes behind."""
    from gpubroker.remote.files import private_folder

    entry = HostEntry(name="probe", alias=alias, endpoint=endpoint, identity=key)
    private_folder(folder)
    options = [
        *entry.options(folder),
        ("BatchMode", "yes"),
        ("ConnectTimeout", str(max(1, int(deadline_s)))),
    ]
    argv = ["ssh", "-F", "none", "-T"]
    for keyword, value in options:
        argv += ["-o", f"{keyword}={value}"]
    return [*argv, entry.host, "--"]


def _problem(stderr: str) -> Problem:
    text = stderr.lower()
    for words, problem in _PROBLEMS:
        if words in text:
            return problem
    return "unreachable"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip()[:300] if lines else ""
