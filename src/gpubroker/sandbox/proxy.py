"""The second door: an HTTPS proxy that leads the vendors' real host names to the emulators.

For clients whose address cannot be set. It ends TLS itself, with certificates of an authority
made for the run, and serves the request in this process: it opens no connection to anywhere.
Clients that speak gRPC need the emulator's own port.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import shlex
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import trustme

from gpubroker.loopback import AsgiApp, LoopbackGuard, Receive, Scope, Send, same_user
from gpubroker.sandbox.listener import HttpListener
from gpubroker.sandbox.published import LOOPBACK, listen_where_free, port_of

Shell = Literal["bash", "fish", "powershell"]

_HTTPS = "443"
_HEAD_S = 10.0
_HANDSHAKE_S = 10.0
_LONGEST_HEAD = 16384
_CA_VARIABLES = (
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "AWS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
)
_PROXY_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
UNSET = ("SSL_CERT_DIR",)
"""Clients that read it would look past the certificate file."""


class ConnectProxy:
    """Listens on loopback for this user; `hosts` maps a host name or pattern to a provider."""

    def __init__(self, app: AsgiApp, hosts: Mapping[str, str], folder: Path) -> None:
        self._app = app
        self._hosts = {pattern.lower(): provider for pattern, provider in hosts.items()}
        self._authority = trustme.CA(organization_name="gpubroker sandbox")
        self._sites: dict[str, tuple[ssl.SSLContext, HttpListener]] = {}
        self._server: asyncio.Server | None = None
        self.ca_file = folder / "ca.pem"

    async def open(self, wanted: int | None = None) -> int:
        """Writes the authority's certificate and listens; the port."""
        self.ca_file.parent.mkdir(parents=True, exist_ok=True)
        self._authority.cert_pem.write_to_path(str(self.ca_file))
        self._server = await listen_where_free(self._accept, wanted)
        return port_of(self._server)

    async def close(self) -> None:
        """Ends the listener and every connection."""
        if self._server is not None:
            self._server.close()
        await asyncio.gather(*(listener.close() for _, listener in self._sites.values()))

    def provider_of(self, host: str) -> str | None:
        """Whose host name this is; the longest pattern that fits counts."""
        host = host.lower()
        if host in self._hosts:
            return self._hosts[host]
        fitting = [pattern for pattern in self._hosts if fnmatch.fnmatchcase(host, pattern)]
        return self._hosts[max(fitting, key=len)] if fitting else None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            peer, own = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
            if not same_user(peer, own):
                await _answer(writer, "403 Forbidden", "Only the user who started this may use it.")
                return
            async with asyncio.timeout(_HEAD_S):
                head = await reader.readuntil(b"\r\n\r\n")
            host = await self._admitted(head, writer)
            if host is not None:
                await self._secure(host, writer)
                return
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        writer.close()

    async def _admitted(self, head: bytes, writer: asyncio.StreamWriter) -> str | None:
        """The host that a CONNECT names, where an emulator serves it."""
        method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        host, _, port = rest.partition(" ")[0].rpartition(":")
        if method != "CONNECT":
            words = "This proxy serves HTTPS only (CONNECT): nothing leaves this computer."
        elif port != _HTTPS:
            words = f"This proxy serves port {_HTTPS} only."
        elif self.provider_of(host) is None:
            words = f"No emulator serves {host!r}: nothing leaves this computer."
        else:
            return host.lower()
        await _answer(writer, "403 Forbidden", words)
        return None

    async def _secure(self, host: str, writer: asyncio.StreamWriter) -> None:
        """Turns the connection into one of the emulator's own HTTP connections."""
        context, listener = self._site(host)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await writer.drain()
        waiting = _UntilSecured()
        secured = await asyncio.get_running_loop().start_tls(
            writer.transport,
            waiting,
            context,
            server_side=True,
            ssl_handshake_timeout=_HANDSHAKE_S,
        )
        if secured is not None:
            waiting.hand_over(secured, listener.protocol())

    def _site(self, host: str) -> tuple[ssl.SSLContext, HttpListener]:
        if host not in self._sites:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.set_alpn_protocols(["http/1.1"])
            self._authority.issue_cert(host).configure_cert(context)
            routed = _below(self._app, f"/{self.provider_of(host)}")
            guarded = LoopbackGuard(routed, {host})
            self._sites[host] = (context, HttpListener(guarded))
        return self._sites[host]


class _UntilSecured(asyncio.Protocol):
    """Holds what arrives between the handshake and the HTTP protocol's taking over."""

    def __init__(self) -> None:
        self._early: list[bytes] = []
        self._ended = False

    def data_received(self, data: bytes) -> None:
        self._early.append(data)

    def eof_received(self) -> bool:
        self._ended = True
        return False

    def connection_lost(self, _exc: Exception | None) -> None:
        self._ended = True

    def hand_over(self, transport: asyncio.Transport, protocol: asyncio.Protocol) -> None:
        """From here on the connection is the protocol's."""
        if self._ended:
            transport.close()
            return
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        for data in self._early:
            protocol.data_received(data)


def _below(app: AsgiApp, prefix: str) -> AsgiApp:
    """The application with every path below `prefix`; the Host header stays the real one."""

    async def prefixed(scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope.get("raw_path")
        moved = {"path": prefix + scope["path"]}
        if raw is not None:
            moved["raw_path"] = prefix.encode() + raw
        await app({**scope, **moved}, receive, send)

    return prefixed


async def _answer(writer: asyncio.StreamWriter, status: str, words: str) -> None:
    body = words.encode() + b"\n"
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + body)
    with contextlib.suppress(OSError):
        await writer.drain()
    writer.close()


def proxy_variables(url: str, ca_file: Path) -> dict[str, str]:
    """Variables that lead a client through the proxy and make it trust its authority."""
    proxies = {name: url for upper in _PROXY_VARIABLES for name in (upper, upper.lower())}
    direct = f"{LOOPBACK},localhost"
    return (
        proxies
        | {"NO_PROXY": direct, "no_proxy": direct}
        | dict.fromkeys(_CA_VARIABLES, str(ca_file))
    )


def _fish(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _powershell(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


_SHELLS: dict[Shell, tuple[Callable[[str, str], str], Callable[[str], str]]] = {
    "bash": (lambda name, value: f"export {name}={shlex.quote(value)}", lambda n: f"unset {n}"),
    "fish": (lambda name, value: f"set -gx {name} {_fish(value)}", lambda n: f"set -e {n}"),
    "powershell": (
        lambda name, value: f"$env:{name} = {_powershell(value)}",
        lambda n: f"Remove-Item Env:{n} -ErrorAction Ignore",
    ),
}


def env_exports(shell: Shell, variables: Mapping[str, str], unset: tuple[str, ...] = UNSET) -> str:
    """Lines that set the variables in this shell (and drop those of `unset`), ready for eval."""
    put, drop = _SHELLS[shell]
    lines = [drop(name) for name in unset] + [put(name, text) for name, text in variables.items()]
    return "\n".join(lines) + "\n"
