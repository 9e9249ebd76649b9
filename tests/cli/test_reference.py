"""docs/cli.md is what the program says of itself."""

from __future__ import annotations

from pathlib import Path

from gpubroker.cli.failures import EXIT_CODES
from gpubroker.cli.reference import EXITS, page
from gpubroker.cli.verbs import VERBS

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_page_is_as_the_help_texts_are() -> None:
    assert DOCS.read_text() == page(), (
        "write it anew: python -m gpubroker.cli.reference docs/cli.md"
    )


def test_every_verb_stands_in_it() -> None:
    text = DOCS.read_text()
    for verb in VERBS:
        assert (f"- `{verb.name}`:" if verb.later else f"## gpubroker {verb.name}\n") in text


def test_every_exit_code_that_is_used_is_explained() -> None:
    assert set(EXIT_CODES.values()) <= {code for code, _ in EXITS}
