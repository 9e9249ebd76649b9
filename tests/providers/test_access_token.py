"""A token that an id and its secret are exchanged for: had once, kept while it holds."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gpubroker.model.errors import Unavailable
from gpubroker.providers.access_token import AccessToken, Granted


class Issuer:
    """Gives t1, t2…, each for an hour, when it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self) -> Granted:
        self.asked += 1
        await self.open.wait()
        return Granted(f"t{self.asked}", 3600)


async def test_who_comes_while_it_is_asked_for_waits_for_the_same_one(clock: Any) -> None:
    token, issuer = AccessToken(clock), Issuer()
    issuer.open.clear()
    waiting = [asyncio.create_task(token.ready(issuer)) for _ in range(3)]
    await asyncio.sleep(0)
    issuer.open.set()
    assert await asyncio.gather(*waiting) == ["t1"] * 3
    assert token.headers() == {"authorization": "Bearer t1"}


async def test_it_is_had_anew_in_its_last_seconds_and_when_it_was_dropped(clock: Any) -> None:
    token, issuer = AccessToken(clock), Issuer()
    assert await token.ready(issuer) == "t1"
    await clock.sleep(3569)
    assert await token.ready(issuer) == "t1"
    await clock.sleep(1)
    assert await token.ready(issuer) == "t2"
    token.drop("t1")
    assert await token.ready(issuer) == "t2"
    token.drop("t2")
    assert token.headers() == {}
    assert await token.ready(issuer) == "t3"


async def test_where_none_is_given_there_is_none_and_the_next_asks_again(clock: Any) -> None:
    token, issuer = AccessToken(clock), Issuer()

    async def fails() -> Granted:
        raise Unavailable("down")

    with pytest.raises(Unavailable):
        await token.ready(fails)
    assert token.headers() == {}
    assert await token.ready(issuer) == "t1"


def test_no_repr_shows_it() -> None:
    assert "sesame" not in repr(Granted("sesame", 3600))
