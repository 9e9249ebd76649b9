"""Answers that no emulator gives: bare 404s, redirects, other pages, the request itself."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from gpubroker.model.errors import BrokerError, NotFound, OutcomeUnknown
from gpubroker.model.identity import Ref
from gpubroker.providers.base import Provider
from gpubroker.testing.conformance.bench import Bench, texts
from gpubroker.testing.conformance.check import Chapter, none_of, require
from gpubroker.testing.conformance.wire import Asked, Said, answering

_chapter = Chapter()
CHECKS = _chapter.checks
promise = _chapter.promise

BARE_404: dict[str, bytes] = {
    "a web page": b"<html><head><title>404 Not Found</title></head><body>nginx</body></html>",
    "no body": b"",
    "an empty object": b"{}",
    "a gateway's words": b'{"message": "no Route matched with those values"}',
    "a framework's words": b'{"detail": "Not Found"}',
}
VARIABLE, SCRIPT = "v4r1able-0f-the-bench", "scr1pt-0f-the-bench"
ODD_BODIES: dict[str, bytes] = {
    "nothing": b"",
    "null": b"null",
    "a number": b"17",
    "a text": b'"ok"',
    "an empty list": b"[]",
    "an empty object": b"{}",
    "a web page": b"<!doctype html><title>Just a moment...</title>",
    "half an object": b'{"success": true, "id": 17, "data": {"i',
    "binary": bytes(range(256)),
    "deep nesting": b"[" * 20_000 + b"]" * 20_000,
    "a huge number": b'{"id": 1e999, "data": {"id": ' + b"9" * 400 + b"}}",
}


async def _reads(provider: Provider, ref: Ref) -> dict[str, Callable[[], Awaitable[object]]]:
    async def offers() -> object:
        from gpubroker.model.query import Query

        return [page async for page in provider.offers(Query())]

    return {
        "whoami": provider.whoami,
        "offers": offers,
        "get": lambda: provider.get(ref),
        "list": lambda: provider.list(ref.scope),
    }


@promise("wire", "many")
async def a_bare_404_is_no_proof(bench: Bench) -> None:
    """A 404 without the cloud's words for it is not NotFound, and ends nothing."""
    made = await bench.make()
    wrong = []
    for what, body in BARE_404.items():
        async with (
            answering(lambda _asked, body=body: Said(404, body)) as wire,  # type: ignore[misc]  # a lambda's default is no argument
            bench.another(base_url=wire.url) as provider,
        ):
            try:
                machine = await provider.get(made.ref)
            except NotFound:
                wrong.append(f"get, {what}: not_found")
            except BrokerError:
                pass
            else:
                wrong.append(f"get, {what}: a machine that is {machine.state}")
            try:
                await provider.terminate(made.ref)
            except BrokerError as error:
                if isinstance(error, NotFound):
                    wrong.append(f"terminate, {what}: not_found")
            else:
                wrong.append(f"terminate, {what}: success")
    none_of(wrong)


@promise("wire", "many")
async def no_redirect_is_followed_by_a_change(bench: Bench) -> None:
    """A create or terminate that is answered with a redirect is sent once, its outcome unknown."""
    made = await bench.make()
    spec, attempt = bench.spec(), bench.attempt()
    have = await bench.needs(spec, made.offer, attempt)
    wrong = []
    for status in (301, 302, 303, 307, 308):

        def elsewhere(asked: Asked, status: int = status) -> Said:
            return Said(status, headers={"location": f"/elsewhere{asked.path}"})

        async with answering(elsewhere) as wire, bench.another(base_url=wire.url) as provider:
            calls: dict[str, Callable[[], Awaitable[object]]] = {
                "create": lambda p=provider: p.create(spec, made.offer, attempt, have),  # type: ignore[misc]  # as above
                "terminate": lambda p=provider: p.terminate(made.ref),  # type: ignore[misc]  # as above
            }
            for name, call in calls.items():
                wire.asked.clear()
                try:
                    await call()
                except OutcomeUnknown:
                    pass
                except BrokerError as error:
                    wrong.append(f"{name}, {status}: {error.word}")
                else:
                    wrong.append(f"{name}, {status}: success")
                if len(wire.asked) != 1:
                    wrong.append(f"{name}, {status}: {len(wire.asked)} requests")
    none_of(wrong)


@promise("wire", "many")
async def an_odd_answer_is_an_error_of_the_model(bench: Bench) -> None:
    """A 200 that is none of the cloud's answers is told as such; a create's outcome is unknown."""
    made = await bench.make()
    spec, attempt = bench.spec(), bench.attempt()
    have = await bench.needs(spec, made.offer, attempt)
    wrong = []
    for what, body in ODD_BODIES.items():
        async with (
            answering(lambda _asked, body=body: Said(200, body)) as wire,  # type: ignore[misc]  # as above
            bench.another(base_url=wire.url) as provider,
        ):
            for name, read in (await _reads(provider, made.ref)).items():
                if fault := await _fault(read, BrokerError):
                    wrong.append(f"{name}, {what}: {fault}")
            fault = await _fault(
                lambda p=provider: p.create(spec, made.offer, attempt, have),  # type: ignore[misc]  # as above
                OutcomeUnknown,
            )
            if fault:
                wrong.append(f"create, {what}: {fault}")
    none_of(wrong)


async def _fault(call: Callable[[], Awaitable[object]], expected: type[BrokerError]) -> str:
    """What is wrong with what a call made of an answer that is none; "" where nothing is."""
    try:
        told = await call()
    except expected as error:
        return "not_found" if isinstance(error, NotFound) else ""
    except BrokerError as error:
        return error.word
    except Exception as error:  # noqa: BLE001 - anything else is the very fault looked for
        return f"{type(error).__name__}: {error}"
    return "" if told in ([], None) or _says_nothing(told) else f"taken for {str(told)[:80]}"


def _says_nothing(told: object) -> bool:
    """A listing or search that claims no completeness proves nothing."""
    pages = told if isinstance(told, list) else [told]
    return all(getattr(page, "complete", True) is False for page in pages)


@promise("wire", "many")
async def secrets_show_nowhere(bench: Bench) -> None:
    """Key, variables and script are in no error, trace or repr, even if the cloud repeats them."""
    can = bench.provider_class.capabilities
    wishes: dict[str, object] = {}
    if can.env != "none":
        wishes["env"] = {"TOKEN": VARIABLE}
    if can.startup != "none":
        wishes["startup_script"] = f"echo {SCRIPT}"
    spec, offer, attempt = bench.spec(**wishes), await bench.cheapest(), bench.attempt()
    have = await bench.needs(spec, offer, attempt)
    told: list[object] = []
    for echo in (_in_words, _as_object, _as_page):
        for status in (200, 400, 401, 404, 422, 500):
            async with (
                answering(lambda asked, s=status, e=echo: Said(s, e(asked))) as wire,  # type: ignore[misc]  # as above
                bench.another(base_url=wire.url) as provider,
            ):
                told.append(provider)
                try:
                    await provider.create(spec, offer, attempt, have)
                except BrokerError as error:
                    told.append(error)
                try:
                    await provider.whoami()
                except BrokerError as error:
                    told.append(error)
    told += bench.exchanges
    readable = texts(told)
    require(bool(bench.exchanges), "no exchange was shown to the observer")
    hidden = {"the key": bench.secrets, "a variable": (VARIABLE,), "the script": (SCRIPT,)}
    none_of(
        f"{what} shows: …{readable[max(0, at - 60) : at]}"
        for what, values in hidden.items()
        for value in values
        if (at := readable.find(value)) >= 0
    )


def _repeated(asked: Asked) -> str:
    headers = " ".join(f"{name}={value}" for name, value in asked.headers.items())
    return f"{asked.method} {asked.target} {headers} {asked.body.decode(errors='replace')}"


def _in_words(asked: Asked) -> bytes:
    text = _repeated(asked)
    return json.dumps({"success": False, "error": text, "message": text, "detail": text}).encode()


def _as_object(asked: Asked) -> bytes:
    try:
        body = json.loads(asked.body)
    except ValueError:
        body = asked.body.decode(errors="replace")
    return json.dumps({"error": {"code": "bad_request", "request": body}, "detail": body}).encode()


def _as_page(asked: Asked) -> bytes:
    return f"<pre>{_repeated(asked)}</pre>".encode()
