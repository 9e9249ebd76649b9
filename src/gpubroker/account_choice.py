"""By which account an offer is rented: the market holds one list a cloud, whoever asked for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import structs

from gpubroker.accounts import missing
from gpubroker.catalog.clouds import CLOUDS, cloud
from gpubroker.model.errors import Invalid
from gpubroker.providers.accounts import DEFAULT

if TYPE_CHECKING:
    from gpubroker.accounts import Accounts, CredentialsMissing
    from gpubroker.market.results import SearchResult
    from gpubroker.model.offer import Offer
    from gpubroker.model.query import Query


def asked_of_market(query: Query, accounts: Accounts) -> Query:
    """The query without its accounts, at the clouds that have them.

    Raises UnknownAccount, and Invalid where no named account is of a named cloud.
    """
    if not query.accounts:
        return query
    meant = {name for name, _ in accounts.meant(query.accounts)}
    named = {cloud(name).name for name in query.providers}
    narrowed = tuple(sorted(meant & named if named else meant))
    if not narrowed:
        raise Invalid(
            f"account {', '.join(query.accounts)} is none of {', '.join(sorted(named))}. "
            "Nothing was asked."
        )
    everywhere = not named and len(narrowed) >= len(CLOUDS)
    return structs.replace(query, accounts=(), providers=() if everywhere else narrowed)


def at_rentable(query: Query, accounts: Accounts) -> Query:
    """The query at the clouds that can be rented at; as it is where none of them can."""
    keys = set(accounts.chosen(query.accounts))
    named = {cloud(name).name for name in query.providers}
    narrowed = tuple(sorted(keys & named if named else keys))
    if not narrowed or set(narrowed) == named:
        return query
    return structs.replace(query, providers=narrowed)


def by_account(result: SearchResult, chosen: Mapping[str, str]) -> SearchResult:
    """Each offer with the account that it would be rented by. `chosen`: cloud -> account."""
    if all(chosen.get(offer.provider, offer.account) == offer.account for offer in result.offers):
        return result
    offers = tuple(
        structs.replace(offer, account=chosen.get(offer.provider, offer.account))
        for offer in result.offers
    )
    return structs.replace(result, offers=offers)


def no_key_for(
    offers: Sequence[Offer], asked: Collection[str], accounts: Accounts
) -> CredentialsMissing:
    """The error that names the variable and the page of the cloud that has the best of them."""
    from gpubroker.providers import registry

    ready = [offer.provider for offer in offers if registry.status(offer.provider) != "planned"]
    best = ready[0] if ready else offers[0].provider
    found = {(one.provider, one.alias): one for one in accounts.found()}
    meant = sorted(alias for name, alias in accounts.meant(asked) if name == best)
    alias = meant[0] if meant else DEFAULT
    return missing(best, alias, found.get((best, alias)))
