"""Which providers there are, and how one is put together."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Literal, Protocol, cast

from msgspec import Struct

from gpubroker.catalog.clouds import Cloud, UnknownCloud, cloud, clouds, take_in
from gpubroker.model.errors import Unsupported
from gpubroker.providers.accounts import Account, Wiring

if TYPE_CHECKING:
    from gpubroker.model.clock import Clock
    from gpubroker.providers.base import Provider
    from gpubroker.providers.circuit import Circuit
    from gpubroker.providers.exchange import Observer
    from gpubroker.providers.layers import Faults, Layer, Meter, Recording, StartSpan
    from gpubroker.providers.limits import LimitBook

ENTRY_POINTS = "gpubroker.providers"
BUILT_IN: Mapping[str, str] = {
    "digitalocean": "gpubroker.providers.digitalocean:DigitalOcean",
    "fluidstack": "gpubroker.providers.fluidstack:FluidStack",
    "hyperstack": "gpubroker.providers.hyperstack:Hyperstack",
    "jarvislabs": "gpubroker.providers.jarvislabs:JarvisLabs",
    "lambda_labs": "gpubroker.providers.lambda_labs:LambdaLabs",
    "northflank": "gpubroker.providers.northflank:Northflank",
    "lyceum": "gpubroker.providers.lyceum:Lyceum",
    "paperspace": "gpubroker.providers.paperspace:Paperspace",
    "runpod": "gpubroker.providers.runpod:RunPod",
    "salad": "gpubroker.providers.salad:Salad",
    "shadeform": "gpubroker.providers.shadeform:Shadeform",
    "tensordock": "gpubroker.providers.tensordock:TensorDock",
    "thunder_compute": "gpubroker.providers.thunder_compute:ThunderCompute",
    "vast_ai": "gpubroker.providers.vast_ai:VastAi",
    "verda": "gpubroker.providers.verda:Verda",
}
"""Known without asking the metadata of every installed package."""
PUBLIC_PRICES: tuple[str, ...] = (
    "northflank",
    "runpod",
    "tensordock",
    "thunder_compute",
    "vast_ai",
    "verda",
)
"""Those of them that tell offers without a key; known without importing any of them."""
EXTRAS: Mapping[str, str] = {}
"""provider -> extra that brings its SDK, where one is needed."""

DEADLINES: Mapping[str, float] = {
    "offers": 60.0,
    "list": 180.0,
    "billing": 180.0,
    "create": 180.0,
    "terminate": 120.0,
}
USUAL_DEADLINE_S = 60.0
OPERATIONS_WITH_USUAL = ("whoami", "scopes", "find", "get", "balance", "ensure", "attach_key")

Status = Literal["ready", "planned", "external"]


class ProviderClass(Protocol):
    """What an entry point must name."""

    def connect(self, account: Account, wiring: Wiring) -> Provider:
        """The bare provider for one account; opens nothing yet."""
        ...


class Hooks(Struct, frozen=True):
    """What may watch or disturb the calls of an account."""

    observers: Sequence[Observer] = ()
    """See every HTTP exchange, secrets removed."""
    start_span: StartSpan | None = None
    write_recording: Callable[[Recording], None] | None = None
    faults: Faults | None = None
    outermost: Sequence[Layer] = ()
    """Around all other layers."""


class Connected(Struct, frozen=True):
    """One account, ready: the provider in its layers, and what they know."""

    provider: Provider
    account: Account
    meter: Meter
    circuit: Circuit


def names() -> tuple[str, ...]:
    """Every cloud by its wire name, built or planned."""
    return tuple(entry.name for entry in clouds())


def status(name: str) -> Status:
    """Whether a provider of this name can be used. UnknownCloud for a name nobody has."""
    if name in BUILT_IN:
        return "ready"
    if name in third_party():
        return "external"
    cloud(name)
    return "planned"


def ready() -> tuple[str, ...]:
    """Wire names that can be connected, ours first; asks no installed package."""
    return (*BUILT_IN, *_taken_up)


_taken_up: dict[str, str] = {}


def take_up(name: str) -> bool:
    """Make a provider of another package known by its name. Answer: whether there is one.

    Its package is imported. What it brings cannot stand in for a cloud of the table.
    """
    target = third_party().get(name)
    if target is None:
        return False
    kind = _loaded(name, target)
    secrets = (tuple(kind.credentials),) if kind.credentials else ()
    take_in(
        Cloud(
            name=name,
            display_name=kind.display_name,
            website=kind.website,
            credentials=secrets,
        )
    )
    _taken_up[name] = target
    return True


@cache
def third_party() -> Mapping[str, str]:
    """Wire name -> "module:Class" of providers that other packages bring."""
    from importlib.metadata import entry_points

    return {
        point.name: point.value
        for point in entry_points(group=ENTRY_POINTS)
        if point.name not in BUILT_IN
    }


def provider_class(name: str) -> type[Provider]:
    """The class behind a provider's name, or any short form of it.

    Unsupported where the cloud is planned or its extra is missing; UnknownCloud for no cloud.
    """
    try:
        wire_name = cloud(name).name
    except UnknownCloud:
        if name not in third_party():
            raise
        wire_name = name
    target = BUILT_IN.get(wire_name) or third_party().get(wire_name)
    if target is None:
        raise _unsupported(wire_name, f"{cloud(wire_name).display_name} is planned, not built yet")
    return _loaded(wire_name, target)


def answers(name: str) -> frozenset[str]:
    """Calls that a cloud answers beyond those of every cloud: the optional protocols of `base`."""
    from gpubroker.providers.base import MUTATIONS, READS, Provider

    optional = (READS | MUTATIONS) - set(dir(Provider))
    return frozenset(call for call in optional if hasattr(provider_class(name), call))


def _loaded(wire_name: str, target: str) -> type[Provider]:
    module, _, attribute = target.partition(":")
    try:
        return cast("type[Provider]", getattr(importlib.import_module(module), attribute))
    except ModuleNotFoundError as missing:
        extra = EXTRAS.get(wire_name, wire_name)
        hint = f"{wire_name} needs the module {missing.name}: install gpubroker[{extra}]"
        raise _unsupported(wire_name, hint) from missing


def _unsupported(provider: str, message: str) -> Unsupported:
    error = Unsupported(message, provider=provider)
    error.capability = "provider"
    return error


def connect(
    account: Account,
    *,
    clock: Clock,
    book: LimitBook,
    base_url: str | None = None,
    loopback_only: bool = False,
    hooks: Hooks | None = None,
) -> Connected:
    """One account's provider with all its layers around it. Opens no connection yet.

    `book`: the rate limits' arrival times, shared with every process that uses the account.
    """
    from gpubroker.providers.circuit import Circuit
    from gpubroker.providers.decorated import decorate
    from gpubroker.providers.layers import Meter, RateLimit, Record, Retry, Trace
    from gpubroker.providers.limits import Limiter

    hooks = hooks or Hooks()
    kind = cast("ProviderClass", provider_class(account.provider))
    wiring = Wiring(base_url, loopback_only, clock, hooks.observers)
    bare = kind.connect(account, wiring)
    meter, circuit = Meter(clock), Circuit(clock)
    limiter = Limiter(
        bare.capabilities.limits, book, clock, provider=bare.name, account=account.alias
    )
    layers: list[Layer] = [*hooks.outermost, meter]
    if hooks.start_span:
        layers.append(Trace(hooks.start_span))
    layers += [circuit, Retry(clock), RateLimit(limiter, clock)]
    if hooks.write_recording:
        layers.append(Record(hooks.write_recording))
    if hooks.faults:
        layers.append(hooks.faults)
    deadlines = dict.fromkeys(OPERATIONS_WITH_USUAL, USUAL_DEADLINE_S) | dict(DEADLINES)
    return Connected(decorate(bare, layers, deadlines=deadlines), account, meter, circuit)
