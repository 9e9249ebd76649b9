"""The second door, used with the real curl under the vendors' real host names."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from gpubroker.loopback import Receive, Scope, Send
from gpubroker.sandbox.proxy import ConnectProxy, Shell, env_exports, proxy_variables

_DEADLINE_S = 20.0
_AWKWARD = 'it\'s $HOME `x` \\ "q" é;'


async def emulator(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what arrived."""
    body = b""
    while (message := await receive()).get("more_body") or message.get("body"):
        body += message["body"]
        if not message.get("more_body"):
            break
    headers = dict(scope["headers"])
    seen = {
        "path": scope["path"],
        "query": scope["query_string"].decode(),
        "host": headers[b"host"].decode(),
        "body": body.decode(),
        "scheme": scope["scheme"],
    }
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(seen).encode()})


class Door(NamedTuple):
    proxy: ConnectProxy
    url: str
    variables: Mapping[str, str]


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    hosts = {"console.vast.ai": "vast_ai", "*.amazonaws.com": "aws"}
    proxy = ConnectProxy(emulator, hosts, tmp_path / "proxy")
    url = f"http://127.0.0.1:{await proxy.open()}"
    yield Door(proxy, url, proxy_variables(url, proxy.ca_file))
    await proxy.close()


async def curl(door: Door, *argv: str) -> tuple[int, str, str]:
    env = {"PATH": os.environ["PATH"], **door.variables}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "-m", "10", *argv, env=env, stdout=pipe, stderr=pipe
    )
    out, err = await asyncio.wait_for(process.communicate(), _DEADLINE_S)
    return process.returncode or 0, out.decode(), err.decode()


async def test_a_vendors_real_host_name_reaches_its_emulator(door: Door) -> None:
    address = "https://console.vast.ai/api/v0/gpu_names/unique/?a=1"
    code, out, err = await curl(door, address)
    assert code == 0, err
    assert json.loads(out) == {
        "path": "/vast_ai/api/v0/gpu_names/unique/",
        "query": "a=1",
        "host": "console.vast.ai",
        "body": "",
        "scheme": "https",
    }


async def test_a_vendor_on_another_port_is_reached_there(tmp_path: Path) -> None:
    proxy = ConnectProxy(emulator, {"api.acme.example:8443": "acme"}, tmp_path / "proxy")
    url = f"http://127.0.0.1:{await proxy.open()}"
    there = Door(proxy, url, proxy_variables(url, proxy.ca_file))
    code, out, err = await curl(there, "https://api.acme.example:8443/v1/machines")
    assert code == 0, err
    told = json.loads(out)
    assert (told["path"], told["host"]) == ("/acme/v1/machines", "api.acme.example:8443")
    assert (await curl(there, "https://api.acme.example:8444/v1/machines"))[0] != 0
    await proxy.close()


async def test_one_connection_carries_many_requests_with_bodies(door: Door) -> None:
    address = "https://console.vast.ai/"
    code, out, err = await curl(
        door, "-v", "-d", "x" * 5000, address, "--next", "-sS", "-d", "two", address
    )
    assert code == 0, err
    first, second = (json.loads(f"{{{part}") for part in out.split("{")[1:])
    assert (len(first["body"]), second["body"]) == (5000, "two")
    assert err.count("CONNECT console.vast.ai:443") == 1


async def test_a_pattern_of_host_names_reaches_its_emulator(door: Door) -> None:
    code, out, err = await curl(door, "https://ec2.us-east-1.amazonaws.com/")
    assert code == 0, err
    assert json.loads(out)["path"] == "/aws/"


@pytest.mark.parametrize(
    "address",
    [
        "https://example.com/",
        "https://127.0.0.1:22/",
        "https://console.vast.ai:8443/",
        "https://console.vast.ai.example.com/",
    ],
)
async def test_a_host_that_no_emulator_serves_is_refused(door: Door, address: str) -> None:
    code, out, err = await curl(door, "--noproxy", "", "-x", door.url, address)
    assert (code, out) == (56, ""), err
    assert "403" in err


@pytest.mark.parametrize("flags", [(), ("-d", "a body")])
async def test_plain_http_is_refused_with_words(door: Door, flags: tuple[str, ...]) -> None:
    code, out, _ = await curl(door, *flags, "-w", "%{http_code}", "http://console.vast.ai/")
    assert code == 0
    assert out.endswith("403")
    assert "nothing leaves this computer" in out


async def test_a_request_for_another_name_inside_the_tunnel_is_refused(door: Door) -> None:
    asked = ("-w", "%{http_code}", "-H", "Host: evil.example", "https://console.vast.ai/")
    assert (await curl(door, *asked))[1].endswith("421")


async def test_a_foreign_origin_inside_the_tunnel_is_refused(door: Door) -> None:
    asked = ("-w", "%{http_code}", "-H", "Origin: https://evil.example", "https://console.vast.ai/")
    assert (await curl(door, *asked))[1].endswith("403")


async def test_without_our_authority_no_client_believes_it(door: Door, tmp_path: Path) -> None:
    bare = {name: value for name, value in door.variables.items() if "CA" not in name}
    bare.pop("SSL_CERT_FILE")
    code, _, _ = await curl(door._replace(variables=bare), "https://console.vast.ai/")
    assert code == 60


async def test_a_client_that_never_speaks_tls_does_no_harm(door: Door) -> None:
    host, port = "127.0.0.1", int(door.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"CONNECT console.vast.ai:443 HTTP/1.1\r\n\r\n")
    assert b"200" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _DEADLINE_S)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    writer.close()
    assert (await curl(door, "https://console.vast.ai/"))[0] == 0


async def test_bash_reads_its_lines_back() -> None:
    text = env_exports("bash", {"AWKWARD": _AWKWARD})
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", 'eval "$1"; printf %s "$AWKWARD${SSL_CERT_DIR-unset}"', "bash", text),
        env={"PATH": os.environ["PATH"], "SSL_CERT_DIR": "/x", "LANG": "C.UTF-8"},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert out.decode() == _AWKWARD + "unset"


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
async def test_fish_reads_its_lines_back() -> None:
    text = env_exports("fish", {"AWKWARD": _AWKWARD}) + "printf %s $AWKWARD"
    process = await asyncio.create_subprocess_exec(
        "fish", "-c", text, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert out.decode() == _AWKWARD


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("bash", "export A='it'\"'\"'s \\'"),
        ("fish", "set -gx A 'it\\'s \\\\'"),
        ("powershell", "$env:A = 'it''s \\'"),
    ],
)
def test_each_shell_has_its_own_quoting(shell: Shell, line: str) -> None:
    assert env_exports(shell, {"A": "it's \\"}, unset=()) == line + "\n"
