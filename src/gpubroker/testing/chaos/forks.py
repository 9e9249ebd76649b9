"""A process that has imported everything and is forked for each life: a start costs little.

`python -m gpubroker.testing.chaos.forks` reads jobs from stdin, one JSON a line, and tells on
stdout what becomes of its children: `{"pid", "what"}` with `what` one of started, stopped,
continued, "exited N", "killed N".
"""

from __future__ import annotations

import asyncio
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import IO, Any, cast

import msgspec
from msgspec import Struct

from gpubroker.testing.chaos.worlds import World, truth

PATIENCE_S = 120.0


class Job(Struct, frozen=True, kw_only=True):
    """What one process is to do. JSON."""

    act: str
    """One of `lives.ACTS`."""
    world: World
    home: str
    database: str = ""
    name: str = ""
    count: int = 1
    """Of launches."""
    kill_at: int | None = None
    """The process kills itself at its n-th boundary."""
    stop_at: str = ""
    """The process stops itself at the boundary of this name."""
    boundaries: str = ""
    """File that gets a line (machines at the cloud, boundary) for each."""
    steps: str = ""
    """File that gets a line (pid) for each boundary: how much work a process does."""
    result: str = ""
    """File that gets what was found, as JSON."""
    mutant: str = ""


class Forks:
    """The forked-from process, seen by whoever tests with it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gpubroker.testing.chaos.forks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._jobs = cast("IO[str]", self._process.stdin)
        self._news = cast("IO[str]", self._process.stdout)
        self._what: dict[int, str] = {}
        self._started: list[int] = []

    def start(self, job: Job) -> int:
        """The pid of a new process that does this job."""
        self._tell(msgspec.json.encode(job).decode())
        while not self._started:
            self._hear(PATIENCE_S)
        return self._started.pop()

    def prepare(self, modules: list[str]) -> None:
        """What children would import, imported before they are forked."""
        self._tell(json.dumps(modules))

    def wait(self, pid: int, *wanted: str, timeout_s: float = PATIENCE_S) -> str:
        """What has become of it: one of `wanted` ("stopped"), or its end."""
        deadline = time.monotonic() + timeout_s
        while True:
            what = self._what.get(pid, "")
            if what in wanted or what.startswith(("exited", "killed")):
                return what
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {pid} is still {what or 'running'}")
            self._hear(deadline - time.monotonic())

    def done(self, job: Job) -> Any:
        """Does it, and answers what it found. AssertionError where it fails."""
        what = self.wait(self.start(job))
        if what != "exited 0":
            raise AssertionError(f"{job.act} {what}")
        return json.loads(Path(job.result).read_text()) if job.result else None

    def close(self) -> None:
        """Ends it; children that still run are killed."""
        self._jobs.close()
        self._process.wait(30)
        self._news.close()

    def _tell(self, line: str) -> None:
        self._jobs.write(line + "\n")
        self._jobs.flush()

    def _hear(self, timeout_s: float) -> None:
        """One line of news, if one comes in time."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._news, selectors.EVENT_READ)
            if not selector.select(max(timeout_s, 0.0)):
                return
        # Lines are written whole and one at a time: `os.read` leaves none in a buffer.
        for line in os.read(self._news.fileno(), 65536).decode().splitlines():
            news = json.loads(line)
            self._what[news["pid"]] = news["what"]
            if news["what"] == "started":
                self._started.append(news["pid"])


@contextmanager
def forks() -> Iterator[Forks]:
    """For as long as the block lasts."""
    made = Forks()
    try:
        yield made
    finally:
        made.close()


@contextmanager
def served(folder: Path, provider: str, **settings: Any) -> Iterator[World]:
    """A world in a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"provider": provider, "switches": {}, "zero": 0.0, "speed": 0.0, **settings})
    process = subprocess.Popen(
        [sys.executable, "-m", "gpubroker.testing.chaos.worlds", str(folder), text],
        stdout=subprocess.PIPE,
    )
    said = cast("IO[bytes]", process.stdout)
    try:
        line = said.readline()
        if not line:
            raise RuntimeError(f"no world of {provider}: exit {process.wait(10)}")
        yield msgspec.json.decode(line, type=World)
    finally:
        process.kill()
        process.wait(30)
        said.close()


class _Marks:
    """At each boundary: noted, and perhaps the last."""

    def __init__(self, job: Job) -> None:
        self._job, self._number = job, -1

    def __call__(self, boundary: str) -> None:
        job = self._job
        self._number += 1
        if job.boundaries:
            with Path(job.boundaries).open("a") as file:
                file.write(f"{len(truth(job.world).exist)} {boundary}\n")
        if job.steps:
            with Path(job.steps).open("a") as file:
                file.write(f"{os.getpid()}\n")
        if self._number == job.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if boundary == job.stop_at:
            os.kill(os.getpid(), signal.SIGSTOP)


async def _act(job: Job) -> Any:
    from gpubroker.testing.chaos import lives
    from gpubroker.testing.chaos.tenants import shared, tenant

    lives.mutate(job.mutant)
    one = tenant(job.world, Path(job.home), job.database, _Marks(job))
    if clock := shared(one.clock):
        lives.leases_by(clock, job.database)
    try:
        return await lives.ACTS[job.act](one, job)
    finally:
        await one.aclose()


def _child(line: str) -> None:
    job = msgspec.json.decode(line, type=Job)
    found = asyncio.run(_act(job))
    if job.result:
        Path(job.result).write_text(json.dumps(found))


def _zygote(jobs: IO[bytes]) -> None:
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(jobs, selectors.EVENT_READ)
    selector.register(wake, selectors.EVENT_READ)
    children: set[int] = set()
    while True:
        for key, _ in selector.select():
            if key.fileobj is not jobs:
                os.read(wake, 4096)
                _tell_all(children)
                continue
            line = jobs.readline().decode()
            if not line:
                for pid in children:
                    os.kill(pid, signal.SIGKILL)
                return
            if line.startswith("["):
                _import(json.loads(line))
                continue
            children.add(_forked(line))


def _import(modules: list[str]) -> None:
    for name in modules:
        try:
            import_module(name)
        except ImportError:
            continue  # not every name in sys.modules can be imported by itself


def _forked(line: str) -> int:
    pid = os.fork()
    if pid:
        _tell(pid, "started")
        return pid
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _child(line)
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
        raise
    finally:
        os._exit(status)


def _tell_all(children: set[int]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
        except ChildProcessError:
            return
        if not pid:
            return
        if os.WIFSTOPPED(status):
            _tell(pid, "stopped")
        elif os.WIFCONTINUED(status):
            _tell(pid, "continued")
        else:
            children.discard(pid)
            exited = os.WIFEXITED(status)
            code = os.WEXITSTATUS(status) if exited else os.WTERMSIG(status)
            _tell(pid, f"{'exited' if exited else 'killed'} {code}")


def _tell(pid: int, what: str) -> None:
    os.write(1, (json.dumps({"pid": pid, "what": what}) + "\n").encode())


if __name__ == "__main__":
    with os.fdopen(0, "rb", buffering=0) as stdin:
        _zygote(stdin)
