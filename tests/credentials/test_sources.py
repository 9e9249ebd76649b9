"""The order in which a key is looked for; what counts, and what is only told."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpubroker.config import load
from gpubroker.credentials.sources import Found, Sources
from gpubroker.credentials.vault import Vault
from gpubroker.model.home import Home

CLOUDS = ("vast_ai", "verda")


class Place:
    """Somebody's computer: a home, a working folder, a GPUBROKER_HOME, an environment."""

    def __init__(self, folder: Path) -> None:
        self.user, self.work = folder / "user", folder / "work"
        self.home = Home(folder / "state")
        for made in (self.user, self.work, self.home.root):
            made.mkdir()
        self.environ = {"HOME": str(self.user)}

    def sources(self) -> Sources:
        config = load(self.home.config)
        return Sources(self.home, self.environ, config, CLOUDS, folder=self.work)

    def found(self, name: str = "vast_ai", alias: str = "default") -> Found | None:
        return self.sources().accounts().get((name, alias))

    def key(self, name: str = "vast_ai", alias: str = "default") -> str:
        found = self.found(name, alias)
        account = found.account() if found else None
        return account.key if account else ""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_each_source_gives_way_to_the_one_before_it(place: Place) -> None:
    assert place.found() is None
    (place.user / ".vast_api_key").write_text("vendor\n")
    assert place.key() == "vendor"
    Vault(place.home, place.environ).keep("vast_ai:default", {"VAST_AI_API_KEY": "login"})
    assert place.key() == "login"
    place.home.env_file.write_text("VAST_API_KEY=state\n")
    assert place.key() == "state"
    (place.work / ".env").write_text("\nVAST_API_KEY=work\n")
    assert place.key() == "work"
    place.environ["VAST_API_KEY"] = "process"
    assert place.key() == "process"
    place.home.config.write_text('[accounts.vast]\nkey_env = "MY_KEY"\n')
    place.environ["MY_KEY"] = "named"
    found = place.found()
    assert found is not None
    assert place.key() == "named"
    assert found.key is not None
    assert found.key.where == "MY_KEY"
    assert found.shadowed == (
        "VAST_API_KEY",
        f"VAST_API_KEY, {place.work}/.env line 2",
        f"VAST_API_KEY, {place.home.env_file} line 1",
        f"{place.home.credentials}, by gpubroker login",
        str(place.user / ".vast_api_key"),
    )


def test_an_account_whose_named_key_is_missing_takes_no_other(place: Place) -> None:
    place.environ["VAST_API_KEY"] = "of-another-account"
    place.home.config.write_text('[accounts."vast:default"]\nkey_env = "MY_KEY"\n')
    found = place.found()
    assert found is not None
    assert found.key is None
    assert found.problem == "MY_KEY is not set"


def test_named_accounts_stand_beside_the_default_one(place: Place) -> None:
    place.environ |= {"VAST_API_KEY": "one", "VAST_LAB_KEY": "two"}
    (place.home.root / "lab.key").write_text("three\n")
    place.home.config.write_text(
        '[accounts."vast:lab"]\nkey_env = "VAST_LAB_KEY"\n'
        '[accounts."vast:file"]\nkey_file = "lab.key"\n'
        '[accounts."vast:stored"]\n'
    )
    assert [place.key(alias=alias) for alias in ("default", "lab", "file")] == [
        "one",
        "two",
        "three",
    ]
    stored = place.found(alias="stored")
    assert stored is not None
    assert "gpubroker login vast_ai:stored" in stored.problem
    Vault(place.home, place.environ).keep("vast_ai:stored", {"VAST_AI_API_KEY": "four"})
    assert place.key(alias="stored") == "four"


def test_what_login_stored_needs_no_line_in_the_configuration(place: Place) -> None:
    Vault(place.home, place.environ).keep("vast_ai:lab", {"VAST_AI_API_KEY": "four"})
    assert place.key(alias="lab") == "four"
    assert place.found() is None


def test_a_key_variable_of_the_configuration_may_stand_in_a_dotenv_file(place: Place) -> None:
    place.home.config.write_text('[accounts."vast:lab"]\nkey_env = "VAST_LAB_KEY"\n')
    place.home.env_file.write_text("VAST_LAB_KEY='two'\n")
    assert place.key(alias="lab") == "two"


def test_a_pair_of_secrets_may_stand_in_two_places_and_half_of_it_is_none(place: Place) -> None:
    place.environ["VERDA_CLIENT_ID"] = "one"
    assert place.found("verda") is None
    place.home.env_file.write_text("VERDA_CLIENT_SECRET=two\n")
    found = place.found("verda")
    account = found.account() if found else None
    assert account is not None
    assert dict(account.secrets) == {"VERDA_CLIENT_ID": "one", "VERDA_CLIENT_SECRET": "two"}


def test_an_account_of_several_secrets_names_a_variable_for_each(place: Place) -> None:
    place.environ |= {"A": "one", "B": "two"}
    place.home.config.write_text('[accounts."verda:lab"]\nkey_env = ["A", "B"]\n')
    assert place.key("verda", "lab") == "one"
    place.home.config.write_text('[accounts."verda:lab"]\nkey_env = "A"\n')
    found = place.found("verda", "lab")
    assert found is not None
    assert found.key is None
    assert "2 variables" in found.problem


def test_a_keyring_that_is_not_there_is_no_error(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "keyring", None)
    place.home.config.write_text('[accounts."vast:lab"]\nkeyring = true\n')
    found = place.found(alias="lab")
    assert found is not None
    assert found.key is None
    assert "no keyring here" in found.problem


def test_a_line_that_makes_no_sense_stops_nobody(place: Place) -> None:
    (place.work / ".env").write_text("this is a sesame\nVAST_API_KEY=work\n")
    sources = place.sources()
    assert sources.accounts()["vast_ai", "default"].key is not None
    (fault,) = sources.faults
    assert fault.startswith(f"{place.work}/.env:1: ")
    assert "sesame" not in fault


def test_a_damaged_file_of_stored_keys_costs_only_its_keys(place: Place) -> None:
    place.environ["VAST_API_KEY"] = "one"
    place.home.credentials.write_text("{]")
    sources = place.sources()
    assert set(sources.accounts()) == {("vast_ai", "default")}
    assert "damaged" in sources.faults[0]


def test_no_secret_is_in_a_repr(place: Place) -> None:
    place.environ["VAST_API_KEY"] = "open-sesame"
    found = place.found()
    assert found is not None
    assert "sesame" not in f"{found!r} {found.account()!r}"


def test_every_file_that_is_read_is_watched(place: Place) -> None:
    place.home.config.write_text('[accounts."vast:file"]\nkey_file = "~/lab.key"\n')
    files = set(place.sources().files())
    assert {
        place.work / ".env",
        place.home.env_file,
        place.home.credentials,
        place.user / "lab.key",
        place.user / ".vast_api_key",
        place.user / ".config/vastai/vast_api_key",
    } <= files
