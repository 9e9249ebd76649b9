"""What a create sends to Vast.ai, every size checked before anything is sent."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from gpubroker.model.errors import Invalid, Unsupported
from gpubroker.model.identity import Attempt
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import NANOS_PER_USD, Nanos, usd
from gpubroker.model.offer import Offer
from gpubroker.model.terms import Market
from gpubroker.providers.vast_ai import facts

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PORTS = range(1, 65536)
_NUMBER = re.compile(r"[1-9][0-9]{0,18}")


def contract(spec: LaunchSpec, offer: Offer, attempt: Attempt) -> dict[str, Any]:
    """The body of a create. Invalid names the field that is out of bounds."""
    disk = spec.disk_gb if spec.disk_gb is not None else facts.DEFAULT_DISK_GB
    _require(disk >= facts.SMALLEST_DISK_GB, "disk_gb", f"at least {facts.SMALLEST_DISK_GB} GB")
    if offer.disk_max_gb is not None:
        _require(disk <= offer.disk_max_gb, "disk_gb", f"at most {offer.disk_max_gb:g} GB here")
    body: dict[str, Any] = {
        "client_id": "me",
        "image": spec.image or facts.DEFAULT_IMAGE,
        "disk": disk,
        "label": attempt.name,
        "runtype": "ssh_direct",
        "env": environment(spec.env, spec.ports),
        "target_state": "running",
        "cancel_unavail": True,
    }
    if onstart := startup(spec):
        body["onstart"] = onstart
    if offer.market is Market.SPOT:
        body["price"] = bid_usd(spec.bid if spec.bid is not None else offer.price.compute)
    if spec.volumes:
        _require(len(spec.volumes) == 1, "volumes", "at most one")
        volume, path = spec.volumes[0]
        body["volume_info"] = {
            "create_new": False,
            "volume_id": number(volume.id, "volumes"),
            "mount_path": path,
        }
    login = spec.options.get("image_login")
    if login:
        body["image_login"] = login
    elif spec.registry_auth:
        error = Unsupported(f"{facts.NAME} has no store of registry logins", provider=facts.NAME)
        error.capability = "registry_auth"
        raise error
    return body


def startup(spec: LaunchSpec) -> str:
    """The shell text run at start: the script, then the command beside the SSH server.

    The vendor's ssh run types replace the image's own command, hence this.
    """
    lines = [spec.startup_script] if spec.startup_script else []
    if spec.command:
        lines.append(f"nohup sh -c {shlex.quote(spec.command)} >/var/log/command.log 2>&1 &")
    text = "\n".join(lines)
    rule = f"at most {facts.LONGEST_STARTUP} characters, the command included"
    _require(len(text) <= facts.LONGEST_STARTUP, "startup_script", rule)
    return text


def environment(env: Mapping[str, str], ports: tuple[tuple[int, str], ...]) -> dict[str, str]:
    """Variables and port mappings in one object, as the vendor takes them."""
    total = 0
    for variable, value in env.items():
        # Any other name would be read as a flag of docker.
        known = _VARIABLE.fullmatch(variable) is not None
        _require(known, "env", "names of letters, digits and underscores")
        size = len(variable) + 1 + len(value)
        total += size
        rule = f"{facts.LONGEST_VARIABLE} characters at most for {variable}"
        _require(size <= facts.LONGEST_VARIABLE, "env", rule)
    _require(total <= facts.ALL_VARIABLES, "env", f"{facts.ALL_VARIABLES} characters in all")
    mappings = {}
    for port, protocol in ports:
        _require(port in _PORTS and protocol in {"tcp", "udp"}, "ports", "1 to 65535, tcp or udp")
        mappings[f"-p {port}:{port}" + ("/udp" if protocol == "udp" else "")] = "1"
    _require(len(mappings) <= facts.MOST_PORTS, "ports", f"at most {facts.MOST_PORTS}")
    return dict(env) | mappings


def bid_usd(price: Nanos) -> float:
    """A bid as the vendor takes it; Invalid where it takes no such bid."""
    inside = facts.LOWEST_BID * NANOS_PER_USD <= price <= facts.HIGHEST_BID * NANOS_PER_USD
    _require(inside, "bid", f"${facts.LOWEST_BID} to ${facts.HIGHEST_BID:g} an hour")
    return usd(price)


def number(text: str, field: str) -> int:
    """An id, which here is always a number: it stands in a path."""
    _require(_NUMBER.fullmatch(text) is not None, field, f"a number, not {text[:40]!r}")
    return int(text)


def _require(holds: bool, field: str, rule: str) -> None:
    if not holds:
        error = Invalid(f"{facts.NAME} takes {field}: {rule}", provider=facts.NAME, code="bounds")
        error.field = field
        raise error
