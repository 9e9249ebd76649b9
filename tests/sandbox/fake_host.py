"""A machine host that runs nothing and remembers what it was asked for."""

from __future__ import annotations

import asyncio

from gpubroker.sandbox.host import MachineSpec, RunningMachine


class FakeHost:
    """Implements `MachineHost`."""

    def __init__(self) -> None:
        self.running: dict[str, MachineSpec] = {}
        self.calls: list[tuple[str, str]] = []
        self.admitted: dict[str, tuple[str, ...]] = {}
        self.broken = False
        self.may_start = asyncio.Event()
        self.may_start.set()
        self._next_port = 41_000

    def _port(self, former: int | None) -> int:
        if former is not None:
            return former
        self._next_port += 1
        return self._next_port

    async def start(self, spec: MachineSpec) -> RunningMachine:
        self.calls.append(("start", spec.id))
        if self.broken:
            raise OSError("no process can be made")
        await self.may_start.wait()
        self.running[spec.id] = spec
        self.admitted[spec.id] = spec.keys
        wanted = [f"{port}/{protocol}" for port, protocol in spec.ports]
        return RunningMachine(
            ssh_port=self._port(spec.ssh_port),
            published={name: self._port(spec.published.get(name)) for name in wanted},
            host_key=f"ssh-ed25519 AAAA {spec.id}",
        )

    async def stop(self, provider: str, machine_id: str) -> None:
        self.calls.append(("stop", machine_id))
        self.running.pop(machine_id, None)

    async def remove(self, provider: str, machine_id: str) -> None:
        self.calls.append(("remove", machine_id))
        self.running.pop(machine_id, None)

    async def admit(self, provider: str, machine_id: str, keys: tuple[str, ...]) -> None:
        # As the real one: a machine that does not run yet has nobody to let in.
        if machine_id in self.running:
            self.admitted[machine_id] = keys

    def sessions(self) -> int:
        return 0

    async def close(self) -> None:
        self.running.clear()
