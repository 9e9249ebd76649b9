"""What flows between a session and its process: pipes, a terminal, signals."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import termios
from collections.abc import Awaitable, Callable

import asyncssh

from gpubroker.sandbox.host import MachineSpec
from gpubroker.sandbox.shell import spawn

_CHUNK = 65536
_LAST_WORDS_S = 2.0

Session = asyncssh.SSHServerProcess[bytes]


async def run_piped(
    session: Session,
    spec: MachineSpec,
    argv: list[str],
    env: dict[str, str],
    started: Callable[[asyncio.subprocess.Process], None],
) -> asyncio.subprocess.Process:
    """A command without a terminal; ends when its output has ended, whoever holds it open."""
    process = await spawn(spec, argv, env)
    started(process)
    into, out, err = process.stdin, process.stdout, process.stderr
    if into is None or out is None or err is None:
        raise RuntimeError("The process was started without pipes.")

    async def write(data: bytes) -> None:
        into.write(data)
        await into.drain()

    feeding = asyncio.create_task(_feed(session, process, write, into.close))
    await asyncio.gather(
        _show(out.read, session.stdout, process), _show(err.read, session.stderr, process)
    )
    await process.wait()
    await _cancelled(feeding)
    return process


async def run_in_terminal(
    session: Session,
    spec: MachineSpec,
    argv: list[str],
    env: dict[str, str],
    started: Callable[[asyncio.subprocess.Process], None],
) -> asyncio.subprocess.Process:
    """A command in a pseudo-terminal; a lost connection hangs the terminal up."""
    master, slave = pty.openpty()
    try:
        os.set_blocking(master, False)
        _resize(master, session.term_size)
        device = os.ttyname(slave)
        process = await spawn(spec, argv, env | {"SSH_TTY": device}, terminal=device)
        started(process)

        async def write(data: bytes) -> None:
            while data:
                try:
                    data = data[os.write(master, data) :]
                except BlockingIOError:
                    await asyncio.sleep(0.01)

        def end_of_input() -> None:
            with contextlib.suppress(OSError):
                os.write(master, b"\x04")

        feeding = asyncio.create_task(
            _feed(session, process, write, end_of_input, lambda size: _resize(master, size))
        )
        showing = asyncio.create_task(
            _show(lambda _: _read_terminal(master), session.stdout, process)
        )
        ended = asyncio.create_task(process.wait())
        gone = asyncio.create_task(session.wait_closed())
        await asyncio.wait({ended, gone}, return_when=asyncio.FIRST_COMPLETED)
        os.close(slave)
        slave = -1
        if not ended.done():
            _signal_group(process, signal.SIGHUP)
        await asyncio.wait({showing}, timeout=_LAST_WORDS_S if ended.done() else 0)
        await _cancelled(showing, feeding, gone)
    finally:
        os.close(master)
        if slave >= 0:
            os.close(slave)
    await ended
    return process


async def _feed(
    session: Session,
    process: asyncio.subprocess.Process,
    write: Callable[[bytes], Awaitable[None]],
    end: Callable[[], object],
    resize: Callable[[tuple[int, int, int, int]], object] = lambda _size: None,
) -> None:
    """What the client sends: input, signals, new terminal sizes, the end of input."""
    with contextlib.suppress(OSError, asyncssh.Error):
        while True:
            try:
                data = await session.stdin.read(_CHUNK)
            except asyncssh.SignalReceived as received:
                named = getattr(signal, f"SIG{received.signal}", None)
                if named is not None:
                    _signal_group(process, named)
            except asyncssh.TerminalSizeChanged as changed:
                resize(changed.term_size)
            except asyncssh.BreakReceived:
                _signal_group(process, signal.SIGINT)
            else:
                if not data:
                    break
                await write(data)
    end()


async def _show(
    read: Callable[[int], Awaitable[bytes]],
    output: asyncssh.SSHWriter[bytes],
    process: asyncio.subprocess.Process,
) -> None:
    """Copies output to its end, which alone keeps the last of it from being lost."""
    while data := await read(_CHUNK):
        try:
            output.write(data)
            await output.drain()
        except (OSError, asyncssh.Error):
            # Nobody listens any more: what writes on is told so, as by the pipe of a real sshd.
            _signal_group(process, signal.SIGPIPE)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


async def _read_terminal(master: int) -> bytes:
    while True:
        await _readable(master)
        try:
            return os.read(master, _CHUNK)
        except BlockingIOError:
            continue
        except OSError:
            return b""  # Linux says EIO where the last process of a terminal has closed it


def _resize(master: int, size: tuple[int, int, int, int]) -> None:
    columns, rows, width, height = size
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, width, height))


def _signal_group(process: asyncio.subprocess.Process, number: int) -> None:
    if process.returncode is None:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, number)


async def _cancelled(*tasks: asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
