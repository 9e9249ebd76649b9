"""`login` and `logout`: where a key comes from, where it never goes, and what is said."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from gpubroker.model import errors

KEY = "open-sesame"


@pytest.fixture
def piped(run: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command line with something on standard input."""

    def call(text: str, *argv: str) -> Any:
        real = io.StringIO

        def stream(_empty: str) -> io.StringIO:
            return real(text)

        monkeypatch.setattr(io, "StringIO", stream)
        try:
            return run(*argv)
        finally:
            monkeypatch.setattr(io, "StringIO", real)

    return call


@pytest.mark.parametrize(
    ("account", "alias"), [("vast", "default"), ("vast:lab", "lab"), ("Vast.ai:lab", "lab")]
)
def test_a_piped_key_is_tried_and_stored(piped: Any, world: Any, account: str, alias: str) -> None:
    ran = piped(f"{KEY}\n", "login", account)
    assert ran.code == 0, ran.err
    _, name, told, how = world.last("login")
    assert (name, told) == ("vast_ai", alias)
    assert how == {"secrets": {"VAST_AI_API_KEY": KEY}, "keyring": False, "same_account": False}
    assert f"vast_ai:{alias} works: account 42, balance $12.50" in ran.out
    assert KEY not in ran.out + ran.err


def test_the_switches_reach_the_broker(piped: Any, world: Any) -> None:
    piped(KEY, "login", "vast", "--keyring", "--same-account")
    how = world.last("login")[3]
    assert (how["keyring"], how["same_account"]) == (True, True)


def test_json_tells_all_but_the_key(piped: Any) -> None:
    ran = piped(KEY, "login", "vast", "--json")
    assert ran.json["uid"] == "42"
    assert ran.json["balance"] == 12.5
    assert KEY not in ran.out + ran.err


def test_a_key_that_another_one_overrules_is_said_so(piped: Any, world: Any) -> None:
    world.overruled_by = "VAST_API_KEY"
    assert "Not used yet: the key from VAST_API_KEY counts" in piped(KEY, "login", "vast").out


def test_a_key_is_never_an_argument(run: Any, world: Any) -> None:
    ran = run("login", "vast", KEY)
    assert ran.code == 2
    assert "never an argument" in ran.err
    assert KEY not in ran.out + ran.err
    assert "login" not in world.verbs()


def test_without_a_key_the_pages_are_told(run: Any, world: Any) -> None:
    ran = run("login", "vast")
    assert ran.code == 5
    assert "VAST_AI_API_KEY" in ran.err
    assert "https://cloud.vast.ai/manage-keys/" in ran.err
    assert "login" not in world.verbs()


def test_without_a_cloud_every_key_page_is_told(run: Any) -> None:
    ran = run("login")
    assert ran.code == 0
    assert "vast_ai" in ran.out
    assert "gpubroker login CLOUD" in ran.out


def test_a_refused_key_exits_5(piped: Any, world: Any) -> None:
    world.fails["login"] = errors.AuthFailed("the key was refused", provider="vast_ai")
    ran = piped(KEY, "login", "vast", "--json")
    assert ran.code == 5
    assert ran.error["code"] == "auth_failed"


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (("login", "vats"), 2, "vast_ai"),
        (("login", "vast:My Lab"), 2, "small letters"),
        (("login", "gcp"), 1, "planned"),
        (("logout",), 2, "CLOUD"),
        (("logout", "vats"), 2, "vast_ai"),
    ],
)
def test_a_bad_account_says_what_was_expected(
    run: Any, world: Any, argv: tuple[str, ...], code: int, words: str
) -> None:
    ran = run(*argv)
    assert ran.code == code
    assert words in ran.err
    assert world.verbs() == []


def test_logout_forgets_what_login_stored(run: Any, world: Any) -> None:
    ran = run("logout", "vast:lab")
    assert ran.code == 0
    assert world.last("logout")[1:] == ("vast_ai", "lab")
    assert "forgotten" in ran.out


def test_logout_of_what_is_not_stored_is_not_found(run: Any, world: Any) -> None:
    world.has_key = False
    ran = run("logout", "vast")
    assert ran.code == 7
    assert "stored no key" in ran.err


def test_a_terminal_is_asked_without_an_echo(
    run: Any, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gpubroker.cli.session import Session

    asked: list[tuple[str, dict[str, Any]]] = []

    def prompt(text: str, **how: Any) -> str:
        asked.append((text, how))
        return f" {KEY} "

    monkeypatch.setattr(Session, "interactive", property(lambda _: True))
    monkeypatch.setattr("click.prompt", prompt)
    ran = run("login", "verda") if "verda" in _ready() else run("login", "vast")
    assert ran.code == 0, ran.err
    assert all(how["hide_input"] for _, how in asked)
    assert set(world.last("login")[3]["secrets"].values()) == {KEY}
    assert sys.stdin is not None


def _ready() -> tuple[str, ...]:
    from gpubroker.providers.registry import ready

    return ready()
