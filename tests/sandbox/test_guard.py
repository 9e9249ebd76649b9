"""Who may speak to the sandbox: this user, by our own names, from no other site."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest

from gpubroker import loopback
from gpubroker.sandbox.host import MachineSpec
from gpubroker.sandbox.machine import LoopbackHost
from gpubroker.sandbox.server import Ready, Settings, serve

_DEADLINE_S = 20.0
_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")

other_user = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None or not Path("/proc/self/net/tcp").exists(),
    reason="needs root, setpriv and the kernel's socket table to speak as another user",
)


async def call(*argv: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd="/",
    )
    out, _ = await asyncio.wait_for(process.communicate(), _DEADLINE_S)
    return process.returncode or 0, out.decode()


class Ports(NamedTuple):
    base_url: str
    ssh: int
    published: int
    proxy_url: str


@pytest.fixture
async def ports(tmp_path: Path) -> AsyncIterator[Ports]:
    """Every kind of port that the sandbox opens."""
    ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
    ended = asyncio.Event()
    settings = Settings(folder=tmp_path / "cloud", proxy=True)
    serving = asyncio.create_task(serve(settings, ready.set_result, ended))
    host = LoopbackHost()
    with socket.create_server(("127.0.0.1", 0)) as free:
        inner = int(free.getsockname()[1])
    spec = MachineSpec(
        provider="vast_ai",
        id="1",
        folder=tmp_path / "machine",
        hostname="rig",
        ports=((inner, "tcp"),),
        command=f"exec python3 -m http.server {inner} --bind 127.0.0.1",
    )
    machine = await host.start(spec)
    where = await asyncio.wait_for(ready, _DEADLINE_S)
    assert where.proxy_url
    yield Ports(
        where.base_url, machine.ssh_port, machine.published[f"{inner}/tcp"], where.proxy_url
    )
    await host.close()
    ended.set()
    await serving


async def status_of(url: str, *argv: str, by: tuple[str, ...] = ()) -> str:
    asked = ("curl", "-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}")
    return (await call(*by, *asked, *argv, url))[1]


async def reached(port: int) -> bool:
    """Polls until the machine's own server answers: it takes a moment to start."""
    deadline = asyncio.get_running_loop().time() + _DEADLINE_S
    while await status_of(f"http://127.0.0.1:{port}/") != "200":
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


@other_user
async def test_another_user_is_refused_on_every_port(ports: Ports) -> None:
    status = f"{ports.base_url}/_sandbox/status"
    assert await status_of(status) == "200"
    assert await status_of(status, by=_NOBODY) == "403"

    scan = ("ssh-keyscan", "-T", "5", "-p", str(ports.ssh), "127.0.0.1")
    assert "ssh-ed25519" in (await call(*scan))[1]
    assert "ssh-ed25519" not in (await call(*_NOBODY, *scan))[1]

    assert await reached(ports.published)
    page = f"http://127.0.0.1:{ports.published}/"
    assert await status_of(page, by=_NOBODY) == "000"

    tunnel = ("-k", "-x", ports.proxy_url, "-w", "%{http_connect} %{http_code}")
    real_name = "https://console.vast.ai/api/v0/gpu_names/unique/"
    assert (await status_of(real_name, *tunnel)).startswith("200")
    assert (await status_of(real_name, *tunnel, by=_NOBODY)).startswith("403")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ((), "200"),
        (("Host: localhost:1",), "200"),
        (("Host: [::1]:1",), "200"),
        (("Host: rebound.example",), "421"),
        (("Host: 127.0.0.1.rebound.example",), "421"),
        (("Host: 127.0.0.1@rebound.example",), "421"),
        (("Origin: https://evil.example",), "403"),
        (("Origin: null",), "403"),
        (("Origin: http://127.0.0.1:1",), "403"),
        (("Sec-Fetch-Site: cross-site",), "403"),
        (("Sec-Fetch-Site: same-site",), "403"),
        (("Sec-Fetch-Site: same-origin",), "200"),
        (("Sec-Fetch-Site: none",), "200"),
    ],
)
async def test_foreign_hosts_and_origins_are_refused(
    ports: Ports, headers: tuple[str, ...], status: str
) -> None:
    flags = [part for header in headers for part in ("-H", header)]
    assert await status_of(f"{ports.base_url}/_sandbox/status", *flags) == status


async def test_our_own_origin_is_welcome(ports: Ports) -> None:
    url = f"{ports.base_url}/_sandbox/status"
    assert await status_of(url, "-H", f"Origin: {ports.base_url}") == "200"


@pytest.mark.parametrize(
    ("family", "bound", "dialled"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET6, "127.0.0.1", "::ffff:127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
    ],
)
@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="needs Linux")
def test_the_kernel_and_its_table_agree_on_who_the_peer_is(
    family: socket.AddressFamily, bound: str, dialled: str
) -> None:
    listening = socket.AF_INET6 if ":" in bound else socket.AF_INET
    with (
        socket.create_server((bound, 0), family=listening) as server,
        socket.socket(family) as ours,
    ):
        ours.connect((dialled, server.getsockname()[1]))
        accepted, peer = server.accept()
        with accepted:
            own = accepted.getsockname()
            assert loopback._asked_uid(peer, own) == os.geteuid()
            assert loopback._listed_uid(peer, own) == os.geteuid()
            assert loopback.same_user(peer, own)
            ours.close()
            assert loopback._listed_uid(peer, own) is None, "an orphan is nobody's"
            assert loopback.peer_uid(peer, own) is None
            assert not loopback.same_user(peer, own)


@pytest.mark.parametrize("peer", [None, ("192.0.2.1", 5), ("testclient", 50000)])
def test_a_peer_that_is_not_on_loopback_is_not_this_user(peer: tuple[str, int] | None) -> None:
    assert not loopback.same_user(peer, ("127.0.0.1", 80))


@pytest.mark.parametrize(
    ("host", "origin", "site", "refused"),
    [
        ("127.0.0.1:1", None, None, False),
        ("LOCALHOST", None, None, False),
        (None, None, None, True),
        ("", None, None, True),
        ("127.0.0.1:1", "http://127.0.0.1:1", "same-origin", False),
        ("127.0.0.1:1", "http://localhost:1", None, True),
        ("127.0.0.1:1", "file://127.0.0.1:1", None, True),
    ],
)
def test_refusal_by_headers_alone(
    host: str | None, origin: str | None, site: str | None, refused: bool
) -> None:
    assert bool(loopback.refusal(host, origin, site)) is refused
