"""Vast.ai's create call: an ask that is accepted becomes a contract."""

from __future__ import annotations

import secrets
from typing import Any

from msgspec import structs
from starlette.responses import Response

from gpubroker.model.money import nanos, usd
from gpubroker.model.terms import Market
from gpubroker.sandbox.cloud import Cloud, NoSlot
from gpubroker.sandbox.emulators.base import Call, Emulator, Refusal
from gpubroker.sandbox.emulators.vast_ai.market import taken
from gpubroker.sandbox.emulators.vast_ai.offers import OFFER_NUMBERS_FROM
from gpubroker.sandbox.emulators.vast_ai.order import BadOrder, InstanceOrder, read_order
from gpubroker.sandbox.emulators.vast_ai.volumes import attach_volume, open_volume
from gpubroker.sandbox.emulators.vast_ai.words import (
    check_number,
    check_query,
    refusal,
    success,
)
from gpubroker.sandbox.rented import Machine, Order
from gpubroker.sandbox.stock import Slot

INSTANCES_FROM = 27_500_000
_DAY_S = 86_400


async def create(api: Emulator, call: Call) -> Response:
    """PUT asks/{id}."""
    check_query(call.request)
    order = _order(call.body)
    machine = _accept(api.cloud, call, check_number(call.ids[0], "ask_id"), order)
    own_key = machine.order.wire["instance_api_key"]
    return success(new_contract=int(machine.id), instance_api_key=own_key)


async def create_many(api: Emulator, call: Call) -> Response:
    """POST asks/bulk: the same machine of several offers."""
    check_query(call.request)
    order = _order(call.body, bulk=True)
    if not call.body.get("ids"):
        raise refusal(400, "invalid_args", "Invalid args: 'ids' is required")
    made: list[int] = []
    for id_ in call.body["ids"]:
        try:
            made.append(int(_accept(api.cloud, call, int(id_), order).id))
        except Refusal:
            if not made:
                raise
    return success(new_contracts=made)


def _order(body: Any, *, bulk: bool = False) -> InstanceOrder:
    try:
        return read_order(body, bulk=bulk)
    except BadOrder as bad:
        raise refusal(400, bad.code, str(bad)) from None


def _listed(cloud: Cloud, offer_id: int) -> Slot | None:
    for slot in cloud.stock.slots.values():
        if cloud.listing(slot, OFFER_NUMBERS_FROM) == offer_id:
            return slot
    return None


def _accept(cloud: Cloud, call: Call, offer_id: int, order: InstanceOrder) -> Machine:
    slot = _listed(cloud, offer_id)
    fault = cloud.faults.take("create", "no_capacity")
    if slot is None or not slot.facts["rentable"] or fault:
        raise taken(fault, cancel=slot is not None and order.cancel_unavail, offer_id=offer_id)
    keys = tuple(
        thing.wire["public_key"] for thing in cloud.live_things(call.owner.name, "ssh_key")
    )
    _check_order(cloud, call, slot, order, keys)
    too_low = order.price is not None and nanos(order.price) < (
        cloud.stock.floor(slot, call.now) or 0
    )
    try:
        machine = cloud.create(
            call.owner.name,
            _neutral(cloud, slot, order, keys, start=order.start and not too_low, now=call.now),
            number_from=INSTANCES_FROM,
        )
    except NoSlot:
        raise taken(None, cancel=order.cancel_unavail, offer_id=offer_id) from None
    _tell_itself(cloud, machine)
    if order.volume:
        _add_volume(cloud, call, machine, order)
    if too_low:
        floor = usd(cloud.stock.floor(slot, call.now) or 0)
        msg = f"error 400/3742: bid {order.price} is below the minimum bid {floor:.4f}."
        raise refusal(400, "invalid_price", msg, ask_id=offer_id, new_contract=int(machine.id))
    return machine


def _tell_itself(cloud: Cloud, machine: Machine) -> None:
    """Every container knows its number and a key that is good for it alone."""
    own_key = secrets.token_hex(32)
    machine.order = structs.replace(
        machine.order,
        env=machine.order.env | {"CONTAINER_ID": machine.id, "CONTAINER_API_KEY": own_key},
        wire=machine.order.wire | {"instance_api_key": own_key},
    )
    cloud.save(machine)


def _check_order(
    cloud: Cloud, call: Call, slot: Slot, order: InstanceOrder, keys: tuple[str, ...]
) -> None:
    if cloud.faults.take("create", "quota") or cloud.credit(call.owner.name) <= 0:
        msg = "Your account lacks credit; see the billing page."
        raise refusal(400, "insufficient_credit", msg)
    if order.disk_gb > slot.disk_max_gb:
        raise refusal(400, "invalid_args", f"Invalid args: 'disk' exceeds {slot.disk_max_gb} GB")
    if order.price is not None and slot.spot_floor is None:
        raise refusal(400, "invalid_price", "This offer takes no bids.")
    if order.vm and not slot.facts["vms"]:
        raise refusal(400, "invalid_args", "Invalid args: this machine runs no VMs")
    if order.vm and not keys:
        raise refusal(400, "no_ssh_key_for_vm", "VMs need an SSH key on the account.")
    if len(order.ports) > slot.facts["ports"]:
        raise refusal(400, "invalid_args", "Invalid args: not enough open ports on this machine")


def _neutral(
    cloud: Cloud,
    slot: Slot,
    order: InstanceOrder,
    keys: tuple[str, ...],
    *,
    start: bool,
    now: float,
) -> Order:
    ignored = cloud.faults.take("create", "ignored_field")
    return Order(
        slot=slot.key,
        market=Market.ON_DEMAND if order.price is None else Market.SPOT,
        bid=None if order.price is None else nanos(order.price),
        disk_gb=order.disk_gb,
        label="" if ignored else order.label,
        image=order.image,
        env=order.env,
        env_in_ssh=False,
        startup_script="" if order.by_args else order.onstart or "",
        command=order.command,
        ports=order.ports,
        keys=keys,
        start=start,
        wire={
            "runtype": order.runtype,
            "args": list(order.args),
            "onstart": order.onstart,
            "extra_env": order.raw_env,
            "jupyter_token": secrets.token_hex(32),
            "end_date": float(round(now + slot.facts["days"] * _DAY_S)),
            "extra_keys": [],
        },
    )


def _add_volume(cloud: Cloud, call: Call, machine: Machine, order: InstanceOrder) -> None:
    wanted = order.volume
    if wanted is None:
        return
    if wanted.create_new:
        thing = open_volume(
            cloud, call, offer_id=wanted.volume_id, size_gb=wanted.size, name=wanted.name
        )
    else:
        thing = attach_volume(cloud, call, wanted.volume_id, cloud.slot(machine))
    thing.wire["instances"] = [*thing.wire["instances"], machine.id]
    cloud.save(thing)
