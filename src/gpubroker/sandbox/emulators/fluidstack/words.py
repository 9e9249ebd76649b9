"""FluidStack's words: its ids and moments, and how it refuses what is not a wrong field."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime

from starlette.responses import Response

from gpubroker.sandbox.emulators.base import Refusal, answer

OK = {"message": "ok"}
"""What a deletion answers: the vendor's own library fails on an empty body."""


def message(status: int, text: str) -> Response:
    """`{"message": "…"}`: documented for 401, and taken for all that the document leaves open."""
    return answer({"message": text}, status)


def refusal(status: int, text: str) -> Refusal:
    """The same, to be raised."""
    return Refusal(message(status, text))


def moment(epoch_s: float, *, zone: bool = True) -> str:
    """A time of the vendor: UTC, and not everywhere said to be."""
    at = datetime.fromtimestamp(epoch_s, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%SZ" if zone else "%Y-%m-%dT%H:%M:%S.%f")


def new_instance_id(_: int) -> str:
    """No number tells of another customer's."""
    return f"i-{secrets.randbelow(9 * 10**9) + 10**9}"


def configuration_id(key: str) -> str:
    """The same for the same hardware."""
    number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8])
    return f"c-{number % (9 * 10**9) + 10**9}"
