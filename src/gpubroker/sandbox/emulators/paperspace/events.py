"""What was done to Paperspace's machines, and what became of it: machines know no failure."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct
from starlette.responses import Response

from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.paperspace.words import (
    Nothing,
    Page,
    moment,
    not_found,
    paged,
    read_query,
)
from gpubroker.sandbox.rented import Machine

Name = Literal[
    "create", "start", "stop", "restart", "deactivate", "vm-upgrade",
    "snapshot-create", "snapshot-delete", "snapshot-restore",
]  # fmt: skip
NO_CAPACITY = (
    "This machine type can't start due to insufficient capacity or higher than normal demand."
)
BOOT_FAILED = "The machine failed to start."
NEW_S = 0.5
"""So long nothing has been done yet."""
_KIND = "event"


class Event(Struct, kw_only=True):
    """One of them. Without an end of its own it is over when the machine runs."""

    number: int
    account: str
    machine_id: str
    name: Name
    at: float
    ends_at: float | None = None
    error: str = ""


class EventPage(Page):
    """Query of the list."""

    order_by: Literal["dtCreated"] = "dtCreated"
    machine_id: str = ""


def record(
    cloud: Cloud, machine: Machine, name: Name, *, lasts_s: float | None = None, error: str = ""
) -> Event:
    """Begins now; `lasts_s` where no boot decides it."""
    now = cloud.clock.now()
    event = Event(
        number=cloud.number(_KIND, 100_001),
        account=machine.account,
        machine_id=machine.id,
        name=name,
        at=now,
        ends_at=None if lasts_s is None else now + lasts_s,
        error=error,
    )
    cloud.storage.put(_KIND, cloud.provider, str(event.number), event)
    return event


Outcome = tuple[str, float | None, str]
"""State, end, error."""


def _outcome(cloud: Cloud, event: Event, now: float) -> Outcome:
    if now - event.at < NEW_S:
        return "new", None, ""
    if event.ends_at is None:
        return _of_a_boot(cloud, event, now)
    if now < event.ends_at:
        return "in progress", None, ""
    return ("error" if event.error else "done"), event.ends_at, event.error


def _of_a_boot(cloud: Cloud, event: Event, now: float) -> Outcome:
    """It is done when the machine has run since, whatever became of the machine later."""
    machine = cloud.machines[event.machine_id]
    for line in machine.ledger.lines:
        if line.component == "gpu" and line.start >= int(event.at):
            return "done", max(float(line.start), event.at), ""
    if machine.state in (State.PENDING, State.RUNNING):
        return "in progress", None, ""
    end = min(event.at + cloud.facts.boot_s, now)
    if machine.state == State.FAILED:
        return "error", end, BOOT_FAILED
    return "cancelled", end, ""


def event_json(cloud: Cloud, event: Event, now: float) -> dict[str, Any]:
    """As it is told everywhere."""
    state, end, error = _outcome(cloud, event, now)
    return {
        "id": str(event.number),
        "machineId": event.machine_id,
        "name": event.name,
        "state": state,
        "error": error or None,
        "dtCreated": moment(event.at),
        "dtStarted": None if state == "new" else moment(event.at + NEW_S),
        "dtFinished": None if end is None else moment(end),
    }


def _owned(cloud: Cloud, call: Call) -> list[Event]:
    events = cloud.storage.all(_KIND, cloud.provider, Event)
    mine = [event for event in events if event.account == call.owner.name]
    return sorted(mine, key=lambda event: event.number)


async def list_all(api: Emulator, call: Call) -> Response:
    """GET machine-events."""
    query = read_query(call, EventPage)
    rows = [
        event_json(api.cloud, event, call.now)
        for event in _owned(api.cloud, call)
        if query.machine_id in ("", event.machine_id)
    ]
    return paged(api, call, query, rows)


async def show(api: Emulator, call: Call) -> Response:
    """GET machine-events/{id}."""
    read_query(call, Nothing)
    for event in _owned(api.cloud, call):
        if str(event.number) == call.ids[0]:
            return answer(event_json(api.cloud, event, call.now))
    raise not_found("Machine event")
