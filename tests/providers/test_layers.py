"""The layers around a provider: their order, and what each does and leaves alone."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest

from gpubroker.model.capabilities import Limit
from gpubroker.model.errors import (
    AuthFailed,
    BadResponse,
    BrokerError,
    Invalid,
    NoCapacity,
    OutcomeUnknown,
    RateLimited,
    TimedOut,
    Unavailable,
)
from gpubroker.model.identity import Ref
from gpubroker.model.offer import OfferPage
from gpubroker.model.query import Query
from gpubroker.providers.base import MUTATIONS, READS, Biddable, HasBalance, Stoppable
from gpubroker.providers.calling import Call, sent_only_after, urgent
from gpubroker.providers.circuit import Circuit
from gpubroker.providers.decorated import decorate
from gpubroker.providers.layers import Faults, Meter, RateLimit, Record, Recording, Retry, Trace
from gpubroker.providers.limits import Limiter, MemoryLimitBook
from gpubroker.providers.vast_ai import VastAi

REF = Ref("acme", "default", "", "1")


class Acme:
    """A provider whose every answer is scripted; it can stop machines, and has no balance."""

    name: ClassVar[str] = "acme"
    display_name: ClassVar[str] = "Acme"
    website: ClassVar[str] = ""
    credentials: ClassVar[tuple[str, ...]] = ()
    capabilities: ClassVar[Any] = None
    account = "default"

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.errors: list[BrokerError] = []
        self.pages_before_error = 1

    async def _answer(self, operation: str) -> str:
        self.calls.append(operation)
        if self.errors:
            raise self.errors.pop(0)
        return operation

    async def whoami(self) -> str:
        return await self._answer("whoami")

    async def get(self, ref: Ref) -> Any:
        return await self._answer("get")

    async def list(self, scope: str) -> Any:
        return await self._answer("list")

    async def terminate(self, ref: Ref) -> None:
        await self._answer("terminate")

    async def create(self, *_: Any) -> Any:
        return await self._answer("create")

    async def stop(self, ref: Ref) -> None:
        await self._answer("stop")

    async def start(self, ref: Ref) -> None:
        await self._answer("start")

    async def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        for number in range(self.pages_before_error):
            yield OfferPage(None, complete=bool(number), rows=())
        await self._answer("offers")

    def console_url(self, ref: Ref) -> str | None:
        return "https://acme.test"


@pytest.fixture
def acme() -> Acme:
    return Acme()


def wrap(acme: Any, *layers: Any) -> Any:
    return decorate(acme, layers)


def test_a_wrapped_provider_has_exactly_the_protocols_of_the_bare_one(acme: Acme) -> None:
    wrapped = wrap(acme)
    assert (wrapped.name, wrapped.account) == ("acme", "default")
    assert wrapped.console_url(REF) == "https://acme.test"
    assert isinstance(wrapped, Stoppable)
    assert not isinstance(wrapped, HasBalance)
    assert not isinstance(wrapped, Biddable)
    for protocol in (Stoppable, HasBalance, Biddable):  # as Python 3.12 looks: not by getattr
        names = [n for n in vars(protocol) if not n.startswith("_")]
        has = all(inspect.getattr_static(wrapped, n, None) for n in names)
        assert has is isinstance(acme, protocol)


def test_a_wrapped_provider_keeps_the_signatures(vast: Any) -> None:
    wrapped = wrap(vast)
    operations = (READS | MUTATIONS) & set(dir(VastAi))
    assert {"offers", "create", "bid"} <= operations
    for operation in operations:
        ours, theirs = (inspect.signature(getattr(one, operation)) for one in (wrapped, vast))
        names = [name for name in ours.parameters if name != "self"]
        assert names == list(theirs.parameters), operation


async def test_layers_run_outside_in_and_arguments_come_through(acme: Acme) -> None:
    order: list[str] = []

    def noting(name: str) -> Any:
        async def layer(call: Call, proceed: Callable[[], Any]) -> Any:
            order.append(f"{name}>")
            answer = await proceed()
            order.append(f"<{name}")
            return answer

        return layer

    wrapped = wrap(acme, noting("a"), noting("b"))
    assert await wrapped.get(ref=REF) == "get"
    assert order == ["a>", "b>", "<b", "<a"]


# Retry


@pytest.mark.parametrize("trouble", [Unavailable, TimedOut, BadResponse, RateLimited])
async def test_a_read_in_trouble_is_tried_three_times(
    acme: Acme, clock: Any, trouble: type[BrokerError]
) -> None:
    acme.errors = [trouble(), trouble()]
    assert await wrap(acme, Retry(clock, jitter=lambda: 1.0)).get(REF) == "get"
    assert clock.slept == [1.0, 2.0]
    acme.errors = [trouble() for _ in range(3)]
    with pytest.raises(trouble):
        await wrap(acme, Retry(clock)).get(REF)
    assert acme.calls == ["get"] * 6


@pytest.mark.parametrize("operation", ["create", "terminate", "stop", "start"])
@pytest.mark.parametrize("error", [Unavailable, OutcomeUnknown, RateLimited])
async def test_a_mutation_is_never_tried_again(
    acme: Acme, clock: Any, operation: str, error: type[BrokerError]
) -> None:
    acme.errors = [error()]
    with pytest.raises(error):
        await getattr(wrap(acme, Retry(clock)), operation)(REF)
    assert acme.calls == [operation]
    assert clock.slept == []


@pytest.mark.parametrize("error", [Invalid(), AuthFailed(), NoCapacity(), OutcomeUnknown(),
                                   RateLimited(code="search_quota_exceeded"),
                                   RateLimited(code="paced"),
                                   Unavailable(code="circuit_open")], ids=repr)  # fmt: skip
async def test_what_repeating_cannot_help_is_not_repeated(
    acme: Acme, clock: Any, error: BrokerError
) -> None:
    acme.errors = [error]
    with pytest.raises(type(error)):
        await wrap(acme, Retry(clock)).get(REF)
    assert acme.calls == ["get"]


async def test_retry_after_is_honoured_and_never_outlives_the_deadline(
    acme: Acme, clock: Any
) -> None:
    patient, late = RateLimited(), RateLimited()
    patient.retry_after_s, late.retry_after_s = 12.0, 45.0
    acme.errors = [patient, late]
    with pytest.raises(RateLimited):
        await decorate(acme, [Retry(clock)], deadlines={"get": 50.0}).get(REF)  # type: ignore[arg-type]  # a provider of the tests has what is called
    assert clock.slept == [12.0]
    assert acme.calls == ["get", "get"]


async def test_a_search_is_repeated_whole_and_gives_no_page_twice(acme: Acme, clock: Any) -> None:
    acme.errors, acme.pages_before_error = [Unavailable()], 2
    pages = [page async for page in wrap(acme, Retry(clock)).offers(Query())]
    assert [page.complete for page in pages] == [False, True]
    assert acme.calls == ["offers", "offers"]


async def test_pages_before_a_failure_are_kept(acme: Acme) -> None:
    acme.errors = [Unavailable()]
    pages = []
    with pytest.raises(Unavailable):
        async for page in wrap(acme).offers(Query()):
            pages.append(page)  # noqa: PERF401 - the failure comes while iterating
    assert len(pages) == 1


# Circuit


async def fail(wrapped: Any, acme: Acme, error: BrokerError, times: int = 1) -> None:
    for _ in range(times):
        acme.errors = [error]
        with pytest.raises(BrokerError):
            await wrapped.get(REF)
    acme.errors = []


async def test_a_circuit_opens_after_five_failures_in_a_row_and_says_why(
    acme: Acme, clock: Any
) -> None:
    circuit = Circuit(clock)
    wrapped = wrap(acme, circuit)
    await fail(wrapped, acme, Unavailable("down"), 4)
    await wrapped.get(REF)
    await fail(wrapped, acme, Unavailable("down"), 5)
    assert (circuit.state.position, circuit.state.reason) == ("open", "down")
    assert circuit.state.opened_at == clock.now()
    asked = len(acme.calls)
    with pytest.raises(Unavailable) as caught:
        await wrapped.get(REF)
    assert caught.value.code == "circuit_open"
    assert caught.value.retry_after_s == 15
    assert len(acme.calls) == asked


async def test_a_half_open_circuit_tries_one_call(acme: Acme, clock: Any) -> None:
    circuit = Circuit(clock)
    wrapped = wrap(acme, circuit)
    await fail(wrapped, acme, TimedOut(), 5)
    seen = [circuit.state.position]
    await clock.sleep(15)
    seen.append(circuit.state.position)
    await fail(wrapped, acme, TimedOut())
    for pause_s in (0, 29, 1):
        await clock.sleep(pause_s)
        seen.append(circuit.state.position)
    await wrapped.get(REF)
    seen.append(circuit.state.position)
    assert seen == ["open", "half-open", "open", "open", "half-open", "closed"]


async def test_refused_credentials_open_it_at_once(acme: Acme, clock: Any) -> None:
    circuit = Circuit(clock)
    wrapped = wrap(acme, circuit)
    await fail(wrapped, acme, AuthFailed("bad key", http_status=404))
    assert circuit.state.position == "open"
    with pytest.raises(AuthFailed):
        await wrapped.list("")
    assert acme.calls == ["get"]


@pytest.mark.parametrize(
    "error",
    [
        AuthFailed(code="no_key"),
        Invalid(),
        RateLimited(code="paced"),
        AuthFailed(code="permission", http_status=403),
    ],
    ids=repr,
)
async def test_what_the_provider_did_not_fail_at_does_not_open_it(
    acme: Acme, clock: Any, error: BrokerError
) -> None:
    circuit = Circuit(clock)
    await fail(wrap(acme, circuit), acme, error, 6)
    assert circuit.state.position == "closed"


async def test_a_machine_can_be_ended_through_an_open_circuit(acme: Acme, clock: Any) -> None:
    wrapped = wrap(acme, Circuit(clock))
    await fail(wrapped, acme, Unavailable(), 5)
    await wrapped.terminate(REF)
    await fail(wrapped, acme, Unavailable(), 5)
    with urgent():
        assert await wrapped.list("") == "list"


# The others


def limited(clock: Any, book: MemoryLimitBook) -> RateLimit:
    limit = Limit("m", frozenset({"get", "terminate"}), interval_s=2.0)
    return RateLimit(Limiter([limit], book, clock, provider="acme", account="default"), clock)


async def test_pages_after_the_first_wait_for_turns_of_their_own(acme: Acme, clock: Any) -> None:
    from gpubroker.providers.calling import current_call

    async def paging(call: Call, proceed: Callable[[], Any]) -> Any:
        for _ in range(3):
            current = current_call()
            assert current is call
            assert current.before_request
            await current.before_request()
        return await proceed()

    await wrap(acme, limited(clock, MemoryLimitBook()), paging).terminate(REF)
    assert clock.slept == [2.0, 2.0]


async def test_what_the_caller_checks_is_checked_after_the_wait_for_a_turn(
    acme: Acme, clock: Any
) -> None:
    wrapped = wrap(acme, limited(clock, MemoryLimitBook()))
    await wrapped.terminate(REF)
    before, waited = list(acme.calls), []

    def refuse() -> None:
        waited.append(sum(clock.slept))
        raise LookupError("too late")

    with sent_only_after(refuse), pytest.raises(LookupError):
        await wrapped.terminate(REF)
    assert waited == [2.0]
    assert acme.calls == before


async def test_a_429_moves_the_shared_time(acme: Acme, clock: Any) -> None:
    book = MemoryLimitBook()
    error = RateLimited(http_status=429)
    error.retry_after_s = 20.0
    acme.errors = [error]
    with pytest.raises(RateLimited):
        await wrap(acme, limited(clock, book)).terminate(REF)
    await wrap(acme, limited(clock, book)).terminate(REF)
    assert sum(clock.slept) == pytest.approx(20.0)


async def test_the_meter_counts_outcomes_seconds_and_rows(acme: Acme, clock: Any) -> None:
    meter = Meter(clock)
    wrapped = wrap(acme, meter, Retry(clock, jitter=lambda: 1.0))
    acme.errors = [Unavailable()]
    await wrapped.get(REF)
    acme.errors = [AuthFailed()]
    with pytest.raises(AuthFailed):
        await wrapped.get(REF)
    _ = [page async for page in wrapped.offers(Query())]
    assert meter.outcomes == {("get", "ok"): 1, ("get", "auth_failed"): 1, ("offers", "ok"): 1}
    assert meter.total_seconds["get"] == 1.0
    assert sum(meter.seconds["get"]) == 2
    assert meter.facts["offers", "pages"] == 1


async def test_a_span_has_names_and_no_arguments(acme: Acme) -> None:
    seen: list[Any] = []

    @contextmanager
    def start_span(name: str, *, attributes: Any) -> Iterator[None]:
        seen.append((name, dict(attributes)))
        yield

    await wrap(acme, Trace(start_span)).get(REF)
    assert seen == [
        (
            "acme.get",
            {
                "gpubroker.provider": "acme",
                "gpubroker.account": "default",
                "gpubroker.operation": "get",
            },
        )
    ]


async def test_a_recording_holds_the_exchanges_without_secrets(
    vast: Any, scripted: Any, ref: Any, machine: Any
) -> None:
    records: list[Recording] = []
    scripted.says("GET /api/v0/instances/901/", {"instances": machine()})
    await decorate(vast, [Record(records.append)]).get(ref)
    (record,) = records
    assert (record.operation, record.outcome) == ("get", "ok")
    (exchange,) = record.exchanges
    assert (exchange.status, exchange.method) == (200, "GET")
    assert exchange.request_headers["authorization"] == "***"
    assert "sesame" not in repr(record)
    assert "k3y" not in repr(record)


async def test_faults_come_before_the_provider_or_after_it_acted(acme: Acme) -> None:
    faults = Faults()
    faults.plan("terminate", Unavailable())
    faults.plan("terminate", OutcomeUnknown(), acts=True)
    wrapped = wrap(acme, faults)
    with pytest.raises(Unavailable):
        await wrapped.terminate(REF)
    assert acme.calls == []
    with pytest.raises(OutcomeUnknown):
        await wrapped.terminate(REF)
    assert acme.calls == ["terminate"]
    await wrapped.terminate(REF)
    assert faults.met == ["terminate"] * 3
