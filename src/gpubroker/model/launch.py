"""What the user asked for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct

from gpubroker.model.identity import Ref
from gpubroker.model.money import Nanos


class LaunchSpec(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that goes onto a machine. Sealed in the store: `env` and scripts hold secrets."""

    image: str | None = None
    """OCI reference."""
    vm_image: str | None = None
    """The vendor's own OS image."""
    command: str | None = None
    startup_script: str = ""
    env: Mapping[str, str] = {}
    ports: tuple[tuple[int, str], ...] = ()
    """(container port, "tcp" | "udp")."""
    ssh_keys: tuple[str, ...] = ()
    """Public keys, one line each; the broker's own is among them."""
    disk_gb: int | None = None
    volumes: tuple[tuple[Ref, str], ...] = ()
    registry_auth: str | None = None
    """Name of a stored registry credential."""
    max_price: Nanos | None = None
    bid: Nanos | None = None
    expires_at: datetime | None
    """None only where the user spelled out "none"."""
    options: Mapping[str, Any] = {}
