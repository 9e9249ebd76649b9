"""Paperspace's creating call: one machine of a type, in a region, from a system."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from msgspec.structs import replace
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud, NoSlot
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.paperspace import addresses, scripts, snapshots
from gpubroker.sandbox.emulators.paperspace.account import MAX_MACHINES, check_standing
from gpubroker.sandbox.emulators.paperspace.catalog import (
    Template,
    region_of,
    runs_on,
    sold,
    template_of,
)
from gpubroker.sandbox.emulators.paperspace.events import NO_CAPACITY, event_json, record
from gpubroker.sandbox.emulators.paperspace.machines import MONTHLY_USD, charge_disk, machine_json
from gpubroker.sandbox.emulators.paperspace.network import NETWORK
from gpubroker.sandbox.emulators.paperspace.words import (
    Name,
    account_id,
    invalid,
    new_id,
    owned_thing,
    read_body,
    refusal,
)
from gpubroker.sandbox.rented import Machine, Order
from gpubroker.sandbox.stock import Slot

USER = "paperspace"
DOOMED_S = 3.0
"""So long a machine is looked for a place for, in vain."""
Hours = Annotated[float, Meta(ge=1)]


class Settings(Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """What can be said at the creation and changed later."""

    auto_shutdown_enabled: bool | None = None
    auto_shutdown_force: bool | None = None
    auto_shutdown_timeout: Hours | None = None
    auto_snapshot_enabled: bool | None = None
    auto_snapshot_frequency: Literal["hourly", "daily", "weekly", "monthly"] | None = None
    auto_snapshot_save_count: Annotated[int, Meta(ge=1)] | None = None
    restore_point_enabled: bool | None = None
    restore_point_frequency: Literal["shutdown"] | None = None

    def said(self) -> dict[str, Any]:
        """Those that are given."""
        told = zip(Settings.__struct_encode_fields__, Settings.__struct_fields__, strict=True)
        named = {name: getattr(self, field) for name, field in told}
        return {name: value for name, value in named.items() if value is not None}


NOTHING_SAID: dict[str, Any] = {
    "autoShutdownEnabled": False,
    "autoShutdownForce": None,
    "autoShutdownTimeout": None,
    "autoSnapshotEnabled": False,
    "autoSnapshotFrequency": None,
    "autoSnapshotSaveCount": None,
    "restorePointEnabled": False,
    "restorePointFrequency": None,
}


class Create(Settings, kw_only=True):
    """Body of the call."""

    name: Name
    machine_type: str
    template_id: str
    region: str
    disk_size: int
    public_ip_type: Literal["static", "dynamic", "none"] = "none"
    start_on_create: bool = True
    startup_script_id: str | None = None
    network_id: str | None = None
    accessor_ids: list[str] = []
    enable_nvlink: bool = False
    take_initial_snapshot: bool = False
    email_password: bool = True


def shuts_down_at(settings: dict[str, Any], since: float) -> float | None:
    """When the cloud itself switches a machine off; here nobody is ever seen to use one."""
    if not settings["autoShutdownEnabled"] or settings["autoShutdownTimeout"] is None:
        return None
    return float(since + settings["autoShutdownTimeout"] * 3600)


def check_quota(cloud: Cloud, account: str, operation: str) -> None:
    """Raises the refusal."""
    live = sum(not machine.ended for machine in cloud.owned(account))
    full = operation == "create" and live >= MAX_MACHINES
    if cloud.faults.take(operation, "quota") or full:
        raise refusal(403, "Your team has reached its machine limit. Contact support to raise it.")


def _check(cloud: Cloud, call: Call, body: Create) -> tuple[Slot, Template]:
    """What is wanted; refuses what names nothing that there is."""
    region = region_of(body.region)
    places = sold(cloud, body.machine_type)
    if not places:
        raise invalid("Invalid machine type")
    template = template_of(body.template_id)
    if not runs_on(template, next(iter(places.values())).facts["type"]):
        raise invalid("The template is not available for this machine type")
    if body.disk_size not in MONTHLY_USD:
        raise invalid(f"diskSize must be one of {sorted(MONTHLY_USD)}")
    if body.network_id is not None:
        network = owned_thing(cloud, call, NETWORK, body.network_id, "Private network")
        if network.wire["region"] != region:
            raise invalid("The private network is in another region")
    if set(body.accessor_ids) - {account_id(call.owner, "u")}:
        raise invalid("Invalid accessor")
    if region not in places:
        raise refusal(412, f"The machine type is not available in {region}.")
    return places[region], template


async def create(api: Emulator, call: Call) -> Response:
    """POST machines: what finds no place is made all the same, and off; its event tells why."""
    body, cloud = read_body(call, Create), api.cloud
    slot, template = _check(cloud, call, body)
    script = (
        scripts.script_named(cloud, call, body.startup_script_id)
        if body.startup_script_id
        else None
    )
    check_standing(api, call.owner)
    check_quota(cloud, call.owner.name, "create")
    if cloud.faults.take("create", "no_capacity"):
        raise refusal(412, NO_CAPACITY)
    ignored = cloud.faults.take("create", "ignored_field")
    settings = NOTHING_SAID | body.said()
    stops_at = shuts_down_at(settings, call.now + cloud.facts.boot_s)
    order = Order(
        slot=slot.key,
        disk_gb=body.disk_size,
        name=body.name,
        label="" if ignored else body.name,
        hostname=new_id("ps")(0),
        image=template.id,
        user=USER,
        is_vm=True,
        off_frees_gpu=True,
        start=body.start_on_create,
        stops_at=stops_at,
        wire={
            "os": template.system,
            "agent": template.agent,
            "boot": "provisioning",
            "network": body.network_id,
            "ip_type": body.public_ip_type,
            "settings": settings,
            "stopped_at": 0.0,
            "doomed_until": 0.0,
            "upgraded_at": 0.0,
            "modified_at": 0.0,
        },
    )
    machine, failure = _placed(cloud, call, order)
    charge_disk(cloud, machine, body.disk_size)
    if body.public_ip_type == "static":
        addresses.claim(cloud, machine.account, slot.place, machine)
    if script is not None:
        scripts.give(cloud, script, machine)
    if body.take_initial_snapshot:
        snapshots.take(cloud, machine, "initial")
    boots = body.start_on_create and not failure
    lasts_s = None if boots else DOOMED_S
    event = record(cloud, machine, "create", lasts_s=lasts_s, error=failure)
    row = machine_json(cloud, machine, call.now)
    return answer({"data": row, "event": event_json(cloud, event, call.now)})


def _placed(cloud: Cloud, call: Call, order: Order) -> tuple[Machine, str]:
    """The machine, and why it will not start."""
    account, named = call.owner.name, new_id("ps")
    doomed = {**order.wire, "doomed_until": call.now + DOOMED_S}
    if not order.start:
        return cloud.create(account, replace(order, wire=doomed), named=named), ""
    try:
        return cloud.create(account, order, named=named), ""
    except NoSlot:
        off = replace(order, start=False, wire=doomed)
        return cloud.create(account, off, named=named), NO_CAPACITY
