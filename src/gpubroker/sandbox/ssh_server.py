"""The SSH server of one machine. Importing this module imports asyncssh, which takes a while."""

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
from pathlib import Path

import asyncssh

from gpubroker.loopback import same_user
from gpubroker.sandbox.host import MachineSpec
from gpubroker.sandbox.published import LOOPBACK, leads_into
from gpubroker.sandbox.shell import (
    environment,
    interactive_shell,
    layout_of,
    local_script,
    login_shell,
    spawn,
)

_CHUNK = 65536
_LAST_WORDS_S = 2.0
_LOCAL_NAMES = {"127.0.0.1", "localhost", "::1"}
_HOST_KEY = "ssh_host_ed25519_key"

Session = asyncssh.SSHServerProcess[bytes]


def host_key_of(folder: Path) -> asyncssh.SSHKey:
    """The machine's own key, made once in its folder (0600)."""
    file = folder / _HOST_KEY
    if file.exists():
        return asyncssh.read_private_key(file)
    key = asyncssh.generate_private_key("ssh-ed25519")
    descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "wb") as output:
        output.write(key.export_private_key())
    return key


def public_line(key: asyncssh.SSHKey) -> str:
    """`ssh-ed25519 AAAA…`."""
    return key.export_public_key().decode().strip()


def admitted(lines: tuple[str, ...]) -> frozenset[bytes]:
    """The key material of public key lines; a line that is none admits nobody."""
    found = set()
    for line in lines:
        with contextlib.suppress(asyncssh.KeyImportError):
            found.add(asyncssh.import_public_key(line).public_data)
    return frozenset(found)


class SshServer:
    """Listens on loopback for one machine, for one login name and its admitted keys."""

    def __init__(self, spec: MachineSpec, keys: tuple[str, ...]) -> None:
        self.spec = spec
        self.root = layout_of(spec).root
        self.keys = admitted(keys)
        self.host_key = host_key_of(self.root)
        self.processes: set[asyncio.subprocess.Process] = set()
        self.logins: set[asyncssh.SSHServerConnection] = set()
        self.connections: set[asyncssh.SSHServerConnection] = set()
        self._acceptor: asyncssh.SSHAcceptor | None = None

    async def open(self, wanted: int | None) -> int:
        """Listens, on the wanted port where that is free; the port."""
        for port in (wanted, 0) if wanted else (0,):
            with contextlib.suppress(OSError):
                self._acceptor = await self._listen(port or 0)
                return self._acceptor.get_port()
        raise OSError(f"No loopback port is free for the machine {self.spec.id}.")

    async def _listen(self, port: int) -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            LOOPBACK,
            port,
            server_factory=lambda: _Door(self),
            server_host_keys=[self.host_key],
            process_factory=self._serve,
            sftp_factory=lambda channel: _Files(channel, self.spec),
            allow_scp=True,
            encoding=None,
            line_editor=False,
            password_auth=False,
            kbdint_auth=False,
            host_based_auth=False,
            gss_host=None,
            agent_forwarding=False,
            config=None,
        )

    async def close(self) -> None:
        """Ends the listener and every connection; the processes are ended by the machine."""
        if self._acceptor is not None:
            self._acceptor.close()
        for connection in tuple(self.connections):
            connection.abort()
        if self._acceptor is not None:
            await self._acceptor.wait_closed()

    async def _serve(self, session: Session) -> None:
        if session.command is not None:
            argv = [login_shell(), "-c", local_script(session.command)]
        elif session.term_type is not None:
            argv = interactive_shell(self.spec)
        else:
            argv = [login_shell()]
        run = _run_piped if session.term_type is None else _run_in_terminal
        process = await run(session, self.spec, argv, self.processes.add)
        self.processes.discard(process)
        code = process.returncode or 0
        if code < 0:
            session.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
        else:
            session.exit(code)


class _Door(asyncssh.SSHServer):
    """Who comes in, and where a forwarded connection may go."""

    def __init__(self, server: SshServer) -> None:
        self._server = server
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        if same_user(conn.get_extra_info("peername"), conn.get_extra_info("sockname")):
            self._connection = conn
            self._server.connections.add(conn)
        else:
            conn.abort()

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._connection is not None:
            self._server.connections.discard(self._connection)
            self._server.logins.discard(self._connection)

    def begin_auth(self, _username: str) -> bool:
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        known = username == self._server.spec.user and key.public_data in self._server.keys
        return known and self._connection is not None

    def auth_completed(self) -> None:
        if self._connection is not None:
            self._server.logins.add(self._connection)

    def connection_requested(
        self, dest_host: str, dest_port: int, _orig_host: str, _orig_port: int
    ) -> bool:
        return dest_host in _LOCAL_NAMES and leads_into(self._server.root, dest_port)


class _Files(asyncssh.SFTPServer):
    """The machine's folder as the root directory; relative paths start at the login's home.

    A path that names the folder itself, as `pwd` prints it in the machine, is taken as it is.
    """

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], spec: MachineSpec) -> None:
        layout = layout_of(spec)
        super().__init__(channel, chroot=os.fsencode(layout.root))
        self._root, self._home = os.fsencode(layout.root), os.fsencode(layout.home)

    def map_path(self, path: bytes) -> bytes:
        if not path.startswith(b"/"):
            path = os.path.join(self._home, path)  # noqa: PTH118  (Path has no bytes)
        full = os.path.normpath(path)
        if full == self._root or full.startswith(self._root + b"/"):
            return full
        return super().map_path(full)

    def exit(self) -> None:
        # scp takes a session that ends without a status for a failure.
        self.channel.exit(0)


async def _run_piped(
    session: Session,
    spec: MachineSpec,
    argv: list[str],
    started: Callable[[asyncio.subprocess.Process], None],
) -> asyncio.subprocess.Process:
    """A command without a terminal; ends when its output has ended, whoever holds it open."""
    process = await spawn(spec, argv, environment(spec, of_login=True))
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


async def _run_in_terminal(
    session: Session,
    spec: MachineSpec,
    argv: list[str],
    started: Callable[[asyncio.subprocess.Process], None],
) -> asyncio.subprocess.Process:
    """A command in a pseudo-terminal; a lost connection hangs the terminal up."""
    master, slave = pty.openpty()
    try:
        os.set_blocking(master, False)
        _resize(master, session.term_size)
        env = environment(spec, of_login=True, terminal=session.term_type or "")
        process = await spawn(spec, argv, env, terminal=os.ttyname(slave))
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
