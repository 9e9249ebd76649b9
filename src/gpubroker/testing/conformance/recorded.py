"""Recorded answers of a cloud: what the provider makes of them.

A folder holds answers as files and a `manifest.json` (docs/adding-a-cloud.md, section 6).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec
from msgspec import Struct

from gpubroker.catalog.clouds import UnknownCloud, cloud
from gpubroker.model.errors import BrokerError
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.offer import Offer, OfferPage
from gpubroker.model.query import Query
from gpubroker.model.terms import Resource
from gpubroker.providers.accounts import Account, Wiring
from gpubroker.providers.registry import ProviderClass
from gpubroker.testing.conformance.bench import closed
from gpubroker.testing.conformance.check import broken, none_of, require
from gpubroker.testing.conformance.wire import Asked, Said, answering

if TYPE_CHECKING:
    from gpubroker.providers.base import Provider

KEY = "k3y-0f-the-tests-n0t-real"
ATTEMPT = Attempt("abcdef", "abcdefghijklmnop", "recorded")
PUBLIC_KEY = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJxVJ1SPSM9vG2n2fSKZ0eiFO0Ptc1jD3dhKkq8bCQh9 gb-abcdef"
)
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
SINCE, UNTIL = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 10, 2, tzinfo=UTC)
_CLIENT_ERROR = 400

Call = Literal[
    "whoami", "offers", "create", "find", "get", "list", "terminate", "billing", "balance",
    "stop", "start",
]  # fmt: skip


class Recording(Struct, frozen=True, forbid_unknown_fields=True):
    """One answer."""

    request: str
    """Method and path without its query; `*` stands for anything."""
    file: str
    status: int = 200


class Case(Struct, frozen=True, forbid_unknown_fields=True):
    """One call, what the cloud answers to it, and what must come of it."""

    name: str
    call: Call
    answers: tuple[Recording, ...]
    expect: dict[str, Any]
    """Path into the result -> value; `#` is a length; `error` the word of an error."""
    id: str = ""
    scope: str = ""
    offer: str = ""

    def __str__(self) -> str:
        return self.name


class Manifest(Struct, frozen=True, forbid_unknown_fields=True):
    """All of a cloud."""

    source: str
    """Where the answers are from."""
    cases: tuple[Case, ...]


class StandingClock:
    """It is always the same moment."""

    def now(self) -> datetime:
        """NOW."""
        return NOW

    def boot_s(self) -> float:
        """Seconds of NOW."""
        return NOW.timestamp()

    async def sleep(self, seconds: float) -> None:
        """Nothing waits in a recording."""
        del seconds


def manifest(folder: Path) -> Manifest:
    """Raises msgspec.ValidationError with the place where it is not one."""
    return msgspec.json.decode((folder / "manifest.json").read_bytes(), type=Manifest)


class Replay:
    """A server that gives a case's answers."""

    def __init__(self, folder: Path, case: Case) -> None:
        self._bodies = {answer.file: (folder / answer.file).read_bytes() for answer in case.answers}
        self.case = case
        self.begin()

    def begin(self, damaged: bytes | None = None) -> None:
        """From the first answer on. `damaged`: instead of the case's own answer."""
        self._waiting = list(self.case.answers)
        self._damaged = damaged
        self.unlisted: list[str] = []

    @property
    def own(self) -> Recording | None:
        """The answer to the call itself: the last of the case, where it is no error."""
        last = self.case.answers[-1] if self.case.answers else None
        return last if last and last.status < _CLIENT_ERROR else None

    @property
    def own_body(self) -> bytes:
        """What it holds."""
        return self._bodies[self.own.file] if self.own else b""

    def __call__(self, asked: Asked) -> Said:
        """The next answer that is listed for the request."""
        request = f"{asked.method} {asked.path}"
        fitting = [answer for answer in self._waiting if fnmatchcase(request, answer.request)]
        if not fitting:
            self.unlisted.append(request)
            return Said(500, b"not recorded")
        answer = fitting[0]
        if len(fitting) > 1:
            self._waiting.remove(answer)
        damaged = self._damaged is not None and answer is self.own
        body = self._damaged if damaged and self._damaged is not None else self._bodies[answer.file]
        return Said(answer.status, body)


@asynccontextmanager
async def connected(provider_class: type[Provider], replay: Replay) -> AsyncIterator[Provider]:
    """The provider, its cloud a case's answers."""
    async with answering(replay) as wire:
        wiring = Wiring(wire.url, True, StandingClock())
        account = Account(provider_class.name, "default", _secrets(provider_class), "recorded")
        provider = cast(ProviderClass, provider_class).connect(account, wiring)
        try:
            yield provider
        finally:
            await closed(provider)


def _secrets(provider_class: type[Provider]) -> dict[str, str]:
    try:
        needed = [spellings[0] for spellings in cloud(provider_class.name).credentials]
    except UnknownCloud:
        needed = [provider_class.credentials[0]]
    return dict.fromkeys(needed, KEY)


async def replay(provider_class: type[Provider], folder: Path, case: Case) -> None:
    """Plays a case; Broken where something else comes of it than is expected."""
    server = Replay(folder, case)
    async with connected(provider_class, server) as provider:
        try:
            made: Any = await Caller(provider, folder, server).call()
        except BrokerError as error:
            made = _told_of(error)
            if "error" not in case.expect:
                broken(f"{case.name}: {error.word}: {error}")
    require(not server.unlisted, f"{case.name}: not recorded: {', '.join(server.unlisted)}")
    result = _plain(made)
    none_of(
        f"{case.name}: {path} is {found!r}, not {wanted!r}"
        for path, wanted in case.expect.items()
        if (found := _at(result, path)) != wanted
    )


def _told_of(error: BrokerError) -> dict[str, Any]:
    told = {name: value for name, value in vars(error).items() if isinstance(value, str | int)}
    return told | {"error": error.word}


def _plain(value: Any) -> Any:
    """As JSON would hold it, defaults included."""
    if isinstance(value, Struct):
        fields = msgspec.structs.fields(value)
        return {field.name: _plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return msgspec.to_builtins(value)


def _at(result: Any, path: str) -> Any:
    """What stands at a path; None where there is nothing."""
    if path == "#":
        return len(result)
    if isinstance(result, Mapping) and path in result:
        return result[path]
    first, _, rest = path.partition(".")
    try:
        inner = result[int(first)] if isinstance(result, list | tuple) else result[first]
    except (LookupError, TypeError, ValueError):
        return None
    return _at(inner, rest) if rest else inner


class Caller:
    """Makes a case's call."""

    def __init__(self, provider: Provider, folder: Path, server: Replay) -> None:
        self._provider, self._folder, self._server = provider, folder, server
        self._case = server.case
        self._offer: Offer | None = None
        self._have: dict[Resource, Ref] = {}

    async def call(self) -> Any:
        """All that comes before the call itself, and the call."""
        if self._case.call in {"create", "find"}:
            self._offer = await self._offered()
        if self._case.call == "create":
            for what in self._provider.capabilities.needs:
                self._have[what] = await self._provider.ensure(
                    what, _SPEC, self._known, ATTEMPT, self._have
                )
        return await self.itself()

    async def itself(self) -> Any:
        """The call; of searches all pages as one."""
        provider, case = self._provider, self._case
        ref = Ref(provider.name, "default", case.scope, case.id)
        asked: Mapping[str, Callable[[], Awaitable[Any]]] = {
            "offers": self._pages,
            "whoami": self._uid,
            "balance": self._balance,
            "create": lambda: provider.create(_SPEC, self._known, ATTEMPT, self._have),
            "find": lambda: provider.find(ATTEMPT, self._known),
            "list": lambda: provider.list(case.scope),
            "billing": lambda: provider.billing(ref, SINCE, UNTIL),
        }
        if case.call in asked:
            return await asked[case.call]()
        return await getattr(provider, case.call)(ref)

    async def _pages(self) -> dict[str, Any]:
        return _as_one([page async for page in self._provider.offers(Query())])

    async def _uid(self) -> dict[str, Any]:
        return {"uid": await self._provider.whoami()}

    async def _balance(self) -> dict[str, Any]:
        return {"amount": await cast("Any", self._provider).balance()}

    @property
    def _known(self) -> Offer:
        if self._offer is None:
            broken("the call needs an offer")
        return self._offer

    async def _offered(self) -> Offer:
        """By the case's own answers, else by those of the first search of the manifest."""
        rows = await self._search(self._provider)
        if rows is None:
            self._server.begin()
            searches = [c for c in manifest(self._folder).cases if c.call == "offers"]
            require(bool(searches), "no case of `offers`")
            server = Replay(self._folder, searches[0])
            async with connected(type(self._provider), server) as provider:
                rows = await self._search(provider) or []
        wanted = [row for row in rows if self._case.offer in {"", row.key}]
        require(bool(wanted), f"no offer {self._case.offer!r}")
        return wanted[0]

    @staticmethod
    async def _search(provider: Provider) -> list[Offer] | None:
        try:
            return [row async for page in provider.offers(Query()) for row in page.rows]
        except BrokerError:
            return None


_SPEC = LaunchSpec(ssh_keys=(PUBLIC_KEY,), expires_at=datetime(2026, 11, 1, 18, tzinfo=UTC))


def _as_one(pages: list[OfferPage]) -> dict[str, Any]:
    return {
        "rows": tuple(row for page in pages for row in page.rows),
        "rejected": tuple(row for page in pages for row in page.rejected),
        "complete": all(page.complete for page in pages),
    }
