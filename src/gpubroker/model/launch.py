"""What the user asked for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct

from gpubroker.model.identity import Ref
from gpubroker.model.money import Nanos


class RegistryAuth(Struct, frozen=True):
    """The login to a private image's registry. Its password never stands in a repr."""

    name: str
    """What the user calls it."""
    server: str
    """The registry's host, as in the image's reference: "ghcr.io"."""
    username: str
    password: str

    def __repr__(self) -> str:
        return f"RegistryAuth(name={self.name!r}, server={self.server!r})"


class RegistryLogin(Struct, frozen=True):
    """The same without its password, as it is shown."""

    name: str
    server: str
    username: str
    created_at: datetime


class LaunchSpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that goes onto a machine. Sealed in the store: `env` and scripts hold secrets."""

    image: str | None = None
    """OCI reference. On a VM Docker runs it, and SSH lands inside the container."""
    vm_image: str | None = None
    """The vendor's own OS image."""
    command: str | None = None
    """A shell line that runs at each start, after the startup script; the machine outlives it."""
    startup_script: str = ""
    env: Mapping[str, str] = {}
    ports: tuple[tuple[int, str], ...] = ()
    """(container port, "tcp" | "udp")."""
    ssh_keys: tuple[str, ...] = ()
    """Public keys, one line each; the broker's own is among them."""
    disk_gb: int | None = None
    volumes: tuple[tuple[Ref, str], ...] = ()
    registry_auth: RegistryAuth | None = None
    max_price: Nanos | None = None
    bid: Nanos | None = None
    expires_at: datetime | None
    """None only where the user spelled out "none"."""
    options: Mapping[str, Any] = {}
