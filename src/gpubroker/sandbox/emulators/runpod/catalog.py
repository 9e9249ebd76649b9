"""RunPod's catalogue in REST v2: GPU types, CPU flavours and data centres, with what is free."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, get_args

from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.model.money import usd
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator, answer
from gpubroker.sandbox.emulators.runpod.placing import (
    Wish,
    fitting,
    free,
    largest,
    level,
    list_price,
    of_type,
    version,
)
from gpubroker.sandbox.emulators.runpod.sheet import DataCenter, Flavor, Model, Tier, sheet
from gpubroker.sandbox.emulators.runpod.words import (
    invalid,
    no_query,
    not_found,
    problem,
    read_query,
)

PRODUCTS, CPU_PRODUCTS = ("POD", "CLUSTER", "SERVERLESS"), ("POD", "SERVERLESS")
SOLD = "POD"
"""Of the products the only one that the sandbox has stock for."""
COUNTRY, CUDA = re.compile(r"[A-Z]{2}"), re.compile(r"\d+\.\d+")


class GpuQuery(Struct, forbid_unknown_fields=True, rename="camel"):
    """Of the GPU types; all but `include` only with it."""

    include: str | None = None
    product: str | None = None
    count: Annotated[int, Meta(ge=1)] | None = None
    cloud: str | None = None
    country_codes: str | None = None
    cuda_versions: str | None = None
    min_cuda_version: Annotated[str, Meta(pattern=r"^\d+(\.\d+)?$")] | None = None


class CpuQuery(Struct, forbid_unknown_fields=True, rename="camel"):
    """Of the CPU flavours."""

    include: str | None = None
    product: str | None = None
    vcpu_count: Annotated[int, Meta(ge=2)] | None = None


class PlaceQuery(Struct, forbid_unknown_fields=True, rename="camel"):
    """Of the data centres."""

    include: str | None = None
    regions: str | None = None
    network_volume_types: str | None = None
    compliance: str | None = None
    global_network: bool | None = None


def _list(text: str | None) -> tuple[str, ...]:
    return tuple(text.split(",")) if text else ()


def _known(name: str, values: Iterable[str], allowed: Iterable[str]) -> None:
    for value in values:
        if value not in allowed:
            raise invalid(f"query parameter '{name}': '{value}' is not one of {list(allowed)}")


def _check_include(query: GpuQuery | CpuQuery, products: tuple[str, ...]) -> None:
    """The rules that tie the parameters together. Raises Refusal."""
    _known("include", _list(query.include), ("AVAILABILITY",))
    _known("product", _list(query.product), products)
    names = zip(query.__struct_fields__, query.__struct_encode_fields__, strict=True)
    others = [
        told for name, told in names if name != "include" and getattr(query, name) is not None
    ]
    if query.include is None and others:
        raise problem(400, f"{others[0]} is valid only with include=AVAILABILITY")
    if query.include is not None and query.product is None:
        raise problem(400, "product is required with include=AVAILABILITY")


# --- GPU types ----------------------------------------------------------------------------


def _gpu_wish(query: GpuQuery, model: Model) -> Wish:
    tier: Tier = "COMMUNITY" if query.cloud == "COMMUNITY" else "SECURE"
    return Wish(
        gpu=model.id,
        count=query.count or 1,
        tier=tier,
        countries=_list(query.country_codes),
        cuda_versions=_list(query.cuda_versions),
        min_cuda=query.min_cuda_version,
    )


def _check_gpu_query(api: Emulator, call: Call) -> GpuQuery:
    query = read_query(call.request, GpuQuery)
    _check_include(query, PRODUCTS)
    _known("cloud", _list(query.cloud), get_args(Tier))
    if not all(COUNTRY.fullmatch(code) for code in _list(query.country_codes)):
        raise invalid("query parameter 'countryCodes' is malformed")
    if not all(CUDA.fullmatch(code) for code in _list(query.cuda_versions)):
        raise invalid("query parameter 'cudaVersions' is malformed")
    if query.cuda_versions and query.min_cuda_version:
        raise problem(400, "cudaVersions and minCudaVersion are mutually exclusive")
    if api.cloud.faults.take("offers", "ignored_field"):
        return GpuQuery(include=query.include, product=query.product, cloud=query.cloud)
    return query


def _gpu_json(cloud: Cloud, model: Model, now: float) -> dict[str, Any]:
    secure = list_price(cloud, model.id, "SECURE", now)
    community = list_price(cloud, model.id, "COMMUNITY", now)
    price = {"secure": usd(secure or 0), "community": usd(community or 0)}
    if model.serverless is not None:
        price["serverless"] = model.serverless
    return {
        "id": model.id,
        "name": model.name,
        "pool": model.pool,
        "manufacturer": model.manufacturer,
        "memory": model.memory,
        "secure": secure is not None,
        "community": community is not None,
        "price": price,
        "maxCount": {
            "secure": largest(cloud, model.id, "SECURE"),
            "community": largest(cloud, model.id, "COMMUNITY"),
        },
    }


def _stocked(api: Emulator, query: GpuQuery | CpuQuery) -> bool:
    """Whether there can be any stock for what is asked."""
    return SOLD in _list(query.product) and not api.cloud.faults.take("offers", "no_capacity")


def _availability(cloud: Cloud, wish: Wish, *, stocked: bool) -> dict[str, Any]:
    if not stocked:
        return {"availability": "NONE"}
    slots = fitting(cloud, wish)
    there = {slot.facts["data_center"] for slot in slots} - {None}
    rows = [
        {
            "id": place.id,
            "name": place.name,
            "availability": level(cloud, _in(wish, place)),
        }
        for place in sheet().data_centers
        if place.id in there
    ]
    shown: dict[str, Any] = {"availability": level(cloud, wish)}
    if rows and shown["availability"] != "NONE":
        shown["dataCenters"] = rows
    return shown


def _cuda_versions(cloud: Cloud, wish: Wish) -> list[dict[str, Any]]:
    can_be_had = {slot.cuda_version for slot in free(cloud, wish)}
    offered = {slot.cuda_version for slot in fitting(cloud, wish)}
    return [
        {"version": text, "available": text in can_be_had}
        for text in sorted(offered, key=version, reverse=True)
    ]


def _in(wish: Wish, place: DataCenter) -> Wish:
    return Wish(
        gpu=wish.gpu,
        count=wish.count,
        vcpus=wish.vcpus,
        tier=wish.tier,
        data_centers=(place.id,),
        cuda_versions=wish.cuda_versions,
        min_cuda=wish.min_cuda,
    )


def _gpu_row(
    cloud: Cloud, now: float, query: GpuQuery, model: Model, *, stocked: bool
) -> dict[str, Any]:
    row = _gpu_json(cloud, model, now)
    if query.include is not None:
        wish = _gpu_wish(query, model)
        row |= _availability(cloud, wish, stocked=stocked)
        if model.manufacturer == "NVIDIA" and (versions := _cuda_versions(cloud, wish)):
            row["cudaVersions"] = versions
    return row


async def list_gpus(api: Emulator, call: Call) -> Response:
    """GET catalog/gpus."""
    query = _check_gpu_query(api, call)
    countries, stocked = _list(query.country_codes), _stocked(api, query)
    rows = [
        _gpu_row(api.cloud, call.now, query, model, stocked=stocked)
        for model in sheet().models
        if not countries
        or any(slot.facts["country"] in countries for slot in of_type(api.cloud, model.id))
    ]
    if api.cloud.faults.take("offers", "duplicate_list"):
        rows = [row for row in rows for _ in range(2)]
    return answer({"gpus": rows})


async def show_gpu(api: Emulator, call: Call) -> Response:
    """GET catalog/gpus/{id}."""
    query, model = _check_gpu_query(api, call), sheet().model(call.ids[0])
    if model is None:
        raise not_found()
    stocked = _stocked(api, query)
    return answer(_gpu_row(api.cloud, call.now, query, model, stocked=stocked))


# --- CPU flavours -------------------------------------------------------------------------


def _cpu_row(cloud: Cloud, query: CpuQuery, flavor: Flavor, *, stocked: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": flavor.id,
        "name": flavor.name,
        "group": flavor.group,
        "vcpu": {"min": flavor.vcpu_min, "max": flavor.vcpu_max},
        "ramGbPerVcpu": flavor.ram_gb_per_vcpu,
        "price": {"securePerVcpu": flavor.price, "serverlessPerVcpu": flavor.serverless},
    }
    if query.include is not None:
        wish = Wish(gpu=flavor.id, count=0, vcpus=query.vcpu_count)
        row |= _availability(cloud, wish, stocked=stocked)
    return row


def _check_cpu_query(call: Call) -> CpuQuery:
    query = read_query(call.request, CpuQuery)
    _check_include(query, CPU_PRODUCTS)
    if query.vcpu_count is not None and query.vcpu_count.bit_count() != 1:
        raise problem(400, "vcpuCount must be a power of two")
    return query


async def list_cpus(api: Emulator, call: Call) -> Response:
    """GET catalog/cpus."""
    query = _check_cpu_query(call)
    stocked = _stocked(api, query)
    rows = [_cpu_row(api.cloud, query, flavor, stocked=stocked) for flavor in sheet().flavors]
    return answer({"cpus": rows})


async def show_cpu(api: Emulator, call: Call) -> Response:
    """GET catalog/cpus/{id}."""
    query, flavor = _check_cpu_query(call), sheet().flavor(call.ids[0])
    if flavor is None:
        raise not_found()
    return answer(_cpu_row(api.cloud, query, flavor, stocked=_stocked(api, query)))


# --- data centres -------------------------------------------------------------------------

INCLUDES = ("GPU_AVAILABILITY", "CPU_AVAILABILITY")


def _place_row(api: Emulator, includes: tuple[str, ...], place: DataCenter) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": place.id,
        "name": place.name,
        "region": place.region,
        "globalNetwork": bool(place.volume_types),
        "networkVolumeTypes": list(place.volume_types),
        "compliance": list(place.compliance),
    }
    gpus = [(model.id, model.name, 1) for model in sheet().models]
    cpus = [(flavor.id, flavor.name, 0) for flavor in sheet().flavors]
    kinds = (("GPU_AVAILABILITY", "gpu", gpus), ("CPU_AVAILABILITY", "cpu", cpus))
    for include, kind, rows in kinds:
        found = [
            {"id": id_, "name": name, "availability": level(api.cloud, wish)}
            for id_, name, count in rows
            if fitting(api.cloud, wish := Wish(gpu=id_, count=count, data_centers=(place.id,)))
        ]
        if include in includes and found:
            row[f"{kind}Availability"] = found
    return row


async def list_places(api: Emulator, call: Call) -> Response:
    """GET catalog/datacenters: those that are listed."""
    query = read_query(call.request, PlaceQuery)
    includes = _list(query.include)
    _known("include", includes, INCLUDES)
    rows = [
        row
        for place in sheet().data_centers
        if place.listed
        and (not query.regions or place.region in _list(query.regions))
        and _meets(place.volume_types, query.network_volume_types)
        and _meets(place.compliance, query.compliance)
        and (row := _place_row(api, includes, place))
        and query.global_network in (None, row["globalNetwork"])
    ]
    return answer({"dataCenters": rows})


def _meets(has: tuple[str, ...], wanted: str | None) -> bool:
    return wanted is None or bool(set(has) & set(_list(wanted)))


class _OnePlaceQuery(Struct, forbid_unknown_fields=True, rename="camel"):
    include: str | None = None


async def show_place(api: Emulator, call: Call) -> Response:
    """GET catalog/datacenters/{id}."""
    includes = _list(read_query(call.request, _OnePlaceQuery).include)
    _known("include", includes, INCLUDES)
    place = sheet().data_center(call.ids[0])
    if place is None:
        raise not_found()
    return answer(_place_row(api, includes, place))


async def document(api: Emulator, call: Call) -> Response:
    """GET openapi.json: the paths that are served here, without schemas."""
    no_query(call.request)
    paths: dict[str, dict[str, Any]] = {}
    for route in api.routes:
        operation = {"responses": {"default": {"description": ""}}}
        paths.setdefault(route.path.replace("{}", "{id}"), {})[route.method.lower()] = operation
    info = {"title": "Runpod API", "version": "2.0.0"}
    return answer({"openapi": "3.1.0", "info": info, "paths": paths})
