"""Hyperstack's emulator: what it does, and what it refuses in the vendor's words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from gpubroker.sandbox.faults import KINDS
from gpubroker.sandbox.processes import own_address

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served
    from tests.sandbox.customer import Customer

ROOT = "/hyperstack/v1"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"
HOME = "default-CANADA-1"
VMS = "/core/virtual-machines"
SSH = {
    "direction": "ingress",
    "ethertype": "IPv4",
    "protocol": "tcp",
    "remote_ip_prefix": "0.0.0.0/0",
    "port_range_min": 22,
    "port_range_max": 22,
}
ORDER: dict[str, Any] = {
    "name": "gb-abc123",
    "environment_name": HOME,
    "image_name": "Ubuntu Server 22.04 LTS R535 CUDA 12.2 with Docker",
    "flavor_name": "n3-H100x1",
    "key_name": "k",
    "count": 1,
    "assign_floating_ip": True,
    "enable_port_randomization": False,
    "security_rules": [SSH],
}
SPOT = {"flavor_name": "n3-A100x1-spot"}
BAD, MISSING = (400, "bad_request"), (404, "not_found")


class Renter:
    """One account of Hyperstack with a key pair."""

    def __init__(self, customer: Customer) -> None:
        self.http, self.served = customer, customer.served
        self.json, self.fault = customer.json, customer.fault
        self.advance, self.resources = customer.advance, customer.resources

    async def ready(self) -> Renter:
        key = {"name": "k", "environment_name": HOME, "public_key": PUBLIC}
        await self.json("POST", "/core/keypairs", key)
        return self

    async def refused(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """(status, reason); the form of the refusal is the vendor's."""
        status, told = await self.http.refused(method, path, body, **more)
        assert set(told) == {"status", "message", "error_reason"}
        assert told["status"] is False
        return status, told["error_reason"]

    async def words(self, method: str, path: str, body: Any = None) -> str:
        return str((await self.http.refused(method, path, body))[1]["message"])

    async def make(self, **more: Any) -> int:
        answer = await self.json("POST", VMS, {**ORDER, **more}, status=200)
        return int(answer["instances"][0]["id"])

    async def rent(self, **more: Any) -> int:
        id_ = await self.make(**more)
        await self.advance(10)
        return id_

    async def show(self, id_: int) -> dict[str, Any]:
        found: dict[str, Any] = (await self.json("GET", f"{VMS}/{id_}"))["instance"]
        return found

    async def status(self, id_: int) -> str:
        return str((await self.show(id_))["status"])

    async def act(self, id_: int, action: str, then: float = 10) -> str:
        """Of the state that it is in after a while."""
        await self.json("GET", f"{VMS}/{id_}/{action}", status=200)
        await self.advance(then)
        return await self.status(id_)

    async def ids(self, query: str = "") -> list[int]:
        return [row["id"] for row in (await self.json("GET", f"{VMS}{query}"))["instances"]]

    async def truth(self, id_: int) -> dict[str, Any]:
        rows = await self.served.control("GET", "machines")
        found: dict[str, Any] = next(row for row in rows if row["provider_id"] == str(id_))
        return found


@pytest.fixture
async def me(customer: Callable[..., Customer]) -> Renter:
    return await Renter(customer(ROOT, {"api_key": "key-of-mine"})).ready()


@pytest.fixture
async def you(customer: Callable[..., Customer]) -> Renter:
    return await Renter(customer(ROOT, {"api_key": "key-of-yours"})).ready()


# --- doors --------------------------------------------------------------------------------


async def test_the_key_goes_in_a_header_of_its_own(served: Served) -> None:
    async def status(**headers: str) -> int:
        return (await served.http.get(f"{ROOT}/core/regions", headers=headers)).status_code

    assert await status(api_key="some-key") == 200
    assert await status() == 401
    assert await status(api_key="invalid-key") == 401
    assert await status(authorization="Bearer some-key") == 401
    assert (await served.http.get(f"{ROOT}/pricebook")).status_code == 401, "prices too"


async def test_unknown_paths_queries_and_bodies_are_refused(me: Renter) -> None:
    assert await me.refused("GET", f"{VMS}/") == MISSING
    assert await me.refused("PATCH", VMS) == (405, "method_not_allowed")
    assert await me.refused("GET", f"{VMS}?limit=1") == BAD
    assert await me.refused("GET", f"{VMS}?page=0") == BAD
    assert await me.refused("GET", "/core/flavors?region=MARS-1") == MISSING
    assert await me.refused("GET", "/core/images?include_public=perhaps") == BAD
    assert await me.refused("POST", VMS, content=b"{nonsense") == BAD
    assert await me.refused("GET", f"{VMS}/one") == MISSING


async def test_who_asks_is_told_apart(me: Renter, you: Renter) -> None:
    mine, yours = await me.json("GET", "/auth/me"), await you.json("GET", "/auth/me")
    assert mine["user"]["email"] != yours["user"]["email"]
    (one,) = (await me.json("GET", "/auth/me/organizations"))["organizations"]
    assert one["id"] > 0
    credit = (await me.json("GET", "/billing/user-credit/credit"))["data"]
    assert (type(credit["credit"]), credit["can_create_instance"]) == (float, True)


# --- catalog ------------------------------------------------------------------------------


async def test_flavors_are_grouped_by_gpu_and_region_without_prices(me: Renter) -> None:
    groups = (await me.json("GET", "/core/flavors"))["data"]
    flavors = {(f["name"], f["region_name"]): f for g in groups for f in g["flavors"]}
    canada, us = (flavors["n3-H100-SXM5x8", place] for place in ("CANADA-1", "US-1"))
    assert (canada["ram"], us["ram"]) == (1800.0, 960.0), "one name, two machines"
    one = flavors["n3-H100x1", "CANADA-1"]
    assert (one["cpu"], one["ram"], one["disk"], one["ephemeral"]) == (28, 180.0, 100, 750)
    assert flavors["n3-L40x8", "CANADA-1"]["stock_available"] is False
    assert flavors["n1-cpu-small", "CANADA-1"]["gpu"] == ""
    assert {f["gpu_count"] for f in flavors.values()} == {0, 1, 2, 4, 8, 10}
    only = (await me.json("GET", "/core/flavors?region=US-1"))["data"]
    assert [group["region_name"] for group in only] == ["US-1"]
    assert not any("price" in field for field in one)


async def test_the_price_book_is_a_bare_array_of_numbers_for_one_gpu(me: Renter) -> None:
    prices = {row["name"]: row["value"] for row in await me.json("GET", "/pricebook")}
    assert prices["H100-80G-PCIe"] == 1.9
    assert prices["A100-80G-PCIe-spot"] < prices["A100-80G-PCIe"]
    assert prices["Public IP"] > 0
    body = {"provider": "hyperstack", "gpu_model": "L40", "price_factor": 2.0}
    await me.served.control("POST", "market", body)
    prices = {row["name"]: row["value"] for row in await me.json("GET", "/pricebook")}
    assert prices["L40"] == 2.0


async def test_stock_is_told_without_the_envelope_and_sinks_with_each_machine(me: Renter) -> None:
    async def sizes(model: str, region: str = "CANADA-1") -> dict[str, Any]:
        stocks = (await me.json("GET", "/core/stocks"))["stocks"]
        (models,) = [row["models"] for row in stocks if row["region"] == region]
        found: dict[str, Any] = next(row for row in models if row["model"] == model)
        return found

    assert set(await me.json("GET", "/core/stocks")) == {"stocks"}
    before = await sizes("H100-80G-PCIe")
    assert before["configurations"] == {"1x": 6, "2x": 2, "4x": 1, "8x": 1, "10x": 0}
    assert (before["available"], before["planned_7_days"]) == ("22", None)
    assert (await sizes("RTX-A6000"))["available"] == "200+"
    await me.make()
    assert (await sizes("H100-80G-PCIe"))["configurations"]["1x"] == 5


async def test_regions_and_images_are_listed(me: Renter) -> None:
    regions = (await me.json("GET", "/core/regions"))["regions"]
    assert [row["name"] for row in regions] == ["NORWAY-1", "CANADA-1", "US-1"]
    (group,) = (await me.json("GET", "/core/images?region=CANADA-1&search=docker"))["images"]
    assert ORDER["image_name"] in [image["name"] for image in group["images"]]
    assert (await me.json("GET", "/core/images?include_public=false"))["images"] == []
    (first,) = (await me.json("GET", "/core/images?page=1&per_page=1"))["images"]
    assert len(first["images"]) == 1


# --- environments and keys ----------------------------------------------------------------


async def test_an_environment_takes_its_keys_along_but_not_its_machines(me: Renter) -> None:
    made = await me.json("POST", "/core/environments", {"name": "e", "region": "NORWAY-1"})
    path = f"/core/environments/{made['environment']['id']}"
    again = {"name": "e", "region": "US-1"}
    assert await me.refused("POST", "/core/environments", again) == (409, "conflict")
    assert await me.refused("POST", "/core/environments", {"name": "f", "region": "X"}) == MISSING
    names = [row["name"] for row in (await me.json("GET", "/core/environments"))["environments"]]
    assert names == ["default-NORWAY-1", HOME, "default-US-1", "e"]
    key = {"name": "k", "environment_name": "e", "public_key": PUBLIC}
    await me.json("POST", "/core/keypairs", key)
    assert await me.refused("POST", "/core/keypairs", key) == (409, "conflict")
    bad = {**key, "name": "x", "public_key": "nonsense"}
    assert await me.refused("POST", "/core/keypairs", bad) == BAD
    a4000 = {"flavor_name": "n3-RTX-A4000x1", "environment_name": "e"}
    id_ = await me.rent(**a4000)
    quota = await me.json("GET", f"{path}/vm-quota")
    assert (quota["current_vms"], quota["available_vms"]) == (1, quota["max_vms"] - 1)
    assert await me.refused("DELETE", path) == BAD
    await me.json("DELETE", f"{VMS}/{id_}")
    await me.advance(10)
    await me.json("DELETE", path)
    assert await me.refused("GET", path) == MISSING
    keys = (await me.json("GET", "/core/keypairs"))["keypairs"]
    assert [row["environment"]["name"] for row in keys] == [HOME]
    default = (await me.json("GET", f"/core/environments?search={HOME}"))["environments"][0]
    assert await me.refused("DELETE", f"/core/environments/{default['id']}") == BAD
    living = [row["kind"] for row in await me.resources() if row["state"] != "deleted"]
    assert living == ["keypair"], "the default environments are nobody's clutter"


async def test_keys_are_deleted_in_the_singular(me: Renter) -> None:
    (row,) = (await me.json("GET", "/core/keypairs"))["keypairs"]
    assert (row["name"], row["public_key"], row["environment"]["name"]) == ("k", PUBLIC, HOME)
    assert await me.refused("DELETE", f"/core/keypairs/{row['id']}") == MISSING
    await me.json("DELETE", f"/core/keypair/{row['id']}")
    assert await me.refused("DELETE", f"/core/keypair/{row['id']}") == MISSING


# --- create -------------------------------------------------------------------------------


async def test_a_machine_goes_from_creating_to_active(me: Renter) -> None:
    script = "#!/bin/sh\necho hi\n"
    answer = await me.json("POST", VMS, {**ORDER, "user_data": script, "labels": ["a"]})
    (row,) = answer["instances"]
    id_ = row["id"]
    assert (row["status"], row["vm_state"], row["floating_ip"]) == ("CREATING", None, None)
    assert row["floating_ip_status"] == "ATTACHING"
    assert "cannot be deleted yet" in await me.words("DELETE", f"{VMS}/{id_}")
    await me.advance(2)
    assert await me.status(id_) == "BUILD"
    await me.advance(10)
    row = await me.show(id_)
    assert (row["status"], row["vm_state"], row["power_state"]) == ("ACTIVE", "active", "RUNNING")
    assert (row["floating_ip"], row["floating_ip_status"]) == (
        own_address("hyperstack", str(id_)),
        "ATTACHED",
    )
    assert (row["labels"], row["keypair"], row["environment"]["region"]) == (
        ["a"],
        {"name": "k"},
        "CANADA-1",
    )
    spec = me.served.host.running[str(id_)]
    assert (spec.user, spec.keys, spec.user_data) == ("ubuntu", (PUBLIC,), script.encode())
    assert spec.address == own_address("hyperstack", str(id_))


@pytest.mark.parametrize(
    ("wrong", "refusal"),
    [
        ({"environment_name": "nowhere"}, MISSING),
        ({"flavor_name": "n3-nothing"}, MISSING),
        ({"flavor_name": "n3-RTX-A4000x1"}, MISSING),
        ({"key_name": "nobody"}, MISSING),
        ({"image_name": "Windows"}, MISSING),
        ({"image_name": None}, BAD),
        ({"volume_name": "v"}, BAD),
        ({"image_name": None, "volume_name": "v"}, MISSING),
        ({"flavor_name": "n3-L40x8"}, BAD),
        ({"count": 0}, BAD),
        ({"count": 21}, BAD),
        ({"count": "1"}, BAD),
        ({"count": 7}, BAD),
        ({"name": ""}, BAD),
        ({"name": "n" * 51}, BAD),
        ({"colour": "red"}, BAD),
        ({"profile": {"name": "p"}}, BAD),
        ({"security_rules": [{**SSH, "protocol": "smtp"}]}, BAD),
        ({"security_rules": [{**SSH, "remote_ip_prefix": "::/0"}]}, BAD),
        ({"security_rules": [{**SSH, "remote_ip_prefix": "all"}]}, BAD),
        ({"security_rules": [{**SSH, "port_range_max": 21}]}, BAD),
        ({"security_rules": [{**SSH, "port_range_max": None}]}, BAD),
    ],
)
async def test_an_order_that_is_not_right_makes_nothing(
    me: Renter, wrong: dict[str, Any], refusal: Any
) -> None:
    assert await me.refused("POST", VMS, {**ORDER, **wrong}) == refusal
    assert await me.ids() == []


async def test_a_missing_field_is_refused(me: Renter) -> None:
    for field in ("name", "environment_name", "flavor_name", "key_name", "count"):
        body = {name: value for name, value in ORDER.items() if name != field}
        assert await me.refused("POST", VMS, body) == BAD


async def test_names_are_unique_while_a_machine_has_them(me: Renter, you: Renter) -> None:
    available = f"{VMS}/name-availability/gb-abc123"
    assert (await me.json("GET", available))["available"] is True
    id_ = await me.rent()
    answer = await me.json("GET", available)
    assert answer == {
        "available": False,
        "message": "Name is already in use",
        "name": "gb-abc123",
    }
    assert await me.refused("POST", VMS, ORDER) == (409, "conflict")
    await you.make()
    await me.json("DELETE", f"{VMS}/{id_}")
    await me.make()


async def test_several_of_one_call_are_numbered(me: Renter) -> None:
    rows = (await me.json("POST", VMS, {**ORDER, "count": 3}))["instances"]
    assert [row["name"] for row in rows] == [f"gb-abc123-{n}" for n in (1, 2, 3)]
    assert len({row["id"] for row in rows}) == 3


async def test_without_a_rule_or_with_random_ports_nobody_gets_in(me: Renter) -> None:
    """`enable_port_randomization` is true where it is not said to be false."""
    closed = await me.rent(name="closed", security_rules=[])
    order = {name: value for name, value in ORDER.items() if name != "enable_port_randomization"}
    answer = await me.json("POST", VMS, {**order, "name": "random"})
    random = answer["instances"][0]["id"]
    inside = await me.rent(name="inside", assign_floating_ip=False)
    real = [own_address("hyperstack", str(id_)) for id_ in (closed, random)]
    assert (await me.show(closed))["floating_ip"] != real[0]
    assert (await me.show(random))["floating_ip"] != real[1]
    assert (await me.show(random))["port_randomization"] is True
    assert (await me.show(inside))["floating_ip"] is None
    rule = (await me.json("POST", f"{VMS}/{closed}/sg-rules", SSH))["security_rule"]
    row = await me.show(closed)
    assert (row["floating_ip"], row["security_rules"]) == (real[0], [rule])
    assert await me.refused("DELETE", f"{VMS}/{random}/sg-rules/{rule['id']}") == MISSING
    await me.json("DELETE", f"{VMS}/{closed}/sg-rules/{rule['id']}")
    assert (await me.show(closed))["security_rules"] == []


# --- lists --------------------------------------------------------------------------------


async def test_lists_are_pages_of_ten_oldest_first(me: Renter, you: Renter) -> None:
    await you.make()
    small = {"flavor_name": "n3-RTX-A6000x1"}
    ids = [await me.make(name=f"vm-{n}", **small) for n in range(12)]
    answer = await me.json("GET", VMS)
    assert [row["id"] for row in answer["instances"]] == ids[:10]
    assert (answer["count"], answer["page"], answer["page_size"]) == (12, 1, 10)
    assert await me.ids("?page=2") == ids[10:]
    assert await me.ids("?page=1&pageSize=100") == ids
    assert await me.ids("?search=VM-11") == ids[11:]
    assert await me.ids("?environment=CANADA&pageSize=1") == ids[:1]
    assert await me.ids("?environment=CANADA&exact_environment_match=true") == []


# --- actions and money --------------------------------------------------------------------


async def test_switched_off_is_billed_in_full_and_hibernated_is_not(me: Renter) -> None:
    id_ = await me.rent()
    full = (await me.truth(id_))["price_per_hour"]
    path = f"/pricebook/calculate/resource/vm/{id_}"

    async def rate() -> float:
        bills = (await me.json("GET", path))["calculated_resource_bills"]
        return float(bills["resource"]["price"])

    assert (full, await rate()) == (1.9, 1.9)
    assert await me.act(id_, "stop", 1) == "STOPPING"
    await me.advance(3600)
    assert (await me.status(id_), await rate()) == ("SHUTOFF", 1.9)
    for action in ("stop", "hibernate", "hibernate-restore", "hard-reboot"):
        assert await me.refused("GET", f"{VMS}/{id_}/{action}") == BAD
    assert await me.act(id_, "start", 1) == "STARTING"
    assert await rate() == 0, "what is on its way is free"
    await me.advance(10)
    assert (await me.status(id_), await rate()) == ("ACTIVE", 1.9)
    assert await me.act(id_, "hibernate?retain_ip=true", 1) == "HIBERNATING"
    await me.advance(3600)
    row = await me.show(id_)
    assert (row["status"], row["floating_ip_status"]) == ("HIBERNATED", "ATTACHED")
    assert 0 < await rate() < 0.02, "its root disk"
    assert await me.act(id_, "hibernate-restore", 1) == "RESTORING"
    await me.advance(10)
    assert await me.status(id_) == "ACTIVE"
    assert await me.act(id_, "hard-reboot", 1) == "HARD_REBOOT"
    await me.advance(10)
    events = await me.json("GET", f"/billing/billing/virtual-machine/{id_}/billing-events")
    told = [row["event"] for row in events["billing_events_history"]]
    assert told == ["ACTIVE", "SHUTOFF", "ACTIVE", "HIBERNATED", "ACTIVE"]
    await me.act(id_, "hibernate")
    assert (await me.show(id_))["floating_ip_status"] is None, "it was not retained"


async def test_a_hibernated_machine_needs_stock_to_come_back(me: Renter) -> None:
    one = {"flavor_name": "n3-H100x4"}
    first = await me.rent(**one)
    assert "Insufficient stock" in await me.words("POST", VMS, {**ORDER, **one, "name": "b"})
    await me.act(first, "hibernate")
    await me.rent(name="b", **one)
    assert "Insufficient stock" in await me.words("GET", f"{VMS}/{first}/hibernate-restore")
    a4000 = {"environment_name": "default-NORWAY-1", "public_key": PUBLIC, "name": "k"}
    await me.json("POST", "/core/keypairs", a4000)
    there = {"environment_name": "default-NORWAY-1", "flavor_name": "n3-RTX-A4000x1"}
    cold = await me.rent(name="c", **there)
    assert "does not support hibernation" in await me.words("GET", f"{VMS}/{cold}/hibernate")


async def test_a_resized_machine_costs_what_its_flavor_costs(me: Renter) -> None:
    id_ = await me.rent()
    path = f"{VMS}/{id_}/resize"
    assert await me.refused("POST", path, {"flavor_name": "n3-H100x1"}) == BAD
    assert await me.refused("POST", path, {"flavor_name": "n3-A100x4"}) == BAD
    assert await me.refused("POST", path, {"flavor_name": "n3-RTX-A4000x1"}) == MISSING
    await me.json("POST", path, {"flavor_name": "n3-A100x2"})
    assert await me.status(id_) == "RESIZING"
    await me.advance(10)
    assert (await me.show(id_))["flavor"]["gpu_count"] == 2
    assert (await me.truth(id_))["price_per_hour"] == 2.7


async def test_a_deleted_machine_is_gone_with_its_rules_and_its_address(
    me: Renter, you: Renter
) -> None:
    id_ = await me.rent()
    assert await you.refused("GET", f"{VMS}/{id_}") == MISSING
    assert await you.refused("DELETE", f"{VMS}/{id_}") == MISSING
    await me.json("DELETE", f"{VMS}/{id_}", status=200)
    assert await me.status(id_) == "DELETING"
    assert (await me.truth(id_))["billed"] is False
    await me.advance(5)
    assert await me.refused("GET", f"{VMS}/{id_}") == MISSING
    assert await me.refused("DELETE", f"{VMS}/{id_}") == MISSING
    assert await me.ids() == []
    living = {row["kind"] for row in await me.resources() if row["state"] != "deleted"}
    assert living == {"keypair"}


async def test_addresses_are_attached_and_given_back(me: Renter) -> None:
    id_ = await me.rent(assign_floating_ip=False)
    assert await me.refused("POST", f"{VMS}/{id_}/detach-floatingip") == BAD
    await me.json("POST", f"{VMS}/{id_}/attach-floatingip")
    assert await me.refused("POST", f"{VMS}/{id_}/attach-floatingip") == BAD
    assert (await me.show(id_))["floating_ip"] == own_address("hyperstack", str(id_))
    (address,) = [row for row in await me.resources() if row["kind"] == "floating_ip"]
    assert address["price_per_hour"] == 0.00672
    await me.json("POST", f"{VMS}/{id_}/detach-floatingip")
    assert (await me.show(id_))["floating_ip"] is None
    await me.json("PUT", f"{VMS}/{id_}/label", {"labels": ["x", "y"]})
    assert (await me.show(id_))["labels"] == ["x", "y"]


async def test_without_credit_nothing_is_made_and_all_is_suspended(me: Renter) -> None:
    id_ = await me.rent(flavor_name="n3-H100x8", assign_floating_ip=False)
    await me.advance(300 * 86_400)
    credit = (await me.json("GET", "/billing/user-credit/credit"))["data"]
    assert credit["can_create_instance"] is False
    assert await me.status(id_) == "HIBERNATED"
    assert "Insufficient credit" in await me.words("POST", VMS, {**ORDER, "name": "b"})
    attach = await me.refused("POST", f"{VMS}/{id_}/attach-floatingip")
    assert attach == (402, "insufficient_balance")


async def test_charges_are_on_record_by_vm(me: Renter, you: Renter) -> None:
    id_, _ = await me.rent(), await you.rent()
    await me.advance(3600)
    await me.json("DELETE", f"{VMS}/{id_}")
    other = await me.rent(name="other")
    path = "/billing/billing/history/virtual-machine"
    bills = (await me.json("GET", path))["billing_history_vm"]
    assert (bills["total_count"], bills["pagination"]["pages"]) == (2, 1)
    first, second = bills["billing_history"]
    assert (first["attributes"]["infrahub_id"], first["attributes"]["status"]) == (id_, "DELETED")
    assert second["attributes"]["status"] == "ACTIVE"
    assert first["metrics"]["price_per_hour"] == 1.9
    truth = await me.truth(id_)
    assert first["metrics"]["incurred_bill"] == pytest.approx(truth["accrued_usd"])
    assert first["metrics"]["usage_time"] == pytest.approx(60, abs=0.5)
    one = (await me.json("GET", f"{path}?per_page=1&page=2"))["billing_history_vm"]
    assert [row["attributes"]["infrahub_id"] for row in one["billing_history"]] == [other]
    later = f"{path}?start_date=2020-01-01T00:00:00&end_date=2020-02-01T00:00:00"
    assert (await me.json("GET", later))["billing_history_vm"]["billing_history"] == []
    assert await me.refused("GET", f"{path}?start_date=yesterday") == BAD
    now = (await me.json("GET", "/billing/billing/usage"))["data"]
    assert {row["resource_type"] for row in now} == {"vm", "public_ip"}
    gone = (await me.json("GET", "/billing/billing/usage?deleted=true"))["data"]
    assert id_ in [row["resource_id"] for row in gone]
    assert await me.refused("GET", "/pricebook/calculate/resource/moon/1") == BAD


async def test_a_spot_machine_that_is_taken_away_ends_as_an_error(me: Renter) -> None:
    id_ = await me.rent(**SPOT)
    assert (await me.truth(id_))["price_per_hour"] == 0.95
    body = {"provider": "hyperstack", "provider_id": str(id_)}
    await me.served.control("POST", "preempt", body)
    assert await me.status(id_) == "ERROR"
    assert (await me.truth(id_))["billed"] is False
    await me.json("DELETE", f"{VMS}/{id_}")


# --- volumes ------------------------------------------------------------------------------


async def test_volumes_are_made_attached_and_outlive_their_machine(me: Renter) -> None:
    order = {
        "name": "d",
        "environment_name": HOME,
        "size": 100,
        "volume_type": "Cloud-SSD",
    }
    assert (await me.json("GET", "/core/volume-types"))["volume_types"] == ["Cloud-SSD"]
    made = (await me.json("POST", "/core/volumes", order))["volume"]
    assert (made["status"], made["size"], made["bootable"]) == ("creating", 100, False)
    assert await me.refused("POST", "/core/volumes", order) == (409, "conflict")
    assert await me.refused("POST", "/core/volumes", {**order, "volume_type": "HDD"}) == BAD
    assert await me.refused("POST", "/core/volumes", {**order, "size": 0}) == BAD
    disk, id_ = made["id"], await me.rent()
    body = {"volume_ids": [disk], "protected": False}
    rows = await me.json("POST", f"{VMS}/{id_}/attach-volumes", body)
    assert rows["volume_attachments"][0]["device"] == "/dev/vdb"
    assert await me.refused("POST", f"{VMS}/{id_}/attach-volumes", body) == BAD
    (shown,) = (await me.show(id_))["volume_attachments"]
    assert shown["volume"]["id"] == disk
    assert await me.refused("DELETE", f"/core/volumes/{disk}") == BAD
    await me.json("POST", f"{VMS}/{id_}/detach-volumes", {"volume_ids": [disk]})
    assert await me.refused("POST", f"{VMS}/{id_}/detach-volumes", {"volume_ids": [disk]}) == BAD
    await me.json("POST", f"{VMS}/{id_}/attach-volumes", body)
    await me.json("DELETE", f"{VMS}/{id_}")
    await me.advance(10)
    (kept,) = (await me.json("GET", "/core/volumes"))["volumes"]
    assert (kept["id"], kept["status"], kept["attachments"]) == (disk, "available", [])
    (row,) = [row for row in await me.resources() if row["kind"] == "volume"]
    assert row["price_per_hour"] == pytest.approx(0.0096774)
    await me.json("DELETE", f"/core/volumes/{disk}")
    assert await me.refused("GET", f"/core/volumes/{disk}") == MISSING


async def test_a_machine_can_boot_from_a_volume_with_a_system(me: Renter) -> None:
    groups = (await me.json("GET", "/core/images?region=CANADA-1"))["images"]
    image = groups[0]["images"][0]
    order = {"name": "s", "environment_name": HOME, "size": 50, "volume_type": "Cloud-SSD"}
    made = await me.json("POST", "/core/volumes", {**order, "image_id": image["id"]})
    assert made["volume"]["os_image"] == image["name"]
    id_ = await me.rent(image_name=None, volume_name="s")
    row = await me.show(id_)
    assert (row["image"]["name"], len(row["volume_attachments"])) == (image["name"], 1)
    other = {**ORDER, "name": "b", "image_name": None, "volume_name": "s"}
    assert await me.refused("POST", VMS, other) == BAD
    booted = await me.rent(name="c", create_bootable_volume=True)
    assert (await me.show(booted))["volume_attachments"][0]["volume"]["bootable"] is True


# --- faults -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "refusal"),
    [
        ("rate_limit", (429, "too_many_requests")),
        ("server_error", (500, "internal_server_error")),
        ("bad_credentials", (401, "unauthorized")),
        ("not_found_for_bad_key", (404, "unauthorized")),
    ],
)
async def test_a_fault_of_the_whole_call_has_the_vendors_form(
    me: Renter, kind: str, refusal: Any
) -> None:
    await me.fault("list", kind, times=1)
    assert await me.refused("GET", VMS) == refusal
    assert await me.ids() == []


async def test_garbage_slow_and_timeout(me: Renter) -> None:
    await me.fault("list", "garbage", times=1)
    with pytest.raises(ValueError, match="Unterminated"):
        (await me.http.ask("GET", VMS)).json()
    await me.fault("list", "slow", delay_s=0.05, times=1)
    assert await me.ids() == []
    await me.fault("terminate", "timeout", times=1)
    id_ = await me.rent()
    with pytest.raises(httpx2.ReadTimeout):
        await me.http.ask("DELETE", f"{VMS}/{id_}", timeout=0.2)
    assert await me.status(id_) == "ACTIVE"


@pytest.mark.parametrize(("kind", "machines"), [("disconnect_before", 0), ("disconnect_after", 1)])
async def test_a_cut_connection_before_or_after_the_act(
    me: Renter, kind: str, machines: int
) -> None:
    await me.fault("create", kind, times=1)
    with pytest.raises(httpx2.RemoteProtocolError):
        await me.http.ask("POST", VMS, ORDER)
    assert len(await me.ids()) == machines


@pytest.mark.parametrize(
    ("kind", "words"), [("quota", "quota exceeded"), ("no_capacity", "Insufficient stock")]
)
async def test_quota_and_capacity_in_the_vendors_words(me: Renter, kind: str, words: str) -> None:
    await me.fault("create", kind, times=1)
    assert words in await me.words("POST", VMS, ORDER)
    id_ = await me.rent()
    await me.act(id_, "hibernate")
    await me.fault("start", kind, times=1)
    assert words in await me.words("GET", f"{VMS}/{id_}/hibernate-restore")
    assert await me.status(id_) == "HIBERNATED"


async def test_faults_of_lists(me: Renter) -> None:
    id_, other = await me.rent(), await me.rent(name="other")
    await me.fault("list", "duplicate_list", times=1)
    assert await me.ids() == [id_, id_, other, other]
    await me.fault("list", "list_partial", times=1)
    answer = await me.json("GET", VMS)
    assert ([row["id"] for row in answer["instances"]], answer["count"]) == ([id_], 2)
    await me.fault("create", "list_lag", delay_s=60, times=1)
    late = await me.make(name="late")
    assert late not in await me.ids()
    assert (await me.show(late))["id"] == late
    await me.advance(60)
    assert late in await me.ids()
    await me.fault("list", "other_account", times=1)
    assert await me.ids() == []
    await me.fault("list", "page_cursor_expired", times=1)
    assert len(await me.ids()) == 3, "pages are numbers here"
    await me.fault("offers", "no_capacity", times=1)
    groups = (await me.json("GET", "/core/flavors"))["data"]
    assert not any(f["stock_available"] for g in groups for f in g["flavors"])
    await me.fault("offers", "ignored_field", times=1)
    assert len((await me.json("GET", "/core/flavors?region=US-1"))["data"]) > 1
    await me.fault("offers", "duplicate_list", times=1)
    names = [row["name"] for row in await me.json("GET", "/pricebook")]
    assert names[0] == names[1]


async def test_terminate_ignored_answers_success_and_goes_on(me: Renter) -> None:
    id_ = await me.rent()
    await me.fault("terminate", "terminate_ignored", times=1)
    await me.json("DELETE", f"{VMS}/{id_}", status=200)
    await me.advance(60)
    assert await me.status(id_) == "ACTIVE"
    assert (await me.truth(id_))["billed"]


@pytest.mark.parametrize(
    ("kind", "status"), [("boot_failure", "ERROR"), ("stuck_pending", "BUILD")]
)
async def test_a_boot_that_does_not_succeed_is_free(me: Renter, kind: str, status: str) -> None:
    await me.fault("create", kind, times=1)
    id_ = await me.rent()
    await me.advance(3600)
    row = await me.show(id_)
    assert (row["status"], row["floating_ip"]) == (status, None)
    assert (await me.truth(id_))["billed"] is False
    await me.json("DELETE", f"{VMS}/{id_}")


async def test_faults_that_a_machine_is_born_with(me: Renter) -> None:
    for kind in ("wrong_gpu", "price_changed", "ignored_field", "ssh_refused"):
        await me.fault("create", kind, times=1)
    id_ = await me.rent(labels=["a"])
    row = await me.show(id_)
    assert row["flavor"]["gpu"] != "H100-80G-PCIe"
    assert row["labels"] == []
    assert row["floating_ip"] != own_address("hyperstack", str(id_)), "nothing listens there"
    assert (await me.truth(id_))["price_per_hour"] == pytest.approx(2.85)


async def test_machines_survive_a_restart(serving: Any) -> None:
    async with serving() as first:
        head = {"api_key": "key-of-mine"}
        key = {"name": "k", "environment_name": HOME, "public_key": PUBLIC}
        await first.http.post(f"{ROOT}/core/keypairs", json=key, headers=head)
        made = await first.http.post(f"{ROOT}{VMS}", json=ORDER, headers=head)
        id_ = made.json()["instances"][0]["id"]
    async with serving() as second:
        answer = await second.http.get(f"{ROOT}{VMS}/{id_}", headers=head)
        assert answer.json()["instance"]["name"] == ORDER["name"]


def test_every_kind_of_fault_is_shown_here() -> None:
    text = Path(__file__).read_text()
    assert [kind for kind in KINDS if f'"{kind}"' not in text] == []
