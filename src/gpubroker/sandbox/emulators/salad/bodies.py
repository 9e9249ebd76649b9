"""What SaladCloud's calls are given, field by field, with the limits of the vendor's document."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from gpubroker.sandbox.emulators.salad.words import NAME

Priority = Literal["high", "medium", "low", "batch"]
Name = Annotated[str, Meta(pattern=NAME, min_length=2, max_length=63)]
DisplayName = Annotated[str, Meta(pattern="^[ ,-.0-9A-Za-z]+$", min_length=2, max_length=63)]
Country = Annotated[str, Meta(pattern="^[a-z]{2}$")]
Countries = Annotated[list[Country], Meta(min_length=1, max_length=500)]
Word = Annotated[str, Meta(pattern="^.*$", min_length=1, max_length=1000)]
Command = Annotated[list[Word], Meta(max_length=100)]
Image = Annotated[str, Meta(min_length=1, max_length=2048)]
Cores = Annotated[int, Meta(ge=1, le=1024)]
RamMb = Annotated[int, Meta(ge=1024, le=1073741824)]
ShmMb = Annotated[int, Meta(ge=64, le=1073741824)]
StorageBytes = Annotated[int, Meta(ge=1073741824, le=1125899906842624)]
Classes = Annotated[list[UUID], Meta(max_length=100)]
Replicas = Annotated[int, Meta(ge=0, le=500)]
Port = Annotated[int, Meta(ge=1, le=65535)]
TimeoutMs = Annotated[int, Meta(ge=1, le=100_000)]
DeletionCost = Annotated[int, Meta(ge=0, le=100_000)]
Secret = Annotated[str, Meta(min_length=1, max_length=10_000)]


class _Closed(Struct, forbid_unknown_fields=True, kw_only=True):
    """Refuses what it does not know."""


class Resources(_Closed):
    """Cores, RAM in MB, disk in bytes, shared memory in MB."""

    cpu: Cores
    memory: RamMb
    gpu_classes: Classes = []
    storage_amount: StorageBytes = 1073741824
    shm_size: ShmMb = 64


class Login(_Closed):
    """User and password."""

    username: Secret
    password: Secret


class Hub(_Closed):
    """Docker Hub."""

    username: Secret
    personal_access_token: Secret


class Ecr(_Closed):
    """AWS."""

    access_key_id: Secret
    secret_access_key: Secret


class ServiceKey(_Closed):
    """Google."""

    service_key: Secret


class Registry(_Closed):
    """One way to get at a private image."""

    basic: Login | None = None
    docker_hub: Hub | None = None
    aws_ecr: Ecr | None = None
    gcp_gcr: ServiceKey | None = None
    gcp_gar: ServiceKey | None = None


class Container(_Closed):
    """What runs, and on what."""

    image: Image
    resources: Resources
    command: Command | None = None
    environment_variables: dict[str, Word] = {}
    image_caching: bool | UnsetType = UNSET
    priority: Priority | None = None
    registry_authentication: Registry | None = None


class Networking(_Closed):
    """The one port that the gateway leads to."""

    auth: bool
    port: Port
    protocol: Literal["http"]
    load_balancer: Literal["round_robin", "least_number_of_connections"] = "round_robin"
    client_request_timeout: TimeoutMs = 100_000
    server_response_timeout: TimeoutMs = 100_000
    single_connection_limit: bool = False


class NewGroup(_Closed):
    """Body of the create. What the sandbox does nothing with is taken as it comes."""

    name: Name
    container: Container
    autostart_policy: bool
    restart_policy: Literal["always", "on_failure", "never"]
    replicas: Replicas
    display_name: DisplayName | None = None
    country_codes: Countries = []
    networking: Networking | None = None
    startup_probe: dict[str, Any] | None = None
    readiness_probe: dict[str, Any] | None = None
    liveness_probe: dict[str, Any] | None = None


class ResourcesPatch(_Closed):
    """Null is as good as left out."""

    cpu: Cores | None = None
    memory: RamMb | None = None
    gpu_classes: Classes | None = None
    storage_amount: StorageBytes | None = None
    shm_size: ShmMb | None = None


class ContainerPatch(_Closed):
    """Null is as good as left out; variables are replaced as a whole."""

    image: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    command: Command | None = None
    environment_variables: dict[str, Word] | None = None
    image_caching: bool | UnsetType = UNSET
    priority: Priority | None = None
    registry_authentication: Registry | None = None
    resources: ResourcesPatch | None = None


class NetworkingPatch(_Closed):
    """Only the port can be changed."""

    port: Port | None = None


class GroupPatch(_Closed):
    """Body of the update, a merge patch."""

    display_name: DisplayName | None = None
    replicas: Replicas | None = None
    container: ContainerPatch | None = None
    country_codes: Countries | None = None
    networking: NetworkingPatch | None = None


class InstancePatch(_Closed):
    """Which instance goes first when there are to be fewer."""

    deletion_cost: DeletionCost | None = None


class CpuWanted(_Closed):
    """Body of the question for computers without a GPU."""

    cpu: int | None = None
    memory: int | None = None
    storage_amount: int | None = None
    country_codes: list[Country] | None = None


class GpuWanted(CpuWanted, kw_only=True):
    """Body of the question for computers with one."""

    gpu_classes: Annotated[list[UUID], Meta(min_length=1)]


class LogQuery(_Closed):
    """Body of the question for what containers printed."""

    start_time: datetime
    end_time: datetime
    query: Annotated[str, Meta(max_length=20_000)]
    page_size: Annotated[int, Meta(ge=1, le=100)] = 100
    sort_order: Literal["asc", "desc"] = "desc"
