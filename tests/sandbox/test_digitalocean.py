"""DigitalOcean's emulator: what it does, and what it refuses in the vendor's words."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from tests.sandbox.customer import Customer

from gpubroker.sandbox.emulators.digitalocean.words import team_of
from gpubroker.sandbox.faults import KINDS
from gpubroker.sandbox.processes import own_address

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

V2 = "/digitalocean/v2"
KEY = "dop_v1_0123456789abcdef"
OTHER = "dop_v1_fedcba9876543210"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"
ADA: dict[str, Any] = {
    "name": "gb-abc123",
    "region": "nyc2",
    "size": "gpu-4000adax1-20gb",
    "image": "gpu-h100x1-base",
}
DAY_S = 86_400
UNPROCESSABLE = "unprocessable_entity"


class Renter(Customer):
    """One account of DigitalOcean."""

    def __init__(self, served: Served, key: str = KEY) -> None:
        super().__init__(served, V2, {"Authorization": f"Bearer {key}"})

    async def refused(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """(status, id, message) of a refusal; its form is the vendor's."""
        status, error = await super().refused(method, path, body, **more)
        assert set(error) == {"id", "message", "request_id"}
        return status, error["id"], error["message"]

    async def add_key(self, public: str = PUBLIC) -> dict[str, Any]:
        body = {"name": "mine", "public_key": public}
        made: dict[str, Any] = (await self.json("POST", "/account/keys", body, status=201))[
            "ssh_key"
        ]
        return made

    async def create(self, **more: Any) -> int:
        """A droplet, of which nothing is there yet."""
        made = await self.json("POST", "/droplets", {**ADA, **more}, status=202)
        return int(made["droplet"]["id"])

    async def rent(self, **more: Any) -> int:
        """A droplet that is active."""
        id_ = await self.create(**more)
        await self.served.advance(10)
        return id_

    async def show(self, id_: int) -> dict[str, Any]:
        found: dict[str, Any] = (await self.json("GET", f"/droplets/{id_}"))["droplet"]
        return found

    async def ids(self, query: str = "type=gpus") -> list[int]:
        return [row["id"] for row in (await self.json("GET", f"/droplets?{query}"))["droplets"]]

    async def act(self, id_: int, type_: str, **more: Any) -> dict[str, Any]:
        body = {"type": type_, **more}
        made = await self.json("POST", f"/droplets/{id_}/actions", body, status=201)
        action: dict[str, Any] = made["action"]
        return action

    async def delete(self, id_: int) -> None:
        await self.json("DELETE", f"/droplets/{id_}", status=204)

    async def kept(self) -> dict[str, bool]:
        """Kind of what is not deleted, and whether it costs."""
        rows = await self.resources()
        return {row["kind"]: row["billed"] for row in rows if row["ended_at"] is None}


@pytest.fixture
def me(served: Served) -> Renter:
    return Renter(served)


@pytest.fixture
def you(served: Served) -> Renter:
    return Renter(served, OTHER)


# --- doors --------------------------------------------------------------------------------


async def test_a_key_is_taken_as_bearer_only(served: Served) -> None:
    async def status(header: str | None) -> int:
        headers = {"Authorization": header} if header else {}
        answer = await served.http.get(f"{V2}/account", headers=headers)
        if answer.status_code == 401:
            assert answer.json()["id"] == "unauthorized"
        return answer.status_code

    assert await status(f"Bearer {KEY}") == 200
    assert await status(f"bearer {KEY}") == 200
    for header in (KEY, f"Basic {KEY}", "Bearer invalid-key", "Bearer", None):
        assert await status(header) == 401, header


async def test_nothing_is_told_without_a_key(served: Served) -> None:
    for path in ("/sizes", "/regions", "/images"):
        assert (await served.ask("GET", f"{V2}{path}", key=None)).status_code == 401


async def test_unknown_paths_methods_queries_and_bodies_are_refused(me: Renter) -> None:
    assert (await me.refused("GET", "/droplets/"))[:2] == (404, "not_found")
    assert (await me.refused("GET", "/sizes/x"))[:2] == (404, "not_found")
    assert (await me.refused("PUT", "/droplets"))[0] == 405
    assert (await me.refused("GET", "/droplets?limit=1"))[:2] == (422, UNPROCESSABLE)
    assert (await me.refused("POST", "/droplets"))[:2] == (400, "bad_request")
    answer = await me.ask("POST", "/account/keys", content=b"{nonsense")
    assert (answer.status_code, answer.json()["id"]) == (400, "bad_request")


async def test_250_calls_a_minute_and_only_the_burst_says_when_to_come_back(
    served: Served, me: Renter
) -> None:
    answers = [await me.ask("GET", "/account") for _ in range(252)]
    assert [answer.status_code for answer in answers[-3:]] == [200, 429, 429]
    first, last = answers[0], answers[-1]
    assert (first.headers["ratelimit-limit"], first.headers["ratelimit-remaining"]) == (
        "5000",
        "4999",
    )
    assert first.headers["ratelimit-reset"].isdigit()
    assert last.json()["id"] == "too_many_requests"
    assert last.headers["retry-after"] == "1"
    assert (await served.ask("GET", f"{V2}/account", key=OTHER)).status_code == 200
    await served.advance(1)
    assert (await me.ask("GET", "/account")).status_code == 200


async def test_5000_calls_an_hour_and_no_word_when_to_come_back(me: Renter) -> None:
    api = me.served.sandbox
    assert (await me.ask("GET", "/account")).status_code == 200
    emulator = _emulator_of(me)
    account = api.clouds["digitalocean"].account(KEY)
    assert account
    emulator._allowances[account.name, "hour"] = api.clock.now() + 3600.5
    refused = await me.ask("GET", "/account")
    assert refused.status_code == 429
    assert "retry-after" not in refused.headers


def _emulator_of(me: Renter) -> Any:
    """The emulator behind the sandbox's routes: time for 5,000 calls is saved."""
    inner = me.served.sandbox.app._inner  # type: ignore[attr-defined]  # looks inside on purpose
    route = next(r for r in inner.routes if r.path == "/digitalocean")
    return route.app._app


async def test_keys_are_listed_ten_times_a_minute(me: Renter) -> None:
    statuses = [(await me.ask("GET", "/account/keys")).status_code for _ in range(11)]
    assert statuses == [200] * 10 + [429]
    await me.served.advance(6)
    assert (await me.ask("GET", "/account/keys")).status_code == 200


async def test_lists_have_pages_of_20_and_at_most_200(me: Renter) -> None:
    regions = await me.json("GET", "/regions")
    assert len(regions["regions"]) == regions["meta"]["total"] == 13
    assert regions["links"] == {}
    first = await me.json("GET", "/regions?per_page=5")
    assert set(first["links"]["pages"]) == {"next", "last"}
    assert first["links"]["pages"]["last"].endswith("/digitalocean/v2/regions?per_page=5&page=3")
    answer = await me.served.http.get(
        first["links"]["pages"]["next"], headers={"Authorization": f"Bearer {KEY}"}
    )
    second = answer.json()
    assert set(second["links"]["pages"]) == {"first", "prev", "next", "last"}
    third = await me.json("GET", "/regions?per_page=5&page=3")
    assert set(third["links"]["pages"]) == {"first", "prev"}
    seen = [r["slug"] for page in (first, second, third) for r in page["regions"]]
    assert seen == [r["slug"] for r in regions["regions"]]
    beyond = await me.json("GET", "/regions?per_page=5&page=4")
    assert (beyond["regions"], beyond["meta"]) == ([], {"total": 13})
    assert len((await me.json("GET", "/regions?per_page=500"))["regions"]) == 13
    for bad in ("page=0", "page=x", "per_page=-1"):
        assert (await me.refused("GET", f"/regions?{bad}"))[0] == 422


# --- catalog ------------------------------------------------------------------------------


async def _sizes(me: Renter) -> dict[str, dict[str, Any]]:
    return {row["slug"]: row for row in (await me.json("GET", "/sizes?per_page=200"))["sizes"]}


async def test_sizes_are_told_for_the_whole_droplet(me: Renter) -> None:
    sizes = await _sizes(me)
    h100 = sizes["gpu-h100x8-640gb"]
    assert h100 == {
        "slug": "gpu-h100x8-640gb",
        "memory": 1_966_080,
        "vcpus": 160,
        "disk": 2046,
        "transfer": 60.0,
        "price_monthly": 17796.48,
        "price_hourly": 23.92,
        "regions": ["nyc2", "tor1"],
        "available": True,
        "description": "H100 GPU - 8X",
        "networking_throughput": 10_000,
        "gpu_info": {
            "count": 8,
            "vram": {"amount": 640, "unit": "gib"},
            "model": "nvidia_h100",
        },
        "disk_info": [
            {"type": "local", "size": {"amount": 2046, "unit": "gib"}},
            {"type": "scratch", "size": {"amount": 40_960, "unit": "gib"}},
        ],
    }
    assert "gpu_info" not in sizes["s-4vcpu-8gb"]
    sold_out = sizes["gpu-mi325x8-2048gb"]
    assert (sold_out["regions"], sold_out["available"]) == ([], True)
    spot = [slug for slug in sizes if slug.endswith("-spot")]
    assert len(spot) >= 3
    assert {row["gpu_info"]["count"] for row in sizes.values() if "gpu_info" in row} == {1, 8}


async def test_a_region_that_is_sold_out_leaves_the_size(me: Renter) -> None:
    size = "gpu-h100x1-80gb"
    id_ = await me.create(size=size, region="tor1")
    assert (await _sizes(me))[size]["regions"] == ["nyc2", "ams3"]
    refused = await me.refused("POST", "/droplets", {**ADA, "size": size, "region": "tor1"})
    assert refused == (422, UNPROCESSABLE, "Size is not available in this region.")
    await me.served.advance(10)
    await me.delete(id_)
    assert (await _sizes(me))[size]["regions"] == ["nyc2", "tor1", "ams3"]


async def test_images_are_filtered_and_found_by_id_and_slug(me: Renter) -> None:
    rows = (await me.json("GET", "/images?type=distribution&per_page=200"))["images"]
    by_slug = {row["slug"]: row for row in rows}
    assert {"gpu-h100x1-base", "gpu-h100x8-base", "gpu-amd-base", "ubuntu-24-04-x64"} <= set(
        by_slug
    )
    id_ = by_slug["gpu-amd-base"]["id"]
    for name in (id_, "gpu-amd-base"):
        assert (await me.json("GET", f"/images/{name}"))["image"] == by_slug["gpu-amd-base"]
    assert (await me.json("GET", "/images?private=true"))["images"] == []
    assert (await me.json("GET", "/images?type=application"))["images"] == []
    assert (await me.refused("GET", "/images?type=x"))[0] == 422
    assert (await me.refused("GET", "/images/windows"))[0] == 404
    assert (await me.refused("DELETE", f"/images/{id_}"))[0] == 404, "the vendor's own"


# --- a life -------------------------------------------------------------------------------


async def test_a_droplet_boots_is_used_and_ends(served: Served, me: Renter) -> None:
    key = await me.add_key()
    data = "#!/bin/sh\necho hello\n"
    body = {
        **ADA,
        "ssh_keys": [key["id"]],
        "tags": ["gpubroker", "gpubroker:abc"],
        "user_data": data,
    }
    answer = await me.json("POST", "/droplets", body, status=202)
    new, (link,) = answer["droplet"], answer["links"]["actions"]
    assert (new["status"], new["locked"], new["networks"]) == ("new", True, {"v4": [], "v6": []})
    assert new["tags"] == ["gpubroker", "gpubroker:abc"]
    assert (new["size_slug"], new["size"]["price_hourly"]) == ("gpu-4000adax1-20gb", 0.76)
    assert new["image"]["slug"] == "gpu-h100x1-base"
    id_ = new["id"]
    assert link["rel"] == "create"
    assert link["href"] == f"{served.url}/digitalocean/v2/actions/{link['id']}"
    action = (await me.json("GET", f"/actions/{link['id']}"))["action"]
    assert (action["status"], action["completed_at"]) == ("in-progress", None)
    await served.advance(10)
    row = await me.show(id_)
    assert (row["status"], row["locked"]) == ("active", False)
    ips = {net["type"]: net["ip_address"] for net in row["networks"]["v4"]}
    assert ips["public"] == own_address("digitalocean", str(id_))
    assert ips["private"].startswith("10.")
    assert row["gpu_info"] == {
        "count": 1,
        "vram": {"amount": 20, "unit": "gib"},
        "model": "nvidia_rtx4000_ada",
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["created_at"])
    action = (await me.json("GET", f"/droplets/{id_}/actions/{link['id']}"))["action"]
    assert (action["status"], action["type"], action["resource_id"]) == (
        "completed",
        "create",
        id_,
    )
    spec = served.host.running[str(id_)]
    assert (spec.user, spec.hostname, spec.user_data) == ("root", "gb-abc123", data.encode())
    assert (spec.keys, spec.keys_in_home, spec.docker) == ((PUBLIC,), True, True)
    assert spec.gpu_tool_name == "NVIDIA RTX 4000 Ada Generation"
    assert (await me.truth(id_))["billed"]
    await me.delete(id_)
    gone = (404, "not_found", "The resource you requested could not be found.")
    assert await me.refused("GET", f"/droplets/{id_}") == gone
    assert await me.refused("DELETE", f"/droplets/{id_}") == gone
    assert await me.ids() == []
    assert not (await me.truth(id_))["billed"]


async def test_gpu_droplets_are_listed_only_where_they_are_asked_for(me: Renter) -> None:
    gpu = await me.create(tags=["a"])
    cpu = await me.create(
        size="s-4vcpu-8gb", image="debian-12-x64", region="nyc", tags=["a"], name="GB-abc123"
    )
    assert await me.ids("") == await me.ids("type=droplets") == [cpu]
    assert await me.ids("type=gpus") == [gpu]
    assert await me.ids("type=gpus&name=gb-ABC123") == [gpu]
    assert await me.ids("name=gb-abc123") == [cpu]
    assert await me.ids("tag_name=a") == [cpu]
    assert await me.ids("tag_name=b") == []
    for more in ("type=gpus", "name=gb-abc123"):
        assert (await me.refused("GET", f"/droplets?tag_name=a&{more}"))[0] == 422
    assert (await me.refused("GET", "/droplets?type=all"))[0] == 422


async def test_a_droplet_that_is_just_being_made_cannot_be_deleted(me: Renter) -> None:
    id_ = await me.create(tags=["a"])
    pending = (422, UNPROCESSABLE, "Droplet already has a pending event.")
    for path in (f"/droplets/{id_}", "/droplets?tag_name=a"):
        assert await me.refused("DELETE", path) == pending
    await me.served.advance(1)
    assert (await me.show(id_))["status"] == "new"
    await me.delete(id_)


async def test_droplets_are_deleted_by_tag(me: Renter) -> None:
    first, second = await me.rent(tags=["a"]), await me.rent(tags=["a", "b"])
    other = await me.rent(tags=["b"])
    await me.json("DELETE", "/droplets?tag_name=a", status=204)
    assert await me.ids() == [other]
    assert not any([(await me.truth(id_))["billed"] for id_ in (first, second)])
    assert (await me.refused("DELETE", "/droplets?tag_name=c"))[0] == 404
    assert (await me.refused("DELETE", "/droplets"))[0] == 422


async def test_several_are_created_at_once(me: Renter) -> None:
    body = {name: value for name, value in ADA.items() if name != "name"}
    made = await me.json("POST", "/droplets", {**body, "names": ["a", "b"]}, status=202)
    assert [row["name"] for row in made["droplets"]] == ["a", "b"]
    assert len(made["links"]["actions"]) == 2
    assert await me.ids() == [row["id"] for row in made["droplets"]]


async def test_a_region_may_be_a_city_or_left_out(me: Renter) -> None:
    assert (await me.show(await me.create(region="tor")))["region"]["slug"] == "tor1"
    body = {name: value for name, value in ADA.items() if name != "region"}
    made = await me.json("POST", "/droplets", body, status=202)
    assert made["droplet"]["region"]["slug"] == "nyc2"


BAD_CREATES: list[tuple[dict[str, Any], str]] = [
    ({"colour": "red"}, "colour"),
    ({"name": None}, "name"),
    ({"name": "has_underscore"}, "name"),
    ({"name": "x" * 256}, "name"),
    ({"names": ["a"]}, "name"),
    ({"size": "gpu-voodoo2"}, "invalid size"),
    ({"size": 1}, "size"),
    ({"region": "mars1"}, "invalid region"),
    ({"region": "syd1"}, "invalid region"),
    ({"region": "atl1"}, "not available in this region"),
    ({"size": "gpu-mi325x1-256gb", "image": "gpu-amd-base"}, "not available in this region"),
    ({"image": "windows"}, "invalid image"),
    ({"image": "gpu-amd-base"}, "invalid image"),
    ({"image": None}, "image"),
    ({"ssh_keys": [1]}, "1 are invalid key identifiers"),
    ({"ssh_keys": ["aa:bb", 2]}, "aa:bb, 2 are invalid key identifiers"),
    ({"ssh_keys": "x"}, "ssh_keys"),
    ({"tags": ["has space"]}, "tags"),
    ({"tags": ["x" * 256]}, "tags"),
    ({"user_data": "#" * 65_537}, "User data is too long"),
    ({"volumes": ["nothing"]}, "invalid volume"),
    ({"vpc_uuid": "x"}, "invalid VPC"),
    ({"monitoring": "yes"}, "monitoring"),
]


@pytest.mark.parametrize(("change", "says"), BAD_CREATES, ids=str)
async def test_a_create_that_is_not_as_documented_makes_nothing(
    me: Renter, change: dict[str, Any], says: str
) -> None:
    status, id_, message = await me.refused("POST", "/droplets", {**ADA, **change})
    assert (status, id_) == (422, UNPROCESSABLE)
    assert says in message
    assert await me.ids() == []


async def test_an_account_has_25_droplets_at_most(me: Renter) -> None:
    assert (await me.json("GET", "/account"))["account"]["droplet_limit"] == 25
    body = {**ADA, "names": [f"n{i}" for i in range(11)]}
    del body["name"]
    assert "at most 10" in (await me.refused("POST", "/droplets", body))[2]
    await me.fault("create", "quota", times=1)
    refused = await me.refused("POST", "/droplets", ADA)
    assert refused == (
        422,
        UNPROCESSABLE,
        "creating this/these droplet(s) will exceed your droplet limit",
    )


async def test_accounts_do_not_see_each_other(me: Renter, you: Renter) -> None:
    key, id_ = await me.add_key(), await me.rent()
    action = (await me.json("GET", f"/droplets/{id_}/actions"))["actions"][0]["id"]
    assert await you.ids() == []
    for path in (f"/droplets/{id_}", f"/actions/{action}", f"/account/keys/{key['id']}"):
        assert (await you.refused("GET", path))[0] == 404
    assert (await you.refused("DELETE", f"/droplets/{id_}"))[0] == 404
    assert (await you.refused("POST", "/droplets", {**ADA, "ssh_keys": [key["id"]]}))[0] == 422
    ours, theirs = [(await c.json("GET", "/account"))["account"] for c in (me, you)]
    assert ours["uuid"] != theirs["uuid"]
    assert ours["team"]["uuid"] != theirs["team"]["uuid"]


# --- actions ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["power_off", "shutdown"])
async def test_a_droplet_that_is_off_bills_in_full_and_keeps_its_place(
    served: Served, me: Renter, how: str
) -> None:
    id_ = await me.rent(region="ams3")
    ip = (await me.show(id_))["networks"]["v4"]
    action = await me.act(id_, how)
    assert (action["status"], action["completed_at"]) == ("in-progress", None)
    row = await me.show(id_)
    assert (row["status"], row["locked"]) == ("active", True)
    await served.advance(2)
    row = await me.show(id_)
    assert (row["status"], row["locked"], row["networks"]["v4"]) == ("off", False, ip)
    assert str(id_) not in served.host.running
    truth = await me.truth(id_)
    assert (truth["state"], truth["billed"], truth["billed_for"][-1]) == ("stopped", True, "gpu")
    before = truth["accrued_nanos"]
    await served.advance(3600)
    assert (await me.truth(id_))["accrued_nanos"] - before == 760_000_000
    refused = await me.refused("POST", "/droplets", {**ADA, "region": "ams3"})
    assert refused[2] == "Size is not available in this region."
    already = await me.refused("POST", f"/droplets/{id_}/actions", {"type": "power_off"})
    assert already == (422, UNPROCESSABLE, "Droplet is already powered off.")
    await me.act(id_, "power_on")
    row = await me.show(id_)
    assert (row["status"], row["locked"]) == ("off", True)
    await served.advance(10)
    assert (await me.show(id_))["status"] == "active"
    assert str(id_) in served.host.running
    already = await me.refused("POST", f"/droplets/{id_}/actions", {"type": "power_on"})
    assert already == (422, UNPROCESSABLE, "Droplet is already powered on.")


async def test_one_thing_is_done_to_a_droplet_at_a_time(me: Renter) -> None:
    id_ = await me.create()
    path = f"/droplets/{id_}"
    pending = (422, UNPROCESSABLE, "Droplet already has a pending event.")
    await me.served.advance(2)
    assert await me.refused("POST", f"{path}/actions", {"type": "reboot"}) == pending
    await me.served.advance(2)
    action = await me.act(id_, "reboot")
    assert (await me.show(id_))["status"] == "active"
    assert await me.refused("POST", f"{path}/actions", {"type": "power_off"}) == pending
    assert await me.refused("DELETE", path) == pending
    await me.served.advance(10)
    assert (await me.json("GET", f"/actions/{action['id']}"))["action"]["status"] == "completed"
    await me.delete(id_)
    assert (await me.json("GET", f"/actions/{action['id']}"))["action"]["status"] == "completed"


async def test_rename_rebuild_and_features(me: Renter) -> None:
    id_ = await me.rent()
    await me.act(id_, "rename", name="other")
    await me.served.advance(1)
    await me.act(id_, "enable_ipv6")
    await me.served.advance(1)
    await me.act(id_, "rebuild", image="ubuntu-24-04-x64")
    await me.served.advance(10)
    row = await me.show(id_)
    assert (row["name"], row["status"], row["image"]["slug"]) == (
        "other",
        "active",
        "ubuntu-24-04-x64",
    )
    assert "ipv6" in row["features"]
    for body in (
        {"type": "explode"},
        {"type": "resize", "size": "gpu-h100x1-80gb"},
        {"type": "rename"},
        {"type": "rebuild", "image": "windows"},
        {"type": "rebuild"},
        {"type": "reboot", "colour": "red"},
    ):
        assert (await me.refused("POST", f"/droplets/{id_}/actions", body))[0] == 422, body


async def test_actions_by_tag(me: Renter) -> None:
    tagged = [await me.rent(tags=["a"]), await me.rent(tags=["a"])]
    other = await me.rent()
    made = await me.json("POST", "/droplets/actions?tag_name=a", {"type": "power_off"}, status=201)
    assert [action["resource_id"] for action in made["actions"]] == tagged
    await me.served.advance(2)
    assert [(await me.show(id_))["status"] for id_ in (*tagged, other)] == ["off", "off", "active"]
    for path, type_ in (("", "power_off"), ("?tag_name=a", "reboot")):
        assert (await me.refused("POST", f"/droplets/actions{path}", {"type": type_}))[0] == 422


async def test_a_droplet_that_powers_itself_off_is_off_and_still_paid(
    served: Served, me: Renter
) -> None:
    id_ = await me.rent()
    await served.sandbox.machine_powered("digitalocean", str(id_), "off")
    assert (await me.show(id_))["status"] == "off"
    assert (await me.truth(id_))["billed"]
    await me.act(id_, "power_on")
    await served.advance(10)
    assert (await me.show(id_))["status"] == "active"


async def test_a_spot_droplet_that_is_taken_away_is_destroyed(served: Served, me: Renter) -> None:
    spot = {"size": "gpu-mi350x1-288gb-spot", "region": "ric1", "image": "gpu-amd-base"}
    id_, other = await me.rent(**spot), await me.rent()
    refused = await served.http.post(
        "/_sandbox/preempt", json={"provider": "digitalocean", "provider_id": str(other)}
    )
    assert refused.status_code == 409
    assert (await me.show(id_))["size"]["price_hourly"] == 2.46
    taken = {"provider": "digitalocean", "provider_id": str(id_)}
    await served.control("POST", "preempt", taken)
    assert (await me.refused("GET", f"/droplets/{id_}"))[0] == 404
    assert await me.ids() == [other]
    assert not (await me.truth(id_))["billed"]
    await served.advance(DAY_S)
    assert await me.ids() == [other], "it does not come back"


# --- what is beside droplets --------------------------------------------------------------


async def test_a_public_key_is_there_but_once(me: Renter) -> None:
    key = await me.add_key()
    again = await me.refused("POST", "/account/keys", {"name": "b", "public_key": PUBLIC})
    assert again == (422, UNPROCESSABLE, "SSH Key is already in use on your account")
    assert re.fullmatch("([0-9a-f]{2}:){15}[0-9a-f]{2}", key["fingerprint"])
    for name in (key["id"], key["fingerprint"]):
        assert (await me.json("GET", f"/account/keys/{name}"))["ssh_key"] == key
    renamed = await me.json("PUT", f"/account/keys/{key['id']}", {"name": "new"}, status=200)
    assert renamed["ssh_key"]["name"] == "new"
    for bad in ("ssh-ed25519 AAAA=A k", "nonsense", ""):
        body = {"name": "b", "public_key": bad}
        assert (await me.refused("POST", "/account/keys", body))[0] == 422
    assert (await me.refused("POST", "/account/keys", {"name": "b"}))[0] == 422
    id_ = await me.rent(ssh_keys=[key["fingerprint"]])
    assert me.served.host.running[str(id_)].keys == (PUBLIC,)
    assert await me.kept() == {"ssh_key": False}
    await me.json("DELETE", f"/account/keys/{key['fingerprint']}", status=204)
    assert (await me.refused("DELETE", f"/account/keys/{key['id']}"))[0] == 404
    assert await me.kept() == {}


async def _volume(me: Renter, **more: Any) -> dict[str, Any]:
    body = {"name": "data", "region": "nyc2", "size_gigabytes": 100, **more}
    made: dict[str, Any] = (await me.json("POST", "/volumes", body, status=201))["volume"]
    return made


async def test_volumes_cost_until_they_are_deleted(me: Renter) -> None:
    volume = await _volume(me)
    path = f"/volumes/{volume['id']}"
    assert await me.kept() == {"volume": True}
    twice = await me.refused(
        "POST", "/volumes", {"name": "data", "region": "nyc2", "size_gigabytes": 1}
    )
    assert twice[:2] == (409, "conflict")
    id_ = await me.rent(volumes=[volume["id"]])
    assert (await me.show(id_))["volume_ids"] == [volume["id"]]
    assert (await me.json("GET", path))["volume"]["droplet_ids"] == [id_]
    assert (await me.refused("DELETE", path))[:2] == (409, "conflict")
    body = {"type": "detach", "droplet_id": id_, "region": "nyc2"}
    made = await me.json("POST", f"{path}/actions?per_page=20&page=1", body, status=202)
    assert made["action"]["type"] == "detach_volume"
    assert (await me.refused("POST", f"{path}/actions", body))[0] == 422
    await me.json("POST", f"{path}/actions", {**body, "type": "attach"}, status=202)
    await me.delete(id_)
    assert (await me.json("GET", path))["volume"]["droplet_ids"] == [], "it outlives its droplet"
    assert await me.kept() == {"volume": True}
    grown = {"type": "resize", "size_gigabytes": 200}
    await me.json("POST", f"{path}/actions", grown, status=202)
    assert (await me.refused("POST", f"{path}/actions", grown))[0] == 422
    found = await me.json("GET", "/volumes?name=data&region=nyc2")
    assert [v["size_gigabytes"] for v in found["volumes"]] == [200]
    assert (await me.json("GET", "/volumes?region=tor1"))["volumes"] == []
    types = [action["type"] for action in (await me.json("GET", f"{path}/actions"))["actions"]]
    assert types == ["resize_volume", "attach_volume", "detach_volume"]
    await me.json("DELETE", path, status=204)
    assert (await me.refused("GET", path))[0] == 404
    assert await me.kept() == {}


async def test_a_volume_and_its_droplet_are_in_one_region(me: Renter) -> None:
    volume = await _volume(me, region="tor1")
    refused = await me.refused("POST", "/droplets", {**ADA, "volumes": [volume["id"]]})
    assert "region" in refused[2]
    for bad in ({"size_gigabytes": 0}, {"region": "mars1"}, {"name": "Upper"}, {"colour": 1}):
        body = {"name": "x", "region": "nyc2", "size_gigabytes": 1, **bad}
        assert (await me.refused("POST", "/volumes", body))[0] == 422, bad


async def test_a_droplet_ends_with_what_hangs_on_it_only_where_that_is_asked_for(
    me: Renter,
) -> None:
    volume = await _volume(me)
    id_ = await me.rent(volumes=[volume["id"]])
    await me.act(id_, "snapshot", name="snap")
    await me.served.advance(1)
    path = f"/droplets/{id_}/destroy_with_associated_resources"
    preview = await me.json("GET", path)
    assert set(preview) == {
        "reserved_ips",
        "floating_ips",
        "snapshots",
        "volumes",
        "volume_snapshots",
    }
    assert [(v["id"], v["cost"]) for v in preview["volumes"]] == [(volume["id"], "10.00")]
    ((snapshot,),) = ((s["id"] for s in preview["snapshots"]),)
    assert (await me.refused("GET", f"{path}/status"))[0] == 404
    assert (await me.refused("DELETE", f"{path}/dangerous"))[0] == 400
    assert await me.kept() == {"volume": True, "snapshot": True}
    await me.json("DELETE", f"{path}/selective", {"volumes": [volume["id"]]}, status=202)
    status = await me.json("GET", f"{path}/status")
    assert (status["failures"], len(status["resources"]["volumes"])) == (0, 1)
    assert await me.kept() == {"snapshot": True}
    assert (await me.json("GET", "/images?private=true"))["images"][0]["type"] == "snapshot"
    await me.json("DELETE", f"/images/{snapshot}", status=204)
    assert await me.kept() == {}
    id_ = await me.rent()
    answer = await me.served.http.delete(
        f"{V2}/droplets/{id_}/destroy_with_associated_resources/dangerous",
        headers={"Authorization": f"Bearer {KEY}", "X-Dangerous": "true"},
    )
    assert answer.status_code == 202
    assert await me.ids() == []


# --- billing ------------------------------------------------------------------------------


async def test_charges_are_told_by_droplet_after_midnight(served: Served, me: Renter) -> None:
    id_ = await me.rent()
    await served.advance(3597)
    await me.delete(id_)
    balance = await me.json("GET", "/customers/my/balance")
    assert balance["month_to_date_usage"] == "0.76"
    assert balance["account_balance"] == "-100000.00"
    assert balance["month_to_date_balance"] == "-99999.24"
    preview = (await me.json("GET", "/customers/my/invoices"))["invoice_preview"]
    assert preview["amount"] == "0.00"
    await served.advance(DAY_S)
    preview = (await me.json("GET", "/customers/my/invoices"))["invoice_preview"]
    assert preview["amount"] == "0.76"
    assert preview["invoice_period"] == "2027-01"
    path = f"/customers/my/invoices/{preview['invoice_uuid']}"
    (item,) = (await me.json("GET", path))["invoice_items"]
    assert (item["resource_id"], item["amount"], item["duration_unit"]) == (
        str(id_),
        "0.76",
        "Hours",
    )
    assert item["description"] == "gb-abc123 (gpu-4000adax1-20gb)"
    account = me.cloud.account(KEY)
    assert account
    urn = f"do:team:{team_of(account)}"
    points = await me.json("GET", f"/billing/{urn}/insights/2027-01-15/2027-01-20")
    assert points == await me.json(
        "GET", f"/billing/{urn.replace(':', '%3A')}/insights/2027-01-15/2027-01-20"
    )
    (point,) = points["data_points"]
    assert (point["total_amount"], point["description"]) == ("0.76", item["description"])
    assert (points["total_items"], points["total_pages"], points["current_page"]) == (1, 1, 1)
    for bad in ("2027-01-01/2027-02-01", "2027-01-02/2027-01-01", "today/2027-01-01"):
        assert (await me.refused("GET", f"/billing/{urn}/insights/{bad}"))[0] == 422
    assert (await me.refused("GET", "/billing/do:team:x/insights/2027-01-01/2027-01-01"))[0] == 404
    await served.advance(31 * DAY_S)
    (invoice,) = (await me.json("GET", "/customers/my/invoices"))["invoices"]
    assert (invoice["invoice_uuid"], invoice["amount"]) == (preview["invoice_uuid"], "0.76")
    (paid,) = (await me.json("GET", "/customers/my/billing_history"))["billing_history"]
    assert (paid["type"], paid["amount"]) == ("Invoice", "0.76")
    assert (await me.json("GET", path))["invoice_items"] == [item]
    assert (await me.refused("GET", "/customers/my/invoices/u"))[0] == 404


# --- faults -------------------------------------------------------------------------------

ANSWERED = {
    "rate_limit": (429, "too_many_requests"),
    "server_error": (500, "server_error"),
    "bad_credentials": (401, "unauthorized"),
    "not_found_for_bad_key": (404, "unauthorized"),
}


@pytest.mark.parametrize("kind", ANSWERED)
async def test_a_fault_of_the_whole_call_has_the_vendors_form(me: Renter, kind: str) -> None:
    await me.fault("list", kind, times=1)
    answer = await me.ask("GET", "/droplets?type=gpus")
    assert (answer.status_code, answer.json()["id"]) == ANSWERED[kind]
    assert await me.ids() == []


async def test_garbage_and_timeout(me: Renter) -> None:
    await me.fault("list", "garbage", times=1)
    answer = await me.ask("GET", "/droplets")
    assert answer.status_code == 200
    with pytest.raises(ValueError, match="Unterminated"):
        answer.json()
    await me.fault("list", "timeout", times=1)
    with pytest.raises(httpx2.ReadTimeout):
        await me.ask("GET", "/droplets", timeout=0.2)


@pytest.mark.parametrize(("kind", "machines"), [("disconnect_before", 0), ("disconnect_after", 1)])
async def test_a_cut_connection_before_or_after_the_act(
    me: Renter, kind: str, machines: int
) -> None:
    await me.fault("create", kind, times=1)
    with pytest.raises(httpx2.RemoteProtocolError):
        await me.ask("POST", "/droplets", ADA)
    assert len(await me.ids()) == machines


@pytest.mark.parametrize(
    ("kind", "says"),
    [("quota", "exceed your droplet limit"), ("no_capacity", "not available in this region")],
)
async def test_a_refused_create_makes_nothing(me: Renter, kind: str, says: str) -> None:
    await me.fault("create", kind, times=1)
    status, id_, message = await me.refused("POST", "/droplets", ADA)
    assert (status, id_) == (422, UNPROCESSABLE)
    assert says in message
    assert await me.ids() == []


async def test_faults_of_lists(me: Renter) -> None:
    id_, other = await me.rent(), await me.rent()
    await me.fault("list", "duplicate_list", times=1)
    assert await me.ids() == [id_, id_, other, other]
    await me.fault("list", "list_partial", times=1)
    partial = await me.json("GET", "/droplets?type=gpus")
    assert ([row["id"] for row in partial["droplets"]], partial["meta"]) == ([id_], {"total": 2})
    await me.fault("create", "list_lag", delay_s=60, times=1)
    late = await me.create()
    assert late not in await me.ids()
    assert (await me.refused("GET", f"/droplets/{late}"))[0] == 404, "nor is it found by its id"
    await me.served.advance(60)
    assert late in await me.ids()
    assert (await me.show(late))["id"] == late
    await me.fault("list", "other_account", times=1)
    assert await me.ids() == []
    await me.fault("offers", "no_capacity", times=1)
    assert not any(row["regions"] for row in (await _sizes(me)).values())
    await me.fault("offers", "duplicate_list", times=1)
    rows = (await me.json("GET", "/sizes?per_page=200"))["sizes"]
    assert rows[0] == rows[1]
    # Pages have numbers here: there is no cursor that could expire.
    await me.fault("list", "page_cursor_expired", times=1)
    assert await me.ids() == [id_, other, late]


async def test_terminate_ignored_answers_success_and_goes_on(me: Renter) -> None:
    id_ = await me.rent()
    await me.fault("terminate", "terminate_ignored", times=1)
    await me.delete(id_)
    assert (await me.show(id_))["status"] == "active"
    assert (await me.truth(id_))["billed"]


@pytest.mark.parametrize(
    ("kind", "action", "locked"),
    [("boot_failure", "errored", False), ("stuck_pending", "in-progress", True)],
)
async def test_a_boot_that_does_not_succeed(
    me: Renter, kind: str, action: str, locked: bool
) -> None:
    await me.fault("create", kind, times=1)
    id_ = await me.rent()
    await me.served.advance(3600)
    row = await me.show(id_)
    assert (row["status"], row["networks"]["v4"], row["locked"]) == ("new", [], locked)
    assert (await me.json("GET", f"/droplets/{id_}/actions"))["actions"][0]["status"] == action
    await me.delete(id_)
    assert await me.ids() == []


async def test_faults_that_a_machine_is_born_with(me: Renter) -> None:
    kinds = ("wrong_gpu", "price_changed", "ignored_field", "ssh_refused")
    for kind in kinds:
        await me.fault("create", kind, times=1)
    id_ = await me.rent(tags=["a"])
    row = await me.show(id_)
    assert row["size"]["price_hourly"] == 1.14
    assert row["tags"] == []
    assert row["networks"]["v4"][1]["ip_address"] != own_address("digitalocean", str(id_))
    spec = me.served.host.running[str(id_)]
    assert spec.gpu_tool_name != "NVIDIA RTX 4000 Ada Generation"
    assert row["gpu_info"]["model"] != "nvidia_rtx4000_ada"


async def test_slow_takes_its_time_and_then_acts(me: Renter) -> None:
    await me.fault("list", "slow", delay_s=0.2, times=1)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await me.ids() == []
    assert loop.time() - began >= 0.19


def test_every_kind_of_fault_is_shown_here() -> None:
    from pathlib import Path

    text = Path(__file__).read_text()
    assert [kind for kind in KINDS if f'"{kind}"' not in text] == []
