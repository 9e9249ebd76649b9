"""What may come of a hostile body: an error of the model, or a value that is sound."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import MAXYEAR, MINYEAR, datetime
from typing import Any

import msgspec
from msgspec import Struct
from tests.contract.hostile import Hostile

from gpubroker.model.bill import Bill
from gpubroker.model.errors import BrokerError, NotFound, Refused
from gpubroker.model.identity import Ref
from gpubroker.model.instance import Instance, Listing
from gpubroker.model.money import HIGHEST_PRICE_USD, NANOS_PER_USD
from gpubroker.model.offer import Offer
from gpubroker.model.terms import State
from gpubroker.testing.conformance.recorded import ATTEMPT, Case, Recording

_ERROR = 400


class Played(Struct, frozen=True):
    """What came of a case, once with a good body and once with a spoiled one."""

    case: Case
    answer: Recording
    """Whose body was spoiled."""
    good: bytes
    spoiled: Hostile
    sound: Any
    """Of the good body: a value or a BrokerError."""
    told: Any

    @property
    def decides(self) -> bool:
        """No other answer tells what this one should have told."""
        last = self.answer is self.case.answers[-1]
        return last and (self.answer.status < _ERROR or self.spoiled.whole)


def faults(played: Played) -> Iterator[str]:
    """What is wrong with what came of a spoiled body."""
    told, case, lawful = played.told, played.case, played.spoiled.lawful
    if isinstance(told, NotFound) and case.call != "terminate" and played.decides and not lawful:
        yield f"{told.word}: {told}"
    if isinstance(told, BrokerError):
        if case.call == "create" and played.answer.status < _ERROR and isinstance(told, Refused):
            yield f"{told.word} of a create: {told}"
        return
    if played.answer.status >= _ERROR and played.decides:
        yield f"{told!r} of an error"
    yield from _unspeakable(told)
    yield from _OF_CALL.get(case.call, _nothing)(played)


def _unspeakable(told: Any) -> Iterator[str]:
    try:
        msgspec.json.encode(told)
    except (ValueError, TypeError) as fault:
        yield f"cannot be written down: {fault}"
    for moment in _moments(told):
        if moment.tzinfo is None or not MINYEAR < moment.year < MAXYEAR:
            yield f"at {moment}, which not every zone knows"


def _moments(told: Any) -> Iterator[datetime]:
    if isinstance(told, Listing):
        told = told.instances
    for one in told if isinstance(told, tuple) else (told,):
        if isinstance(one, Instance):
            yield from filter(None, (one.created_at, one.expires_at))
        if isinstance(one, Bill):
            yield from (moment for line in one.lines for moment in (line.start, line.end))


def _nothing(played: Played) -> Iterator[str]:
    del played
    yield from ()


def _of_offers(played: Played) -> Iterator[str]:
    for row in played.told["rows"]:
        yield from _of_price(row)
    if played.spoiled.lawful or not isinstance(played.sound, dict):
        return
    right = {(row.key, row.market): row.price for row in played.sound["rows"]}
    amounts = {price.compute for price in right.values()}
    for row in played.told["rows"]:
        known = right.get((row.key, row.market))
        if known is not None and row.price != known:
            yield f"{row.key} costs {row.price}, not {known}"
        elif known is None and row.price.compute not in amounts:
            yield f"{row.key}, which is new, costs {row.price}"


_HIGHEST = round(HIGHEST_PRICE_USD * NANOS_PER_USD)


def _of_price(row: Offer) -> Iterator[str]:
    price = msgspec.structs.asdict(row.price)
    wrong = [name for name, part in price.items() if not _amount(part) and name != "quoted"]
    if wrong or row.price.compute <= 0:
        yield f"{row.key} costs {row.price}"
    if row.gpu_count < 1 or not row.key:
        yield f"an offer {row.key!r} of {row.gpu_count} GPUs"


def _amount(part: Any) -> bool:
    return isinstance(part, int | float) and math.isfinite(part) and 0 <= part <= _HIGHEST


def _of_create(played: Played) -> Iterator[str]:
    ref = played.told
    if isinstance(played.sound, Ref) and ref.id == played.sound.id:
        return
    said = _scalars(played.spoiled.body)
    if not ref.id or (ref.id not in said and set(ref.id.split("/")) - said):
        yield f"made {ref.id!r}, which the body does not say"


def _scalars(body: bytes) -> set[str]:
    """Every word and number of a body, as text."""
    text = body.decode(errors="replace")
    words = {str(json.loads(word)) for word in re.findall(r'"(?:[^"\\]|\\.)*"', text)}
    return words | set(re.findall(r"-?\d+", text))


def _of_uid(played: Played) -> Iterator[str]:
    uid = played.told["uid"]
    if not isinstance(uid, str) or uid in {"", "None", "null", "True", "False", "nan", "inf"}:
        yield f"an account {uid!r}"


def _of_machine(played: Played) -> Iterator[str]:
    yield from _of_machines(played, (played.told,), (played.sound,))
    if played.told.ref.id != played.case.id:
        yield f"another machine: {played.told.ref.id}"


def _of_machines(played: Played, told: Any, sound: Any) -> Iterator[str]:
    lawful = played.spoiled.lawful
    known = {one.ref: one for one in sound if isinstance(one, Instance)}
    for one in told:
        good = known.get(one.ref)
        if not one.ref.id or one.ref.id in {"None", "True", "False"}:
            yield f"a machine {one.ref.id!r}"
        if not lawful and one.state is State.TERMINATED and one.state != (good and good.state):
            yield f"{one.ref.id} is gone"
        if one.price is not None and not 0 <= one.price <= _HIGHEST:
            yield f"{one.ref.id} costs {one.price}"
        right = {None, good.price} if good else {None, one.price}
        if not lawful and one.price not in right:
            yield f"{one.ref.id} costs {one.price}, not {good and good.price}"


def _of_list(played: Played) -> Iterator[str]:
    told, sound = played.told, played.sound
    known = sound.instances if isinstance(sound, Listing) else ()
    yield from _of_machines(played, told.instances, known)
    fewer = len(told.instances) < len(known)
    if told.complete and fewer and not played.spoiled.lawful:
        yield f"all there is are {len(told.instances)} machines, not {len(known)}"


def _of_find(played: Played) -> Iterator[str]:
    sound = played.sound if isinstance(played.sound, tuple) else ()
    yield from _of_machines(played, played.told, sound)
    ours = ATTEMPT.id.encode()
    left = json.dumps(parsed(played.spoiled.body)).encode()
    named = left.count(ours) >= played.good.count(ours)
    if named and len(played.told) < len(sound) and not played.spoiled.lawful:
        yield f"{len(played.told)} found, not {len(sound)}"


def _of_bill(played: Played) -> Iterator[str]:
    bill, sound = played.told, played.sound
    if bill.amount is not None and not isinstance(bill.amount, int):
        yield f"charged {bill.amount!r}"
    right = sound.amount if isinstance(sound, Bill) else bill.amount
    fair = played.spoiled.lawful or b"-1" in played.spoiled.body
    if bill.status == "ended" and not fair and bill.amount != right:
        yield f"charged {bill.amount}, not {right}"


def _of_balance(played: Played) -> Iterator[str]:
    amount = played.told["amount"]
    if not isinstance(amount, int):
        yield f"a balance of {amount!r}"
    right = played.sound["amount"] if isinstance(played.sound, dict) else amount
    negative = b"-1" in played.spoiled.body
    if not played.spoiled.lawful and not negative and amount != right:
        yield f"a balance of {amount}, not {right}"


_OF_CALL: Mapping[str, Callable[[Played], Iterator[str]]] = {
    "offers": _of_offers,
    "create": _of_create,
    "whoami": _of_uid,
    "get": _of_machine,
    "list": _of_list,
    "find": _of_find,
    "billing": _of_bill,
    "balance": _of_balance,
}


def parsed(body: bytes) -> Any:
    """None where it is no JSON."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
