"""Machines on loopback: a folder, an SSH server, real processes and published ports each."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import shutil
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from gpubroker.sandbox.filesystem import (
    furnish,
    local_script,
    script_words,
    tell_boot,
    tell_uptime,
)
from gpubroker.sandbox.host import MachineSpec, RunningMachine
from gpubroker.sandbox.published import PublishedPort
from gpubroker.sandbox.shell import (
    Layout,
    end_all,
    environment,
    layout_of,
    login_shell,
    spawn,
)
from gpubroker.sandbox.toolbox import install_tools

if TYPE_CHECKING:
    from gpubroker.sandbox.cloud_init import CloudInit
    from gpubroker.sandbox.ssh_server import SshServer

_SSH_PORT = 22
_RELAYED = ("tcp", "http", "https")
_LOOK_S = 0.5

PowerListener = Callable[[str, str, str], Awaitable[None]]
"""Told (provider, machine id, "off" or "reboot") after a machine did that to itself."""
ExitListener = Callable[[str, str, int], Awaitable[None]]
"""Told (provider, machine id, exit status) after the command of a machine ended by itself.

The machine still runs then: whether it can do without its command is the cloud's affair.
"""


class LoopbackHost:
    """Runs machines on 127.0.0.1 as the user who started it (see `host.MachineHost`).

    Published are the protocols that run over TCP; container port 22 is the SSH server itself.
    """

    def __init__(
        self,
        on_power: PowerListener | None = None,
        on_exit: ExitListener | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.on_power, self.on_exit = on_power, on_exit
        self.clock = clock
        """Sandbox time, which goes by in the machines."""
        self._watching: asyncio.Task[None] | None = None
        self._machines: dict[tuple[str, str], _Machine] = {}
        self._folders: dict[tuple[str, str], Path] = {}
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}

    async def start(self, spec: MachineSpec) -> RunningMachine:
        """Starts what a boot starts; for a machine that runs, admits the keys and returns it."""
        at = (spec.provider, spec.id)
        async with self._lock(at):
            self._folders[at] = spec.folder
            if at in self._machines:
                self._machines[at].admit(spec.keys)
                return self._machines[at].running
            machine = _Machine(spec, self.clock)
            try:
                await machine.start()
            except BaseException:
                await machine.stop()
                raise
            self._machines[at] = machine
            if self._watching is None:
                self._watching = asyncio.create_task(self._watch())
            return machine.running

    async def stop(self, provider: str, machine_id: str) -> None:
        """Ends its sessions and processes; keeps the folder."""
        at = (provider, machine_id)
        async with self._lock(at):
            if machine := self._machines.pop(at, None):
                await machine.stop()

    async def remove(self, provider: str, machine_id: str) -> None:
        """Stops it and deletes the folder, where this host has started it."""
        await self.stop(provider, machine_id)
        if folder := self._folders.pop((provider, machine_id), None):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def admit(self, provider: str, machine_id: str, keys: tuple[str, ...]) -> None:
        """Exactly these keys from now on; open sessions go on."""
        if machine := self._machines.get((provider, machine_id)):
            machine.admit(keys)

    def sessions(self) -> int:
        """Logins open on all machines."""
        return sum(machine.logins() for machine in self._machines.values())

    async def close(self) -> None:
        """Stops all, keeps the folders."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
            self._watching = None
        await asyncio.gather(*(self.stop(*at) for at in tuple(self._machines)))

    async def _watch(self) -> None:
        """Does what `poweroff` and `reboot` asked for inside the machines, and tells of both ends.

        Listeners are called from here, not from the task that saw the end: they stop machines,
        and that ends their tasks.
        """
        while True:
            await asyncio.sleep(_LOOK_S)
            for at, machine in tuple(self._machines.items()):
                machine.tell_uptime()
                word = machine.power_word()
                if word is not None:
                    await self._obey(at, machine, word)
                elif (status := machine.exit_status()) is not None and self.on_exit is not None:
                    await self.on_exit(*at, status)

    async def _obey(self, at: tuple[str, str], machine: _Machine, word: str) -> None:
        await self.stop(*at)
        if word == "reboot":
            await self.start(machine.as_it_ran())
        if self.on_power is not None:
            await self.on_power(*at, word)

    def _lock(self, at: tuple[str, str]) -> asyncio.Lock:
        return self._locks.setdefault(at, asyncio.Lock())


class _Machine:
    """One that runs."""

    running: RunningMachine

    def __init__(self, spec: MachineSpec, clock: Callable[[], float]) -> None:
        self._spec = spec
        self._clock, self._booted_at = clock, clock()
        self._keys = spec.keys
        self._layout = layout_of(spec)
        self._ssh: SshServer | None = None
        self._ports: list[PublishedPort] = []
        self._boot: set[asyncio.Task[object]] = set()
        self._started: set[asyncio.subprocess.Process] = set()
        self._exit_status: int | None = None

    def admit(self, keys: tuple[str, ...]) -> None:
        old, self._keys = self._keys, keys
        if self._spec.keys_in_home:
            _keys_module().keep_lines(self._layout, old, keys)
        elif self._ssh is not None:
            self._ssh.keys = _keys_module().admitted(keys)

    def tell_uptime(self) -> None:
        """Lets time go by in the machine."""
        with contextlib.suppress(OSError):
            tell_uptime(self._layout.root, self._clock() - self._booted_at)

    def power_word(self) -> str | None:
        """What a command in the machine asked for (off, reboot), said once."""
        file = self._layout.etc / "power"
        try:
            word = file.read_text()
        except OSError:
            return None
        file.unlink()
        return word if word in {"off", "reboot"} else None

    def exit_status(self) -> int | None:
        """How the machine's command ended by itself, said once; None while it runs."""
        status, self._exit_status = self._exit_status, None
        return status

    def as_it_ran(self) -> MachineSpec:
        """The spec that brings it back with its ports and present keys."""
        return replace(
            self._spec,
            keys=self._keys,
            ssh_port=self.running.ssh_port,
            published=self.running.published,
        )

    def logins(self) -> int:
        return len(self._ssh.logins) if self._ssh is not None else 0

    async def start(self) -> None:
        module = await asyncio.to_thread(_ssh_module)
        self._layout.make()
        # A sandbox that was killed leaves the processes of its machines behind.
        await end_all(self._layout.root)
        for name in ("power", "power.pending"):
            (self._layout.etc / name).unlink(missing_ok=True)
        furnish(self._layout.root, self._spec)
        tell_boot(self._layout.root, str(uuid.uuid4()))
        self.tell_uptime()
        install_tools(self._spec, self._layout)
        first_boot = await asyncio.to_thread(self._cloud_init)
        keys = () if self._spec.keys_in_home else self._spec.keys
        self._ssh = module.SshServer(self._spec, keys)
        ssh_host, ssh_port = await self._ssh.open(self._spec.ssh_port)
        self.running = RunningMachine(
            ssh_host=ssh_host,
            ssh_port=ssh_port,
            published=await self._publish(ssh_port),
            host_key=module.public_line(self._ssh.host_key),
        )
        if self._spec.docker:
            # What was told to restart with the machine does.
            argv = [str(self._layout.tools / "docker"), "boot"]
            self._run(self._logged("docker", argv, as_root=True))
        if first_boot is not None:
            self._run(first_boot.run(self._as_root))
        if self._spec.startup_script.strip():
            argv = _script_command(self._layout, self._spec.startup_script)
            self._run(self._logged("startup", argv))
        if self._spec.command:
            self._run(self._command(self._spec.command))

    async def stop(self) -> None:
        for port in self._ports:
            await port.close()
        if self._ssh is not None:
            self._started |= self._ssh.processes
            await self._ssh.close()
        await end_all(self._layout.root, self._started)
        for task in self._boot:
            task.cancel()
        await asyncio.gather(*self._boot, return_exceptions=True)

    async def _publish(self, ssh_port: int) -> Mapping[str, int]:
        published: dict[str, int] = {}
        for container_port, protocol in self._spec.ports:
            name = f"{container_port}/{protocol}"
            if container_port == _SSH_PORT:
                published[name] = ssh_port
            elif protocol in _RELAYED and name not in published:
                port = PublishedPort(self._layout.root, container_port)
                self._ports.append(port)
                published[name] = await port.open(self._spec.published.get(name))
        return MappingProxyType(published)

    def _run(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._boot.add(task)
        task.add_done_callback(self._boot.discard)

    def _cloud_init(self) -> CloudInit | None:
        """What its first boot does; None for a machine of a cloud without user data."""
        if not (self._spec.user_data or self._spec.keys_in_home):
            return None
        from gpubroker.sandbox.cloud_init import CloudInit

        boot = CloudInit(self._spec)
        boot.before_login()
        return boot

    async def _as_root(self, log: str, argv: list[str]) -> int:
        return await self._logged(log, argv, as_root=True)

    async def _command(self, text: str) -> None:
        local = local_script(text, self._layout.root, self._spec.user)
        self._exit_status = await self._logged("container", [login_shell(), "-c", local])

    async def _logged(self, name: str, argv: list[str], *, as_root: bool = False) -> int:
        log = self._layout.logs / f"{name}.log"
        descriptor = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        try:
            env = environment(self._spec, of_login=False, as_root=as_root)
            process = await spawn(self._spec, argv, env, streams=descriptor)
        finally:
            os.close(descriptor)
        self._started.add(process)
        status = await process.wait()
        self._started.discard(process)
        return status


def _ssh_module() -> ModuleType:
    return importlib.import_module("gpubroker.sandbox.ssh_server")


def _keys_module() -> ModuleType:
    return importlib.import_module("gpubroker.sandbox.authorized_keys")


def _script_command(layout: Layout, text: str) -> list[str]:
    """How a boot runs the script: by its own first line, else by the login shell."""
    file = layout.etc / "startup"
    local = local_script(text, layout.root, layout.user)
    descriptor = os.open(file, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o700)
    with os.fdopen(descriptor, "w", encoding="utf-8") as output:
        output.write(local)
    return [*(script_words(local) or [login_shell()]), str(file)]
