"""What Shadeform does on a machine once it is up: a script, or a container, not both."""

from __future__ import annotations

import base64
import binascii
import shlex
from typing import Annotated, Literal

from msgspec import Meta, Struct

from gpubroker.sandbox.emulators.shadeform.words import Env, invalid

Port = Annotated[int, Meta(ge=1, le=65535)]


class PortMapping(Struct, forbid_unknown_fields=True):
    """A port of the machine that leads to one of the container."""

    host_port: Port
    container_port: Port


class Mount(Struct, forbid_unknown_fields=True):
    """A folder of the machine in the container."""

    host_path: str
    container_path: str


class Credentials(Struct, forbid_unknown_fields=True):
    """For a registry that is not public."""

    username: str = ""
    password: str = ""


class Docker(Struct, forbid_unknown_fields=True, kw_only=True):
    """A container to run."""

    image: Annotated[str, Meta(min_length=1)]
    args: str | None = None
    shared_memory_in_gb: Annotated[int, Meta(ge=1)] | None = None
    envs: list[Env] | None = None
    port_mappings: list[PortMapping] | None = None
    volume_mounts: list[Mount] | None = None
    registry_credentials: Credentials | None = None


class Script(Struct, forbid_unknown_fields=True):
    """A script to run, as root."""

    base64_script: str


class VolumeMount(Struct, forbid_unknown_fields=True):
    """Whether the volume is mounted by itself."""

    auto: bool = False


class LaunchConfiguration(Struct, forbid_unknown_fields=True, kw_only=True):
    """One of the two, as the type says."""

    type: Literal["docker", "script"]
    docker_configuration: Docker | None = None
    script_configuration: Script | None = None

    def check(self) -> None:
        """Refused where type and configuration do not fit together, or the script is no base64."""
        given = (self.docker_configuration is not None, self.script_configuration is not None)
        if given != (self.type == "docker", self.type == "script"):
            raise invalid(f"launch_configuration: exactly {self.type}_configuration is expected")
        self.text()

    def text(self) -> bytes:
        """What the machine runs, once; a text without a first line of its own by the shell."""
        if self.docker_configuration is not None:
            return _docker_script(self.docker_configuration).encode()
        script = self.script_configuration
        try:
            text = base64.b64decode(script.base64_script if script else "", validate=True)
        except binascii.Error:
            raise invalid("base64_script is not valid base64") from None
        return text if text.startswith(b"#!") else b"#!/bin/bash\n" + text


def _docker_script(wanted: Docker) -> str:
    lines = ["#!/bin/bash"]
    if wanted.registry_credentials is not None:
        known = wanted.registry_credentials
        host = wanted.image.partition("/")[0]
        registry = [shlex.quote(host)] if "." in host and "/" in wanted.image else []
        login = [
            "docker",
            "login",
            "-u",
            shlex.quote(known.username),
            "--password-stdin",
            *registry,
        ]
        lines.append(f"printf %s {shlex.quote(known.password)} | {' '.join(login)}")
    shared = wanted.shared_memory_in_gb
    words = ["docker", "run", "-d", "--ipc=host" if shared is None else f"--shm-size={shared}g"]
    for env in wanted.envs or ():
        words += ["-e", f"{env.name}={env.value}"]
    for port in wanted.port_mappings or ():
        words += ["-p", f"{port.host_port}:{port.container_port}"]
    for mount in wanted.volume_mounts or ():
        words += ["-v", f"{mount.host_path}:{mount.container_path}"]
    words.append(wanted.image)
    run = " ".join(shlex.quote(word) for word in words)
    lines.append(f"{run} {wanted.args or ''}".rstrip())
    return "\n".join(lines) + "\n"
