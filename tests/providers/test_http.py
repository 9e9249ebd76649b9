"""The transport: sent once, classified by what was sent, and nowhere but where it may go."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import Callable
from typing import Any

import httpx2
import msgspec
import pytest
from tests.providers.scripted import ANY

from gpubroker.model.errors import (
    BadResponse,
    OutcomeUnknown,
    PolicyRefused,
    TimedOut,
    Unavailable,
)
from gpubroker.providers.exchange import Exchange, trace_lines
from gpubroker.providers.http import Transport, is_loopback
from gpubroker.providers.redaction import Redactor

MUTATION, READ = "create", "get"


def to(server: Any, **options: Any) -> Transport:
    return Transport("acme", f"http://127.0.0.1:{server.port}", loopback_only=True, **options)


@pytest.mark.parametrize("operation", [MUTATION, "terminate", "attach_key", "stop", "bid"])
async def test_a_mutation_whose_connection_drops_is_sent_once_and_unknown(
    raw_server: Callable[[], Any], operation: str
) -> None:
    async with raw_server() as server:
        transport = to(server)
        with pytest.raises(OutcomeUnknown):
            await transport.send(operation, "PUT", "/x", json={"a": 1})
        await transport.aclose()
        assert len(server.received) == 1


async def test_a_read_whose_connection_drops_is_unavailable_and_sent_once(
    raw_server: Callable[[], Any],
) -> None:
    async with raw_server() as server:
        transport = to(server)
        with pytest.raises(Unavailable):
            await transport.send(READ, "GET", "/x")
        await transport.aclose()
        assert len(server.received) == 1


async def test_a_kept_connection_that_the_server_closes_on_the_next_request_is_not_replayed(
    raw_server: Callable[[], Any], answered: Callable[..., bytes]
) -> None:
    async with raw_server() as server:
        server.replies = [answered("200 OK"), None]
        transport = to(server)
        await transport.send(READ, "GET", "/first")
        with pytest.raises(OutcomeUnknown):
            await transport.send(MUTATION, "PUT", "/x", json={})
        await transport.aclose()
        assert server.connections == 1
        assert [head.split()[1] for head in server.received] == [b"/first", b"/x"]


async def test_a_connection_closed_while_idle_is_replaced_before_the_send(
    raw_server: Callable[[], Any], answered: Callable[..., bytes]
) -> None:
    async with raw_server() as server:
        server.replies = [answered("200 OK"), None, answered("200 OK")]
        transport = to(server)
        await transport.send(READ, "GET", "/first")
        with pytest.raises(Unavailable):
            await transport.send(READ, "GET", "/dropped")
        answer = await transport.send(MUTATION, "PUT", "/x", json={})
        await transport.aclose()
        assert answer.status == 200
        assert [head.split()[1] for head in server.received] == [b"/first", b"/dropped", b"/x"]


async def test_a_refused_connection_is_unavailable_for_a_mutation_too() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        transport = Transport("acme", f"http://127.0.0.1:{port}")
        with pytest.raises(Unavailable):
            await transport.send(MUTATION, "PUT", "/x", json={})
        await transport.aclose()


async def test_a_failing_tls_handshake_is_unavailable(listen: Callable[[Any], Any]) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async with listen(hang_up) as port:
        transport = Transport("acme", f"https://127.0.0.1:{port}", loopback_only=True)
        with pytest.raises(Unavailable):
            await transport.send(MUTATION, "PUT", "/x", json={})
        await transport.aclose()


@pytest.mark.parametrize(("operation", "kind"), [(MUTATION, OutcomeUnknown), (READ, TimedOut)])
async def test_no_answer_within_the_deadline(
    listen: Callable[[Any], Any], operation: str, kind: type[Exception]
) -> None:
    """The server takes the request and never answers."""
    asked = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()

    async with listen(silent) as port:
        transport = Transport("acme", f"http://127.0.0.1:{port}", deadlines={operation: 0.3})
        with pytest.raises(kind):
            await transport.send(operation, "PUT", "/x")
        assert asked.is_set()
        await transport.aclose()


async def test_a_slow_drip_does_not_outlive_the_total_deadline(
    listen: Callable[[Any], Any],
) -> None:
    """Each byte comes in time, all of them do not: phase timeouts alone would wait for ever."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        while not reader.at_eof():
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with listen(drip) as port:
        transport = Transport("acme", f"http://127.0.0.1:{port}", deadlines={READ: 0.3})
        async with asyncio.timeout(10):
            with pytest.raises(TimedOut):
                await transport.send(READ, "GET", "/x")
        await transport.aclose()


@pytest.mark.parametrize(
    ("fault", "mutation", "read"),
    [
        (httpx2.ConnectError("x"), Unavailable, Unavailable),
        (httpx2.ConnectTimeout("x"), Unavailable, Unavailable),
        (httpx2.PoolTimeout("x"), Unavailable, Unavailable),
        (httpx2.WriteError("x"), OutcomeUnknown, Unavailable),
        (httpx2.WriteTimeout("x"), OutcomeUnknown, TimedOut),
        (httpx2.ReadError("x"), OutcomeUnknown, Unavailable),
        (httpx2.ReadTimeout("x"), OutcomeUnknown, TimedOut),
        (httpx2.RemoteProtocolError("x"), OutcomeUnknown, Unavailable),
    ],
)
async def test_each_failure_by_what_it_proves(
    scripted: Any, fault: Exception, mutation: type[Exception], read: type[Exception]
) -> None:
    scripted.fails(ANY, fault)
    transport = Transport("acme", "https://a.test", wire=httpx2.MockTransport(scripted))
    with pytest.raises(mutation):
        await transport.send(MUTATION, "PUT", "/x", json={})
    with pytest.raises(read):
        await transport.send(READ, "GET", "/x")
    assert len(scripted.requests) == 2


async def test_a_redirected_mutation_is_not_followed(
    raw_server: Callable[[], Any], answered: Callable[..., bytes]
) -> None:
    async with raw_server() as server:
        server.replies = [answered("308 Permanent Redirect", b"", "location: /y")]
        transport = to(server)
        with pytest.raises(OutcomeUnknown):
            await transport.send(MUTATION, "PUT", "/x", json={})
        await transport.aclose()
        assert len(server.received) == 1


async def test_a_redirected_read_is_followed_on_the_same_host_with_its_key(scripted: Any) -> None:
    scripted.says("GET /y", b"", status=301, location="/y/").says("GET /y/", {})
    transport = Transport(
        "acme", "https://a.test", wire=httpx2.MockTransport(scripted), auth=lambda: {"x-key": "k"}
    )
    assert (await transport.send(READ, "GET", "/y")).status == 200
    assert [str(r.url) for r in scripted.requests] == ["https://a.test/y", "https://a.test/y/"]
    assert scripted.requests[1].headers["x-key"] == "k"


@pytest.mark.parametrize("target", ["https://b.test/y", "http://a.test/y", "https://a.test:444/y"])
async def test_a_redirect_to_another_host_is_not_followed(scripted: Any, target: str) -> None:
    scripted.says("GET /y", b"", status=302, location=target)
    transport = Transport("acme", "https://a.test", wire=httpx2.MockTransport(scripted))
    with pytest.raises(BadResponse):
        await transport.send(READ, "GET", "/y")
    assert len(scripted.requests) == 1


@pytest.mark.parametrize(
    "url",
    ["https://console.vast.ai", "http://10.0.0.1", "http://127.0.0.1.evil.test", "http://0x7f.1"],
)
async def test_a_sandbox_realm_reaches_loopback_only(scripted: Any, url: str) -> None:
    transport = Transport("acme", url, loopback_only=True, wire=httpx2.MockTransport(scripted))
    with pytest.raises(PolicyRefused):
        await transport.send(READ, "GET", "/x")
    assert scripted.requests == []


@pytest.mark.parametrize("path", ["@evil.test/x", ".evil.test/x"])
async def test_a_path_cannot_move_a_sandbox_request_to_another_host(
    scripted: Any, path: str
) -> None:
    transport = Transport(
        "acme", "http://127.0.0.1", loopback_only=True, wire=httpx2.MockTransport(scripted)
    )
    with pytest.raises(PolicyRefused):
        await transport.send(READ, "GET", path)
    assert scripted.requests == []


async def test_a_sandbox_realm_ignores_proxies_of_the_environment(
    raw_server: Callable[[], Any],
    answered: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with raw_server() as server:
        server.replies = [answered("200 OK")]
        transport = to(server)
        assert (await transport.send(READ, "GET", "/x")).ok
        await transport.aclose()


def test_which_hosts_are_loopback() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST"]))
    assert not any(map(is_loopback, ["", "0.0.0.0", "localhost.evil.test", "8.8.8.8", "::"]))


async def test_an_answer_beyond_the_limit_is_refused_also_when_compressed(scripted: Any) -> None:
    scripted.says("GET /x", gzip.compress(b"x" * 5000), content_encoding="gzip")
    wire = httpx2.MockTransport(scripted)
    transport = Transport("acme", "https://a.test", wire=wire, largest_body=1000)
    with pytest.raises(BadResponse, match="more than 1000 bytes"):
        await transport.send(READ, "GET", "/x")


async def test_an_answer_that_does_not_parse_keeps_its_redacted_text(scripted: Any) -> None:
    class Shape(msgspec.Struct):
        id: int

    scripted.says("GET /x", {"id": "seven", "key": "sesame"})
    transport = Transport(
        "acme",
        "https://a.test",
        wire=httpx2.MockTransport(scripted),
        redactor=Redactor({"id"}, ["sesame"]),
    )
    answer = await transport.send(READ, "GET", "/x")
    with pytest.raises(BadResponse) as caught:
        transport.decode(READ, answer, Shape)
    assert caught.value.body == b'{"id": "seven", "key": "***"}'
    with pytest.raises(OutcomeUnknown):
        transport.decode(MUTATION, answer, Shape)


async def test_traces_show_the_exchange_and_no_secret(scripted: Any) -> None:
    scripted.says("PUT /x/", {"id": 7, "instance_api_key": "sesame-answer"})
    lines: list[str] = []
    seen: list[Exchange] = []
    transport = Transport(
        "acme",
        "https://a.test",
        auth=lambda: {"authorization": "Bearer sesame-key"},
        redactor=Redactor({"id", "image", "limit"}, ["sesame-key"]),
        wire=httpx2.MockTransport(scripted),
        observers=(trace_lines(lines.append), seen.append),
    )
    body = {"image": "ubuntu with sesame-env", "env": {"A": "sesame-env"}}
    params = {"limit": "25", "api_key": "sesame-key"}
    await transport.send(MUTATION, "PUT", "/x/", params=params, json=body, hide=["sesame-env"])
    shown = "\n".join(lines) + str(seen)
    assert "sesame" not in shown
    assert lines[0].startswith("PUT https://a.test/x/?limit=25&api_key=*** -> 200 in ")
    assert lines[1] == '  > {"image": "ubuntu with ***", "env": "***"}'
    assert lines[2] == '  < {"id": 7, "instance_api_key": "***"}'
