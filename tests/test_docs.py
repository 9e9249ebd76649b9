"""The documents are true: links lead somewhere, commands exist, examples run."""

from __future__ import annotations

import ast
import asyncio
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import click
import pytest

import gpubroker
from gpubroker.cli.main import EVERYWHERE, cli
from gpubroker.cli.pages import pages
from gpubroker.cli.reference import EXITS
from gpubroker.cli.verbs import BY_NAME, VERBS
from gpubroker.model.errors import BrokerError
from gpubroker.model.home import Home
from gpubroker.sandbox import daemon
from gpubroker.sandbox.faults import KINDS, Operation

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SOURCE = ROOT / "src" / "gpubroker"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = {str(page.relative_to(DOCS)): page.read_text() for page in PAGES}
EXAMPLES_DEADLINE_S = 240.0

_FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def blocks(page: str, language: str, extra: str = "") -> list[str]:
    """The fenced blocks of a page in that language, in order."""
    found = _FENCE.findall(TEXTS[page])
    return [body for name, more, body in found if name == language and more.strip() == extra]


def prose(text: str) -> str:
    """Without fenced blocks."""
    return _FENCE.sub("", text)


def anchors(text: str) -> set[str]:
    """What headings can be linked to, as GitHub makes it."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head).strip().lower().replace(" ", "-") for head in headings}


def commands(text: str) -> Iterator[str]:
    """Command lines of console blocks, continued lines joined."""
    for language, _, body in _FENCE.findall(text):
        if language == "console":
            joined = body.replace("\\\n> ", " ")
            yield from (line[2:] for line in joined.splitlines() if line.startswith("$ "))


# Links and names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in _LINK.findall(prose(page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


def test_every_page_can_be_reached_from_the_first() -> None:
    seen: set[Path] = set()
    waiting = [DOCS / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or not page.is_relative_to(DOCS) or page.suffix != ".md":
            continue
        seen.add(page)
        links = [link.partition("#")[0] for link in _LINK.findall(prose(page.read_text()))]
        waiting += [
            (page.parent / link).resolve()
            for link in links
            if link and not re.match(r"[a-z]+:", link)
        ]
    assert set(PAGES) - seen == set()


def test_every_verb_and_every_exit_code_stands_in_the_documents() -> None:
    everything = "\n".join(TEXTS.values())
    for verb in VERBS:
        assert re.search(rf"gpubroker {verb.name}\b|`{verb.name}`", everything), verb.name
    for code, meaning in EXITS:
        assert f"| {code} | {meaning} |" in everything


def test_commands_of_examples_exist_with_their_flags() -> None:
    checked = 0
    for page, text in TEXTS.items():
        for line in commands(text):
            for words in re.findall(r"\bgpubroker ([^|;)\"]+)", line):
                _check_flags(page, words.partition(" -- ")[0].split())
                checked += 1
    assert checked > 20


def _check_flags(page: str, words: list[str]) -> None:
    flags = [word for word in words if word.startswith("-")]
    names = [word for word in words if not word.startswith("-")]
    known = {"--help", "-h", "--version", *EVERYWHERE}
    command: click.Command | None = cli
    while isinstance(command, click.Group) and names:
        context = click.Context(command)
        name = names.pop(0)
        command = command.get_command(context, name)
        assert command is not None, f"{page}: gpubroker {' '.join(words)}"
    if command is not None:
        for parameter in command.params:
            known |= {*parameter.opts, *parameter.secondary_opts}
    assert set(flags) <= known, f"{page}: gpubroker {' '.join(words)}"


def test_no_example_uses_a_verb_that_comes_later() -> None:
    for page, text in TEXTS.items():
        for line in commands(text):
            for verb in re.findall(r"\bgpubroker (\w+)", line):
                assert not BY_NAME[verb].later, (page, line)


# Pages that are written from the code


def test_generated_pages_are_as_the_code_is() -> None:
    for path, text in pages().items():
        assert (DOCS / path).read_text() == text, (
            f"{path} is old; write it anew: python -m gpubroker.cli.pages docs"
        )


def test_no_page_of_a_cloud_is_left_that_nothing_writes() -> None:
    written = {name for name in pages() if name.startswith("providers/")}
    assert {name for name in TEXTS if name.startswith("providers/")} == written


# Names of the code that a page must explain


def _modules() -> Iterator[str]:
    for module in pkgutil.walk_packages(gpubroker.__path__, "gpubroker."):
        if not re.search(r"\.testing|\.sandbox\.tools|__main__", module.name):
            yield module.name


def _descendants(cls: type[BrokerError]) -> Iterator[type[BrokerError]]:
    for child in cls.__subclasses__():
        yield child
        yield from _descendants(child)


def test_every_error_class_has_its_row() -> None:
    for name in _modules():
        importlib.import_module(name)
    classes = {
        cls.__name__
        for cls in _descendants(BrokerError)
        if cls.__module__.startswith("gpubroker.") and ".testing" not in cls.__module__
    }
    first_cells = re.findall(r"^\|[^|]+\|", TEXTS["library.md"], re.MULTILINE)
    rows = set(re.findall(r"`(\w+)`", "".join(first_cells)))
    assert classes - rows == set()


def _kinds(file: Path) -> Iterator[str]:
    """Kinds of the events that a module tells."""
    for node in ast.walk(ast.parse(file.read_text())):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="write" | "work"), attr="event" | "tell"),
                args=[kind, *_],
            ):
                pass
            case ast.keyword(arg="kind", value=kind):
                pass
            case _:
                continue
        # "preempted" if … else "state" tells either.
        chosen = [kind.body, kind.orelse] if isinstance(kind, ast.IfExp) else [kind]
        yield from (str(one.value) for one in chosen if isinstance(one, ast.Constant))


def test_every_event_that_is_told_has_its_row() -> None:
    files = [*(SOURCE / "fleet").glob("*.py"), SOURCE / "broker.py"]
    told = {kind for file in files for kind in _kinds(file)}
    assert {"ready", "waiting", "ssh_include", "preempted"} <= told
    assert {kind for kind in told if f"`{kind}`" not in TEXTS["library.md"]} == set()


def test_every_method_of_the_broker_is_listed() -> None:
    methods = {name for name in vars(gpubroker.Broker) if not name.startswith("_")}
    left_out = {"realm", "close", "aclose", "ssh_folder"}
    rows = "".join(re.findall(r"^\|[^|]+\|", TEXTS["library.md"], re.MULTILINE))
    assert {name for name in methods - left_out if f"`{name}(" not in rows} == set()


def test_every_setting_is_explained() -> None:
    from gpubroker.config import Config, Defaults, Ssh

    page = TEXTS["configuration.md"]
    for section in Config.__struct_fields__:
        assert f"[{section}]" in page
    for name in (*Defaults.__struct_fields__, *Ssh.__struct_fields__):
        assert f"`{name}`" in page, name


def test_the_configuration_of_the_page_is_understood(tmp_path: Path) -> None:
    from gpubroker.config import Config, load

    (example,) = blocks("configuration.md", "toml")
    (tmp_path / "config.toml").write_text(example)
    assert load(tmp_path / "config.toml") != Config()


def test_every_fault_is_explained() -> None:
    page = TEXTS["sandbox.md"]
    assert [kind for kind in KINDS if f"| `{kind}` |" not in page] == []
    assert [one for one in get_args(Operation) if f"`{one}`" not in page] == []


def test_every_control_is_listed() -> None:
    from gpubroker.sandbox import control

    rows = re.findall(r"\"(GET|POST|DELETE)\", \"(/\w+)\"", inspect.getsource(control.routes))
    assert len(rows) > 10
    for method, path in rows:
        assert re.search(rf"`{method} /_sandbox{path}\b", TEXTS["sandbox.md"]), (method, path)


def _variables(file: Path) -> Iterator[str]:
    """Names of environment variables that a module reads or hands on."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=where, attr="get" | "getenv"), args=[name, *_]):
                pass
            case ast.Subscript(value=where, slice=name):
                pass
            case ast.Constant(value=str(text)) if re.fullmatch(r"GPUBROKER_[A-Z_]+", text):
                yield text
                continue
            case _:
                continue
        place = ast.unparse(where)
        named = isinstance(name, ast.Constant) and isinstance(name.value, str)
        if named and re.search(r"(^|[._])(environ|os|env)$", place):
            text = ast.literal_eval(name)
            if re.fullmatch(r"[A-Z][A-Z0-9_]+", text):
                yield text


def test_every_environment_variable_that_is_read_is_explained() -> None:
    from gpubroker.catalog.clouds import cloud
    from gpubroker.credentials.files import KEY_FILES
    from gpubroker.providers import registry

    # What emulators and the suite give to machines is read on machines, not by us.
    ours = [
        file
        for file in SOURCE.rglob("*.py")
        if not {"emulators", "conformance", "chaos"} & set(file.parts)
    ]
    read = {name for file in ours for name in _variables(file)}
    assert {"GPUBROKER_HOME", "NO_COLOR", "SSH_AUTH_SOCK", "DATABASE_URL", "HOME"} <= read
    read |= {name for known in registry.ready() for name in cloud(known).key_variables}
    read |= {file.folder for files in KEY_FILES.values() for file in files}
    read |= set(daemon._INHERITED)
    page = TEXTS["configuration.md"]
    assert {name for name in read if f"`{name}`" not in page} == set()


# Examples


@pytest.fixture
def at_home(tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """The environment of somebody with nothing but a home folder."""
    (tmp_path / "home").mkdir()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {
        "HOME": str(tmp_path / "home"),
        "GPUBROKER_HOME": str(tmp_path / "state"),
        "PATH": path,
        "LANG": "C.UTF-8",
        "NO_COLOR": "1",
    }
    yield environ
    daemon.stop(Home(tmp_path / "state"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [name for name, text in TEXTS.items() if "\n```console run\n" in text]
)
def test_the_commands_of_a_page_run(page: str, at_home: Mapping[str, str]) -> None:
    lines = [
        re.sub(r"^[$>] ", "", line)
        for block in blocks(page, "console", "run")
        for line in block.splitlines()
    ]
    ran = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", "\n".join(lines)],
        env=at_home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=EXAMPLES_DEADLINE_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.slow
async def test_the_examples_of_the_library_page_run(
    at_home: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in at_home.items():
        monkeypatch.setenv(name, value)
    names: dict[str, Any] = {"__name__": "example"}
    examples = blocks("library.md", "python")
    assert len(examples) > 8
    for number, example in enumerate(examples, 1):
        code = compile(
            example, f"library.md, example {number}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        )
        if code.co_flags & inspect.CO_COROUTINE:
            await eval(code, names)  # noqa: S307 - the page's own example
        else:
            await asyncio.to_thread(exec, code, names)
