"""GraphQL's answers: data, failures inside a 200, and what is neither."""

from __future__ import annotations

import json

import pytest

from gpubroker.providers.graphql import data_of, has_errors, payload
from gpubroker.providers.refusals import answer_text

BAD = {"message": "No stock", "path": ["rent"], "extensions": {"code": "SUPPLY_CONSTRAINT"}}


def test_data_stands_under_its_name() -> None:
    assert data_of(b'{"data": {"a": [1, 2]}}') == b'{"a": [1, 2]}'


@pytest.mark.parametrize("body", [b"", b"[]", b"7", b"<html>", b"{", b"{}", b'{"data": null}'])
def test_what_has_no_data_has_null(body: bytes) -> None:
    assert data_of(body) == b"null"
    assert not has_errors(body)


def test_failures_are_seen_beside_data_and_instead_of_it() -> None:
    assert has_errors(json.dumps({"errors": [BAD], "data": {"a": 1}}).encode())
    assert has_errors(json.dumps({"errors": [BAD]}).encode())
    assert not has_errors(b'{"errors": [], "data": {"a": 1}}')
    assert not has_errors(b'{"data": {"note": "\\"errors\\""}}')


def test_a_number_that_is_none_costs_no_more_than_its_row() -> None:
    body = b'{"data": {"rows": [{"price": NaN}, {"price": 1}]}, "errors": [{"message": "x"}]}'
    assert data_of(body) == b'{"rows": [{"price": NaN}, {"price": 1}]}'
    assert has_errors(body)


def test_code_and_words_of_a_failure_are_known_to_the_error_tables() -> None:
    code, text = answer_text(json.dumps({"errors": [BAD], "data": None}).encode())
    assert code == "SUPPLY_CONSTRAINT"
    assert "no stock" in text


def test_values_go_beside_the_document() -> None:
    assert payload("query { a }") == {"query": "query { a }"}
    assert payload("query($b: B) { a }", {"b": 1})["variables"] == {"b": 1}
