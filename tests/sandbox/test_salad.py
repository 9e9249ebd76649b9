"""SaladCloud's emulator: what it does, and what it refuses in the vendor's words."""

from __future__ import annotations

import asyncio
import base64
import re
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

ROOT = "/salad/api/public/organizations/acme"
GROUPS = "/projects/default/containers"
RTX_4090, H100 = "ed563892-aacd-40f5-80b7-90c9be6c759b", "c2a7d0ae-5d0b-4a53-9a55-0c1f6f6a2e03"
LAPTOP = "83ef776e-ce34-4d89-8cf9-81898f1416fa"
UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MERGE = {"content-type": "application/merge-patch+json"}
BOOT_S, STOPPING_S = 4.0, 5.0
ORDER: dict[str, Any] = {
    "name": "broker-ab12",
    "replicas": 1,
    "autostart_policy": True,
    "restart_policy": "always",
    "container": {
        "image": "ubuntu:24.04",
        "priority": "high",
        "resources": {"cpu": 4, "memory": 8192, "gpu_classes": [RTX_4090]},
    },
}


def order(**more: Any) -> dict[str, Any]:
    """A body of the create; fields of the container and its resources are found by name."""
    body = {**ORDER, "container": {**ORDER["container"]}}
    for name, value in more.items():
        if name in ("cpu", "memory", "gpu_classes", "storage_amount"):
            body["container"]["resources"] = body["container"]["resources"] | {name: value}
        elif name in ("image", "command", "priority", "environment_variables"):
            body["container"][name] = value
        else:
            body[name] = value
    return body


class Group:
    """One container group of a customer."""

    def __init__(self, customer: Customer, name: str) -> None:
        self.customer, self.path, self.name = customer, f"{GROUPS}/{name}", name

    async def show(self) -> dict[str, Any]:
        found: dict[str, Any] = await self.customer.json("GET", self.path)
        return found

    async def status(self) -> str:
        return str((await self.show())["current_state"]["status"])

    async def instances(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]]
        rows = (await self.customer.json("GET", f"{self.path}/instances"))["instances"]
        return rows

    async def states(self) -> list[str]:
        return [row["state"] for row in await self.instances()]

    async def do(self, what: str) -> None:
        answer = await self.customer.ask("POST", f"{self.path}/{what}")
        assert (answer.status_code, answer.content) == (202, b""), answer.text

    async def patch(self, body: Any) -> dict[str, Any]:
        found: dict[str, Any] = await self.customer.json("PATCH", self.path, body, headers=MERGE)
        return found

    async def events(self) -> list[str]:
        rows = (await self.customer.json("GET", f"{self.path}/system-logs"))["items"]
        return [row["event_name"] for row in reversed(rows)]

    async def truth(self) -> dict[str, Any]:
        rows = await self.customer.served.control("GET", "machines")
        found: dict[str, Any] = next(row for row in reversed(rows) if row["name"] == self.name)
        return found


@pytest.fixture
def me(customer: Callable[..., Customer]) -> Customer:
    return customer(ROOT, {"Salad-Api-Key": "my-key"})


@pytest.fixture
def you(customer: Callable[..., Customer]) -> Customer:
    return customer(ROOT, {"Salad-Api-Key": "your-key"})


async def put_up(me: Customer, **more: Any) -> Group:
    body = order(**more)
    await me.json("POST", GROUPS, body, status=201)
    return Group(me, body["name"])


async def running(me: Customer, **more: Any) -> Group:
    group = await put_up(me, **more)
    await me.advance(BOOT_S)
    assert await group.status() == "running"
    return group


# --- doors --------------------------------------------------------------------------------


async def test_the_key_goes_in_a_header_of_its_own(me: Customer, served: Served) -> None:
    for headers in ({}, {"Authorization": "Bearer my-key"}, {"Salad-Api-Key": "invalid-key"}):
        answer = await served.http.get(f"{ROOT}/quotas", headers=headers)
        assert answer.status_code == 401
        assert answer.json()["title"] == "Unauthorized"
    assert (await me.ask("GET", "/quotas")).status_code == 200


async def test_unknown_paths_and_methods_are_answered_with_web_pages(me: Customer) -> None:
    for method, path, status in (
        ("GET", "/projects", 404),
        ("GET", f"{GROUPS}/", 404),
        ("PUT", GROUPS, 405),
    ):
        answer = await me.ask(method, path)
        assert answer.status_code == status
        assert answer.headers["content-type"].startswith("text/html")


async def test_a_key_may_ask_240_times_a_minute(me: Customer) -> None:
    asked = [(await me.ask("GET", "/quotas")).status_code for _ in range(242)]
    assert asked[:240] == [200] * 240
    assert asked[-1] == 429
    refused = await me.ask("GET", "/quotas")
    assert "retry-after" not in refused.headers
    await me.advance(60)
    assert (await me.ask("GET", "/quotas")).status_code == 200


async def test_groups_are_their_own_organizations_projects_and_users(
    me: Customer, you: Customer, customer: Callable[..., Customer]
) -> None:
    await put_up(me)
    assert await Group(me, "broker-ab12").status() == "pending"
    for elsewhere in (you, customer(f"{ROOT}x", me.headers)):
        assert (await elsewhere.json("GET", GROUPS)) == {"items": []}
        assert (await elsewhere.refused("GET", f"{GROUPS}/broker-ab12"))[0] == 404
    assert (await me.json("GET", "/projects/other/containers")) == {"items": []}
    assert (await me.refused("GET", "/projects/Other_/containers"))[0] == 404


# --- what can be had ----------------------------------------------------------------------


async def test_classes_tell_prices_as_text_by_priority(me: Customer) -> None:
    rows = {row["id"]: row for row in (await me.json("GET", "/gpu-classes"))["items"]}
    card = rows[RTX_4090]
    assert (card["name"], card["gpu_count"]) == ("RTX 4090 (24 GB)", 1)
    assert (card["max_ram"], card["max_storage"]) == (61440, 250 << 30)
    told = {one["priority"]: one["price"] for one in card["prices"]}
    assert told == {"high": "0.300", "medium": "0.250", "low": "0.200", "batch": "0.160"}
    assert (rows[H100]["gpu_class_type"], rows[H100]["gpu_count"]) == ("secure", 8)
    assert {row["gpu_count"] for row in rows.values() if "gpu_count" in row} == {1, 2, 4, 8}
    bare = [row for row in rows.values() if set(row) == {"id", "name", "prices"}]
    assert [row["name"] for row in bare] == ["Stable Diffusion Compatible"]


async def test_availability_counts_computers_that_are_large_enough_and_there(
    me: Customer,
) -> None:
    async def high(**more: Any) -> int:
        body = {"gpu_classes": [RTX_4090], **more}
        told = await me.json("POST", "/availability/sce-gpu-availability", body)
        return int(told["available_gpu_high"])

    everywhere = await high()
    assert 0 < await high(country_codes=["ca"]) < everywhere
    assert await high(memory=61441) == await high(country_codes=["aq"]) == 0
    await running(me)
    assert await high() == everywhere - 1
    laptops = await me.json("POST", "/availability/sce-gpu-availability", {"gpu_classes": [LAPTOP]})
    assert set(laptops.values()) == {0}
    assert (await me.json("POST", "/availability/sce-cpu-availability", {}))["on_call_cpu"] == 0
    wrong: Any
    for wrong in ({}, {"gpu_classes": []}, {"gpu_classes": ["RTX 4090 (24 GB)"]}):
        assert (await me.refused("POST", "/availability/sce-gpu-availability", wrong))[0] == 400


async def test_the_quota_counts_replicas_of_stopped_groups_too(me: Customer) -> None:
    await put_up(me, autostart_policy=False, replicas=499)
    quotas = (await me.json("GET", "/quotas"))["container_groups_quotas"]
    assert quotas["container_replicas_used"] == 499
    refused = await me.refused("POST", GROUPS, order(name="second", replicas=2))
    assert (refused[0], "quota" in refused[1]["detail"]) == (403, True)


# --- a group's life -----------------------------------------------------------------------


async def test_an_instance_is_paid_for_from_running_on(me: Customer) -> None:
    made = await me.ask("POST", GROUPS, order(command=["sleep", "inf inity"]))
    assert made.status_code == 201
    assert made.headers["location"].endswith("/acme/projects/default/containers/broker-ab12")
    group, seen = Group(me, "broker-ab12"), []
    for _ in range(5):
        seen.append((await group.status(), await group.states()))
        assert (await group.truth())["billed"] == (seen[-1][1] == ["running"])
        await me.advance(1)
    assert seen == [
        ("pending", []),
        ("deploying", ["allocating"]),
        ("deploying", ["downloading"]),
        ("deploying", ["creating"]),
        ("running", ["running"]),
    ]
    (instance,) = await group.instances()
    assert instance["ready"]
    assert UUID.fullmatch(instance["machine_id"])
    assert instance["ssh_host_key_fingerprint"].startswith("SHA256:")
    shown = await group.show()
    assert re.fullmatch("sha256:[0-9a-f]{64}", shown["container"]["hash"])
    (spec,) = me.served.host.running.values()
    assert (spec.command, spec.keys) == ("sleep 'inf inity'", ())
    assert spec.env["SALAD_MACHINE_ID"] == instance["machine_id"] == spec.hostname
    await me.advance(3600)
    truth = await group.truth()
    assert truth["accrued_usd"] == pytest.approx(0.3 * 3601 / 3600, abs=1e-6)


async def test_stopping_and_deleting_take_their_time_and_are_paid_for(me: Customer) -> None:
    group = await running(me)
    await group.do("stop")
    assert (await group.status(), await group.states()) == ("stopped", ["stopping"])
    assert (await group.show())["pending_change"]
    assert (await group.truth())["billed"]
    await me.advance(STOPPING_S)
    assert (await group.status(), await group.states()) == ("stopped", [])
    assert not (await group.truth())["billed"]
    await group.do("start")
    assert await group.status() == "deploying"
    await me.advance(BOOT_S)
    assert await group.states() == ["running"]
    deleted = await me.ask("DELETE", group.path, {})
    assert (deleted.status_code, deleted.content) == (202, b"")
    assert (await me.ask("DELETE", group.path)).status_code == 202
    assert (await me.refused("POST", f"{group.path}/start"))[0] == 404
    assert (await group.truth())["billed"]
    await me.advance(STOPPING_S)
    assert (await me.refused("GET", group.path))[0] == 404
    assert (await me.refused("DELETE", group.path))[0] == 404
    assert not (await group.truth())["billed"]
    again = await put_up(me)
    assert await again.status() == "pending", "the name is free again"


async def test_a_group_that_does_not_start_by_itself_is_stopped_and_costs_nothing(
    me: Customer,
) -> None:
    group = await put_up(me, autostart_policy=False)
    await me.advance(60)
    assert (await group.status(), await group.states()) == ("stopped", [])
    await me.json("DELETE", group.path, status=202)
    assert (await me.refused("GET", group.path))[0] == 404


async def test_a_name_is_taken_once_in_a_project(me: Customer) -> None:
    await put_up(me)
    status, body = await me.refused("POST", GROUPS, order())
    assert (status, body["status"], "already exists" in body["detail"]) == (400, 400, True)
    assert len((await me.json("GET", GROUPS))["items"]) == 1


async def test_want_of_computers_is_no_refusal_but_endless_allocating(me: Customer) -> None:
    more: Any
    for more in ({"gpu_classes": [LAPTOP]}, {"country_codes": ["aq"]}, {"gpu_classes": []}):
        group = await put_up(me, name=f"g-{len(str(more))}", **more)
        await me.advance(86_400)
        assert (await group.status(), await group.states()) == ("deploying", ["allocating"])
        assert (await group.truth())["accrued_usd"] == 0
    assert (await group.show())["priority"] == "batch", "without a GPU it is always that"


async def test_who_waits_gets_the_next_computer_that_is_free(me: Customer, you: Customer) -> None:
    first, second = await running(me, gpu_classes=[H100]), await put_up(you, gpu_classes=[H100])
    await me.advance(60)
    assert await second.states() == ["allocating"]
    await me.json("DELETE", first.path, status=202)
    await me.advance(STOPPING_S)
    assert await second.states() == ["allocating"]
    await me.advance(BOOT_S)
    assert await second.states() == ["running"]


async def test_an_interrupted_instance_is_another_one_elsewhere(me: Customer) -> None:
    group = await running(me, priority="batch")
    (before,) = await group.instances()
    truth = await group.truth()
    body = {"provider": "salad", "provider_id": truth["provider_id"]}
    await me.served.control("POST", "preempt", body)
    (after,) = await group.instances()
    assert after["state"] == "allocating"
    assert before["machine_id"] != after["machine_id"]
    assert await group.status() == "running", "it ran once"
    await me.advance(BOOT_S)
    assert await group.states() == ["running"]
    assert (await group.events())[-6:] == [
        "Instance Interrupted (Priority)", "Instance Allocated", "Instance Downloading",
        "Instance Creating", "Instance Starting", "Instance Running",
    ]  # fmt: skip
    high = await running(me, name="high")
    refused = await me.served.ask(
        "POST",
        "/_sandbox/preempt",
        {"provider": "salad", "provider_id": (await high.truth())["provider_id"]},
    )
    assert refused.status_code == 409, "nobody takes from the highest priority"


@pytest.mark.parametrize(
    ("policy", "code", "status", "event"),
    [
        ("always", 0, "running", "Instance Exited:0 (Exited Successfully)"),
        ("on_failure", 1, "running", "Instance Exited:1 (Error)"),
        ("on_failure", 0, "succeeded", "Instance Exited:0 (Exited Successfully)"),
        ("never", 0, "succeeded", "Instance Exited:0 (Exited Successfully)"),
        ("never", 137, "failed", "Instance Exited:137 (Likely Out of System Memory)"),
    ],
)
async def test_what_follows_an_exit_is_the_restart_policys(
    me: Customer, policy: str, code: int, status: str, event: str
) -> None:
    group = await running(me, restart_policy=policy)
    id_ = (await group.truth())["provider_id"]
    await me.served.sandbox.machine_exited("salad", id_, code)
    assert not (await group.truth())["billed"]
    assert await group.status() == status
    await me.advance(BOOT_S)
    assert await group.states() == (["running"] if status == "running" else [])
    assert (await group.truth())["billed"] == (status == "running")
    assert event in await group.events()


async def test_at_zero_balance_workloads_are_stopped(me: Customer) -> None:
    group = await running(me, gpu_classes=[H100])
    await me.advance(30 * 86_400)
    assert (await group.status(), await group.states()) == ("stopped", [])
    refused = [
        await me.refused("POST", f"{group.path}/start"),
        await me.refused("POST", GROUPS, order(name="another")),
    ]
    assert {(status, "credits" in body["detail"]) for status, body in refused} == {(403, True)}


async def test_the_events_tell_what_was_charged_for(me: Customer) -> None:
    group = await running(me)
    assert await group.events() == [
        "Container Group Started", "Instance Allocated", "Instance Downloading",
        "Instance Creating", "Instance Starting", "Instance Running",
    ]  # fmt: skip
    rows = (await me.json("GET", f"{group.path}/system-logs"))["items"]
    assert (rows[0]["resource_cpu"], rows[0]["resource_gpu_class"]) == (4, "RTX 4090 (24 GB)")
    (instance,) = await group.instances()
    assert rows[0]["instance_id"] == instance["id"]
    assert rows[0]["event_time"] == instance["update_time"]
    await group.do("stop")
    assert (await group.events())[-1] == "Container Group Stopped"


# --- changes ------------------------------------------------------------------------------


async def test_an_update_is_a_merge_patch(me: Customer) -> None:
    group = await running(me)
    shown = await group.patch({"display_name": "Another name", "replicas": None})
    assert (shown["display_name"], shown["version"], shown["replicas"]) == ("Another name", 1, 1)
    shown = await group.patch(
        {"container": {"environment_variables": {"A": "1"}, "priority": "low"}}
    )
    assert (shown["version"], shown["priority"]) == (2, "low")
    assert shown["container"]["environment_variables"] == {"A": "1"}
    await me.advance(BOOT_S)
    (spec,) = me.served.host.running.values()
    assert spec.env["A"] == "1"
    assert (await group.truth())["price_per_hour"] == 0.2
    assert "Container Group Updated (Version 2)" in await group.events()
    assert (await me.refused("PATCH", group.path, {"replicas": 2}))[0] == 415
    assert (await me.refused("PATCH", group.path, {"name": "b"}, headers=MERGE))[0] == 400


async def test_replicas_come_and_go_by_their_cost(me: Customer) -> None:
    group = await running(me)
    assert (await group.patch({"replicas": 3}))["replicas"] == 3
    await me.advance(BOOT_S)
    instances = await group.instances()
    assert [row["state"] for row in instances] == ["running"] * 3
    dear = f"{group.path}/instances/{instances[1]['id']}"
    assert (await me.json("PATCH", dear, {"deletion_cost": 9}, headers=MERGE))["deletion_cost"] == 9
    await group.patch({"replicas": 2})
    await me.advance(STOPPING_S)
    left = [row["id"] for row in await group.instances()]
    assert left == [instances[0]["id"], instances[1]["id"]]
    await group.patch({"replicas": 0})
    await me.advance(STOPPING_S)
    assert await group.instances() == []
    rows = await me.served.control("GET", "machines")
    assert [row["billed"] for row in rows] == [False] * 3
    await me.json("DELETE", group.path, status=202)
    assert (await me.refused("GET", group.path))[0] == 404


async def test_an_instance_is_restarted_recreated_or_reallocated(me: Customer) -> None:
    group = await running(me)
    (first,) = await group.instances()
    path = f"instances/{first['id']}"
    assert (await me.ask("GET", f"{group.path}/{path}")).status_code == 202
    for what in ("restart", "recreate"):
        await group.do(f"{path}/{what}")
        assert await group.states() == ["creating"]
        await me.advance(BOOT_S)
        (row,) = await group.instances()
        assert (row["state"], row["machine_id"]) == ("running", first["machine_id"])
    await group.do(f"{path}/reallocate")
    (row,) = await group.instances()
    assert (row["state"], row["machine_id"] != first["machine_id"]) == ("allocating", True)
    assert not (await group.truth())["billed"]
    assert (await me.refused("GET", f"{group.path}/{path}"))[0] == 404
    assert [e for e in await group.events() if e.startswith("Instance Re")] == [
        "Instance Restarted", "Instance Recreated", "Instance Reallocated by User"
    ]  # fmt: skip


# --- strictness ---------------------------------------------------------------------------


NOT_AS_DOCUMENTED: tuple[dict[str, Any], ...] = (
    {"name": "Broker"},
    {"name": "a"},
    {"shoe_size": 43},
    {"replicas": 501},
    {"replicas": "1"},
    {"restart_policy": "sometimes"},
    {"display_name": "under_score"},
    {"country_codes": ["US"]},
    {"country_codes": []},
    {"priority": "urgent"},
    {"gpu_classes": ["RTX 4090 (24 GB)"]},
    {"gpu_classes": ["00000000-0000-4000-8000-000000000000"]},
    {"gpu_classes": [H100], "priority": "low"},
    {"cpu": 17},
    {"memory": 1023},
    {"memory": 61441},
    {"storage_amount": 1 << 20},
    {"storage_amount": 251 << 30},
    {"environment_variables": {"A": ""}},
    {"environment_variables": {"A": "one\ntwo"}},
    {"environment_variables": {"A": "x" * 1001}},
    {"command": "sleep infinity"},
    {"command": ["sh", "-c", "one\ntwo"]},
    {"command": ["x" * 1001]},
    {"networking": {"protocol": "tcp", "port": 22, "auth": False}},
    {"networking": {"protocol": "http", "port": 22}},
)


async def test_a_body_that_is_not_as_documented_is_refused(me: Customer) -> None:
    taken = []
    for change in NOT_AS_DOCUMENTED:
        answer = await me.ask("POST", GROUPS, order(**change))
        if (answer.status_code, answer.json().get("title")) != (400, "Bad Request"):
            taken.append(change)
    for field in ("name", "replicas", "autostart_policy", "restart_policy", "container"):
        body = order()
        del body[field]
        if (await me.ask("POST", GROUPS, body)).status_code != 400:
            taken.append({"without": field})
    assert taken == []
    assert await me.served.control("GET", "machines") == []


async def test_a_registrys_password_is_not_repeated(me: Customer) -> None:
    body = order()
    login = {"basic": {"username": "me", "password": "hush"}}
    body["container"]["registry_authentication"] = login
    made = await me.ask("POST", GROUPS, body)
    assert made.status_code == 201
    assert "hush" not in made.text
    assert "registry_authentication" not in made.json()["container"]


# --- faults -------------------------------------------------------------------------------


async def test_faults_of_a_create_have_the_vendors_form(me: Customer) -> None:
    await me.fault("create", "no_capacity", times=1)
    starved = await put_up(me, name="starved")
    await me.fault("create", "quota", times=1)
    assert (await me.refused("POST", GROUPS, order()))[0] == 403
    await me.fault("create", "boot_failure", times=1)
    failed = await put_up(me, name="failed")
    await me.fault("create", "stuck_pending", times=1)
    stuck = await put_up(me, name="stuck")
    await me.fault("create", "price_changed", times=1)
    dear = await put_up(me, name="dear")
    await me.fault("create", "ignored_field", times=1)
    await put_up(me, name="ignored", display_name="As I like it")
    await me.fault("create", "wrong_gpu", times=1)
    wrong = await put_up(me, name="wrong")
    await me.advance(BOOT_S)
    for group in (starved, stuck):
        assert (await group.status(), await group.states()) == ("deploying", ["allocating"])
        assert (await group.truth())["billed"] is False
    shown = (await failed.show())["current_state"]
    assert (shown["status"], shown["description"][:14]) == ("failed", "Failed to pull")
    assert await failed.instances() == []
    assert (await me.refused("POST", f"{failed.path}/start"))[0] == 400
    assert (await dear.truth())["price_per_hour"] == 0.45
    assert (await Group(me, "ignored").show())["display_name"] == "ignored"
    assert (await wrong.truth())["gpu_model"] != "RTX 4090 (24 GB)"


async def test_faults_of_lists_and_ends_have_the_vendors_form(me: Customer) -> None:
    async def names() -> list[str]:
        return [row["name"] for row in (await me.json("GET", GROUPS))["items"]]

    await me.fault("create", "list_lag", times=1, delay_s=30)
    group = await running(me)
    assert await names() == []
    await me.advance(30)
    await running(me, name="second")
    await me.fault("list", "duplicate_list", times=1)
    assert await names() == ["broker-ab12", "broker-ab12", "second", "second"]
    await me.fault("list", "list_partial", times=1)
    assert await names() == ["broker-ab12"]
    await me.fault("terminate", "terminate_ignored", times=1)
    await me.json("DELETE", group.path, status=202)
    await me.advance(60)
    assert await group.states() == ["running"]
    await me.fault("get", "other_account", times=1)
    assert (await me.refused("GET", group.path))[0] == 404
    for kind, status in (("rate_limit", 429), ("server_error", 500), ("bad_credentials", 401)):
        await me.fault("get", kind, times=1)
        assert (await me.ask("GET", group.path)).status_code == status
    await me.fault("get", "not_found_for_bad_key", times=1)
    missing = await me.ask("GET", group.path)
    assert (missing.status_code, "html" in missing.text) == (404, True)


def test_every_kind_of_fault_was_thought_of() -> None:
    tried = {
        "rate_limit", "server_error", "bad_credentials", "not_found_for_bad_key", "no_capacity",
        "quota", "boot_failure", "stuck_pending", "price_changed", "ignored_field", "wrong_gpu",
        "list_lag", "duplicate_list", "list_partial", "terminate_ignored", "other_account",
    }  # fmt: skip
    of_the_connection = {"timeout", "slow", "disconnect_before", "disconnect_after", "garbage"}
    without_meaning = {"page_cursor_expired", "ssh_refused"}
    assert set(KINDS) == tried | of_the_connection | without_meaning


async def test_a_list_has_a_hundred_rows_and_no_pages(me: Customer) -> None:
    for number in range(101):
        await put_up(me, name=f"g-{number}", autostart_policy=False)
    assert len((await me.json("GET", GROUPS))["items"]) == 100
    assert (await me.refused("GET", f"{GROUPS}?page=2"))[0] == 400


# --- the gateway and the container's own processes ----------------------------------------


@asynccontextmanager
async def real(folder: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """A sandbox whose containers really run."""
    host, bound = LoopbackHost(), listening(0)
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    sandbox = create_sandbox(folder, host, mode="foreground", base_url=url, providers=("salad",))
    host.on_exit = sandbox.machine_exited
    await sandbox.start()
    listener = HttpListener(sandbox.app)
    await listener.open(bound)
    try:
        async with httpx2.AsyncClient(base_url=url, timeout=10) as client:
            yield client
    finally:
        await listener.close()
        bound.close()
        await sandbox.close()


SERVER = """
import http.server as h, os, socket
class Greeter(h.BaseHTTPRequestHandler):
 def do_POST(self):
  body = self.rfile.read(int(self.headers["content-length"])).decode()
  text = f"{os.environ['WHO']} {self.path} {body}".encode()
  self.send_response(207)
  self.send_header("X-Host", self.headers["host"])
  self.send_header("Content-Length", str(len(text)))
  self.end_headers()
  self.wfile.write(text)
both = socket.has_dualstack_ipv6()
h.HTTPServer.address_family = socket.AF_INET6 if both else socket.AF_INET
print("serving", flush=True)
h.HTTPServer(("::" if both else "", PORT), Greeter).serve_forever()
"""


def one_line(text: str) -> str:
    """A word of a command has one line, and a thousand characters at most."""
    coded = base64.b64encode(text.encode()).decode()
    return f"import base64; exec(base64.b64decode('{coded}'))"


async def test_the_gateway_leads_to_the_containers_own_process(tmp_path: Path) -> None:
    with listening(0) as probe:
        port = probe.getsockname()[1]
    mine = {"Salad-Api-Key": "my-key"}
    async with real(tmp_path / "state") as client:

        async def until(seen: Callable[[], Any], wanted: Any) -> None:
            async with asyncio.timeout(20):
                while await seen() != wanted:
                    await asyncio.sleep(0.05)

        body = order(
            command=["python3", "-c", one_line(SERVER.replace("PORT", str(port)))],
            environment_variables={"WHO": "it's me"},
            networking={"protocol": "http", "port": port, "auth": True},
        )
        made = (await client.post(ROOT + GROUPS, headers=mine, json=body)).json()
        host = {"host": made["networking"]["dns"]}

        async def through(headers: dict[str, str]) -> int:
            answer = await client.post("/salad/a/b?c=d", headers=headers | host, content=b"hello")
            return answer.status_code

        assert await through(mine) == 503, "no instance runs yet"
        await client.post("/_sandbox/clock", json={"advance_s": BOOT_S})
        await until(lambda: through(mine), 207)
        answer = await client.post("/salad/a/b?c=d", headers=mine | host, content=b"hello")
        assert answer.text == "it's me /a/b?c=d hello"
        assert answer.headers["x-host"] == host["host"]
        assert await through({}) == await through({"Salad-Api-Key": "invalid-key"}) == 401
        assert await through({"Salad-Api-Key": "your-key"}) == 403
        stranger = await client.get("/salad/", headers={"host": "no-such-name.salad.cloud"})
        assert stranger.status_code == 404
        query = {
            "start_time": "2020-01-01T00:00:00Z",
            "end_time": "2099-01-01T00:00:00Z",
            "query": 'resource.labels.container_group_name = "broker-ab12"',
        }
        told = await client.post(f"{ROOT}/log-entries", headers=mine, json=query)
        assert [row["text_log"] for row in told.json()["items"]][-1:] == ["serving"]


async def test_a_job_that_ends_by_itself_succeeds_and_costs_nothing_more(tmp_path: Path) -> None:
    mine = {"Salad-Api-Key": "my-key"}
    async with real(tmp_path / "state") as client:
        body = order(command=["sh", "-c", "exit 0"], restart_policy="never")
        await client.post(ROOT + GROUPS, headers=mine, json=body)
        await client.post("/_sandbox/clock", json={"advance_s": BOOT_S})
        async with asyncio.timeout(20):
            status = ""
            while status != "succeeded":
                shown = await client.get(f"{ROOT}{GROUPS}/broker-ab12", headers=mine)
                status = shown.json()["current_state"]["status"]
                await asyncio.sleep(0.05)
        (row,) = (await client.get("/_sandbox/machines")).json()
        assert (row["billed"], row["state"]) == (False, "stopped")
