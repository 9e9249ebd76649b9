"""Vast.ai's instances: looked at, changed, destroyed."""

from __future__ import annotations

import math
import secrets
from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse, Response

from gpubroker.model.money import nanos
from gpubroker.sandbox.cloud import Cloud, NoSlot
from gpubroker.sandbox.emulators.base import Call, Emulator, Refusal, answer
from gpubroker.sandbox.emulators.vast_ai.instance_record import (
    INSTANCE_FILTERS,
    instance_json,
    instance_view,
)
from gpubroker.sandbox.emulators.vast_ai.order import BID_FROM
from gpubroker.sandbox.emulators.vast_ai.query import (
    BadQuery,
    BadToken,
    Row,
    check_filters,
    check_order_by,
    page_after,
    page_token,
    passes,
    sort_rows,
)
from gpubroker.sandbox.emulators.vast_ai.words import (
    check_body,
    check_json,
    check_number,
    check_query,
    find_machine,
    no_such_instance,
    refusal,
    success,
    the_machine,
)
from gpubroker.sandbox.rented import Machine

if TYPE_CHECKING:
    from gpubroker.sandbox.emulators.vast_ai.api import VastAi

LABEL_LENGTH = 1024
"""Of a later change; at creation it is less."""
BID_TO_PER_GPU = 32.0
PAGE, PAGE_FOR_NONSENSE = 25, 5


# --- look ---------------------------------------------------------------------------------


async def show(api: Emulator, call: Call) -> Response:
    """GET instances/{id}: one record under the plural name; nothing for an unknown id."""
    check_query(call.request, ("owner",))
    machine = find_machine(api.cloud, call, call.ids[0])
    if machine is None:
        return answer({"instances": None})
    return answer({"instances": instance_json(instance_view(api.cloud, machine, call.now))})


def _rows(api: Emulator, call: Call) -> list[Row]:
    lag = api.cloud.faults.take("list", "list_lag")
    shown = [
        machine
        for machine in api.cloud.owned(call.owner.name)
        if not machine.ended
        and machine.hidden_until <= call.now
        and not (lag and call.now - machine.created_at < lag.delay_s)
    ]
    rows: list[Row] = [instance_json(instance_view(api.cloud, m, call.now)) for m in shown]
    if api.cloud.faults.take("list", "duplicate_list"):
        rows = [row for row in rows for _ in range(2)]
    return rows


async def list_all(api: Emulator, call: Call) -> Response:
    """GET v0 instances: the older list, unpaged."""
    check_query(call.request, ("owner",))
    rows = _rows(api, call)
    if api.cloud.faults.take("list", "list_partial"):
        rows = rows[: len(rows) // 2]
    return answer({"instances_found": len(rows), "instances": rows})


async def list_page(api: Emulator, call: Call) -> Response:
    """GET v1 instances: by pages of 25 at most."""
    query = check_query(
        call.request, ("limit", "after_token", "order_by", "select_cols", "select_filters")
    )
    limit = check_number(query.get("limit", str(PAGE)), "limit")
    limit = PAGE_FOR_NONSENSE if limit <= 0 else min(limit, PAGE)
    columns = check_json(query.get("select_cols", '["*"]'), "select_cols")
    if not isinstance(columns, list):
        raise refusal(400, "invalid_request", "select_cols must be a list of columns")
    faults, token = api.cloud.faults, query.get("after_token")
    try:
        filters = check_filters(
            check_json(query.get("select_filters", "{}"), "select_filters"), INSTANCE_FILTERS
        )
        ordered = check_order_by(
            check_json(query.get("order_by", "[]"), "order_by"), INSTANCE_FILTERS
        )
        found = [row for row in _rows(api, call) if passes(row, filters)]
        found = sort_rows(found, [*ordered, ("id", False)], lambda row: row)
        if token is not None and faults.take("list", "page_cursor_expired"):
            raise BadToken
        rest = page_after(found, token, lambda row: int(row["id"]))
    except BadQuery as bad:
        raise Refusal(answer({"error": "invalid_request", "msg": str(bad)}, 400)) from None
    except BadToken:
        raise refusal(400, "invalid_token", "Invalid pagination token") from None
    page, more = rest[:limit], len(rest) > limit
    if faults.take("list", "list_partial"):
        page, more = page[: len(page) // 2], False
    labels: dict[str, int] = {}
    for row in found:
        labels[row["label"] or ""] = labels.get(row["label"] or "", 0) + 1
    seen = len(found) - len(rest) + len(page)
    return success(
        instances_found=len(page),
        total_instances=len(found),
        label_counts=labels,
        next_token=page_token(int(page[-1]["id"]), seen) if more else None,
        instances=[_select(row, columns) for row in page],
    )


def _select(row: Row, columns: list[str]) -> Row:
    return row if "*" in columns else {name: row.get(name) for name in columns}


async def filters(_: Emulator, call: Call) -> Response:
    """GET instances/filters: what the vendor's table view could be narrowed by."""
    check_query(call.request)
    return success(filters=[])


# --- change -------------------------------------------------------------------------------


async def manage(api: Emulator, call: Call) -> Response:
    """PUT instances/{id}: stop, start or label."""
    check_query(call.request)
    body = check_body(call, {"state": str, "label": str})
    machine = the_machine(api.cloud, call, call.ids[0])
    if not body:
        raise refusal(400, "invalid_args", "Invalid args: 'state' or 'label' is required")
    if "label" in body:
        if len(body["label"]) > LABEL_LENGTH:
            msg = f"Label longer than {LABEL_LENGTH} characters."
            raise refusal(400, "label_too_long", msg)
        machine.label = body["label"]
        api.cloud.save(machine)
    return await _change_state(api.cloud, call, [machine], body.get("state"))


async def manage_many(api: Emulator, call: Call) -> Response:
    """PUT instances: stop or start several."""
    check_query(call.request)
    body = check_body(call, {"state": str, "ids": list}, required=("state", "ids"))
    machines = [the_machine(api.cloud, call, str(id_)) for id_ in body["ids"]]
    return await _change_state(api.cloud, call, machines, body["state"])


async def _change_state(
    cloud: Cloud, call: Call, machines: list[Machine], state: str | None
) -> Response:
    if state not in (None, "running", "stopped"):
        raise refusal(400, "invalid_args", "Invalid args: 'state' must be running or stopped")
    for machine in machines:
        if state == "stopped":
            await cloud.stop(machine)
        if state == "running" and not _started(cloud, call, machine):
            msg = "Required resources are currently unavailable, state change queued."
            return answer({"success": False, "error": "resources_unavailable", "msg": msg})
    return success()


def _started(cloud: Cloud, call: Call, machine: Machine) -> bool:
    if cloud.faults.take("start", "quota") or cloud.credit(call.owner.name) <= 0:
        raise refusal(400, "insufficient_credit", "Your account lacks credit.")
    if cloud.faults.take("start", "no_capacity"):
        return False
    try:
        cloud.start(machine)
    except NoSlot:
        return False
    return True


async def reboot(api: Emulator, call: Call) -> Response:
    """PUT instances/reboot/{id}."""
    return _boot_again(api, call, wipe=False)


async def recycle(api: Emulator, call: Call) -> Response:
    """PUT instances/recycle/{id}: the container made anew, in place."""
    return _boot_again(api, call, wipe=True)


def _boot_again(api: Emulator, call: Call, *, wipe: bool) -> Response:
    check_query(call.request)
    check_body(call, {})
    machine = find_machine(api.cloud, call, call.ids[0])
    if machine is None:
        error = ("invalid_id", "Invalid instance id.") if wipe else _INVALID_INSTANCE
        raise refusal(400, *error)
    api.cloud.reboot(machine, wipe=wipe)
    return success()


_INVALID_INSTANCE = ("invalid_args", "invalid instance_id")


async def change_bid(api: Emulator, call: Call) -> Response:
    """PUT instances/bid_price/{id}."""
    check_query(call.request)
    body = check_body(call, {"client_id": str, "price": (int, float)}, required=("price",))
    machine = the_machine(api.cloud, call, call.ids[0])
    highest = BID_TO_PER_GPU * api.cloud.slot(machine).gpu_count
    price = float(body["price"])
    if not BID_FROM <= price <= highest or not math.isfinite(price):
        msg = f"Please set a bid price >= {BID_FROM} and <= {highest:g}."
        raise refusal(400, "invalid_args", msg)
    if not machine.is_spot:
        raise refusal(400, "invalid_args", "This instance is not interruptible.")
    await api.cloud.bid(machine, nanos(price))
    return success()


async def destroy(api: Emulator, call: Call) -> Response:
    """DELETE instances/{id}."""
    check_query(call.request)
    check_body(call, {})
    machine = find_machine(api.cloud, call, call.ids[0])
    if machine is None:
        raise refusal(404, "no_such_instance", "Instance not found")
    await _destroy(api.cloud, machine)
    return success()


async def destroy_many(api: Emulator, call: Call) -> Response:
    """DELETE instances: several at once."""
    check_query(call.request)
    body = check_body(call, {"instance_ids": list}, required=("instance_ids",))
    found = [find_machine(api.cloud, call, str(id_)) for id_ in body["instance_ids"]]
    if not found or None in found:
        raise no_such_instance()
    for machine in found:
        if machine is not None:
            await _destroy(api.cloud, machine)
    return success()


async def _destroy(cloud: Cloud, machine: Machine) -> None:
    await cloud.terminate(machine)
    if not machine.ended:
        return
    for thing in cloud.live_things(machine.account, "volume"):
        thing.wire["instances"] = [id_ for id_ in thing.wire["instances"] if id_ != machine.id]
        cloud.save(thing)


# --- logs ---------------------------------------------------------------------------------


async def request_logs(api: VastAi, call: Call) -> Response:
    """PUT instances/request_logs/{id}: where the text can be fetched, without a key."""
    check_query(call.request)
    body = check_body(call, {"tail": str, "filter": str, "daemon_logs": str})
    tail = check_number(body.get("tail", "1000"), "tail")
    if body.get("daemon_logs", "true") != "true":
        raise refusal(400, "invalid_args", "Invalid args: 'daemon_logs' must be true")
    machine = find_machine(api.cloud, call, call.ids[0])
    if machine is None:
        raise refusal(404, "invalid_id", "Invalid instance id.")
    name = f"{secrets.token_hex(20)}.log"
    api.logs[name] = _log_text(api.cloud, machine, tail, body.get("filter", ""))
    return success(result_url=f"{api.base_url}/instance_logs/{name}")


def _log_text(cloud: Cloud, machine: Machine, tail: int, wanted: str) -> str:
    lines = [f"{machine.order.image}: container C.{machine.id}"]
    for file in sorted((cloud.machine_folder(machine) / "logs").glob("*.log")):
        if file.is_file():
            lines += file.read_text(errors="replace").splitlines()
    kept = [line for line in lines if wanted in line]
    return "\n".join(kept[-tail:] if tail > 0 else []) + "\n"


async def fetch_logs(api: VastAi, call: Call) -> Response:
    """GET of the address that request_logs gave."""
    text = api.logs.get(call.ids[0])
    if text is None:
        return PlainTextResponse("NoSuchKey", 404)
    return PlainTextResponse(text)
