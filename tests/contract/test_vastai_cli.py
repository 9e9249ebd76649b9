"""Vast.ai's unmodified client, version 1.9.1, on the emulator."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.contract.conftest import Judge
    from tests.sandbox.conftest import Served

pytestmark = [pytest.mark.judge, pytest.mark.slow]
A_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGmockmockmockmockmockmockmockmockmockmockmock me"
FIRST_OF_A_HOME = [("GET", "/api/v0/gpu_names/unique/"), ("GET", "/api/v0/users/current")]


class Vast:
    """The client's command line, and the requests it made."""

    def __init__(self, judge: Judge, served: Served) -> None:
        self.judge, self.served = judge, served

    async def __call__(self, words: str, *, ok: bool = True) -> str:
        """What `vastai WORDS` prints. Time passes after it, so that no rate limit is met."""
        self.served.sandbox.requests.clear()
        printed = await self.judge(*shlex.split(words), ok=ok)
        await self.served.advance(30)
        return printed

    async def json(self, words: str) -> Any:
        return json.loads(await self(f"{words} --raw"))

    @property
    def requests(self) -> list[tuple[str, str]]:
        """Method and path of what the last command asked."""
        return [(r.method, r.path) for r in self.served.sandbox.requests if r.provider == "vast_ai"]


@pytest.fixture
def vast(served: Served, vastai: Judge) -> Vast:
    return Vast(vastai, served)


async def _planted(vast: Vast) -> tuple[int, int, int]:
    """Two machines of the client's account, one of them stopped, and one of somebody else's."""
    key = vast.served.sandbox.keys["vast_ai"]
    running = await vast.served.rent(key=key, label="keep")
    stopped = await vast.served.rent(key=key, label="rest")
    foreign = await vast.served.rent(key="somebody-else", label="foreign")
    path = f"/vast_ai/api/v0/instances/{stopped}/"
    assert (await vast.served.ask("PUT", path, {"state": "stopped"}, key=key)).json()["success"]
    await vast.served.advance(30)
    return running, stopped, foreign


async def test_it_searches_and_asks_what_it_asks_the_vendor(vast: Vast) -> None:
    query = "search offers 'gpu_name=RTX_4090 num_gpus=1' --limit 5"
    found = await vast.json(query)
    assert vast.requests == [*FIRST_OF_A_HOME, ("POST", "/api/v0/bundles/")]
    assert len(found) == 5
    assert {(offer["gpu_name"], offer["num_gpus"]) for offer in found} == {("RTX 4090", 1)}
    assert all(offer["verification"] == "verified" for offer in found)
    assert [o["id"] for o in await vast.json(query)] == [o["id"] for o in found]
    assert vast.requests == [("POST", "/api/v0/bundles/")]
    bids = await vast.json("search offers -b gpu_name=RTX_4090 -o dph_total")
    assert all(offer["is_bid"] for offer in bids)
    assert [o["dph_total"] for o in bids] == sorted(o["dph_total"] for o in bids)
    new = await vast.json("search offers --new gpu_name=RTX_4090")
    assert vast.requests == [("PUT", "/api/v0/search/asks/")]
    assert {offer["id"] for offer in new} > {offer["id"] for offer in found}
    table = await vast("search offers gpu_name=H200")
    assert "H200" in table


async def test_it_creates_shows_stops_starts_and_destroys(vast: Vast) -> None:
    await vast("show user")
    offer = (await vast.json("search offers 'gpu_name=RTX_4090 num_gpus=1' -o dph_total"))[0]
    made = await vast.json(
        f"create instance {offer['id']} --image ubuntu:22.04 --disk 50 --label gb-abc "
        "--ssh --direct --env '-p 8000:8000 -e A=1' --onstart-cmd 'echo hi' --cancel-unavail"
    )
    assert vast.requests == [("PUT", f"/api/v0/asks/{offer['id']}/")]
    id_ = made["new_contract"]
    shown = await vast.json(f"show instance {id_}")
    assert vast.requests == [("GET", f"/api/v0/instances/{id_}/")]
    assert (shown["actual_status"], shown["label"], shown["disk_space"]) == (
        "running",
        "gb-abc",
        50,
    )
    assert shown["extra_env"] == {"A": "1", "-p 8000:8000": "1"}
    url = await vast(f"ssh-url {id_}")
    assert url.strip().startswith("ssh://root@127.0.0.1:")
    for command, method, path, status in (
        ("stop instance", "PUT", f"/api/v0/instances/{id_}/", "exited"),
        ("start instance", "PUT", f"/api/v0/instances/{id_}/", "running"),
        ("reboot instance", "PUT", f"/api/v0/instances/reboot/{id_}/", "running"),
        ("recycle instance", "PUT", f"/api/v0/instances/recycle/{id_}/", "running"),
    ):
        await vast(f"{command} {id_} --raw")
        assert vast.requests == [(method, path)]
        assert (await vast.json(f"show instance {id_}"))["actual_status"] == status
    await vast(f"label instance {id_} gb-new --raw")
    assert (await vast.json(f"show instance {id_}"))["label"] == "gb-new"
    assert "C." in await vast(f"logs {id_} --tail 100")
    await vast(f"destroy instance {id_} -y --raw")
    assert vast.requests == [("DELETE", f"/api/v0/instances/{id_}/")]
    assert (await vast.served.truth(id_))["billed"] is False


async def test_it_lists_its_own_machines_in_their_states_and_no_others(vast: Vast) -> None:
    running, stopped, foreign = await _planted(vast)
    await vast("show user")
    rows = await vast.json("show instances")
    assert vast.requests == [("GET", "/api/v1/instances/")]
    states = {row["id"]: row["actual_status"] for row in rows}
    assert states == {running: "running", stopped: "exited"}
    chosen = await vast.json("show instances --label keep --status running")
    assert [row["id"] for row in chosen] == [running]
    table = await vast("show instances")
    assert "keep" in table
    assert "rest" in table
    assert "foreign" not in table
    printed = await vast(f"destroy instance {foreign} -y", ok=False)
    assert "404" in printed
    assert (await vast.served.truth(foreign))["billed"]


async def test_it_bids_and_changes_its_bid(vast: Vast) -> None:
    await vast("show user")
    offer = (await vast.json("search offers -b 'gpu_name=RTX_4090 num_gpus=1' -o dph_total"))[0]
    made = await vast.json(
        f"create instance {offer['id']} --image ubuntu:22.04 --disk 20 --bid_price 0.35"
    )
    id_ = made["new_contract"]
    await vast(f"change bid {id_} --price 0.4 --raw")
    assert vast.requests == [("PUT", f"/api/v0/instances/bid_price/{id_}/")]
    assert (await vast.json(f"show instance {id_}"))["dph_base"] == 0.4


async def test_it_keeps_keys_volumes_and_accounts(vast: Vast) -> None:
    running, _, _ = await _planted(vast)
    await vast("show user")
    await vast(f"create ssh-key '{A_KEY}'")
    (key,) = await vast.json("show ssh-keys")
    assert key["key"] == A_KEY
    await vast(f"attach ssh {running} '{A_KEY}' --raw")
    assert vast.requests == [("POST", f"/api/v0/instances/{running}/ssh/")]
    await vast(f"delete ssh-key {key['id']} --raw")
    assert await vast.json("show ssh-keys") == []
    volume = (await vast.json("search volumes 'disk_space>50'"))[0]
    await vast(f"create volume {volume['id']} -s 15 -n V1 --raw")
    (rented,) = await vast.json("show volumes")
    assert (rented["label"], rented["disk_space"]) == ("V1", 15)
    await vast(f"delete volume {rented['id']} --raw")
    assert vast.requests == [("DELETE", "/api/v0/volumes/")]
    assert (await vast.json("show volumes")) == []
    await vast(f"show deposit {running} --raw")
    assert vast.requests == [("GET", f"/api/v0/instances/balance/{running}/")]


async def test_it_reads_what_its_machines_cost(vast: Vast) -> None:
    running, stopped, foreign = await _planted(vast)
    await vast.served.advance(3600)
    await vast("show user")
    now = vast.served.sandbox.clock.now()
    span = f"-s {int(now - 86_400)} -e {int(now)}"
    charged = await vast.json(f"show invoices-v1 --charges {span}")
    assert vast.requests == [("GET", "/api/v0/charges/")]
    rows = charged["results"] if isinstance(charged, dict) else charged
    sources = {row["source"] for row in rows}
    assert sources == {f"instance-{running}", f"instance-{stopped}"}
    assert all(row["amount"] > 0 for row in rows)
    assert str(foreign) not in json.dumps(charged)
    paid = await vast.json(f"show invoices-v1 --invoices {span}")
    assert vast.requests == [("GET", "/api/v1/invoices/")]
    assert "10000" in json.dumps(paid)


async def test_a_start_that_is_refused_is_told(vast: Vast) -> None:
    _, stopped, _ = await _planted(vast)
    await vast("show user")
    await vast.served.fault("start", "no_capacity", times=1)
    printed = await vast(f"start instance {stopped}")
    assert "resources are currently unavailable" in printed


async def test_the_program_as_installed_says_the_same_as_the_one_kept_warm(vast: Vast) -> None:
    running, stopped, _ = await _planted(vast)
    cold = json.loads(await vast.judge.cold("show", "instances", "--raw"))
    warm = await vast.json("show instances")
    assert [row["id"] for row in cold] == [row["id"] for row in warm] == [running, stopped]
    assert [row.keys() for row in cold] == [row.keys() for row in warm]


async def test_a_refused_key_is_told(vast: Vast) -> None:
    await vast("show user")
    printed = await vast("show instances --api-key invalid-key --raw", ok=False)
    assert "Invalid user key" in printed or "404" in printed


# --- replay of what the client was recorded to send ---------------------------------------


def _recorded(start: str) -> dict[str, list[dict[str, Any]]]:
    """Command -> what it sent, of the recorded commands that begin so."""
    folder = os.environ.get("GPUBROKER_RECORDINGS")
    commands: dict[str, list[dict[str, Any]]] = {}
    if folder:
        for line in (Path(folder) / "vast_ai.jsonl").read_text().splitlines():
            row = json.loads(line)
            if row["command"].startswith(start):
                commands.setdefault(row["command"], []).append(row)
    if not commands:
        pytest.skip("GPUBROKER_RECORDINGS does not name a folder of recordings")
    return commands


async def test_every_recorded_request_is_taken(served: Served) -> None:
    """As sent, with the ids that exist here: the emulator refuses none of them."""
    commands = _recorded("vastai ")
    refused: list[str] = []
    for command, rows in commands.items():
        for row in rows:
            await served.control("POST", "reset")
            await served.advance(60)
            real = await _stand_ins(served, row)
            path = _in_place(row["path"], real)
            if path.startswith("/logs/"):
                continue
            body = row["body"]
            if body is not None:
                body = json.loads(_in_place(json.dumps(body), real))
            key = "k" if "Authorization" in row["headers"] else None
            query = [(name, _in_place(value, real)) for name, value in row["query"]]
            answer = await served.ask(row["method"], f"/vast_ai{path}", body, key=key, params=query)
            if answer.status_code != 200 or '"success":false' in answer.text:
                refused.append(f"{command}: {row['method']} {path}: {answer.text[:200]}")
    assert not refused, "\n".join(refused)
    assert len(commands) > 30


async def test_the_library_sends_what_it_was_recorded_to_send_and_is_answered(vast: Vast) -> None:
    served = vast.served
    vast.judge.env["VAST_API_KEY"] = "k"
    commands = _recorded("python ")
    for command, rows in commands.items():
        await served.control("POST", "reset")
        await served.advance(60)
        real = await _stand_ins(served, rows[0])
        await served.rent("H200", key="k")
        served.ear.heard.clear()
        expression = _in_place(command.removeprefix("python "), real)
        text = f"import json; from vastai import VastAI; print(json.dumps({expression}))"
        printed = json.loads((await vast.judge.code(text)).splitlines()[-1])
        sent = [
            (heard.method, heard.path, heard.query, json.loads(heard.body or b"null"))
            for heard in served.ear.heard
        ]
        assert sent == [
            (
                row["method"],
                "/vast_ai" + _in_place(row["path"], real),
                [tuple(pair) for pair in row["query"]],
                row["body"],
            )
            for row in rows
        ], command
        assert printed, command
    assert len(commands) > 5


async def _stand_ins(served: Served, row: dict[str, Any]) -> dict[str, str]:
    """What the recording's invented ids are here."""
    wants = json.dumps([row["path"], row["body"], row["query"]])
    real: dict[str, str] = {}
    bid = {"price": 0.35} if "bid_price" in wants else {}
    for invented in ("12345678", "12345679"):
        if invented in wants:
            real[invented] = str(await served.rent("RTX 4090", key="k", **bid))
    search = "/vast_ai/api/v0/volumes/search/"
    volume = next(
        offer
        for offer in (await served.ask("POST", search, {}, key="other")).json()["offers"]
        if offer["verification"] == "verified" and offer["disk_space"] >= 20
    )
    offers = await served.offers(gpu_name={"eq": "RTX 4090"}, num_gpus={"eq": 1})
    if "volume_info" in wants:
        offers = await served.offers(machine_id={"eq": volume["machine_id"]})
    real["7001"], real["7002"] = str(offers[0]["id"]), str(offers[-1]["id"])
    if "88" in wants:
        real["88"] = str(volume["id"])
    if "/ssh/123" in wants:
        body = {"ssh_key": "ssh-ed25519 AAAAC3Nza me"}
        owner = row["path"].partition("/ssh/")[0].removesuffix("/api/v0")
        path = f"{owner}/ssh/" if "instances" in owner else "/api/v0/ssh/"
        await served.ask("POST", "/vast_ai" + _in_place(path, real), body, key="k")
        real["/ssh/123"] = f"/ssh/{served.cloud._counters.numbers['ssh_key'] - 1}"
    if row["path"] == "/api/v0/volumes/" and row["method"] == "DELETE":
        wanted = {"id": volume["id"], "size": 15}
        await served.ask("PUT", "/vast_ai/api/v0/volumes/", wanted, key="k")
        real["1"] = next(thing.id for thing in served.cloud.things.values())
    await served.advance(60)
    return real


def _in_place(text: str, real: dict[str, str]) -> str:
    if "1" in real:
        return real["1"] if text == "1" else text
    for invented, id_ in real.items():
        text = text.replace(invented, id_)
    return text
