"""Lyceum's emulator: what it does, and what it refuses in the vendor's words."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gpubroker.sandbox.faults import KINDS

if TYPE_CHECKING:
    from tests.sandbox.customer import Customer

ROOT = "/lyceum/api/v2/external"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"
ORDER: dict[str, Any] = {
    "user_public_key": PUBLIC,
    "hardware_profile": "a100",
    "instance_type": "on-demand",
    "instance_specs": {"gpu_count": 1},
    "display_name": "gb-abc123",
}
NO_VM = (404, {"detail": "VM not found"})


class Shop:
    """One organisation of Lyceum."""

    def __init__(self, customer: Customer) -> None:
        self.at = customer

    async def order(self, **more: Any) -> dict[str, Any]:
        made: dict[str, Any] = await self.at.json("POST", "/vms/create", ORDER | more, status=200)
        assert re.fullmatch("vm-[0-9a-f]{12}", made["vm_id"])
        return made

    async def rent(self, **more: Any) -> str:
        """A VM that is ready."""
        made = await self.order(**more)
        await self.at.advance(9)
        return str(made["vm_id"])

    async def show(self, id_: str) -> dict[str, Any]:
        shown: dict[str, Any] = await self.at.json("GET", f"/vms/{id_}/status", status=200)
        return shown

    async def status(self, id_: str) -> str:
        return str((await self.show(id_))["status"])

    async def ids(self, query: str = "") -> list[str]:
        listed = await self.at.json("GET", f"/vms/list{query}", status=200)
        assert listed["total"] == len(listed["vms"])
        return [row["vm_id"] for row in listed["vms"]]

    async def end(self, id_: str) -> Any:
        return await self.at.json("DELETE", f"/vms/{id_}", status=200)

    async def volumes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.at.json("GET", "/storage/block"))["volumes"]
        return found

    async def variants(self) -> dict[tuple[str, str], dict[str, Any]]:
        rows = (await self.at.json("GET", "/vms/availability"))["available_instance_variants"]
        return {(row["hardware_profile"], row["instance_type"]): row for row in rows}

    async def refused(self, **more: Any) -> tuple[int, Any]:
        return await self.at.refused("POST", "/vms/create", ORDER | more)

    async def slug(self) -> str:
        return str((await self.at.json("GET", "/user/org"))["slug"])

    async def sums(self, group_by: str = "vm_id") -> list[dict[str, Any]]:
        path = f"/orgs/{await self.slug()}/transactions/aggregate"
        answer = await self.at.json("GET", f"{path}?category=vms&group_by={group_by}")
        rows: list[dict[str, Any]] = answer["aggregates"]
        return rows

    async def truth(self, id_: str) -> dict[str, Any]:
        rows = await self.at.served.control("GET", "machines")
        found: dict[str, Any] = next(row for row in rows if row["provider_id"] == id_)
        return found

    async def billed(self) -> list[bool]:
        return [row["billed"] for row in await self.at.served.control("GET", "resources")]


@pytest.fixture
def shop(customer: Callable[..., Customer]) -> Shop:
    return Shop(customer(ROOT, {"Authorization": "Bearer lk_mine"}))


@pytest.fixture
def other(customer: Callable[..., Customer]) -> Shop:
    return Shop(customer(ROOT, {"Authorization": "Bearer lk_yours"}))


# --- doors --------------------------------------------------------------------------------


async def test_who_has_no_good_token_is_refused(customer: Callable[..., Customer]) -> None:
    for head, text in (
        ({}, "Not authenticated"),
        ({"Authorization": "lk_mine"}, "Not authenticated"),
        ({"Authorization": "Bearer lk_invalid-key"}, "Invalid or expired token"),
    ):
        assert await customer(ROOT, head).refused("GET", "/vms/list") == (401, {"detail": text})


async def test_wrong_paths_and_parameters_are_refused(shop: Shop) -> None:
    for path in ("/vms/list/", "/vms", "/auth/api-keys", "/nothing"):
        assert await shop.at.refused("GET", path) == (404, {"detail": "Not Found"})
    assert (await shop.at.refused("POST", "/vms/list"))[0] == 405
    for query in ("?page=1", "?include_ready=perhaps"):
        assert (await shop.at.refused("GET", f"/vms/list{query}"))[0] == 422


async def test_a_key_is_of_one_organisation(shop: Shop, other: Shop) -> None:
    org = await shop.at.json("GET", "/user/org")
    assert set(org) == {"org_id", "slug", "name", "is_personal", "is_key_scoped"}
    assert org["is_key_scoped"]
    (listed,) = await shop.at.json("GET", "/orgs")
    assert (listed["id"], listed["slug"]) == (org["org_id"], org["slug"])
    assert (await other.at.json("GET", "/user/org"))["org_id"] != org["org_id"]
    id_ = await shop.rent()
    theirs = {"X-Org-Slug": org["slug"]}
    assert (await other.at.json("GET", "/vms/list", headers=theirs))["vms"] == []
    assert await other.at.refused("GET", f"/vms/{id_}/status", headers=theirs) == NO_VM
    assert await other.at.refused("DELETE", f"/vms/{id_}") == NO_VM
    assert (await other.at.refused("GET", f"/orgs/{org['slug']}/balance"))[0] == 403
    assert (await shop.truth(id_))["billed"]


# --- the market ---------------------------------------------------------------------------


async def test_what_is_sold_out_is_not_listed_and_prices_are_per_gpu(shop: Shop) -> None:
    rows = await shop.variants()
    assert rows["a100", "on-demand"] == {
        "hardware_profile": "a100",
        "instance_type": "on-demand",
        "price_per_hour": 1.39,
        "available_gpus_per_instance": [1, 2, 4, 8],
        "block_storage_gpu_counts": [1, 2],
    }
    assert rows["h100", "spot"]["available_gpus_per_instance"] == [1, 8]
    assert "block_storage_gpu_counts" not in rows["h100", "spot"]
    assert rows["h100", "on-demand"]["block_storage_gpu_counts"] == []
    assert not any(profile == "b200" for profile, _ in rows)
    await shop.rent(hardware_profile="h200", instance_specs={"gpu_count": 8})
    assert ("h200", "on-demand") not in await shop.variants()


async def test_the_price_list_is_of_whole_vms_and_not_complete(shop: Shop) -> None:
    prices = (await shop.at.json("GET", "/pricing"))["prices"]
    hourly = {
        row["group_by"]["hardware_profile"]: row["unit_price_per_hour"]
        for row in prices
        if row["meter_slug"] == "vm_running"
    }
    assert hourly["on-demand.a100.2x"] == 2.78
    assert hourly["on-demand.h100.8x"] == 17.9, "less than eight times one"
    assert not any("rtx6000pro" in meter for meter in hourly)
    assert {type(row["unit_price"]) for row in prices} == {float, str}
    runs = (await shop.at.json("GET", "/machine-types"))["machine_types"]
    names = (await shop.at.json("GET", "/user/quotas/available-hardware"))[
        "available_hardware_profiles"
    ]
    assert [row["hardware_profile"] for row in runs] == names
    assert "gpu.l40s" in names
    assert await shop.at.json("GET", "/workloads/list") == []
    assert await shop.at.json("GET", "/auth/api-keys/") == []


# --- the life of a VM ---------------------------------------------------------------------


async def test_a_vm_comes_up_step_by_step(shop: Shop) -> None:
    made = await shop.order(instance_specs={"gpu_count": 2})
    id_ = made["vm_id"]
    assert (made["status"], made["ip_address"], made["croesus_billed"]) == ("pending", None, None)
    assert made["instance_specs"] == {"gpu_count": 2}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made["created_at"])
    assert made["display_name"] == "gb-abc123"
    assert made["name"].startswith("lyceum-")
    assert await shop.ids() == [id_]
    await shop.at.advance(3)
    assert await shop.status(id_) == "provisioning"
    await shop.at.advance(3)
    young = await shop.show(id_)
    assert (young["status"], young["ip_address"]) == ("running", None)
    await shop.at.advance(1)
    port = shop.at.cloud.machines[id_].ssh_port
    assert (await shop.show(id_))["ip_address"] == f"127.0.0.1:{port}"
    await shop.at.advance(3600)
    row, spec = await shop.show(id_), shop.at.served.host.running[id_]
    assert (row["status"], row["uptime_seconds"]) == ("ready", 3601)
    assert row["croesus_billed"] == pytest.approx(2.78, rel=0.001)
    assert row["billed"] is None
    assert (spec.user, spec.keys, spec.docker, spec.gpu_count) == ("lyceum", (PUBLIC,), True, 2)


async def test_terminated_it_stays_in_the_list_unless_that_is_said(shop: Shop) -> None:
    id_ = await shop.rent()
    ended = await shop.end(id_)
    assert ended == {"message": f"VM {id_} terminated", "detached_volumes": []}
    assert not (await shop.truth(id_))["billed"]
    assert await shop.status(id_) == "terminated"
    charged = (await shop.show(id_))["croesus_billed"]
    await shop.at.advance(86_400)
    assert (await shop.show(id_))["croesus_billed"] == charged > 0
    assert await shop.ids() == [id_]
    assert await shop.ids("?include_terminated=false") == []
    assert await shop.at.refused("DELETE", f"/vms/{id_}") == NO_VM
    assert await shop.at.refused("DELETE", "/vms/vm-000000000000") == NO_VM
    assert (await shop.at.refused("POST", f"/vms/{id_}/start"))[0] == 404, "nothing restarts"


async def test_the_list_can_be_filtered_by_state(shop: Shop) -> None:
    ready, failed = await shop.rent(), ""
    await shop.at.fault("create", "boot_failure", times=1)
    failed = await shop.rent()
    young = (await shop.order())["vm_id"]
    groups = {"provisioning": young, "ready": ready, "failed": failed}
    for group, id_ in groups.items():
        wanted = "&".join(f"include_{name}={str(name == group).lower()}" for name in groups)
        assert await shop.ids(f"?{wanted}") == [id_]


async def test_a_name_can_be_changed_and_cleared(shop: Shop) -> None:
    id_ = await shop.rent()
    for name, shown in (("new", "new"), ("", None)):
        row = await shop.at.json("PATCH", f"/vms/{id_}", {"display_name": name}, status=200)
        assert row["display_name"] == (await shop.show(id_))["display_name"] == shown
    assert (await shop.at.refused("PATCH", f"/vms/{id_}", {"name": "x"}))[0] == 422
    unnamed = {name: value for name, value in ORDER.items() if name != "display_name"}
    made = await shop.at.json("POST", "/vms/create", unnamed, status=200)
    assert made["display_name"] is None


async def test_spot_that_is_taken_away_is_just_terminated(shop: Shop) -> None:
    id_ = await shop.rent(hardware_profile="h100", instance_type="spot")
    assert (await shop.show(id_))["instance_type"] == "spot"
    assert (await shop.truth(id_))["price_per_hour"] == 1.65
    await shop.at.advance(30 * 86_400)
    assert await shop.status(id_) == "ready", "no bid that could lose"
    taken = {"provider": "lyceum", "provider_id": id_}
    await shop.at.served.control("POST", "preempt", taken)
    assert await shop.status(id_) == "terminated"
    assert not (await shop.truth(id_))["billed"]
    await shop.at.advance(86_400)
    assert await shop.status(id_) == "terminated"
    assert (await shop.variants())["h100", "spot"]["available_gpus_per_instance"] == [1, 8]


# --- block storage ------------------------------------------------------------------------


async def test_a_volume_is_made_with_a_vm_and_outlives_it(shop: Shop) -> None:
    made = await shop.order(new_volume={"size_gb": 100})
    assert (made["volume"]["size_gb"], made["volume"]["status"]) == (100, "pending")
    await shop.at.advance(9)
    id_ = made["vm_id"]
    (volume,) = await shop.volumes()
    assert (volume["attached_vm_id"], volume["status"], volume["location"]) == (
        id_,
        "attached",
        "fi-hel",
    )
    path = f"/storage/block/{volume['volume_id']}"
    assert (await shop.at.refused("DELETE", path))[0] == 409
    (attached,) = (await shop.show(id_))["volumes"]
    assert (await shop.end(id_))["detached_volumes"] == [attached]
    (left,) = await shop.volumes()
    assert (left["status"], left["attached_vm_id"]) == ("available", None)
    assert await shop.billed() == [True]
    assert await shop.at.json("DELETE", path, status=200) == {"message": "Volume deleted"}
    assert await shop.billed() == [False]
    assert await shop.at.refused("DELETE", path) == (404, {"detail": "Volume not found"})


async def test_volumes_decide_where_a_vm_goes_and_can_be_copied(shop: Shop) -> None:
    first = await shop.rent(new_volume={"size_gb": 50})
    (volume,) = await shop.volumes()
    mine = {"volume_ids": [volume["volume_id"]]}
    assert (await shop.refused(**mine))[0] == 409, "another VM has it"
    await shop.end(first)
    again = await shop.order(**mine)
    assert "volume_migration_in_progress" not in again
    await shop.end(again["vm_id"])
    far = mine | {"hardware_profile": "l40s"}
    assert (await shop.refused(**far, volume_migration_allowed=False))[0] == 503
    moved = await shop.order(**far)
    assert moved["volume_migration_in_progress"]
    assert moved["volume_notice"]
    await shop.at.advance(3600)
    assert await shop.status(moved["vm_id"]) == "provisioning"
    await shop.at.advance(3700)
    assert await shop.status(moved["vm_id"]) == "ready"
    assert (await shop.volumes())[0]["location"] == "de-fra"
    assert (await shop.refused(**mine, new_volume={"size_gb": 1}))[0] == 422
    assert (await shop.refused(volume_ids=["vol-none"]))[0] == 404
    no_storage = {"hardware_profile": "h100", "new_volume": {"size_gb": 1}}
    assert (await shop.refused(**no_storage))[0] == 503


async def test_a_volume_of_a_vm_that_was_taken_away_is_free_again(shop: Shop) -> None:
    id_ = await shop.rent(new_volume={"size_gb": 50})
    machine = shop.at.cloud.machines[id_]
    await shop.at.cloud.terminate(machine)
    assert [row["status"] for row in await shop.volumes()] == ["available"]


# --- what a create refuses ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"surprise": 1}, ["body", "surprise"]),
        ({"user_public_key": ""}, ["body", "user_public_key"]),
        ({"user_public_key": "no key"}, ["body", "user_public_key"]),
        ({"user_public_key": f"{PUBLIC}\n{PUBLIC}"}, ["body", "user_public_key"]),
        ({"hardware_profile": "gpu.a100"}, ["body", "hardware_profile"]),
        ({"hardware_profile": "l40s", "instance_type": "spot"}, ["body", "hardware_profile"]),
        ({"instance_type": "reserved"}, ["body", "instance_type"]),
        ({"instance_specs": {"gpu_count": 3}}, ["body", "instance_specs", "gpu_count"]),
        ({"instance_specs": {"gpu_count": "1"}}, ["body", "instance_specs", "gpu_count"]),
        ({"instance_specs": {"disk": 50}}, ["body", "instance_specs", "disk"]),
        ({"new_volume": {"size_gb": 0}}, ["body", "new_volume", "size_gb"]),
        ({"display_name": 7}, ["body", "display_name"]),
    ],
)
async def test_an_invalid_order_is_a_422_that_names_the_field(
    shop: Shop, change: dict[str, Any], place: list[str]
) -> None:
    status, body = await shop.refused(**change)
    assert (status, [row["loc"] for row in body["detail"]]) == (422, [place])
    assert await shop.at.served.control("GET", "machines") == []


async def test_no_body_no_json_and_a_missing_field_are_422s(shop: Shop) -> None:
    for more, kind in (
        ({}, "missing"),
        ({"content": b"{"}, "json_invalid"),
        ({"json": {"hardware_profile": "a100"}}, "missing"),
    ):
        status, body = await shop.at.refused("POST", "/vms/create", **more)
        assert (status, body["detail"][0]["type"]) == (422, kind)


async def test_what_is_sold_out_or_not_paid_is_refused_and_makes_nothing(shop: Shop) -> None:
    status, body = await shop.refused(hardware_profile="b200")
    assert (status, "capacity" in body["detail"]) == (503, True)
    await shop.at.fault("create", "no_capacity", times=1)
    assert (await shop.refused())[0] == 503
    await shop.at.fault("create", "quota", times=1)
    status, body = await shop.refused()
    assert (status, "credits" in body["detail"]) == (402, True)
    assert await shop.at.served.control("GET", "machines") == []


# --- money --------------------------------------------------------------------------------


async def test_the_ledger_sums_up_to_what_each_vm_says(shop: Shop) -> None:
    first = await shop.rent(new_volume={"size_gb": 730})
    second = await shop.rent(hardware_profile="h100", instance_type="spot")
    await shop.at.advance(9000)
    running = {row["group_by_value"]: row for row in await shop.sums()}
    assert running[first]["count"] == 2, "the hour that is not over is not debited yet"
    await shop.end(first)
    await shop.end(second)
    rows = {row["group_by_value"]: row for row in await shop.sums()}
    assert set(rows[first]) == {
        "group_by_value",
        "count",
        "total_amount",
        "first_created_at",
        "last_created_at",
    }
    for id_ in (first, second):
        assert rows[id_]["count"] == 3
        told = (await shop.show(id_))["croesus_billed"]
        assert float(rows[id_]["total_amount"]) == pytest.approx(told, abs=1e-6)
    by_profile = {row["group_by_value"] for row in await shop.sums("hardware_profile")}
    assert by_profile == {"a100", "h100"}
    path = f"/orgs/{await shop.slug()}/transactions"
    debits = (await shop.at.json("GET", f"{path}?kind=debit&limit=100"))["transactions"]
    assert [row["created_at"] for row in debits] == sorted(
        (row["created_at"] for row in debits), reverse=True
    )
    assert len({row["id"] for row in debits}) == len(debits)
    volume = (await shop.at.json("GET", f"{path}?source=block_storage"))["transactions"]
    assert {row["amount"] for row in volume} == {"0.100000000"}
    pages = [
        (await shop.at.json("GET", f"{path}?limit=2&offset={n}"))["transactions"] for n in (0, 2)
    ]
    everything = (await shop.at.json("GET", path))["transactions"]
    assert pages[0] + pages[1] == everything[:4]
    assert everything[-1]["kind"] == "credit"
    assert (await shop.at.refused("GET", f"{path}/aggregate?category=vms"))[0] == 422


async def test_credits_and_balance_go_down(shop: Shop) -> None:
    await shop.rent(hardware_profile="h100", instance_specs={"gpu_count": 8})
    await shop.at.advance(3600)
    credit = await shop.at.json("GET", "/billing/credits")
    assert credit["used_credits"] == pytest.approx(17.9, rel=0.01)
    balance = await shop.at.json("GET", f"/orgs/{await shop.slug()}/balance")
    assert isinstance(balance["balance"], str)
    assert float(balance["balance"]) == pytest.approx(credit["remaining_credits"], abs=1e-3)
    assert await shop.at.json("GET", "/billing/history?limit=5") == {"executions": []}
    assert len((await shop.at.json("GET", "/billing/activities"))["activities"]) == 1
    assert (await shop.at.refused("GET", "/billing/history?limit=0"))[0] == 422


async def test_without_credits_vms_are_terminated(shop: Shop) -> None:
    id_ = await shop.rent(hardware_profile="h200", instance_specs={"gpu_count": 8})
    await shop.at.advance(4000 * 3600)
    assert await shop.status(id_) == "terminated"
    assert (await shop.refused())[0] == 402
    balance = await shop.at.json("GET", f"/orgs/{await shop.slug()}/balance")
    assert balance["account_suspended"]


# --- faults -------------------------------------------------------------------------------

ANSWERED = {
    "rate_limit": (429, {"detail": "Too Many Requests"}),
    "server_error": (500, {"detail": "Internal server error"}),
    "bad_credentials": (401, {"detail": "Invalid or expired token"}),
    "not_found_for_bad_key": (404, {"detail": "Not Found"}),
}


@pytest.mark.parametrize("kind", ANSWERED)
async def test_a_fault_of_the_whole_call_has_the_vendors_form(shop: Shop, kind: str) -> None:
    await shop.at.fault("list", kind, times=1)
    assert await shop.at.refused("GET", "/vms/list") == ANSWERED[kind]
    assert await shop.ids() == []


async def test_faults_of_lists(shop: Shop) -> None:
    first, second = await shop.rent(), await shop.rent()
    await shop.at.fault("list", "duplicate_list", times=1)
    assert await shop.ids() == [first, first, second, second]
    await shop.at.fault("list", "list_partial", times=1)
    assert await shop.ids() == [first]
    await shop.at.fault("list", "other_account", times=1)
    assert await shop.ids() == []
    await shop.at.fault("create", "list_lag", delay_s=60, times=1)
    late = await shop.rent()
    assert await shop.ids() == [first, second]
    assert await shop.status(late) == "ready"
    await shop.at.advance(60)
    assert await shop.ids() == [first, second, late]
    await shop.at.fault("offers", "no_capacity", times=1)
    assert await shop.variants() == {}
    await shop.at.fault("offers", "duplicate_list", times=1)
    answer = await shop.at.json("GET", "/vms/availability")
    rows = answer["available_instance_variants"]
    assert rows[0] == rows[1]
    await shop.at.fault("list", "page_cursor_expired", times=1)
    assert len(await shop.ids()) == 3, "there are no pages that could expire"


async def test_faults_that_a_machine_is_born_with(shop: Shop) -> None:
    for kind in ("wrong_gpu", "price_changed", "ignored_field", "ssh_refused"):
        await shop.at.fault("create", kind, times=1)
    row = await shop.show(await shop.rent())
    assert (row["hardware_profile"], row["display_name"]) == ("h100", None)
    assert row["ip_address"].endswith(":1"), "nothing listens there"
    assert (await shop.truth(row["vm_id"]))["price_per_hour"] == pytest.approx(1.39 * 1.5)


async def test_a_boot_can_fail_and_never_come(shop: Shop) -> None:
    await shop.at.fault("create", "boot_failure", times=1)
    assert await shop.status(await shop.rent()) == "failed"
    await shop.at.fault("create", "stuck_pending", times=1)
    stuck = await shop.rent()
    await shop.at.advance(3600)
    assert await shop.status(stuck) == "provisioning"


async def test_an_ignored_end_goes_on_to_cost(shop: Shop) -> None:
    id_ = await shop.rent()
    await shop.at.fault("terminate", "terminate_ignored", times=1)
    assert (await shop.end(id_))["message"]
    assert await shop.status(id_) == "ready"
    assert (await shop.truth(id_))["billed"]
    await shop.end(id_)
    assert not (await shop.truth(id_))["billed"]


def test_every_kind_of_fault_is_tried_here() -> None:
    text = Path(__file__).read_text()
    general = {"timeout", "slow", "disconnect_before", "disconnect_after", "garbage"}
    assert [kind for kind in KINDS if f'"{kind}"' not in text and kind not in general] == []
