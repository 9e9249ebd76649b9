"""Launched, and then nobody looks any more: what is billed past the expiry is what was foretold."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpubroker.model.terms import Expiry
from gpubroker.providers.registry import provider_class, ready
from gpubroker.testing.chaos.tenants import SandboxTenant, at_rest
from gpubroker.testing.chaos.worlds import books, sandbox_world

PAST_THE_USUAL_S = 25 * 3600.0
BY_ITSELF = {Expiry.PROVIDER: True, Expiry.CONTROLLER_ONLY: False}
"""A timer on the machine needs a machine that runs: tests/e2e has those."""
CLOUDS = [name for name in ready() if provider_class(name).capabilities.expiry in BY_ITSELF]


@pytest.mark.parametrize("provider", CLOUDS)
async def test_past_the_expiry_is_billed_what_the_capability_foretold(
    tmp_path: Path, provider: str
) -> None:
    async with sandbox_world(tmp_path / "world", provider) as (world, sandbox):
        place = tmp_path / "state.db"
        one = SandboxTenant(world, tmp_path / "home", place)
        await one.launch("m")
        await one.aclose()
        assert len(books(sandbox).billed) == 1
        await one.clock.sleep(PAST_THE_USUAL_S)
        await sandbox.settle()
        gone = BY_ITSELF[provider_class(provider).capabilities.expiry]
        assert len(books(sandbox).billed) == (0 if gone else 1)
        back = SandboxTenant(world, tmp_path / "home", place)
        await at_rest(back)
        await sandbox.settle()
        assert books(sandbox).billed == books(sandbox).exist == ()
        assert [row.error_code for row in back.store.launches(include_ended=True)] == [""]
        await back.aclose()
