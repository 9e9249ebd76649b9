"""The SSH server of one machine. Importing this module imports asyncssh, which takes a while."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import asyncssh

from gpubroker.loopback import same_user
from gpubroker.sandbox.authorized_keys import EVERYTHING, Grant, admitted, grant_of
from gpubroker.sandbox.filesystem import local_script
from gpubroker.sandbox.host import MachineSpec
from gpubroker.sandbox.published import LOOPBACK, leads_into
from gpubroker.sandbox.shell import (
    environment,
    interactive_shell,
    layout_of,
    login_shell,
)
from gpubroker.sandbox.ssh_streams import run_in_terminal, run_piped

_LOCAL_NAMES = {"127.0.0.1", "localhost", "::1"}
SSH_PORT = 22
_HOST_KEY = "ssh_host_ed25519_key"
_SFTP_VERSION = 3
_SFTP_SERVERS = ("/usr/lib/openssh/sftp-server", "/usr/libexec/sftp-server")


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


class SshServer:
    """Listens on loopback for one machine, for one login name and its admitted keys."""

    def __init__(self, spec: MachineSpec, keys: tuple[str, ...]) -> None:
        self.spec = spec
        self.layout = layout_of(spec)
        self.root = self.layout.root
        self.keys = admitted(keys)
        self.host_key = host_key_of(self.root)
        self.processes: set[asyncio.subprocess.Process] = set()
        self.logins: set[asyncssh.SSHServerConnection] = set()
        self.connections: set[asyncssh.SSHServerConnection] = set()
        self._acceptor: asyncssh.SSHAcceptor | None = None

    async def open(self, wanted: int | None) -> tuple[str, int]:
        """Listens: on port 22 of the machine's own address, else on the wanted port of loopback.

        Where neither can be had, on any free port. The address and port.
        """
        places = [(self.spec.address, SSH_PORT)] if self.spec.address else []
        for host, port in (*places, (LOOPBACK, wanted or 0), (LOOPBACK, 0)):
            with contextlib.suppress(OSError):
                self._acceptor = await self._listen(host, port)
                return host, self._acceptor.get_port()
        raise OSError(f"No loopback port is free for the machine {self.spec.id}.")

    async def _listen(self, host: str, port: int) -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            host,
            port,
            server_factory=lambda: _Door(self),
            server_host_keys=[self.host_key],
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

    def grant(self, key: asyncssh.SSHKey, address: str) -> Grant | None:
        """What a login with the key may do, as things are now; None = it is not let in."""
        found = grant_of(self.layout.authorized_keys, key, address)
        if found is None and key.public_data in self.keys:
            return EVERYTHING
        return found

    async def serve(self, session: _Session) -> None:
        """Runs what a session asks for, or what its key forces on it."""
        process = await self._run(session)
        self.processes.discard(process)
        code = process.returncode or 0
        if code < 0:
            session.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
        else:
            session.exit(code)

    async def _run(self, session: _Session) -> asyncio.subprocess.Process:
        env = environment(self.spec, of_login=True, terminal=session.term_type or "")
        asked = session.asked()
        if session.grant.command is not None:
            command: str | None = session.grant.command
            if asked is not None:
                env |= {"SSH_ORIGINAL_COMMAND": self._local(asked)}
        else:
            command = asked
        if command is not None:
            argv = [login_shell(), "-c", self._local(command)]
        elif session.term_type is not None:
            argv = interactive_shell(self.spec)
        else:
            argv = [login_shell()]
        run = run_piped if session.term_type is None else run_in_terminal
        return await run(session, self.spec, argv, env, self.processes.add)

    def _local(self, command: str) -> str:
        return local_script(command, self.root, self.spec.user)


class _Session(asyncssh.SSHServerProcess[bytes]):
    """One channel of a login. Where the key forces a command, file transfers run it, too."""

    def __init__(self, server: SshServer, grant: Grant) -> None:
        free = grant.command is None
        files = (lambda channel: _Files(channel, server.spec)) if free else None
        super().__init__(lambda _: server.serve(self), files, _SFTP_VERSION, free)
        self.grant = grant
        self._server = server
        self._forced: asyncio.Task[None] | None = None

    def asked(self) -> str | None:
        """The client's own command; None for a shell."""
        if self.subsystem == "sftp":
            there = (path for path in _SFTP_SERVERS if Path(path).exists())
            return next(there, _SFTP_SERVERS[0])
        return self.command

    def pty_requested(
        self,
        _term_type: str,
        _term_size: tuple[int, int, int, int],
        _term_modes: Mapping[int, int],
    ) -> bool:
        return self.grant.pty

    def subsystem_requested(self, subsystem: str) -> bool:
        return subsystem == "sftp"

    def session_started(self) -> None:
        if self.grant.command is None or self.subsystem is None:
            super().session_started()
            return
        # asyncssh would serve the files itself.
        stderr = asyncssh.SSHWriter(self, self._chan, asyncssh.EXTENDED_DATA_STDERR)
        streams = (asyncssh.SSHReader(self, self._chan), asyncssh.SSHWriter(self, self._chan))
        self._stdin, self._stdout, self._stderr = *streams, stderr
        self._forced = asyncio.create_task(self._server.serve(self))


class _Door(asyncssh.SSHServer):
    """Who comes in, and where a forwarded connection may go."""

    def __init__(self, server: SshServer) -> None:
        self._server = server
        self._connection: asyncssh.SSHServerConnection | None = None
        self._grant = Grant(pty=False, forwarding=False)

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
        if username != self._server.spec.user or self._connection is None:
            return False
        address = str(self._connection.get_extra_info("peername")[0])
        granted = self._server.grant(key, address)
        # Of the keys that a client offers, the last one looked at is the one that it logs in with.
        self._grant = granted or self._grant
        return granted is not None

    def session_requested(self) -> _Session:
        return _Session(self._server, self._grant)

    def auth_completed(self) -> None:
        if self._connection is not None:
            self._server.logins.add(self._connection)

    def connection_requested(
        self, dest_host: str, dest_port: int, _orig_host: str, _orig_port: int
    ) -> bool:
        allowed = self._grant.may_connect(dest_host, dest_port) and dest_host in _LOCAL_NAMES
        return allowed and leads_into(self._server.root, dest_port)


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
