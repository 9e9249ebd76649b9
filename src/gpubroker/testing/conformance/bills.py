"""What a machine cost, by the cloud's own record."""

from __future__ import annotations

from datetime import timedelta

from gpubroker.model.bill import Bill
from gpubroker.model.terms import State
from gpubroker.testing.conformance.bench import Bench, Made
from gpubroker.testing.conformance.check import Chapter, none_of, require

_chapter = Chapter()
CHECKS = _chapter.checks
promise = _chapter.promise

USED_S, LASTS_S = 3 * 3600.0, 12 * 3600.0
_SAME = 0.02
_CENT = 10_000_000
FINAL_S = 2 * 86_400.0
"""Whatever lag is declared, by then a record is final."""


@promise("many", "truth")
async def a_bill_is_final_only_after_its_lag(bench: Bench) -> None:
    """A machine that runs has no final bill, nor one that just ended; later its amount is right."""
    can, made = bench.provider_class.capabilities, await _lasting(bench)
    machine = await bench.until(made, State.RUNNING)
    since = machine.created_at or bench.clock.now()
    await bench.clock.sleep(USED_S)
    running = await bench.provider.billing(made.ref, since, None)
    await bench.end(made)
    ended = bench.clock.now()
    first = await bench.provider.billing(made.ref, since, ended)
    await bench.clock.sleep(max(can.billing_lag_s, FINAL_S))
    last = await bench.provider.billing(made.ref, since, ended)
    told = {"while it runs": running, "at its end": first, "later": last}
    if can.billing == "manual":
        none_of(
            f"{when} it is {bill.status}, declared manual"
            for when, bill in told.items()
            if bill.status != "manual"
        )
        require(all(bill.amount is None for bill in told.values()), "an amount by hand")
        return
    require(running.status != "ended", "final while the machine runs")
    if can.billing_lag_s > 0:
        require(first.status != "ended", "final before the declared lag is over")
    if can.billing in {"exact", "daily"}:
        require(last.status == "ended", f"{last.status} when the lag is over: {last.evidence}")
        _as_charged(last, bench.charged(made.ref.id))
        none_of(
            f"line {line.item} ends before it starts"
            for line in last.lines
            if line.end < line.start
        )


async def _lasting(bench: Bench) -> Made:
    """A machine that does not expire while it is used."""
    return await bench.make(bench.spec(expires_at=bench.clock.now() + timedelta(seconds=LASTS_S)))


def _as_charged(bill: Bill, truth: int) -> None:
    amount = bill.amount or 0
    close = abs(amount - truth) <= max(_CENT, truth * _SAME)
    require(close, f"the bill says {amount}, the cloud charged {truth} nano-dollars")


@promise("many", "truth")
async def a_bill_is_of_one_machine(bench: Bench) -> None:
    """Of two machines that ran side by side each has its own bill."""
    can = bench.provider_class.capabilities
    if can.billing not in {"exact", "daily"}:
        return
    began = bench.clock.now() - timedelta(minutes=1)
    short, long = await _lasting(bench), await _lasting(bench)
    await bench.until(long, State.RUNNING)
    await bench.clock.sleep(USED_S)
    await bench.end(short)
    await bench.clock.sleep(USED_S)
    await bench.end(long)
    ended = bench.clock.now()
    await bench.clock.sleep(max(can.billing_lag_s, FINAL_S))
    for made in (short, long):
        bill = await bench.provider.billing(made.ref, began, ended)
        _as_charged(bill, bench.charged(made.ref.id))


@promise(applies=lambda provider: hasattr(provider, "balance"))
async def the_balance_is_money(bench: Bench) -> None:
    """`balance` is in nano-dollars."""
    from gpubroker.providers.base import HasBalance

    provider = bench.provider
    require(isinstance(provider, HasBalance), "no balance()")
    if isinstance(provider, HasBalance):
        amount = await provider.balance()
        require(type(amount) is int, f"{amount!r} is no integer")
