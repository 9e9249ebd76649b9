"""Jarvis Labs' emulator: what it does, and what it refuses in the vendor's words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gpubroker.sandbox.faults import KINDS
from gpubroker.sandbox.processes import own_address

if TYPE_CHECKING:
    from tests.sandbox.customer import Customer

PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"
SECOND = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBBBBBBBBBBB you"
NOIDA, CHENNAI, EUROPE = "india-noida-01", "india-chennai-01", "europe-01"
ORDER: dict[str, Any] = {
    "gpu_type": "L4",
    "num_gpus": 1,
    "hdd": 50,
    "region": NOIDA,
    "name": "gb-abc123",
    "is_spot": False,
    "duration": "hour",
    "disk_type": "ssd",
    "http_ports": "",
    "script_id": None,
    "script_args": "",
    "fs_id": None,
    "arguments": "",
}
VM = {"gpu_type": "A100-80GB", "hdd": 100}
CPU: dict[str, Any] = {
    "num_cpus": 1,
    "vcpus": 4,
    "ram_gb": 16,
    "hdd": 100,
    "region": NOIDA,
    "name": "gb-cpu",
    "duration": "hour",
    "disk_type": "ssd",
}
OK = {"success": True}
FORM = {"content-type": "multipart/form-data; boundary=b0"}


class Shop:
    """One account of Jarvis Labs."""

    def __init__(self, customer: Customer) -> None:
        self.at = customer

    async def key(self, text: str = PUBLIC, name: str = "broker") -> str:
        body = {"ssh_key": text, "key_name": name}
        assert await self.at.json("POST", "/ssh/", body, status=200) == OK
        return str((await self.at.json("GET", "/ssh/"))[-1]["key_id"])

    async def order(self, template: str = "pytorch", **more: Any) -> int:
        made = await self.at.json("POST", f"/templates/{template}/create", {**ORDER, **more})
        assert set(made) == {"machine_id"}
        return int(made["machine_id"])

    async def rent(self, template: str = "pytorch", **more: Any) -> int:
        """An instance that runs and can be reached."""
        id_ = await self.order(template, **more)
        await self.at.advance(8)
        return id_

    async def show(self, id_: int) -> dict[str, Any]:
        answer = await self.at.json("GET", f"/users/fetch/{id_}", status=200)
        assert answer["success"], answer
        shown: dict[str, Any] = answer["instance"]
        return shown

    async def status(self, id_: int) -> str:
        return str((await self.show(id_))["status"])

    async def ids(self) -> list[int]:
        answer = await self.at.json("GET", "/users/fetch")
        assert answer["success"]
        return [row["machine_id"] for row in answer["instances"]]

    async def act(self, path: str, id_: int) -> Any:
        return await self.at.json("POST", f"{path}?machine_id={id_}", status=200)

    async def resume(self, id_: int, template: str = "pytorch", **more: Any) -> int:
        body = {name: ORDER[name] for name in ORDER if name not in ("region", "disk_type")}
        body |= {"machine_id": id_, **more}
        made = await self.at.json("POST", f"/templates/{template}/resume", body, status=200)
        return int(made["machine_id"])

    async def paused(self, **more: Any) -> int:
        id_ = await self.rent(**more)
        assert await self.act("/misc/pause", id_) == OK
        await self.at.advance(5)
        return id_

    async def script(self, text: str, name: str = "s") -> int:
        answer = await self.upload(f"/scripts/add?name={name}", text)
        assert answer == (200, OK)
        return int((await self.at.json("GET", "/scripts/"))["script_meta"][-1]["script_id"])

    async def upload(self, path: str, text: str) -> tuple[int, Any]:
        head = (
            '--b0\r\nContent-Disposition: form-data; name="script"; filename="startup.sh"\r\n'
            "Content-Type: application/x-sh\r\n\r\n"
        )
        content = f"{head}{text}\r\n--b0--\r\n".encode()
        answer = await self.at.ask("POST", path, content=content, headers=FORM)
        return answer.status_code, answer.json()

    async def gpus(self, gpu: str, region: str = NOIDA) -> list[dict[str, Any]]:
        rows = (await self.at.json("GET", "/misc/server_meta"))["server_meta"]
        return [row for row in rows if (row["gpu_type"], row["region"]) == (gpu, region)]

    async def truth(self, id_: int) -> dict[str, Any]:
        rows = await self.at.served.control("GET", "machines")
        found: dict[str, Any] = next(row for row in rows if row["provider_id"] == str(id_))
        return found

    def spec(self, id_: int) -> Any:
        return self.at.served.host.running[str(id_)]


@pytest.fixture
def shop(customer: Callable[..., Customer]) -> Shop:
    return Shop(customer("/jarvislabs", {"Authorization": "Bearer my-key"}))


@pytest.fixture
def other(customer: Callable[..., Customer]) -> Shop:
    return Shop(customer("/jarvislabs", {"Authorization": "Bearer your-key"}))


# --- doors and catalogue ------------------------------------------------------------------


@pytest.mark.parametrize("header", [{}, {"Authorization": "my-key"}, {"X-Api-Key": "my-key"}])
async def test_a_call_without_a_bearer_token_is_refused(
    customer: Callable[..., Customer], header: dict[str, str]
) -> None:
    nobody = customer("/jarvislabs", header)
    assert await nobody.refused("GET", "/misc/server_meta") == (
        401,
        {"detail": "Not authenticated"},
    )


async def test_a_bad_key_and_wrong_paths_are_refused(
    customer: Callable[..., Customer], shop: Shop
) -> None:
    bad = customer("/jarvislabs", {"Authorization": "Bearer invalid-key"})
    assert await bad.refused("GET", "/users/fetch") == (
        401,
        {"message": "Invalid or expired token"},
    )
    for path in ("/ssh", "/users/fetch/", "/misc", "/scripts", "/nothing"):
        assert await shop.at.refused("GET", path) == (404, {"detail": "Not Found"})
    assert (await shop.at.refused("DELETE", "/users/fetch"))[0] == 405
    assert (await shop.at.refused("GET", "/users/fetch?page=2"))[0] == 422
    assert (await shop.at.refused("GET", "/users/fetch/abc"))[0] == 422


async def test_servers_are_rows_and_prices_are_per_gpu(shop: Shop) -> None:
    meta = await shop.at.json("GET", "/misc/server_meta", headers={"X-Client-Id": "skypilot"})
    assert meta["currency"] == "USD"
    big, small = await shop.gpus("L4")
    assert big == {
        "gpu_type": "L4",
        "region": NOIDA,
        "num_free_devices": 8,
        "effective_num_free_devices": 8,
        "spot_num_free_devices": 8,
        "price_per_hour": 0.44,
        "spot_price": 0.29,
        "vram": "24",
        "arc": "Ada",
        "cpus_per_gpu": 28,
        "ram_per_gpu": 124,
        "workload_type": "container",
        "num_gpus": "8",
    }
    assert (small["num_gpus"], small["num_free_devices"]) == (4, 4)
    (europe,) = await shop.gpus("H100", EUROPE)
    assert europe["workload_type"] is None
    assert "effective_num_free_devices" not in europe
    (sold_out,) = await shop.gpus("A6000", CHENNAI)
    assert sold_out["num_free_devices"] == 0
    assert "num_gpus" not in sold_out
    assert (await shop.gpus("A5000", CHENNAI))[0]["num_gpus"] == ""
    sizes = {(row["vcpus"], row["ram_gb"]): row for row in meta["cpu_meta"]["combinations"]}
    assert sizes[4, 16] == {
        "vcpus": 4,
        "ram_gb": 16,
        "price": 0.0992,
        "available": True,
        "regions": {NOIDA: True, CHENNAI: True, EUROPE: False},
    }
    assert sizes[8, 32]["regions"][NOIDA] is False
    frameworks = (await shop.at.json("GET", "/misc/frameworks"))["frameworks"]
    assert {"pytorch", "jax", "vm"} <= {row["id"] for row in frameworks}
    assert {row["versions"] for row in frameworks} >= {None}
    assert await shop.at.json("GET", "/misc/") == {"success": False}


# --- the life of a container --------------------------------------------------------------


async def test_a_container_comes_up_step_by_step(shop: Shop) -> None:
    await shop.key()
    id_ = await shop.order(http_ports="7860,8080", num_gpus=2)
    assert await shop.status(id_) == "Creating"
    assert await shop.ids() == [], "no list has it yet"
    progress = f"/misc/status?machine_id={id_}"
    assert (await shop.at.refused("GET", progress))[0] == 404
    await shop.at.advance(3)
    assert await shop.ids() == [id_]
    running = {"status": "Creating", "error": "None", "code": None}
    assert await shop.at.json("GET", progress) == running
    await shop.at.advance(3)
    young = await shop.show(id_)
    assert (young["status"], young["ssh_str"]) == ("Running", None)
    await shop.at.advance(2)
    row, spec = await shop.show(id_), shop.spec(id_)
    machine = shop.at.cloud.machines[str(id_)]
    gateway = f"ssh -o StrictHostKeyChecking=no -p {machine.ssh_port} root@127.0.0.1"
    assert (row["ssh_str"], row["public_ip"]) == (gateway, None)
    ports = [machine.published[f"{port}/http"] for port in (6006, 7860, 8080)]
    assert row["endpoints"] == [f"https://127.0.0.1:{port}" for port in ports]
    shown = (row["cores"], row["ram"], row["hdd"], row["framework"], row["instance_name"])
    assert shown == ("56", "248GB", 50, "pytorch", "gb-abc123")
    assert (spec.keys, spec.user, spec.gpu_count, spec.docker) == ((PUBLIC,), "root", 2, False)
    assert [row["num_free_devices"] for row in await shop.gpus("L4")] == [6, 4]
    assert (await shop.truth(id_))["billed_for"] == ["disk", "gpu"]


async def test_a_script_runs_at_each_start_that_names_it(shop: Shop) -> None:
    plain = await shop.script("#!/bin/sh\necho hi $1\n")
    first = await shop.rent(script_id=plain)
    assert shop.spec(first).startup_script == "#!/bin/sh\necho hi $1\n"
    second = await shop.rent(script_id=plain, script_args="a 'b c'")
    assert shop.spec(second).startup_script == "#!/bin/sh\nset -- a 'b c'\necho hi $1\n"
    assert await shop.upload(f"/scripts/update?script_id={plain}", "echo new") == (200, OK)
    await shop.act("/misc/pause", first)
    await shop.at.advance(5)
    again = await shop.resume(first, script_id=plain)
    await shop.at.advance(8)
    assert shop.spec(again).startup_script == "echo new"
    assert (await shop.at.json("DELETE", f"/scripts/?script_id={plain}")) == OK
    gone = await shop.at.refused("DELETE", f"/scripts/?script_id={plain}")
    assert gone == (404, {"detail": "Script not found"})
    wrong = {**ORDER, "script_id": plain}
    assert (await shop.at.refused("POST", "/templates/pytorch/create", wrong))[0] == 400
    assert (await shop.upload("/scripts/add?name=x", "  "))[0] == 422


async def test_a_paused_container_keeps_its_disk_and_comes_back_under_another_id(
    shop: Shop,
) -> None:
    await shop.key()
    id_ = await shop.rent()
    home = shop.spec(id_).folder
    for place in ("home", "root", "opt"):
        (home / place).mkdir(parents=True)
    assert await shop.act("/misc/pause", id_) == OK
    assert await shop.status(id_) == "Pausing"
    assert (await shop.truth(id_))["billed_for"] == ["disk_stopped"]
    await shop.at.advance(5)
    stale = await shop.show(id_)
    assert stale["status"] == "Paused"
    assert stale["ssh_str"], "where it answered before"
    assert stale["endpoints"]
    await shop.key(SECOND, "late")
    new = await shop.resume(id_, gpu_type="H100", num_gpus=2, hdd=80)
    assert new != id_
    gone = {"success": False, "message": "Instance not found"}
    assert await shop.at.json("GET", f"/users/fetch/{id_}") == gone
    assert await shop.status(new) == "Resuming"
    assert await shop.ids() == [new]
    await shop.at.advance(8)
    row = await shop.show(new)
    told = (row["status"], row["gpu_type"], row["num_gpus"], row["hdd"])
    assert told == ("Running", "H100", 2, 80)
    assert shop.spec(new).keys == (PUBLIC, SECOND)
    assert sorted(path.name for path in shop.spec(new).folder.iterdir()) == ["home"]
    assert (await shop.truth(new))["price_per_hour"] == pytest.approx(6.98 + 80 * 0.1 / 730)
    assert str(id_) not in shop.at.cloud.machines


async def test_what_cannot_be_resumed_is_refused(shop: Shop) -> None:
    id_ = await shop.rent()
    body = {name: ORDER[name] for name in ORDER if name not in ("region", "disk_type")}
    body["machine_id"] = id_

    async def refused(template: str = "pytorch", **more: Any) -> tuple[int, Any]:
        return await shop.at.refused("POST", f"/templates/{template}/resume", body | more)

    running = "Can only resume a Paused instance (current status: Running)"
    assert await refused() == (400, {"message": running})
    await shop.act("/misc/pause", id_)
    assert (await refused())[1]["message"].endswith("Pausing)")
    await shop.at.advance(5)
    assert await refused(hdd=40) == (400, {"message": "Storage can only be increased"})
    assert (await refused("vm"))[0] == (await refused("jax"))[0] == 400
    told = await refused(gpu_type="RTX-PRO6000")
    assert "RTX-PRO6000" not in told[1]["detail"]["gpu_types"], "of this region only"
    await shop.at.fault("start", "no_capacity", times=1)
    assert "not available" in (await refused())[1]["message"]
    await shop.at.fault("start", "quota", times=1)
    assert (await refused())[0] == 403
    assert await shop.status(id_) == "Paused"


async def test_destroyed_it_is_told_of_for_a_moment(shop: Shop) -> None:
    id_ = await shop.rent()
    assert await shop.act("/misc/destroy", id_) == OK
    assert await shop.status(id_) == "Destroying"
    assert not (await shop.truth(id_))["billed"]
    again = await shop.at.refused("POST", f"/misc/destroy?machine_id={id_}")
    assert again == (404, {"message": "Instance not found"})
    await shop.at.advance(6)
    assert await shop.ids() == []
    assert not (await shop.at.json("GET", f"/users/fetch/{id_}"))["success"]


async def test_actions_need_the_path_of_their_kind(shop: Shop) -> None:
    await shop.key()
    container, machine = await shop.rent(), await shop.rent("vm", **VM)
    made = await shop.at.json("POST", "/templates/vm/cpu/create", CPU)
    await shop.at.advance(8)
    paths = {"/misc": container, "/templates/vm": machine, "/templates/vm/cpu": made["machine_id"]}
    for path in paths:
        for right, id_ in paths.items():
            if path != right:
                wrong = f"{path}/destroy?machine_id={id_}"
                assert (await shop.at.refused("POST", wrong))[0] == 400
    for path, id_ in paths.items():
        assert await shop.act(f"{path}/pause", id_) == OK
        assert (await shop.at.refused("POST", f"{path}/pause?machine_id={id_}"))[0] == 400
        assert await shop.act(f"{path}/destroy", id_) == OK
    assert not any(row["billed"] for row in await shop.at.served.control("GET", "machines"))


# --- VMs ----------------------------------------------------------------------------------


async def test_a_vm_needs_a_key_and_has_an_address_of_its_own(shop: Shop) -> None:
    no_key = await shop.at.refused("POST", "/templates/vm/create", {**ORDER, **VM})
    assert no_key == (400, {"message": "Add an SSH key before you launch a VM"})
    assert (await shop.at.refused("POST", "/templates/vm/cpu/create", CPU))[0] == 400
    await shop.key()
    script = await shop.script("echo never")
    id_ = await shop.rent("vm", **VM, script_id=script)
    row, spec = await shop.show(id_), shop.spec(id_)
    address = own_address("jarvislabs", str(id_))
    assert (row["public_ip"], row["ssh_str"]) == (address, f"ssh ubuntu@{address}")
    assert (row["url"], row["endpoints"], row["framework"]) == (None, None, "vm")
    assert (spec.user, spec.docker, spec.keys, spec.startup_script) == (
        "ubuntu",
        True,
        (PUBLIC,),
        "",
    )


async def test_a_vm_keeps_its_id_and_its_disk_and_lets_later_keys_in(shop: Shop) -> None:
    await shop.key()
    id_ = await shop.rent("vm", **VM)
    known = shop.spec(id_).folder / "home" / "ubuntu" / ".ssh" / "authorized_keys"
    known.parent.mkdir(parents=True)
    known.write_text(f"{PUBLIC}\n")
    await shop.key(SECOND, "late")
    await shop.act("/templates/vm/pause", id_)
    await shop.at.advance(5)
    assert await shop.resume(id_, "vm", **VM) == id_
    await shop.at.advance(8)
    assert await shop.status(id_) == "Running"
    assert known.read_text().splitlines() == [PUBLIC, SECOND]


async def test_a_cpu_vm_is_ordered_by_size_and_can_change_it(shop: Shop) -> None:
    await shop.key()
    made = await shop.at.json("POST", "/templates/vm/cpu/create", CPU, status=200)
    id_ = made["machine_id"]
    await shop.at.advance(8)
    row = await shop.show(id_)
    told = (row["gpu_type"], row["num_gpus"], row["cores"], row["ram"], row["framework"])
    assert told == ("CPU", 0, "4", "16GB", "vm")
    await shop.act("/templates/vm/cpu/pause", id_)
    await shop.at.advance(5)
    body = {"machine_id": id_, "num_cpus": 1, "hdd": 100, "name": "gb-cpu"}
    bigger = body | {"vcpus": 2, "ram_gb": 8}
    assert await shop.at.json("POST", "/templates/vm/cpu/resume", bigger) == made
    await shop.at.advance(8)
    assert (await shop.show(id_))["cores"] == "2"
    unknown = await shop.at.refused("POST", "/templates/vm/cpu/create", CPU | {"ram_gb": 17})
    assert unknown[1]["message"].startswith("Invalid CPU VM size")
    await shop.at.fault("create", "no_capacity", times=1)
    sold_out = await shop.at.json("POST", "/templates/vm/cpu/create", CPU, status=200)
    assert sold_out == {"sucess": "false", "error": "This CPU size is out of stock"}


# --- spot ---------------------------------------------------------------------------------


async def test_spot_has_a_fixed_price_and_ends_in_a_pause(shop: Shop) -> None:
    id_ = await shop.rent(is_spot=True, num_gpus=2)
    row = await shop.show(id_)
    assert (row["is_spot"], row["is_reserved"]) == (True, False)
    assert (await shop.truth(id_))["price_per_hour"] == pytest.approx(0.58 + 5 / 730)
    await shop.at.advance(30 * 86_400)
    assert await shop.status(id_) == "Running", "no bid that could lose"
    taken = {"provider": "jarvislabs", "provider_id": str(id_)}
    await shop.at.served.control("POST", "preempt", taken)
    assert await shop.status(id_) == "Paused"
    await shop.at.advance(86_400)
    assert await shop.status(id_) == "Paused", "it does not come back by itself"
    again = await shop.resume(id_)
    assert (await shop.show(again))["is_spot"] is False, "on demand, unless it is said again"


async def test_who_pays_the_full_price_turns_spot_out(shop: Shop, other: Shop) -> None:
    spots = [await other.rent(is_spot=True, num_gpus=n) for n in (8, 4)]
    rows = await shop.gpus("L4")
    counts = [(r["num_free_devices"], r["effective_num_free_devices"]) for r in rows]
    assert counts == [(0, 8), (0, 4)]
    assert [row["spot_num_free_devices"] for row in rows] == [0, 0]
    no_spot = {**ORDER, "is_spot": True}
    assert (await shop.at.refused("POST", "/templates/pytorch/create", no_spot))[0] == 400
    await shop.rent(num_gpus=4)
    assert [await other.status(id_) for id_ in spots] == ["Paused", "Running"]


async def test_spot_is_not_for_vms_nor_for_every_gpu(shop: Shop) -> None:
    await shop.key()
    body = {**ORDER, **VM, "is_spot": True}
    refused = await shop.at.refused("POST", "/templates/vm/create", body)
    assert refused == (400, {"message": "Spot instances are only supported for GPU containers"})
    body = {**ORDER, "gpu_type": "H200", "is_spot": True}
    assert (
        "Spot is not"
        in (await shop.at.refused("POST", "/templates/jax/create", body))[1]["message"]
    )


# --- what a create refuses ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"surprise": 1}, ["body", "surprise"]),
        ({"hdd": "50"}, ["body", "hdd"]),
        ({"hdd": 19}, ["body", "hdd"]),
        ({"hdd": 2049}, ["body", "hdd"]),
        ({"region": EUROPE, "gpu_type": "H100"}, ["body", "hdd"]),
        ({"region": "india-01"}, ["body", "region"]),
        ({"num_gpus": 0}, ["body", "num_gpus"]),
        ({"num_gpus": 9}, ["body", "num_gpus"]),
        ({"region": EUROPE, "gpu_type": "H100", "hdd": 100, "num_gpus": 2}, ["body", "num_gpus"]),
        ({"name": "a" * 41}, ["body", "name"]),
        ({"name": "a.b"}, ["body", "name"]),
        ({"duration": "year"}, ["body", "duration"]),
        ({"http_ports": "80;81"}, ["body", "http_ports"]),
        ({"http_ports": "70000"}, ["body", "http_ports"]),
    ],
)
async def test_an_invalid_order_is_a_422_that_names_the_field(
    shop: Shop, change: dict[str, Any], place: list[str]
) -> None:
    status, body = await shop.at.refused("POST", "/templates/pytorch/create", {**ORDER, **change})
    assert (status, [row["loc"] for row in body["detail"]]) == (422, [place])
    assert await shop.at.served.control("GET", "machines") == []


async def test_a_missing_field_and_no_json_are_422s(shop: Shop) -> None:
    body = {name: value for name, value in ORDER.items() if name != "gpu_type"}
    status, told = await shop.at.refused("POST", "/templates/pytorch/create", body)
    row = {"type": "missing", "loc": ["body", "gpu_type"], "msg": "Field required"}
    assert (status, told) == (422, {"detail": [row]})
    status, told = await shop.at.refused("POST", "/templates/pytorch/create", content=b"{")
    assert (status, told["detail"][0]["type"]) == (422, "json_invalid")


async def test_what_is_not_sold_there_is_refused_and_makes_nothing(shop: Shop) -> None:
    await shop.key()

    async def refused(template: str = "pytorch", **more: Any) -> tuple[int, Any]:
        return await shop.at.refused("POST", f"/templates/{template}/create", {**ORDER, **more})

    assert await refused("windows") == (404, {"detail": "Template not found"})
    status, body = await refused(gpu_type="H300")
    assert (status, "L4" in body["detail"]["gpu_types"]) == (400, True)
    assert (await refused("vm", gpu_type="L4", hdd=100))[0] == 400, "sold as containers only"
    sold_out = await refused(gpu_type="A6000", region=CHENNAI)
    assert sold_out[1] == {"message": f"A6000 is not available in {CHENNAI} right now"}
    assert (await refused(fs_id=7))[0] == (await refused("vm", **VM, http_ports="80"))[0] == 400
    await shop.at.fault("create", "no_capacity", times=2)
    assert (await refused())[0] == 400
    status, body = await refused("vm", **VM)
    assert (status, "capacity" in body["error"]) == (409, True)
    await shop.at.fault("create", "quota", times=1)
    status, body = await refused()
    assert (status, "balance" in body["message"]) == (403, True)
    assert await shop.at.served.control("GET", "machines") == []


async def test_a_null_workload_takes_containers_and_vms(shop: Shop) -> None:
    await shop.key()
    here = {"gpu_type": "H100", "region": EUROPE, "hdd": 100}
    for template in ("pytorch", "vm"):
        assert (await shop.show(await shop.rent(template, **here)))["region"] == EUROPE


# --- beside the machines ------------------------------------------------------------------


async def test_keys_are_the_accounts_and_ten_at_most(shop: Shop, other: Shop) -> None:
    first = await shop.key()
    (row,) = await shop.at.json("GET", "/ssh/")
    assert (row["key_id"], row["key_name"], row["ssh_key"]) == (first, "broker", PUBLIC)
    assert await other.at.json("GET", "/ssh/") == []
    bad = await shop.at.json("POST", "/ssh/", {"ssh_key": "no key", "key_name": "x"})
    assert bad == {"sucess": "false", "error": "Invalid SSH key"}
    for number in range(9):
        await shop.key(name=str(number))
    full = await shop.at.json("POST", "/ssh/", {"ssh_key": PUBLIC, "key_name": "x"})
    assert full["sucess"] == "false"
    assert await shop.at.json("DELETE", f"/ssh/{first}") == OK
    assert (await shop.at.json("DELETE", f"/ssh/{first}"))["success"] is False
    assert {row["kind"] for row in await shop.at.served.control("GET", "resources")} == {"ssh_key"}


async def test_filesystems_cost_grow_under_another_id_and_are_attached(shop: Shop) -> None:
    body = {"fs_name": "data", "storage": 100, "region": NOIDA}
    first = (await shop.at.json("POST", "/filesystem/create", body))["fs_id"]
    listed = [{"fs_id": first, "fs_name": "data", "storage": 100, "region": NOIDA}]
    assert await shop.at.json("GET", "/filesystem/list") == listed
    grown = {"fs_id": first, "storage": 200}
    second = (await shop.at.json("POST", "/filesystem/edit", grown))["fs_id"]
    assert second != first
    assert (await shop.at.refused("POST", "/filesystem/edit", grown))[0] == 404
    smaller = {"fs_id": second, "storage": 100}
    assert (await shop.at.refused("POST", "/filesystem/edit", smaller))[0] == 400
    id_ = await shop.rent(fs_id=second)
    assert (await shop.show(id_))["fs_id"] == second
    in_use = await shop.at.json("POST", f"/filesystem/delete?fs_id={second}")
    assert in_use["success"] is False
    await shop.act("/misc/destroy", id_)
    rows = await shop.at.served.control("GET", "resources")
    assert [(r["billed"], r["price_per_hour"]) for r in rows] == [
        (False, 0),
        (True, pytest.approx(20 / 730)),
    ]
    assert await shop.at.json("POST", f"/filesystem/delete?fs_id={second}") == OK
    for wrong in ({"storage": 49}, {"fs_name": "n" * 31}, {"region": "mars"}):
        assert (await shop.at.refused("POST", "/filesystem/create", body | wrong))[0] == 422


async def test_the_account_tells_who_what_is_left_and_how_many(shop: Shop, other: Shop) -> None:
    await shop.key()
    mine, yours = [await s.at.json("GET", "/users/user_info") for s in (shop, other)]
    assert mine["user_id"] != yours["user_id"]
    id_ = await shop.rent()
    await shop.rent("vm", **VM)
    await shop.paused()
    counts = await shop.at.json("GET", "/misc/resource_metrics")
    told = [
        counts[f"{word}_{kind}"] for word in ("running", "paused") for kind in ("instances", "vms")
    ]
    assert told == [1, 1, 1, 0]
    before = await shop.at.json("GET", "/users/balance")
    assert set(before) == {"balance", "grants"}
    await shop.at.advance(3600)
    spent = before["balance"] - (await shop.at.json("GET", "/users/balance"))["balance"]
    assert spent == pytest.approx(0.44 + 1.49 + (50 + 100 + 50) * 0.1 / 730, rel=0.01)
    assert (await shop.show(id_))["cost"] == pytest.approx(0.44 + 5 / 730, rel=0.02)
    assert (await shop.show(id_))["user_id"] == mine["user_id"]


async def test_a_name_can_be_changed(shop: Shop) -> None:
    id_ = await shop.rent()
    path = f"/machines/machine_name?machine_id={id_}&machine_name="
    assert await shop.at.json("PUT", f"{path}job-2") == OK
    assert (await shop.show(id_))["instance_name"] == "job-2"
    assert (await shop.at.refused("PUT", f"{path}job.2"))[0] == 422
    unknown = "/machines/machine_name?machine_id=1&machine_name=x"
    assert (await shop.at.json("PUT", unknown))["success"] is False


async def test_without_money_instances_are_paused(shop: Shop) -> None:
    id_ = await shop.rent(gpu_type="H200", num_gpus=8)
    await shop.at.advance(3000 * 3600)
    assert await shop.status(id_) == "Paused"
    assert (await shop.at.json("GET", "/users/balance"))["balance"] == 0
    status, body = await shop.at.refused("POST", "/templates/pytorch/create", ORDER)
    assert (status, "balance" in body["message"]) == (403, True)


async def test_accounts_see_nothing_of_each_other(shop: Shop, other: Shop) -> None:
    id_ = await shop.rent()
    assert await other.ids() == []
    assert not (await other.at.json("GET", f"/users/fetch/{id_}"))["success"]
    assert (await other.at.refused("POST", f"/misc/destroy?machine_id={id_}"))[0] == 404
    assert (await shop.truth(id_))["billed"]


# --- hosts --------------------------------------------------------------------------------


async def test_what_is_of_a_region_is_done_by_its_host_alone(
    customer: Callable[..., Customer],
) -> None:
    def host(name: str) -> Shop:
        # As the proxy passes it on: the vendor's own name, below the emulator's path.
        head = {"Authorization": "Bearer k", "Host": f"{name}.jarvislabs.net"}
        return Shop(customer("/jarvislabs", head))

    noida, chennai, europe, legacy = (host(f"backend{name}") for name in ("n", "c", "eu", "prod"))
    await noida.key()
    id_ = await noida.rent()
    there = await europe.order("vm", gpu_type="H100", region=EUROPE, hdd=100)
    await noida.at.advance(8)
    wrong = {**ORDER, "region": EUROPE, "gpu_type": "H100", "hdd": 100}
    assert (await chennai.at.refused("POST", "/templates/vm/create", wrong))[0] == 404
    assert (await europe.at.refused("POST", f"/misc/destroy?machine_id={id_}"))[0] == 404
    assert (await noida.at.refused("GET", f"/misc/status?machine_id={there}"))[0] == 404
    assert await legacy.ids() == [id_, there], "accounts are everywhere the same"
    assert await legacy.at.refused("GET", f"/users/fetch/{id_}") == (404, {"detail": "Not Found"})
    assert (await chennai.at.refused("POST", "/ssh/", {"ssh_key": PUBLIC, "key_name": "x"}))[
        0
    ] == 404
    assert await noida.act("/misc/destroy", id_) == OK
    assert await europe.act("/templates/vm/destroy", there) == OK


# --- faults -------------------------------------------------------------------------------

ANSWERED = {
    "rate_limit": (429, {"message": "Too many requests"}),
    "bad_credentials": (401, {"message": "Invalid or expired token"}),
    "not_found_for_bad_key": (404, {"detail": "Not Found"}),
}


@pytest.mark.parametrize("kind", ANSWERED)
async def test_a_fault_of_the_whole_call_has_the_vendors_form(shop: Shop, kind: str) -> None:
    await shop.at.fault("list", kind, times=1)
    assert await shop.at.refused("GET", "/users/fetch") == ANSWERED[kind]
    assert await shop.ids() == []


async def test_a_server_error_is_plain_text(shop: Shop) -> None:
    await shop.at.fault("create", "server_error", times=1)
    answer = await shop.at.ask("POST", "/templates/pytorch/create", ORDER)
    assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    assert await shop.at.served.control("GET", "machines") == []


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
    assert await shop.status(late) == "Running"
    await shop.at.advance(60)
    assert await shop.ids() == [first, second, late]
    await shop.at.fault("offers", "no_capacity", times=1)
    meta = await shop.at.json("GET", "/misc/server_meta")
    assert not any(row["num_free_devices"] for row in meta["server_meta"])
    assert not any(row["available"] for row in meta["cpu_meta"]["combinations"])
    await shop.at.fault("offers", "duplicate_list", times=1)
    assert len(await shop.gpus("L4")) == 4
    await shop.at.fault("list", "page_cursor_expired", times=1)
    assert len(await shop.ids()) == 3, "there are no pages that could expire"


async def test_faults_that_a_machine_is_born_with(shop: Shop) -> None:
    for kind in ("wrong_gpu", "price_changed", "ignored_field", "ssh_refused"):
        await shop.at.fault("create", kind, times=1)
    row = await shop.show(await shop.rent())
    assert (row["gpu_type"], row["instance_name"]) == ("A5000", "Name me")
    assert "-p 1 " in row["ssh_str"], "nothing listens there"
    assert (await shop.truth(row["machine_id"]))["price_per_hour"] > 0.66


async def test_a_boot_can_fail_and_never_come(shop: Shop) -> None:
    await shop.at.fault("create", "boot_failure", times=1)
    failed = await shop.rent()
    assert await shop.status(failed) == "Failed"
    told = await shop.at.json("GET", f"/misc/status?machine_id={failed}")
    assert (told["status"], told["error"], told["code"]) == (
        "Failed",
        "the container could not be created",
        1001,
    )
    await shop.at.fault("create", "stuck_pending", times=1)
    stuck = await shop.rent()
    await shop.at.advance(3600)
    assert await shop.status(stuck) == "Creating"
    await shop.at.fault("terminate", "terminate_ignored", times=1)
    assert await shop.act("/misc/destroy", stuck) == OK
    assert (await shop.truth(stuck))["billed"]
    assert await shop.act("/misc/destroy", stuck) == OK
    assert not (await shop.truth(stuck))["billed"]


async def test_a_resumed_instance_survives_the_sandbox(serving: Callable[..., Any]) -> None:
    async with serving() as first:
        made = await first.ask("POST", "/jarvislabs/templates/pytorch/create", ORDER)
        id_ = made.json()["machine_id"]
        await first.advance(8)
        await first.ask("POST", f"/jarvislabs/misc/pause?machine_id={id_}")
        await first.advance(5)
        body = {name: ORDER[name] for name in ORDER if name not in ("region", "disk_type")}
        resume = {**body, "machine_id": id_}
        moved = await first.ask("POST", "/jarvislabs/templates/pytorch/resume", resume)
        new = moved.json()["machine_id"]
    async with serving() as second:
        rows = (await second.ask("GET", "/jarvislabs/users/fetch")).json()["instances"]
        assert [row["machine_id"] for row in rows] == [new]


def test_every_kind_of_fault_is_tried_here() -> None:
    text = Path(__file__).read_text()
    general = {"timeout", "slow", "disconnect_before", "disconnect_after", "garbage"}
    assert [kind for kind in KINDS if f'"{kind}"' not in text and kind not in general] == []
