"""Judges: the vendors' own clients and specifications against the emulators."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

_REPOSITORY = Path(__file__).parents[2]
JUDGES = Path(os.environ.get("GPUBROKER_JUDGES", _REPOSITORY / ".cache" / "judges"))


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


class Judge:
    """A vendor's client in its own environment, pointed at the sandbox, with an empty home."""

    def __init__(self, program: Path, home: Path, env: dict[str, str]) -> None:
        self.program, self.home, self.env = program, home, env

    async def __call__(self, *words: str, ok: bool = True) -> str:
        """What it prints. `ok`: it must exit with 0; else its errors are part of the text."""
        process = await asyncio.create_subprocess_exec(
            self.program,
            *words,
            env={
                "HOME": str(self.home),
                "PATH": os.environ["PATH"],
                "LC_ALL": "C.UTF-8",
                "COLUMNS": "250",
                **self.env,
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(), 60)
        assert not ok or process.returncode == 0, f"{words}: {out.decode()}\n{err.decode()}"
        return out.decode() if ok else out.decode() + err.decode()


def installed_judge(package: str, version: str, program: str, override: str) -> Path:
    """The program of a vendor's package in a virtual environment of its own, made when missing."""
    if chosen := os.environ.get(override):
        return Path(chosen)
    folder = JUDGES / f"{package}-{version}"
    found = folder / "bin" / program
    if not found.exists():
        for command in (
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [str(folder / "bin" / "pip"), "install", "--quiet", f"{package}=={version}"],
        ):
            made = subprocess.run(command, capture_output=True, text=True, check=False)
            if made.returncode:
                pytest.fail(f"cannot install the judge {package} {version}: {made.stderr.strip()}")
    return found


@pytest.fixture(scope="session")
def vastai_program() -> Path:
    """Vast.ai's own command line."""
    return installed_judge("vastai", "1.9.1", "vastai", "GPUBROKER_JUDGE_VASTAI")
