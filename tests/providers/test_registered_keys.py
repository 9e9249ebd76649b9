"""The broker's key among those that an account has."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from gpubroker.model.errors import Invalid, Refused
from gpubroker.model.identity import Attempt
from gpubroker.model.launch import LaunchSpec
from gpubroker.providers.registered_keys import BrokerKey, broker_key, key_name, registered

ATTEMPT = Attempt("abcdef", "abcdefghijklmnop", "launch")
OWN, MINE = "ssh-ed25519 AAAAown gb-abcdef", "ssh-ed25519 AAAAmine me@home"
WANTED = BrokerKey("gb-abcdef", OWN)


class Key(NamedTuple):
    name: str
    public_key: str


def test_the_brokers_line_is_known_by_its_comment_else_it_is_the_first() -> None:
    def own(*lines: str) -> BrokerKey:
        return broker_key(LaunchSpec(expires_at=None, ssh_keys=lines), ATTEMPT, "acme")

    assert key_name(ATTEMPT) == "gb-abcdef"
    assert own(MINE, OWN) == WANTED
    assert own(MINE) == BrokerKey("gb-abcdef", MINE)
    with pytest.raises(Invalid) as caught:
        own()
    assert caught.value.field == "ssh_keys"


def test_a_key_is_the_same_whatever_its_comment_and_name() -> None:
    bare = Key("by hand", "ssh-ed25519 AAAAown\n")
    assert registered([Key("mine", MINE), bare], WANTED, "acme") is bare
    assert registered([Key("mine", MINE)], WANTED, "acme") is None


def test_of_several_names_the_owners_is_taken() -> None:
    ours = Key("gb-abcdef", OWN)
    assert registered([Key("by hand", OWN), ours], WANTED, "acme") is ours


def test_a_name_that_stands_for_another_key_as_well_is_not_taken() -> None:
    assert registered([Key("both", OWN), Key("both", MINE)], WANTED, "acme") is None


@pytest.mark.parametrize("own_too", [False, True])
def test_the_owners_name_that_holds_another_key_is_never_overwritten(own_too: bool) -> None:
    keys = [Key("gb-abcdef", MINE)] + [Key("gb-abcdef", OWN)] * own_too
    with pytest.raises(Refused) as caught:
        registered(keys, WANTED, "acme")
    assert (caught.value.code, caught.value.operation) == ("name_taken", "ensure")
