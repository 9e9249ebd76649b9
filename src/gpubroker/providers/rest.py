"""What every REST cloud does alike: its transport, its error table, what needs no key."""

# ruff: noqa: ARG002, ARG004 - the interface hands every cloud what any of them needs

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self, TypeVar

import msgspec

from gpubroker.model.capabilities import Capabilities
from gpubroker.model.errors import AuthFailed, BrokerError, Unsupported
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.offer import Offer
from gpubroker.model.terms import Resource
from gpubroker.providers.accounts import Account, Wiring
from gpubroker.providers.exchange import Answer
from gpubroker.providers.http import Transport
from gpubroker.providers.paging import Page, PageShape, Whole, all_pages
from gpubroker.providers.redaction import Redactor
from gpubroker.providers.refusals import Rule, classify

Row = TypeVar("Row")


class RestCloud:
    """One account at a cloud with an HTTP interface; a provider adds its calls."""

    name: ClassVar[str]
    display_name: ClassVar[str]
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
    ) -> Answer:
        """A call whose answer says yes; any other is raised as what the error table calls it."""
        answer = await self.send(operation, method, path, body, params=params)
        if self.refused(answer):
            raise self.refusal(operation, answer)
        return answer

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
        redactor = self.http.redactor.hiding(hide)
        return classify(
            answer, self.rules, provider=self.name, operation=operation, redactor=redactor
        )

    def unsupported(self, operation: str, what: str) -> Unsupported:
        """The error of a thing that the cloud has not."""
        error = Unsupported(
            f"{self.display_name} has no {what}", provider=self.name, operation=operation
        )
        error.capability = what
        return error


def json_text(value: Any) -> str:
    """JSON without spaces, for a value of the query string."""
    return msgspec.json.encode(value).decode()
