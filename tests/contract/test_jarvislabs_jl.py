"""Jarvis Labs' unmodified client, version 0.2.19, on the emulator by the second door."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.contract.wire import Sent, Wire

from gpubroker.sandbox.proxy import ConnectProxy, proxy_variables

if TYPE_CHECKING:
    from tests.contract.conftest import Judge
    from tests.sandbox.conftest import Served

pytestmark = [pytest.mark.judge, pytest.mark.slow]
RECORDED = Path(__file__).with_name("data") / "jarvislabs_requests.json"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"
NOIDA, CHENNAI, EUROPE = "india-noida-01", "india-chennai-01", "europe-01"
HOSTS = {NOIDA: "backendn", CHENNAI: "backendc", EUROPE: "backendeu"}
A_BOOT_S = 10.0

Row = tuple[str, str, str, list[tuple[str, str]], Any]
"""Method, host, path, query and body."""


SLOW = ("/create", "/resume", "/pause", "/destroy")


def _row(sent: Sent) -> Row:
    host = sent.headers["host"].removesuffix(".jarvislabs.net")
    body: Any = "form"
    if sent.raw.startswith(b"--"):
        assert b'name="script"; filename="startup.sh"' in sent.raw
    else:
        body = sent.body
    return sent.method, host, sent.path, sent.query, body


class Jl:
    """The client's command line, and the requests it made."""

    def __init__(self, judge: Judge, served: Served, wire: Wire) -> None:
        self.judge, self.served, self.wire = judge, served, wire
        self.key = served.sandbox.keys["jarvislabs"]

    async def __call__(self, words: str, *, ok: bool = True) -> str:
        self.wire.sent.clear()
        return await self.judge(*shlex.split(words), ok=ok)

    async def json(self, words: str) -> Any:
        return json.loads(await self(f"{words} --json"))

    @property
    def sent(self) -> list[Row]:
        """What the last command sent."""
        return [_row(one) for one in self.wire.sent]

    @property
    def asked(self) -> list[tuple[str, str, str]]:
        """Method, host and path of that."""
        return [row[:3] for row in self.sent]

    async def rest(self, method: str, path: str, body: Any = None, key: str = "") -> Any:
        """A call without the client."""
        answer = await self.served.ask(method, f"/jarvislabs{path}", body, key=key or self.key)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def plant(self, template: str = "pytorch", key: str = "", **more: Any) -> int:
        body = {"gpu_type": "L4", "num_gpus": 1, "hdd": 100, "region": NOIDA, "name": "job-1"}
        if template == "vm/cpu":
            body = {"vcpus": 4, "ram_gb": 16, "hdd": 100, "region": NOIDA, "name": "job-1"}
        made = await self.rest("POST", f"/templates/{template}/create", body | more, key)
        return int(made["machine_id"])


@pytest.fixture
async def client(served: Served, jl: Judge, tmp_path: Path) -> AsyncIterator[Jl]:
    wire = Wire(served, "/jarvislabs", slow=SLOW)
    proxy = ConnectProxy(wire, served.sandbox.hosts(), tmp_path / "proxy")
    port = await proxy.open()
    jl.env |= proxy_variables(f"http://127.0.0.1:{port}", proxy.ca_file)
    yield Jl(jl, served, wire)
    await proxy.close()


async def test_it_reads_the_market_and_the_account(client: Jl) -> None:
    rows = await client.json("gpus")
    assert client.asked == [("GET", "backendn", "/misc/server_meta"), ("GET", "backendn", "/misc/")]
    told = {(r["gpu_type"], r["region"], r["price_per_hour"], r["spot_price"]) for r in rows}
    assert {("L4", "IN2", 0.44, 0.29), ("H100", "EU1", 2.99, None)} <= told
    sizes = await client.json("cpus")
    assert "0.0992" in json.dumps(sizes)
    assert "pytorch" in json.dumps(await client.json("templates"))
    status = await client.json("status")
    assert "100000" in json.dumps(status)
    assert ("GET", "backendn", "/users/user_info") in client.asked


async def test_it_creates_pauses_resumes_renames_and_destroys(client: Jl, tmp_path: Path) -> None:
    script = tmp_path / "s.sh"
    script.write_text("#!/bin/sh\necho hi\n")
    await client(f"scripts add {script} --name s")
    (listed,) = await client.json("scripts list")
    made = await client.json(
        f"create --gpu H100 --num-gpus 2 --name job-1 --script-id {listed['script_id']} "
        "--script-args a --http-ports 7860 --yes"
    )
    assert (made["status"], made["num_gpus"], made["region"]) == ("Running", 2, "IN2")
    machine = client.served.sandbox.clouds["jarvislabs"].machines[str(made["machine_id"])]
    assert made["ssh_command"].endswith(f"-p {machine.ssh_port} root@127.0.0.1")
    assert machine.order.startup_script == "#!/bin/sh\nset -- a\necho hi\n"
    first = made["machine_id"]
    assert await client.json(f"rename {first} --name job-2 --yes")
    await client(f"pause {first} --yes")
    assert client.asked[-1] == ("POST", "backendn", "/misc/pause")
    assert (await client.json(f"get {first}"))["status"] == "Paused"
    back = await client.json(f"resume {first} --gpu L4 --num-gpus 1 --yes")
    assert back["machine_id"] != first
    assert (back["status"], back["gpu_type"], back["name"]) == ("Running", "L4", "job-2")
    await client(f"destroy {back['machine_id']} --yes")
    assert machine.ended


async def test_it_lists_its_own_instances_in_their_states_and_no_others(client: Jl) -> None:
    running, paused = await client.plant(), await client.plant(name="rest")
    foreign = await client.plant(key="somebody-else", name="foreign")
    await client.served.advance(10)
    await client.rest("POST", f"/misc/pause?machine_id={paused}")
    await client.served.advance(5)
    rows = await client.json("list")
    assert client.asked[0] == ("GET", "backendn", "/users/fetch")
    assert {r["machine_id"]: r["status"] for r in rows} == {running: "Running", paused: "Paused"}
    refused = await client(f"destroy {foreign} --yes", ok=False)
    assert "not found" in refused
    truth = {row["provider_id"]: row for row in await client.served.control("GET", "machines")}
    assert truth[str(foreign)]["billed"]


async def test_it_goes_to_the_host_of_the_region(client: Jl) -> None:
    await client.rest("POST", "/ssh/", {"ssh_key": PUBLIC, "key_name": "k"})
    made = await client.json("create --gpu H100 --vm --region EU1 --name there --yes")
    assert [row[1] for row in client.asked if row[0] == "POST"] == ["backendeu"]
    await client(f"destroy {made['machine_id']} --yes")
    assert client.asked[-1] == ("POST", "backendeu", "/templates/vm/destroy")
    assert not any(row["billed"] for row in await client.served.control("GET", "machines"))


async def test_refusals_reach_the_customer(client: Jl) -> None:
    for kind, told in (
        ("no_capacity", "not available"),
        ("quota", "balance"),
        ("rate_limit", "Too many requests"),
        ("boot_failure", "code=1001"),
    ):
        fault = {"provider": "jarvislabs", "operation": "create", "kind": kind, "times": 1}
        await client.served.control("POST", "faults", fault)
        assert told in await client("create --gpu L4 --name job-1 --yes", ok=False), kind
    client.judge.env["JL_API_KEY"] = "invalid-key"
    assert "expired" in await client("list", ok=False)


# --- replay of what the client was recorded to send --------------------------------------


def _recorded() -> dict[str, list[dict[str, Any]]]:
    """Command to the requests that it sent."""
    commands: dict[str, list[dict[str, Any]]] = {}
    for row in json.loads(RECORDED.read_text()):
        commands.setdefault(row["command"], []).append(row)
    return commands


async def _stand_ins(client: Jl) -> dict[str, str]:
    """What the recording's invented ids are here."""
    await client.served.control("POST", "reset")
    await client.rest("POST", "/ssh/", {"ssh_key": PUBLIC, "key_name": "broker"})
    (key,) = await client.rest("GET", "/ssh/")
    form = b'--b\r\nContent-Disposition: form-data; name="script"\r\n\r\ntrue\r\n--b--\r\n'
    sent = await client.served.http.post(
        "/jarvislabs/scripts/add?name=s",
        content=form,
        headers={
            "Authorization": f"Bearer {client.key}",
            "Content-Type": "multipart/form-data; boundary=b",
        },
    )
    assert sent.status_code == 200
    (script,) = (await client.rest("GET", "/scripts/"))["script_meta"]
    body = {"fs_name": "data", "storage": 100, "region": NOIDA}
    disk = await client.rest("POST", "/filesystem/create", body)
    real = {
        "123": await client.plant(),
        "200": await client.plant("vm", gpu_type="A100-80GB"),
        "300": await client.plant("vm/cpu"),
        "400": await client.plant(),
        "500": await client.plant(gpu_type="H100", region=EUROPE),
        "600": await client.plant(gpu_type="RTX-PRO6000", region=CHENNAI),
        "k1": key["key_id"],
        "7": script["script_id"],
        "1": disk["fs_id"],
    }
    await client.served.advance(A_BOOT_S)
    await client.rest("POST", f"/misc/pause?machine_id={real['400']}")
    await client.served.advance(5)
    return {invented: str(id_) for invented, id_ in real.items()}


def _in_place(text: str, real: dict[str, str]) -> str:
    words = "|".join(real)
    return re.sub(rf"(?<![\w-])({words})(?![\w-])", lambda found: real[found[1]], text)


def _row_in_place(row: dict[str, Any], real: dict[str, str]) -> Row:
    body = row["body"]
    if isinstance(body, dict):
        ids = {"machine_id", "fs_id", "script_id"}
        body = {n: int(real[str(v)]) if n in ids and v else v for n, v in body.items()}
    query = [
        (name, real.get(value, value) if name.endswith("_id") else value)
        for name, value in row["query"]
    ]
    host = row["host"].removesuffix(".jarvislabs.net")
    return (row["method"], host, _in_place(row["path"], real), query, body)


def test_nothing_is_missing_from_the_recording() -> None:
    commands = _recorded()
    assert (len(commands), sum(len(rows) for rows in commands.values())) == (32, 78)


async def test_every_recorded_request_is_taken(client: Jl) -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="script"\r\n\r\ntrue\r\n--b--\r\n'
    refused = []
    for command, rows in _recorded().items():
        real = await _stand_ins(client)
        for row in rows:
            method, host, path, query, body = _row_in_place(row, real)
            head = {
                "Authorization": f"Bearer {client.key}",
                "Host": f"{host}.jarvislabs.net",
                "Content-Type": "application/json",
            }
            content = json.dumps(body).encode() if body else b""
            if body == "form":
                content, head["Content-Type"] = form, "multipart/form-data; boundary=b"
            answer = await client.served.http.request(
                method, f"/jarvislabs{path}", params=dict(query), headers=head, content=content
            )
            no = answer.json() == {"success": False} and path != "/misc/"
            if answer.status_code != 200 or no:
                refused.append(f"{command}: {method} {path}: {answer.text[:200]}")
    assert not refused, "\n".join(refused)


_IN_A_ROW = """
import json, sys
from jarvislabs.cli.app import main
for words in json.loads(sys.stdin.read()):
    sys.argv = ["jl", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, words
"""
_NAMED = re.compile(r"((?:ssh-key|filesystem|scripts) \w+|\w+) (\w+)(?= |$)(.*)")


def _words(command: str, real: dict[str, str], file: Path) -> list[str]:
    words = command.removeprefix("jl ").replace("<file>", str(file))
    if (found := _NAMED.fullmatch(words)) and found[2] in real:
        words = f"{found[1]} {real[found[2]]}{found[3]}"
    return shlex.split(words)


async def test_the_client_sends_what_it_was_recorded_to_send(client: Jl, tmp_path: Path) -> None:
    """One command after the other, as they were recorded."""
    file = tmp_path / "file"
    file.write_text(f"{PUBLIC}\n")
    real, commands = await _stand_ins(client), _recorded()
    body = {"fs_name": "spare", "storage": 100, "region": NOIDA}
    spare = str((await client.rest("POST", "/filesystem/create", body))["fs_id"])
    # What was grown has another id then.
    ids = {c: real | {"1": spare} if "filesystem remove" in c else real for c in commands}
    client.wire.sent.clear()
    typed = json.dumps([_words(command, ids[command], file) for command in commands])
    await client.judge.code(_IN_A_ROW, typed=typed)
    sent = iter(client.sent)
    for command, rows in commands.items():
        got = [next(sent) for _ in rows]
        looked_after = [n for n, row in enumerate(rows) if row["path"] == "/misc/status"]
        for n in looked_after:
            # What a create or a resume has made.
            ids[command] = ids[command] | {rows[n]["query"][0][1]: got[n][3][0][1]}
        assert got == [_row_in_place(row, ids[command]) for row in rows], command
    assert next(sent, None) is None
