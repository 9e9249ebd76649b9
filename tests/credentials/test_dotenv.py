"""NAME=VALUE lines: what is read, and that nothing is executed or repeated."""

from __future__ import annotations

import pytest

from gpubroker.credentials.dotenv import lines


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("KEY=plain", "KEY", "plain"),
        ("export KEY = spaced ", "KEY", "spaced"),
        ("KEY=with # a comment", "KEY", "with"),
        ("KEY=a#b", "KEY", "a#b"),
        ("KEY='a \\n b' # why", "KEY", "a \\n b"),
        ('KEY="a\\nb \\"c\\""', "KEY", 'a\nb "c"'),
        ("KEY=$(touch /tmp/x) `id` ${HOME}", "KEY", "$(touch /tmp/x) `id` ${HOME}"),
        ("KEY=", "KEY", ""),
    ],
)
def test_a_value_is_taken_as_it_stands(text: str, name: str, value: str) -> None:
    (line,) = lines(text)
    assert (line.name, line.value, line.fault) == (name, value, "")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("sesame", "expected NAME=VALUE"),
        ("1KEY=sesame", "expected NAME=VALUE"),
        ('KEY="sesame', "is not closed"),
        ("KEY='sesame'open", "behind the closing"),
    ],
)
def test_a_line_that_makes_no_sense_is_told_without_its_value(text: str, fault: str) -> None:
    (line,) = lines(text)
    assert fault in line.fault
    assert "sesame" not in line.fault
    assert line.value == ""


def test_lines_are_counted_over_blank_ones_and_comments() -> None:
    assert [line.number for line in lines("# a\n\nA=1\n  # b\nB=2\n")] == [3, 5]
