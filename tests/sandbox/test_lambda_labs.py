"""Lambda's emulator: what it does, and what it refuses in the vendor's words."""

from __future__ import annotations

import asyncio
import base64
import re
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from tests.sandbox.customer import Customer

from gpubroker.sandbox.faults import KINDS
from gpubroker.sandbox.processes import own_address

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

V1 = "/lambda_labs/api/v1"
KEY = "secret_test_0123456789abcdef.tokentokentoken"
OTHER = "secret_other_fedcba98765432.tokentokentoken"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"
A10: dict[str, Any] = {
    "region_name": "us-west-1",
    "instance_type_name": "gpu_1x_a10",
    "ssh_key_names": ["mine"],
}


class Renter(Customer):
    """One account of Lambda, patient enough for its rate limits."""

    def __init__(self, served: Served, key: str = KEY) -> None:
        super().__init__(served, V1, {"Authorization": f"Bearer {key}"})

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> httpx2.Response:
        await self.advance(12 if path.endswith("/launch") else 1)
        return await super().ask(method, path, body, **more)

    async def data(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        told = await self.json(method, path, body, status=200, **more)
        assert set(told) == {"data"}
        return told["data"]

    async def refused(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """(status, code) of a refusal; its form is the vendor's."""
        status, told = await super().refused(method, path, body, **more)
        error = told["error"]
        assert {"code", "message"} <= set(error) <= {"code", "message", "suggestion"}
        return status, error["code"]

    async def add_key(self, name: str = "mine") -> dict[str, Any]:
        body = {"name": name, "public_key": PUBLIC}
        made: dict[str, Any] = await self.data("POST", "/ssh-keys", body)
        return made

    async def launch(self, **more: Any) -> str:
        """An instance, of which nothing is there yet."""
        if not self.cloud.things:
            await self.add_key()
        made = await self.data("POST", "/instance-operations/launch", {**A10, **more})
        (id_,) = made["instance_ids"]
        return str(id_)

    async def rent(self, **more: Any) -> str:
        """An instance that is active."""
        id_ = await self.launch(**more)
        await self.served.advance(10)
        return id_

    async def show(self, id_: str) -> dict[str, Any]:
        found: dict[str, Any] = await self.data("GET", f"/instances/{id_}")
        return found

    async def ids(self) -> list[str]:
        return [row["id"] for row in await self.data("GET", "/instances")]

    async def terminate(self, *ids: str) -> Any:
        return await self.data("POST", "/instance-operations/terminate", {"instance_ids": ids})


@pytest.fixture
def me(served: Served) -> Renter:
    return Renter(served)


@pytest.fixture
def you(served: Served) -> Renter:
    return Renter(served, OTHER)


# --- doors --------------------------------------------------------------------------------


async def test_a_key_is_taken_as_bearer_and_as_user_name_without_password(served: Served) -> None:
    def basic(text: str) -> dict[str, str]:
        return {"Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}

    async def status(headers: dict[str, str]) -> tuple[int, str]:
        await served.advance(1)
        answer = await served.http.get(f"{V1}/instances", headers=headers)
        return answer.status_code, answer.json().get("error", {}).get("code", "")

    refused = (401, "global/invalid-api-key")
    assert await status({"Authorization": f"Bearer {KEY}"}) == (200, "")
    assert await status(basic(f"{KEY}:")) == (200, "")
    assert await status(basic(f"{KEY}:password")) == refused
    assert await status(basic("invalid-key:")) == refused
    assert await status({"Authorization": "Bearer invalid-key"}) == refused
    assert await status({"Authorization": "Basic !"}) == refused
    assert await status({}) == refused


async def test_prices_are_not_given_without_a_key(served: Served) -> None:
    assert (await served.ask("GET", f"{V1}/instance-types", key=None)).status_code == 401


async def test_unknown_paths_methods_and_bodies_are_refused(me: Renter) -> None:
    assert (await me.ask("GET", "/instances/")).status_code == 404
    assert (await me.ask("GET", "/billing")).status_code == 404
    assert (await me.ask("DELETE", "/instances")).status_code == 405
    assert (await me.refused("GET", "/instances?limit=1"))[0] == 400
    answer = await me.ask("POST", "/ssh-keys", content=b"{nonsense")
    assert (answer.status_code, answer.json()["error"]["code"]) == (
        400,
        "global/invalid-parameters",
    )


async def test_one_call_a_second_and_one_launch_in_twelve(served: Served, me: Renter) -> None:
    async def status(method: str = "GET", path: str = "/instances", body: Any = None) -> int:
        return (await served.ask(method, f"{V1}{path}", body, key=KEY)).status_code

    assert [await status() for _ in range(6)] == [200, 200, 200, 200, 429, 429]
    await served.advance(1)
    assert [await status() for _ in range(2)] == [200, 429]
    assert (await served.ask("GET", f"{V1}/images", key=OTHER)).status_code == 200
    await served.advance(10)
    await me.add_key()
    launch = ("POST", "/instance-operations/launch", A10)
    await served.advance(12)
    assert [await status(*launch) for _ in range(2)] == [200, 429]
    await served.advance(11)
    assert await status(*launch) == 429
    await served.advance(1)
    assert await status(*launch) == 200


# --- catalog ------------------------------------------------------------------------------


async def test_types_are_a_map_with_whole_cents_and_regions_that_have_some(me: Renter) -> None:
    types = await me.data("GET", "/instance-types")
    gh200 = types["gpu_1x_gh200"]
    assert gh200["instance_type"] == {
        "name": "gpu_1x_gh200",
        "description": "1x GH200 (96 GB)",
        "gpu_description": "GH200 (96 GB)",
        "price_cents_per_hour": 229,
        "specs": {"vcpus": 64, "memory_gib": 432, "storage_gib": 4096, "gpus": 1},
    }
    assert gh200["regions_with_capacity_available"] == [
        {"name": "us-east-3", "description": "Washington DC, USA"}
    ]
    assert types["gpu_8x_v100"]["regions_with_capacity_available"] == []
    assert types["cpu_4x_general"]["instance_type"]["specs"]["gpus"] == 0
    assert {len(row["regions_with_capacity_available"]) for row in types.values()} >= {0, 1, 2, 3}
    await me.served.advance(7200)
    assert await me.data("GET", "/instance-types") == types, "list prices do not move"


async def test_a_region_that_is_sold_out_leaves_the_list(me: Renter) -> None:
    body = {"region_name": "europe-central-1"}
    id_ = await me.launch(**body)

    async def regions() -> list[str]:
        row = (await me.data("GET", "/instance-types"))["gpu_1x_a10"]
        return [region["name"] for region in row["regions_with_capacity_available"]]

    assert await regions() == ["us-west-1", "us-east-1"]
    refused = await me.refused("POST", "/instance-operations/launch", {**A10, **body})
    assert refused == (400, "instance-operations/launch/insufficient-capacity")
    await me.terminate(id_)
    assert "europe-central-1" in await regions()


async def test_images_have_an_id_for_each_region(me: Renter) -> None:
    rows = await me.data("GET", "/images")
    assert len({row["id"] for row in rows}) == len(rows)
    assert {row["architecture"] for row in rows} == {"x86_64", "arm64"}
    assert {row["region"]["name"] for row in rows} >= {"us-east-3", "me-west-1"}


# --- a life -------------------------------------------------------------------------------


async def test_an_instance_boots_is_used_and_ends(served: Served, me: Renter) -> None:
    tags = [{"key": "gpubroker-owner", "value": "abcdef"}]
    data = "#!/bin/sh\necho hello\n"
    id_ = await me.launch(name="My Instance", hostname="head", tags=tags, user_data=data)
    assert re.fullmatch("[0-9a-f]{32}", id_)
    booting = await me.show(id_)
    assert booting["status"] == "booting"
    assert not {"name", "ip", "private_ip", "hostname", "jupyter_token"} & set(booting)
    assert booting["tags"] == tags
    assert booting["actions"]["restart"]["reason_code"] == "vm-has-not-launched"
    assert not (await me.truth(id_))["billed"]
    await served.advance(10)
    row = await me.show(id_)
    assert (row["status"], row["name"], row["hostname"]) == ("active", "My Instance", "head")
    assert row["ip"] == own_address("lambda_labs", id_)
    assert row["jupyter_token"] in row["jupyter_url"]
    assert row["actions"]["terminate"] == {"available": True}
    assert "created" not in str(row)
    spec = served.host.running[id_]
    assert (spec.user, spec.hostname, spec.user_data) == ("ubuntu", "head", data.encode())
    assert (spec.keys, spec.keys_in_home, spec.docker) == ((PUBLIC,), True, True)
    assert spec.gpu_tool_name == "NVIDIA A10"
    assert (await me.truth(id_))["billed"]
    (ended,) = (await me.terminate(id_))["terminated_instances"]
    assert ended["status"] == "terminating"
    assert not (await me.truth(id_))["billed"]
    assert (await me.show(id_))["status"] == "terminating"
    assert await me.ids() == [id_]
    await served.advance(15)
    assert await me.ids() == []
    assert (await me.show(id_))["status"] == "terminated"
    await served.advance(120)
    gone = await me.refused("GET", f"/instances/{id_}")
    assert gone == (404, "global/object-does-not-exist")


async def test_names_are_not_unique_and_can_be_changed(me: Renter) -> None:
    first, second = await me.rent(name="twin"), await me.rent(name="twin")
    assert [(await me.show(id_))["name"] for id_ in (first, second)] == ["twin", "twin"]
    changed = await me.data("POST", f"/instances/{first}", {"name": "other"})
    assert changed["name"] == "other"
    assert (await me.refused("POST", f"/instances/{first}", {"name": "x" * 65}))[0] == 400
    assert (await me.refused("POST", f"/instances/{first}", {"colour": "red"}))[0] == 400


async def test_a_restart_boots_again_and_keeps_the_address(me: Renter) -> None:
    id_ = await me.rent()
    ip = (await me.show(id_))["ip"]
    body = {"instance_ids": [id_]}
    (row,) = (await me.data("POST", "/instance-operations/restart", body))["restarted_instances"]
    assert (row["status"], row["ip"]) == ("booting", ip)
    assert (await me.refused("POST", "/instance-operations/restart", body))[0] == 400
    await me.served.advance(10)
    assert (await me.show(id_))["status"] == "active"


async def test_terminate_is_refused_while_the_actions_say_so(served: Served, me: Renter) -> None:
    await me.add_key()
    await served.advance(12)
    made = await served.ask("POST", f"{V1}/instance-operations/launch", A10, key=KEY)
    (id_,) = made.json()["data"]["instance_ids"]
    ending = ("POST", "/instance-operations/terminate", {"instance_ids": [id_]})
    answer = await served.ask(ending[0], f"{V1}{ending[1]}", ending[2], key=KEY)
    assert answer.status_code == 400
    assert "vm-has-not-launched" in answer.json()["error"]["message"]
    await served.advance(1)
    await me.terminate(id_)
    answer = await me.ask(*ending)
    assert (answer.status_code, "vm-is-terminating" in answer.text) == (400, True)
    await served.advance(60)
    assert await me.refused(*ending) == (404, "global/object-does-not-exist")


async def test_one_unknown_id_refuses_the_whole_call(me: Renter) -> None:
    id_ = await me.rent()
    body = {"instance_ids": [id_, "0" * 32]}
    refused = await me.refused("POST", "/instance-operations/terminate", body)
    assert refused == (404, "global/object-does-not-exist")
    assert (await me.show(id_))["status"] == "active"
    assert (await me.refused("POST", "/instance-operations/terminate", {}))[0] == 400


async def test_an_instance_that_powers_itself_off_is_unhealthy_and_still_paid(
    served: Served, me: Renter
) -> None:
    id_ = await me.rent()
    await served.sandbox.machine_powered("lambda_labs", id_, "off")
    assert (await me.show(id_))["status"] == "unhealthy"
    assert (await me.truth(id_))["billed"]
    await me.terminate(id_)
    assert not (await me.truth(id_))["billed"]


async def test_accounts_do_not_see_each_other(me: Renter, you: Renter) -> None:
    id_ = await me.rent()
    assert await you.ids() == []
    assert (await you.refused("GET", f"/instances/{id_}"))[0] == 404
    refused = await you.refused("POST", "/instance-operations/launch", A10)
    assert refused == (400, "global/object-does-not-exist"), "the key is another account's"


INVALID, UNKNOWN = "global/invalid-parameters", "global/object-does-not-exist"
BAD_LAUNCHES: list[tuple[dict[str, Any], int, str]] = [
    ({"quantity": 1}, 400, INVALID),
    ({"region_name": "mars-1"}, 400, INVALID),
    ({"region_name": None}, 400, INVALID),
    ({"instance_type_name": "gpu_1x_voodoo2"}, 400, UNKNOWN),
    ({"region_name": "me-west-1"}, 400, "instance-operations/launch/insufficient-capacity"),
    ({"ssh_key_names": []}, 400, INVALID),
    ({"ssh_key_names": ["mine", "mine"]}, 400, INVALID),
    ({"ssh_key_names": ["nobody's"]}, 400, UNKNOWN),
    ({"ssh_key_names": "mine"}, 400, INVALID),
    ({"name": "x" * 65}, 400, INVALID),
    ({"hostname": "Has_Capitals"}, 400, INVALID),
    ({"hostname": ""}, 400, INVALID),
    ({"user_data": "#" * 1_000_001}, 400, INVALID),
    ({"user_data": None}, 400, INVALID),
    ({"tags": [{"key": "Upper", "value": "x"}]}, 400, INVALID),
    ({"tags": [{"key": "a" * 56, "value": "x"}]}, 400, INVALID),
    ({"tags": [{"key": "ok", "value": "x" * 129}]}, 400, INVALID),
    ({"tags": [{"key": "ok", "value": "1"}, {"key": "ok", "value": "2"}]}, 400, INVALID),
    ({"tags": {"ok": "x"}}, 400, INVALID),
    ({"image": {"family": "windows"}}, 404, UNKNOWN),
    ({"image": {"id": "0" * 32}}, 404, UNKNOWN),
    ({"image": {}}, 400, INVALID),
    ({"image": "lambda-stack-24-04"}, 400, INVALID),
    ({"file_system_names": ["nothing"]}, 404, UNKNOWN),
    ({"file_system_mounts": [{"mount_point": "/mnt", "file_system_id": "x"}]}, 400, INVALID),
    ({"firewall_rulesets": [{"id": "nothing"}]}, 404, UNKNOWN),
]


@pytest.mark.parametrize(("wrong", "status", "code"), BAD_LAUNCHES)
async def test_a_launch_that_makes_no_sense_is_refused(
    me: Renter, wrong: dict[str, Any], status: int, code: str
) -> None:
    await me.add_key()
    body = {name: value for name, value in {**A10, **wrong}.items() if value is not None}
    if None in wrong.values() and "user_data" in wrong:
        body["user_data"] = None
    assert await me.refused("POST", "/instance-operations/launch", body) == (status, code)
    assert await me.served.control("GET", "machines") == []


async def test_an_image_of_another_architecture_does_not_run(me: Renter) -> None:
    images = await me.data("GET", "/images")
    (arm,) = (
        row["id"]
        for row in images
        if (row["region"]["name"], row["architecture"], row["family"])
        == ("us-west-1", "arm64", "ubuntu-24-04")
    )
    await me.add_key()
    body = {**A10, "image": {"id": arm}}
    assert await me.refused("POST", "/instance-operations/launch", body) == (400, INVALID)
    gh200 = {"instance_type_name": "gpu_1x_gh200", "region_name": "us-east-3"}
    id_ = await me.launch(**gh200, image={"family": "ubuntu-24-04"})
    assert (await me.show(id_))["instance_type"]["name"] == "gpu_1x_gh200"


# --- beside the instances -----------------------------------------------------------------


async def test_keys_are_named_objects_and_a_made_pair_is_told_once(me: Renter) -> None:
    made = await me.data("POST", "/ssh-keys", {"name": "pair"})
    assert made["private_key"].startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    (row,) = await me.data("GET", "/ssh-keys")
    assert row == {name: made[name] for name in ("id", "name", "public_key")}
    assert (await me.refused("POST", "/ssh-keys", {"name": "pair"})) == (400, INVALID)
    assert (await me.refused("POST", "/ssh-keys", {"name": "x", "public_key": "rubbish"}))[0] == 400
    assert await me.data("DELETE", f"/ssh-keys/{made['id']}") == {}
    assert await me.refused("DELETE", f"/ssh-keys/{made['id']}") == (400, INVALID)
    stored = (me.served.sandbox._storage.folder / "clouds.db").read_bytes()
    assert b"OPENSSH PRIVATE KEY" not in stored


async def test_filesystems_are_of_one_region_and_not_deleted_while_in_use(me: Renter) -> None:
    disk = await me.data("POST", "/filesystems", {"name": "data", "region": "us-west-1"})
    assert (disk["mount_point"], disk["is_in_use"]) == ("/lambda/nfs/data", False)
    again = {"name": "data", "region": "us-east-1"}
    assert await me.refused("POST", "/filesystems", again) == (400, "global/duplicate")
    bad = {"name": "1st", "region": "us-east-1"}
    assert await me.refused("POST", "/filesystems", bad) == (400, INVALID)
    await me.add_key()
    far = {**A10, "region_name": "us-east-1", "file_system_names": ["data"]}
    refused = await me.refused("POST", "/instance-operations/launch", far)
    assert refused == (400, "instance-operations/launch/file-system-in-wrong-region")
    mounts = [{"mount_point": "/data/x", "file_system_id": disk["id"]}]
    id_ = await me.rent(file_system_names=["data"], file_system_mounts=mounts)
    row = await me.show(id_)
    assert (row["file_system_names"], row["file_system_mounts"]) == (["data"], mounts)
    assert (await me.data("GET", "/file-systems"))[0]["is_in_use"]
    path = f"/filesystems/{disk['id']}"
    assert await me.refused("DELETE", path) == (400, "filesystems/filesystem-in-use")
    await me.terminate(id_)
    assert await me.data("DELETE", path) == {"deleted_ids": [disk["id"]]}
    assert await me.refused("DELETE", path) == (404, UNKNOWN)
    assert (await me.ask("GET", "/filesystems")).status_code == 405, "the list has a hyphen"


async def test_the_firewall_lets_ssh_in_at_first_and_is_replaced_as_a_whole(me: Renter) -> None:
    first = await me.data("GET", "/firewall-rules")
    assert [(rule["protocol"], rule.get("port_range")) for rule in first] == [
        ("tcp", [22, 22]),
        ("icmp", None),
    ]
    web = {
        "protocol": "tcp",
        "port_range": [80, 90],
        "source_network": "1.2.3.4",
        "description": "",
    }
    assert await me.data("PUT", "/firewall-rules", {"data": [web]}) == [web]
    assert (await me.data("GET", "/firewall-rulesets/global"))["rules"] == [web]
    for wrong in (
        {"protocol": "icmp"},
        {"port_range": [90, 80]},
        {"port_range": [0, 80]},
        {"source_network": "everywhere"},
        {"colour": "red"},
    ):
        assert (await me.refused("PUT", "/firewall-rules", {"data": [web | wrong]}))[0] == 400
    await me.data("PATCH", "/firewall-rulesets/global", {"rules": first})
    rows = await me.served.control("GET", "resources")
    assert [row for row in rows if row["state"] == "active"] == []


async def test_rulesets_are_of_one_region_and_not_deleted_while_in_use(me: Renter) -> None:
    body = {"name": "web", "region": "us-west-1", "rules": []}
    made = await me.data("POST", "/firewall-rulesets", body)
    path = f"/firewall-rulesets/{made['id']}"
    assert (await me.data("PATCH", path, {"name": "www"}))["name"] == "www"
    far = {**A10, "region_name": "us-east-1", "firewall_rulesets": [{"id": made["id"]}]}
    await me.add_key()
    assert await me.refused("POST", "/instance-operations/launch", far) == (400, INVALID)
    id_ = await me.rent(firewall_rulesets=[{"id": made["id"]}])
    assert (await me.data("GET", path))["instance_ids"] == [id_]
    used = (400, "firewall-rulesets/firewall-ruleset-in-use")
    assert await me.refused("DELETE", path) == used
    await me.terminate(id_)
    assert await me.data("DELETE", path) == {}
    assert await me.refused("GET", path) == (404, UNKNOWN)


async def test_the_audit_log_pages_through_what_was_made_and_ended(me: Renter) -> None:
    for number in range(60):
        await me.add_key(f"key-{number}")
    id_ = await me.rent(ssh_key_names=["key-0"])
    await me.terminate(id_)
    page = await me.data("GET", "/audit-events")
    assert len(page["events"]) == 50
    rest = await me.data("GET", "/audit-events", params={"page_token": page["page_token"]})
    assert (len(rest["events"]), rest["page_token"]) == (12, None)
    only = {"resource_type": "cloud.instance"}
    events = (await me.data("GET", "/audit-events", params=only))["events"]
    assert [event["action"] for event in events] == ["launched", "terminated"]
    assert events[0]["resource_lrns"] == [f"lrn:cloud:instance:{id_}"]
    later = {"start": events[1]["event_time"]}
    assert len((await me.data("GET", "/audit-events", params=later))["events"]) == 1
    for wrong in ({"start": "yesterday"}, {"page_token": "?"}):
        assert await me.refused("GET", "/audit-events", params=wrong) == (400, INVALID)


# --- faults -------------------------------------------------------------------------------

ANSWERED = {
    "rate_limit": (429, None),
    "server_error": (500, "global/internal-error"),
    "bad_credentials": (401, "global/invalid-api-key"),
    "not_found_for_bad_key": (404, "global/invalid-api-key"),
}


@pytest.mark.parametrize("kind", ANSWERED)
async def test_a_fault_of_the_whole_call_has_the_vendors_form(me: Renter, kind: str) -> None:
    await me.fault("list", kind, times=1)
    answer = await me.ask("GET", "/instances")
    status, code = ANSWERED[kind]
    assert answer.status_code == status
    if code:
        assert answer.json()["error"]["code"] == code
    assert await me.ids() == []


async def test_garbage_and_timeout(me: Renter) -> None:
    await me.fault("list", "garbage", times=1)
    answer = await me.ask("GET", "/instances")
    assert answer.status_code == 200
    with pytest.raises(ValueError, match="Unterminated"):
        answer.json()
    await me.fault("list", "timeout", times=1)
    with pytest.raises(httpx2.ReadTimeout):
        await me.ask("GET", "/instances", timeout=0.2)


@pytest.mark.parametrize(("kind", "machines"), [("disconnect_before", 0), ("disconnect_after", 1)])
async def test_a_cut_connection_before_or_after_the_act(
    me: Renter, kind: str, machines: int
) -> None:
    await me.add_key()
    await me.fault("create", kind, times=1)
    with pytest.raises(httpx2.RemoteProtocolError):
        await me.ask("POST", "/instance-operations/launch", A10)
    assert len(await me.ids()) == machines


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("quota", "global/quota-exceeded"),
        ("no_capacity", "instance-operations/launch/insufficient-capacity"),
    ],
)
async def test_a_refused_launch_makes_nothing(me: Renter, kind: str, code: str) -> None:
    await me.add_key()
    await me.fault("create", kind, times=1)
    assert await me.refused("POST", "/instance-operations/launch", A10) == (400, code)
    assert await me.ids() == []


async def test_faults_of_lists(me: Renter) -> None:
    id_, other = await me.rent(), await me.rent()
    await me.fault("list", "duplicate_list", times=1)
    assert await me.ids() == [id_, id_, other, other]
    await me.fault("list", "list_partial", times=1)
    assert await me.ids() == [id_]
    await me.fault("create", "list_lag", delay_s=60, times=1)
    late = await me.launch(instance_type_name="gpu_1x_a100", region_name="us-west-2")
    assert late not in await me.ids()
    assert (await me.show(late))["id"] == late
    await me.served.advance(60)
    assert late in await me.ids()
    await me.fault("list", "other_account", times=1)
    assert await me.ids() == []
    await me.fault("offers", "no_capacity", times=1)
    types = (await me.data("GET", "/instance-types")).values()
    assert not any(row["regions_with_capacity_available"] for row in types)
    await me.fault("offers", "duplicate_list", times=1)
    row = (await me.data("GET", "/instance-types"))["gpu_1x_gh200"]
    assert len(row["regions_with_capacity_available"]) == 2
    await me.fault("billing", "page_cursor_expired", times=1)
    expired = await me.refused("GET", "/audit-events", params={"page_token": "NTA="})
    assert expired == (400, INVALID)


async def test_terminate_ignored_answers_success_and_goes_on(me: Renter) -> None:
    id_ = await me.rent()
    await me.fault("terminate", "terminate_ignored", times=1)
    (row,) = (await me.terminate(id_))["terminated_instances"]
    assert row["status"] == "terminating"
    assert (await me.show(id_))["status"] == "active"
    assert (await me.truth(id_))["billed"]


@pytest.mark.parametrize(
    ("kind", "status"), [("boot_failure", "unhealthy"), ("stuck_pending", "booting")]
)
async def test_a_boot_that_does_not_succeed(me: Renter, kind: str, status: str) -> None:
    await me.fault("create", kind, times=1)
    id_ = await me.rent()
    await me.served.advance(3600)
    row = await me.show(id_)
    assert (row["status"], "ip" in row) == (status, False)
    await me.terminate(id_)


async def test_faults_that_a_machine_is_born_with(me: Renter) -> None:
    kinds = ("wrong_gpu", "price_changed", "ignored_field", "ssh_refused")
    for kind in kinds:
        await me.fault("create", kind, times=1)
    id_ = await me.rent(name="mine", tags=[{"key": "ab", "value": "c"}])
    row = await me.show(id_)
    assert row["instance_type"]["price_cents_per_hour"] == 194
    assert ("name" in row, row["tags"]) == (False, [])
    assert row["ip"] != own_address("lambda_labs", id_), "nothing listens there"
    assert me.served.host.running[id_].gpu_tool_name != "NVIDIA A10"


async def test_slow_takes_its_time_and_then_acts(me: Renter) -> None:
    await me.fault("list", "slow", delay_s=0.2, times=1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await me.ids() == []
    assert loop.time() - began >= 0.19


def test_every_kind_of_fault_is_shown_here() -> None:
    from pathlib import Path

    text = Path(__file__).read_text()
    assert [kind for kind in KINDS if f'"{kind}"' not in text] == []
