"""One account at Vast.ai: each call one question."""

# ruff: noqa: ARG002 - the interface hands every cloud what any of them needs

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

import msgspec

from gpubroker.model.bill import Bill
from gpubroker.model.capabilities import Capabilities
from gpubroker.model.errors import (
    AuthFailed,
    BadResponse,
    BrokerError,
    NotFound,
    OutcomeUnknown,
    Unsupported,
)
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import Instance, Listing
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import Nanos
from gpubroker.model.offer import Offer, OfferPage
from gpubroker.model.query import Query
from gpubroker.model.terms import Market, Resource
from gpubroker.providers.accounts import Account, Wiring
from gpubroker.providers.exchange import Answer
from gpubroker.providers.fields import signed_nanos
from gpubroker.providers.http import Transport
from gpubroker.providers.paging import Page, Whole, all_pages
from gpubroker.providers.redaction import Redactor
from gpubroker.providers.refusals import classify
from gpubroker.providers.vast_ai import asks, charges, contracts, facts
from gpubroker.providers.vast_ai.launching import bid_usd, contract, number
from gpubroker.providers.vast_ai.search import MOST_OFFERS, search

_DAY = timedelta(days=1)


class VastAi:
    """One account at Vast.ai."""

    name: ClassVar[str] = "vast_ai"
    display_name: ClassVar[str] = "Vast.ai"
    website: ClassVar[str] = "https://vast.ai/"
    credentials: ClassVar[tuple[str, ...]] = ("VAST_AI_API_KEY", "VAST_API_KEY")
    capabilities: ClassVar[Capabilities] = facts.CAPABILITIES

    def __init__(self, account: Account, transport: Transport) -> None:
        self.account = account.alias
        self._keyless = not account.key
        self._http = transport

    @classmethod
    def connect(cls, account: Account, wiring: Wiring) -> VastAi:
        """The bare provider. Without a key only `offers` answers."""
        bearer = {"authorization": f"Bearer {account.key}"} if account.key else {}
        transport = Transport(
            cls.name,
            wiring.base_url or facts.BASE_URL,
            auth=lambda: bearer,
            redactor=Redactor(facts.SHOWN, account.secrets.values()),
            clock=wiring.clock,
            loopback_only=wiring.loopback_only,
            observers=wiring.observers,
        )
        return cls(account, transport)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    # Calls

    async def whoami(self) -> str:
        """The user's number."""
        return str((await self._user("whoami")).id)

    async def scopes(self) -> tuple[str, ...]:
        """Lists are account-wide."""
        return ("",)

    async def balance(self) -> Nanos:
        """The `credit`: what can be spent. `balance` is the invoice's side of it."""
        user = await self._user("balance")
        if user.credit is None:
            raise self._http.error(BadResponse, "balance", "an answer without `credit`")
        return signed_nanos(user.credit)

    async def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        """One page a market: on-demand, and interruptible as spot."""
        for market in (Market.ON_DEMAND, Market.SPOT):
            if query.market not in {None, market}:
                continue
            asked = search(query, market)
            answer = await self._ask("offers", "POST", "/api/v0/bundles/", asked.body)
            rows, rejected = asks.parse_offers(
                answer.body,
                account=self.account,
                market=market,
                fetched_at=answer.asked_at,
                required=asked.required,
            )
            told = len(rows) + len(rejected)
            sound = len(rejected) <= told // 10
            complete = asked.exact and told < MOST_OFFERS and sound
            yield OfferPage(asked.covers, complete, rows, rejected)

    async def ensure(
        self,
        what: Resource,
        spec: LaunchSpec,
        offer: Offer,
        attempt: Attempt,
        have: Mapping[Resource, Ref],
    ) -> Ref:
        """Nothing has to exist before a machine."""
        raise self._unsupported("ensure", what.value)

    async def create(
        self, spec: LaunchSpec, offer: Offer, attempt: Attempt, have: Mapping[Resource, Ref]
    ) -> Ref:
        """One request. Keys are attached afterwards: given at creation they are unreliable."""
        body = contract(spec, offer, attempt)
        path = f"/api/v0/asks/{number(offer.key.partition(':')[0], 'offer')}/"
        hide = tuple(spec.env.values())
        answer = await self._send("create", "PUT", path, body, hide=hide)
        made = contracts.new_contract(answer.body)
        refused = not answer.ok or contracts.said_no(answer.body)
        if made is not None and not refused:
            return Ref(self.name, self.account, "", str(made))
        if made is not None:
            raise self._http.error(
                OutcomeUnknown, "create", f"an error that made contract {made}", answer
            )
        if not refused:
            raise self._http.error(OutcomeUnknown, "create", "no contract in the answer", answer)
        raise self._refusal("create", answer, hide)

    async def attach_key(self, ref: Ref, public_key: str) -> None:
        """Admits one more public key."""
        path = f"/api/v0/instances/{number(ref.id, 'ref')}/ssh/"
        await self._ask("attach_key", "POST", path, {"ssh_key": public_key})

    async def find(self, attempt: Attempt, offer: Offer) -> tuple[Instance, ...]:
        """By label, which is not unique at the vendor but is at ours."""
        found = await self._list("find", {"label": {"in": [attempt.name]}})
        return tuple(machine for machine in found.rows if machine.attempt == attempt.id)

    async def get(self, ref: Ref) -> Instance:
        """NotFound where the vendor shows no contract, in its own words or as null."""
        path = f"/api/v0/instances/{number(ref.id, 'ref')}/"
        answer = await self._ask("get", "GET", path, params={"owner": "me"})
        shown = self._http.decode("get", answer, contracts.Shown)
        if shown.instances is None:
            error = self._http.error(NotFound, "get", f"no instance {ref.id}", answer)
            error.code = "no_such_instance"
            raise error
        if str(shown.instances.id) != ref.id:
            raise self._http.error(BadResponse, "get", f"another instance than {ref.id}")
        return contracts.instance_of(shown.instances, self.account)

    async def list(self, scope: str) -> Listing:
        """All machines of the account, with the account's number read beside them."""
        asked_at = self._http.clock.now()
        uid = str((await self._user("list")).id)
        whole = await self._list("list", {})
        return Listing(uid, scope, whole.complete, asked_at, whole.rows)

    async def terminate(self, ref: Ref) -> None:
        """Destroys the contract and its disk; one that is gone already is fine."""
        try:
            await self._ask(
                "terminate", "DELETE", f"/api/v0/instances/{number(ref.id, 'ref')}/", {}
            )
        except NotFound:
            return

    async def release(self, what: Resource, ref: Ref) -> None:
        """Nothing was made before the machine."""
        raise self._unsupported("release", what.value)

    async def stop(self, ref: Ref) -> None:
        """Keeps the disk, which goes on costing."""
        await self._set_state("stop", ref, "stopped")

    async def start(self, ref: Ref) -> None:
        """NoCapacity where somebody else has its GPU now."""
        await self._set_state("start", ref, "running")

    async def bid(self, ref: Ref, price: Nanos) -> None:
        """Changes the bid of a spot machine, per hour of the whole machine."""
        body = {"client_id": "me", "price": bid_usd(price)}
        path = f"/api/v0/instances/bid_price/{number(ref.id, 'ref')}/"
        await self._ask("bid", "PUT", path, body)

    async def billing(self, ref: Ref, since: datetime, until: datetime | None) -> Bill:
        """The charges of this contract. Final only `billing_lag_s` after its end."""
        now = self._http.clock.now()
        first = since.replace(hour=0, minute=0, second=0, microsecond=0)
        last = (until or now) + _DAY
        days = {"gte": int(first.timestamp()), "lte": int(last.timestamp())}
        filters = {"day": days, "type": {"in": ["instance"]}}

        async def fetch(token: str | None) -> Page[charges.Charge]:
            params = {
                "select_filters": _compact(filters),
                "latest_first": "true",
                "limit": str(facts.CHARGES_PAGE),
                "format": "table",
            }
            answer = await self._ask(
                "billing", "GET", "/api/v0/charges/", params=params | _after(token)
            )
            page = self._http.decode("billing", answer, charges.Charges)
            return Page(page.results, page.next_token, page.total)

        whole = await all_pages(fetch, charges.charge_identity)
        lag = timedelta(seconds=self.capabilities.billing_lag_s)
        return charges.bill_of(
            whole.rows, ref.id, until=until, now=now, lag=lag, complete=whole.complete
        )

    def console_url(self, ref: Ref) -> str | None:
        """The list: there is no page for one machine."""
        return facts.CONSOLE

    # How they are asked

    def _unsupported(self, operation: str, what: str) -> Unsupported:
        error = Unsupported(f"{self.name} has no {what}", provider=self.name, operation=operation)
        error.capability = what
        return error

    async def _set_state(self, operation: str, ref: Ref, state: str) -> None:
        path = f"/api/v0/instances/{number(ref.id, 'ref')}/"
        await self._ask(operation, "PUT", path, {"state": state})

    async def _user(self, operation: str) -> contracts.User:
        # No slash: the vendor's client sends none here.
        answer = await self._ask(operation, "GET", "/api/v0/users/current")
        return self._http.decode(operation, answer, contracts.User)

    async def _list(self, operation: str, filters: Mapping[str, Any]) -> Whole[Instance]:
        async def fetch(token: str | None) -> Page[Instance]:
            params = {
                "select_filters": _compact(filters),
                "order_by": '[{"col": "id", "dir": "asc"}]',
                "limit": str(facts.LIST_PAGE),
            }
            answer = await self._ask(
                operation, "GET", "/api/v1/instances/", params=params | _after(token)
            )
            page = self._http.decode(operation, answer, contracts.InstancePage)
            machines = tuple(contracts.instance_of(row, self.account) for row in page.instances)
            return Page(machines, page.next_token, page.total_instances)

        return await all_pages(fetch, lambda machine: machine.ref.id)

    async def _ask(
        self,
        operation: str,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
    ) -> Answer:
        """A call whose answer says yes; any other is raised as what the tables call it."""
        answer = await self._send(operation, method, path, body, params=params)
        if not answer.ok or contracts.said_no(answer.body):
            raise self._refusal(operation, answer)
        return answer

    async def _send(
        self,
        operation: str,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        hide: Sequence[str] = (),
    ) -> Answer:
        if self._keyless and operation != "offers":
            raise AuthFailed(
                f"no key for {self.display_name}: set {self.credentials[0]}",
                provider=self.name,
                operation=operation,
                code="no_key",
            )
        return await self._http.send(operation, method, path, params=params, json=body, hide=hide)

    def _refusal(self, operation: str, answer: Answer, hide: Sequence[str] = ()) -> BrokerError:
        redactor = self._http.redactor.hiding(hide)
        return classify(
            answer, facts.RULES, provider=self.name, operation=operation, redactor=redactor
        )


def _compact(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _after(token: str | None) -> dict[str, str]:
    return {"after_token": token} if token else {}
