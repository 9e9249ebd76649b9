"""Paperspace's emulator: what it does, and what it refuses in the vendor's words."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gpubroker.sandbox.faults import KINDS

if TYPE_CHECKING:
    from tests.sandbox.customer import Customer

ROOT = "/paperspace/v1"
NY2 = "East Coast (NY2)"
ORDER: dict[str, Any] = {
    "name": "gb-abc123",
    "machineType": "A4000",
    "templateId": "t0nspur5",
    "region": NY2,
    "diskSize": 100,
    "publicIpType": "dynamic",
    "startOnCreate": True,
}
H100X8 = {"machineType": "H100x8", "templateId": "tvimtol9"}
SOLD_OUT = {"machineType": "A100-80Gx8", "templateId": "tvimtol9"}
CAPACITY = "insufficient capacity"
NO_MACHINE = (404, {"code": "NOT_FOUND", "message": "Machine not found"})


class Shop:
    """One team of Paperspace."""

    def __init__(self, customer: Customer) -> None:
        self.at = customer

    async def order(self, **more: Any) -> dict[str, Any]:
        made: dict[str, Any] = await self.at.json("POST", "/machines", ORDER | more, status=200)
        assert re.fullmatch(r"ps[a-z0-9]{10}", made["data"]["id"])
        return made

    async def rent(self, **more: Any) -> str:
        """One that is ready."""
        made = await self.order(**more)
        await self.at.advance(9)
        return str(made["data"]["id"])

    async def show(self, id_: str) -> dict[str, Any]:
        shown: dict[str, Any] = await self.at.json("GET", f"/machines/{id_}", status=200)
        return shown

    async def state(self, id_: str) -> str:
        return str((await self.show(id_))["state"])

    async def page(self, path: str) -> dict[str, Any]:
        listed: dict[str, Any] = await self.at.json("GET", path, status=200)
        assert set(listed) == {"hasMore", "items", "nextPage"}
        assert listed["hasMore"] == (listed["nextPage"] is not None)
        return listed

    async def ids(self, query: str = "") -> list[str]:
        return [row["id"] for row in (await self.page(f"/machines{query}"))["items"]]

    async def patch(self, id_: str, verb: str) -> dict[str, Any]:
        told: dict[str, Any] = await self.at.json("PATCH", f"/machines/{id_}/{verb}", {})
        assert set(told) == {"data", "event"}
        return told

    async def event(self, id_: str) -> tuple[str, str | None]:
        row = await self.at.json("GET", f"/machine-events/{id_}", status=200)
        assert (row["dtFinished"] is None) == (row["state"] in ("new", "in progress"))
        return row["state"], row["error"]

    async def end(self, id_: str) -> dict[str, Any]:
        told: dict[str, Any] = await self.at.json("DELETE", f"/machines/{id_}", status=200)
        return told

    async def refused(self, **more: Any) -> tuple[int, Any]:
        return await self.at.refused("POST", "/machines", ORDER | more)

    async def available(self) -> dict[str, bool]:
        rows = (await self.page("/os-templates"))["items"]
        return {
            one["machineTypeLabel"]: one["isAvailable"]
            for row in rows
            for one in row["availableMachineTypes"]
        }

    async def script(self, text: str = "echo hello", **more: Any) -> dict[str, Any]:
        body = {"name": "s", "script": text, "isRunOnce": True, **more}
        made: dict[str, Any] = await self.at.json("POST", "/startup-scripts", body, status=200)
        return made

    async def truth(self, id_: str) -> dict[str, Any]:
        rows = await self.at.served.control("GET", "machines")
        found: dict[str, Any] = next(row for row in rows if row["provider_id"] == id_)
        return found

    async def kept(self) -> dict[str, bool]:
        """Kind of each thing that is not deleted, and whether it costs."""
        rows = await self.at.resources()
        return {row["kind"]: row["billed"] for row in rows if row["state"] != "deleted"}


@pytest.fixture
def shop(customer: Callable[..., Customer]) -> Shop:
    return Shop(customer(ROOT, {"Authorization": "Bearer mine"}))


@pytest.fixture
def other(customer: Callable[..., Customer]) -> Shop:
    return Shop(customer(ROOT, {"Authorization": "Bearer yours"}))


# --- doors --------------------------------------------------------------------------------


async def test_who_has_no_good_key_is_refused_but_for_the_session(
    customer: Callable[..., Customer],
) -> None:
    for head in ({}, {"x-api-key": "mine"}, {"Authorization": "Bearer invalid-key"}):
        nobody = customer(ROOT, head)
        for path in ("/machines", "/os-templates", "/machine-events", "/billing/account-standing"):
            status, body = await nobody.refused("GET", path)
            assert (status, body["code"]) == (401, "UNAUTHORIZED")
        assert await nobody.json("GET", "/auth/session", status=200) is None
        assert await nobody.json("GET", "/health") == "HEALTHY"


async def test_a_key_is_of_one_team(shop: Shop, other: Shop) -> None:
    session = await shop.at.json("GET", "/auth/session")
    assert session["team"]["maxMachines"] == 20
    assert session["user"]["teamMemberships"][0]["team"]["id"] == session["team"]["id"]
    assert (await other.at.json("GET", "/auth/session"))["team"]["id"] != session["team"]["id"]
    id_, script = await shop.rent(), await shop.script()
    assert await other.ids() == []
    for method, path in (("GET", ""), ("DELETE", ""), ("PATCH", "/stop"), ("PUT", "")):
        body: dict[str, Any] | None = {} if method in ("PATCH", "PUT") else None
        assert await other.at.refused(method, f"/machines/{id_}{path}", body) == NO_MACHINE
    for path in (f"/startup-scripts/{script['id']}", "/machine-events/100001"):
        assert (await other.at.refused("GET", path))[0] == 404
    assert (await shop.truth(id_))["billed"]


async def test_wrong_paths_bodies_and_parameters_are_refused(shop: Shop) -> None:
    for path in ("/machines/", "/getMachines", "/machines/getAvailability"):
        assert (await shop.at.refused("GET", path))[0] == 404
    assert (await shop.at.refused("DELETE", "/machines"))[1]["code"] == "METHOD_NOT_SUPPORTED"
    for query in ("limit=0", "limit=121", "order=up", "orderBy=id", "surprise=1", "after=zzz"):
        status, body = await shop.at.refused("GET", f"/machines?{query}")
        assert (status, body["code"], len(body["issues"])) == (400, "BAD_REQUEST", 1)
    id_ = await shop.rent()
    empty = {"headers": {"content-type": "application/json"}}
    status, body = await shop.at.refused("PATCH", f"/machines/{id_}/stop", **empty)
    assert (status, body["code"]) == (400, "PARSE_ERROR")
    assert (await shop.at.ask("PATCH", f"/machines/{id_}/stop")).is_success, "with no type at all"
    assert (await shop.at.refused("POST", "/machines", content=b"{"))[1]["code"] == "PARSE_ERROR"
    assert (await shop.at.ask("DELETE", f"/machines/{id_}", **empty)).is_success


# --- the market ---------------------------------------------------------------------------


async def test_types_are_listed_by_system_without_region_and_price(shop: Shop) -> None:
    rows = (await shop.page("/os-templates"))["items"]
    assert [row["name"] for row in rows] == sorted((row["name"] for row in rows), reverse=True)
    ml = next(row for row in rows if row["id"] == "tiq8mhti")
    assert ml["availableMachineTypes"] == [
        {"machineTypeLabel": "H100", "isAvailable": True},
        {"machineTypeLabel": "A100-80G", "isAvailable": True},
    ]
    assert {row["defaultSizeGb"] for row in rows} == {None, 50, 100}
    free = await shop.available()
    assert (free["H100x8"], free["A100-80Gx8"], free["A4000"], free["C5"]) == (1, 0, 1, 0)
    await shop.rent(**H100X8)
    assert not (await shop.available())["H100x8"]
    assert (await shop.page("/custom-templates"))["items"] == []


async def test_availability_is_of_a_type_in_a_region(shop: Shop) -> None:
    for type_, region, available in (
        ("H100", NY2, True),
        ("h100", "NY2", True),
        ("H100", "CA1", False),
        ("A100-80Gx8", "NY2", False),
        ("A4000", "Europe (AMS1)", True),
        ("none", "NY2", False),
    ):
        query = {"machineType": type_, "region": region}
        told = await shop.at.json("GET", "/machine-availability", params=query)
        assert told == {"available": available}, query


async def test_availability_needs_both_words(shop: Shop) -> None:
    for query in ("", "?machineType=H100", "?machineType=H100&region=Mars"):
        assert (await shop.at.refused("GET", f"/machine-availability{query}"))[0] == 400


# --- the life of a machine ----------------------------------------------------------------


async def test_a_machine_comes_up_step_by_step(shop: Shop) -> None:
    made = await shop.order(machineType="a4000x2", region="NY2")
    row, event = made["data"], made["event"]
    id_ = row["id"]
    assert (row["state"], row["publicIp"], row["dtDeleted"]) == ("provisioning", None, None)
    assert (event["name"], event["state"], event["machineId"]) == ("create", "new", id_)
    assert await shop.ids() == [id_]
    await shop.at.advance(3)
    assert await shop.event(event["id"]) == ("in progress", None)
    await shop.at.advance(3)
    assert await shop.state(id_) == "serviceready"
    await shop.at.advance(1)
    row, spec = await shop.show(id_), shop.at.served.host.running[id_]
    wanted = {
        "name": "gb-abc123",
        "state": "ready",
        "os": "Ubuntu 22.04 Server",
        "agentType": "LinuxHeadless",
        "machineType": "A4000x2",
        "region": NY2,
        "cpus": 16,
        "ram": 92 * 1024**3,
        "accelerators": [{"name": "A4000", "memory": 16 * 1024**3, "count": 2}],
        "networkId": None,
        "publicIp": spec.address,
        "publicIpType": "dynamic",
        "storageTotal": 100 * 1024**3,
        "usageRate": 1.52,
        "storageRate": 0.0096,
        "autoShutdownEnabled": False,
        "reservation": None,
    }
    assert {name: row[name] for name in wanted} == wanted
    assert await shop.event(event["id"]) == ("done", None)
    assert (spec.user, spec.keys, spec.docker, spec.gpu_count) == ("paperspace", (), True, 2)
    assert (await shop.truth(id_))["price_per_hour"] == pytest.approx(1.52 + 7 / 730)


async def test_stopped_it_costs_its_disk_and_loses_its_address(shop: Shop) -> None:
    id_ = await shop.rent(**H100X8)
    told = await shop.patch(id_, "stop")
    assert (told["data"]["state"], told["event"]["name"]) == ("stopping", "stop")
    assert told["data"]["publicIp"] is None
    status, body = await shop.at.refused("PATCH", f"/machines/{id_}/start", {})
    assert (status, body["code"]) == (409, "CONFLICT")
    await shop.at.advance(4)
    assert await shop.state(id_) == "off"
    assert await shop.event(told["event"]["id"]) == ("done", None)
    truth = await shop.truth(id_)
    assert truth["billed_for"] == ["disk_stopped"]
    assert (await shop.available())["H100x8"], "its GPUs are free"
    await shop.at.advance(730 * 3600)
    paid = (await shop.truth(id_))["accrued_usd"] - truth["accrued_usd"]
    assert paid == pytest.approx(7, rel=0.001)
    told = await shop.patch(id_, "start")
    assert told["data"]["state"] == "starting"
    again = await shop.at.refused("PATCH", f"/machines/{id_}/start", {})
    assert again[1]["message"] == "This machine is currently starting."
    await shop.at.advance(8)
    assert await shop.state(id_) == "ready"
    assert await shop.event(told["event"]["id"]) == ("done", None)


async def test_a_restart_keeps_the_gpu(shop: Shop) -> None:
    id_ = await shop.rent()
    told = await shop.patch(id_, "restart")
    assert (told["data"]["state"], told["event"]["name"]) == ("restarting", "restart")
    await shop.at.advance(8)
    assert await shop.state(id_) == "ready"
    assert await shop.event(told["event"]["id"]) == ("done", None)


async def test_what_finds_no_place_is_off_and_its_event_tells_why(shop: Shop) -> None:
    made = await shop.order(**SOLD_OUT)
    id_ = made["data"]["id"]
    assert made["data"]["state"] == "provisioning"
    await shop.at.advance(4)
    assert await shop.state(id_) == "off"
    state, text = await shop.event(made["event"]["id"])
    assert (state, CAPACITY in (text or "")) == ("error", True)
    assert (await shop.truth(id_))["billed_for"] == ["disk_stopped"], "a disk it has all the same"
    told = await shop.patch(id_, "start")
    assert (told["data"]["state"], told["event"]["state"]) == ("starting", "new")
    await shop.at.advance(4)
    assert await shop.state(id_) == "off"
    assert (await shop.event(told["event"]["id"]))[0] == "error"
    await shop.end(id_)
    assert not (await shop.truth(id_))["billed"]


async def test_a_start_can_find_no_place_or_no_quota(shop: Shop) -> None:
    id_ = await shop.rent()
    await shop.patch(id_, "stop")
    await shop.at.advance(5)
    await shop.at.fault("start", "quota", times=1)
    assert (await shop.at.refused("PATCH", f"/machines/{id_}/start", {}))[0] == 403
    await shop.at.fault("start", "no_capacity", times=1)
    told = await shop.patch(id_, "start")
    await shop.at.advance(4)
    assert await shop.state(id_) == "off"
    assert (await shop.event(told["event"]["id"]))[0] == "error"


async def test_deleted_it_is_told_for_a_while_with_its_end(shop: Shop) -> None:
    id_ = (await shop.order())["data"]["id"]
    status, body = await shop.at.refused("DELETE", f"/machines/{id_}")
    assert (status, "provisioning" in body["message"]) == (409, True)
    await shop.at.advance(2)
    told = await shop.end(id_)
    assert told["event"]["name"] == "deactivate"
    assert not (await shop.truth(id_))["billed"]
    assert (await shop.show(id_))["dtDeleted"] is not None
    assert await shop.ids() == [id_]
    for method, path in (("DELETE", ""), ("PATCH", "/start"), ("PUT", "")):
        body = None if method == "DELETE" else {}
        assert await shop.at.refused(method, f"/machines/{id_}{path}", body) == NO_MACHINE
    await shop.at.advance(6)
    assert await shop.ids() == []
    assert await shop.state(id_) == "off"
    await shop.at.advance(60)
    assert await shop.at.refused("GET", f"/machines/{id_}") == NO_MACHINE
    events = (await shop.page(f"/machine-events?machineId={id_}&order=asc"))["items"]
    assert [(row["name"], row["state"]) for row in events] == [
        ("create", "cancelled"),
        ("deactivate", "done"),
    ]


async def test_it_can_be_made_off(shop: Shop) -> None:
    made = await shop.order(startOnCreate=False)
    await shop.at.advance(5)
    id_ = made["data"]["id"]
    assert await shop.state(id_) == "off"
    assert await shop.event(made["event"]["id"]) == ("done", None)
    await shop.patch(id_, "start")
    await shop.at.advance(8)
    assert await shop.state(id_) == "ready"


async def test_it_shuts_itself_down_after_its_hours(shop: Shop) -> None:
    hours = {"autoShutdownEnabled": True, "autoShutdownTimeout": 8, "autoShutdownForce": True}
    id_ = await shop.rent(**hours)
    row = await shop.show(id_)
    assert {name: row[name] for name in hours} == hours
    await shop.at.advance(8 * 3600 - 60)
    assert await shop.state(id_) == "ready"
    await shop.at.advance(120)
    assert await shop.state(id_) == "off"
    assert (await shop.truth(id_))["billed_for"] == ["disk_stopped"]
    await shop.patch(id_, "start")
    await shop.at.advance(3600)
    assert await shop.state(id_) == "ready"
    await shop.at.advance(7 * 3600 + 60)
    assert await shop.state(id_) == "off"


async def test_switched_off_from_inside_it_is_off(shop: Shop) -> None:
    id_ = await shop.rent()
    await shop.at.cloud.end_from_inside(shop.at.cloud.machines[id_], "power off")
    assert await shop.state(id_) == "off"
    assert (await shop.truth(id_))["billed_for"] == ["disk_stopped"]


async def test_names_may_collide_and_be_changed(shop: Shop) -> None:
    first, second = await shop.rent(), await shop.rent()
    assert await shop.ids("?name=gb-abc123") == [second, first], "the newest first"
    row = (await shop.at.json("PUT", f"/machines/{first}", {"name": "newer"}))["data"]
    assert row["name"] == "newer"
    assert await shop.ids("?name=newer") == [first]


async def test_type_and_disk_change_only_while_it_is_off(shop: Shop) -> None:
    id_ = await shop.rent()
    change = {"machineType": "A6000", "diskSize": 500}
    assert (await shop.at.refused("PUT", f"/machines/{id_}", change))[0] == 409
    await shop.patch(id_, "stop")
    await shop.at.advance(5)
    told = await shop.at.json("PUT", f"/machines/{id_}", change)
    assert (told["data"]["state"], told["event"]["name"]) == ("upgrading", "vm-upgrade")
    await shop.at.advance(3)
    row = await shop.show(id_)
    assert (row["state"], row["usageRate"], row["storageRate"]) == ("off", 1.89, 0.0274)
    assert (await shop.at.refused("PUT", f"/machines/{id_}", {"diskSize": 50}))[0] == 400
    assert (await shop.at.refused("PUT", f"/machines/{id_}", {"machineType": "H100x9"}))[0] == 400


async def test_lists_come_in_pages_with_cursors(shop: Shop) -> None:
    made = [(await shop.order(name=f"m-{n}"))["data"]["id"] for n in range(3)]
    first = await shop.page("/machines?limit=2")
    assert [row["id"] for row in first["items"]] == made[:0:-1]
    second = await shop.page(f"/machines?limit=2&after={first['nextPage']}")
    assert [row["id"] for row in second["items"]] == made[:1]
    assert await shop.ids("?order=asc&orderBy=name") == made
    assert await shop.ids("?machineType=H100") == await shop.ids("?region=CA1") == []
    assert len(await shop.ids("?machineType=a4000&region=NY2&agentType=LinuxHeadless")) == 3
    await shop.at.fault("list", "page_cursor_expired", times=1)
    status, body = await shop.at.refused("GET", f"/machines?limit=2&after={first['nextPage']}")
    assert (status, body["issues"]) == (400, [{"message": "Invalid cursor"}])


# --- startup scripts ----------------------------------------------------------------------


async def test_a_script_runs_on_the_machine_that_it_is_given_to(shop: Shop) -> None:
    script = await shop.script("echo hello")
    assert script["assignedMachineIds"] == []
    assert "script" not in script, "the text is told nowhere"
    id_ = await shop.rent(startupScriptId=script["id"])
    spec = shop.at.served.host.running[id_]
    assert spec.user_data == b"#!/bin/bash\necho hello"
    shown = await shop.at.json("GET", f"/startup-scripts/{script['id']}")
    assert shown["assignedMachineIds"] == [id_]
    gone = await shop.at.json("DELETE", f"/startup-scripts/{script['id']}")
    assert gone["dtDeleted"] is not None
    assert (await shop.at.refused("GET", f"/startup-scripts/{script['id']}"))[0] == 404
    assert await shop.state(id_) == "ready"
    assert (await shop.refused(startupScriptId=script["id"]))[0] == 404


async def test_a_script_for_every_boot_can_be_given_and_taken_later(shop: Shop) -> None:
    script, id_ = await shop.script("#!/bin/sh\ndate", isRunOnce=False), await shop.rent()
    path = f"/startup-scripts/{script['id']}"
    given = await shop.at.json("POST", f"{path}/assign", {"machineId": id_})
    assert given["assignedMachineIds"] == [id_]
    await shop.patch(id_, "restart")
    await shop.at.advance(8)
    assert shop.at.served.host.running[id_].startup_script == "#!/bin/sh\ndate"
    taken = await shop.at.json("POST", f"{path}/unassign", {"machineId": id_})
    assert taken["assignedMachineIds"] == []
    assert (await shop.at.refused("POST", f"{path}/unassign", {"machineId": id_}))[0] == 400
    changed = await shop.at.json("PUT", path, {"name": "n", "isEnabled": False})
    assert (changed["name"], changed["isEnabled"]) == ("n", False)
    assert [row["name"] for row in (await shop.page("/startup-scripts?name=n"))["items"]] == ["n"]


# --- what stays ---------------------------------------------------------------------------


async def test_a_static_address_outlives_its_machine_and_costs(shop: Shop) -> None:
    id_ = await shop.rent(publicIpType="static", takeInitialSnapshot=True)
    address = (await shop.show(id_))["publicIp"]
    assert address == shop.at.served.host.running[id_].address
    await shop.patch(id_, "stop")
    assert (await shop.show(id_))["publicIp"] == address
    (row,) = (await shop.page("/public-ips"))["items"]
    assert (row["ip"], row["assignedMachineId"]) == (address, id_)
    assert (await shop.at.refused("DELETE", f"/public-ips/{address}"))[0] == 409
    assert await shop.kept() == {"public_ip": True, "snapshot": True}
    await shop.end(id_)
    assert await shop.kept() == {"public_ip": True}, "snapshots go with the machine"
    (row,) = (await shop.page("/public-ips"))["items"]
    assert "assignedMachineId" not in row
    assert await shop.at.json("DELETE", f"/public-ips/{address}") == {"ip": address}
    assert await shop.kept() == {}


async def test_addresses_are_claimed_given_and_taken(shop: Shop) -> None:
    ip = (await shop.at.json("POST", "/public-ips", {"region": "NY2"}))["ip"]
    id_ = await shop.rent(publicIpType="none")
    assert (await shop.show(id_))["publicIp"] is None
    await shop.at.json("PUT", f"/public-ips/{ip}", {"machineId": id_})
    row = await shop.show(id_)
    assert (row["publicIp"], row["publicIpType"]) == (ip, "static")
    await shop.at.json("PUT", f"/public-ips/{ip}", {"machineId": None})
    assert (await shop.show(id_))["publicIp"] is None
    far = (await shop.at.json("POST", "/public-ips", {"region": "CA1"}))["ip"]
    assert (await shop.at.refused("PUT", f"/public-ips/{far}", {"machineId": id_}))[0] == 400
    await shop.at.json("PUT", f"/machines/{id_}", {"publicIpType": "static"})
    assert len((await shop.page("/public-ips"))["items"]) == 3
    await shop.at.json("PUT", f"/machines/{id_}", {"publicIpType": "dynamic"})
    assert len((await shop.page("/public-ips"))["items"]) == 2
    assert (await shop.at.refused("DELETE", "/public-ips/127.0.0.9"))[0] == 404


async def test_networks_and_drives_stay_until_they_are_deleted(shop: Shop) -> None:
    wanted = {"name": "n", "region": NY2}
    network = (await shop.at.json("POST", "/private-networks", wanted))["id"]
    drive_wanted = wanted | {"size": 250, "networkId": network}
    drive = (await shop.at.json("POST", "/shared-drives", drive_wanted))["id"]
    assert (await shop.at.refused("POST", "/shared-drives", drive_wanted | {"size": 3}))[0] == 400
    id_ = await shop.rent(networkId=network)
    assert (await shop.show(id_))["networkId"] == network
    assert (await shop.at.refused("DELETE", f"/private-networks/{network}"))[0] == 409
    await shop.end(id_)
    assert await shop.kept() == {"private_network": False, "shared_drive": True}
    assert (await shop.refused(networkId=network, region="CA1"))[0] == 400
    assert (await shop.refused(networkId="none"))[0] == 404
    for path in (f"/shared-drives/{drive}", f"/private-networks/{network}"):
        assert (await shop.at.json("GET", path))["name"] == "n"
        assert await shop.at.json("DELETE", path) == {"id": path.split("/")[-1]}
        assert (await shop.at.refused("GET", path))[0] == 404
    for path in ("/shared-drives?region=NY2", "/private-networks"):
        assert (await shop.page(path))["items"] == []


async def test_snapshots_are_made_restored_and_deleted(shop: Shop) -> None:
    id_ = await shop.rent()
    body = {"machineId": id_, "name": "before"}
    told = await shop.at.json("POST", "/snapshots", body)
    assert told["event"]["name"] == "snapshot-create"
    path = f"/snapshots/{told['data']['id']}"
    assert (await shop.at.refused("POST", f"{path}/restore", {}))[0] == 409
    await shop.patch(id_, "stop")
    await shop.at.advance(5)
    back = {"createSnapshotBeforeRestore": True}
    restored = await shop.at.json("POST", f"{path}/restore", back)
    await shop.at.advance(4)
    assert await shop.event(restored["event"]["id"]) == ("done", None)
    assert len((await shop.page(f"/snapshots?machineId={id_}"))["items"]) == 2
    assert (await shop.at.json("GET", path))["name"] == "before"
    assert (await shop.at.json("DELETE", path))["event"]["name"] == "snapshot-delete"
    assert (await shop.at.refused("GET", path))[0] == 404


# --- what a create refuses ----------------------------------------------------------------


INVALID: tuple[tuple[dict[str, Any], int, str], ...] = (
    ({"surprise": 1}, 400, "surprise"),
    ({"name": ""}, 400, "name"),
    ({"diskSize": 60}, 400, "diskSize"),
    ({"diskSize": "100"}, 400, "diskSize"),
    ({"machineType": "H9000"}, 400, "machine type"),
    ({"templateId": "tiq8mhti"}, 400, "not available for this machine type"),
    ({"templateId": "none"}, 404, "Template"),
    ({"region": "Mars"}, 400, "region"),
    ({"publicIpType": "public"}, 400, "publicIpType"),
    ({"autoShutdownTimeout": 0}, 400, "autoShutdownTimeout"),
    ({"accessorIds": ["u-other"]}, 400, "accessor"),
    ({"machineType": "A5000x2", "region": "CA1"}, 412, "not available in West Coast"),
)
"""A change of the order, the status, and words of the refusal."""


async def test_an_invalid_order_is_refused_in_words(shop: Shop) -> None:
    for change, status, words in INVALID:
        told, body = await shop.refused(**change)
        assert (told, words in str(body)) == (status, True), change
    assert await shop.at.served.control("GET", "machines") == []


async def test_a_missing_field_is_told_by_its_name(shop: Shop) -> None:
    for field in ("name", "machineType", "templateId", "region", "diskSize"):
        body = {name: value for name, value in ORDER.items() if name != field}
        status, told = await shop.at.refused("POST", "/machines", body)
        assert (status, field in told["issues"][0]["message"]) == (400, True)


async def test_what_is_sold_out_or_not_allowed_is_refused_and_makes_nothing(shop: Shop) -> None:
    await shop.at.fault("create", "no_capacity", times=1)
    status, body = await shop.refused()
    assert (status, CAPACITY in body["message"]) == (412, True)
    await shop.at.fault("create", "quota", times=1)
    status, body = await shop.refused()
    assert (status, "limit" in body["message"]) == (403, True)
    assert await shop.at.served.control("GET", "machines") == []
    for _ in range(20):
        await shop.order(startOnCreate=False)
    assert (await shop.refused())[0] == 403, "the team's maximum"


async def test_without_money_machines_go_off_and_none_is_made(shop: Shop) -> None:
    id_ = await shop.rent(**H100X8)
    assert (await shop.at.json("GET", "/billing/account-standing"))["isInGoodStanding"]
    await shop.at.advance(2200 * 3600)
    assert await shop.state(id_) == "off"
    standing = await shop.at.json("GET", "/billing/account-standing")
    assert (standing["isInGoodStanding"], len(standing["messages"])) == (False, 1)
    assert (await shop.refused())[0] == 403


# --- faults -------------------------------------------------------------------------------

ANSWERED = {
    "rate_limit": (429, "TOO_MANY_REQUESTS"),
    "server_error": (500, "INTERNAL_SERVER_ERROR"),
    "bad_credentials": (401, "UNAUTHORIZED"),
    "not_found_for_bad_key": (404, "NOT_FOUND"),
}


@pytest.mark.parametrize("kind", ANSWERED)
async def test_a_fault_of_the_whole_call_has_the_vendors_form(shop: Shop, kind: str) -> None:
    await shop.at.fault("list", kind, times=1)
    status, body = await shop.at.refused("GET", "/machines")
    assert (status, body["code"]) == ANSWERED[kind]
    assert set(body) == {"code", "message"}
    assert await shop.ids() == []


async def test_faults_of_lists(shop: Shop) -> None:
    first, second = await shop.rent(), await shop.rent()
    await shop.at.fault("list", "duplicate_list", times=1)
    assert await shop.ids() == [second, second, first, first]
    await shop.at.fault("list", "list_partial", times=1)
    assert await shop.ids() == [second]
    await shop.at.fault("list", "other_account", times=1)
    assert await shop.ids() == []
    await shop.at.fault("create", "list_lag", delay_s=60, times=1)
    late = await shop.rent()
    assert await shop.ids() == [second, first]
    assert await shop.state(late) == "ready"
    await shop.at.advance(60)
    assert await shop.ids() == [late, second, first]
    await shop.at.fault("offers", "no_capacity", times=1)
    assert not any((await shop.available()).values())
    await shop.at.fault("offers", "duplicate_list", times=1)
    rows = (await shop.page("/os-templates"))["items"]
    assert rows[0] == rows[1]
    team = (await shop.at.json("GET", "/auth/session"))["team"]["id"]
    await shop.at.fault("account", "other_account", times=1)
    assert (await shop.at.json("GET", "/auth/session"))["team"]["id"] != team


async def test_faults_that_a_machine_is_born_with(shop: Shop) -> None:
    for kind in ("wrong_gpu", "price_changed", "ignored_field", "ssh_refused"):
        await shop.at.fault("create", kind, times=1)
    id_ = await shop.rent()
    row, spec = await shop.show(id_), shop.at.served.host.running[id_]
    assert (row["accelerators"][0]["name"], row["name"]) == ("H100", "New machine")
    assert row["publicIp"] != spec.address, "nothing listens there"
    assert row["usageRate"] == pytest.approx(0.76 * 1.5)


async def test_a_boot_can_fail_and_never_come(shop: Shop) -> None:
    await shop.at.fault("create", "boot_failure", times=1)
    made = await shop.order()
    await shop.at.advance(9)
    failed = made["data"]["id"]
    assert await shop.state(failed) == "off"
    assert await shop.event(made["event"]["id"]) == ("error", "The machine failed to start.")
    assert (await shop.truth(failed))["billed_for"] == ["disk"]
    assert (await shop.patch(failed, "start"))["data"]["state"] == "starting"
    await shop.at.fault("create", "stuck_pending", times=1)
    stuck = await shop.rent()
    await shop.at.advance(3600)
    assert await shop.state(stuck) == "provisioning"


async def test_an_ignored_end_goes_on_to_cost(shop: Shop) -> None:
    id_ = await shop.rent()
    await shop.at.fault("terminate", "terminate_ignored", times=1)
    await shop.end(id_)
    assert await shop.state(id_) == "ready"
    assert (await shop.truth(id_))["billed"]
    await shop.end(id_)
    assert not (await shop.truth(id_))["billed"]


def test_every_kind_of_fault_is_tried_here() -> None:
    text = Path(__file__).read_text()
    general = {"timeout", "slow", "disconnect_before", "disconnect_after", "garbage"}
    assert [kind for kind in KINDS if f'"{kind}"' not in text and kind not in general] == []
