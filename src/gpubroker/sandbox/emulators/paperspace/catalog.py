"""What Paperspace offers: systems, the machine types that they run on, and what is free where."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.paperspace.words import (
    NamedPage,
    Page,
    invalid,
    moment,
    not_found,
    paged,
    read_query,
)
from gpubroker.sandbox.stock import Slot

REGIONS = {"NY2": "East Coast (NY2)", "CA1": "West Coast (CA1)", "AMS1": "Europe (AMS1)"}
"""Both forms are taken, and the long one is told."""
CPU_TYPES = ("C5", "C7")
"""Listed beside those with GPUs, and sold out."""
_MADE_AT = 1_700_000_000.0


class Template(Struct, frozen=True, kw_only=True):
    """An operating system that machines are made from."""

    id: str
    name: str
    system: str
    default_gb: int | None
    agent: str = "LinuxHeadless"
    types: tuple[str, ...] = ()
    """The machine types that it runs on; () = all that no other template names."""


TEMPLATES = (
    Template(
        id="tkni3aa4", name="Ubuntu 20.04 Server", system="Ubuntu 20.04 Server", default_gb=50
    ),
    Template(id="t0nspur5", name="Ubuntu 22.04", system="Ubuntu 22.04 Server", default_gb=None),
    Template(
        id="tiq8mhti",
        name="ML-in-a-Box Ubuntu 22.04",
        system="Ubuntu 22.04 Server",
        default_gb=100,
        types=("H100", "A100-80G"),
    ),
    Template(
        id="tvimtol9",
        name="ML-in-a-Box Ubuntu 22.04 (8 GPUs)",
        system="Ubuntu 22.04 Server",
        default_gb=100,
        types=("H100x8", "A100-80Gx8"),
    ),
)
_NAMED = {type_ for template in TEMPLATES for type_ in template.types}


class TemplatePage(Page):
    """Query of the systems' list."""

    order_by: Literal["name"] = "name"
    name: str = ""


class TypeAndPlace(Struct, forbid_unknown_fields=True, rename="camel"):
    """Query of the availability."""

    machine_type: str
    region: str


def runs_on(template: Template, type_: str) -> bool:
    """Whether a machine of the type can be made from it."""
    return type_ in template.types if template.types else type_ not in _NAMED


def template_of(id_: str) -> Template:
    """By id. Raises the 404."""
    for template in TEMPLATES:
        if template.id == id_:
            return template
    raise not_found("Template")


def region_of(text: str) -> str:
    """In its long form."""
    long = REGIONS.get(text, text)
    if long not in REGIONS.values():
        raise invalid("Invalid region")
    return long


def sold(cloud: Cloud, type_: str) -> dict[str, Slot]:
    """Region to slot of a machine type, in whatever case it is written; sold out ones too."""
    slots = cloud.stock.slots.values()
    return {slot.place: slot for slot in slots if slot.facts["type"].lower() == type_.lower()}


def _types(cloud: Cloud) -> list[str]:
    return list(dict.fromkeys(slot.facts["type"] for slot in cloud.stock.slots.values()))


def _template_json(cloud: Cloud, template: Template, *, empty: bool) -> dict[str, Any]:
    types = [
        {
            "machineTypeLabel": type_,
            "isAvailable": not empty and any(map(cloud.stock.free, sold(cloud, type_).values())),
        }
        for type_ in (*_types(cloud), *CPU_TYPES)
        if runs_on(template, type_)
    ]
    return {
        "id": template.id,
        "name": template.name,
        "agentType": template.agent,
        "operatingSystemLabel": template.system,
        "defaultSizeGb": template.default_gb,
        "dtCreated": moment(_MADE_AT),
        "availableMachineTypes": types,
    }


async def os_templates(api: Emulator, call: Call) -> Response:
    """GET os-templates: the only list of machine types; it tells neither region nor price."""
    query = read_query(call, TemplatePage)
    empty = api.cloud.faults.take("offers", "no_capacity") is not None
    ignored = api.cloud.faults.take("offers", "ignored_field")
    rows = [
        _template_json(api.cloud, template, empty=empty)
        for template in TEMPLATES
        if ignored or query.name in template.name
    ]
    return paged(api, call, query, rows)


async def custom_templates(api: Emulator, call: Call) -> Response:
    """GET custom-templates: none was ever made here."""
    return paged(api, call, read_query(call, NamedPage), [])


async def availability(api: Emulator, call: Call) -> Response:
    """GET machine-availability: of one type in one region."""
    query = read_query(call, TypeAndPlace)
    slot = sold(api.cloud, query.machine_type).get(region_of(query.region))
    free = slot is not None and api.cloud.stock.free(slot)
    if api.cloud.faults.take("offers", "no_capacity"):
        free = False
    return answer({"available": free})
