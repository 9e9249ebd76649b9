"""The types of Paperspace's API, as its vendor generated them from its OpenAPI document for its
own command line, unknown fields closed, beside the emulator.

That command line (`pspace`) is no judge: it is no package of any registry, its sources load their
modules from hosts that tests do not reach, and its older clients speak the API that is closed.
What it sends with every call is sent here too: JSON is said to be there even where nothing is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.contract.conftest import vendor_text
from tests.contract.openapi import Conversation, Document
from tests.contract.typescript import openapi_of

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

pytestmark = pytest.mark.judge
HEADERS = {
    "authorization": "Bearer key-of-the-judge",
    "content-type": "application/json",
    "x-client": "paperspace-cli",
}
REGION = "East Coast (NY2)"
ORDER: dict[str, Any] = {
    "name": "job-1",
    "machineType": "H100",
    "templateId": "tiq8mhti",
    "region": REGION,
    "diskSize": 100,
    "publicIpType": "dynamic",
    "startOnCreate": True,
}
NOT_YET = "null until it happens: its lists for scripts say so today, and drives may have it so"
LAST = "null where there is no next page: the text beside it says so"
ISSUES = "`issues`, which the vendor's command line reads beside code and message"
OF_LIFE: dict[str, tuple[str, ...]] = {
    "dtDeleted": (
        "POST /machines",
        "GET /machines",
        "GET /machines/{id}",
        "PUT /machines/{id}",
        "PATCH /machines/{id}/start",
        "PATCH /machines/{id}/stop",
        "PATCH /machines/{id}/restart",
        "POST /startup-scripts",
        "GET /startup-scripts",
        "GET /startup-scripts/{id}",
        "PUT /startup-scripts/{id}",
        "POST /startup-scripts/{id}/assign",
        "POST /startup-scripts/{id}/unassign",
    ),
    "dtStarted": (
        "POST /machines",
        "PUT /machines/{id}",
        "DELETE /machines/{id}",
        "PATCH /machines/{id}/start",
        "PATCH /machines/{id}/stop",
        "PATCH /machines/{id}/restart",
        "GET /machine-events",
        "GET /machine-events/{id}",
        "POST /snapshots",
        "DELETE /snapshots/{id}",
        "POST /snapshots/{id}/restore",
    ),
    "nextPage": (
        "GET /machines",
        "GET /machine-events",
        "GET /os-templates",
        "GET /custom-templates",
        "GET /startup-scripts",
        "GET /private-networks",
        "GET /public-ips",
        "GET /shared-drives",
        "GET /snapshots",
    ),
}
"""Field -> the calls that tell it as null. What has not begun has not finished either."""
LEFT_OUT = {
    "POST /custom-templates": "images of one's own",
    "GET /custom-templates/{id}": "images of one's own",
    "PUT /custom-templates/{id}": "images of one's own",
    "DELETE /custom-templates/{id}": "images of one's own",
    "GET /machines/{id}/accessors": "other users of a machine",
    "POST /machines/{id}/accessors": "other users of a machine",
    "GET /machines/{id}/accessors/{userId}": "other users of a machine",
    "DELETE /machines/{id}/accessors/{userId}": "other users of a machine",
    "GET /machines/{id}/desktop": "of desktops with Windows",
    "PUT /private-networks/{id}": "a new name",
    "PUT /shared-drives/{id}": "a new name",
    "PUT /snapshots/{id}": "a new name",
}
"""What the emulator does not answer."""


def _deviations() -> dict[tuple[str, str], str]:
    rows = {
        (f"{call} 200", field): LAST if field == "nextPage" else NOT_YET
        for field, calls in OF_LIFE.items()
        for call in calls
    }
    begun = [call for call, field in rows if field == "dtStarted"]
    return rows | {(call, "dtFinished"): NOT_YET for call in begun}


@pytest.fixture(scope="module")
def told() -> Document:
    return Document(openapi_of(vendor_text("paperspace/openapi-v1-trimmed.d.ts")))


@pytest.fixture
def ask(served: Served, told: Document) -> Conversation:
    return Conversation(served, told, "/paperspace/v1", HEADERS)


async def _machine(ask: Conversation, served: Served) -> str:
    """One that is ready."""
    made = await ask("POST", "/machines", ORDER)
    await ask("GET", f"/machine-events/{made['event']['id']}")
    await served.advance(9)
    return f"/machines/{made['data']['id']}"


async def test_every_answer_is_as_the_types_say_but_for_the_named_deviations(
    served: Served, told: Document, ask: Conversation
) -> None:
    for path in ("/health", "/auth/session", "/billing/account-standing", "/custom-templates"):
        await ask("GET", path)
    assert len((await ask("GET", "/os-templates?orderBy=name&order=asc&limit=2"))["items"]) == 2
    await ask("GET", "/os-templates")
    machine = await _machine(ask, served)
    id_ = machine.rpartition("/")[2]
    assert (await ask("GET", machine))["state"] == "ready"
    await ask("PUT", machine, {"name": "job-2", "autoShutdownEnabled": False})
    await ask("GET", f"/machine-events?machineId={id_}")
    await ask("PATCH", f"{machine}/restart", {})
    await served.advance(9)
    await ask("PATCH", f"{machine}/stop", {})
    await served.advance(9)
    await ask("PUT", machine, {"diskSize": 250})
    await served.advance(9)
    await _scripts(ask, id_)
    await _things(ask, id_)
    await ask("PATCH", f"{machine}/start", {})
    await ask("GET", "/machine-events")
    assert len((await ask("GET", "/machines?machineType=H100"))["items"]) == 1
    ended = await ask("DELETE", machine)
    assert ended["data"]["dtDeleted"] is not None
    ask.agrees_but_for(_deviations())
    assert ask.succeeded == told.calls() - LEFT_OUT.keys()


async def _scripts(ask: Conversation, machine: str) -> None:
    body = {"name": "s", "script": "date", "isRunOnce": True}
    one = f"/startup-scripts/{(await ask('POST', '/startup-scripts', body))['id']}"
    await ask("GET", "/startup-scripts")
    await ask("GET", one)
    await ask("PUT", one, {"isRunOnce": False})
    for verb in ("assign", "unassign"):
        await ask("POST", f"{one}/{verb}", {"machineId": machine})
    await ask("DELETE", one)


async def _things(ask: Conversation, machine: str) -> None:
    network = (await ask("POST", "/private-networks", {"name": "n", "region": REGION}))["id"]
    wanted = {"name": "d", "size": 50, "networkId": network, "region": REGION}
    drive = (await ask("POST", "/shared-drives", wanted))["id"]
    wanted = {"machineId": machine, "name": "s"}
    snapshot = (await ask("POST", "/snapshots", wanted))["data"]["id"]
    ip = (await ask("POST", "/public-ips", {"region": REGION}))["ip"]
    await ask("PUT", f"/public-ips/{ip}", {"machineId": machine})
    for path in ("/private-networks", "/shared-drives", "/snapshots", "/public-ips"):
        assert len((await ask("GET", path))["items"]) == 1
    await ask("PUT", f"/public-ips/{ip}", {"machineId": None})
    await ask("POST", f"/snapshots/{snapshot}/restore", {})
    await ask("DELETE", f"/public-ips/{ip}")
    for path in (
        f"/snapshots/{snapshot}",
        f"/shared-drives/{drive}",
        f"/private-networks/{network}",
    ):
        await ask("GET", path)
        await ask("DELETE", path)


async def test_every_refusal_is_as_the_types_say_but_for_the_named_deviations(
    ask: Conversation,
) -> None:
    """Code and message, whatever it is; and what the types know of an order is taken."""
    await ask("POST", "/machines", ORDER | {"surprise": 1})
    await ask("GET", "/machines?limit=1000")
    for kind in ("no_capacity", "quota"):
        await ask.fault("create", kind)
        await ask("POST", "/machines", ORDER)
    for kind in ("rate_limit", "server_error", "bad_credentials"):
        await ask.fault("list", kind)
        await ask("GET", "/machines")
    await ask("PATCH", "/machines/ps0/start")
    await ask("GET", "/machines/ps0")
    ask.headers.pop("authorization")
    assert await ask("GET", "/auth/session") is None
    await ask("GET", "/machines")
    rows = {(f"{call} 400", ""): ISSUES for call in ("POST /machines", "GET /machines")}
    ask.agrees_but_for(rows)


def test_the_types_know_the_orders_that_are_sent_here(told: Document) -> None:
    body = told.raw["paths"]["/machines"]["post"]["requestBody"]["content"]["application/json"]
    assert list(told.faults(body["schema"], ORDER)) == []
    wrong = [field for field, _ in told.faults(body["schema"], ORDER | {"diskSize": "100"})]
    assert wrong == ["diskSize"]


def test_a_field_that_the_types_do_not_know_is_found(told: Document) -> None:
    body = {"id": "n1", "shoe_size": 43}
    ((_, wrong),) = told.faults_of_answer("DELETE", "/private-networks/n1", 200, body)
    assert "shoe_size" in wrong
    body = {"code": "NOT_FOUND"}
    ((_, wrong),) = told.faults_of_answer("DELETE", "/private-networks/n1", 404, body)
    assert "message" in wrong
