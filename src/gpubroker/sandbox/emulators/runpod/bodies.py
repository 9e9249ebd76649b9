"""The bodies that REST v2 takes: unknown properties are forbidden, as in the vendor's schemas."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from gpubroker.sandbox.emulators.runpod.sheet import Tier

Text = Annotated[str, Meta(min_length=1)]
CudaVersion = Annotated[str, Meta(pattern=r"^\d+\.\d+$")]
PublicKey = Annotated[str, Meta(pattern=r"^(ssh|ecdsa|sk)-[^\s]+ [^\s]+([ \t][^\n\r]*)?$")]
VolumeGb = Annotated[int, Meta(ge=10, le=4096)]
VolumeType = Literal["STANDARD", "HIGH_PERFORMANCE"]
Action = Literal["start", "stop", "restart", "terminate"]


class Gpu(Struct, forbid_unknown_fields=True, rename="camel"):
    """`gpu` of a create."""

    id: str
    count: Annotated[int, Meta(ge=1)] = 1
    allowed_cuda_versions: tuple[CudaVersion, ...] = ()
    min_cuda_version: CudaVersion | None = None


class Cpu(Struct, forbid_unknown_fields=True, rename="camel"):
    """`cpu` of a create."""

    id: Text
    vcpu_count: Annotated[int, Meta(ge=2)]


class PersistentMount(Struct, forbid_unknown_fields=True, rename="camel", frozen=True):
    """A disk on the pod's host, GB."""

    size: Annotated[int, Meta(ge=10)]
    path: str


class NetworkMount(Struct, forbid_unknown_fields=True, rename="camel", frozen=True):
    """A network volume in the pod."""

    volume_id: str
    path: str


class Mounts(Struct, forbid_unknown_fields=True, rename="camel", frozen=True):
    """One of the two, or neither."""

    persistent: PersistentMount | None = None
    network: Annotated[tuple[NetworkMount, ...], Meta(max_length=1)] | None = None


class CreatePod(Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """POST pods."""

    name: Text
    image: str | UnsetType = UNSET
    template_id: Text | UnsetType = UNSET
    gpu: Gpu | UnsetType = UNSET
    cpu: Cpu | UnsetType = UNSET
    cloud: Tier = "SECURE"
    data_center_ids: tuple[str, ...] = ()
    args: str = ""
    disk: Annotated[int, Meta(ge=1)] = 20
    env: dict[str, str] = {}
    ports: tuple[str, ...] | UnsetType = UNSET
    registry: str | None = None
    mounts: Mounts = Mounts()
    global_networking: bool = False
    start_jupyter: bool = False
    start_ssh: bool = False


class UpdatePod(Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """PATCH pods/{id}: what is there is changed."""

    name: Text | UnsetType = UNSET
    image: str | UnsetType = UNSET
    template_id: str | UnsetType = UNSET
    args: str | UnsetType = UNSET
    disk: Annotated[int, Meta(ge=1)] | UnsetType = UNSET
    env: dict[str, str] | UnsetType = UNSET
    ports: tuple[str, ...] | UnsetType = UNSET
    registry: str | UnsetType | None = UNSET
    mounts: Mounts = Mounts()
    locked: bool | UnsetType = UNSET
    global_networking: bool | UnsetType = UNSET


class PodAction(Struct, forbid_unknown_fields=True, rename="camel"):
    """POST pods/{id}/action."""

    action: Action


class SshKeys(Struct, forbid_unknown_fields=True, rename="camel"):
    """PUT account/ssh-keys: the whole set."""

    keys: tuple[PublicKey, ...]


class CreateVolume(Struct, forbid_unknown_fields=True, rename="camel"):
    """POST network-volumes."""

    name: Text
    size: VolumeGb
    data_center: Text
    type: VolumeType | None = None


class UpdateVolume(Struct, forbid_unknown_fields=True, rename="camel"):
    """PATCH network-volumes/{id}."""

    name: Text | UnsetType = UNSET
    size: VolumeGb | UnsetType = UNSET


class CreateRegistry(Struct, forbid_unknown_fields=True, rename="camel"):
    """POST registries."""

    name: Text
    username: Text
    password: Text
