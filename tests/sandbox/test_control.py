"""The controls below /_sandbox, and what every answer has in common."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gpubroker.sandbox.app import REQUESTS_KEPT, create_sandbox

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served, Wall

Serving = Callable[..., AbstractAsyncContextManager["Served"]]
V0 = "/vast_ai/api/v0"


async def test_status_says_who_this_is(served: Served) -> None:
    status = await served.control("GET", "status")
    assert set(status) == {"id", "version", "pid", "now", "started_at", "mode"}
    assert len(status["id"]) == 8
    assert set(status["id"]) <= set("abcdefghijklmnopqrstuvwxyz234567")
    assert status["mode"] == "foreground"


async def test_providers_tells_where_and_with_which_key(served: Served) -> None:
    providers = await served.control("GET", "providers")
    vast = providers["vast_ai"]
    assert vast["base_url"] == f"{served.url}/vast_ai"
    assert vast["protocol"] == "rest"
    assert vast["env"]["VAST_URL"] == vast["base_url"]
    key = vast["env"]["VAST_API_KEY"]
    assert (await served.ask("GET", f"{V0}/users/current", key=key)).status_code == 200
    hosts = served.sandbox.hosts()
    assert (hosts["console.vast.ai"], hosts["cloud.vast.ai"]) == ("vast_ai", "vast_ai")
    assert hosts["cloud.lambda.ai"] == "lambda_labs"


async def test_the_date_of_every_answer_is_sandbox_time(served: Served, wall: Wall) -> None:
    await served.advance(86_400)
    for path in ("/_sandbox/clock", f"{V0}/gpu_names/unique/", "/nowhere"):
        answer = await served.http.get(path)
        dates = answer.headers.get_list("date")
        assert [parsedate_to_datetime(date).timestamp() for date in dates] == [wall.at + 86_400]


async def test_the_clock_moves_and_its_offset_survives_a_restart(
    serving: Serving, wall: Wall
) -> None:
    async with serving(wall=wall) as first:
        before = await first.control("GET", "clock")
        after = await first.control("POST", "clock", {"advance_s": 90.5})
        assert after["offset_s"] - before["offset_s"] == pytest.approx(90.5)
        sandbox_id = first.sandbox.id
    async with serving(wall=wall) as again:
        assert (await again.control("GET", "clock")) == after
        assert again.sandbox.id == sandbox_id


async def test_machines_of_every_account_are_listed_ended_ones_too(served: Served) -> None:
    mine = await served.rent(label="mine")
    theirs = await served.rent(label="theirs", key="somebody-else")
    await served.ask("DELETE", f"{V0}/instances/{mine}/", {})
    one, two = await served.truth(mine), await served.truth(theirs)
    assert (one["state"], one["billed"]) == ("terminated", False)
    assert one["ended_at"]
    assert (two["state"], two["billed"], two["billed_for"]) == ("running", True, ["disk", "gpu"])
    assert one["account"] != two["account"]
    assert two["label"] == "theirs"
    assert (two["gpu_model"], two["gpu_count"]) == ("RTX 4090", 1)
    assert two["accrued_usd"] == two["accrued_nanos"] / 1e9 > 0
    assert served.sandbox.machines_running() == 1


async def test_resources_lists_keys_and_volumes(served: Served) -> None:
    await served.ask("POST", f"{V0}/ssh/", {"ssh_key": "ssh-ed25519 AAAAC3Nza me"})
    offer = (await served.ask("POST", f"{V0}/volumes/search/", {})).json()["offers"][0]
    await served.ask("PUT", f"{V0}/volumes/", {"id": offer["id"], "size": 20})
    rows = await served.control("GET", "resources")
    assert {(row["kind"], row["billed"]) for row in rows} == {("ssh_key", False), ("volume", True)}


async def test_the_last_requests_are_remembered_without_their_keys(served: Served) -> None:
    await served.ask("GET", f"{V0}/users/current?api_key=abc", key=None)
    await served.ask("GET", f"{V0}/nothing/")
    rows = await served.control("GET", "requests?provider=vast_ai")
    assert [(row["method"], row["path"], row["status"]) for row in rows] == [
        ("GET", "/api/v0/users/current", 200),
        ("GET", "/api/v0/nothing/", 404),
    ]
    assert served.sandbox.requests.maxlen == REQUESTS_KEPT == 1000


async def test_the_market_moves_and_empties(served: Served) -> None:
    query: dict[str, Any] = {"gpu_name": {"eq": "RTX 4090"}, "num_gpus": {"eq": 1}}
    before = {offer["id"]: offer["dph_base"] for offer in await served.offers(**query)}
    body: dict[str, Any] = {"provider": "vast_ai", "gpu_model": "RTX 4090"}
    await served.control("POST", "market", {**body, "price_factor": 2.0})
    after = {offer["id"]: offer["dph_base"] for offer in await served.offers(**query)}
    assert after == {id_: pytest.approx(2 * price, abs=2e-4) for id_, price in before.items()}
    for available, left in ((False, 0), (3, 3), (True, len(before))):
        await served.control("POST", "market", {**body, "available": available})
        found = await served.offers(**query)
        assert len(found) == left


async def test_a_preempted_spot_machine_is_stopped_and_pays_its_disk(served: Served) -> None:
    spot = await served.rent(price=0.3)
    fixed = await served.rent()
    body = {"provider": "vast_ai", "provider_id": str(spot)}
    row = await served.control("POST", "preempt", body)
    assert (row["state"], row["billed_for"]) == ("preempted", ["disk_stopped"])
    for id_, status in ((str(spot), 409), (str(fixed), 409), ("1", 404)):
        body = {"provider": "vast_ai", "provider_id": id_}
        assert (await served.ask("POST", "/_sandbox/preempt", body)).status_code == status


async def test_a_reset_empties_every_cloud(served: Served) -> None:
    await served.rent()
    await served.fault("*", "slow")
    await served.control("POST", "reset")
    assert await served.control("GET", "machines") == []
    assert await served.control("GET", "faults") == []
    assert await served.control("GET", "requests") == []
    assert served.host.running == {}


BAD = [
    ("faults", {"provider": "vast_ai", "operation": "get", "kind": "nonsense"}, "kind"),
    ("faults", {"provider": "vast_ai", "operation": "fly", "kind": "slow"}, "operation"),
    ("faults", {"provider": "vast_ai", "operation": "get", "kind": "boot_failure"}, "operation"),
    ("faults", {"provider": "nowhere", "operation": "get", "kind": "slow"}, "provider"),
    ("faults", {"provider": "vast_ai", "kind": "slow"}, "operation"),
    ("faults", {"provider": "vast_ai", "operation": "*", "kind": "slow", "x": 1}, "x"),
    (
        "faults",
        {"provider": "vast_ai", "operation": "*", "kind": "slow", "probability": 2},
        "probability",
    ),
    ("faults", {"provider": "vast_ai", "operation": "*", "kind": "slow", "times": 0}, "times"),
    ("clock", {"advance_s": -1}, "advance_s"),
    ("clock", {"advance_s": "soon"}, "advance_s"),
    ("clock", {}, "advance_s"),
    ("market", {"provider": "vast_ai", "gpu_model": "Voodoo2"}, "gpu_model"),
    ("market", {"provider": "vast_ai", "gpu_model": "H100", "price_factor": 0}, "price_factor"),
    ("preempt", {"provider": "vast_ai"}, "provider_id"),
]


@pytest.mark.parametrize(("path", "body", "field"), BAD)
async def test_bad_input_is_refused_by_the_field(
    served: Served, path: str, body: dict[str, Any], field: str
) -> None:
    answer = await served.ask("POST", f"/_sandbox/{path}", body)
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == field
    assert answer.json()["error"]["message"]


async def test_a_body_that_is_no_json_is_a_bad_request(served: Served) -> None:
    answer = await served.http.post("/_sandbox/clock", content=b"{")
    assert answer.status_code == 400
    assert "JSON" in answer.json()["error"]["message"]
    answer = await served.http.get("/_sandbox/requests?provider=nowhere")
    assert answer.json()["error"]["field"] == "provider"


async def test_in_the_background_only_the_generated_key_is_an_account(serving: Serving) -> None:
    async with serving(mode="background") as served:
        key = served.sandbox.keys["vast_ai"]
        assert (await served.ask("GET", f"{V0}/users/current", key=key)).status_code == 200
        assert (await served.ask("GET", f"{V0}/users/current", key="other")).status_code == 404
    async with serving(mode="background") as again:
        assert again.sandbox.keys["vast_ai"] == key


async def test_time_does_its_work_by_itself(serving: Serving) -> None:
    async with serving(speed=60.0) as served:
        offer = (await served.offers(gpu_name={"eq": "RTX 4090"}))[0]
        body = {"image": "ubuntu", "disk": 10}
        await served.ask("PUT", f"{V0}/asks/{offer['id']}/", body)
        machine = next(iter(served.cloud.machines.values()))
        deadline = served.sandbox.clock.now() + 600
        while machine.state != "running" and served.sandbox.clock.now() < deadline:
            await served.control("GET", "clock")
        assert machine.state == "running"


def test_an_unknown_provider_is_named(tmp_path: Path, make_host: Any) -> None:
    with pytest.raises(ValueError, match="no emulator for atlantis"):
        create_sandbox(
            tmp_path, make_host(), mode="foreground", providers=["atlantis"], base_url="http://x"
        )


async def test_a_client_that_dies_in_mid_request_leaves_no_trace_in_the_log(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    host, port = served.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"PUT /vast_ai/api/v0/asks/1/ HTTP/1.1\r\nHost: {host}\r\n"
    writer.write(f"{head}Authorization: Bearer x\r\nContent-Length: 100\r\n\r\n{{".encode())
    await writer.drain()
    while not served.ear.heard:
        await asyncio.sleep(0.01)
    writer.close()
    async with asyncio.timeout(10):
        while not served.sandbox.requests:
            await asyncio.sleep(0.01)
    assert served.sandbox.requests[-1].status is None
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
