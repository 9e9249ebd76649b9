"""Verda's emulator: what it does, and what it refuses in the vendor's words."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from tests.sandbox.customer import Customer

from gpubroker.sandbox.faults import KINDS
from gpubroker.sandbox.processes import own_address

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

V1 = "/verda/v1"
SECRET, OTHER = "secret-of-mine", "secret-of-yours"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"
H100, PLACE = "1H100.80S.30V", "FIN-03"
UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NOBODY = "00000000-0000-4000-8000-000000000000"
INVALID = (400, "invalid_request")
ORDER: dict[str, Any] = {
    "instance_type": H100,
    "image": "ubuntu-24.04-cuda-12.8-open-docker",
    "hostname": "gb-abc123",
    "description": "gb-abc123",
    "location_code": PLACE,
    "ssh_key_ids": [],
}


class Renter(Customer):
    """One account of Verda, with a fresh token for each call."""

    def __init__(self, served: Served, secret: str = SECRET) -> None:
        super().__init__(served, V1, {})
        self.secret = secret

    async def token(self) -> str:
        body = {"grant_type": "client_credentials", "client_id": "me", "client_secret": self.secret}
        answer = await self.served.ask("POST", f"{V1}/oauth2/token", body, key=None)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> httpx2.Response:
        self.headers["Authorization"] = f"Bearer {await self.token()}"
        return await super().ask(method, path, body, **more)

    async def made(self, path: str, body: Any) -> str:
        """The id that a creating call answers: bare, in plain text."""
        answer = await self.ask("POST", path, body)
        assert answer.status_code in (201, 202), answer.text
        assert answer.headers["content-type"].startswith("text/plain")
        assert UUID.fullmatch(answer.text)
        return answer.text

    async def refused(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """(status, code) of a refusal; its form is the vendor's."""
        status, error = await super().refused(method, path, body, **more)
        assert set(error) == {"code", "message"}
        return status, error["code"]

    async def deploy(self, **more: Any) -> str:
        return await self.made("/instances", {**ORDER, **more})

    async def rent(self, **more: Any) -> str:
        """An instance that runs."""
        id_ = await self.deploy(**more)
        await self.served.advance(10)
        return id_

    async def show(self, id_: str) -> dict[str, Any]:
        found: dict[str, Any] = await self.json("GET", f"/instances/{id_}")
        return found

    async def status(self, id_: str) -> str:
        return str((await self.show(id_))["status"])

    async def ids(self, query: str = "") -> list[str]:
        return [row["id"] for row in await self.json("GET", f"/instances{query}")]

    async def act(self, action: str, *ids: str, **more: Any) -> httpx2.Response:
        return await self.ask("PUT", "/instances", {"id": list(ids), "action": action, **more})

    async def done(self, action: str, *ids: str, **more: Any) -> None:
        answer = await self.act(action, *ids, **more)
        assert answer.status_code == 202, answer.text
        rows = [{"action": action, "instanceId": id_, "status": "success"} for id_ in ids]
        assert answer.json() == rows

    async def failed(self, action: str, id_: str, **more: Any) -> tuple[int, str]:
        """(status, message) of the one row of a 207."""
        answer = await self.act(action, id_, **more)
        assert answer.status_code == 207, answer.text
        (row,) = answer.json()
        assert (row["action"], row["instanceId"], row["status"]) == (action, id_, "error")
        return row["statusCode"], row["error"]


@pytest.fixture
def me(served: Served) -> Renter:
    return Renter(served)


@pytest.fixture
def you(served: Served) -> Renter:
    return Renter(served, OTHER)


# --- doors --------------------------------------------------------------------------------


async def test_a_token_lasts_an_hour_and_can_be_renewed(served: Served) -> None:
    async def token(body: dict[str, str], **more: Any) -> httpx2.Response:
        return await served.http.post(f"{V1}/oauth2/token", **{"json": body, **more})

    async def status(key: str) -> int:
        return (await served.ask("GET", f"{V1}/instances", key=key)).status_code

    given = {"grant_type": "client_credentials", "client_id": "me", "client_secret": SECRET}
    first = (await token(given)).json()
    assert set(first) == {"access_token", "refresh_token", "token_type", "expires_in", "scope"}
    assert (first["token_type"], first["expires_in"]) == ("Bearer", 3600)
    assert first["scope"] == "cloud-api-v1"
    assert await status(first["access_token"]) == 200
    assert await status(first["refresh_token"]) == 401
    assert await status(SECRET) == 401
    await served.advance(3600)
    assert await status(first["access_token"]) == 401
    renewal = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = (await token(renewal)).json()
    assert await status(second["access_token"]) == 200
    await served.advance(24 * 3600)
    assert (await token(renewal)).status_code == 401
    assert (await token({}, json=None, data=given)).status_code == 200, "as a form too"
    assert (await token({**given, "client_secret": "invalid-key"})).status_code == 401
    assert (await token({**given, "client_id": "invalid-key"})).status_code == 401
    assert (await token({**given, "grant_type": "password"})).status_code == 400
    assert (await token({"grant_type": "client_credentials"})).status_code == 400
    assert (await token({**given, "colour": "red"})).status_code == 400


async def test_prices_are_given_without_a_token_and_nothing_else_is(served: Served) -> None:
    async def status(path: str, key: str | None = None) -> int:
        return (await served.ask("GET", f"{V1}{path}", key=key)).status_code

    assert await status("/instance-types") == 200
    assert await status("/instance-types", "nonsense") == 401
    for path in ("/instance-availability", "/locations", "/images", "/instances", "/balance"):
        assert await status(path) == 401


async def test_unknown_paths_queries_and_bodies_are_refused(me: Renter) -> None:
    assert await me.refused("GET", "/instances/") == (404, "not_found")
    assert await me.refused("PATCH", "/instances") == (404, "not_found")
    assert await me.refused("GET", "/instances?limit=1") == INVALID
    assert await me.refused("GET", "/instances?status=happy") == INVALID
    assert await me.refused("GET", "/instance-types?currency=gbp") == INVALID
    assert await me.refused("POST", "/scripts", content=b"{nonsense") == INVALID


# --- catalog ------------------------------------------------------------------------------


async def test_types_tell_whole_machines_and_prices_as_text(me: Renter) -> None:
    rows = {row["instance_type"]: row for row in await me.json("GET", "/instance-types")}
    eight = rows["8H100.80S.176V"]
    assert (eight["price_per_hour"], eight["spot_price"], eight["currency"]) == (
        "18.32",
        "6.412",
        "usd",
    )
    assert eight["gpu"] == {"description": "8x H100 SXM5 80GB", "number_of_gpus": 8}
    assert eight["gpu_memory"]["size_in_gigabytes"] == 640
    assert (rows["CPU.4V.16G"]["gpu"]["number_of_gpus"], rows["CPU.4V.16G"]["model"]) == (0, "CPU")
    assert all(float(row["spot_price"]) > 0 for row in rows.values())
    counts = {row["gpu"]["number_of_gpus"] for row in rows.values()}
    assert counts == {0, 1, 2, 4, 8}
    await me.served.advance(7200)
    again = {row["instance_type"]: row for row in await me.json("GET", "/instance-types")}
    assert again == rows, "list prices do not move"
    (euro,) = [
        row
        for row in await me.json("GET", "/instance-types?currency=eur")
        if row["instance_type"] == H100
    ]
    assert float(euro["price_per_hour"]) < float(rows[H100]["price_per_hour"])
    one = await me.json("GET", f"/instance-types/{H100}?is_spot=true&location_code=FIN-03")
    assert one == rows[H100]
    assert await me.refused("GET", "/instance-types/1VOODOO2") == (404, "not_found")
    history = await me.json("GET", "/instance-types/price-history?num_of_months=2")
    assert len(history[H100]) == 2
    assert history[H100][0]["fixed_price_per_hour"] == 2.29
    assert await me.refused("GET", "/instance-types/price-history?num_of_months=13") == INVALID


async def test_availability_is_told_by_location_and_market(me: Renter) -> None:
    async def stock(query: str = "") -> dict[str, list[str]]:
        rows = await me.json("GET", f"/instance-availability{query}")
        return {row["location_code"]: row["availabilities"] for row in rows}

    demand, spot = await stock(), await stock("?is_spot=true")
    assert set(demand) == {"FIN-01", "FIN-02", "FIN-03", "ICE-01"}
    assert "8H100.80S.176V" in demand[PLACE]
    assert "8H100.80S.176V" not in spot[PLACE]
    assert "8B200.240V" in spot[PLACE]
    assert not any("8A100.176V" in names for names in (*demand.values(), *spot.values()))
    assert await stock("?isSpot=true&location_code=FIN-03") == {PLACE: spot[PLACE]}
    assert await me.refused("GET", "/instance-availability?location_code=MARS") == INVALID
    assert await me.json("GET", f"/instance-availability/{H100}?location_code=FIN-03") is True
    assert await me.json("GET", f"/instance-availability/{H100}?location_code=FIN-02") is False
    gone = await me.json("GET", "/instance-availability/8H100.80S.176V?isSpot=true")
    assert gone is False


async def test_a_type_that_is_sold_out_leaves_the_list(me: Renter) -> None:
    big = {"instance_type": "8H100.80S.176V"}
    id_ = await me.rent(**big)
    path = "/instance-availability/8H100.80S.176V"
    assert await me.json("GET", path) is False
    answer = await me.ask("POST", "/instances", {**ORDER, **big})
    assert (answer.status_code, answer.json()["code"]) == (503, "service_unavailable")
    assert answer.json()["message"] == (
        "Not enough resources to deploy a 8 GPU instance type 8H100.80S.176V in FIN-03"
    )
    await me.done("delete", id_)
    assert await me.json("GET", path) is True


async def test_images_locations_and_volume_types(me: Renter) -> None:
    every = await me.json("GET", "/images")
    assert sum(row["is_default"] for row in every) == 1
    old = await me.json("GET", "/images?instance_type=1V100.6V")
    assert ORDER["image"] not in [row["image_type"] for row in old]
    assert not any(row["is_cluster"] for row in old)
    assert all(row["is_cluster"] for row in await me.json("GET", "/images/cluster"))
    assert await me.refused("GET", "/images?instance_type=1VOODOO2") == INVALID
    row = (await me.json("GET", "/locations"))[0]
    assert row == {"code": "FIN-01", "name": "Finland 1", "country_code": "FI"}
    types = {row["type"]: row for row in await me.json("GET", "/volume-types")}
    assert types["NVMe"]["price"]["price_per_month_per_gb"] == 0.2


# --- a life -------------------------------------------------------------------------------


async def test_an_instance_is_ordered_provisioned_used_and_deleted(
    served: Served, me: Renter
) -> None:
    key = await me.made("/ssh-keys", {"name": "mine", "key": PUBLIC})
    script = await me.made("/scripts", {"name": "boot", "script": "echo hello\n"})
    tags = [{"key": "Owner", "value": "gb"}]
    id_ = await me.deploy(ssh_key_ids=[key], startup_script_id=script, tags=tags)
    row = await me.show(id_)
    assert (row["status"], row["ip"], row["os_volume_id"]) == ("ordered", None, None)
    assert (row["location"], row["price_per_hour"]) == (PLACE, 2.29)
    assert (row["contract"], row["pricing"]) == ("PAY_AS_YOU_GO", "FIXED_PRICE")
    assert [(tag["key"], tag["value"]) for tag in row["tags"]] == [("owner", "gb")]
    await served.advance(1)
    row = await me.show(id_)
    assert (row["status"], row["volume_ids"]) == ("provisioning", [row["os_volume_id"]])
    refusal = (400, "Can't discontinue a provisioning instance")
    assert await me.failed("delete", id_) == refusal
    await served.advance(10)
    row = await me.show(id_)
    assert (row["status"], row["ip"]) == ("running", own_address("verda", id_))
    spec = served.host.running[id_]
    assert (spec.user, spec.hostname, spec.docker) == ("root", "gb-abc123", True)
    assert spec.user_data == b"#!/bin/bash\necho hello\n"
    assert (spec.keys, spec.keys_in_home) == ((PUBLIC,), True)
    assert spec.gpu_tool_name == "NVIDIA H100 80GB HBM3"
    assert (await me.truth(id_))["billed"]
    (volume,) = row["volume_ids"]
    await me.done("delete", id_, volume_ids=[volume], delete_permanently=True)
    assert not (await me.truth(id_))["billed"]
    assert not (await me.truth(volume, "resources"))["billed"]
    assert await me.status(id_) == "deleting"
    assert await me.ids() == [id_]
    await served.advance(3)
    assert await me.ids() == []
    assert await me.ids("?status=discontinued") == [id_]
    row = await me.show(id_)
    assert (row["status"], row["ip"], row["volume_ids"]) == ("discontinued", None, [])
    refusal = (400, "Can't discontinue a discontinued instance")
    assert await me.failed("delete", id_, volume_ids=[volume]) == refusal
    await served.advance(3600)
    assert await me.refused("GET", f"/instances/{id_}") == (404, "not_found")
    assert await me.failed("delete", id_) == (400, "Invalid instance id")


async def test_what_is_only_ordered_can_be_deleted_and_leaves_nothing(me: Renter) -> None:
    id_ = await me.deploy(volumes=[{"name": "d", "size": 100, "type": "NVMe"}])
    await me.done("delete", id_)
    rows = await me.served.control("GET", "resources")
    assert [row["billed"] for row in rows] == [False, False]


async def test_shutting_down_saves_nothing(served: Served, me: Renter) -> None:
    id_ = await me.rent(instance_type="8H100.80S.176V")
    await me.done("shutdown", id_)
    assert await me.status(id_) == "offline"
    truth = await me.truth(id_)
    assert (truth["state"], truth["billed"]) == ("stopped", True)
    assert id_ not in served.host.running
    assert await me.json("GET", "/instance-availability/8H100.80S.176V") is False
    before = truth["accrued_nanos"]
    await served.advance(3600)
    assert (await me.truth(id_))["accrued_nanos"] - before == 18_320_000_000
    assert await me.failed("shutdown", id_) == (400, "Can't shutdown a offline instance")
    await me.done("start", id_)
    assert (await me.truth(id_))["billed"]
    await served.advance(10)
    assert await me.status(id_) == "running"
    assert await me.failed("start", id_) == (400, "Can't start a running instance")
    before = (await me.truth(id_))["accrued_nanos"]
    await served.advance(3600)
    assert (await me.truth(id_))["accrued_nanos"] - before == 18_320_000_000


async def test_an_instance_that_powers_itself_off_is_offline_and_paid(
    served: Served, me: Renter
) -> None:
    id_ = await me.rent()
    await served.sandbox.machine_powered("verda", id_, "off")
    assert await me.status(id_) == "offline"
    assert (await me.truth(id_))["billed"]
    await me.done("boot", id_)
    assert (await me.truth(id_))["billed"]
    await served.advance(10)
    assert await me.status(id_) == "running"


async def test_hibernation_ends_the_instance_and_keeps_its_volumes(
    served: Served, me: Renter
) -> None:
    id_ = await me.rent()
    assert await me.failed("hibernate", id_) == (400, "Can't hibernate a running instance")
    await me.done("shutdown", id_)
    await me.done("hibernate", id_)
    assert await me.status(id_) == "starting_hibernation"
    await served.advance(2)
    assert await me.status(id_) == "hibernating"
    await served.advance(2)
    assert await me.ids() == []
    (volume,) = await me.json("GET", "/volumes")
    assert (volume["status"], volume["is_os_volume"]) == ("detached", True)
    again = await me.rent(image=volume["id"])
    assert (await me.show(again))["os_volume_id"] == volume["id"]
    assert (await me.failed("restore", again))[0] == 403


async def test_of_several_each_has_its_own_outcome_and_one_as_text_is_refused_whole(
    me: Renter,
) -> None:
    id_ = await me.rent()
    answer = await me.act("delete", NOBODY, id_)
    assert answer.status_code == 207
    assert [row["status"] for row in answer.json()] == ["error", "success"]
    assert answer.json()[0]["error"] == "Invalid instance id"
    body = {"id": id_, "action": "delete"}
    answer = await me.ask("PUT", "/instances", body)
    assert answer.status_code == 400
    assert answer.json() == {
        "code": "invalid_request",
        "message": "Can't discontinue a discontinued instance",
    }
    assert await me.refused("PUT", "/instances", {"id": [], "action": "delete"}) == INVALID
    assert await me.refused("PUT", "/instances", {**body, "action": "explode"}) == INVALID
    assert await me.refused("PUT", "/instances", {**body, "colour": "red"}) == INVALID


async def test_ids_that_cannot_be_are_told_from_those_that_are_not(me: Renter) -> None:
    answer = await me.ask("GET", "/instances/nothing")
    assert (answer.status_code, answer.json()["message"]) == (400, "Invalid instance id")
    assert await me.refused("GET", f"/instances/{NOBODY}") == (404, "not_found")


async def test_accounts_do_not_see_each_other(me: Renter, you: Renter) -> None:
    id_ = await me.rent()
    key = await me.made("/sshkeys", {"name": "mine", "key": PUBLIC})
    (volume,) = (await me.show(id_))["volume_ids"]
    assert await you.ids() == []
    assert await you.json("GET", "/volumes") == []
    assert await you.refused("GET", f"/instances/{id_}") == (404, "not_found")
    assert await you.refused("DELETE", f"/volumes/{volume}") == (404, "not_found")
    assert await you.failed("delete", id_) == (400, "Invalid instance id")
    assert await you.refused("POST", "/instances", {**ORDER, "ssh_key_ids": [key]}) == INVALID


async def test_without_money_nothing_is_deployed_and_all_ends(served: Served, me: Renter) -> None:
    id_ = await me.rent(instance_type="8H100.80S.176V")
    balance = await me.json("GET", "/balance")
    assert (balance["currency"], 0 < balance["amount"] < 100_000) == ("usd", True)
    await served.advance(300 * 86_400)
    assert (await me.truth(id_))["state"] == "terminated"
    assert await me.refused("POST", "/instances", ORDER) == (402, "insufficient_funds")
    (volume,) = await me.json("GET", "/volumes/trash")
    assert volume["is_os_volume"]


FATE = {"on_spot_discontinue": "keep_detached"}
OS: dict[str, Any] = {"name": "os", "size": 50}
BAD_ORDERS: list[tuple[dict[str, Any], tuple[int, str]]] = [
    ({"quantity": 1}, INVALID),
    ({"location_code": "MARS-1"}, INVALID),
    ({"location_code": "FIN-02"}, (503, "service_unavailable")),
    ({"instance_type": "1VOODOO2"}, INVALID),
    ({"instance_type": "8A100.176V", "location_code": "FIN-01"}, (503, "service_unavailable")),
    ({"image": "windows"}, INVALID),
    ({"image": "ubuntu-24.04-cuda-12.8-cluster"}, INVALID),
    ({"instance_type": "1V100.6V", "location_code": "FIN-01"}, INVALID),
    ({"hostname": "has_underscore"}, INVALID),
    ({"description": "x" * 101}, INVALID),
    ({"ssh_key_ids": None}, INVALID),
    ({"ssh_key_ids": [NOBODY]}, INVALID),
    ({"startup_script_id": NOBODY}, INVALID),
    ({"os_volume": {"name": "os", "size": 49}}, INVALID),
    ({"os_volume": {**OS, **FATE}}, INVALID),
    ({"os_volume": {**OS, "on_spot_discontinue": "burn"}, "is_spot": True}, INVALID),
    ({"volumes": [{"name": "d", "size": 100, "type": "NVMe", **FATE}]}, INVALID),
    ({"volumes": [{"name": "d", "size": 100, "type": "floppy"}]}, INVALID),
    ({"existing_volumes": [NOBODY]}, INVALID),
    ({"contract": "SPOT"}, INVALID),
    ({"contract": "LONG_TERM"}, INVALID),
    ({"contract": "PAY_AS_YOU_GO", "is_spot": True}, INVALID),
    ({"pricing": "FREE"}, INVALID),
    ({"coupon": "X"}, INVALID),
    ({"is_spot": "yes"}, INVALID),
    ({"tags": [{"key": "k" * 64, "value": "v"}]}, INVALID),
    ({"tags": [{"key": "K", "value": "1"}, {"key": "k", "value": "2"}]}, INVALID),
    ({"tags": [{"key": f"k{n}"} for n in range(11)]}, INVALID),
]


@pytest.mark.parametrize(("wrong", "refusal"), BAD_ORDERS)
async def test_orders_that_are_refused_make_nothing(
    me: Renter, wrong: dict[str, Any], refusal: tuple[int, str]
) -> None:
    assert await me.refused("POST", "/instances", {**ORDER, **wrong}) == refusal
    assert await me.served.control("GET", "machines") == []
    assert await me.served.control("GET", "resources") == []


async def test_each_field_that_must_be_there_is_missed(me: Renter) -> None:
    for name in ORDER:
        body = {key: value for key, value in ORDER.items() if key != name}
        assert await me.refused("POST", "/instances", body) == INVALID


# --- spot ---------------------------------------------------------------------------------

VOLUMES = [
    {"name": fate, "size": 100, "type": "NVMe", "on_spot_discontinue": fate}
    for fate in ("keep_detached", "move_to_trash", "delete_permanently")
]


async def test_an_evicted_instance_is_discontinued_and_its_volumes_go_as_was_wanted(
    served: Served, me: Renter
) -> None:
    id_ = await me.rent(
        is_spot=True,
        os_volume={**OS, "on_spot_discontinue": "delete_permanently"},
        volumes=VOLUMES,
    )
    row = await me.show(id_)
    assert (row["is_spot"], row["contract"], row["price_per_hour"]) == (True, "SPOT", 0.8015)
    await served.advance(86_400)
    assert await me.status(id_) == "running", "there is no bid that could lose"
    await served.control("POST", "preempt", {"provider": "verda", "provider_id": id_})
    billed = {r["name"]: r["billed"] for r in await served.control("GET", "resources")}
    assert billed == {
        "os": False,
        "keep_detached": True,
        "move_to_trash": True,
        "delete_permanently": False,
    }, "known before anybody asks the cloud"
    assert not (await me.truth(id_))["billed"]
    assert await me.status(id_) == "discontinued"
    assert await me.ids() == []
    (kept,) = await me.json("GET", "/volumes")
    assert (kept["name"], kept["status"]) == ("keep_detached", "detached")
    (trashed,) = await me.json("GET", "/volumes/trash")
    assert trashed["name"] == "move_to_trash"
    await served.advance(7200)
    assert await me.status(id_) == "discontinued", "it does not come back"


async def test_the_fate_at_an_eviction_says_nothing_of_a_deletion(me: Renter) -> None:
    id_ = await me.rent(is_spot=True, volumes=VOLUMES)
    await me.done("delete", id_, volume_ids=[])
    rows = await me.json("GET", "/volumes")
    assert [row["status"] for row in rows] == ["detached"] * 4


# --- volumes ------------------------------------------------------------------------------


async def test_a_deletion_without_a_list_trashes_the_system_and_keeps_the_rest(
    served: Served, me: Renter
) -> None:
    id_ = await me.rent(volumes=[{"name": "data", "size": 500, "type": "NVMe"}])
    await me.done("delete", id_, volume_ids=None, delete_permanently=True)
    (data,) = await me.json("GET", "/volumes")
    assert (data["name"], data["status"], data["instance_id"]) == ("data", "detached", None)
    assert (data["base_hourly_cost"], data["monthly_price"]) == (0.137, 100)
    (system,) = await me.json("GET", "/volumes/trash")
    assert system["status"] == "deleted"
    assert (await me.truth(system["id"], "resources"))["billed"]
    await served.advance(96 * 3600)
    assert await me.json("GET", "/volumes/trash") == []
    truth = await me.truth(system["id"], "resources")
    assert (truth["billed"], truth["state"]) == (False, "deleted")
    assert (await me.truth(data["id"], "resources"))["billed"], "it costs until it is deleted"


async def test_a_named_volume_must_be_the_instances_own(me: Renter) -> None:
    id_ = await me.rent()
    body = {"id": [id_], "action": "delete", "volume_ids": [NOBODY]}
    assert await me.refused("PUT", "/instances", body) == INVALID
    assert await me.status(id_) == "running"


async def test_a_volumes_life(me: Renter) -> None:
    order = {"type": "NVMe", "name": "d", "size": 100, "location_code": PLACE}
    volume = await me.made("/volumes", {**order, "instance_id": None})
    id_ = await me.rent()

    async def act(action: str, **more: Any) -> Any:
        return await me.json("PUT", "/volumes", {"id": volume, "action": action, **more})

    async def refused(action: str, **more: Any) -> Any:
        return await me.refused("PUT", "/volumes", {"id": volume, "action": action, **more})

    assert await refused("attach", instance_id=id_) == INVALID, "not while it runs"
    await me.done("shutdown", id_)
    assert await refused("attach") == INVALID
    assert await act("attach", instance_id=id_) == [volume]
    row = await me.json("GET", f"/volumes/{volume}")
    assert (row["status"], row["instance_id"], row["target"]) == ("attached", id_, "vdb")
    assert row["instances"][0]["hostname"] == "gb-abc123"
    assert await refused("attach", instance_id=id_) == INVALID
    await me.done("start", id_)
    assert await refused("detach") == INVALID
    assert await refused("delete", is_permanent=True) == INVALID
    await me.served.advance(10)
    await me.done("shutdown", id_)
    await act("detach")
    await act("rename", name="e")
    assert await refused("resize", size=100) == INVALID
    before = (await me.truth(volume, "resources"))["price_per_hour"]
    await act("resize", size=200)
    assert (await me.truth(volume, "resources"))["price_per_hour"] > before
    (copy,) = await act("clone", name=None, type=None)
    assert (await me.json("GET", f"/volumes/{copy}"))["size"] == 200
    answer = await me.ask("DELETE", f"/volumes/{volume}", {"is_permanent": False})
    assert (answer.status_code, answer.content) == (202, b"")
    assert await refused("rename", name="f") == INVALID, "it is in the trash"
    assert [row["id"] for row in await me.json("GET", "/volumes?status=detached")] == [copy]
    answer = await me.ask("DELETE", f"/volumes/{volume}?is_permanent=true")
    assert answer.status_code == 202
    assert await me.refused("GET", f"/volumes/{volume}") == (404, "not_found")
    assert await me.refused("POST", "/volumes", {**order, "size": 0}) == INVALID
    assert await me.refused("POST", "/volumes", {**order, "location_code": "X"}) == INVALID
    assert await me.refused("GET", "/volumes?status=happy") == INVALID
    other_place = await me.made("/volumes", {**order, "location_code": "FIN-01"})
    moved = {"id": other_place, "action": "attach", "instance_id": id_}
    assert await me.refused("PUT", "/volumes", moved) == INVALID
    at_once = await me.made("/volumes", {**order, "instance_id": id_})
    assert (await me.json("GET", f"/volumes/{at_once}"))["instance_id"] == id_


# --- keys, scripts, tags ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "field", "text", "many"),
    [
        ("/ssh-keys", "key", PUBLIC, "keys"),
        ("/sshkeys", "key", PUBLIC, "keys"),
        ("/scripts", "script", "echo hi", "scripts"),
    ],
)
async def test_named_texts_are_listed_shown_as_a_list_of_one_and_deleted(
    me: Renter, path: str, field: str, text: str, many: str
) -> None:
    first, second, third = [await me.made(path, {"name": "x", field: text}) for _ in range(3)]
    rows = await me.json("GET", path)
    assert [row["id"] for row in rows] == [first, second, third]
    (shown,) = await me.json("GET", f"{path}/{first}")
    assert shown == rows[0]
    assert shown[field] == text
    assert (await me.ask("DELETE", f"{path}/{first}")).status_code == 200
    assert await me.refused("DELETE", f"{path}/{first}") == (404, "not_found")
    assert await me.refused("DELETE", path, {many: [second, first]}) == (404, "not_found")
    assert (await me.ask("DELETE", path, {many: [second, third]})).status_code == 200
    assert await me.json("GET", path) == []
    assert await me.refused("POST", path, {"name": "x"}) == INVALID
    assert await me.refused("POST", path, {"name": "x", field: ""}) == INVALID
    resources = await me.served.control("GET", "resources")
    assert {row["state"] for row in resources} == {"deleted"}


async def test_tags_are_added_once_in_lower_case_and_removed(me: Renter) -> None:
    id_ = await me.rent()
    path = f"/instances/{id_}/tags"
    tag = await me.json("POST", path, {"key": "Owner", "value": "gb"})
    assert (tag["key"], tag["value"]) == ("owner", "gb")
    assert (await me.ask("POST", path, {"key": "owner", "value": "x"})).status_code == 409
    assert (await me.show(id_))["tags"] == [tag]
    for number in range(9):
        await me.json("POST", path, {"key": f"k{number}"})
    assert await me.refused("POST", path, {"key": "k9"}) == INVALID
    assert (await me.ask("DELETE", f"{path}/owner")).status_code == 204
    assert await me.refused("DELETE", f"{path}/owner") == (404, "not_found")
    assert await me.refused("POST", f"/instances/{NOBODY}/tags", {"key": "a"}) == (404, "not_found")


# --- what outlives the process ------------------------------------------------------------


async def test_tokens_and_machines_survive_a_restart(serving: Any) -> None:
    async with serving() as first:
        customer = Renter(first)
        token, id_ = await customer.token(), await customer.deploy()
    async with serving() as second:
        answer = await second.ask("GET", f"{V1}/instances/{id_}", key=token)
        assert answer.json()["id"] == id_


# --- faults -------------------------------------------------------------------------------

ANSWERED = {
    "rate_limit": (429, None),
    "server_error": (500, "server_error"),
    "bad_credentials": (401, "unauthorized_request"),
    "not_found_for_bad_key": (404, "not_found"),
}


@pytest.mark.parametrize("kind", ANSWERED)
async def test_a_fault_of_the_whole_call_has_the_vendors_form(me: Renter, kind: str) -> None:
    await me.fault("list", kind, times=1)
    answer = await me.ask("GET", "/instances")
    assert (answer.status_code, answer.json().get("code")) == ANSWERED[kind]
    assert answer.json()["message"]
    assert await me.ids() == []


async def test_garbage_and_timeout(me: Renter) -> None:
    await me.fault("list", "garbage", times=1)
    answer = await me.ask("GET", "/instances")
    assert answer.status_code == 200
    with pytest.raises(ValueError, match="Unterminated"):
        answer.json()
    await me.fault("terminate", "timeout", times=1)
    id_ = await me.rent()
    with pytest.raises(httpx2.ReadTimeout):
        await me.ask("PUT", "/instances", {"id": [id_], "action": "delete"}, timeout=0.2)
    assert await me.status(id_) == "running"


@pytest.mark.parametrize(("kind", "machines"), [("disconnect_before", 0), ("disconnect_after", 1)])
async def test_a_cut_connection_before_or_after_the_act(
    me: Renter, kind: str, machines: int
) -> None:
    await me.fault("create", kind, times=1)
    with pytest.raises(httpx2.RemoteProtocolError):
        await me.ask("POST", "/instances", ORDER)
    assert len(await me.ids()) == machines


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [("quota", 403, "limit exceeded"), ("no_capacity", 503, "Not enough resources")],
)
async def test_quota_and_capacity_in_the_vendors_words(
    me: Renter, kind: str, status: int, words: str
) -> None:
    await me.fault("create", kind, times=1)
    answer = await me.ask("POST", "/instances", ORDER)
    assert (answer.status_code, words in answer.json()["message"]) == (status, True)
    id_ = await me.rent()
    await me.done("shutdown", id_)
    await me.fault("start", kind, times=1)
    answer = await me.act("start", id_)
    assert (answer.status_code, words in answer.json()["message"]) == (status, True)
    assert await me.status(id_) == "offline"


async def test_faults_of_lists(me: Renter) -> None:
    id_, other = await me.rent(), await me.rent()
    await me.fault("list", "duplicate_list", times=1)
    assert await me.ids() == [id_, id_, other, other]
    await me.fault("list", "list_partial", times=1)
    assert await me.ids() == [id_]
    await me.fault("create", "list_lag", delay_s=60, times=1)
    late = await me.deploy()
    assert late not in await me.ids()
    assert (await me.show(late))["id"] == late
    await me.served.advance(60)
    assert late in await me.ids()
    await me.fault("list", "other_account", times=1)
    assert await me.ids() == []
    await me.fault("offers", "no_capacity", times=1)
    assert not any(r["availabilities"] for r in await me.json("GET", "/instance-availability"))
    await me.fault("offers", "ignored_field", times=1)
    one_place = "/instance-availability?location_code=FIN-03"
    assert [len(await me.json("GET", one_place)) for _ in range(2)] == [4, 1]
    await me.fault("offers", "duplicate_list", times=1)
    names = [row["instance_type"] for row in await me.json("GET", "/instance-types")]
    assert names[0] == names[1]
    await me.fault("list", "page_cursor_expired", times=1)
    assert len(await me.ids()) == 3, "there are no pages that could expire"


async def test_terminate_ignored_answers_success_and_goes_on(me: Renter) -> None:
    id_ = await me.rent(is_spot=True, volumes=VOLUMES)
    volumes = (await me.show(id_))["volume_ids"]
    await me.fault("terminate", "terminate_ignored", times=1)
    await me.done("delete", id_, volume_ids=volumes, delete_permanently=True)
    row = await me.show(id_)
    assert (row["status"], row["volume_ids"]) == ("running", volumes)
    assert (await me.truth(id_))["billed"]
    await me.served.control("POST", "preempt", {"provider": "verda", "provider_id": id_})
    billed = [row["billed"] for row in await me.served.control("GET", "resources")]
    assert billed.count(False) == 1, "what was to end with it still does"


@pytest.mark.parametrize(
    ("kind", "status"), [("boot_failure", "error"), ("stuck_pending", "pending")]
)
async def test_a_boot_that_does_not_succeed(me: Renter, kind: str, status: str) -> None:
    await me.fault("create", kind, times=1)
    id_ = await me.rent()
    await me.served.advance(3600)
    row = await me.show(id_)
    assert (row["status"], row["ip"]) == (status, None)
    await me.done("delete", id_)


async def test_faults_that_a_machine_is_born_with(me: Renter) -> None:
    for kind in ("wrong_gpu", "price_changed", "ignored_field", "ssh_refused"):
        await me.fault("create", kind, times=1)
    id_ = await me.rent(tags=[{"key": "ab", "value": "c"}])
    row = await me.show(id_)
    assert row["price_per_hour"] == 3.435
    assert row["gpu"]["description"] != "1x H100 SXM5 80GB"
    assert (row["description"], row["tags"]) == ("", [])
    assert row["ip"] != own_address("verda", id_), "nothing listens there"
    assert me.served.host.running[id_].gpu_tool_name != "NVIDIA H100 80GB HBM3"


async def test_slow_takes_its_time_and_then_acts(me: Renter) -> None:
    await me.fault("list", "slow", delay_s=0.2, times=1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await me.ids() == []
    assert loop.time() - began >= 0.19


def test_every_kind_of_fault_is_shown_here() -> None:
    text = Path(__file__).read_text()
    assert [kind for kind in KINDS if f'"{kind}"' not in text] == []
