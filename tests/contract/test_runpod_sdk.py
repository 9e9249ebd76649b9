"""RunPod's unmodified client, version 1.12.0, library and command line, on the emulator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gpubroker.sandbox.emulators.runpod.words import vendor_id

if TYPE_CHECKING:
    from tests.contract.conftest import Judge
    from tests.sandbox.conftest import Served

pytestmark = [pytest.mark.judge, pytest.mark.slow]
GRAPHQL, V2 = "/runpod/graphql", "/runpod/v2"
GPU = "NVIDIA GeForce RTX 4090"
A_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2bq0n0Qp3c3Yk3o4gq1kqgS8cT0r2m0Vd1m3Jt9X7a me"
RECORDED = Path(__file__).with_name("data") / "runpod_requests.json"


class Sdk:
    """The library and the command line, and the requests that they made."""

    def __init__(self, judge: Judge, served: Served) -> None:
        self.judge, self.served = judge, served
        self.key = served.sandbox.keys["runpod"]

    async def call(self, expression: str) -> Any:
        """What `runpod.EXPRESSION` returns. Time passes after it."""
        self.served.ear.heard.clear()
        text = f"import json, runpod; print('=' + json.dumps(runpod.{expression}))"
        printed = await self.judge.code(text)
        await self.served.advance(10)
        return json.loads(printed.splitlines()[-1].removeprefix("="))

    async def failing(self, expression: str) -> str:
        """The class and text of the error that `runpod.EXPRESSION` raises."""
        text = (
            f"import runpod\ntry:\n  runpod.{expression}\n"
            "except Exception as error: print(type(error).__name__, error)"
        )
        return (await self.judge.code(text)).splitlines()[-1]

    async def __call__(self, *words: str, typed: str = "") -> str:
        """What `runpod WORDS` prints."""
        self.served.ear.heard.clear()
        printed = await self.judge(*words, typed=typed)
        await self.served.advance(10)
        return printed

    @property
    def asked(self) -> list[str]:
        """The root fields of what the last call asked, all at the one address."""
        return [root_field(body["query"]) for body in self.sent]

    @property
    def sent(self) -> list[Any]:
        """The bodies of what the last call asked."""
        heard = [h for h in self.served.ear.heard if h.path.startswith("/runpod/")]
        assert {(h.method, h.path) for h in heard} <= {("POST", GRAPHQL)}
        return [json.loads(h.body) for h in heard]

    async def rest(self, method: str, path: str, body: Any = None, key: str | None = None) -> Any:
        answer = await self.served.ask(method, f"{V2}{path}", body, key=key or self.key)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None


def root_field(text: str) -> str:
    """The first field of a query's or mutation's selection."""
    inside = text.partition("{")[2].strip()
    return inside.replace("(", " ").replace("{", " ").split()[0]


@pytest.fixture
def sdk(served: Served, runpod: Judge) -> Sdk:
    return Sdk(runpod, served)


async def _planted(sdk: Sdk) -> tuple[str, str, str]:
    """Two pods of the client's account, one of them stopped, and one of somebody else's."""
    body = {"image": "ubuntu", "gpu": {"id": GPU}, "ports": ["22/tcp"]}
    ids = []
    for name, key in (("keep", sdk.key), ("rest", sdk.key), ("foreign", "somebody-else")):
        made = await sdk.rest("POST", "/pods", {"name": name, **body}, key=key)
        ids.append(made["id"])
    await sdk.served.advance(10)
    await sdk.rest("POST", f"/pods/{ids[1]}/action", {"action": "stop"})
    return ids[0], ids[1], ids[2]


async def test_it_searches_gpus_and_asks_what_it_asks_the_vendor(sdk: Sdk) -> None:
    found = await sdk.call("get_gpus()")
    assert sdk.asked == ["gpuTypes"]
    by_id = {row["id"]: row for row in found}
    assert by_id[GPU] == {"id": GPU, "displayName": "RTX 4090", "memoryInGb": 24}
    assert {"NVIDIA  A30", "NVIDIA H100 80GB HBM3", "unknown"} < by_id.keys()
    one = await sdk.call(f"get_gpu({GPU!r}, 2)")
    assert (one["securePrice"], one["communityPrice"], one["maxGpuCount"]) == (0.69, 0.34, 8)
    assert 0 < one["lowestPrice"]["minimumBidPrice"] < one["lowestPrice"]["uninterruptablePrice"]
    assert one["lowestPrice"]["uninterruptablePrice"] == one["communityPrice"]
    assert "No GPU found" in await sdk.failing("get_gpu('Voodoo2')")


async def test_it_creates_shows_stops_starts_and_ends_a_pod(sdk: Sdk) -> None:
    made = await sdk.call(
        f"create_pod('gb-abc123', 'runpod/base:0.0.0', {GPU!r}, cloud_type='SECURE', "
        "volume_in_gb=10, container_disk_in_gb=20, ports='22/tcp,8000/http', "
        "env={'A': '1'}, docker_args='sleep 60')"
    )
    assert sdk.asked == ["gpuTypes", "podFindAndDeployOnDemand"]
    assert (made["imageName"], made["env"]) == ("runpod/base:0.0.0", ["A=1"])
    id_ = made["id"]
    pod = await sdk.call(f"get_pod({id_!r})")
    assert sdk.asked == ["pod"]
    assert (pod["desiredStatus"], pod["costPerHr"], pod["volumeInGb"]) == ("RUNNING", 0.69, 10)
    assert (pod["dockerArgs"], pod["ports"]) == ("sleep 60", "22/tcp,8000/http")
    assert [port["privatePort"] for port in pod["runtime"]["ports"]] == [22, 8000]
    assert pod["machine"]["gpuDisplayName"] == "RTX 4090"
    assert await sdk.call(f"stop_pod({id_!r})") == {"id": id_, "desiredStatus": "EXITED"}
    assert sdk.asked == ["podStop"]
    stopped = await sdk.call(f"get_pod({id_!r})")
    assert (stopped["costPerHr"], stopped["runtime"]) == (0.0, None)
    resumed = await sdk.call(f"resume_pod({id_!r}, 1)")
    assert (sdk.asked, resumed["desiredStatus"]) == (["podResume"], "RUNNING")
    assert (await sdk.call(f"get_pod({id_!r})"))["runtime"]["ports"]
    await sdk.call(f"terminate_pod({id_!r})")
    assert sdk.asked == ["podTerminate"]
    assert await sdk.call(f"get_pod({id_!r})") is None
    (row,) = await sdk.served.control("GET", "machines")
    assert (row["provider_id"], row["state"], row["billed"]) == (id_, "terminated", False)


async def test_it_lists_its_own_pods_in_their_states_and_no_others(sdk: Sdk) -> None:
    running, stopped, foreign = await _planted(sdk)
    rows = await sdk.call("get_pods()")
    assert sdk.asked == ["myself"]
    states = {row["id"]: row["desiredStatus"] for row in rows}
    assert states == {running: "RUNNING", stopped: "EXITED"}
    printed = await sdk("pod", "list")
    assert sdk.asked == ["myself"]
    assert "keep" in printed
    assert "rest" in printed
    assert "foreign" not in printed
    assert await sdk.call(f"get_pod({foreign!r})") is None
    assert "pod not found to terminate" in await sdk.failing(f"terminate_pod({foreign!r})")
    rows = await sdk.served.control("GET", "machines")
    assert {row["provider_id"]: row["billed"] for row in rows}[foreign]


async def test_it_makes_cpu_pods_and_puts_pods_where_a_network_volume_is(sdk: Sdk) -> None:
    made = await sdk.call("create_pod('cpu1', 'ubuntu:22.04', instance_id='cpu3c-2-4')")
    assert sdk.asked == ["deployCpuPod"]
    cpu = await sdk.call(f"get_pod({made['id']!r})")
    assert (cpu["vcpuCount"], cpu["memoryInGb"], cpu["gpuCount"]) == (2, 4, 0)
    body = {"name": "v", "size": 50, "dataCenter": "US-KS-2"}
    volume = await sdk.rest("POST", "/network-volumes", body)
    user = await sdk.call("get_user()")
    assert user["networkVolumes"] == [
        {"id": volume["id"], "name": "v", "size": 50, "dataCenterId": "US-KS-2"}
    ]
    create = f"create_pod('nv', 'x', {GPU!r}, network_volume_id={volume['id']!r})"
    made = await sdk.call(create)
    assert sdk.asked == ["gpuTypes", "myself", "podFindAndDeployOnDemand"]
    pod = await sdk.rest("GET", f"/pods/{made['id']}")
    assert pod["mounts"] == {"network": [{"volumeId": volume["id"], "path": "/runpod-volume"}]}
    assert pod["dataCenterId"] == "US-KS-2"


async def test_it_keeps_keys_and_its_pods_let_them_in(sdk: Sdk) -> None:
    updated = await sdk.call(f"update_user_settings({A_KEY!r})")
    assert (sdk.asked, updated["pubKey"]) == (["updateUserSettings"], A_KEY)
    assert "ssh-ed25519" in await sdk("ssh", "list-keys")
    await sdk("ssh", "add-key", typed="y\nk1\n")
    assert sdk.asked == ["myself", "updateUserSettings"]
    keys = (await sdk.rest("GET", "/account/ssh-keys"))["keys"]
    assert (keys[0], len(keys)) == (A_KEY, 2)
    made = await sdk.call(f"create_pod('k', 'runpod/base', {GPU!r}, ports='22/tcp')")
    assert sdk.served.host.running[made["id"]].keys == tuple(keys)


async def test_the_command_line_creates_a_pod(sdk: Sdk) -> None:
    printed = await sdk("pod", "create", "gb-abc123", typed="y\n")
    assert sdk.asked == ["gpuTypes", "podFindAndDeployOnDemand"]
    (row,) = await sdk.served.control("GET", "machines")
    assert row["provider_id"] in printed
    assert (row["name"], row["gpu_model"]) == ("gb-abc123", "NVIDIA GeForce RTX 3090")


async def test_refusals_reach_the_customer_as_the_clients_errors(sdk: Sdk) -> None:
    create = f"create_pod('a', 'x', {GPU!r}, gpu_count=1)"
    body = {"provider": "runpod", "operation": "create", "kind": "no_capacity", "times": 1}
    await sdk.served.control("POST", "faults", body)
    assert (await sdk.failing(create)).startswith("QueryError There are no longer any instances")
    body["operation"], body["kind"] = "list", "bad_credentials"
    await sdk.served.control("POST", "faults", body)
    assert (await sdk.failing("get_pods()")).startswith("AuthenticationError")
    assert "pod not found" in await sdk.failing("stop_pod('nosuchpod')")
    wrong = "get_pods(api_key='invalid-key')"
    assert (await sdk.failing(wrong)).startswith("AuthenticationError")


async def test_an_environment_value_with_a_quote_breaks_the_clients_query(sdk: Sdk) -> None:
    create = f"""create_pod('a', 'x', {GPU!r}, env={{'A': '1 "q"'}})"""
    assert "Syntax Error" in await sdk.failing(create)
    assert await sdk.served.control("GET", "machines") == []


# --- replay of what the client was recorded to send ---------------------------------------


def _recorded() -> dict[str, list[str]]:
    """Command to the texts that it sent."""
    commands: dict[str, list[str]] = {}
    for row in json.loads(RECORDED.read_text()):
        commands.setdefault(row["command"], []).append(row["query"])
    return commands


async def _stand_ins(sdk: Sdk) -> dict[str, str]:
    """What the recording's invented ids are here: one running pod, one volume."""
    pod = await sdk.rest("POST", "/pods", {"name": "p", "image": "x", "gpu": {"id": GPU}})
    body = {"name": "v", "size": 50, "dataCenter": "US-KS-2"}
    volume = await sdk.rest("POST", "/network-volumes", body)
    await sdk.rest("PUT", "/account/ssh-keys", {"keys": [A_KEY]})
    await sdk.served.advance(10)
    return {"7h9k2m4n6p": pod["id"], "nv1": volume["id"]}


def _in_place(text: str, real: dict[str, str]) -> str:
    for invented, id_ in real.items():
        text = text.replace(invented, id_)
    return text


async def test_every_recorded_request_is_taken_but_for_the_one_that_is_no_graphql(
    sdk: Sdk,
) -> None:
    commands = _recorded()
    refused = []
    for command, texts in commands.items():
        await sdk.served.control("POST", "reset")
        real = await _stand_ins(sdk)
        if command.startswith("runpod.resume_pod"):
            await sdk.rest("POST", f"/pods/{real['7h9k2m4n6p']}/action", {"action": "stop"})
        for text in texts:
            body = {"query": _in_place(text, real)}
            answer = await sdk.served.ask("POST", GRAPHQL, body, key=sdk.key)
            if answer.status_code != 200 or "errors" in answer.json():
                refused.append((command, answer.status_code, "GRAPHQL_PARSE_FAILED" in answer.text))
    ((command, status, unparsed),) = refused
    assert '"q"' in command
    assert (status, unparsed) == (400, True)
    assert len(commands) >= 16


async def test_the_library_sends_what_it_was_recorded_to_send(sdk: Sdk) -> None:
    commands = {c: t for c, t in _recorded().items() if c.startswith("runpod.") and '"q"' not in c}
    for command, texts in commands.items():
        await sdk.served.control("POST", "reset")
        real = await _stand_ins(sdk)
        if "resume_pod" in command:
            await sdk.rest("POST", f"/pods/{real['7h9k2m4n6p']}/action", {"action": "stop"})
        await sdk.call(_in_place(command.removeprefix("runpod."), real))
        assert sdk.sent == [{"query": _in_place(text, real)} for text in texts], command
    assert len(commands) >= 11


def test_ids_look_like_the_vendors() -> None:
    assert vendor_id("pod", 1) != vendor_id("pod", 2)
    assert vendor_id("pod", 1).isalnum()
