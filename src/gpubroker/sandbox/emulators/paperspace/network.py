"""What Paperspace keeps beside machines: private networks, public addresses, shared drives."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.model.money import Nanos, nanos
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.paperspace import addresses
from gpubroker.sandbox.emulators.paperspace.catalog import region_of
from gpubroker.sandbox.emulators.paperspace.machines import MONTHLY_USD
from gpubroker.sandbox.emulators.paperspace.machines import found as found_machine
from gpubroker.sandbox.emulators.paperspace.words import (
    Name,
    NamedPage,
    Nothing,
    Page,
    invalid,
    moment,
    new_id,
    not_found,
    owned_thing,
    paged,
    read_body,
    read_query,
    refusal,
)
from gpubroker.sandbox.rented import Machine, Thing

NETWORK, DRIVE = "private_network", "shared_drive"


class PlacePage(NamedPage):
    """Query of the lists."""

    name: str = ""
    region: str = ""


class AddressPage(Page):
    """Query of the addresses' list."""

    order_by: Literal["dtCreated"] = "dtCreated"
    region: str = ""


class NewNetwork(Struct, forbid_unknown_fields=True, rename="camel"):
    """Body of POST private-networks."""

    name: Name
    region: str
    migrate_machines: bool = False


class NewDrive(Struct, forbid_unknown_fields=True, rename="camel"):
    """Body of POST shared-drives."""

    name: Name
    size: Annotated[int, Meta(ge=1)]
    network_id: str
    region: str


class Claim(Struct, forbid_unknown_fields=True, rename="camel"):
    """Body of POST public-ips."""

    region: str


class Assignment(Struct, forbid_unknown_fields=True, rename="camel"):
    """Body of PUT public-ips/{ip}; null takes it away."""

    machine_id: str | None


def _network_json(thing: Thing) -> dict[str, Any]:
    return {
        "id": thing.id,
        "name": thing.name,
        "region": thing.wire["region"],
        "network": thing.wire["network"],
        "netmask": "255.255.255.0",
        "dtCreated": moment(thing.created_at),
        "dtDeleted": None,
    }


def _drive_json(thing: Thing) -> dict[str, Any]:
    return {
        "id": thing.id,
        "name": thing.name,
        "region": thing.wire["region"],
        "networkId": thing.wire["network"],
        "size": thing.wire["size"],
        "mountPoint": f"//10.64.0.9/{thing.id}",
        "username": "shared",
        "password": thing.wire["password"],
        "dtCreated": moment(thing.created_at),
        "dtDeleted": None,
    }


def _address_json(thing: Thing) -> dict[str, Any]:
    told = {"assignedMachineId": thing.wire["machine"]} if thing.wire["machine"] else {}
    made = moment(thing.created_at)
    return told | {"ip": thing.name, "region": thing.wire["region"], "dtCreated": made}


class Shelf:
    """The calls that networks and drives have in common."""

    def __init__(self, kind: str, words: str, json: Callable[[Thing], dict[str, Any]]) -> None:
        self.kind, self.words, self.json = kind, words, json

    async def list_all(self, api: Emulator, call: Call) -> Response:
        """GET."""
        query = read_query(call, PlacePage)
        place = region_of(query.region) if query.region else ""
        rows = [
            self.json(thing)
            for thing in api.cloud.live_things(call.owner.name, self.kind)
            if query.name in thing.name and place in ("", thing.wire["region"])
        ]
        return paged(api, call, query, rows)

    async def show(self, api: Emulator, call: Call) -> Response:
        """GET {id}."""
        read_query(call, Nothing)
        return answer(self.json(owned_thing(api.cloud, call, self.kind, call.ids[0], self.words)))

    async def delete(self, api: Emulator, call: Call) -> Response:
        """DELETE {id}: not a network that something is in."""
        read_query(call, Nothing)
        thing = owned_thing(api.cloud, call, self.kind, call.ids[0], self.words)
        account = call.owner.name
        users: list[Machine | Thing] = [m for m in api.cloud.owned(account) if not m.ended]
        users += api.cloud.live_things(account, DRIVE)
        if thing.id in {one.wire["network"] for one in users}:
            raise refusal(409, "The private network is in use")
        api.cloud.end_thing(thing)
        return answer({"id": thing.id})


NETWORKS = Shelf(NETWORK, "Private network", _network_json)
DRIVES = Shelf(DRIVE, "Shared drive", _drive_json)


async def create_network(api: Emulator, call: Call) -> Response:
    """POST private-networks."""
    body = read_body(call, NewNetwork)
    if body.migrate_machines:
        raise invalid("Machines cannot be migrated")
    thing = api.cloud.add_thing(
        call.owner.name,
        NETWORK,
        named=new_id("n"),
        name=body.name,
        region=region_of(body.region),
        network=f"10.{secrets.randbelow(200) + 10}.{secrets.randbelow(256)}.0",
    )
    return answer(_network_json(thing))


async def create_drive(api: Emulator, call: Call) -> Response:
    """POST shared-drives: paid for by its size until it is deleted."""
    body = read_body(call, NewDrive)
    cloud, region = api.cloud, region_of(body.region)
    network = owned_thing(cloud, call, NETWORK, body.network_id, "Private network")
    if network.wire["region"] != region:
        raise invalid("The private network is in another region")
    if body.size not in MONTHLY_USD:
        raise invalid(f"size must be one of {sorted(MONTHLY_USD)}")
    thing = cloud.add_thing(
        call.owner.name,
        DRIVE,
        named=new_id("sd"),
        name=body.name,
        region=region,
        network=network.id,
        size=body.size,
        password=secrets.token_urlsafe(12),
    )
    rate = Nanos(round(nanos(MONTHLY_USD[body.size]) / cloud.facts.hours_per_month))
    thing.ledger.open("volume", rate, call.now)
    cloud.save(thing)
    return answer(_drive_json(thing))


# --- addresses ----------------------------------------------------------------------------


def _address(api: Emulator, call: Call) -> Thing:
    for thing in api.cloud.live_things(call.owner.name, addresses.KIND):
        if thing.name == call.ids[0]:
            return thing
    raise not_found("Public IP")


async def list_addresses(api: Emulator, call: Call) -> Response:
    """GET public-ips."""
    query = read_query(call, AddressPage)
    place = region_of(query.region) if query.region else ""
    things = api.cloud.live_things(call.owner.name, addresses.KIND)
    rows = [_address_json(one) for one in things if place in ("", one.wire["region"])]
    return paged(api, call, query, rows, key="ip")


async def claim(api: Emulator, call: Call) -> Response:
    """POST public-ips."""
    region = region_of(read_body(call, Claim).region)
    return answer(_address_json(addresses.claim(api.cloud, call.owner.name, region)))


async def assign(api: Emulator, call: Call) -> Response:
    """PUT public-ips/{ip}: what the machine had before is set free."""
    body, cloud = read_body(call, Assignment), api.cloud
    thing = _address(api, call)
    machine = None
    if body.machine_id is not None:
        machine = found_machine(cloud, call, body.machine_id)
        if cloud.slot(machine).place != thing.wire["region"]:
            raise invalid("The machine is in another region")
        addresses.set_free(cloud, machine)
        machine.wire["ip_type"] = "static"
        cloud.save(machine)
    elif thing.wire["machine"]:
        left = cloud.machines[thing.wire["machine"]]
        left.wire["ip_type"] = "none"
        cloud.save(left)
    thing.wire["machine"] = machine.id if machine else ""
    cloud.save(thing)
    return answer(_address_json(thing))


async def release(api: Emulator, call: Call) -> Response:
    """DELETE public-ips/{ip}: not one that a machine has."""
    read_query(call, Nothing)
    thing = _address(api, call)
    if thing.wire["machine"]:
        raise refusal(409, "The public IP is assigned to a machine")
    api.cloud.end_thing(thing)
    return answer({"ip": thing.name})
