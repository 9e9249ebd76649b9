"""What went wrong, for people and for scripts: message, what was not lost, next step, exit code."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gpubroker.cli.session import Session

DONE, FAILED, USAGE, NO_OFFER, NONE_TO_BE_HAD = 0, 1, 2, 3, 4
CREDENTIALS, REFUSED, NOT_FOUND, NOT_STARTED, INTERRUPTED = 5, 6, 7, 125, 130

EXIT_CODES = {
    "usage": USAGE,
    "invalid": USAGE,
    "name_taken": USAGE,
    "no_offer": NO_OFFER,
    "no_cloud_can": USAGE,
    "no_offer_matches": NO_OFFER,
    "unknown_gpu": NO_OFFER,
    "no_capacity": NONE_TO_BE_HAD,
    "auth_failed": CREDENTIALS,
    "credentials_missing": CREDENTIALS,
    "account_changed": CREDENTIALS,
    "policy_refused": REFUSED,
    "quota_exceeded": REFUSED,
    "out_of_funds": REFUSED,
    "not_found": NOT_FOUND,
}
"""Word of an error class, or of one it descends from -> exit code; everything else is 1."""

NEXT_STEPS = {
    "auth_failed": "gpubroker doctor shows where the key was found; or leave the cloud out: "
    "--provider NAME",
    "credentials_missing": "gpubroker login stores a key, and shows where one is made; "
    "without an account: --sandbox",
    "account_changed": "gpubroker doctor shows which key was found",
    "unknown_account": "gpubroker doctor lists the accounts",
    "no_offer_matches": "gpubroker offers … --explain says which filter removes what",
    "unknown_gpu": "gpubroker gpus lists the names",
    "no_capacity": "widen the search (--max-price, --region, --spot), or raise --tries",
    "quota_exceeded": "ask the cloud for more, or choose another --region or --provider",
    "out_of_funds": "add funds at the cloud, or choose another --provider",
    "budget_exceeded": "shorten it with --ttl, or raise the limit (--max-cost, gpubroker budget)",
    "price_changed": "take the new price: --max-price-increase 0.3",
    "bid_too_high": "bid less, or rent --on-demand",
    "name_taken": "choose another --name, or gpubroker show NAME",
    "somebody_elses": "gpubroker sweep shows whose every machine is",
    "not_found": "gpubroker ps --all lists every machine",
    "busy": "wait for it, then try again; gpubroker ps shows the machine",
    "outcome_unknown": "gpubroker ps shows it; gpubroker sweep looks at the clouds",
    "rate_limited": "try again in a minute",
    "unavailable": "gpubroker doctor tells which clouds answer",
    "unsupported": "gpubroker providers shows what each cloud can do",
    "not_gone_yet": "gpubroker terminate NAME again goes on where this stopped",
}


class Declined(Exception):
    """The person at the terminal said no."""


def words_of(error: BaseException) -> list[str]:
    """The error's own word, then those of the classes it descends from."""
    return [vars(cls)["word"] for cls in type(error).__mro__ if "word" in vars(cls)]


def exit_code(error: BaseException) -> int:
    """By the contract's table."""
    if isinstance(error, click.UsageError):
        return USAGE
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return INTERRUPTED
    return next((EXIT_CODES[word] for word in words_of(error) if word in EXIT_CODES), FAILED)


def describe(error: BaseException) -> dict[str, Any]:
    """The error as the JSON object that scripts read: code, message, next_step, exit_code."""
    words = words_of(error)
    described: dict[str, Any] = {
        "code": words[0] if words else _word(error),
        "message": _message(error),
        "exit_code": exit_code(error),
    }
    if step := _next_step(error, words):
        described["next_step"] = step
    for attribute in ("provider", "nearest"):
        if value := getattr(error, attribute, None):
            described[attribute] = value
    if tries := getattr(error, "tries", None):
        from gpubroker.wire import attempt

        described["attempts"] = [attempt(one) for one in tries]
    return described


def report(error: BaseException, session: Session) -> int:
    """Says it on stderr and answers the exit code."""
    described = describe(error)
    label = "interrupted" if described["exit_code"] == INTERRUPTED else "error"
    session.tell_failure(described, label=label)
    if described["code"] == "internal" and session.environ.get("GPUBROKER_DEBUG"):
        sys.excepthook(type(error), error, error.__traceback__)
    return int(described["exit_code"])


def _word(error: BaseException) -> str:
    if isinstance(error, click.ClickException):
        return "usage"
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, Declined):
        return "declined"
    return "os_error" if isinstance(error, OSError) else "internal"


def _message(error: BaseException) -> str:
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return "what was begun is recorded"
    if words_of(error) or isinstance(error, Declined | OSError):
        return str(error)
    return f"a fault in gpubroker itself: {type(error).__name__}: {error}"


def _next_step(error: BaseException, words: list[str]) -> str:
    if isinstance(error, click.UsageError):
        return f"{error.ctx.command_path} --help" if error.ctx else ""
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return "gpubroker ps shows it"
    if not words and _word(error) == "internal":
        return "GPUBROKER_DEBUG=1 shows where; gpubroker ps shows what is running"
    return next((NEXT_STEPS[word] for word in words if word in NEXT_STEPS), "")
