"""Judges: the vendors' own clients and specifications against the emulators and our clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml
from filelock import FileLock
from tests.contract.openapi import Document
from tests.sandbox.conftest import customer, served, wall

from gpubroker.providers.accounts import Account
from gpubroker.providers.limits import MemoryLimitBook
from gpubroker.providers.registry import connect

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

    from gpubroker.providers.runpod import RunPod
    from gpubroker.providers.vast_ai import VastAi

_REPOSITORY = Path(__file__).parents[2]
JUDGES = Path(os.environ.get("GPUBROKER_JUDGES", _REPOSITORY / ".cache" / "judges"))
__all__ = ["customer", "served", "wall"]  # fixtures, for the tests of this folder
INSTALL_TRIES = 3
INSTALL_S = 600.0
COMMAND_S = 60


# --- the vendors' clients -----------------------------------------------------------------

_KEPT_WARM = """
import gc, importlib, json, os, runpy, signal, sys
module, allowed_s = sys.argv[1], int(sys.argv[2])
importlib.import_module(module)
package = module.partition(".")[0]
for name in [name for name in sys.modules if name.partition(".")[0] == package]:
    if sys.argv[3] == "anew":
        del sys.modules[name]
gc.collect()
gc.freeze()
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if child == 0:
        signal.alarm(allowed_s)
        for number, file in enumerate((job["in"], job["out"], job["err"])):
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

    def __init__(self, program: Path, module: str, folder: Path, *, anew: bool = True) -> None:
        """`anew=False`: a library that takes long to import, and reads no settings at that."""
        self.program, self._folder = program, folder
        words = [module, str(COMMAND_S), "anew" if anew else "kept"]
        self._process = subprocess.Popen(
            [program.with_name("python"), "-c", _KEPT_WARM, *words],
            env={"HOME": str(folder), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, words: tuple[str, ...], env: dict[str, str], code: str | None = None, typed: str = ""
    ) -> tuple[int, str, str]:
        """Exit status, output and errors of the program with these words, or of a text of code.

        `typed` is what it finds on its standard input.
        """
        out, err, answers = (self._folder / name for name in ("out", "err", "in"))
        answers.write_text(typed)
        argv = [str(self.program), *words]
        files = {"in": str(answers), "out": str(out), "err": str(err)}
        job = {"argv": argv, "env": env, "code": code, **files}
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

    async def __call__(self, *words: str, ok: bool = True, typed: str = "") -> str:
        """What it prints. `ok`: it must exit with 0; else its errors are part of the text.

        `typed` answers what it asks.
        """
        return self._checked(words, ok, *await self._run(words, typed=typed))

    async def code(self, text: str, typed: str = "") -> str:
        """What a script prints that uses the vendor's library; it must not fail."""
        return self._checked((text,), True, *await self._run((), text, typed))

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

    async def _run(
        self, words: tuple[str, ...], code: str | None = None, typed: str = ""
    ) -> tuple[int, str, str]:
        # The sandbox answers from this thread's loop meanwhile.
        return await asyncio.to_thread(self._python.run, words, self.env, code, typed)

    @staticmethod
    def _checked(words: tuple[str, ...], ok: bool, status: int, out: str, err: str) -> str:
        assert not ok or status == 0, f"{words}: {out}\n{err}"
        return out if ok else out + err


def installed_judge(
    package: str, version: str, program: str, override: str, only: tuple[str, ...] = ()
) -> Path:
    """The program of a vendor's package in a virtual environment of its own, made when missing.

    Half-made ones are made anew, and of tests that run side by side one makes it. `only`: of all
    that the package asks for, what its tested part needs, to the version.
    """
    if chosen := os.environ.get(override):
        return Path(chosen)
    folder = JUDGES / f"{package}-{version}"
    stamp, found = folder / "installed", folder / "bin" / program
    JUDGES.mkdir(parents=True, exist_ok=True)
    with FileLock(JUDGES / f"{folder.name}.lock", timeout=INSTALL_S):
        if not (stamp.exists() and found.exists()):
            _install(folder, f"{package}=={version}", only)
            stamp.touch()
    return found


def _install(folder: Path, requirement: str, only: tuple[str, ...]) -> None:
    _made([sys.executable, "-m", "venv", "--clear", str(folder)], requirement, tries=1)
    wanted = ["--no-deps", requirement, *only] if only else [requirement]
    command = [str(folder / "bin" / "pip"), "install", "--quiet", *wanted]
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


@pytest.fixture(scope="session")
def lai_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmPython]:
    """A client of Lambda by others, made from the vendor's document, ready to be run."""
    package = "lambda-ai-cloud-api-client"
    program = installed_judge(package, "2.4.1", "lai", "GPUBROKER_JUDGE_LAMBDA")
    folder = tmp_path_factory.mktemp("lai")
    python = WarmPython(program, "lambda_ai_cloud_api_client.__main__", folder)
    yield python
    python.close()


@pytest.fixture
def lai(served: Served, lai_python: WarmPython, tmp_path: Path) -> Judge:
    """That client, with the key of the sandbox's own account."""
    home = tmp_path / "lai-home"
    home.mkdir()
    return Judge(lai_python, home, served.sandbox.env("lambda_labs"))


RUNPOD_NEEDS = (
    "aiohappyeyeballs==2.7.1", "aiohttp-retry==2.9.1", "aiohttp==3.14.5", "aiosignal==1.4.0",
    "attrs==26.1.0", "backoff==2.2.1", "bcrypt==5.0.0", "certifi==2026.10.18", "cffi==2.1.1",
    "charset-normalizer==3.5.2", "click==8.5.1", "colorama==0.4.6", "cryptography==50.0.2",
    "frozenlist==1.8.0", "idna==3.20", "inquirerpy==0.3.4", "invoke==3.0.3", "multidict==7.2.1",
    "paramiko==5.1.0", "pfzy==0.3.4", "prettytable==3.18.0", "prompt_toolkit==3.0.53",
    "propcache==0.5.4", "py-cpuinfo==9.0.0", "pycparser==3.12", "PyNaCl==1.6.2",
    "requests==2.34.2", "tomli==2.5.0", "tomlkit==0.15.2", "tqdm-loggable==0.4.1", "tqdm==4.70.1",
    "typing_extensions==4.16.0", "urllib3==2.8.0", "watchdog==7.1.0", "wcwidth==0.9.4",
    "yarl==1.25.1",
)  # fmt: skip
"""Of the hundred packages of RunPod's client those that its library and command line import: not
boto3, nor the web framework of its serverless half."""


@pytest.fixture(scope="session")
def runpod_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmPython]:
    """RunPod's own client, ready to be run."""
    override = "GPUBROKER_JUDGE_RUNPOD"
    program = installed_judge("runpod", "1.12.0", "runpod", override, RUNPOD_NEEDS)
    python = WarmPython(program, "runpod.cli.entry", tmp_path_factory.mktemp("runpod"))
    yield python
    python.close()


@pytest.fixture
def runpod(served: Served, runpod_python: WarmPython, tmp_path: Path) -> Judge:
    """RunPod's own client, with the key of the sandbox's own account."""
    home = tmp_path / "runpod-home"
    (home / ".runpod").mkdir(parents=True)
    env = served.sandbox.env("runpod")
    key = f'[default]\napi_key = "{env["RUNPOD_API_KEY"]}"\n'
    (home / ".runpod" / "config.toml").write_text(key)
    return Judge(runpod_python, home, env)


DIGITALOCEAN_NEEDS = (
    "azure-core==1.41.0", "azure-identity==1.27.0", "certifi==2026.10.18", "cffi==2.1.1",
    "charset-normalizer==3.5.2", "cryptography==50.0.2", "idna==3.20", "isodate==0.7.2",
    "msal-extensions==1.3.1", "msal==1.39.0", "msrest==0.7.1", "oauthlib==4.0.1",
    "pycparser==3.12", "PyJWT==2.15.1", "requests-oauthlib==2.0.0", "requests==2.34.2",
    "typing_extensions==4.16.0", "urllib3==2.8.0",
)  # fmt: skip
"""All that DigitalOcean's client asks for, to the version."""


@pytest.fixture(scope="session")
def pydo_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmPython]:
    """DigitalOcean's own client, a library without a program, ready to be used."""
    override = "GPUBROKER_JUDGE_DIGITALOCEAN"
    program = installed_judge("pydo", "0.44.0", "python", override, DIGITALOCEAN_NEEDS)
    python = WarmPython(program, "pydo", tmp_path_factory.mktemp("pydo"))
    yield python
    python.close()


@pytest.fixture
def pydo(served: Served, pydo_python: WarmPython, tmp_path: Path) -> Judge:
    """DigitalOcean's own client, with the key of the sandbox's own account."""
    home = tmp_path / "pydo-home"
    home.mkdir()
    return Judge(pydo_python, home, served.sandbox.env("digitalocean"))


VERDA_NEEDS = (
    "certifi==2026.10.18", "charset-normalizer==3.5.2", "dataclasses-json==0.6.7", "idna==3.20",
    "marshmallow==3.26.2", "mypy_extensions==1.2.0", "packaging==26.3", "requests==2.34.2",
    "typing-inspect==0.9.0", "typing_extensions==4.16.0", "urllib3==2.8.0",
)  # fmt: skip


@pytest.fixture(scope="session")
def verda_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmPython]:
    """Verda's own library, ready to be run; it brings no program."""
    program = installed_judge("verda", "1.25.0", "python", "GPUBROKER_JUDGE_VERDA", VERDA_NEEDS)
    python = WarmPython(program, "verda", tmp_path_factory.mktemp("verda"))
    yield python
    python.close()


@pytest.fixture
def verda(served: Served, verda_python: WarmPython, tmp_path: Path) -> Judge:
    """Verda's own library, with the key of the sandbox's own account."""
    home = tmp_path / "verda-home"
    home.mkdir()
    return Judge(verda_python, home, served.sandbox.env("verda"))


HYPERSTACK_NEEDS = (
    "annotated-types==0.8.0", "pydantic==2.14.3", "pydantic_core==2.50.4",
    "python-dateutil==4.0.0", "typing-inspection==0.4.5", "typing_extensions==4.16.0",
    "tzdata==2026.6", "urllib3==2.8.0",
)  # fmt: skip


@pytest.fixture(scope="session")
def hyperstack_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmPython]:
    """Hyperstack's own library, ready to be run; it brings no program."""
    override = "GPUBROKER_JUDGE_HYPERSTACK"
    program = installed_judge("hyperstack", "1.56.1a0", "python", override, HYPERSTACK_NEEDS)
    folder = tmp_path_factory.mktemp("hyperstack")
    python = WarmPython(program, "hyperstack", folder, anew=False)
    yield python
    python.close()


@pytest.fixture
def hyperstack(served: Served, hyperstack_python: WarmPython, tmp_path: Path) -> Judge:
    """Hyperstack's own library, with the key of the sandbox's own account."""
    home = tmp_path / "hyperstack-home"
    home.mkdir()
    return Judge(hyperstack_python, home, served.sandbox.env("hyperstack"))


JARVISLABS_NEEDS = (
    "annotated-doc==0.0.7", "annotated-types==0.8.0", "anyio==4.16.0", "certifi==2026.10.18",
    "click==8.5.1", "h11==0.16.0", "httpcore==1.0.9", "httpx==0.28.1", "idna==3.20",
    "markdown-it-py==4.3.0", "mdurl==0.1.2", "platformdirs==4.14.7", "prompt_toolkit==3.0.53",
    "pydantic==2.14.3", "pydantic_core==2.50.4", "Pygments==2.21.0", "questionary==2.1.1",
    "rich==15.0.0", "shellingham==1.5.4", "tomli_w==1.2.0", "typer==0.29.2",
    "typing-inspection==0.4.5", "typing_extensions==4.16.0", "wcwidth==0.9.4",
)  # fmt: skip


@pytest.fixture(scope="session")
def jarvislabs_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmPython]:
    """Jarvis Labs' own client, ready to be run."""
    override = "GPUBROKER_JUDGE_JARVISLABS"
    program = installed_judge("jarvislabs", "0.2.19", "jl", override, JARVISLABS_NEEDS)
    python = WarmPython(program, "jarvislabs.cli.app", tmp_path_factory.mktemp("jarvislabs"))
    yield python
    python.close()


@pytest.fixture
def jl(served: Served, jarvislabs_python: WarmPython, tmp_path: Path) -> Judge:
    """Jarvis Labs' own client, with the key of the sandbox's own account; it knows no address
    but its vendor's: a test must lead it through the proxy."""
    home = tmp_path / "jarvislabs-home"
    home.mkdir()
    env = served.sandbox.env("jarvislabs") | {"JL_NO_UPDATE_CHECK": "1"}
    return Judge(jarvislabs_python, home, env)


SALAD_NEEDS = (
    "certifi==2026.10.18", "charset-normalizer==3.5.2", "idna==3.20", "requests==2.34.2",
    "urllib3==2.8.0",
)  # fmt: skip


@pytest.fixture(scope="session")
def salad_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmPython]:
    """SaladCloud's own library, ready to be run; it brings no program."""
    override = "GPUBROKER_JUDGE_SALAD"
    program = installed_judge("salad-cloud-sdk", "0.9.0a17", "python", override, SALAD_NEEDS)
    python = WarmPython(program, "salad_cloud_sdk", tmp_path_factory.mktemp("salad"))
    yield python
    python.close()


@pytest.fixture
def salad(served: Served, salad_python: WarmPython, tmp_path: Path) -> Judge:
    """SaladCloud's own library, with the key of the sandbox's own account."""
    home = tmp_path / "salad-home"
    home.mkdir()
    return Judge(salad_python, home, served.sandbox.env("salad"))


FLUIDSTACK_NEEDS = (
    "annotated-types==0.8.0", "anyio==4.16.0", "certifi==2026.10.18", "h11==0.16.0",
    "httpcore==1.0.9", "httpx==0.28.1", "idna==3.20", "pydantic==2.14.3",
    "pydantic_core==2.50.4", "typing-inspection==0.4.5", "typing_extensions==4.16.0",
)  # fmt: skip


@pytest.fixture(scope="session")
def fluidstack_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmPython]:
    """FluidStack's own library, ready to be run; it brings no program."""
    override = "GPUBROKER_JUDGE_FLUIDSTACK"
    program = installed_judge("fluidstack", "0.0.8", "python", override, FLUIDSTACK_NEEDS)
    folder = tmp_path_factory.mktemp("fluidstack")
    python = WarmPython(program, "FluidStack.client", folder, anew=False)
    yield python
    python.close()


@pytest.fixture
def fluidstack(served: Served, fluidstack_python: WarmPython, tmp_path: Path) -> Judge:
    """FluidStack's own library, with the key of the sandbox's own account."""
    home = tmp_path / "fluidstack-home"
    home.mkdir()
    return Judge(fluidstack_python, home, served.sandbox.env("fluidstack"))


LYCEUM_NEEDS = (
    "annotated-doc==0.0.7", "anyio==4.16.0", "boto3==1.42.62", "botocore==1.42.97",
    "certifi==2026.10.18", "click==8.5.1", "h11==0.16.0", "httpcore==1.0.9", "httpx==0.28.1",
    "idna==3.20", "jmespath==1.1.0", "markdown-it-py==4.3.0", "mdurl==0.1.2", "PyJWT==2.13.0",
    "Pygments==2.21.0", "python-dateutil==2.9.0.post0", "rich==14.3.3", "s3transfer==0.16.1",
    "shellingham==1.5.4", "six==1.17.0", "typer==0.24.1", "typing_extensions==4.16.0",
    "urllib3==2.8.0",
)  # fmt: skip


@pytest.fixture(scope="session")
def lyceum_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmPython]:
    """Lyceum's own client, ready to be run."""
    override = "GPUBROKER_JUDGE_LYCEUM"
    program = installed_judge("lyceum-cli", "1.2.2", "lyceum", override, LYCEUM_NEEDS)
    python = WarmPython(program, "lyceum.main", tmp_path_factory.mktemp("lyceum"))
    yield python
    python.close()


@pytest.fixture
def lyceum(served: Served, lyceum_python: WarmPython, tmp_path: Path) -> Judge:
    """Lyceum's own client, with the key of the sandbox's own account; it takes its address from
    its own file alone."""
    home, env = tmp_path / "lyceum-home", served.sandbox.env("lyceum")
    (home / ".lyceum").mkdir(parents=True)
    settings = {"api_key": env["LYCEUM_API_KEY"], "base_url": env["LYCEUM_API_URL"]}
    (home / ".lyceum" / "config.json").write_text(json.dumps(settings))
    return Judge(lyceum_python, home, env)


NORTHFLANK_NEEDS = (
    "anyio==4.16.0", "certifi==2026.10.18", "h11==0.16.0", "httpcore==1.0.9", "httpx==0.28.1",
    "idna==3.20", "typing_extensions==4.16.0", "websockets==17.4",
)  # fmt: skip


@pytest.fixture(scope="session")
def northflank_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmPython]:
    """Northflank's own library, ready to be run; it brings no program."""
    override = "GPUBROKER_JUDGE_NORTHFLANK"
    program = installed_judge("northflank", "2.1.0", "python", override, NORTHFLANK_NEEDS)
    python = WarmPython(program, "northflank", tmp_path_factory.mktemp("northflank"))
    yield python
    python.close()


@pytest.fixture
def northflank(served: Served, northflank_python: WarmPython, tmp_path: Path) -> Judge:
    """Northflank's own library, with the key of the sandbox's own account."""
    home = tmp_path / "northflank-home"
    home.mkdir()
    return Judge(northflank_python, home, served.sandbox.env("northflank"))


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


@pytest.fixture
async def our_runpod(served: Served) -> AsyncIterator[RunPod]:
    """The same at RunPod."""
    secrets = {"RUNPOD_API_KEY": served.sandbox.keys["runpod"]}
    connected = connect(
        Account("runpod", "default", secrets, "test"),
        clock=SandboxTime(served),
        book=MemoryLimitBook(),
        base_url=served.sandbox.url("runpod"),
        loopback_only=True,
    )
    provider = cast("RunPod", connected.provider)
    async with contextlib.aclosing(provider):
        yield provider


def pytest_runtest_call(item: pytest.Function) -> None:
    """Notes which client is judging: a table of them stands at the end of the run."""
    for value in item.funcargs.values():
        if isinstance(value, WarmPython):
            item.user_properties.append(("judge", value.program.parents[1].name))


# --- the vendors' specifications ----------------------------------------------------------


def vendor_text(name: str) -> str:
    """A vendor's file, by its place in the folder of all vendors'."""
    folder = os.environ.get("GPUBROKER_SPECS")
    file = Path(folder or "/nonexistent") / name
    if not file.exists():
        why = "GPUBROKER_SPECS does not name a folder with the vendors' specifications"
        if os.environ.get("GPUBROKER_REQUIRE_SPECS") == "1":
            pytest.fail(why)
        pytest.skip(why)
    return file.read_text()


def vendor_document(name: str) -> dict[str, Any]:
    """A specification, by its place in the folder of all vendors'."""
    text = vendor_text(name)
    if name.endswith("json"):
        document: dict[str, Any] = json.loads(text)
    else:
        document = yaml.load(text, Loader=yaml.CSafeLoader)
    return document


@pytest.fixture(scope="session")
def closed() -> Callable[..., Document]:
    """`closed("acme/openapi.yaml", {"Machine": ("field",)})`: see `Document`."""

    def make(name: str, *more: Any, **how: Any) -> Document:
        return Document(vendor_document(name), *more, **how)

    return make


@pytest.fixture(scope="session")
def specification() -> dict[str, Any]:
    """Vast.ai's own OpenAPI document."""
    return vendor_document("vast_ai/openapi.yaml")
