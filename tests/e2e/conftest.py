"""The real command line against the real background sandbox, each test in a home of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest

from gpubroker.model.home import Home

if TYPE_CHECKING:
    from gpubroker import Broker

DEADLINE_S = 120.0
SPEED = 50
"""Minutes of patience in seconds: the sandbox's time runs that fast, and the broker's with it.

Slow enough that a machine still has ten real seconds for SSH to answer. `stuck_pending` would take
an hour of it: tests/fleet has it on a clock of its own.
"""


class Person:
    """Somebody at a keyboard, with nothing but a home folder."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.state = folder / "state"
        self.home.mkdir()
        self.environ: dict[str, str] = {
            "HOME": str(self.home),
            "GPUBROKER_HOME": str(self.state),
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
        }

    def run(
        self, *words: str, code: int | None = 0, more: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`gpubroker WORDS`, without a terminal and without input."""
        ran = subprocess.run(
            [sys.executable, "-m", "gpubroker", *words],
            env={**self.environ, **(more or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        if code is not None:
            assert ran.returncode == code, (words, ran.returncode, ran.stdout, ran.stderr)
        return ran

    def json(self, *words: str, code: int = 0) -> Any:
        """The one document on stdout."""
        return json.loads(self.run("--json", "--sandbox", *words, code=code).stdout)

    def tool(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Any other program, in the same environment."""
        return subprocess.run(
            words,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
            **options,
        )

    def launch(self, *words: str) -> Any:
        """A small machine for an hour, at the cloud that the tests' faults are set for."""
        return self.json(
            *("launch", "--provider", "vast_ai", "--gpu", "RTX 4090", "--on-demand"),
            *("--max-price", "1", "--ttl", "1h", *words),
        )

    def control(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """The sandbox's control API."""
        base = self.status()["base_url"]
        data = None if body is None else json.dumps(body).encode()
        request = Request(base + path, data, {"Content-Type": "application/json"}, method=method)
        with urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def status(self) -> Any:
        """Of the background sandbox, started where it does not run."""
        from gpubroker.sandbox import daemon

        running = daemon.ensure(Home(self.state))
        return {"base_url": running.base_url, "pid": running.pid, "id": running.id}

    @contextmanager
    def time_flies(self) -> Iterator[None]:
        """The sandbox's clock goes on by 20 s twice a second, as if somebody had patience."""
        over = threading.Event()

        def advance() -> None:
            while not over.wait(0.5):
                self.control("/_sandbox/clock", {"advance_s": 20})

        thread = threading.Thread(target=advance)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def billed(self) -> list[Any]:
        """The truth about what costs money now."""
        return [one for one in self.control("/_sandbox/machines") if one["billed"]]


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    somebody = Person(tmp_path)
    yield somebody
    somebody.run("sandbox", "stop", code=None)


class FastSandbox:
    """One sandbox in the foreground for all cases, and a broker's home beside it."""

    def __init__(self, folder: Path) -> None:
        self.environ = {**os.environ, "HOME": str(folder), "GPUBROKER_HOME": str(folder / "state")}
        self.home = Home(folder / "state")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gpubroker", "--json", "sandbox", "--port", "0",
             "--speed", str(SPEED)],
            env=self.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.url = json.loads(self._process.stdout.readline())["base_url"]

    def control(self, path: str, body: Any = None, method: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(self.url + path, data, method=method), timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def billed(self) -> list[Any]:
        return [one for one in self.control("/_sandbox/machines") if one["billed"]]

    def broker(self) -> Broker:
        from gpubroker import Broker

        return Broker(home=self.home, environ=self.environ, sandbox=self.url)

    def close(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture(scope="module")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastSandbox]:
    sandbox = FastSandbox(tmp_path_factory.mktemp("fast"))
    yield sandbox
    sandbox.close()
