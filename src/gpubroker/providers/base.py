"""What a cloud must answer, one question per call.

No sleep, no loop, no retry and no clock inside a provider.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import ClassVar, Protocol, runtime_checkable

from gpubroker.model.bill import Bill
from gpubroker.model.capabilities import Capabilities
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import Instance, Listing
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import Nanos
from gpubroker.model.offer import Offer, OfferPage
from gpubroker.model.query import Query
from gpubroker.model.terms import Resource

READS = frozenset(
    {"whoami", "scopes", "offers", "find", "get", "list", "billing", "balance", "quotas", "logs"}
)
"""May be retried by the retry decorator."""
MUTATIONS = frozenset(
    {"ensure", "create", "attach_key", "terminate", "release", "stop", "start", "extend", "bid"}
)
"""Sent once. Only the fleet repeats them, journalled."""


class Provider(Protocol):
    """One account at one cloud."""

    name: ClassVar[str]
    display_name: ClassVar[str]
    website: ClassVar[str]
    credentials: ClassVar[tuple[str, ...]]
    """Environment variables, best first; all spellings of one key are alternatives."""
    capabilities: ClassVar[Capabilities]
    account: str
    """The alias in the configuration."""

    async def whoami(self) -> str:
        """Stable uid of the account behind the key. A changed uid freezes the account."""
        ...

    async def scopes(self) -> tuple[str, ...]:
        """Every scope that a sweep must list; ("",) where lists are account-wide."""
        ...

    def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        """Bad rows are rejected, never raised. Filters not pushed down are re-checked by us."""
        ...

    async def ensure(
        self,
        what: Resource,
        spec: LaunchSpec,
        offer: Offer,
        attempt: Attempt,
        have: Mapping[Resource, Ref],
    ) -> Ref:
        """Idempotent by attempt.name (owner-wide things: by owner)."""
        ...

    async def create(
        self, spec: LaunchSpec, offer: Offer, attempt: Attempt, have: Mapping[Resource, Ref]
    ) -> Ref:
        """One request. Refused = surely not made; OutcomeUnknown = perhaps."""
        ...

    async def find(self, attempt: Attempt, offer: Offer) -> tuple[Instance, ...]:
        """All machines of this attempt, by its carrier; () is no proof before list_lag_s."""
        ...

    async def get(self, ref: Ref) -> Instance:
        """NotFound only from the vendor's own words for it, never from a bare 404."""
        ...

    async def list(self, scope: str) -> Listing:
        """Every machine of the account in this scope, foreign ones too, following all pages."""
        ...

    async def terminate(self, ref: Ref) -> None:
        """Idempotent; success means accepted, not gone."""
        ...

    async def release(self, what: Resource, ref: Ref) -> None:
        """Idempotent end of what `ensure` made for one attempt; owner-wide things stay."""
        ...

    async def billing(self, ref: Ref, since: datetime, until: datetime | None) -> Bill:
        """What the provider's record says it charged for this machine."""
        ...

    def console_url(self, ref: Ref) -> str | None:
        """The page where a person sees it."""
        ...


@runtime_checkable
class Stoppable(Protocol):
    """Where a machine can be stopped and started again."""

    async def stop(self, ref: Ref) -> None:
        """Success means accepted."""
        ...

    async def start(self, ref: Ref) -> None:
        """NoCapacity where its GPU was taken meanwhile."""
        ...


@runtime_checkable
class HasBalance(Protocol):
    """Where the account's money can be read."""

    async def balance(self) -> Nanos:
        """What can still be spent; negative where the account owes."""
        ...


@runtime_checkable
class Biddable(Protocol):
    """Where a running spot machine's bid can be changed."""

    async def bid(self, ref: Ref, price: Nanos) -> None:
        """Per hour of the whole machine."""
        ...


@runtime_checkable
class KeyAttachable(Protocol):
    """Where SSH keys are given to the made machine (`capabilities.ssh_keys == "attached"`)."""

    async def attach_key(self, ref: Ref, public_key: str) -> None:
        """Idempotent; the fleet repeats it until accepted."""
        ...
