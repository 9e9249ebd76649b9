"""RunPod's bills in REST v2: what pods and volumes cost, in buckets of time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.model.money import usd
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.runpod.sheet import sheet
from gpubroker.sandbox.emulators.runpod.words import moment, problem, read_query
from gpubroker.sandbox.money import Ledger, total
from gpubroker.sandbox.rented import Machine, Thing

Bucket = Literal["hour", "day", "week", "month", "year"]
_DAYS_BY_DEFAULT = 30
_BUCKETS_AT_MOST = 20_000

POD_AMOUNTS = ("gpuAmount", "cpuAmount", "diskAmount")
VOLUME_AMOUNTS = ("standardAmount", "highPerformanceAmount")
ALL_AMOUNTS = (
    "podGpuAmount", "podCpuAmount", "podDiskAmount", "serverlessGpuAmount", "serverlessCpuAmount",
    "serverlessDiskAmount", "serverlessFeeAmount", "storageStandardAmount",
    "storageHighPerformanceAmount", "endpointAmount", "clusterGpuAmount", "clusterDiskAmount",
    "clusterNetworkingAmount",
)  # fmt: skip

Amounts = Callable[[float, float], dict[str, float]]
"""(from, until): what was charged, by the name of the amount; those that are not there are 0."""


class Query(Struct, forbid_unknown_fields=True, rename="camel"):
    """Of every kind of bill."""

    start_time: datetime | None = None
    end_time: datetime | None = None
    bucket_size: Bucket = "day"
    last_n: Annotated[int, Meta(ge=1)] | None = None


class PodQuery(Query, rename="camel"):
    """Of pods."""

    pod_id: str | None = None


class VolumeQuery(Query, rename="camel"):
    """Of network volumes."""

    network_volume_id: str | None = None


# --- buckets ------------------------------------------------------------------------------


def bucket_start(at: datetime, size: Bucket) -> datetime:
    """Where the bucket begins that a moment lies in."""
    match size:
        case "hour":
            return at.replace(minute=0, second=0, microsecond=0)
        case "day":
            return at.replace(hour=0, minute=0, second=0, microsecond=0)
        case "week":
            return bucket_start(at, "day") - timedelta(days=at.weekday())
        case "month":
            return bucket_start(at, "day").replace(day=1)
        case "year":
            return bucket_start(at, "month").replace(month=1)


_LONGER_THAN_ONE: Mapping[Bucket, timedelta] = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=31),
    "year": timedelta(days=366),
}


def next_bucket(start: datetime, size: Bucket) -> datetime:
    """The bucket after the one that begins then."""
    return bucket_start(start + _LONGER_THAN_ONE[size], size)


def _window(query: Query, now: float) -> tuple[datetime, datetime]:
    """Snapped outward to whole buckets. Raises Refusal."""
    today, size = datetime.fromtimestamp(now, UTC), query.bucket_size
    if query.last_n is not None:
        if query.start_time or query.end_time:
            raise problem(400, "lastN and startTime/endTime are mutually exclusive")
        first = bucket_start(today, size)
        for _ in range(min(query.last_n, _BUCKETS_AT_MOST) - 1):
            first = bucket_start(first - timedelta(seconds=1), size)
        return first, next_bucket(bucket_start(today, size), size)
    start = _utc(query.start_time) or today - timedelta(days=_DAYS_BY_DEFAULT)
    end = _utc(query.end_time) or today
    if end < start:
        raise problem(400, "endTime must not be before startTime")
    last = bucket_start(end, size)
    return bucket_start(start, size), last if last == end else next_bucket(last, size)


def _utc(at: datetime | None) -> datetime | None:
    return None if at is None else at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC)


def _buckets(start: datetime, end: datetime, size: Bucket) -> Iterator[tuple[float, float]]:
    while start < end:
        after = next_bucket(start, size)
        yield start.timestamp(), after.timestamp()
        start = after


# --- amounts ------------------------------------------------------------------------------


def _charged(ledger: Ledger, components: Iterable[str], since: float, until: float) -> float:
    wanted = set(components)
    return usd(total(line.cost(until, since) for line in ledger.lines if line.component in wanted))


def pod_amounts(api: Emulator, machine: Machine) -> Amounts:
    """Of one pod."""
    is_cpu = sheet().flavor(api.cloud.slot(machine).gpu) is not None
    compute = "cpuAmount" if is_cpu else "gpuAmount"

    def between(since: float, until: float) -> dict[str, float]:
        return {
            compute: _charged(machine.ledger, ("gpu",), since, until),
            "diskAmount": _charged(machine.ledger, ("disk", "disk_stopped"), since, until),
        }

    return between


def volume_amounts(volume: Thing) -> Amounts:
    """Of one network volume."""
    name = "standardAmount" if volume.wire["type"] == "STANDARD" else "highPerformanceAmount"
    return lambda since, until: {name: _charged(volume.ledger, ("volume",), since, until)}


_IN_ALL = {
    "gpuAmount": "podGpuAmount",
    "cpuAmount": "podCpuAmount",
    "diskAmount": "podDiskAmount",
    "standardAmount": "storageStandardAmount",
    "highPerformanceAmount": "storageHighPerformanceAmount",
}


def everything(parts: list[Amounts]) -> Amounts:
    """Of an account."""

    def between(since: float, until: float) -> dict[str, float]:
        added: dict[str, float] = {}
        for part in parts:
            for name, amount in part(since, until).items():
                added[_IN_ALL[name]] = added.get(_IN_ALL[name], 0.0) + amount
        return added

    return between


def _with_total(names: tuple[str, ...], amounts: Mapping[str, float]) -> dict[str, float]:
    row = {name: round(amounts.get(name, 0.0), 9) for name in names}
    return {"totalAmount": round(sum(row.values()), 9), **row}


# --- answers ------------------------------------------------------------------------------


def _bill(
    api: Emulator,
    call: Call,
    query: Query,
    names: tuple[str, ...],
    parts: list[tuple[dict[str, str], Amounts]],
) -> dict[str, Any]:
    """Records of each part and bucket with a cost; nothing of the last minutes is on record yet."""
    start, end = _window(query, call.now)
    recorded = call.now - api.cloud.facts.billing_lag_s
    records: list[dict[str, Any]] = []
    for since, until in _buckets(start, end, query.bucket_size):
        for tag, part in parts:
            amounts = _with_total(names, part(since, min(until, recorded)))
            if amounts["totalAmount"]:
                span = {"startTime": moment(since), "endTime": moment(until)}
                records.append({**span, **tag, **amounts})
    totals = {name: sum(record[name] for record in records) for name in names}
    asked = {
        "startTime": moment(start.timestamp()),
        "endTime": moment(end.timestamp()),
        "bucketSize": query.bucket_size,
    }
    return {
        "records": records,
        "metadata": {
            "query": asked,
            "recordCount": len(records),
            "totals": _with_total(names, totals),
        },
    }


def _unique(bill: dict[str, Any], tag: str) -> int:
    return len({record[tag] for record in bill["records"]})


async def pods(api: Emulator, call: Call) -> Response:
    """GET billing/pods: terminated ones, too."""
    query = read_query(call.request, PodQuery)
    parts = [
        ({"podId": machine.id}, pod_amounts(api, machine))
        for machine in api.cloud.owned(call.owner.name)
        if query.pod_id in (None, machine.id)
    ]
    bill = _bill(api, call, query, POD_AMOUNTS, parts)
    bill["metadata"]["uniquePodCount"] = _unique(bill, "podId")
    if query.pod_id is not None:
        bill["metadata"]["query"]["podId"] = query.pod_id
    return answer(bill)


async def volumes(api: Emulator, call: Call) -> Response:
    """GET billing/network-volumes."""
    query = read_query(call.request, VolumeQuery)
    parts = [
        ({"networkVolumeId": volume.id}, volume_amounts(volume))
        for volume in _volumes(api, call)
        if query.network_volume_id in (None, volume.id)
    ]
    bill = _bill(api, call, query, VOLUME_AMOUNTS, parts)
    bill["metadata"]["uniqueNetworkVolumeCount"] = _unique(bill, "networkVolumeId")
    if query.network_volume_id is not None:
        bill["metadata"]["query"]["networkVolumeId"] = query.network_volume_id
    return answer(bill)


async def account(api: Emulator, call: Call) -> Response:
    """GET billing: all of it together."""
    query = read_query(call.request, Query)
    owned = [pod_amounts(api, machine) for machine in api.cloud.owned(call.owner.name)]
    kept = [volume_amounts(volume) for volume in _volumes(api, call)]
    return answer(_bill(api, call, query, ALL_AMOUNTS, [({}, everything([*owned, *kept]))]))


def _volumes(api: Emulator, call: Call) -> list[Thing]:
    return [
        thing
        for thing in api.cloud.things.values()
        if (thing.kind, thing.account) == ("network_volume", call.owner.name)
    ]
