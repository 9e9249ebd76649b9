"""Acme Cloud keeps every promise of gpubroker's provider interface."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from acme_cloud.emulator import GUEST
from acme_cloud.provider import AcmeCloud
from gpubroker.providers import registry
from gpubroker.testing.conformance import Check, SandboxBench, checks_for, sandbox_bench


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[SandboxBench]:
    async with sandbox_bench(AcmeCloud, tmp_path, guest=GUEST) as ready:
        yield ready


@pytest.mark.parametrize("check", checks_for(AcmeCloud), ids=str)
async def test_the_provider_keeps_its_promise(check: Check, bench: SandboxBench) -> None:
    await check(bench)


def test_it_is_found_by_its_entry_point() -> None:
    assert registry.status("acme") == "external"
    assert registry.provider_class("acme") is AcmeCloud
