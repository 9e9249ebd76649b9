"""A provider that is registered has all of its parts (docs/adding-a-cloud.md)."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from gpubroker.catalog.clouds import CLOUDS, way_in
from gpubroker.providers.registry import BUILT_IN, PUBLIC_PRICES, provider_class
from gpubroker.sandbox.emulators import EMULATORS
from gpubroker.sandbox.stock import shipped_facts
from gpubroker.testing.conformance.recorded import manifest

ROOT = Path(__file__).parents[2]
FIXTURES = ROOT / "tests" / "providers" / "fixtures"
UNJUDGED = ROOT / "tests" / "providers" / "unjudged.txt"
SECTIONS = ("What it is", "How offers", "What a create sends", "How machines", "Calls")
"""As the comments between them begin."""
OF_A_MARKET = "How offers"
"""A module of its own, `<cloud>_market.py`, where the search is a subject of its own."""
WANTED_CALLS = {"whoami", "offers", "create", "find", "get", "list", "terminate", "billing"}
SMALLEST_STOCK = 3

each = pytest.mark.parametrize("name", BUILT_IN)


def text(*path: str) -> str:
    return ROOT.joinpath(*path).read_text()


def unjudged() -> set[str]:
    """Clouds whose emulator no client and no specification of the vendor has judged."""
    lines = UNJUDGED.read_text().splitlines()
    return {line.strip() for line in lines if line.strip() and not line.startswith("#")}


@each
def test_it_has_a_row_in_the_names_table(name: str) -> None:
    entry = next(cloud for cloud in CLOUDS if cloud.name == name)
    kind = provider_class(name)
    assert (kind.name, kind.display_name) == (name, entry.display_name)
    assert {*kind.credentials} <= {*entry.key_variables}
    assert entry.website
    assert entry.key_page


@each
def test_it_has_a_row_in_each_table_of_the_interface_page(name: str) -> None:
    page = text("docs", "interface.md")
    for number in range(1, 5):
        section = page.split(f"\n## {number}. ")[1].split("\n## ")[0]
        assert f"\n| {name} |" in section, f"table {number}"


@each
def test_it_is_an_entry_point(name: str) -> None:
    project = tomllib.loads(text("pyproject.toml"))["project"]
    assert project["entry-points"]["gpubroker.providers"][name] == BUILT_IN[name]


@each
def test_public_prices_are_declared_in_both_places(name: str) -> None:
    assert (name in PUBLIC_PRICES) == provider_class(name).capabilities.public_prices


@each
def test_where_gpubroker_does_not_log_in_the_way_in_is_told(name: str) -> None:
    assert bool(way_in(name)) != provider_class(name).capabilities.logs_in


@each
def test_its_file_is_in_the_usual_order(name: str) -> None:
    providers = ROOT / "src" / "gpubroker" / "providers"
    source, market = (providers / f"{name}.py").read_text(), providers / f"{name}_market.py"
    sections = [one for one in SECTIONS if one != OF_A_MARKET or not market.exists()]
    begins = [source.find(f"\n# {section}") for section in sections]
    assert -1 not in begins
    assert begins == sorted(begins)
    assert not market.exists() or "\ndef parse_offers(" in market.read_text()


@each
def test_it_has_an_emulator_with_something_to_rent(name: str) -> None:
    assert name in EMULATORS
    assert len(shipped_facts(name).slots) >= SMALLEST_STOCK
    assert EMULATORS[name].hosts
    assert any("{url}" in value for value in EMULATORS[name].env.values())


@each
def test_it_has_recorded_answers_for_every_call(name: str) -> None:
    told = manifest(FIXTURES / name)
    assert told.source.strip()
    assert WANTED_CALLS - {case.call for case in told.cases} == set()
    errors = {case.expect["error"] for case in told.cases if "error" in case.expect}
    # Where absence is proven by lists alone, no answer says "no such machine".
    said = set() if provider_class(name).capabilities.gone == "absent" else {"not_found"}
    # Where creates queue none is refused for capacity.
    refused = set() if provider_class(name).capabilities.queues else {"no_capacity"}
    assert {"auth_failed"} | refused | said <= errors
    files = {answer.file for case in told.cases for answer in case.answers}
    assert files == {file.name for file in (FIXTURES / name).iterdir()} - {"manifest.json"}


@each
def test_its_client_and_its_emulator_have_tests_of_their_own(name: str) -> None:
    short = name.partition("_")[0]
    assert list((ROOT / "tests" / "providers").glob(f"test_{short}*.py"))
    assert list((ROOT / "tests" / "sandbox").glob(f"test_{short}*.py"))


@each
def test_it_has_a_page(name: str) -> None:
    assert f"# {provider_class(name).display_name}\n" in text("docs", "providers", f"{name}.md")


@each
def test_it_is_judged_or_said_not_to_be(name: str) -> None:
    short = name.partition("_")[0]
    judges = [
        file
        for file in (ROOT / "tests" / "contract").glob("test_*.py")
        if re.search(rf"_{short}", file.stem) and "judge" in file.read_text()
    ]
    assert bool(judges) != (name in unjudged())


def test_only_providers_are_said_to_be_unjudged() -> None:
    assert unjudged() <= set(BUILT_IN)
