"""What Vast.ai answers about machines and the user: bytes in, model out, no network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gpubroker.model.identity import Ref, parse_name
from gpubroker.model.instance import Endpoint, Instance
from gpubroker.model.money import nanos
from gpubroker.model.terms import State
from gpubroker.providers.fields import Amount, Count, Id, Text, Usd, Word, moment
from gpubroker.providers.vast_ai.facts import NAME

LONGEST_REASON = 200


class PublishedPort(Struct, gc=False):
    """Where a container's port is on the host."""

    HostPort: Word
    HostIp: Word | None = None


class Contract(Struct):
    """One instance. Everything but the id may be missing."""

    id: Id
    actual_status: Word | None = None
    intended_status: Word | None = None
    cur_state: Word | None = None
    next_state: Word | None = None
    status_msg: Text | None = None
    label: Text | None = None
    gpu_name: Word | None = None
    num_gpus: Count | None = None
    machine_id: Id | None = None
    dph_total: Usd | None = None
    is_bid: bool | None = None
    min_bid: Usd | None = None
    disk_space: Amount | None = None
    image_uuid: Text | None = None
    geolocation: Word | None = None
    public_ipaddr: Word | None = None
    ssh_host: Word | None = None
    ssh_port: Count | None = None
    ports: Mapping[Word, tuple[PublishedPort, ...] | None] | None = None
    start_date: Amount | None = None
    end_date: Amount | None = None


class Shown(Struct):
    """Of one instance: the plural key holds one object."""

    instances: Contract | None


class InstancePage(Struct):
    """Of the list. `total_instances` counts all pages of this filter."""

    instances: tuple[Contract, ...]
    next_token: Text | None = None
    total_instances: Count | None = None


class User(Struct):
    """Of users/current."""

    id: Id
    credit: float | None = None


_PENDING = frozenset({None, "creating", "created", "loading", "rebooting"})
_UNHEARD = frozenset({"unknown", "offline"})
_SHOWN_RAW = (
    "id",
    "machine_id",
    "actual_status",
    "intended_status",
    "cur_state",
    "next_state",
    "is_bid",
    "min_bid",
    "geolocation",
)


def _asked_to_stop(row: Contract) -> bool:
    return row.intended_status == "stopped"


def _outbid(row: Contract) -> bool:
    """Stopped, and nobody asked for it."""
    ended = row.actual_status == "stopped" or (
        row.actual_status == "exited" and row.cur_state == "stopped"
    )
    return bool(row.is_bid) and ended and not _asked_to_stop(row)


def _stopped(row: Contract) -> bool:
    at_rest = row.actual_status in {"stopped", "exited"} or row.cur_state == "stopped"
    return _asked_to_stop(row) and at_rest


def _scheduling(row: Contract) -> bool:
    """Its GPU is somebody else's: it may never start."""
    return row.intended_status == "running" and row.cur_state == "stopped"


def _creation_failed(row: Contract) -> bool:
    told = row.status_msg or ""
    return row.actual_status == "created" and "OCI runtime create failed" in told


_STATES: tuple[tuple[State, Callable[[Contract], bool]], ...] = (
    (State.TERMINATED, lambda row: row.cur_state == "unloaded"),
    (State.UNKNOWN, lambda row: row.actual_status in _UNHEARD),
    (State.RUNNING, lambda row: row.actual_status == "frozen"),
    (State.STOPPING, lambda row: row.actual_status == "running" and _asked_to_stop(row)),
    (State.RUNNING, lambda row: row.actual_status == "running"),
    (State.STOPPED, _stopped),
    (State.PREEMPTED, _outbid),
    (State.PENDING, _scheduling),
    (State.STOPPED, lambda row: row.actual_status == "stopped"),
    (State.FAILED, lambda row: row.actual_status == "exited" or _creation_failed(row)),
    (State.PENDING, lambda row: row.actual_status in _PENDING),
)
"""The first line that fits. "running" goes by the container, the rest by container and contract."""


def state_of(row: Contract) -> State:
    """One word of the vendor's three; UNKNOWN for words that it has not had."""
    return next((state for state, fits in _STATES if fits(row)), State.UNKNOWN)


def instance_of(row: Contract, account: str) -> Instance:
    """A machine as the vendor tells it; secrets of its record are never read."""
    state = state_of(row)
    carried = parse_name(row.label)
    there = state is not State.TERMINATED
    on = row.cur_state == "running" and state in {State.PENDING, State.UNKNOWN, State.FAILED}
    address = (row.public_ipaddr or "").strip()
    ports = _ports(row.ports or {}, address)
    return Instance(
        ref=Ref(NAME, account, "", str(row.id)),
        owner=carried[0] if carried else None,
        attempt=carried[1] if carried else None,
        name=row.label,
        state=state,
        raw_state=_raw_state(row),
        reason=(row.status_msg or "")[:LONGEST_REASON],
        healthy=row.actual_status not in _UNHEARD and state is not State.FAILED,
        bills_compute=state in {State.RUNNING, State.STOPPING} or on,
        bills_disk=there,
        price=nanos(row.dph_total) if row.dph_total is not None else None,
        gpu=row.gpu_name,
        gpu_count=row.num_gpus,
        image=row.image_uuid,
        disk_gb=row.disk_space,
        ssh=_ssh(row, ports) if there else None,
        ports={inside: outside for inside, outside in ports.items() if inside != "22/tcp"},
        created_at=moment(row.start_date),
        expires_at=moment(row.end_date),
        raw={field: getattr(row, field) for field in _SHOWN_RAW if getattr(row, field) is not None},
    )


def _raw_state(row: Contract) -> str:
    words = (row.actual_status, row.intended_status, row.cur_state)
    return "/".join(word or "-" for word in words)


def _ports(told: Mapping[str, Sequence[PublishedPort] | None], address: str) -> dict[str, str]:
    if not address:
        return {}
    host = f"[{address}]" if ":" in address else address
    return {inside: f"{host}:{outside[0].HostPort}" for inside, outside in told.items() if outside}


def _ssh(row: Contract, ports: Mapping[str, str]) -> Endpoint | None:
    """Direct where port 22 is published, else the vendor's proxy."""
    direct = ports.get("22/tcp", "")
    host, _, port = direct.rpartition(":")
    if host and port.isdecimal():
        return Endpoint(host=host.strip("[]"), port=int(port), user="root")
    if row.ssh_host and row.ssh_port:
        return Endpoint(host=row.ssh_host.strip(), port=row.ssh_port, user="root")
    return None


class _Verdict(Struct):
    success: Any = None
    error: Any = None
    new_contract: Any = None


def _verdict(body: bytes) -> _Verdict:
    try:
        return msgspec.json.decode(body, type=_Verdict)
    except (msgspec.DecodeError, RecursionError):
        return _Verdict()


def said_no(body: bytes) -> bool:
    """Whether an answer of status 200 says failure in its body."""
    return body[:1] == b"{" and _says_no(_verdict(body))


def _says_no(verdict: _Verdict) -> bool:
    return verdict.success is False or (verdict.success is None and isinstance(verdict.error, str))


def new_contract(body: bytes) -> int | None:
    """The contract that a create made, in an error answer too."""
    made = _verdict(body).new_contract
    return made if isinstance(made, int) and not isinstance(made, bool) and made > 0 else None
