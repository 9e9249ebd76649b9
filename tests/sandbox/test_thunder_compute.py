"""Thunder Compute's emulator: what it does, and what it refuses in the vendor's words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served
    from tests.sandbox.customer import Customer

ROOT = "/thunder_compute"
AGENT = {"user-agent": "gpubroker-tests"}
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA gb-abc123"
UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NOBODY = "00000000-0000-4000-8000-000000000000"
A100: dict[str, Any] = {
    "cpu_cores": 8,
    "disk_size_gb": 100,
    "gpu_type": "a100xl",
    "num_gpus": 1,
    "template": "base",
    "public_key": PUBLIC,
}
Accounts = Callable[..., "Customer"]


@pytest.fixture
def me(customer: Accounts) -> Customer:
    return customer(ROOT, {**AGENT, "authorization": "Bearer token-of-mine"})


@pytest.fixture
def you(customer: Accounts) -> Customer:
    return customer(ROOT, {**AGENT, "authorization": "Bearer token-of-yours"})


async def create(me: Customer, **more: Any) -> str:
    body = {name: value for name, value in {**A100, **more}.items() if value is not None}
    made = await me.json("POST", "/v1/instances/create", body, status=201)
    assert set(made) == {"identifier", "key", "uuid"}
    assert UUID.fullmatch(made["uuid"])
    return str(made["uuid"])


async def rent(me: Customer, **more: Any) -> str:
    """An instance that runs."""
    uuid = await create(me, **more)
    await me.advance(10)
    return uuid


async def rows(me: Customer) -> dict[str, dict[str, Any]]:
    """By number."""
    found: dict[str, dict[str, Any]] = await me.json("GET", "/v1/instances/list")
    return found


async def row_of(me: Customer, uuid: str) -> dict[str, Any]:
    return next(row for row in (await rows(me)).values() if row["uuid"] == uuid)


async def refused(me: Customer, method: str, path: str, body: Any = None) -> tuple[int, str]:
    """(status, word) of a refusal; its form is the vendor's."""
    status, told = await me.refused(method, path, body)
    assert set(told) == {"code", "error", "message"}
    assert told["code"] == status
    return status, told["error"]


async def truth(me: Customer, uuid: str) -> dict[str, Any]:
    found = await me.served.control("GET", "machines")
    return next(dict(row) for row in found if row["provider_id"] == uuid)


# --- doors --------------------------------------------------------------------------------


async def test_the_catalogue_is_for_everybody_and_all_else_wants_a_token(
    customer: Accounts, me: Customer
) -> None:
    nobody = customer(ROOT, AGENT)
    bad = customer(ROOT, {**AGENT, "authorization": "Bearer invalid-key"})
    for version in ("/v1", "/v2"):
        for what in ("pricing", "specs", "status"):
            assert (await nobody.ask("GET", f"{version}/{what}")).status_code == 200
    assert (await nobody.ask("GET", "/v1/thunder-templates")).status_code == 200
    for one in (nobody, bad):
        for path in ("/v1/auth/validate", "/v1/instances/list", "/v1/keys/list"):
            assert await refused(one, "GET", path) == (401, "unauthorized")
    told = await me.json("GET", "/v1/auth/validate")
    assert (told["valid"], set(told)) == (True, {"valid", "email", "org_name"})


async def test_some_programs_are_sent_away_before_the_api(customer: Accounts) -> None:
    urllib = customer(ROOT, {"user-agent": "Python-urllib/3.11"})
    answer = await urllib.ask("GET", "/v2/pricing")
    assert (answer.status_code, "1010" in answer.text) == (403, True)


async def test_unknown_paths_methods_queries_and_bodies_are_refused(me: Customer) -> None:
    for method, path, words in (
        ("GET", "/v1/instances/", "404 page not found"),
        ("GET", "/v2/instances/list", "404 page not found"),
        ("GET", "/v1/instances/create", "405 method not allowed"),
    ):
        answer = await me.ask(method, path)
        assert (answer.status_code, answer.text) == (int(words[:3]), words)
    assert await refused(me, "GET", "/v1/instances/list?page=1") == (400, "invalid_request")
    assert (await me.refused("POST", "/v1/keys/add", content=b"{nonsense"))[0] == 400


# --- what there is ------------------------------------------------------------------------


async def test_the_newer_catalogue_has_no_modes_and_prices_without_specs(me: Customer) -> None:
    prices = (await me.json("GET", "/v2/pricing"))["pricing"]
    specs = (await me.json("GET", "/v2/specs"))["specs"]
    assert (prices["a100xl_x1"], prices["a100xl_x4"], prices["h100_x2"]) == (1.09, 5.96, 6.4)
    assert set(prices) - set(specs) == {
        "a100xl_native", "additional_vcpus", "disk_gb", "snapshot_gb"
    }  # fmt: skip
    assert prices["snapshot_gb"] == 0.00006849
    assert specs["a100xl_x1"] == {
        "displayName": "NVIDIA A100 (80GB)",
        "vramGB": 80,
        "gpuCount": 1,
        "vcpuOptions": [8, 12, 16],
        "ramPerVCPUGiB": 8,
        "storageGB": {"min": 100, "max": 1000},
    }
    assert specs["a100xl_x4"]["ramCapGiB"] == 420
    assert specs["h100_x2"]["vcpuOptions"] == [48, 24, 36], "in no order"
    assert {spec["gpuCount"] for spec in specs.values()} == {1, 2, 4, 8}


async def test_the_older_catalogue_has_a_spec_for_each_mode(me: Customer) -> None:
    prices = (await me.json("GET", "/v1/pricing"))["pricing"]
    specs = (await me.json("GET", "/v1/specs"))["specs"]
    assert (prices["a100xl_x1_prototyping"], prices["a100xl_x1_production"]) == (1.09, 1.79)
    assert specs["a100xl_x1_production"]["mode"] == "production"
    assert specs["a100xl_x1_prototyping"]["limits"] == {
        "maxCPUPerGPU": 16,
        "maxMemoryGiBPerGPU": 128,
    }


async def test_what_is_rented_is_unavailable_and_comes_back(me: Customer) -> None:
    async def status(version: str = "/v2") -> Any:
        return await me.json("GET", f"{version}/status")

    first = await status()
    assert (first["specs"]["l40_x1"], first["gpu_type"]["l40"]) == (
        "unavailable",
        {"1": "unavailable"},
    )
    assert first["specs"]["h100_x8"] == "available"
    h100 = {"gpu_type": "h100", "num_gpus": 8, "cpu_cores": 96}
    uuid = await create(me, **h100)
    assert (await status())["specs"]["h100_x8"] == "unavailable"
    code, told = await me.refused("POST", "/v1/instances/create", {**A100, **h100})
    assert (code, "no capacity available" in told["message"]) == (400, True)
    await me.json("POST", f"/v1/instances/{uuid}/delete")
    assert await status() == first
    await rent(me, cpu_cores=18, mode="production")
    await rent(me, cpu_cores=18, mode="production")
    older = await status("/v1")
    assert older["specs"]["a100xl_x1_production"] == "unavailable"
    assert older["gpu_type"]["a100xl"]["1"] == "available", "in the other mode"


# --- a life -------------------------------------------------------------------------------


async def test_an_instance_boots_is_used_and_vanishes(served: Served, me: Customer) -> None:
    assert await rows(me) == {}
    uuid = await create(me, cpu_cores=12, disk_size_gb=150)
    early = await row_of(me, uuid)
    assert (early["status"], early["ip"], early["port"]) == ("PROVISIONING", "", 0)
    await me.advance(1)
    assert (await row_of(me, uuid))["status"] == "STARTING"
    await me.advance(10)
    row = (await me.json("GET", "/v1/instances/list?update_ips=true"))["0"]
    machine = me.cloud.machines[uuid]
    assert row == {
        "uuid": uuid,
        "name": machine.order.name,
        "status": "RUNNING",
        "ip": "127.0.0.1",
        "port": machine.ssh_port,
        "cpuCores": "12",
        "memory": "96",
        "storage": 150,
        "gpuType": "A100XL",
        "numGpus": "1",
        "mode": "prototyping",
        "template": "base",
        "httpPorts": [],
        "sshPublicKeys": [PUBLIC],
        "createdAt": row["createdAt"],
        "provisioningTime": row["provisioningTime"],
        "k8s": True,
        "promoted": False,
    }
    assert re.fullmatch("[a-z0-9]{8}", row["name"]), "the service makes it up"
    assert re.fullmatch(r"[\d-]{10}T[\d:]{8}Z", row["createdAt"])
    spec = served.host.running[uuid]
    assert (spec.user, spec.keys, spec.keys_in_home) == ("ubuntu", (PUBLIC,), True)
    assert (spec.address, spec.docker, spec.vcpus, spec.ram_mb) == ("", True, 12, 96 * 1024)
    told = await truth(me, uuid)
    assert told["price_per_hour"] == pytest.approx(1.09 + 4 * 0.04 + 50 * 0.0003)
    assert await me.json("POST", "/v1/instances/0/delete", status=200) == {"message": "Success"}
    assert not (await truth(me, uuid))["billed"]
    assert (await row_of(me, uuid))["status"] == "DELETING"
    await me.advance(2)
    assert await rows(me) == {}
    assert await refused(me, "POST", f"/v1/instances/{uuid}/delete") == (404, "not_found")
    assert await refused(me, "POST", "/v1/instances/0/delete") == (404, "not_found")


async def test_numbers_shift_when_an_instance_goes(me: Customer) -> None:
    first, second, third = [await create(me) for _ in range(3)]
    assert {n: row["uuid"] for n, row in (await rows(me)).items()} == {
        "0": first, "1": second, "2": third
    }  # fmt: skip
    await me.json("POST", f"/v1/instances/{first}/delete", {})
    await me.advance(2)
    assert {n: row["uuid"] for n, row in (await rows(me)).items()} == {"0": second, "1": third}
    made = await me.json("POST", "/v1/instances/create", A100)
    assert made["identifier"] == 2, "a number is used again"


async def test_without_a_key_one_is_made_and_told_once(served: Served, me: Customer) -> None:
    body = {name: value for name, value in A100.items() if name != "public_key"}
    made = await me.json("POST", "/v1/instances/create", body)
    assert made["key"].startswith("-----BEGIN")
    await me.advance(10)
    (public,) = (await row_of(me, made["uuid"]))["sshPublicKeys"]
    assert served.host.running[made["uuid"]].keys == (public,)
    mine = await me.json("POST", "/v1/instances/create", A100)
    assert mine["key"] == ""


async def test_keys_are_added_to_an_instance_that_runs(served: Served, me: Customer) -> None:
    uuid = await create(me)
    path = f"/v1/instances/{uuid}/add_key"
    assert await refused(me, "POST", path, {"public_key": PUBLIC}) == (400, "invalid_request")
    await me.advance(10)
    other = PUBLIC.replace("gb-abc123", "other")
    told = await me.json("POST", path, {"public_key": other})
    assert told == {"success": True, "uuid": uuid, "message": "Key added"}
    assert (await me.json("POST", path))["key"].startswith("-----BEGIN")
    assert served.host.admitted[uuid][:2] == (PUBLIC, other)
    assert (await row_of(me, uuid))["sshPublicKeys"] == list(served.host.admitted[uuid])
    assert await refused(me, "POST", path, {"public_key": "nonsense"}) == (400, "invalid_request")


async def test_ports_and_disk_can_be_changed_and_the_rest_is_switched_off(me: Customer) -> None:
    uuid = await create(me)
    path = f"/v1/instances/{uuid}/modify"
    assert await refused(me, "POST", path, {"add_ports": [80]}) == (409, "conflict")
    await me.advance(10)
    told = await me.json("POST", path, {"add_ports": [8888, 80], "disk_size_gb": 200})
    name = me.cloud.machines[uuid].order.name
    assert told == {"identifier": "0", "instance_name": name, "http_ports": [80, 8888]}
    told = await me.json("POST", path, {"remove_ports": [80]})
    row = await row_of(me, uuid)
    assert (row["httpPorts"], row["storage"]) == ([8888], 200)
    price = (await truth(me, uuid))["price_per_hour"]
    assert price == pytest.approx(1.09 + 100 * 0.0003)
    for wrong in ({"add_ports": [22]}, {"add_ports": [0]}, {"disk_size_gb": 150}, {"colour": 1}):
        assert await refused(me, "POST", path, wrong) == (400, "invalid_request")
    switched_off = (400, "temporarily_disabled")
    assert await refused(me, "POST", path, {"cpu_cores": 12}) == switched_off
    missing = await refused(me, "POST", "/v1/instances/7/modify", {"add_ports": [80]})
    assert missing == (404, "not_found")


async def test_an_instance_is_made_again_from_its_snapshot(me: Customer) -> None:
    uuid = await rent(me, disk_size_gb=150)
    body = {"instanceId": uuid, "name": "s1"}
    await me.json("POST", "/v1/snapshots/create", body, status=202)
    assert (await row_of(me, uuid))["status"] == "SNAPPING"
    assert await refused(me, "POST", "/v1/snapshots/create", body) == (409, "conflict")
    restored = {**A100, "template": "s1", "disk_size_gb": 200}
    early = await refused(me, "POST", "/v1/instances/create", restored)
    assert early == (400, "invalid_request")
    await me.advance(20)
    (row,) = await me.json("GET", "/v1/snapshots/list")
    assert (row["name"], row["status"], row["minimumDiskSizeGb"]) == ("s1", "READY", 150)
    await me.json("POST", f"/v1/instances/{uuid}/delete")
    (thing,) = await me.served.control("GET", "resources")
    assert (thing["kind"], thing["billed"]) == ("snapshot", True)
    assert thing["price_per_hour"] == pytest.approx(150 * 0.00006849)
    small = await refused(me, "POST", "/v1/instances/create", {**restored, "disk_size_gb": 120})
    assert small == (400, "invalid_request")
    again = (await me.json("POST", "/v1/instances/create", restored))["uuid"]
    assert (await row_of(me, again))["status"] == "RESTORING"
    await me.json("DELETE", f"/v1/snapshots/{row['id']}", status=200)
    assert await me.json("GET", "/v1/snapshots/list") == []
    assert await refused(me, "DELETE", f"/v1/snapshots/{row['id']}") == (404, "not_found")
    assert not (await me.served.control("GET", "resources"))[0]["billed"]


async def test_keys_of_the_organisation_are_kept(me: Customer, you: Customer) -> None:
    body = {"name": "k", "public_key": PUBLIC}
    key = (await me.json("POST", "/v1/keys/add", body))["key"]
    assert (key["key_type"], key["public_key"]) == ("ssh-ed25519", PUBLIC)
    assert key["fingerprint"].startswith("SHA256:")
    assert await me.json("GET", "/v1/keys/list") == [key]
    assert await you.json("GET", "/v1/keys/list") == []
    for twin in (body, {**body, "name": "other"}):
        assert await refused(me, "POST", "/v1/keys/add", twin) == (409, "conflict")
    wrong = {"name": "n", "public_key": "nonsense"}
    assert await refused(me, "POST", "/v1/keys/add", wrong) == (400, "invalid_request")
    assert await refused(you, "DELETE", f"/v1/keys/{key['id']}") == (404, "not_found")
    (thing,) = await me.served.control("GET", "resources")
    assert (thing["kind"], thing["state"], thing["billed"]) == ("ssh_key", "active", False)
    await me.json("DELETE", f"/v1/keys/{key['id']}")
    assert await me.json("GET", "/v1/keys/list") == []


async def test_an_instance_that_powers_itself_off_is_stopped_and_still_paid(
    served: Served, me: Customer
) -> None:
    uuid = await rent(me)
    await served.sandbox.machine_powered("thunder_compute", uuid, "off")
    assert (await row_of(me, uuid))["status"] == "STOPPED"
    assert "gpu" in (await truth(me, uuid))["billed_for"]


async def test_accounts_do_not_see_each_other(me: Customer, you: Customer) -> None:
    uuid = await rent(me)
    assert await rows(you) == {}
    for id_ in (uuid, "0"):
        assert await refused(you, "POST", f"/v1/instances/{id_}/delete") == (404, "not_found")


@pytest.mark.parametrize(
    "wrong",
    [
        {"cpu_cores": 9}, {"cpu_cores": "8"}, {"disk_size_gb": 99}, {"disk_size_gb": 1001},
        {"gpu_type": "voodoo2"}, {"num_gpus": 3}, {"num_gpus": 0}, {"template": "ubuntu-22.04"},
        {"public_key": "nonsense"}, {"mode": "spot"}, {"name": "mine"}, {"mode": "production"},
    ],
    ids=str,
)  # fmt: skip
async def test_a_wrong_order_is_refused(me: Customer, wrong: dict[str, Any]) -> None:
    told = await refused(me, "POST", "/v1/instances/create", {**A100, **wrong})
    assert told == (400, "invalid_request")
    short = {name: value for name, value in A100.items() if name != next(iter(wrong))}
    if len(short) < len(A100) and "public_key" not in wrong:
        assert (await refused(me, "POST", "/v1/instances/create", short))[0] == 400
    assert await rows(me) == {}


async def test_the_type_may_be_written_large_and_the_mode_be_named(me: Customer) -> None:
    uuid = await create(me, gpu_type="A100XL", mode="production", cpu_cores=18)
    row = await row_of(me, uuid)
    assert (row["gpuType"], row["mode"]) == ("A100XL", "production")


# --- the older client's address -----------------------------------------------------------


async def test_the_older_address_answers_a_create_with_200(me: Customer, you: Customer) -> None:
    body = {**A100, "mode": "prototyping"}
    made = await me.json("POST", "/instances/create", body, status=200)
    assert (await me.json("GET", "/instances/list"))["0"]["uuid"] == made["uuid"]
    assert await me.json("GET", "/thunder-templates") == await me.json(
        "GET", "/v1/thunder-templates"
    )
    assert (await me.json("GET", "/min_version"))["version"] == "1.0.0"
    ids = [(await me.json("GET", "/next_id"))["id"] for _ in range(2)]
    assert ids[0] < ids[1]
    assert await me.json("GET", "/get-disclaimer-status") == {"accepted": False}
    await me.json("POST", "/prototyping-disclaimer")
    assert await me.json("GET", "/get-disclaimer-status") == {"accepted": True}
    assert await you.json("GET", "/get-disclaimer-status") == {"accepted": False}
    assert (await me.json("POST", "/instances/0/delete", status=200))["message"] == "Success"


# --- faults -------------------------------------------------------------------------------


async def test_faults_of_a_create_come_in_the_vendors_form(me: Customer) -> None:
    for kind, words in (("no_capacity", "capacity"), ("quota", "quota")):
        await me.fault("create", kind, times=1)
        status, told = await me.refused("POST", "/v1/instances/create", A100)
        assert (status, told["error"]) == (400, "invalid_request")
        assert words in told["message"]
    faults = {
        "wrong_gpu": ("gpuType", "A6000"),
        "boot_failure": ("status", "FAILED"),
        "stuck_pending": ("status", "PENDING"),
        "ssh_refused": ("port", 1),
    }
    for kind, (field, value) in faults.items():
        await me.fault("create", kind, times=1)
        uuid = await rent(me)
        assert (await row_of(me, uuid))[field] == value
        await me.json("POST", f"/v1/instances/{uuid}/delete")
    await me.fault("create", "price_changed", times=1)
    dearer = await rent(me)
    assert (await truth(me, dearer))["price_per_hour"] == pytest.approx(1.5 * 1.09)
    await me.fault("create", "ignored_field", times=1)
    ignored = await rent(me)
    assert (await row_of(me, ignored))["sshPublicKeys"] != [PUBLIC]


async def test_faults_of_lists_and_ends(me: Customer) -> None:
    async def uuids() -> list[str]:
        return [row["uuid"] for row in (await rows(me)).values()]

    await me.fault("create", "list_lag", times=1, delay_s=60)
    late, early = await rent(me), await rent(me)
    assert {n: row["uuid"] for n, row in (await rows(me)).items()} == {"1": early}
    await me.advance(60)
    await me.fault("list", "duplicate_list", times=1)
    assert await uuids() == [late, early, late, early]
    await me.fault("list", "list_partial", times=1)
    assert await uuids() == [late]
    await me.fault("terminate", "terminate_ignored", times=1)
    await me.json("POST", f"/v1/instances/{late}/delete")
    assert await uuids() == [late, early]
    await me.fault("offers", "no_capacity", times=1)
    told = await me.json("GET", "/v2/status")
    assert set(told["specs"].values()) == {"unavailable"}


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        ("rate_limit", 429, "too many requests"),
        ("server_error", 500, "internal_error"),
        ("bad_credentials", 401, "Unauthorized"),
        ("not_found_for_bad_key", 404, "page not found"),
        ("garbage", 200, '{"success": true'),
    ],
)
async def test_faults_of_a_whole_call(me: Customer, kind: str, status: int, words: str) -> None:
    await me.fault("list", kind, times=1)
    answer = await me.ask("GET", "/v1/instances/list")
    assert (answer.status_code, words in answer.text) == (status, True)
    assert await rows(me) == {}


async def test_a_key_can_answer_as_another_account(me: Customer) -> None:
    mine = await me.json("GET", "/v1/auth/validate")
    await me.fault("account", "other_account", times=1)
    assert (await me.json("GET", "/v1/auth/validate"))["org_name"] != mine["org_name"]


async def test_without_money_nothing_is_created(me: Customer) -> None:
    await rent(me, gpu_type="h100", num_gpus=8, cpu_cores=96)
    await me.advance(30 * 86_400)
    status, told = await me.refused("POST", "/v1/instances/create", A100)
    assert (status, "payment required" in told["message"]) == (400, True)
