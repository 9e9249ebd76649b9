"""What the providers' tests share: a clock by hand, answers by script, a raw server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.providers.scripted import KEY, START, ManualClock, Scripted, connected

from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.terms import Market
from gpubroker.providers.accounts import Account
from gpubroker.providers.runpod import RunPod
from gpubroker.providers.vast_ai import VastAi
from gpubroker.providers.vast_ai_market import parse_offers


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def scripted() -> Scripted:
    """Answers by the request; `connected` of the same module makes a client of any cloud on it."""
    return Scripted()


@pytest.fixture
def account() -> Account:
    return Account("vast_ai", "default", {"VAST_AI_API_KEY": KEY}, "VAST_API_KEY")


@pytest.fixture
def vast(scripted: Scripted, clock: ManualClock) -> VastAi:
    return connected(VastAi, scripted, clock=clock)


@pytest.fixture
def ask() -> Callable[..., dict[str, Any]]:
    """One row of a search answer, with changes."""

    def make(**changes: Any) -> dict[str, Any]:
        row = {
            "id": 4711,
            "machine_id": 55,
            "gpu_name": "RTX 4090",
            "num_gpus": 2,
            "gpu_ram": 24564,
            "gpu_arch": "nvidia",
            "cpu_arch": "amd64",
            "cpu_cores": 64,
            "cpu_cores_effective": 32.5,
            "cpu_ram": 256000,
            "disk_space": 900.0,
            "dph_base": 0.72,
            "min_bid": 0.31,
            "storage_cost": 0.144,
            "inet_up": 400.0,
            "inet_down": 800.0,
            "inet_up_cost": 0.002,
            "inet_down_cost": 0.001,
            "reliability2": 0.987,
            "verification": "verified",
            "rentable": True,
            "rented": False,
            "external": False,
            "cuda_max_good": 12.8,
            "duration": 360000.0,
            "geolocation": "Texas, US",
            "mobo_name": "not read",
        }
        return row | changes

    return make


@pytest.fixture
def machine() -> Callable[..., dict[str, Any]]:
    """One row of an instance list, with changes."""

    def make(**changes: Any) -> dict[str, Any]:
        row = {
            "id": 901,
            "machine_id": 55,
            "actual_status": "running",
            "intended_status": "running",
            "cur_state": "running",
            "next_state": "running",
            "status_msg": "success, running",
            "label": "gb-abcdef-abcdefghijklmnop",
            "gpu_name": "RTX 4090",
            "num_gpus": 2,
            "dph_total": 0.73,
            "is_bid": False,
            "disk_space": 20.0,
            "image_uuid": "ubuntu:24.04",
            "public_ipaddr": "203.0.113.7 ",
            "ssh_host": "ssh1.vast.test",
            "ssh_port": 10022,
            "ports": {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": "40022"}],
                      "8888/tcp": [{"HostIp": "0.0.0.0", "HostPort": "40888"}]},
            "start_date": 1772366400.0,
            "end_date": 1893456000.0,
            "extra_env": [["HF_TOKEN", "sesame-sesame"]],
            "jupyter_token": "sesame-too",
        }  # fmt: skip
        return row | changes

    return make


@pytest.fixture
def attempt() -> Attempt:
    return Attempt("abcdef", "abcdefghijklmnop", "launch-1")


@pytest.fixture
def ref() -> Ref:
    return Ref("vast_ai", "default", "", "901")


@pytest.fixture
def spec() -> LaunchSpec:
    return LaunchSpec(expires_at=None, disk_gb=20, env={"TOKEN": "sesame-sesame"})


@pytest.fixture
def offer_of(ask: Callable[..., dict[str, Any]]) -> Callable[..., Any]:
    """A parsed offer of one row."""

    def make(market: Market = Market.ON_DEMAND, **changes: Any) -> Any:
        body = json.dumps({"offers": [ask(**changes)]}).encode()
        rows, rejected = parse_offers(
            body, account="default", market=market, fetched_at=START, required={}
        )
        assert not rejected, rejected
        return rows[0]

    return make


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class RawServer:
    """TCP on loopback: reads a whole request, then does what the script says."""

    def __init__(self) -> None:
        self.port = 0
        self.received: list[bytes] = []
        self.replies: list[bytes | None] = []
        """Raw bytes to answer with; None closes without an answer."""
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    (
                        int(line.split(b":")[1])
                        for line in head.split(b"\r\n")
                        if line.lower().startswith(b"content-length:")
                    ),
                    0,
                )
                self.received.append(head + await reader.readexactly(length))
                reply = self.replies.pop(0) if self.replies else None
                if reply is None:
                    break
                writer.write(reply)
                await writer.drain()
        except asyncio.IncompleteReadError:
            return


def http_answer(status: str, body: bytes = b"{}", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[int]:
    """A server on loopback; ends with all its connections ended."""
    tasks: list[asyncio.Task[None]] = []

    async def tracked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.create_task(tracked(reader, writer)))

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        async with asyncio.timeout(10):
            await asyncio.gather(*tasks)


@pytest.fixture
def listen() -> Callable[[Serve], Any]:
    return listening


@pytest.fixture
def raw_server() -> Callable[[], Any]:
    @asynccontextmanager
    async def start() -> AsyncIterator[RawServer]:
        raw = RawServer()
        async with listening(raw.serve) as raw.port:
            yield raw

    return start


@pytest.fixture
def answered() -> Callable[..., bytes]:
    return http_answer


# RunPod


@pytest.fixture
def runpod(scripted: Scripted, clock: ManualClock) -> RunPod:
    return connected(RunPod, scripted, clock=clock)


@pytest.fixture
def gpu_type() -> Callable[..., dict[str, Any]]:
    """One GPU type of the market, with changes."""

    def make(**changes: Any) -> dict[str, Any]:
        row = {
            "id": "NVIDIA GeForce RTX 4090",
            "memoryInGb": 24,
            "secureCloud": True,
            "communityCloud": True,
            "maxGpuCountSecureCloud": 8,
            "maxGpuCountCommunityCloud": 4,
            "minPodGpuCount": None,
            "securePrice": 0.69,
            "communityPrice": 0.34,
            "secureSpotPrice": 0.35,
            "communitySpotPrice": 0.2,
        }
        return row | changes

    return make


@pytest.fixture
def market_of() -> Callable[..., dict[str, Any]]:
    """The answer to `asked` of these types: `lowest(type, asked)` tells each price."""

    def make(
        asked: Any, types: Any, lowest: Callable[..., Any], centers: Any = None
    ) -> dict[str, Any]:
        rows = [row | {f"p{at}": lowest(row, one) for at, one in enumerate(asked)} for row in types]
        return {"data": {"gpuTypes": rows, "dataCenters": centers or []}}

    return make


@pytest.fixture
def pod() -> Callable[..., dict[str, Any]]:
    """One machine of RunPod's list, with changes."""

    def make(**changes: Any) -> dict[str, Any]:
        row = {
            "id": "7h9k2m4n6p",
            "name": "gb-abcdef-abcdefghijklmnop",
            "status": "RUNNING",
            "actions": ["stop", "restart", "terminate"],
            "image": "ubuntu:24.04",
            "args": "bash -c 'sesame-args'",
            "disk": 20,
            "ports": ["22/tcp", "9000/tcp", "8888/http"],
            "env": {"TOKEN": "sesame-sesame"},
            "registry": None,
            "mounts": {},
            "gpu": {"id": "NVIDIA GeForce RTX 4090", "count": 2},
            "cloud": "SECURE",
            "dataCenterId": "US-KS-2",
            "cudaVersion": "12.8",
            "ssh": {
                "proxy": {"host": "ssh.runpod.test", "port": 22, "username": "7h9k-6441",
                          "command": "ssh 7h9k-6441@ssh.runpod.test"},
                "direct": {"host": "203.0.113.7", "port": 34446, "username": "root",
                           "command": "ssh root@203.0.113.7 -p 34446"},
            },
            "template": None,
            "cost": 1.38,
            "locked": False,
            "globalNetworking": {"enabled": False},
            "runtime": {"uptime": 3600, "ports": [
                {"private": 22, "public": 34446, "type": "tcp", "ip": "203.0.113.7"},
                {"private": 9000, "public": 40900, "type": "tcp", "ip": "203.0.113.7"},
                {"private": 8888, "public": 60001, "type": "http", "ip": "100.65.0.7"},
            ]},
            "createdAt": "2026-03-01T12:00:00Z",
            "startedAt": "2026-03-01T12:02:00Z",
        }  # fmt: skip
        return row | changes

    return make
