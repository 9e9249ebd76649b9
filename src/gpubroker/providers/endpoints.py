"""Where a machine is reached: `Instance.ports` and `Instance.ssh` from what a vendor tells."""

from __future__ import annotations

from collections.abc import Mapping

from gpubroker.model.instance import Endpoint

SSH = "22/tcp"
"""The SSH server's port as a key of `Instance.ports`, where it does not stand itself."""


def at(address: str | None, port: object) -> str:
    """`203.0.113.7:8888`, `[2001:db8::7]:8888`; "" where no address is told."""
    host = (address or "").strip()
    return f"{f'[{host}]' if ':' in host else host}:{port}" if host else ""


def ssh_of(ports: Mapping[str, str], user: str = "root") -> Endpoint | None:
    """Where the container's own port 22 is published, None where it is not."""
    host, _, port = ports.get(SSH, "").rpartition(":")
    if not host or not port.isdecimal():
        return None
    return Endpoint(host=host.strip("[]"), port=int(port), user=user)


def without_ssh(ports: Mapping[str, str]) -> dict[str, str]:
    """All ports but the SSH server's."""
    return {inside: outside for inside, outside in ports.items() if inside != SSH}
