"""The types of Northflank's own client, closed to others, as the judge of our requests.

The vendor's live document mixes two versions of OpenAPI; its published client is made of it, and
an index of that client's calls and types stands in for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.contract.conftest import vendor_document
from tests.providers.scripted import START, Scripted, connected

from gpubroker.model.identity import Attempt
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.query import Query
from gpubroker.model.terms import Resource
from gpubroker.providers.northflank import Northflank

pytestmark = pytest.mark.judge
FIXTURES = Path(__file__).parents[1] / "providers" / "fixtures" / "northflank"
ATTEMPT = Attempt("abcdef", "abcdefghijklmnop", "launch")
PROJECT = "/v1/projects/gb-abcdef-us-central"
SERVICE = f"{PROJECT}/services/{ATTEMPT.name}"
ANSWERS = {
    "GET /v1/regions": "regions",
    "GET /v1/plans": "plans",
    "GET /v1/auth": "auth",
    "GET /v1/projects": "no-projects",
    "POST /v1/projects": "project",
    f"GET {PROJECT}": "project",
    f"DELETE {PROJECT}": "done",
    f"POST {PROJECT}/services/deployment": "made",
    f"GET {PROJECT}/services": "services",
    f"GET {SERVICE}": "running",
    f"GET {SERVICE}/containers": "containers",
    f"POST {SERVICE}/pause": "done",
    f"POST {SERVICE}/resume": "done",
    f"DELETE {SERVICE}": "done",
    f"GET /v1/billing/usage/{int(START.timestamp())}": "usage",
    "GET /v1/billing/credit-balance": "credit",
}
_OF = re.compile(r"(NotRequired|List|Union|Optional|Dict|Literal)\[(.*)\]")
_PLAIN: Mapping[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "float": (int, float),
    "bool": bool,
    "Any": object,
    "None": type(None),
}


@pytest.fixture(scope="module")
def index() -> dict[str, Any]:
    return vendor_document("northflank/northflank-sdk-index.json")


def parts(text: str) -> list[str]:
    """What stands between the commas that are in no brackets."""
    depth, found = 0, [""]
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == "," and not depth:
            found.append("")
        else:
            found[-1] += letter
    return [part.strip() for part in found]


def faults(types: Mapping[str, Any], told: str, value: Any, at: str = "$") -> Iterator[str]:
    """Where a value is not of a type as the client's annotations tell it."""
    if match := _OF.fullmatch(told):
        kind, inside = match[1], match[2]
        if kind == "Literal":
            if repr(value) not in parts(inside):
                yield f"{at}: {value!r} is none of {inside}"
        elif kind == "List":
            for one in value if isinstance(value, list) else [None]:
                yield from faults(types, inside, one, f"{at}[]")
        elif kind == "Dict":
            yield from () if isinstance(value, dict) else (f"{at}: no object",)
        else:
            tries = [list(faults(types, part, value, at)) for part in parts(inside)]
            yield from () if [] in tries else min(tries, key=len)
    elif told in _PLAIN:
        if not isinstance(value, _PLAIN[told]):
            yield f"{at}: {value!r} is no {told}"
    elif not isinstance(value, dict):
        yield f"{at}: no object"
    else:
        yield from faults_of_object(types, types[told], value, at)


def faults_of_object(
    types: Mapping[str, Any], known: Mapping[str, str], value: Mapping[str, Any], at: str
) -> Iterator[str]:
    """Fields that are unknown, missing or of another type."""
    required = {name for name, kind in known.items() if not kind.startswith("NotRequired")}
    yield from (f"{at}.{name} is unknown" for name in value.keys() - known.keys())
    yield from (f"{at}.{name} is missing" for name in required - value.keys())
    for name in value.keys() & known.keys():
        yield from faults(types, known[name], value[name], f"{at}.{name}")


def faults_of_request(index: Mapping[str, Any], request: httpx2.Request) -> Iterator[str]:
    fits = [
        one
        for one in index["endpoints"]
        if one["method"] == request.method.lower()
        and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", one["path_templates"][0]), request.url.path)
    ]
    if not fits:
        yield f"{request.method} {request.url.path} is no call of the client"
        return
    call = min(fits, key=lambda one: one["path_templates"][0].count("{"))
    unknown = set(request.url.params) - set(call["query_params"])
    yield from (f"{request.url.path}: {name} is not in the query" for name in unknown)
    if bool(request.content) != call["has_body"]:
        yield f"{request.method} {request.url.path}: a body where there is none, or none"
    elif request.content:
        told = call["args"]["data"]
        yield from faults(index["types"], told, json.loads(request.content))


async def test_our_requests_are_as_the_vendors_client_makes_them(index: dict[str, Any]) -> None:
    scripted = Scripted()
    for call, name in ANSWERS.items():
        scripted.says(call, json.loads((FIXTURES / f"{name}.json").read_text()))
    north = connected(Northflank, scripted)
    (page,) = [page async for page in north.offers(Query())]
    spec = LaunchSpec(
        expires_at=START + timedelta(hours=2),
        env={"WORD": "hi"},
        startup_script="echo up\n",
        command="python train.py",
        ports=((8888, "tcp"),),
        disk_gb=50,
    )
    offer = page.rows[0]
    assert await north.whoami()
    project = await north.ensure(Resource.NAMESPACE, spec, offer, ATTEMPT, {})
    projects = json.loads((FIXTURES / "projects.json").read_text())
    scripted.says("GET /v1/projects", projects)
    assert await north.ensure(Resource.NAMESPACE, spec, offer, ATTEMPT, {}) == project
    ref = await north.create(spec, offer, ATTEMPT, {Resource.NAMESPACE: project})
    assert await north.find(ATTEMPT, offer)
    assert (await north.list("")).complete
    await north.stop(ref)
    await north.start(ref)
    await north.terminate(ref)
    assert (await north.billing(ref, START, START + timedelta(minutes=9))).amount
    assert await north.balance()
    for one in (await north.resources("")).resources:
        await north.discard(one.what, one.ref)
    assert set(scripted.asked()) == {*ANSWERS}
    found = [wrong for request in scripted.requests for wrong in faults_of_request(index, request)]
    assert not found


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({"region": "us"}, "missing"),
        ({"name": "x", "region": "us", "colour": 1}, "unknown"),
        ({"name": 1, "region": "us"}, "is no str"),
    ],
)
def test_the_judge_sees_what_is_wrong(
    index: dict[str, Any], body: dict[str, Any], wrong: str
) -> None:
    told = next(one for one in index["endpoints"] if one["sdk"] == "create.project")
    assert any(wrong in fault for fault in faults(index["types"], told["args"]["data"], body))
