"""A launch without a machine as the user sees it: what was asked for, and when it is tried next."""

from __future__ import annotations

from typing import Any

import msgspec

from gpubroker.model.bill import Bill
from gpubroker.model.gpu import Gpu
from gpubroker.model.machine import Machine
from gpubroker.model.money import FREE, Nanos
from gpubroker.model.query import Query
from gpubroker.model.terms import Expiry, Market, State
from gpubroker.store.rows import LaunchRow, when

ANY_GPU = Gpu(None, "any GPU", 0.0)


def unplanned(launch: LaunchRow, realm: str) -> Machine:
    """A launch that no offer was found for yet."""
    stands = launch.ended_at is None and launch.wanted == "running"
    asked = msgspec.json.decode(launch.asked, type=Query)
    wanted = asked.gpus[0] if asked.gpus else None
    state = State.FAILED if launch.error else State.TERMINATED
    return Machine(
        launch_id=launch.id,
        name=launch.name,
        realm=realm,
        provider="",
        account="",
        provider_id=None,
        state=State.PENDING if launch.ended_at is None else state,
        wanted=launch.wanted,
        phase="allocating" if launch.ended_at is None else "gone",
        error=launch.error,
        error_code=launch.error_code,
        gpu=Gpu(wanted.name, wanted.name, wanted.memory_gb or 0.0, wanted.form)
        if wanted
        else ANY_GPU,
        gpu_count=(wanted.count if wanted else None) or asked.min_count or 1,
        market=asked.market or Market.ON_DEMAND,
        disk_gb=launch.disk_gb,
        region=asked.regions[0] if asked.regions else "",
        price=Nanos(asked.max_price or FREE),
        price_stopped=FREE,
        image=launch.image,
        created_at=when(launch.created_at),
        ended_at=None if launch.ended_at is None else when(launch.ended_at),
        expires_at=None if launch.expires_at is None else when(launch.expires_at),
        expiry=Expiry.CONTROLLER_ONLY,
        cost_so_far=FREE,
        bill=Bill(status="ended", amount=FREE, evidence="no machine was made"),
        project=launch.project,
        tags=msgspec.json.decode(launch.tags, type=dict[str, str]),
        **prospects(launch, waiting=stands),
    )


def prospects(launch: LaunchRow, *, waiting: bool) -> dict[str, Any]:
    """Fields of any Machine: when it is tried next, and what follows where it is taken away."""
    told = waiting and launch.next_plan_at is not None
    return {
        "next_try_at": when(launch.next_plan_at or 0.0) if told else None,
        "retry_until": None
        if launch.retry_until is None or launch.preempted
        else when(launch.retry_until),
        "gang": launch.gang_name,
        "on_preempt": launch.on_preempt,
        "preempted": launch.preempted,
    }
