"""FluidStack's unmodified library for Python, version 0.0.8, on the emulator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.contract.conftest import Judge
    from tests.sandbox.conftest import Served

pytestmark = [pytest.mark.judge, pytest.mark.slow]
RECORDED = Path(__file__).with_name("data") / "fluidstack_requests.json"
INVENTED = "i-1234567890"
"""The instance of the recording."""
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"
ORDER = {"gpu_type": "RTX_A5000_24GB", "ssh_key": "broker-key"}
_CLIENT = """
import json, os, sys
from FluidStack.client import FluidStack
from FluidStack.core.api_error import ApiError
client = FluidStack(
    api_key=os.environ["FLUIDSTACK_API_KEY"], base_url=os.environ["FLUIDSTACK_BASE_URL"]
)
def plain(thing):
    if isinstance(thing, list):
        return [plain(one) for one in thing]
    return json.loads(thing.json()) if hasattr(thing, "json") else thing
told = []
for expression in json.loads(sys.stdin.read()):
    try:
        told.append(plain(eval("client." + expression)))
    except ApiError as error:
        told.append([type(error).__name__, error.status_code, str(error.body)])
print("=" + json.dumps(told))
"""


class Sdk:
    """The library, and the requests that it made."""

    def __init__(self, judge: Judge, served: Served) -> None:
        self.judge, self.served = judge, served
        self.key = served.sandbox.keys["fluidstack"]

    async def calls(self, *expressions: str) -> list[Any]:
        """What each `client.EXPRESSION` returns, or its error: [class, status, body]."""
        self.served.ear.heard.clear()
        printed = await self.judge.code(_CLIENT, typed=json.dumps(expressions))
        told: list[Any] = json.loads(printed.splitlines()[-1].removeprefix("="))
        return told

    async def call(self, expression: str) -> Any:
        return (await self.calls(expression))[0]

    @property
    def asked(self) -> list[tuple[str, str, list[tuple[str, str]], Any]]:
        return [
            (
                one.method,
                one.path.removeprefix("/fluidstack"),
                one.query,
                json.loads(one.body) if one.body else None,
            )
            for one in self.served.ear.heard
        ]

    async def rest(self, method: str, path: str, body: Any = None, key: str = "") -> Any:
        """A call without the library."""
        answer = await self.served.http.request(
            method, f"/fluidstack{path}", headers={"api-key": key or self.key}, json=body
        )
        assert answer.is_success, answer.text
        return answer.json()

    async def plant(self, key: str = "", **more: Any) -> str:
        names = [row["name"] for row in await self.rest("GET", "/ssh_keys", key=key)]
        if "broker-key" not in names:
            row = {"name": "broker-key", "public_key": PUBLIC}
            await self.rest("POST", "/ssh_keys", row, key)
        return str((await self.rest("POST", "/instances", ORDER | more, key))["id"])


@pytest.fixture
def sdk(served: Served, fluidstack: Judge) -> Sdk:
    return Sdk(fluidstack, served)


async def test_it_reads_the_market(sdk: Sdk) -> None:
    rows, templates = await sdk.calls("configurations.list()", "templates.list()")
    assert [one[1] for one in sdk.asked] == [
        "/list_available_configurations",
        "/list_available_os_templates",
    ]
    types = {row["gpu_type"]: row for row in rows}
    assert types["RTX_A5000_24GB"] == {
        "gpu_type": "RTX_A5000_24GB",
        "gpu_counts": [1, 2, 4, 8],
        "price_per_gpu_hr": "0.55",
        "stopped_price_per_hour": "0.1",
        "estimated_provisioning_time_minutes": 5,
        "regions": ["NORWAY", "CANADA"],
    }
    assert "H100_SXM5_80GB" not in types
    assert {row["label"] for row in templates} == {
        "ubuntu_20_04_lts_nvidia",
        "ubuntu_22_04_lts_nvidia",
    }


async def test_it_makes_stops_starts_and_ends_an_instance(sdk: Sdk) -> None:
    add = f"ssh_keys.create(name='broker-key', public_key={PUBLIC!r})"
    create = "instances.create(name='job-1', gpu_type='L40_48GB', ssh_key='broker-key')"
    _, nothing, listed = await sdk.calls(add, create, "instances.list()")
    assert nothing is None, "the library throws the answer away"
    (row,) = listed
    assert (row["name"], row["status"], row["ip_address"]) == ("job-1", "pending", None)
    id_ = row["id"]
    machine = sdk.served.sandbox.clouds["fluidstack"].machines[id_]
    assert (await sdk.call(f"instances.get({id_!r})"))["status"] == "pending", "a 202"
    await sdk.served.advance(9)
    stopping = f"instances.stop({id_!r})"
    running, stopped, again = await sdk.calls(f"instances.get({id_!r})", stopping, stopping)
    assert (running["status"], running["ip_address"]) == ("running", machine.address)
    assert (running["ssh_port"], running["username"]) == ("22", "ubuntu")
    assert running["configuration"]["gpu_model"] == {"name": "L40_48GB", "memory_size_gb": 48}
    assert (stopped["status"], stopped["current_gpu_hr_cost"]) == ("stopping", 0.2)
    assert again[:2] == ["ApiError", 409]
    await sdk.served.advance(3)
    started, _, gone = await sdk.calls(
        f"instances.start({id_!r})", f"instances.delete({id_!r})", f"instances.get({id_!r})"
    )
    assert (started["status"], gone["status"]) == ("pending", "terminated")
    assert machine.ended
    assert not machine.billed
    await sdk.call("ssh_keys.delete('broker-key')")
    resources = await sdk.served.control("GET", "resources")
    assert [row["state"] for row in resources] == ["deleted"]


async def test_it_lists_its_own_instances_in_their_states_and_no_others(sdk: Sdk) -> None:
    running, stopped = await sdk.plant(name="keep"), await sdk.plant(name="rest")
    foreign = await sdk.plant(key="somebody-else", name="foreign")
    await sdk.served.advance(9)
    await sdk.rest("PUT", f"/instances/{stopped}/stop")
    await sdk.served.advance(9)
    rows, second, refused, keys = await sdk.calls(
        "instances.list()",
        "instances.list(page=2)",
        f"instances.delete({foreign!r})",
        "ssh_keys.list()",
    )
    assert {row["id"]: row["status"] for row in rows} == {running: "running", stopped: "stopped"}
    assert second == []
    assert refused[:2] == ["ApiError", 404]
    assert keys == [{"name": "broker-key", "public_key": PUBLIC}]
    assert sdk.served.sandbox.clouds["fluidstack"].machines[foreign].billed


async def test_refusals_reach_the_customer(sdk: Sdk) -> None:
    create = "instances.create(gpu_type='RTX_A5000_24GB', ssh_key='broker-key')"
    machines = sdk.served.sandbox.clouds["fluidstack"].machines
    await sdk.plant()
    for kind, error, status, words in (
        ("no_capacity", "ApiError", 400, "out of stock"),
        ("quota", "ApiError", 403, "quota"),
        ("rate_limit", "ApiError", 429, "Too many requests"),
        ("server_error", "ApiError", 500, "Internal server error"),
        ("bad_credentials", "UnauthorizedError", 401, "Invalid API key"),
    ):
        fault = {"provider": "fluidstack", "operation": "create", "kind": kind, "times": 1}
        await sdk.served.control("POST", "faults", fault)
        told = await sdk.call(create)
        assert (told[:2], words in told[2]) == ([error, status], True)
        assert len(sdk.asked) == 1, "asked once"
    wrong = await sdk.call(create.replace("broker-key", "none"))
    assert (wrong[:2], "ssh_key" in wrong[2]) == (["UnprocessableEntityError", 422], True)
    assert len(machines) == 1


async def test_the_library_sends_what_it_was_recorded_to_send(sdk: Sdk) -> None:
    """One call after the other, as they were recorded; and each is taken."""
    rows = json.loads(RECORDED.read_text())
    assert len(rows) == 13
    real = await sdk.plant()
    await sdk.served.advance(9)
    before = [row for row in rows if ".start(" not in row["command"]]
    after = [row for row in rows if ".start(" in row["command"]]
    # The recording's key is no key.
    ready = {"ssh-ed25519 AAAA k": PUBLIC, INVENTED: real}
    ending = [row for row in before if "instances.delete" in row["command"]]
    before = [row for row in before if row not in ending]
    for part in (before, after, ending):
        told = await sdk.calls(*(_in_place(row["command"], ready) for row in part))
        assert [one for one in told if _is_error(one)] == []
        assert sdk.asked == [
            (
                row["method"],
                _in_place(row["path"], ready),
                [tuple(pair) for pair in row["query"]],
                row["body"] and json.loads(_in_place(json.dumps(row["body"]), ready)),
            )
            for row in part
        ]
        await sdk.served.advance(9)


def _in_place(text: str, real: dict[str, str]) -> str:
    for invented, here in real.items():
        text = text.replace(invented, here)
    return text


def _is_error(told: Any) -> bool:
    return isinstance(told, list) and bool(told) and isinstance(told[0], str)
