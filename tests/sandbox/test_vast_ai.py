"""Vast.ai's emulator: what it does, and what it refuses in the vendor's words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from gpubroker.model.money import usd
from gpubroker.sandbox.emulators.vast_ai import market

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

V0, V1 = "/vast_ai/api/v0", "/vast_ai/api/v1"
KEY_A, KEY_B = "ssh-ed25519 AAAAC3NzaA me", "ssh-ed25519 AAAAC3NzaB you"
WIDE: dict[str, Any] = {"verified": {"in": [True, False]}}


# --- market -------------------------------------------------------------------------------


async def test_numbers_are_compared_as_numbers_even_as_text(served: Served) -> None:
    found = await served.offers(num_gpus={"eq": "2"}, disk_space={"gte": 1, "gt": "300"})
    assert found
    assert all(offer["num_gpus"] == 2 and offer["disk_space"] > 300 for offer in found)


async def test_a_search_without_filters_brings_junk(served: Served) -> None:
    answer = await served.ask("POST", f"{V0}/bundles/", {})
    rows = answer.json()["offers"]
    assert {"unverified", "deverified"} < {row["verification"] for row in rows}
    assert any(row["external"] for row in rows)
    assert not all(row["rentable"] for row in rows)
    scores = [row["score"] for row in rows]
    assert scores == sorted(scores, reverse=True)


async def test_the_three_ways_to_search_agree(served: Served) -> None:
    query = {"gpu_name": {"in": ["H200", "B200"]}, "order": [["dph_total", "asc"]], "limit": 3}
    posted = (await served.ask("POST", f"{V0}/bundles/", query, key=None)).json()
    params = {"q": json.dumps(query)}
    assert (await served.ask("GET", f"{V0}/bundles/", params=params)).json() == posted
    body = {"select_cols": ["*"], "q": query}
    assert (await served.ask("PUT", f"{V0}/search/asks/", body)).json() == posted
    assert len(posted["offers"]) == 3


async def test_prices_hold_the_disk_asked_for_and_bids_start_at_the_floor(served: Served) -> None:
    small = (await served.offers(allocated_storage=0.0))[0]
    large = next(o for o in await served.offers(allocated_storage=720.0) if o["id"] == small["id"])
    assert small["dph_total"] == small["dph_base"]
    assert large["dph_total"] - large["dph_base"] == pytest.approx(large["storage_cost"], abs=1e-6)
    bid = next(o for o in await served.offers(type="bid") if o["id"] == small["id"])
    assert bid["is_bid"]
    assert bid["dph_base"] == bid["min_bid"] == small["min_bid"] < small["dph_base"]


async def test_units_are_the_vendors(served: Served) -> None:
    offer = (await served.offers(gpu_name={"eq": "RTX 4090"}, num_gpus={"eq": 2}))[0]
    assert (offer["gpu_ram"], offer["gpu_total_ram"], offer["compute_cap"]) == (24564, 49128, 890)
    assert offer["cpu_cores_effective"] <= offer["cpu_cores"]
    names = {
        (o["gpu_name"], o["gpu_ram"]) for o in await served.offers(gpu_name={"eq": "A100 SXM4"})
    }
    assert names == {("A100 SXM4", 81920), ("A100 SXM4", 40960)}
    places = {o["geolocation"] for o in await served.offers(geolocation={"in": ["SE", "JP"]})}
    assert places == {"Sweden, SE", "Japan, JP"}


BAD_SEARCHES: list[tuple[Any, str]] = [
    ([], "must be dict of conditions"),
    ({"colour": {"eq": "red"}}, "colour is not a valid search key"),
    ({"num_gpus": 1}, "num_gpus must be dict of conditions"),
    ({"num_gpus": {"equals": 1}}, "equals is not a valid operator"),
    ({"num_gpus": {"eq": "many"}}, "num_gpus"),
    ({"gpu_name": {"in": "RTX 4090"}}, "needs a list"),
    ({"rentable": {"eq": "perhaps"}}, "rentable"),
    ({"order": [["colour", "asc"]]}, "colour is not a valid search key"),
    ({"order": ["dph_total"]}, "[column, asc|desc]"),
    ({"limit": "5"}, "limit"),
    ({"limit": 0}, "limit"),
    ({"type": "cheap"}, "type"),
    ({"allocated_storage": "5"}, "allocated_storage"),
]


@pytest.mark.parametrize(("body", "words"), BAD_SEARCHES)
async def test_a_search_that_makes_no_sense_is_refused(
    served: Served, body: Any, words: str
) -> None:
    answer = await served.ask("POST", f"{V0}/bundles/", body)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert words in answer.json()["msg"]


async def test_an_offer_is_consumed_and_listed_again_under_another_number(served: Served) -> None:
    before = {offer["machine_id"]: offer["id"] for offer in await served.offers(**WIDE)}
    id_ = await served.rent()
    machine = (await served.instance(id_))["machine_id"]
    ids = {offer["machine_id"]: offer["id"] for offer in await served.offers(**WIDE)}
    assert before.keys() - ids.keys() == {machine}
    body = {"image": "ubuntu"}
    again = await served.ask("PUT", f"{V0}/asks/{before[machine]}/", body)
    assert (again.status_code, again.json()["error"]) == (410, "no_such_ask")
    again = await served.ask("PUT", f"{V0}/asks/{before[machine]}/", {**body, "price": 0.5})
    assert (again.status_code, again.json()["error"]) == (404, "invalid_args")
    assert "no_such_ask" in again.json()["msg"]
    await served.ask("DELETE", f"{V0}/instances/{id_}/", {})
    after = {offer["machine_id"]: offer["id"] for offer in await served.offers(**WIDE)}
    assert after[machine] not in before.values()


# --- keys and doors -----------------------------------------------------------------------


async def test_each_bad_way_to_log_in_has_its_own_answer(served: Served) -> None:
    path = f"{V0}/users/current"
    no_key = await served.ask("GET", path, key=None)
    assert (no_key.status_code, no_key.json()["error"]) == (403, "auth_error")
    assert no_key.json()["msg"] == "This action requires login."
    for ask in ({"key": "invalid-key"}, {"key": None, "params": {"api_key": "invalid-key"}}):
        bad: Any = await served.ask("GET", path, **ask)
        assert (bad.status_code, bad.json()["msg"]) == (404, "Invalid user key")
    basic = await served.http.get(path, headers={"Authorization": "Basic abc"})
    assert basic.status_code == 403
    good = await served.ask("GET", path, key=None, params={"api_key": "k"})
    assert good.json()["id"] == (await served.ask("GET", path + "/", key="k")).json()["id"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", f"{V0}/bundles", 404),
        ("GET", f"{V0}/instances/1", 404),
        ("GET", f"{V1}/instances", 404),
        ("PUT", f"{V0}/asks/1", 404),
        ("DELETE", f"{V0}/bundles/", 405),
        ("GET", f"{V0}/instances/?limit=2", 400),
        ("GET", f"{V0}/instances/abc/", 400),
    ],
)
async def test_paths_are_taken_to_the_letter(
    served: Served, method: str, path: str, status: int
) -> None:
    assert (await served.ask(method, path)).status_code == status


async def test_too_frequent_calls_are_refused_in_plain_text_by_sandbox_time(served: Served) -> None:
    path = f"{V0}/instances/"
    answers = [await served.ask("GET", path) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].text == "API requests too frequent: endpoint threshold=1.0"
    assert answers[2].headers["content-type"].startswith("text/plain")
    assert (await served.ask("GET", path, key="somebody")).status_code == 200
    await served.advance(1)
    assert (await served.ask("GET", path)).status_code == 200
    assert (await served.ask("GET", path)).status_code == 429


async def test_anonymous_searches_have_a_daily_quota(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(market, "ANONYMOUS_SEARCHES_A_DAY", 3)
    last = None
    for _ in range(4):
        await served.advance(6)
        last = await served.ask("POST", f"{V0}/bundles/", {"limit": 1}, key=None)
    assert last
    assert (last.status_code, last.json()["error"]) == (429, "search_quota_exceeded")
    assert int(last.headers["x-ratelimit-reset"]) % 86_400 == 0
    await served.advance(86_400)
    answer = await served.ask("POST", f"{V0}/bundles/", {"limit": 1}, key=None)
    assert answer.status_code == 200


# --- create -------------------------------------------------------------------------------

BAD_ORDERS: list[tuple[dict[str, Any], str]] = [
    ({"image": None}, "'image' is required"),
    ({"colour": "red"}, "unknown field 'colour'"),
    ({"ids": [1]}, "unknown field 'ids'"),
    ({"disk": "20"}, "'disk' must be a number"),
    ({"disk": 7}, "at least 8 GB"),
    ({"disk": 99_999}, "'disk' exceeds"),
    ({"price": 0}, "bid price"),
    ({"price": 200}, "bid price"),
    ({"label": "x" * 257}, "Label longer"),
    ({"onstart": "x" * 4000, "args": ["y" * 97]}, "exceed 4096"),
    ({"runtype": "telnet"}, "runtype"),
    ({"target_state": "frozen"}, "target_state"),
    ({"template_hash_id": "abc"}, "no such template"),
    ({"env": "-e A=1"}, "'env' must be an object"),
    ({"env": {"A": 1}}, "must be a string"),
    ({"env": {"A": "x" * 257}}, "exceeds 256"),
    ({"env": {f"A{i}": "x" * 256 for i in range(130)}}, "exceeds 32768"),
    ({"env": {f"-p {i}:{i}": "1" for i in range(1, 67)}}, "more than 64"),
    ({"env": {"-p 99999999": "1"}}, "identity ports"),
    ({"env": {"--privileged": "1"}}, "no port mapping"),
    ({"env": {"a b": "1"}}, "not a variable name"),
    ({"volume_info": {"create_new": True}}, "volume_info.volume_id"),
    ({"volume_info": {"create_new": 1, "volume_id": 1, "mount_path": "/d"}}, "boolean"),
]


@pytest.mark.parametrize(("wrong", "words"), BAD_ORDERS)
async def test_an_order_that_makes_no_sense_makes_nothing(
    served: Served, wrong: dict[str, Any], words: str
) -> None:
    offer = (await served.offers(gpu_name={"eq": "RTX 4090"}, direct_port_count={"gt": 64}))[0]
    body = {"image": "ubuntu", "disk": 20, **wrong}
    answer = await served.ask("PUT", f"{V0}/asks/{offer['id']}/", body)
    assert answer.status_code == 400
    assert words in answer.json()["msg"]
    assert await served.control("GET", "machines") == []


async def test_an_order_reaches_the_machine_as_the_vendor_would_run_it(served: Served) -> None:
    await served.ask("POST", f"{V0}/ssh/", {"ssh_key": KEY_A})
    env = {"A": "1", "-p 8000:8000": "1", "-p 9000/udp": "1"}
    id_ = await served.rent(onstart="echo hi", env=env, label="gb-x", disk=33)
    spec = served.host.running[str(id_)]
    assert (spec.startup_script, spec.command, spec.image) == ("echo hi", None, "ubuntu:22.04")
    assert (spec.env["A"], spec.env["CONTAINER_ID"], spec.env_in_ssh) == ("1", str(id_), False)
    assert spec.ports == ((8000, "tcp"), (9000, "udp"))
    assert (spec.keys, spec.disk_gb) == ((KEY_A,), 33)
    assert (spec.gpu_tool_name, spec.gpu_memory_mib) == ("NVIDIA GeForce RTX 4090", 24564)
    row = await served.instance(id_)
    assert set(row["ports"]) == {"22/tcp", "8000/tcp", "9000/udp"}
    assert row["public_ipaddr"].strip() == row["ssh_host"] == "127.0.0.1"
    assert row["ssh_port"] == int(row["ports"]["22/tcp"][0]["HostPort"])
    assert row["extra_env"] == [["A", "1"], ["-p 8000:8000", "1"], ["-p 9000/udp", "1"]]
    assert row["cpu_ram"] >= spec.ram_mb


async def test_the_key_of_a_machine_is_good_for_that_machine_alone(served: Served) -> None:
    id_, other = await served.rent(), await served.rent()
    own = served.host.running[str(id_)].env["CONTAINER_API_KEY"]
    for method, path in (
        ("DELETE", f"{V0}/instances/{other}/"),
        ("GET", f"{V0}/instances/"),
        ("GET", f"{V0}/users/current"),
    ):
        refused = await served.ask(method, path, key=own)
        assert (refused.status_code, refused.json()["error"]) == (403, "auth_error")
    await served.advance(10)
    assert (await served.ask("DELETE", f"{V0}/instances/{id_}/", {}, key=own)).status_code == 200
    await served.advance(10)
    assert (await served.ask("DELETE", f"{V0}/instances/{id_}/", {}, key=own)).status_code == 404


async def test_only_args_keeps_the_entrypoint_and_only_direct_opens_port_22(served: Served) -> None:
    id_ = await served.rent(runtype="args", args=["sleep", "6 0"], onstart="echo hi")
    spec = served.host.running[str(id_)]
    assert (spec.command, spec.startup_script) == ("sleep '6 0'", "")
    assert "22/tcp" not in (await served.instance(id_))["ports"]


async def test_what_the_create_answers_is_a_number_and_a_secret(served: Served) -> None:
    offer = (await served.offers())[0]
    answer = await served.ask("PUT", f"{V0}/asks/{offer['id']}/", {"image": "ubuntu"})
    assert set(answer.json()) == {"success", "new_contract", "instance_api_key"}
    secret = answer.json()["instance_api_key"]
    assert secret not in json.dumps(await served.control("GET", "machines"))
    assert secret.encode() not in (served.sandbox._storage.folder / "clouds.db").read_bytes()


async def test_a_bid_too_low_is_an_error_that_leaves_a_stopped_instance(served: Served) -> None:
    offer = (await served.offers(gpu_name={"eq": "RTX 4090"}))[0]
    body = {"image": "ubuntu", "price": 0.01, "label": "low"}
    answer = await served.ask("PUT", f"{V0}/asks/{offer['id']}/", body)
    assert (answer.status_code, answer.json()["success"]) == (400, False)
    row = await served.instance(answer.json()["new_contract"])
    assert (row["cur_state"], row["label"], row["is_bid"]) == ("stopped", "low", True)
    assert (await served.truth(row["id"]))["billed_for"] == ["disk_stopped"]


async def test_several_are_created_stopped_and_destroyed_at_once(served: Served) -> None:
    ids = [offer["id"] for offer in (await served.offers(gpu_name={"eq": "RTX 4090"}))[:2]]
    answer = await served.ask("POST", f"{V0}/asks/bulk/", {"image": "ubuntu", "ids": ids})
    made = answer.json()["new_contracts"]
    await served.advance(5)
    body = {"state": "stopped", "ids": made}
    assert (await served.ask("PUT", f"{V0}/instances/", body)).json() == {"success": True}
    rows = (await served.instances())["instances"]
    assert [row["actual_status"] for row in rows] == ["exited", "exited"]
    answer = await served.ask("DELETE", f"{V0}/instances/", {"instance_ids": made})
    assert answer.json() == {"success": True}
    assert (await served.instances())["instances"] == []


# --- life ---------------------------------------------------------------------------------


async def test_the_four_states_of_an_instance_from_ask_to_destroyed(served: Served) -> None:
    offer = (await served.offers(gpu_name={"eq": "RTX 4090"}))[0]
    made = await served.ask("PUT", f"{V0}/asks/{offer['id']}/", {"image": "ubuntu"})
    path = f"{V0}/instances/{made.json()['new_contract']}/"

    async def states() -> tuple[Any, ...]:
        row = (await served.ask("GET", path)).json()["instances"]
        names = ("actual_status", "intended_status", "cur_state", "next_state")
        return tuple(row[name] for name in names)

    assert await states() == (None, "running", "running", "running")
    await served.advance(1)
    assert await states() == ("loading", "running", "running", "running")
    await served.advance(5)
    assert await states() == ("running", "running", "running", "running")
    await served.ask("PUT", path, {"state": "stopped"})
    await served.advance(5)
    assert await states() == ("exited", "stopped", "stopped", "stopped")
    await served.ask("PUT", path, {"state": "running"})
    await served.advance(5)
    assert await states() == ("running", "running", "running", "running")
    await served.ask("PUT", path.replace("instances/", "instances/reboot/"), {})
    assert (await states())[0] == "rebooting"
    await served.advance(5)
    await served.ask("DELETE", path, {})
    await served.advance(5)
    assert (await served.ask("GET", path)).json() == {"instances": None}


async def test_a_start_without_the_gpu_is_a_success_that_says_no(served: Served) -> None:
    id_ = await served.rent()
    await served.ask("PUT", f"{V0}/instances/{id_}/", {"state": "stopped"})
    body = {"provider": "vast_ai", "gpu_model": "RTX 4090", "available": 0}
    await served.control("POST", "market", body)
    answer = await served.ask("PUT", f"{V0}/instances/{id_}/", {"state": "running"})
    assert answer.status_code == 200
    assert answer.json()["error"] == "resources_unavailable"
    assert (await served.instance(id_))["intended_status"] == "stopped"


async def test_an_outbid_instance_looks_stopped_though_nobody_asked(served: Served) -> None:
    id_ = await served.rent(price=0.3)
    body = {"provider": "vast_ai", "gpu_model": "RTX 4090", "price_factor": 3}
    await served.control("POST", "market", body)
    row = await served.instance(id_)
    assert row["is_bid"]
    assert {row["cur_state"], row["next_state"], row["intended_status"]} == {"stopped"}
    change = {"client_id": "me", "price": 2.0}
    answer = await served.ask("PUT", f"{V0}/instances/bid_price/{id_}/", change)
    assert answer.json() == {"success": True}
    await served.advance(3)
    row = await served.instance(id_)
    assert (row["actual_status"], row["dph_base"]) == ("running", 2.0)


async def test_a_container_whose_command_ends_has_exited_and_pays_for_its_disk(
    served: Served,
) -> None:
    id_ = await served.rent(runtype="args", args=["train"])
    await served.sandbox.machine_exited("vast_ai", str(id_), 2)
    row = await served.instance(id_)
    assert (row["actual_status"], row["intended_status"], row["cur_state"]) == (
        "exited",
        "running",
        "running",
    )
    assert row["status_msg"] == "exited: its command ended with status 2"
    assert row["ports"] is None
    assert (await served.truth(id_))["billed_for"] == ["disk"]
    assert str(id_) not in served.host.running
    assert (await served.ask("PUT", f"{V0}/instances/{id_}/", {"state": "running"})).json() == {
        "success": True
    }
    await served.advance(5)
    assert (await served.instance(id_))["actual_status"] == "running"
    assert sorted((await served.truth(id_))["billed_for"]) == ["disk", "gpu"]
    await served.sandbox.machine_powered("vast_ai", str(id_), "off")
    await served.ask("PUT", f"{V0}/instances/{id_}/", {"state": "stopped"})
    row = await served.instance(id_)
    assert (row["actual_status"], row["intended_status"]) == ("exited", "stopped")
    assert (await served.truth(id_))["billed_for"] == ["disk_stopped"]
    await served.ask("DELETE", f"{V0}/instances/{id_}/", {})
    await served.sandbox.machine_exited("vast_ai", str(id_), 0)
    assert (await served.truth(id_))["state"] == "terminated"


async def test_instances_of_others_do_not_exist(served: Served) -> None:
    theirs = await served.rent(key="somebody-else")
    path = f"{V0}/instances/{theirs}/"
    assert (await served.ask("GET", path)).json() == {"instances": None}
    for method, body in (("PUT", {"state": "stopped"}), ("DELETE", {})):
        answer = await served.ask(method, path, body)
        assert (answer.status_code, answer.json()["error"]) == (404, "no_such_instance")
    assert (await served.truth(theirs))["state"] == "running"


@pytest.mark.parametrize(
    "body", [{}, {"state": "frozen"}, {"label": "x" * 1025}, {"state": 1}, {"name": "x"}]
)
async def test_a_change_that_makes_no_sense_is_refused(
    served: Served, body: dict[str, Any]
) -> None:
    id_ = await served.rent()
    answer = await served.ask("PUT", f"{V0}/instances/{id_}/", body)
    assert (answer.status_code, answer.json()["success"]) == (400, False)


async def test_lists_page_filter_sort_and_select(served: Served) -> None:
    ids = [await served.rent(label=label) for label in ("a", "b", "b")]
    first = await served.instances(limit=2, order_by=[{"col": "id", "dir": "desc"}])
    assert [row["id"] for row in first["instances"]] == ids[:0:-1]
    assert (first["instances_found"], first["total_instances"]) == (2, 3)
    assert first["label_counts"] == {"a": 1, "b": 2}
    await served.advance(2)
    params = {"limit": "2", "order_by": '[{"col":"id","dir":"desc"}]'}
    more = await served.ask(
        "GET", f"{V1}/instances/", params={**params, "after_token": first["next_token"]}
    )
    assert ([row["id"] for row in more.json()["instances"]], more.json()["next_token"]) == (
        ids[:1],
        None,
    )
    chosen = await served.instances(
        select_filters={"label": {"eq": "b"}, "actual_status": {"in": ["running"]}},
        select_cols=["id", "nonsense"],
    )
    assert chosen["instances"] == [{"id": id_, "nonsense": None} for id_ in ids[1:]]
    old = await served.ask("GET", f"{V0}/instances/?owner=me")
    assert (old.json()["instances_found"], set(old.json())) == (3, {"instances_found", "instances"})


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"select_filters": '{"dph_total":{"lt":1}}'}, "invalid_request"),
        ({"select_filters": '{"num_gpus":{"eq":1}}'}, "invalid_request"),
        ({"select_filters": "{"}, "invalid_request"),
        ({"order_by": '[{"col":"dph_total","dir":"asc"}]'}, "invalid_request"),
        ({"after_token": "rubbish"}, "invalid_token"),
        ({"page": "2"}, "invalid_args"),
    ],
)
async def test_a_list_that_makes_no_sense_is_refused(
    served: Served, params: dict[str, str], error: str
) -> None:
    answer = await served.ask("GET", f"{V1}/instances/", params=params)
    assert (answer.status_code, answer.json()["error"]) == (400, error)


async def test_logs_are_fetched_without_a_key_from_where_they_were_put(served: Served) -> None:
    id_ = await served.rent()
    folder = served.host.running[str(id_)].folder
    (folder / "logs").mkdir(parents=True)
    (folder / "logs" / "startup.log").write_text("one\ntwo\nthree\n")
    asked = await served.ask("PUT", f"{V0}/instances/request_logs/{id_}/", {"tail": "2"})
    url = asked.json()["result_url"]
    assert url.startswith(served.url)
    assert (await served.http.get(url)).text == "two\nthree\n"
    assert (await served.http.get(url[:-6] + "x.log")).status_code == 404


# --- keys, volumes, money -----------------------------------------------------------------


async def test_account_keys_reach_new_and_present_instances(served: Served) -> None:
    id_ = await served.rent()
    made = await served.ask("POST", f"{V0}/ssh/", {"ssh_key": KEY_A})
    assert made.json()["key"]["public_key"] == KEY_A
    assert served.host.admitted[str(id_)] == (KEY_A,)
    listed = (await served.ask("GET", f"{V0}/ssh/")).json()
    assert [row["key"] for row in listed] == [KEY_A]
    await served.advance(5)
    assert (await served.ask("DELETE", f"{V0}/ssh/{listed[0]['id']}/", {})).json()["success"]
    assert (await served.ask("GET", f"{V0}/ssh/")).json() == []
    assert served.host.admitted[str(id_)] == (KEY_A,)
    await served.advance(5)
    gone = await served.ask("DELETE", f"{V0}/ssh/{listed[0]['id']}/", {})
    assert (gone.status_code, gone.json()["error"]) == (400, "no_ssh_key")


async def test_keys_are_attached_to_and_detached_from_one_instance(served: Served) -> None:
    id_ = await served.rent()
    path = f"{V0}/instances/{id_}/ssh/"
    assert (await served.ask("POST", path, {"ssh_key": KEY_B})).json()["success"]
    keys = json.loads((await served.ask("GET", path)).json()["ssh_keys"])
    assert [row["public_key"] for row in keys] == [KEY_B]
    await served.advance(5)
    assert (await served.ask("DELETE", f"{path}{keys[0]['id']}/", {})).json()["success"]
    assert served.host.admitted[str(id_)] == ()
    await served.advance(5)
    bad = await served.ask("POST", path, {"ssh_key": "hello"})
    assert (bad.status_code, bad.json()["error"]) == (400, "invalid_args")
    assert (await served.ask("POST", path, {"ssh_key": ""})).json()["error"] == "no_ssh_key"


async def test_a_vm_needs_a_key_on_the_account_first(served: Served) -> None:
    offer = (await served.offers(vms_enabled={"eq": True}))[0]
    body = {"image": "docker.io/vastai/kvm:ubuntu", "vm": True}
    answer = await served.ask("PUT", f"{V0}/asks/{offer['id']}/", body)
    assert (answer.status_code, answer.json()["error"]) == (400, "no_ssh_key_for_vm")


async def test_volumes_are_rented_charged_and_deleted(served: Served) -> None:
    search = {"disk_space": {"gte": 1, "gt": "50"}, "order": [["score", "desc"]]}
    offer = (await served.ask("POST", f"{V0}/volumes/search/", search)).json()["offers"][0]
    made = await served.ask("PUT", f"{V0}/volumes/", {"id": offer["id"], "size": 50, "name": "V1"})
    assert made.json() == {"success": True, "volume_name": "V1"}
    await served.advance(7200)
    listed = (await served.ask("GET", f"{V0}/volumes?owner=me&type=all_volume")).json()["volumes"]
    assert [(row["label"], row["disk_space"]) for row in listed] == [("V1", 50)]
    row = (await served.control("GET", "resources"))[0]
    assert row["accrued_usd"] == pytest.approx(2 * 50 * offer["storage_cost"] / 720, rel=1e-6)
    await served.advance(60)
    assert (
        await served.ask("DELETE", f"{V0}/volumes/?id={row['provider_id']}", {})
    ).status_code == 200
    await served.advance(60)
    gone = await served.ask("DELETE", f"{V0}/volumes/?id={row['provider_id']}", {})
    assert (gone.status_code, gone.json()["error"]) == (404, "no_such_volume")


async def test_an_instance_can_bring_its_volume(served: Served) -> None:
    search = {"verified": {"eq": True}, "external": {"eq": False}}
    volume = (await served.ask("POST", f"{V0}/volumes/search/", search)).json()["offers"][0]
    await served.advance(60)
    offer = (await served.offers(machine_id={"eq": volume["machine_id"]}))[0]
    info = {"create_new": True, "volume_id": volume["id"], "mount_path": "/data", "size": 20}
    body = {"image": "ubuntu", "volume_info": info}
    made = await served.ask("PUT", f"{V0}/asks/{offer['id']}/", body)
    id_ = made.json()["new_contract"]
    (attached,) = (await served.instance(id_))["volume_info"]
    used = await served.ask("DELETE", f"{V0}/volumes/?id={attached['id']}", {})
    assert used.status_code == 400
    await served.ask("DELETE", f"{V0}/instances/{id_}/", {})
    await served.advance(60)
    freed = await served.ask("DELETE", f"{V0}/volumes/?id={attached['id']}", {})
    assert freed.status_code == 200


async def _charges(served: Served, **more: Any) -> dict[str, Any]:
    await served.advance(5)
    now = served.sandbox.clock.now()
    filters = {"day": {"gte": now - 7 * 86_400, "lte": now}, **more}
    params = {"select_filters": json.dumps(filters), "latest_first": "false", "limit": "20"}
    answer = await served.ask("GET", f"{V0}/charges/", params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_charges_lag_behind_and_are_final_some_minutes_after_the_end(served: Served) -> None:
    id_ = await served.rent(label="paid")
    assert (await _charges(served))["results"] == []
    await served.advance(7200)
    await served.ask("DELETE", f"{V0}/instances/{id_}/", {})
    truth = (await served.truth(id_))["accrued_usd"]
    early = (await _charges(served))["results"][0]["amount"]
    await served.advance(600)
    (row,) = (await _charges(served, type={"in": ["instance"]}))["results"]
    assert early < row["amount"] == round(truth, 3)
    assert (row["source"], row["metadata"]) == (f"instance-{id_}", {"label": "paid"})
    assert {item["type"] for item in row["items"]} == {"gpu", "disk"}
    assert (await _charges(served, type={"in": ["volume"]}))["results"] == []
    user = (await served.ask("GET", f"{V0}/users/current")).json()
    assert user["credit"] == round(usd(served.cloud.credit(user["email"].partition("@")[0])), 6)
    assert user["credit"] == pytest.approx(10_000 - truth, abs=1e-6)


async def test_charges_of_other_days_are_not_counted(served: Served) -> None:
    id_ = await served.rent()
    await served.advance(3 * 86_400)
    await served.ask("DELETE", f"{V0}/instances/{id_}/", {})
    await served.advance(600)
    day = (served.sandbox.clock.now() // 86_400 - 1) * 86_400
    params = {"select_filters": json.dumps({"day": {"gte": day, "lte": day + 1}})}
    (row,) = (await served.ask("GET", f"{V0}/charges/", params=params)).json()["results"]
    assert (row["start"], row["end"]) == (day, day + 86_400)


async def test_charges_need_their_range_and_a_good_cursor(served: Served) -> None:
    answer = await served.ask("GET", f"{V0}/charges/")
    assert answer.status_code == 400
    assert "Must provide both 'day' gte and lte" in answer.json()["msg"]
    filters = json.dumps({"day": {"gte": 0, "lte": 1}})
    params = {"select_filters": filters, "after_token": "rubbish"}
    answer = await served.ask("GET", f"{V0}/charges/", params=params)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_token")


async def test_invoices_show_the_payment_that_fills_the_account(served: Served) -> None:
    await served.rent()
    now = served.sandbox.clock.now()
    params = {"select_filters": json.dumps({"when": {"gte": now - 99, "lte": now}})}
    (row,) = (await served.ask("GET", f"{V1}/invoices/", params=params)).json()["results"]
    assert row["amount"] == 10_000


async def test_an_empty_pocket_rents_nothing(served: Served) -> None:
    await served.rent("A100 PCIE")
    await served.advance(366 * 86_400)
    await served.advance(366 * 86_400)
    offer = (await served.offers())[0]
    answer = await served.ask("PUT", f"{V0}/asks/{offer['id']}/", {"image": "ubuntu"})
    assert answer.status_code == 400
    assert "lacks credit" in answer.json()["msg"]
