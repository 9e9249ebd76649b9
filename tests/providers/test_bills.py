"""When a record of charges is a final bill."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec import Struct

from gpubroker.model.bill import BillLine
from gpubroker.model.identity import Ref
from gpubroker.providers.bills import bill_of, bill_to_look_up

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
END = START + timedelta(hours=2)
LAG_S = 3600.0


class Charge(Struct):
    amount: float
    hours: float = 1.0

    def lines(self) -> tuple[BillLine, ...]:
        from gpubroker.providers.fields import signed_nanos

        until = START + timedelta(hours=self.hours)
        return (BillLine("gpu", signed_nanos(self.amount), START, until),)


@pytest.mark.parametrize(
    ("until", "later_s", "complete", "status"),
    [
        (None, 0, True, "running"),
        (END, 0, True, "pending"),
        (END, LAG_S - 1, True, "pending"),
        (END, LAG_S, True, "ended"),
        (END, LAG_S, False, "pending"),
    ],
)
def test_it_is_final_only_so_long_after_the_end_and_where_all_was_read(
    until: datetime | None, later_s: float, complete: bool, status: str
) -> None:
    bill = bill_of(
        [Charge(1.5), Charge(-0.25, hours=2)],
        until=until,
        now=END + timedelta(seconds=later_s),
        lag_s=LAG_S,
        complete=complete,
        evidence="machine 1",
    )
    assert (bill.status, bill.amount, bill.complete_until) == (status, 1_250_000_000, END)
    assert [line.amount for line in bill.lines] == [1_500_000_000, -250_000_000]
    assert bill.evidence.startswith("machine 1")


def test_no_charge_is_no_amount_before_the_record_is_final() -> None:
    def amount(now: datetime) -> int | None:
        return bill_of([], until=END, now=now, lag_s=LAG_S, complete=True, evidence="").amount

    assert amount(END) is None
    assert amount(END + timedelta(hours=1)) == 0


@pytest.mark.parametrize(("until", "end"), [(END, "2026-03-01 14:00"), (None, "now")])
def test_without_a_record_a_person_is_told_where_to_look(until: datetime | None, end: str) -> None:
    ref = Ref("acme", "work", "", "m-1")
    bill = bill_to_look_up("https://acme.invalid/usage", ref, START, until)
    assert (bill.status, bill.amount) == ("manual", None)
    assert bill.evidence == (
        f"https://acme.invalid/usage: instance m-1, 2026-03-01 12:00 to {end} UTC"
    )
