"""Clouds that outlive the processes that rent from them, and the truth about what they bill."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from starlette.types import ASGIApp, Receive, Scope, Send

from gpubroker.model.clock import Clock
from gpubroker.model.terms import State
from gpubroker.realm import Door, Realm, control
from gpubroker.sandbox.app import Sandbox, create_sandbox
from gpubroker.sandbox.host import MachineSpec, RunningMachine
from gpubroker.sandbox.listener import HttpListener
from gpubroker.sandbox.published import LOOPBACK, listening
from gpubroker.testing.chaos.fake_door import asked
from gpubroker.testing.chaos.times import FastClock, SharedClock

RUNS = frozenset({State.PENDING, State.RUNNING})


class World(Struct, frozen=True, kw_only=True):
    """Where one cloud is, as a process needs it that is to rent there. JSON."""

    provider: str
    """A cloud of the sandbox, or "fake"."""
    time: str
    """The file of a SharedClock; "" for a FastClock."""
    url: str = ""
    id: str = ""
    doors: Mapping[str, tuple[str, Mapping[str, str]]] = {}
    door: str = ""
    """The socket of a FakeCloud's process."""
    switches: Mapping[str, Any] = {}
    zero: float = 0.0
    speed: float = 1.0

    def clock(self) -> Clock:
        """The world's time."""
        return SharedClock(Path(self.time)) if self.time else FastClock(self.zero, self.speed)

    def realm(self, clock: Clock) -> Realm:
        """Of a sandbox."""
        doors = {name: Door(url, env) for name, (url, env) in self.doors.items()}
        return Realm(f"sandbox:{self.id}", clock, doors)


class Truth(Struct, frozen=True):
    """What a cloud's own books say."""

    billed: tuple[str, ...]
    """Ids of machines that cost something now."""
    exist: tuple[str, ...] = ()
    """Ids of machines that have not ended: some clouds bill from the end of the boot."""
    things: tuple[str, ...] = ()
    """Names of what else is kept there."""
    running: tuple[str, ...] = ()
    """Ids of machines that run, or are about to."""


def truth(world: World) -> Truth:
    """Asks the cloud's process."""
    if world.door:
        return msgspec.convert(asked(world.door, "truth", ()), Truth)
    machines = control(world.url, "/_sandbox/machines")
    things = control(world.url, "/_sandbox/resources")
    return Truth(
        tuple(m["provider_id"] for m in machines if m["billed"] and _of(world, m)),
        tuple(m["provider_id"] for m in machines if not m["ended_at"] and _of(world, m)),
        tuple(str(t["name"]) for t in things if not t["ended_at"] and _of(world, t)),
        tuple(m["provider_id"] for m in machines if m["state"] in RUNS and _of(world, m)),
    )


def books(sandbox: Sandbox) -> Truth:
    """The same, of a sandbox in this process."""
    clouds = sandbox.clouds.values()
    return Truth(
        tuple(m.id for cloud in clouds for m in cloud.machines.values() if m.billed),
        tuple(m.id for cloud in clouds for m in cloud.machines.values() if not m.ended),
        tuple(t.name for cloud in clouds for t in cloud.things.values() if t.ended_at is None),
        tuple(m.id for cloud in clouds for m in cloud.machines.values() if m.state in RUNS),
    )


def _of(world: World, row: Mapping[str, Any]) -> bool:
    return bool(row["provider"] == world.provider)


class QuietHost:
    """A MachineHost whose machines are only said to run: nothing logs in to them here."""

    def __init__(self) -> None:
        self._port = 40_000

    async def start(self, spec: MachineSpec) -> RunningMachine:
        """Runs nothing."""
        self._port += 1
        return RunningMachine(
            ssh_host=spec.address or LOOPBACK,
            ssh_port=spec.ssh_port or self._port,
            published={f"{port}/{protocol}": self._port for port, protocol in spec.ports},
            host_key=f"ssh-ed25519 AAAA {spec.id}",
        )

    async def stop(self, provider: str, machine_id: str) -> None:
        """Nothing runs."""

    async def remove(self, provider: str, machine_id: str) -> None:
        """Nothing is kept."""

    async def admit(self, provider: str, machine_id: str, keys: tuple[str, ...]) -> None:
        """Nobody comes in."""

    def sessions(self) -> int:
        """None ever."""
        return 0

    async def close(self) -> None:
        """Nothing runs."""


class _SettledFirst:
    """All that is due by the shared clock happens before a request is answered."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._sandbox.settle()
        app: ASGIApp = self._sandbox.app
        await app(scope, receive, send)


@asynccontextmanager
async def sandbox_world(
    folder: Path, provider: str, *, zero: float = 0.0, speed: float = 0.0
) -> AsyncIterator[tuple[World, Sandbox]]:
    """A sandbox of one cloud, served from this loop; its time is `folder/time`, or a FastClock."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    file = "" if speed else str(folder / "time")
    clock = World(provider=provider, time=file, zero=zero, speed=speed).clock()
    bound = listening(0)
    base_url = f"http://{LOOPBACK}:{bound.getsockname()[1]}"
    sandbox = create_sandbox(
        folder / "sandbox",
        QuietHost(),
        mode="foreground",
        providers=(provider,),
        base_url=base_url,
        wall=lambda: clock.now().timestamp(),
    )
    await sandbox.start()
    listener = HttpListener(_SettledFirst(sandbox))
    await listener.open(bound)
    try:
        yield (
            World(
                provider=provider,
                time=file,
                zero=zero,
                speed=speed,
                url=base_url,
                id=sandbox.id,
                doors={provider: (sandbox.url(provider), sandbox.env(provider))},
            ),
            sandbox,
        )
    finally:
        await listener.close()
        bound.close()
        await sandbox.close()


async def _serve(folder: Path, settings: Mapping[str, Any]) -> None:
    zero, speed = settings["zero"], settings["speed"]
    if settings["provider"] == "fake":
        from gpubroker.testing.chaos.fake_door import serve_fake

        world = World(
            provider="fake",
            time="" if speed else str(folder / "time"),
            door=str(folder / "door"),
            switches=settings["switches"],
            zero=zero,
            speed=speed,
        )
        await serve_fake(world, _said)
        return
    async with sandbox_world(folder, settings["provider"], zero=zero, speed=speed) as (world, _):
        _said(world)
        await asyncio.Event().wait()


def _said(world: World) -> None:
    sys.stdout.write(msgspec.json.encode(world).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), json.loads(sys.argv[2])))
