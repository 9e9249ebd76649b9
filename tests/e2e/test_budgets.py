"""Money in view: a budget against the sandbox's clouds, and the keeper telling a webhook."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.fleet.receivers import http

from gpubroker import Broker
from gpubroker.fleet.keeping import Keeper
from gpubroker.model.home import Home

Person = Any


def test_a_budget_refuses_stops_and_ends_and_a_webhook_hears_of_it(person: Person) -> None:
    machine = person.launch("--name", "first", "--project", "thesis", "--tag", "team=vision")
    assert (machine["project"], machine["tags"]) == ("thesis", {"team": "vision"})
    amount = str(round(machine["price_per_hour"] * 1.5, 4))
    person.json("budget", "set", "thesis", amount, "--project", "thesis", "--stop", "none")
    [budget] = person.json("budget", "list")["budgets"]
    assert budget["burn_per_hour"] > 0
    assert 0 < budget["committed"] <= budget["amount"]
    refused = person.run(
        "--json", "--sandbox", "launch", "--gpu", "RTX 4090", "--max-price", "1", "--ttl", "8h",
        "--project", "thesis", code=6,
    )  # fmt: skip
    error = json.loads(refused.stderr.splitlines()[-1])["error"]
    assert error["code"] == "budget_exceeded"
    assert 'budget "thesis" has $' in error["message"]
    assert len(person.billed()) == 1
    with http() as (url, heard):
        config = f'[notify.channels.ops]\nwebhook = "{url}"\nsecret_env = "S"\n'
        (person.state / "config.toml").write_text(config)
        person.json("budget", "set", "thesis", "0.01", "--project", "thesis", "--stop", "none")
        with person.time_flies():
            asyncio.run(_kept(person))
    assert person.billed() == []
    kinds = [json.loads(body)["kind"] for _, _, body in heard.requests]
    assert kinds == ["budget_warn", "budget_terminate"]
    [shown] = [one for one in person.json("ps")["warnings"] if one["kind"] == "budget_terminate"]
    assert "its machines are ended" in shown["text"]


async def _kept(person: Person) -> None:
    """As a keeper in another process would, until the machine is gone."""
    broker = Broker(
        home=Home(person.state),
        environ={**person.environ, "S": "sesame"},
        sandbox=person.status()["base_url"],
    )
    async with broker:
        fleet = broker._fleet()
        keeper = Keeper(fleet.context, fleet)
        await keeper.round()  # from here on the channel hears
        person.control("/_sandbox/clock", {"advance_s": 600})
        for _ in range(100):
            await keeper.round()
            if not broker.machines():
                break
            await fleet.context.clock.sleep(0.2)  # the sandbox's time is read again
        await keeper.round()
