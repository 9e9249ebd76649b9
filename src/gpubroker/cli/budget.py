"""`budget`: limits on what may be spent, how far they are used, and when they will be used up."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

import click

from gpubroker.cli.session import Session
from gpubroker.cli.table import Column, table
from gpubroker.cli.words import NOTHING, clock_time, money, price

if TYPE_CHECKING:
    from gpubroker.broker import Broker
    from gpubroker.model.budget import Action, BudgetReport, Period, Rung

Answer = TypeVar("Answer")
COLUMNS = (
    Column("BUDGET"),
    Column("LIMIT", right=True),
    Column("OF"),
    Column("SPENT", right=True),
    Column("COMMITTED", right=True, drop=3),
    Column("LEFT", right=True),
    Column("BURN/H", right=True, drop=2),
    Column("USED UP", drop=1),
)
MACHINES = (
    Column("MACHINE"),
    Column("SPENT", right=True),
    Column("TO COME", right=True),
    Column("BURN/H", right=True),
)
PERIODS: dict[str, Period] = {
    "in all": "total",
    "total": "total",
    "a day": "day",
    "per day": "day",
    "a week": "week",
    "per week": "week",
    "a month": "month",
    "per month": "month",
}
_LIMIT = re.compile(
    r"\$?(?P<amount>\d+(?:\.\d+)?)(?: ?usd)?"
    rf"(?:,? (?P<period>{'|'.join(PERIODS)}))?(?:,? (?P<kind>hard|soft))?"
)


@click.group("budget", invoke_without_command=True)
@click.pass_context
def budget_command(ctx: click.Context) -> None:
    """Limit what may be spent: in all, or each day, week or month.

    A hard budget refuses launches that could exceed it, stops machines at 95 % and ends them at
    100 %. A soft one warns. Without a sub-command: list.
    """
    if ctx.invoked_subcommand is None:
        _list(ctx.obj)


@budget_command.command("set")
@click.argument("name")
@click.argument("limit", nargs=-1, required=True, metavar="AMOUNT…")
@click.option("--project", metavar="NAME", help="Only what this project spends.")
@click.option("--tag", metavar="K=V", help="Only what is launched with this tag.")
@click.option("--per", type=click.Choice(("day", "week", "month")), help="Else in all.")
@click.option("--hard/--soft", default=None, help="Hard unless told otherwise.")
@click.option("--warn", metavar="SHARE", help="Warn there: 80%, or none.")
@click.option(
    "--stop", metavar="SHARE", help="Stop machines there, where clouds can: 95%, or none."
)
@click.option("--terminate", metavar="SHARE", help="End machines there: 100%, or none.")
@click.pass_obj
def set_command(
    session: Session,
    /,
    name: str,
    limit: tuple[str, ...],
    project: str | None,
    tag: str | None,
    per: Period | None,
    hard: bool | None,
    warn: str | None,
    stop: str | None,
    terminate: str | None,
) -> None:
    """Set a budget, or change the one of that name.

    AMOUNT is in words: 50, "50 USD in all, hard", "20 USD a day", "300 a month, soft". Days, weeks
    and months are the calendar's, in UTC. In all counts from when the budget was first set.
    """
    from gpubroker.model.money import nanos

    amount, worded_period, worded_hard = limit_of(" ".join(limit))
    is_hard = hard if hard is not None else worded_hard
    rungs = ladder_of(is_hard, warn=warn, stop=stop, terminate=terminate)
    report = _ask(
        session,
        lambda broker: broker.set_budget(
            name,
            nanos(amount),
            period=per or worded_period,
            project=project,
            tag=tag,
            hard=is_hard,
            ladder=rungs,
        ),
    )
    _show(session, report)


@budget_command.command("list")
@click.pass_obj
def list_command(session: Session) -> None:
    """Every budget, how far it is used, and when it will be used up."""
    _list(session)


@budget_command.command("show")
@click.argument("name")
@click.pass_obj
def show_command(session: Session, name: str) -> None:
    """One budget, and each machine's part in it."""
    from gpubroker.fleet.budgets import UnknownBudget

    reports = {one.budget.name: one for one in _ask(session, lambda broker: broker.budgets())}
    if name not in reports:
        raise UnknownBudget(name, reports)
    _show(session, reports[name])


@budget_command.command("remove")
@click.argument("name")
@click.pass_obj
def remove_command(session: Session, name: str) -> None:
    """Forget a budget. What it stopped or ended stays so."""
    _ask(session, lambda broker: broker.remove_budget(name))
    session.show(
        lambda: {"name": name, "removed": True}, lambda: [f"{name} is no budget any more."]
    )


def limit_of(text: str) -> tuple[str, Period, bool]:
    """(amount, period, hard) of "50 USD in all, hard"."""
    plain = " ".join(text.lower().replace("/", " per ").split())
    match = _LIMIT.fullmatch(plain)
    if match is None:
        raise click.UsageError(
            f'"{text}" is no limit: write 50, "50 USD in all, hard" or "20 USD a day, soft"'
        )
    return match["amount"], PERIODS[match["period"] or "in all"], match["kind"] != "soft"


def ladder_of(hard: bool, **told: str | None) -> tuple[Rung, ...] | None:
    """The rungs that the flags make of the usual ladder; None where no flag was given."""
    from gpubroker.model.budget import LADDER, SOFT_LADDER, Rung

    if not any(told.values()):
        return None
    rungs = [rung for rung in (LADDER if hard else SOFT_LADDER) if not told.get(rung.do)]
    action: Action
    for action in ("warn", "stop", "terminate"):
        share = told.get(action)
        if share and share != "none":
            rungs.append(Rung(_share(share, action), action))
    return tuple(sorted(rungs, key=lambda rung: rung.at))


def _share(text: str, flag: str) -> float:
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise click.UsageError(f'--{flag} "{text}": expected 80%, 0.8 or none') from None


def _ask(session: Session, question: Callable[[Broker], Answer]) -> Answer:
    """A question that needs no cloud."""
    broker = session.broker(session.realm())
    try:
        return question(broker)
    finally:
        broker.close()


def _list(session: Session) -> None:
    reports = _ask(session, lambda broker: broker.budgets())
    from gpubroker import wire_budgets

    session.show(
        lambda: {"budgets": [wire_budgets.budget(one) for one in reports]},
        lambda: _screen(session, reports),
    )


def _screen(session: Session, reports: tuple[BudgetReport, ...]) -> Iterator[str]:
    if not reports:
        yield '  No budgets. To set one: gpubroker budget set thesis "50 USD in all, hard"'
        return
    now = session.now(session.realm())
    header, *rows = table(COLUMNS, [_row(one, now) for one in reports], session.width)
    yield session.styled(header, bold=True)
    yield from rows


def _row(report: BudgetReport, now: datetime) -> list[str]:
    return [
        report.budget.name,
        limit_words(report),
        whose(report),
        money(report.spent),
        "no end" if report.committed is None else money(report.committed),
        money(report.left),
        price(report.burn),
        forecast(report, now),
    ]


def _show(session: Session, report: BudgetReport) -> None:
    from gpubroker import wire_budgets

    now = session.now(session.realm())
    session.show(lambda: wire_budgets.budget(report), lambda: _details(report, now, session.width))


def _details(report: BudgetReport, now: datetime, width: int | None) -> Iterator[str]:
    budget = report.budget
    committed = (
        "no end: something runs without an expiry"
        if report.committed is None
        else money(report.committed)
    )
    until = "" if report.until is None else f" until {clock_time(report.until, now)}"
    rungs = ", ".join(f"{rung.do} at {rung.at:.0%}" for rung in budget.ladder)
    told = {
        "limit": f"{limit_words(report)}, {'hard' if budget.hard else 'soft'}",
        "of": whose(report),
        "counts": f"from {clock_time(report.since, now)}{until}",
        "spent": f"{money(report.spent)} ({report.spent / budget.amount:.0%})",
        "committed": committed,
        "left": money(report.left),
        "burn": f"{price(report.burn)}/h",
        "used up": forecast(report, now),
        "rungs": rungs or "none",
        "reached": report.reached.do if report.reached else "",
    }
    yield budget.name
    yield from (f"  {label:<9} {text}" for label, text in told.items() if text)
    if report.shares:
        yield from table(
            MACHINES,
            [
                [
                    one.name,
                    money(one.spent),
                    "no end" if one.to_come is None else money(one.to_come),
                    price(one.burn),
                ]
                for one in report.shares
            ],
            width,
        )


def limit_words(report: BudgetReport) -> str:
    """$50.00 in all, $20.00 a day."""
    period = report.budget.period
    return f"{money(report.budget.amount)} {'in all' if period == 'total' else f'a {period}'}"


def whose(report: BudgetReport) -> str:
    """Project, tag or all."""
    budget = report.budget
    return "all" if budget.scope == "all" else f"{budget.scope} {budget.value}"


def forecast(report: BudgetReport, now: datetime) -> str:
    """When it is used up at the present burn."""
    if report.used_up_at is None:
        return NOTHING if not report.burn else "not in this period"
    if report.used_up_at <= now:
        return "used up"
    return clock_time(report.used_up_at, now)
