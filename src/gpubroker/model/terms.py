"""The words of the model: each means one thing everywhere, in code, JSON, tables and docs."""

from __future__ import annotations

from enum import StrEnum


class Market(StrEnum):
    """How a machine is sold."""

    ON_DEMAND = "on_demand"
    SPOT = "spot"
    RESERVED = "reserved"


class Availability(StrEnum):
    """Whether an offer can be rented now, as far as there is evidence."""

    YES = "yes"
    UNKNOWN = "unknown"
    NO = "no"


class Source(StrEnum):
    """Where a row of the market comes from."""

    LIVE = "live"
    CACHED = "cached"
    CATALOG = "catalog"


class Kind(StrEnum):
    """What is rented. In sentences all three are a machine."""

    CONTAINER = "container"
    VM = "vm"
    JOB = "job"


class State(StrEnum):
    """What the provider says of a machine. Never what we asked for."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    TERMINATING = "terminating"
    TERMINATED = "terminated"
    FAILED = "failed"
    PREEMPTED = "preempted"
    UNKNOWN = "unknown"


class Carrier(StrEnum):
    """How an attempt is found again at the provider."""

    TOKEN = "token"  # noqa: S105 - a word of the protocol, no secret
    UNIQUE_NAME = "unique_name"
    TAG = "tag"
    NAME = "name"
    KEY_COMMENT = "key_comment"


class Resource(StrEnum):
    """What may have to exist before a machine."""

    SSH_KEY = "ssh_key"
    STARTUP_SCRIPT = "startup_script"
    FIREWALL = "firewall"
    NETWORK = "network"
    ADDRESS = "address"
    DISK = "disk"
    VOLUME = "volume"
    NAMESPACE = "namespace"
    SECRET = "secret"  # noqa: S105 - a word of the protocol, no secret
    NODE_POOL = "node_pool"


OWNER_WIDE = frozenset({Resource.SSH_KEY, Resource.FIREWALL, Resource.NETWORK, Resource.NAMESPACE})
"""Made once per owner and shared by its machines; everything else is made per attempt."""


class Expiry(StrEnum):
    """What ends a machine at its expiry when no process of ours runs."""

    PROVIDER = "provider"
    MACHINE_ENDS_BILLING = "machine_ends_billing"
    MACHINE_FREES_GPU = "machine_frees_gpu"
    CONTROLLER_ONLY = "controller_only"
