"""A bench in the sandbox: a real server on loopback, real SSH, time that moves when told to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from gpubroker.model.instance import Instance
from gpubroker.providers.accounts import Account, Wiring, sandbox_accounts
from gpubroker.providers.decorated import decorate
from gpubroker.providers.layers import RateLimit
from gpubroker.providers.limits import Limiter, MemoryLimitBook
from gpubroker.providers.registry import ProviderClass
from gpubroker.sandbox.app import Guest, Sandbox, create_sandbox
from gpubroker.sandbox.faults import Fault
from gpubroker.sandbox.listener import HttpListener
from gpubroker.sandbox.machine import LoopbackHost
from gpubroker.sandbox.published import LOOPBACK, listening
from gpubroker.testing.conformance.bench import Bench, closed

if TYPE_CHECKING:
    from gpubroker.providers.base import Provider
    from gpubroker.sandbox.faults import Kind, Operation

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
DEADLINE_OF = ("whoami", "offers", "find", "get", "list", "create", "terminate")


class SandboxTime:
    """The sandbox's clock as the broker's; whoever sleeps moves it on."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def now(self) -> datetime:
        """Aware UTC."""
        return datetime.fromtimestamp(self.boot_s(), UTC)

    def boot_s(self) -> float:
        """Seconds of the sandbox's own time."""
        return self._sandbox.clock.now()

    async def sleep(self, seconds: float) -> None:
        """Takes no time: all that is due by then happens."""
        self._sandbox.clock.advance(seconds)
        await self._sandbox.settle()


class SandboxBench(Bench):
    """Everything that a check may need. Made by `sandbox_bench`."""

    abilities = frozenset(
        {"machine", "many", "requests", "faults", "wire", "truth", "accounts"},
    )

    def __init__(
        self, provider_class: type[Provider], sandbox: Sandbox, account: Account, folder: Path
    ) -> None:
        super().__init__()
        self.provider_class, self.folder = provider_class, folder
        self.sandbox, self._account = sandbox, account
        self.clock = SandboxTime(sandbox)
        self.secrets = tuple(account.secrets.values())
        self._cloud = sandbox.clouds[provider_class.name]
        self._book = MemoryLimitBook()
        self._provider = self.connect()

    @property
    def provider(self) -> Provider:
        """With the key of the sandbox's own account."""
        return self._provider

    def connect(
        self,
        key: str | None = None,
        *,
        deadline_s: float | None = None,
        base_url: str | None = None,
    ) -> Provider:
        """See `Bench.connect`."""
        secrets: Mapping[str, str] = self._account.secrets
        if key is not None:
            secrets = dict.fromkeys(secrets, key) if key else {}
        account = Account(self.provider_class.name, "default", secrets, "the bench")
        wiring = Wiring(
            base_url or self.sandbox.url(self.provider_class.name),
            True,
            self.clock,
            (self.exchanges.append,),
            dict.fromkeys(DEADLINE_OF, deadline_s) if deadline_s else {},
        )
        bare = cast(ProviderClass, self.provider_class).connect(account, wiring)
        limiter = Limiter(
            bare.capabilities.limits, self._book, self.clock, provider=bare.name, account=key or ""
        )
        return decorate(bare, [RateLimit(limiter, self.clock)], deadlines=_PATIENT)

    def requests(self) -> int:
        """Of all connections."""
        return len(self.sandbox.requests)

    def fail(self, operation: str, kind: str, *, times: int | None = 1) -> None:
        """In the words of the sandbox's faults."""
        fault = Fault(
            id=f"fault-{self._cloud.number('fault')}",
            provider=self.provider_class.name,
            operation=cast("Operation", operation),
            kind=cast("Kind", kind),
            times=times,
        )
        self._cloud.faults.active.append(fault)

    def heal(self) -> None:
        """No fault is left."""
        self._cloud.faults.active.clear()

    def billed(self) -> frozenset[str]:
        """By the emulator's own books."""
        return frozenset(m.id for m in self._cloud.machines.values() if m.billed)

    def charged(self, machine_id: str) -> int:
        """By the emulator's own books."""
        ids = (machine_id, *machine_id.split("/"))
        machine = next(one for one in self._cloud.machines.values() if one.id in ids)
        return machine.ledger.cost(self.sandbox.clock.now())

    def listen_on(self, machine: Instance) -> str:
        """Machines share this computer: nothing of theirs is reached from elsewhere."""
        return machine.ssh.host if machine.ssh else LOOPBACK


_PATIENT: Mapping[str, float] = dict.fromkeys(
    ("whoami", "scopes", "offers", "find", "get", "list", "billing", "balance", "ensure", "create",
     "attach_key", "terminate", "release", "stop", "start", "bid"),
    1e6,
)  # fmt: skip
"""Waiting for a turn costs nothing here."""


@asynccontextmanager
async def sandbox_bench(
    provider_class: type[Provider], folder: Path, *, guest: Guest | None = None
) -> AsyncIterator[SandboxBench]:
    """A sandbox of one cloud in `folder`, and a bench at it, for as long as the block lasts.

    `guest`: the emulator, where it is not one of gpubroker's own.
    """
    name = provider_class.name
    async with AsyncExitStack() as closing:
        bound = listening(0)
        closing.callback(bound.close)
        base_url = f"http://{LOOPBACK}:{bound.getsockname()[1]}"
        host = LoopbackHost()
        sandbox = create_sandbox(
            folder / "sandbox",
            host,
            mode="foreground",
            providers=(name,),
            base_url=base_url,
            wall=NOW.timestamp,
            guests={name: guest} if guest else None,
        )
        host.clock = sandbox.clock.now
        host.on_power, host.on_exit = sandbox.machine_powered, sandbox.machine_exited
        closing.push_async_callback(sandbox.close)
        await sandbox.start()
        listener = HttpListener(sandbox.app)
        await listener.open(bound)
        closing.push_async_callback(listener.close)
        bench = SandboxBench(provider_class, sandbox, _account(provider_class, sandbox), folder)
        closing.push_async_callback(closed, bench.provider)
        yield bench


def _account(provider_class: type[Provider], sandbox: Sandbox) -> Account:
    name = provider_class.name
    if name in sandbox.guests:
        return Account(name, "default", {provider_class.credentials[0]: sandbox.keys[name]})
    index = {name: {"env": sandbox.env(name), "base_url": sandbox.url(name)}}
    return sandbox_accounts(index)[name][0]
