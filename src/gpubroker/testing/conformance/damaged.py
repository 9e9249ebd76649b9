"""Recorded answers of a cloud, damaged: what arrives on a bad day."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpubroker.model.errors import BrokerError, NotFound, OutcomeUnknown
from gpubroker.testing.conformance.check import none_of
from gpubroker.testing.conformance.recorded import Caller, Case, Replay, connected, manifest

if TYPE_CHECKING:
    from gpubroker.providers.base import Provider

MOST_DAMAGES = 120


async def damage(provider_class: type[Provider], folder: Path, case: Case) -> None:
    """Plays a case with its answer damaged in many ways; Broken where one is not withstood.

    A read gives what it can or raises an error of the model, and never "there is no such thing".
    The outcome of a create is unknown then.
    """
    server = Replay(folder, case)
    if server.own is None or "error" in case.expect or not server.own_body.strip():
        return
    async with connected(provider_class, server) as provider:
        caller = Caller(provider, folder, server)
        sound = await caller.call()
        wrong, meant = [], _meant(folder)
        for what, body, plausible in _damages(server.own_body):
            if _parsed(body) in meant:
                continue
            server.begin(damaged=body)
            if fault := await _withstood(caller, case, None if plausible else sound):
                wrong.append(f"{case.name}, {what}: {fault}")
        if case.call == "offers":
            wrong += await _one_row(caller, server)
        none_of(wrong)


def _meant(folder: Path) -> list[Any]:
    """Answers that the cloud does give: none of them is damage."""
    files = {answer.file for case in manifest(folder).cases for answer in case.answers}
    return [_parsed((folder / file).read_bytes()) for file in sorted(files)]


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body


async def _withstood(caller: Caller, case: Case, sound: Any) -> str:
    try:
        told = await caller.itself()
    except NotFound as error:
        return f"{error.word}: {error}" if case.call in {"get", "find"} else ""
    except OutcomeUnknown:
        return ""
    except BrokerError as error:
        return f"{error.word} of a create" if case.call == "create" else ""
    except Exception as error:  # noqa: BLE001 - anything else is the very fault looked for
        return f"{type(error).__name__}: {error}"
    return _wrong_price(sound, told) if sound and case.call == "offers" else ""


def _wrong_price(sound: Any, told: Any) -> str:
    """No damage is a price: a row says the same as without it, or is not there."""
    right = {(row.key, row.market): row.price for row in sound["rows"]}
    for row in told["rows"]:
        if row.price != right.get((row.key, row.market), row.price):
            return f"{row.key} costs {row.price}, not {right[row.key, row.market]}"
    return ""


def _damages(body: bytes) -> Iterator[tuple[str, bytes, bool]]:
    """What may arrive instead of a good answer, and whether the vendor might mean it."""
    for what, content in (
        ("empty", b""),
        ("its first byte", body[:1]),
        ("its first half", body[: len(body) // 2]),
        ("all but the last byte", body.rstrip()[:-1]),
        ("a web page", b"<!doctype html><title>502 Bad Gateway</title>"),
        ("null", b"null"),
        ("an empty list", b"[]"),
        ("an empty object", b"{}"),
    ):
        yield what, content, False
    try:
        whole = json.loads(body)
    except ValueError:
        return
    paths = list(_paths(whole))
    step = max(1, len(paths) * 2 // MOST_DAMAGES)
    for number, path in enumerate(paths[::step]):
        shorter = isinstance(path[-1], int)
        yield f"without {_dotted(path)}", _changed(whole, path, None, drop=True), shorter
        odd = _ODD[number % len(_ODD)]
        yield f"{_dotted(path)} = {str(odd)[:20]}", _changed(whole, path, odd), odd == 0


_ODD: tuple[Any, ...] = (None, "odd\u0000text", -1, 1e300, [], {}, True, "", 0, [None], "9" * 400)
_NO_ROWS: tuple[Any, ...] = ({}, None, "no row")
_ELEMENTS = 2
"""Of a long list the others are like these."""


def _paths(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if above:
        yield above
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _paths(inner, (*above, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value[:_ELEMENTS]):
            yield from _paths(inner, (*above, number))


def _changed(whole: Any, path: tuple[Any, ...], value: Any, *, drop: bool = False) -> bytes:
    changed = copy.deepcopy(whole)
    inner = changed
    for step in path[:-1]:
        inner = inner[step]
    if drop:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return json.dumps(changed).encode()


def _dotted(path: tuple[Any, ...]) -> str:
    return ".".join(str(step) for step in path)


async def _one_row(caller: Caller, server: Replay) -> list[str]:
    """A row that is none is put aside with a reason, and the others stay."""
    server.begin()
    sound = await caller.itself()
    whole = json.loads(server.own_body)
    rows = max(_containers(whole), key=lambda found: len(found[1]), default=None)
    if rows is None:
        return []
    path, names = rows
    wrong = []
    for odd in _NO_ROWS:
        server.begin(damaged=_changed(whole, (*path, names[0]), odd))
        what = f"{_dotted((*path, names[0]))} = {odd!r}"
        try:
            left = await caller.itself()
        except BrokerError as error:
            wrong.append(f"{what} costs every row: {error}")
            continue
        if len(names) > 1 and len(sound["rows"]) > 1 and not left["rows"]:
            wrong.append(f"{what} costs every row")
        if len(left["rejected"]) <= len(sound["rejected"]):
            wrong.append(f"{what} is not put aside with a reason")
    return wrong


def _containers(
    value: Any, above: tuple[Any, ...] = ()
) -> Iterator[tuple[tuple[Any, ...], list[Any]]]:
    """Lists and maps of objects, with the names of their children."""
    inner: dict[Any, Any] = {}
    if isinstance(value, dict):
        inner = value
    elif isinstance(value, list):
        inner = dict(enumerate(value))
    if inner and above and all(isinstance(child, dict) for child in inner.values()):
        yield above, list(inner)
        return
    for name, child in inner.items():
        yield from _containers(child, (*above, name))
