"""Northflank's gateway: HTTP to the public ports of services, under names of their own."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.forwarding import Unanswered, forward
from gpubroker.sandbox.emulators.northflank.services import DOMAIN, dns_of, phase_of
from gpubroker.sandbox.rented import Machine

_PATIENCE_S = 60.0


def host_of(request: Request) -> str | None:
    """The name that a request is for, None where it is for the API."""
    name = request.headers.get("host", "").partition(":")[0].lower()
    return name if name.endswith(f".{DOMAIN}") else None


async def lead(cloud: Cloud, request: Request, name: str, now: float) -> Response:
    """What the container answers; there is no key to show."""
    found = _port(cloud, name)
    if found is None:
        return PlainTextResponse("not found", 404)
    service, port = found
    outside = service.published.get(f"{port['internalPort']}/http")
    if phase_of(cloud, service, now) != "running" or outside is None:
        return PlainTextResponse("no healthy upstream", 503)
    try:
        return await forward(request, outside, patience_s=_PATIENCE_S)
    except Unanswered as none:
        return PlainTextResponse("upstream error", 504 if none.late else 502)


def _port(cloud: Cloud, name: str) -> tuple[Machine, dict[str, Any]] | None:
    for service in cloud.machines.values():
        if service.ended:
            continue
        for port in service.wire["record"]["ports"]:
            if dns_of(service, port) == name:
                return service, port
    return None
