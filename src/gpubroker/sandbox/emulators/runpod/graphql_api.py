"""RunPod's GraphQL address: one path, whose body tells what is asked."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import msgspec
from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSyntaxError,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    execute,
    get_operation_ast,
    parse,
    validate,
)
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from gpubroker.sandbox.emulators.base import Call, Emulator, Limit, Refusal, Route, answer
from gpubroker.sandbox.emulators.runpod.door import FORBIDDEN, Door
from gpubroker.sandbox.emulators.runpod.graphql_fields import Asked, fields
from gpubroker.sandbox.emulators.runpod.graphql_schema import schema
from gpubroker.sandbox.rented import Machine

PUBLIC = frozenset({"gpuTypes", "cpuFlavors", "dataCenters", "countryCodes", "__schema", "__type"})
"""Answered without a key."""
OPERATIONS: Mapping[str, str] = {
    "gpuTypes": "offers",
    "cpuFlavors": "offers",
    "dataCenters": "offers",
    "countryCodes": "offers",
    "pod": "get",
    "podFindAndDeployOnDemand": "create",
    "podRentInterruptable": "create",
    "deployCpuPod": "create",
    "podStop": "stop",
    "podResume": "start",
    "podBidResume": "start",
    "podTerminate": "terminate",
    "updateUserSettings": "keys",
    "createNetworkVolume": "volumes",
    "updateNetworkVolume": "volumes",
    "deleteNetworkVolume": "volumes",
}
OF_MYSELF: Mapping[str, str] = {"pods": "list", "networkVolumes": "volumes"}
"""What `myself` is asked for makes the operation; else it is the account."""
FALLBACK = "account"


class Body(Struct, rename="camel"):
    """A request; other keys are ignored, as by the vendor's server."""

    query: str
    variables: dict[str, Any] | None = None
    operation_name: str | None = None


def _fields_of(
    document: DocumentNode, operation: OperationDefinitionNode
) -> Iterator[tuple[FieldNode, set[str]]]:
    """The root fields, each with the names of the fields that it is asked for."""
    for field in _flat(document, operation.selection_set):
        asked = _flat(document, field.selection_set) if field.selection_set else ()
        yield field, {inner.name.value for inner in asked}


def _flat(document: DocumentNode, selected: SelectionSetNode) -> Iterator[FieldNode]:
    for node in selected.selections:
        if isinstance(node, FieldNode):
            yield node
        elif isinstance(node, InlineFragmentNode):
            yield from _flat(document, node.selection_set)
        else:
            for known in document.definitions:
                if isinstance(known, FragmentDefinitionNode) and known.name == getattr(
                    node, "name", None
                ):
                    yield from _flat(document, known.selection_set)


class Query(Struct):
    """A request that is understood: it can be carried out."""

    body: Body
    document: DocumentNode
    roots: list[tuple[FieldNode, set[str]]]

    @property
    def operation(self) -> str:
        """What it does: its first root field says it."""
        for field, inner in self.roots:
            name = field.name.value
            if name == "myself":
                return next((OF_MYSELF[part] for part in OF_MYSELF if part in inner), FALLBACK)
            return OPERATIONS.get(name, FALLBACK)
        return FALLBACK

    @property
    def is_public(self) -> bool:
        """Whether it needs no key."""
        return all(field.name.value in PUBLIC for field, _ in self.roots)


def errors_response(status: int, errors: list[GraphQLError]) -> Response:
    """An answer without data."""
    return answer({"errors": [error.formatted for error in errors]}, status)


def _one_error(status: int, text: str, code: str) -> Response:
    return errors_response(status, [GraphQLError(text, extensions={"code": code})])


def understood(raw: bytes) -> Query:
    """The request of a body. Raises Refusal (400)."""
    try:
        body = msgspec.convert(json.loads(raw or b"null"), Body)
    except ValueError:
        raise Refusal(_one_error(400, "POST body missing or invalid.", "BAD_REQUEST")) from None
    try:
        document = parse(body.query)
    except GraphQLSyntaxError as error:
        error.extensions = {"code": "GRAPHQL_PARSE_FAILED"}
        raise Refusal(errors_response(400, [error])) from None
    wrong = validate(schema(), document)
    for mistake in wrong:
        mistake.extensions = {"code": "GRAPHQL_VALIDATION_FAILED"}
    if wrong:
        raise Refusal(errors_response(400, wrong))
    operation = get_operation_ast(document, body.operation_name)
    if operation is None:
        raise Refusal(_one_error(400, "Unknown operation.", "OPERATION_RESOLUTION_FAILURE"))
    return Query(body, document, list(_fields_of(document, operation)))


async def carry_out(api: Emulator, call: Call) -> Response:
    """POST graphql: 200 also where a field could not be had."""
    query = understood(await call.request.body())
    result = execute(
        schema(),
        query.document,
        root_value=fields(),
        context_value=Asked(api.cloud, call, api.base_url),
        variable_values=query.body.variables,
        operation_name=query.body.operation_name,
    )
    if inspect.isawaitable(result):
        result = await result
    return _as_response(result)


def _as_response(result: ExecutionResult) -> Response:
    errors = result.errors or []
    if result.data is None and not any(error.path for error in errors):
        for error in errors:
            error.extensions = {"code": "BAD_USER_INPUT", **(error.extensions or {})}
        return errors_response(400, errors)
    told: dict[str, Any] = {"data": result.data}
    if errors:
        for error in errors:
            error.extensions = {"code": "INTERNAL_SERVER_ERROR", **(error.extensions or {})}
        told = {"errors": [error.formatted for error in errors], **told}
    return answer(told)


class RunPodGraphql(Door):
    """The API at api.runpod.io/graphql."""

    routes: ClassVar[tuple[Route, ...]] = (
        Route("POST", "/graphql", FALLBACK, carry_out, key="optional"),
    )

    async def operation_of(self, request: Request, route: Route) -> str:
        """As the query's first root field says."""
        try:
            return understood(await request.body()).operation
        except Refusal:
            return route.operation

    def key_of(self, request: Request) -> str | None:
        """A bearer token, or `api_key` in the query."""
        return super().key_of(request) or request.query_params.get("api_key")

    async def _do(self, call: Call, route: Route) -> Response:
        if self.key_of(call.request) is None:
            try:
                query = understood(await call.request.body())
            except Refusal as refusal:
                return refusal.response
            if not query.is_public:
                return self.refuse_no_key()
        if self.pod_of_key(call.request) is not None:
            # What a pod's own key may do depends on the body: it is read before it is judged.
            call.body = await call.request.body()
        return await super()._do(call, route)

    def may_do(self, call: Call, _route: Route, pod: Machine) -> bool:
        """By the pod that every field names."""
        try:
            query = understood(call.body)
        except Refusal:
            return True  # the refusal comes with the answer
        if query.is_public:
            return True
        named = [_pod_id(field, query.body.variables or {}) for field, _ in query.roots]
        return query.operation in self.by_pods and all(id_ == pod.id for id_ in named)

    # --- words ----------------------------------------------------------------------------

    def forbidden(self) -> Response:
        """403."""
        return _one_error(403, FORBIDDEN, "FORBIDDEN")

    def refuse_no_key(self) -> Response:
        """401."""
        return _one_error(401, "Unauthorized", "UNAUTHENTICATED")

    def refuse_key(self, status: int | None = None) -> Response:
        """401 too."""
        return _one_error(status or 401, "Unauthorized", "UNAUTHENTICATED")

    def refuse_path(self, method_exists: bool) -> Response:
        """There is but one path, and one method."""
        status = 405 if method_exists else 404
        return _one_error(status, "GraphQL only supports POST requests.", "BAD_REQUEST")

    def refuse_json(self) -> Response:
        """400."""
        return _one_error(400, "POST body missing or invalid.", "BAD_REQUEST")

    def rate_limited(self, _limit: Limit | None) -> Response:
        """429: only as a fault, for a limit is not published."""
        return _one_error(429, "Too many requests", "TOO_MANY_REQUESTS")

    def server_error(self) -> Response:
        """500."""
        text = "Something went wrong. Please try again later or contact support."
        return _one_error(500, text, "INTERNAL_SERVER_ERROR")


def _pod_id(field: FieldNode, variables: Mapping[str, Any]) -> str | None:
    """`podId` of a field's input, written out or in a variable."""
    from graphql import value_from_ast_untyped

    for argument in field.arguments:
        value = value_from_ast_untyped(argument.value, dict(variables))
        if isinstance(value, dict):
            return str(value.get("podId"))
    return None
