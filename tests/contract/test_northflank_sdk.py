"""Northflank's unmodified library for Python, version 2.1.0, on the emulator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

if TYPE_CHECKING:
    from tests.contract.conftest import Judge
    from tests.sandbox.conftest import Served

pytestmark = [pytest.mark.judge, pytest.mark.slow]
ROOT = "/northflank"
SERVICES = "/v1/projects/broker-us-central/services"
RECORDED: list[dict[str, Any]] = json.loads(
    (Path(__file__).with_name("data") / "northflank_requests.json").read_text()
)
_CLIENT = """
import json
from northflank import ApiClient
from northflank.errors import ApiCallError
client = ApiClient()
def answer(ask):
    try:
        told = ask()
    except ApiCallError as error:
        return [error.status, error.message]
    return getattr(told, "data", told)
def show(asks):
    print("=" + json.dumps([answer(ask) for ask in asks]))
"""


class Sdk:
    """The library, and the requests that it made."""

    def __init__(self, judge: Judge, served: Served) -> None:
        self.judge, self.served = judge, served
        self.key = served.sandbox.keys["northflank"]

    async def calls(self, *expressions: str, client: str = _CLIENT) -> list[Any]:
        """What each `client.EXPRESSION` returns, `[status, message]` where it raises.

        In one process: the library takes its time to be imported.
        """
        self.served.ear.heard.clear()
        told = ", ".join(f"lambda: client.{expression}" for expression in expressions)
        printed = await self.judge.code(f"{client}show([{told}])")
        rows: list[Any] = json.loads(printed.splitlines()[-1].removeprefix("="))
        return rows

    async def call(self, expression: str) -> Any:
        """Likewise, of one."""
        return (await self.calls(expression))[0]

    @property
    def asked(self) -> list[tuple[str, str, list[tuple[str, str]], Any]]:
        heard = self.served.ear.heard
        return [
            (
                h.method,
                h.path.removeprefix(ROOT),
                h.query,
                json.loads(h.body) if h.body else None,
            )
            for h in heard
        ]

    async def rest(
        self, method: str, path: str, body: Any = None, key: str = ""
    ) -> httpx2.Response:
        """A call without the library."""
        answer = await self.served.ask(method, f"{ROOT}{path}", body, key=key or self.key)
        assert answer.status_code < 300, answer.text
        return answer

    async def project(self, key: str = "") -> None:
        body = {"name": "broker us-central", "region": "us-central"}
        await self.rest("POST", "/v1/projects", body, key)

    async def plant(self, name: str, key: str = "", count: int = 1) -> None:
        gpu = {"enabled": True, "configuration": {"gpuType": "h100-80", "gpuCount": count}}
        external = {"imagePath": "pytorch/pytorch:x"}
        body = {
            "name": name,
            "billing": {"deploymentPlan": f"nf-gpu-h100-80-{count}g"},
            "deployment": {"instances": 1, "external": external, "gpu": gpu},
        }
        await self.rest("POST", f"{SERVICES}/deployment", body, key)


@pytest.fixture
def sdk(served: Served, northflank: Judge) -> Sdk:
    return Sdk(northflank, served)


def recorded(method: str, ending: str) -> dict[str, Any]:
    """The first recorded request of that kind."""
    return next(r for r in RECORDED if r["method"] == method and r["path"].endswith(ending))


async def test_it_reads_regions_plans_credit_and_whose_token_it_is(sdk: Sdk) -> None:
    regions, plans, auth, credit = await sdk.calls(
        "list.regions()", "list.plans()", "get.auth()", "get.credit_balance()"
    )
    assert [row[1] for row in sdk.asked] == [
        "/v1/regions", "/v1/plans", "/v1/auth", "/v1/billing/credit-balance"
    ]  # fmt: skip
    devices = {
        device["id"]: device
        for region in regions["regions"]
        if region["id"] == "us-central"
        for device in region["gpuDevices"]
    }
    assert devices["h100-80"]["pricing"] == {"onDemand": 274.0}
    assert devices["h100-80"]["countOptions"] == [1, 2, 4, 8]
    assert len(plans["plans"]) > 10
    assert (auth["entityType"], credit["total"]["available"]) == ("team", 1_000_000)


async def test_it_creates_pauses_resumes_and_deletes(sdk: Sdk) -> None:
    create = recorded("POST", "/services/deployment")
    _, project, made = await sdk.calls(
        recorded("POST", "/projects")["command"],
        "get.project(project_id='broker-us-central')",
        create["command"],
    )
    assert project["deployment"] == {"region": "us-central"}
    assert sdk.asked[-1] == ("POST", create["path"], [], create["body"])
    assert made["id"] == "broker-ab12"
    await sdk.served.advance(10)
    one = "project_id='broker-us-central', service_id='broker-ab12'"
    resume = f"resume.service({one}, data={{'instances': 1}})"
    ready, rows, _, paused, _, again = await sdk.calls(
        f"helpers.wait_for_service_ready({one})",
        f"get.service.containers({one})",
        f"pause.service({one})",
        f"get.service({one})",
        resume,
        resume,
    )
    assert ready["status"]["deployment"]["status"] == "COMPLETED"
    assert [row["status"] for row in rows["containers"]] == ["TASK_RUNNING"]
    assert (paused["servicePaused"], again[0]) == (True, 409)
    await sdk.served.advance(2 * 3600)
    shown, usage, _, missing, _ = await sdk.calls(
        f"get.service({one})",
        "list.usage()",
        f"delete.service({one}, delete_child_objects=True)",
        f"get.service({one})",
        "delete.project(project_id='broker-us-central')",
    )
    assert not shown["servicePaused"]
    assert sum(row["total"] for row in usage["usage"]) > 274
    assert sdk.asked[2][2] == [("delete_child_objects", "true")]
    assert missing[0] == 404
    assert [row["billed"] for row in await sdk.served.control("GET", "machines")] == [False]


async def test_it_lists_its_own_services_in_their_states_and_no_others(sdk: Sdk) -> None:
    for key in ("", "somebody-else"):
        await sdk.project(key)
    await sdk.plant("keep")
    await sdk.plant("rest")
    await sdk.plant("foreign", key="somebody-else")
    await sdk.plant("waits", count=8)
    await sdk.served.advance(10)
    await sdk.rest("POST", f"{SERVICES}/rest/pause")
    one = "project_id='broker-us-central'"
    listed, foreign = await sdk.calls(
        f"list.services.all({one}, per_page=1)", f"delete.service({one}, service_id='foreign')"
    )
    told = {row["name"]: row["status"]["deployment"]["status"] for row in listed["services"]}
    assert told == {"keep": "COMPLETED", "rest": "COMPLETED", "waits": "IN_PROGRESS"}
    pages = [[name for name, _ in query] for method, _, query, _ in sdk.asked if method == "GET"]
    assert pages == [["per_page"], ["per_page", "cursor"], ["per_page", "cursor"]]
    assert foreign[0] == 404


async def test_refusals_reach_the_customer_as_the_librarys_errors(sdk: Sdk) -> None:
    await sdk.project()
    create = recorded("POST", "/services/deployment")["command"]
    kinds = ("quota", "rate_limit", "server_error")
    for kind in kinds:
        body = {"provider": "northflank", "operation": "create", "kind": kind, "times": 1}
        await sdk.served.control("POST", "faults", body)
    told = await sdk.calls(*[create] * 5)
    # Of the whole call before the handler's own.
    assert [row[0] for row in told[:3]] == [429, 500, 403]
    assert told[3]["name"] == "broker-ab12"
    assert told[4] == [409, "There is already a service with the same derived identifier"]
    stranger = _CLIENT.replace("ApiClient()", "ApiClient(api_token='invalid-key')", 1)
    (refused,) = await sdk.calls("get.auth()", client=stranger)
    assert refused[0] == 401


# --- replay of what the library was recorded to send --------------------------------------


def test_nothing_is_missing_from_the_recording() -> None:
    assert len(RECORDED) == len({row["command"] for row in RECORDED}) == 25


@pytest.mark.parametrize("with_team", [False, True])
async def test_the_library_sends_what_it_was_recorded_to_send(sdk: Sdk, with_team: bool) -> None:
    chosen = [row for row in RECORDED if ("team_id" in row["command"]) == with_team]
    if with_team:
        await sdk.project()
    told = await sdk.calls(*[row["command"] for row in chosen])
    refused = [row for row in told if isinstance(row, list) and row and row[0] in range(600)]
    assert refused == [], "one leads to the next"
    assert sdk.asked == [
        (row["method"], row["path"], [tuple(pair) for pair in row["query"]], row["body"])
        for row in chosen
    ]
