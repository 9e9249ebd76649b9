"""What can be made to go wrong, how often, and for which calls."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Literal, get_args

from msgspec import Struct

Operation = Literal[
    "offers", "create", "get", "list", "terminate",
    "stop", "start", "update", "keys", "volumes", "billing", "account", "logs", "*",
]  # fmt: skip
Kind = Literal[
    "rate_limit", "server_error", "timeout", "slow", "disconnect_before", "disconnect_after",
    "no_capacity", "quota", "bad_credentials", "garbage", "duplicate_list", "list_lag",
    "terminate_ignored", "boot_failure", "stuck_pending", "page_cursor_expired", "ssh_refused",
    "wrong_gpu", "price_changed", "ignored_field", "list_partial", "other_account",
    "not_found_for_bad_key",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)

WHOLE_CALL = frozenset[Kind](
    {
        "rate_limit",
        "server_error",
        "timeout",
        "slow",
        "disconnect_before",
        "disconnect_after",
        "bad_credentials",
        "garbage",
        "not_found_for_bad_key",
    }
)
"""Happen to the call whatever it asks; `other_account` happens where the key is looked up."""
APPLIES_TO: dict[Kind, frozenset[Operation]] = {
    "no_capacity": frozenset({"create", "start", "offers"}),
    "quota": frozenset({"create", "start"}),
    "duplicate_list": frozenset({"list", "offers"}),
    "list_lag": frozenset({"create", "list"}),
    "terminate_ignored": frozenset({"terminate"}),
    "boot_failure": frozenset({"create"}),
    "stuck_pending": frozenset({"create"}),
    "page_cursor_expired": frozenset({"list", "billing"}),
    "ssh_refused": frozenset({"create"}),
    "wrong_gpu": frozenset({"create"}),
    "price_changed": frozenset({"create"}),
    "ignored_field": frozenset({"create", "offers"}),
    "list_partial": frozenset({"list"}),
}
"""The operations that the other kinds can befall; `*` means all of these."""


class Fault(Struct, kw_only=True):
    """One thing that goes wrong: `times` more times, None = until cleared."""

    id: str
    provider: str
    operation: Operation
    kind: Kind
    times: int | None = None
    probability: float = 1.0
    delay_s: float = 0.0

    def befalls(self, operation: str) -> bool:
        """Whether a call of this operation can suffer it now."""
        return self.operation in ("*", operation) and self.times != 0


class Faults:
    """The faults of one cloud, in the order they were asked for."""

    def __init__(self, seed: int) -> None:
        self.active: list[Fault] = []
        self.used = False
        """Whether one was taken since they were last saved."""
        self._dice = random.Random(seed)  # noqa: S311 - chance of a test, repeatable on purpose

    def take(self, operation: str, *kinds: Kind) -> Fault | None:
        """The first fault of these kinds that befalls the call; uses up one of its times."""
        return self._take(operation, kinds)

    def take_call(self, operation: str) -> Fault | None:
        """Likewise, of the kinds that happen to a whole call."""
        return self._take(operation, WHOLE_CALL)

    def _take(self, operation: str, kinds: Collection[Kind]) -> Fault | None:
        for fault in self.active:
            if fault.kind not in kinds or not fault.befalls(operation):
                continue
            if self._dice.random() >= fault.probability:
                continue
            if fault.times is not None:
                fault.times -= 1
            self.used = True
            return fault
        return None
