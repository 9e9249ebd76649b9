"""What `login` stores: sealed, private, one file; or the keyring, where there is one."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from gpubroker.credentials.vault import SERVICE, Vault, from_keyring
from gpubroker.model.errors import Invalid, Unsupported
from gpubroker.model.home import Home
from gpubroker.store.errors import NoSecretKey

ONE = ("VAST_AI_API_KEY",)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(Home(tmp_path), {})


class Ring(types.ModuleType):
    """In place of the optional module."""

    def __init__(self) -> None:
        super().__init__("keyring")
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, user: str) -> str | None:
        return self.kept.get((service, user))

    def set_password(self, service: str, user: str, text: str) -> None:
        self.kept[service, user] = text

    def delete_password(self, service: str, user: str) -> None:
        del self.kept[service, user]


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> Ring:
    made = Ring()
    monkeypatch.setitem(sys.modules, "keyring", made)
    return made


@pytest.fixture
def no_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)


def test_a_key_is_sealed_and_the_file_is_private(vault: Vault) -> None:
    where = vault.keep("vast_ai:lab", {ONE[0]: "open-sesame"})
    assert where == str(vault.path)
    assert vault.path.stat().st_mode & 0o777 == 0o600
    assert b"sesame" not in vault.path.read_bytes()
    assert not vault.open_to_others()
    stored = vault.stored()
    assert set(stored) == {"vast_ai:lab"}
    assert vault.secrets("vast_ai:lab", stored["vast_ai:lab"], ONE) == {ONE[0]: "open-sesame"}


def test_keys_stand_beside_each_other_and_one_can_be_forgotten(vault: Vault) -> None:
    vault.keep("vast_ai:default", {ONE[0]: "one"})
    vault.keep("vast_ai:lab", {ONE[0]: "two"})
    vault.keep("vast_ai:lab", {ONE[0]: "three"})
    assert set(vault.stored()) == {"vast_ai:default", "vast_ai:lab"}
    assert vault.secrets("x", vault.stored()["vast_ai:lab"], ONE) == {ONE[0]: "three"}
    assert vault.drop("vast_ai:lab")
    assert not vault.drop("vast_ai:lab")
    assert set(vault.stored()) == {"vast_ai:default"}


def test_another_seal_opens_nothing(vault: Vault, tmp_path: Path) -> None:
    vault.keep("vast_ai:lab", {ONE[0]: "open-sesame"})
    other = Vault(Home(tmp_path), {"GPUBROKER_SECRET_KEY": "A" * 43 + "="})
    with pytest.raises(NoSecretKey):
        other.secrets("vast_ai:lab", other.stored()["vast_ai:lab"], ONE)


def test_a_damaged_file_is_told_and_written_anew_by_the_next_login(vault: Vault) -> None:
    vault.path.write_text("{]")
    with pytest.raises(Invalid, match="damaged"):
        vault.stored()
    vault.keep("vast_ai:lab", {ONE[0]: "open-sesame"})
    assert set(vault.stored()) == {"vast_ai:lab"}


def test_a_file_of_another_version_is_left_alone(vault: Vault) -> None:
    vault.path.write_text('{"version": 9, "accounts": {}}')
    with pytest.raises(Invalid, match="another version"):
        vault.keep("vast_ai:lab", {ONE[0]: "open-sesame"})
    assert '"version": 9' in vault.path.read_text()


def test_a_file_that_others_may_read_is_seen(vault: Vault) -> None:
    vault.keep("vast_ai:lab", {ONE[0]: "open-sesame"})
    vault.path.chmod(0o644)
    assert vault.open_to_others()


def test_the_keyring_holds_the_key_and_the_file_only_names_it(vault: Vault, ring: Ring) -> None:
    vault.keep("vast_ai:lab", {ONE[0]: "open-sesame"}, keyring=True)
    assert ring.kept == {(SERVICE, "vast_ai:lab"): "open-sesame"}
    entry = vault.stored()["vast_ai:lab"]
    assert entry.in_keyring
    assert vault.secrets("vast_ai:lab", entry, ONE) == {ONE[0]: "open-sesame"}
    assert vault.drop("vast_ai:lab")
    assert ring.kept == {}


def test_several_secrets_stand_in_the_keyring_as_lines(vault: Vault, ring: Ring) -> None:
    pair = {"VERDA_CLIENT_ID": "one", "VERDA_CLIENT_SECRET": "two"}
    vault.keep("verda:default", pair, keyring=True)
    assert from_keyring("verda:default", tuple(pair)) == pair
    ring.kept[SERVICE, "verda:default"] = "VERDA_CLIENT_ID=one"
    assert from_keyring("verda:default", tuple(pair)) == {}


def test_a_keyring_that_does_not_give_up_a_key_is_told_and_nothing_is_forgotten(
    vault: Vault, ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault.keep("vast_ai:lab", {ONE[0]: "open-sesame"}, keyring=True)

    def locked(service: str, user: str) -> None:
        raise RuntimeError("locked")

    monkeypatch.setattr(ring, "delete_password", locked)
    with pytest.raises(Unsupported, match="does not give up the key of vast_ai:lab"):
        vault.drop("vast_ai:lab")
    with pytest.raises(Unsupported, match="Nothing was stored"):
        vault.keep("vast_ai:lab", {ONE[0]: "another"})
    assert vault.stored()["vast_ai:lab"].in_keyring
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(Unsupported, match="cannot be reached"):
        vault.drop("vast_ai:lab")
    assert set(vault.stored()) == {"vast_ai:lab"}


def test_a_key_that_moves_into_the_file_leaves_the_keyring(vault: Vault, ring: Ring) -> None:
    vault.keep("vast_ai:lab", {ONE[0]: "open-sesame"}, keyring=True)
    vault.keep("vast_ai:lab", {ONE[0]: "another"})
    assert ring.kept == {}
    assert not vault.stored()["vast_ai:lab"].in_keyring


def test_what_the_keyring_has_lost_can_be_forgotten(vault: Vault, ring: Ring) -> None:
    vault.keep("vast_ai:lab", {ONE[0]: "open-sesame"}, keyring=True)
    ring.kept.clear()
    assert vault.drop("vast_ai:lab")
    assert vault.stored() == {}


def test_a_keyring_that_is_not_there_is_no_error(vault: Vault, no_ring: None) -> None:
    assert from_keyring("vast_ai:lab", ONE) == {}
    with pytest.raises(Unsupported, match="no keyring"):
        vault.keep("vast_ai:lab", {ONE[0]: "open-sesame"}, keyring=True)
    assert not vault.path.exists()


def test_a_keyring_that_fails_is_one_that_is_not_there(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: str) -> str:
        raise RuntimeError("locked")

    monkeypatch.setattr(ring, "get_password", locked)
    assert from_keyring("vast_ai:lab", ONE) == {}
