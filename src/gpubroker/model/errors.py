"""What can go wrong, sorted by what the caller may do next.

BrokerError
├── Refused              surely nothing was made; do not repeat the same request
│   ├── AuthFailed       the credentials
│   ├── NoCapacity       carries its scope and a cool-down
│   ├── QuotaExceeded    need, limit, used
│   ├── OutOfFunds
│   ├── PriceChanged
│   ├── Invalid          names the field
│   ├── Unsupported      names the capability
│   ├── NotFound         the vendor's own words for it, never a bare 404
│   └── WrongState       read again, then decide
├── Trouble              may succeed later
│   ├── RateLimited
│   ├── Unavailable      before any byte was sent, or the vendor's 5xx on a read
│   ├── TimedOut
│   └── BadResponse      the answer is not what the notes promise
├── OutcomeUnknown       a mutation may have happened: look, never repeat blindly
└── PolicyRefused        our own rules
    ├── BudgetExceeded
    ├── PriceCapExceeded
    ├── NoExpiry
    └── ScopeDenied
"""

from __future__ import annotations

from typing import Literal

CapacityScope = Literal["offer", "type_region", "region", "provider"]


class BrokerError(Exception):
    """The root. `code` is the vendor's own word, `raw` its text with secrets removed."""

    word = "error"
    """Stable machine-readable word of this class, for JSON."""

    def __init__(
        self,
        message: str = "",
        *,
        provider: str = "",
        operation: str = "",
        code: str = "",
        raw: str = "",
        http_status: int | None = None,
    ) -> None:
        super().__init__(message or raw or code or self.word)
        self.provider = provider
        self.operation = operation
        self.code = code
        self.raw = raw
        self.http_status = http_status


class Refused(BrokerError):
    """Surely nothing was made."""

    word = "refused"


class AuthFailed(Refused):
    """The provider does not accept the credentials."""

    word = "auth_failed"


class NoCapacity(Refused):
    """Nothing of this kind is free; `scope` says how much of the market shares the cause."""

    word = "no_capacity"
    scope: CapacityScope = "offer"
    cool_down_s = 300.0

    def scoped(self, scope: CapacityScope, cool_down_s: float = 300.0) -> NoCapacity:
        """The same error with its scope set."""
        self.scope, self.cool_down_s = scope, cool_down_s
        return self


class QuotaExceeded(Refused):
    """The account may not have this much."""

    word = "quota_exceeded"
    bucket = ""
    need: float | None = None
    limit: float | None = None
    used: float | None = None


class OutOfFunds(Refused):
    """The account's balance or credit does not cover it."""

    word = "out_of_funds"


class PriceChanged(Refused):
    """The offer costs something else now."""

    word = "price_changed"


class Invalid(Refused):
    """The request is malformed or out of range."""

    word = "invalid"
    field = ""


class Unsupported(Refused):
    """The cloud has no such thing."""

    word = "unsupported"
    capability = ""


class NotFound(Refused):
    """The provider says, in its own words, that there is no such thing."""

    word = "not_found"


class WrongState(Refused):
    """Conflict with the machine's present state."""

    word = "wrong_state"


class Trouble(BrokerError):
    """May succeed later."""

    word = "trouble"
    retry_after_s: float | None = None


class RateLimited(Trouble):
    """Too many requests."""

    word = "rate_limited"
    bucket = ""


class Unavailable(Trouble):
    """No connection, or the provider is down."""

    word = "unavailable"


class TimedOut(Trouble):
    """No answer within the deadline (reads only: a mutation is OutcomeUnknown)."""

    word = "timed_out"


class BadResponse(Trouble):
    """An answer that does not parse."""

    word = "bad_response"
    body = b""


class OutcomeUnknown(BrokerError):
    """Bytes of a mutation were sent and its effect is not known."""

    word = "outcome_unknown"


class PolicyRefused(BrokerError):
    """gpubroker itself refuses."""

    word = "policy_refused"


class BudgetExceeded(PolicyRefused):
    """A budget would be crossed."""

    word = "budget_exceeded"


class PriceCapExceeded(PolicyRefused):
    """Dearer than the user's cap."""

    word = "price_cap_exceeded"


class NoExpiry(PolicyRefused):
    """A launch without an expiry that did not spell out "none"."""

    word = "no_expiry"


class ScopeDenied(PolicyRefused):
    """The caller may not do this."""

    word = "scope_denied"
