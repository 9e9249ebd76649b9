"""Real commands of a machine: its folder, its environment, its processes and their end.

A machine is a folder and the processes that carry that folder in their environment. It is a
convenience, not a security border: commands run as the user who started the sandbox.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shlex
import shutil
import signal
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from gpubroker.sandbox.filesystem import ROOT_VARIABLE as MARKER
from gpubroker.sandbox.host import MachineSpec

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_FILE_SIZE_LIMIT = 64 << 30
_PROCESS_HEADROOM = 2048
_PROC = Path("/proc")
_PROC_LISTS = (_PROC / "self/environ").exists()
_LISTENING = "0A"

_LAUNCH = """\
ulimit -c 0
ulimit -f "$1" 2>/dev/null
ulimit -u "$2" 2>/dev/null || ulimit -p "$2" 2>/dev/null
if [ -n "$3" ]; then exec <"$3" >"$3" 2>&1; fi
shift 3
exec "$@"
"""
"""Limits are set in the child by a shell: nothing of ours runs between fork and exec. The leader
of a session that opens a terminal has it as its controlling terminal from then on."""


class Layout(Struct, frozen=True):
    """The folders of a machine."""

    root: Path
    user: str

    @property
    def home(self) -> Path:
        """The login user's home."""
        return self.root / "root" if self.user == "root" else self.root / "home" / self.user

    @property
    def tools(self) -> Path:
        """The vendor's command-line tools, first on PATH."""
        return self.root / "bin"

    @property
    def logs(self) -> Path:
        """`startup.log`, `container.log`, `cloud-init-output.log`: the machine's /var/log."""
        return self.root / "logs"

    @property
    def etc(self) -> Path:
        """Stands for the machine's /etc: `environment`, and the facts that the tools report."""
        return self.root / "etc"

    @property
    def temporary(self) -> Path:
        """TMPDIR."""
        return self.root / "tmp"

    def make(self) -> None:
        """Makes what is missing, private to this user."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)
        for folder in (self.home, self.tools, self.logs, self.etc, self.temporary):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def authorized_keys(self) -> Path:
        """The login user's."""
        return self.home / ".ssh" / "authorized_keys"


def layout_of(spec: MachineSpec) -> Layout:
    """Where the machine's things are; the path is absolute and without links."""
    return Layout(spec.folder.resolve(), spec.user)


def login_shell() -> str:
    """Bash where there is one, as on the vendors' images, else sh."""
    return shutil.which("bash", path=SYSTEM_PATH) or "/bin/sh"


def interactive_shell(spec: MachineSpec) -> list[str]:
    """The shell of a login with a terminal; its prompt names the machine, not this computer."""
    shell = login_shell()
    if not shell.endswith("bash"):
        return [shell, "-i"]
    prompt = rf"{spec.user}@{spec.hostname}:\w\$ "
    file = layout_of(spec).etc / "bashrc"
    file.write_text(f"PS1={shlex.quote(prompt)}\nif [ -f ~/.bashrc ]; then . ~/.bashrc; fi\n")
    return [shell, "--rcfile", str(file), "-i"]


def environment(
    spec: MachineSpec, *, of_login: bool, terminal: str = "", as_root: bool = False
) -> dict[str, str]:
    """The whole environment of a process of the machine, built from nothing.

    `of_login`: an SSH session, which sees the machine's variables only where the vendor shows
    them there, and those of the machine's etc/environment. A container's process sees them all.
    `as_root`: of the machine's own services, whoever logs in.
    """
    layout = layout_of(spec)
    user = "root" if as_root else spec.user
    shown = {} if of_login and not spec.env_in_ssh else dict(spec.env)
    if of_login:
        shown |= _lines_of(layout.etc / "environment")
    path = shown.get("PATH", SYSTEM_PATH)
    tools = str(layout.tools)
    own_path = f"{tools}:{layout.root}/usr/local/bin:{layout.root}/usr/local/sbin"
    return (
        {"LANG": "C.UTF-8", "TERM": terminal or "dumb"}
        | {name: value for name, value in shown.items() if _can_be_set(name, value)}
        | {
            "HOME": str(layout.root / "root" if as_root else layout.home),
            "HOSTNAME": spec.hostname,
            "LOGNAME": user,
            "PATH": path if path.split(":")[0] == tools else f"{own_path}:{path}",
            "SHELL": login_shell(),
            "TMPDIR": str(layout.temporary),
            "USER": user,
            "GPUBROKER_MACHINE": f"{spec.provider}/{spec.id}",
            MARKER: str(layout.root),
        }
    )


def _can_be_set(name: str, value: str) -> bool:
    return bool(name) and "=" not in name and "\0" not in name + value


def _lines_of(file: Path) -> dict[str, str]:
    """`K=V` lines as pam_env reads them: one pair a line, quotes around a value dropped."""
    try:
        text = file.read_text(errors="replace")
    except OSError:
        return {}
    pairs = (line.strip().removeprefix("export ").partition("=") for line in text.splitlines())
    return {
        name: value[1:-1]
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
        else value
        for name, sign, value in pairs
        if sign and name.isidentifier()
    }


async def spawn(
    spec: MachineSpec,
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    streams: int | None = asyncio.subprocess.PIPE,
    terminal: str = "",
) -> asyncio.subprocess.Process:
    """Runs `argv` in the machine's home, in a session of its own, under limits.

    `streams` is what stdin, stdout and stderr are (a pipe each, or one open file for output);
    with `terminal`, the path of a pseudo-terminal, they are that.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = _FILE_SIZE_LIMIT if hard == resource.RLIM_INFINITY else min(hard, _FILE_SIZE_LIMIT)
    limits = (str(size // 512), str(_process_limit()), terminal)
    piped = streams == asyncio.subprocess.PIPE
    nothing = asyncio.subprocess.DEVNULL
    return await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        _LAUNCH,
        "sh",
        *limits,
        *argv,
        stdin=streams if piped and not terminal else nothing,
        stdout=nothing if terminal else streams,
        stderr=nothing if terminal else (streams if piped else asyncio.subprocess.STDOUT),
        cwd=layout_of(spec).home,
        env=env,
        start_new_session=True,
    )


def _process_limit() -> int:
    """The limit counts all of a user's processes and threads, so it stands above what runs now."""
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    uid, running = os.getuid(), 0
    for entry in _numbered(_PROC):
        with contextlib.suppress(OSError):
            if entry.stat().st_uid == uid:
                running += len(_numbered(entry / "task"))
    wanted = running + _PROCESS_HEADROOM
    return wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)


def _numbered(folder: Path) -> list[Path]:
    try:
        return [entry for entry in folder.iterdir() if entry.name.isdecimal()]
    except OSError:
        return []


def members(root: Path) -> set[int]:
    """Process ids of the machine with this folder: those that carry it, and their descendants.

    Read from /proc: empty on a system without one.
    """
    mark = f"{MARKER}={root}".encode()
    parents: dict[int, int] = {}
    found: set[int] = set()
    for entry in _numbered(_PROC):
        with contextlib.suppress(OSError, ValueError):
            pid, state = int(entry.name), (entry / "stat").read_bytes().rpartition(b")")[2].split()
            if state[0] in b"ZX":
                continue
            parents[pid] = int(state[1])
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.add(pid)
    found.discard(os.getpid())
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _targets(root: Path, started: Collection[asyncio.subprocess.Process]) -> set[int]:
    """What kill(2) is told: process ids, or, where they cannot be listed, groups (negative)."""
    if _PROC_LISTS:
        return members(root)
    return {-process.pid for process in started if process.returncode is None}


async def end_all(
    root: Path,
    started: Collection[asyncio.subprocess.Process] = (),
    *,
    grace_s: float = 1.0,
) -> None:
    """Ends every process of the machine: asked first, killed after `grace_s`.

    `started` are its session leaders: without /proc only their groups can be ended. A process
    that cleared its environment, left its session and lost its parents is not found.
    """
    for signals, wait_s in (
        ((signal.SIGHUP, signal.SIGTERM, signal.SIGCONT), grace_s),
        ((signal.SIGKILL,), 2.0),
    ):
        deadline = time.monotonic() + wait_s
        living = _targets(root, started)
        for target in living:
            for sign in signals:
                with contextlib.suppress(OSError):
                    os.kill(target, sign)
        while living and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
            living = _targets(root, started)
        if not living:
            return


def listening_ports(root: Path) -> set[int] | None:
    """TCP ports on which processes of this machine listen; None where it cannot be known."""
    if not _PROC_LISTS:
        return None
    sockets = set()
    for pid in members(root):
        with contextlib.suppress(OSError):
            for descriptor in (_PROC / str(pid) / "fd").iterdir():
                with contextlib.suppress(OSError):
                    sockets.add(str(descriptor.readlink()))
    ports = set()
    for table in (_PROC / "self/net/tcp", _PROC / "self/net/tcp6"):
        with contextlib.suppress(OSError):
            for row in table.read_text("ascii").splitlines()[1:]:
                columns = row.split()
                if columns[3] == _LISTENING and f"socket:[{columns[9]}]" in sockets:
                    ports.add(int(columns[1].rpartition(":")[2], 16))
    return ports
