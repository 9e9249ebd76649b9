"""What the provider says now. What we want, and every transition, is in the store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

from gpubroker.model.identity import Ref
from gpubroker.model.money import Nanos
from gpubroker.model.terms import Resource, State


class Endpoint(Struct, frozen=True):
    """Where SSH (or what stands in for it) answers."""

    host: str
    port: int
    user: str
    proxy: str | None = None
    host_key: str | None = None
    via: Literal["ssh", "exec", "forward"] = "ssh"


class Instance(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A machine as its provider describes it."""

    ref: Ref
    owner: str | None
    """Parsed from the carrier; None = not made by gpubroker. Likewise `attempt`."""
    attempt: str | None
    name: str | None = None
    """The carrier's text as the vendor holds it, for foreign machines too."""
    state: State
    raw_state: str
    reason: str = ""
    healthy: bool = True
    pulling: bool = False
    """Pending because the image is being fetched: slow, but alive."""
    bills_compute: bool
    bills_disk: bool
    price: Nanos | None = None
    """The provider's own hourly figure, None where it tells none."""
    gpu: str | None = None
    """The provider's own GPU name; with `gpu_count` checked against the request."""
    gpu_count: int | None = None
    image: str | None = None
    disk_gb: float | None = None
    region: str | None = None
    """In the words of the offers; None where the record does not tell. Likewise `tier`."""
    tier: str | None = None
    ssh: Endpoint | None = None
    ports: Mapping[str, str] = {}
    """"8888/tcp" -> "host:port" or URL."""
    created_at: datetime | None = None
    expires_at: datetime | None = None
    raw: Mapping[str, Any] = {}
    """Allow-listed fields only: secrets never get here."""


class Listing(Struct, frozen=True):
    """Absence of a Ref is evidence only where `complete`: all pages, this account, this scope."""

    account_uid: str
    scope: str
    complete: bool
    asked_at: datetime
    instances: tuple[Instance, ...]


class HeldResource(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that an account has beside its machines: a key, a rule, a disk, an address."""

    what: Resource
    ref: Ref
    name: str
    """As the vendor holds it."""
    owner: str | None
    """Parsed from the name or a tag; None = not made by gpubroker."""
    attempt: str | None
    """None also for what the owner's machines share."""
    created_at: datetime | None = None


class Holdings(Struct, frozen=True):
    """Everything of that sort in one scope; absence is evidence only where `complete`."""

    account_uid: str
    scope: str
    complete: bool
    resources: tuple[HeldResource, ...]
