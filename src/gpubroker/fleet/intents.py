"""What a launch is before anything is asked of a cloud: rows that any process can go on from."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from msgspec import structs

from gpubroker.fleet import budgets, launching
from gpubroker.fleet.context import Context, encoded
from gpubroker.fleet.requests import LaunchRequest, PlannedOffer
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import Nanos


def commit(
    ctx: Context,
    request: LaunchRequest,
    hands: Sequence[Sequence[PlannedOffer]],
    spec: LaunchSpec,
    names: Sequence[str],
    *,
    gang: str = "",
) -> list[str]:
    """One launch for each name, each with its own offers, in one transaction. Answer: their ids.

    A launch without offers is planned by its next step. Raises NameTaken, BudgetExceeded.
    """
    at, disk_gb = ctx.at(), spec.disk_gb or 0
    common = _columns(ctx, request, spec, at, gang)
    rows: list[tuple[dict[str, Any], dict[str, Any] | None]] = []
    # In the order of their names: as `ps` lists what was made at one time.
    ids = sorted(f"l-{secrets.token_hex(6)}" for _ in names)
    for launch_id, name, hand in zip(ids, names, hands, strict=True):
        first = launching.attempt_columns(hand[0], 1, disk_gb, at) if hand else None
        own = {"id": launch_id, "name": name, "candidates": encoded(hand[1:])}
        rows.append(({**common, **own}, first))

    ctx.boundary("intent next")
    ctx.store.add_launches(rows, at, budgets.guard(ids, ctx.now()))
    ctx.boundary("intent committed")
    return ids


def _columns(
    ctx: Context, request: LaunchRequest, spec: LaunchSpec, at: float, gang: str
) -> dict[str, Any]:
    tries_for = request.all_within if gang else request.retry_for
    until = None if tries_for is None else at + tries_for.total_seconds()
    planned_anew = until is not None or request.on_preempt != "stay"
    return {
        "wanted": "running",
        "spec": ctx.seal.close(encoded(spec).encode()),
        "image": spec.image,
        "disk_gb": spec.disk_gb or 0,
        "tolerance": request.max_price_increase,
        "max_price": spec.max_price,
        "created_at": at,
        "expires_at": None if spec.expires_at is None else spec.expires_at.timestamp(),
        "project": request.project,
        "tags": encoded(request.tags),
        "asked": encoded(request.query),
        "max_cost": None if request.max_cost is None else request.max_cost // request.nodes,
        "idle_s": None if request.idle is None else request.idle.total_seconds(),
        "request": ctx.seal.close(encoded(_for_plans(request)).encode()) if planned_anew else None,
        "retry_until": until,
        "gang": gang,
        "gang_until": until if gang else None,
        "on_preempt": request.on_preempt,
        "on_mismatch": request.on_mismatch,
    }


def _for_plans(request: LaunchRequest) -> LaunchRequest:
    """What a later plan of one of its machines needs; the rest is in the spec."""
    share = None if request.max_cost is None else Nanos(request.max_cost // request.nodes)
    return structs.replace(
        request, nodes=1, max_cost=share, env={}, startup_script="", ssh_keys=(), retry_for=None
    )
