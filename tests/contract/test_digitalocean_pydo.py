"""DigitalOcean's unmodified client, pydo 0.44.0, on the emulator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

if TYPE_CHECKING:
    from tests.contract.conftest import Judge
    from tests.sandbox.conftest import Served

pytestmark = [pytest.mark.judge, pytest.mark.slow]
V2 = "/digitalocean/v2"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"
ADA: dict[str, Any] = {
    "name": "planted",
    "region": "nyc2",
    "size": "gpu-4000adax1-20gb",
    "image": "gpu-h100x1-base",
}
RECORDED = Path(__file__).with_name("data") / "digitalocean_requests.json"
VOLUME = "506f78a4-e098-11e5-ad9f-000f53306ae1"
_PROGRAM = """
import json, os, pydo
client = pydo.Client(os.environ["DIGITALOCEAN_TOKEN"], endpoint=os.environ["DIGITALOCEAN_API_URL"])
told = []
for text in {calls!r}:
    # The client would not send its key without TLS; this is its own way to allow it.
    text = text[:-1].rstrip("(") + ("(" if text.endswith("()") else ", ") + "enforce_https=False)"
    try:
        told.append(eval("client." + text))
    except Exception as error:
        told.append([type(error).__name__, getattr(error, "status_code", None), str(error)])
print("=" + json.dumps(told))
"""


class Pydo:
    """The library, and the requests that it made."""

    def __init__(self, judge: Judge, served: Served) -> None:
        self.judge, self.served = judge, served
        self.key = served.sandbox.keys["digitalocean"]
        self.machines = served.sandbox.clouds["digitalocean"].machines

    async def __call__(self, *calls: str) -> list[Any]:
        """What each `client.CALL` returns, or class, status and text of its error."""
        self.served.ear.heard.clear()
        printed = await self.judge.code(_PROGRAM.format(calls=calls))
        await self.served.advance(10)
        told: list[Any] = json.loads(printed.splitlines()[-1].removeprefix("="))
        return told

    async def one(self, call: str) -> Any:
        return (await self(call))[0]

    @property
    def heard(self) -> list[tuple[str, str, list[list[str]], Any]]:
        """Method, path, query and body of what the last calls asked."""
        return [
            (
                heard.method,
                heard.path.removeprefix("/digitalocean"),
                sorted(list(pair) for pair in heard.query),
                json.loads(heard.body) if heard.body else None,
            )
            for heard in self.served.ear.heard
            if heard.path.startswith("/digitalocean/")
        ]

    async def rest(self, method: str, path: str, body: Any = None, key: str | None = None) -> Any:
        answer = await self.served.ask(method, f"{V2}{path}", body, key=key or self.key)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    async def plant(self, key: str | None = None, **more: Any) -> int:
        """An active droplet, made without the client."""
        made = await self.rest("POST", "/droplets", {**ADA, **more}, key)
        await self.served.advance(10)
        return int(made["droplet"]["id"])


@pytest.fixture
def client(served: Served, pydo: Judge) -> Pydo:
    return Pydo(pydo, served)


async def test_it_searches_sizes_page_by_page(client: Pydo) -> None:
    first, second, whole = await client(
        "sizes.list(per_page=10)", "sizes.list(per_page=10, page=2)", "sizes.list(per_page=200)"
    )
    assert client.heard[0] == ("GET", "/v2/sizes", [["page", "1"], ["per_page", "10"]], None)
    assert first["links"]["pages"]["next"].endswith("page=2")
    assert first["sizes"] + second["sizes"] == whole["sizes"]
    assert len(whole["sizes"]) == whole["meta"]["total"] > 10
    by_slug = {row["slug"]: row for row in whole["sizes"]}
    assert by_slug["gpu-h100x8-640gb"]["gpu_info"]["vram"]["amount"] == 640
    assert by_slug["gpu-mi325x8-2048gb"]["regions"] == []


async def test_it_creates_shows_switches_and_ends_a_droplet(served: Served, client: Pydo) -> None:
    key = await client.one(f"ssh_keys.create(body={{'name': 'k', 'public_key': {PUBLIC!r}}})")
    body = {
        **ADA,
        "name": "fresh",
        "ssh_keys": [key["ssh_key"]["id"]],
        "tags": ["broker:ab12"],
        "user_data": "#!/bin/sh\necho hello\n",
    }
    made = await client.one(f"droplets.create(body={body!r})")
    assert client.heard == [("POST", "/v2/droplets", [], body)]
    id_, action = made["droplet"]["id"], made["links"]["actions"][0]["id"]
    machine = client.machines[str(id_)]
    assert (machine.order.user_data, machine.keys) == (body["user_data"].encode(), (PUBLIC,))
    shown, done = await client(f"droplets.get({id_})", f"actions.get({action})")
    droplet = shown["droplet"]
    assert (droplet["status"], done["action"]["status"]) == ("active", "completed")
    assert droplet["networks"]["v4"][1] == {
        "ip_address": machine.address,
        "netmask": "255.255.240.0",
        "gateway": "127.0.0.1",
        "type": "public",
    }
    (off,) = await client(f"droplet_actions.post({id_}, body={{'type': 'power_off'}})")
    assert off["action"]["type"] == "power_off"
    assert (await client.one(f"droplets.get({id_})"))["droplet"]["status"] == "off"
    assert machine.billed
    await client.one(f"droplet_actions.post({id_}, body={{'type': 'power_on'}})")
    assert (await client.one(f"droplets.get({id_})"))["droplet"]["status"] == "active"
    assert await client.one(f"droplets.destroy({id_})") is None
    assert client.heard == [("DELETE", f"/v2/droplets/{id_}", [], None)]
    assert (machine.ended, machine.billed) == (True, False)
    gone = await client.one(f"droplets.get({id_})")
    assert gone["id"] == "not_found", "this client takes a 404 for an answer"


async def test_it_lists_its_own_droplets_in_their_states_and_no_others(client: Pydo) -> None:
    running, stopped = await client.plant(), await client.plant(name="rests", tags=["broker"])
    foreign = await client.plant("dop_v1_somebody_else", name="foreign")
    await client.rest("POST", f"/droplets/{stopped}/actions", {"type": "power_off"})
    await client.served.advance(10)
    gpus, others, tagged = await client(
        "droplets.list(type='gpus')", "droplets.list()", "droplets.list(tag_name='broker')"
    )
    states = {row["id"]: (row["name"], row["status"]) for row in gpus["droplets"]}
    assert states == {running: ("planted", "active"), stopped: ("rests", "off")}
    assert (others["droplets"], tagged["droplets"]) == ([], [])
    await client.one("droplets.destroy_by_tag(tag_name='broker')")
    ended = {id_: client.machines[str(id_)].ended for id_ in (running, stopped, foreign)}
    assert ended == {running: False, stopped: True, foreign: False}


async def test_it_understands_refusals(served: Served, client: Pydo) -> None:
    fault = {"provider": "digitalocean", "operation": "create", "times": 1}
    await served.control("POST", "faults", {**fault, "kind": "no_capacity"})
    name, status, text = await client.one(f"droplets.create(body={ADA!r})")
    assert (name, status) == ("HttpResponseError", 422)
    assert "Size is not available in this region." in text
    assert client.machines == {}
    await served.control(
        "POST", "faults", {**fault, "operation": "account", "kind": "bad_credentials"}
    )
    assert (await client.one("account.get()"))[:2] == ["ClientAuthenticationError", 401]
    await served.control("POST", "faults", {**fault, "kind": "rate_limit"})
    made = await client.one(f"droplets.create(body={ADA!r})")
    assert [method for method, *_ in client.heard] == ["POST", "POST"], "it tries again by itself"
    assert list(client.machines) == [str(made["droplet"]["id"])]


# --- replay of what clients were recorded to send -----------------------------------------


def _recorded(of: str = "") -> list[dict[str, Any]]:
    rows = json.loads(RECORDED.read_text())
    return [row for row in rows if of in ("", row["client"])]


async def _stand_ins(client: Pydo) -> dict[str, str]:
    """What the recording's invented ids are here: two droplets, a key, a volume, an action."""
    await client.served.control("POST", "reset")
    body = {"name": "own", "public_key": PUBLIC.replace("AAAA me", "AAAB me")}
    key = (await client.rest("POST", "/account/keys", body))["ssh_key"]["id"]
    disk = {"name": "recorded", "region": "nyc2", "size_gigabytes": 1}
    volume = (await client.rest("POST", "/volumes", disk))["volume"]["id"]
    made = await client.rest("POST", "/droplets", {**ADA, "tags": ["broker"]})
    await client.served.advance(10)
    team = (await client.rest("GET", "/account"))["account"]["team"]["uuid"]
    bill = (await client.rest("GET", "/customers/my/invoices"))["invoice_preview"]
    return {
        "3164444": str(made["droplet"]["id"]),
        "36804636": str(made["links"]["actions"][0]["id"]),
        "512189": str(key),
        VOLUME: volume,
        "do:team:t": f"do:team:{team}",
        "do%3Ateam%3At": f"do%3Ateam%3A{team}",
        "/invoices/u": f"/invoices/{bill['invoice_uuid']}",
        "by_uuid('u')": f"by_uuid('{bill['invoice_uuid']}')",
        "ssh-ed25519 AAAA k": PUBLIC,
    }


def _in_place(value: Any, real: dict[str, str]) -> Any:
    text = json.dumps(value)
    for invented, here in real.items():
        text = text.replace(invented, here)
    return json.loads(text)


async def test_every_recorded_request_is_taken(client: Pydo) -> None:
    refused = []
    for row in _recorded():
        real = await _stand_ins(client)
        if (row["body"] or {}).get("type") == "power_on":
            path = f"/droplets/{real['3164444']}/actions"
            await client.rest("POST", path, {"type": "power_off"})
            await client.served.advance(10)
        here = _in_place(row, real)
        headers = {"Authorization": f"Bearer {client.key}", "X-Dangerous": "true"}
        answer = await client.served.http.request(
            row["method"],
            f"/digitalocean{here['path']}",
            params=here["query"],
            headers=headers,
            **({"json": here["body"]} if here["body"] else {}),
        )
        if answer.status_code >= 300:
            refused.append((row["command"], answer.text))
        await client.served.advance(60)
    assert refused == []
    assert {row["client"] for row in _recorded()} == {"pydo", "gradient"}


async def test_the_library_sends_what_it_was_recorded_to_send(client: Pydo) -> None:
    rows = _recorded("pydo")
    real = await _stand_ins(client)
    await client(*(_in_place(row["command"].removeprefix("pydo.Client."), real) for row in rows))
    expected = [
        (
            here["method"],
            unquote(here["path"]),
            sorted(here["query"]),
            here["body"],
        )
        for here in (_in_place(row, real) for row in rows)
    ]
    assert client.heard == expected
    assert len(expected) >= 30
