"""The second door: an HTTPS proxy that leads the vendors' real host names to the emulators.

For clients whose address cannot be set. It ends TLS itself, with certificates of an authority
made for the run, and serves the request in this process: it opens no connection to anywhere.
Clients that speak gRPC need the emulator's own port.
"""

from __future__ import annotations

import asyncio
import fnmatch
import shlex
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import trustme

from gpubroker.loopback import AsgiApp, LoopbackGuard, Receive, Scope, Send, same_user
from gpubroker.sandbox.listener import HttpListener
from gpubroker.sandbox.published import LOOPBACK, bound_where_free

Shell = Literal["bash", "fish", "powershell"]

_HTTPS = "443"
_HEAD_S = 10.0
_HANDSHAKE_S = 10.0
_LONGEST_HEAD = 16384
_END = b"\r\n\r\n"
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
    """Listens on loopback for this user; `hosts` maps a host name or pattern to a provider.

    Where a vendor's API is not on port 443, its name says so: "api.acme.example:8443".
    """

    def __init__(self, app: AsgiApp, hosts: Mapping[str, str], folder: Path) -> None:
        self._app = app
        places = [(*pattern.lower().partition(":")[::2], hosts[pattern]) for pattern in hosts]
        self._hosts = {host: provider for host, _, provider in places}
        self._ports = {_HTTPS, *(port for _, port, _ in places if port)}
        self._authority = trustme.CA(organization_name="gpubroker sandbox")
        self._sites: dict[str, tuple[ssl.SSLContext, HttpListener]] = {}
        self._entering: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.ca_file = folder / "ca.pem"

    async def open(self, wanted: int | None = None) -> int:
        """Writes the authority's certificate and listens; the port."""
        self.ca_file.parent.mkdir(parents=True, exist_ok=True)
        self._authority.cert_pem.write_to_path(str(self.ca_file))
        bound = bound_where_free(wanted)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Entrance(self), sock=bound)
        return int(bound.getsockname()[1])

    async def close(self) -> None:
        """Ends the listener and every connection."""
        if self._server is not None:
            self._server.close()
        for task in tuple(self._entering):
            task.cancel()
        await asyncio.gather(*self._entering, return_exceptions=True)
        await asyncio.gather(*(listener.close() for _, listener in self._sites.values()))

    def provider_of(self, host: str) -> str | None:
        """Whose host name (in lower case) this is; the longest pattern that fits counts."""
        if host in self._hosts:
            return self._hosts[host]
        fitting = [pattern for pattern in self._hosts if fnmatch.fnmatchcase(host, pattern)]
        return self._hosts[max(fitting, key=len)] if fitting else None

    def refusal(self, head: bytes) -> str | None:
        """Why the head of a request is not let through, in words; None where it is."""
        method, host, port = _target(head)
        if method != "CONNECT":
            return "This proxy serves HTTPS only (CONNECT): nothing leaves this computer."
        if port not in self._ports:
            return f"This proxy serves port {_HTTPS} only."
        if self.provider_of(host) is None:
            return f"No emulator serves {host!r}: nothing leaves this computer."
        return None

    def enter(self, transport: asyncio.Transport, head: bytes) -> None:
        """Turns the connection into one of the emulator's own HTTP connections."""
        task = asyncio.create_task(self._secure(transport, _target(head)[1]))
        self._entering.add(task)
        task.add_done_callback(self._entering.discard)

    async def _secure(self, transport: asyncio.Transport, host: str) -> None:
        context, listener = self._site(host)
        transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        waiting = _UntilSecured()
        try:
            secured = await asyncio.get_running_loop().start_tls(
                transport,
                waiting,
                context,
                server_side=True,
                ssl_handshake_timeout=_HANDSHAKE_S,
            )
        except OSError:
            transport.abort()  # the client spoke no TLS, or does not trust our authority
            return
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


class _Entrance(asyncio.Protocol):
    """A connection until its CONNECT is read."""

    def __init__(self, proxy: ConnectProxy) -> None:
        self._proxy = proxy
        self._head = b""
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("The proxy listens on streams.")
        self._transport = transport
        self._deadline = asyncio.get_running_loop().call_later(_HEAD_S, transport.abort)
        own = transport.get_extra_info("sockname")
        if not same_user(transport.get_extra_info("peername"), own):
            self._refuse("Only the user who started this may use it.")

    def data_received(self, data: bytes) -> None:
        self._head += data
        if self._transport is None or self._transport.is_closing():
            return
        if len(self._head) > _LONGEST_HEAD:
            self._refuse("The request is too long.")
        elif _END in self._head:
            early = (
                None if self._head.endswith(_END) else "Nothing is read before the tunnel is open."
            )
            if words := self._proxy.refusal(self._head) or early:
                self._refuse(words)
                return
            self._in_time()
            self._transport.pause_reading()
            self._proxy.enter(self._transport, self._head)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._in_time()

    def _in_time(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    def _refuse(self, words: str) -> None:
        if self._transport is not None:
            body = words.encode() + b"\n"
            head = (
                "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain; charset=utf-8\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            )
            self._transport.write(head.encode() + body)
            self._transport.close()


def _target(head: bytes) -> tuple[str, str, str]:
    """(method, host in lower case, port) of a request's first line."""
    method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    host, _, port = rest.partition(" ")[0].rpartition(":")
    return method, host.lower(), port


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
