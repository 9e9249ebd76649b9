"""How this computer gets onto the machines of a realm: keys, ssh configuration, the first look.

Light to import: everything behind it is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpubroker.fleet.context import BootOver, IdleAt, Probe, Probed, TimerAt
    from gpubroker.model.home import Home
    from gpubroker.model.instance import Endpoint
    from gpubroker.model.machine import Machine
    from gpubroker.model.offer import Offer
    from gpubroker.remote.keys import BrokerKey
    from gpubroker.remote.ssh import Ran

_LONGEST_WORDS = 300


class SshAccess:
    """The ssh folder of one realm, and the user's own ssh as far as we go into it."""

    def __init__(
        self,
        home: Home,
        realm: str,
        owner: Callable[[], str],
        environ: Mapping[str, str],
        agree: Callable[[bytes], bytes],
    ) -> None:
        self._home = home
        self._owner = owner
        self._environ = environ
        self._agree = agree
        self.folder = home.ssh / realm.replace(":", "-")
        """Configuration, broker key and known hosts."""

    def key(self) -> BrokerKey:
        """The store's own key, made at first use."""
        from gpubroker.remote.keys import broker_key

        return broker_key(self.folder, self._owner(), self._agree)

    def forget_host(self, alias: str) -> None:
        """The machine is gone: its pinned host key goes too."""
        from gpubroker.remote.known_hosts import forget_host

        forget_host(self.folder, alias)

    def write_config(self, machines: Iterable[Machine]) -> dict[str, str]:
        """An entry for each machine that can be logged in to, for ssh, scp, rsync and editors.

        Answer: name -> why its endpoint was refused. What a provider tells may be hostile.
        """
        from gpubroker.remote.ssh_config import HostEntry, write_config, write_index

        entries: list[HostEntry] = []
        refused: dict[str, str] = {}
        for machine in machines:
            if machine.ssh is None or machine.ssh.via != "ssh":
                continue
            identity = self.key().private_path
            try:
                entry = HostEntry(
                    name=machine.name,
                    alias=machine.host_key_alias,
                    endpoint=machine.ssh,
                    identity=identity,
                )
            except ValueError as error:
                refused[machine.name] = str(error)
            else:
                entries.append(entry)
        write_index(self._home.ssh, write_config(self.folder, entries))
        return refused

    def include_in_users(self) -> dict[str, str] | None:
        """So that plain `ssh gb-NAME` finds our entries.

        Answer: what was done, or what stands in its way (`why`); None where nothing was to do.
        """
        from pathlib import Path

        from gpubroker.remote.ssh_config import config_path, include_in_user_config

        user_home = self._environ.get("HOME")
        if not user_home:
            return None
        ours = config_path(self._home.ssh)
        try:
            changed = include_in_user_config(Path(user_home) / ".ssh", ours)
        except (OSError, ValueError) as error:
            return {"path": str(ours), "why": str(error)}
        return {"path": str(ours), "why": ""} if changed else None

    def probe(self) -> Probe | None:
        """The look that a new machine must pass; None where there is no ssh to look with."""
        from shutil import which

        return self._look if which("ssh") else None

    async def _look(self, endpoint: Endpoint, alias: str, offer: Offer) -> Probed:
        from gpubroker.fleet.context import Probed
        from gpubroker.remote import ssh
        from gpubroker.remote.acceptance import differing, no_driver

        try:
            found = await ssh.probe(endpoint, self.key().private_path, self.folder, alias)
        except ValueError as error:
            return Probed(answers=True, detail=str(error), problems=(str(error),))
        if found.problem:
            grave = {"host_key_changed": "its host key changed", "no_container": found.detail}
            return Probed(
                answers=found.problem in {*grave, "not_ready"},
                detail=found.detail or found.problem,
                problems=(grave[found.problem],) if found.problem in grave else (),
                waits=found.detail if found.problem == "not_ready" else "",
            )
        if not found.gpus:
            return Probed(
                answers=True,
                detail="SSH answers; the image has no nvidia-smi",
                differs=no_driver(offer, found.smi_code),
                disk_gb=found.disk_gb,
                in_container=found.in_container,
            )
        first = found.gpus[0]
        memory = f" {first.memory_mib / 1024:.0f} GB" if first.memory_mib else ""
        detail = f"GPU checked: {len(found.gpus)}x {first.name}{memory}, driver {first.driver}"
        differs = differing(offer, found.gpus)
        return Probed(
            answers=True,
            detail=detail,
            differs=differs,
            disk_gb=found.disk_gb,
            in_container=found.in_container,
        )

    def timer_at(self) -> TimerAt | None:
        """How a machine's own timer is read and moved; None where there is no ssh."""
        from shutil import which

        return self._timer if which("ssh") else None

    def idle_at(self) -> IdleAt | None:
        """How it is found out whether a machine works; None where there is no ssh."""
        from shutil import which

        return self._idle if which("ssh") else None

    def run_boot(self) -> BootOver | None:
        """How a script is run on a machine that is being started; None where there is no ssh."""
        from shutil import which

        return self._boot if which("ssh") else None

    async def _boot(self, endpoint: Endpoint, alias: str, script: str) -> tuple[int, str]:
        ran = await self._ran(endpoint, alias, script)
        words = ran.stderr.strip().splitlines()
        return ran.code or 0, words[-1][:_LONGEST_WORDS] if words else ""

    async def _timer(self, endpoint: Endpoint, alias: str, seconds: float | None) -> float | None:
        from gpubroker.model.errors import Unavailable
        from gpubroker.providers.boot import rearmed, timer_told

        try:
            return timer_told(await self._told(endpoint, alias, rearmed(seconds)))
        except ValueError as error:
            raise Unavailable(str(error)) from error

    async def _idle(self, endpoint: Endpoint, alias: str) -> str:
        from gpubroker.remote.idle import SCRIPT, judged

        return judged(await self._told(endpoint, alias, SCRIPT))

    async def _told(self, endpoint: Endpoint, alias: str, script: str) -> str:
        """What a script prints on the machine itself, not in a container on it."""
        return (await self._ran(endpoint, alias, script)).stdout

    async def _ran(self, endpoint: Endpoint, alias: str, script: str) -> Ran:
        from gpubroker.model.entrance import HOST_MARKER
        from gpubroker.model.errors import Unavailable
        from gpubroker.remote import ssh

        key, command = self.key().private_path, f"{HOST_MARKER} sh"
        try:
            ran = await ssh.run_script(endpoint, key, self.folder, alias, script, command=command)
        except ValueError as error:
            raise Unavailable(str(error)) from error
        if ran.code in {None, ssh.SSH_FAILED}:
            raise Unavailable(f"the machine does not answer over SSH ({ran.stderr.strip()[-200:]})")
        return ran


def refuse_without_login(machine: Machine) -> None:
    """Unsupported where its cloud has no SSH, naming what works instead."""
    from gpubroker.catalog.clouds import way_in
    from gpubroker.model.errors import Unsupported

    if other := way_in(machine.provider, machine.provider_id):
        reached = "".join(f". Port {key}: {at}" for key, at in machine.ports.items())
        raise Unsupported(f"{machine.name}: {other}{reached}", provider=machine.provider)
