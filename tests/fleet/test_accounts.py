"""Keys that change: where a cloud names no account, and where two aliases open the same one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gpubroker.fleet import accounts
from gpubroker.fleet.context import Context
from gpubroker.fleet.errors import AccountChanged
from gpubroker.fleet.fleet import Fleet
from gpubroker.model.errors import Unavailable
from gpubroker.providers.accounts import Account
from gpubroker.providers.base import Provider
from gpubroker.providers.fingerprint import fingerprint
from gpubroker.store.seal import Seal
from gpubroker.testing.fake_cloud import FakeCloud, FakeProvider

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fleet.conftest import House


def key(secret: str) -> str:
    return fingerprint(Account("fake", "default", {"FAKE_CLOUD_API_KEY": secret}))


class Aliases:
    """Any number of accounts at the one cloud."""

    def __init__(self, cloud: FakeCloud, *names: str) -> None:
        self._cloud = cloud
        self._names = names

    def provider(self, _name: str, account: str) -> Provider:
        return FakeProvider(self._cloud, account)

    def configured(self) -> tuple[tuple[str, str], ...]:
        return tuple(("fake", name) for name in self._names)


def context(house: House, folder: Path, *names: str) -> Context:
    return Context(
        house.store,
        Aliases(house.cloud, *names),
        house.cloud.clock,
        Seal(folder / "seal.key", None),
    )


async def rented_by(house: House, secret: str) -> None:
    house.cloud.answer_as("default", key(secret))
    await house.launch(house.open())


def hand_over(house: House, secret: str) -> None:
    """The same account from now on answers to another key."""
    house.cloud.answer_as("default", key(secret))
    for machine in house.cloud.machines:
        machine.uid = key(secret)


async def test_a_new_key_that_sees_our_machine_is_the_same_accounts(
    house: House, tmp_path: Path
) -> None:
    await rented_by(house, "one")
    hand_over(house, "two")
    ctx = context(house, tmp_path, "default")
    assert await accounts.confirm(ctx, FakeProvider(house.cloud)) == key("two")
    bound = house.store.account("fake", "default")
    assert bound is not None
    assert (bound.uid, bound.frozen) == (key("two"), "")


async def test_a_new_key_that_sees_none_of_our_machines_freezes_the_account(
    house: House, tmp_path: Path
) -> None:
    await rented_by(house, "one")
    house.cloud.answer_as("default", key("of-somebody-else"))
    ctx = context(house, tmp_path, "default")
    with pytest.raises(AccountChanged, match="--same-account"):
        await accounts.confirm(ctx, FakeProvider(house.cloud))
    bound = house.store.account("fake", "default")
    assert bound is not None
    assert bound.uid == key("one")
    assert bound.frozen
    assert len(house.cloud.billed()) == 1


async def test_a_person_may_say_that_it_is_the_same_account(house: House, tmp_path: Path) -> None:
    await rented_by(house, "one")
    house.cloud.answer_as("default", key("two"))
    ctx = context(house, tmp_path, "default")
    provider = FakeProvider(house.cloud)
    assert await accounts.confirm(ctx, provider, same_account=True) == key("two")
    assert await accounts.confirm(ctx, provider) == key("two")


async def test_no_word_of_a_person_makes_another_uid_the_same_account(
    house: House, tmp_path: Path
) -> None:
    await house.launch(house.open())
    house.cloud.answer_as("default", "somebody-else")
    ctx = context(house, tmp_path, "default")
    with pytest.raises(AccountChanged, match="a name of its own"):
        await accounts.confirm(ctx, FakeProvider(house.cloud), same_account=True)


async def test_a_look_that_fails_concludes_nothing(house: House, tmp_path: Path) -> None:
    await rented_by(house, "one")
    house.cloud.answer_as("default", key("two"))
    house.cloud.script("get", "unavailable", times=1)
    ctx = context(house, tmp_path, "default")
    with pytest.raises(Unavailable):
        await accounts.confirm(ctx, FakeProvider(house.cloud))
    bound = house.store.account("fake", "default")
    assert bound is not None
    assert bound.frozen == ""


async def test_a_machine_of_one_alias_is_no_orphan_to_another_of_the_same_account(
    house: House, tmp_path: Path
) -> None:
    await house.launch(house.open())
    house.cloud.answer_as("lab", "fake-default")
    report = await Fleet(context(house, tmp_path, "lab", "default")).sweep(fix=True, owner=None)
    assert report.orphans == ()
    assert report.ghosts == ()
    assert [machine.name for machine in report.ours] == ["train-1"]
    assert len(house.cloud.billed()) == 1


async def test_machines_of_another_account_are_no_ghosts_of_this_one(
    house: House, tmp_path: Path
) -> None:
    await house.launch(house.open())
    house.cloud.answer_as("lab", "another-one")
    house.cloud.clock.advance(3600)
    report = await Fleet(context(house, tmp_path, "lab")).sweep(fix=True, owner=None)
    assert report.ghosts == ()
    assert report.orphans == ()
    assert report.ours == ()
