"""From a vendor's error answer to an error of the model, by a table."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from gpubroker.model.errors import (
    AuthFailed,
    BadResponse,
    BrokerError,
    CapacityScope,
    Invalid,
    NoCapacity,
    OutcomeUnknown,
    RateLimited,
    Refused,
    TimedOut,
    Trouble,
    Unavailable,
    WrongState,
)
from gpubroker.providers.base import MUTATIONS
from gpubroker.providers.circuit import PERMISSION
from gpubroker.providers.exchange import tolerant_json

if TYPE_CHECKING:
    from gpubroker.providers.exchange import Answer
    from gpubroker.providers.redaction import Redactor

LONGEST_RETRY_AFTER_S = 24 * 3600.0
_SENTENCES = ("msg", "message", "detail")
LONGEST_SENTENCE, LONGEST_CODE = 300, 100
_TEXT_FIELDS = ("error", "msg", "message", "detail", "error_description", "errors")
_CODE_FIELDS = ("error_code", "error_reason", "error", "code")
_CODE = re.compile(r"[a-z]+(_[a-z]+)*")
OK, REDIRECT, CLIENT, SERVER = 200, 300, 400, 500


class Rule(Struct, frozen=True):
    """One line of a provider's error table: every condition that is given must hold."""

    error: type[BrokerError]
    words: tuple[str, ...] = ()
    """Any of these, in lower case, in the answer's text."""
    statuses: tuple[int, ...] = ()
    operations: tuple[str, ...] = ()
    code: str = ""
    """The stable word for it, where the answer's own is too vague."""
    scope: CapacityScope = "offer"
    """Of a NoCapacity."""
    codes: tuple[str, ...] = ()
    """Any of these is the answer's own code; `*` stands for any characters."""


_BY_STATUS: Mapping[int, type[BrokerError]] = {
    400: Invalid,
    401: AuthFailed,
    403: AuthFailed,
    409: WrongState,
    422: Invalid,
    429: RateLimited,
}
"""Where the provider's table has no line. A bare 404 is not here: it is no evidence."""
_CODES = {403: PERMISSION}
"""Their words: a key that is not taken is a 401, or has a line in the provider's table."""


def answer_text(body: bytes) -> tuple[str, str]:
    """(the vendor's code, its whole text in lower case) of an error answer of any form."""
    try:
        decoded = tolerant_json(body)
    except ValueError:
        return "", body[:4000].decode("utf-8", "replace").lower()
    if not isinstance(decoded, dict):
        return "", json.dumps(decoded)[:4000].lower()
    named = (one for one in map(decoded.get, _CODE_FIELDS) if one and isinstance(one, str | dict))
    code = next(named, None) or _graphql(decoded, "extensions", "code")
    if isinstance(code, dict):
        code = code.get("code")
    if not code and "message" in decoded:
        code = _word(decoded.get("id"))
    parts = [_flat(decoded[name]) for name in _TEXT_FIELDS if decoded.get(name)]
    return (code if isinstance(code, str) else ""), " ".join(parts)[:4000].lower()


def _word(told: Any) -> str:
    """`not_found` beside a message; ids of machines and requests have digits or hyphens."""
    return told if isinstance(told, str) and _CODE.fullmatch(told) else ""


def _graphql(decoded: Mapping[str, Any], *path: str) -> Any:
    """What the first of GraphQL's `errors` says there, None where it says nothing."""
    errors = decoded.get("errors")
    found = errors[0] if isinstance(errors, list) and errors else None
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _sentence(body: bytes) -> str:
    """What the vendor says to a person, "" where its answer has no such field."""
    try:
        decoded = tolerant_json(body)
    except ValueError:
        return ""
    if not isinstance(decoded, dict):
        return ""
    told = [*(decoded.get(name) for name in _SENTENCES), _graphql(decoded, "message")]
    if isinstance(error := decoded.get("error"), dict):
        told += [error.get(name) for name in _SENTENCES]
    return next((text for text in told if text and isinstance(text, str)), "")


def _flat(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def classify(
    answer: Answer,
    rules: Sequence[Rule],
    *,
    provider: str,
    operation: str,
    redactor: Redactor,
) -> BrokerError:
    """The error that this answer is. First the provider's table, then the status."""
    code, text = answer_text(answer.body)
    rule = next((r for r in rules if _fits(r, answer.status, code, text, operation)), None)
    kind = rule.error if rule else _by_status(answer.status, operation)
    raw = redactor.body(answer.body)
    # Cut only once it is redacted: the beginning of a secret is one, too.
    word = redactor.text((rule.code if rule else _CODES.get(answer.status, "")) or code)
    said = redactor.text(_sentence(answer.body))[:LONGEST_SENTENCE]
    error = kind(
        f"{provider} answered {answer.status} to {operation}: {said or raw or 'nothing'}",
        provider=provider,
        operation=operation,
        code=word[:LONGEST_CODE],
        raw=raw,
        http_status=answer.status,
    )
    if rule and isinstance(error, NoCapacity):
        error.scoped(rule.scope)
    if isinstance(error, Trouble):
        error.retry_after_s = retry_after_s(answer.headers)
    if isinstance(error, BadResponse):
        error.body = raw.encode()
    return error


def _fits(rule: Rule, status: int, code: str, text: str, operation: str) -> bool:
    return (
        (not rule.statuses or status in rule.statuses)
        and (not rule.operations or operation in rule.operations)
        and (not rule.words or any(word in text for word in rule.words))
        and (not rule.codes or any(fnmatchcase(code, pattern) for pattern in rule.codes))
    )


def _by_status(status: int, operation: str) -> type[BrokerError]:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    # A mutation is refused only by an answer that the tables know: any other, a gateway's 504
    # or a 200 that says "success: false" in unknown words, may come after the thing was made.
    if operation in MUTATIONS:
        return OutcomeUnknown
    if status == 408:  # noqa: PLR2004 - Request Timeout
        return TimedOut
    return Unavailable if status >= SERVER else BadResponse


def name_taken(provider: str, operation: str, what: str) -> Refused:
    """The error of a shared name that stands for something else: it is never overwritten."""
    return Refused(f"{provider}: {what}", provider=provider, operation=operation, code="name_taken")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Retry-After in seconds; its date form is not used by any of the clouds."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(seconds, LONGEST_RETRY_AFTER_S) if seconds >= 0 else None
