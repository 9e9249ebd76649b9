"""HTTP on connections that are accepted elsewhere: uvicorn's protocol without its server.

The server of uvicorn wakes up ten times a second and brings signal handlers; a sandbox that
waits in the background does neither.
"""

from __future__ import annotations

import asyncio
import socket

from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from gpubroker.loopback import AsgiApp

_KEEP_ALIVE_S = 75


class HttpListener:
    """Serves one ASGI application; keeps no access log: paths may hold keys."""

    def __init__(self, app: AsgiApp) -> None:
        self._config = Config(
            app,
            http=H11Protocol,
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
        self._config.load()
        self._state = ServerState()
        self._server: asyncio.Server | None = None

    def protocol(self) -> H11Protocol:
        """For one more connection."""
        return H11Protocol(self._config, self._state, {})

    async def open(self, bound: socket.socket) -> None:
        """Accepts on a socket that is bound already."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self.protocol, sock=bound)

    async def close(self, grace_s: float = 0.5) -> None:
        """Lets requests in progress end for `grace_s`, then cuts them."""
        if self._server is not None:
            self._server.close()
        for connection in tuple(self._state.connections):
            connection.shutdown()
        if tasks := set(self._state.tasks):
            _, late = await asyncio.wait(tasks, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for connection in tuple(self._state.connections):
            connection.transport.abort()
