"""From a query to Vast.ai's search body, and what the answer to it covers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from msgspec import Struct

from gpubroker.catalog.gpus import resolve
from gpubroker.model.errors import Invalid
from gpubroker.model.query import Query
from gpubroker.model.terms import Market
from gpubroker.providers.vast_ai.facts import NAME

MOST_OFFERS = 3000
"""Asked for at once: the search has no pages."""
USUAL_STORAGE_GB = 5.0
_TYPES = {Market.ON_DEMAND: "on-demand", Market.SPOT: "bid"}
_MIB = 1024
_TOLERANCE = 0.07
"""Hosts report 0.93 to 1.07 of a card's memory."""


class Search(Struct, frozen=True):
    """One request and how to read its answer."""

    body: Mapping[str, Any]
    covers: Query
    """Exactly what was pushed down, known values only: hosts without a value are not found."""
    exact: bool
    """Whether every offer that `covers` means is in the answer."""
    required: Mapping[str, Any]
    """Field -> value to check again in each row."""


# Query field -> (their field, operator, their value). None finds less than the query means.
_PUSHED: tuple[tuple[str, str, str, Callable[[Any], Any]], ...] = (
    ("min_count", "num_gpus", "gte", int),
    ("max_count", "num_gpus", "lte", int),
    ("min_vram_gb", "gpu_ram", "gte", lambda gb: gb * _MIB * (1 - _TOLERANCE)),
    ("max_vram_gb", "gpu_ram", "lte", lambda gb: gb * _MIB * (1 + _TOLERANCE)),
    ("min_vcpus", "cpu_cores_effective", "gte", float),
    ("min_ram_gb", "cpu_ram", "gte", lambda gb: gb * 1000),
    ("min_disk_gb", "disk_space", "gte", float),
    ("min_reliability", "reliability2", "gte", float),
    ("min_compute_capability", "compute_cap", "gte", lambda version: round(version * 100)),
    ("min_down_mbps", "inet_down", "gte", float),
    ("min_up_mbps", "inet_up", "gte", float),
    ("min_hours", "duration", "gte", lambda hours: hours * 3600),
)

_BOOLEANS = {"true": True, "yes": True, "false": False, "no": False, "any": None}


def _boolean(text: str) -> bool | None:
    return _BOOLEANS[text.casefold()]


# Provider option -> (their field, operator, type of the value).
OPTIONS: Mapping[str, tuple[str, str, Callable[[str], Any]]] = {
    "verified": ("verified", "eq", _boolean),
    "external": ("external", "eq", _boolean),
    "rentable": ("rentable", "eq", _boolean),
    "datacenter": ("datacenter", "eq", _boolean),
    "static_ip": ("static_ip", "eq", _boolean),
    "has_avx": ("has_avx", "eq", _boolean),
    "vms_enabled": ("vms_enabled", "eq", _boolean),
    "min_direct_ports": ("direct_port_count", "gte", int),
    "min_dlperf": ("dlperf", "gte", float),
    "min_disk_bandwidth": ("disk_bw", "gte", float),
    "machine_id": ("machine_id", "eq", int),
    "host_id": ("host_id", "eq", int),
}
_DEFAULTS: Mapping[str, bool] = {"verified": True, "external": False, "rentable": True}
"""As the vendor's client sends them: without, junk comes back."""
_CHECKED = {"external": "external", "rentable": "rentable"}

_NAMES = """
A10 A10g A40 A100_PCIE A100_SXM4 A100X A800_PCIE H100_PCIE H100_SXM H100_NVL H200 H200_NVL B200
L4 L40 L40S Tesla_T4 Tesla_P4 Tesla_P40 Tesla_P100 Tesla_V100 Titan_V Titan_RTX Titan_Xp
Q_RTX_4000 Q_RTX_5000 Q_RTX_6000 Q_RTX_8000 Quadro_P2000 Quadro_P4000 RTX_A2000 RTX_A4000
RTX_A4500 RTX_A5000 RTX_A6000 RTX_2000Ada RTX_4000Ada RTX_4500Ada RTX_5000Ada RTX_5880Ada
RTX_6000Ada RTX_PRO_4000 RTX_PRO_4500 RTX_PRO_5000 RTX_PRO_6000_S RTX_PRO_6000_WS RTX_5060
RTX_5060_Ti RTX_5070 RTX_5070_Ti RTX_5080 RTX_5090 RTX_4060 RTX_4060_Ti RTX_4070 RTX_4070S
RTX_4070_Ti RTX_4070S_Ti RTX_4080 RTX_4080S RTX_4090 RTX_4090D RTX_3050 RTX_3060 RTX_3060_Ti
RTX_3060_laptop RTX_3070 RTX_3070_laptop RTX_3070_Ti RTX_3080 RTX_3080_Ti RTX_3090 RTX_3090_Ti
RTX_2060 RTX_2060S RTX_2070 RTX_2070S RTX_2080 RTX_2080S RTX_2080_Ti GTX_1050 GTX_1050_Ti
GTX_1060 GTX_1070 GTX_1070_Ti GTX_1080 GTX_1080_Ti GTX_1650 GTX_1650_S GTX_1660 GTX_1660_S
GTX_1660_Ti CMP_50HX
"""
GPU_NAMES = tuple(name.replace("_", " ") for name in _NAMES.split())
"""As the vendor's client lists them; hosts bring new ones before any list has them."""


@cache
def _names_of() -> dict[str, tuple[str, ...]]:
    """Canonical name -> their spellings of it."""
    found: dict[str, tuple[str, ...]] = {}
    for raw in GPU_NAMES:
        name = resolve(raw).name
        if name is not None:
            found[name] = (*found.get(name, ()), raw)
    return found


def search(query: Query, market: Market) -> Search:
    """The request for one market. Invalid for an option that is not in OPTIONS."""
    storage_gb = query.disk_gb or USUAL_STORAGE_GB
    body: dict[str, Any] = {}
    covered: dict[str, Any] = {"market": market, "strict": True}
    for field, theirs, operator, translate in _PUSHED:
        value = getattr(query, field)
        if value is not None:
            body.setdefault(theirs, {})[operator] = translate(value)
            covered[field] = value
    exact = _push_choices(query, body, covered)
    required = _push_options(query, body, covered)
    body |= {
        "type": _TYPES[market],
        "order": [["dph_total", "asc"]],
        "allocated_storage": storage_gb,
        "limit": MOST_OFFERS,
    }
    return Search(body, Query(**covered), exact, required)


def _push_choices(query: Query, body: dict[str, Any], covered: dict[str, Any]) -> bool:
    exact = True
    spellings = [_names_of().get(gpu.name) for gpu in query.gpus]
    if spellings and all(spellings):
        body["gpu_name"] = {"in": [raw for names in spellings if names for raw in names]}
        covered["gpus"] = query.gpus
        exact = False
    asks = [key.partition(":")[0] for key in query.keys]
    if asks and all(ask.isdecimal() for ask in asks):
        body["id"] = {"in": [int(ask) for ask in dict.fromkeys(asks)]}
        covered["keys"] = query.keys
    return exact


def _push_options(query: Query, body: dict[str, Any], covered: dict[str, Any]) -> dict[str, Any]:
    chosen: dict[str, Any] = dict(_DEFAULTS)
    options = [option for option in query.options if option[0] == NAME]
    for _, name, text in options:
        if name not in OPTIONS:
            raise _invalid(name, f"is no option; there are {', '.join(sorted(OPTIONS))}")
        try:
            chosen[name] = OPTIONS[name][2](text)
        except (KeyError, ValueError):
            raise _invalid(name, f"cannot be {text!r}") from None
    for name, value in chosen.items():
        theirs, operator, _ = OPTIONS[name]
        if value is not None:
            body.setdefault(theirs, {})[operator] = value
    if options:
        covered["options"] = tuple(options)
    required = {field: chosen[name] for name, field in _CHECKED.items() if chosen[name] is not None}
    if chosen["verified"] is True:
        required["verification"] = "verified"
    return required


def _invalid(option: str, reason: str) -> Invalid:
    error = Invalid(f"{NAME}.{option} {reason}", provider=NAME, operation="offers")
    error.field = f"{NAME}.{option}"
    return error
