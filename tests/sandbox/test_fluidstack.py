"""FluidStack's emulator: what it does, and what it refuses in the vendor's words."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gpubroker.sandbox.faults import KINDS

if TYPE_CHECKING:
    from tests.sandbox.customer import Customer

ROOT = "/fluidstack"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"
ORDER: dict[str, Any] = {
    "gpu_type": "RTX_A5000_24GB",
    "ssh_key": "k",
    "name": "gb-abc123",
    "region": "NORWAY",
    "operating_system_label": "ubuntu_22_04_lts_nvidia",
}
NO_INSTANCE = (404, {"message": "Instance not found"})
SOLD_OUT = {"gpu_type": "H100_SXM5_80GB", "region": "TEXAS_USA"}


class Shop:
    """One account of FluidStack, with a key."""

    def __init__(self, customer: Customer) -> None:
        self.at = customer

    async def order(self, **more: Any) -> dict[str, Any]:
        if not await self.at.json("GET", "/ssh_keys"):
            await self.at.json("POST", "/ssh_keys", {"name": "k", "public_key": PUBLIC})
        made: dict[str, Any] = await self.at.json("POST", "/instances", ORDER | more, status=202)
        assert re.fullmatch(r"i-\d{10}", made["id"])
        return made

    async def rent(self, **more: Any) -> str:
        """One that runs, and has an address."""
        made = await self.order(**more)
        await self.at.advance(9)
        return str(made["id"])

    async def show(self, id_: str, status: int = 200) -> dict[str, Any]:
        shown: dict[str, Any] = await self.at.json("GET", f"/instances/{id_}", status=status)
        return shown

    async def status(self, id_: str) -> str:
        return str((await self.show(id_))["status"])

    async def ids(self, query: str = "") -> list[str]:
        return [row["id"] for row in await self.at.json("GET", f"/instances{query}", status=200)]

    async def put(self, id_: str, verb: str, body: Any = None) -> dict[str, Any]:
        told: dict[str, Any] = await self.at.json(
            "PUT", f"/instances/{id_}/{verb}", body, status=200
        )
        return told

    async def end(self, id_: str) -> None:
        assert await self.at.json("DELETE", f"/instances/{id_}", status=200) == {"message": "ok"}

    async def refused(self, **more: Any) -> tuple[int, Any]:
        return await self.at.refused("POST", "/instances", ORDER | more)

    async def types(self) -> dict[str, dict[str, Any]]:
        rows = await self.at.json("GET", "/list_available_configurations", status=200)
        return {row["gpu_type"]: row for row in rows}

    async def truth(self, id_: str) -> dict[str, Any]:
        rows = await self.at.served.control("GET", "machines")
        found: dict[str, Any] = next(row for row in rows if row["provider_id"] == id_)
        return found


@pytest.fixture
def shop(customer: Callable[..., Customer]) -> Shop:
    return Shop(customer(ROOT, {"api-key": "mine"}))


@pytest.fixture
def other(customer: Callable[..., Customer]) -> Shop:
    return Shop(customer(ROOT, {"api-key": "yours"}))


# --- doors --------------------------------------------------------------------------------


async def test_who_has_no_good_key_is_refused(customer: Callable[..., Customer]) -> None:
    for head, text in (
        ({}, "Not authenticated"),
        ({"Authorization": "Bearer mine"}, "Not authenticated"),
        ({"api-key": "invalid-key"}, "Invalid API key"),
    ):
        for path in ("/instances", "/list_available_configurations"):
            assert await customer(ROOT, head).refused("GET", path) == (401, {"message": text})
        health = customer(ROOT, head)
        assert await health.json("GET", "/healthcheck") == {"status": "ok"}
        assert (await health.ask("HEAD", "/healthcheck")).status_code == 200


async def test_wrong_paths_and_parameters_are_refused(shop: Shop) -> None:
    for path in ("/instances/", "/v1/instances", "/regions", "/user/balance"):
        assert await shop.at.refused("GET", path) == (404, {"detail": "Not Found"})
    assert (await shop.at.refused("PUT", "/instances"))[0] == 405
    for query in ("?page=0", "?page=one", "?include_failed_instances=perhaps", "?surprise=1"):
        assert (await shop.at.refused("GET", f"/instances{query}"))[0] == 422


async def test_accounts_are_apart(shop: Shop, other: Shop) -> None:
    id_ = await shop.rent()
    assert await other.ids() == []
    assert await other.at.json("GET", "/ssh_keys") == []
    for method, path in (("GET", ""), ("DELETE", ""), ("PUT", "/stop"), ("PUT", "/start")):
        assert await other.at.refused(method, f"/instances/{id_}{path}") == NO_INSTANCE
    assert (await shop.truth(id_))["billed"]


# --- the market ---------------------------------------------------------------------------


async def test_what_is_sold_out_is_not_listed_and_prices_are_text_per_gpu(shop: Shop) -> None:
    rows = await shop.types()
    assert rows["A100_PCIE_80GB"] == {
        "gpu_type": "A100_PCIE_80GB",
        "gpu_counts": [1, 2, 4, 8],
        "price_per_gpu_hr": "1.8",
        "stopped_price_per_hour": "0.3",
        "estimated_provisioning_time_minutes": 5,
        "regions": ["CANADA", "NORTH_DAKOTA_USA", "ARIZONA_USA"],
    }
    assert "H100_SXM5_80GB" not in rows
    await shop.rent(gpu_type="H100_NVLINK_80GB", gpu_count=8, region="FINLAND")
    assert "H100_NVLINK_80GB" not in await shop.types()
    labels = await shop.at.json("GET", "/list_available_os_templates")
    assert [set(row) for row in labels] == [{"name", "description", "label"}] * 2


# --- the life of an instance --------------------------------------------------------------


async def test_an_instance_comes_up_step_by_step(shop: Shop) -> None:
    made = await shop.order(gpu_count=2)
    assert made == {
        "id": made["id"],
        "name": "gb-abc123",
        "gpu_type": "RTX_A5000_24GB",
        "operating_system_label": "ubuntu_22_04_lts_nvidia",
    }
    id_ = made["id"]
    young = await shop.show(id_, 202)
    assert (young["status"], young["ip_address"]) == ("pending", None)
    assert await shop.ids() == [id_]
    await shop.at.advance(3)
    assert (await shop.show(id_, 200))["status"] == "provisioning"
    await shop.at.advance(3)
    assert (await shop.status(id_), (await shop.show(id_))["ip_address"]) == ("running", None)
    await shop.at.advance(1)
    row, spec = await shop.show(id_), shop.at.served.host.running[id_]
    assert row == {
        "id": id_,
        "status": "running",
        "username": "ubuntu",
        "ssh_port": "22",
        "ssh_keys": ["k"],
        "ip_address": spec.address,
        "name": "gb-abc123",
        "current_gpu_hr_cost": 0.55,
        "configuration": row["configuration"],
        "created_at": row["created_at"],
        "volumes": [],
        "operating_system_label": "ubuntu_22_04_lts_nvidia",
        "user_email": None,
    }
    assert row["configuration"] == {
        "id": row["configuration"]["id"],
        "region": "NORWAY",
        "gpu_model": {"name": "RTX_A5000_24GB", "memory_size_gb": 24},
        "cpu_model": "generic",
        "gpu_count": 2,
        "cpu_count": 16,
        "nvme_storage_size_gb": 400,
        "memory_size_gb": 60.0,
        "estimated_provisioning_time_minutes": 5,
    }
    assert row["created_at"].endswith("Z")
    assert (spec.user, spec.keys, spec.docker, spec.gpu_count) == ("ubuntu", (PUBLIC,), True, 2)
    assert (await shop.truth(id_))["price_per_hour"] == 1.1


async def test_stopped_it_has_another_price_and_no_gpu(shop: Shop) -> None:
    id_ = await shop.rent(gpu_type="H100_NVLINK_80GB", gpu_count=8, region="FINLAND")
    assert (await shop.truth(id_))["billed_for"] == ["gpu"]
    await shop.at.advance(3600)
    assert (await shop.truth(id_))["accrued_usd"] == pytest.approx(23.92, rel=0.001)
    row = await shop.put(id_, "stop")
    assert (row["status"], row["current_gpu_hr_cost"]) == ("stopping", 0.5)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", row["created_at"]), "no zone"
    assert (await shop.at.refused("PUT", f"/instances/{id_}/start"))[0] == 409
    await shop.at.advance(3600)
    assert await shop.status(id_) == "stopped"
    truth = await shop.truth(id_)
    assert truth["billed_for"] == ["disk_stopped"]
    assert truth["accrued_usd"] == pytest.approx(23.92 + 8 * 0.5, rel=0.001)
    assert "H100_NVLINK_80GB" in await shop.types(), "its GPUs are free"
    assert (await shop.at.refused("PUT", f"/instances/{id_}/stop"))[0] == 409
    row = await shop.put(id_, "start")
    assert (row["status"], row["current_gpu_hr_cost"]) == ("pending", 2.99)
    await shop.show(id_, 202)
    await shop.at.advance(3)
    assert await shop.status(id_) == "starting"
    await shop.at.advance(5)
    assert await shop.status(id_) == "running"
    assert (await shop.truth(id_))["billed_for"] == ["gpu"]


async def test_a_start_needs_gpus_that_are_free(shop: Shop) -> None:
    big = {"gpu_type": "H100_NVLINK_80GB", "gpu_count": 8, "region": "FINLAND"}
    id_ = await shop.rent(**big)
    await shop.put(id_, "stop")
    await shop.at.advance(3)
    await shop.rent(**big)
    status, body = await shop.at.refused("PUT", f"/instances/{id_}/start")
    assert (status, "out of stock" in body["message"]) == (400, True)
    assert await shop.status(id_) == "stopped"
    for kind, status in (("no_capacity", 400), ("quota", 403)):
        await shop.at.fault("start", kind, times=1)
        assert (await shop.at.refused("PUT", f"/instances/{id_}/start"))[0] == status


async def test_terminated_it_is_told_for_a_while(shop: Shop) -> None:
    id_ = await shop.rent()
    await shop.end(id_)
    assert not (await shop.truth(id_))["billed"]
    row = await shop.show(id_)
    assert (row["status"], row["ip_address"], row["current_gpu_hr_cost"]) == ("terminated", None, 0)
    again = await shop.at.refused("DELETE", f"/instances/{id_}")
    assert again == (400, {"message": "Machine is already terminated"})
    assert await shop.ids() == [id_]
    await shop.at.advance(60)
    assert await shop.ids() == []
    assert await shop.status(id_) == "terminated"
    await shop.at.advance(3600)
    for method in ("GET", "DELETE"):
        assert await shop.at.refused(method, f"/instances/{id_}") == NO_INSTANCE


async def test_a_young_one_and_a_stopped_one_can_be_terminated(shop: Shop) -> None:
    young = (await shop.order())["id"]
    stopped = await shop.rent()
    await shop.put(stopped, "stop")
    for id_ in (young, stopped):
        await shop.end(id_)
        assert not (await shop.truth(id_))["billed"]


async def test_it_can_be_renamed_and_names_are_not_unique(shop: Shop) -> None:
    first, second = await shop.rent(), await shop.rent()
    assert [row["name"] for row in await shop.at.json("GET", "/instances")] == ["gb-abc123"] * 2
    row = await shop.put(first, "rename", {"new_instance_name": "newer"})
    assert row["name"] == (await shop.show(first))["name"] == "newer"
    assert (await shop.at.refused("PUT", f"/instances/{second}/rename", {"name": "x"}))[0] == 422


async def test_without_name_region_and_count_the_vendor_picks(shop: Shop) -> None:
    await shop.order()
    body = {"gpu_type": "A100_PCIE_80GB", "ssh_key": "k"}
    made = await shop.at.json("POST", "/instances", body, status=202)
    assert (made["name"], made["operating_system_label"]) != ("", "ubuntu_20_04_lts_nvidia")
    row = await shop.show(made["id"], 202)
    assert (row["name"], row["operating_system_label"]) == (made["name"], "ubuntu_20_04_lts_nvidia")
    assert (row["configuration"]["region"], row["configuration"]["gpu_count"]) == ("CANADA", 1)


async def test_the_list_has_pages_that_do_not_tell_of_more(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpubroker.sandbox.emulators.fluidstack.instances.PAGE", 2)
    made = [(await shop.order())["id"] for _ in range(3)]
    assert await shop.ids() == await shop.ids("?page=1") == made[:2]
    assert await shop.ids("?page=2&include_failed_instances=true") == made[2:]
    assert await shop.ids("?page=3") == []


async def test_what_failed_is_listed_on_request_alone(shop: Shop) -> None:
    await shop.at.fault("create", "boot_failure", times=1)
    failed, running = await shop.rent(), await shop.rent()
    assert await shop.ids() == [running]
    assert await shop.ids("?include_failed_instances=true") == [failed, running]
    assert await shop.status(failed) == "failed"
    assert not (await shop.truth(failed))["billed"]
    await shop.end(failed)


# --- keys ---------------------------------------------------------------------------------


async def test_keys_are_known_by_their_names(shop: Shop) -> None:
    key = {"name": "k", "public_key": PUBLIC}
    assert await shop.at.json("POST", "/ssh_keys", key, status=200) == key
    assert (await shop.at.refused("POST", "/ssh_keys", key))[0] == 409
    await shop.at.json("POST", "/ssh_keys", key | {"name": "same"})
    assert len(await shop.at.json("GET", "/ssh_keys?show_all=true")) == 2
    for text in ("no key", "", f"{PUBLIC}\n{PUBLIC}", "ssh-none AAAA"):
        status, body = await shop.at.refused("POST", "/ssh_keys", {"name": "b", "public_key": text})
        assert (status, body["detail"][0]["loc"]) == (422, ["body", "public_key"])
    assert await shop.at.json("DELETE", "/ssh_keys/k", status=200) == {"message": "ok"}
    gone = await shop.at.refused("DELETE", "/ssh_keys/k")
    assert gone == (404, {"message": "SSH key not found"})
    assert [(row["kind"], row["name"], row["state"]) for row in await shop.at.resources()] == [
        ("ssh_key", "k", "deleted"),
        ("ssh_key", "same", "active"),
    ]


# --- what a create refuses ----------------------------------------------------------------

VOLUME = {
    "id": {"value": "6f8a2f2e-3f8a-4d0e-9a52-0d4c1f2b3a4d", "prefix": "v"},
    "name": "data",
    "size_gb": 10,
    "cost_gb_hr": "0.0001",
    "created_at": None,
    "updated_at": None,
}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"surprise": 1}, ["body", "surprise"]),
        ({"gpu_type": "H100"}, ["body", "gpu_type"]),
        ({"gpu_count": 3}, ["body", "gpu_count"]),
        ({"gpu_count": "1"}, ["body", "gpu_count"]),
        ({"gpu_count": 0}, ["body", "gpu_count"]),
        ({"ssh_key": "none"}, ["body", "ssh_key"]),
        ({"ssh_key": ["k"]}, ["body", "ssh_key"]),
        ({"name": ""}, ["body", "name"]),
        ({"region": "ATLANTIS"}, ["body", "region"]),
        ({"operating_system_label": "debian"}, ["body", "operating_system_label"]),
        ({"volumes": [VOLUME]}, ["body", "volumes", 0, "id"]),
        ({"volumes": [{"id": "v"}]}, ["body", "volumes", 0, "id"]),
    ],
)
async def test_an_invalid_order_is_a_422_that_names_the_field(
    shop: Shop, change: dict[str, Any], place: list[Any]
) -> None:
    await shop.at.json("POST", "/ssh_keys", {"name": "k", "public_key": PUBLIC})
    status, body = await shop.refused(**change)
    assert (status, [row["loc"] for row in body["detail"]]) == (422, [place])
    assert await shop.at.served.control("GET", "machines") == []


async def test_no_body_no_json_and_a_missing_field_are_422s(shop: Shop) -> None:
    for more, kind in (
        ({}, "missing"),
        ({"content": b"{"}, "json_invalid"),
        ({"json": {"ssh_key": "k"}}, "missing"),
    ):
        status, body = await shop.at.refused("POST", "/instances", **more)
        assert (status, body["detail"][0]["type"]) == (422, kind)


async def test_what_is_sold_out_or_not_paid_is_refused_and_makes_nothing(shop: Shop) -> None:
    await shop.at.json("POST", "/ssh_keys", {"name": "k", "public_key": PUBLIC})
    for more in (
        SOLD_OUT,
        {"gpu_type": "L4_24GB", "region": "CANADA"},
        {"region": "GERMANY"},
    ):
        status, body = await shop.refused(**more)
        assert (status, "out of stock" in body["message"]) == (400, True)
    await shop.at.fault("create", "no_capacity", times=1)
    assert (await shop.refused())[0] == 400
    await shop.at.fault("create", "quota", times=1)
    assert (await shop.refused())[0] == 403
    assert await shop.at.served.control("GET", "machines") == []


async def test_without_money_instances_are_terminated(shop: Shop) -> None:
    id_ = await shop.rent(gpu_type="A100_PCIE_80GB", gpu_count=8, region="CANADA")
    await shop.at.advance(7000 * 3600)
    assert await shop.status(id_) == "terminated"
    status, body = await shop.refused()
    assert (status, "balance" in body["message"]) == (402, True)


# --- faults -------------------------------------------------------------------------------

ANSWERED = {
    "rate_limit": (429, {"message": "Too many requests"}),
    "server_error": (500, {"message": "Internal server error"}),
    "bad_credentials": (401, {"message": "Invalid API key"}),
    "not_found_for_bad_key": (404, {"detail": "Not Found"}),
}


@pytest.mark.parametrize("kind", ANSWERED)
async def test_a_fault_of_the_whole_call_has_the_vendors_form(shop: Shop, kind: str) -> None:
    await shop.at.fault("list", kind, times=1)
    assert await shop.at.refused("GET", "/instances") == ANSWERED[kind]
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
    assert await shop.status(late) == "running"
    await shop.at.advance(60)
    assert await shop.ids() == [first, second, late]
    await shop.at.fault("list", "page_cursor_expired", times=1)
    assert len(await shop.ids("?page=1")) == 3, "a page's number cannot expire"
    await shop.at.fault("offers", "no_capacity", times=1)
    assert await shop.types() == {}
    await shop.at.fault("offers", "duplicate_list", times=1)
    rows = await shop.at.json("GET", "/list_available_configurations")
    assert rows[0] == rows[1]


async def test_faults_that_a_machine_is_born_with(shop: Shop) -> None:
    for kind in ("wrong_gpu", "price_changed", "ignored_field", "ssh_refused"):
        await shop.at.fault("create", kind, times=1)
    id_ = await shop.rent()
    row, spec = await shop.show(id_), shop.at.served.host.running[id_]
    assert (row["configuration"]["gpu_model"]["name"], row["name"]) == ("RTX_A4000_16GB", None)
    assert row["ip_address"] != spec.address, "nothing listens there"
    assert row["current_gpu_hr_cost"] == pytest.approx(0.55 * 1.5)


async def test_a_boot_may_never_come(shop: Shop) -> None:
    await shop.at.fault("create", "stuck_pending", times=1)
    stuck = await shop.rent()
    await shop.at.advance(3600)
    assert await shop.status(stuck) == "provisioning"


async def test_an_ignored_end_goes_on_to_cost(shop: Shop) -> None:
    id_ = await shop.rent()
    await shop.at.fault("terminate", "terminate_ignored", times=1)
    await shop.end(id_)
    assert await shop.status(id_) == "running"
    assert (await shop.truth(id_))["billed"]
    await shop.end(id_)
    assert not (await shop.truth(id_))["billed"]


async def test_one_that_switches_itself_off_goes_on_to_cost(shop: Shop) -> None:
    id_ = await shop.rent()
    await shop.at.cloud.end_from_inside(shop.at.cloud.machines[id_], "power off")
    assert await shop.status(id_) == "running"
    assert (await shop.truth(id_))["billed"]
    await shop.put(id_, "stop")
    assert (await shop.truth(id_))["billed_for"] == ["disk_stopped"]


def test_every_kind_of_fault_is_tried_here() -> None:
    text = Path(__file__).read_text()
    general = {"timeout", "slow", "disconnect_before", "disconnect_after", "garbage"}
    assert [kind for kind in KINDS if f'"{kind}"' not in text and kind not in general] == []
