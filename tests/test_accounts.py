"""Accounts of a running process: which one is used, and what a change of their files does."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from gpubroker import watched
from gpubroker.accounts import Accounts, CredentialsMissing, UnknownAccount
from gpubroker.config import ConfigError
from gpubroker.credentials.vault import Vault
from gpubroker.model.errors import AuthFailed
from gpubroker.model.home import Home
from gpubroker.providers import registry
from gpubroker.providers.accounts import Account, Wiring
from gpubroker.providers.vast_ai import VastAi
from gpubroker.realm import live
from gpubroker.store.opened import open_store


class Cloud:
    """A provider that knows its keys, in place of Vast.ai's."""

    name = "vast_ai"
    display_name = VastAi.display_name
    website = VastAi.website
    credentials = VastAi.credentials
    capabilities = VastAi.capabilities
    uids: ClassVar[dict[str, str]] = {"one": "1", "two": "2", "one-again": "1"}
    made: ClassVar[list[Cloud]] = []
    hold: ClassVar[asyncio.Event | None] = None
    """Where set, a call waits for it."""

    def __init__(self, account: Account) -> None:
        self.account = account.alias
        self.key = account.key
        self.closed = 0
        self.calls = 0
        self.made.append(self)

    @classmethod
    def connect(cls, account: Account, _wiring: Wiring) -> Cloud:
        return cls(account)

    async def whoami(self) -> str:
        self.calls += 1
        if self.hold is not None:
            await self.hold.wait()
        assert self.closed == 0, "closed while a call was on its way"
        if self.key not in self.uids:
            raise AuthFailed("the key is refused", provider=self.name)
        return self.uids[self.key]

    async def aclose(self) -> None:
        self.closed += 1


class Desk:
    """Accounts over files that the test writes."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        self.environ: dict[str, str] = {}
        self.refused: list[str] = []
        self.store = open_store(self.home.live_store, "live")

    def accounts(self) -> Accounts:
        return Accounts(
            live(), self.environ, self.home, lambda: self.store, on_refused=self.refused.append
        )

    def env(self, text: str) -> None:
        self.home.env_file.write_text(text)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    module = types.ModuleType("scripted_cloud")
    module.__dict__["Cloud"] = Cloud
    monkeypatch.setitem(sys.modules, "scripted_cloud", module)
    monkeypatch.setattr(registry, "BUILT_IN", {"vast_ai": "scripted_cloud:Cloud"})
    monkeypatch.setattr(registry, "PUBLIC_PRICES", ("vast_ai",))
    monkeypatch.setattr(watched, "CHECK_EVERY_S", 0.0)
    monkeypatch.setattr(Cloud, "made", [])
    monkeypatch.setattr(Cloud, "hold", None)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    made = Desk(tmp_path)
    yield made
    made.store.close()


async def uid(accounts: Accounts, alias: str = "default") -> str:
    return await accounts.provider("vast_ai", alias).whoami()


async def test_a_changed_key_is_taken_up_by_the_next_use(desk: Desk) -> None:
    desk.env("VAST_API_KEY=one\n")
    accounts = desk.accounts()
    assert await uid(accounts) == "1"
    desk.env("VAST_API_KEY=two-with-another-length\n")
    Cloud.uids["two-with-another-length"] = "2"
    assert await uid(accounts) == "2"
    await accounts.aclose()


async def test_a_call_on_its_way_ends_on_the_old_key_which_closes_behind_it(desk: Desk) -> None:
    desk.env("VAST_API_KEY=one\n")
    accounts = desk.accounts()
    Cloud.hold = asyncio.Event()
    on_its_way = [asyncio.create_task(uid(accounts)) for _ in range(5)]
    while sum(one.calls for one in Cloud.made) < 5:
        await asyncio.sleep(0)
    desk.env("VAST_API_KEY=two\n# now\n")
    behind = asyncio.create_task(uid(accounts))
    while len(Cloud.made) < 2:
        await asyncio.sleep(0)
    assert [one.closed for one in Cloud.made] == [0, 0]
    Cloud.hold.set()
    assert await asyncio.gather(*on_its_way) == ["1"] * 5
    assert await behind == "2"
    assert [one.closed for one in Cloud.made] == [1, 0]
    await accounts.aclose()


async def test_a_connection_whose_key_is_the_same_is_kept(desk: Desk) -> None:
    desk.env("VAST_API_KEY=one\n")
    accounts = desk.accounts()
    before = accounts.provider("vast_ai", "default")
    desk.env("# a comment\nVAST_API_KEY=one\n")
    assert accounts.refresh()
    assert accounts.provider("vast_ai", "default") is before
    assert len(Cloud.made) == 1
    await accounts.aclose()


async def test_a_step_that_holds_the_old_connection_may_go_on_and_it_closes_again(
    desk: Desk,
) -> None:
    desk.env("VAST_API_KEY=one\n")
    accounts = desk.accounts()
    held = accounts.provider("vast_ai", "default")
    desk.env("VAST_API_KEY=two\n# now\n")
    accounts.refresh()
    while Cloud.made[0].closed == 0:
        await asyncio.sleep(0)
    Cloud.made[0].closed = 0  # as the transport does: a new call opens it again
    assert await held.whoami() == "1"
    assert Cloud.made[0].closed == 1
    await accounts.aclose()


async def test_a_file_that_is_being_written_loses_no_request(desk: Desk) -> None:
    desk.env("VAST_API_KEY=one\n")
    accounts = desk.accounts()
    desk.env("")
    assert await uid(accounts) == "1"
    desk.env("VAST_API_KEY=one\n")
    assert await uid(accounts) == "1"
    desk.env("")
    assert await uid(accounts) == "1"
    with pytest.raises(CredentialsMissing):
        await uid(accounts)
    await accounts.aclose()


async def test_what_login_stores_is_taken_up_too(desk: Desk) -> None:
    accounts = desk.accounts()
    assert accounts.configured() == ()
    Vault(desk.home, desk.environ).keep("vast_ai:lab", {"VAST_AI_API_KEY": "two"})
    assert accounts.configured() == (("vast_ai", "lab"),)
    assert await uid(accounts, "lab") == "2"
    await accounts.aclose()


def test_a_cloud_is_switched_off_and_on(desk: Desk) -> None:
    desk.env("VAST_API_KEY=one\n")
    accounts = desk.accounts()
    assert accounts.searchable_names() == ("vast_ai",)
    desk.home.config.write_text("[providers.vast]\nenabled = false\n")
    assert accounts.searchable_names() == ()
    assert accounts.chosen() == {}
    assert accounts.configured() == (("vast_ai", "default"),), "what is rented is looked after"
    assert accounts.switched_off() == {"vast_ai"}
    desk.home.config.unlink()
    assert accounts.searchable_names() == ("vast_ai",)


def test_a_configuration_that_makes_no_sense_is_told_once_and_the_former_stays(desk: Desk) -> None:
    desk.home.config.write_text("[providers.vast]\nenabled = false\n")
    accounts = desk.accounts()
    desk.home.config.write_text("[providers.vast]\nenabled = maybe\n")
    for _ in range(3):
        assert accounts.switched_off() == {"vast_ai"}
    assert len(desk.refused) == 1
    assert "config.toml" in desk.refused[0]
    assert accounts.faults == tuple(desk.refused)
    desk.env("VAST_API_KEY=one\n")
    assert accounts.configured() == (("vast_ai", "default"),), "keys go on being followed"
    desk.home.config.write_text("[providers.vast]\nenabled = true\n")
    assert accounts.switched_off() == set()
    assert accounts.faults == ()


def test_a_configuration_that_makes_no_sense_from_the_start_is_an_error(desk: Desk) -> None:
    desk.home.config.write_text("[provider]\n")
    with pytest.raises(ConfigError, match="did you mean providers"):
        desk.accounts()


def test_files_are_looked_at_once_a_second_at_most(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watched, "CHECK_EVERY_S", 3600.0)
    accounts = desk.accounts()
    desk.env("VAST_API_KEY=one\n")
    assert accounts.configured() == ()
    assert accounts.refresh(now=True)
    assert accounts.configured() == (("vast_ai", "default"),)
    assert watched.Watched(()).changed() is False


def three_accounts(desk: Desk, more: str = "") -> Accounts:
    desk.environ |= {"VAST_LAB_KEY": "two", "VAST_API_KEY": "one", "VAST_HOME_KEY": "one-again"}
    desk.home.config.write_text(
        '[accounts."vast:lab"]\nkey_env = "VAST_LAB_KEY"\n'
        '[accounts."vast:home"]\nkey_env = "VAST_HOME_KEY"\n'
        '[accounts."vast:none"]\n' + more
    )
    return desk.accounts()


def test_the_default_account_is_used_unless_another_is_asked_for(desk: Desk) -> None:
    accounts = three_accounts(desk)
    assert accounts.chosen() == {"vast_ai": "default"}
    assert accounts.chosen(("lab",)) == {"vast_ai": "lab"}
    assert accounts.chosen(("vast:home",)) == {"vast_ai": "home"}
    assert accounts.chosen(("vast:none",)) == {}
    assert len(accounts.configured()) == 3


def test_the_configuration_names_the_account_of_a_cloud(desk: Desk) -> None:
    accounts = three_accounts(desk, '[providers.vast]\naccount = "lab"\n')
    assert accounts.chosen() == {"vast_ai": "lab"}


def test_a_cloud_without_a_default_account_uses_its_first(desk: Desk) -> None:
    accounts = three_accounts(desk)
    del desk.environ["VAST_API_KEY"]
    desk.home.config.write_text(desk.home.config.read_text() + "\n")
    for _ in range(2):  # gone is what is gone twice
        accounts.refresh()
    assert accounts.chosen() == {"vast_ai": "lab"}


@pytest.mark.parametrize(
    ("asked", "nearest"), [("labb", "lab"), ("vast_ai:laab", "vast_ai:lab"), ("vast:lub", "")]
)
def test_an_unknown_account_is_told_its_nearest(desk: Desk, asked: str, nearest: str) -> None:
    with pytest.raises(UnknownAccount) as caught:
        three_accounts(desk).chosen((asked,))
    assert nearest in " ".join(caught.value.nearest)
    assert asked in str(caught.value)


def test_a_missing_key_names_variable_and_page_or_the_way_to_store_one(desk: Desk) -> None:
    accounts = three_accounts(desk)
    with pytest.raises(CredentialsMissing, match="gpubroker login vast_ai:none"):
        accounts.provider("vast_ai", "none")
    desk.environ.clear()
    with pytest.raises(CredentialsMissing, match=r"VAST_AI_API_KEY or VAST_API_KEY .*https://"):
        desk.accounts().provider("vast_ai", "default")


async def test_each_account_has_a_connection_of_its_own(desk: Desk) -> None:
    accounts = three_accounts(desk)
    assert [await uid(accounts, alias) for alias in ("default", "lab", "home")] == ["1", "2", "1"]
    assert len(Cloud.made) == 3
    await accounts.aclose()
    assert [one.closed for one in Cloud.made] == [1, 1, 1]


async def test_a_key_that_is_tried_is_none_of_the_accounts(desk: Desk) -> None:
    accounts = desk.accounts()
    tried: Any = Account("vast_ai", "lab", {"VAST_AI_API_KEY": "two"})
    async with accounts.unlisted(tried) as provider:
        assert await provider.whoami() == "2"
    assert Cloud.made[0].closed == 1
    assert accounts.configured() == ()
