"""Text that is no text, moments that are none, accounts without a name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from tests.providers.scripted import Scripted, connected

from gpubroker.model.errors import BadResponse
from gpubroker.providers.exchange import tolerant_json
from gpubroker.providers.fields import utc
from gpubroker.providers.redaction import Redactor
from gpubroker.providers.runpod import RunPod


@pytest.mark.parametrize("word", [b'"\\ud800"', b'"\\uDFFF"', b'"\xed\xa0\x80"', b'"\xff"'])
def test_half_a_character_is_replaced_where_a_body_is_read(word: bytes) -> None:
    told = tolerant_json(b'{"a": ' + word + b', "b": NaN}')
    assert told["a"].encode()
    assert told.keys() == {"a", "b"}


def test_what_is_shown_of_a_body_can_be_written_down() -> None:
    shown = Redactor({"message"}).body(b'{"message": "no \\ud800 room"}')
    assert shown.encode() == b'{"message": "no ? room"}'


async def test_a_body_that_is_no_utf_8_is_a_bad_response() -> None:
    wire = Scripted().says("POST /graphql", b'{"data": {"myself": {"id": "\xff"}}}')
    with pytest.raises(BadResponse):
        await connected(RunPod, wire).whoami()


async def test_an_account_without_an_id_is_none() -> None:
    wire = Scripted().says("POST /graphql", {"data": {"myself": {"id": ""}}})
    with pytest.raises(BadResponse, match="without an id"):
        await connected(RunPod, wire).whoami()


def test_a_moment_is_told_in_utc_or_not_at_all() -> None:
    east = timezone(timedelta(hours=5))
    assert utc(datetime(2026, 3, 1, 12)) == datetime(2026, 3, 1, 12, tzinfo=UTC)  # noqa: DTZ001 - as told
    assert utc(datetime(2026, 3, 1, 12, tzinfo=east)) == datetime(2026, 3, 1, 7, tzinfo=UTC)
    edges = datetime.min.replace(tzinfo=east), datetime.max.replace(tzinfo=east), None
    assert [utc(edge) for edge in edges] == [None, None, None]
