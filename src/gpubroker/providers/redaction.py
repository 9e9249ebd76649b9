"""What may be written down of what goes over the wire: an allow-list, never a deny-list."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

HIDDEN = "***"
DEEPEST = 12
LONGEST_TEXT = 2000
SHORTEST_SECRET = 4

HEADERS_SHOWN = frozenset(
    {
        "accept",
        "content-length",
        "content-type",
        "date",
        "retry-after",
        "user-agent",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
    }
)

_SECRET_LOOKING = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\b(?:bearer|basic)\s+[^\s\"',}]+"
    r"|\b(?:sk|pk|rpa|hf|ghp|gho|xox[a-z]|dop_v1|lk|tok)[-_][A-Za-z0-9_-]{8,}"
    r"|\bA(?:KIA|SIA)[A-Z0-9]{12,}"
    r"|(?<![A-Za-z0-9+/_])[A-Za-z0-9+/_]{32,}={0,2}",
    re.IGNORECASE | re.DOTALL,
)
_NAMED_SECRET = re.compile(
    r"(?i)(?<![a-z0-9])((?:api[_-]?)?key|token|secret|passw(?:or)?d|credential)(\"?\s*[=:]\s*\"?)[^\s\"'&,;}]+"
)


class Redactor:
    """Removes everything but allowed fields, for one account with its own secrets."""

    def __init__(self, allowed: Iterable[str] = (), secrets: Iterable[str] = ()) -> None:
        self._allowed = frozenset(allowed)
        self._secrets = tuple(
            sorted({s for s in secrets if len(s) >= SHORTEST_SECRET}, key=len, reverse=True)
        )

    def __repr__(self) -> str:
        return f"Redactor({len(self._allowed)} fields)"

    def hiding(self, values: Iterable[str]) -> Redactor:
        """The same with more secrets: those of one request, as they are and as JSON writes them."""
        told = tuple(values)
        written = (json.dumps(value, ensure_ascii=ascii_only)[1:-1]
                   for value in told for ascii_only in (False, True))  # fmt: skip
        return Redactor(self._allowed, (*self._secrets, *told, *written))

    def text(self, text: str) -> str:
        """Free text without the account's secrets and without what looks like a key."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        text = _NAMED_SECRET.sub(rf"\1\2{HIDDEN}", text)
        text = _SECRET_LOOKING.sub(HIDDEN, text)
        return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + "…"

    def value(self, value: Any, *, shown: bool = True, depth: int = 0) -> Any:
        """JSON with the values of fields that are not allowed replaced."""
        if depth > DEEPEST:
            return HIDDEN
        if isinstance(value, Mapping):
            return {
                self.text(str(name)): self.value(item, depth=depth + 1)
                if name in self._allowed
                else HIDDEN
                for name, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.value(item, shown=shown, depth=depth + 1) for item in value]
        if isinstance(value, str):
            return self.text(value) if shown else HIDDEN
        return value

    def body(self, content: bytes) -> str:
        """A body as text: JSON by the allow-list, anything else as free text."""
        if not content:
            return ""
        try:
            decoded = json.loads(content)
        except (ValueError, RecursionError):
            text = content.decode("utf-8", "replace")
            for secret in self._secrets:
                text = text.replace(secret, HIDDEN)
            # Cut after that: the beginning of a secret is one, too.
            return self.text(text[: 2 * LONGEST_TEXT])
        # A half of a character could never be written down.
        told = json.dumps(self.value(decoded), ensure_ascii=False).encode("utf-8", "replace")
        shown = told.decode()
        return shown if len(shown) <= LONGEST_TEXT else shown[:LONGEST_TEXT] + "…"

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Names stay; values only of headers that never hold a secret."""
        return {
            name: self.text(value) if name.lower() in HEADERS_SHOWN else HIDDEN
            for name, value in headers.items()
        }

    def url(self, url: str) -> str:
        """Path and query names stay; values of the query only of allowed names."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        netloc = f"{host}:{parts.port}" if parts.port else host
        # Segment by segment: a long path as a whole looks like a key.
        path = "/".join(self.text(segment) for segment in parts.path.split("/"))
        query = urlencode(
            [
                (name, self._query_value(name, value))
                for name, value in parse_qsl(parts.query, keep_blank_values=True)
            ],
            safe='*{}[]":, ',
        )
        return urlunsplit((parts.scheme, netloc, path, query, ""))

    def _query_value(self, name: str, value: str) -> str:
        if name not in self._allowed:
            return HIDDEN
        return self.body(value.encode()) if value[:1] in "{[" else self.text(value)
