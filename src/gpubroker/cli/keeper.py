"""`keeper`: the loop that ends what expires while nobody types, here or in the background."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpubroker.cli import failures
from gpubroker.cli.session import Session

if TYPE_CHECKING:
    from gpubroker.fleet.keeping import Round
    from gpubroker.fleet.requests import Event
    from gpubroker.keeper_service import Service

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)
_ENV_FILE = click.option(
    "--env-file", type=_FILE, help="NAME=VALUE lines, readable by you alone, for the keeper."
)
_OTHERS = 0o077


@click.group("keeper")
def keeper_command() -> None:
    """Watch over machines while nobody types.

    The keeper does what is due: it ends machines at their expiry or when they are idle, confirms
    extensions, keeps budgets, warns, and finishes what was begun. A server does the same.
    """


@keeper_command.command("run")
@click.option("--once", is_flag=True, help="One round, for schedulers.")
@click.option("--home", type=_FOLDER, help="Where state lives; else GPUBROKER_HOME.")
@_ENV_FILE
@click.pass_obj
def run_command(session: Session, once: bool, home: Path | None, env_file: Path | None) -> int:
    """Keep watch in the foreground, until Ctrl-C."""
    given = {} if home is None else {"GPUBROKER_HOME": str(home)}
    if env_file is not None:
        given |= _private(env_file)
    if given:
        session = Session(
            {**session.environ, **given},
            json=session.json,
            sandbox=session.sandbox,
            trace_http=session.trace_http,
        )
    return session.run(_keep(session, once=once))


async def _keep(session: Session, *, once: bool) -> int:
    import asyncio
    import contextlib
    import signal

    realm = session.realm()
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Windows has no such handlers: Ctrl-C cancels there all the same.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, task.cancel if task else loop.stop)
    log = _Log(session)
    async with session.broker(realm, log.event) as broker:
        if not once:
            session.say("Keeping watch. Ctrl-C ends it.")
        try:
            await broker.keep(rounds=1 if once else None, on_round=log.round)
        except asyncio.CancelledError:
            session.say("Stopped. What was begun is recorded.")
    if once:
        session.show(lambda: {"problems": list(log.problems)}, tuple)
    return failures.FAILED if once and log.problems else failures.DONE


class _Log:
    """One line for each round that has something to say, and for what happened to machines."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._said: frozenset[str] = frozenset()
        self.problems: tuple[str, ...] = ()

    def round(self, done: Round) -> None:
        """What goes on failing is said once."""
        self.problems = done.problems
        fresh = [problem for problem in done.problems if problem not in self._said]
        self._said = frozenset(done.problems)
        if fresh:
            self._line(f"tried again later: {'; '.join(fresh)}")

    def event(self, event: Event) -> None:
        """Bookkeeping and waiting are not said."""
        from gpubroker.cli.progress import LINES

        if event.kind not in LINES or event.kind == "waiting":
            return
        mark, words = LINES[event.kind]
        self._line(f"{event.name or 'gpubroker'}: {mark} {words(event.data)}".rstrip())

    def _line(self, text: str) -> None:
        from datetime import UTC, datetime

        self._session.say(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}")


def _private(file: Path) -> dict[str, str]:
    from gpubroker.cli.launch_inputs import parse_env_file

    if sys.platform != "win32" and file.stat().st_mode & _OTHERS:
        raise click.UsageError(f"{file}: others can read it. chmod 600 {file}")
    return parse_env_file(file)


@keeper_command.command("install")
@_ENV_FILE
@click.option("--print", "only_print", is_flag=True, help="Show what would be written and run.")
@click.pass_obj
def install_command(session: Session, env_file: Path | None, only_print: bool) -> int:
    """Run the keeper in the background from now on, as a service of your own user."""
    if env_file is not None:
        _private(env_file)
    wanted = _service(session, env_file)
    if only_print:
        session.show(lambda: _document(wanted), lambda: _lines(wanted))
        return failures.DONE
    if wanted.file is not None:
        wanted.file.parent.mkdir(parents=True, exist_ok=True)
        wanted.file.write_text(wanted.text)
        _call(wanted.off, quietly=True)
    if not _call(wanted.on):
        session.say(
            f"error: {wanted.kind} refused it. Without it: gpubroker keeper run, or let a "
            "scheduler run gpubroker keeper run --once each minute"
        )
        return failures.FAILED
    session.show(
        lambda: _document(wanted),
        lambda: [f"The keeper runs ({wanted.kind}).", *([wanted.hint] if wanted.hint else [])],
    )
    return failures.DONE


@keeper_command.command("uninstall")
@click.pass_obj
def uninstall_command(session: Session) -> int:
    """End the background keeper, and remove what `install` wrote."""
    wanted = _service(session, None)
    ended = _call(wanted.off, quietly=True)
    there = wanted.file is not None and wanted.file.exists()
    if wanted.file is not None:
        wanted.file.unlink(missing_ok=True)
    session.show(
        lambda: {"removed": ended or there},
        lambda: ["The keeper is gone." if ended or there else "No keeper was installed."],
    )
    return failures.DONE


@keeper_command.command("status")
@click.pass_obj
def status_command(session: Session) -> int:
    """Whether a keeper runs, here or elsewhere. Exit code 1 where none does."""
    broker = session.broker(session.realm())
    try:
        hosts = broker.kept_by()
    finally:
        broker.close()
    try:
        wanted = _service(session, None)
    except click.UsageError:
        installed, kind = False, ""
    else:
        kind = wanted.kind
        installed = _call((wanted.state,), quietly=True)
    runs = f"A keeper runs on {', '.join(hosts)}." if hosts else "No keeper runs."
    by = f"The one of this computer is installed ({kind})." if installed else (
        "None is installed here. To have one: gpubroker keeper install"
    )  # fmt: skip
    session.show(
        lambda: {"running_on": list(hosts), "installed": installed, "kind": kind},
        lambda: [runs, by],
    )
    return failures.DONE if hosts else failures.FAILED


def _service(session: Session, env_file: Path | None) -> Service:
    import os

    from gpubroker.keeper_service import service

    try:
        return service(
            sys.platform,
            python=sys.executable,
            home=session.home.root.absolute(),
            environ=session.environ,
            uid=os.getuid() if hasattr(os, "getuid") else 0,
            env_file=None if env_file is None else env_file.absolute(),
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _document(wanted: Service) -> dict[str, Any]:
    return {
        "kind": wanted.kind,
        "file": None if wanted.file is None else str(wanted.file),
        "text": wanted.text,
        "commands": [list(words) for words in wanted.on],
    }


def _lines(wanted: Service) -> Iterator[str]:
    import shlex

    if wanted.file is not None:
        yield f"# {wanted.file}"
        yield wanted.text.rstrip()
    yield "# then"
    yield from (shlex.join(words) for words in wanted.on)


def _call(commands: Iterable[tuple[str, ...]], *, quietly: bool = False) -> bool:
    """Whether all went well; what they print goes to stderr."""
    import subprocess

    for words in commands:
        output = subprocess.DEVNULL if quietly else sys.stderr
        try:
            ran = subprocess.run(words, stdout=output, stderr=output, check=False)
        except OSError:
            return False
        if ran.returncode != 0:
            return False
    return True
