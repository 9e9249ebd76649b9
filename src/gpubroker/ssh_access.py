"""How this computer gets onto the machines of a realm: keys, ssh configuration, the first look.

Light to import: everything behind it is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpubroker.fleet.context import Probe, Probed
    from gpubroker.model.home import Home
    from gpubroker.model.instance import Endpoint
    from gpubroker.model.machine import Machine
    from gpubroker.model.offer import Offer
    from gpubroker.remote.keys import BrokerKey


class SshAccess:
    """The ssh folder of one realm, and the user's own ssh as far as we go into it."""

    def __init__(
        self, home: Home, realm: str, owner: Callable[[], str], environ: Mapping[str, str]
    ) -> None:
        self._home = home
        self._owner = owner
        self._environ = environ
        self.folder = home.ssh / realm.replace(":", "-")
        """Configuration, broker key and known hosts."""

    def key(self) -> BrokerKey:
        """The store's own key, made at first use."""
        from gpubroker.remote.keys import broker_key

        return broker_key(self.folder, self._owner())

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

        from gpubroker.config import load
        from gpubroker.remote.ssh_config import config_path, include_in_user_config

        user_home = self._environ.get("HOME")
        if not user_home or not load(self._home.config).ssh.include:
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
        from gpubroker.remote.acceptance import acceptance

        try:
            found = await ssh.probe(endpoint, self.key().private_path, self.folder, alias)
        except ValueError as error:
            return Probed(answers=True, detail=str(error), problems=(str(error),))
        if found.problem == "host_key_changed":
            return Probed(answers=True, detail=found.detail, problems=("its host key changed",))
        if found.problem:
            return Probed(answers=False, detail=found.detail or found.problem)
        if not found.gpus:
            return Probed(answers=True, detail="SSH answers; the image has no nvidia-smi")
        first = found.gpus[0]
        memory = f" {first.memory_mib / 1024:.0f} GB" if first.memory_mib else ""
        detail = f"GPU checked: {len(found.gpus)}x {first.name}{memory}, driver {first.driver}"
        return Probed(answers=True, detail=detail, problems=acceptance(offer, found.gpus))
