"""The facade over a scripted cloud: accounts in searches and plans, login, doctor, hot reload."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest

from gpubroker import Broker, LaunchRequest, Query, watched
from gpubroker.catalog import gpus
from gpubroker.fleet.errors import AccountChanged
from gpubroker.fleet.requests import Event
from gpubroker.model.errors import AuthFailed, Invalid
from gpubroker.model.gpu import Gpu
from gpubroker.model.home import Home
from gpubroker.model.money import Nanos, nanos
from gpubroker.model.offer import Offer, OfferPage, Price
from gpubroker.model.reports import Check
from gpubroker.model.terms import Availability, Kind, Market, Source
from gpubroker.providers import registry
from gpubroker.providers.accounts import Account, Wiring
from gpubroker.providers.vast_ai import VastAi
from gpubroker.store.opened import open_store


class Cloud:
    """Vast.ai as three keys see it."""

    name = "vast_ai"
    display_name = VastAi.display_name
    website = VastAi.website
    credentials = VastAi.credentials
    capabilities = VastAi.capabilities
    uids: ClassVar[dict[str, str]] = {"key-one": "1", "key-two": "2", "key-one-again": "1"}
    asked_by: ClassVar[list[str]] = []

    def __init__(self, account: Account) -> None:
        self.account = account.alias
        self.key = account.key

    @classmethod
    def connect(cls, account: Account, _wiring: Wiring) -> Cloud:
        return cls(account)

    async def whoami(self) -> str:
        if self.key not in self.uids:
            raise AuthFailed("the key is refused", provider=self.name)
        return self.uids[self.key]

    async def scopes(self) -> tuple[str, ...]:
        return ("",)

    async def balance(self) -> Nanos:
        return nanos(7.5)

    async def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        assert query.accounts == ()
        self.asked_by.append(self.key)
        rows = tuple(
            Offer(
                provider=self.name,
                account=self.account,
                key=key,
                gpu=Gpu("RTX 4090", "RTX 4090", 24.0, vendor="nvidia"),
                gpu_count=1,
                kind=Kind.CONTAINER,
                market=Market.ON_DEMAND,
                vcpus=16.0,
                ram_gb=64.0,
                region="California, US",
                country="US",
                area="US-West",
                price=Price(compute=nanos(0.4)),
                availability=Availability.YES,
                source=Source.LIVE,
                fetched_at=datetime.now(UTC),
            )
            for key in ("1", "2")
        )
        yield OfferPage(None, True, rows)


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    module = types.ModuleType("scripted_cloud")
    module.__dict__["Cloud"] = Cloud
    monkeypatch.setitem(sys.modules, "scripted_cloud", module)
    monkeypatch.setattr(registry, "BUILT_IN", {"vast_ai": "scripted_cloud:Cloud"})
    monkeypatch.setattr(registry, "PUBLIC_PRICES", ("vast_ai",))
    monkeypatch.setattr(watched, "CHECK_EVERY_S", 0.0)
    monkeypatch.setattr(Cloud, "asked_by", [])
    (tmp_path / "work").mkdir()
    (tmp_path / "state").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield {"GPUBROKER_HOME": str(tmp_path / "state"), "HOME": str(tmp_path)}
    gpus.load_user_models(tmp_path / "none")


def state(environ: dict[str, str]) -> Home:
    return Home.from_env(environ)


def two_accounts(environ: dict[str, str]) -> None:
    environ |= {"VAST_API_KEY": "key-one", "LAB": "key-two"}
    state(environ).config.write_text('[accounts."vast:lab"]\nkey_env = "LAB"\n')


async def test_offers_are_of_the_account_that_would_rent_them(environ: dict[str, str]) -> None:
    two_accounts(environ)
    async with Broker(environ=environ) as broker:
        first = await broker.search(Query(providers=("vast_ai",)))
        assert [offer.account for offer in first.offers] == ["default", "default"]
        second = await broker.search(Query(accounts=("lab",)), mode="live")
        assert [offer.account for offer in second.offers] == ["lab", "lab"]
        third = await broker.search(Query(providers=("vast_ai",)), mode="cached")
        assert [offer.account for offer in third.offers] == ["default", "default"]
    assert Cloud.asked_by == ["key-one", "key-two"]


async def test_a_plan_is_of_the_account_that_was_asked_for(environ: dict[str, str]) -> None:
    two_accounts(environ)
    async with Broker(environ=environ) as broker:
        for asked, account in (((), "default"), (("vast:lab",), "lab")):
            plan = await broker.plan(LaunchRequest(query=Query(accounts=asked)))
            assert {row.offer.account for row in plan.ranked} == {account}, plan.left_out


async def test_dearer_offers_that_can_be_rented_are_planned_before_cheap_ones_that_cannot(
    environ: dict[str, str],
) -> None:
    environ["VAST_API_KEY"] = "key-one"
    async with Broker(environ=environ) as broker:
        cheaper = await broker.search(Query(max_price=nanos(0.39)), limit=None, mode="cached")
        assert cheaper.total
        plan = await broker.plan(LaunchRequest())
        assert [row.offer.key for row in plan.ranked] == ["1", "2"]


async def test_an_account_of_no_named_cloud_asks_nobody(environ: dict[str, str]) -> None:
    two_accounts(environ)
    async with Broker(environ=environ) as broker:
        with pytest.raises(Invalid, match="none of runpod"):
            await broker.search(Query(accounts=("vast:lab",), providers=("runpod",)))
    assert Cloud.asked_by == []


async def test_login_tries_stores_and_uses_a_key(environ: dict[str, str]) -> None:
    async with Broker(environ=environ) as broker:
        done = await broker.login("vast_ai", "lab", secrets={"VAST_AI_API_KEY": "key-two"})
        assert (done.uid, done.balance, done.overruled_by) == ("2", nanos(7.5), "")
        await broker.search(Query(), mode="live")
        assert broker.logout("vast_ai", "lab")
        assert not broker.logout("vast_ai", "lab")
        assert not any(info.configured for info in broker.providers())
    assert Cloud.asked_by == ["key-two"]
    assert b"key-two" not in state(environ).live_store.read_bytes()


async def test_a_refused_key_is_not_stored(environ: dict[str, str]) -> None:
    async with Broker(environ=environ) as broker:
        with pytest.raises(AuthFailed):
            await broker.login("vast_ai", secrets={"VAST_AI_API_KEY": "wrong"})
    assert not state(environ).credentials.exists()


async def test_a_key_of_another_account_is_not_stored_under_the_same_name(
    environ: dict[str, str],
) -> None:
    async with Broker(environ=environ) as broker:
        await broker.login("vast_ai", secrets={"VAST_AI_API_KEY": "key-one"})
        with pytest.raises(AccountChanged, match="gpubroker login vast_ai:NAME"):
            await broker.login("vast_ai", secrets={"VAST_AI_API_KEY": "key-two"})
        with closing(open_store(state(environ).live_store, "live")) as store:
            bound = store.account("vast_ai", "default")
            assert bound is not None
            assert (bound.uid, bound.frozen) == ("1", "")
        again = await broker.login("vast_ai", secrets={"VAST_AI_API_KEY": "key-one-again"})
        assert again.uid == "1"


async def test_login_tells_which_key_counts_before_the_stored_one(environ: dict[str, str]) -> None:
    environ["VAST_API_KEY"] = "key-one"
    async with Broker(environ=environ) as broker:
        done = await broker.login("vast_ai", secrets={"VAST_AI_API_KEY": "key-one-again"})
    assert done.overruled_by == "VAST_API_KEY"


def named(checks: tuple[Check, ...], what: str) -> dict[str, Check]:
    return {one.account: one for one in checks if one.what == what}


async def test_the_doctor_looks_at_every_account(environ: dict[str, str]) -> None:
    two_accounts(environ)
    environ["VAST_AI_API_KEY"] = "wrong"
    state(environ).env_file.write_text("VAST_API_KEY=other\nnonsense\n")
    config = state(environ).config
    config.write_text(config.read_text() + '[accounts."vast:none"]\nkey_env = "NONE"\n')
    async with Broker(environ=environ) as broker:
        checks = await broker.doctor()
    keys = named(checks, "key")
    assert keys["default"].detail.startswith(
        "from VAST_AI_API_KEY; not used: VAST_API_KEY; VAST_API"
    )
    assert keys["lab"].detail == "account lab: from LAB"
    assert keys["none"].ok is False
    assert "NONE is not set" in keys["none"].detail
    accounts = named(checks, "account")
    assert accounts["default"].ok is False
    assert "https://cloud.vast.ai" in accounts["default"].fix
    assert (accounts["lab"].ok, accounts["lab"].detail) == (True, "uid 2")
    assert named(checks, "scopes")["lab"].detail == "the whole account in one list"
    assert named(checks, "balance")["lab"].detail == "$7.50"
    (fault,) = [one for one in checks if one.what == "configuration"]
    assert ".env:2" in fault.detail
    assert "wrong" not in str(checks)


async def test_the_doctor_sees_a_changed_account_and_two_names_of_one(
    environ: dict[str, str],
) -> None:
    environ |= {"VAST_API_KEY": "key-one", "LAB": "key-one-again"}
    state(environ).config.write_text('[accounts."vast:lab"]\nkey_env = "LAB"\n')
    async with Broker(environ=environ) as broker:
        await broker.login("vast_ai", "lab", secrets={"VAST_AI_API_KEY": "key-two"})
        checks = await broker.doctor()
    assert named(checks, "account")["lab"].ok is False
    assert "it is frozen" in named(checks, "account")["lab"].detail
    (twice,) = [one for one in checks if one.what == "accounts"]
    assert "2 of its accounts" in twice.detail


async def test_watching_takes_up_keys_switches_and_gpu_models(environ: dict[str, str]) -> None:
    told: list[Event] = []
    async with Broker(environ=environ, on_event=told.append) as broker:
        watching = asyncio.create_task(broker.watch())

        async def until(condition: Any) -> None:
            async with asyncio.timeout(20):
                while not condition():
                    await asyncio.sleep(0)

        def vast() -> Any:
            return next(info for info in broker.providers() if info.name == "vast_ai")

        state(environ).env_file.write_text("VAST_API_KEY=key-one\n")
        await until(lambda: vast().configured)
        state(environ).config.write_text("[providers.vast]\nenabled = false\n")
        await until(lambda: not vast().enabled)
        state(environ).config.write_text("[providers.vast]\nenabled = nonsense\n")
        await until(lambda: any(one.kind == "configuration_refused" for one in told))
        assert not vast().enabled
        state(environ).gpus.write_text("nonsense\n")
        await until(lambda: any(one.kind == "gpu_models_refused" for one in told))
        assert len(broker.gpus()) > 100
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
