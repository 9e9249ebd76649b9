"""Every fault, in Vast.ai's words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from gpubroker.sandbox.faults import KINDS, Fault, Faults

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

V0, V1 = "/vast_ai/api/v0", "/vast_ai/api/v1"
ANSWERED: dict[str, tuple[int, str]] = {
    "rate_limit": (429, "API requests too frequent"),
    "server_error": (500, "Internal Server Error"),
    "bad_credentials": (401, "Invalid user key"),
    "not_found_for_bad_key": (404, "Invalid user key"),
}
Check = Callable[["Served"], Awaitable[None]]


@pytest.mark.parametrize("kind", ANSWERED)
async def test_a_fault_of_the_whole_call_has_the_vendors_form(served: Served, kind: str) -> None:
    await served.fault("account", kind, times=1)
    answer = await served.ask("GET", f"{V0}/users/current")
    assert (answer.status_code, ANSWERED[kind][1] in answer.text) == (ANSWERED[kind][0], True)
    assert (await served.ask("GET", f"{V0}/users/current")).status_code == 200


async def test_garbage_is_a_success_with_a_body_that_does_not_parse(served: Served) -> None:
    await served.fault("offers", "garbage", times=1)
    answer = await served.ask("POST", f"{V0}/bundles/", {})
    assert answer.status_code == 200
    with pytest.raises(ValueError, match="Unterminated"):
        answer.json()


async def _create(served: Served, **order: Any) -> httpx2.Response:
    offer = (await served.offers(gpu_name={"eq": "RTX 4090"}, num_gpus={"eq": 1}))[0]
    body = {"image": "ubuntu", "disk": 20, **order}
    return await served.ask("PUT", f"{V0}/asks/{offer['id']}/", body)


@pytest.mark.parametrize(("kind", "machines"), [("disconnect_before", 0), ("disconnect_after", 1)])
async def test_a_cut_connection_before_or_after_the_act(
    served: Served, kind: str, machines: int
) -> None:
    await served.fault("create", kind, times=1)
    with pytest.raises(httpx2.RemoteProtocolError):
        await _create(served)
    assert len(await served.control("GET", "machines")) == machines
    assert (await served.control("GET", "requests"))[-1]["status"] is None


async def test_a_timeout_accepts_and_never_answers(served: Served) -> None:
    await served.fault("create", "timeout", times=1)
    offer = (await served.offers())[0]
    with pytest.raises(httpx2.ReadTimeout):
        await served.ask("PUT", f"{V0}/asks/{offer['id']}/", {"image": "x"}, timeout=0.2)
    assert await served.control("GET", "machines") == []


async def test_slow_takes_its_time_and_then_acts(served: Served) -> None:
    await served.fault("account", "slow", delay_s=0.2, times=1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert (await served.ask("GET", f"{V0}/users/current")).status_code == 200
    assert loop.time() - began >= 0.19


async def test_no_capacity(served: Served) -> None:
    await served.fault("create", "no_capacity", times=1)
    answer = await _create(served)
    assert (answer.status_code, answer.json()["error"]) == (410, "no_such_ask")
    await served.fault("offers", "no_capacity", times=1)
    assert await served.offers() == []
    id_ = await served.rent()
    await served.ask("PUT", f"{V0}/instances/{id_}/", {"state": "stopped"})
    await served.fault("start", "no_capacity", times=1)
    answer = await served.ask("PUT", f"{V0}/instances/{id_}/", {"state": "running"})
    assert (answer.status_code, answer.json()["success"]) == (200, False)
    assert answer.json()["error"] == "resources_unavailable"
    assert (await served.truth(id_))["state"] == "stopped"


async def test_quota(served: Served) -> None:
    await served.fault("create", "quota", times=1)
    answer = await _create(served)
    assert answer.status_code == 400
    assert "lacks credit" in answer.text
    assert await served.control("GET", "machines") == []


async def test_duplicate_list(served: Served) -> None:
    id_ = await served.rent()
    await served.fault("list", "duplicate_list", times=1)
    rows = (await served.instances())["instances"]
    assert [row["id"] for row in rows] == [id_, id_]
    assert len((await served.instances())["instances"]) == 1
    await served.fault("offers", "duplicate_list", times=1)
    ids = [offer["id"] for offer in await served.offers()]
    assert len(ids) == 2 * len(set(ids))


@pytest.mark.parametrize("operation", ["create", "list"])
async def test_list_lag(served: Served, operation: str) -> None:
    await served.fault(operation, "list_lag", delay_s=60, times=1)
    id_ = await served.rent()
    assert (await served.instances())["instances"] == []
    assert (await served.instance(id_))["id"] == id_
    await served.advance(60)
    assert len((await served.instances())["instances"]) == 1


async def test_terminate_ignored(served: Served) -> None:
    id_ = await served.rent()
    await served.fault("terminate", "terminate_ignored", times=1)
    answer = await served.ask("DELETE", f"{V0}/instances/{id_}/", {})
    assert answer.json() == {"success": True}
    assert (await served.truth(id_))["billed"]
    await served.ask("DELETE", f"{V0}/instances/{id_}/", {})
    assert not (await served.truth(id_))["billed"]


async def test_boot_failure(served: Served) -> None:
    await served.fault("create", "boot_failure", times=1)
    row = await served.instance(await served.rent())
    assert (row["actual_status"], row["intended_status"]) == ("created", "running")
    assert "OCI runtime create failed" in row["status_msg"]
    assert (await served.truth(row["id"]))["billed_for"] == ["disk"]


async def test_stuck_pending(served: Served) -> None:
    await served.fault("create", "stuck_pending", times=1)
    id_ = await served.rent()
    await served.advance(86_400)
    assert (await served.instance(id_))["actual_status"] == "loading"


async def test_page_cursor_expired(served: Served) -> None:
    for _ in range(2):
        await served.rent()
    page = await served.instances(limit=1)
    await served.fault("list", "page_cursor_expired", times=1)
    params = {"limit": "1", "after_token": page["next_token"]}
    await served.advance(5)
    answer = await served.ask("GET", f"{V1}/instances/", params=params)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_token")
    assert (await served.ask("GET", f"{V1}/instances/", params=params)).status_code == 200


async def test_ssh_refused(served: Served) -> None:
    await served.fault("create", "ssh_refused", times=1)
    row = await served.instance(await served.rent())
    assert row["actual_status"] == "running"
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", int(row["ports"]["22/tcp"][0]["HostPort"]))


async def test_wrong_gpu(served: Served) -> None:
    await served.fault("create", "wrong_gpu", times=1)
    row = await served.instance(await served.rent())
    assert row["gpu_name"] != "RTX 4090"


async def test_price_changed(served: Served) -> None:
    offer = (await served.offers(gpu_name={"eq": "RTX 4090"}, num_gpus={"eq": 1}))[0]
    await served.fault("create", "price_changed", times=1)
    row = await served.instance(await served.rent())
    assert row["dph_base"] == pytest.approx(1.5 * offer["dph_base"])


async def test_ignored_field(served: Served) -> None:
    await served.fault("create", "ignored_field", times=1)
    assert (await served.instance(await served.rent(label="lost")))["label"] is None
    await served.fault("offers", "ignored_field", times=1)
    assert {o["gpu_name"] for o in await served.offers(gpu_name={"eq": "B200"})} > {"B200"}


async def test_list_partial(served: Served) -> None:
    for _ in range(2):
        await served.rent()
    await served.fault("list", "list_partial", times=1)
    page = await served.instances()
    assert (len(page["instances"]), page["total_instances"], page["next_token"]) == (1, 2, None)


async def test_other_account(served: Served) -> None:
    await served.rent()
    mine = (await served.ask("GET", f"{V0}/users/current")).json()["id"]
    await served.fault("*", "other_account", times=2)
    assert (await served.instances())["instances"] == []
    assert (await served.ask("GET", f"{V0}/users/current")).json()["id"] != mine
    assert (await served.ask("GET", f"{V0}/users/current")).json()["id"] == mine


async def test_faults_are_cleared(served: Served) -> None:
    await served.fault("*", "server_error")
    assert (await served.ask("GET", f"{V0}/users/current")).status_code == 500
    assert await served.control("DELETE", "faults") == {"cleared": 1}
    assert (await served.ask("GET", f"{V0}/users/current")).status_code == 200


def test_every_kind_has_a_test_here() -> None:
    tested = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    others = {*ANSWERED, "garbage", "disconnect_before", "disconnect_after", "timeout", "slow"}
    assert set(KINDS) == (tested | others) & set(KINDS)


def test_chance_is_repeatable_and_times_run_out() -> None:
    def taken(seed: int) -> list[bool]:
        faults = Faults(seed)
        half = Fault(id="f", provider="p", operation="*", kind="slow", probability=0.5, times=10)
        faults.active = [half]
        return [faults.take_call("get") is not None for _ in range(60)]

    assert taken(1) == taken(1) != taken(2)
    assert sum(taken(1)) == 10
