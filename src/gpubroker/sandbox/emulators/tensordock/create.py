"""TensorDock's creating call: a VM of a chosen size, in a location or on a certain host."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, NoReturn

from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.model.money import Nanos, nanos
from gpubroker.sandbox.cloud import Cloud, NoSlot
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.tensordock.catalog import (
    LOCATIONS,
    Hostnode,
    hostnodes,
    parts_rate,
)
from gpubroker.sandbox.emulators.tensordock.secrets import SSH_KEY, found, is_public_key
from gpubroker.sandbox.emulators.tensordock.words import (
    NO_ADDRESS,
    NO_HOST,
    NO_MONEY,
    NO_NODES,
    SSH_PORT,
    invalid,
    new_id,
    read_body,
    refused_with_200,
)
from gpubroker.sandbox.rented import Machine, Order
from gpubroker.sandbox.stock import Slot

USER = "user"
LEAST_BALANCE = nanos(1)
IMAGES = (
    "ubuntu2204", "ubuntu2404", "ubuntu2404_ml_everything", "ubuntu2404_ml_pytorch",
    "ubuntu2404_ml_tensorflow", "debian12", "windows10",
)  # fmt: skip
_IMAGE_FOLDERS = frozenset(
    {"/etc", "/etc/profile.d", "/opt", "/root", "/srv", "/tmp", "/usr/local/bin", "/var/lib"}  # noqa: S108 - of the machine
)
"""Files are written before any other folder is there: those that lie elsewhere are lost."""
_PORT = Annotated[int, Meta(ge=1, le=65535)]
_AT = ("data", "attributes")


class PortForward(Struct, forbid_unknown_fields=True):
    """A port of the VM behind one of its host; 0 = any."""

    internal_port: _PORT
    external_port: Annotated[int, Meta(ge=0, le=65535)]
    protocol: Literal["tcp", "udp"] = "tcp"


class Gpus(Struct, forbid_unknown_fields=True):
    """How many of a model."""

    count: Annotated[int, Meta(ge=1)]


class Resources(Struct, forbid_unknown_fields=True):
    """The size."""

    vcpu_count: Annotated[int, Meta(ge=2, multiple_of=2)]
    ram_gb: Annotated[int, Meta(ge=1)]
    storage_gb: Annotated[int, Meta(ge=100)]
    gpus: dict[str, Gpus] = {}


class WriteFile(Struct, forbid_unknown_fields=True):
    """`encoding` is taken, and does nothing."""

    path: str
    content: str
    permissions: str | None = None
    owner: str | None = None
    encoding: str | None = None


class CloudInit(Struct, forbid_unknown_fields=True, frozen=True):
    """The parts of cloud-init that can be asked for."""

    runcmd: list[str] = []
    packages: list[str] = []
    package_update: bool = False
    package_upgrade: bool = False
    write_files: list[WriteFile] = []

    @property
    def user_data(self) -> bytes:
        """For the first boot."""
        files = [
            {"path": file.path, "content": file.content, "permissions": file.permissions or "0644"}
            for file in self.write_files
            if file.path.rpartition("/")[0] in _IMAGE_FOLDERS
        ]
        config: dict[str, Any] = {"runcmd": self.runcmd, "write_files": files}
        return b"#cloud-config\n" + json.dumps(config).encode()


class Attributes(Struct, forbid_unknown_fields=True, kw_only=True):
    """Of the VM."""

    name: Annotated[str, Meta(min_length=1, max_length=255)]
    type: Literal["virtualmachine"] = "virtualmachine"
    image: str
    resources: Resources
    location_id: str | None = None
    hostnode_id: str | None = None
    useDedicatedIp: bool = False  # noqa: N815 - the vendor's
    port_forwards: list[PortForward] = []
    ssh_key: str | None = None
    ssh_key_id: str | None = None
    cloud_init: CloudInit = CloudInit()

    @property
    def model(self) -> str:
        """The GPU's name; "" for none."""
        return next(iter(self.resources.gpus), "")

    @property
    def gpu_count(self) -> int:
        """Of that model."""
        return sum(gpus.count for gpus in self.resources.gpus.values())


class Data(Struct, forbid_unknown_fields=True):
    """The envelope."""

    type: Literal["virtualmachine"]
    attributes: Attributes


class Create(Struct, forbid_unknown_fields=True):
    """Body of the call."""

    data: Data


def _wrong(message: str, field: str) -> NoReturn:
    raise invalid(message, *_AT, field)


def _check(wanted: Attributes) -> None:
    if wanted.image not in IMAGES:
        _wrong("Invalid image", "image")
    if (wanted.location_id is None) == (wanted.hostnode_id is None):
        _wrong("Exactly one of location_id and hostnode_id must be given", "location_id")
    if wanted.location_id is not None and wanted.location_id not in LOCATIONS:
        _wrong("Invalid location_id", "location_id")
    if wanted.location_id is not None and not wanted.resources.gpus:
        _wrong("At least one GPU is required for location-based deployment", "resources")
    if len(wanted.resources.gpus) > 1:
        _wrong("Only one GPU model is allowed", "resources")
    inside = [forward.internal_port for forward in wanted.port_forwards]
    if len(set(inside)) < len(inside):
        _wrong("A port is forwarded twice", "port_forwards")
    is_ubuntu = wanted.image.startswith("ubuntu")
    if is_ubuntu and not wanted.useDedicatedIp and SSH_PORT not in inside:
        _wrong("SSH port (22) must be forwarded for Ubuntu VMs", "port_forwards")


def _key(cloud: Cloud, call: Call, wanted: Attributes) -> str | None:
    if wanted.ssh_key is not None and wanted.ssh_key_id is not None:
        _wrong("Only one of ssh_key and ssh_key_id may be given", "ssh_key")
    if wanted.ssh_key_id is not None:
        secret = found(cloud, call, wanted.ssh_key_id)
        if secret is None or secret.wire["type"] != SSH_KEY:
            _wrong("Invalid ssh_key_id", "ssh_key_id")
        return str(secret.wire["value"])
    if wanted.ssh_key is not None and not is_public_key(wanted.ssh_key):
        _wrong("Invalid SSH public key", "ssh_key")
    if wanted.ssh_key is None and not wanted.image.startswith("windows"):
        _wrong("SSH key is required for non-Windows images", "ssh_key")
    return wanted.ssh_key


def _place(cloud: Cloud, wanted: Attributes) -> tuple[Hostnode, Slot]:
    """The host that was named, or the first of the location that has it all."""
    size = wanted.resources
    reasons = {NO_NODES if wanted.hostnode_id is None else NO_HOST}
    for host in hostnodes(cloud):
        if wanted.hostnode_id is None:
            here = host.first.place == wanted.location_id
        else:
            here = host.id == wanted.hostnode_id
        slot = host.part(wanted.gpu_count)
        if not here or host.v0_name != wanted.model or slot is None or not cloud.stock.free(slot):
            continue
        if not host.fits(size.vcpu_count, size.ram_gb, size.storage_gb):
            continue
        if wanted.useDedicatedIp and not host.facts["dedicated_ip"]:
            reasons = {NO_ADDRESS}
            continue
        return host, slot
    raise refused_with_200(reasons.pop())


def _check_host(cloud: Cloud, wanted: Attributes) -> None:
    """A host must be one of the vendor's, and its ports are its own."""
    if wanted.hostnode_id is None:
        return
    host = next((host for host in hostnodes(cloud) if host.id == wanted.hostnode_id), None)
    if host is None:
        _wrong("Invalid hostnode_id", "hostnode_id")
    asked = {forward.external_port for forward in wanted.port_forwards}
    if not asked <= set(host.free_ports(cloud)):
        _wrong("External port is not available on this hostnode", "port_forwards")


async def create(api: Emulator, call: Call) -> Response:
    """POST instances: it is said to run before it has an address."""
    wanted = read_body(call, Create).data.attributes
    cloud = api.cloud
    _check(wanted)
    key = _key(cloud, call, wanted)
    _check_host(cloud, wanted)
    # No quota is known of: what the vendor has in its place is the balance.
    if cloud.faults.take("create", "quota") or cloud.credit(call.owner.name) < LEAST_BALANCE:
        raise refused_with_200(NO_MONEY)
    if cloud.faults.take("create", "no_capacity"):
        raise refused_with_200(NO_NODES if wanted.hostnode_id is None else NO_HOST)
    host, slot = _place(cloud, wanted)
    ignored = cloud.faults.take("create", "ignored_field") is not None
    lost = ignored or not host.facts.get("forwards", True)
    forwards = [] if wanted.useDedicatedIp or lost else wanted.port_forwards
    order = _order(wanted, host, slot, key, forwards)
    try:
        machine = cloud.create(call.owner.name, order, named=new_id)
    except NoSlot:
        raise refused_with_200(NO_NODES) from None
    size = wanted.resources
    gpu_rate = machine.gpu_rate if slot.gpu_count else 0
    machine.gpu_rate = Nanos(gpu_rate + parts_rate(slot, size.vcpu_count, size.ram_gb))
    if wanted.hostnode_id is not None:
        _ask_for_ports(machine, forwards)
    cloud.save(machine)
    row = {"type": "virtualmachine", "id": machine.id, "name": wanted.name, "status": "running"}
    return answer({"data": row}, 201)


def _order(
    wanted: Attributes,
    host: Hostnode,
    slot: Slot,
    key: str | None,
    forwards: list[PortForward],
) -> Order:
    size = wanted.resources
    installs = key is not None and host.facts.get("installs_key", True)
    return Order(
        slot=slot.key,
        disk_gb=size.storage_gb,
        name=wanted.name,
        label=wanted.name,
        image=wanted.image,
        user=USER,
        user_data=wanted.cloud_init.user_data,
        is_vm=True,
        own_address=wanted.useDedicatedIp,
        vcpus=size.vcpu_count,
        ram_mb=size.ram_gb * 1024,
        ports=tuple((forward.internal_port, forward.protocol) for forward in forwards),
        keys=(key.strip(),) if key and installs else (),
        wire={
            "dedicated_ip": wanted.useDedicatedIp,
            "hostnode": host.id,
            "forwards": [
                # In a location the platform chooses.
                [forward.internal_port, forward.external_port if wanted.hostnode_id else 0]
                for forward in forwards
            ],
        },
    )


def _ask_for_ports(machine: Machine, forwards: list[PortForward]) -> None:
    """On a certain host the ports are those that were asked for, where this computer has them."""
    machine.published = {f"{f.internal_port}/{f.protocol}": f.external_port for f in forwards}
    machine.ssh_port = next(
        (f.external_port for f in forwards if f.internal_port == SSH_PORT), None
    )
