"""What the store refuses, each with the way out."""

from __future__ import annotations

from gpubroker.model.errors import BrokerError


class StoreError(BrokerError):
    """The state cannot be used as it is."""

    word = "store"


class WrongRealm(StoreError):
    """A live store opened for a sandbox, or the other way round, or another sandbox's."""

    word = "wrong_realm"


class NewerStore(StoreError):
    """Written by a newer gpubroker."""

    word = "newer_store"


class StoreBusy(StoreError):
    """Another process holds the database longer than we wait."""

    word = "store_busy"


class NoSecretKey(StoreError):
    """The key that seals secrets is not there: machines can be ended, none can be started."""

    word = "no_secret_key"


class LeaseHeld(StoreError):
    """Another living process works on this machine."""

    word = "busy"

    def __init__(self, name: str, holder: str) -> None:
        super().__init__(f"{name} is being worked on by another gpubroker ({holder})")
        self.holder = holder


class LeaseLost(StoreError):
    """Another process took this machine over; what it does is recorded."""

    word = "lease_lost"


class NameTaken(StoreError):
    """A machine of this name has not ended."""

    word = "name_taken"
