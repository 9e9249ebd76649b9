"""An unmodified client of Lambda by others, lambda-ai-cloud-api-client 2.4.1, on the emulator."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.contract.conftest import Judge
    from tests.sandbox.conftest import Served

pytestmark = [pytest.mark.judge, pytest.mark.slow]
V1 = "/lambda_labs/api/v1"
PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAA me"
LAUNCH = ("POST", "/api/v1/instance-operations/launch")


class Lai:
    """The client's command line, and the requests it made."""

    def __init__(self, judge: Judge, served: Served) -> None:
        self.judge, self.served = judge, served

    async def __call__(self, words: str, *, ok: bool = True) -> str:
        """What `lai WORDS` prints. Time passes before it, so that no rate limit is met."""
        await self.served.advance(15)
        self.served.sandbox.requests.clear()
        return await self.judge(*shlex.split(words), ok=ok)

    async def json(self, words: str) -> Any:
        return json.loads(await self(f"{words} --json"))

    @property
    def requests(self) -> list[tuple[str, str]]:
        """Method and path of what the last command asked."""
        rows = self.served.sandbox.requests
        return [(row.method, row.path) for row in rows if row.provider == "lambda_labs"]


@pytest.fixture
def client(served: Served, lai: Judge) -> Lai:
    return Lai(lai, served)


async def planted(served: Served, key: str, name: str) -> str:
    """An instance of an account, launched without the client."""
    body = {"name": "mine", "public_key": PUBLIC}
    for path, sent in (
        ("/ssh-keys", body),
        (
            "/instance-operations/launch",
            {
                "region_name": "us-east-1",
                "instance_type_name": "gpu_1x_a10",
                "ssh_key_names": ["mine"],
                "name": name,
            },
        ),
    ):
        await served.advance(12)
        answer = await served.ask("POST", f"{V1}{path}", sent, key=key)
    return str(answer.json()["data"]["instance_ids"][0])


async def test_it_lists_types_launches_shows_and_ends(
    served: Served, client: Lai, tmp_path: Path
) -> None:
    own = served.sandbox.keys["lambda_labs"]
    first = await planted(served, own, "planted")
    await planted(served, "secret_somebody_else.token", "foreign")
    types = await client.json("types --available --gpu GH200")
    assert "gpu_1x_gh200" in json.dumps(types)
    assert client.requests == [("GET", "/api/v1/instance-types")]
    assert "mine" in await client("keys")
    data = tmp_path / "user-data"
    data.write_text("#!/bin/sh\necho hello\n")
    await client(
        "start --instance-type gpu_1x_gh200 --region us-east-3 --ssh-key mine --name fresh "
        f"--hostname head --tag owner=me --user-data-file {data}"
    )
    assert client.requests.count(LAUNCH) == 1
    machines = served.sandbox.clouds["lambda_labs"].machines
    (fresh,) = (machine for machine in machines.values() if machine.label == "fresh")
    assert (fresh.order.hostname, fresh.order.user_data) == ("head", data.read_bytes())
    assert fresh.wire["tags"] == [{"key": "owner", "value": "me"}]
    rows = await client.json("ls")
    shown = {row["id"]: (row["name"], row["status"], row["ip"]) for row in rows}
    assert shown == {
        first: ("planted", "active", machines[first].address),
        fresh.id: ("fresh", "active", fresh.address),
    }
    await client(f"rename {fresh.id} newer")
    assert fresh.label == "newer"
    await client(f"stop {fresh.id}")
    assert client.requests[-1] == ("POST", "/api/v1/instance-operations/terminate")
    assert fresh.ended
    assert not machines[first].ended


async def test_it_understands_a_refusal(served: Served, client: Lai) -> None:
    await planted(served, served.sandbox.keys["lambda_labs"], "planted")
    fault = {"provider": "lambda_labs", "operation": "create", "kind": "no_capacity", "times": 1}
    await served.control("POST", "faults", fault)
    words = "start --instance-type gpu_1x_a10 --region us-west-1 --ssh-key mine"
    printed = await client(words, ok=False)
    assert "capacity" in printed
    assert client.requests.count(LAUNCH) == 1
    assert len(served.sandbox.clouds["lambda_labs"].machines) == 1
