"""What a cloud has to rent out: slots, their prices as time goes by, and what is free."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gpubroker.model.money import Nanos, nanos

PRICE_STEP_S = 3600
"""A slot's price holds this long; slots change at different minutes."""
_PRICE_SWING = 0.02
_FLOOR_SWING = 0.08
_TICK = 100_000
"""Prices are quoted in steps of $0.0001."""


class GpuFacts(Struct, frozen=True, kw_only=True):
    """An accelerator as this cloud spells it, and as its machine's own tool does."""

    name: str
    memory_mib: int
    tool_name: str
    vendor: Literal["nvidia", "amd", "google", "aws", "intel"] = "nvidia"
    compute_cap: int = 0
    """Times 100."""
    tflops: float = 0.0
    bandwidth_gbs: float = 0.0


class Slot(Struct, frozen=True, kw_only=True):
    """Something that can be rented, again and again. Prices are for the whole machine."""

    key: str
    gpu: str
    gpu_count: int
    price: Nanos
    spot_floor: Nanos | None = None
    disk_gb_month: Nanos = Nanos(0)
    """Per GB and the vendor's month, while the machine runs."""
    place: str
    vcpus: float
    ram_mb: int
    disk_max_gb: float
    quantity: int = 1
    driver_version: str = "570.133.20"
    cuda_version: str = "12.8"
    facts: Mapping[str, Any] = {}
    """What only this cloud's emulator reads."""
    host: str = ""
    """The host that it is a part of, with its other parts; "" = it is a host of its own."""
    host_gpus: int = 0
    price_swing: float = _PRICE_SWING
    """How far the on-demand price moves; 0 for a list price."""

    @property
    def home(self) -> str:
        """The host, named also where there is but one slot on it."""
        return self.host or self.key


class SlotRow(Struct, frozen=True, kw_only=True):
    """A slot in a data file: USD, and the disk by the vendor's month."""

    key: str
    gpu: str
    gpu_count: int
    price: float
    spot_floor: float | None = None
    disk_gb_month: float = 0.0
    place: str
    vcpus: float
    ram_mb: int
    disk_max_gb: float
    quantity: int = 1
    driver_version: str = "570.133.20"
    cuda_version: str = "12.8"
    facts: Mapping[str, Any] = {}
    parts: tuple[int, ...] = ()
    """Rented in parts of so many GPUs each, as far as they are free; () = only as a whole."""


class CloudFacts(Struct, frozen=True, kw_only=True):
    """A cloud's character and stock: the content of data/<provider>.json, prices in USD."""

    boot_s: float = 1.5
    billing_lag_s: float = 0.0
    """Charges are on the vendor's record this long after they were incurred."""
    credit_usd: float = 10_000.0
    hours_per_month: int = 730
    stopped_disk_factor: float = 1.0
    """How much dearer a stopped machine's disk is."""
    price_swing: float = _PRICE_SWING
    """How far on-demand prices move; 0 where they are list prices."""
    gpus: tuple[GpuFacts, ...]
    slots: tuple[SlotRow, ...]

    def disk_rate(self, slot: Slot, gb: float, *, stopped: bool = False) -> Nanos:
        """Per hour for that much disk."""
        factor = self.stopped_disk_factor if stopped else 1.0
        return Nanos(round(slot.disk_gb_month * gb * factor / self.hours_per_month))


def shipped_facts(provider: str) -> CloudFacts:
    """The facts that come with the package. Raises FileNotFoundError for an unknown cloud."""
    file = resources.files("gpubroker.sandbox.data") / f"{provider}.json"
    return msgspec.json.decode(file.read_bytes(), type=CloudFacts)


def shipped_slots(facts: CloudFacts) -> tuple[Slot, ...]:
    """The stock of a cloud's facts: USD become nano-dollars."""
    return tuple(slot for row in facts.slots for slot in _slots(row, price_swing=facts.price_swing))


def _slots(row: SlotRow, *, price_swing: float) -> tuple[Slot, ...]:
    whole = _slot(row, price_swing)
    return tuple(_part(whole, count) for count in row.parts) or (whole,)


def _part(whole: Slot, count: int) -> Slot:
    share = count / whole.gpu_count
    floor = whole.spot_floor
    return replace(
        whole,
        key=f"{whole.key}/{count}",
        gpu_count=count,
        price=Nanos(round(whole.price * share)),
        spot_floor=None if floor is None else Nanos(round(floor * share)),
        vcpus=whole.vcpus * share,
        ram_mb=int(whole.ram_mb * share),
        quantity=whole.gpu_count // count,
        host=whole.key,
        host_gpus=whole.gpu_count,
    )


def _slot(row: SlotRow, price_swing: float) -> Slot:
    return Slot(
        key=row.key,
        gpu=row.gpu,
        gpu_count=row.gpu_count,
        price=nanos(row.price),
        spot_floor=None if row.spot_floor is None else nanos(row.spot_floor),
        disk_gb_month=nanos(row.disk_gb_month),
        place=row.place,
        vcpus=row.vcpus,
        ram_mb=row.ram_mb,
        disk_max_gb=row.disk_max_gb,
        quantity=row.quantity,
        driver_version=row.driver_version,
        cuda_version=row.cuda_version,
        facts=row.facts,
        price_swing=price_swing,
    )


class Push(Struct):
    """What a test did to the market of one GPU model."""

    price_factor: float = 1.0
    available: int | None = None
    """At most this many of its slots can be rented; None = all."""


def _words(name: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z0-9]+", name.lower()))


class Stock:
    """The slots of one cloud. Prices are a function of seed, slot and sandbox time alone."""

    def __init__(
        self,
        slots: tuple[Slot, ...],
        *,
        seed: int,
        holders: Callable[[str], int],
        pushes: dict[str, Push] | None = None,
    ) -> None:
        self.slots = {slot.key: slot for slot in slots}
        self.by_gpu: dict[str, list[Slot]] = {}
        self._parts: dict[str, list[Slot]] = {}
        for slot in slots:
            self.by_gpu.setdefault(slot.gpu, []).append(slot)
            self._parts.setdefault(slot.home, []).append(slot)
        self.pushes = pushes if pushes is not None else {}
        self._seed = seed
        self._holders = holders

    def models(self, wanted: str) -> tuple[str, ...]:
        """The cloud's GPU names meant by `wanted`: that very name, else those that begin so."""
        names = tuple(dict.fromkeys(slot.gpu for slot in self.slots.values()))
        words = _words(wanted)
        exact = tuple(name for name in names if _words(name) == words)
        return exact or tuple(n for n in names if words and _words(n)[: len(words)] == words)

    def price(self, slot: Slot, now: float) -> Nanos:
        """On-demand, per hour, without disk."""
        return self._moved(slot, slot.price, slot.price_swing, now)

    def floor(self, slot: Slot, now: float) -> Nanos | None:
        """The least bid that wins, None where the slot is not sold as spot."""
        if slot.spot_floor is None:
            return None
        return self._moved(slot, slot.spot_floor, _FLOOR_SWING, now)

    def free(self, slot: Slot) -> bool:
        """Whether it can be rented now."""
        if self._holders(slot.key) >= slot.quantity:
            return False
        if slot.host and self.gpus_free(slot) < slot.gpu_count:
            return False
        push = self.pushes.get(slot.gpu)
        if push is None or push.available is None:
            return True
        same = dict.fromkeys(other.home for other in self.by_gpu[slot.gpu])
        return slot.home in tuple(same)[: push.available]

    def gpus_free(self, slot: Slot) -> int:
        """How many GPUs of a host that is rented in parts nobody has."""
        parts = self._parts[slot.home]
        return slot.host_gpus - sum(self._holders(part.key) * part.gpu_count for part in parts)

    def next_step(self, slot: Slot, after: float) -> float:
        """When its price moves next."""
        phase = self._dice(slot.home, -1) * PRICE_STEP_S
        return ((after - phase) // PRICE_STEP_S + 1) * PRICE_STEP_S + phase

    def _moved(self, slot: Slot, base: int, swing: float, now: float) -> Nanos:
        step = round(self.next_step(slot, now) // PRICE_STEP_S)
        factor = 1 + swing * (2 * self._dice(slot.home, step) - 1)
        push = self.pushes.get(slot.gpu)
        if push is not None:
            factor *= push.price_factor
        return Nanos(max(1, round(base * factor / _TICK)) * _TICK)

    def _dice(self, key: str, step: int) -> float:
        digest = hashlib.sha256(f"{self._seed}/{key}/{step}".encode()).digest()
        return int.from_bytes(digest[:8]) / 2**64
