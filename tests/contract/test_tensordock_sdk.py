"""The unmodified library `tensordock` 0.1.13 for Python, by others, on the emulator.

It speaks the older API alone: it judges the balance, which only that API tells. No client of API
v2 can be had from a package registry for this Python, and the vendor has none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import pytest
from tests.contract.conftest import Judge, WarmPython, installed_judge

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

pytestmark = [pytest.mark.judge, pytest.mark.slow]
NEEDS = (
    "certifi==2026.10.18", "charset-normalizer==3.5.2", "idna==3.20", "requests==2.34.2",
    "urllib3==2.8.0",
)  # fmt: skip
_CLIENT = """
import json, os
from tensordock import TensorDockAPI
client = TensorDockAPI(os.environ["TENSORDOCK_AUTH_ID"], os.environ["TENSORDOCK_API_TOKEN"])
client.base_url = os.environ["TENSORDOCK_BASE_URL"].replace("/v2", "/v0")
"""
ORDER: dict[str, Any] = {
    "name": "job-1",
    "image": "ubuntu2404",
    "resources": {
        "vcpu_count": 8,
        "ram_gb": 32,
        "storage_gb": 200,
        "gpus": {"geforcertx4090-pcie-24gb": {"count": 1}},
    },
    "location_id": "1a779525-4c04-4f2c-aa45-58b47d54bb38",
    "useDedicatedIp": True,
    "ssh_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me",
}
RATE = 0.4 + 8 * 0.004 + 32 * 0.002 + 200 * 0.00007


@pytest.fixture(scope="session")
def tensordock_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmPython]:
    """The library, ready to be used; it brings no program."""
    override = "GPUBROKER_JUDGE_TENSORDOCK"
    program = installed_judge("tensordock", "0.1.13", "python", override, NEEDS)
    python = WarmPython(program, "tensordock", tmp_path_factory.mktemp("tensordock"))
    yield python
    python.close()


@pytest.fixture
def judge(served: Served, tensordock_python: WarmPython, tmp_path: Path) -> Judge:
    home = tmp_path / "tensordock-home"
    home.mkdir()
    return Judge(tensordock_python, home, served.sandbox.env("tensordock"))


async def plant(served: Served, key: str) -> str:
    body = {"data": {"type": "virtualmachine", "attributes": ORDER}}
    made = await served.ask("POST", "/tensordock/api/v2/instances", body, key=key)
    assert made.status_code == 201, made.text
    return str(made.json()["data"]["id"])


async def test_it_reads_the_balance_of_its_own_machines(served: Served, judge: Judge) -> None:
    mine = served.sandbox.keys["tensordock"]
    _, stopped, _ = (await plant(served, mine), await plant(served, mine), await plant(served, "x"))
    await served.advance(10)
    path = f"/tensordock/api/v2/instances/{stopped}/stop"
    assert (await served.ask("POST", path, key=mine)).status_code == 200
    await served.advance(3600)
    served.ear.heard.clear()
    printed = await judge.code(f"{_CLIENT}print(json.dumps(client.billing.get_balance()))")
    told = json.loads(printed)
    assert told["success"] is True
    assert told["hourly_cost"] == pytest.approx(RATE + 200 * 0.00007)
    assert told["balance"] == pytest.approx(10_000 - told["hourly_cost"], abs=0.01)
    (heard,) = served.ear.heard
    assert (heard.method, heard.path) == ("POST", "/tensordock/api/v0/billing/balance")
    pair = {"api_key": served.sandbox.env("tensordock")["TENSORDOCK_AUTH_ID"], "api_token": mine}
    assert dict(parse_qsl(heard.body.decode())) == pair


async def test_it_tells_a_good_pair_from_a_bad_one(judge: Judge) -> None:
    asked = f"{_CLIENT}print(client.authorization.test_authorization())"
    assert "'success': True" in await judge.code(asked)
    judge.env["TENSORDOCK_API_TOKEN"] = "invalid-key"
    failing = (
        f"{_CLIENT}from tensordock.exceptions import TensorDockAPIException\n"
        "try: client.authorization.test_authorization()\n"
        "except TensorDockAPIException as error: print(error)"
    )
    assert "Invalid API credentials" in await judge.code(failing)
