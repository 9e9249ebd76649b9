"""Lambda's audit log: what was made and ended in the account, read off its records."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator
from gpubroker.sandbox.emulators.lambda_labs.words import check_query, invalid, moment, success

PAGE = 50
CATALOG = "2025-09-06"
_RESOURCES = {"ssh_key": "ssh_key", "filesystem": "filesystem", "firewall_ruleset": "ruleset"}


def _hex(*words: str) -> str:
    return hashlib.sha256("/".join(words).encode()).hexdigest()[:32]


def _event(
    account: str, resource: str, id_: str, action: str, at: float, **details: str
) -> tuple[float, dict[str, Any]]:
    row = {
        "service_name": "cloud",
        "resource_name": resource,
        "action": action,
        "catalog_version": CATALOG,
        "event_id": _hex(resource, id_, action),
        "event_time": moment(at),
        "actor_lrn": f"lrn:cloud:identity:{_hex(account, 'identity')}",
        "resource_lrns": [f"lrn:cloud:{resource}:{id_}"],
        "resource_owner_lrn": f"lrn:cloud:account:{_hex(account)}",
        "request_api_key_lrn": f"lrn:cloud:api_key:{_hex(account, 'key')}",
        "additional_details": {f"{resource}_lrn": f"lrn:cloud:{resource}:{id_}", **details},
    }
    return at, row


def _events(cloud: Cloud, account: str) -> Iterator[tuple[float, dict[str, Any]]]:
    for machine in cloud.owned(account):
        slot = cloud.slot(machine)
        details = {"instance_type": slot.facts["type"], "region": slot.place}
        yield _event(account, "instance", machine.id, "launched", machine.created_at, **details)
        if machine.ended_at is not None:
            yield _event(account, "instance", machine.id, "terminated", machine.ended_at, **details)
    for thing in cloud.things.values():
        resource = _RESOURCES.get(thing.kind)
        if thing.account != account or resource is None:
            continue
        yield _event(account, resource, thing.id, "created", thing.created_at)
        if thing.ended_at is not None:
            yield _event(account, resource, thing.id, "deleted", thing.ended_at)


def _time(text: str | None, name: str, otherwise: float) -> float:
    if text is None:
        return otherwise
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise invalid(f"{name}: not an ISO 8601 timestamp") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _offset(token: str | None) -> int:
    if token is None:
        return 0
    try:
        return int(base64.b64decode(token, validate=True))
    except (ValueError, binascii.Error):
        raise invalid("page_token: not a token of this API") from None


async def events(api: Emulator, call: Call) -> Response:
    """GET audit-events: oldest first, by pages."""
    query = check_query(call, ("start", "end", "page_token", "resource_type"))
    start = _time(query.get("start"), "start", 0.0)
    end = _time(query.get("end"), "end", call.now)
    token = query.get("page_token")
    if token is not None and api.cloud.faults.take("billing", "page_cursor_expired"):
        raise invalid("page_token: expired")
    wanted = query.get("resource_type")
    found = sorted(
        (pair for pair in _events(api.cloud, call.owner.name) if start <= pair[0] <= end),
        key=lambda pair: (pair[0], pair[1]["event_id"]),
    )
    rows = [row for _, row in found if wanted in (None, f"cloud.{row['resource_name']}")]
    first = _offset(token)
    more = len(rows) > first + PAGE
    following = base64.b64encode(str(first + PAGE).encode()).decode() if more else None
    return success({"events": rows[first : first + PAGE], "page_token": following})
