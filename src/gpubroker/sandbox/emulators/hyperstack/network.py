"""Who gets at Hyperstack's VMs: security rules, and public addresses, which cost extra.

All that comes in is refused but for the rules. The sandbox shows it by the address that it tells:
without a rule for port 22, or with randomised ports, nothing listens there.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.model.money import nanos
from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator
from gpubroker.sandbox.emulators.hyperstack.catalog import USD_PER_HOUR
from gpubroker.sandbox.emulators.hyperstack.words import (
    bad,
    moment,
    no_body,
    not_found,
    owned_thing,
    read_body,
    refusal,
)
from gpubroker.sandbox.emulators.hyperstack.words import done as succeeded
from gpubroker.sandbox.processes import own_address
from gpubroker.sandbox.rented import Machine, Thing

RULE, ADDRESS = "security_rule", "floating_ip"
SSH = 22
Port = Annotated[int, Meta(ge=1, le=65535)]


class Rule(Struct, forbid_unknown_fields=True):
    """What may come in, or go out."""

    direction: Literal["ingress", "egress"]
    ethertype: Literal["IPv4", "IPv6"]
    protocol: Literal[
        "any", "ah", "dccp", "egp", "esp", "gre", "hopopt", "icmp", "igmp", "ip", "ipip",
        "ipv6-encap", "ipv6-frag", "ipv6-icmp", "icmpv6", "ipv6-nonxt", "ipv6-opts", "ipv6-route",
        "ospf", "pgm", "rsvp", "sctp", "tcp", "udp", "udplite", "vrrp",
    ]  # fmt: skip
    remote_ip_prefix: str
    port_range_min: Port | None = None
    port_range_max: Port | None = None

    def check(self) -> None:
        """Refused where its parts do not fit together."""
        try:
            version = ipaddress.ip_network(self.remote_ip_prefix).version
        except ValueError:
            raise bad(f"Invalid remote_ip_prefix: {self.remote_ip_prefix}") from None
        if self.ethertype != f"IPv{version}":
            raise bad("remote_ip_prefix does not match the ethertype")
        if (self.port_range_min is None) != (self.port_range_max is None):
            raise bad("port_range_min and port_range_max must be given together")
        if (self.port_range_min or 0) > (self.port_range_max or 0):
            raise bad("port_range_min must not be greater than port_range_max")


# --- rules --------------------------------------------------------------------------------


def add_rule(cloud: Cloud, machine: Machine, rule: Rule) -> Thing:
    """It ends with the machine."""
    thing = cloud.add_thing(
        machine.account,
        RULE,
        direction=rule.direction,
        ethertype=rule.ethertype,
        protocol=rule.protocol,
        remote_ip_prefix=rule.remote_ip_prefix,
        port_range_min=rule.port_range_min,
        port_range_max=rule.port_range_max,
    )
    thing.ends_with = machine.id
    cloud.save(thing)
    return thing


def rules_of(cloud: Cloud, machine: Machine) -> list[Thing]:
    """The machine's, oldest first."""
    things = cloud.live_things(machine.account, RULE)
    return [thing for thing in things if thing.ends_with == machine.id]


def rule_json(thing: Thing) -> dict[str, Any]:
    """As instances and answers tell it."""
    made = moment(thing.created_at)
    return {"id": int(thing.id), **thing.wire, "status": "SUCCESS", "created_at": made}


def lets_in(cloud: Cloud, machine: Machine, port: int) -> bool:
    """Whether a rule opens the port to everybody or to somebody."""
    return any(
        rule.wire["direction"] == "ingress"
        and rule.wire["protocol"] in ("tcp", "any", "ip")
        and (rule.wire["port_range_min"] or 1) <= port <= (rule.wire["port_range_max"] or 65535)
        for rule in rules_of(cloud, machine)
    )


async def create_rule(api: Emulator, call: Call, machine: Machine) -> Response:
    """POST core/virtual-machines/{id}/sg-rules."""
    rule = read_body(call, Rule)
    rule.check()
    row = rule_json(add_rule(api.cloud, machine, rule))
    return succeeded("Security rule created successfully", security_rule=row)


async def delete_rule(api: Emulator, call: Call, machine: Machine) -> Response:
    """DELETE core/virtual-machines/{id}/sg-rules/{id}."""
    no_body(call)
    thing = owned_thing(api.cloud, call, RULE, call.ids[1], "Security rule")
    if thing.ends_with != machine.id:
        raise not_found("Security rule not found")
    api.cloud.end_thing(thing)
    return succeeded("Security rule deleted successfully")


# --- addresses ----------------------------------------------------------------------------


def address_of(cloud: Cloud, machine: Machine) -> Thing | None:
    """The machine's public one."""
    things = cloud.live_things(machine.account, ADDRESS)
    return next((thing for thing in things if thing.ends_with == machine.id), None)


def give_address(cloud: Cloud, machine: Machine) -> None:
    """Charged for from now on."""
    thing = cloud.add_thing(machine.account, ADDRESS, name=machine.order.name)
    thing.ends_with = machine.id
    thing.ledger.open("volume", nanos(USD_PER_HOUR["Public IP"]), cloud.clock.now())
    cloud.save(thing)


def take_address(cloud: Cloud, machine: Machine) -> None:
    """Where it has one."""
    thing = address_of(cloud, machine)
    if thing is not None:
        cloud.end_thing(thing)


def floating_json(cloud: Cloud, machine: Machine) -> dict[str, Any]:
    """The public address as instances tell it."""
    if address_of(cloud, machine) is None:
        return {"floating_ip": None, "floating_ip_status": None}
    if not machine.address:
        failed = machine.state == State.FAILED
        return {"floating_ip": None, "floating_ip_status": "ERROR" if failed else "ATTACHING"}
    address = machine.address
    if machine.wire["randomised"] or not lets_in(cloud, machine, SSH):
        address = own_address(cloud.provider, f"{machine.id}/closed")
    return {"floating_ip": address, "floating_ip_status": "ATTACHED"}


async def attach(api: Emulator, call: Call, machine: Machine) -> Response:
    """POST core/virtual-machines/{id}/attach-floatingip."""
    no_body(call)
    if address_of(api.cloud, machine) is not None:
        raise bad("Virtual machine already has a public IP")
    if api.cloud.credit(call.owner.name) <= 0:
        raise refusal(402, "insufficient_balance", "Insufficient balance to create the resource")
    give_address(api.cloud, machine)
    return succeeded("Attaching public IP initiated successfully")


async def detach(api: Emulator, call: Call, machine: Machine) -> Response:
    """POST core/virtual-machines/{id}/detach-floatingip: it is given back."""
    no_body(call)
    if address_of(api.cloud, machine) is None:
        raise bad("Virtual machine has no public IP")
    take_address(api.cloud, machine)
    return succeeded("Detaching public IP initiated successfully")
