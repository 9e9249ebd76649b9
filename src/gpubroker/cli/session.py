"""What one call of the command line knows: its switches, its terminal, its broker."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

if TYPE_CHECKING:
    from gpubroker.broker import Broker
    from gpubroker.fleet.requests import Event
    from gpubroker.model.home import Home
    from gpubroker.model.machine import Machine
    from gpubroker.model.notices import Warned

Answer = TypeVar("Answer")


class Realm(NamedTuple):
    """Where machines live: `url` None is the live realm."""

    label: str
    url: str | None


LIVE = Realm("", None)


def open_broker(
    session: Session, url: str | None, on_event: Callable[[Event], None] | None
) -> Broker:
    """The one place where this face meets the facade."""
    from gpubroker.broker import Broker

    return Broker(
        home=session.home,
        environ=session.environ,
        sandbox=url,
        on_event=on_event,
        trace_http=session.trace if session.trace_http else None,
    )


def realm_time(url: str | None) -> datetime:
    """Now, as the realm counts it: a sandbox's clock can be moved."""
    if url is None:
        return datetime.now(UTC)
    from gpubroker.realm import control

    return datetime.fromisoformat(control(url, "/_sandbox/clock")["now"])


class Session:
    """One command line. Results go to stdout, everything else to stderr."""

    def __init__(
        self,
        environ: Mapping[str, str] = os.environ,
        *,
        json: bool = False,
        sandbox: bool = False,
        trace_http: bool = False,
    ) -> None:
        self.environ = environ
        self.json, self.sandbox, self.trace_http = json, sandbox, trace_http

    @property
    def home(self) -> Home:
        """Where state lives."""
        from gpubroker.model.home import Home

        return Home.from_env(self.environ)

    @property
    def interactive(self) -> bool:
        """Whether there is somebody to ask."""
        return bool(sys.stdin) and sys.stdin.isatty() and sys.stderr.isatty()

    @property
    def width(self) -> int | None:
        """Columns of the terminal; None where a program reads, whatever terminal is near."""
        if not sys.stdout.isatty():
            return None
        told = self.environ.get("COLUMNS", "")
        return int(told) if told.isdigit() else os.get_terminal_size(sys.stdout.fileno()).columns

    @property
    def in_sandbox(self) -> bool:
        """Whether only the sandbox is meant."""
        return self.sandbox or bool(self.environ.get("GPUBROKER_SANDBOX"))

    def styled(self, text: str, *, to_stderr: bool = False, **style: Any) -> str:
        """Colour, for terminals of people who did not decline it."""
        stream = sys.stderr if to_stderr else sys.stdout
        plain = bool(self.environ.get("NO_COLOR")) or not stream.isatty()
        return text if plain else click.style(text, **style)

    def show(self, document: Callable[[], Any], text: Callable[[], Iterable[str]]) -> None:
        """The answer: one JSON document, or lines for a person. Only the one shown is made."""
        if self.json:
            import json

            print(json.dumps(document(), ensure_ascii=False, allow_nan=False), flush=True)
            return
        for line in text():
            print(line)
        sys.stdout.flush()

    def say(self, line: str) -> None:
        """Progress, a warning, a hint."""
        print(line, file=sys.stderr, flush=True)

    def tell_failure(self, described: Mapping[str, Any], *, label: str) -> None:
        """An error on stderr: an object of its own line for scripts, sentences for people."""
        if self.json:
            import json

            self.say(json.dumps({"error": described}, ensure_ascii=False))
            return
        self.say(f"{self.styled(label, to_stderr=True, fg='red')}: {described['message']}")
        if step := described.get("next_step"):
            self.say(f"       Next: {step}")

    def trace(self, line: str) -> None:
        """One request to a cloud."""
        self.say(f"http: {line}")

    def confirm(self, question: str, *, yes: bool) -> None:
        """Goes on with a yes; asks on a terminal, and never anywhere else."""
        if yes:
            return
        if not self.interactive:
            raise click.UsageError(
                f"{question} There is no terminal to ask on: say --yes. Nothing was done."
            )
        if not click.confirm(question, err=True):
            from gpubroker.cli.failures import Declined

            raise Declined("nothing was done")

    def realm(self) -> Realm:
        """The realm that this command line means; a sandbox that is asked for is started."""
        if url := self.environ.get("GPUBROKER_SANDBOX"):
            return Realm("", url)
        if not self.sandbox:
            return LIVE
        from gpubroker.sandbox import daemon

        return Realm("", daemon.ensure(self.home).base_url)

    def realms(self, *, start: bool = False) -> Iterator[Realm]:
        """Where a machine is looked for: the realm meant; behind live also the sandbox's.

        With `start` a sandbox that has machines of ours and does not run is started for them.
        """
        if self.in_sandbox:
            yield self.realm()
            return
        yield LIVE
        home = self.home
        if not home.sandbox.is_dir():
            return
        from gpubroker.sandbox import daemon

        running = daemon.status(home)
        if running is None and start and any(home.sandbox.glob("stores/*.db")):
            running = daemon.ensure(home)
        if running is not None:
            yield Realm("(sandbox)", running.base_url)

    def load_gpu_models(self) -> None:
        """The user's own GPU models; a file that makes no sense is told and left out."""
        file = self.home.gpus
        if not file.exists():
            return
        from gpubroker.catalog.gpus import load_user_models
        from gpubroker.model.errors import Invalid

        try:
            load_user_models(file)
        except Invalid as error:
            self.say(f"warning: {error}")

    def broker(
        self, realm: Realm = LIVE, on_event: Callable[[Event], None] | None = None
    ) -> Broker:
        """A broker in the realm."""
        return open_broker(self, realm.url, on_event)

    def recorded(
        self, realm: Realm, *, include_ended: bool = False, settle: bool = False
    ) -> tuple[Machine, ...]:
        """Machines by the store, no cloud asked; with `settle`, what is due is done first.

        A cloud that does not answer then costs a warning, not the answer.
        """
        broker = self.broker(realm)
        try:
            if settle and broker.due():
                self.run(self._settle(realm))
            return broker.machines(include_ended=include_ended)
        finally:
            broker.close()

    def warnings(self, realm: Realm) -> tuple[Warned, ...]:
        """What was warned of in the last day, no cloud asked."""
        broker = self.broker(realm)
        try:
            return broker.warnings()
        finally:
            broker.close()

    async def _settle(self, realm: Realm) -> None:
        from gpubroker.cli.progress import Progress
        from gpubroker.model.errors import BrokerError

        try:
            async with self.broker(realm, Progress(self)) as broker:
                undone = await broker.settle()
        except BrokerError as error:
            undone = (str(error),)
        for why in undone:
            self.say(f"warning: not done yet, tried again by the next command: {why}")

    def now(self, realm: Realm) -> datetime:
        """The realm's time."""
        return realm_time(realm.url)

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """Runs to the end; Ctrl-C cancels it, and what was begun stays recorded."""
        import asyncio

        return asyncio.run(work)
