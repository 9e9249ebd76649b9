"""Lyceum's words: its organisations, its moments, and how it refuses."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from uuid import UUID

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Refusal
from gpubroker.sandbox.emulators.fastapi_words import detail
from gpubroker.sandbox.rented import Account, Machine, Thing

KEY_PREFIX = "lk_"
"""Of the vendor's keys; the sandbox's own stand behind it."""


def refusal(status: int, text: str) -> Refusal:
    """`{"detail": "…"}`: the one form of what is not a wrong field."""
    return Refusal(detail(status, text))


def no_vm() -> Refusal:
    """404 in words; the framework's own are "Not Found"."""
    return refusal(404, "VM not found")


def moment(epoch_s: float) -> str:
    """A time of the vendor: whole seconds and Z."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def as_uuid(*words: str) -> str:
    """An id that stays the same for these words."""
    return str(UUID(hashlib.sha256("/".join(words).encode()).hexdigest()[:32], version=4))


def org_id(account: Account) -> str:
    """A key is of one organisation."""
    return as_uuid(account.name, "org")


def user_id(account: Account) -> str:
    """Whoever made the key."""
    return as_uuid(account.name, "user")


def org_slug(account: Account) -> str:
    """The organisation's name in paths."""
    return f"org-{account.number:08d}"


def check_org(call: Call, slug: str) -> None:
    """An organisation's key reaches no other's records."""
    if slug != org_slug(call.owner):
        raise refusal(403, "You are not a member of this organization")


def owned_vm(cloud: Cloud, call: Call, id_: str) -> Machine:
    """The account's, ended ones too. Raises the 404."""
    machine = cloud.machines.get(id_)
    if machine is None or machine.account != call.owner.name:
        raise no_vm()
    return machine


def owned_thing(cloud: Cloud, call: Call, kind: str, id_: str) -> Thing | None:
    """The account's, by id."""
    things = cloud.live_things(call.owner.name, kind)
    return next((thing for thing in things if thing.id == id_), None)
