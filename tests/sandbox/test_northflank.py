"""Northflank's emulator: what it does, and what it refuses in the vendor's words."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from gpubroker.sandbox.app import create_sandbox
from gpubroker.sandbox.faults import KINDS
from gpubroker.sandbox.listener import HttpListener
from gpubroker.sandbox.machine import LoopbackHost
from gpubroker.sandbox.published import listening

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served
    from tests.sandbox.customer import Customer

ROOT = "/northflank/v1"
PROJECT, REGION = "/projects/broker-us-central", "us-central"
SERVICES = f"{PROJECT}/services"
DEPLOY = f"{SERVICES}/deployment"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"
BOOT_S, HOUR_S = 4.0, 3600
ORDER: dict[str, Any] = {
    "name": "broker-ab12",
    "billing": {"deploymentPlan": "nf-gpu-h100-80-1g"},
    "deployment": {
        "instances": 1,
        "external": {"imagePath": "docker.io/pytorch/pytorch:2.6.0"},
        "gpu": {"enabled": True, "configuration": {"gpuType": "h100-80", "gpuCount": 1}},
    },
}


def order(device: str = "h100-80", count: int = 1, **more: Any) -> dict[str, Any]:
    """A body of the create; fields of the deployment are found by name."""
    gpu = {"enabled": True, "configuration": {"gpuType": device, "gpuCount": count}}
    deployment = {**ORDER["deployment"], "gpu": gpu}
    body = {**ORDER, "billing": {"deploymentPlan": f"nf-gpu-{device}-{count}g"}}
    for name, value in more.items():
        known = name in ("docker", "ssh", "storage", "instances", "gpu", "external")
        (deployment if known else body)[name] = value
    return {**body, "deployment": deployment}


class Service:
    """One service of a customer."""

    def __init__(self, customer: Customer, name: str, services: str = SERVICES) -> None:
        self.customer, self.path, self.name = customer, f"{services}/{name}", name

    async def show(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.customer.json("GET", self.path))["data"]
        return found

    async def status(self) -> str | None:
        deployment = (await self.show())["status"].get("deployment")
        return deployment and str(deployment["status"])

    async def tasks(self) -> list[str]:
        rows = (await self.customer.json("GET", f"{self.path}/containers"))["data"]["containers"]
        return [row["status"] for row in rows]

    async def do(self, what: str, body: Any = None) -> None:
        assert await self.customer.json("POST", f"{self.path}/{what}", body) == {"data": {}}

    async def truth(self) -> dict[str, Any]:
        rows = await self.customer.served.control("GET", "machines")
        found: dict[str, Any] = next(row for row in reversed(rows) if row["name"] == self.name)
        return found


@pytest.fixture
async def me(customer: Callable[..., Customer]) -> Customer:
    """With a project."""
    made = customer(ROOT, {"Authorization": "Bearer my-token"})
    await made.json("POST", "/projects", {"name": "Broker us-central", "region": REGION})
    return made


@pytest.fixture
def you(customer: Callable[..., Customer]) -> Customer:
    return customer(ROOT, {"Authorization": "Bearer your-token"})


async def deploy(me: Customer, **more: Any) -> Service:
    body = order(**more)
    made = (await me.json("POST", DEPLOY, body, status=200))["data"]
    return Service(me, made["id"])


async def running(me: Customer, **more: Any) -> Service:
    service = await deploy(me, **more)
    await me.advance(BOOT_S)
    assert await service.tasks() == ["TASK_RUNNING"]
    return service


async def message(me: Customer, method: str, path: str, body: Any = None) -> tuple[int, str]:
    """Status and message of a refusal; its form is the vendor's."""
    status, told = await me.refused(method, path, body)
    assert set(told) == {"error"}
    assert set(told["error"]) - {"details"} == {"status", "message", "id"}
    assert told["error"]["status"] == status
    return status, told["error"]["message"]


# --- doors --------------------------------------------------------------------------------


async def test_prices_are_told_to_anybody_and_nothing_else_is(served: Served) -> None:
    for path in ("/regions", "/plans"):
        assert (await served.http.get(f"{ROOT}{path}")).status_code == 200
    for headers in ({}, {"Authorization": "my-token"}, {"Authorization": "Bearer invalid-key"}):
        answer = await served.http.get(f"{ROOT}/projects", headers=headers)
        assert (answer.status_code, answer.json()["error"]["status"]) == (401, 401)
    for method, path in (("GET", "/nothing"), ("PUT", "/auth"), ("GET", "/projects/")):
        answer = await served.http.request(method, f"{ROOT}{path}")
        assert (answer.status_code, set(answer.json())) == (404, {"error"})


async def test_a_token_is_its_teams_and_may_name_it(me: Customer, you: Customer) -> None:
    auth = (await me.json("GET", "/auth"))["data"]
    assert (auth["entityType"], auth["tokenKind"]) == ("team", "api")
    assert auth["entityId"] != (await you.json("GET", "/auth"))["data"]["entityId"]
    team = f"/teams/{auth['entityId']}"
    assert (await me.json("GET", f"{team}/projects")) == await me.json("GET", "/projects")
    assert (await you.json("GET", "/projects"))["data"] == {"projects": []}
    assert await message(you, "GET", PROJECT) == (404, "Project not found")


async def test_a_thousand_calls_an_hour_and_the_headers_count_them(you: Customer) -> None:
    answer = await you.ask("GET", "/auth")
    told = [answer.headers[f"x-ratelimit-{name}"] for name in ("limit", "remaining", "reset")]
    assert told == ["1000", "999", "3600"]
    api = you.cloud
    await you.advance(600)
    for _ in range(999):
        assert (await you.ask("GET", "/auth")).status_code == 200
    refused = await you.ask("GET", "/auth")
    assert (refused.status_code, refused.headers["x-ratelimit-reset"]) == (429, "3000")
    await you.advance(3000)
    assert (await you.ask("GET", "/auth")).status_code == 200
    assert api.machines == {}


# --- what can be had ----------------------------------------------------------------------


async def test_regions_tell_devices_in_cents_for_each_gpu(me: Customer) -> None:
    rows = {row["id"]: row for row in (await me.json("GET", "/regions"))["data"]["regions"]}
    assert len(rows) == 16
    assert rows["canada-central"]["gpuDevices"] == []
    devices = {device["id"]: device for device in rows[REGION]["gpuDevices"]}
    assert devices["h100-80"] == {
        "id": "h100-80",
        "name": "H100",
        "manufacturer": "NVIDIA",
        "memoryInfo": {"sizeInMiB": 81920},
        "countOptions": [1, 2, 4, 8],
        "pricing": {"onDemand": 274.0},
    }
    assert devices["rtx_pro_6000-96"]["countOptions"] == [8]
    plans = (await me.json("GET", "/plans"))["data"]["plans"]
    assert {plan["id"].startswith("nf-compute-") for plan in plans} == {True}
    assert plans[1]["amountPerHour"] == 0.008, "dollars here"


# --- projects -----------------------------------------------------------------------------


async def test_a_project_has_its_region_and_its_id_from_its_name(me: Customer) -> None:
    (row,) = (await me.json("GET", "/projects"))["data"]["projects"]
    assert (row["id"], "region" in row) == ("broker-us-central", False)
    shown = (await me.json("GET", PROJECT))["data"]
    assert (shown["deployment"], shown["services"]) == ({"region": REGION}, [])
    again = {"name": "broker US-central", "region": REGION}
    assert (await message(me, "POST", "/projects", again))[0] == 409
    wrong: Any
    for wrong in ({"name": "ab"}, {"name": "1st"}, {"region": "us-moon"}, {"shoe": 43}):
        assert (await message(me, "POST", "/projects", {**again, "name": "other", **wrong}))[
            0
        ] == 400


async def test_a_project_goes_with_what_is_in_it_only_where_that_is_asked(me: Customer) -> None:
    service = await running(me)
    assert (await message(me, "DELETE", PROJECT))[0] == 409
    assert await service.tasks() == ["TASK_RUNNING"]
    await me.json("DELETE", f"{PROJECT}?delete_child_objects=true")
    assert not (await service.truth())["billed"]
    assert {row["state"] for row in await me.resources()} == {"deleted"}
    await me.json("POST", "/projects", {"name": "broker us-central", "region": "us-west"})
    assert (await me.json("GET", PROJECT))["data"]["deployment"] == {"region": "us-west"}


# --- a service's life ---------------------------------------------------------------------


async def test_a_service_comes_up_and_is_paid_for_while_it_runs(me: Customer) -> None:
    service = await deploy(
        me,
        docker={"configType": "customCommand", "customCommand": "sh -c 'echo $A'"},
        runtimeEnvironment={"A": "1"},
        tags=["broker"],
    )
    seen = []
    for seconds in (0.5, 0.7, 1.0, 1.3, 0.5):
        await me.advance(0)
        seen.append((await service.status(), await service.tasks()))
        await me.advance(seconds)
    assert seen == [
        (None, []),
        ("PENDING", []),
        ("IN_PROGRESS", ["TASK_STAGING"]),
        ("IN_PROGRESS", ["TASK_STAGING"]),
        ("IN_PROGRESS", ["TASK_STARTING"]),
    ]
    assert (await service.status(), await service.tasks()) == ("COMPLETED", ["TASK_RUNNING"])
    shown = await service.show()
    assert shown["appId"].endswith("/broker-us-central/broker-ab12")
    assert shown["deployment"]["external"] == {
        "imagePath": "pytorch/pytorch:2.6.0",
        "registryProvider": "dockerhub",
        "privateImage": False,
    }
    (spec,) = me.served.host.running.values()
    assert (spec.command, spec.env) == ("sh -c 'echo $A'", {"A": "1"})
    assert spec.gpu_count == 1
    await me.advance(HOUR_S)
    assert (await service.truth())["accrued_usd"] == pytest.approx(2.74, rel=1e-3)


async def test_paused_it_costs_nothing_and_only_then_can_be_resumed(me: Customer) -> None:
    service = await running(me)
    assert (await message(me, "POST", f"{service.path}/resume", {"instances": 1}))[0] == 409
    await service.do("pause")
    await service.do("pause")
    assert ((await service.show())["servicePaused"], await service.tasks()) == (True, [])
    assert not (await service.truth())["billed"]
    await service.do("resume", {"instances": 1})
    assert (await service.show())["servicePaused"] is False
    await me.advance(BOOT_S)
    assert await service.tasks() == ["TASK_RUNNING"]
    await service.do("restart")
    assert await service.tasks() == ["TASK_STARTING"]
    await me.advance(BOOT_S)
    await service.do("scale", {"instances": 0})
    assert (await service.tasks(), (await service.show())["deployment"]["instances"]) == ([], 0)
    assert (await service.show())["servicePaused"] is False


async def test_deleted_it_is_gone(me: Customer) -> None:
    service = await running(me)
    assert (await message(me, "POST", DEPLOY, order()))[0] == 409
    assert await me.json("DELETE", service.path) == {"data": {}}
    assert await message(me, "GET", service.path) == (404, "Service not found")
    assert await message(me, "DELETE", service.path) == (404, "Service not found")
    assert not (await service.truth())["billed"]
    await deploy(me)


async def test_want_of_gpus_is_no_refusal(me: Customer, you: Customer) -> None:
    await you.json("POST", "/projects", {"name": "Broker us-central", "region": REGION})
    first = await running(me, count=8)
    second = await deploy(you, count=1)
    await me.advance(86_400)
    assert (await second.status(), await second.tasks()) == ("IN_PROGRESS", [])
    assert (await second.truth())["accrued_usd"] == 0
    await me.json("DELETE", first.path)
    await second.status()
    await me.advance(BOOT_S)
    assert await second.tasks() == ["TASK_RUNNING"]


async def test_the_expiry_pauses_and_then_deletes(me: Customer) -> None:
    service = await running(me, createOptions={"expiryTime": 600, "volumesToAttach": []})
    shown = await service.show()
    assert shown["expiryTime"] > shown["createdAt"]
    assert "expiredAt" not in shown
    await me.advance(600)
    shown = await service.show()
    assert (shown["servicePaused"], shown["expiredAt"]) == (True, shown["expiryTime"])
    assert shown["scheduledDeletion"] > shown["expiredAt"]
    assert not (await service.truth())["billed"]
    await me.advance(HOUR_S)
    assert (await message(me, "GET", service.path))[0] == 404
    for lasts in (299, 604_801):
        assert (await message(me, "POST", DEPLOY, order(createOptions={"expiryTime": lasts})))[
            0
        ] == 400


async def test_what_falls_is_put_up_again_elsewhere(me: Customer) -> None:
    service = await running(me)
    truth = await service.truth()
    await me.served.sandbox.machine_exited("northflank", truth["provider_id"], 1)
    assert not (await service.truth())["billed"]
    assert await service.tasks() == ["TASK_STARTING", "TASK_FAILED"]
    await me.advance(BOOT_S)
    assert await service.tasks() == ["TASK_RUNNING"]


async def test_without_credit_gpus_stop_at_once(me: Customer) -> None:
    service = await running(me, count=8)
    await me.advance(30 * 86_400)
    assert (await service.show())["servicePaused"]
    status, told = await message(me, "POST", DEPLOY, order(name="another"))
    assert (status, "insufficient credits" in told) == (403, True)


async def test_ports_with_names_and_without(me: Customer) -> None:
    ports = [
        {"name": "web", "internalPort": 8080, "public": True, "protocol": "HTTP"},
        {"name": "raw", "internalPort": 9000, "protocol": "TCP"},
    ]
    service = await running(me, ports=ports)
    rows = (await me.json("GET", f"{service.path}/ports"))["data"]["ports"]
    assert rows == (await service.show())["ports"]
    assert rows[0]["dns"].startswith("web--broker-ab12--")
    assert rows[0]["dns"].endswith(".code.run")
    assert "dns" not in rows[1]
    (spec,) = me.served.host.running.values()
    assert spec.ports == ((8080, "http"), (9000, "tcp"))


# --- what stays beside a service ----------------------------------------------------------


async def test_a_volume_costs_until_it_is_deleted(me: Customer) -> None:
    body = {
        "name": "data",
        "mounts": [{"containerMountPath": "/data"}],
        "spec": {"storageSize": 102_400},
    }
    made = (await me.json("POST", f"{PROJECT}/volumes", body))["data"]
    assert (made["id"], made["status"]) == ("data", "UNBOUND")
    service = await running(me, createOptions={"volumesToAttach": ["data"]})
    shown = (await me.json("GET", f"{PROJECT}/volumes/data"))["data"]
    assert shown["attachedObjects"] == [{"id": "broker-ab12", "type": "service"}]
    assert (await message(me, "DELETE", f"{PROJECT}/volumes/data"))[0] == 409
    await me.json("DELETE", service.path)
    (row,) = [row for row in await me.resources() if row["kind"] == "volume"]
    assert (row["billed"], row["state"]) == (True, "detached")
    second = await running(me)
    link = {"nfObject": {"id": "broker-ab12", "type": "service"}}
    for what in ("attach", "detach", "attach"):
        await me.json("POST", f"{PROJECT}/volumes/data/{what}", link)
    await me.json("DELETE", f"{second.path}?delete_child_objects=true")
    assert (await me.json("GET", f"{PROJECT}/volumes"))["data"] == []
    (row,) = [row for row in await me.resources() if row["kind"] == "volume"]
    assert (row["billed"], row["state"]) == (False, "deleted")


async def test_an_identity_opens_services_that_it_selects(me: Customer) -> None:
    tagged = {"enabled": True, "items": ["broker"], "matchCondition": "or"}
    body = {
        "name": "my-key",
        "sshPublicKeys": [{"key": PUBLIC}],
        "restrictions": {"projects": {"enabled": False}, "tags": tagged},
    }
    made = (await me.json("POST", "/integrations/ssh-identities", body))["data"]
    assert made["id"] == "my-key"
    for name, more, keys in (
        ("one", {"ssh": {"enabled": True}, "tags": ["broker"]}, (PUBLIC,)),
        ("two", {"ssh": {"enabled": True}, "tags": ["other"]}, ()),
        ("three", {"tags": ["broker"]}, ()),
    ):
        await running(me, name=name, **more)
        assert me.served.host.running[name].keys == keys
    listed = (await me.json("GET", "/integrations/ssh-identities"))["data"]["identities"]
    assert [one["id"] for one in listed] == ["my-key"]
    await me.json("DELETE", "/integrations/ssh-identities/my-key")
    assert (await message(me, "GET", "/integrations/ssh-identities/my-key"))[0] == 404


# --- money --------------------------------------------------------------------------------


async def test_usage_is_told_in_cents_when_the_hour_is_over(me: Customer) -> None:
    now = me.served.sandbox.clock.now()
    hour = int(now) // HOUR_S * HOUR_S
    service = await running(me, count=2)
    await me.advance(1800 - BOOT_S)
    path = f"/billing/usage/{hour}?projectId=broker-us-central&resourceType=service"
    assert (await me.json("GET", path))["data"]["paas"]["teams"] == []
    await me.json("DELETE", service.path)
    await me.advance(HOUR_S)
    told = (await me.json("GET", path))["data"]
    (team,) = told["paas"]["teams"]
    (kind,) = team["projects"][0]["resourceTypes"]
    (resource,) = kind["resources"]
    assert (resource["id"], kind["resourceType"]) == ("broker-ab12", "service")
    assert told["paasUsage"] == told["paas"]
    spent = 1e2 * (await service.truth())["accrued_usd"]
    assert resource["price"]["gpu"] == resource["price"]["total"]
    assert resource["price"]["total"] == pytest.approx(spent, abs=1e-3)
    rows = (await me.json("GET", "/billing/usage?removeLegacyFields=true"))["data"]["usage"]
    assert [row["total"] for row in rows] == [resource["price"]["total"]]
    assert "paasUsage" not in rows[0]
    left = (await me.json("GET", "/billing/credit-balance"))["data"]["total"]["available"]
    assert left == pytest.approx(1_000_000 - spent, abs=1e-3)
    other = f"/billing/usage/{hour}?resourceType=volume"
    assert (await me.json("GET", other))["data"]["total"] == 0
    assert (await me.json("GET", "/billing/invoices"))["data"] == {"invoices": []}
    assert (await message(me, "GET", "/billing/usage?endTime=1"))[0] == 400


# --- pages, strictness, faults ------------------------------------------------------------


async def test_lists_have_pages_with_cursors(me: Customer) -> None:
    for number in range(5):
        await deploy(me, name=f"service-{number}", device="l4-24")
    names: list[str] = []
    told = await me.json("GET", f"{SERVICES}?per_page=2")
    names += [row["name"] for row in told["data"]["services"]]
    while told["pagination"]["hasNextPage"]:
        cursor = told["pagination"]["cursor"]
        told = await me.json("GET", f"{SERVICES}?per_page=2&cursor={cursor}")
        names += [row["name"] for row in told["data"]["services"]]
    assert names == [f"service-{number}" for number in range(5)]
    assert told["pagination"] == {"hasNextPage": False, "count": 1}
    row = told["data"]["services"][0]
    assert not {"billing", "deployment"} & set(row), "neither GPU nor plan"
    third = await me.json("GET", f"{SERVICES}?per_page=2&page=3")
    assert third["data"] == told["data"]
    for query in ("per_page=101", "per_page=0", "cursor=nonsense!", "limit=3"):
        assert (await message(me, "GET", f"{SERVICES}?{query}"))[0] == 400
    await me.fault("list", "page_cursor_expired", times=1)
    assert (await message(me, "GET", f"{SERVICES}?cursor={cursor}"))[0] == 400


WRONG: tuple[dict[str, Any], ...] = (
    {"name": "ab"},
    {"name": "under_score"},
    {"name": "x" * 55},
    {"shoe_size": 43},
    {"instances": 2},
    {"device": "h100-80", "count": 3},
    {"device": "b200-180", "count": 8},
    {"gpu": None},
    {"gpu": {"enabled": True, "gpuType": "h100-80", "gpuCount": 1}},
    {"billing": {"deploymentPlan": "nf-gpu-h100-80-2g"}},
    {"billing": {"deploymentPlan": "nf-compute-20"}},
    {"external": {"imagePath": ""}},
    {"docker": {"configType": "customCommand"}},
    {"docker": {"configType": "shell", "customCommand": "true"}},
    {"docker": {"configType": "customCommand", "customCommand": "open 'quote"}},
    {"storage": {"ephemeralStorage": {"storageSize": 10_000_000}}},
    {"ports": [{"name": "too-long-a-name", "internalPort": 80, "protocol": "HTTP"}]},
    {"ports": [{"name": "web", "internalPort": 80, "protocol": "SSH"}]},
    {"runtimeEnvironment": {"A": 1}},
    {"runtimeFiles": {"/a": {"data": "not base64!"}}},
    {"tags": ["a b"]},
)


async def test_a_body_that_is_not_as_documented_is_refused(me: Customer) -> None:
    taken = [
        change
        for change in WRONG
        if (await me.ask("POST", DEPLOY, order(**change))).status_code != 400
    ]
    assert taken == []
    for volume in ("nobody", "data"):
        body = order(createOptions={"volumesToAttach": [volume]})
        assert (await message(me, "POST", DEPLOY, body))[0] == 404
    assert await me.served.control("GET", "machines") == []


async def test_a_file_is_put_where_it_is_wanted(me: Customer) -> None:
    text = base64.b64encode(b"hello").decode()
    await running(me, runtimeFiles={"/etc/greeting": {"data": text, "encoding": "utf-8"}})
    (spec,) = me.served.host.running.values()
    assert spec.programs == {"/etc/greeting": "hello"}


async def test_faults_have_the_vendors_form(me: Customer) -> None:
    async def names() -> list[str]:
        return [row["name"] for row in (await me.json("GET", SERVICES))["data"]["services"]]

    made = {}
    kinds = (
        "no_capacity", "stuck_pending", "boot_failure", "price_changed", "ignored_field",
        "wrong_gpu",
    )  # fmt: skip
    for kind in kinds:
        await me.fault("create", kind, times=1)
        name = kind.replace("_", "-")
        made[kind] = await deploy(me, name=name, device="l4-24", tags=["broker"])
    await me.fault("create", "quota", times=1)
    assert (await message(me, "POST", DEPLOY, order()))[0] == 403
    await me.advance(BOOT_S)
    for kind in ("no_capacity", "stuck_pending"):
        assert (await made[kind].status(), await made[kind].tasks()) == ("IN_PROGRESS", [])
        assert not (await made[kind].truth())["billed"]
    failed = made["boot_failure"]
    assert (await failed.status(), await failed.tasks()) == ("FAILED", ["TASK_FAILED"])
    assert (await made["price_changed"].truth())["price_per_hour"] == pytest.approx(1.2)
    assert (await made["ignored_field"].show())["tags"] == []
    assert (await made["wrong_gpu"].truth())["gpu_model"] != "l4-24"
    whole = await names()
    await me.fault("list", "duplicate_list", times=1)
    assert len(await names()) == 2 * len(whole)
    await me.fault("list", "list_partial", times=1)
    assert await names() == whole[:3]
    await me.fault("create", "list_lag", times=1, delay_s=30)
    late = await running(me, name="late")
    assert "late" not in await names()
    await me.advance(30)
    assert "late" in await names()
    await me.fault("terminate", "terminate_ignored", times=1)
    await me.json("DELETE", late.path)
    assert await late.tasks() == ["TASK_RUNNING"]
    for kind, status in (
        ("rate_limit", 429), ("server_error", 500), ("bad_credentials", 401),
        ("not_found_for_bad_key", 404), ("other_account", 404),
    ):  # fmt: skip
        await me.fault("get", kind, times=1)
        assert (await message(me, "GET", late.path))[0] == status


def test_every_kind_of_fault_was_thought_of() -> None:
    tried = {
        "rate_limit", "server_error", "bad_credentials", "not_found_for_bad_key", "no_capacity",
        "quota", "boot_failure", "stuck_pending", "price_changed", "ignored_field", "wrong_gpu",
        "list_lag", "duplicate_list", "list_partial", "terminate_ignored", "other_account",
        "page_cursor_expired",
    }  # fmt: skip
    of_the_connection = {"timeout", "slow", "disconnect_before", "disconnect_after", "garbage"}
    without_meaning = {"ssh_refused"}
    assert set(KINDS) == tried | of_the_connection | without_meaning


# --- the gateway --------------------------------------------------------------------------


@asynccontextmanager
async def real(folder: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """A sandbox whose containers really run."""
    host, bound = LoopbackHost(), listening(0)
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    sandbox = create_sandbox(
        folder, host, mode="foreground", base_url=url, providers=("northflank",)
    )
    await sandbox.start()
    listener = HttpListener(sandbox.app)
    await listener.open(bound)
    try:
        mine = {"Authorization": "Bearer my-token"}
        async with httpx2.AsyncClient(base_url=url, timeout=10, headers=mine) as client:
            yield client
    finally:
        await listener.close()
        bound.close()
        await sandbox.close()


async def test_a_public_port_leads_to_the_containers_own_process(tmp_path: Path) -> None:
    with listening(0) as probe:
        port = probe.getsockname()[1]
    async with real(tmp_path / "state") as client:
        project = {"name": "Broker us-central", "region": REGION}
        await client.post(f"{ROOT}/projects", json=project)
        serve = "import os; open('greeting', 'w').write(os.environ['WHO'])"
        command = f'sh -c "python3 -c \\"{serve}\\"; exec python3 -m http.server {port}"'
        body = order(
            docker={"configType": "customCommand", "customCommand": command},
            runtimeEnvironment={"WHO": "it is me"},
            ports=[{"name": "web", "internalPort": port, "public": True, "protocol": "HTTP"}],
        )
        made = (await client.post(ROOT + DEPLOY, json=body)).json()["data"]
        host = {"host": made["ports"][0]["dns"]}
        early = await client.get("/northflank/greeting", headers=host)
        assert early.status_code == 503, "no container runs yet"
        await client.post("/_sandbox/clock", json={"advance_s": BOOT_S})
        async with asyncio.timeout(20):
            while True:
                answer = await client.get("/northflank/greeting", headers=host)
                if answer.status_code == 200:
                    break
                await asyncio.sleep(0.05)
        assert answer.text == "it is me"
        stranger = await client.get("/northflank/", headers={"host": "x--y--z.code.run"})
        assert stranger.status_code == 404
