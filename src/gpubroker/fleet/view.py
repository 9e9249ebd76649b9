"""Rows of the store as the Machine that a user sees: pure, and cheap enough for `ps`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from gpubroker.catalog.clouds import offer_id
from gpubroker.fleet.standing import prospects, unplanned
from gpubroker.model.bill import Bill
from gpubroker.model.identity import attempt_name
from gpubroker.model.instance import Instance
from gpubroker.model.machine import Machine, Outcome, Phase, Try
from gpubroker.model.money import Nanos, cost
from gpubroker.model.offer import Offer
from gpubroker.model.terms import Expiry, State
from gpubroker.store.rows import AttemptRow, LaunchRow, UsageRow, when
from gpubroker.store.store import Store


def machines(store: Store, now: datetime, *, include_ended: bool = False) -> tuple[Machine, ...]:
    """Every machine of the store, without asking any provider."""
    return tuple(
        machine_of(store, launch, now) for launch in store.launches(include_ended=include_ended)
    )


def machine_of(store: Store, launch: LaunchRow, now: datetime) -> Machine:
    """One launch with its present attempt."""
    attempts = store.attempts(launch.id)
    if not attempts:
        return unplanned(launch, store.realm)
    present = _present(attempts)
    waiting = _waiting(launch, attempts)
    offer = msgspec.json.decode(present.offer, type=Offer)
    instance = _instance(present)
    usage = [row for attempt in attempts for row in store.usage(attempt.id)]
    return Machine(
        launch_id=launch.id,
        name=launch.name,
        realm=store.realm,
        provider=present.provider,
        account=present.account,
        provider_id=None if waiting else present.ref_id,
        state=State.PENDING if waiting else _state(launch, present, instance),
        wanted=launch.wanted,
        phase="allocating" if waiting else _phase(launch, present),
        stale=bool(present.look_failed),
        error=launch.error,
        error_code=launch.error_code,
        gpu=offer.gpu,
        gpu_count=offer.gpu_count,
        market=offer.market,
        vcpus=offer.vcpus,
        ram_gb=offer.ram_gb,
        disk_gb=launch.disk_gb,
        region=offer.region,
        price=Nanos(present.price),
        price_stopped=Nanos(present.price_stopped),
        reported_price=None if instance is None else instance.price,
        image=launch.image,
        created_at=when(launch.created_at),
        started_at=None if present.ready_at is None else when(present.ready_at),
        ended_at=None if launch.ended_at is None else when(launch.ended_at),
        expires_at=None if launch.expires_at is None else when(launch.expires_at),
        ends_at=_ends_at(launch, present),
        confirmed=present.expires_at is not None,
        expiry=Expiry(present.expiry),
        idle_after=None if launch.idle_s is None else timedelta(seconds=launch.idle_s),
        idle_since=None if launch.idle_since is None else when(launch.idle_since),
        idle_word=launch.idle_word,
        ssh=None if instance is None or not present.open else instance.ssh,
        host_key_alias=attempt_name(store.owner, present.id),
        ports={} if instance is None else instance.ports,
        console_url=present.console_url,
        cost_so_far=metered(usage, offer, now),
        bill=bill_of(present),
        bill_checked_at=None if present.bill_at is None else when(present.bill_at),
        tries=tries_of(attempts),
        project=launch.project,
        tags=msgspec.json.decode(launch.tags, type=dict[str, str]),
        mismatch=tuple(present.mismatch.splitlines()),
        **prospects(launch, waiting=waiting),
    )


def tries_of(attempts: Sequence[AttemptRow]) -> tuple[Try, ...]:
    """What was tried, in order."""
    return tuple(
        Try(
            attempt=attempt.id,
            offer_id=offer_id(attempt.provider, _key(attempt)),
            provider=attempt.provider,
            outcome=_outcome(attempt),
            reason=attempt.reason,
            error_code=attempt.error_code,
            price=Nanos(attempt.price),
            seconds=_seconds(attempt),
        )
        for attempt in attempts
    )


def metered(usage: Sequence[UsageRow], offer: Offer, now: datetime) -> Nanos:
    """Cost by our clock: rate x seconds of each stretch, each rounded once."""
    at = now.timestamp()
    return Nanos(
        sum(
            cost(
                row.rate,
                max(0.0, (at if row.until is None else row.until) - row.since),
                increment_s=offer.price.increment_s,
                minimum_s=offer.price.minimum_s,
            )
            for row in usage
        )
    )


def _waiting(launch: LaunchRow, attempts: Sequence[AttemptRow]) -> bool:
    """Whether it stands without a machine until it is planned anew."""
    planned = launch.next_plan_at is not None and launch.wanted == "running"
    return planned and launch.ended_at is None and not any(one.open for one in attempts)


def _present(attempts: Sequence[AttemptRow]) -> AttemptRow:
    """The attempt in use; else the last that became a machine; else the last."""
    in_use = [a for a in attempts if a.open and a.wanted == "running"]
    became = [a for a in attempts if a.ready_at is not None]
    return (in_use or became or list(attempts))[-1]


def _instance(attempt: AttemptRow) -> Instance | None:
    if attempt.instance is None:
        return None
    return msgspec.json.decode(attempt.instance, type=Instance)


def _state(launch: LaunchRow, attempt: AttemptRow, instance: Instance | None) -> State:
    if launch.ended_at is not None:
        return State.FAILED if launch.error else State.TERMINATED
    if launch.wanted == "gone":
        return State.TERMINATING
    if attempt.status == "gone":
        return State.TERMINATED
    if attempt.status == "made" and instance is not None:
        return instance.state
    return State.PENDING


def _phase(launch: LaunchRow, attempt: AttemptRow) -> Phase:
    if launch.ended_at is not None:
        return "gone"
    if launch.wanted == "gone":
        return "ending"
    return attempt.phase


def _ends_at(launch: LaunchRow, attempt: AttemptRow) -> datetime | None:
    """The earliest of what is wished and what is known to end it."""
    known = (launch.expires_at, attempt.cloud_ends_at, attempt.timer_ends_at)
    first = min((at for at in known if at is not None), default=None)
    return None if first is None else when(first)


def bill_of(attempt: AttemptRow) -> Bill:
    """As recorded; before the first look, what is known without one."""
    if attempt.bill is not None:
        return msgspec.json.decode(attempt.bill, type=Bill)
    if attempt.status == "made":
        return Bill(status="running")
    if attempt.ref_id is None:
        return Bill(status="ended", amount=Nanos(0), evidence="no machine was made")
    evidence = "not looked up yet"
    if attempt.bill_due_at is not None:
        evidence += f"; the record is looked at {when(attempt.bill_due_at):%Y-%m-%d %H:%M} UTC"
    return Bill(status="pending", evidence=evidence)


def _outcome(attempt: AttemptRow) -> Outcome:
    if attempt.status in {"sending", "unknown"}:
        return "unknown"
    return attempt.outcome


def _seconds(attempt: AttemptRow) -> float | None:
    end = attempt.ready_at or attempt.closed_at
    return None if end is None else round(end - attempt.created_at, 3)


def _key(attempt: AttemptRow) -> str:
    return msgspec.json.decode(attempt.offer, type=Offer).key
