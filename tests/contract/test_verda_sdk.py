"""Verda's unmodified library for Python, version 1.25.0, on the emulator."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

if TYPE_CHECKING:
    from tests.contract.conftest import Judge
    from tests.sandbox.conftest import Served

pytestmark = [pytest.mark.judge, pytest.mark.slow]
V1 = "/verda/v1"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"
H100 = "1H100.80S.30V"
IMAGE = "ubuntu-24.04-cuda-12.8-open-docker"
RECORDED = Path(__file__).with_name("data") / "verda_requests.json"
INSTANCE, KEY, VOLUME, SCRIPT = (f"{d * 8}-2222-4333-8444-555555555555" for d in "1234")
"""The ids that were invented for the recording."""
_ANY_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CLIENT = """
import json, os
from verda import VerdaClient
from verda.exceptions import APIException
client = VerdaClient(
    os.environ["VERDA_CLIENT_ID"], os.environ["VERDA_CLIENT_SECRET"],
    base_url=os.environ["VERDA_BASE_URL"],
)
"""


class Sdk:
    """The library, and the requests that it made."""

    def __init__(self, judge: Judge, served: Served) -> None:
        self.judge, self.served = judge, served
        self.secret = served.sandbox.keys["verda"]

    async def call(self, expression: str) -> Any:
        """What `client.EXPRESSION` returns, while time passes; no more of it passes after."""
        self.served.ear.heard.clear()
        text = f"{_CLIENT}print('=' + json.dumps(client.{expression}, default=vars))"
        async with self._time_goes_by():
            printed = await self.judge.code(text)
        return json.loads(printed.splitlines()[-1].removeprefix("="))

    async def failing(self, expression: str, client: str = _CLIENT) -> str:
        """Code and message of the error that `client.EXPRESSION` raises."""
        indented = f"{client}client.{expression}".replace("\n", "\n  ")
        text = (
            f"from verda.exceptions import APIException\ntry:\n  {indented}\n"
            "except APIException as error: print('=', error.code, '|', error.message)"
        )
        return (await self.judge.code(text)).splitlines()[-1]

    @contextlib.asynccontextmanager
    async def _time_goes_by(self) -> AsyncIterator[None]:
        """The library waits for a new instance to be more than ordered."""

        async def tick() -> None:
            while True:
                await asyncio.sleep(0.05)
                await self.served.advance(0.25)

        ticking = asyncio.create_task(tick())
        try:
            yield
        finally:
            ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticking

    @property
    def asked(self) -> list[tuple[str, str, list[tuple[str, str]], Any]]:
        """Method, path, query and body of what the last call asked, after its token.

        Questions that were repeated while it waited count once.
        """
        heard = [h for h in self.served.ear.heard if h.path.startswith(V1)]
        first = heard.pop(0)
        assert (first.method, first.path) == ("POST", f"{V1}/oauth2/token")
        assert json.loads(first.body) == {
            "grant_type": "client_credentials",
            "client_id": "sandbox-client",
            "client_secret": self.secret,
        }
        rows = [
            (h.method, h.path.removeprefix(V1), h.query, json.loads(h.body) if h.body else None)
            for h in heard
        ]
        return [row for n, row in enumerate(rows) if n == 0 or row != rows[n - 1]]

    async def rest(
        self, method: str, path: str, body: Any = None, secret: str = ""
    ) -> httpx2.Response:
        """A call without the library."""
        given = {"grant_type": "client_credentials", "client_id": "me"}
        given["client_secret"] = secret or self.secret
        token = await self.served.ask("POST", f"{V1}/oauth2/token", given, key=None)
        key = token.json()["access_token"]
        answer = await self.served.ask(method, f"{V1}{path}", body, key=key)
        assert answer.status_code < 300, answer.text
        return answer

    async def plant(self, name: str, secret: str = "", **more: Any) -> str:
        body = {
            "instance_type": H100,
            "image": IMAGE,
            "hostname": name,
            "description": name,
            "location_code": "FIN-03",
            "ssh_key_ids": [],
            **more,
        }
        return (await self.rest("POST", "/instances", body, secret)).text

    async def act(self, action: str, id_: str) -> None:
        assert (
            await self.rest("PUT", "/instances", {"id": [id_], "action": action})
        ).status_code == 202


@pytest.fixture
def sdk(served: Served, verda: Judge) -> Sdk:
    return Sdk(verda, served)


async def test_it_reads_the_catalogue_the_stock_and_the_balance(sdk: Sdk) -> None:
    rows = {row["instance_type"]: row for row in await sdk.call("instance_types.get()")}
    assert sdk.asked == [("GET", "/instance-types", [("currency", "usd")], None)]
    assert (rows[H100]["price_per_hour"], rows[H100]["spot_price_per_hour"]) == (2.29, 0.8015)
    assert rows["8H100.80S.176V"]["gpu"]["number_of_gpus"] == 8
    stock = await sdk.call("instances.get_availabilities(is_spot=True, location_code='FIN-03')")
    assert sdk.asked[0][2] == [("isSpot", "true"), ("location_code", "FIN-03")]
    assert [row["location_code"] for row in stock] == ["FIN-03"]
    assert "8H100.80S.176V" not in stock[0]["availabilities"]
    assert H100 in stock[0]["availabilities"]
    assert await sdk.call(f"instances.is_available({H100!r}, location_code='FIN-03')") is True
    assert await sdk.call(f"instances.is_available({H100!r}, location_code='FIN-02')") is False
    assert IMAGE in [row["image_type"] for row in await sdk.call(f"images.get({H100!r})")]
    codes = [row["code"] for row in await sdk.call("locations.get()")]
    assert codes == ["FIN-01", "FIN-02", "FIN-03", "ICE-01"]
    assert (await sdk.call("volume_types.get()"))[0]["_type"] == "NVMe"
    assert (await sdk.call("balance.get()"))["_currency"] == "usd"


async def test_it_deploys_stops_starts_and_deletes(sdk: Sdk) -> None:
    key = (await sdk.call(f"ssh_keys.create('k', {PUBLIC!r})"))["_id"]
    script = (await sdk.call("startup_scripts.create('s', '#!/bin/sh\\necho hi\\n')"))["_id"]
    made = await sdk.call(
        f"instances.create({H100!r}, {IMAGE!r}, 'gb-abc123', 'gb-abc123', ssh_key_ids=[{key!r}], "
        f"startup_script_id={script!r}, os_volume={{'name': 'gb-os', 'size': 60}})"
    )
    id_ = made["id"]
    assert [row[:2] for row in sdk.asked] == [("POST", "/instances"), ("GET", f"/instances/{id_}")]
    assert made["status"] in ("provisioning", "running")
    await sdk.served.advance(10)
    spec = sdk.served.host.running[id_]
    assert (spec.keys, spec.user_data) == ((PUBLIC,), b"#!/bin/sh\necho hi\n")
    shown = await sdk.call(f"instances.get_by_id({id_!r})")
    assert (shown["status"], shown["description"]) == ("running", "gb-abc123")
    assert shown["ip"] == sdk.served.sandbox.clouds["verda"].machines[id_].address
    volume = await sdk.call(f"volumes.get_by_id({shown['os_volume_id']!r})")
    assert (volume["size"], volume["is_os_volume"], volume["instance_id"]) == (60, True, id_)
    await sdk.call(f"instances.action({id_!r}, 'shutdown')")
    assert (await sdk.call(f"instances.get_by_id({id_!r})"))["status"] == "offline"
    await sdk.call(f"instances.action({id_!r}, 'start')")
    await sdk.served.advance(10)
    assert (await sdk.call(f"instances.get_by_id({id_!r})"))["status"] == "running"
    doomed = f"volume_ids=[{volume['id']!r}], delete_permanently=True"
    await sdk.call(f"instances.action({id_!r}, 'delete', {doomed})")
    await sdk.served.advance(10)
    assert (await sdk.call(f"instances.get_by_id({id_!r})"))["status"] == "discontinued"
    await sdk.call(f"ssh_keys.delete([{key!r}])")
    await sdk.call(f"startup_scripts.delete_by_id({script!r})")
    left = await sdk.served.control("GET", "resources")
    assert {row["state"] for row in left} == {"deleted"}
    assert [row["billed"] for row in await sdk.served.control("GET", "machines")] == [False]


async def test_it_lists_its_own_instances_in_their_states_and_no_others(sdk: Sdk) -> None:
    running, stopped = await sdk.plant("keep"), await sdk.plant("rest")
    foreign = await sdk.plant("foreign", secret="somebody-else", location_code="FIN-01")
    await sdk.served.advance(10)
    await sdk.act("shutdown", stopped)
    rows = await sdk.call("instances.get()")
    assert sdk.asked == [("GET", "/instances", [], None)]
    assert {row["id"]: row["status"] for row in rows} == {running: "running", stopped: "offline"}
    (only,) = await sdk.call("instances.get(status='offline')")
    assert (only["id"], only["hostname"]) == (stopped, "rest")
    refused = await sdk.failing(f"instances.get_by_id({foreign!r})")
    assert refused == "= not_found | Instance not found"
    await sdk.call(f"instances.action({foreign!r}, 'delete')")
    assert (await sdk.served.control("GET", "machines"))[2]["billed"], "the library tells no 207"


async def test_it_moves_clones_and_deletes_volumes(sdk: Sdk) -> None:
    volume = (await sdk.call("volumes.create('NVMe', 'd', 100)"))["id"]
    id_ = await sdk.plant("host")
    await sdk.served.advance(10)
    attach = f"volumes.attach({volume!r}, {id_!r})"
    assert "must be shut down" in await sdk.failing(attach)
    await sdk.act("shutdown", id_)
    await sdk.call(attach)
    assert (await sdk.call(f"volumes.get_by_id({volume!r})"))["instance_id"] == id_
    await sdk.call(f"volumes.detach([{volume!r}])")
    await sdk.call(f"volumes.rename({volume!r}, 'e')")
    await sdk.call(f"volumes.increase_size({volume!r}, 200)")
    copy = await sdk.call(f"volumes.clone({volume!r}, 'copy')")
    assert (copy["name"], copy["size"], copy["status"]) == ("copy", 200, "detached")
    await sdk.call(f"volumes.delete({volume!r})")
    (trashed,) = await sdk.call("volumes.get_in_trash()")
    assert (trashed["id"], trashed["name"]) == (volume, "e")
    assert volume not in [row["id"] for row in await sdk.call("volumes.get()")]
    await sdk.call(f"volumes.delete_by_id({volume!r}, is_permanent=True)")
    assert await sdk.call("volumes.get_in_trash()") == []


async def test_refusals_reach_the_customer_as_the_librarys_errors(sdk: Sdk) -> None:
    create = f"instances.create({H100!r}, {IMAGE!r}, 'a', 'a')"
    for kind, error in (
        ("no_capacity", "= service_unavailable | Not enough resources"),
        ("quota", "= forbidden_action | "),
        ("rate_limit", "= None | Too many requests"),
        ("server_error", "= server_error | "),
    ):
        body = {"provider": "verda", "operation": "create", "kind": kind, "times": 1}
        await sdk.served.control("POST", "faults", body)
        assert (await sdk.failing(create)).startswith(error)
    wrong = "instances.create('1V100.6V', 'windows', 'a', 'a', location='FIN-01')"
    refused = await sdk.failing(wrong)
    assert refused.endswith("Operating system is not valid for this instance type")
    stranger = _CLIENT.replace('os.environ["VERDA_CLIENT_SECRET"]', '"invalid-key"')
    assert "unauthorized_request" in await sdk.failing("instances.get()", stranger)
    assert await sdk.served.control("GET", "machines") == []


# --- replay of what the library was recorded to send --------------------------------------


def _recorded() -> dict[str, list[dict[str, Any]]]:
    """Command to the requests that it sent, after that for its token."""
    commands: dict[str, list[dict[str, Any]]] = {}
    for row in json.loads(RECORDED.read_text()):
        commands.setdefault(row["command"], []).append(row)
    return commands


async def _stand_ins(sdk: Sdk, command: str) -> dict[str, str]:
    """What the recording's invented ids are here, in the state that the command needs."""
    await sdk.served.control("POST", "reset")
    key = (await sdk.rest("POST", "/sshkeys", {"name": "k", "key": PUBLIC})).text
    script = (await sdk.rest("POST", "/scripts", {"name": "s", "script": "true"})).text
    order = {"type": "NVMe", "name": "v", "size": 100, "location_code": "FIN-03"}
    volume = (await sdk.rest("POST", "/volumes", order)).text
    instance = await sdk.plant("host")
    await sdk.served.advance(10)
    if "'start'" in command or "tach(" in command:
        await sdk.act("shutdown", instance)
    if "detach(" in command:
        body = {"id": volume, "action": "attach", "instance_id": instance}
        await sdk.rest("PUT", "/volumes", body)
    if "volume_ids" in command:
        (volume,) = (await sdk.rest("GET", f"/instances/{instance}")).json()["volume_ids"]
    return {INSTANCE: instance, KEY: key, VOLUME: volume, SCRIPT: script}


def _in_place(text: str, real: dict[str, str]) -> str:
    for invented, id_ in real.items():
        text = text.replace(invented, id_)
    return text


def test_nothing_is_missing_from_the_recording() -> None:
    commands = _recorded()
    assert len(commands) == 34
    assert sum(len(rows) for rows in commands.values()) == 37


@pytest.mark.parametrize("command", _recorded())
async def test_every_recorded_request_is_taken(sdk: Sdk, command: str) -> None:
    real = await _stand_ins(sdk, command)
    for row in _recorded()[command]:
        path = _in_place(row["path"], real)
        query = "&".join(f"{name}={value}" for name, value in row["query"])
        body = json.loads(_in_place(json.dumps(row["body"]), real))
        answer = await sdk.rest(row["method"], f"{path}?{query}", body)
        assert answer.status_code != 207, answer.text


@pytest.mark.parametrize("command", _recorded())
async def test_the_library_sends_what_it_was_recorded_to_send(sdk: Sdk, command: str) -> None:
    real = await _stand_ins(sdk, command)
    await sdk.call(_in_place(command, real))
    sent = [
        (method, _ANY_ID.sub("<id>", path), query, body) for method, path, query, body in sdk.asked
    ]
    assert sent == [
        (
            row["method"],
            _ANY_ID.sub("<id>", row["path"]),
            [tuple(pair) for pair in row["query"]],
            json.loads(_in_place(json.dumps(row["body"]), real)),
        )
        for row in _recorded()[command]
    ]
