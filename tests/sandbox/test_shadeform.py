"""Shadeform's emulator: what it does, and what it refuses in the vendor's words."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from gpubroker.sandbox.faults import KINDS
from gpubroker.sandbox.processes import own_address

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served
    from tests.sandbox.customer import Customer

ROOT = "/shadeform/v1"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"
TYPES = "/instances/types"
ORDER: dict[str, Any] = {
    "cloud": "massedcompute",
    "region": "kansascity-usa-1",
    "shade_instance_type": "A6000",
    "shade_cloud": True,
    "name": "gb-abc123",
}
NATTED = {"cloud": "excesssupply", "shade_instance_type": "H100_sxm5", "region": "casper-usa-2"}
CONTAINER = {"cloud": "excesssupply", "shade_instance_type": "L40", "region": "casper-usa-2"}
FINLAND = {"cloud": "datacrunch", "shade_instance_type": "V100", "region": "FIN-01"}
INVALID, MISSING = 400, (404, "NOT_FOUND")
OUT = (409, "OUT_OF_STOCK")


def script(text: str) -> dict[str, Any]:
    encoded = base64.b64encode(text.encode()).decode()
    return {"type": "script", "script_configuration": {"base64_script": encoded}}


class Renter:
    """One account of Shadeform."""

    def __init__(self, customer: Customer) -> None:
        self.http, self.served = customer, customer.served
        self.json, self.fault = customer.json, customer.fault
        self.advance, self.resources = customer.advance, customer.resources

    async def refused(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """Status and code of a business error, the status alone of another refusal."""
        status, told = await self.http.refused(method, path, body, **more)
        if set(told) == {"message"}:
            return status
        assert set(told) == {"error_code", "error"}
        return status, told["error_code"]

    async def done(self, path: str, body: Any = None) -> None:
        """A change: its answer is empty."""
        answer = await self.http.ask("POST", path, body)
        assert (answer.status_code, answer.content) == (200, b""), answer.text

    async def make(self, **more: Any) -> str:
        answer = await self.json("POST", "/instances/create", {**ORDER, **more})
        assert set(answer) == {"id"}
        return str(answer["id"])

    async def rent(self, **more: Any) -> str:
        id_ = await self.make(**more)
        await self.advance(10)
        return id_

    async def show(self, id_: str) -> dict[str, Any]:
        found: dict[str, Any] = await self.json("GET", f"/instances/{id_}/info")
        return found

    async def status(self, id_: str) -> str:
        return str((await self.show(id_))["status"])

    async def ids(self) -> list[str]:
        return [row["id"] for row in (await self.json("GET", "/instances"))["instances"]]

    async def types(self, query: str = "") -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = (await self.json("GET", f"{TYPES}{query}"))["instance_types"]
        return rows

    async def truth(self, id_: str) -> dict[str, Any]:
        rows = await self.served.control("GET", "machines")
        found: dict[str, Any] = next(row for row in rows if row["provider_id"] == id_)
        return found


@pytest.fixture
def me(customer: Callable[..., Customer]) -> Renter:
    return Renter(customer(ROOT, {"X-API-KEY": "key-of-mine"}))


@pytest.fixture
def you(customer: Callable[..., Customer]) -> Renter:
    return Renter(customer(ROOT, {"X-API-KEY": "key-of-yours"}))


# --- doors --------------------------------------------------------------------------------


async def test_the_key_goes_in_a_header_of_its_own(served: Served) -> None:
    async def told(**headers: str) -> tuple[int, Any]:
        answer = await served.http.get(f"{ROOT}{TYPES}", headers=headers)
        return answer.status_code, answer.json().get("message")

    assert await told(**{"x-api-key": "some-key"}) == (200, None)
    bad = (401, "Invalid API key")
    assert await told() == bad
    assert await told(**{"x-api-key": "invalid-key"}) == bad
    assert await told(authorization="Bearer some-key") == bad


async def test_unknown_paths_queries_and_bodies_are_refused(me: Renter) -> None:
    assert await me.refused("GET", "/instances/") == 404
    assert await me.refused("DELETE", "/instances") == 404
    assert await me.refused("GET", "/clusters") == 404
    assert await me.refused("GET", f"{TYPES}?colour=red") == INVALID
    assert await me.refused("GET", f"{TYPES}?available=perhaps") == INVALID
    assert await me.refused("GET", f"{TYPES}?sort=name") == INVALID
    assert await me.refused("POST", "/instances/create", content=b"{nonsense") == INVALID
    assert await me.refused("GET", "/instances/nothing/info") == MISSING


# --- types --------------------------------------------------------------------------------


async def test_types_have_whole_cents_and_list_a_region_once_for_each_way_to_rent(
    me: Renter,
) -> None:
    rows = {(row["cloud"], row["shade_instance_type"]): row for row in await me.types()}
    row = rows["massedcompute", "A6000"]
    assert (row["hourly_price"], row["deployment_type"]) == (57, "vm")
    assert (row["configuration"]["vram_per_gpu_in_gb"], row["num_gpus"]) == (48, 1)
    places = [(p["region"], p["rental_type"], p.get("hourly_price")) for p in row["availability"]]
    assert places == [
        ("kansascity-usa-1", "on_demand", None),
        ("desmoines-usa-1", "on_demand", None),
        ("kansascity-usa-1", "spot", "0.34"),
    ]
    assert {row["num_gpus"] for row in rows.values()} >= {1, 2, 4, 8}
    eight = rows["massedcompute", "A6000x8"]
    assert [place["available"] for place in eight["availability"]] == [False]
    assert rows["excesssupply", "L40"]["deployment_type"] == "container"


async def test_filters_choose_types_and_leave_all_of_their_regions(me: Renter) -> None:
    everything = await me.types()
    (one,) = await me.types("?cloud=lambdalabs&shade_instance_type=A100_sxm4&available=true")
    flags = {place["region"]: place["available"] for place in one["availability"]}
    assert flags == {"phoenix-usa-2": False, "dulles-usa-1": True}
    assert await me.types("?shade_instance_type=A6000x8&available=true") == []
    assert {row["num_gpus"] for row in await me.types("?num_gpus=2")} == {2}
    assert {row["cloud"] for row in await me.types("?gpu_type=V100&region=FIN-01")} == {
        "datacrunch"
    }
    prices = [row["hourly_price"] for row in await me.types("?sort=price")]
    assert prices == sorted(prices)
    assert len(prices) == len(everything)
    await me.advance(60)
    names = [row["shade_instance_type"] for row in await me.types()]
    assert names != [row["shade_instance_type"] for row in everything], "they have no order"


# --- create -------------------------------------------------------------------------------


async def test_a_create_is_put_into_a_queue_and_goes_on_from_there(me: Renter) -> None:
    key = (await me.json("POST", "/sshkeys/add", {"name": "k", "public_key": PUBLIC}))["id"]
    envs = [{"name": "A", "value": "b"}]
    task = script("echo hi\n")
    id_ = await me.make(ssh_key_id=key, envs=envs, tags=["broker=x"], launch_configuration=task)
    row = await me.show(id_)
    assert (row["status"], row["ip"], row["ssh_port"]) == ("creating", None, None)
    assert (row["active_at"], row["cost_estimate"]) == (None, "0.00")
    await me.advance(2)
    assert await me.status(id_) == "pending_provider"
    await me.advance(1.5)
    assert await me.status(id_) == "pending"
    await me.advance(5)
    row = await me.show(id_)
    assert (row["status"], row["ip"]) == ("active", own_address("shadeform", id_))
    assert (row["ssh_port"], row["ssh_user"]) == (22, "shadeform")
    assert (row["hourly_price"], row["tags"], row["envs"]) == (57, ["broker=x"], envs)
    assert row["rental_terms"]["rental_type"] == "on_demand"
    spec = me.served.host.running[id_]
    assert (spec.keys, dict(spec.env)) == ((PUBLIC,), {"A": "b"})
    assert spec.user_data == b"#!/bin/bash\necho hi\n"
    await me.advance(7200)
    assert (await me.show(id_))["cost_estimate"] == "1.14"


async def test_a_container_is_run_by_docker_on_the_machine(me: Renter) -> None:
    docker = {
        "image": "ghcr.io/me/app:1",
        "args": "serve --fast",
        "shared_memory_in_gb": 8,
        "envs": [{"name": "TOKEN", "value": "it's"}],
        "port_mappings": [{"host_port": 80, "container_port": 8000}],
        "volume_mounts": [{"host_path": "/data", "container_path": "/d"}],
        "registry_credentials": {"username": "u", "password": "p"},
    }
    id_ = await me.rent(launch_configuration={"type": "docker", "docker_configuration": docker})
    lines = me.served.host.running[id_].user_data.decode().splitlines()
    assert lines[1] == "printf %s p | docker login -u u --password-stdin ghcr.io"
    run = "docker run -d --shm-size=8g -e 'TOKEN=it'\"'\"'s' -p 80:8000 -v /data:/d"
    assert lines[2] == f"{run} ghcr.io/me/app:1 serve --fast"
    shown = (await me.show(id_))["launch_configuration"]
    assert shown == {"type": "docker", "docker_configuration": docker}


@pytest.mark.parametrize(
    ("wrong", "refusal"),
    [
        ({"shade_instance_type": "A6000x8"}, OUT),
        ({"shade_instance_type": "nothing"}, (409, "INVALID_INSTANCE_TYPE")),
        ({"region": "paris-france-5"}, (409, "INVALID_INSTANCE_TYPE")),
        ({"shade_cloud": False}, (409, "NO_LINKED_ACCOUNT")),
        ({"rental_type": "spot", "region": "desmoines-usa-1"}, (409, "SPOT_NOT_OFFERED")),
        ({"rental_type": "lease"}, INVALID),
        ({"os": "windows"}, INVALID),
        ({"name": ""}, INVALID),
        ({"colour": "red"}, INVALID),
        ({"ssh_key_id": "nobody"}, MISSING),
        ({"template_id": "nothing"}, MISSING),
        ({"volume_ids": ["nothing"]}, MISSING),
        ({"volume_ids": ["a", "b"]}, INVALID),
        ({"envs": [{"name": "A B", "value": ""}]}, INVALID),
        ({"auto_delete": {"date_threshold": "tomorrow"}}, INVALID),
        ({"auto_delete": {"date_threshold": "2026-01-01T00:00:00"}}, INVALID),
        ({"auto_delete": {"spend_threshold": "3 dollars"}}, INVALID),
        ({"launch_configuration": {"type": "script"}}, INVALID),
        ({"launch_configuration": {**script("x"), "type": "docker"}}, INVALID),
        (
            {
                "launch_configuration": {
                    "type": "script",
                    "script_configuration": {"base64_script": "no base64!"},
                }
            },
            INVALID,
        ),
    ],
)
async def test_an_order_that_is_not_right_makes_nothing(
    me: Renter, wrong: dict[str, Any], refusal: Any
) -> None:
    assert await me.refused("POST", "/instances/create", {**ORDER, **wrong}) == refusal
    assert await me.ids() == []


async def test_a_missing_field_is_refused(me: Renter) -> None:
    for field in ORDER:
        body = {name: value for name, value in ORDER.items() if name != field}
        assert await me.refused("POST", "/instances/create", body) == INVALID


async def test_what_stock_there_is_runs_out(me: Renter) -> None:
    one = {"shade_instance_type": "A6000x2"}
    first = await me.make(**one)
    assert await me.refused("POST", "/instances/create", {**ORDER, **one}) == OUT
    await me.done(f"/instances/{first}/delete")
    await me.make(**one)


async def test_some_clouds_have_another_port_and_map_those_of_the_machine(me: Renter) -> None:
    row = await me.show(await me.rent(**NATTED))
    assert (row["ip"], row["ssh_port"] != 22) == ("127.0.0.1", True)
    assert [one["internal_port"] for one in row["port_mappings"]] == [8000, 8888]
    id_ = await me.rent(**CONTAINER, launch_configuration=script("true"))
    spec = me.served.host.running[id_]
    assert (spec.docker, spec.user, spec.startup_script) == (False, "root", "#!/bin/bash\ntrue")
    docker = {"type": "docker", "docker_configuration": {"image": "a"}}
    order = {**ORDER, **CONTAINER, "launch_configuration": docker}
    assert (await me.refused("POST", "/instances/create", order))[0] == 409


# --- lists and what is done to instances --------------------------------------------------


async def test_lists_hold_what_is_not_deleted_and_less_of_it_than_the_info(
    me: Renter, you: Renter
) -> None:
    foreign = await you.rent()
    first, second = await me.rent(), await me.rent(tags=["a"])
    rows = (await me.json("GET", "/instances"))["instances"]
    assert [row["id"] for row in rows] == [first, second]
    more = set(await me.show(second)) - set(rows[1])
    assert more == {"ssh_key_id", "volume_ids", "envs", "auto_delete", "alert"}
    assert rows[1]["tags"] == ["a"]
    assert await me.refused("GET", f"/instances/{foreign}/info") == MISSING
    assert await me.refused("POST", f"/instances/{foreign}/delete") == MISSING
    await me.done(f"/instances/{first}/delete")
    assert (await me.status(first), await me.ids()) == ("deleting", [first, second])
    assert (await me.truth(first))["billed"] is False, "from this moment on"
    await me.done(f"/instances/{first}/delete")
    await me.advance(5)
    assert await me.ids() == [second]
    assert await me.refused("GET", f"/instances/{first}/info") == MISSING
    assert await me.refused("POST", f"/instances/{first}/delete") == MISSING


async def test_an_update_changes_what_it_names_and_null_deletes(me: Renter) -> None:
    id_ = await me.rent(tags=["a"], alert={"spend_threshold": "1.00"})
    path = f"/instances/{id_}/update"
    await me.done(path, {"name": "other", "auto_delete": {"spend_threshold": "50"}})
    row = await me.show(id_)
    assert (row["name"], row["tags"]) == ("other", ["a"])
    assert row["auto_delete"] == {"spend_threshold": "50"}
    await me.done(path, {"tags": None, "auto_delete": None})
    row = await me.show(id_)
    assert (row["tags"], row["auto_delete"], row["alert"]) == ([], {}, {"spend_threshold": "1.00"})
    await me.done(path, {"alert": None, "tags": ["b"]})
    assert (await me.show(id_))["alert"] == {}
    assert await me.refused("POST", path, {"cloud": "aws"}) == INVALID
    assert await me.refused("POST", path, {"name": None}) == INVALID


async def test_a_restart_is_not_seen_from_outside(me: Renter) -> None:
    id_ = await me.make()
    assert (await me.refused("POST", f"/instances/{id_}/restart"))[0] == 409
    await me.advance(10)
    await me.done(f"/instances/{id_}/restart")
    assert await me.status(id_) == "active"
    await me.advance(10)
    calls = [call for call, which in me.served.host.calls if which == id_]
    assert calls == ["start", "stop", "start"]


async def test_machines_delete_themselves_at_a_date_or_once_so_much_was_spent(me: Renter) -> None:
    at = datetime.fromtimestamp(me.served.sandbox.clock.now() + 600, UTC).isoformat()
    dated = await me.rent(auto_delete={"date_threshold": at})
    spent = await me.rent(auto_delete={"spend_threshold": "0.57"})
    await me.advance(570)
    assert [await me.status(id_) for id_ in (dated, spent)] == ["active", "active"]
    await me.advance(30)
    assert await me.ids() == [spent]
    await me.advance(2900)
    assert await me.ids() == [spent]
    await me.advance(200)
    assert await me.ids() == []
    assert (await me.truth(spent))["accrued_usd"] == pytest.approx(0.57, abs=0.01)
    later = await me.rent()
    await me.done(f"/instances/{later}/update", {"auto_delete": {"spend_threshold": "0.57"}})
    await me.advance(3700)
    assert await me.ids() == []


async def test_a_spot_machine_that_is_taken_away_says_so_for_a_while(me: Renter) -> None:
    id_ = await me.rent(rental_type="spot")
    row = await me.show(id_)
    assert (row["hourly_price"], row["rental_terms"]["hourly_price"]) == (34, "0.34")
    assert row["rental_terms"]["rental_type"] == "spot"
    body = {"provider": "shadeform", "provider_id": id_}
    await me.served.control("POST", "preempt", body)
    row = await me.show(id_)
    assert (row["status"], row["status_details"]) == ("deleting", "preempted")
    assert (await me.truth(id_))["billed"] is False
    await me.advance(60)
    row = await me.show(id_)
    assert (row["status"], row["status_details"]) == ("deleted", "preempted")
    assert await me.ids() == []
    await me.advance(3600)
    assert await me.refused("GET", f"/instances/{id_}/info") == MISSING


async def test_without_money_nothing_is_made_and_all_is_ended(me: Renter) -> None:
    big = {
        "cloud": "lambdalabs",
        "shade_instance_type": "H100_sxm5x8",
        "region": "saltlakecity-usa-1",
    }
    await me.rent(**big)
    await me.advance(300 * 86_400)
    await me.advance(5)
    assert await me.ids() == []
    refused = await me.refused("POST", "/instances/create", ORDER)
    assert refused == (409, "INSUFFICIENT_FUNDS")


# --- keys, volumes, templates -------------------------------------------------------------


async def test_the_managed_key_is_the_default_until_another_one_is(me: Renter) -> None:
    (managed,) = (await me.json("GET", "/sshkeys"))["ssh_keys"]
    assert (managed["name"], managed["is_default"]) == ("Shadeform Managed Key", True)
    assert await me.refused("POST", f"/sshkeys/{managed['id']}/delete") == (409, "SSH_KEY_IN_USE")
    body = {"name": "k", "public_key": PUBLIC}
    key = (await me.json("POST", "/sshkeys/add", body))["id"]
    status, told = await me.http.refused("POST", "/sshkeys/add", body)
    assert (status, "name must be unique" in told["error"]) == (409, True)
    assert await me.refused("POST", "/sshkeys/add", {**body, "public_key": "x"}) == INVALID
    id_ = await me.rent()
    assert (await me.show(id_))["ssh_key_id"] == managed["id"]
    assert me.served.host.running[id_].keys == (managed["public_key"],)
    await me.done(f"/sshkeys/{key}/setdefault")
    shown = await me.json("GET", f"/sshkeys/{key}/info")
    assert shown == {"id": key, "name": "k", "public_key": PUBLIC, "is_default": True}
    other = await me.rent()
    assert me.served.host.running[other].keys == (PUBLIC,)
    await me.done(f"/sshkeys/{managed['id']}/setdefault")
    assert await me.refused("POST", f"/sshkeys/{key}/delete") == (409, "SSH_KEY_IN_USE")
    await me.done(f"/instances/{other}/delete")
    await me.done(f"/sshkeys/{key}/delete")
    assert await me.refused("GET", f"/sshkeys/{key}/info") == MISSING
    assert {row["state"] for row in await me.resources()} == {"deleted"}


async def test_a_volume_is_of_one_place_and_goes_with_one_machine(me: Renter) -> None:
    (here, *_) = (await me.json("GET", "/volumes/types"))["volume_types"]
    assert (here["region"], here["price_per_gb_per_hour"]) == ("FIN-01", "0.00028")
    order = {"cloud": "datacrunch", "region": "FIN-01", "size_in_gb": 100, "name": "v"}
    assert (await me.refused("POST", "/volumes/create", {**order, "cloud": "crusoe"}))[0] == 409
    assert await me.refused("POST", "/volumes/create", {**order, "size_in_gb": 0}) == INVALID
    volume = (await me.json("POST", "/volumes/create", order))["id"]
    wanted = {"volume_ids": [volume], "volume_mount": {"auto": True}}
    elsewhere = await me.refused("POST", "/instances/create", {**ORDER, **wanted})
    assert elsewhere == (409, "INVALID_REGION")
    id_ = await me.rent(**FINLAND, **wanted)
    shown = await me.json("GET", f"/volumes/{volume}/info")
    assert (shown["mounted_by"], shown["size_in_gb"]) == (id_, 100)
    again = await me.refused("POST", "/instances/create", {**ORDER, **FINLAND, **wanted})
    assert again == (409, "VOLUME_IN_USE")
    assert await me.refused("POST", f"/volumes/{volume}/delete") == (409, "VOLUME_IN_USE")
    await me.done(f"/instances/{id_}/delete")
    await me.advance(3600)
    (row,) = (await me.json("GET", "/volumes"))["volumes"]
    assert (row["mounted_by"], row["cost_estimate"]) == ("", "0.03")
    (thing,) = await me.resources()
    assert (thing["kind"], thing["billed"], thing["price_per_hour"]) == ("volume", True, 0.028)
    await me.done(f"/volumes/{volume}/delete")
    assert await me.refused("GET", f"/volumes/{volume}/info") == MISSING


async def test_a_template_fills_what_a_create_leaves_open(me: Renter) -> None:
    (featured,) = (await me.json("GET", "/templates/featured"))["templates"]
    assert featured["launch_configuration"]["type"] == "docker"
    body = {
        "name": "t",
        "launch_configuration": script("#!/bin/sh\ntrue"),
        "tags": ["from-template"],
        "envs": [{"name": "A", "value": "b"}],
        "networking": {"ufw_rules": [{"rule": "allow", "port": "80", "proto": "tcp"}]},
    }
    id_ = (await me.json("POST", "/templates/save", body))["id"]
    assert await me.json("GET", f"/templates/{id_}/info") == {"id": id_, **body}
    made = await me.rent(template_id=id_, tags=["own"])
    row = await me.show(made)
    assert (row["tags"], row["envs"]) == (["own"], body["envs"])
    assert me.served.host.running[made].user_data == b"#!/bin/sh\ntrue"
    await me.done(f"/templates/{id_}/update", {"name": "u"})
    assert (await me.json("GET", "/templates"))["templates"] == [{"id": id_, "name": "u"}]
    assert await me.refused("POST", f"/templates/{featured['id']}/update", {"name": "u"}) == MISSING
    await me.done(f"/templates/{id_}/delete")
    assert await me.refused("POST", f"/templates/{id_}/delete") == MISSING
    assert await me.refused("POST", "/templates/save", {"colour": "red"}) == INVALID


# --- faults -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "refusal"),
    [
        ("rate_limit", 429),
        ("server_error", 500),
        ("bad_credentials", 401),
        ("not_found_for_bad_key", 404),
    ],
)
async def test_a_fault_of_the_whole_call_has_the_vendors_form(
    me: Renter, kind: str, refusal: Any
) -> None:
    await me.fault("list", kind, times=1)
    answer = await me.http.ask("GET", "/instances")
    assert (answer.status_code, set(answer.json())) == (refusal, {"message"})
    assert ("retry-after" in answer.headers) == (kind == "rate_limit")
    assert await me.ids() == []


async def test_garbage_slow_and_timeout(me: Renter) -> None:
    await me.fault("list", "garbage", times=1)
    with pytest.raises(ValueError, match="Unterminated"):
        (await me.http.ask("GET", "/instances")).json()
    await me.fault("list", "slow", delay_s=0.05, times=1)
    assert await me.ids() == []
    await me.fault("terminate", "timeout", times=1)
    id_ = await me.rent()
    with pytest.raises(httpx2.ReadTimeout):
        await me.http.ask("POST", f"/instances/{id_}/delete", timeout=0.2)
    assert await me.status(id_) == "active"


@pytest.mark.parametrize(("kind", "machines"), [("disconnect_before", 0), ("disconnect_after", 1)])
async def test_a_cut_connection_before_or_after_the_act(
    me: Renter, kind: str, machines: int
) -> None:
    await me.fault("create", kind, times=1)
    with pytest.raises(httpx2.RemoteProtocolError):
        await me.http.ask("POST", "/instances/create", ORDER)
    assert len(await me.ids()) == machines


@pytest.mark.parametrize(
    ("kind", "code"), [("quota", "QUOTA_EXCEEDED"), ("no_capacity", "OUT_OF_STOCK")]
)
async def test_quota_and_capacity_are_business_errors(me: Renter, kind: str, code: str) -> None:
    await me.fault("create", kind, times=1)
    assert await me.refused("POST", "/instances/create", ORDER) == (409, code)
    assert await me.ids() == []


async def test_faults_of_lists(me: Renter) -> None:
    id_, other = await me.rent(), await me.rent()
    await me.fault("list", "duplicate_list", times=1)
    assert await me.ids() == [id_, id_, other, other]
    await me.fault("list", "list_partial", times=1)
    assert await me.ids() == [id_]
    await me.fault("create", "list_lag", delay_s=60, times=1)
    late = await me.make()
    assert late not in await me.ids()
    assert (await me.show(late))["id"] == late
    await me.advance(60)
    assert late in await me.ids()
    await me.fault("list", "other_account", times=1)
    assert await me.ids() == []
    await me.fault("list", "page_cursor_expired", times=1)
    assert len(await me.ids()) == 3, "there are no pages that could expire"
    await me.fault("offers", "no_capacity", times=1)
    flags = [place["available"] for row in await me.types() for place in row["availability"]]
    assert not any(flags)
    await me.fault("offers", "ignored_field", times=1)
    assert len(await me.types("?num_gpus=10")) > 1
    await me.fault("offers", "duplicate_list", times=1)
    (one, two) = await me.types("?shade_instance_type=V100")
    assert one == two


async def test_terminate_ignored_answers_success_and_goes_on(me: Renter) -> None:
    id_ = await me.rent()
    await me.fault("terminate", "terminate_ignored", times=1)
    await me.done(f"/instances/{id_}/delete")
    await me.advance(60)
    assert await me.status(id_) == "active"
    assert (await me.truth(id_))["billed"]


@pytest.mark.parametrize(
    ("kind", "status"), [("boot_failure", "error"), ("stuck_pending", "pending_provider")]
)
async def test_a_boot_that_does_not_succeed(me: Renter, kind: str, status: str) -> None:
    await me.fault("create", kind, times=1)
    id_ = await me.rent()
    await me.advance(3600)
    row = await me.show(id_)
    assert (row["status"], row["ip"], row["cost_estimate"]) == (status, None, "0.00")
    assert row["status_details"]
    await me.done(f"/instances/{id_}/delete")


async def test_faults_that_a_machine_is_born_with(me: Renter) -> None:
    for kind in ("wrong_gpu", "price_changed", "ignored_field", "ssh_refused"):
        await me.fault("create", kind, times=1)
    id_ = await me.rent(tags=["a"], auto_delete={"spend_threshold": "1"})
    row = await me.show(id_)
    assert row["configuration"]["gpu_type"] != "A6000"
    assert (row["tags"], row["auto_delete"], row["hourly_price"]) == ([], {}, 86)
    assert row["ip"] != own_address("shadeform", id_), "nothing listens there"


async def test_machines_survive_a_restart(serving: Any) -> None:
    head = {"X-API-KEY": "key-of-mine"}
    async with serving() as first:
        made = await first.http.post(f"{ROOT}/instances/create", json=ORDER, headers=head)
        id_ = made.json()["id"]
    async with serving() as second:
        answer = await second.http.get(f"{ROOT}/instances/{id_}/info", headers=head)
        assert answer.json()["name"] == ORDER["name"]


def test_every_kind_of_fault_is_shown_here() -> None:
    text = Path(__file__).read_text()
    assert [kind for kind in KINDS if f'"{kind}"' not in text] == []
