"""What an order and a resume at Jarvis Labs have in common, and how it is checked."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from msgspec import Meta, Struct

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call
from gpubroker.sandbox.emulators.fastapi_words import unprocessable
from gpubroker.sandbox.emulators.jarvislabs.catalog import VM
from gpubroker.sandbox.emulators.jarvislabs.instances import IDE_PORT
from gpubroker.sandbox.emulators.jarvislabs.registries import FILESYSTEM, KEY, SCRIPT
from gpubroker.sandbox.emulators.jarvislabs.words import (
    EUROPE,
    Name,
    no_balance,
    owned_thing,
    refusal,
)
from gpubroker.sandbox.rented import Thing

LEAST_GB, LEAST_VM_GB, MOST_GB = 20, 100, 2048
_PORTS = re.compile(r"(\d{1,5}(,\d{1,5})*)?")
_HIGHEST_PORT = 65535

Gigabytes = Annotated[int, Meta(le=MOST_GB)]


class Settings(Struct, forbid_unknown_fields=True, kw_only=True):
    """What an order and a resume of GPUs have in common. Unset texts are "", unset ids null."""

    gpu_type: str
    num_gpus: Annotated[int, Meta(ge=1)]
    hdd: Gigabytes
    name: Name
    is_spot: bool = False
    duration: Literal["hour"] = "hour"
    http_ports: str = ""
    script_id: int | str | None = None
    script_args: str = ""
    fs_id: int | None = None
    arguments: str = ""


def check_disk(gb: int, template: str, region: str) -> None:
    """Containers outside of Europe may have less."""
    least = LEAST_VM_GB if template == VM or region == EUROPE else LEAST_GB
    if gb < least:
        raise unprocessable(("body", "hdd"), f"Storage must be at least {least}GB")


def check_means(cloud: Cloud, call: Call, operation: str) -> None:
    """Quota and money."""
    if cloud.faults.take(operation, "quota") or cloud.credit(call.owner.name) <= 0:
        raise no_balance()


def account_keys(cloud: Cloud, call: Call, template: str) -> tuple[str, ...]:
    """All of them; a VM needs one."""
    things = cloud.live_things(call.owner.name, KEY)
    if template == VM and not things:
        raise refusal(400, "Add an SSH key before you launch a VM")
    return tuple(dict.fromkeys(thing.wire["text"] for thing in things))


def check_settings(cloud: Cloud, call: Call, body: Settings, template: str, region: str) -> None:
    """What only containers can have, and what must exist."""
    if template == VM and body.is_spot:
        raise refusal(400, "Spot instances are only supported for GPU containers")
    if template == VM and body.http_ports:
        raise refusal(400, "HTTP ports are only supported for containers")
    numbers = [int(port) for port in body.http_ports.split(",") if port.isdecimal()]
    if not _PORTS.fullmatch(body.http_ports) or not all(0 < n <= _HIGHEST_PORT for n in numbers):
        raise unprocessable(("body", "http_ports"), "Ports are numbers, separated by commas")
    script_of(cloud, call, body)
    if body.fs_id is not None:
        disk = owned_thing(cloud, call, FILESYSTEM, body.fs_id)
        if disk is None or disk.wire["region"] != region:
            raise refusal(400, "Filesystem not found in this region")


def script_of(cloud: Cloud, call: Call, body: Settings) -> Thing | None:
    """The account's script that is named."""
    if body.script_id in (None, ""):
        return None
    script = owned_thing(cloud, call, SCRIPT, str(body.script_id))
    if script is None:
        raise refusal(400, "Script not found")
    return script


def boot_script(script: Thing | None, arguments: str) -> str:
    """The script with its arguments, as the template runs it at each start."""
    if script is None:
        return ""
    text: str = script.wire["text"]
    if not arguments:
        return text
    first, _, rest = text.partition("\n") if text.startswith("#!") else ("#!/bin/bash", "", text)
    return f"{first}\nset -- {arguments}\n{rest}"


def hostname(name: str) -> str:
    """Of the machine: what of the name can be one."""
    return re.sub("[^a-z0-9-]+", "-", name.lower()).strip("-") or "instance"


def container_ports(http_ports: str) -> tuple[tuple[int, str], ...]:
    """The IDE's, and those that were asked for."""
    wanted = [IDE_PORT, *(int(port) for port in http_ports.split(",") if port)]
    return tuple((port, "http") for port in dict.fromkeys(wanted))
