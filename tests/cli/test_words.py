"""How things read, and durations as people type them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubroker.cli.words import age, clock_time, counted, money, price, span
from gpubroker.model.durations import duration
from gpubroker.model.money import nanos

from .conftest import NOW


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("4h", 4),
        ("30m", 0.5),
        ("1d12h", 36),
        ("2d", 48),
        ("1.5h", 1.5),
        ("90s", 0.025),
        (" 1W ", 168),
    ],
)
def test_durations_are_read(text: str, hours: float) -> None:
    assert duration(text) == timedelta(hours=hours)


@pytest.mark.parametrize(
    "text", ["", "4", "h", "-4h", "4 hours", "1h1h", "0h", "99999d", "4h3", "4y", "1e3h", "٣h!"]
)
def test_what_is_no_duration_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match=r"write 30m|out of range"):
        duration(text)


@given(st.integers(1, 3650 * 24 * 60))
def test_what_is_shown_reads_back(minutes: int) -> None:
    assert duration(span(minutes * 60)) == timedelta(minutes=minutes)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (12, "12s"),
        (59.9, "59s"),
        (120, "2m"),
        (3599, "59m"),
        (7200, "2h"),
        (260000, "3 d"),
    ],
)
def test_ages_have_one_unit(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_amounts_read_as_money() -> None:
    assert price(nanos(0.312)) == "$0.312"
    assert price(None) == "–"
    assert money(nanos(1.36)) == "$1.36"
    assert money(nanos(0.004)) == "$0.004"
    assert money(0) == "$0.00"
    assert money(nanos(1234.5)) == "$1,234.50"


def test_times_of_another_day_carry_their_date() -> None:
    assert len(clock_time(NOW, NOW)) == len("18:42")
    assert "22 Nov" in clock_time(NOW + timedelta(days=1), NOW)


def test_counts_agree_with_their_noun() -> None:
    assert counted(1, "offer") == "1 offer"
    assert counted(4120, "offer") == "4,120 offers"
