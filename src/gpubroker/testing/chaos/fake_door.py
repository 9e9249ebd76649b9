"""A FakeCloud in a process of its own, and the provider through which others rent from it."""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, cast

import msgspec

from gpubroker.model.capabilities import Capabilities
from gpubroker.model.errors import BrokerError, OutcomeUnknown
from gpubroker.model.identity import Ref
from gpubroker.model.terms import State
from gpubroker.providers.base import MUTATIONS, READS
from gpubroker.testing.cloud import FakeCloud
from gpubroker.testing.machines import FakeMachine
from gpubroker.testing.provider import FakeProvider
from gpubroker.testing.switches import Switches

if TYPE_CHECKING:
    from gpubroker.providers.base import Provider
    from gpubroker.testing.chaos.worlds import World
    from gpubroker.testing.clock import ManualClock

_SIZE = struct.Struct("!I")


def asked(door: str, operation: str, arguments: tuple[Any, ...]) -> Any:
    """One call of the cloud behind a socket. Raises what it raises; OutcomeUnknown if it dies."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(door)
        body = pickle.dumps((operation, arguments))
        line.sendall(_SIZE.pack(len(body)) + body)
        (size,) = _SIZE.unpack(_exactly(line, _SIZE.size))
        # Both ends are this test's own processes.
        kind, answer = pickle.loads(_exactly(line, size))  # noqa: S301
    if kind == "ok":
        return answer
    error, arguments, fields = answer
    raised: BrokerError = error.__new__(error, *arguments)
    raised.args = arguments
    vars(raised).update(fields)
    raise raised


def _exactly(line: socket.socket, size: int) -> bytes:
    body = b""
    while len(body) < size:
        more = line.recv(size - len(body))
        if not more:
            raise OutcomeUnknown("the cloud hung up")
        body += more
    return body


def remote(world: World) -> Provider:
    """A provider with exactly the methods that its cloud's switches give it."""
    switches = msgspec.convert(world.switches, Switches, strict=False)
    local = type(FakeProvider(FakeCloud(switches)))

    def method(operation: str) -> Callable[..., Any]:
        async def call(self: _Remote, *arguments: Any) -> Any:
            return asked(self.door, operation, arguments)

        return call

    calls = {name: method(name) for name in READS | MUTATIONS if hasattr(local, name)}
    kind = type("RemoteFake", (_Remote,), {**calls, "capabilities": switches.capabilities()})
    provider: Any = kind(world.door)
    made: Provider = provider
    return made


class _Remote:
    """What is the same for every cloud."""

    name: ClassVar[str] = "fake"
    display_name: ClassVar[str] = "Fake Cloud"
    website: ClassVar[str] = "https://fake.invalid"
    credentials: ClassVar[tuple[str, ...]] = ("FAKE_CLOUD_API_KEY",)
    capabilities: ClassVar[Capabilities]
    account = "default"

    def __init__(self, door: str) -> None:
        self.door = door

    def console_url(self, ref: Ref) -> str | None:
        """None: nobody looks at it."""
        del ref
        return None


class _Doorkeeper:
    def __init__(self, cloud: FakeCloud) -> None:
        self._cloud = cloud
        self._provider = FakeProvider(cloud)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            (size,) = _SIZE.unpack(await reader.readexactly(_SIZE.size))
            operation, arguments = pickle.loads(await reader.readexactly(size))  # noqa: S301
            body = pickle.dumps(await self._answer(operation, arguments))
            writer.write(_SIZE.pack(len(body)) + body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # who asked is dead
        finally:
            writer.close()

    async def _answer(self, operation: str, arguments: tuple[Any, ...]) -> tuple[str, Any]:
        if operation == "truth":
            kept = [one.name for one in self._cloud.resources if one.released_at is None]
            billed = [m.id for m in self._cloud.billed()]
            exist = [m.id for m in self._cloud.machines if m.ended_at is None]
            runs = {State.PENDING, State.RUNNING}
            running = [m.id for m in self._cloud.machines if m.state in runs]
            return "ok", {"billed": billed, "exist": exist, "things": kept, "running": running}
        if operation == "spans":
            return "ok", [_span(machine) for machine in self._cloud.machines]
        if operation == "stock":
            return "ok", list(self._cloud.stock.values())
        try:
            return "ok", await getattr(self._provider, operation)(*arguments)
        except BrokerError as error:
            return "error", (type(error), error.args, vars(error))


def _span(machine: FakeMachine) -> tuple[str, float, float | None]:
    """Attempt, and from when to when something was billed."""
    ends = [span.end for span in machine.spans]
    last = None if None in ends else max(end for end in ends if end is not None).timestamp()
    first = min(span.start for span in machine.spans)
    return machine.attempt or "", first.timestamp(), last


async def serve_fake(world: World, on_ready: Callable[[World], None]) -> None:
    """A FakeCloud in this world's time, behind the world's door, until the process is ended."""
    switches = msgspec.convert(world.switches, Switches, strict=False)
    cloud = FakeCloud(switches, clock=cast("ManualClock", world.clock()))
    server = await asyncio.start_unix_server(_Doorkeeper(cloud), world.door)
    on_ready(world)
    async with server:
        await server.serve_forever()
