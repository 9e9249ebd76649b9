"""Thunder Compute's unmodified client for Python, `tnr` 1.7.31, on the emulator.

Its address cannot be set: it reaches the emulator under the vendor's own name, by the sandbox's
HTTPS proxy. Whatever else it looks for (updates, its makers' error reports) ends there.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.contract.conftest import Judge, WarmPython, installed_judge

from gpubroker.sandbox.proxy import ConnectProxy, proxy_variables

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

pytestmark = [pytest.mark.judge, pytest.mark.slow]
ROOT = "/thunder_compute"
RECORDED = Path(__file__).with_name("data") / "thunder_requests.json"
NEEDS = (
    "aiohappyeyeballs==2.7.1", "aiohttp==3.14.5", "aiosignal==1.4.0", "attrs==26.1.0",
    "bcrypt==5.0.0", "certifi==2026.10.18", "cffi==2.1.1", "charset-normalizer==3.5.2",
    "click==8.1.8", "cryptography==50.0.2", "frozenlist==1.8.0", "idna==3.20",
    "markdown-it-py==4.3.0", "mdurl==0.1.2", "multidict==7.2.1", "packaging==26.3",
    "paramiko==3.4.0", "prompt_toolkit==3.0.53", "propcache==0.5.4", "pycparser==3.12",
    "Pygments==2.21.0", "PyNaCl==1.6.2", "questionary==2.1.1", "requests==2.34.2", "rich==13.7.1",
    "rich-click==1.8.3", "scp==0.15.0", "sentry-sdk==2.20.0", "typing_extensions==4.16.0",
    "urllib3==2.8.0", "wcwidth==0.9.4", "yarl==1.25.1",
)  # fmt: skip
"""All that the client asks for, to the version."""
CREATE = (
    "create", "--gpu", "a100xl", "--vcpus", "8", "--num-gpus", "1", "--disk-size-gb", "100",
    "--mode", "prototyping", "--template", "base",
)  # fmt: skip
A100: dict[str, Any] = {
    "cpu_cores": 8,
    "disk_size_gb": 100,
    "gpu_type": "a100xl",
    "num_gpus": 1,
    "template": "base",
}


@pytest.fixture(scope="session")
def tnr_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmPython]:
    """The client, ready to be run."""
    program = installed_judge("tnr", "1.7.31", "tnr", "GPUBROKER_JUDGE_THUNDER", NEEDS)
    python = WarmPython(program, "thunder.thunder", tmp_path_factory.mktemp("tnr"))
    yield python
    python.close()


class Tnr:
    """The client, with the key of the sandbox's own account, and what it asks of the vendor."""

    def __init__(self, judge: Judge, served: Served) -> None:
        self.judge, self.served = judge, served
        self.key = served.sandbox.keys["thunder_compute"]

    async def __call__(self, *words: str, ok: bool = True, typed: str = "") -> str:
        self.served.ear.heard.clear()
        return await self.judge(*words, ok=ok, typed=typed)

    @property
    def asked(self) -> list[list[Any]]:
        """Method, path, query and body of each call."""
        return [
            [
                heard.method,
                heard.path.removeprefix(ROOT),
                [list(pair) for pair in heard.query],
                json.loads(heard.body) if heard.body else None,
            ]
            for heard in self.served.ear.heard
        ]

    async def rest(self, method: str, path: str, body: Any = None, key: str = "") -> Any:
        """A call without the client."""
        answer = await self.served.ask(method, f"{ROOT}/v1{path}", body, key=key or self.key)
        assert answer.status_code < 300, answer.text
        return answer.json()


@pytest.fixture
async def tnr(served: Served, tnr_python: WarmPython, tmp_path: Path) -> AsyncIterator[Tnr]:
    proxy = ConnectProxy(served.ear, served.sandbox.hosts(), tmp_path / "proxy")
    url = f"http://127.0.0.1:{await proxy.open()}"
    home = tmp_path / "tnr-home"
    home.mkdir()
    env = served.sandbox.env("thunder_compute") | proxy_variables(url, proxy.ca_file)
    yield Tnr(Judge(tnr_python, home, env), served)
    await proxy.close()


async def plant(tnr: Tnr, key: str = "", **more: Any) -> str:
    made = await tnr.rest("POST", "/instances/create", {**A100, **more}, key)
    return str(made["uuid"])


async def test_it_asks_what_it_asks_the_vendor(tnr: Tnr) -> None:
    commands = json.loads(RECORDED.read_text())
    assert [command["words"][0] for command in commands] == ["status", "create", "delete"]
    for command in commands:
        await tnr(*command["words"], typed=command["typed"])
        assert tnr.asked == command["requests"]
        await tnr.served.advance(10)
    (machine,) = await tnr.served.control("GET", "machines")
    assert machine["state"] == "terminated"


async def test_it_creates_shows_and_deletes_an_instance(tnr: Tnr) -> None:
    assert "Instance created successfully" in await tnr(*CREATE, typed="y\n")
    assert tnr.asked[-1][1:] == ["/instances/create", [], {**A100, "mode": "prototyping"}]
    ((uuid, machine),) = tnr.served.sandbox.clouds["thunder_compute"].machines.items()
    (key,) = Path(tnr.judge.env["HOME"]).rglob(f"*{uuid}*")
    assert key.read_text().startswith("-----BEGIN")
    await tnr.served.advance(10)
    shown = await tnr("status", "--no-wait")
    row = next(line for line in shown.splitlines() if "RUNNING" in line)
    cells = [cell.strip() for cell in row.strip("│ ").split("│")]
    assert cells == [
        "0", "RUNNING", machine.ssh_host, "Prototyping", "100GB", "A100XL", "8", "64GB", "Base"
    ]  # fmt: skip
    assert "Successfully deleted" in await tnr("delete", "0", typed="y\n")
    assert tnr.asked[-1] == ["POST", "/instances/0/delete", [], None]
    assert machine.ended
    assert "not found" in (await tnr("delete", "7", typed="y\n", ok=False)).lower()


async def test_it_lists_its_own_instances_in_their_states_and_no_others(tnr: Tnr) -> None:
    await plant(tnr, gpu_type="h100")
    await plant(tnr, "somebody-else", gpu_type="a6000")
    await tnr.served.advance(10)
    await plant(tnr)
    shown = await tnr("status", "--no-wait")
    rows = [line.strip("│ ").split("│") for line in shown.splitlines() if "Prototyping" in line]
    told = {row[0].strip(): (row[1].strip(), row[5].strip()) for row in rows}
    assert told == {"0": ("RUNNING", "H100"), "1": ("PROVISIONING", "A100XL")}


async def test_it_reads_refusals(tnr: Tnr) -> None:
    body = {"provider": "thunder_compute", "operation": "create", "kind": "no_capacity", "times": 1}
    await tnr.served.control("POST", "faults", body)
    refused = await tnr(*CREATE, typed="y\n", ok=False)
    assert "no capacity available" in refused
    assert await tnr.rest("GET", "/instances/list") == {}
    tnr.judge.env["TNR_API_TOKEN"] = "invalid-key"
    refused = await tnr("status", "--no-wait", ok=False)
    assert "RUNNING" not in refused
    assert "nauthorized" in refused or "token" in refused
