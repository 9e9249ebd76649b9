"""Nothing is written down that was not allowed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubroker.providers.redaction import Redactor

REDACTOR = Redactor({"id", "items", "msg", "limit"}, ["open-sesame"])


def test_only_allowed_fields_keep_their_values() -> None:
    body = {"id": 1, "token": "t", "items": [{"id": 2, "env": {"A": "b"}}], "n": 5, "x": None}
    assert json.loads(REDACTOR.body(json.dumps(body).encode())) == {
        "id": 1,
        "token": "***",
        "items": [{"id": 2, "env": "***"}],
        "n": "***",
        "x": "***",
    }


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abc.def-ghi",
        "api_key=0123456789",
        '"password": "hunter2hunter2"',
        "key 0123456789abcdef0123456789abcdef failed",
        "sk-abcdefghijkl",
        "hf_abcdefghijklmnop",
        "AKIAABCDEFGHIJKLMNOP",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----",
        "token: abcdefg",
        "say open-sesame",
    ],
)
def test_free_text_loses_what_looks_like_a_key(text: str) -> None:
    shown = REDACTOR.text(text)
    assert "***" in shown
    for secret in ("abc.def", "0123456789", "hunter2", "abcdefg", "AAAA", "abc\n", "open-sesame"):
        assert secret not in shown


@pytest.mark.parametrize(
    "text",
    [
        "error 404/3603: no_such_ask Instance type by id 4711 is not available.",
        "API requests too frequent: endpoint threshold=4.5",
        "gb-abcdef-abcdefghijklmnop",
        "nvidia/cuda:12.4.1-runtime-ubuntu22.04",
    ],
)
def test_what_people_need_to_read_stays(text: str) -> None:
    assert REDACTOR.text(text) == text


def test_urls_lose_the_values_of_unknown_parameters_and_any_login() -> None:
    url = "https://user:pw@host.test:8443/x/?limit=5&api_key=zzz"
    assert REDACTOR.url(url) == "https://host.test:8443/x/?limit=5&api_key=***"


def test_headers_keep_their_names() -> None:
    shown = REDACTOR.headers({"Authorization": "Bearer x", "Retry-After": "5", "X-New": "?"})
    assert shown == {"Authorization": "***", "Retry-After": "5", "X-New": "***"}


_json = st.recursive(
    st.sampled_from(["open-sesame", "x open-sesame y", 1, None, True]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "items", "secret", "open-sesame"]), inner)
    ),
    max_leaves=20,
)


@given(body=_json)
def test_the_accounts_own_key_is_nowhere(body: Any) -> None:
    assert "open-sesame" not in REDACTOR.body(json.dumps(body).encode())


@pytest.mark.parametrize("body", [b"[" * 100_000, b"\xff\xfe", b"", b"x" * 10_000_000])
def test_any_body_can_be_shown_and_is_short(body: bytes) -> None:
    assert len(REDACTOR.body(body)) <= 2001


def test_a_redactor_shows_no_secret_of_its_own() -> None:
    assert "sesame" not in repr(REDACTOR.hiding(["another-sesame"]))


def test_a_secret_is_hidden_before_the_text_is_cut() -> None:
    script = "mysql -phunter22\n" + "echo on and on\n" * 400
    redactor = Redactor().hiding([script])
    assert "hunter22" not in redactor.body(b"bad script: " + script.encode())


def test_a_secret_is_known_by_the_end_of_its_name() -> None:
    shown = Redactor().text("DB_PASSWORD=hunter22 access_token=abc.def MONKEY=see")
    assert "hunter22" not in shown
    assert "abc.def" not in shown
    assert "MONKEY=see" in shown
