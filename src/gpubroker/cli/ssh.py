"""`ssh`: the real ssh, with the machine's present address and pinned host key."""

from __future__ import annotations

import shlex
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpubroker.cli import failures
from gpubroker.cli.lookup import find
from gpubroker.cli.session import Session

if TYPE_CHECKING:
    from gpubroker.model.machine import Machine

SSH_FAILED = 255
SIGNALLED = 128


@click.command("ssh")
@click.argument("name")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- CMD…]")
@click.option("--host", is_flag=True, help="The VM itself, not the container that it runs.")
@click.pass_obj
def ssh_command(session: Session, name: str, command: tuple[str, ...], host: bool) -> int:
    """Open a shell on a machine, or run CMD there and exit with its code.

    Before CMD has started the exit code is 125. One word of CMD is a line for the machine's shell,
    several are a program and its arguments. With --json and without CMD: the command line of ssh.
    """
    if session.json and command:
        raise click.UsageError("--json cannot stand beside CMD: its output is passed on as it is")
    try:
        machine, argv = _prepared(session, name, command, host=host)
    except Exception as error:  # noqa: BLE001 - whatever it was, CMD has not started
        described = failures.describe(error) | {"exit_code": failures.NOT_STARTED}
        session.tell_failure(described, label="gpubroker")
        return failures.NOT_STARTED
    if session.json:
        ssh = machine.ssh
        document = {"name": machine.name, "argv": argv, "host": ssh.host if ssh else None}
        session.show(lambda: document, list)
        return failures.DONE
    return run(session, machine, argv)


def _prepared(
    session: Session, name: str, command: tuple[str, ...], *, host: bool
) -> tuple[Machine, list[str]]:
    from gpubroker.remote.ssh import on_the_vm
    from gpubroker.remote.ssh import ssh_command as command_line

    ((realm, _),) = find(session, [name]).items()

    async def ask() -> tuple[Machine, Path]:
        async with session.broker(realm) as broker:
            return await broker.endpoint(name), broker.ssh_folder()

    machine, folder = session.run(ask())
    if not host:
        return machine, command_line(machine, folder, command)
    tty = None if command else True
    return machine, command_line(machine, folder, on_the_vm(command), tty=tty)


def run(session: Session, machine: Machine, argv: list[str]) -> int:
    """The exit code of the command; 125 where ssh did not get as far as starting it."""
    with tempfile.TemporaryDirectory(prefix="gpubroker-") as folder:
        began = Path(folder) / "began"
        # ssh itself says 255 for its own failures, and so may a command: what ssh runs here once
        # it is let in tells the two apart. "%" would be expanded by ssh.
        note = f"touch {shlex.quote(str(began))}".replace("%", "%%")
        options = ["-o", "PermitLocalCommand=yes", "-o", f"LocalCommand={note}"]
        try:
            code = _wait(subprocess.Popen([argv[0], *options, *argv[1:]]))
        except FileNotFoundError:
            session.say("gpubroker: there is no ssh on this computer: install openssh-client")
            return failures.NOT_STARTED
        if code == SSH_FAILED and not began.exists():
            from gpubroker.cli.machines import way_in_of

            session.say(
                f"gpubroker: {machine.name} was not reached over SSH; nothing was run there. "
                f"Next: gpubroker show {machine.name}"
            )
            if other := way_in_of(machine, Path(argv[argv.index("-F") + 1]).parent):
                session.say(f"  {machine.provider}: {other}")
            return failures.NOT_STARTED
    return code if code >= 0 else SIGNALLED - code


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Ctrl-C is ssh's business, a termination is passed on."""
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        return process.wait()
    finally:
        signal.signal(signal.SIGINT, former)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
