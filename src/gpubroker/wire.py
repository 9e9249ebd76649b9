"""The JSON objects that the faces promise, made from the model.

Pure. USD floats and RFC 3339 times exist from here outwards; fields are added, never changed.
`docs/cli.md` and the REST contract name the fields that clients rely on.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

from gpubroker.catalog.clouds import offer_id, way_in
from gpubroker.catalog.gpus import model as known_model
from gpubroker.market.same_machine import direct_offer
from gpubroker.model.capabilities import Capabilities
from gpubroker.model.gpu import GpuModel
from gpubroker.model.identity import attempt_name, parse_name
from gpubroker.model.machine import Machine, Try
from gpubroker.model.money import usd
from gpubroker.model.offer import Offer
from gpubroker.model.terms import Availability, Market, State

if TYPE_CHECKING:
    from gpubroker.fleet.requests import Plan, Stray, StrayResource, SweepReport
    from gpubroker.market.results import SearchResult, SourceReport
    from gpubroker.model.bill import BillCheck
    from gpubroker.model.costs import CostRow, Costs
    from gpubroker.model.reports import Check, Login, ProviderInfo

Json = dict[str, Any]

OFFER_STATUS = {
    Availability.YES: "available",
    Availability.UNKNOWN: "unknown",
    Availability.NO: "unavailable",
}
INSTANCE_STATUS = {
    State.RUNNING: "running",
    State.STOPPING: "stopping",
    State.TERMINATING: "stopping",
    State.STOPPED: "offline",
    State.TERMINATED: "offline",
    State.FAILED: "error",
    State.PREEMPTED: "error",
}
"""Of states that mean one word; a pending or unknown machine's word depends on its phase."""
STARTING_PHASES = frozenset({"booting", "ssh", "ready"})


def dollars(amount: int | None) -> float | None:
    """USD, None where the amount is not known."""
    return None if amount is None else usd(amount)


def rounded(amount: float | None) -> float | None:
    """To two digits: shares of a host's memory are no round figures."""
    return None if amount is None else round(amount, 2)


def rfc3339(at: datetime | None) -> str | None:
    """As 2026-11-21T15:16:00Z, to the second where nothing finer is told."""
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def gpu_model(model: GpuModel) -> Json:
    """A model of the catalog."""
    return {
        "name": model.name,
        "memory_gb": model.memory_gb,
        "memory_sizes_gb": list(model.memory_sizes),
        "compute_capability": model.compute_capability,
        "architecture": model.architecture,
        "category": model.category,
        "performance_score": model.performance_score,
        "vendor": model.vendor,
        "forms": list(model.forms),
        "fp16_tflops": model.fp16_tflops,
        "bf16_tflops": model.bf16_tflops,
        "fp8_tflops": model.fp8_tflops,
        "memory_bandwidth_gbs": model.memory_bandwidth_gbs,
        "tdp_w": model.tdp_w,
        "year": model.year,
        "source": model.source,
    }


def offer(row: Offer, *, disk_gb: float, needs_key: bool = False) -> Json:
    """An offer, priced with that much disk where disk is bought by the GB."""
    name = row.gpu.label
    model = known_model(row.gpu.name)
    score = model.performance_score if model else None
    return {
        "id": offer_id(row.provider, row.key),
        "provider": row.provider,
        "provider_id": row.key,
        "name": f"{row.gpu_count}x {name}",
        "instance_type": unquote(row.key.split(":", 1)[0]),
        "status": OFFER_STATUS[row.availability],
        "kind": row.kind,
        "gpu_model": name,
        "gpu_count": row.gpu_count,
        "gpu_memory_gb": row.gpu.memory_gb,
        "gpu_form": row.gpu.form,
        "gpu_fraction": row.gpu.fraction,
        "gpu_info": gpu_model(model) if model else None,
        "cpu_count": row.vcpus,
        "ram_gb": rounded(row.ram_gb),
        "storage_gb": row.disk_gb if row.disk_gb is not None else row.disk_max_gb,
        "storage_included": row.disk_gb is not None,
        "price_per_hour": usd(row.price.hourly(disk_gb)),
        "price_per_gpu_hour": usd(row.price.hourly(disk_gb)) / max(row.gpu_count, 1),
        "price_stopped_per_hour": usd(row.price.hourly_stopped(disk_gb)),
        "spot": row.market is Market.SPOT,
        "market": row.market,
        "tier": row.tier,
        "arch": row.arch,
        "region": row.region,
        "country": row.country,
        "area": row.area,
        "available": row.availability is Availability.YES,
        "availability": row.availability,
        "stock": row.stock,
        "source": row.source,
        "as_of": rfc3339(row.fetched_at),
        "created_at": rfc3339(row.fetched_at),
        "updated_at": rfc3339(row.fetched_at),
        "needs_key": needs_key,
        "reliability": row.reliability,
        "performance": score,
        "performance_score": score,
        "network_info": {"download_mbps": row.down_mbps, "upload_mbps": row.up_mbps},
        "interconnect": row.interconnect,
        "datacenter": row.datacenter,
        "min_cuda": row.min_cuda,
        "max_hours": row.max_hours,
        "upstream": row.upstream,
        "same_as": offer_id(*direct) if (direct := direct_offer(row)) else None,
        "account": row.account,
    }


def source(report: SourceReport) -> Json:
    """What one provider contributed to an answer. `error` only where there is one."""
    told: Json = {
        "status": report.status,
        "as_of": rfc3339(report.as_of),
        "offers": report.offers,
        "complete": report.complete,
        "rejected": report.rejected,
        "needs_key": report.needs_key,
    }
    return told | ({"error": report.error} if report.error else {})


def search(result: SearchResult, *, explain: bool = False) -> Json:
    """The document of `offers`."""
    sources = result.sources

    def needs_key(provider: str) -> bool:
        return provider in sources and sources[provider].needs_key

    document: Json = {
        "offers": [
            offer(row, disk_gb=result.disk_gb, needs_key=needs_key(row.provider))
            for row in result.offers
        ],
        "total": result.total,
        "scanned": result.scanned,
        "median_price_per_hour": dollars(result.median),
        "sources": {name: source(report) for name, report in sources.items()},
    }
    if explain or not result.total:
        document["explain"] = {
            "filters": [
                {"filter": step.filter, "left": step.left, "by_provider": dict(step.by_provider)}
                for step in result.funnel
            ],
            "nearest": [
                {
                    "change": miss.change,
                    "offers": miss.offers,
                    "price_per_hour": dollars(miss.best),
                    "example": miss.example,
                }
                for miss in result.nearest
            ],
        }
    return document


def instance_id(machine: Machine) -> str:
    """As vast_12345; the launch's id until the cloud has named the machine."""
    if machine.provider_id is None:
        return machine.launch_id
    return offer_id(machine.provider, machine.provider_id)


def instance_status(machine: Machine) -> str:
    """The state in the words that clients know; `state` beside it is precise."""
    if word := INSTANCE_STATUS.get(machine.state):
        return word
    if machine.state is State.UNKNOWN and machine.started_at is not None:
        return "running"
    return "starting" if machine.phase in STARTING_PHASES else "loading"


def ports(machine: Machine) -> list[Json]:
    """Published ports; `url` where the cloud publishes an address instead of host and port."""
    rows: list[Json] = []
    for key, where in machine.ports.items():
        number, _, protocol = key.partition("/")
        host, _, port = where.rpartition(":")
        is_url = "://" in where
        rows.append(
            {
                "container_port": int(number),
                "host": None if is_url else host or where,
                "host_port": int(port) if not is_url and port.isdigit() else None,
                "protocol": protocol or "tcp",
                **({"url": where} if is_url else {}),
            }
        )
    return rows


def attempt(one: Try) -> Json:
    """One create call of a launch."""
    return {
        "attempt": one.attempt,
        "offer_id": one.offer_id,
        "provider": one.provider,
        "outcome": one.outcome,
        "reason": one.reason,
        "error_code": one.error_code,
        "price_per_hour": usd(one.price),
        "seconds": one.seconds,
    }


def instance(machine: Machine) -> Json:
    """A machine, from the store's record."""
    name = machine.gpu.label
    model = known_model(machine.gpu.name)
    score = model.performance_score if model else None
    carrier = parse_name(machine.host_key_alias)
    ssh = machine.ssh
    return {
        "id": instance_id(machine),
        "launch_id": machine.launch_id,
        "name": machine.name,
        "realm": machine.realm,
        "provider": machine.provider,
        "account": machine.account,
        "provider_id": machine.provider_id,
        "cloud_name": attempt_name(*carrier) if carrier else None,
        "owner": carrier[0] if carrier else None,
        "status": instance_status(machine),
        "state": machine.state,
        "wanted": machine.wanted,
        "phase": machine.phase,
        "stale": machine.stale or machine.state is State.UNKNOWN,
        "error": machine.error,
        "error_code": machine.error_code or _state_code(machine),
        "gpu_model": name,
        "gpu_count": machine.gpu_count,
        "gpu_memory_gb": machine.gpu.memory_gb,
        "gpu_info": gpu_model(model) if model else None,
        "performance": score,
        "performance_score": score,
        "cpu_count": machine.vcpus,
        "ram_gb": rounded(machine.ram_gb),
        "storage_gb": machine.disk_gb,
        "spot": machine.market is Market.SPOT,
        "market": machine.market,
        "price_per_hour": usd(machine.price),
        "price_stopped_per_hour": usd(machine.price_stopped),
        "reported_price_per_hour": dollars(machine.reported_price),
        "region": machine.region,
        "created_at": rfc3339(machine.created_at),
        "updated_at": rfc3339(machine.ended_at or machine.started_at or machine.created_at),
        "started_at": rfc3339(machine.started_at),
        "ended_at": rfc3339(machine.ended_at),
        "ssh": None if ssh is None else {"host": ssh.host, "port": ssh.port, "user": ssh.user},
        "ports": ports(machine),
        "console_url": machine.console_url,
        "cost_so_far": usd(machine.cost_so_far),
        "ttl_expires_at": rfc3339(machine.expires_at),
        "ends_at": rfc3339(machine.ends_at),
        "expiry_confirmed": machine.confirmed,
        "expiry": machine.expiry,
        "idle": None
        if machine.idle_after is None
        else {
            "ends_after_s": machine.idle_after.total_seconds(),
            "since": rfc3339(machine.idle_since),
            "word": machine.idle_word,
        },
        "billing": {
            "status": machine.bill.status,
            "by": machine.bill.by,
            "checked_at": rfc3339(machine.bill_checked_at),
            "evidence": machine.bill.evidence,
            "amount": dollars(machine.bill.amount),
            "metered": usd(machine.cost_so_far),
        },
        "provider_data": {
            "ssh_host": ssh.host if ssh else None,
            "ssh_port": ssh.port if ssh else None,
            "image": machine.image,
        },
        "project": machine.project,
        "tags": dict(machine.tags),
        "attempts": [attempt(one) for one in machine.tries],
        "next_try_at": rfc3339(machine.next_try_at),
        "retry_until": rfc3339(machine.retry_until),
        "gang": machine.gang,
        "on_preempt": machine.on_preempt,
        "preempted": machine.preempted,
        "mismatch": list(machine.mismatch),
    }


def _state_code(machine: Machine) -> str:
    return str(machine.state) if machine.state in {State.FAILED, State.PREEMPTED} else ""


def plan(plan_: Plan, *, disk_gb: float) -> Json:
    """What a launch would do."""
    return {
        "plan": [
            {
                "offer_id": planned.offer_id,
                "price_per_hour": usd(planned.price),
                "reason": planned.reason,
                "offer": offer(planned.offer, disk_gb=disk_gb),
            }
            for planned in plan_.ranked
        ],
        "left_out": [{"offer_id": which, "reason": why} for which, why in plan_.left_out],
        "most": dollars(plan_.most),
        "ttl_expires_at": rfc3339(plan_.expires_at),
        "ended_by": dict(plan_.ended_by),
        "kept_by": list(plan_.kept_by),
        "only_gpubroker_ends": list(plan_.unkept),
        "ways_in": {
            name: other
            for name in dict.fromkeys(planned.offer.provider for planned in plan_.ranked)
            if (other := way_in(name))
        },
        "total": plan_.total,
    }


def provider(
    info: ProviderInfo, *, regions: tuple[str, ...] = (), gpus: tuple[str, ...] = ()
) -> Json:
    """A cloud: what it is called, what it can do, whether its key is there."""
    capabilities: Capabilities | None = info.capabilities
    return {
        "name": info.name,
        "display_name": info.display_name,
        "website": info.website,
        "regions": list(regions),
        "gpu_models": list(gpus),
        "features": features(capabilities),
        "is_configured": info.configured,
        "key_variable": info.key_variable,
        "variables": list(info.variables),
        "capabilities": None if capabilities is None else _plain(capabilities),
        "answers": sorted(info.answers),
        "health": info.health,
        "status": info.status,
        "enabled": info.enabled,
        "accounts": [_plain(account) for account in info.accounts],
        **_plain(info.facts),
    }


def login(done: Login) -> Json:
    """A key that was stored; never the key."""
    return {
        "provider": done.provider,
        "account": done.account,
        "uid": done.uid,
        "balance": dollars(done.balance),
        "stored": done.stored,
        "overruled_by": done.overruled_by,
    }


def features(capabilities: Capabilities | None) -> list[str]:
    """What a cloud can do, in words that people search for."""
    if capabilities is None:
        return []
    told = (
        ("SSH Access", capabilities.ssh != "none"),
        ("Docker Support", capabilities.image != "none"),
        ("Spot", Market.SPOT in capabilities.markets),
        ("Stop and Start", capabilities.stop != "none"),
        ("Open Ports", capabilities.ports != "none"),
        ("Startup Script", capabilities.startup != "none"),
        ("Expiry by the Cloud", capabilities.expiry == "provider"),
        ("Exact Bills", capabilities.billing == "exact"),
    )
    return [word for word, true in told if true]


def stray(found: Stray) -> Json:
    """A machine at a cloud that no launch of this store wants."""
    return {
        "provider": found.provider,
        "account": found.account,
        "provider_id": found.ref.id,
        "scope": found.ref.scope,
        "name": found.name,
        "owner": found.owner,
        "gpu_model": found.gpu,
        "state": found.state,
        "price_per_hour": dollars(found.price),
        "since": rfc3339(found.since),
        "cost_so_far": dollars(found.cost),
        "why": found.why,
    }


def stray_resource(found: StrayResource) -> Json:
    """A key, script, rule, disk or address at a cloud."""
    return {
        "provider": found.provider,
        "account": found.account,
        "what": found.what,
        "provider_id": found.ref.id,
        "scope": found.ref.scope,
        "name": found.name,
        "owner": found.owner,
        "whose": found.whose,
        "since": rfc3339(found.since),
        "why": found.why,
    }


def bill_check(seen: BillCheck) -> Json:
    """One machine's cost, told by each who knows it."""
    return {
        "name": seen.name,
        "attempt": seen.attempt,
        "provider": seen.provider,
        "account": seen.account,
        "provider_id": seen.provider_id,
        "console_url": seen.console_url,
        "since": rfc3339(seen.since),
        "until": rfc3339(seen.until),
        "seconds": round(seen.seconds, 3),
        "quoted": {"price_per_hour": usd(seen.quoted_price), "amount": usd(seen.quoted)},
        "metered": {"amount": usd(seen.metered)},
        "reported": {
            "price_per_hour": dollars(seen.reported_price),
            "amount": dollars(seen.reported),
        },
        "billed": {
            "status": seen.bill.status,
            "by": seen.bill.by,
            "amount": dollars(seen.bill.amount),
            "complete_until": rfc3339(seen.bill.complete_until),
            "lines": [
                {
                    "item": line.item,
                    "amount": usd(line.amount),
                    "start": rfc3339(line.start),
                    "end": rfc3339(line.end),
                }
                for line in seen.bill.lines
            ],
        },
        "difference": dollars(seen.difference),
        "tolerance": usd(seen.tolerance),
        "verdict": seen.verdict,
        "evidence": seen.bill.evidence,
        "final": seen.final,
        "checked_at": rfc3339(seen.checked_at),
        "next_at": rfc3339(seen.next_at),
    }


def costs(spent: Costs) -> Json:
    """The document of `costs`."""
    return {
        "since": rfc3339(spent.since),
        "until": rfc3339(spent.until),
        "total": cost_row(spent.total),
        "by": {table: [cost_row(row) for row in rows] for table, rows in spent.by.items()},
    }


def cost_row(row: CostRow) -> Json:
    """One row of it."""
    return {
        "key": row.key,
        "name": row.name,
        "metered": usd(row.metered),
        "billed": usd(row.billed),
        "not_billed": usd(row.not_billed),
        "hours": round(row.seconds / 3600, 4),
        "machines": row.machines,
    }


def sweep(report: SweepReport) -> Json:
    """The document of `sweep`."""
    return {
        "ours": [instance(machine) for machine in report.ours],
        "orphans": [stray(found) for found in report.orphans],
        "ghosts": [instance(machine) for machine in report.ghosts],
        "foreign": [stray(found) for found in report.foreign],
        "resources": [stray_resource(found) for found in report.resources],
        "errors": dict(report.errors),
        "fixed": report.fixed,
    }


def check(one: Check) -> Json:
    """One check of `doctor`; `ok` null where it could not be told."""
    return {
        "provider": one.provider,
        "account": one.account,
        "what": one.what,
        "ok": one.ok,
        "detail": one.detail,
        "fix": one.fix,
    }


def _plain(value: Any) -> Any:
    """Structs, sets and enums as JSON knows them; sets in order, so that answers compare."""
    return msgspec.to_builtins(value, order="deterministic")
