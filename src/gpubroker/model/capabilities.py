"""What a cloud can do, as data: the fleet branches on these, never on a provider's name."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

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
    ssh: Literal["sshd", "bootstrap", "exec", "forward", "none"]
    ssh_keys: Literal["inline", "attached", "registry", "account_set", "metadata", "bootstrap"]
    """`attached`: given to the made machine, key by key (KeyAttachable), before it is ready."""
    ssh_keys_max: int = 16
    env: Literal["native", "bootstrap", "none"]
    ports: Literal["any_tcp", "http_only", "at_create", "firewall", "none"]
    stop: Literal["keeps_disk", "loses_gpu", "none"]
    expiry: Expiry
    needs: tuple[Resource, ...] = ()
    """Journalled before the create, in this order."""
    create_deadline_s: float
    """The vendor acts on a create this long after it was sent, and not later."""
    list_lag_s: float
    """A made machine is in lists this long after, and not later."""
    absence_grace_s: float
    """Two misses count as absence only when this far apart."""
    gone: Literal["404", "tombstone", "absent"]
    scoped_list: bool = False
    async_create: bool = False
    billing: Literal["exact", "daily", "balance", "manual"]
    billing_lag_s: float = 0
    public_prices: bool = False
    """Offers are told without a key."""
    limits: tuple[Limit, ...]
