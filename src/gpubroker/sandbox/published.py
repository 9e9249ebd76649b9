"""Published ports: a loopback port of this computer that leads to a port inside a machine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from pathlib import Path
from typing import Any

from gpubroker.loopback import same_user
from gpubroker.sandbox.shell import listening_ports

LOOPBACK = "127.0.0.1"
_CHUNK = 65536


def leads_into(root: Path, port: int) -> bool:
    """Whether a process of the machine listens on this port.

    Machines share this computer's loopback: of two that listen on the same port the first has
    it and the second's own `bind` fails. Nothing leads into another machine's service or into
    this computer's own. Where the owner of a listener cannot be known, every port passes.
    """
    owned = listening_ports(root)
    return owned is None or port in owned


def port_inside(root: Path, port: int) -> int:
    """Where a port of the machine leads: `docker run -p` maps it to a container's own."""
    for file in sorted((root / "docker").glob("*.json")):
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            return int(json.loads(file.read_text())["ports"][str(port)])
    return port


def listening(port: int) -> socket.socket:
    """A listening socket on loopback; 0 = any free port. Raises OSError for one that is taken.

    Its connections send at once: else the body of an answer, written after its head, waits 40 ms
    for the other side to acknowledge the head.
    """
    listener = socket.create_server((LOOPBACK, port))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def bound_where_free(wanted: int | None) -> socket.socket:
    """A listening socket on loopback, on the wanted port where that is free."""
    if wanted:
        with contextlib.suppress(OSError):
            return listening(wanted)
    return listening(0)


class PublishedPort:
    """One open port; serves this user only."""

    def __init__(self, root: Path, container_port: int) -> None:
        self._root = root
        self._container_port = container_port
        self._server: asyncio.Server | None = None
        self._relays: set[asyncio.Task[Any]] = set()

    async def open(self, wanted: int | None) -> int:
        """Listens; the host port."""
        bound = bound_where_free(wanted)
        self._server = await asyncio.start_server(self._relay, sock=bound)
        return int(bound.getsockname()[1])

    async def close(self) -> None:
        """Ends the listener and every connection through it."""
        if self._server is not None:
            self._server.close()
        relays = tuple(self._relays)
        for relay in relays:
            relay.cancel()
        await asyncio.gather(*relays, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._relays.add(task)
            task.add_done_callback(self._relays.discard)
        try:
            peer, own = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
            port = port_inside(self._root, self._container_port)
            if same_user(peer, own) and leads_into(self._root, port):
                await relay_to(LOOPBACK, port, reader, writer)
        finally:
            writer.close()


async def relay_to(
    host: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Copies both ways until both sides have ended; a refused connection is just an end."""
    with contextlib.suppress(OSError):
        far_reader, far_writer = await asyncio.open_connection(host, port)
        try:
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        finally:
            far_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
