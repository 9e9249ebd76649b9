"""How a machine is known as ours: owner and attempt, in one encoding for every cloud."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    import uuid

OWNER_LENGTH = 6
ATTEMPT_LENGTH = 16
_NAME = re.compile(rf"gb-([a-z2-7]{{{OWNER_LENGTH}}})-([a-z2-7]{{{ATTEMPT_LENGTH}}})")
_OWNED = re.compile(rf"gb-([a-z2-7]{{{OWNER_LENGTH}}})(?:-.*)?")

OWNER_TAG = "gpubroker-owner"
ATTEMPT_TAG = "gpubroker-attempt"


def _base32(bits: int) -> str:
    import base64
    import secrets

    return base64.b32encode(secrets.token_bytes((bits + 7) // 8)).decode().lower().rstrip("=")


def new_owner() -> str:
    """Six characters of [a-z2-7], made once per store."""
    return _base32(40)[:OWNER_LENGTH]


def new_attempt_id() -> str:
    """Sixteen characters of [a-z2-7]: 80 random bits."""
    return _base32(80)


def attempt_name(owner: str, attempt: str) -> str:
    """26 characters, legal as name, label, host name and tag value in all clouds."""
    return f"gb-{owner}-{attempt}"


def parse_name(text: str | None) -> tuple[str, str] | None:
    """(owner, attempt) of a name of ours, None for anything else."""
    match = _NAME.fullmatch(text) if text else None
    return (match[1], match[2]) if match else None


def parse_owner(text: str | None) -> str | None:
    """The owner of anything of ours: of an attempt, `gb-<owner>` itself, `gb-<owner>-<detail>`."""
    match = _OWNED.fullmatch(text) if text else None
    return match[1] if match else None


class Attempt(Struct, frozen=True):
    """One create call, never reused: a failover and each of N nodes is an attempt of its own."""

    owner: str
    id: str
    launch: str
    """Ours only, never sent."""

    @property
    def name(self) -> str:
        """What the cloud is told."""
        return attempt_name(self.owner, self.id)

    @property
    def token(self) -> uuid.UUID:
        """Idempotency token, the same whenever the attempt is sent again."""
        import hashlib
        import uuid

        return uuid.UUID(bytes=hashlib.sha256(self.name.encode()).digest()[:16], version=4)


class Ref(Struct, frozen=True):
    """Everything needed to address a thing again: ids are unique in a scope only."""

    provider: str
    account: str
    scope: str
    """Region, zone, project, context/namespace, or ""."""
    id: str
