"""Why RunPod does not carry out an order: one word each, for which each API has its form."""

from __future__ import annotations

from typing import Literal

Why = Literal["no_capacity", "host_full", "balance", "quota", "bid", "invalid"]

NO_CAPACITY = (
    "There are no longer any instances available with the requested specifications. "
    "Please refresh and try again."
)
HOST_FULL = "There are not enough free GPUs on the host machine to start this pod."
NO_BALANCE = "Your account balance is too low to rent a pod"
OVER_LIMIT = "This would exceed your account's spend limit."
NO_BID = "Cannot resume a spot pod as an on demand pod."
BID_TOO_LOW = "Your bid is below the minimum bid price for this GPU type."
"""The vendor's own texts of the last two are not published."""
HOURS_OF_CREDIT = 1
"""So much of a pod's price must be on the account to deploy or start it."""


class Refused(Exception):
    """An order or start that is not carried out; its text is the vendor's."""

    def __init__(self, why: Why, text: str) -> None:
        super().__init__(text)
        self.why = why
