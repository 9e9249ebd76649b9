"""The suite finds providers that break a promise, and names which."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from gpubroker.model.bill import Bill
from gpubroker.model.errors import BrokerError, NotFound, OutcomeUnknown, Refused
from gpubroker.model.offer import OfferPage
from gpubroker.providers.refusals import Rule
from gpubroker.providers.registry import provider_class
from gpubroker.testing.conformance import (
    CHECKS,
    Broken,
    SandboxBench,
    boot,
    checks_for,
    sandbox_bench,
)

Kind: Any = provider_class("vast_ai")
Patch = Callable[..., None]
BY_NAME = {str(check): check for check in CHECKS}


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[Callable[[], Any]]:
    """A bench, opened when the provider is spoiled."""
    async with sandbox_bench(Kind, tmp_path) as bench:
        yield lambda: bench


def _wrap(patch: Patch, method: str, spoil: Callable[..., Any]) -> None:
    honest = getattr(Kind, method)

    async def spoiled(self: Any, *arguments: Any) -> Any:
        return await spoil(lambda: honest(self, *arguments))

    patch(Kind, method, spoiled)


def _declare(patch: Patch, **changes: Any) -> None:
    patch(Kind, "capabilities", replace(Kind.capabilities, **changes))


def _twice(patch: Patch) -> None:
    async def spoil(call: Any) -> Any:
        await call()
        return await call()

    _wrap(patch, "terminate", spoil)


def _empty_find(patch: Patch) -> None:
    async def spoil(call: Any) -> Any:
        await call()
        return ()

    _wrap(patch, "find", spoil)


def _forgets_the_owner(patch: Patch) -> None:
    async def spoil(call: Any) -> Any:
        return replace(await call(), owner=None)

    _wrap(patch, "get", spoil)


def _incomplete(patch: Patch) -> None:
    async def spoil(call: Any) -> Any:
        listing = await call()
        return type(listing)(listing.account_uid, listing.scope, False, listing.asked_at, ())

    _wrap(patch, "list", spoil)


def _every_404_is_not_found(patch: Patch) -> None:
    patch(Kind, "rules", (Rule(NotFound, statuses=(404,)), *Kind.rules))


def _calls_the_unknown_refused(patch: Patch) -> None:
    async def spoil(call: Any) -> Any:
        try:
            return await call()
        except OutcomeUnknown as error:
            raise Refused(str(error)) from None

    _wrap(patch, "create", spoil)


def _swallows(patch: Patch) -> None:
    async def spoil(call: Any) -> Any:
        try:
            await call()
        except BrokerError:
            return

    _wrap(patch, "terminate", spoil)


def _final_at_once(patch: Patch) -> None:
    async def spoil(call: Any) -> Any:
        bill: Bill = await call()
        return replace(bill, status="ended")

    _wrap(patch, "billing", spoil)


def _shows_variables(patch: Patch) -> None:
    patch(Kind, "shown", Kind.shown | {"env", "onstart"})


def _loses_a_row(patch: Patch) -> None:
    honest = Kind.offers

    async def spoiled(self: Any, query: Any) -> AsyncIterator[OfferPage]:
        async for page in honest(self, query):
            if query.max_count:
                yield OfferPage(page.covers, page.complete, page.rows[1:])
            else:
                yield page

    patch(Kind, "offers", spoiled)


def _free(patch: Patch) -> None:
    honest = Kind.offers

    async def spoiled(self: Any, query: Any) -> AsyncIterator[OfferPage]:
        async for page in honest(self, query):
            free = replace(page.rows[0], price=replace(page.rows[0].price, compute=0))
            yield OfferPage(page.covers, page.complete, (free, *page.rows[1:]))

    patch(Kind, "offers", spoiled)


def _unlimited(patch: Patch) -> None:
    _declare(patch, limits=Kind.capabilities.limits[1:])


def _claims_no_stop(patch: Patch) -> None:
    _declare(patch, stop="none")


def _ends_nothing(patch: Patch) -> None:
    async def spoil(_: Any) -> None:
        return

    _wrap(patch, "terminate", spoil)


def _drops_variables(patch: Patch) -> None:
    from gpubroker.providers import vast_ai

    def without(honest: Callable[..., Any]) -> Callable[..., Any]:
        return lambda spec, *others, **named: honest(replace(spec, env={}), *others, **named)

    # They travel by the vendor's own field, and by the text of the start.
    patch(vast_ai, "contract", without(vast_ai.contract))
    patch(vast_ai, "boot_of", without(vast_ai.boot_of))


def _shuts_out(patch: Patch) -> None:
    async def spoil(_: Any) -> None:
        return

    _wrap(patch, "attach_key", spoil)


SPOILED: dict[Callable[[Patch], None], str] = {
    _twice: "a terminate is one request and can be repeated",
    _empty_find: "a machine is the same wherever it is told",
    _forgets_the_owner: "a machine is the same wherever it is told",
    _incomplete: "every scope can be listed",
    _every_404_is_not_found: "a bare 404 is no proof",
    _calls_the_unknown_refused: "a failing create is told",
    _swallows: "a failing terminate is told",
    _final_at_once: "a bill is final only after its lag",
    _shows_variables: "no secret field may be shown",
    _loses_a_row: "a narrowed search loses nothing",
    _free: "offers are sound",
    _unlimited: "limits cover every call",
    _claims_no_stop: "methods agree with capabilities",
    _ends_nothing: "the end is proven as declared",
    _drops_variables: "variables arrive",
    _shuts_out: "the key opens the machine",
}


@pytest.mark.parametrize("spoil", SPOILED, ids=lambda spoil: spoil.__name__.strip("_"))
async def test_a_broken_promise_is_found_and_named(
    spoil: Callable[[Patch], None],
    cloud: Callable[[], SandboxBench],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from gpubroker.testing.conformance import bench as bench_module

    monkeypatch.setattr(boot, "_ARRIVAL_S", 1.0)
    monkeypatch.setattr(bench_module, "LOGIN_S", 1.0)
    spoil(monkeypatch.setattr)
    name = SPOILED[spoil]
    with pytest.raises(Broken, match=f"^vast_ai: {name}: "):
        await BY_NAME[name](cloud())


def test_names_are_unique_and_every_check_says_what_it_promises() -> None:
    assert len(BY_NAME) == len(CHECKS)
    for check in CHECKS:
        assert check.promise.endswith("."), check
        assert len(check.promise) > len("It works.")


def test_a_bench_that_can_do_little_is_given_little() -> None:
    few = checks_for(Kind, {"machine"})
    assert few
    assert len(few) < len(checks_for(Kind))
    assert all(check.needs <= {"machine"} for check in few)
