"""What TensorDock offers: locations with the GPUs of their hosts, and the hosts themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct
from starlette.responses import Response

from gpubroker.model.money import Nanos, nanos
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.tensordock.words import check_query, refusal, stable_id
from gpubroker.sandbox.stock import Slot

PORTS = 10
"""External ports that a host has to give."""
_HOURS_PER_MONTH = 730
_USD = 1_000_000_000


class Location(Struct, frozen=True):
    """A place; `tier` 0 is somebody's home, 4 a large data centre."""

    city: str
    state: str
    country: str
    tier: int


LOCATIONS: Mapping[str, Location] = {
    "1a779525-4c04-4f2c-aa45-58b47d54bb38": Location("Chicago", "Illinois", "United States", 3),
    "2f0c7a10-8d0e-4b7a-9a55-0a5f6b1c2d01": Location("Manassas", "Virginia", "United States", 4),
    "3b5e9c22-71fd-4c39-8f0e-6c1d7e2f3a02": Location("Winnipeg", "Manitoba", "Canada", 2),
    "4c6f0d33-62ae-4d28-9e1f-7d2e8f304b03": Location("Joplin", "Missouri", "United States", 1),
    "5d701e44-539b-4e17-8d20-8e3f90415c04": Location("Stockholm", "Stockholm", "Sweden", 3),
    "6e812f55-448c-4f06-9c31-9f40a1526d05": Location("Mumbai", "Maharashtra", "India", 0),
}


class Hostnode(Struct, frozen=True):
    """One host: what can be rented of it, one slot for each number of GPUs."""

    slots: tuple[Slot, ...]

    @property
    def first(self) -> Slot:
        """Any of them: all but the number of GPUs is the host's."""
        return self.slots[0]

    @property
    def id(self) -> str:
        """Stable."""
        return stable_id("hostnode", self.first.home)

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the stock says of it."""
        return self.first.facts

    @property
    def v0_name(self) -> str:
        """Of its GPUs; "" where it has none."""
        return str(self.facts["v0_name"])

    def part(self, gpus: int) -> Slot | None:
        """Its slot with that many GPUs."""
        return next((slot for slot in self.slots if slot.gpu_count == gpus), None)

    def most_free(self, cloud: Cloud) -> int:
        """GPUs that one VM can have now."""
        return max((s.gpu_count for s in self.slots if cloud.stock.free(s)), default=0)

    def fits(self, vcpus: int, ram_gb: int, storage_gb: int) -> bool:
        """Whether a VM of that size has room on it."""
        facts = self.facts
        most = facts["max_vcpus"], facts["max_ram_gb"], facts["max_storage_gb"]
        asked = vcpus, ram_gb, storage_gb
        return all(one <= limit for one, limit in zip(asked, most, strict=True))

    def free_ports(self, cloud: Cloud) -> list[int]:
        """External ports that no VM has."""
        own = {slot.key for slot in self.slots}
        taken = {
            external
            for machine in cloud.machines.values()
            if machine.order.slot in own and not machine.ended
            for _, external in machine.wire["forwards"]
        }
        first = self.facts["first_port"]
        return [port for port in range(first, first + PORTS) if port not in taken]


def hostnodes(cloud: Cloud) -> list[Hostnode]:
    """All, in the order of the stock."""
    homes: dict[str, list[Slot]] = {}
    for slot in cloud.stock.slots.values():
        homes.setdefault(slot.home, []).append(slot)
    return [Hostnode(tuple(slots)) for slots in homes.values()]


def v0_name_of(cloud: Cloud, gpu: str) -> str:
    """The cloud's name of a GPU."""
    slots = cloud.stock.slots.values()
    return next(str(slot.facts["v0_name"]) for slot in slots if slot.gpu == gpu)


def parts_rate(slot: Slot, vcpus: int, ram_gb: int) -> Nanos:
    """An hour of what comes beside GPUs and disk."""
    facts = slot.facts
    return Nanos(nanos(facts["per_vcpu_hr"]) * vcpus + nanos(facts["per_gb_ram_hr"]) * ram_gb)


def dollars(rate: int) -> float:
    """As prices are told."""
    return round(rate / _USD, 9)


def _gpu_price(cloud: Cloud, host: Hostnode, now: float) -> float:
    return dollars(round(cloud.stock.price(host.first, now) / host.first.gpu_count))


def _pricing(host: Hostnode) -> dict[str, float]:
    return {
        "per_vcpu_hr": host.facts["per_vcpu_hr"],
        "per_gb_ram_hr": host.facts["per_gb_ram_hr"],
        "per_gb_storage_hr": dollars(round(host.first.disk_gb_month / _HOURS_PER_MONTH)),
    }


def _offered(cloud: Cloud, host: Hostnode, now: float, *, none_left: bool) -> dict[str, Any]:
    """A host's GPUs in a location. Some hosts advertise what they have no longer."""
    facts = host.facts
    return {
        "v0Name": host.v0_name,
        "displayName": facts["display_name"],
        "max_count": 0 if none_left else facts.get("advertised", host.most_free(cloud)),
        "price_per_hr": _gpu_price(cloud, host, now),
        "resources": {
            "max_vcpus": facts["max_vcpus"],
            "max_ram_gb": facts["max_ram_gb"],
            "max_storage_gb": facts["max_storage_gb"],
        },
        "pricing": _pricing(host),
        "network_features": {
            "dedicated_ip_available": facts["dedicated_ip"],
            "port_forwarding_available": True,
            "network_storage_available": False,
        },
    }


def _location_rows(cloud: Cloud, now: float, *, none_left: bool) -> Iterator[dict[str, Any]]:
    for id_, place in LOCATIONS.items():
        hosts = [h for h in hostnodes(cloud) if h.first.place == id_ and h.v0_name]
        yield {
            "id": id_,
            "city": place.city,
            "stateprovince": place.state,
            "country": place.country,
            "tier": place.tier,
            "gpus": [_offered(cloud, host, now, none_left=none_left) for host in hosts],
        }


async def locations(api: Emulator, call: Call) -> Response:
    """GET locations: for everybody. The credentials of v0 in the query change nothing."""
    check_query(call, ("api_key", "api_token"))
    faults = api.cloud.faults
    none_left = faults.take("offers", "no_capacity") is not None
    rows = list(_location_rows(api.cloud, call.now, none_left=none_left))
    if faults.take("offers", "duplicate_list"):
        rows = [row for row in rows for _ in range(2)]
    return answer({"data": {"locations": rows}})


def _host_json(cloud: Cloud, host: Hostnode, now: float) -> dict[str, Any]:
    facts, place = host.facts, LOCATIONS[host.first.place]
    free = host.most_free(cloud)
    gpu = {"v0Name": host.v0_name, "availableCount": free}
    return {
        "id": host.id,
        "location_id": host.first.place,
        "engine": "kvm",
        "uptime_percentage": facts["uptime"],
        "available_resources": {
            "gpus": [{**gpu, "price_per_hr": _gpu_price(cloud, host, now)}] if free else [],
            "vcpu_count": facts["max_vcpus"],
            "ram_gb": facts["max_ram_gb"],
            "storage_gb": facts["max_storage_gb"],
            "max_vcpus_per_gpu": facts["max_vcpus"] // max(1, free),
            "max_ram_per_gpu": facts["max_ram_gb"] // max(1, free),
            "available_ports": host.free_ports(cloud),
            "has_public_ip_available": facts["dedicated_ip"],
        },
        "pricing": _pricing(host),
        "location": {
            "uuid": host.first.place,
            "city": place.city,
            "stateprovince": place.state,
            "country": place.country,
            "has_network_storage": False,
            "network_speed_gbps": 10,
            "network_speed_upload_gbps": 10,
            "organization": stable_id("organisation", host.first.home),
            "organizationName": facts["organisation"],
            "tier": place.tier,
        },
    }


async def list_hostnodes(api: Emulator, call: Call) -> Response:
    """GET hostnodes: by GPU, and those that have one left."""
    query = check_query(call, ("gpu_model", "status", "gpu", "location"))
    model = query.get("gpu_model") or query.get("gpu")
    rows = [
        _host_json(api.cloud, host, call.now)
        for host in hostnodes(api.cloud)
        if model in (None, host.v0_name)
        and query.get("location") in (None, host.first.place)
        and (query.get("status") != "available" or host.most_free(api.cloud) or not host.v0_name)
    ]
    return answer({"data": {"hostnodes": rows}})


async def show_hostnode(api: Emulator, call: Call) -> Response:
    """GET hostnodes/{id}."""
    check_query(call)
    for host in hostnodes(api.cloud):
        if host.id == call.ids[0]:
            return answer({"data": _host_json(api.cloud, host, call.now)})
    raise refusal(404, "Hostnode not found")
