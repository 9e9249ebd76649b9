"""What a cloud keeps of its customers: accounts, machines, and the things beside them."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from gpubroker.model.money import Nanos
from gpubroker.model.terms import Market, State
from gpubroker.sandbox.faults import Kind
from gpubroker.sandbox.money import Ledger

ENDED = frozenset({State.TERMINATED})
"""A failed machine still has its disk, and pays for it."""
HOLDS_SLOT = frozenset({State.PENDING, State.RUNNING, State.FAILED})


class Account(Struct, kw_only=True):
    """A key is an account. The key itself is not kept."""

    name: str
    """Made from the key's fingerprint."""
    number: int
    created_at: float


class Order(Struct, frozen=True, kw_only=True):
    """What a customer wants of a slot, in no vendor's words."""

    slot: str
    market: Market = Market.ON_DEMAND
    bid: Nanos | None = None
    """Per hour of the whole machine; spot only."""
    disk_gb: float = 10
    name: str = ""
    label: str = ""
    image: str = ""
    user: str = "root"
    hostname: str = ""
    """"" = the name."""
    env: dict[str, str] = {}
    env_in_ssh: bool = True
    startup_script: str = ""
    user_data: bytes = b""
    """For cloud-init, at the first boot."""
    is_vm: bool = False
    """With docker, keys in authorized_keys, and paid for while it is off."""
    own_address: bool = True
    """A VM's; False where it answers behind a port of its host, as a container does."""
    vcpus: int | None = None
    ram_mb: int | None = None
    """Where a customer chooses them; None = the slot's."""
    command: str | None = None
    ports: tuple[tuple[int, str], ...] = ()
    programs: dict[str, str] = {}
    """What the image brings: absolute path -> text, put there at each boot."""
    keys: tuple[str, ...] = ()
    start: bool = True
    keeps_gpu: bool = False
    """Stopped, it holds its GPU all the same, and is paid for as if it ran."""
    off_frees_gpu: bool = False
    """Switched off from inside, it is stopped as if its customer had stopped it."""
    kept_disk_gb: float | None = None
    """What is left of the disk, and paid, while it is stopped; None = all of it."""
    stops_at: float | None = None
    """When the cloud itself stops it."""
    ends_at: float | None = None
    """When the cloud itself ends it."""
    comes_back: bool = True
    """Taken away, it boots again as soon as its bid wins."""
    ends_penniless: bool = False
    """Without credit it is ended, not just stopped."""
    wire: dict[str, Any] = {}
    """What only the cloud's emulator reads."""


class Machine(Struct, kw_only=True):
    """A machine, from its creation on for ever: ended ones are kept."""

    provider: str
    id: str
    account: str
    order: Order
    label: str
    gpu: str
    """What is really in it; the slot's, unless a fault changed that."""
    gpu_rate: Nanos
    disk_rate: Nanos
    disk_rate_stopped: Nanos
    created_at: float
    state: State
    reason: str = ""
    """Why it failed or was preempted."""
    due_at: float | None = None
    """When the next thing happens to it by itself: its boot is done."""
    running_since: float | None = None
    ended_at: float | None = None
    stops_at: float | None = None
    ends_at: float | None = None
    """Timers that have not gone off yet."""
    wipe: bool = False
    """At the next boot it starts from an empty folder."""
    exited: bool = False
    """It ended from inside: failed, but it held together until then and can start again."""
    booting_again: bool = False
    """A reboot: it is paid for all along."""
    trouble: tuple[Kind, ...] = ()
    """Faults that it was created with."""
    market_at: float = 0.0
    """Until when its bid was compared with the market."""
    hidden_until: float = 0.0
    """Lists do not show it before."""
    keys: tuple[str, ...] = ()
    address: str = ""
    """Its own, where the vendor reports no ports."""
    ssh_host: str = "127.0.0.1"
    ssh_port: int | None = None
    published: dict[str, int] = {}
    host_key: str = ""
    ledger: Ledger
    wire: dict[str, Any] = {}

    @property
    def is_spot(self) -> bool:
        """Whether it can be taken away."""
        return self.order.market == Market.SPOT

    @property
    def ended(self) -> bool:
        """Gone for good."""
        return self.state in ENDED

    @property
    def holds_slot(self) -> bool:
        """Whether nobody else can have its GPU."""
        reserved = self.order.keeps_gpu and self.state == State.STOPPED
        return reserved or self.state in HOLDS_SLOT

    @property
    def timer(self) -> float | None:
        """When the next of its timers goes off."""
        timers = [at for at in (self.stops_at, self.ends_at) if at is not None]
        return None if self.ended else min(timers, default=None)

    @property
    def price(self) -> Nanos:
        """Per hour while it runs, disk included."""
        return Nanos(self.gpu_rate + self.disk_rate)

    @property
    def billed(self) -> bool:
        """Whether it costs money now, by the engine's own books."""
        return self.ledger.rate > 0


class Thing(Struct, kw_only=True):
    """A volume, key or other thing of an account that is no machine."""

    provider: str
    kind: str
    id: str
    account: str
    name: str = ""
    state: str = "active"
    created_at: float
    ended_at: float | None = None
    ends_with: str = ""
    """The machine whose end, by whatever cause, is its own too."""
    ledger: Ledger
    wire: dict[str, Any] = {}
