"""Hyperstack's unmodified library for Python, version 1.56.1a0, on the emulator."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

if TYPE_CHECKING:
    from tests.contract.conftest import Judge
    from tests.sandbox.conftest import Served

pytestmark = [pytest.mark.judge, pytest.mark.slow]
ROOT = "/hyperstack/v1"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"
HOME = "default-CANADA-1"
VMS = "/core/virtual-machines"
IMAGE = "Ubuntu Server 22.04 LTS R535 CUDA 12.2"
RULE = (
    "CreateSecurityRulePayload(direction='ingress',ethertype='IPv4',protocol='tcp',"
    "remote_ip_prefix='0.0.0.0/0',port_range_min=22,port_range_max=22)"
)
SSH = {
    "direction": "ingress",
    "ethertype": "IPv4",
    "protocol": "tcp",
    "remote_ip_prefix": "0.0.0.0/0",
    "port_range_min": 22,
    "port_range_max": 22,
}
RECORDED = Path(__file__).with_name("data") / "hyperstack_requests.json"
_PROGRAM = """
import json, os, hyperstack
names = {{**vars(hyperstack), "hyperstack": hyperstack}}
names["c"] = hyperstack.ApiClient(hyperstack.Configuration(
    host=os.environ["HYPERSTACK_API_URL"], api_key={{"apiKey": os.environ["HYPERSTACK_API_KEY"]}},
))
told = []
for text in {calls!r}:
    try:
        answer = eval(text, names)
        told.append([one.to_dict() for one in answer] if type(answer) is list else answer.to_dict())
    except hyperstack.ApiException as error:
        told.append([type(error).__name__, error.status, error.body])
print("=" + json.dumps(told, default=str))
"""
_VM, _FLAVOR, _PRICE = "VirtualMachineApi(c).", "FlavorApi(c).", "PricebookApi(c)."


class Sdk:
    """The library, and the requests that it made."""

    def __init__(self, judge: Judge, served: Served) -> None:
        self.judge, self.served = judge, served
        self.key = served.sandbox.keys["hyperstack"]
        self.machines = served.sandbox.clouds["hyperstack"].machines

    async def __call__(self, *calls: str) -> list[Any]:
        """What each call returns, or class, status and body of its error; then time passes."""
        self.served.ear.heard.clear()
        printed = await self.judge.code(_PROGRAM.format(calls=calls))
        await self.served.advance(10)
        told: list[Any] = json.loads(printed.splitlines()[-1].removeprefix("="))
        return told

    @property
    def heard(self) -> list[tuple[str, str, list[list[str]], Any]]:
        """Method, path, query and body of what the last calls asked."""
        return [
            (
                heard.method,
                heard.path.removeprefix("/hyperstack"),
                [list(pair) for pair in heard.query],
                json.loads(heard.body) if heard.body else None,
            )
            for heard in self.served.ear.heard
            if heard.path.startswith("/hyperstack/")
        ]

    async def send(
        self, method: str, path: str, body: Any = None, key: str = "", **more: Any
    ) -> httpx2.Response:
        """A call without the library."""
        head = {"api_key": key or self.key}
        if body is not None:
            more["json"] = body
        return await self.served.http.request(method, f"{ROOT}{path}", headers=head, **more)

    async def rest(self, method: str, path: str, body: Any = None, key: str = "") -> Any:
        answer = await self.send(method, path, body, key)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def plant(self, name: str, key: str = "", **more: Any) -> int:
        """A VM that runs, made without the library; the key pair must be there."""
        body = {
            "name": name,
            "environment_name": HOME,
            "image_name": IMAGE,
            "flavor_name": "n3-RTX-A6000x1",
            "key_name": "own",
            "count": 1,
            **more,
        }
        made = await self.rest("POST", VMS, body, key)
        await self.served.advance(10)
        return int(made["instances"][0]["id"])

    async def own_key(self, key: str = "") -> int:
        body = {"name": "own", "environment_name": HOME, "public_key": PUBLIC}
        made = await self.rest("POST", "/core/keypairs", body, key)
        return int(made["keypair"]["id"])


@pytest.fixture
def sdk(served: Served, hyperstack: Judge) -> Sdk:
    return Sdk(hyperstack, served)


async def test_it_reads_the_catalogue_prices_stock_and_credit(sdk: Sdk) -> None:
    flavors, here, prices, stock, images, credit, me = await sdk(
        f"{_FLAVOR}list_flavors()",
        f"{_FLAVOR}list_flavors(region='NORWAY-1')",
        f"{_PRICE}get_pricebook()",
        "StockApi(c).get_gpu_stock()",
        "ImageApi(c).list_images(region='CANADA-1')",
        "CreditApi(c).get_user_credit()",
        "AuthApi(c).retrieve_authenticated_user_details()",
    )
    assert sdk.heard[1] == ("GET", "/v1/core/flavors", [["region", "NORWAY-1"]], None)
    rows = {(f["name"], f["region_name"]): f for g in flavors["data"] for f in g["flavors"]}
    eight = rows["n3-H100x8", "CANADA-1"]
    assert (eight["gpu"], eight["gpu_count"], eight["ram"]) == ("H100-80G-PCIe", 8, 1440)
    assert rows["n3-A100x4", "CANADA-1"]["stock_available"] is False
    assert {group["region_name"] for group in here["data"]} == {"NORWAY-1"}
    by_name = {row["name"]: row["value"] for row in prices}
    assert (by_name["H100-80G-PCIe"], by_name["A100-80G-PCIe-spot"]) == (1.9, 0.95)
    models = {row["model"]: row for region in stock["stocks"] for row in region["models"]}
    assert models["RTX-A6000"]["available"] == "200+"
    assert IMAGE in [image["name"] for image in images["images"][0]["images"]]
    assert credit["data"]["credit"] == 100000
    assert me["user"]["email"].endswith("@example.com")


async def test_it_creates_switches_and_deletes_a_machine(sdk: Sdk) -> None:
    made = await sdk(
        "EnvironmentApi(c).create_environment(CreateEnvironment(name='e', region='CANADA-1'))",
        "KeypairApi(c).import_key_pair(ImportKeypairPayload("
        f"name='k', environment_name='e', public_key={PUBLIC!r}))",
        f"{_VM}create_vms(CreateInstancesPayload(name='job', environment_name='e', count=1, "
        f"image_name={IMAGE!r}, flavor_name='n3-H100x1', key_name='k', labels=['broker'], "
        "assign_floating_ip=True, enable_port_randomization=False, "
        f"user_data='#!/bin/sh\\necho hi\\n', security_rules=[{RULE}]))",
    )
    environment, key, id_ = (
        made[0]["environment"]["id"],
        made[1]["keypair"]["id"],
        made[2]["instances"][0]["id"],
    )
    assert (made[2]["status"], made[2]["instances"][0]["status"]) == (True, "CREATING")
    machine = sdk.machines[str(id_)]
    assert (machine.keys, machine.order.user_data) == ((PUBLIC,), b"#!/bin/sh\necho hi\n")
    shown, stopped = await sdk(f"{_VM}get_vm({id_})", f"{_VM}stop_vm({id_})")
    instance = shown["instance"]
    assert (instance["status"], instance["floating_ip"]) == ("ACTIVE", machine.address)
    assert instance["security_rules"][0]["port_range_min"] == 22
    assert stopped["status"] is True
    off, _ = await sdk(f"{_VM}get_vm({id_})", f"{_VM}start_vm({id_})")
    assert (off["instance"]["status"], machine.billed) == ("SHUTOFF", True)
    await sdk(f"{_VM}hibernate_vm({id_})")
    cold, bill = await sdk(
        f"{_VM}get_vm({id_})", f"CalculateApi(c).calculate_resource_billing_rate('vm', {id_})"
    )
    assert cold["instance"]["status"] == "HIBERNATED"
    assert bill["calculated_resource_bills"]["resource"]["price"] < 0.02
    await sdk(f"{_VM}restore_vm_from_hibernation({id_})")
    early = await sdk(f"EnvironmentApi(c).delete_environment({environment})")
    assert early[0][1] == 400
    await sdk(f"{_VM}delete_vm({id_})")
    assert sdk.heard == [("DELETE", f"/v1/core/virtual-machines/{id_}", [], None)]
    gone, history, *_ = await sdk(
        f"{_VM}get_vm({id_})",
        "BillingApi(c).get_vm_billing_history()",
        f"KeypairApi(c).delete_key_pair({key})",
        f"EnvironmentApi(c).delete_environment({environment})",
    )
    assert (gone[0], gone[1]) == ("NotFoundException", 404)
    (row,) = history["billing_history_vm"]["billing_history"]
    assert (row["attributes"]["infrahub_id"], row["attributes"]["status"]) == (id_, "DELETED")
    assert row["metrics"]["incurred_bill"] > 0
    left = await sdk.served.control("GET", "resources")
    assert {row["state"] for row in left} == {"deleted"}
    assert machine.billed is False


async def test_it_lists_its_own_machines_in_their_states_and_no_others(sdk: Sdk) -> None:
    for key in ("", "somebody-else"):
        await sdk.own_key(key)
    running, cold = await sdk.plant("keep"), await sdk.plant("rest")
    foreign = await sdk.plant("foreign", key="somebody-else")
    await sdk.rest("GET", f"{VMS}/{cold}/hibernate")
    await sdk.served.advance(10)
    every, found, page, other, ended = await sdk(
        f"{_VM}list_vms()",
        f"{_VM}list_vms(search='res')",
        f"{_VM}list_vms(page=2, page_size=1)",
        f"{_VM}get_vm({foreign})",
        f"{_VM}delete_vm({foreign})",
    )
    states = {row["id"]: (row["name"], row["status"]) for row in every["instances"]}
    assert states == {running: ("keep", "ACTIVE"), cold: ("rest", "HIBERNATED")}
    assert [row["id"] for row in found["instances"]] == [cold]
    assert ([row["id"] for row in page["instances"]], page["count"]) == ([cold], 2)
    assert (other[1], ended[1]) == (404, 404)
    assert sdk.heard[2][2] == [["page", "2"], ["pageSize", "1"]]
    assert not sdk.machines[str(foreign)].ended


async def test_refusals_reach_the_customer_as_the_librarys_errors(sdk: Sdk) -> None:
    await sdk.own_key()
    create = (
        f"{_VM}create_vms(CreateInstancesPayload(name='a', environment_name={HOME!r}, count=1, "
        f"image_name={IMAGE!r}, flavor_name='n3-H100x1', key_name='own'))"
    )
    expected = {
        "no_capacity": (400, "Insufficient stock"),
        "quota": (400, "quota exceeded"),
        "bad_credentials": (401, "Invalid API key"),
        "rate_limit": (429, "Too many requests"),
        "server_error": (500, "Internal server error"),
    }
    for kind in expected:
        body = {"provider": "hyperstack", "operation": "create", "kind": kind, "times": 1}
        await sdk.served.control("POST", "faults", body)
    told = await sdk(*[create] * (len(expected) + 2))
    *refused, made, clash = told
    by_status = {status: body for _, status, body in refused}
    assert {status for status, _ in expected.values()} == set(by_status)
    for _, words in expected.values():
        assert any(words in body for _, _, body in refused)
    assert made["instances"][0]["name"] == "a"
    assert (clash[0], clash[1]) == ("ApiException", 409)
    assert len(sdk.machines) == 1


# --- replay of what the library was recorded to send --------------------------------------

_NOTHING_SUCH = "environment_name='e',flavor_name='f'"
"""The recorded create that names what is not there."""


def _recorded() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(RECORDED.read_text())
    return rows


async def _stand_ins(sdk: Sdk, command: str = "") -> dict[str, str]:
    """What the recording's invented ids are here, in the state that the command needs."""
    await sdk.served.control("POST", "reset")
    await sdk.own_key()
    body = {"name": "k1", "environment_name": HOME, "public_key": PUBLIC}
    key = (await sdk.rest("POST", "/core/keypairs", body))["keypair"]["id"]
    if "import_key_pair" in command:
        await sdk.rest("DELETE", f"/core/keypair/{key}")
    body = {"name": "mine", "region": "US-1"}
    environment = (await sdk.rest("POST", "/core/environments", body))["environment"]["id"]
    disk = {"name": "v", "environment_name": HOME, "size": 1, "volume_type": "Cloud-SSD"}
    volume = (await sdk.rest("POST", "/core/volumes", disk))["volume"]["id"]
    machine = await sdk.plant("host", assign_floating_ip="attach_public" not in command)
    rule = (await sdk.rest("POST", f"{VMS}/{machine}/sg-rules", SSH))["security_rule"]["id"]
    for word, action in (("start_vm", "stop"), ("restore_vm", "hibernate")):
        if word in command:
            await sdk.rest("GET", f"{VMS}/{machine}/{action}")
            await sdk.served.advance(10)
    at_volume = ("/volumes/", "_volume\\(", "volume_ids=\\[", '"volume_ids": \\[')
    return {
        r"\b731\b": str(machine),
        r"(?<=sg-rules/)5\b|(?<=,)5(?=\))": str(rule),
        "|".join(rf"(?<={before})1\b" for before in at_volume): str(volume),
        r"(?<=keypair/)3\b|(?<=key_pair\()3\b": str(key),
        r"(?<=environments/)4\b|(?<=_environment\()4\b": str(environment),
    }


def _in_place(row: dict[str, Any], real: dict[str, str]) -> dict[str, Any]:
    text = json.dumps(row)
    for invented, here in real.items():
        text = re.sub(invented, here, text)
    found: dict[str, Any] = json.loads(text)
    return found


async def test_every_recorded_request_is_taken(sdk: Sdk) -> None:
    refused = []
    for row in _recorded():
        here = _in_place(row, await _stand_ins(sdk, row["command"]))
        path = here["path"].removeprefix("/v1")
        answer = await sdk.send(row["method"], path, here["body"], params=here["query"])
        if answer.status_code != 200:
            refused.append((row["command"], answer.status_code))
    ((command, status),) = refused
    assert _NOTHING_SUCH in command
    assert status == 404
    assert len(_recorded()) == 40


async def test_the_library_sends_what_it_was_recorded_to_send(sdk: Sdk) -> None:
    real = await _stand_ins(sdk)
    rows = [_in_place(row, real) for row in _recorded()]
    await sdk(*(row["command"] for row in rows))
    expected = [(row["method"], row["path"], row["query"], row["body"]) for row in rows]
    assert sdk.heard == expected
