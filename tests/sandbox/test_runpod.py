"""RunPod's emulator: what it does, and what it refuses in the vendor's words."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from tests.sandbox.customer import Customer

from gpubroker.sandbox.emulators.runpod.billing import bucket_start, next_bucket
from gpubroker.sandbox.emulators.runpod.deploy import as_command
from gpubroker.sandbox.emulators.runpod.quota import WINDOWS, Quota
from gpubroker.sandbox.emulators.runpod.refused import HOST_FULL, NO_BALANCE, NO_CAPACITY
from gpubroker.sandbox.processes import CLOSED_PORT

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

GRAPHQL, V2 = "/runpod/graphql", "/runpod/v2"
KEY, OTHER = "rpa_one", "rpa_two"
GPU, A_KEY, B_KEY = "NVIDIA GeForce RTX 4090", "ssh-ed25519 AAAAa me", "ssh-ed25519 AAAAb you"
PLAIN: dict[str, Any] = {"name": "a", "image": "ubuntu", "gpu": {"id": GPU}, "ports": ["22/tcp"]}
POD_FIELDS = "id desiredStatus costPerHr lastStatusChange runtime { uptimeInSeconds }"
LOWEST = "lowestPrice(input: $lp) { uninterruptablePrice minimumBidPrice stockStatus minVcpu }"


class Renter(Customer):
    """One account of RunPod."""

    def __init__(self, served: Served, key: str | None = KEY) -> None:
        super().__init__(served, V2, {"Authorization": f"Bearer {key}"} if key else {})

    async def refused(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        """(status, detail) of a refusal; its form is the vendor's."""
        answer = await self.ask(method, path, body, **more)
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == answer.status_code >= 400
        return answer.status_code, " ".join([problem["detail"], *problem.get("errors", [])])

    async def pod(self, **more: Any) -> str:
        """A new pod that runs."""
        made = await self.json("POST", "/pods", {**PLAIN, **more})
        await self.served.advance(2)
        return str(made["id"])

    async def show(self, id_: str) -> Any:
        return await self.json("GET", f"/pods/{id_}")

    async def do(self, id_: str, action: str) -> Any:
        return await self.json("POST", f"/pods/{id_}/action", {"action": action})

    async def graphql(self, text: str, **variables: Any) -> httpx2.Response:
        body: dict[str, Any] = {"query": text}
        if variables:
            body["variables"] = variables
        return await self.served.http.post(GRAPHQL, json=body, headers=self.headers)

    async def data(self, text: str, **variables: Any) -> Any:
        answer = await self.graphql(text, **variables)
        assert answer.status_code == 200, answer.text
        assert set(answer.json()) == {"data"}, answer.text
        return answer.json()["data"]

    async def error(self, text: str, **variables: Any) -> Any:
        """(message, code) of the one error of an answer with status 200."""
        answer = await self.graphql(text, **variables)
        assert answer.status_code == 200, answer.text
        (error,) = answer.json()["errors"]
        assert set(answer.json()["data"].values()) == {None}
        return error["message"], error["extensions"]["code"]

    async def fault(self, operation: str, kind: str, **more: Any) -> str:
        """Once, unless it is told how often."""
        return await super().fault(operation, kind, **{"times": 1, **more})


@pytest.fixture
def me(served: Served) -> Renter:
    return Renter(served)


@pytest.fixture
def other(served: Served) -> Renter:
    return Renter(served, OTHER)


SPOT = "mutation($input: PodRentInterruptableInput!) { podRentInterruptable(input: $input) { id } }"
DEPLOY = (
    "mutation($input: PodFindAndDeployOnDemandInput) "
    "{ podFindAndDeployOnDemand(input: $input) { id machine { dataCenterId } } }"
)


def wanted(**more: Any) -> dict[str, Any]:
    return {"name": "s", "imageName": "x", "gpuTypeId": GPU, "gpuCount": 1, **more}


async def spot(me: Renter, bid: float = 0.6, **more: Any) -> str:
    made = await me.data(SPOT, input=wanted(bidPerGpu=bid, cloudType="SECURE", **more))
    await me.served.advance(2)
    return str(made["podRentInterruptable"]["id"])


# --- market -------------------------------------------------------------------------------


async def test_prices_are_of_one_gpu_and_the_same_in_both_apis(me: Renter) -> None:
    stock = {"include": "AVAILABILITY", "product": "POD"}
    rows = (await me.json("GET", "/catalog/gpus", params=stock))["gpus"]
    told = await me.data("{ gpuTypes { id securePrice communityPrice maxGpuCount } }")
    for row, same in zip(rows, told["gpuTypes"], strict=True):
        assert (row["id"], row["price"]["secure"]) == (same["id"], same["securePrice"] or 0)
        assert row["price"]["community"] == (same["communityPrice"] or 0)
        assert max(row["maxCount"].values()) == same["maxGpuCount"]
    made = await me.show(await me.pod(gpu={"id": GPU, "count": 3}))
    assert made["cost"] == pytest.approx(3 * 0.69)


async def test_names_are_the_vendors_double_spaces_and_all(me: Renter) -> None:
    rows = {row["id"]: row for row in (await me.json("GET", "/catalog/gpus"))["gpus"]}
    assert {"NVIDIA  A30", "NVIDIA  RTX A4500", "NVIDIA GeForce RTX 3080TI", "unknown"} < set(rows)
    assert rows["NVIDIA H100 80GB HBM3"]["name"] == "H100 SXM"
    assert (await me.json("GET", "/catalog/gpus/NVIDIA  A30"))["memory"] == 24
    assert (await me.refused("GET", "/catalog/gpus/NVIDIA A30"))[0] == 404


async def test_prices_need_no_key_in_graphql_and_one_in_v2(served: Served) -> None:
    nobody = Renter(served, None)
    found = await nobody.data(
        "query($lp: GpuLowestPriceInput, $f: GpuTypeFilter) { countryCodes dataCenters "
        f"{{ id listed }} gpuTypes(input: $f) {{ id {LOWEST} }} }}",
        lp={
            "gpuCount": 2,
            "secureCloud": True,
            "dataCenterId": "EU-RO-1",
            "minCudaVersion": "12.5",
        },
        f={"id": GPU},
    )
    (gpu,) = found["gpuTypes"]
    assert gpu["lowestPrice"]["uninterruptablePrice"] == 0.69
    assert (gpu["lowestPrice"]["stockStatus"], gpu["lowestPrice"]["minVcpu"]) == ("Low", 16)
    assert {row["id"]: row["listed"] for row in found["dataCenters"]}["US-DE-1"] is False
    assert "CA" in found["countryCodes"]
    assert await nobody.refused("GET", "/catalog/gpus") == (401, "missing bearer token")
    assert (await nobody.graphql("{ gpuTypes { id } myself { id } }")).status_code == 401


async def test_where_there_is_none_the_stock_is_null_and_none(me: Renter) -> None:
    lp = {"gpuCount": 1, "secureCloud": True, "dataCenterId": "US-MO-1"}
    text = f'query($lp: GpuLowestPriceInput) {{ gpuTypes(input: {{id: "{GPU}"}}) {{ {LOWEST} }} }}'
    (gpu,) = (await me.data(text, lp=lp))["gpuTypes"]
    assert gpu["lowestPrice"]["stockStatus"] is gpu["lowestPrice"]["uninterruptablePrice"] is None
    body = {"provider": "runpod", "gpu_model": GPU, "available": False}
    await me.served.control("POST", "market", body)
    stock = {"include": "AVAILABILITY", "product": "POD"}
    row = await me.json("GET", f"/catalog/gpus/{GPU}", params=stock)
    assert (row["availability"], "dataCenters" in row) == ("NONE", False)
    assert await me.refused("POST", "/pods", PLAIN) == (400, NO_CAPACITY)


async def test_renting_a_part_of_a_host_leaves_the_rest(me: Renter) -> None:
    place = {"dataCenterIds": ["US-IL-1"]}
    first = await me.pod(gpu={"id": GPU, "count": 3}, **place)
    two = {**PLAIN, **place, "gpu": {"id": GPU, "count": 2}}
    assert await me.refused("POST", "/pods", two) == (400, NO_CAPACITY)
    await me.pod(gpu={"id": GPU, "count": 1}, **place)
    await me.json("DELETE", f"/pods/{first}")
    await me.pod(gpu={"id": GPU, "count": 2}, **place)


BAD_QUERIES: list[tuple[str, dict[str, str], int, str]] = [
    ("/catalog/gpus", {"include": "AVAILABILITY"}, 400, "product is required"),
    ("/catalog/gpus", {"count": "2"}, 400, "only with include"),
    ("/catalog/gpus", {"include": "PRICES"}, 422, "include"),
    ("/catalog/gpus", {"colour": "red"}, 422, "colour"),
    ("/catalog/gpus", {"include": "AVAILABILITY", "product": "VM"}, 422, "product"),
    (
        "/catalog/gpus",
        {"include": "AVAILABILITY", "product": "POD", "countryCodes": "fr"},
        422,
        "malformed",
    ),
    (
        "/catalog/gpus",
        {
            "include": "AVAILABILITY",
            "product": "POD",
            "cudaVersions": "12.4",
            "minCudaVersion": "12",
        },
        400,
        "mutually exclusive",
    ),
    ("/catalog/cpus", {"vcpuCount": "4"}, 400, "only with include"),
    ("/catalog/datacenters", {"include": "AVAILABILITY"}, 422, "include"),
    ("/billing/pods", {"bucketSize": "minute"}, 422, "minute"),
    ("/billing/pods", {"lastN": "2", "startTime": "2026-01-01T00:00:00Z"}, 400, "exclusive"),
    ("/pods", {"page": "2"}, 422, "page"),
]


@pytest.mark.parametrize(("path", "params", "status", "words"), BAD_QUERIES)
async def test_a_query_that_makes_no_sense_is_refused(
    me: Renter, path: str, params: dict[str, str], status: int, words: str
) -> None:
    found, detail = await me.refused("GET", path, params=params)
    assert found == status
    assert words in detail


# --- pods ---------------------------------------------------------------------------------


async def test_a_pod_is_made_boots_runs_and_ends(me: Renter) -> None:
    made = await me.json("POST", "/pods", {**PLAIN, "ports": ["22/tcp", "8000/http"]})
    assert (made["status"], made["actions"]) == ("PROVISIONING", ["stop", "terminate"])
    assert (made["runtime"], made["ssh"]["direct"], made["startedAt"]) == (None, None, None)
    await me.served.advance(1)
    assert (await me.show(made["id"]))["status"] == "STARTING"
    await me.served.advance(1)
    pod = await me.show(made["id"])
    assert (pod["status"], pod["cost"]) == ("RUNNING", 0.69)
    tcp, http = pod["runtime"]["ports"]
    assert (pod["ssh"]["direct"]["host"], pod["ssh"]["direct"]["port"]) == (
        tcp["ip"],
        tcp["public"],
    )
    assert (http["private"], http["type"], http["ip"]) == (8000, "http", "127.0.0.1")
    assert (await me.ask("DELETE", f"/pods/{made['id']}")).status_code == 204
    assert await me.json("GET", "/pods") == {"pods": []}
    assert await me.refused("GET", f"/pods/{made['id']}") == (404, "resource not found")
    assert (await me.refused("DELETE", f"/pods/{made['id']}"))[0] == 404
    assert (await me.truth(made["id"]))["billed"] is False


BAD_PODS: list[tuple[dict[str, Any], int, str]] = [
    ({"colour": "red"}, 422, "colour"),
    ({"name": ""}, 422, "name"),
    ({"name": None}, 422, "name"),
    ({"disk": "20"}, 422, "disk"),
    ({"disk": 0}, 422, "disk"),
    ({"env": {"A": 1}}, 422, "env"),
    ({"env": [{"key": "A", "value": "1"}]}, 422, "env"),
    ({"gpu": {"id": GPU, "minVcpuCountPerGpu": 4}}, 422, "minVcpuCountPerGpu"),
    ({"gpu": {"id": GPU, "count": 0}}, 422, "count"),
    ({"gpu": {"id": GPU, "minCudaVersion": "12"}}, 422, "minCudaVersion"),
    ({"cloud": "ALL"}, 422, "cloud"),
    ({"mounts": {"persistent": {"size": 5, "path": "/w"}}}, 422, "size"),
    ({"mounts": {"network": [{"volumeId": "x"}]}}, 422, "path"),
    ({"interruptible": True}, 422, "interruptible"),
    ({"gpu": {"id": "NVIDIA Voodoo2"}}, 400, "unknown GPU type"),
    ({"cpu": {"id": "cpu5c", "vcpuCount": 4}}, 400, "exactly one of gpu or cpu"),
    (
        {"gpu": {"id": GPU, "minCudaVersion": "12.1", "allowedCudaVersions": ["12.8"]}},
        400,
        "mutually exclusive",
    ),
    (
        {
            "mounts": {
                "persistent": {"size": 10, "path": "/w"},
                "network": [{"volumeId": "x", "path": "/w"}],
            }
        },
        400,
        "mutually exclusive",
    ),
    ({"mounts": {"network": [{"volumeId": "nosuch", "path": "/w"}]}}, 400, "not found"),
    ({"ports": ["22"]}, 400, "invalid port"),
    ({"ports": ["99999/tcp"]}, 400, "99999"),
    ({"registry": "nosuch"}, 400, "not found"),
    ({"gpu": {"id": GPU, "count": 9}}, 400, NO_CAPACITY),
    ({"gpu": {"id": GPU, "minCudaVersion": "14.0"}}, 400, NO_CAPACITY),
    ({"gpu": {"id": GPU, "allowedCudaVersions": ["12.7"]}}, 400, NO_CAPACITY),
    ({"dataCenterIds": ["US-MO-1"]}, 400, NO_CAPACITY),
    ({"templateId": "nosuch"}, 404, "not found"),
]


@pytest.mark.parametrize(("more", "status", "words"), BAD_PODS)
async def test_an_order_that_makes_no_sense_is_refused(
    me: Renter, more: dict[str, Any], status: int, words: str
) -> None:
    found, detail = await me.refused("POST", "/pods", {**PLAIN, **more})
    assert found == status
    assert words in detail
    assert await me.served.control("GET", "machines") == []


async def test_what_is_left_out_is_told(me: Renter) -> None:
    for body, status, words in (
        ({"image": "x", "gpu": {"id": GPU}}, 422, "name"),
        ({"name": "a", "gpu": {"id": GPU}}, 422, "image"),
        ({"name": "a", "image": "x"}, 400, "exactly one of gpu or cpu"),
        ([], 422, "$"),
    ):
        found, detail = await me.refused("POST", "/pods", body)
        assert (found, words in detail) == (status, True)
    answer = await me.served.http.post(
        f"{V2}/pods", content=b"{", headers={"Authorization": f"Bearer {KEY}"}
    )
    assert answer.status_code == 400


async def test_names_are_not_unique_and_each_key_sees_its_own(me: Renter, other: Renter) -> None:
    mine = [await me.pod(), await me.pod()]
    theirs = await other.pod()
    assert [pod["id"] for pod in (await me.json("GET", "/pods"))["pods"]] == mine
    assert (await me.refused("GET", f"/pods/{theirs}"))[0] == 404
    assert (await me.refused("DELETE", f"/pods/{theirs}"))[0] == 404
    assert await me.data(f'{{ pod(input: {{podId: "{theirs}"}}) {{ id }} }}') == {"pod": None}
    assert (await me.truth(theirs))["billed"]


async def test_a_stopped_pod_costs_nothing_by_its_record_and_its_disk_is_billed(
    me: Renter,
) -> None:
    kept = await me.pod(mounts={"persistent": {"size": 100, "path": "/w"}}, disk=50)
    bare = await me.pod()
    for id_ in (kept, bare):
        assert (await me.do(id_, "stop"))["status"] == "EXITED"
    pod = await me.show(kept)
    assert (pod["cost"], pod["runtime"], pod["actions"]) == (0.0, None, ["start", "terminate"])
    truth = await me.truth(kept)
    assert (truth["billed"], truth["billed_for"]) == (True, ["disk_stopped"])
    assert not (await me.truth(bare))["billed"]
    before = (await me.truth(kept))["accrued_usd"]
    await me.served.advance(730 * 3600)
    paid = (await me.truth(kept))["accrued_usd"] - before
    assert paid == pytest.approx(100 * 0.20, rel=1e-3)


async def test_a_stopped_pod_is_pinned_to_its_host_and_a_start_can_fail_for_ever(
    me: Renter, other: Renter
) -> None:
    place = {"dataCenterIds": ["US-IL-1"], "gpu": {"id": GPU, "count": 4}}
    id_ = await me.pod(**place)
    await me.do(id_, "stop")
    await other.pod(**place)
    path, start = f"/pods/{id_}/action", {"action": "start"}
    assert await me.refused("POST", path, start) == (400, HOST_FULL)
    resume = f'mutation {{ podResume(input: {{podId: "{id_}", gpuCount: 4}}) {{ id }} }}'
    assert (await me.error(resume))[0] == HOST_FULL
    assert (await me.show(id_))["status"] == "EXITED"


async def test_a_start_wipes_the_container_and_a_smaller_one_may_fit(me: Renter) -> None:
    id_ = await me.pod(gpu={"id": GPU, "count": 2})
    await me.do(id_, "stop")
    resume = f'mutation {{ podResume(input: {{podId: "{id_}", gpuCount: 1}}) {{ costPerHr }} }}'
    assert (await me.data(resume))["podResume"]["costPerHr"] == 0.69
    await me.served.advance(2)
    assert ("remove", id_) in me.served.host.calls
    assert (await me.show(id_))["gpu"]["count"] == 1


async def test_an_action_that_the_state_does_not_allow_is_refused(me: Renter) -> None:
    id_ = await me.pod()
    path = f"/pods/{id_}/action"
    assert (await me.refused("POST", path, {"action": "start"}))[0] == 409
    assert (await me.refused("POST", path, {"action": "fly"}))[0] == 422
    await me.do(id_, "stop")
    assert (await me.refused("POST", path, {"action": "stop"}))[0] == 409
    assert (await me.ask("POST", path, {"action": "terminate"})).status_code == 204


async def test_a_locked_pod_is_not_stopped(me: Renter) -> None:
    id_ = await me.pod()
    assert (await me.json("PATCH", f"/pods/{id_}", {"locked": True}))["actions"] == ["terminate"]
    assert (await me.refused("POST", f"/pods/{id_}/action", {"action": "stop"}))[0] == 409
    stop = f'mutation {{ podStop(input: {{podId: "{id_}"}}) {{ id }} }}'
    assert (await me.error(stop))[0] == "pod is locked"
    await me.json("PATCH", f"/pods/{id_}", {"locked": False})
    assert (await me.do(id_, "stop"))["status"] == "EXITED"


async def test_a_patch_changes_what_it_names_and_makes_the_container_anew(me: Renter) -> None:
    id_ = await me.pod(env={"A": "1"})
    pod = await me.json("PATCH", f"/pods/{id_}", {"name": "b"})
    assert (pod["name"], pod["status"], pod["env"]) == ("b", "RUNNING", {"A": "1"})
    pod = await me.json("PATCH", f"/pods/{id_}", {"env": {"B": "2"}, "disk": 90, "args": "sleep 5"})
    assert (pod["env"], pod["disk"], pod["args"]) == ({"B": "2"}, 90, "sleep 5")
    await me.served.advance(2)
    spec = me.served.host.running[id_]
    assert (spec.env["B"], "A" in spec.env, spec.command) == ("2", False, "sleep 5")
    assert spec.env["RUNPOD_POD_ID"] == id_
    for body, words in (
        ({"mounts": {"persistent": {"size": 20, "path": "/w"}}}, "cannot be added"),
        ({"mounts": {"network": []}}, "must not be empty"),
    ):
        status, detail = await me.refused("PATCH", f"/pods/{id_}", body)
        assert (status, words in detail) == (400, True)


async def test_a_cpu_pod_has_cpus_and_no_gpu(me: Renter) -> None:
    body = {"name": "c", "image": "x", "cpu": {"id": "cpu3c", "vcpuCount": 4}}
    pod = await me.json("POST", "/pods", body)
    assert pod["cpu"] == {"id": "cpu3c", "vcpuCount": 4, "memory": 8}
    assert ("gpu" in pod, pod["cudaVersion"], pod["cost"]) == (False, None, pytest.approx(0.12))
    await me.served.advance(2)
    assert me.served.host.running[pod["id"]].gpu_count == 0
    bad = {**body, "cpu": {"id": "cpu3c", "vcpuCount": 6}}
    assert "power of two" in (await me.refused("POST", "/pods", bad))[1]
    bad = {**body, "mounts": {"persistent": {"size": 10, "path": "/w"}}}
    assert "not supported on CPU pods" in (await me.refused("POST", "/pods", bad))[1]


async def test_a_template_fills_in_what_the_order_leaves_out(me: Renter) -> None:
    body = {"name": "t", "templateId": "runpod-torch-v280", "gpu": {"id": GPU}}
    pod = await me.json("POST", "/pods", body)
    assert pod["image"].startswith("runpod/pytorch")
    assert (pod["ports"], pod["template"]) == (["8888/http", "22/tcp"], None)


async def test_the_logs_are_a_stream_of_events(me: Renter) -> None:
    id_ = await me.pod()
    folder = me.cloud.machine_folder(me.cloud.machines[id_]) / "logs"
    folder.mkdir(parents=True)
    (folder / "container.log").write_text("one\ntwo\n")
    answer = await me.ask("GET", f"/pods/{id_}/logs", params={"source": "container", "tail": "1"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert '"line": "two"' in answer.text
    assert "one" not in answer.text


# --- what is in the container -------------------------------------------------------------


async def test_the_container_gets_env_keys_and_words_as_the_vendor_gives_them(
    me: Renter,
) -> None:
    await me.json("PUT", "/account/ssh-keys", {"keys": [A_KEY, B_KEY]})
    with_account = await me.pod(startSsh=True, env={"A": "1"})
    own = await me.pod(startSsh=True, env={"PUBLIC_KEY": B_KEY}, args="bash -c 'echo $A; id'")
    neither = await me.pod(startJupyter=True)
    running = me.served.host.running
    assert running[with_account].keys == (A_KEY, B_KEY)
    assert running[with_account].env["PUBLIC_KEY"] == f"{A_KEY}\n\n{B_KEY}"
    assert running[own].keys == (B_KEY,)
    assert running[own].command == "bash -c 'echo $A; id'"
    assert (running[neither].keys, "JUPYTER_PASSWORD" in running[neither].env) == ((), True)
    spec = running[with_account]
    assert (spec.env["A"], spec.env["RUNPOD_POD_ID"], spec.env_in_ssh) == ("1", with_account, False)
    assert "RUNPOD_API_KEY" not in str((await me.show(with_account))["env"])


def test_the_words_of_a_container_are_split_but_not_expanded() -> None:
    assert as_command("") is None
    assert as_command("echo $HOME") == "echo '$HOME'"
    assert as_command("bash -c 'a; b'") == "bash -c 'a; b'"
    assert as_command("echo 'open") == "echo 'open"


async def test_new_account_keys_reach_new_pods_only(me: Renter) -> None:
    await me.json("PUT", "/account/ssh-keys", {"keys": [A_KEY]})
    id_ = await me.pod(startSsh=True)
    await me.json("PUT", "/account/ssh-keys", {"keys": [B_KEY]})
    assert me.served.host.admitted[id_] == (A_KEY,)
    assert await me.json("GET", "/account/ssh-keys") == {"keys": [B_KEY]}
    assert (await me.data("{ myself { pubKey } }"))["myself"]["pubKey"] == B_KEY
    await me.data('mutation { updateUserSettings(input: {pubKey: ""}) { id } }')
    assert (await me.data("{ myself { pubKey } }"))["myself"]["pubKey"] is None


async def test_a_pods_own_key_may_stop_and_end_that_pod_alone(me: Renter, served: Served) -> None:
    id_, sibling = await me.pod(), await me.pod()
    inside = Renter(served, served.host.running[id_].env["RUNPOD_API_KEY"])
    assert (await inside.show(id_))["id"] == id_
    for method, path, body in (
        ("GET", "/pods", None),
        ("GET", f"/pods/{sibling}", None),
        ("DELETE", f"/pods/{sibling}", None),
        ("POST", "/pods", PLAIN),
        ("POST", f"/pods/{id_}/action", {"action": "restart"}),
        ("PUT", "/account/ssh-keys", {"keys": []}),
    ):
        assert await inside.refused(method, path, body) == (403, "access denied")
    stop = "mutation($id: String!) { podStop(input: {podId: $id}) { desiredStatus } }"
    assert (await inside.graphql(stop, id=sibling)).status_code == 403
    assert (await inside.graphql("{ myself { id } }")).status_code == 403
    assert (await inside.data(stop, id=id_))["podStop"] == {"desiredStatus": "EXITED"}
    end = f'mutation {{ podTerminate(input: {{podId: "{id_}"}}) }}'
    assert await inside.data(end) == {"podTerminate": None}
    assert (await inside.graphql(end)).status_code == 401
    assert (await me.truth(sibling))["billed"]


async def test_a_container_that_ends_by_itself_is_exited(me: Renter, served: Served) -> None:
    id_ = await me.pod(args="sleep 1")
    await served.sandbox.machine_exited("runpod", id_, 0)
    assert (await me.show(id_))["status"] == "EXITED"
    assert (await me.truth(id_))["billed"] is False
    assert (await me.do(id_, "start"))["status"] == "PROVISIONING"
    assert (await me.truth(id_))["billed"] is True


# --- spot and GraphQL ---------------------------------------------------------------------


async def test_a_spot_pod_pays_its_bid_for_each_gpu(me: Renter) -> None:
    id_ = await spot(me, 0.6, gpuCount=2, env=[{"key": "A", "value": "1"}], ports="22/tcp")
    pod = (
        await me.data(f'{{ pod(input: {{podId: "{id_}"}}) {{ costPerHr podType env ports }} }}')
    )["pod"]
    assert (pod["costPerHr"], pod["podType"]) == (1.2, "INTERRUPTABLE")
    assert (pod["env"], pod["ports"]) == (["A=1"], "22/tcp")
    message, code = await me.error(SPOT, input=wanted(bidPerGpu=0.01))
    assert (message, code) == (NO_CAPACITY, "SUPPLY_CONSTRAINT")


async def test_a_spot_pod_that_is_outbid_is_exited_and_stays_so_until_a_better_bid(
    me: Renter,
) -> None:
    id_ = await spot(me)
    body = {"provider": "runpod", "gpu_model": GPU, "price_factor": 2.0}
    await me.served.control("POST", "market", body)
    one = f'{{ pod(input: {{podId: "{id_}"}}) {{ {POD_FIELDS} }} }}'
    pod = (await me.data(one))["pod"]
    assert (pod["desiredStatus"], pod["costPerHr"], pod["runtime"]) == ("EXITED", 0.0, None)
    assert pod["lastStatusChange"].startswith("Outbid: ")
    assert (await me.show(id_))["status"] == "EXITED"
    again = (
        f'mutation($bid: Float!) {{ podBidResume(input: {{podId: "{id_}", gpuCount: 1, '
        "bidPerGpu: $bid}) { desiredStatus costPerHr } }"
    )
    assert "below the minimum bid" in (await me.error(again, bid=0.5))[0]
    as_if_on_demand = f'mutation {{ podResume(input: {{podId: "{id_}", gpuCount: 1}}) {{ id }} }}'
    assert (await me.error(as_if_on_demand))[0] == "Cannot resume a spot pod as an on demand pod."
    await me.served.control("POST", "market", {**body, "price_factor": 1.0})
    await me.served.advance(7200)
    assert (await me.data(one))["pod"]["desiredStatus"] == "EXITED"
    resumed = (await me.data(again, bid=0.7))["podBidResume"]
    assert resumed == {"desiredStatus": "RUNNING", "costPerHr": 0.7}


async def test_the_control_takes_a_spot_pod_away(me: Renter) -> None:
    id_ = await spot(me)
    await me.served.control("POST", "preempt", {"provider": "runpod", "provider_id": id_})
    assert (await me.show(id_))["status"] == "EXITED"
    assert (await me.truth(id_))["state"] == "preempted"


async def test_the_service_itself_stops_and_ends_pods_at_their_time(me: Renter) -> None:
    now = me.served.sandbox.clock.now()
    at = [datetime.fromtimestamp(now + s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for s in (600, 1200)]
    id_ = await spot(me, stopAfter=at[0], terminateAfter=at[1])
    await me.served.advance(500)
    assert (await me.show(id_))["status"] == "RUNNING"
    await me.served.advance(5000)
    assert (await me.refused("GET", f"/pods/{id_}"))[0] == 404
    truth = await me.truth(id_)
    assert (truth["state"], truth["billed"]) == ("terminated", False)
    assert truth["accrued_usd"] == pytest.approx(0.6 * 598.5 / 3600 + 10 * 0.1 / 730 / 6, rel=0.01)
    assert (await me.error(SPOT, input=wanted(bidPerGpu=0.6, stopAfter="soon")))[1] == (
        "BAD_USER_INPUT"
    )


async def test_graphql_places_by_cloud_place_price_and_address(me: Renter) -> None:
    made = await me.data(DEPLOY, input=wanted(cloudType="ALL", dataCenterId="EU-RO-1"))
    assert made["podFindAndDeployOnDemand"]["machine"] == {"dataCenterId": "EU-RO-1"}
    cheap = await me.data(DEPLOY, input=wanted(deployCost=0.35))
    id_ = cheap["podFindAndDeployOnDemand"]["id"]
    assert (await me.show(id_))["cloud"] == "COMMUNITY"
    nowhere = wanted(cloudType="SECURE", deployCost=0.35)
    assert await me.error(DEPLOY, input=nowhere) == (NO_CAPACITY, "SUPPLY_CONSTRAINT")
    czech = wanted(countryCode="CZ", cloudType="COMMUNITY", ports="22/tcp")
    hidden = (await me.data(DEPLOY, input=czech))["podFindAndDeployOnDemand"]["id"]
    await me.served.advance(2)
    assert (await me.show(hidden))["ssh"]["direct"] is None
    public = {**czech, "supportPublicIp": True}
    assert (await me.error(DEPLOY, input=public))[1] == "SUPPLY_CONSTRAINT"


BAD_GRAPHQL: list[tuple[str, dict[str, Any], str]] = [
    ("{ gpuTypes { id ", {}, "GRAPHQL_PARSE_FAILED"),
    ("{ gpuTypes { shoeSize } }", {}, "GRAPHQL_VALIDATION_FAILED"),
    ("{ gpuTypes }", {}, "GRAPHQL_VALIDATION_FAILED"),
    ("{ pod(input: {}) { id } }", {}, "GRAPHQL_VALIDATION_FAILED"),
    (
        'mutation { podFindAndDeployOnDemand(input: {cloudType: "SECURE"}) { id } }',
        {},
        "GRAPHQL_VALIDATION_FAILED",
    ),
    ("mutation { podStop(input: {podId: 5}) { id } }", {}, "GRAPHQL_VALIDATION_FAILED"),
    (DEPLOY, {"input": {"colour": "red"}}, "BAD_USER_INPUT"),
    (DEPLOY, {"input": {"cloudType": "MOON"}}, "BAD_USER_INPUT"),
    (SPOT, {"input": {"name": "no bid"}}, "BAD_USER_INPUT"),
]


@pytest.mark.parametrize(("text", "variables", "code"), BAD_GRAPHQL)
async def test_what_the_schema_does_not_know_is_a_bad_request(
    me: Renter, text: str, variables: dict[str, Any], code: str
) -> None:
    answer = await me.graphql(text, **variables)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["extensions"]["code"] == code
    assert "data" not in answer.json()


async def test_aliases_and_fragments_are_taken(me: Renter) -> None:
    id_ = await me.pod()
    text = (
        f'query {{ p: pod(input: {{podId: "{id_}"}}) {{ ...of }} none: pod(input: '
        '{podId: "nosuch"}) { ...of } } fragment of on Pod { id }'
    )
    assert await me.data(text) == {"p": {"id": id_}, "none": None}


async def test_unknown_pods_are_told_by_a_message(me: Renter) -> None:
    end = 'mutation { podTerminate(input: {podId: "nosuch"}) }'
    assert (await me.error(end))[0] == "pod not found to terminate"
    assert (await me.graphql(end)).status_code == 200


# --- volumes, registries, money -----------------------------------------------------------


async def test_network_volumes_are_charged_grow_and_pin_pods_to_their_place(
    me: Renter,
) -> None:
    body = {"name": "v", "size": 100, "dataCenter": "EU-RO-1"}
    volume = await me.json("POST", "/network-volumes", body)
    assert volume["type"] == "STANDARD"
    mount = {"mounts": {"network": [{"volumeId": volume["id"], "path": "/w"}]}}
    id_ = await me.pod(**mount)
    assert (await me.show(id_))["dataCenterId"] == "EU-RO-1"
    assert (await me.refused("POST", "/pods", {**PLAIN, **mount, "dataCenterIds": ["US-KS-2"]}))[
        0
    ] == 400
    one = f"/network-volumes/{volume['id']}"
    assert "in use" in (await me.refused("DELETE", one))[1]
    assert (await me.refused("PATCH", one, {}))[0] == 422
    assert "reduced" in (await me.refused("PATCH", one, {"size": 50}))[1]
    await me.json("PATCH", one, {"size": 2000})
    (row,) = await me.served.control("GET", "resources")
    assert row["price_per_hour"] == pytest.approx(2000 * 0.05 / 730, rel=1e-6)
    await me.json("DELETE", f"/pods/{id_}")
    assert (await me.ask("DELETE", one)).status_code == 204
    bad = {**body, "dataCenter": "US-MO-1"}
    assert (await me.refused("POST", "/network-volumes", bad))[0] == 400
    assert (await me.refused("POST", "/network-volumes", {**body, "size": 5000}))[0] == 422


async def test_graphql_keeps_volumes_too(me: Renter) -> None:
    made = await me.data(
        'mutation { createNetworkVolume(input: {name: "v", size: 20, dataCenterId: "US-KS-2"}) '
        "{ id size } }"
    )
    id_ = made["createNetworkVolume"]["id"]
    grow = f'mutation {{ updateNetworkVolume(input: {{id: "{id_}", size: 30}}) {{ size }} }}'
    assert (await me.data(grow))["updateNetworkVolume"] == {"size": 30}
    found = await me.data("{ myself { networkVolumes { id size } } }")
    assert found["myself"]["networkVolumes"] == [{"id": id_, "size": 30}]
    await me.data(f'mutation {{ deleteNetworkVolume(input: {{id: "{id_}"}}) }}')
    assert (await me.json("GET", "/network-volumes"))["networkVolumes"] == []


async def test_registry_credentials_never_come_back(me: Renter) -> None:
    body = {"name": "r", "username": "me", "password": "hunter2"}
    made = await me.json("POST", "/registries", body)
    assert set(made) == {"id", "name"}
    id_ = await me.pod(registry=made["id"])
    assert (await me.show(id_))["registry"] == made["id"]
    me.cloud.commit()
    assert "hunter2" not in str([thing.wire for thing in me.cloud.things.values()])


async def test_the_bill_lags_keeps_ended_pods_and_adds_up(me: Renter, other: Renter) -> None:
    await other.pod()
    began = me.served.sandbox.clock.now()
    id_ = await me.pod(mounts={"persistent": {"size": 10, "path": "/w"}})
    params = {"podId": id_, "bucketSize": "hour"}
    assert (await me.json("GET", "/billing/pods", params=params))["records"] == []
    await me.served.advance(5400)
    await me.json("DELETE", f"/pods/{id_}")
    truth = (await me.truth(id_))["accrued_usd"]
    early = (await me.json("GET", "/billing/pods", params=params))["metadata"]["totals"]
    assert 0 < early["totalAmount"] < truth
    await me.served.advance(301)
    bill = await me.json("GET", "/billing/pods", params=params)
    assert bill["metadata"]["totals"]["totalAmount"] == pytest.approx(truth, abs=1e-6)
    assert {row["podId"] for row in bill["records"]} == {id_}
    assert len(bill["records"]) == 2
    assert bill["records"][0]["startTime"] == datetime.fromtimestamp(began, UTC).strftime(
        "%Y-%m-%dT%H:00:00Z"
    )
    both = await me.json("GET", "/billing", params={"lastN": "1"})
    assert both["metadata"]["totals"]["podGpuAmount"] == pytest.approx(
        bill["metadata"]["totals"]["gpuAmount"]
    )


def test_buckets_are_the_calendars() -> None:
    at = datetime(2026, 12, 30, 13, 14, 15, tzinfo=UTC)
    starts = {size: bucket_start(at, size).isoformat()[:13] for size in ("hour", "week", "month")}
    assert starts == {"hour": "2026-12-30T13", "week": "2026-12-28T00", "month": "2026-12-01T00"}
    assert next_bucket(bucket_start(at, "month"), "month") == datetime(2027, 1, 1, tzinfo=UTC)
    assert next_bucket(bucket_start(at, "year"), "year") == datetime(2027, 1, 1, tzinfo=UTC)


async def test_without_money_nothing_starts_and_only_pods_with_a_network_volume_are_kept(
    me: Renter,
) -> None:
    body = {"name": "v", "size": 100, "dataCenter": "US-KS-2"}
    volume = await me.json("POST", "/network-volumes", body)
    mount = {"mounts": {"network": [{"volumeId": volume["id"], "path": "/w"}]}}
    kept, gone = await me.pod(**mount), await me.pod()
    await me.served.advance(250 * 86_400)
    assert (await me.show(kept))["status"] == "RUNNING"
    await me.served.advance(350 * 86_400)
    assert (await me.show(kept))["status"] == "EXITED"
    assert (await me.refused("GET", f"/pods/{gone}"))[0] == 404
    assert await me.refused("POST", "/pods", PLAIN) == (402, NO_BALANCE)
    path = f"/pods/{kept}/action"
    assert await me.refused("POST", path, {"action": "start"}) == (402, NO_BALANCE)
    assert (await me.error(DEPLOY, input=wanted()))[0] == NO_BALANCE


# --- limits, keys, addresses --------------------------------------------------------------


def test_the_windows_are_those_that_are_published() -> None:
    assert WINDOWS == {"minute": (60, 60), "hour": (3000, 3600), "day": (50_000, 86_400)}
    quota = Quota()
    for minute in range(50):
        for _ in range(60):
            assert quota.spend("a", minute * 60.0) is None
    crossed = quota.spend("a", 50 * 60.0)
    assert crossed
    assert (crossed.window, crossed.retry_after_s) == ("hour", 600)
    assert quota.spend("b", 50 * 60.0) is None
    assert '"hour";r=0;t=600' in quota.headers("a", 50 * 60.0)["RateLimit"]


async def test_the_sixty_first_call_of_a_minute_waits_for_the_next(me: Renter) -> None:
    await me.served.advance(45)
    for left in reversed(range(60)):
        answer = await me.ask("GET", "/pods")
        assert answer.headers["ratelimit"].startswith(f'"minute";r={left};')
    answer = await me.ask("GET", "/pods")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "15")
    assert answer.json()["detail"] == "rate limit exceeded for the minute window"
    assert '"minute";q=60;w=60' in answer.headers["ratelimit-policy"]
    await me.served.advance(15)
    assert (await me.ask("GET", "/pods")).status_code == 200


async def test_keys_paths_and_the_retired_api(me: Renter, served: Served) -> None:
    wrong = Renter(served, "invalid-key")
    assert (await wrong.refused("GET", "/pods"))[0] == 401
    assert (await wrong.graphql("{ gpuTypes { id } }")).status_code == 401
    text = {"query": "{ myself { id } }"}
    answer = await served.ask("POST", f"{GRAPHQL}?api_key=k", text, key=None)
    assert answer.status_code == 200
    assert (await me.refused("GET", "/nothing"))[0] == 404
    assert (await me.refused("PUT", "/pods"))[0] == 405
    assert (await served.ask("GET", GRAPHQL)).status_code == 405
    retired = await served.ask("GET", "/runpod/v1/pods")
    assert (retired.status_code, "retired" in retired.json()["message"]) == (410, True)
    hosts, env = served.sandbox.hosts(), served.sandbox.env("runpod")
    assert hosts["api.runpod.io"] == hosts["rest.runpod.io"] == "runpod"
    assert env["RUNPOD_GRAPHQL_URL"] == f"{env['RUNPOD_API_BASE_URL']}/graphql"
    document = await served.ask("GET", f"{V2}/openapi.json", key=None)
    assert "delete" in document.json()["paths"]["/v2/pods/{id}"]


# --- faults -------------------------------------------------------------------------------

MYSELF = "{ myself { id } }"


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        ("rate_limit", 429, "rate limit"),
        ("server_error", 500, "internal"),
        ("bad_credentials", 401, "bearer"),
        ("not_found_for_bad_key", 404, "bearer"),
    ],
)
async def test_a_fault_of_the_whole_call_has_the_vendors_forms(
    me: Renter, kind: str, status: int, words: str
) -> None:
    await me.fault("account", kind)
    found, detail = await me.refused("GET", "/registries")
    assert (found, words in detail) == (status, True)
    assert (await me.ask("GET", "/registries")).status_code == 200
    await me.fault("account", kind)
    answer = await me.graphql(MYSELF)
    assert answer.status_code == status
    assert answer.json()["errors"][0]["message"]


async def test_the_500_of_a_create_leaves_a_pod_that_is_paid(me: Renter) -> None:
    await me.fault("create", "server_error")
    assert (await me.refused("POST", "/pods", PLAIN))[0] == 500
    (pod,) = (await me.json("GET", "/pods"))["pods"]
    assert pod["name"] == "a"
    await me.fault("create", "server_error")
    assert (await me.graphql(DEPLOY, input=wanted())).status_code == 500
    assert len((await me.json("GET", "/pods"))["pods"]) == 1


@pytest.mark.parametrize(("kind", "machines"), [("disconnect_before", 0), ("disconnect_after", 1)])
async def test_a_cut_connection_before_or_after_the_act(
    me: Renter, kind: str, machines: int
) -> None:
    await me.fault("create", kind)
    with pytest.raises(httpx2.RemoteProtocolError):
        await me.graphql(DEPLOY, input=wanted())
    await me.fault("create", kind)
    with pytest.raises(httpx2.RemoteProtocolError):
        await me.ask("POST", "/pods", PLAIN)
    assert len(await me.served.control("GET", "machines")) == 2 * machines


async def test_a_timeout_accepts_and_never_answers(me: Renter) -> None:
    await me.fault("create", "timeout", times=2)
    with pytest.raises(httpx2.ReadTimeout):
        await me.ask("POST", "/pods", PLAIN, timeout=0.2)
    call = asyncio.create_task(me.graphql(DEPLOY, input=wanted()))
    done, _ = await asyncio.wait({call}, timeout=0.2)
    assert not done
    call.cancel()
    assert await me.served.control("GET", "machines") == []


async def test_garbage_and_slowness(me: Renter) -> None:
    await me.fault("list", "garbage")
    answer = await me.ask("GET", "/pods")
    with pytest.raises(ValueError, match="Unterminated"):
        answer.json()
    await me.fault("list", "slow", delay_s=0.05)
    assert (await me.data("{ myself { pods { id } } }"))["myself"]["pods"] == []


async def test_want_of_capacity_and_quota_have_texts_and_one_of_them_a_code(me: Renter) -> None:
    await me.fault("create", "no_capacity", times=2)
    assert await me.refused("POST", "/pods", PLAIN) == (400, NO_CAPACITY)
    assert await me.error(DEPLOY, input=wanted()) == (NO_CAPACITY, "SUPPLY_CONSTRAINT")
    await me.fault("create", "quota", times=2)
    status, detail = await me.refused("POST", "/pods", PLAIN)
    assert (status, "spend limit" in detail) == (400, True)
    assert "spend limit" in (await me.error(DEPLOY, input=wanted()))[0]
    id_ = await me.pod()
    await me.do(id_, "stop")
    await me.fault("start", "no_capacity")
    assert (await me.refused("POST", f"/pods/{id_}/action", {"action": "start"}))[1] == HOST_FULL
    await me.fault("offers", "no_capacity")
    stock = {"include": "AVAILABILITY", "product": "POD"}
    rows = (await me.json("GET", "/catalog/gpus", params=stock))["gpus"]
    assert {row["availability"] for row in rows} == {"NONE"}
    await me.fault("offers", "no_capacity")
    lowest = await me.data("{ gpuTypes { lowestPrice(input: {gpuCount: 1}) { stockStatus } } }")
    assert {row["lowestPrice"]["stockStatus"] for row in lowest["gpuTypes"]} == {None}


async def test_lists_can_be_doubled_halved_and_late(me: Renter) -> None:
    first = await me.pod()
    await me.fault("create", "list_lag", delay_s=100)
    second = await me.pod()
    text = "{ myself { pods { id } } }"
    for kind, ids in (("", [first]), ("duplicate_list", [first, first]), ("list_partial", [])):
        for api in ("v2", "graphql"):
            if kind:
                await me.fault("list", kind)
            rows = (
                (await me.json("GET", "/pods"))["pods"]
                if api == "v2"
                else (await me.data(text))["myself"]["pods"]
            )
            assert [row["id"] for row in rows] == ids
    assert (await me.show(second))["id"] == second
    await me.served.advance(100)
    assert len((await me.json("GET", "/pods"))["pods"]) == 2
    await me.fault("list", "other_account")
    assert (await me.json("GET", "/pods"))["pods"] == []
    await me.fault("offers", "duplicate_list")
    ids = [row["id"] for row in (await me.json("GET", "/catalog/gpus"))["gpus"]]
    assert len(ids) == 2 * len(set(ids))


async def test_pods_can_be_born_with_trouble(me: Renter) -> None:
    await me.fault("create", "boot_failure")
    dead = await me.pod()
    assert (await me.show(dead))["status"] == "ERROR"
    one = f'{{ pod(input: {{podId: "{dead}"}}) {{ desiredStatus runtime {{ uptimeInSeconds }} }} }}'
    assert (await me.data(one))["pod"] == {"desiredStatus": "DEAD", "runtime": None}
    await me.fault("create", "stuck_pending")
    stuck = await me.pod()
    await me.served.advance(9999)
    assert (await me.show(stuck))["status"] == "PROVISIONING"
    await me.fault("create", "ssh_refused")
    assert (await me.show(await me.pod()))["ssh"]["direct"]["port"] == CLOSED_PORT
    await me.fault("create", "wrong_gpu")
    assert (await me.show(await me.pod()))["gpu"]["id"] != GPU
    await me.fault("create", "price_changed")
    assert (await me.show(await me.pod()))["cost"] == pytest.approx(0.69 * 1.5)
    await me.fault("create", "ignored_field")
    assert (await me.show(await me.pod()))["name"] == ""


async def test_an_end_that_is_ignored_goes_on_costing(me: Renter) -> None:
    id_ = await me.pod()
    await me.fault("terminate", "terminate_ignored")
    assert (await me.ask("DELETE", f"/pods/{id_}")).status_code == 204
    assert (await me.truth(id_))["billed"]
    await me.fault("terminate", "terminate_ignored")
    end = f'mutation {{ podTerminate(input: {{podId: "{id_}"}}) }}'
    assert await me.data(end) == {"podTerminate": None}
    assert (await me.show(id_))["status"] == "RUNNING"
    assert (await me.ask("POST", f"/pods/{id_}/action", {"action": "terminate"})).status_code == 204
    assert not (await me.truth(id_))["billed"]


async def test_an_action_suffers_the_faults_of_what_it_does(me: Renter) -> None:
    id_ = await me.pod()
    await me.fault("stop", "server_error")
    assert (await me.refused("POST", f"/pods/{id_}/action", {"action": "stop"}))[0] == 500
    assert (await me.show(id_))["status"] == "RUNNING"


async def test_ignored_filters_bring_everything(me: Renter) -> None:
    await me.fault("offers", "ignored_field")
    text = f'{{ gpuTypes(input: {{id: "{GPU}"}}) {{ id }} }}'
    assert len((await me.data(text))["gpuTypes"]) > 20
    stock = {"include": "AVAILABILITY", "product": "POD", "countryCodes": "JP"}
    few = (await me.json("GET", "/catalog/gpus", params=stock))["gpus"]
    await me.fault("offers", "ignored_field")
    assert len((await me.json("GET", "/catalog/gpus", params=stock))["gpus"]) > len(few) == 1


# --- life across restarts -----------------------------------------------------------------


async def test_pods_keys_and_timers_survive_a_restart_of_the_sandbox(serving: Any) -> None:
    async with serving() as served:
        me = Renter(served)
        at = datetime.fromtimestamp(served.sandbox.clock.now() + 900, UTC).isoformat()
        id_ = await spot(me, terminateAfter=at)
        port = me.cloud.machines[id_].ssh_port
        inside_key = served.host.running[id_].env["RUNPOD_API_KEY"]
    async with serving() as served:
        me, inside = Renter(served), Renter(served, inside_key)
        assert (await me.show(id_))["status"] == "RUNNING"
        assert me.cloud.machines[id_].ssh_port == port
        assert (await inside.show(id_))["id"] == id_
        await served.advance(1000)
        assert (await me.refused("GET", f"/pods/{id_}"))[0] == 404
