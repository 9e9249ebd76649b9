"""The real `ssh`: command lines for people, and calls with a deadline for us."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Literal

from msgspec import Struct

from gpubroker.model.instance import Endpoint
from gpubroker.model.machine import Machine
from gpubroker.remote.acceptance import QUERY, GpuSeen, parse_nvidia_smi
from gpubroker.remote.ssh_config import HOST_PREFIX, HostEntry, config_path

Problem = Literal["", "unreachable", "key_refused", "host_key_changed", "timed_out"]

SSH_FAILED = 255
"""Exit code of `ssh` itself, whatever the command would have answered."""
_PROBLEMS: tuple[tuple[str, Problem], ...] = (
    ("identification has changed", "host_key_changed"),
    ("host key verification failed", "host_key_changed"),
    ("permission denied", "key_refused"),
    ("too many authentication failures", "key_refused"),
)
"""What ssh prints, in lower case -> what it means."""


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
    seconds: float = 0.0


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


async def run_command(argv: list[str], *, deadline_s: float) -> Ran:
    """Runs it without a terminal or input; at the deadline it is killed with its children."""
    import asyncio
    import os
    import signal
    from contextlib import suppress

    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    output = asyncio.ensure_future(process.communicate())
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
    began = time.monotonic()
    ran = await run_command([*argv, entry.host, "--", QUERY], deadline_s=deadline_s)
    seconds = time.monotonic() - began
    if ran.code is None:
        return Probed("timed_out", ran.stderr, seconds=seconds)
    if ran.code == SSH_FAILED:
        return Probed(_problem(ran.stderr), _last_line(ran.stderr), seconds=seconds)
    return Probed("", _last_line(ran.stderr), parse_nvidia_smi(ran.stdout), seconds)


def _problem(stderr: str) -> Problem:
    text = stderr.lower()
    for words, problem in _PROBLEMS:
        if words in text:
            return problem
    return "unreachable"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip()[:300] if lines else ""
