"""What each provider makes of recorded answers, whole and damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpubroker.providers.registry import BUILT_IN, provider_class
from gpubroker.testing.conformance.damaged import damage
from gpubroker.testing.conformance.recorded import Case, manifest, replay

FIXTURES = Path(__file__).parent / "fixtures"
CASES = [
    pytest.param(name, case, id=f"{name}-{case}")
    for name in BUILT_IN
    if (FIXTURES / name / "manifest.json").exists()
    for case in manifest(FIXTURES / name).cases
]


@pytest.mark.parametrize(("name", "case"), CASES)
async def test_a_recorded_answer_means_what_is_expected(name: str, case: Case) -> None:
    await replay(provider_class(name), FIXTURES / name, case)


@pytest.mark.parametrize(("name", "case"), CASES)
async def test_a_damaged_answer_is_withstood(name: str, case: Case) -> None:
    await damage(provider_class(name), FIXTURES / name, case)
