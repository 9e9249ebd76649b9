"""Logins for private images: sealed, checked, given only to launches."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpubroker import registries
from gpubroker.model.errors import Invalid, NotFound
from gpubroker.model.launch import RegistryAuth
from gpubroker.store.opened import open_store
from gpubroker.store.seal import Seal

PASSWORD = "sesame-sesame"
HUB = RegistryAuth("hub", "ghcr.io", "me", PASSWORD)


def test_a_login_comes_back_whole_and_lies_sealed(tmp_path: Path) -> None:
    store, seal = open_store(tmp_path / "state.db", "live"), Seal(tmp_path / "secret.key", None)
    registries.add(store, seal, HUB, 1.0)
    shown = registries.add(store, seal, HUB, 2.0)
    assert registries.known(store) == (shown,)
    assert registries.opened(store, seal, "hub") == HUB
    assert registries.opened(store, seal, None) is None
    store.close()
    for file in tmp_path.glob("state.db*"):
        assert PASSWORD.encode() not in file.read_bytes()


def test_an_unknown_login_says_how_to_make_one(tmp_path: Path) -> None:
    store, seal = open_store(tmp_path / "state.db", "live"), Seal(tmp_path / "secret.key", None)
    with pytest.raises(NotFound, match="gpubroker registry add hub"):
        registries.opened(store, seal, "hub")
    with pytest.raises(NotFound):
        registries.remove(store, "hub")
    store.close()


@pytest.mark.parametrize(
    "wrong",
    [
        RegistryAuth("a b", "ghcr.io", "me", "x"),
        RegistryAuth("hub", "https://ghcr.io", "me", "x"),
        RegistryAuth("hub", "-u", "me", "x"),
        RegistryAuth("hub", "ghcr.io", "", "x"),
        RegistryAuth("hub", "ghcr.io", "me", ""),
        RegistryAuth("hub", "ghcr.io", "me", "two\nlines"),
    ],
)
def test_what_no_registry_would_take_is_refused(tmp_path: Path, wrong: RegistryAuth) -> None:
    store, seal = open_store(tmp_path / "state.db", "live"), Seal(tmp_path / "secret.key", None)
    with pytest.raises(Invalid):
        registries.add(store, seal, wrong, 1.0)
    assert registries.known(store) == ()
    store.close()
