"""What people are warned of: one table of kinds, and where warnings can be sent.

An event of the history whose kind stands in KINDS is a warning. `sentence` puts it in words, the
same for `ps`, a webhook and a mail.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from gpubroker.model.durations import short_span
from gpubroker.model.money import usd

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")
"""Rising."""


class Kind(Struct, frozen=True):
    """One kind of warning."""

    severity: Severity
    sentence: str
    """With fields of the event's data; `name` is the machine's."""
    outlives: bool = False
    """`ps` shows it though its machine has ended meanwhile."""


KINDS: Mapping[str, Kind] = {
    "budget_warn": Kind(
        "warning", 'budget "{budget}": {spent:money} of {amount:money} is spent ({share:share})'
    ),
    "budget_stop": Kind(
        "critical",
        'budget "{budget}": {spent:money} of {amount:money} is spent; its machines are stopped '
        "where their clouds can",
    ),
    "budget_terminate": Kind(
        "critical",
        'budget "{budget}" is used up ({spent:money} of {amount:money}); its machines are ended',
    ),
    "expiring": Kind("warning", "{name} ends in {seconds:span}, unless it is extended"),
    "idle": Kind(
        "warning",
        "{name} does nothing since {idle:span}; it ends in {seconds:span} unless it is used",
    ),
    "preempted": Kind("warning", "{name} was taken away by its cloud: {reason}"),
    "replacing": Kind(
        "warning", "{name} was taken away by {provider} ({reason}) and is being replaced"
    ),
    "given_up": Kind(
        "warning", "{name} was taken away by {provider} ({reason}) and is ended", outlives=True
    ),
    "ignored_field": Kind("warning", "{name} at {provider} is not as asked: {what}"),
    "lost": Kind(
        "warning",
        "{name} is gone at {provider} ({provider_id}); gpubroker did not end it",
        outlives=True,
    ),
    "never_seen": Kind(
        "critical",
        "{provider} said that it made {provider_id} for {name}, and never showed it: look whether "
        "another account of yours has it, {console_url}",
        outlives=True,
    ),
    "bill_differs": Kind(
        "warning",
        "{name}: {provider} billed {billed:money}, {metered:money} were metered",
        outlives=True,
    ),
    "orphan_found": Kind(
        "critical",
        "{provider} bills a machine that nothing wants: {id} ({gpu}, {price:price}/h), {why}. "
        "gpubroker sweep --fix ends it",
    ),
    "owed_end": Kind(
        "warning",
        "{name}: {provider} bills {id} ({gpu}, {price:price}/h), which nothing wants ({why}); "
        "it is asked to end",
        outlives=True,
    ),
    "delete_overdue": Kind(
        "critical", "{name} is asked to end since {seconds:span} and is not proven gone: {why}"
    ),
    "price_drift": Kind(
        "warning", "{name} costs {rate:price}/h by its cloud's record, {price:price}/h were offered"
    ),
    "account_frozen": Kind("critical", "{why}. Its machines are neither read nor ended"),
    "low_balance": Kind(
        "warning",
        "{provider} ({account}) has {balance:money} left; what runs there costs {needed:money} "
        "until it ends, and {burn:price}/h now",
    ),
    "notice_undelivered": Kind(
        "warning", "the channel {channel} could not be reached, {undelivered} warning(s): {why}"
    ),
}
"""Kind of an event -> how bad it is, and what is said."""
NEVER_SENT = frozenset({"notice_undelivered"})
"""Shown by `ps` only: a channel that fails is not told so."""

_FORMATS: Mapping[str, Callable[[Any], str]] = {
    "money": lambda nanos: f"${usd(nanos):,.2f}",
    "price": lambda nanos: f"${usd(nanos):,.3f}",
    "share": lambda share: f"{share:.0%}",
    "span": short_span,
}


class _Words(string.Formatter):
    """Formats of our own; what the event does not tell reads "not told"."""

    def get_value(self, key: int | str, _args: Any, kwargs: Mapping[str, Any]) -> Any:
        return kwargs.get(str(key))

    def format_field(self, value: Any, format_spec: str) -> str:
        if value is None or value == "":
            return "not told"
        return _FORMATS.get(format_spec, str)(value)


def sentence(kind: str, name: str, data: Mapping[str, Any]) -> str:
    """A warning in words. `name`: of the machine, "" where it is about none."""
    return _Words().vformat(KINDS[kind].sentence, (), {**data, "name": name or data.get("name")})


def kinds_from(least: Severity) -> tuple[str, ...]:
    """Kinds that are sent and at least that bad."""
    bad = SEVERITIES[SEVERITIES.index(least) :]
    return tuple(
        kind for kind, row in KINDS.items() if row.severity in bad and kind not in NEVER_SENT
    )


class Warned(Struct, frozen=True, kw_only=True):
    """A warning as people and programs read it."""

    id: int
    """Of the event."""
    at: datetime
    kind: str
    severity: Severity
    name: str
    """The machine's, "" where it is about none."""
    launch_id: str | None
    text: str
    data: Mapping[str, Any]


class Channel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where warnings go: a command, a webhook or a mailbox. Exactly one of the three."""

    command: tuple[str, ...] = ()
    """Program and arguments, no shell. The warning is JSON on its standard input."""
    webhook: str | None = None
    """The URL that the warning is posted to, signed."""
    email: str | None = None
    """The address that it is mailed to."""
    least: Severity = "warning"
    kinds: tuple[str, ...] = ()
    """Only these; () is all that are bad enough."""
    secret_env: str | None = None
    """The variable with the webhook's secret or the mail server's password; else the one stored."""
    server: str | None = None
    """Of the mail: host:port."""
    sender: str | None = None
    """Its From; the address itself where it is not told."""
    user: str | None = None
    """For the mail server's login; without it none is tried."""
    starttls: bool = True
    """Can be switched off for a server on this computer only."""

    def wanted(self) -> tuple[str, ...]:
        """Kinds that go there."""
        known = kinds_from(self.least if not self.kinds else "info")
        return tuple(kind for kind in known if not self.kinds or kind in self.kinds)


class ChannelReport(Struct, frozen=True, kw_only=True):
    """A configured channel, and how it went there."""

    name: str
    to: str
    """The program's, host's or mailbox's name; nothing of it is secret."""
    kinds: tuple[str, ...]
    sent: int
    waiting: int
    undelivered: int
    last_error: str = ""
    problem: str = ""
    """Why nothing can be sent there."""
