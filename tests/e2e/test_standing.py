"""Launches that go on after their first plan, with the real command line and the real sandbox."""

from __future__ import annotations

from typing import Any

Person = Any
SPOT = ("launch", "--gpu", "RTX 4090", "--spot", "--max-price", "1", "--ttl", "4h")


def test_nodes_are_had_together_and_ended_by_their_name(person: Person) -> None:
    told = person.launch("--name", "train", "--nodes", "2")
    assert [one["name"] for one in told["instances"]] == ["train-1", "train-2"]
    assert {one["phase"] for one in told["instances"]} == {"ready"}
    hosts = {(host["host"], host["port"]) for host in told["hosts"]}
    assert len(hosts) == 2
    assert len(person.billed()) == 2
    assert person.run("ssh", "train-2", "--", "echo", "here").stdout == "here\n"
    ended = person.json("terminate", "train", "--yes")["instances"]
    assert [one["state"] for one in ended] == ["terminated"] * 2
    assert person.billed() == []


def test_a_launch_waits_for_stock_and_the_next_command_goes_on_with_it(person: Person) -> None:
    waiting = person.json(
        *("launch", "--gpu", "RTX 4090", "--on-demand", "--max-price", "0.001"),
        *("--ttl", "1h", "--retry-for", "6h", "--no-wait", "--name", "later"),
    )
    assert (waiting["state"], waiting["attempts"]) == ("pending", [])
    assert waiting["next_try_at"] is not None
    assert "waiting for stock, next try in" in person.run("--sandbox", "ps").stdout
    person.control("/_sandbox/clock", {"advance_s": 120})
    [later] = person.json("ps")["instances"]
    assert later["next_try_at"] > waiting["next_try_at"]
    [ended] = person.json("terminate", "later", "--yes")["instances"]
    assert ended["state"] == "terminated"
    assert person.billed() == []


def test_a_bid_at_the_price_on_demand_is_refused(person: Person) -> None:
    refused = person.run("--json", "--sandbox", *SPOT, "--bid", "0.99", code=6)
    assert "bid_too_high" in refused.stderr
    assert person.billed() == []
