"""Lyceum's unmodified command line, version 1.2.2, on the emulator."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.contract.wire import Wire

from gpubroker.sandbox.listener import HttpListener
from gpubroker.sandbox.published import listening

if TYPE_CHECKING:
    from tests.contract.conftest import Judge
    from tests.sandbox.conftest import Served

pytestmark = [pytest.mark.judge, pytest.mark.slow]
API = "/api/v2/external"
RECORDED = Path(__file__).with_name("data") / "lyceum_requests.json"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"
ORDER = {"user_public_key": PUBLIC, "hardware_profile": "a100", "instance_type": "on-demand"}
_IMPATIENT = """
import json, sys, time
time.sleep = lambda seconds: None  # it looks after a new VM every 20 s
from lyceum.main import app
for words in json.loads(sys.stdin.read()):
    sys.argv = ["lyceum", *words]
    try:
        app()
    except SystemExit as end:
        assert not end.code, words
"""


class Cli:
    """The command line, and the requests it made."""

    def __init__(self, judge: Judge, served: Served, wire: Wire) -> None:
        self.judge, self.served, self.wire = judge, served, wire
        self.key = served.sandbox.env("lyceum")["LYCEUM_API_KEY"]

    async def __call__(self, words: str, *, ok: bool = True) -> str:
        self.wire.sent.clear()
        return await self.judge(*shlex.split(words), ok=ok)

    async def json(self, words: str) -> Any:
        return json.loads(await self(f"{words} --json"))

    async def in_a_row(self, *commands: list[str]) -> str:
        """Several commands in one process, in which nothing waits."""
        self.wire.sent.clear()
        return await self.judge.code(_IMPATIENT, typed=json.dumps(commands))

    @property
    def asked(self) -> list[tuple[str, str]]:
        """Method and path of what the last command asked."""
        return [(one.method, one.path.removeprefix(API)) for one in self.wire.sent]

    async def rest(self, method: str, path: str, body: Any = None, key: str = "") -> Any:
        """A call without the client."""
        root = f"/lyceum{API}"
        answer = await self.served.ask(method, f"{root}{path}", body, key=key or self.key)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def plant(self, key: str = "", **more: Any) -> str:
        return str((await self.rest("POST", "/vms/create", ORDER | more, key))["vm_id"])


@pytest.fixture
async def cli(served: Served, lyceum: Judge) -> AsyncIterator[Cli]:
    wire = Wire(served, "/lyceum", slow=("/vms/create",))
    bound = listening(0)
    listener = HttpListener(wire)
    await listener.open(bound)
    file = Path(lyceum.env["HOME"]) / ".lyceum" / "config.json"
    settings = json.loads(file.read_text())
    settings["base_url"] = f"http://127.0.0.1:{bound.getsockname()[1]}/lyceum"
    file.write_text(json.dumps(settings))
    yield Cli(lyceum, served, wire)
    await listener.close()
    bound.close()


async def test_it_reads_the_market_and_the_account(cli: Cli) -> None:
    table = await cli("vm availability")
    assert cli.asked == [("GET", "/vms/availability")]
    for told in ("a100", "$1.39", "1, 2, 4, 8", "$1.65"):
        assert told in table
    assert "b200" not in table
    assert "gpu.l40s" in await cli("gpu machines")
    slug = (await cli.rest("GET", "/user/org"))["slug"]
    assert slug in await cli("org current")
    assert slug in await cli("org list")
    assert "100,000.00" in await cli(f"org balance {slug}")


async def test_it_starts_names_and_stops_a_vm_with_a_volume(cli: Cli) -> None:
    words = ["vm", "start", "-h", "a100", "-k", PUBLIC, "-g", "2", "-n", "gb-abc"]
    printed = await cli.in_a_row([*words, "--create-block-storage", "100"])
    (id_,) = cli.served.sandbox.clouds["lyceum"].machines
    machine = cli.served.sandbox.clouds["lyceum"].machines[id_]
    assert cli.asked == [("POST", "/vms/create"), ("GET", f"/vms/{id_}/status")]
    assert f"-p {machine.ssh_port} lyceum@127.0.0.1" in printed
    shown = await cli.json(f"vm status {id_}")
    assert (shown["status"], shown["gpu_count"], shown["display_name"]) == ("ready", 2, "gb-abc")
    assert "2.78" in await cli(f"vm status {id_}"), "the price of two"
    await cli(f"vm rename {id_} newer")
    assert machine.label == "newer"
    (volume,) = await cli.json("storage block list")
    assert (volume["attached_vm_id"], volume["size_gb"]) == (id_, 100)
    ended = await cli(f"vm stop {id_} --force")
    assert volume["volume_id"] in ended, "it tells what outlived the VM"
    assert machine.ended
    assert not machine.billed
    await cli(f"storage block delete {volume['volume_id']} --force")
    assert await cli.json("storage block list") == []
    resources = await cli.served.control("GET", "resources")
    assert [row["state"] for row in resources] == ["deleted"]


async def test_it_lists_its_own_vms_in_their_states_and_no_others(cli: Cli) -> None:
    running = await cli.plant(display_name="keep")
    ended = await cli.plant(display_name="rest")
    foreign = await cli.plant(key="lk_somebody-else", display_name="foreign")
    await cli.served.advance(10)
    await cli.rest("DELETE", f"/vms/{ended}")
    rows = await cli.json("vm list")
    assert {row["vm_id"]: row["status"] for row in rows} == {running: "ready", ended: "terminated"}
    assert [row["vm_id"] for row in await cli.json("vm list --no-terminated")] == [running]
    refused = await cli(f"vm stop {foreign} --force", ok=False)
    assert "VM not found" in refused
    machines = cli.served.sandbox.clouds["lyceum"].machines
    assert machines[foreign].billed


async def test_it_reads_what_each_vm_cost(cli: Cli) -> None:
    id_ = await cli.plant()
    await cli.served.advance(3606)
    await cli.rest("DELETE", f"/vms/{id_}")
    slug = (await cli.rest("GET", "/user/org"))["slug"]
    table = await cli(f"org transactions aggregate {slug} --category vms --group-by vm_id")
    assert id_ in table
    assert "1.39" in table
    debits = await cli(f"org transactions list {slug} --kind debit")
    assert "vm" in debits
    assert "credit" not in debits


async def test_refusals_reach_the_customer(cli: Cli) -> None:
    start = f"vm start -h a100 -k '{PUBLIC}' --async"
    for kind, told in (
        ("no_capacity", "No capacity available"),
        ("quota", "Insufficient credits"),
        ("rate_limit", "Too Many Requests"),
        ("server_error", "Internal server error"),
    ):
        fault = {"provider": "lyceum", "operation": "create", "kind": kind, "times": 1}
        await cli.served.control("POST", "faults", fault)
        assert told in await cli(start, ok=False)
        assert cli.asked == [("POST", "/vms/create")], "asked once"
    assert "VM ID: vm-" in await cli(start)
    assert "gpu_count" in await cli(f"{start} -g 3", ok=False)
    file = Path(cli.judge.env["HOME"]) / ".lyceum" / "config.json"
    file.write_text(file.read_text().replace(cli.key, "lk_invalid-key"))
    assert "session may have expired" in await cli("vm list", ok=False)


# --- replay of what the client was recorded to send --------------------------------------


def _recorded() -> dict[str, list[dict[str, Any]]]:
    """Command to the requests that it sent."""
    commands: dict[str, list[dict[str, Any]]] = {}
    for row in json.loads(RECORDED.read_text()):
        commands.setdefault(row["command"], []).append(row)
    return commands


async def _stand_ins(cli: Cli) -> dict[str, str]:
    """What the recording's invented ids are here."""
    await cli.served.control("POST", "reset")
    holder = await cli.plant(new_volume={"size_gb": 100})
    (volume,) = (await cli.rest("GET", "/storage/block"))["volumes"]
    await cli.rest("DELETE", f"/vms/{holder}")
    vm = await cli.plant()
    await cli.served.advance(10)
    slug = (await cli.rest("GET", "/user/org"))["slug"]
    return {"vm-abc123def456": vm, "v1": volume["volume_id"], "acme": slug}


def _in_place(text: str, real: dict[str, str]) -> str:
    words = "|".join(real)
    return re.sub(rf"(?<![\w-])({words})(?![\w-])", lambda found: real[found[1]], text)


def test_nothing_is_missing_from_the_recording() -> None:
    commands = _recorded()
    assert (len(commands), sum(len(rows) for rows in commands.values())) == (23, 31)


async def test_every_recorded_request_is_taken(cli: Cli) -> None:
    real = await _stand_ins(cli)
    for rows in _recorded().values():
        for row in rows:
            query = "&".join(f"{name}={value}" for name, value in row["query"])
            path = _in_place(row["path"], real).removeprefix(API)
            await cli.rest(row["method"], f"{path}?{query}", row["body"])


async def test_the_client_sends_what_it_was_recorded_to_send(cli: Cli) -> None:
    """One command after the other, as they were recorded."""
    real, commands = await _stand_ins(cli), _recorded()
    words = [
        [PUBLIC if word == "<key>" else word for word in shlex.split(_in_place(command, real))[1:]]
        for command in commands
    ]
    # Its --org holds for the rest of its process: those that have it go last, by themselves.
    plain = [row for row in words if "--org" not in row]
    await cli.in_a_row(*plain)
    sent = iter(cli.wire.sent)
    for command, rows in commands.items():
        if "--org" in command:
            continue
        got = [next(sent) for _ in rows]
        here = real
        if "vm start" in command:
            here = real | {"vm-abc123def456": got[1].path.split("/")[-2]}
        assert [_told(row, here) for row in rows] == [
            (one.method, one.path, one.query, one.headers.get("x-org-slug"), one.body)
            for one in got
        ], command
    assert next(sent, None) is None
    (pinned,) = (command for command in commands if "--org" in command)
    await cli(_in_place(pinned, real).removeprefix("lyceum "))
    assert [one.headers["x-org-slug"] for one in cli.wire.sent] == [real["acme"]] * 2


def _told(row: dict[str, Any], real: dict[str, str]) -> tuple[Any, ...]:
    org = row["org"] and real[row["org"]]
    query = [tuple(pair) for pair in row["query"]]
    return row["method"], _in_place(row["path"], real), query, org, row["body"]
