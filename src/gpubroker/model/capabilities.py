"""What a cloud can do, as data: the fleet branches on these, never on a provider's name."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import FREE, Nanos
from gpubroker.model.terms import Carrier, Expiry, Kind, Market, Resource


class Limit(Struct, frozen=True):
    """A rate limit: at most `burst` at once, then one every `interval_s`."""

    bucket: str
    operations: frozenset[str]
    interval_s: float
    burst: int = 1
    per: Literal["account", "ip"] = "account"


class Capabilities(Struct, frozen=True, kw_only=True):
    """Declared by each provider; docs/providers is generated from it."""

    kinds: frozenset[Kind]
    markets: frozenset[Market]
    carriers: tuple[Carrier, ...]
    """Best first. A first carrier of token or unique_name makes a create safe to send again."""
    image: Literal["container", "docker_on_vm", "none"]
    startup: Literal["cloud_init", "script", "args", "over_ssh", "none"]
    startup_max_bytes: int
    ssh: Literal["sshd", "bootstrap", "portal", "exec", "forward", "none"]
    """`portal`: a server that admits only keys which a person sets on the vendor's page."""
    ssh_keys: Literal["inline", "attached", "registry", "account_set", "metadata", "bootstrap"]
    """`attached`: given to the made machine, key by key (KeyAttachable), before it is ready."""
    ssh_keys_max: int = 16
    env: Literal["native", "bootstrap", "none"]
    ports: Literal["any_tcp", "http_only", "at_create", "firewall", "none"]
    stop: Literal["keeps_disk", "loses_gpu", "none"]
    stop_wipes: bool = False
    """Whether the system's disk ends with a stop: a started machine has another host key then."""
    start_renames: bool = False
    """Whether a started machine may have another id: its carrier tells which it is."""
    expiry: Expiry
    registry_auth: bool = False
    """Whether a private image's login can be given."""
    needs: tuple[Resource, ...] = ()
    """Journalled before the create, in this order; see `needed`."""
    create_deadline_s: float
    """The vendor acts on a create this long after it was sent, and not later."""
    list_lag_s: float
    """A made machine is in lists this long after, and not later."""
    absence_grace_s: float
    """Two misses count as absence only when this far apart."""
    gone: Literal["404", "tombstone", "absent"]
    scoped_list: bool = False
    async_create: bool = False
    queues: bool = False
    """No create is refused for capacity: it waits, and a phase's deadline ends the waiting."""
    billing: Literal["exact", "daily", "balance", "manual"]
    billing_lag_s: float = 0
    billing_query_cost: Nanos = FREE
    """What one look at the record costs the user: such looks are few, and told."""
    untold: frozenset[str] = frozenset()
    """Fields of a request that the cloud's record is known to tell otherwise than it was asked:
    "image", "disk", "ports", "count", "gpu", "region", "tier". They are not compared."""
    public_prices: bool = False
    """Offers are told without a key."""
    limits: tuple[Limit, ...]

    @property
    def logs_in(self) -> bool:
        """Whether gpubroker itself gets in over SSH: elsewhere a machine that runs is ready."""
        return self.ssh in {"sshd", "bootstrap"}


def needed(capabilities: Capabilities, spec: LaunchSpec) -> tuple[Resource, ...]:
    """What must be made for this machine: a secret or volume only where it asks for one."""
    asked = {Resource.SECRET: spec.registry_auth is not None, Resource.VOLUME: bool(spec.volumes)}
    return tuple(what for what in capabilities.needs if asked.get(what, True))
