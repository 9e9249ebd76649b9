"""SaladCloud's gateway: HTTP to the one port of a group, under the group's own name.

It leads to the ports that the group's containers really listen on.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from gpubroker.sandbox.emulators.forwarding import Unanswered, forward
from gpubroker.sandbox.emulators.salad.groups import DOMAIN, dns_of, instances_of
from gpubroker.sandbox.emulators.salad.phases import phase_of
from gpubroker.sandbox.emulators.salad.words import page

if TYPE_CHECKING:
    from gpubroker.sandbox.cloud import Cloud
    from gpubroker.sandbox.rented import Machine

KEY_HEADER = "salad-api-key"
_turn = count()


def host_of(request: Request) -> str | None:
    """The gateway's name that a request is for, None where it is for the API."""
    name = request.headers.get("host", "").partition(":")[0].lower()
    return name if name.endswith(f".{DOMAIN}") else None


async def lead(cloud: Cloud, request: Request, name: str, now: float) -> Response:
    """What the container answers; a web page where none can be asked."""
    group = _group(cloud, name)
    if group is None:
        return page(404)
    networking = group.wire["record"]["networking"]
    if networking["auth"]:
        key = request.headers.get(KEY_HEADER)
        account = cloud.account(key) if key else None
        if account is None or account.name != group.account:
            return page(401 if account is None else 403)
    published = f"{networking['port']}/http"
    ports = [
        machine.published[published]
        for machine in instances_of(cloud, group)
        if phase_of(cloud, machine, now) == "running" and published in machine.published
    ]
    if not ports:
        return page(503)
    patience_s = networking["server_response_timeout"] / 1000
    port = ports[next(_turn) % len(ports)]
    try:
        return await forward(request, port, patience_s=patience_s, kept_back=(KEY_HEADER,))
    except Unanswered as none:
        return page(504 if none.late else 502)


def _group(cloud: Cloud, name: str) -> Machine | None:
    for machine in cloud.machines.values():
        record = machine.wire.get("record")
        if not machine.ended and record and record["networking"] and dns_of(machine) == name:
            return machine
    return None
