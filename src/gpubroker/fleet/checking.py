"""The machine's record against the request, field by field: a field that was ignored is an error.

Only what the record tells is compared. What follows is the launch's policy, and where it has none
the field's own: other GPUs than were rented are never kept, the rest is told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from gpubroker.catalog import gpus
from gpubroker.fleet.context import Context, Probed, Work, offer_of, spec_of
from gpubroker.model.capabilities import Capabilities
from gpubroker.model.instance import Instance
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.offer import Offer
from gpubroker.model.terms import State
from gpubroker.providers.base import Provider
from gpubroker.store.errors import NoSecretKey
from gpubroker.store.rows import AttemptRow

DISK_TOLERANCE = 0.15
"""A file system takes its share, and GB are not GiB."""
_OFFICIAL = re.compile(r"^(?:docker\.io/|index\.docker\.io/)?(?:library/)?")

Policy = Literal["warn", "replace"]
Told = tuple[str, str] | None
"""(as asked, as told) where they differ."""


class Field(Struct, frozen=True):
    """One field of the request."""

    name: str
    policy: Policy
    differs: Callable[[LaunchSpec, Offer, Instance], Told]


class Difference(Struct, frozen=True):
    """A field that is not as it was asked for."""

    field: str
    words: str


def _count(_spec: LaunchSpec, offer: Offer, told: Instance) -> Told:
    if told.gpu_count in (None, offer.gpu_count):
        return None
    return f"{offer.gpu_count} GPUs", str(told.gpu_count)


def _gpu(_spec: LaunchSpec, offer: Offer, told: Instance) -> Told:
    known = gpus.resolve(told.gpu).name if told.gpu else None
    if known is None or offer.gpu.name in (None, known):
        return None
    return offer.gpu.label, known


def _disk(spec: LaunchSpec, _offer: Offer, told: Instance) -> Told:
    if told.disk_gb is None or not spec.disk_gb:
        return None
    if told.disk_gb >= spec.disk_gb * (1 - DISK_TOLERANCE):
        return None
    return f"{spec.disk_gb} GB of disk", f"{told.disk_gb:g} GB"


def _ports(spec: LaunchSpec, _offer: Offer, told: Instance) -> Told:
    missing = [f"{n}/{kind}" for n, kind in spec.ports if f"{n}/{kind}" not in told.ports]
    if not told.ports or not missing:
        return None
    return f"port {', '.join(missing)}", "not published"


def _image(spec: LaunchSpec, _offer: Offer, told: Instance) -> Told:
    if not spec.image or not told.image or _plain(spec.image) == _plain(told.image):
        return None
    return f"image {spec.image}", told.image


def _region(_spec: LaunchSpec, offer: Offer, told: Instance) -> Told:
    if not offer.region or told.region in (None, offer.region):
        return None
    return f"region {offer.region}", told.region or "none"


def _tier(_spec: LaunchSpec, offer: Offer, told: Instance) -> Told:
    if not offer.tier or told.tier in (None, offer.tier):
        return None
    return f"tier {offer.tier}", told.tier or "none"


FIELDS: tuple[Field, ...] = (
    Field("count", "replace", _count),
    Field("gpu", "replace", _gpu),
    Field("disk", "warn", _disk),
    Field("ports", "warn", _ports),
    Field("image", "warn", _image),
    Field("region", "warn", _region),
    Field("tier", "warn", _tier),
)
POLICIES: Mapping[str, Policy] = {
    **{field.name: field.policy for field in FIELDS},
    "memory": "replace",
    "driver": "warn",
}
"""Field -> what follows where the launch does not say; those that only the machine tells too."""


def differences(
    spec: LaunchSpec, offer: Offer, told: Instance, can: Capabilities
) -> tuple[Difference, ...]:
    """Where the record is not what was asked for. Pure."""
    # On a VM docker runs the image: the cloud's record tells the system below it.
    passed = can.untold if can.image == "container" else can.untold | {"image"}
    return tuple(
        Difference(field.name, f"asked for {asked}, the cloud's record says {other}")
        for field in FIELDS
        if field.name not in passed and (two := field.differs(spec, offer, told))
        for asked, other in (two,)
    )


def of_record(
    ctx: Context, work: Work, attempt: AttemptRow, told: Instance, can: Capabilities
) -> tuple[Difference, ...]:
    """The same, of an attempt; without the seal's key only what stands in the open."""
    try:
        spec = spec_of(ctx, work.launch)
    except NoSecretKey:
        disk = int(work.launch.disk_gb) if work.launch.disk_gb else None
        spec = LaunchSpec(image=work.launch.image, disk_gb=disk, expires_at=None)
    return differences(spec, offer_of(attempt), told, can)


def of_machine(work: Work, probed: Probed) -> tuple[Difference, ...]:
    """Where the machine itself, looked at over SSH, is not what was asked for."""
    found = [Difference(field, words) for field, words in probed.differs]
    asked = work.launch.disk_gb
    if asked and probed.disk_gb is not None and probed.disk_gb < asked * (1 - DISK_TOLERANCE):
        words = f"asked for {asked:g} GB of disk, the machine has {probed.disk_gb:.0f} GB"
        found.append(Difference("disk", words))
    return tuple(found)


def judge_record(
    ctx: Context, work: Work, attempt: AttemptRow, provider: Provider, told: Instance
) -> Sequence[str]:
    """`judge` of the record, once it is complete: while a machine boots it is not."""
    if told.state is not State.RUNNING:
        return ()
    return judge(ctx, work, attempt, of_record(ctx, work, attempt, told, provider.capabilities))


def judge(
    ctx: Context, work: Work, attempt: AttemptRow, found: Iterable[Difference]
) -> Sequence[str]:
    """Why the machine is to be replaced, by the policy; else what differs is kept and told once."""
    listed = tuple(found)
    chosen = work.launch.on_mismatch
    grave = [one.words for one in listed if (chosen or POLICIES[one.field]) == "replace"]
    known = attempt.mismatch.splitlines()
    new = [one for one in listed if one.words not in known]
    if new:
        with work.writing() as write:
            lines = [*known, *(one.words for one in new)]
            write.attempt(attempt.id, mismatch="\n".join(lines))
            for one in new:
                write.event(
                    "ignored_field",
                    attempt.id,
                    provider=attempt.provider,
                    field=one.field,
                    what=one.words,
                )
        ctx.boundary("mismatch recorded")
    return grave


def _plain(image: str) -> str:
    """As a registry would resolve it: docker.io/library/ubuntu is ubuntu:latest."""
    short = _OFFICIAL.sub("", image, count=1)
    last = short.rpartition("/")[2]
    return short if ":" in last or "@" in last else f"{short}:latest"
