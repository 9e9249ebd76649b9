"""Where warnings arrive in tests: a web server and a mail server on loopback."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

WAIT_S = 10.0


class Heard:
    """What a receiver was sent."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        """(request line, headers in small letters, body)."""
        self.lines: list[str] = []
        self.encrypted = False


@contextmanager
def _served(work: threading.Thread, listener: socket.socket) -> Iterator[None]:
    work.start()
    try:
        yield
    finally:
        # It wakes up from accept, and ends.
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        work.join(WAIT_S)


@contextmanager
def http(*statuses: int) -> Iterator[tuple[str, Heard]]:
    """Answers with these in turn, the last one for ever; 0 never answers."""
    heard = Heard()
    listener = socket.create_server(("127.0.0.1", 0))
    turns = list(statuses or (204,))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, connection.makefile("rb") as lines:
                    connection.settimeout(WAIT_S)
                    heard.requests.append(_request(lines))
                    status = turns.pop(0) if len(turns) > 1 else turns[0]
                    if status == 0:
                        lines.read()  # until the other side has had enough
                    connection.sendall(
                        b"HTTP/1.1 %d X\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n"
                        b"Connection: close\r\n\r\n" % status
                    )

    url = f"http://127.0.0.1:{listener.getsockname()[1]}/hook?key=in-the-path"
    with _served(threading.Thread(target=serve), listener):
        yield url, heard


def _request(lines: BinaryIO) -> tuple[str, dict[str, str], bytes]:
    first = lines.readline().decode().rstrip()
    headers = {}
    while line := lines.readline().decode().rstrip():
        name, _, value = line.partition(": ")
        headers[name.lower()] = value
    return first, headers, lines.read(int(headers["content-length"]))


@contextmanager
def smtp(tls: ssl.SSLContext | None, *, login: int = 235) -> Iterator[tuple[str, Heard]]:
    """Takes one mail; offers STARTTLS where it has a certificate. `login`: its answer to AUTH."""
    heard = Heard()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            connection.settimeout(WAIT_S)
            _talk(connection, tls, heard, login)

    server = f"127.0.0.1:{listener.getsockname()[1]}"
    with _served(threading.Thread(target=serve), listener):
        yield server, heard


ANSWERS = {"DATA": b"354 go on", "QUIT": b"221 bye", "STARTTLS": b"220 go on"}


def _talk(connection: socket.socket, tls: ssl.SSLContext | None, heard: Heard, login: int) -> None:
    answers = ANSWERS | {
        "AUTH": b"%d told" % login,
        "EHLO": b"250-here\r\n%b250 AUTH PLAIN" % (b"250-STARTTLS\r\n" if tls else b""),
    }
    with connection:
        connection.sendall(b"220 ready\r\n")
        if _answer(connection, heard, answers) == "STARTTLS" and tls is not None:
            with tls.wrap_socket(connection, server_side=True) as encrypted:
                heard.encrypted = True
                _answer(encrypted, heard, answers)


def _answer(connection: socket.socket, heard: Heard, answers: dict[str, bytes]) -> str:
    """Until the talk is over or goes on encrypted; the verb that it ended with."""
    for verb in _verbs(connection, heard):
        connection.sendall(answers.get(verb, b"250 fine") + b"\r\n")
        if verb in {"QUIT", "STARTTLS"}:
            return verb
    return ""


def _verbs(connection: socket.socket, heard: Heard) -> Iterator[str]:
    """Each command's verb; the lines of a mail are one command, without a verb."""
    with connection.makefile("rb") as lines:
        in_mail = False
        while line := lines.readline().decode():
            heard.lines.append(line.rstrip("\r\n"))
            if in_mail:
                in_mail = line != ".\r\n"
                if not in_mail:
                    yield ""
                continue
            verb = line.split()[0].upper()
            in_mail = verb == "DATA"
            yield verb
