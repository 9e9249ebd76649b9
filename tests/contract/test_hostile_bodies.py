"""Each provider against hostile bodies of its vendor's own schemas.

The recorded cases are played with bodies that are made of the vendor's OpenAPI document in place of
the recorded ones. What may come of it: an error of the model, or a value that is sound.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import partial
from itertools import chain, islice
from pathlib import Path
from random import Random
from typing import Any, cast

import msgspec
import pytest
from tests.contract.hostile import Hostile, Schemas, hostile, no_bodies
from tests.contract.openapi import Document
from tests.contract.soundness import Played, faults, parsed

from gpubroker.model.errors import BadResponse, BrokerError, NotFound, OutcomeUnknown, Refused
from gpubroker.model.offer import Offer
from gpubroker.providers.exchange import Answer
from gpubroker.providers.http import Transport
from gpubroker.providers.offering import Gathered
from gpubroker.providers.quarantine import RowReader
from gpubroker.providers.registry import BUILT_IN, provider_class
from gpubroker.providers.rest import RestCloud
from gpubroker.testing.conformance.recorded import (
    Caller,
    Case,
    Recording,
    Replay,
    connected,
    manifest,
)
from gpubroker.testing.conformance.wire import Asked, Said

pytestmark = pytest.mark.judge
FIXTURES = Path(__file__).parents[1] / "providers" / "fixtures"
DOCUMENTS: Mapping[str, tuple[str, str]] = {
    "digitalocean": ("digitalocean/digitalocean-v2-trimmed.json", ""),
    "fluidstack": ("fluidstack/platform-openapi.json", ""),
    "hyperstack": ("hyperstack/infrahub-openapi-trimmed.yaml", "/v1"),
    "lambda_labs": ("lambda_labs/openapi-1.8.3.json", ""),
    "runpod": ("runpod/rest-v2-openapi.json", ""),
    "salad": ("salad/salad-cloud.yaml", "/api/public"),
    "shadeform": ("shadeform/openapi.yaml", "/v1"),
    "tensordock": ("tensordock/tensordock-instances-api-openapi.yml", ""),
    "thunder_compute": ("thunder_compute/swagger.json", "/v[12]"),
    "vast_ai": ("vast_ai/openapi.yaml", ""),
    "verda": ("verda/thirdparty-reconstruction-openapi.yml", "/v1"),
}
"""Provider -> its vendor's document, and what stands before its paths (a pattern)."""
WITHOUT = {
    "jarvislabs": "the vendor publishes none",
    "lyceum": "the vendor publishes none",
    "northflank": "its index names fields and no types",
    "paperspace": "it is there as types of TypeScript alone",
}
"""Their calls, and those that a document leaves out, are spoiled as they were recorded."""
WHOLE, FIELDS, FIELDS_OF_OFFERS = 6, 12, 60
"""Of each answer of a case, times two: a recorded one and one that is made up."""
MOST_TOLD = 20


class Spoiling(Replay):
    """Gives a case's answers, any one of them spoiled."""

    def __init__(self, folder: Path, case: Case) -> None:
        self.spoiled: Recording | None = None
        self.good = b""
        """What the spoiled body was before."""
        self.asked: list[str] = []
        super().__init__(folder, case)

    @property
    def own(self) -> Recording | None:
        return self.spoiled

    def recorded(self, answer: Recording) -> bytes:
        return self._bodies[answer.file]

    def __call__(self, asked: Asked) -> Said:
        self.asked.append(f"{asked.method} {asked.path}")
        return super().__call__(asked)


# How it is played


class Plays:
    """All cases of one provider, each answer of each in many forms."""

    def __init__(
        self, name: str, document: Document | None, folder: Path, fields: int = FIELDS
    ) -> None:
        """`fields`: so many bodies with a spoiled one, of each answer."""
        self.name, self.folder, self._fields = name, folder, fields
        self._document, self._random = document, Random(name)  # noqa: S311 - no secret is made
        self._schemas = Schemas(document.raw if document else {}, self._random)
        self._before = DOCUMENTS.get(name, ("", ""))[1]
        self._refusals = list(self._told_no())
        self._known: dict[tuple[str, str, int], Any] = {}
        self.found: list[str] = []
        self.bodies = 0
        self.priced = 0
        """Good bodies that made offers."""

    @property
    def has_schemas(self) -> bool:
        return any(schema is not None for schema in self._known.values())

    async def all(self, calls: frozenset[str] = frozenset()) -> list[str]:
        """What is wrong with what came of them. `calls`: of these alone, of all where none is."""
        for case in manifest(self.folder).cases:
            if case.answers and (not calls or case.call in calls):
                await self._case(case)
        return self.found

    async def _case(self, case: Case) -> None:
        server = Spoiling(self.folder, case)
        async with connected(provider_class(self.name), server) as provider:
            caller = Caller(provider, self.folder, server)
            await _told(caller.call)
            if case.call == "create" and caller._have.keys() < set(provider.capabilities.needs):
                return
            cast("Any", provider).http.send = partial(_send, server, cast("Any", provider).http)
            server.begin()
            server.asked.clear()
            recorded = await _told(caller.itself)
            for answer in case.answers:
                asked = [one for one in server.asked if fnmatchcase(one, answer.request)]
                if asked:
                    await self._answer(caller, server, asked[0], answer, recorded)

    async def _answer(
        self, caller: Caller, server: Spoiling, request: str, answer: Recording, recorded: Any
    ) -> None:
        server.spoiled = answer
        if isinstance(recorded, BrokerError):
            for body in no_bodies(None, self._random):
                await self._play(caller, server, body, recorded)
            return
        for good in self._good(request, answer, server):
            encoded = json.dumps(good).encode()
            first = Hostile("as it should be", encoded, lawful=True)
            server.good = encoded
            sound = await self._play(caller, server, first, recorded)
            offers = server.case.call == "offers"
            self.priced += bool(offers and isinstance(sound, dict) and sound["rows"])
            fields = hostile(good, self._random)
            for body in chain(
                islice(no_bodies(good, self._random), WHOLE),
                islice(fields, FIELDS_OF_OFFERS if offers else self._fields),
            ):
                await self._play(caller, server, body, sound)

    def _told_no(self) -> Iterator[Mapping[str, Any]]:
        """Recorded answers that do say no: what holds one of them is no hostile body."""
        for case in manifest(self.folder).cases:
            if "error" in case.expect and case.answers:
                answer = parsed((self.folder / case.answers[-1].file).read_bytes())
                if answer and isinstance(answer, dict):
                    yield answer

    def _says_no(self, body: bytes) -> bool:
        told = parsed(body)
        return isinstance(told, dict) and any(
            all(name in told and told[name] == value for name, value in refusal.items())
            for refusal in self._refusals
        )

    async def _play(self, caller: Caller, server: Spoiling, body: Hostile, sound: Any) -> Any:
        """What came of it; None where that was no answer of the model."""
        answer = server.spoiled
        if answer is None or self._says_no(body.body):
            return None
        server.begin(damaged=body.body)
        self.bodies += 1
        try:
            told = await _told(caller.itself)
        except Exception as error:  # noqa: BLE001 - the very fault that is looked for
            self._wrong(server, body, f"{type(error).__name__}: {error}")
            return None
        for fault in faults(Played(server.case, answer, server.good, body, sound, told)):
            self._wrong(server, body, fault)
        return told

    def _good(self, request: str, answer: Recording, server: Spoiling) -> Iterator[Any]:
        """What is spoiled: the recorded body with all that its schema names, and one made up."""
        try:
            recorded = json.loads(server.recorded(answer))
        except ValueError:
            return
        schema = self._schema(request, answer.status)
        if schema is None:
            yield recorded
            return
        yield self._schemas.plausible(schema, recorded)
        yield self._schemas.plausible(schema)

    def _schema(self, request: str, status: int) -> Any:
        method, path = request.split(" ", 1)
        path = re.sub(f"^{self._before}", "", path)
        asked = (method, path, status)
        if asked not in self._known:
            try:
                known = self._document and self._document.schema_of_answer(*asked)
            except KeyError:
                known = None
            self._known[asked] = known
        return self._known[asked]

    def _wrong(self, server: Spoiling, body: Hostile, fault: str) -> None:
        request = server.spoiled.request if server.spoiled else ""
        self.found.append(f"{server.case.name}, {request}, {body.what}: {fault[:300]}")


async def _send(
    server: Spoiling,
    transport: Transport,
    operation: str,
    method: str,
    path: str,
    *,
    hide: Sequence[str] = (),
    **more: Any,
) -> Answer:
    """Straight from the server: what is between is the same whatever a body holds."""
    del operation, more
    said = server(Asked(method, path.removeprefix(transport.base_url), {}, b""))
    return Answer(said.status, said.headers, said.body, transport.clock.now(), tuple(hide))


async def _told(call: Callable[[], Any]) -> Any:
    try:
        return await call()
    except BrokerError as error:
        return error


# The claims


def document_of(name: str, closed: Callable[..., Document]) -> Document | None:
    return closed(DOCUMENTS[name][0]) if name in DOCUMENTS else None


@pytest.mark.parametrize("name", BUILT_IN)
async def test_a_hostile_body_is_told_as_what_it_is(
    name: str, closed: Callable[..., Document]
) -> None:
    plays = Plays(name, document_of(name, closed), FIXTURES / name)
    found = await plays.all()
    assert not found, f"{len(found)} of {plays.bodies}:\n" + "\n".join(found[:MOST_TOLD])
    assert plays.priced, "no good body made an offer: no price was looked at"
    assert plays.has_schemas == (name in DOCUMENTS), "the document knows none of the calls"


def test_every_provider_has_a_document_or_a_reason() -> None:
    assert {*DOCUMENTS, *WITHOUT} == set(BUILT_IN)


# That a fault is found


def _unguarded(self: Transport, operation: str, answer: Answer, shape: Any) -> Any:
    return msgspec.json.decode(answer.body, type=shape)


def _healed(self: RowReader[Any], raw_rows: Any) -> Any:
    """A row without a price is given one."""
    rows = [row for row in raw_rows if isinstance(row, dict)]
    told = [{**row, "hourly_price": 100} for row in rows]
    with suppress(msgspec.ValidationError):
        return [msgspec.convert(row, self._row) for row in told], []
    return [], [("", "no row")] * len(rows)


def _mistaken(kind: type[BrokerError], other: type[BrokerError]) -> Any:
    raised = Transport.error

    def error(self: Transport, told: type[BrokerError], *more: Any) -> BrokerError:
        return raised(self, other if told is kind else told, *more)

    return error


async def _untold(self: RestCloud, operation: str) -> str:
    return await self.uid(operation)


def _gullible(self: Gathered, offer: Offer) -> str:
    return ""


MUTANTS: Mapping[str, tuple[str, str, Any, str, Any, str]] = {
    "a decoder that raises its own errors": (
        "lambda_labs", "get", Transport, "decode", _unguarded, "Error: ",
    ),
    "a price that no body told": ("shadeform", "offers", RowReader, "each", _healed, " costs "),
    "an offer for nothing": ("shadeform", "offers", Gathered, "_fault", _gullible, " costs "),
    "a create that surely made nothing": (
        "lambda_labs", "create", Transport, "error", _mistaken(OutcomeUnknown, Refused),
        " of a create",
    ),
    "a machine that is surely gone": (
        "hyperstack", "get", Transport, "error", _mistaken(BadResponse, NotFound), "not_found: ",
    ),
    "an account without a name": ("runpod", "whoami", RestCloud, "_uid", _untold, "an account"),
}  # fmt: skip
"""Provider, call, what is broken and how, and what is said of it."""


@pytest.mark.parametrize("mutant", MUTANTS)
async def test_what_is_broken_is_found(
    mutant: str, closed: Callable[..., Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, call, owner, attribute, broken, said = MUTANTS[mutant]
    monkeypatch.setattr(owner, attribute, broken)
    plays = Plays(name, document_of(name, closed), FIXTURES / name, fields=100)
    found = await plays.all(frozenset({call}))
    assert any(said in fault for fault in found), found[:MOST_TOLD]
