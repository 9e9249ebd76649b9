"""User data as cloud-init reads it: what a machine is told to do at its first boot."""

from __future__ import annotations

import base64
import binascii
import gzip
import zlib
from collections.abc import Iterator, Mapping
from email import message_from_bytes
from typing import Any

from msgspec import Struct

_GZIP = b"\x1f\x8b"
_MIME_HEADS = (b"content-type:", b"mime-version:")
_SCRIPT_TYPES = ("text/x-shellscript", "text/x-shellscript-per-instance")
_CONFIG_TYPE = "text/cloud-config"
_IGNORED = (
    "package_update", "package_upgrade", "package_reboot_if_required", "packages", "apt",
    "hostname", "fqdn", "manage_etc_hosts", "preserve_hostname", "timezone", "locale", "users",
    "groups", "user", "ssh_pwauth", "disable_root", "final_message", "growpart", "swap",
    "mounts", "ntp", "output", "chpasswd", "ssh_genkeytypes", "ssh_deletekeys",
    "power_state", "phone_home", "snap", "yum_repos", "write_files_defer",
)  # fmt: skip
"""Known to cloud-init; a sandbox machine does without them."""


class BadUserData(ValueError):
    """cloud-init would log this part as failed and go on."""


class FileWanted(Struct, frozen=True, kw_only=True):
    """One of `write_files`."""

    path: str
    content: bytes
    mode: int = 0o644
    append: bool = False
    deferred: bool = False
    """Written after the packages, right before the scripts."""


class FirstBoot(Struct, kw_only=True):
    """All that user data ask for. The fields stand in the order in which it is done."""

    boot_commands: list[str | list[str]] = []
    """At every boot."""
    files: list[FileWanted] = []
    keys: list[str] = []
    scripts: list[bytes] = []
    """Each with its first line."""
    commands: list[str | list[str]] = []
    """One script of them all."""
    ignored: list[str] = []
    """What the machine does without, and parts that could not be read, for its log."""


def read(data: bytes) -> FirstBoot:
    """Everything that user data hold; what cannot be read is named in `ignored`.

    Raises BadUserData where they are gzip and broken. Clouds that take base64 decode it themselves.
    """
    plan = FirstBoot()
    for part in _parts(_gunzipped(data) if data.startswith(_GZIP) else data):
        try:
            _read_part(part, plan)
        except BadUserData as bad:
            plan.ignored.append(str(bad))
    return plan


def _gunzipped(data: bytes) -> bytes:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise BadUserData(f"user data is no gzip: {error}") from None


def _parts(data: bytes) -> Iterator[bytes]:
    """The parts of a MIME archive, or the whole."""
    if not data.lower().lstrip().startswith(_MIME_HEADS):
        yield data
        return
    for part in message_from_bytes(data).walk():
        if part.is_multipart():
            continue
        payload = part.get_payload(decode=True)
        content = payload if isinstance(payload, bytes) else b""
        kind = part.get_content_type()
        if kind in _SCRIPT_TYPES or kind == _CONFIG_TYPE or content.startswith(b"#"):
            yield (
                content
                if content.startswith(b"#") or kind != _CONFIG_TYPE
                else (b"#cloud-config\n" + content)
            )


def _read_part(data: bytes, plan: FirstBoot) -> None:
    first = data.partition(b"\n")[0].strip()
    if first.startswith(b"#!"):
        plan.scripts.append(data)
    elif first == b"#cloud-config":
        _read_config(data, plan)
    elif first == b"#cloud-boothook":
        plan.boot_commands.append(data.decode(errors="replace"))
    elif data.strip():
        raise BadUserData(
            f"Unhandled non-multipart (text/x-not-multipart) userdata: {first[:40]!r}"
        )


def _read_config(data: bytes, plan: FirstBoot) -> None:
    try:
        import yaml
    except ImportError:
        raise BadUserData("#cloud-config needs PyYAML, which is not installed here") from None
    try:
        config = yaml.safe_load(data)
    except yaml.YAMLError as error:
        raise BadUserData(f"Failed loading yaml blob. {error}") from None
    if config is None:
        return
    if not isinstance(config, dict):
        raise BadUserData("Failed loading yaml blob. The top must be a mapping.")
    for name, value in config.items():
        match name:
            case "bootcmd":
                plan.boot_commands += _commands(value, name)
            case "runcmd":
                plan.commands += _commands(value, name)
            case "write_files":
                plan.files += [_file(row) for row in _listed(value, name)]
            case "ssh_authorized_keys":
                plan.keys += [str(line) for line in _listed(value, name)]
            case _:
                known = "not in the sandbox" if name in _IGNORED else "unknown to cloud-init"
                plan.ignored.append(f"{name}: {known}")


def _listed(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadUserData(f"{name} must be a list")
    return value


def _commands(value: Any, name: str) -> list[str | list[str]]:
    """A text is a line for the shell, a list is one command's words."""
    found: list[str | list[str]] = []
    for command in _listed(value, name):
        if isinstance(command, list):
            found.append([str(word) for word in command])
        elif isinstance(command, str):
            found.append(command)
        elif command is not None:
            raise BadUserData(f"{name}: {command!r} is neither text nor list")
    return found


def _file(row: Any) -> FileWanted:
    if not isinstance(row, Mapping) or not isinstance(row.get("path"), str):
        raise BadUserData("write_files: a path is missing")
    mode = row.get("permissions", "0644")
    try:
        bits = int(str(mode), 8) if isinstance(mode, str) else int(mode)
    except (TypeError, ValueError):
        raise BadUserData(f"write_files: permissions {mode!r}") from None
    return FileWanted(
        path=row["path"],
        content=_decoded(row.get("content", ""), str(row.get("encoding", "text/plain"))),
        mode=bits,
        append=bool(row.get("append", False)),
        deferred=bool(row.get("defer", False)),
    )


def _decoded(content: Any, encoding: str) -> bytes:
    """By the encodings of write_files: base64, gzip, or both, under each of their names."""
    data = content if isinstance(content, bytes) else str(content or "").encode()
    words = encoding.lower().replace("gzip", "gz").replace("base64", "b64")
    if "b64" in words:
        try:
            data = base64.b64decode(data)
        except binascii.Error:
            raise BadUserData("write_files: content is no base64") from None
    return _gunzipped(data) if "gz" in words else data
