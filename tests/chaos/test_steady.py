"""Fifty machines at each cloud, kept for an hour: no call of ours is one too many."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpubroker.fleet.errors import NothingToBeHad
from gpubroker.fleet.keeping import Keeper
from gpubroker.fleet.observing import CADENCE_S
from gpubroker.model.errors import QuotaExceeded
from gpubroker.providers.registry import provider_class, ready
from gpubroker.sandbox.app import Sandbox
from gpubroker.sandbox.stock import Slot, Stock
from gpubroker.testing.chaos.tenants import SandboxTenant, at_rest
from gpubroker.testing.chaos.worlds import books, sandbox_world

FLEET = 50
HOUR_S = 3600.0
REFUSED = 429


class Counting:
    """Before the emulator: how often it was asked what, and how often that was too often."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.calls: Counter[str] = Counter()
        self.too_many: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = f"{scope['method']} {scope['path']}" if scope["type"] == "http" else "other"

        async def seen(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.calls[call] += 1
                self.too_many[call] += message["status"] == REFUSED
            await send(message)

        await self._app(scope, receive, seen)


def allowed_per_hour(provider: str) -> float:
    """Reads of the whole account: the narrowest limit that a list must keep."""
    limits = provider_class(provider).capabilities.limits
    return min(HOUR_S / limit.interval_s for limit in limits if "list" in limit.operations)


@pytest.mark.slow
@pytest.mark.parametrize("provider", ready())
async def test_fifty_machines_for_an_hour_cause_no_429(
    tmp_path: Path, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def enough(self: Stock, slot: Slot) -> bool:
        return True

    monkeypatch.setattr(Stock, "free", enough)
    async with sandbox_world(tmp_path / "world", provider) as (world, sandbox):
        sandbox.app = counting = Counting(sandbox.app)
        one = SandboxTenant(world, tmp_path / "home", tmp_path / "home/state.db")
        try:
            await _steady(one, provider, sandbox, counting)
        finally:
            await one.aclose()


async def _steady(one: SandboxTenant, provider: str, sandbox: Sandbox, counting: Counting) -> None:
    rented = 0
    # An account may be allowed fewer.
    with contextlib.suppress(QuotaExceeded, NothingToBeHad):
        while rented < FLEET:
            await one.launch(f"m-{rented}")
            rented += 1
    await at_rest(one)
    assert not +counting.too_many, "while they were rented"
    assert len(books(sandbox).billed) == rented > 0
    counting.calls.clear()
    keeper = Keeper(one.fleet.context, one.fleet)
    until = one.clock.now().timestamp() + HOUR_S
    while one.clock.now().timestamp() < until:
        told = await keeper.round()
        assert told.problems == ()
        await one.clock.sleep(CADENCE_S)
    calls, allowed = counting.calls.total(), allowed_per_hour(provider)
    print(
        f"\n{provider}: {rented} machines, {calls} calls in an hour, "
        f"{calls / rented:.2f} per machine-hour; the limit allows {allowed:.0f}"
    )
    assert not +counting.too_many, counting.too_many
    assert 0 < calls <= allowed
    for name in sorted(one.store.names()):
        await one.terminate(name)
    assert books(sandbox).exist == ()
