"""Every provider of gpubroker keeps every promise of the interface, against its emulator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gpubroker.providers.registry import BUILT_IN, provider_class
from gpubroker.testing.conformance import Check, SandboxBench, checks_for, sandbox_bench

PROMISES = [
    pytest.param(name, check, id=f"{name}-{check}")
    for name in BUILT_IN
    for check in checks_for(provider_class(name))
]


@pytest.fixture
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SandboxBench]:
    """A sandbox of the cloud alone, with real SSH."""
    name: Any = request.node.callspec.params["name"]
    async with sandbox_bench(provider_class(name), tmp_path) as ready:
        yield ready


@pytest.mark.parametrize(("name", "check"), PROMISES)
async def test_a_provider_keeps_its_promise(name: str, check: Check, bench: SandboxBench) -> None:
    await check(bench)
