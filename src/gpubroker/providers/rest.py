"""What every REST cloud does alike: its transport, its error table, what needs no key."""

# ruff: noqa: ARG002, ARG004 - the interface hands every cloud what any of them needs

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, ClassVar, Self, TypeVar, cast

import msgspec

from gpubroker.model.bill import Bill
from gpubroker.model.capabilities import Capabilities
from gpubroker.model.errors import AuthFailed, BadResponse, BrokerError, Unsupported
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import Instance, Listing
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.offer import Offer
from gpubroker.model.terms import Resource
from gpubroker.providers.account_uid import ToldUid
from gpubroker.providers.accounts import Account, Wiring
from gpubroker.providers.bills import bill_to_look_up
from gpubroker.providers.exchange import Answer
from gpubroker.providers.http import Transport
from gpubroker.providers.paging import Page, PageShape, Whole, all_pages
from gpubroker.providers.redaction import Redactor
from gpubroker.providers.refusals import Rule, classify

Row = TypeVar("Row")
Shape = TypeVar("Shape")


class RestCloud(ABC):
    """One account at a cloud with an HTTP interface; a provider adds its calls.

    `whoami`, `find` and `list` rest on two questions that each answers in its own way: `uid` and
    `machines`.
    """

    name: ClassVar[str]
    display_name: ClassVar[str]
    website: ClassVar[str]
    console: ClassVar[str]
    """The page where a person sees a machine, `{id}` standing for its id where it is in there."""
    charges_page: ClassVar[str] = ""
    """Where a person finds what was charged, at a cloud that has no record to ask for."""
    credentials: ClassVar[tuple[str, ...]]
    capabilities: ClassVar[Capabilities]
    base_url: ClassVar[str]
    rules: ClassVar[Sequence[Rule]]
    shown: ClassVar[frozenset[str]]
    """Fields whose values may be written down."""
    keyless: ClassVar[frozenset[str]] = frozenset()
    """Operations that answer without a key."""

    def __init__(self, account: Account, transport: Transport) -> None:
        self.account = account.alias
        self.http = transport
        self._has_key = bool(account.key)
        self._told_uid = ToldUid(transport.clock)

    @abstractmethod
    async def uid(self, operation: str) -> str:
        """The account's stable uid, as the vendor tells it."""

    @abstractmethod
    async def machines(self, operation: str) -> Whole[Instance]:
        """Every machine of the account, foreign ones too, all pages."""

    @classmethod
    def connect(cls, account: Account, wiring: Wiring) -> Self:
        """The bare provider, at the vendor's address unless another is wired."""
        headers = cls.authorization(account) if account.key else {}
        transport = Transport(
            cls.name,
            wiring.base_url or cls.base_url,
            auth=lambda: headers,
            redactor=Redactor(cls.shown, account.secrets.values()),
            clock=wiring.clock,
            loopback_only=wiring.loopback_only,
            deadlines=wiring.deadlines,
            observers=wiring.observers,
        )
        return cls(account, transport)

    @staticmethod
    def authorization(account: Account) -> Mapping[str, str]:
        """The headers that carry the key."""
        return {"authorization": f"Bearer {account.key}"}

    @staticmethod
    def says_no(body: bytes) -> bool:
        """Whether an answer of status 2xx says failure in its body."""
        return False

    async def aclose(self) -> None:
        """Closes the connections."""
        await self.http.aclose()

    async def scopes(self) -> tuple[str, ...]:
        """Lists are account-wide."""
        return ("",)

    async def whoami(self) -> str:
        """Whose key it is."""
        return self._told_uid.tell(await self._uid("whoami"))

    async def uid_beside(self, operation: str) -> str:
        """The uid beside a list, not asked for again where `whoami` was told it just now."""
        return self._told_uid.take() or await self._uid(operation)

    async def _uid(self, operation: str) -> str:
        """Two accounts that are told without one would be taken for the same."""
        uid = await self.uid(operation)
        if not uid:
            raise self.http.error(BadResponse, operation, "an account without an id")
        return uid

    async def list(self, scope: str) -> Listing:
        """All machines of the account, with its uid read beside them."""
        asked_at = self.http.clock.now()
        uid = await self.uid_beside("list")
        whole = await self.machines("list")
        return Listing(uid, scope, whole.complete, asked_at, whole.rows)

    async def find(self, attempt: Attempt, offer: Offer) -> tuple[Instance, ...]:
        """By the carrier, among all machines: for lists that take no such filter."""
        return of_attempt(attempt, await self.machines("find"))

    async def billing(self, ref: Ref, since: datetime, until: datetime | None) -> Bill:
        """There is no record to ask for: what a person finds on the vendor's page."""
        return bill_to_look_up(self.charges_page or self.website, ref, since, until)

    def console_url(self, ref: Ref) -> str | None:
        """The machine's page, or the one that lists them all."""
        return self.console.replace("{id}", ref.id)

    async def ensure(
        self,
        what: Resource,
        spec: LaunchSpec,
        offer: Offer,
        attempt: Attempt,
        have: Mapping[Resource, Ref],
    ) -> Ref:
        """Nothing has to exist before a machine."""
        raise self.unsupported("ensure", what.value)

    async def release(self, what: Resource, ref: Ref) -> None:
        """Nothing was made before the machine."""
        raise self.unsupported("release", what.value)

    async def ask(
        self,
        operation: str,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        hide: Sequence[str] = (),
    ) -> Answer:
        """A call whose answer says yes; any other is raised as what the error table calls it."""
        answer = await self.send(operation, method, path, body, params=params, hide=hide)
        if self.refused(answer):
            raise self.refusal(operation, answer, hide)
        return answer

    async def ask_for(
        self,
        shape: type[Shape],
        operation: str,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        under: str = "",
        params: Mapping[str, str] | None = None,
        hide: Sequence[str] = (),
    ) -> Shape:
        """`ask`, and what its answer tells.

        `under`: where in the answer that stands, "data" or "data.instances"; "": all of it.
        """
        answer = await self.ask(operation, method, path, body, params=params, hide=hide)
        keys = tuple(under.split(".")) if under else ()
        told = self.http.decode(operation, answer, _enveloped(cast("Any", shape), keys))
        for _ in keys:
            told = told.inside
        return cast("Shape", told)

    async def pages(
        self,
        operation: str,
        path: str,
        params: Mapping[str, str],
        shape: type[PageShape[Row]],
        *,
        identity: Callable[[Row], object],
        token_name: str,
    ) -> Whole[Row]:
        """Every page of a list, each row once. `token_name`: the parameter of the next page."""

        async def fetch(token: str | None) -> Page[Row]:
            paged = {**params, token_name: token} if token else params
            answer = await self.ask(operation, "GET", path, params=paged)
            page = self.http.decode(operation, answer, shape)
            return Page(tuple(page.rows), page.next_token, page.total)

        return await all_pages(fetch, identity)

    async def send(
        self,
        operation: str,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        hide: Sequence[str] = (),
    ) -> Answer:
        """One request, whatever its answer. `hide`: values of it that are secrets."""
        if not self._has_key and operation not in self.keyless:
            raise AuthFailed(
                f"no key for {self.display_name}: set {self.credentials[0]}",
                provider=self.name,
                operation=operation,
                code="no_key",
            )
        return await self.http.send(operation, method, path, params=params, json=body, hide=hide)

    def refused(self, answer: Answer) -> bool:
        """Whether an answer says no, by its status or in its body."""
        return not answer.ok or self.says_no(answer.body)

    def refusal(self, operation: str, answer: Answer, hide: Sequence[str] = ()) -> BrokerError:
        """The error that an answer is."""
        redactor = self.http.redactor.hiding((*hide, *answer.hidden))
        return classify(
            answer, self.rules, provider=self.name, operation=operation, redactor=redactor
        )

    def ref(self, id_: object, scope: str = "") -> Ref:
        """Of something in this account."""
        return Ref(self.name, self.account, scope, str(id_))

    def same(self, ref: Ref, told: Instance) -> Instance:
        """The machine that `get` was told of. BadResponse where it is another."""
        if told.ref.id != ref.id:
            raise self.http.error(BadResponse, "get", f"another machine than {ref.id}")
        return told

    def takes_no_options(self, operation: str, spec: LaunchSpec) -> None:
        """Unsupported, with their names, where options are given to a cloud that has none."""
        if spec.options:
            raise self.unsupported(operation, f"options: {', '.join(sorted(spec.options))}")

    def unsupported(self, operation: str, what: str) -> Unsupported:
        """The error of a thing that the cloud has not."""
        error = Unsupported(
            f"{self.display_name} has no {what}", provider=self.name, operation=operation
        )
        error.capability = what
        return error


def of_attempt(attempt: Attempt, machines: Whole[Instance]) -> tuple[Instance, ...]:
    """Those of them that carry it."""
    return tuple(machine for machine in machines.rows if machine.attempt == attempt.id)


@cache
def _enveloped(shape: Any, keys: tuple[str, ...]) -> Any:
    for key in reversed(keys):
        field = ("inside", shape, msgspec.field(name=key))
        shape = msgspec.defstruct("Envelope", [field])
    return shape


def json_text(value: Any) -> str:
    """JSON without spaces, for a value of the query string."""
    return msgspec.json.encode(value).decode()
