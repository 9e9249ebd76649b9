"""`registry`: logins for private images, whose passwords are never shown."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest


def test_the_password_comes_by_standard_input_and_is_not_shown(
    run: Any, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = io.StringIO

    def typed(_text: str = "") -> io.StringIO:
        return real("sesame-sesame\n")

    monkeypatch.setattr(io, "StringIO", typed)
    ran = run("registry", "add", "hub", "--server", "ghcr.io", "--username", "me", "--json")
    assert ran.code == 0, ran.err
    assert "sesame" not in ran.out + ran.err
    assert json.loads(ran.out)["name"] == "hub"
    assert ("add_registry", None, "hub", "ghcr.io", "me", "sesame-sesame") in world.asked


def test_a_password_is_no_argument(run: Any) -> None:
    ran = run("registry", "add", "hub", "--server", "s", "--username", "me", "sesame")
    assert ran.code == 2


def test_the_list_names_servers_and_users(run: Any) -> None:
    ran = run("registry")
    assert ran.code == 0
    for word in ("hub", "ghcr.io", "me"):
        assert word in ran.out
    [login] = json.loads(run("registry", "list", "--json").out)["registries"]
    assert login.keys() == {"name", "server", "username", "created_at"}


def test_a_login_is_forgotten(run: Any, world: Any) -> None:
    assert run("registry", "remove", "hub").code == 0
    assert ("remove_registry", None, "hub") in world.asked
