"""SaladCloud's unmodified library for Python, version 0.9.0a17, on the emulator."""

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
API = "/salad/api/public"
GROUPS = "/organizations/acme-org/projects/default/containers"
CARD = "ed563892-aacd-40f5-80b7-90c9be6c759b"
INVENTED = "11111111-2222-4333-8444-555555555555"
"""The instance of the recording."""
RECORDED = Path(__file__).with_name("data") / "salad_requests.json"
_CLIENT = """
import json, os
from salad_cloud_sdk import SaladCloudSdk
from salad_cloud_sdk.models import *
from salad_cloud_sdk.net.transport.api_error import ApiError
client = SaladCloudSdk(
    api_key=os.environ["SALAD_API_KEY"], base_url=os.environ["SALAD_BASE_URL"], timeout=10000,
)
"""


class Sdk:
    """The library, and the requests that it made."""

    def __init__(self, judge: Judge, served: Served) -> None:
        self.judge, self.served = judge, served
        self.key = served.sandbox.keys["salad"]

    async def call(self, expression: str) -> Any:
        """What `client.EXPRESSION` returns."""
        self.served.ear.heard.clear()
        shown = "lambda thing: getattr(thing, '__dict__', str(thing))"
        text = f"{_CLIENT}print('=' + json.dumps(client.{expression}, default={shown}))"
        return json.loads((await self.judge.code(text)).splitlines()[-1].removeprefix("="))

    async def failing(self, expression: str, client: str = _CLIENT) -> int:
        """Status of the error that `client.EXPRESSION` raises."""
        text = f"{client}try: client.{expression}\nexcept ApiError as error: print(error.status)"
        return int((await self.judge.code(text)).splitlines()[-1])

    @property
    def asked(self) -> list[tuple[str, str, Any]]:
        heard = self.served.ear.heard
        return [
            (h.method, h.path.removeprefix(API), json.loads(h.body) if h.body else None)
            for h in heard
        ]

    async def rest(
        self, method: str, path: str, body: Any = None, key: str = "", **more: Any
    ) -> httpx2.Response:
        """A call without the library."""
        headers = {"Salad-Api-Key": key or self.key} | more.pop("headers", {})
        if body is not None:
            more["json"] = body
        answer = await self.served.http.request(method, f"{API}{path}", headers=headers, **more)
        assert answer.status_code < 300, answer.text
        return answer

    async def plant(self, name: str, key: str = "", **more: Any) -> None:
        resources = {"cpu": 4, "memory": 8192, "gpu_classes": [CARD]}
        body = {
            "name": name,
            "replicas": 1,
            "autostart_policy": True,
            "restart_policy": "always",
            "container": {"image": "ubuntu:24.04", "resources": resources},
            **more,
        }
        await self.rest("POST", GROUPS, body, key)


@pytest.fixture
def sdk(served: Served, salad: Judge) -> Sdk:
    return Sdk(salad, served)


async def test_it_reads_classes_availability_and_quotas(sdk: Sdk) -> None:
    classes = await sdk.call("organization_data.list_gpu_classes('acme-org')")
    assert sdk.asked == [("GET", "/organizations/acme-org/gpu-classes", None)]
    rows = {row["name"]: row for row in classes["items"]}
    prices = {one["priority"]: one["price"] for one in rows["RTX 4090 (24 GB)"]["prices"]}
    assert prices == {"high": "0.300", "medium": "0.250", "low": "0.200", "batch": "0.160"}
    assert rows["H100 (80 GB)"]["gpu_count"] == 8
    asked = f"GpuAvailabilityPrototype(gpu_classes=[{CARD!r}])"
    free = await sdk.call(
        f"organizations.get_gpu_availability(organization_name='acme-org', request_body={asked})"
    )
    assert free["available_gpu_high"] == 15
    quotas = await sdk.call("quotas.get_quotas('acme-org')")
    assert quotas["container_groups_quotas"]["container_replicas_quota"] == 500


async def test_it_creates_stops_starts_and_deletes(sdk: Sdk) -> None:
    recorded = json.loads(RECORDED.read_text())
    create = next(row for row in recorded if ".create_container_group(" in row["command"])
    made = await sdk.call(create["command"])
    assert sdk.asked == [("POST", create["path"], create["body"])]
    assert made["current_state"]["status"] == "pending"
    assert made["networking"]["dns"].endswith(".salad.cloud")
    await sdk.served.advance(10)
    one = "'acme-org', project_name='default', container_group_name='broker-ab12'"
    shown = await sdk.call(f"container_groups.get_container_group({one})")
    assert shown["current_state"]["status"] == "running"
    (instance,) = (await sdk.call(f"container_groups.list_container_group_instances({one})"))[
        "instances"
    ]
    assert (instance["state"], instance["ready"]) == ("running", True)
    (spec,) = sdk.served.host.running.values()
    assert (spec.command, spec.env["A"]) == ("sleep infinity", "1")
    events = (await sdk.call(f"system_logs.get_system_logs({one})"))["items"]
    assert events[0]["event_name"] == "Instance Running"
    for what, status in (("stop", "stopped"), ("start", "running")):
        await sdk.call(f"container_groups.{what}_container_group({one})")
        assert sdk.asked == [("POST", f"{GROUPS}/broker-ab12/{what}", {})]
        await sdk.served.advance(10)
        shown = await sdk.call(f"container_groups.get_container_group({one})")
        assert shown["current_state"]["status"] == status
    await sdk.call(f"container_groups.delete_container_group({one})")
    await sdk.served.advance(10)
    assert await sdk.failing(f"container_groups.get_container_group({one})") == 404
    assert [row["billed"] for row in await sdk.served.control("GET", "machines")] == [False]


async def test_it_lists_its_own_groups_in_their_states_and_no_others(sdk: Sdk) -> None:
    await sdk.plant("keep")
    await sdk.plant("rest", autostart_policy=False)
    await sdk.plant("waits", country_codes=["aq"])
    await sdk.plant("foreign", key="somebody-else")
    await sdk.served.advance(10)
    rows = (await sdk.call("container_groups.list_container_groups('acme-org','default')"))["items"]
    assert sdk.asked == [("GET", GROUPS, None)]
    told = {row["name"]: row["current_state"]["status"] for row in rows}
    assert told == {"keep": "running", "rest": "stopped", "waits": "deploying"}
    foreign = "'acme-org','default','foreign'"
    assert await sdk.failing(f"container_groups.delete_container_group({foreign})") == 404


async def test_refusals_reach_the_customer_with_their_status(sdk: Sdk) -> None:
    list_all = "container_groups.list_container_groups('acme-org','default')"
    for kind, status in (("rate_limit", 429), ("bad_credentials", 401)):
        body = {"provider": "salad", "operation": "list", "kind": kind, "times": 1}
        await sdk.served.control("POST", "faults", body)
        assert await sdk.failing(list_all) == status
    stranger = _CLIENT.replace('os.environ["SALAD_API_KEY"]', '"invalid-key"')
    assert await sdk.failing(list_all, stranger) == 401
    await sdk.plant("broker-ab12")
    recorded = json.loads(RECORDED.read_text())
    create = next(row for row in recorded if ".create_container_group(" in row["command"])
    assert await sdk.failing(create["command"]) == 400, "the name is taken"


# --- replay of what the library was recorded to send --------------------------------------


async def _stand_in(sdk: Sdk, command: str) -> str:
    """What the recording's invented instance is here, in the state that the command needs."""
    await sdk.served.control("POST", "reset")
    if ".create_container_group(" in command:
        return INVENTED
    await sdk.plant("broker-ab12")
    await sdk.served.advance(10)
    rows = (await sdk.rest("GET", f"{GROUPS}/broker-ab12/instances")).json()["instances"]
    return str(rows[0]["id"])


def test_nothing_is_missing_from_the_recording() -> None:
    rows = json.loads(RECORDED.read_text())
    assert len(rows) == len({row["command"] for row in rows}) == 18


@pytest.mark.parametrize(
    "row", json.loads(RECORDED.read_text()), ids=lambda row: row["command"][:60]
)
async def test_the_library_sends_what_it_was_recorded_to_send(
    sdk: Sdk, row: dict[str, Any]
) -> None:
    real = await _stand_in(sdk, row["command"])
    await sdk.call(re.sub(INVENTED, real, row["command"]))
    path = re.sub(INVENTED, real, row["path"])
    assert sdk.asked == [(row["method"], path, row["body"])]
