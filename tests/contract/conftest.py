"""Judges: the vendors' own clients and specifications against the emulators and our clients."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml
from filelock import FileLock

from gpubroker.providers.accounts import Account
from gpubroker.providers.limits import MemoryLimitBook
from gpubroker.providers.registry import connect

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

    from gpubroker.providers.vast_ai import VastAi

_REPOSITORY = Path(__file__).parents[2]
JUDGES = Path(os.environ.get("GPUBROKER_JUDGES", _REPOSITORY / ".cache" / "judges"))
INSTALL_TRIES = 3
INSTALL_S = 600.0
COMMAND_S = 60


def _sandbox_fixtures() -> ModuleType:
    """tests/sandbox/conftest.py, whether or not pytest has loaded it already."""
    name = "tests.sandbox.conftest"
    if name not in sys.modules:
        path = _REPOSITORY / "tests" / "sandbox" / "conftest.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec
        assert spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


_fixtures = _sandbox_fixtures()
wall, served = _fixtures.wall, _fixtures.served


# --- the vendors' clients -----------------------------------------------------------------

_KEPT_WARM = """
import gc, importlib, json, os, runpy, signal, sys
module, allowed_s = sys.argv[1], int(sys.argv[2])
importlib.import_module(module)
package = module.partition(".")[0]
for name in [name for name in sys.modules if name.partition(".")[0] == package]:
    del sys.modules[name]
gc.collect()
gc.freeze()
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if child == 0:
        signal.alarm(allowed_s)
        for number, file in enumerate((os.devnull, job["out"], job["err"])):
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC if number else os.O_RDONLY
            os.dup2(os.open(file, flags, 0o600), number)
        sys.stdin = open(0)
        os.environ.clear()
        os.environ.update(job["env"])
        sys.argv = job["argv"]
        if job["code"] is None:
            runpy.run_path(job["argv"][0], run_name="__main__")
        else:
            exec(job["code"], {"__name__": "__main__"})
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""What the client imports of others is imported once; the client itself anew for each command."""


class WarmPython:
    """A vendor's environment whose interpreter is forked for each command: a start costs little."""

    def __init__(self, program: Path, module: str, folder: Path) -> None:
        self.program, self._folder = program, folder
        self._process = subprocess.Popen(
            [program.with_name("python"), "-c", _KEPT_WARM, module, str(COMMAND_S)],
            env={"HOME": str(folder), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, words: tuple[str, ...], env: dict[str, str], code: str | None = None
    ) -> tuple[int, str, str]:
        """Exit status, output and errors of the program with these words, or of a text of code."""
        out, err = self._folder / "out", self._folder / "err"
        argv = [str(self.program), *words]
        job = {"argv": argv, "env": env, "code": code, "out": str(out), "err": str(err)}
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        status = self._process.stdout.readline()
        assert status, "the judge's interpreter is gone"
        return int(status), out.read_text(), err.read_text()

    def close(self) -> None:
        self._process.communicate("")


class Judge:
    """A vendor's client in its own environment, pointed at the sandbox, with an empty home."""

    def __init__(self, python: WarmPython, home: Path, env: dict[str, str]) -> None:
        self._python = python
        self.program = python.program
        self.env = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8",
            "COLUMNS": "250",
            **env,
        }

    async def __call__(self, *words: str, ok: bool = True) -> str:
        """What it prints. `ok`: it must exit with 0; else its errors are part of the text."""
        return self._checked(words, ok, *await self._run(words))

    async def code(self, text: str) -> str:
        """What a script prints that uses the vendor's library; it must not fail."""
        return self._checked((text,), True, *await self._run((), text))

    async def cold(self, *words: str) -> str:
        """As `__call__`, by the installed program in a process of its own."""
        process = await asyncio.create_subprocess_exec(
            self.program,
            *words,
            env=self.env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), COMMAND_S)
        return self._checked(words, True, process.returncode or 0, out.decode(), err.decode())

    async def _run(self, words: tuple[str, ...], code: str | None = None) -> tuple[int, str, str]:
        # The sandbox answers from this thread's loop meanwhile.
        return await asyncio.to_thread(self._python.run, words, self.env, code)

    @staticmethod
    def _checked(words: tuple[str, ...], ok: bool, status: int, out: str, err: str) -> str:
        assert not ok or status == 0, f"{words}: {out}\n{err}"
        return out if ok else out + err


def installed_judge(package: str, version: str, program: str, override: str) -> Path:
    """The program of a vendor's package in a virtual environment of its own, made when missing.

    Half-made ones are made anew, and of tests that run side by side one makes it.
    """
    if chosen := os.environ.get(override):
        return Path(chosen)
    folder = JUDGES / f"{package}-{version}"
    stamp, found = folder / "installed", folder / "bin" / program
    JUDGES.mkdir(parents=True, exist_ok=True)
    with FileLock(JUDGES / f"{folder.name}.lock", timeout=INSTALL_S):
        if not (stamp.exists() and found.exists()):
            _install(folder, f"{package}=={version}")
            stamp.touch()
    return found


def _install(folder: Path, requirement: str) -> None:
    _made([sys.executable, "-m", "venv", "--clear", str(folder)], requirement, tries=1)
    command = [str(folder / "bin" / "pip"), "install", "--quiet", requirement]
    _made(command, requirement, tries=INSTALL_TRIES)


def _made(command: list[str], requirement: str, *, tries: int) -> None:
    for left in reversed(range(tries)):
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode == 0:
            return
        if left:
            time.sleep(2.0)
    pytest.fail(f"cannot install the judge {requirement}: {made.stderr.strip()}")


@pytest.fixture(scope="session")
def vastai_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmPython]:
    """Vast.ai's own client, ready to be run."""
    program = installed_judge("vastai", "1.9.1", "vastai", "GPUBROKER_JUDGE_VASTAI")
    python = WarmPython(program, "vastai.cli.main", tmp_path_factory.mktemp("vastai"))
    yield python
    python.close()


@pytest.fixture
def vastai(served: Served, vastai_python: WarmPython, tmp_path: Path) -> Judge:
    """Vast.ai's own client, with the key of the sandbox's own account."""
    home = tmp_path / "home"
    home.mkdir()
    return Judge(vastai_python, home, served.sandbox.env("vast_ai"))


# --- our client ---------------------------------------------------------------------------


class SandboxTime:
    """The sandbox's clock, as our client's own: who sleeps moves it."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.boot_s(), UTC)

    def boot_s(self) -> float:
        return self._served.sandbox.clock.now()

    async def sleep(self, seconds: float) -> None:
        await self._served.advance(seconds)


@pytest.fixture
async def ours(served: Served) -> AsyncIterator[VastAi]:
    """Our client in all its layers, with the key of the sandbox's own account."""
    secrets = {"VAST_AI_API_KEY": served.sandbox.keys["vast_ai"]}
    connected = connect(
        Account("vast_ai", "default", secrets, "test"),
        clock=SandboxTime(served),
        book=MemoryLimitBook(),
        base_url=served.sandbox.url("vast_ai"),
        loopback_only=True,
    )
    provider = cast("VastAi", connected.provider)
    async with contextlib.aclosing(provider):
        yield provider


# --- the vendors' specifications ----------------------------------------------------------


@pytest.fixture(scope="session")
def specification() -> dict[str, Any]:
    """Vast.ai's own OpenAPI document."""
    folder = os.environ.get("GPUBROKER_SPECS")
    file = Path(folder or "/nonexistent") / "vast_ai" / "openapi.yaml"
    if not file.exists():
        why = "GPUBROKER_SPECS does not name a folder with the vendors' specifications"
        if os.environ.get("GPUBROKER_REQUIRE_SPECS") == "1":
            pytest.fail(why)
        pytest.skip(why)
    document: dict[str, Any] = yaml.safe_load(file.read_text())
    return document
