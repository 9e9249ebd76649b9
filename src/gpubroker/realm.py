"""Live or sandbox: where credentials, addresses and the time come from. The two never mix."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from gpubroker.model.clock import Clock, SystemClock, boot_seconds
from gpubroker.model.errors import Invalid, Unavailable

CONTROL_DEADLINE_S = 5.0
LOOK_S = 2.0
"""Whoever waits longer looks so often whether the sandbox's clock was moved."""
CLOSE_ENOUGH_S = 0.05
LIVE = "live"


class Door(Struct, frozen=True):
    """How one provider is reached in a sandbox. `env` holds its test key."""

    base_url: str
    env: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Door({self.base_url!r}, env=***)"


class Realm(Struct, frozen=True):
    """The world that a broker acts in."""

    name: str
    """"live" or "sandbox:<id>"."""
    clock: Clock
    doors: Mapping[str, Door] | None = None
    """None in the live realm."""

    @property
    def is_sandbox(self) -> bool:
        """Whether every host but loopback is refused."""
        return self.doors is not None


class _Time(Struct):
    now: datetime
    offset_s: float
    speed: float = 1.0


class SandboxClock:
    """The sandbox's time, read again after every wait and extrapolated in between."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._read()

    def now(self) -> datetime:
        """Aware UTC."""
        passed = (time.monotonic() - self._read_at) * self._time.speed
        return self._time.now.astimezone(UTC) + timedelta(seconds=passed)

    def boot_s(self) -> float:
        """Real seconds since boot: leases and deadlines of calls are real."""
        return boot_seconds()

    async def sleep(self, seconds: float) -> None:
        """So long on this clock: shorter in reality where it runs faster, or is moved on."""
        import asyncio

        end = self.now() + timedelta(seconds=seconds)
        left_s = seconds
        while True:
            await asyncio.sleep(max(0.0, min(left_s / max(self._time.speed, 1.0), LOOK_S)))
            # While the sandbox restarts its time goes on as extrapolated.
            with contextlib.suppress(Unavailable):
                await asyncio.to_thread(self._read)
            left_s = (end - self.now()).total_seconds()
            if left_s <= CLOSE_ENOUGH_S:
                return

    def _read(self) -> None:
        answer = control(self._base_url, "/_sandbox/clock")
        self._time = msgspec.convert(answer, type=_Time, strict=False)
        self._read_at = time.monotonic()


def live() -> Realm:
    """The real clouds."""
    return Realm(LIVE, SystemClock())


def sandbox(base_url: str) -> Realm:
    """The sandbox at this address. Raises Invalid off loopback, Unavailable where none answers."""
    base_url = base_url.rstrip("/")
    host = urlsplit(base_url).hostname
    if host not in {"127.0.0.1", "localhost", "::1"}:
        raise Invalid(f"a sandbox lives on loopback, not at {base_url}")
    status = control(base_url, "/_sandbox/status")
    index = control(base_url, "/_sandbox/providers")
    doors = {name: Door(entry["base_url"], entry["env"]) for name, entry in index.items()}
    return Realm(f"sandbox:{status['id']}", SandboxClock(base_url), doors)


def control(base_url: str, path: str) -> Any:
    """GET a document of the sandbox's control API."""
    import json
    from http.client import HTTPConnection, HTTPException

    parts = urlsplit(base_url)
    connection = HTTPConnection(parts.hostname or "", parts.port or 80, timeout=CONTROL_DEADLINE_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, HTTPException) as error:
        raise Unavailable(
            f"no sandbox answers at {base_url} ({error}). Start one: gpubroker sandbox"
        ) from error
    finally:
        connection.close()
    if answer.status != 200:  # noqa: PLR2004 - OK
        raise Unavailable(f"the sandbox at {base_url} answers {path} with {answer.status}")
    return json.loads(body)
