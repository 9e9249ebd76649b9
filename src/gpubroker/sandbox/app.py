"""The sandbox as one ASGI application: emulators below their names, controls below /_sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from email.utils import formatdate
from pathlib import Path
from typing import Literal

from msgspec import Struct
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpubroker.model.clock import boot_seconds
from gpubroker.sandbox.clock import SandboxClock, iso
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators import EMULATORS, load
from gpubroker.sandbox.emulators.base import DROP_CONNECTION, Emulator
from gpubroker.sandbox.host import MachineHost
from gpubroker.sandbox.stock import CloudFacts, shipped_facts, shipped_slots
from gpubroker.sandbox.storage import Storage

Mode = Literal["background", "foreground"]
REQUESTS_KEPT = 1000
CONTROL = "_sandbox"
_LONGEST_NAP_S = 5.0
_CLOCK_GRAIN_S = 0.001

_log = logging.getLogger(__name__)


class LoggedRequest(Struct, kw_only=True):
    """A request that an emulator received. `status` is None where none was answered."""

    provider: str
    method: str
    path: str
    """Below the emulator's base address, without the query: that may hold a key."""
    status: int | None
    time: str


class Guest(Struct, frozen=True):
    """A cloud whose emulator comes from another package."""

    emulator: type[Emulator]
    facts: CloudFacts
    env: Mapping[str, str] = {}
    """As `emulators.Entry.env`."""


class _LazyEmulator:
    """An emulator that is imported with its first request."""

    def __init__(self, sandbox: Sandbox, provider: str) -> None:
        self._sandbox, self._provider = sandbox, provider
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None:
            sandbox, provider = self._sandbox, self._provider
            guest = sandbox.guests.get(provider)
            emulator = guest.emulator if guest else load(provider)
            self._app = emulator(sandbox.clouds[provider], sandbox.url(provider))
        await self._app(scope, receive, send)


class SandboxApp:
    """The outermost layer: sandbox time in every answer, the log, and cut connections."""

    def __init__(self, sandbox: Sandbox, inner: ASGIApp) -> None:
        self._sandbox, self._inner = sandbox, inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        sandbox = self._sandbox
        sandbox.last_activity = boot_seconds()
        status: int | None = None
        arrived = sandbox.clock.now()

        async def dated(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                date = formatdate(sandbox.clock.now(), usegmt=True).encode()
                message["headers"] = [*message.get("headers", ()), (b"date", date)]
            await send(message)

        dropped = False

        def drop() -> None:
            nonlocal dropped
            dropped = True
            _cut(send)

        scope[DROP_CONNECTION] = drop
        provider, _, path = scope["path"].removeprefix("/").partition("/")
        try:
            await self._inner(scope, receive, dated)
        except ClientDisconnect:
            status = None  # whoever asked died in mid-request
        finally:
            if provider in sandbox.clouds:
                sandbox.requests.append(
                    LoggedRequest(
                        provider=provider,
                        method=scope["method"],
                        path=f"/{path}",
                        status=status,
                        time=iso(arrived),
                    )
                )
        if dropped:
            # The server must see the connection end before it finds that nothing was answered.
            for _ in range(3):
                await asyncio.sleep(0)


def _cut(send: Send) -> None:
    """Aborts the connection under an ASGI server that keeps its transport beside `send`.

    Uvicorn's `send` is a method of the request cycle, which holds the transport.
    """
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is None:
        raise RuntimeError("this server does not let a connection be cut")
    transport.abort()


class Sandbox:
    """Every cloud of one state folder. Use `create_sandbox`."""

    def __init__(
        self,
        storage: Storage,
        host: MachineHost,
        *,
        clock: SandboxClock,
        mode: Mode,
        seed: int,
        providers: Sequence[str],
        base_url: str,
        guests: Mapping[str, Guest],
    ) -> None:
        self.id = storage.sandbox_id()
        self.guests = guests
        self.mode = mode
        self.clock = clock
        self.base_url = base_url.rstrip("/")
        self.started_at = clock.now()
        self.last_activity = boot_seconds()
        """Of the last request, on the clock that counts suspend (`model.clock.boot_seconds`)."""
        self.requests: deque[LoggedRequest] = deque(maxlen=REQUESTS_KEPT)
        self.keys = {provider: storage.api_key(provider) for provider in providers}
        self._storage = storage
        self._saved_offset_s = clock.offset_s
        self._host = host
        self._woken = asyncio.Event()
        self._conductor: asyncio.Task[None] | None = None
        self.clouds: dict[str, Cloud] = {}
        for provider in providers:
            guest = guests.get(provider)
            facts = guest.facts if guest else shipped_facts(provider)
            self.clouds[provider] = Cloud(
                provider,
                facts,
                shipped_slots(facts),
                storage=storage,
                clock=clock,
                host=host,
                seed=seed,
                accepted_keys=frozenset({self.keys[provider]}) if mode == "background" else None,
                wake=self._woken.set,
            )
        self.app: ASGIApp = SandboxApp(self, build_app(self))

    def url(self, provider: str) -> str:
        """An emulator's base address."""
        return f"{self.base_url}/{provider}"

    def env(self, provider: str) -> dict[str, str]:
        """Variables that point the vendor's own client here, its key included."""
        fill = {"url": self.url(provider), "key": self.keys[provider]}
        guest = self.guests.get(provider)
        told = guest.env if guest else EMULATORS[provider].env
        return {name: text.format(**fill) for name, text in told.items()}

    def hosts(self) -> Mapping[str, str]:
        """The vendors' real host names, and whose they are: for the proxy."""
        built_in = (name for name in self.clouds if name not in self.guests)
        return {host: name for name in built_in for host in EMULATORS[name].hosts}

    def machines_running(self) -> int:
        """Machines that run or are about to."""
        machines = (m for cloud in self.clouds.values() for m in cloud.machines.values())
        return sum(m.state in ("pending", "running") for m in machines)

    async def start(self) -> None:
        """Gives every running machine its process back; from here on time does its work."""
        for cloud in self.clouds.values():
            await cloud.resume()
        self._conductor = asyncio.create_task(self._conduct())

    async def close(self) -> None:
        """Ends the machines' processes, keeps all state."""
        if self._conductor is not None:
            self._conductor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._conductor
        await self._host.close()
        self.save_clock()
        self._storage.close()

    async def machine_powered(self, provider: str, machine_id: str, word: str) -> None:
        """A machine switched itself "off", or made a "reboot"."""
        cloud = self.clouds[provider]
        machine = cloud.machines.get(machine_id)
        if machine is None:
            return
        if word == "off":
            await cloud.end_from_inside(machine, "it was powered off from inside")
        else:
            await cloud.power_on_again(machine)

    async def machine_exited(self, provider: str, machine_id: str, status: int) -> None:
        """The command of a machine ended by itself."""
        cloud = self.clouds[provider]
        if machine := cloud.machines.get(machine_id):
            await cloud.end_from_inside(machine, f"its command ended with status {status}")

    async def settle(self) -> None:
        """Makes happen what is due by now."""
        for cloud in self.clouds.values():
            await cloud.settle()

    def save_clock(self) -> None:
        """Keeps the offset, where it moved, for the next start."""
        offset_s = self.clock.offset_s
        if abs(offset_s - self._saved_offset_s) > _CLOCK_GRAIN_S:
            self._saved_offset_s = offset_s
            self._storage.put("sandbox", "", "offset_s", offset_s)
            self._storage.commit()

    def status(self) -> dict[str, object]:
        """Who and where this is."""
        from importlib.metadata import version

        return {
            "id": self.id,
            "version": version("gpubroker"),
            "pid": os.getpid(),
            "now": iso(self.clock.now()),
            "started_at": iso(self.started_at),
            "mode": self.mode,
        }

    async def _conduct(self) -> None:
        while True:
            self._woken.clear()
            try:
                await self.settle()
                self.save_clock()
            except Exception:  # noqa: BLE001 - told with its trace, and tried again
                # One cloud's trouble must not stop time for all.
                _log.exception("the sandbox could not do what was due")
                await asyncio.sleep(1)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), self._nap_s())

    def _nap_s(self) -> float:
        dues = [due for cloud in self.clouds.values() if (due := cloud.next_due()) is not None]
        if not dues:
            return _LONGEST_NAP_S
        wait = self.clock.real_seconds(min(dues) - self.clock.now())
        return min(max(wait, 0.0) + 0.001, _LONGEST_NAP_S)


def build_app(sandbox: Sandbox) -> Starlette:
    """The routes: `/<provider>` for each emulator and the controls."""
    from gpubroker.sandbox.control import routes

    mounts = [Mount(f"/{name}", app=_LazyEmulator(sandbox, name)) for name in sandbox.clouds]
    return Starlette(routes=[Mount(f"/{CONTROL}", routes=routes(sandbox)), *mounts])


def create_sandbox(
    folder: Path,
    host: MachineHost,
    *,
    mode: Mode,
    speed: float = 1.0,
    seed: int = 0,
    providers: Sequence[str] | None = None,
    base_url: str,
    wall: Callable[[], float] | None = None,
    guests: Mapping[str, Guest] | None = None,
) -> Sandbox:
    """A sandbox on a state folder (made where it is missing, private to the user).

    `providers` None = every emulator. Raises ValueError for an unknown provider. `wall` replaces
    the wall clock in tests. `guests`: provider -> a cloud that is not among ours.
    """
    guests = guests or {}
    chosen = tuple(EMULATORS) if providers is None else tuple(providers)
    if unknown := sorted(set(chosen) - set(EMULATORS) - set(guests)):
        raise ValueError(f"no emulator for {', '.join(unknown)}; there are {', '.join(EMULATORS)}")
    storage = Storage(folder)
    offset_s = storage.get("sandbox", "", "offset_s", float) or 0.0
    clock = (
        SandboxClock(offset_s=offset_s, speed=speed)
        if wall is None
        else SandboxClock(offset_s=offset_s, speed=speed, wall=wall)
    )
    return Sandbox(
        storage,
        host,
        clock=clock,
        mode=mode,
        seed=seed,
        providers=chosen,
        base_url=base_url,
        guests=guests,
    )
