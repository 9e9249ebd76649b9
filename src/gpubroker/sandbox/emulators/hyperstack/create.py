"""Hyperstack's create call: one or several VMs of a flavor in an environment."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.structs import replace
from starlette.responses import Response

from gpubroker.model.money import FREE
from gpubroker.model.terms import Market
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, Refusal
from gpubroker.sandbox.emulators.hyperstack.catalog import IMAGES, flavors_named, free_count
from gpubroker.sandbox.emulators.hyperstack.environments import (
    MOST_VMS,
    Environment,
    environment_named,
    key_named,
    machines_in,
)
from gpubroker.sandbox.emulators.hyperstack.machines import instance_json, names_of, taken
from gpubroker.sandbox.emulators.hyperstack.network import Rule, add_rule, give_address
from gpubroker.sandbox.emulators.hyperstack.volumes import KIND as VOLUME
from gpubroker.sandbox.emulators.hyperstack.volumes import (
    NewVolume,
    attach,
    holder_of,
    new_volume,
)
from gpubroker.sandbox.emulators.hyperstack.words import (
    Name,
    bad,
    conflict,
    done,
    named_thing,
    not_found,
    read_body,
)
from gpubroker.sandbox.money import Ledger
from gpubroker.sandbox.rented import Machine, Order, Thing
from gpubroker.sandbox.stock import Slot

USER = "ubuntu"
MOST_AT_ONCE = 20
_FIRST_ID = 731


class Create(Struct, forbid_unknown_fields=True, kw_only=True):
    """Body of the call. A flavor of one's own, and a profile, are not sold here."""

    name: Name
    environment_name: str
    flavor_name: str
    key_name: str
    count: Annotated[int, Meta(ge=1, le=MOST_AT_ONCE)]
    image_name: str | None = None
    volume_name: str | None = None
    create_bootable_volume: bool = False
    assign_floating_ip: bool = False
    enable_port_randomization: bool = True
    enhanced_monitoring_enabled: bool = False
    user_data: str = ""
    labels: list[str] = []
    security_rules: list[Rule] = []
    callback_url: Annotated[str, Meta(max_length=250)] | None = None
    flavor: dict[str, Any] | None = None
    profile: dict[str, Any] | None = None


def no_stock(slot: Slot) -> Refusal:
    """400, in words that say what is missing."""
    flavor, region = slot.facts["flavor"], slot.place
    return bad(f"Insufficient stock: flavor {flavor} is not available in region {region}")


def check_means(cloud: Cloud, call: Call, operation: str) -> None:
    """Quota and money."""
    if cloud.faults.take(operation, "quota"):
        raise bad("VM quota exceeded for this environment")
    if cloud.credit(call.owner.name) <= 0:
        raise bad("Insufficient credit to create the resource, please top up your account")


async def create(api: Emulator, call: Call) -> Response:
    """POST core/virtual-machines: all of them, or none."""
    body = read_body(call, Create)
    cloud = api.cloud
    if body.flavor is not None or body.profile is not None:
        raise bad("Custom flavors and profiles are not enabled for this organization")
    environment = environment_named(cloud, call, body.environment_name)
    slot = _slot(cloud, body, environment)
    key = key_named(cloud, call, environment, body.key_name)
    image, boot_volume = _system(cloud, call, body, environment)
    for rule in body.security_rules:
        rule.check()
    names = names_of(body.name, body.count)
    if taken(cloud, call.owner.name, names):
        raise conflict(f"Virtual machine with name {body.name} already exists")
    check_means(cloud, call, "create")
    if len(machines_in(cloud, environment, call.owner.name)) + body.count > MOST_VMS:
        raise bad("VM quota exceeded for this environment")
    if cloud.faults.take("create", "no_capacity") or free_count(cloud, slot) < body.count:
        raise no_stock(slot)
    ignored = cloud.faults.take("create", "ignored_field")
    randomised = body.assign_floating_ip and body.enable_port_randomization
    wire = {
        "environment": environment.name,
        "key_name": body.key_name,
        "labels": [] if ignored else body.labels,
        "callback_url": body.callback_url,
        "randomised": randomised,
        "boot": "CREATING",
        "stopped_at": 0.0,
        "shutoffs": [],
    }
    order = _order(slot, body, key, image, wire)
    machines = [_make(cloud, call, body, replace(order, name=name)) for name in names]
    for machine in machines:
        if boot_volume is not None:
            attach(cloud, boot_volume, machine)
        elif body.create_bootable_volume:
            size = int(slot.disk_max_gb)
            wanted = NewVolume(f"{machine.order.name}-boot", environment.name, size, "")
            made = new_volume(cloud, call.owner.name, environment, wanted, image)
            attach(cloud, made, machine)
    rows = [instance_json(cloud, call.owner, machine, call.now) for machine in machines]
    return done("Creating virtual machine initiated successfully", instances=rows)


def _order(slot: Slot, body: Create, key: Thing, image: str, wire: dict[str, Any]) -> Order:
    spot = slot.facts["spot"]
    return Order(
        slot=slot.key,
        market=Market.SPOT if spot else Market.ON_DEMAND,
        disk_gb=slot.disk_max_gb,
        kept_disk_gb=0 if spot else slot.disk_max_gb,
        name=body.name,
        label=body.name,
        image=image,
        user=USER,
        user_data=body.user_data.encode(),
        is_vm=True,
        keys=(key.wire["public_key"],),
        comes_back=False,
        wire=wire,
    )


def _make(cloud: Cloud, call: Call, body: Create, order: Order) -> Machine:
    machine = cloud.create(call.owner.name, order, number_from=_FIRST_ID)
    # The price of a VM has its root disk in it; only hibernated it is charged for.
    machine.disk_rate, machine.ledger = FREE, Ledger()
    cloud.save(machine)
    for rule in body.security_rules:
        add_rule(cloud, machine, rule)
    if body.assign_floating_ip:
        give_address(cloud, machine)
    return machine


def _slot(cloud: Cloud, body: Create, environment: Environment) -> Slot:
    slot = flavors_named(cloud, body.flavor_name).get(environment.region)
    if slot is None:
        raise not_found(f"Flavor {body.flavor_name} does not exist in {environment.region}")
    return slot


def _system(
    cloud: Cloud, call: Call, body: Create, environment: Environment
) -> tuple[str, Thing | None]:
    """What it boots from: an image by name, or a volume with a system on it."""
    if (body.image_name is None) == (body.volume_name is None):
        raise bad("Either image_name or volume_name is required")
    if body.volume_name is None:
        known = [image.name for image in IMAGES if image.region == environment.region]
        if body.image_name not in known:
            raise not_found(f"Image {body.image_name} does not exist in {environment.region}")
        return body.image_name, None
    volume = named_thing(cloud, call, VOLUME, body.volume_name)
    if volume is None or volume.wire["environment"] != environment.name:
        raise not_found(f"Volume {body.volume_name} does not exist")
    if not volume.wire["image"] or body.count > 1 or holder_of(cloud, volume):
        raise bad(f"Volume {body.volume_name} is not bootable, or is in use")
    return volume.wire["image"], volume
