"""What the fleet itself refuses or could not do."""

from __future__ import annotations

from collections.abc import Mapping

from gpubroker.model.errors import (
    AuthFailed,
    BrokerError,
    NotFound,
    OutOfFunds,
    PolicyRefused,
    QuotaExceeded,
    Refused,
)
from gpubroker.model.machine import Try

MOST_LISTED = 20
"""Of a launch that was planned over and over, the last tries are told."""


class NothingToBeHad(BrokerError):
    """Every offer that may be tried was tried."""

    word = "no_capacity"

    def __init__(self, tries: tuple[Try, ...]) -> None:
        self.tries = tries
        shown = tries[-MOST_LISTED:]
        listed = "".join(f"\n  {t.offer_id}: {t.reason or t.outcome}" for t in shown)
        clouds = len({t.provider for t in tries})
        super().__init__(
            f"no machine could be had: {len(tries)} offer{'s' * (len(tries) != 1)} tried in "
            f"{clouds} cloud{'s' * (clouds != 1)}. Nothing is left behind.{listed}"
        )


class TooFewMachines(NothingToBeHad):
    """Fewer machines match than are to be launched together."""

    def __init__(self, nodes: int, there: int) -> None:
        BrokerError.__init__(
            self,
            f"{nodes} machines were asked for together, and {there} can be rented now. "
            "Nothing was rented.",
        )
        self.tries = ()


class GangFailed(NothingToBeHad):
    """Not all machines of a gang could be had: none was kept."""

    def __init__(self, name: str, why: str) -> None:
        BrokerError.__init__(self, f"{name}: {why}. None of its machines was kept.")
        self.tries = ()


_ALIKE: Mapping[str, type[Refused]] = {
    kind.word: kind for kind in (AuthFailed, OutOfFunds, QuotaExceeded)
}


def why_none(tries: tuple[Try, ...]) -> BrokerError:
    """One cause of all refusals is said as what it is, anything else as no capacity."""
    words = {one.error_code for one in tries}
    kind = _ALIKE.get(next(iter(words))) if len(words) == 1 else None
    if kind is None:
        return NothingToBeHad(tries)
    return kind(f"{tries[-1].reason}. Nothing was rented.", provider=tries[-1].provider)


class UnknownName(NotFound):
    """No machine of that name in this realm."""

    word = "not_found"

    def __init__(self, name: str, nearest: tuple[str, ...] = ()) -> None:
        hint = f" Did you mean {', '.join(nearest)}?" if nearest else ""
        super().__init__(f"no machine is called {name!r}.{hint}")
        self.nearest = nearest


class AccountChanged(Refused):
    """The key belongs to another account than the one its machines are recorded under."""

    word = "account_changed"


class BidTooHigh(PolicyRefused):
    """A spot price at or above on-demand."""

    word = "bid_too_high"


class StillThere(BrokerError):
    """The provider accepted the end of a machine and still shows it."""

    word = "not_gone_yet"


class NoCloudCan(BrokerError):
    """Offers match, and none of their clouds can do what was asked."""

    word = "no_cloud_can"


class NoOfferMatches(BrokerError):
    """Nothing that is for sale fits."""

    word = "no_offer_matches"

    def __init__(self, scanned: int, nearest: tuple[str, ...] = ()) -> None:
        hint = "".join(f"\n  nearest: {miss}" for miss in nearest)
        super().__init__(f"none of {scanned} offers matches. Nothing was rented.{hint}")
        self.nearest = nearest
