"""Jarvis Labs' accounts: who they are, what they have left, what they hold."""

from __future__ import annotations

from starlette.responses import Response

from gpubroker.model.money import usd
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.fastapi_words import Nothing, read_query
from gpubroker.sandbox.emulators.jarvislabs.catalog import VM
from gpubroker.sandbox.emulators.jarvislabs.instances import status_of, user_id
from gpubroker.sandbox.emulators.jarvislabs.registries import FILESYSTEM


async def user_info(_: Emulator, call: Call) -> Response:
    """GET users/user_info."""
    read_query(call, Nothing)
    return answer({"user_id": user_id(call.owner), "name": "You", "country": "US"})


async def balance(api: Emulator, call: Call) -> Response:
    """GET users/balance: a wallet that was filled before."""
    read_query(call, Nothing)
    left = max(0.0, usd(api.cloud.credit(call.owner.name)))
    return answer({"balance": round(left, 4), "grants": 0.0})


async def resource_metrics(api: Emulator, call: Call) -> Response:
    """GET misc/resource_metrics: counts."""
    read_query(call, Nothing)
    counts = dict.fromkeys(
        ("running_instances", "paused_instances", "running_vms", "paused_vms"), 0
    )
    words = {"Running": "running", "Paused": "paused"}
    for machine in api.cloud.owned(call.owner.name):
        word = words.get(str(status_of(machine, call.now)))
        if word is not None:
            kind = "vms" if machine.wire["template"] == VM else "instances"
            counts[f"{word}_{kind}"] += 1
    disks = len(api.cloud.live_things(call.owner.name, FILESYSTEM))
    return answer(counts | {"deployments": 0, "filesystems": disks})
