"""From an order, however it came, to a pod: placed, paid for, with what RunPod puts into it."""

from __future__ import annotations

import secrets
import shlex

from msgspec import Struct
from msgspec.structs import replace

from gpubroker.model.money import Nanos
from gpubroker.model.terms import Market
from gpubroker.sandbox.cloud import Cloud, NoSlot
from gpubroker.sandbox.emulators.runpod.placing import Wish, free
from gpubroker.sandbox.emulators.runpod.pod import ADDRESS, host_id
from gpubroker.sandbox.emulators.runpod.refused import (
    HOURS_OF_CREDIT,
    NO_BALANCE,
    NO_CAPACITY,
    OVER_LIMIT,
    Refused,
)
from gpubroker.sandbox.emulators.runpod.words import vendor_id
from gpubroker.sandbox.rented import Machine, Order, Thing
from gpubroker.sandbox.stock import Slot

OWN_IMAGES = "runpod/"
START = "/start.sh"
_START = "#!/bin/sh\nexec sleep infinity\n"
"""The command of RunPod's own images. They start their SSH server in it; a pod here has one."""
_PROTOCOLS = {"tcp", "http"}
_HIGHEST_PORT = 65_535


class PodOrder(Struct, frozen=True, kw_only=True):
    """What a customer asked for, in neither API's words."""

    name: str
    image: str
    wish: Wish
    args: str = ""
    container_gb: int = 0
    volume_gb: int = 0
    volume_path: str = ""
    network_volume: str | None = None
    env: dict[str, str] = {}
    ports: tuple[str, ...] = ()
    registry: str | None = None
    bid: Nanos | None = None
    """Per hour and GPU; makes it a spot pod."""
    highest_price: Nanos | None = None
    """Per hour of the pod."""
    start_ssh: bool = False
    start_jupyter: bool = False
    global_networking: bool = False
    stops_at: float | None = None
    ends_at: float | None = None


def read_ports(texts: tuple[str, ...]) -> tuple[tuple[int, str], ...]:
    """(port, protocol) of `22/tcp`. Raises Refused."""
    found = []
    for text in texts:
        number, _, protocol = text.strip().partition("/")
        if not number.isdecimal() or protocol not in _PROTOCOLS:
            raise Refused("invalid", f"invalid port '{text}': expected port/protocol")
        if not 0 < int(number) <= _HIGHEST_PORT:
            raise Refused("invalid", f"port {number} is not between 1 and {_HIGHEST_PORT}")
        found.append((int(number), protocol))
    return tuple(found)


def account_keys(cloud: Cloud, account: str) -> list[str]:
    """The account's public keys, one line each."""
    return [thing.wire["public_key"] for thing in cloud.live_things(account, "ssh_key")]


def set_account_keys(cloud: Cloud, account: str, keys: list[str]) -> None:
    """Exactly these from now on; pods that exist keep what they have."""
    kept = set()
    for thing in cloud.live_things(account, "ssh_key"):
        if thing.wire["public_key"] in keys:
            kept.add(thing.wire["public_key"])
        else:
            cloud.end_thing(thing)
    for key in dict.fromkeys(keys):
        if key not in kept:
            cloud.add_thing(account, "ssh_key", public_key=key)


def deploy(cloud: Cloud, account: str, order: PodOrder, now: float, url: str) -> Machine:
    """A new pod, which finds the API at `url`. Raises Refused."""
    ports = read_ports(order.ports)
    volume = _network_volume(cloud, account, order)
    order = _where_the_volume_is(order, volume)
    if order.registry is not None and not _owns(cloud, account, "registry", order.registry):
        raise Refused("invalid", f"container registry '{order.registry}' not found")
    slot = _choose(cloud, order, now)
    _check_purse(cloud, account, order, slot, now)
    try:
        machine = cloud.create(
            account,
            _neutral(cloud, account, order, slot, ports, url),
            named=lambda number: vendor_id("pod", number),
        )
    except NoSlot:
        raise Refused("no_capacity", NO_CAPACITY) from None
    machine.order = replace(machine.order, env=machine.order.env | _own_env(machine, slot))
    cloud.save(machine)
    return machine


def _owns(cloud: Cloud, account: str, kind: str, id_: str) -> Thing | None:
    return next((thing for thing in cloud.live_things(account, kind) if thing.id == id_), None)


def _network_volume(cloud: Cloud, account: str, order: PodOrder) -> Thing | None:
    if order.network_volume is None:
        return None
    volume = _owns(cloud, account, "network_volume", order.network_volume)
    if volume is None:
        raise Refused("invalid", f"network volume '{order.network_volume}' not found")
    return volume


def _where_the_volume_is(order: PodOrder, volume: Thing | None) -> PodOrder:
    if volume is None:
        return order
    wanted, there = order.wish.data_centers, volume.wire["data_center"]
    if (wanted and there not in wanted) or order.wish.tier == "COMMUNITY":
        raise Refused("invalid", f"network volume '{volume.id}' is in data center {there}")
    return replace(order, wish=replace(order.wish, tier="SECURE", data_centers=(there,)))


def _choose(cloud: Cloud, order: PodOrder, now: float) -> Slot:
    """The cheapest that is free, in the first wanted place; for a bid, of the lowest floor."""
    wish = replace(order.wish, disk_gb=order.container_gb + order.volume_gb)
    places = {place: rank for rank, place in enumerate(wish.data_centers)}
    asked = cloud.stock.price if order.bid is None else cloud.stock.floor
    prices = {slot.key: asked(slot, now) for slot in free(cloud, wish)}
    sold = [(cloud.stock.slots[key], price) for key, price in prices.items() if price is not None]
    highest = order.highest_price
    if order.bid is not None:
        highest = Nanos(order.bid * max(wish.count, 1))
    affordable = [(slot, price) for slot, price in sold if highest is None or price <= highest]
    # A bid that wins nowhere finds nothing, as if nothing were there.
    if not affordable or cloud.faults.take("create", "no_capacity"):
        raise Refused("no_capacity", NO_CAPACITY)

    def rank(candidate: tuple[Slot, Nanos]) -> tuple[int, int, bool]:
        slot, price = candidate
        facts = slot.facts
        return places.get(facts["data_center"], 0), price, not facts["public_ip"]

    return min(affordable, key=rank)[0]


def _check_purse(cloud: Cloud, account: str, order: PodOrder, slot: Slot, now: float) -> None:
    if cloud.faults.take("create", "quota"):
        raise Refused("quota", OVER_LIMIT)
    rate = cloud.stock.price(slot, now) if order.bid is None else order.bid * slot.gpu_count
    if cloud.credit(account) < rate * HOURS_OF_CREDIT:
        raise Refused("balance", NO_BALANCE)


def _neutral(
    cloud: Cloud,
    account: str,
    order: PodOrder,
    slot: Slot,
    ports: tuple[tuple[int, str], ...],
    url: str,
) -> Order:
    env = dict(order.env)
    if order.start_ssh and "PUBLIC_KEY" not in env:
        env |= _joined(account_keys(cloud, account))
    if order.start_jupyter:
        env.setdefault("JUPYTER_PASSWORD", secrets.token_urlsafe(15))
    ignored = cloud.faults.take("create", "ignored_field")
    return Order(
        slot=slot.key,
        market=Market.ON_DEMAND if order.bid is None else Market.SPOT,
        bid=None if order.bid is None else Nanos(order.bid * slot.gpu_count),
        disk_gb=order.container_gb + order.volume_gb,
        kept_disk_gb=order.volume_gb,
        name="" if ignored else order.name,
        image=order.image,
        env=env,
        # An SSH session starts with a clean environment: only the container's own processes see it.
        env_in_ssh=False,
        command=as_command(order.args),
        ports=ports,
        programs={START: _START} if order.image.startswith(OWN_IMAGES) else {},
        keys=admitted(env),
        stops_at=order.stops_at,
        ends_at=order.ends_at,
        comes_back=False,
        ends_penniless=order.network_volume is None,
        wire={
            "env": env,
            "args": order.args,
            "ports": list(order.ports),
            "container_gb": order.container_gb,
            "volume_gb": order.volume_gb,
            "volume_path": order.volume_path,
            "network_volume": order.network_volume,
            "registry": order.registry,
            "global_networking": order.global_networking,
            "public_ip": slot.facts["public_ip"],
            "locked": False,
            "pod_key": f"rpa_{secrets.token_hex(24)}",
            "api": url,
        },
    )


def _joined(keys: list[str]) -> dict[str, str]:
    return {"PUBLIC_KEY": "\n\n".join(keys)} if keys else {}


def admitted(env: dict[str, str]) -> tuple[str, ...]:
    """The keys that RunPod's images let in: the lines of PUBLIC_KEY."""
    lines = (line.strip() for line in env.get("PUBLIC_KEY", "").splitlines())
    return tuple(line for line in lines if line)


def as_command(args: str) -> str | None:
    """The container's words, as a shell's: docker splits them and expands nothing."""
    try:
        words = shlex.split(args)
    except ValueError:
        return args
    return shlex.join(words) or None


def _own_env(machine: Machine, slot: Slot) -> dict[str, str]:
    """What RunPod puts into every container beside what was asked for."""
    return {
        "RUNPOD_POD_ID": machine.id,
        "RUNPOD_API_KEY": machine.wire["pod_key"],
        # Where `runpodctl` on the pod finds the API: its own default is the vendor's.
        "RUNPOD_GRAPHQL_URL": f"{machine.wire['api']}/graphql",
        "RUNPOD_POD_HOSTNAME": host_id(machine),
        "RUNPOD_GPU_COUNT": str(slot.gpu_count),
        "RUNPOD_CPU_COUNT": str(int(slot.vcpus)),
        "RUNPOD_MEM_GB": str(slot.ram_mb // 1000),
        "RUNPOD_PUBLIC_IP": ADDRESS,
        "RUNPOD_DC_ID": slot.facts["data_center"] or "",
    }


def with_env(machine: Machine, slot: Slot, env: dict[str, str]) -> Order:
    """The order with another environment, RunPod's own part kept."""
    machine.wire["env"] = env
    machine.keys = admitted(env)
    return replace(machine.order, env=env | _own_env(machine, slot))
