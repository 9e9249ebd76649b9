"""Budgets, warnings and channels as JSON: names that clients rely on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpubroker.model.money import usd
from gpubroker.wire import Json, dollars, rfc3339

if TYPE_CHECKING:
    from gpubroker.model.budget import BudgetReport, BudgetShare
    from gpubroker.model.notices import ChannelReport, Warned


def budget(report: BudgetReport) -> Json:
    """A budget in its present period. `committed` null: something runs without an expiry."""
    told = report.budget
    return {
        "name": told.name,
        "amount": usd(told.amount),
        "period": told.period,
        "scope": told.scope,
        "value": told.value,
        "hard": told.hard,
        "ladder": [{"at": rung.at, "do": rung.do} for rung in told.ladder],
        "created_at": rfc3339(told.created_at),
        "since": rfc3339(report.since),
        "until": rfc3339(report.until),
        "spent": usd(report.spent),
        "committed": dollars(report.committed),
        "left": usd(report.left),
        "burn_per_hour": usd(report.burn),
        "used_up_at": rfc3339(report.used_up_at),
        "reached": None if report.reached is None else report.reached.do,
        "machines": [_share(one) for one in report.shares],
    }


def _share(share: BudgetShare) -> Json:
    return {
        "launch_id": share.launch_id,
        "name": share.name,
        "spent": usd(share.spent),
        "to_come": dollars(share.to_come),
        "burn_per_hour": usd(share.burn),
    }


def warning(told: Warned) -> Json:
    """A warning of the history."""
    return {
        "id": told.id,
        "at": rfc3339(told.at),
        "kind": told.kind,
        "severity": told.severity,
        "name": told.name,
        "launch_id": told.launch_id,
        "text": told.text,
    }


def channel(report: ChannelReport) -> Json:
    """A channel of the configuration; never its secret."""
    return {
        "name": report.name,
        "to": report.to,
        "kinds": list(report.kinds),
        "sent": report.sent,
        "waiting": report.waiting,
        "undelivered": report.undelivered,
        "last_error": report.last_error,
        "problem": report.problem,
    }
