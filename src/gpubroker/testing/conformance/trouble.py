"""When the cloud fails: each failure is what it is, and nothing is made or left unseen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from gpubroker.model.errors import (
    AuthFailed,
    BadResponse,
    BrokerError,
    NoCapacity,
    OutcomeUnknown,
    OutOfFunds,
    QuotaExceeded,
    RateLimited,
    TimedOut,
    Trouble,
    Unavailable,
)
from gpubroker.model.terms import State
from gpubroker.testing.conformance.bench import Bench
from gpubroker.testing.conformance.check import Chapter, none_of, require

_chapter = Chapter()
CHECKS = _chapter.checks
promise = _chapter.promise

Errors = tuple[type[BrokerError], ...]
OF_A_READ: Mapping[str, Errors] = {
    "rate_limit": (RateLimited,),
    "server_error": (Unavailable, BadResponse),
    "disconnect_before": (Unavailable,),
    "disconnect_after": (Unavailable,),
    "bad_credentials": (AuthFailed,),
    "garbage": (BadResponse,),
}
OF_A_MUTATION: Mapping[str, Errors] = {
    "rate_limit": (RateLimited,),
    "server_error": (OutcomeUnknown,),
    "disconnect_before": (OutcomeUnknown, Unavailable),
    "disconnect_after": (OutcomeUnknown,),
    "bad_credentials": (AuthFailed,),
    "garbage": (OutcomeUnknown,),
}
OF_A_TERMINATE = {kind: errors for kind, errors in OF_A_MUTATION.items() if kind != "garbage"}
"""Whatever a 2xx of it says, the end is not believed before it is seen."""
OF_A_CREATE: Mapping[str, Errors] = {
    **OF_A_MUTATION,
    "no_capacity": (NoCapacity, OutcomeUnknown),
    "quota": (QuotaExceeded, OutOfFunds),
}
DEADLINE_S = 0.5

Ask = Callable[[Bench], Awaitable[object]]


async def _wrong(bench: Bench, operation: str, ask: Ask, table: Mapping[str, Errors]) -> list[str]:
    """What became of a call under each fault, where it is not as the table says."""
    wrong = []
    for kind, expected in table.items():
        bench.heal()
        bench.fail(operation, kind)
        try:
            await ask(bench)
        except expected as error:
            pause_s = error.retry_after_s if isinstance(error, Trouble) else None
            if pause_s is not None and pause_s < 0:
                wrong.append(f"{kind}: a pause of {pause_s} s")
        except BrokerError as error:
            wrong.append(f"{kind} is told as {error.word}: {error}")
        except Exception as error:  # noqa: BLE001 - anything else is the very fault looked for
            wrong.append(f"{kind} raises {type(error).__name__}: {error}")
        else:
            wrong.append(f"{kind} is told as success")
    bench.heal()
    # What the cloud held back after a refusal is not the next call's trouble.
    await bench.clock.sleep(120)
    await ask(bench)
    return wrong


@promise("faults")
async def a_failing_search_is_told(bench: Bench) -> None:
    """`offers` under each fault raises the error that it is, and works again afterwards."""
    none_of(await _wrong(bench, "offers", lambda b: b.pages(), OF_A_READ))


@promise("faults", "many")
async def a_failing_list_is_told(bench: Bench) -> None:
    """`list` under each fault raises the error that it is, and works again afterwards."""
    # Where machines lie in something, there is no list of them before there is one.
    await bench.make()
    (scope, *_) = await bench.provider.scopes()
    none_of(await _wrong(bench, "list", lambda b: b.provider.list(scope), OF_A_READ))


@promise("faults", "many")
async def a_failing_get_is_told(bench: Bench) -> None:
    """`get` under each fault raises the error that it is, never NotFound."""
    made = await bench.make()
    # Where the end has no words of its own, `get` may be a look into the list.
    operation = "*" if bench.provider.capabilities.gone == "absent" else "get"
    none_of(await _wrong(bench, operation, lambda b: b.provider.get(made.ref), OF_A_READ))


@promise("faults", "many")
async def a_failing_find_is_told(bench: Bench) -> None:
    """`find` under each fault raises an error: no answer is not "there is none"."""
    made = await bench.make()
    bench.fail("*", "server_error", times=None)
    try:
        found = await bench.provider.find(made.attempt, made.offer)
    except Trouble:
        bench.heal()
        return
    bench.heal()
    none_of([f"a cloud that answers 500 is told as {len(found)} machines"])


@promise("faults", "many", "truth")
async def a_failing_create_is_told(bench: Bench) -> None:
    """`create` under each fault raises the error that it is: refused, or its outcome unknown."""

    async def ask(bench: Bench) -> None:
        # Each time another: a create of unknown outcome may hold the offer.
        await bench.end(await bench.make())

    none_of(await _wrong(bench, "create", ask, _of_a_create(bench)))


def _of_a_create(bench: Bench) -> Mapping[str, Errors]:
    """Where creates queue, none is refused for capacity."""
    queues = bench.provider_class.capabilities.queues
    return {kind: e for kind, e in OF_A_CREATE.items() if kind != "no_capacity" or not queues}


@promise("faults", "many", "truth", applies=lambda provider: provider.capabilities.queues)
async def what_waits_for_capacity_costs_nothing(bench: Bench) -> None:
    """Without capacity the create is accepted, its machine pending, and it can be ended."""
    bench.fail("create", "no_capacity")
    made = await bench.make()
    waiting = await bench.provider.get(made.ref)
    require(waiting.state is State.PENDING, f"it is {waiting.state} ({waiting.raw_state})")
    require(not waiting.bills_compute, "it waits, and bills_compute is True")
    require(not bench.is_billed(made.ref), "it waits, and the cloud charges for it")
    bench.heal()
    await bench.end(made)


@promise("faults", "many", "truth")
async def a_refusal_makes_nothing(bench: Bench) -> None:
    """After a refused create the cloud's books have no machine."""
    offer, faults = await bench.cheapest(), []
    for kind in ("no_capacity", "quota", "bad_credentials", "rate_limit"):
        if kind not in _of_a_create(bench):
            continue
        bench.heal()
        bench.fail("create", kind)
        before = bench.billed()
        try:
            await bench.make(offer=offer)
        except OutcomeUnknown:
            continue
        except BrokerError as error:
            if made := bench.billed() - before:
                faults.append(f"{kind} is told as {error.word} and made {len(made)} machines")
        await bench.clock.sleep(120)
    none_of(faults)


@promise("faults", "many")
async def a_create_of_unknown_outcome_is_found(bench: Bench) -> None:
    """When the answer is lost, `find` tells the machine by its attempt."""
    spec, offer, attempt = bench.spec(), await bench.cheapest(), bench.attempt()
    have = await bench.needs(spec, offer, attempt)
    bench.fail("create", "disconnect_after")
    try:
        await bench.provider.create(spec, offer, attempt, have)
    except OutcomeUnknown:
        pass
    else:
        none_of(["a lost answer is told as success"])
    await bench.clock.sleep(bench.provider.capabilities.list_lag_s)
    found = await bench.provider.find(attempt, offer)
    require(len(found) == 1, f"{len(found)} machines are found")


@promise("faults", "many", "truth")
async def a_failing_terminate_is_told(bench: Bench) -> None:
    """`terminate` under each fault raises an error, and the machine is still known."""
    made = await bench.make()
    await bench.until(made, State.RUNNING)
    wrong = []
    for kind, expected in OF_A_TERMINATE.items():
        if kind == "disconnect_after":
            continue
        bench.heal()
        bench.fail("terminate", kind)
        try:
            await bench.provider.terminate(made.ref)
        except expected:
            pass
        except BrokerError as error:
            wrong.append(f"{kind} is told as {error.word}: {error}")
        else:
            wrong.append(f"{kind} is told as success")
        await bench.clock.sleep(120)
        if not bench.is_billed(made.ref):
            wrong.append(f"{kind}: the emulator ended the machine all the same")
    bench.heal()
    bench.fail("terminate", "disconnect_after")
    try:
        await bench.provider.terminate(made.ref)
    except OutcomeUnknown:
        pass
    else:
        wrong.append("disconnect_after is told as success")
    none_of(wrong)


@promise("faults", "many")
async def doubled_rows_are_one_machine(bench: Bench) -> None:
    """A list that tells each row twice is one machine each."""
    made = await bench.make()
    bench.fail("list", "duplicate_list", times=None)
    listing = await bench.provider.list(made.ref.scope)
    bench.heal()
    refs = [machine.ref for machine in listing.instances]
    require(len(refs) == len(set(refs)), f"{len(refs)} rows of {len(set(refs))} machines")


@promise("faults", "many")
async def a_key_that_is_taken_away_is_no_absence(bench: Bench) -> None:
    """A 404 for a bad key is AuthFailed or trouble, never "there is no such machine"."""
    made = await bench.make()
    for operation in ("get", "list", "terminate"):
        bench.fail(operation, "not_found_for_bad_key", times=None)
    wrong = []
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "get": lambda: bench.provider.get(made.ref),
        "list": lambda: bench.provider.list(made.ref.scope),
        "terminate": lambda: bench.provider.terminate(made.ref),
    }
    for name, call in calls.items():
        try:
            await call()
        except (AuthFailed, Trouble, OutcomeUnknown):
            continue
        except BrokerError as error:
            wrong.append(f"{name}: {error.word}")
        else:
            wrong.append(f"{name}: success")
    bench.heal()
    none_of(wrong)


@promise("faults", "many")
async def no_answer_ends_at_the_deadline(bench: Bench) -> None:
    """A cloud that never answers is TimedOut for a read, OutcomeUnknown for a create."""
    spec, offer, attempt = bench.spec(), await bench.cheapest(), bench.attempt()
    have = await bench.needs(spec, offer, attempt)
    (scope, *_) = await bench.provider.scopes()
    async with bench.another(deadline_s=DEADLINE_S) as impatient:
        wrong = []
        bench.fail("*", "timeout", times=None)
        try:
            await impatient.list(scope)
        except TimedOut:
            pass
        except BrokerError as error:
            wrong.append(f"list: {error.word}")
        try:
            await impatient.create(spec, offer, attempt, have)
        except OutcomeUnknown:
            pass
        except BrokerError as error:
            wrong.append(f"create: {error.word}")
        bench.heal()
        none_of(wrong)
