"""Who may speak to a listener on loopback.

A web page in the user's own browser, a name that an attacker rebinds to 127.0.0.1 and another
user of the same machine all reach a loopback port. `refusal` answers the first two from the
request's own headers, `same_user` the third from the kernel's socket table.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import struct
import sys
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})

_SOCKET_TABLES = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_ANY_STATE = 0xFFFFFFFF
_HEADER = 16
_UID_AT = _HEADER + 64
"""Behind the netlink header: four bytes of state, 48 of addresses, timers and queues."""
_IPV4 = 4
_OWN_SITES = ("same-origin", "none")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]


def _name_of(authority: str) -> str:
    """Host name of "name:port", lower case; an IPv6 address keeps its brackets."""
    authority = authority.strip().lower()
    if authority.startswith("["):
        return authority.partition("]")[0] + "]"
    return authority.partition(":")[0]


def host_refusal(host: str | None, allowed_hosts: Collection[str]) -> str | None:
    """Why this Host header is not ours, None where it is.

    `allowed_hosts` holds names without a port, IPv6 addresses in brackets.
    """
    if not host:
        return "The request names no host."
    if _name_of(host) not in allowed_hosts:
        return f"The host {host!r} is not served here."
    return None


def origin_refusal(host: str, origin: str | None, sec_fetch_site: str | None) -> str | None:
    """Why a browser's request from elsewhere is refused, None for a client or our own page."""
    if sec_fetch_site is not None and sec_fetch_site.strip().lower() not in _OWN_SITES:
        return f"Requests from another site ({sec_fetch_site!r}) are refused."
    if origin is None:
        return None
    parts = urlsplit(origin.strip().lower())
    if parts.scheme not in {"http", "https"} or parts.netloc != host.strip().lower():
        return f"Requests from the origin {origin!r} are refused."
    return None


def refusal(
    host_header: str | None,
    origin: str | None,
    sec_fetch_site: str | None,
    allowed_hosts: Collection[str] = LOOPBACK_NAMES,
) -> str | None:
    """Why the headers of a request are refused, in words; None where they are fine."""
    return host_refusal(host_header, allowed_hosts) or origin_refusal(
        host_header or "", origin, sec_fetch_site
    )


def _plain(address: tuple[Any, ...]) -> tuple[IPv4Address | IPv6Address, int]:
    """(address, port) without scope; an IPv4 address in IPv6 clothes is the IPv4 address."""
    ip = ip_address(str(address[0]).partition("%")[0])
    return (getattr(ip, "ipv4_mapped", None) or ip), int(address[1])


def _asked_uid(peername: tuple[Any, ...], sockname: tuple[Any, ...]) -> int | None:
    """The kernel's own answer for one socket (sock_diag(7)); OSError where it gives none."""
    (peer, peer_port), (own, own_port) = _plain(peername), _plain(sockname)
    family = socket.AF_INET if peer.version == _IPV4 else socket.AF_INET6
    wanted = struct.pack(
        "=BBBBI2s2s16s16sI8s",
        family,
        socket.IPPROTO_TCP,
        0,
        0,
        _ANY_STATE,
        peer_port.to_bytes(2, "big"),
        own_port.to_bytes(2, "big"),
        peer.packed,
        own.packed,
        0,
        b"\xff" * 8,
    )
    header = struct.pack("=IHHII", _HEADER + len(wanted), _SOCK_DIAG_BY_FAMILY, 1, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(1)
        netlink.send(header + wanted)
        answer = netlink.recv(4096)
    if struct.unpack_from("=H", answer, 4)[0] != _SOCK_DIAG_BY_FAMILY:
        error = -struct.unpack_from("=i", answer, _HEADER)[0]
        if error == errno.ENOENT:
            return None
        raise OSError(error, os.strerror(error))
    uid, inode = struct.unpack_from("=II", answer, _UID_AT)
    return int(uid) if inode else None


def _hex_forms(address: tuple[Any, ...]) -> tuple[str, ...]:
    """An address as /proc/net/tcp and tcp6 print it: 32-bit words in host byte order."""
    ip, port = _plain(address)
    packed = ip.packed if ip.version != _IPV4 else bytes(10) + b"\xff\xff" + ip.packed
    words = [f"{int.from_bytes(packed[at : at + 4], sys.byteorder):08X}" for at in range(0, 16, 4)]
    narrow = (f"{words[-1]}:{port:04X}",) if ip.version == _IPV4 else ()
    return (*narrow, f"{''.join(words)}:{port:04X}")


def _listed_uid(peername: tuple[Any, ...], sockname: tuple[Any, ...]) -> int | None:
    theirs, ours = _hex_forms(peername), _hex_forms(sockname)
    for table in _SOCKET_TABLES:
        with contextlib.suppress(OSError):
            for row in table.read_text("ascii").splitlines()[1:]:
                _, local, remote, _, _, _, _, uid, _, inode, *_ = row.split()
                if local in theirs and remote in ours and inode != "0":
                    return int(uid)
    return None


def peer_uid(peername: tuple[Any, ...], sockname: tuple[Any, ...]) -> int | None:
    """The user id that owns the other end of a TCP connection within this machine.

    From the kernel's socket table, so on Linux only. None where it cannot be known: another
    system, another machine, or a peer that has closed its socket already (an orphan's row
    carries no inode and the user id 0, which would read as root).
    """
    if not _SOCKET_TABLES[0].exists():
        return None
    try:
        return _asked_uid(peername, sockname)
    except OSError:
        # A container may forbid netlink; the table says the same, a hundred times slower.
        return _listed_uid(peername, sockname)


def same_user(peername: tuple[Any, ...] | None, sockname: tuple[Any, ...] | None) -> bool:
    """Whether the other end is on loopback and belongs to the user we run as.

    Where the system has no socket table to ask (anything but Linux), loopback alone decides.
    """
    if not peername or not sockname:
        return False
    try:
        ip, _ = _plain(peername)
    except ValueError:
        return False
    if not ip.is_loopback:
        return False
    if not _SOCKET_TABLES[0].exists():
        return True
    return peer_uid(peername, sockname) == os.geteuid()


class LoopbackGuard:
    """ASGI middleware: 421 for a foreign Host, 403 for a foreign origin or another user."""

    def __init__(
        self,
        app: AsgiApp,
        allowed_hosts: Collection[str] = LOOPBACK_NAMES,
        *,
        same_uid: bool = True,
    ) -> None:
        self._app = app
        self._allowed_hosts = frozenset(name.lower() for name in allowed_hosts)
        self._same_uid = same_uid

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves the request or refuses it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        refused = self._refusal(scope)
        if refused is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": refused[1]})
        else:
            await send_refusal(send, *refused)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if self._same_uid and not same_user(scope.get("client"), scope.get("server")):
            return 403, "Only the user who started this may use it."
        host = headers.get(b"host")
        if words := host_refusal(host, self._allowed_hosts):
            return 421, words
        words = origin_refusal(host or "", headers.get(b"origin"), headers.get(b"sec-fetch-site"))
        return (403, words) if words else None


async def send_refusal(send: Send, status: int, words: str) -> None:
    """Answers an HTTP request with `{"error": {"code": "refused", "message": words}}`."""
    body = json.dumps({"error": {"code": "refused", "message": words}}).encode()
    length = str(len(body)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
