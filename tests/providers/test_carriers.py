"""Whose a machine is, by its tags and its name."""

from __future__ import annotations

import pytest

from gpubroker.model.identity import Attempt
from gpubroker.providers.carriers import tags_of, whose

ATTEMPT = Attempt("abcdef", "abcdefghijklmnop", "launch")
OTHER = Attempt("zzzzzz", "zzzzzzzzzzzzzzzz", "launch")
OURS = ("abcdef", "abcdefghijklmnop")


def test_what_a_create_writes_is_what_is_read() -> None:
    assert whose(None, tags_of(ATTEMPT)) == OURS
    assert whose(ATTEMPT.name) == OURS


def test_tags_count_before_the_name_which_anybody_may_change() -> None:
    assert whose("renamed", tags_of(ATTEMPT)) == OURS
    assert whose(OTHER.name, tags_of(ATTEMPT)) == OURS


@pytest.mark.parametrize(
    "tags", [{}, {"gpubroker-owner": "abcdef"}, tags_of(Attempt("by-hand", "by-hand", ""))]
)
def test_tags_of_another_form_say_nothing(tags: dict[str, str]) -> None:
    assert whose("my box", tags) == (None, None)
    assert whose(ATTEMPT.name, tags) == OURS
