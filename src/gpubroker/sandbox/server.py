"""The process that holds the sandbox: emulators, clock, machines, proxy.

`python -m gpubroker.sandbox.server --mode background` is what `daemon.ensure` starts;
`serve` is what the foreground command runs.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from msgspec import Struct

from gpubroker.loopback import AsgiApp, LoopbackGuard, Message, Receive, Scope, Send, send_refusal
from gpubroker.model.clock import boot_seconds
from gpubroker.sandbox import daemon
from gpubroker.sandbox.published import bound_where_free, listening

if TYPE_CHECKING:
    from gpubroker.sandbox.app import Sandbox
    from gpubroker.sandbox.machine import LoopbackHost
    from gpubroker.sandbox.proxy import ConnectProxy

IDLE_S = 30 * 60.0
IDLE_WITH_MACHINES_S = 12 * 3600.0
_LOOK_S = 15.0
_LOCK_S = 10.0


class Settings(Struct, frozen=True, kw_only=True):
    """How the process runs. `port` 0 = any free one; in the background a taken one, too."""

    folder: Path
    mode: Literal["background", "foreground"] = "foreground"
    port: int = 0
    speed: float = 1.0
    seed: int = 0
    providers: tuple[str, ...] | None = None
    proxy: bool = False
    record: Path | None = None
    ready_fd: int | None = None


class Ready(Struct, frozen=True, kw_only=True):
    """Where the sandbox answers."""

    base_url: str
    id: str
    proxy_url: str | None = None
    ca_file: Path | None = None


class IdleRule:
    """When a background sandbox has waited long enough."""

    def __init__(self, now: float) -> None:
        self._busy_at = now

    def over(self, now: float, last_request: float, *, sessions: int, machines: int) -> bool:
        """True after 30 minutes without request, SSH session and machine; 12 h with machines."""
        self._busy_at = max(self._busy_at, last_request, now if sessions else 0.0)
        return now - self._busy_at >= (IDLE_WITH_MACHINES_S if machines else IDLE_S)


class FolderInUse(Exception):
    """Another process serves this state folder."""


async def serve(
    settings: Settings,
    on_ready: Callable[[Ready], None] = lambda _ready: None,
    ended: asyncio.Event | None = None,
) -> None:
    """Serves until SIGTERM, SIGINT, `ended` or, in the background, until it is idle.

    Raises FolderInUse, OSError for a port that is taken, ValueError for an unknown provider.
    """
    from gpubroker.sandbox.app import create_sandbox
    from gpubroker.sandbox.listener import HttpListener
    from gpubroker.sandbox.machine import LoopbackHost

    ended = ended or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with contextlib.AsyncExitStack() as closing:
        closing.enter_context(await _alone_in(settings.folder))
        bound = _bound(settings)
        closing.callback(bound.close)
        port = int(bound.getsockname()[1])
        base_url = f"http://{daemon.LOOPBACK}:{port}"
        host = LoopbackHost()
        sandbox = create_sandbox(
            settings.folder,
            host,
            mode=settings.mode,
            speed=settings.speed,
            seed=settings.seed,
            providers=settings.providers,
            base_url=base_url,
        )
        host.on_power, host.on_exit = sandbox.machine_powered, sandbox.machine_exited
        host.clock = sandbox.clock.now
        closing.push_async_callback(sandbox.close)
        await sandbox.start()
        token = secrets.token_hex(32)
        door = _Door(sandbox, settings.folder, token, port)
        closing.push_async_callback(door.close)
        listener = HttpListener(LoopbackGuard(door))
        await listener.open(bound)
        closing.push_async_callback(listener.close)
        proxy = await door.open_proxy() if settings.proxy else None
        _tell(settings, port, token)
        on_ready(
            Ready(
                base_url=base_url,
                id=sandbox.id,
                proxy_url=door.proxy_url,
                ca_file=proxy.ca_file if proxy else None,
            )
        )
        idle = IdleRule(boot_seconds()) if settings.mode == "background" else None
        while not (ended.is_set() or (idle is not None and _is_over(idle, sandbox, host))):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), _LOOK_S)


def _is_over(idle: IdleRule, sandbox: Sandbox, host: LoopbackHost) -> bool:
    return idle.over(
        boot_seconds(),
        sandbox.last_activity,
        sessions=host.sessions(),
        machines=sandbox.machines_running(),
    )


async def _alone_in(folder: Path) -> IO[str]:
    """Holds the folder for this process; the kernel lets go of it whatever happens to us."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _LOCK_S
    while (held := _held(folder)) is None:
        if loop.time() > deadline:
            raise FolderInUse(f"Another sandbox serves {folder}.")
        await asyncio.sleep(0.05)
    return held


def _held(folder: Path) -> IO[str] | None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = (folder / "in-use.lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _bound(settings: Settings) -> socket.socket:
    if settings.mode == "background":
        return bound_where_free(settings.port)
    return listening(settings.port)


def _tell(settings: Settings, port: int, token: str) -> None:
    """Writes the record, then tells the process that waits for us."""
    if settings.record is not None:
        record = daemon.Record(
            pid=os.getpid(),
            start_time=daemon.start_time(os.getpid()) or "",
            port=port,
            version=daemon.package_version(),
            token=token,
        )
        daemon.write_record(settings.record, record)
    if settings.ready_fd is not None:
        with contextlib.suppress(BrokenPipeError):
            os.write(settings.ready_fd, b"\n")
        os.close(settings.ready_fd)


class _Door:
    """Before the sandbox's application: proves who we are, and opens the proxy when asked."""

    def __init__(self, sandbox: Sandbox, folder: Path, token: str, port: int) -> None:
        self._app: AsgiApp = sandbox.app
        self._hosts = sandbox.hosts()
        self._folder, self._token, self._port = folder, token, port
        self._opening = asyncio.Lock()
        self._proxy: ConnectProxy | None = None
        self.proxy_url: str | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path")
        if path == daemon.PROXY_PATH:
            await self._answer_proxy(scope, send)
            return
        headers = dict(scope.get("headers", ()))
        nonce = headers.get(daemon.CHALLENGE.encode())
        if path == daemon.STATUS_PATH and nonce:
            send = self._proving(send, nonce.decode("latin-1"))
        await self._app(scope, receive, send)

    def _proving(self, send: Send, nonce: str) -> Send:
        proof = daemon.proof(self._token, nonce, self._port)

        async def proving(message: Message) -> None:
            if message["type"] == "http.response.start":
                pair = (daemon.PROOF.encode(), proof.encode())
                message["headers"] = [*message.get("headers", ()), pair]
            await send(message)

        return proving

    async def _answer_proxy(self, scope: Scope, send: Send) -> None:
        if scope["method"] != "POST":
            await send_refusal(send, 405, "POST opens the proxy.")
            return
        proxy = await self.open_proxy()
        body = json.dumps({"url": self.proxy_url, "ca_file": str(proxy.ca_file)}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def open_proxy(self) -> ConnectProxy:
        """The proxy, opened with its first use."""
        from gpubroker.sandbox.proxy import ConnectProxy

        async with self._opening:
            if self._proxy is None:
                proxy = ConnectProxy(self._app, self._hosts, self._folder / "proxy")
                self.proxy_url = f"http://{daemon.LOOPBACK}:{await proxy.open()}"
                self._proxy = proxy
            return self._proxy

    async def close(self) -> None:
        """Closes the proxy."""
        if self._proxy is not None:
            await self._proxy.close()


def _settings(argv: Sequence[str]) -> Settings:
    parser = argparse.ArgumentParser(prog="gpubroker.sandbox.server")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--mode", choices=("background", "foreground"), default="foreground")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--providers", type=lambda text: tuple(text.split(",")))
    parser.add_argument("--proxy", action="store_true")
    parser.add_argument("--record", type=Path)
    parser.add_argument("--ready-fd", type=int)
    return Settings(**vars(parser.parse_args(argv)))


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the process; in the background it leaves its parent first."""
    settings = _settings(sys.argv[1:] if argv is None else argv)
    if settings.mode == "background" and os.fork():
        os._exit(0)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
