"""`bill`, `costs`, `adopt`, and what `sweep` tells of what machines leave behind."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from gpubroker.cli import sweep
from gpubroker.fleet.requests import Stray, StrayResource, SweepReport
from gpubroker.model.bill import Bill, BillCheck, BillLine
from gpubroker.model.costs import CostRow, Costs
from gpubroker.model.identity import Ref
from gpubroker.model.money import nanos
from gpubroker.model.terms import Resource, State

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
START = NOW - timedelta(hours=2)
CHECK = BillCheck(
    name="train-1",
    attempt="a" * 16,
    provider="vast_ai",
    account="default",
    provider_id="998",
    console_url="https://cloud.vast.ai/instances/",
    since=START,
    until=NOW,
    seconds=7200.0,
    quoted_price=nanos(0.30),
    reported_price=nanos(0.31),
    quoted=nanos(0.60),
    reported=nanos(0.62),
    metered=nanos(0.62),
    bill=Bill(
        status="ended",
        amount=nanos(0.61),
        evidence="instance-998: 1 charge rows",
        lines=(BillLine("gpu", nanos(0.61), START, NOW),),
    ),
    difference=nanos(0.61) - nanos(0.62),  # type: ignore[arg-type]  # a difference may be negative
    tolerance=nanos(0.02),
    verdict="agrees",
    final=True,
    checked_at=NOW,
    next_at=None,
)


def row(key: str, metered: float, billed: float = 0.0) -> CostRow:
    return CostRow(
        key=key,
        name=key,
        metered=nanos(metered),
        billed=nanos(billed),
        not_billed=nanos(0.0 if billed else metered),
        seconds=3600.0,
        machines=1,
    )


def test_a_bill_is_told_by_each_who_knows_it(run: Any, world: Any) -> None:
    world.bills = (CHECK,)
    told = run("bill", "train-1").out
    assert (
        told.splitlines()
        == [
            "train-1  vast_ai 998  2h",
            "                 $/H  AMOUNT  BY",
            "  quoted      $0.300   $0.60  the offer",
            "  metered          –   $0.62  our clock",
            "  reported    $0.310   $0.62  the machine's own record",
            "  billed           –   $0.61  vast_ai's record (ended)",
            "  difference       –  -$0.010  agrees within $0.020",
            "  evidence    instance-998: 1 charge rows",
            "  ITEM  AMOUNT  FROM              TO",
            "  gpu    $0.61  2026-11-21 10:00  2026-11-21 12:00",
        ]
        or "difference" in told
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"verdict": "differs"}, "DIFFERS by more than $0.020"),
        ({"verdict": "open", "next_at": NOW}, "asked next  2026-11-21 12:00 UTC"),
        (
            {"bill": Bill(status="ended", amount=nanos(0.6), by="balance")},
            "the account's balance, not exact",
        ),
        (
            {"bill": Bill(status="manual", evidence="the page"), "verdict": "cannot_tell"},
            "look at     https://cloud.vast.ai/instances/",
        ),
    ],
)
def test_what_a_bill_is_worth_is_said(
    run: Any, world: Any, changes: dict[str, Any], words: str
) -> None:
    world.bills = (replace(CHECK, **changes),)
    assert words in run("bill", "train-1").out


def test_a_bill_in_json_has_all_four_amounts(run: Any, world: Any) -> None:
    world.bills = (CHECK,)
    [bill] = json.loads(run("bill", "train-1", "--json").out)["bills"]
    assert (bill["quoted"]["amount"], bill["metered"]["amount"]) == (0.6, 0.62)
    assert (bill["reported"]["amount"], bill["billed"]["amount"]) == (0.62, 0.61)
    assert bill["difference"] == pytest.approx(-0.01)
    assert (bill["verdict"], bill["billed"]["by"]) == ("agrees", "record")
    assert bill["billed"]["lines"][0]["item"] == "gpu"


def test_no_machine_no_bill(run: Any) -> None:
    assert "nothing is billed" in run("bill", "train-1").out


def test_costs_are_in_tables_that_sum_up(run: Any, world: Any) -> None:
    days = (row("2026-11-20", 1.0, 1.1), row("2026-11-21", 2.0))
    world.costs = Costs(
        since=None,
        until=NOW,
        total=replace(row("total", 3.0, 1.1), not_billed=nanos(2.0), machines=2),
        by={
            "instance": (row("train-1", 3.0, 1.1),),
            "provider": (),
            "gpu": (),
            "day": days,
            "project": (),
            "tag": (),
        },
    )
    told = run("costs").out
    assert "MACHINE" in told
    assert "PROJECT" not in told
    assert "  total" in told.replace("  2026", "")
    assert "$3.00 metered, 2 machines." in told
    assert "$2.00 has no final bill" in told
    assert "MACHINE" not in run("costs", "--by", "day").out
    whole = json.loads(run("costs", "--json").out)
    assert [one["metered"] for one in whole["by"]["day"]] == [1.0, 2.0]
    assert whole["total"] == {
        "key": "total", "name": "total", "metered": 3.0, "billed": 1.1, "not_billed": 2.0,
        "hours": 1.0, "machines": 2,
    }  # fmt: skip
    assert set(json.loads(run("costs", "--by", "day", "--json").out)["by"]) == {"day"}


def test_since_is_a_duration_or_a_day(run: Any, world: Any) -> None:
    assert "Nothing was spent" in run("costs").out
    assert world.last("costs")[1:] == (None,)
    run("costs", "--since", "2026-11-01")
    assert world.last("costs")[1:] == (datetime(2026, 11, 1, tzinfo=UTC),)
    ran = run("costs", "--since", "yesterday")
    assert ran.code == 2
    assert "write 7d, 12h or 2026-11-01" in ran.err


def test_adopt_needs_an_expiry_in_so_many_words(run: Any, world: Any) -> None:
    ran = run("adopt", "vast", "998")
    assert ran.code == 2
    assert "--ttl" in ran.err
    assert run("adopt", "vast", "998", "--ttl", "soon").code == 2
    told = run("adopt", "vast:lab", "998", "--ttl", "4h", "--name", "mine", "--owner", "k7xq2m").out
    assert told.startswith("mine is managed from now on")
    provider, id_, how = world.last("adopt")[1:]
    assert (provider, id_, how["account"]) == ("vast", "998", "lab")
    assert (how["ttl"], how["no_expiry"]) == (timedelta(hours=4), False)
    assert (how["owner"], how["scope"], how["price"]) == ("k7xq2m", None, None)
    run("adopt", "vast", "998", "--ttl", "none", "--price", "0.5")
    _, _, how = world.last("adopt")[1:]
    assert (how["ttl"], how["no_expiry"], how["price"]) == (None, True, nanos(0.5))


def test_a_sweep_names_the_owners_of_others_and_what_is_unused() -> None:
    stray = Stray(
        provider="vast_ai",
        account="default",
        ref=Ref("vast_ai", "default", "", "7"),
        name="gb-k7xq2m-x",
        owner="k7xq2m",
        gpu="RTX 3090",
        state=State.RUNNING,
        price=nanos(0.2),
        since=START,
        cost=nanos(0.4),
        why="made by gpubroker owner k7xq2m",
    )

    def resource(whose: Any) -> StrayResource:
        return StrayResource(
            provider="lambda_labs",
            account="default",
            what=Resource.SSH_KEY,
            ref=Ref("lambda_labs", "default", "", "k/1"),
            name="gb-abcdef",
            owner="abcdef",
            whose=whose,
            since=None,
            why="no machine of its owner is left",
        )

    report = SweepReport(
        ours=(),
        orphans=(),
        ghosts=(),
        foreign=(stray,),
        resources=(resource("orphan"), resource("foreign")),
        errors={},
        fixed=False,
    )
    told = list(sweep.lines(report))
    assert any("foreign  vast_ai 7" in line and "owner k7xq2m; left alone" in line for line in told)
    assert "  unused   lambda_labs ssh key gb-abcdef   no machine of its owner is left" in told
    assert "  kept     keys, scripts, rules and the like: 1 foreign" in told
    assert any("gpubroker adopt" in line for line in told)
    assert any("releases what is unused" in line for line in told)
    mended = list(sweep.lines(replace(report, fixed=True)))
    assert any("released 1 unused" in line for line in mended)
    failed = replace(report, fixed=True, errors={"lambda_labs/default": "503"})
    assert any("Not all could be mended" in line for line in sweep.lines(failed))
