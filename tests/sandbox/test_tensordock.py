"""TensorDock's emulator: what it does, and what it refuses in the vendor's words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from gpubroker.sandbox.faults import KINDS
from gpubroker.sandbox.processes import own_address

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served
    from tests.sandbox.customer import Customer

V2 = "/tensordock/api/v2"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"
CHICAGO = "1a779525-4c04-4f2c-aa45-58b47d54bb38"
WINNIPEG = "3b5e9c22-71fd-4c39-8f0e-6c1d7e2f3a02"
JOPLIN = "4c6f0d33-62ae-4d28-9e1f-7d2e8f304b03"
STOCKHOLM = "5d701e44-539b-4e17-8d20-8e3f90415c04"
MUMBAI = "6e812f55-448c-4f06-9c31-9f40a1526d05"
RTX_4090, RTX_3090 = "geforcertx4090-pcie-24gb", "geforcertx3090-pcie-24gb"
UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NOBODY = "00000000-0000-4000-8000-000000000000"
SSH = [{"internal_port": 22, "external_port": 0}]
NO_KEY = (401, {"error": "Invalid API credentials"})
NO_INSTANCE = (404, {"error": "Instance not found"})

Accounts = Callable[..., "Customer"]


def order(model: str = RTX_4090, count: int = 1, **more: Any) -> dict[str, Any]:
    """A VM with an address of its own in Chicago, but for what `more` says."""
    size = {"vcpu_count": 8, "ram_gb": 32, "storage_gb": 200, "gpus": {model: {"count": count}}}
    attributes = {
        "name": "gb-abc123",
        "type": "virtualmachine",
        "image": "ubuntu2404",
        "resources": size,
        "location_id": CHICAGO,
        "useDedicatedIp": True,
        "ssh_key": PUBLIC,
        **more,
    }
    told = {name: value for name, value in attributes.items() if value is not None}
    return {"data": {"type": "virtualmachine", "attributes": told}}


@pytest.fixture
def me(customer: Accounts) -> Customer:
    return customer(V2, {"authorization": "Bearer token-of-mine"})


@pytest.fixture
def you(customer: Accounts) -> Customer:
    return customer(V2, {"authorization": "Bearer token-of-yours"})


async def create(me: Customer, body: dict[str, Any]) -> str:
    made = await me.json("POST", "/instances", body, status=201)
    assert set(made["data"]) == {"type", "id", "name", "status"}
    assert UUID.fullmatch(made["data"]["id"])
    return str(made["data"]["id"])


async def rent(me: Customer, *args: Any, **more: Any) -> str:
    """A VM that runs."""
    id_ = await create(me, order(*args, **more))
    await me.advance(10)
    return id_


async def show(me: Customer, id_: str) -> dict[str, Any]:
    found: dict[str, Any] = await me.json("GET", f"/instances/{id_}")
    return found


async def truth(me: Customer, id_: str) -> dict[str, Any]:
    rows = await me.served.control("GET", "machines")
    found: dict[str, Any] = next(row for row in rows if row["provider_id"] == id_)
    return found


# --- doors --------------------------------------------------------------------------------


async def test_locations_are_for_everybody_and_all_else_wants_a_token(
    served: Served, customer: Accounts, me: Customer
) -> None:
    nobody, bad = customer(V2, {}), customer(V2, {"authorization": "Bearer invalid-key"})
    assert (await nobody.ask("GET", "/locations?api_key=a&api_token=b")).status_code == 200
    for one in (nobody, bad, customer(V2, {"authorization": "Token token-of-mine"})):
        assert await one.refused("GET", "/instances") == NO_KEY
        assert await one.refused("GET", "/hostnodes") == NO_KEY
        assert await one.refused("POST", "/auth/test") == NO_KEY
    told = await me.json("POST", "/auth/test")
    assert told["success"]
    assert UUID.fullmatch(told["organizationId"])
    assert told == await me.json("POST", "/auth/test", {})


async def test_unknown_paths_methods_queries_and_bodies_are_refused(me: Customer) -> None:
    assert await me.refused("GET", "/instances/") == (404, {"error": "Not found"})
    assert (await me.refused("PATCH", f"/secrets/{NOBODY}"))[0] == 405
    assert (await me.refused("GET", "/instances?limit=1"))[0] == 400
    assert (await me.refused("POST", "/auth/test", {"key": 1}))[0] == 400
    assert (await me.refused("POST", "/instances", content=b"{nonsense"))[0] == 400
    assert await me.refused("GET", f"/instances/{NOBODY}") == NO_INSTANCE


async def test_an_organisation_has_a_hundred_calls_a_minute(me: Customer, you: Customer) -> None:
    async def status(who: Customer) -> int:
        return (await who.ask("GET", "/secrets")).status_code

    assert [await status(me) for _ in range(101)].count(200) == 100
    assert (await me.refused("GET", "/secrets"))[1]["errors"][0]["status"] == "429"
    assert await status(you) == 200
    await me.advance(1)
    assert [await status(me) for _ in range(2)] == [200, 429]


# --- what there is ------------------------------------------------------------------------


async def test_locations_tell_each_part_of_a_price(me: Customer) -> None:
    rows = (await me.json("GET", "/locations"))["data"]["locations"]
    chicago = next(row for row in rows if row["id"] == CHICAGO)
    assert (chicago["city"], chicago["country"], chicago["tier"]) == ("Chicago", "United States", 3)
    assert chicago["gpus"][0] == {
        "v0Name": RTX_4090,
        "displayName": "NVIDIA GeForce RTX 4090 PCIe 24GB",
        "max_count": 4,
        "price_per_hr": 0.4,
        "resources": {"max_vcpus": 56, "max_ram_gb": 331, "max_storage_gb": 30200},
        "pricing": {"per_vcpu_hr": 0.004, "per_gb_ram_hr": 0.002, "per_gb_storage_hr": 0.00007},
        "network_features": {
            "dedicated_ip_available": True,
            "port_forwarding_available": True,
            "network_storage_available": False,
        },
    }
    counts = {gpu["max_count"] for row in rows for gpu in row["gpus"]}
    assert {0, 1, 2, 4, 8} <= counts


async def test_what_is_rented_is_not_offered_and_comes_back(me: Customer) -> None:
    async def left() -> int:
        rows = (await me.json("GET", "/locations"))["data"]["locations"]
        return next(int(row["gpus"][0]["max_count"]) for row in rows if row["id"] == CHICAGO)

    id_ = await rent(me, RTX_4090, 3)
    assert await left() == 1
    refused = await me.json("POST", "/instances", order(RTX_4090, 2))
    assert refused == {"error": "No available nodes found", "status": 400}, "with HTTP 200"
    await me.json("DELETE", f"/instances/{id_}")
    assert await left() == 4


async def test_a_stale_offer_is_told_and_cannot_be_had(me: Customer) -> None:
    rows = (await me.json("GET", "/locations"))["data"]["locations"]
    gpus = {g["v0Name"]: g for row in rows if row["id"] == STOCKHOLM for g in row["gpus"]}
    assert gpus["geforcertx5090-pcie-32gb"]["max_count"] == 0
    assert gpus["h100-sxm5-80gb"]["max_count"] == 2
    for count in (1, 2):
        body = order("h100-sxm5-80gb", count, location_id=STOCKHOLM)
        answer = await me.ask("POST", "/instances", body)
        assert (answer.status_code, answer.json()["status"]) == (200, 400)


async def test_hosts_have_ports_and_can_be_filtered(me: Customer) -> None:
    rows = (await me.json("GET", "/hostnodes"))["data"]["hostnodes"]
    query = f"?gpu_model={RTX_3090}&status=available"
    (one,) = (await me.json("GET", f"/hostnodes{query}"))["data"]["hostnodes"]
    assert one in rows
    assert one == (await me.json("GET", f"/hostnodes/{one['id']}"))["data"]
    parts = one["available_resources"]
    assert parts["gpus"] == [{"v0Name": RTX_3090, "availableCount": 2, "price_per_hr": 0.17}]
    assert (len(parts["available_ports"]), parts["has_public_ip_available"]) == (10, False)
    assert (one["location_id"], one["location"]["uuid"]) == (WINNIPEG, WINNIPEG)
    assert (await me.refused("GET", f"/hostnodes/{NOBODY}"))[0] == 404


# --- a life -------------------------------------------------------------------------------


async def test_a_vm_is_said_to_run_before_it_has_an_address(served: Served, me: Customer) -> None:
    id_ = await create(me, order())
    assert (await show(me, id_))["status"] == "creating"
    await me.advance(1)
    early = await show(me, id_)
    assert (early["status"], early["ipAddress"], early["portForwards"]) == ("running", "", [])
    await me.advance(10)
    row = await show(me, id_)
    assert row == {
        "type": "virtualmachine",
        "id": id_,
        "name": "gb-abc123",
        "status": "running",
        "ipAddress": own_address("tensordock", id_),
        "portForwards": [],
        "resources": {
            "vcpu_count": 8,
            "ram_gb": 32,
            "storage_gb": 200,
            "gpus": {RTX_4090: {"count": 1, "v0Name": RTX_4090}},
        },
        "rateHourly": pytest.approx(0.4 + 8 * 0.004 + 32 * 0.002 + 200 * 0.00007),
    }
    assert await me.json("GET", "/instances") == {"data": [row]}
    spec = served.host.running[id_]
    assert (spec.user, spec.keys, spec.keys_in_home, spec.docker) == ("user", (PUBLIC,), True, True)
    assert (spec.vcpus, spec.ram_mb, spec.disk_gb, spec.gpu_count) == (8, 32 * 1024, 200, 1)
    assert spec.address == row["ipAddress"]
    assert (await truth(me, id_))["price_per_hour"] == pytest.approx(row["rateHourly"])
    ended = await me.json("DELETE", f"/instances/{id_}", status=200)
    message = {"message": "Instance deleted successfully"}
    assert ended == {"data": {"type": "success", "attributes": message}}
    assert not (await truth(me, id_))["billed"]
    assert await me.json("GET", "/instances") == {"data": []}
    assert await me.refused("GET", f"/instances/{id_}") == NO_INSTANCE
    assert await me.refused("DELETE", f"/instances/{id_}") == NO_INSTANCE


async def test_ports_of_a_location_are_the_platforms_choice(served: Served, me: Customer) -> None:
    forwards = [
        {"internal_port": 22, "external_port": 20000},
        {"internal_port": 80, "external_port": 0, "protocol": "tcp"},
    ]
    where = {"location_id": WINNIPEG, "useDedicatedIp": False, "port_forwards": forwards}
    id_ = await rent(me, RTX_3090, 2, **where)
    row = await show(me, id_)
    machine = me.cloud.machines[id_]
    assert row["ipAddress"] == machine.ssh_host == "127.0.0.1"
    ports = {one["internal_port"]: one["external_port"] for one in row["portForwards"]}
    assert ports == {22: machine.ssh_port, 80: machine.published["80/tcp"]}
    assert ports[22] != 20000
    assert (served.host.running[id_].address, served.host.running[id_].docker) == ("", True)


async def test_ports_of_a_host_are_those_that_were_asked_for(served: Served, me: Customer) -> None:
    def host(rows: Any) -> Any:
        return next(row for row in rows["data"]["hostnodes"] if row["location_id"] == WINNIPEG)

    node = host(await me.json("GET", "/hostnodes"))
    first, second, *rest = node["available_resources"]["available_ports"]
    forwards = [
        {"internal_port": 22, "external_port": first},
        {"internal_port": 80, "external_port": second},
    ]
    place = {"location_id": None, "hostnode_id": node["id"], "useDedicatedIp": None}
    id_ = await rent(me, RTX_3090, **place, port_forwards=forwards)
    assert (await show(me, id_))["portForwards"] == forwards
    assert served.host.running[id_].ssh_port == first
    after = host(await me.json("GET", "/hostnodes"))
    assert after["available_resources"]["available_ports"] == rest
    status, body = await me.refused(
        "POST", "/instances", order(RTX_3090, **place, port_forwards=forwards)
    )
    assert (status, body[0]["path"]) == (400, ["data", "attributes", "port_forwards"])


async def test_a_host_gives_vms_without_gpus_too(me: Customer) -> None:
    rows = (await me.json("GET", "/hostnodes"))["data"]["hostnodes"]
    node = next(
        row
        for row in rows
        if (row["available_resources"]["gpus"], row["available_resources"]["vcpu_count"])
        == ([], 64)
    )
    size = {"vcpu_count": 4, "ram_gb": 8, "storage_gb": 100}
    place = {"location_id": None, "hostnode_id": node["id"], "resources": size}
    id_ = await rent(me, **place)
    row = await show(me, id_)
    assert row["resources"] == {**size, "gpus": {}}
    assert row["rateHourly"] == pytest.approx(4 * 0.004 + 8 * 0.002 + 100 * 0.00007)


async def test_some_places_forget_ports_and_some_the_key(served: Served, me: Customer) -> None:
    where = {"useDedicatedIp": False, "port_forwards": SSH}
    lost = await rent(me, "l4-pcie-24gb", location_id=JOPLIN, **where)
    row = await show(me, lost)
    assert (row["status"], row["portForwards"]) == ("running", [])
    assert row["ipAddress"] == own_address("tensordock", lost), "where nobody listens"
    reached = await rent(me, "l4-pcie-24gb", location_id=JOPLIN)
    assert served.host.running[reached].address
    keyless = await rent(me, location_id=MUMBAI, **where)
    assert served.host.running[keyless].keys == ()


async def test_cloud_init_is_an_object_and_files_need_their_folders(
    served: Served, me: Customer
) -> None:
    files = [
        {"path": "/etc/motd", "content": "aGk=", "encoding": "b64", "owner": "root:root"},
        {"path": "/home/user/.ssh/authorized_keys", "content": "x", "permissions": "0600"},
    ]
    wanted = {"runcmd": ["echo hi"], "packages": ["curl"], "package_update": True}
    id_ = await rent(me, cloud_init={**wanted, "write_files": files})
    head, _, text = served.host.running[id_].user_data.decode().partition("\n")
    assert head == "#cloud-config"
    told = json.loads(text)
    assert told["runcmd"] == ["echo hi"]
    assert told["write_files"] == [
        {"path": "/etc/motd", "content": "aGk=", "permissions": "0644"}
    ], "as it stands, and the other is lost"


async def test_a_stopped_vm_keeps_its_disk_and_may_lose_its_gpu(
    me: Customer, you: Customer
) -> None:
    id_ = await rent(me, "rtxa6000-pcie-48gb", 4, location_id=JOPLIN)
    assert await me.refused("POST", f"/instances/{id_}/start") == (
        409,
        {"error": "Instance is already running"},
    )
    told = await me.json("POST", f"/instances/{id_}/stop", {})
    assert told == {"data": {"type": "instance", "id": id_, "attributes": {"status": "stopping"}}}
    row = await show(me, id_)
    assert (row["status"], row["ipAddress"]) == ("Stopped", "")
    assert row["rateHourly"] == pytest.approx(200 * 0.00007)
    assert (await truth(me, id_))["billed_for"] == ["disk_stopped"]
    assert (await me.refused("POST", f"/instances/{id_}/stop"))[0] == 409
    other = await rent(you, "rtxa6000-pcie-48gb", 1, location_id=JOPLIN)
    assert (await show(me, id_))["status"] == "StoppedDisassociated"
    refused = await me.refused("POST", f"/instances/{id_}/start")
    assert refused == (400, {"error": "Hostnode unavailable"})
    await you.json("DELETE", f"/instances/{other}")
    told = await me.json("POST", f"/instances/{id_}/start")
    assert told["data"]["attributes"] == {"status": "starting"}
    assert (await show(me, id_))["status"] == "starting"
    await me.advance(10)
    row = await show(me, id_)
    assert (row["status"], row["ipAddress"]) == ("running", own_address("tensordock", id_))


async def test_only_a_stopped_vm_is_changed(me: Customer) -> None:
    id_ = await rent(me)
    path = f"/instances/{id_}/modify"
    assert (await me.refused("PUT", path, {"cpuCores": 4}))[0] == 400
    await me.json("POST", f"/instances/{id_}/stop")
    for wrong in (
        {"cpuCores": 3}, {"ramGb": 33}, {"diskGb": 150}, {"diskGb": 225}, {"colour": "red"},
        {"gpus": {"gpuV0Name": RTX_3090, "count": 1}},
        {"gpus": {"gpuV0Name": RTX_4090, "count": 9}}, {"cpuCores": 58},
    ):  # fmt: skip
        assert (await me.refused("PUT", path, wrong))[0] == 400, wrong
    change = {
        "cpuCores": 4,
        "ramGb": 16,
        "diskGb": 250,
        "gpus": {"gpuV0Name": RTX_4090, "count": 2},
    }
    await me.json("PUT", path, change)
    await me.json("POST", f"/instances/{id_}/start")
    await me.advance(10)
    row = await show(me, id_)
    assert row["resources"] == {
        "vcpu_count": 4,
        "ram_gb": 16,
        "storage_gb": 250,
        "gpus": {RTX_4090: {"count": 2, "v0Name": RTX_4090}},
    }
    assert row["rateHourly"] == pytest.approx(0.8 + 4 * 0.004 + 16 * 0.002 + 250 * 0.00007)
    assert (await truth(me, id_))["price_per_hour"] == pytest.approx(row["rateHourly"])


async def test_a_vm_that_powers_itself_off_is_still_said_to_run_and_paid(
    served: Served, me: Customer
) -> None:
    id_ = await rent(me)
    await served.sandbox.machine_powered("tensordock", id_, "off")
    assert (await show(me, id_))["status"] == "running"
    assert (await truth(me, id_))["billed_for"] == ["disk", "gpu"]


async def test_accounts_do_not_see_each_other(me: Customer, you: Customer) -> None:
    id_ = await rent(me)
    assert await you.json("GET", "/instances") == {"data": []}
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/start"), ("POST", "/stop")):
        assert await you.refused(method, f"/instances/{id_}{path}") == NO_INSTANCE


# --- creates that are refused -------------------------------------------------------------

SIZE = {"vcpu_count": 8, "ram_gb": 32, "storage_gb": 200, "gpus": {RTX_4090: {"count": 1}}}
TWO_MODELS = {"a": {"count": 1}, "b": {"count": 1}}
BAD_ORDERS: list[tuple[dict[str, Any], str, str]] = [
    ({"colour": "red"}, "unrecognized_keys", "attributes"),
    ({"name": ""}, "too_small", "name"),
    ({"name": 7}, "invalid_type", "name"),
    ({"image": "beos"}, "custom", "image"),
    ({"type": "container"}, "invalid_literal", "type"),
    ({"location_id": None}, "custom", "location_id"),
    ({"location_id": NOBODY}, "custom", "location_id"),
    ({"hostnode_id": NOBODY}, "custom", "location_id"),
    ({"location_id": None, "hostnode_id": NOBODY}, "custom", "hostnode_id"),
    ({"resources": {**SIZE, "vcpu_count": 7}}, "not_multiple_of", "vcpu_count"),
    ({"resources": {**SIZE, "storage_gb": 99}}, "too_small", "storage_gb"),
    ({"resources": {**SIZE, "gpus": {}}}, "custom", "resources"),
    ({"resources": {**SIZE, "gpus": [{"gpuV0Name": "a", "count": 1}]}}, "invalid_type", "gpus"),
    ({"resources": {**SIZE, "gpus": TWO_MODELS}}, "custom", "resources"),
    ({"useDedicatedIp": False}, "custom", "port_forwards"),
    ({"useDedicatedIp": False, "port_forwards": SSH * 2}, "custom", "port_forwards"),
    ({"ssh_key": None}, "custom", "ssh_key"),
    ({"ssh_key": "nonsense"}, "custom", "ssh_key"),
    ({"ssh_key_id": NOBODY}, "custom", "ssh_key"),
    ({"ssh_key": None, "ssh_key_id": NOBODY}, "custom", "ssh_key_id"),
    ({"cloud_init": "#cloud-config"}, "invalid_type", "cloud_init"),
    ({"cloud_init": {"ssh_authorized_keys": [PUBLIC]}}, "unrecognized_keys", "cloud_init"),
]  # fmt: skip


async def test_a_wrong_order_is_refused_with_a_list_of_what_is_wrong(me: Customer) -> None:
    for more, code, field in BAD_ORDERS:
        status, body = await me.refused("POST", "/instances", order(**more))
        (problem,) = body
        assert set(problem) == {"code", "message", "path"}
        assert (status, problem["code"], problem["path"][-1]) == (400, code, field), more
    assert (await me.refused("POST", "/instances", {}))[1][0]["path"] == []
    assert await me.json("GET", "/instances") == {"data": []}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"resources": {**SIZE, "vcpu_count": 58}}, "No available nodes found"),
        ({"resources": {**SIZE, "gpus": {"voodoo2": {"count": 1}}}}, "No available nodes found"),
        ({"resources": {**SIZE, "gpus": {RTX_4090: {"count": 5}}}}, "No available nodes found"),
        ({"location_id": MUMBAI, "resources": {**SIZE, "vcpu_count": 4}}, "No available public IP"),
    ],
)
async def test_what_cannot_be_had_is_refused_with_status_200(
    me: Customer, more: dict[str, Any], words: str
) -> None:
    answer = await me.ask("POST", "/instances", order(**more))
    assert (answer.status_code, answer.json()) == (200, {"error": words, "status": 400})


async def test_a_key_can_be_a_secret_of_the_account(served: Served, me: Customer) -> None:
    attributes = {"name": "k", "type": "SSHKEY", "value": PUBLIC}
    made = await me.json("POST", "/secrets", {"data": {"type": "secret", "attributes": attributes}})
    secret = made["data"]["id"]
    assert made == {"data": {"type": "secret", "id": secret, "name": "k"}}
    hidden = {"name": "t", "type": "GENERIC", "value": "hush"}
    other = await me.json("POST", "/secrets", {"data": {"type": "secret", "attributes": hidden}})
    rows = (await me.json("GET", "/secrets"))["data"]["secrets"]
    assert rows == [
        {"type": "SSHKEY", "id": secret, "name": "k"},
        {"type": "GENERIC", "id": other["data"]["id"], "name": "t"},
    ]
    assert (await me.json("GET", f"/secrets/{secret}"))["data"]["value"] == PUBLIC
    assert "value" not in (await me.json("GET", f"/secrets/{other['data']['id']}"))["data"]
    id_ = await rent(me, ssh_key=None, ssh_key_id=secret)
    assert served.host.running[id_].keys == (PUBLIC,)
    assert (await me.json("DELETE", f"/secrets/{secret}"))["data"]["type"] == "success"
    assert (await me.refused("GET", f"/secrets/{secret}"))[0] == 404
    left = await served.control("GET", "resources")
    assert {(row["kind"], row["name"], row["state"]) for row in left} == {
        ("secret", "k", "deleted"),
        ("secret", "t", "active"),
    }


AS_CLIENTS_SEND_IT: dict[str, dict[str, Any]] = {
    "an address, and the older clients' names in cloud-init": {
        "cloud_init": {"runcmd": ["true"], "package_upgrade": False},
    },
    "a location's ports as if they were a host's": {
        "useDedicatedIp": None,
        "port_forwards": [
            {"external_port": 20000, "internal_port": 22},
            {"external_port": 20001, "internal_port": 9090},
        ],
    },
    "ports with their protocol": {
        "useDedicatedIp": False,
        "port_forwards": [{"protocol": "tcp", "internal_port": 22, "external_port": 22}],
    },
    "no type inside": {"type": None},
    "Windows without a key": {"image": "windows10", "ssh_key": None, "useDedicatedIp": None},
}
"""What working clients of others send."""


@pytest.mark.parametrize("what", AS_CLIENTS_SEND_IT)
async def test_what_working_clients_send_is_taken(me: Customer, what: str) -> None:
    id_ = await rent(me, **AS_CLIENTS_SEND_IT[what])
    assert (await show(me, id_))["ipAddress"]


# --- money --------------------------------------------------------------------------------


async def test_the_older_api_tells_the_balance(served: Served, me: Customer) -> None:
    async def balance(root: str = "/tensordock/api/v0", **form: str) -> Any:
        pair = {"api_key": "id", "api_token": "token-of-mine", **form}
        return await served.http.post(f"{root}/billing/balance", data=pair)

    await rent(me)
    rate = 0.4 + 8 * 0.004 + 32 * 0.002 + 200 * 0.00007
    await me.advance(3600)
    told = (await balance()).json()
    assert (told["success"], told["hourly_cost"]) == (True, pytest.approx(rate))
    assert told["balance"] == pytest.approx(10_000 - rate, abs=0.01)
    for form in ({"api_token": "invalid-key"}, {"api_key": "invalid-key"}, {"api_key": ""}):
        assert (await balance(**form)).status_code == 401
    assert (await balance(colour="red")).status_code == 400


async def test_without_a_dollar_nothing_is_created_and_all_is_stopped(me: Customer) -> None:
    id_ = await rent(me, "a100-pcie-80gb", 8)
    await me.advance(60 * 86_400)
    assert (await show(me, id_))["status"] == "Stopped"
    body = await me.json("POST", "/instances", order())
    assert body["status"] == 400
    assert "need at least $1" in body["error"]


# --- faults -------------------------------------------------------------------------------


async def test_faults_of_a_create_come_in_the_vendors_form(me: Customer) -> None:
    for kind, words in (("no_capacity", "No available nodes"), ("quota", "need at least $1")):
        await me.fault("create", kind, times=1)
        body = await me.json("POST", "/instances", order())
        assert body["status"] == 400
        assert words in body["error"]
    await me.fault("create", "wrong_gpu", times=1)
    wrong = await rent(me)
    assert RTX_4090 not in (await show(me, wrong))["resources"]["gpus"]
    await me.fault("create", "price_changed", times=1)
    dearer = await rent(me)
    assert (await show(me, dearer))["rateHourly"] == pytest.approx(0.6 + 0.032 + 0.064 + 0.014)
    await me.fault("create", "boot_failure", times=1)
    failed = await rent(me)
    assert (await show(me, failed))["status"] == "error"
    await me.fault("create", "stuck_pending", times=1)
    stuck = await rent(me)
    assert (await show(me, stuck))["status"] == "queued"


async def test_faults_of_ports_and_ssh(me: Customer) -> None:
    where = {"location_id": WINNIPEG, "useDedicatedIp": False, "port_forwards": SSH}
    await me.fault("create", "ignored_field", times=1)
    ignored = await rent(me, RTX_3090, **where)
    assert (await show(me, ignored))["portForwards"] == []
    await me.fault("create", "ssh_refused", times=1)
    refused = await rent(me, RTX_3090, **where)
    assert (await show(me, refused))["portForwards"] == [{"internal_port": 22, "external_port": 1}]


async def test_faults_of_lists_and_ends(me: Customer) -> None:
    async def ids() -> list[str]:
        return [row["id"] for row in (await me.json("GET", "/instances"))["data"]]

    await me.fault("create", "list_lag", times=1, delay_s=60)
    late, early = await rent(me), await rent(me)
    assert await ids() == [early]
    await me.advance(60)
    assert await ids() == [late, early]
    await me.fault("list", "duplicate_list", times=1)
    assert await ids() == [late, late, early, early]
    await me.fault("list", "list_partial", times=1)
    assert await ids() == [late]
    await me.fault("terminate", "terminate_ignored", times=1)
    await me.json("DELETE", f"/instances/{late}")
    assert await ids() == [late, early]
    await me.fault("offers", "duplicate_list", times=1)
    rows = (await me.json("GET", "/locations"))["data"]["locations"]
    assert len({row["id"] for row in rows}) * 2 == len(rows)
    await me.fault("offers", "no_capacity", times=1)
    rows = (await me.json("GET", "/locations"))["data"]["locations"]
    assert {gpu["max_count"] for row in rows for gpu in row["gpus"]} == {0}


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        ("rate_limit", 429, "Too Many Requests"),
        ("server_error", 500, "Internal server error"),
        ("bad_credentials", 401, "Invalid API credentials"),
        ("not_found_for_bad_key", 404, "Not found"),
        ("garbage", 200, '{"success": true'),
    ],
)
async def test_faults_of_a_whole_call(me: Customer, kind: str, status: int, words: str) -> None:
    assert kind in KINDS
    await me.fault("get", kind, times=1)
    answer = await me.ask("GET", f"/instances/{NOBODY}")
    assert (answer.status_code, words in answer.text) == (status, True)
    assert await me.refused("GET", f"/instances/{NOBODY}") == NO_INSTANCE


async def test_a_key_can_answer_as_another_account(served: Served, me: Customer) -> None:
    mine = await me.json("POST", "/auth/test")
    await me.fault("account", "other_account", times=1)
    other = await me.json("POST", "/auth/test")
    assert other["organizationId"] != mine["organizationId"]
