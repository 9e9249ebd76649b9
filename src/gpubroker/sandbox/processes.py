"""The processes behind a cloud's machines: started, stopped and removed as the books say."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from pathlib import Path

from gpubroker.model.terms import State
from gpubroker.sandbox.host import MachineHost, MachineSpec
from gpubroker.sandbox.rented import Machine
from gpubroker.sandbox.stock import CloudFacts, Slot

CLOSED_PORT = 1
_FIRST, _BLOCKS, _PER_BLOCK = 64, 64, 254 * 254
"""Where a machine with refused SSH is said to answer: nothing listens there."""


def own_address(provider: str, machine_id: str) -> str:
    """A loopback address that stays the machine's, and is most likely no other's."""
    digest = hashlib.sha256(f"{provider}/{machine_id}".encode()).digest()
    number = int.from_bytes(digest[:8])
    block, place = number % _BLOCKS, number // _BLOCKS % _PER_BLOCK
    return f"127.{_FIRST + block}.{place // 254 + 1}.{place % 254 + 1}"


class Processes:
    """One cloud's. Calls for the same machine wait for each other."""

    def __init__(self, provider: str, host: MachineHost, folder: Path, facts: CloudFacts) -> None:
        self._provider = provider
        self._host = host
        self._folder = folder
        self._gpus = {gpu.name: gpu for gpu in facts.gpus}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def folder(self, machine: Machine) -> Path:
        """The machine's private folder; there as long as the machine is."""
        return self._folder / self._provider / machine.id

    async def align(self, machine: Machine, slot: Slot) -> None:
        """Runs it, stops it or removes it, as its state is when its turn comes.

        A machine that runs then knows its ports and host key. Raises OSError where it cannot run.
        """
        async with self._locks[machine.id]:
            if machine.state == State.RUNNING:
                await self._run(machine, slot)
            elif machine.ended:
                await self._host.remove(self._provider, machine.id)
            else:
                await self._host.stop(self._provider, machine.id)

    async def halt(self, machine: Machine) -> None:
        """Before it boots again; `machine.wipe` empties its folder, once."""
        async with self._locks[machine.id]:
            if machine.wipe:
                await self._host.remove(self._provider, machine.id)
                machine.wipe = False
            else:
                await self._host.stop(self._provider, machine.id)

    async def admit(self, machine: Machine) -> None:
        """Lets in exactly the machine's keys from now on; one that is starting gets them then."""
        async with self._locks[machine.id]:
            await self._host.admit(self._provider, machine.id, machine.keys)

    async def _run(self, machine: Machine, slot: Slot) -> None:
        where = await self._host.start(self._spec(machine, slot))
        machine.ssh_port, machine.ssh_host = where.ssh_port, where.ssh_host
        machine.address = own_address(self._provider, machine.id)
        if "ssh_refused" in machine.trouble:
            machine.ssh_port = CLOSED_PORT
            machine.address = own_address(self._provider, f"{machine.id}/nobody")
        machine.published, machine.host_key = dict(where.published), where.host_key

    def _spec(self, machine: Machine, slot: Slot) -> MachineSpec:
        order, gpu = machine.order, self._gpus[machine.gpu]
        on_its_own = order.is_vm and order.own_address
        return MachineSpec(
            provider=self._provider,
            id=machine.id,
            folder=self.folder(machine),
            hostname=order.hostname or order.name or machine.id,
            user=order.user,
            keys=machine.keys,
            env=order.env,
            env_in_ssh=order.env_in_ssh,
            image=order.image,
            startup_script=order.startup_script,
            user_data=order.user_data,
            docker=order.is_vm,
            keys_in_home=order.is_vm,
            address=own_address(self._provider, machine.id) if on_its_own else "",
            command=order.command,
            programs=order.programs,
            ports=order.ports,
            gpu_vendor=gpu.vendor,
            gpu_tool_name=gpu.tool_name,
            gpu_count=slot.gpu_count,
            gpu_memory_mib=gpu.memory_mib,
            driver_version=slot.driver_version,
            cuda_version=slot.cuda_version,
            vcpus=order.vcpus or max(1, int(slot.vcpus)),
            ram_mb=order.ram_mb or slot.ram_mb,
            disk_gb=int(order.disk_gb),
            ssh_port=None if machine.ssh_port == CLOSED_PORT else machine.ssh_port,
            published=machine.published,
        )
