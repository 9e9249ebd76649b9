"""Real SIGKILL and SIGSTOP, of forked processes, at clouds that outlive them: nothing is left."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from gpubroker.providers.registry import ready
from gpubroker.testing.chaos.kills import (
    Row,
    at_every_boundary,
    at_random,
    killing,
    table,
    tallied,
)

CARRIERS: dict[str, tuple[str, dict[str, Any]]] = {
    "name": ("vast_ai", {}),
    "tag": ("lambda_labs", {}),
    "token": ("fake", {"carrier": "token", "create_deadline_s": 60.0, "list_lag_s": 30.0}),
    "unique_name": ("fake", {"carrier": "unique_name", "async_create": True}),
    "key_comment": ("fake", {"carrier": "key_comment", "terminate_s": 60.0, "list_lag_s": 30.0}),
}
"""Carrier -> a cloud that has it for its first: a real one where there is one."""
KILLS = math.ceil(200 / (2 * len(ready())))
"""Of each provider on each database, at random: 200 in all; with `scripts/test --long` 200 each."""


def assert_none_leaks(what: str, rows: list[Row]) -> None:
    print(f"\n{what}\n{table(tallied(rows))}")
    assert [row for row in rows if row.problems] == []


@pytest.mark.slow
@pytest.mark.parametrize("carrier", CARRIERS)
def test_killed_at_every_boundary(tmp_path: Path, carrier: str) -> None:
    provider, switches = CARRIERS[carrier]
    with killing(tmp_path, provider, switches=switches) as one:
        rows = list(at_every_boundary(one))
    assert_none_leaks(f"{provider}, found by its {carrier}, on SQLite", rows)
    assert any(row.existed for row in rows)
    assert any(row.unknown for row in rows)
    assert {row.end for row in rows} == {"running", "ended"}


@pytest.mark.slow
def test_killed_at_every_boundary_on_postgresql(tmp_path: Path, postgres: str) -> None:
    with killing(tmp_path, "lambda_labs", database=postgres) as one:
        rows = list(at_every_boundary(one))
    assert_none_leaks("lambda_labs, found by its tag, on PostgreSQL", rows)
    assert any(row.unknown for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("carrier", ["name", "token"])
def test_a_process_that_was_paused_while_another_took_over_doubles_nothing(
    tmp_path: Path, carrier: str
) -> None:
    provider, switches = CARRIERS[carrier]
    with killing(tmp_path, provider, switches=switches) as one:
        one.rehearsed()
        for boundary in ("intent committed", "sending committed", "created", "terminate next"):
            assert one.stopped_at(boundary) == [], boundary


@pytest.mark.slow
@pytest.mark.parametrize("provider", ready())
def test_killed_at_any_instant(tmp_path: Path, postgres: str, provider: str) -> None:
    for number, database in enumerate(("", postgres)):
        with killing(tmp_path / str(number), provider, database=database) as one:
            rows = list(at_random(one, KILLS, seed=number))
        assert_none_leaks(f"{provider} on {'PostgreSQL' if database else 'SQLite'}", rows)


@pytest.mark.slow
@pytest.mark.parametrize("carrier", ["name", "key_comment"])
def test_a_broker_that_does_not_look_up_fails_the_matrix(tmp_path: Path, carrier: str) -> None:
    provider, switches = CARRIERS[carrier]
    mutant = "without the look-up"
    with killing(tmp_path, provider, switches=switches, mutant=mutant) as one:
        marks, _ = one.rehearsed()
        number = next(n for n, (boundary, _) in enumerate(marks) if boundary == "created")
        row = one.killed_at(number, marks[number])
    assert row.existed == 1
    assert any("billed" in problem for problem in row.problems), row
