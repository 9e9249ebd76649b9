"""The background sandbox from the outside: find it, start it, replace it, stop it.

One process per GPUBROKER_HOME, recorded in `process.json` (0600). The record is believed only
where the process lives, started when the record says, and proves by a keyed hash of our nonce
that it holds the token; the token itself is never sent to whoever listens on that port.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gpubroker.model.errors import Unavailable
from gpubroker.model.home import Home

LOOPBACK = "127.0.0.1"
STATUS_PATH = "/_sandbox/status"
PROXY_PATH = "/_sandbox/proxy"
CHALLENGE = "x-sandbox-challenge"
PROOF = "x-sandbox-proof"

_INHERITED = (
    *("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "PYTHONPATH", "TMPDIR", "TZ"),
    "USER",
)
"""All that the process gets of our environment: no provider's key can be in it."""
_LONGEST_LOG = 1 << 20
_LONGEST_ANSWER = 1 << 20
_PROBE_S = 2.0
_END_S = 10.0
_LAST_LINES = 5


class Record(Struct, frozen=True, kw_only=True):
    """What the process wrote about itself when it was ready."""

    pid: int
    start_time: str
    port: int
    version: str
    token: str

    def __repr__(self) -> str:
        return f"Record(pid={self.pid}, port={self.port}, version={self.version!r})"


class Running(Struct, frozen=True, kw_only=True):
    """A background sandbox that has proved to be ours."""

    base_url: str
    id: str
    pid: int
    port: int
    version: str
    token: str
    started: bool = False
    """Whether this very call started it."""

    def __repr__(self) -> str:
        return f"Running(base_url={self.base_url!r}, id={self.id!r}, pid={self.pid})"


class SandboxFailed(Unavailable):
    """The background sandbox did not start or did not end."""


def package_version() -> str:
    """The version whose process we accept."""
    from gpubroker import __version__

    return __version__


def record_file(home: Home) -> Path:
    """Where the process is recorded."""
    return home.sandbox / "process.json"


def state_folder(home: Home) -> Path:
    """The clouds' state."""
    return home.sandbox / "cloud"


def log_file(home: Home) -> Path:
    """What the process printed."""
    return home.sandbox / "sandbox.log"


def proof(token: str, nonce: str, port: int) -> str:
    """Shows that its maker holds the token; good for one nonce and one port."""
    import hashlib
    import hmac

    return hmac.new(token.encode(), f"{nonce}:{port}".encode(), hashlib.sha256).hexdigest()


def start_time(pid: int) -> str | None:
    """When the process began, in a form to compare; None where none with this id lives."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None if Path("/proc/self/stat").exists() else _listed_start(pid)
    return None if fields[0] in "ZX" else fields[19]


def _listed_start(pid: int) -> str | None:
    import subprocess

    asked = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    listed = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    return " ".join(listed[1:]) if listed and not listed[0].startswith("Z") else None


def write_record(file: Path, record: Record) -> None:
    """Replaces the record in one step; readable by this user only."""
    fresh = file.with_suffix(".new")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as output:
        output.write(msgspec.json.encode(record))
    fresh.replace(file)


def read_record(file: Path) -> Record | None:
    """The record; None where there is none or it is not ours to believe."""
    try:
        if file.stat().st_uid != os.geteuid():
            return None
        return msgspec.json.decode(file.read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):
        return None


def _lives(record: Record) -> bool:
    return start_time(record.pid) == record.start_time


def request(port: int, method: str, path: str, **headers: str) -> tuple[dict[str, str], Any] | None:
    """One small request over a bare socket: (headers, JSON body) of a 200, else None."""
    import json
    import socket

    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = [f"{method} {path} HTTP/1.1", f"host: {LOOPBACK}:{port}", "connection: close"]
    try:
        with socket.create_connection((LOOPBACK, port), timeout=_PROBE_S) as connection:
            sent = "\r\n".join([*head, "content-length: 0", *lines, "", ""])
            connection.sendall(sent.encode())
            answer = b""
            while len(answer) < _LONGEST_ANSWER and (more := connection.recv(65536)):
                answer += more
        top, _, body = answer.partition(b"\r\n\r\n")
        status, *rest = top.decode("latin-1").split("\r\n")
        if not re.match(r"HTTP/1\.1 200\b", status):
            return None
        pairs = (line.partition(":") for line in rest)
        return {name.strip().lower(): value.strip() for name, _, value in pairs}, json.loads(body)
    except (OSError, ValueError):
        return None


def _probe(record: Record) -> Running | None:
    import hmac

    nonce = os.urandom(16).hex()
    answer = request(record.port, "GET", STATUS_PATH, **{CHALLENGE: nonce})
    if answer is None:
        return None
    headers, body = answer
    expected = proof(record.token, nonce, record.port)
    if not hmac.compare_digest(headers.get(PROOF, ""), expected):
        return None
    return Running(
        base_url=f"http://{LOOPBACK}:{record.port}",
        id=str(body["id"]),
        pid=record.pid,
        port=record.port,
        version=record.version,
        token=record.token,
    )


def status(home: Home) -> Running | None:
    """The background sandbox of this home, of whatever version; None where none answers."""
    record = read_record(record_file(home))
    return _probe(record) if record is not None and _lives(record) else None


def ensure(home: Home, *, timeout_s: float = 20.0) -> Running:
    """The background sandbox of this version, started where it is not running.

    Raises SandboxFailed. Of two calls at once one starts it and both get the same.
    """
    if (running := _current(home)) is not None:
        return running
    with _lock(home):
        if (running := _current(home)) is not None:
            return running
        former = read_record(record_file(home))
        if former is not None:
            _end(former)
        _start(home, former.port if former else 0, timeout_s)
        running = status(home)
    if running is None:
        raise SandboxFailed(f"The sandbox started and does not answer; see {log_file(home)}.")
    return msgspec.structs.replace(running, started=True)


def stop(home: Home) -> bool:
    """Ends it and its machines' processes; whether one was running. Its state is kept."""
    with _lock(home):
        former = read_record(record_file(home))
        return former is not None and _end(former)


def open_proxy(running: Running) -> tuple[str, Path]:
    """Opens the HTTPS proxy of this sandbox, once; its address and its authority's file."""
    answer = request(running.port, "POST", PROXY_PATH)
    if answer is None:
        raise SandboxFailed("The sandbox did not open its proxy.")
    return str(answer[1]["url"]), Path(answer[1]["ca_file"])


def _current(home: Home) -> Running | None:
    running = status(home)
    return running if running is not None and running.version == package_version() else None


@contextlib.contextmanager
def _lock(home: Home) -> Iterator[None]:
    from filelock import FileLock

    home.sandbox.mkdir(parents=True, exist_ok=True, mode=0o700)
    with FileLock(home.sandbox / "process.lock"):
        yield


def _end(record: Record) -> bool:
    """Ends the recorded process if it lives: asked first, killed after ten seconds."""
    if not _lives(record):
        return False
    import signal

    for number, wait_s in ((signal.SIGTERM, _END_S), (signal.SIGKILL, _END_S)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, number)
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            if not _lives(record):
                return True
            time.sleep(0.01)
    raise SandboxFailed(f"The sandbox process {record.pid} does not end.")


def _start(home: Home, port: int, timeout_s: float) -> None:
    """Starts the process detached and waits until it says through a pipe that it is ready."""
    import select
    import subprocess

    log = log_file(home)
    if log.exists() and log.stat().st_size > _LONGEST_LOG:
        log.unlink()
    output = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    ready, tell = os.pipe()
    command = (
        *(sys.executable, "-P", "-m", "gpubroker.sandbox.server", "--mode", "background"),
        *("--folder", str(state_folder(home)), "--record", str(record_file(home))),
        *("--port", str(port), "--ready-fd", str(tell)),
    )
    env = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    try:
        # It forks once more and this child ends at once: nothing is left for us to wait for.
        subprocess.run(
            command,
            check=True,
            env=env,
            cwd=home.sandbox,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=(tell,),
        )
        os.close(tell)
        tell = -1
        readable, _, _ = select.select([ready], [], [], timeout_s)
        if readable and os.read(ready, 1):
            return
    except subprocess.CalledProcessError as error:
        raise SandboxFailed(f"The sandbox did not start: {error}") from None
    finally:
        for descriptor in (output, ready, tell):
            if descriptor >= 0:
                os.close(descriptor)
    words = "did not start" if readable else f"did not start within {timeout_s:g} s"
    last = " / ".join(log.read_text(errors="replace").splitlines()[-_LAST_LINES:])
    raise SandboxFailed(f"The sandbox {words}; {log}: {last}")
