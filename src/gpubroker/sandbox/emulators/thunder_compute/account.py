"""Who asks at Thunder Compute, and what the vendor's older client wants to know first."""

from __future__ import annotations

from starlette.responses import Response

from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.thunder_compute.words import check_query, no_body

_DISCLAIMER = "disclaimer"
LEAST_VERSION = "1.0.0"


async def validate(_: Emulator, call: Call) -> Response:
    """GET auth/validate: no id of the account among it."""
    check_query(call)
    name = call.owner.name
    told = {"valid": True, "email": f"{name}@example.com", "org_name": f"org-{name}"}
    return answer(told)


async def least_version(_: Emulator, call: Call) -> Response:
    """GET min_version: that the client must have."""
    check_query(call)
    return answer({"version": LEAST_VERSION, "min_version": LEAST_VERSION})


async def next_id(api: Emulator, call: Call) -> Response:
    """GET next_id: the number of a device of the virtualised GPUs."""
    check_query(call)
    return answer({"id": api.cloud.number("device")})


async def disclaimer(api: Emulator, call: Call) -> Response:
    """GET get-disclaimer-status."""
    check_query(call)
    cloud = api.cloud
    accepted = cloud.storage.get(_DISCLAIMER, cloud.provider, call.owner.name, bool)
    return answer({"accepted": bool(accepted)})


async def accept_disclaimer(api: Emulator, call: Call) -> Response:
    """POST prototyping-disclaimer."""
    no_body(call)
    cloud = api.cloud
    cloud.storage.put(_DISCLAIMER, cloud.provider, call.owner.name, True)
    return answer({"message": "ok"})
