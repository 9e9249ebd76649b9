"""Where a machine stands: from a vendor's words to a country and a zone word, and back to a filter.

Zone words: US-East, US-West, US (state not told), Canada, South America, Europe, Middle East,
Africa, Asia, Oceania; Global where there is no evidence, and for the rest of North America, which
has no word of its own (its countries are still found by name). The United States are split at the
Mississippi; a state on both banks goes where most of it lies.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from itertools import pairwise
from pathlib import Path

import msgspec
from msgspec import Struct

from gpubroker.catalog.geography import (
    CONTINENTS,
    GLOBAL,
    US,
    area_of,
    continent_of,
    country_by_name,
    country_of,
    states,
)

_REGIONS = Path(__file__).parent / "data" / "regions.json"
"""Cloud -> place ("FI", "US-TX") -> its regions; "cities" stand in any cloud's names."""

AREAS = (
    "US-East",
    "US-West",
    US,
    "Canada",
    "South America",
    "Europe",
    "Middle East",
    "Africa",
    "Asia",
    "Oceania",
    GLOBAL,
)

_ZONE_SPELLINGS = {
    "us": US,
    "usa": US,
    "unitedstates": US,
    "useast": "US-East",
    "uswest": "US-West",
    "canada": "Canada",
    "northamerica": GLOBAL,
    "southamerica": "South America",
    "latinamerica": "South America",
    "europe": "Europe",
    "eu": "Europe",
    "middleeast": "Middle East",
    "me": "Middle East",
    "africa": "Africa",
    "asia": "Asia",
    "asiapacific": "Asia",
    "apac": "Asia",
    "oceania": "Oceania",
    "global": GLOBAL,
}
"""As a filter is typed, without spaces, hyphens and underscores."""

_CLOUD_REGION = re.compile(
    r"(?:gpu-)?(us-?gov|us|northamerica|southamerica|canada|ca|sa|europe|eur|eu|uk|me|africa|af|"
    r"australia|asia|ap)(?:-?((?:north|south|east|west|central)+))?(?![a-z])"
)
_CLOUD_AREAS = {
    "ca": "Canada",
    "canada": "Canada",
    "sa": "South America",
    "southamerica": "South America",
    "eu": "Europe",
    "eur": "Europe",
    "europe": "Europe",
    "uk": "Europe",
    "me": "Middle East",
    "af": "Africa",
    "africa": "Africa",
    "ap": "Asia",
    "asia": "Asia",
    "australia": "Oceania",
}


_REGION_GROUPS = frozenset({"eu", "eur", "ap", "sea", "oc", "as"})
"""First words of regions whose second word is a country: EU-RO-1, OC-AU-1."""
_DIRECTION = re.compile(r"(?:north|south|east|west|central)")
_SITE = re.compile(r"[a-z]{2}-[a-z]+-?\d+")
"""A country and a site: "it-mi2", "bg-sof1"."""


class Place(Struct, frozen=True):
    """What is known of a place."""

    country: str | None
    """ISO 3166-1 alpha-2."""
    continent: str | None
    """Two letters: NA, SA, EU, AS, AF, OC."""
    area: str
    """One of AREAS."""


@lru_cache(maxsize=4096)
def locate(text: str, country: str | None = None, *, provider: str = "") -> Place:
    """The place of a vendor's region text; `country` is the vendor's own code where it tells one.

    Reads "Texas, US", ", US, NA", "France, FR, EU", "Taiwan", "TX", "us-east-1", "desmoines-usa-1".
    `provider` is the wire name: clouds mean different places by one name ("us-central1"). Never
    raises.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) > 1 and parts[-1].upper() in CONTINENTS and country_of(parts[-2]):
        parts.pop()
    code = country_of(country) if country else None
    if code is None and parts:
        code = country_of(parts[-1])
    if code == US:
        return Place(US, "NA", _us_area(parts, provider))
    if code is None and len(parts) == 1 and (state := states().get(parts[0].casefold())):
        return Place(US, "NA", state[1])
    if code is None:
        return _region(text.strip().casefold(), provider)
    return _in(code)


def _in(code: str) -> Place:
    """Of "FI" or "US-TX"."""
    country, _, state = code.partition("-")
    if country == US:
        return Place(US, "NA", states()[state.casefold()][1] if state else US)
    return Place(country, continent_of()[country], area_of(country))


def _us_area(parts: list[str], provider: str) -> str:
    for part in parts:
        for word in (part.casefold(), *re.split(r"[-_ ]", part.casefold())):
            if word != "us" and (state := states().get(word)):
                return state[1]
    for part in parts:
        area = _region(part.casefold(), provider).area
        if area.startswith("US-"):
            return area
    return US


def _region(text: str, provider: str) -> Place:
    """A cloud's own name for a place: known by the tables, by a city in it, else by its pattern."""
    if code := _known_region(text, provider):
        return _in(code)
    if area := _ZONE_SPELLINGS.get(re.sub(r"[-_ ]", "", text)):
        country = US if area.startswith(US) else "CA" if area == "Canada" else None
        return Place(country, "NA" if country else None, area)
    if code := _by_words(text):
        return _in(code)
    return _by_cloud_region(text)


@cache
def _tables() -> dict[str, dict[str, str]]:
    """Cloud -> region -> place; under "" what all clouds that have a region mean by it."""
    told = msgspec.json.decode(_REGIONS.read_bytes(), type=dict[str, dict[str, str]])
    tables = {
        cloud: {name: code for code, names in places.items() for name in names.split()}
        for cloud, places in told.items()
    }
    meant: dict[str, set[str]] = {}
    for cloud, regions in tables.items():
        for name, code in regions.items() if cloud != "cities" else ():
            meant.setdefault(name, set()).add(code)
    return tables | {"": {name: _common(codes) for name, codes in meant.items() if _common(codes)}}


def _common(codes: set[str]) -> str:
    """What several places have in common: themselves, "US", or ""."""
    if len(codes) == 1:
        return next(iter(codes))
    if all(code.startswith(US) for code in codes):
        sides = {_in(code).area for code in codes}
        return min(codes) if len(sides) == 1 else US
    return ""


def _known_region(text: str, provider: str) -> str | None:
    tables = _tables()
    name = text.replace(" ", "")
    for candidate in (name, *_without_zone(name)):
        for cloud in (provider, ""):
            if code := tables.get(cloud, {}).get(candidate):
                return code
    return None


def _without_zone(name: str) -> tuple[str, ...]:
    """The region of "us-east-1a", "europe-west4-b", "us-south1-ai1b", "us-east-1-atl-2a"."""
    bare = re.sub(r"(?<=\d)(?:-?[a-f]|-[a-z]+\d+[a-z]?)$", "", name)
    return (bare,) if bare != name else ()


def _by_words(text: str) -> str | None:
    """A city, country or state that is written out: "kansascity-usa-1", "UTAH_USA"."""
    words = [word for word in re.split(r"[^\w]|_|\d+", text.rpartition(":")[2]) if word]
    pairs = ["".join(pair) for pair in pairwise(words)]
    spaced = [" ".join(pair) for pair in pairwise(words)]
    cities = _tables()["cities"]
    for word in (*words, *pairs):
        if code := cities.get(word):
            return code
    for word in (*spaced, *words):
        if len(word) > 2 and (state := states().get(word)) and US in map(country_of, words):  # noqa: PLR2004 - no code of a state
            return f"US-{state[0]}"
    for word in (*spaced, *words):
        if len(word) > 2 and (country := _country_name(word)):  # noqa: PLR2004 - no code of a country
            return country
    return None


def _country_name(text: str) -> str | None:
    return country_by_name().get(text.casefold())


def _by_cloud_region(text: str) -> Place:
    """Names such as "us-east-1", "europe-west4", "US-TX-3", "EU-RO-1", "il-central-1"."""
    first, *rest = re.split(r"[-_ ]", text)
    second = rest[0] if rest else ""
    if first == "us" and (state := states().get(second)):
        return Place(US, "NA", state[1])
    code = second.upper()
    if first in _REGION_GROUPS and code in continent_of():
        return _in(code)
    match = _CLOUD_REGION.match(text)
    if match is None:
        code = first.upper()
        if code in continent_of() and (_DIRECTION.match(second) or _SITE.fullmatch(text)):
            return _in(code)
        return Place(None, None, GLOBAL)
    if match[1].startswith("us"):
        side = {"east": "US-East", "west": "US-West"}.get((match[2] or "")[-4:], US)
        return Place(US, "NA", side)
    area = _CLOUD_AREAS.get(match[1], GLOBAL)
    country = {"Canada": "CA", "Oceania": "AU"}.get(area, "GB" if match[1] == "uk" else None)
    return Place(country, continent_of()[country] if country else None, area)


class _Wanted(Struct, frozen=True):
    area: str | None
    country: str | None
    state: str | None
    text: str


@lru_cache(maxsize=256)
def _wanted(region: str) -> _Wanted:
    text = region.strip().casefold()
    area = _ZONE_SPELLINGS.get(re.sub(r"[-_ ]", "", text))
    # Two letters are a country before they are a state: "CA" is Canada, "California" the state.
    country = None if area not in (None, US, "Canada") else country_of(text)
    state = None if area else states().get(text)
    return _Wanted(area, country, state[0] if state else None, text)


@lru_cache(maxsize=16384)
def matches(wanted: str, region: str, country: str | None, area: str) -> bool | None:
    """Whether an offer's place is in the wanted region; None where its place is not known.

    `wanted` is a zone word, "US", a country (code or name), a US state, or the vendor's own region,
    whole or one of its comma-separated parts. "US" takes in US-East and US-West.
    """
    want = _wanted(wanted)
    parts = [part.strip() for part in region.casefold().split(",")]
    if want.text == region.strip().casefold() or (want.text and want.text in parts):
        return True
    if want.state and country in (US, None):
        codes = {state[0] for part in parts if (state := states().get(part))}
        if codes:
            return want.state in codes
    if want.area:
        found = _in_area(want.area, country, area)
    elif want.country:
        found = None if country is None else country == want.country
    else:
        found = False
    if found is False and not region.strip() and country is None and area == GLOBAL:
        return None
    return found


def _in_area(wanted: str, country: str | None, area: str) -> bool | None:
    if area == wanted or (wanted == US and (country == US or area.startswith("US-"))):
        return True
    if area == GLOBAL and country is None:
        return None
    if area == US and wanted.startswith("US-"):
        return None  # somewhere in the United States
    return False
