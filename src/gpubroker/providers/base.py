"""What a cloud must answer, one question per call.

No sleep, no loop, no retry and no clock inside a provider.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import ClassVar, Protocol, runtime_checkable

from gpubroker.model.bill import Bill
from gpubroker.model.capabilities import Capabilities
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import Holdings, Instance, Listing
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import Nanos
from gpubroker.model.offer import Offer, OfferPage
from gpubroker.model.query import Query
from gpubroker.model.quota import Quota
from gpubroker.model.terms import Resource

READS = frozenset(
    {
        "whoami",
        "scopes",
        "offers",
        "find",
        "get",
        "list",
        "resources",
        "billing",
        "bills",
        "balance",
        "quotas",
        "logs",
    }
)
"""May be retried by the retry decorator."""
MUTATIONS = frozenset(
    {
        "ensure",
        "create",
        "attach_key",
        "terminate",
        "release",
        "discard",
        "stop",
        "start",
        "extend",
        "bid",
    }
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

    async def start(self, ref: Ref) -> Ref | None:
        """NoCapacity where its GPU was taken meanwhile. Answer: what it is from now on, if told.

        None: as before, or, where `capabilities.start_renames`, what its carrier tells.
        """
        ...


@runtime_checkable
class HasBalance(Protocol):
    """Where the account's money can be read."""

    async def balance(self) -> Nanos:
        """What can still be spent; negative where the account owes."""
        ...


@runtime_checkable
class BillsTogether(Protocol):
    """Where one query tells the charges of many machines: for records that are scarce or cost."""

    async def bills(self, asked: Sequence[tuple[Ref, datetime, datetime | None]]) -> Sequence[Bill]:
        """As `billing` of each (ref, since, until), in that order, with few queries."""
        ...


@runtime_checkable
class HasResources(Protocol):
    """Where an account's keys, scripts, rules, addresses and disks can be read and ended.

    Calls of their own, for a sweep alone: no list of machines pays for them.
    """

    async def resources(self, scope: str) -> Holdings:
        """Everything that a launch may make beside a machine, foreign things too, all pages."""
        ...

    async def discard(self, what: Resource, ref: Ref) -> None:
        """Idempotent end of one of them, of what an owner's machines share too.

        WrongState while a machine uses it. The caller has made sure that it is wanted by nothing.
        """
        ...


@runtime_checkable
class HasQuotas(Protocol):
    """Where the account's limits can be read before they are met."""

    async def quotas(self) -> tuple[Quota, ...]:
        """All that limit machines; what is not in there is not known to be limited."""
        ...


@runtime_checkable
class Extendable(Protocol):
    """Where the cloud itself ends machines at a time that can be moved."""

    async def extend(self, ref: Ref, until: datetime) -> None:
        """Idempotent. Success means accepted: what holds is the machine's `expires_at`."""
        ...


@runtime_checkable
class BootsOverSsh(Protocol):
    """Where the start of a machine may be more than its cloud takes at the create."""

    def after_boot(self, spec: LaunchSpec, offer: Offer, attempt: Attempt, now: datetime) -> str:
        """`Boot.after`, run over SSH before the machine is ready; "": all was sent. Pure."""
        ...


@runtime_checkable
class EndsByItself(Protocol):
    """Where the cloud ends some machines at a time given at the create, and never tells it."""

    def ends_by_itself(self, spec: LaunchSpec, offer: Offer) -> datetime | None:
        """When; asks nothing. None: not this one."""
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
