"""SaladCloud's system events, the only record of what is charged for, and containers' logs."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.salad.bodies import LogQuery
from gpubroker.sandbox.emulators.salad.groups import (
    groups_of,
    instances_of,
    organization,
    the_group,
)
from gpubroker.sandbox.emulators.salad.phases import STEPS, share
from gpubroker.sandbox.emulators.salad.words import moment, no_query, read_body
from gpubroker.sandbox.rented import Machine

MOST_EVENTS = 50
_MOST_TEXT = 10_000
_KILLED = 137
_LABEL = re.compile(r'resource\.labels\.container_group_name\s*=\s*"([^"]*)"')


def note(group: Machine, event: str, at: float, machine: Machine | None = None) -> None:
    """An event of the group, or of one of its instances."""
    about = (
        {}
        if machine is None
        else {
            "instance_id": machine.wire["instance"],
            "machine_id": machine.wire["node"],
            "gpu": machine.gpu,
        }
    )
    group.wire["events"].append({"at": at, "event": event, **about})
    group.wire["changed_at"] = max(group.wire["changed_at"], at)


def note_life(cloud: Cloud, group: Machine, machine: Machine, now: float) -> None:
    """What happened to an instance since it was last looked at, at the times it happened."""
    wire = machine.wire
    runs = [line for line in machine.ledger.lines if line.component == "gpu"]
    ran, ended = len(runs), sum(line.end is not None for line in runs)
    if machine.state == State.PENDING and "stuck_pending" not in machine.trouble:
        _note_steps(cloud, group, machine, share(cloud, machine, now))
    if ran > wire["runs"]:
        _note_steps(cloud, group, machine, 1.0)
        wire["runs"], group.wire["ran"] = ran, True
        note(group, "Instance Running", runs[-1].start, machine)
    if ended > wire["ends"]:
        wire["ends"] = ended
        if cause := _cause(machine):
            note(group, cause, float(runs[ended - 1].end or now), machine)


def _note_steps(cloud: Cloud, group: Machine, machine: Machine, over: float) -> None:
    wire = machine.wire
    for number, (until, event) in enumerate(STEPS):
        if number >= wire["steps"] and over >= until:
            note(group, event, wire["boot_from"] + until * cloud.facts.boot_s, machine)
            wire["steps"] = number + 1


def _cause(machine: Machine) -> str:
    """Why an instance stopped running; "" where its group's own event says it."""
    if machine.state == State.PREEMPTED:
        return "Instance Interrupted (Priority)"
    if not machine.exited:
        return ""
    code = machine.reason.rpartition(" ")[2]
    if code == "0" or not code.lstrip("-").isdigit():
        return "Instance Exited:0 (Exited Successfully)"
    if int(code) == _KILLED:
        return f"Instance Exited:{code} (Likely Out of System Memory)"
    return f"Instance Exited:{code} (Error)"


async def system_logs(api: Emulator, call: Call) -> Response:
    """GET system-logs: the latest fifty, newest first."""
    no_query(call)
    group = the_group(api.cloud, call)
    wants = group.wire["record"]["container"]["resources"]
    events = sorted(group.wire["events"], key=lambda event: float(event["at"]))
    return answer(
        {
            "items": [
                {
                    "event_name": event["event"],
                    "event_time": moment(event["at"]),
                    **{n: event[n] for n in ("instance_id", "machine_id") if n in event},
                    "resource_cpu": wants["cpu"],
                    "resource_gpu_class": event.get("gpu", ""),
                    "resource_memory": wants["memory"],
                    "resource_storage_amount": wants["storage_amount"],
                    "version": str(group.wire["version"]),
                }
                for event in reversed(events[-MOST_EVENTS:])
            ]
        }
    )


def _lines(cloud: Cloud, group: Machine) -> list[dict[str, Any]]:
    """What the group's containers printed, with the time when it was last written to."""
    rows = []
    for machine in instances_of(cloud, group):
        file = cloud.machine_folder(machine) / "logs" / "container.log"
        if not file.exists():
            continue
        at = moment(machine.running_since or machine.created_at)
        labels = {
            "container_group_id": group.wire["id"],
            "container_group_name": group.order.name,
            "project_name": group.wire["project"],
            "instance_id": machine.wire["instance"],
            "machine_id": machine.wire["node"],
        }
        rows += [
            {
                "time": at,
                "receive_time": at,
                "severity": "default",
                "resource": {"type": "container", "labels": labels},
                "text_log": text[:_MOST_TEXT],
            }
            for text in file.read_text(errors="replace").splitlines()
        ]
    return rows


async def log_entries(api: Emulator, call: Call) -> Response:
    """POST log-entries: of one group, where the query names it, else of all."""
    wanted = read_body(call, LogQuery)
    name = organization(call)
    label = _LABEL.search(wanted.query)
    rows = [
        row
        for group in groups_of(api.cloud, call.owner.name, name)
        if label is None or group.order.name == label[1]
        for row in _lines(api.cloud, group)
        if _utc(wanted.start_time) <= datetime.fromisoformat(row["time"]) <= _utc(wanted.end_time)
    ]
    rows = rows[-wanted.page_size :]
    if wanted.sort_order == "desc":
        rows.reverse()
    times = [row["time"] for row in rows] or [moment(_utc(wanted.start_time).timestamp())]
    return answer(
        {
            "items": rows,
            "organization_name": name,
            "page_max_time": max(times),
            "page_min_time": min(times),
        }
    )


def _utc(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)
