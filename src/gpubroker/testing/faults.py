"""What can go wrong at an imaginary cloud, scripted call by call."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar

from gpubroker.model.errors import BrokerError
from gpubroker.providers.base import MUTATIONS, READS

T = TypeVar("T")

FaultKind = Literal[
    "unavailable",
    "error",
    "unknown_before",
    "unknown_after",
    "unknown_late",
    "left_stopped",
    "crash_before",
    "crash_after",
    "slow",
    "garbage",
    "other_account",
    "partial_list",
    "empty_list",
    "duplicate_list",
    "boot_failure",
    "late_failure",
    "stuck_pending",
    "no_ssh",
    "wrong_gpu",
    "price_drift",
    "ignored_field",
    "ignored",
]
ANY = frozenset(READS | MUTATIONS)
CREATE = frozenset({"create"})
LISTS = frozenset({"list", "find", "offers", "resources"})

FAULTS: dict[FaultKind, frozenset[str]] = {
    "unavailable": ANY,
    "error": ANY,
    "unknown_before": MUTATIONS,
    "unknown_after": MUTATIONS,
    "unknown_late": CREATE,
    "left_stopped": CREATE,
    "crash_before": ANY,
    "crash_after": ANY,
    "slow": ANY,
    "garbage": ANY,
    "other_account": frozenset({"whoami", "get", "list", "find", "resources", "terminate"}),
    "partial_list": LISTS,
    "empty_list": LISTS,
    "duplicate_list": LISTS,
    "boot_failure": CREATE,
    "late_failure": CREATE,
    "stuck_pending": CREATE,
    "no_ssh": CREATE,
    "wrong_gpu": CREATE,
    "price_drift": CREATE,
    "ignored_field": CREATE,
    "ignored": frozenset({"extend", "terminate", "stop", "start", "release", "discard"}),
}
"""Kind -> operations at which it can be scripted.

unavailable     no byte was sent; nothing happens
error           the given error is raised; nothing happens (each class of Refused and Trouble)
unknown_before  OutcomeUnknown, and nothing happened
unknown_after   OutcomeUnknown, and it happened
unknown_late    OutcomeUnknown, and it happens create_deadline_s later
left_stopped    OutcomeUnknown, and a stopped machine that bills its disk was left
crash_before    Crashed: the caller's process dies before the request goes out
crash_after     Crashed: it dies when the cloud has acted, before it can note the answer
slow            the answer takes delay_s of the clock
garbage         an answer that does not parse: BadResponse at reads, OutcomeUnknown at mutations
other_account   the call is answered as for another account's key
partial_list    some rows are missing and the answer says that it is not complete
empty_list      no rows, and the answer says that it is complete: the cloud is wrong
duplicate_list  each row twice
boot_failure    the machine fails instead of running, and bills on
late_failure    the accepted create fails at the end of the boot; nothing is billed
stuck_pending   the machine never runs, and bills
no_ssh          the machine runs and never has an SSH endpoint
wrong_gpu       the machine reports another GPU than the offer
price_drift     the machine costs `factor` times its offer
ignored_field   the machine has half of the disk that was asked for
ignored         the call answers success and does nothing
"""


class Crashed(BaseException):
    """The end of the caller's process, as far as a test can have it: nothing should catch it."""


@dataclass
class Fault:
    """One scripted fault; it stands until it was met `times` times (None: for good)."""

    operation: str
    kind: FaultKind
    times: int | None = 1
    skip: int = 0
    """Calls that pass unharmed before it starts."""
    error: type[BrokerError] | None = None
    delay_s: float = 0.0
    factor: float = 1.0

    def __post_init__(self) -> None:
        if self.operation not in FAULTS[self.kind]:
            raise ValueError(f"{self.kind} cannot happen at {self.operation}")
        if (self.kind == "error") != (self.error is not None):
            raise ValueError("an error fault, and no other, names its error class")

    def met(self) -> bool:
        """Whether it strikes at this call; counts the call."""
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0


def thinned(rows: Iterable[T], fault: Fault | None) -> tuple[T, ...]:
    """The rows as a faulty list shows them."""
    match fault.kind if fault else None:
        case "empty_list":
            return ()
        case "partial_list":
            return tuple(rows)[1::2]
        case "duplicate_list":
            return tuple(row for row in rows for _ in range(2))
    return tuple(rows)
