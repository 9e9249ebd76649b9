"""Vast.ai's market: offers of machines and of volumes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.responses import Response

from gpubroker.sandbox.emulators.base import Call, Emulator, Refusal, answer
from gpubroker.sandbox.emulators.vast_ai.offers import (
    OFFER_FILTERS,
    VOLUME_FILTERS,
    offer_columns,
    offer_json,
    offer_view,
    volume_columns,
    volume_offer_json,
)
from gpubroker.sandbox.emulators.vast_ai.query import (
    BadQuery,
    check_filters,
    check_order,
    passes,
    sort_rows,
)
from gpubroker.sandbox.emulators.vast_ai.words import check_body, check_json, check_query, refusal
from gpubroker.sandbox.faults import Fault

ANONYMOUS_SEARCHES_A_DAY = 100
"""The vendor does not publish its number."""
_TYPES = ("on-demand", "ondemand", "bid", "reserved")
_STORAGE_GB = 8.0
_VOLUME_LIMIT = 64


def _bad_request(message: str) -> Refusal:
    return Refusal(answer({"error": "invalid_request", "msg": message}, 400))


def _plain(query: dict[str, Any], name: str, default: Any, *types: type) -> Any:
    value = query.pop(name, default)
    if not isinstance(value, types) or isinstance(value, bool):
        raise _bad_request(f"Error in query parameters: {name} has the wrong type")
    return value


async def search_offers(api: Emulator, call: Call) -> Response:
    """POST bundles, and GET bundles?q=."""
    if call.request.method == "GET":
        text = check_query(call.request, ("q",)).get("q", "{}")
        query = check_json(text, "q")
    else:
        check_query(call.request)
        query = {} if call.body is None else call.body
    return _offers(api, call, query)


async def search_asks(api: Emulator, call: Call) -> Response:
    """PUT search/asks: the same search in an envelope."""
    check_query(call.request)
    body = check_body(call, {"select_cols": list, "q": dict}, required=("q",))
    columns = body.get("select_cols", ["*"])
    return _offers(api, call, body["q"], None if "*" in columns else columns)


def _offers(api: Emulator, call: Call, query: Any, columns: list[str] | None = None) -> Response:
    if call.account is None:
        _count_anonymous(api, call)
    if not isinstance(query, dict):
        raise _bad_request(f"Invalid query: {query!r}, must be dict of conditions")
    query = dict(query)
    kind = _plain(query, "type", "on-demand", str)
    if kind not in _TYPES:
        raise _bad_request(f"Error in query parameters: type '{kind}' is not known")
    disk_gb = float(_plain(query, "allocated_storage", _STORAGE_GB, int, float))
    limit = _plain(query, "limit", 3000, int)
    query.pop("disable_bundling", None)
    order = query.pop("order", [["score", "desc"]])
    faults = api.cloud.faults
    if limit <= 0:
        raise _bad_request("Error in query parameters: limit must be above 0")
    try:
        filters = check_filters(query, OFFER_FILTERS)
        ordered = check_order(order, OFFER_FILTERS)
        if faults.take("offers", "ignored_field"):
            filters = {}
        stock = api.cloud.stock
        views = (
            offer_view(api.cloud, slot, bid=kind == "bid", disk_gb=disk_gb, now=call.now)
            for slot in stock.slots.values()
            if stock.free(slot)
        )
        rows = [row for row in map(offer_json, views) if passes(offer_columns(row), filters)]
        rows = sort_rows(rows, ordered, offer_columns)[:limit]
    except BadQuery as bad:
        raise _bad_request(str(bad)) from None
    if faults.take("offers", "no_capacity"):
        rows = []
    if faults.take("offers", "duplicate_list"):
        rows = [row for row in rows for _ in range(2)]
    if columns is not None:
        rows = [{name: row.get(name) for name in columns} for row in rows]
    return answer({"offers": rows})


def _count_anonymous(api: Emulator, call: Call) -> None:
    today = datetime.fromtimestamp(call.now, UTC).date()
    used = api.cloud.count_today("anonymous_searches", today.isoformat())
    if used > ANONYMOUS_SEARCHES_A_DAY:
        midnight = datetime(today.year, today.month, today.day, tzinfo=UTC) + timedelta(days=1)
        body = {
            "success": False,
            "error": "search_quota_exceeded",
            "msg": "Daily search quota exceeded.",
        }
        reset = {"X-RateLimit-Reset": str(int(midnight.timestamp()))}
        raise Refusal(answer(body, 429, reset))


async def gpu_names(api: Emulator, call: Call) -> Response:
    """GET gpu_names/unique: asked by the vendor's command line before anything else."""
    check_query(call.request)
    names = {slot.facts["name"] for slot in api.cloud.stock.slots.values()}
    return answer({"gpu_names": sorted(names)})


async def search_volumes(api: Emulator, call: Call) -> Response:
    """POST volumes/search."""
    check_query(call.request)
    if not isinstance(call.body, dict | None):
        raise _bad_request(f"Invalid query: {call.body!r}, must be dict of conditions")
    query = dict(call.body or {})
    limit = _plain(query, "limit", _VOLUME_LIMIT, int)
    size_gb = float(_plain(query, "allocated_storage", 1.0, int, float))
    order = query.pop("order", [["score", "desc"]])
    views = [
        view
        for slot in api.cloud.stock.slots.values()
        if (view := offer_view(api.cloud, slot, bid=False, disk_gb=size_gb, now=call.now))
        and view.volume_number is not None
    ]
    try:
        filters = check_filters(query, VOLUME_FILTERS)
        found = [
            {"view": view, **columns}
            for view in views
            if passes(columns := volume_columns(view), filters)
        ]
        found = sort_rows(found, check_order(order, VOLUME_FILTERS), lambda row: row)
    except BadQuery as bad:
        raise _bad_request(str(bad)) from None
    return answer({"offers": [volume_offer_json(row["view"], size_gb) for row in found[:limit]]})


def taken(fault: Fault | None, *, cancel: bool, offer_id: int) -> Refusal:
    """The refusal of an offer that cannot be had (any more)."""
    if cancel or fault:
        msg = f"error 410/3907: no_such_ask Instance type {offer_id} is no longer available."
        return refusal(410, "no_such_ask", msg, ask_id=offer_id)
    msg = f"error 404/3603: no_such_ask Instance type by id {offer_id} is not available."
    return refusal(404, "invalid_args", msg, ask_id=offer_id)
