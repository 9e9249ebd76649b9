"""The real command line against the real background sandbox, each test in a home of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

DEADLINE_S = 120.0


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
        """A small machine for an hour."""
        return self.json(
            "launch", "--gpu", "RTX 4090", "--on-demand", "--max-price", "1", "--ttl", "1h", *words
        )

    def control(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """The sandbox's control API."""
        from urllib.request import Request, urlopen

        base = self.status()["base_url"]
        data = None if body is None else json.dumps(body).encode()
        request = Request(base + path, data, {"Content-Type": "application/json"}, method=method)
        with urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def status(self) -> Any:
        """Of the background sandbox, started where it does not run."""
        from gpubroker.model.home import Home
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
