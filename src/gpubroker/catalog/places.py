"""Where a machine stands: from a vendor's words to a country and a zone word, and back to a filter.

Zone words: US-East, US-West, US (state not told), Canada, South America, Europe, Middle East,
Africa, Asia, Oceania; Global where there is no evidence, and for the rest of North America, which
has no word of its own (its countries are still found by name). The United States are split at the
Mississippi; a state on both banks goes where most of it lies.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache

from msgspec import Struct

GLOBAL = "Global"
US = "US"

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

_CONTINENTS = {"NA", "SA", "EU", "AS", "AF", "OC", "AN"}
_AREA_OF_CONTINENT = {
    "SA": "South America",
    "EU": "Europe",
    "AS": "Asia",
    "AF": "Africa",
    "OC": "Oceania",
}

_COUNTRIES = {
    "EU": (
        "AD Andorra|AL Albania|AT Austria|AX Aland Islands|BA Bosnia and Herzegovina|BE Belgium|"
        "BG Bulgaria|BY Belarus|CH Switzerland|CY Cyprus|CZ Czechia|DE Germany|DK Denmark|"
        "EE Estonia|ES Spain|FI Finland|FO Faroe Islands|FR France|GB United Kingdom|GG Guernsey|"
        "GI Gibraltar|GR Greece|HR Croatia|HU Hungary|IE Ireland|IM Isle of Man|IS Iceland|"
        "IT Italy|JE Jersey|LI Liechtenstein|LT Lithuania|LU Luxembourg|LV Latvia|MC Monaco|"
        "MD Moldova|ME Montenegro|MK North Macedonia|MT Malta|NL Netherlands|NO Norway|PL Poland|"
        "PT Portugal|RO Romania|RS Serbia|RU Russia|SE Sweden|SI Slovenia|SJ Svalbard|"
        "SK Slovakia|SM San Marino|UA Ukraine|VA Vatican City|XK Kosovo"
    ),
    "AS": (
        "AE United Arab Emirates|AF Afghanistan|AM Armenia|AZ Azerbaijan|BD Bangladesh|BH Bahrain|"
        "BN Brunei|BT Bhutan|CN China|GE Georgia|HK Hong Kong|ID Indonesia|IL Israel|IN India|"
        "IQ Iraq|IR Iran|JO Jordan|JP Japan|KG Kyrgyzstan|KH Cambodia|KP North Korea|"
        "KR South Korea|KW Kuwait|KZ Kazakhstan|LA Laos|LB Lebanon|LK Sri Lanka|MM Myanmar|"
        "MN Mongolia|MO Macao|MV Maldives|MY Malaysia|NP Nepal|OM Oman|PH Philippines|PK Pakistan|"
        "PS Palestine|QA Qatar|SA Saudi Arabia|SG Singapore|SY Syria|TH Thailand|TJ Tajikistan|"
        "TL Timor-Leste|TM Turkmenistan|TR Turkey|TW Taiwan|UZ Uzbekistan|VN Vietnam|YE Yemen"
    ),
    "AF": (
        "AO Angola|BF Burkina Faso|BI Burundi|BJ Benin|BW Botswana|CD DR Congo|"
        "CF Central African Republic|CG Congo|CI Ivory Coast|CM Cameroon|CV Cape Verde|"
        "DJ Djibouti|DZ Algeria|EG Egypt|ER Eritrea|ET Ethiopia|GA Gabon|GH Ghana|GM Gambia|"
        "GN Guinea|GQ Equatorial Guinea|GW Guinea-Bissau|KE Kenya|KM Comoros|LR Liberia|"
        "LS Lesotho|LY Libya|MA Morocco|MG Madagascar|ML Mali|MR Mauritania|MU Mauritius|"
        "MW Malawi|MZ Mozambique|NA Namibia|NE Niger|NG Nigeria|RE Reunion|RW Rwanda|"
        "SC Seychelles|SD Sudan|SL Sierra Leone|SN Senegal|SO Somalia|SS South Sudan|"
        "SZ Eswatini|TD Chad|TG Togo|TN Tunisia|TZ Tanzania|UG Uganda|ZA South Africa|ZM Zambia|"
        "ZW Zimbabwe"
    ),
    "NA": (
        "AG Antigua and Barbuda|BB Barbados|BM Bermuda|BS Bahamas|BZ Belize|CA Canada|"
        "CR Costa Rica|CU Cuba|CW Curacao|DM Dominica|DO Dominican Republic|GD Grenada|"
        "GL Greenland|GT Guatemala|HN Honduras|HT Haiti|JM Jamaica|KY Cayman Islands|"
        "LC Saint Lucia|MX Mexico|NI Nicaragua|PA Panama|PR Puerto Rico|SV El Salvador|"
        "TT Trinidad and Tobago|US United States|VG British Virgin Islands|VI US Virgin Islands"
    ),
    "SA": (
        "AR Argentina|BO Bolivia|BR Brazil|CL Chile|CO Colombia|EC Ecuador|GF French Guiana|"
        "GY Guyana|PE Peru|PY Paraguay|SR Suriname|UY Uruguay|VE Venezuela"
    ),
    "OC": (
        "AU Australia|FJ Fiji|GU Guam|NC New Caledonia|NZ New Zealand|PF French Polynesia|"
        "PG Papua New Guinea|SB Solomon Islands|TO Tonga|VU Vanuatu|WS Samoa"
    ),
}
_MIDDLE_EAST = frozenset(
    ["AE", "BH", "IL", "IQ", "IR", "JO", "KW", "LB", "OM", "PS", "QA", "SA", "SY", "TR", "YE"]
)
_OTHER_NAMES = {
    "usa": US,
    "united states of america": US,
    "america": US,
    "uk": "GB",
    "great britain": "GB",
    "england": "GB",
    "scotland": "GB",
    "wales": "GB",
    "northern ireland": "GB",
    "czech republic": "CZ",
    "holland": "NL",
    "the netherlands": "NL",
    "korea": "KR",
    "republic of korea": "KR",
    "viet nam": "VN",
    "turkiye": "TR",
    "türkiye": "TR",
    "russian federation": "RU",
    "uae": "AE",
    "taiwan, province of china": "TW",
    "macedonia": "MK",
    "moldova, republic of": "MD",
    "cote d'ivoire": "CI",
    "macau": "MO",
}

_EAST = (
    "AL Alabama|CT Connecticut|DC District of Columbia|DE Delaware|FL Florida|GA Georgia|"
    "IL Illinois|IN Indiana|KY Kentucky|MA Massachusetts|MD Maryland|ME Maine|MI Michigan|"
    "MS Mississippi|NC North Carolina|NH New Hampshire|NJ New Jersey|NY New York|OH Ohio|"
    "PA Pennsylvania|RI Rhode Island|SC South Carolina|TN Tennessee|VA Virginia|VT Vermont|"
    "WI Wisconsin|WV West Virginia"
)
_WEST = (
    "AK Alaska|AR Arkansas|AZ Arizona|CA California|CO Colorado|HI Hawaii|IA Iowa|ID Idaho|"
    "KS Kansas|LA Louisiana|MN Minnesota|MO Missouri|MT Montana|ND North Dakota|NE Nebraska|"
    "NM New Mexico|NV Nevada|OK Oklahoma|OR Oregon|SD South Dakota|TX Texas|UT Utah|"
    "WA Washington|WY Wyoming"
)

_ZONE_SPELLINGS = {
    "us": US,
    "usa": US,
    "unitedstates": US,
    "useast": "US-East",
    "uswest": "US-West",
    "canada": "Canada",
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


class Place(Struct, frozen=True):
    """What is known of a place."""

    country: str | None
    """ISO 3166-1 alpha-2."""
    continent: str | None
    """Two letters: NA, SA, EU, AS, AF, OC."""
    area: str
    """One of AREAS."""


@cache
def _continent_of() -> dict[str, str]:
    return {
        entry[:2]: continent
        for continent, countries in _COUNTRIES.items()
        for entry in countries.split("|")
    }


@cache
def _country_by_name() -> dict[str, str]:
    names = {
        entry[3:].casefold(): entry[:2]
        for countries in _COUNTRIES.values()
        for entry in countries.split("|")
    }
    return names | _OTHER_NAMES


@cache
def _states() -> dict[str, tuple[str, str]]:
    """Name or code -> (code, zone word)."""
    found = {}
    for area, states in (("US-East", _EAST), ("US-West", _WEST)):
        for state in states.split("|"):
            found[state[:2].casefold()] = found[state[3:].casefold()] = (state[:2], area)
    return found


def _country(text: str) -> str | None:
    code = text.upper()
    return code if code in _continent_of() else _country_by_name().get(text.casefold())


@lru_cache(maxsize=4096)
def locate(text: str, country: str | None = None) -> Place:
    """The place of a vendor's region text; `country` is the vendor's own code where it tells one.

    Reads "Texas, US", ", US, NA", "France, FR, EU", "Taiwan", "TX", "us-east-1". Never raises.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) > 1 and parts[-1].upper() in _CONTINENTS and _country(parts[-2]):
        parts.pop()
    code = _country(country) if country else None
    if code is None and parts:
        code = _country(parts[-1])
    if code == US:
        return Place(US, "NA", _us_area(parts))
    if code is None and len(parts) == 1 and (state := _states().get(parts[0].casefold())):
        return Place(US, "NA", state[1])
    if code is None:
        return _by_cloud_region(text.strip().casefold())
    return Place(code, _continent_of()[code], _area(code))


def _us_area(parts: list[str]) -> str:
    for part in parts:
        for word in (part.casefold(), *re.split(r"[-_ ]", part.casefold())):
            if word != "us" and (state := _states().get(word)):
                return state[1]
    for part in parts:
        area = _by_cloud_region(part.casefold()).area
        if area.startswith("US-"):
            return area
    return US


def _area(code: str) -> str:
    if code == "CA":
        return "Canada"
    if code in _MIDDLE_EAST:
        return "Middle East"
    return _AREA_OF_CONTINENT.get(_continent_of()[code], GLOBAL)


def _by_cloud_region(text: str) -> Place:
    """Names such as "us-east-1", "europe-west4", "US-TX-3", "EU-RO-1", "il-central-1"."""
    first, *rest = re.split(r"[-_ ]", text)
    second = rest[0] if rest else ""
    if first == "us" and (state := _states().get(second)):
        return Place(US, "NA", state[1])
    code = second.upper()
    if first in _REGION_GROUPS and code in _continent_of():
        return Place(code, _continent_of()[code], _area(code))
    match = _CLOUD_REGION.match(text)
    if match is None:
        code = first.upper()
        if _DIRECTION.match(second) and code in _continent_of():
            return Place(code, _continent_of()[code], _area(code))
        return Place(None, None, GLOBAL)
    if match[1].startswith("us"):
        side = {"east": "US-East", "west": "US-West"}.get((match[2] or "")[-4:], US)
        return Place(US, "NA", side)
    area = _CLOUD_AREAS.get(match[1], GLOBAL)
    country = {"Canada": "CA", "Oceania": "AU"}.get(area, "GB" if match[1] == "uk" else None)
    return Place(country, _continent_of()[country] if country else None, area)


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
    country = None if area not in (None, US, "Canada") else _country(text)
    state = None if area else _states().get(text)
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
        codes = {state[0] for part in parts if (state := _states().get(part))}
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
