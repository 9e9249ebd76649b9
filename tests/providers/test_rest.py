"""What every REST cloud does alike: `RestCloud`, tried on a cloud of two questions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec import Struct, field

from gpubroker.model.errors import AuthFailed, BadResponse, OutcomeUnknown, Unsupported
from gpubroker.model.identity import Ref
from gpubroker.model.instance import Instance
from gpubroker.model.terms import Resource, State
from gpubroker.providers.accounts import Account
from gpubroker.providers.carriers import whose
from gpubroker.providers.circuit import PERMISSION
from gpubroker.providers.http import Transport
from gpubroker.providers.paging import Whole
from gpubroker.providers.redaction import Redactor
from gpubroker.providers.rest import RestCloud

OURS, THEIRS = "gb-abcdef-abcdefghijklmnop", "somebody's"


class Box(Struct):
    id: str
    name: str = ""


def machine(box: Box) -> Instance:
    owner, attempt = whose(box.name)
    return Instance(
        ref=Ref("plain", "default", "", box.id),
        owner=owner,
        attempt=attempt,
        state=State.RUNNING,
        raw_state="up",
        bills_compute=True,
        bills_disk=False,
    )


class Plain(RestCloud):
    name = "plain"
    display_name = "Plain Cloud"
    website = "https://plain.invalid/"
    console = "https://plain.invalid/boxes/{id}"
    credentials = ("PLAIN_API_KEY",)
    base_url = "https://api.plain.invalid"
    rules = ()
    shown = frozenset({"error"})

    async def uid(self, operation: str) -> str:
        return await self.ask_for(str, operation, "GET", "/me", under="data.user.id")

    async def machines(self, operation: str) -> Whole[Instance]:
        boxes = await self.ask_for(tuple[Box, ...], operation, "GET", "/boxes", under="boxes")
        return Whole(tuple(machine(box) for box in boxes), complete=len(boxes) != 1)


def connected(scripted: Any, clock: Any, secrets: Mapping[str, str]) -> Plain:
    import httpx2

    account = Account("plain", "default", secrets)
    transport = Transport(
        "plain",
        Plain.base_url,
        auth=lambda: Plain.authorization(account),
        redactor=Redactor(Plain.shown, secrets.values()),
        clock=clock,
        wire=httpx2.MockTransport(scripted),
    )
    return Plain(account, transport)


@pytest.fixture
def plain(scripted: Any, clock: Any) -> Plain:
    return connected(scripted, clock, {"PLAIN_API_KEY": "k-e-y"})


ME = {"data": {"user": {"id": "u-1"}}}
BOXES = {"boxes": [{"id": "b-1", "name": OURS}, {"id": "b-2", "name": THEIRS}]}


def paths(scripted: Any) -> list[str]:
    return [request.url.path for request in scripted.requests]


async def test_a_list_asks_for_the_uid_beside_it(plain: Plain, scripted: Any, clock: Any) -> None:
    scripted.says("GET /me", ME).says("GET /boxes", BOXES)
    told = await plain.list("")
    assert paths(scripted) == ["/me", "/boxes"]
    assert (told.account_uid, told.complete, told.asked_at) == ("u-1", True, clock.now())
    assert [(one.ref.id, one.owner) for one in told.instances] == [("b-1", "abcdef"), ("b-2", None)]


async def test_a_list_right_after_whoami_takes_its_answer_once(plain: Plain, scripted: Any) -> None:
    scripted.says("GET /me", ME).says("GET /boxes", BOXES)
    assert await plain.whoami() == "u-1"
    await plain.list("")
    await plain.list("")
    assert paths(scripted) == ["/me", "/boxes", "/me", "/boxes"]


async def test_a_list_that_is_not_whole_says_so(plain: Plain, scripted: Any) -> None:
    scripted.says("GET /me", ME).says("GET /boxes", {"boxes": [{"id": "b-1"}]})
    assert not (await plain.list("")).complete


async def test_an_attempt_is_found_by_its_carrier(
    plain: Plain, scripted: Any, attempt: Any, offer_of: Any
) -> None:
    scripted.says("GET /boxes", BOXES)
    assert [one.ref.id for one in await plain.find(attempt, offer_of())] == ["b-1"]


async def test_what_stands_under_a_key_is_read_in_its_bounds(plain: Plain, scripted: Any) -> None:
    class Named(Struct):
        title: str = field(name="name")

    scripted.says("GET /b", {"name": "whole"}, {"box": {"name": "inside"}}, {"box": None})
    assert (await plain.ask_for(Named, "get", "GET", "/b")).title == "whole"
    assert (await plain.ask_for(Named, "get", "GET", "/b", under="box")).title == "inside"
    with pytest.raises(BadResponse):
        await plain.ask_for(Named, "get", "GET", "/b", under="box")


@pytest.mark.parametrize("body", [{}, {"made": {}}, {"made": {"id": 7}}, b"<html>"], ids=str)
async def test_a_mutations_answer_of_another_shape_is_an_unknown_outcome(
    plain: Plain, scripted: Any, body: Any
) -> None:
    scripted.says("POST /boxes", body)
    with pytest.raises(OutcomeUnknown):
        await plain.ask_for(str, "create", "POST", "/boxes", {}, under="made.id")


def test_a_get_that_tells_another_machine_is_a_bad_response(plain: Plain) -> None:
    told = machine(Box("b-2"))
    assert plain.same(plain.ref("b-2"), told) is told
    with pytest.raises(BadResponse):
        plain.same(plain.ref("b-1"), told)


async def test_without_a_record_of_charges_a_person_is_told_where_to_look(
    plain: Plain, clock: Any
) -> None:
    bill = await plain.billing(plain.ref("b-1"), clock.now(), None)
    assert bill.status == "manual"
    assert bill.evidence.startswith("https://plain.invalid/: instance b-1, ")


def test_the_machines_page_has_its_id(plain: Plain) -> None:
    assert plain.console_url(plain.ref("b-1")) == "https://plain.invalid/boxes/b-1"


async def test_what_the_cloud_does_not_need_is_neither_made_nor_released(
    plain: Plain, spec: Any, offer_of: Any, attempt: Any
) -> None:
    with pytest.raises(Unsupported):
        await plain.ensure(Resource.SSH_KEY, spec, offer_of(), attempt, {})
    with pytest.raises(Unsupported):
        await plain.release(Resource.SSH_KEY, plain.ref("b-1"))


async def test_a_403_without_a_rule_is_a_key_that_may_not_do_this_one_thing(
    plain: Plain, scripted: Any
) -> None:
    scripted.says("GET /me", {"error": "scope"}, status=403)
    scripted.then("GET /me", {"error": "who?"}, status=401)
    for code in (PERMISSION, "who?"):
        with pytest.raises(AuthFailed) as caught:
            await plain.whoami()
        assert caught.value.code == code


async def test_without_a_key_nothing_is_sent(scripted: Any, clock: Any) -> None:
    with pytest.raises(AuthFailed, match="PLAIN_API_KEY"):
        await connected(scripted, clock, {}).list("")
    assert scripted.requests == []
