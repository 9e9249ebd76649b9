"""What the clouds need of the thing that runs machines: the seam to the SSH servers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

from msgspec import Struct


class MachineSpec(Struct, frozen=True, kw_only=True):
    """A machine to run on loopback."""

    provider: str
    id: str
    folder: Path
    """Private; holds the machine's home, host key and logs; survives stop and sandbox restarts."""
    hostname: str
    user: str = "root"
    """The login name that the vendor reports."""
    keys: tuple[str, ...] = ()
    """Public keys admitted, one line each: exactly these, and those of `authorized_keys`."""
    keys_in_home: bool = False
    """A VM: at its first boot `keys` become lines of the login user's `authorized_keys`, and that
    file alone says who comes in."""
    env: Mapping[str, str] = {}
    env_in_ssh: bool = True
    """Whether SSH sessions see `env` (Vast.ai: only the container's own processes do)."""
    image: str = ""
    startup_script: str = ""
    """Runs at every boot, as a container's does."""
    user_data: bytes = b""
    """Read and run as cloud-init does: as root, once in the machine's life."""
    command: str | None = None
    programs: Mapping[str, str] = {}
    """What the image brings: absolute path -> text, put there at each boot."""
    ports: tuple[tuple[int, str], ...] = ()
    """(container port, protocol) to publish."""
    docker: bool = False
    """A VM with docker on it: `docker run` runs commands in the machine's folder."""
    gpu_vendor: Literal["nvidia", "amd", "google", "aws", "intel"] = "nvidia"
    gpu_tool_name: str = ""
    """As the vendor's tool prints it: "NVIDIA GeForce RTX 4090"."""
    gpu_count: int = 1
    gpu_memory_mib: int = 0
    driver_version: str = "570.133.20"
    cuda_version: str = "12.8"
    vcpus: int = 1
    ram_mb: int = 0
    disk_gb: int = 10
    address: str = ""
    """A loopback address of its own, for vendors that report no port: SSH is on 22 there."""
    ssh_port: int | None = None
    """The port of its former life, taken again where it is free."""
    published: Mapping[str, int] = {}
    """"8888/tcp" -> its former host port, likewise."""


class RunningMachine(Struct, frozen=True, kw_only=True):
    """Where it answers, always on loopback."""

    ssh_host: str = "127.0.0.1"
    """The machine's own address where it can be had: not on every system can it."""
    ssh_port: int
    published: Mapping[str, int]
    host_key: str
    """Public host key line, the same for the machine's whole life."""


class MachineHost(Protocol):
    """Runs machines. Every method is idempotent."""

    async def start(self, spec: MachineSpec) -> RunningMachine:
        """Starts SSH server, startup script and command, as at a boot of the host."""
        ...

    async def stop(self, provider: str, machine_id: str) -> None:
        """Ends its sessions and processes; keeps the folder."""
        ...

    async def remove(self, provider: str, machine_id: str) -> None:
        """Stop, and delete the folder."""
        ...

    async def admit(self, provider: str, machine_id: str, keys: tuple[str, ...]) -> None:
        """Exactly these keys from now on."""
        ...

    def sessions(self) -> int:
        """SSH sessions open on all machines."""
        ...

    async def close(self) -> None:
        """Stops all, keeps the folders."""
        ...
