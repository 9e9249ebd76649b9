"""Countries, continents and the states of the US: codes, names, and zone words."""

from __future__ import annotations

from functools import cache

GLOBAL = "Global"
US = "US"

CONTINENTS = {"NA", "SA", "EU", "AS", "AF", "OC", "AN"}
AREA_OF_CONTINENT = {
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
MIDDLE_EAST = frozenset(
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


@cache
def continent_of() -> dict[str, str]:
    """ISO 3166-1 alpha-2 -> two letters of the continent."""
    return {
        entry[:2]: continent
        for continent, countries in _COUNTRIES.items()
        for entry in countries.split("|")
    }


@cache
def country_by_name() -> dict[str, str]:
    """Name in lower case -> ISO 3166-1 alpha-2."""
    names = {
        entry[3:].casefold(): entry[:2]
        for countries in _COUNTRIES.values()
        for entry in countries.split("|")
    }
    return names | _OTHER_NAMES


@cache
def states() -> dict[str, tuple[str, str]]:
    """Name or code -> (code, zone word)."""
    found = {}
    for area, states in (("US-East", _EAST), ("US-West", _WEST)):
        for state in states.split("|"):
            found[state[:2].casefold()] = found[state[3:].casefold()] = (state[:2], area)
    # Else its first word would be the state on the other coast.
    found |= dict.fromkeys(("washington dc", "washington d.c."), ("DC", "US-East"))
    return found


def country_of(text: str) -> str | None:
    """The code that a code or name means, None for what is no country."""
    code = text.upper()
    return code if code in continent_of() else country_by_name().get(text.casefold())


def area_of(code: str) -> str:
    """The zone word of a country other than the United States."""
    if code == "CA":
        return "Canada"
    if code in MIDDLE_EAST:
        return "Middle East"
    return AREA_OF_CONTINENT.get(continent_of()[code], GLOBAL)
