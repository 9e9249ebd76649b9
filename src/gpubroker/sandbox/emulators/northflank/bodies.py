"""What Northflank's calls are given, field by field, as far as they concern GPU services."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from gpubroker.sandbox.emulators.northflank.words import NAME

ServiceName = Annotated[str, Meta(pattern=NAME, min_length=3, max_length=54)]
ShortName = Annotated[str, Meta(pattern=NAME, min_length=3, max_length=39)]
Description = Annotated[
    str, Meta(pattern=r"""^[a-zA-Z0-9.,?\s\\/'"()[\];`%^&*\-_:!]+$""", max_length=200)
]
Tag = Annotated[str, Meta(pattern="^[a-zA-Z0-9]+(-[a-zA-Z0-9]+)*$", min_length=3, max_length=100)]
PortName = Annotated[
    str,
    Meta(pattern="^[a-zA-Z](-?[a-zA-Z0-9]+(-[a-zA-Z0-9]+)*)?$", min_length=1, max_length=8),
]
PortNumber = Annotated[int, Meta(ge=1, le=65535)]
Positive = Annotated[int, Meta(ge=1)]
Expiry = Annotated[int, Meta(ge=300, le=604_800)]
"""Five minutes to seven days."""


class _Closed(Struct, forbid_unknown_fields=True, kw_only=True):
    """Refuses what it does not know."""


class NewProject(_Closed):
    """Body of the create of a project."""

    name: ShortName
    region: str
    description: Description | None = None
    color: Annotated[str, Meta(pattern="^#([a-fA-F0-9]{6}|[a-fA-F0-9]{3})$")] | None = None


class GpuConfiguration(_Closed):
    """Which, and how many."""

    gpuType: str  # noqa: N815 - the vendor's field, here and below
    gpuCount: Positive = 1  # noqa: N815
    timesliced: bool = False


class Gpu(_Closed):
    """Under the deployment or under the billing."""

    enabled: bool
    configuration: GpuConfiguration | None = None


class Billing(_Closed):
    """The plan."""

    deploymentPlan: str  # noqa: N815
    gpu: Gpu | None = None


class External(_Closed):
    """An image; `credentials` is the id of a saved login."""

    imagePath: Annotated[str, Meta(min_length=1, pattern=r"^\S+$")]  # noqa: N815
    credentials: str | None = None


class Docker(_Closed):
    """What runs instead of the image's own words."""

    configType: Literal[  # noqa: N815
        "default", "customEntrypoint", "customCommand", "customEntrypointCustomCommand"
    ]
    customEntrypoint: str | None = None  # noqa: N815
    customCommand: str | None = None  # noqa: N815


class Ephemeral(_Closed):
    """MB."""

    storageSize: Positive  # noqa: N815


class Storage(_Closed):
    """MB, both."""

    ephemeralStorage: Ephemeral | None = None  # noqa: N815
    shmSize: Positive | None = None  # noqa: N815


class Ssh(_Closed):
    """Through the vendor's command line alone."""

    enabled: bool


class Deployment(_Closed):
    """What runs, how often."""

    instances: Annotated[int, Meta(ge=0)]
    external: External
    docker: Docker | None = None
    gpu: Gpu | None = None
    storage: Storage | None = None
    ssh: Ssh | None = None
    gracePeriodSeconds: Positive | None = None  # noqa: N815


class Port(_Closed):
    """One port; public HTTP has a name of its own."""

    name: PortName
    internalPort: PortNumber  # noqa: N815
    protocol: Literal["HTTP", "HTTP/2", "TCP", "UDP"]
    public: bool = False


class CreateOptions(_Closed):
    """What counts at the create alone."""

    expiryTime: Expiry | None = None  # noqa: N815
    volumesToAttach: list[str] = []  # noqa: N815


class NewService(_Closed):
    """Body of the create of a deployment service."""

    name: ServiceName
    billing: Billing
    deployment: Deployment
    description: Description | None = None
    tags: list[Tag] = []
    ports: list[Port] = []
    runtimeEnvironment: dict[str, str] = {}  # noqa: N815
    runtimeFiles: dict[str, dict[str, Any]] = {}  # noqa: N815
    createOptions: CreateOptions = field(default_factory=CreateOptions)  # noqa: N815


class Instances(_Closed):
    """Bodies of resume and scale, and of the update's deployment."""

    instances: Annotated[int, Meta(ge=0)] | None = None


class ServicePatch(_Closed):
    """Body of the update."""

    description: Description | None = None
    tags: list[Tag] | None = None
    runtimeEnvironment: dict[str, str] | None = None  # noqa: N815
    deployment: Instances | None = None


class PublicKey(_Closed):
    """As in authorized_keys."""

    key: Annotated[str, Meta(pattern=r"^(ssh|ecdsa|sk)-\S+ \S+")]


class Selected(_Closed):
    """By project."""

    enabled: bool = False
    items: list[str] = []


class SelectedTags(Selected):
    """By tag: any of them, or all."""

    matchCondition: Literal["and", "or"] = "or"  # noqa: N815


class Restrictions(_Closed):
    """Where an identity counts."""

    projects: Selected = field(default_factory=Selected)
    tags: SelectedTags = field(default_factory=SelectedTags)


class NewIdentity(_Closed):
    """Body of the create of an SSH identity."""

    name: Tag
    sshPublicKeys: list[PublicKey] = []  # noqa: N815
    description: Description | None = None
    restrictions: Restrictions = field(default_factory=Restrictions)


class Mount(_Closed):
    """Where in the container."""

    containerMountPath: Annotated[str, Meta(pattern="^/")]  # noqa: N815
    volumeMountPath: str = ""  # noqa: N815


class VolumeSpec(_Closed):
    """MB."""

    storageSize: Annotated[int, Meta(ge=1024)]  # noqa: N815
    accessMode: Literal["ReadWriteOnce", "ReadWriteMany"] = "ReadWriteOnce"  # noqa: N815
    storageClassName: Literal["ssd", "hdd", "nvme"] = "ssd"  # noqa: N815


class Attached(_Closed):
    """What a volume is attached to."""

    id: str
    type: Literal["service"]


class NewVolume(_Closed):
    """Body of the create of a volume."""

    name: ShortName
    mounts: Annotated[list[Mount], Meta(min_length=1)]
    spec: VolumeSpec
    tags: list[Tag] = []
    attachedObjects: list[Attached] = []  # noqa: N815


class AttachVolume(_Closed):
    """Body of attach and detach."""

    nfObject: Attached  # noqa: N815
