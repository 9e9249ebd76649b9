"""The types of Northflank's own library beside the emulator's answers, unknown fields closed.

The vendor's OpenAPI document is served live and could not be had; its library was made from it, and
an index of the library's types is the specification here.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import (  # type: ignore[import-untyped]  # it ships no types
    Draft202012Validator,
)
from tests.contract.conftest import vendor_document

if TYPE_CHECKING:
    from tests.sandbox.conftest import Served

pytestmark = pytest.mark.judge
ROOT = "/northflank"
PROJECT = "/v1/projects/broker-us-central"
SERVICE = f"{PROJECT}/services/broker-ab12"
KEYS = "/v1/integrations/ssh-identities"
ORDER: dict[str, Any] = {
    "name": "broker-ab12",
    "description": "a test",
    "tags": ["broker"],
    "billing": {"deploymentPlan": "nf-gpu-h100-80-1g"},
    "deployment": {
        "instances": 1,
        "external": {"imagePath": "pytorch/pytorch:x"},
        "docker": {"configType": "customCommand", "customCommand": "sleep infinity"},
        "gpu": {"enabled": True, "configuration": {"gpuType": "h100-80", "gpuCount": 1}},
        "storage": {"ephemeralStorage": {"storageSize": 20480}, "shmSize": 64},
        "ssh": {"enabled": True},
        "gracePeriodSeconds": 60,
    },
    "ports": [{"name": "web", "internalPort": 8080, "public": True, "protocol": "HTTP"}],
    "runtimeEnvironment": {"A": "1"},
    "createOptions": {"expiryTime": 86400, "volumesToAttach": []},
}
VOLUME = {
    "name": "data",
    "mounts": [{"containerMountPath": "/data"}],
    "spec": {"storageSize": 6144},
    "attachedObjects": [{"id": "broker-ab12", "type": "service"}],
}
LINK = {"nfObject": {"id": "broker-ab12", "type": "service"}}
_SIMPLE = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "None": {"type": "null"},
    "Any": True,
}
_OF_THE_REFERENCE = "as the vendor's API reference has it; the library's types are newer"
_TOLD = (
    f"POST {PROJECT}/services/deployment",
    f"PATCH {PROJECT}/services/deployment/broker-ab12",
    f"GET {SERVICE}",
)
DEVIATIONS: dict[tuple[str, str], str] = {
    (call, field): _OF_THE_REFERENCE
    for call in _TOLD
    for field in ("external", "deployment", "ports", "")
}
"""(call, field): why the emulator says something else than the library's types."""


class Index:
    """The library's calls and types, as JSON Schema."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self._types = raw["types"]
        self._calls = [
            (endpoint["method"].upper(), path, endpoint["returns"])
            for endpoint in raw["endpoints"]
            for path in endpoint["path_templates"]
        ]

    def schema_of(self, method: str, path: str) -> Any:
        """Of the data of a call's answer."""
        parts = path.split("/")
        for known_method, known, returns in self._calls:
            told = known.split("/")
            fits = len(told) == len(parts) and all(
                t == p or t.startswith("{") for t, p in zip(told, parts, strict=True)
            )
            if fits and known_method == method:
                node = ast.parse(returns, mode="eval").body
                assert isinstance(node, ast.Subscript)
                return self._schema(node.slice)
        raise KeyError(f"{method} {path}")

    def _schema(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant):
            return _SIMPLE["None"]
        if isinstance(node, ast.Name):
            return _SIMPLE[node.id] if node.id in _SIMPLE else self._object(node.id)
        assert isinstance(node, ast.Subscript)
        assert isinstance(node.value, ast.Name)
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        schemas = [] if node.value.id == "Literal" else [self._schema(one) for one in inner]
        forms: dict[str, Callable[[], Any]] = {
            "List": lambda: {"type": "array", "items": schemas[0]},
            "Dict": lambda: {"type": "object", "additionalProperties": schemas[1]},
            "Literal": lambda: {"enum": [ast.literal_eval(one) for one in inner]},
            "Optional": lambda: {"anyOf": [*schemas, _SIMPLE["None"]]},
            "Union": lambda: {"anyOf": schemas},
            "NotRequired": lambda: schemas[0],
        }
        return forms[node.value.id]()

    def _object(self, name: str) -> Any:
        if name not in self._types:
            return True
        fields = {
            field: ast.parse(told, mode="eval").body for field, told in self._types[name].items()
        }
        required = [
            field for field, told in self._types[name].items() if not told.startswith("NotReq")
        ]
        return {
            "type": "object",
            "properties": {field: self._schema(node) for field, node in fields.items()},
            "required": required,
            "additionalProperties": False,
        }

    def faults(self, method: str, path: str, data: Any) -> Iterator[tuple[str, str]]:
        """(field, what is wrong) of the data of an answer."""
        schema = self.schema_of(method, path)
        for option in schema.get("anyOf", ()):
            if data.get("serviceType") in option["properties"]["serviceType"]["enum"]:
                schema = option
        for error in Draft202012Validator(schema).iter_errors(data):
            named = [str(part) for part in error.absolute_path if not isinstance(part, int)]
            yield named[-1] if named else "", f"{error.json_path}: {error.message[:300]}"


@pytest.fixture(scope="module")
def index() -> Index:
    return Index(vendor_document("northflank/northflank-sdk-index.json"))


CALLS: tuple[tuple[str, str, Any], ...] = (
    ("GET", "/v1/regions", None),
    ("GET", "/v1/plans", None),
    ("GET", "/v1/auth", None),
    ("POST", "/v1/projects", {"name": "broker us-central", "region": "us-central"}),
    ("GET", "/v1/projects", None),
    ("POST", KEYS, {"name": "key", "sshPublicKeys": [{"key": "ssh-ed25519 AAAA k"}]}),
    ("GET", KEYS, None),
    ("GET", f"{KEYS}/key", None),
    ("POST", f"{PROJECT}/services/deployment", ORDER),
    ("GET", SERVICE, None),
    ("POST", f"{PROJECT}/volumes", VOLUME),
    ("GET", f"{PROJECT}/volumes", None),
    ("GET", f"{PROJECT}/volumes/data", None),
    ("WAIT", "10", None),
    ("GET", PROJECT, None),
    ("GET", f"{PROJECT}/services", None),
    ("GET", SERVICE, None),
    ("GET", f"{SERVICE}/ports", None),
    ("GET", f"{SERVICE}/containers", None),
    ("PATCH", f"{PROJECT}/services/deployment/broker-ab12", {"description": "another"}),
    ("POST", f"{SERVICE}/restart", None),
    ("POST", f"{SERVICE}/pause", None),
    ("GET", SERVICE, None),
    ("POST", f"{SERVICE}/resume", {"instances": 1}),
    ("POST", f"{SERVICE}/scale", {"instances": 0}),
    ("WAIT", "86400", None),
    ("GET", SERVICE, None),
    ("GET", "/v1/billing/usage?removeLegacyFields=true", None),
    ("GET", "/v1/billing/usage/1800000000?removeLegacyFields=true", None),
    ("GET", "/v1/billing/credit-balance", None),
    ("GET", "/v1/billing/invoices", None),
    ("POST", f"{PROJECT}/volumes/data/detach", LINK),
    ("POST", f"{PROJECT}/volumes/data/attach", LINK),
    ("DELETE", f"{SERVICE}", None),
    ("DELETE", f"{PROJECT}/volumes/data", None),
    ("DELETE", f"{KEYS}/key", None),
    ("DELETE", PROJECT, None),
)


async def test_answers_are_of_the_librarys_types_but_for_the_named_deviations(
    served: Served, index: Index
) -> None:
    found: dict[tuple[str, str], str] = {}
    for method, path, body in CALLS:
        if method == "WAIT":
            await served.advance(float(path))
            continue
        answer = await served.ask(method, f"{ROOT}{path}", body)
        assert answer.status_code == 200, f"{method} {path}: {answer.text}"
        told = answer.json()
        assert set(told) <= {"data", "pagination"}
        bare = path.partition("?")[0]
        for field, wrong in index.faults(method, bare, told["data"]):
            found.setdefault((f"{method} {bare}", field), wrong)
    unexplained = {key: wrong for key, wrong in found.items() if key not in DEVIATIONS}
    assert not unexplained, "\n".join(f"{key}: {wrong}" for key, wrong in unexplained.items())
    assert not DEVIATIONS.keys() - found.keys(), "no deviation any more"


def test_a_field_that_the_library_does_not_know_is_found(index: Index) -> None:
    plan = {"shoe_size": 43}
    wrong = json.dumps([one for _, one in index.faults("GET", "/v1/plans", {"plans": [plan]})])
    assert "shoe_size" in wrong
    assert "amountPerHour" in wrong
