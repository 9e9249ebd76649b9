"""What every provider must keep, tried promise by promise and reported by its name.

    @pytest.mark.parametrize("check", checks_for(AcmeCloud), ids=str)
    async def test_the_provider_keeps_its_promise(check, bench):
        await check(bench)

`bench` is a `Bench`: `sandbox_bench` gives one in the sandbox, `python -m
gpubroker.testing.conformance` works at a real account.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from gpubroker.testing.conformance import answers, bills, boot, declared, machines, market, trouble
from gpubroker.testing.conformance.bench import Bench
from gpubroker.testing.conformance.check import Ability, Broken, Check
from gpubroker.testing.conformance.sandbox import SandboxBench, sandbox_bench

if TYPE_CHECKING:
    from gpubroker.providers.base import Provider

__all__ = ["CHECKS", "Bench", "Broken", "Check", "SandboxBench", "checks_for", "sandbox_bench"]

CHECKS: tuple[Check, ...] = tuple(
    check
    for chapter in (declared, market, machines, boot, bills, trouble, answers)
    for check in chapter.CHECKS
)
"""All, in the order in which they are best read."""


def checks_for(
    provider: type[Provider], abilities: Collection[Ability] = SandboxBench.abilities
) -> list[Check]:
    """Those that a provider of these capabilities makes, as far as a bench can try them."""
    can = frozenset(abilities)
    return [check for check in CHECKS if check.needs <= can and check.applies(provider)]
