"""What a Vast.ai create call may hold, field by field, and what is made of it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

DISK_FROM_GB = 8
DISK_DEFAULT_GB = 10
BID_FROM, BID_TO = 0.001, 128.0
LABEL_LENGTH = 256
SCRIPT_LENGTH = 4096
"""Of args, args_str and onstart together."""
ENV_VALUE_LENGTH, ENV_LENGTH, PORTS = 256, 32_768, 64
_SAME_PORT_FROM = 70_000
"""Internal ports from here on ask for the same port outside."""

_RUNTYPE_WORDS = frozenset(
    {
        "ssh",
        "ssh_proxy",
        "ssh_direct",
        "ssh_direc",
        "jupyter",
        "jupyter_proxy",
        "jupyter_direct",
        "jupyter_direc",
        "args",
    }
)
_PORT_KEY = re.compile(r"-p (?:(\d+):)?(\d+)(?:/(tcp|udp))?")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


class BadOrder(Exception):
    """The text is the vendor's message, `code` its word."""

    def __init__(self, message: str, code: str = "invalid_args") -> None:
        super().__init__(message)
        self.code = code


class VolumeWanted(Struct, frozen=True):
    """`volume_info`: a new volume of an offer, or an existing one."""

    create_new: bool
    volume_id: int
    mount_path: str
    size: int = 15
    name: str = ""


class InstanceOrder(Struct, frozen=True, kw_only=True):
    """A create call that holds together."""

    image: str
    price: float | None
    disk_gb: float
    label: str
    runtype: str
    args: tuple[str, ...]
    args_str: str
    onstart: str | None
    env: dict[str, str]
    raw_env: list[list[str]]
    ports: tuple[tuple[int, str], ...]
    start: bool
    cancel_unavail: bool
    vm: bool
    volume: VolumeWanted | None

    @property
    def by_args(self) -> bool:
        """Whether the image's own entrypoint runs, with these arguments."""
        return self.runtype == "args"

    @property
    def command(self) -> str | None:
        """Arguments of the entrypoint."""
        if not self.by_args:
            return None
        return self.args_str or shlex.join(self.args) or None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(_is_number(item) for item in value)


CREATE_FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "client_id": (_is_text, "a string"),
    "image": (_is_text, "a string"),
    "env": (_is_object, "an object of variables and -p ports"),
    "price": (_is_number, "a number"),
    "disk": (_is_number, "a number"),
    "label": (_is_text, "a string"),
    "extra": (_is_text, "a string"),
    "onstart": (_is_text, "a string"),
    "image_login": (_is_text, "a string"),
    "python_utf8": (_is_flag, "a boolean"),
    "lang_utf8": (_is_flag, "a boolean"),
    "use_jupyter_lab": (_is_flag, "a boolean"),
    "jupyter_dir": (_is_text, "a string"),
    "force": (_is_flag, "a boolean"),
    "cancel_unavail": (_is_flag, "a boolean"),
    "template_hash_id": (_is_text, "a string"),
    "user": (_is_text, "a string"),
    "runtype": (_is_text, "a string"),
    "args": (_is_texts, "an array of strings"),
    "args_str": (_is_text, "a string"),
    "target_state": (_is_text, "a string"),
    "vm": (_is_flag, "a boolean"),
    "volume_info": (_is_object, "an object"),
    "ids": (_is_numbers, "an array of offer IDs"),
}
"""Every field may also be null; there are no others."""
_VOLUME_FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "create_new": (_is_flag, "a boolean"),
    "volume_id": (_is_number, "a number"),
    "mount_path": (_is_text, "a string"),
    "size": (_is_number, "a number"),
    "name": (_is_text, "a string"),
}


def _checked(
    body: Any, fields: Mapping[str, tuple[Callable[[Any], bool], str]], where: str = ""
) -> dict[str, Any]:
    """The fields that are given and not null. Raises BadOrder."""
    if not isinstance(body, dict):
        raise BadOrder("Invalid args: the body must be an object")
    for name, value in body.items():
        if name not in fields:
            raise BadOrder(f"Invalid args: unknown field '{where}{name}'")
        holds, what = fields[name]
        if value is not None and not holds(value):
            raise BadOrder(f"Invalid args: '{where}{name}' must be {what}")
    return {name: value for name, value in body.items() if value is not None}


def read_order(body: Any, *, bulk: bool = False) -> InstanceOrder:
    """The order of a create call's body. Raises BadOrder."""
    given = _checked(body, CREATE_FIELDS)
    if "ids" in given and not bulk:
        raise BadOrder("Invalid args: unknown field 'ids'")
    if "template_hash_id" in given:
        raise BadOrder("Invalid args: no such template")
    if not given.get("image"):
        raise BadOrder("Invalid args: 'image' is required unless a template is given")
    price = given.get("price")
    if price is not None and not BID_FROM <= price <= BID_TO:
        raise BadOrder(f"Please set a bid price >= {BID_FROM} and <= {BID_TO:g}.", "invalid_price")
    disk = float(given.get("disk", DISK_DEFAULT_GB))
    if disk < DISK_FROM_GB:
        raise BadOrder(f"Invalid args: 'disk' must be at least {DISK_FROM_GB} GB")
    label = given.get("label", "")
    if len(label) > LABEL_LENGTH:
        raise BadOrder(f"Label longer than {LABEL_LENGTH} characters.", "label_too_long")
    args, args_str, onstart = given.get("args", []), given.get("args_str", ""), given.get("onstart")
    if len(" ".join(args)) + len(args_str) + len(onstart or "") > SCRIPT_LENGTH:
        raise BadOrder(f"Invalid args: args and onstart exceed {SCRIPT_LENGTH} characters")
    target = given.get("target_state", "running")
    if target not in ("running", "stopped"):
        raise BadOrder("Invalid args: 'target_state' must be running or stopped")
    env, ports = _read_env(given.get("env", {}))
    start = target == "running"
    return InstanceOrder(
        image=given["image"],
        price=price,
        disk_gb=disk,
        label=label,
        runtype=_read_runtype(given),
        args=tuple(args),
        args_str=args_str,
        onstart=onstart,
        env=env,
        raw_env=[[name, value] for name, value in given.get("env", {}).items()],
        ports=ports,
        start=start,
        cancel_unavail=given.get("cancel_unavail", start and price is None),
        vm=given.get("vm", False),
        volume=_read_volume(given.get("volume_info")),
    )


def _read_runtype(given: dict[str, Any]) -> str:
    default = "args" if given.get("args") or given.get("args_str") else "ssh"
    runtype = str(given.get("runtype", default))
    words = runtype.split()
    if not words or not _RUNTYPE_WORDS.issuperset(words):
        raise BadOrder(f"Invalid args: runtype '{runtype}' is not known")
    return runtype


def _read_env(env: dict[str, Any]) -> tuple[dict[str, str], tuple[tuple[int, str], ...]]:
    variables: dict[str, str] = {}
    ports: list[tuple[int, str]] = []
    for name, value in env.items():
        if not isinstance(value, str):
            raise BadOrder(f"Invalid args: env '{name}' must be a string")
        if name.startswith("-"):
            ports.append(_read_port(name))
        elif not _ENV_NAME.fullmatch(name):
            raise BadOrder(f"Invalid args: env '{name}' is not a variable name")
        elif len(value) > ENV_VALUE_LENGTH:
            raise BadOrder(f"Invalid args: env '{name}' exceeds {ENV_VALUE_LENGTH} characters")
        else:
            variables[name] = value
    if sum(len(name) + len(value) for name, value in env.items()) > ENV_LENGTH:
        raise BadOrder(f"Invalid args: env exceeds {ENV_LENGTH} characters")
    if len(ports) > PORTS:
        raise BadOrder(f"Invalid args: more than {PORTS} open ports")
    return variables, tuple(dict.fromkeys(ports))


def _read_port(key: str) -> tuple[int, str]:
    match = _PORT_KEY.fullmatch(key)
    if match is None:
        raise BadOrder(f"Invalid args: env '{key}' is no port mapping")
    inside = int(match[2])
    if inside >= _SAME_PORT_FROM:
        raise BadOrder("Invalid args: this machine has no identity ports left")
    if not 0 < inside < 2**16:
        raise BadOrder(f"Invalid args: env '{key}' is no port mapping")
    return inside, match[3] or "tcp"


def _read_volume(info: dict[str, Any] | None) -> VolumeWanted | None:
    if info is None:
        return None
    given = _checked(info, _VOLUME_FIELDS, "volume_info.")
    for name in ("create_new", "volume_id", "mount_path"):
        if name not in given:
            raise BadOrder(f"Invalid args: 'volume_info.{name}' is required")
    if not given["mount_path"].startswith("/"):
        raise BadOrder("Invalid args: 'volume_info.mount_path' must be absolute")
    return VolumeWanted(
        create_new=given["create_new"],
        volume_id=int(given["volume_id"]),
        mount_path=given["mount_path"],
        size=int(given.get("size", 15)),
        name=given.get("name", ""),
    )
