"""Places out of vendors' words, and filters over them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubroker.catalog.places import AREAS, locate, matches

with (Path(__file__).parent / "data" / "places.csv").open(newline="") as _file:
    REAL = [tuple(row.values()) for row in csv.DictReader(_file)]
"""Every distinct region text of the clouds' lists and documents, placed by hand."""


@pytest.mark.parametrize(("cloud", "text", "country", "area"), REAL)
def test_every_region_of_every_cloud_is_placed(
    cloud: str, text: str, country: str, area: str
) -> None:
    place = locate(text, provider=cloud)
    assert (place.country or "", place.area) == (country, area)


@pytest.mark.parametrize(
    ("text", "country", "area"),
    [
        ("Texas, US", "US", "US-West"),
        ("Texas, US, NA", "US", "US-West"),
        (", US", "US", "US"),
        (", US, NA", "US", "US"),
        ("United States, US, NA", "US", "US"),
        ("Washington DC, USA", "US", "US-East"),
        ("Washington, USA", "US", "US-West"),
        ("Georgia, US", "US", "US-East"),
        ("Georgia", "GE", "Asia"),
        ("New York, US, NA", "US", "US-East"),
        ("Minnesota, US", "US", "US-West"),
        ("Wisconsin, US", "US", "US-East"),
        ("CA, US", "US", "US-West"),
        ("Quebec, CA, NA", "CA", "Canada"),
        ("France, FR, EU", "FR", "Europe"),
        ("Hafnarfjarðarkaupstaður, IS", "IS", "Europe"),
        ("Bács-Kiskun, HU, EU", "HU", "Europe"),
        ("Taichung City, TW", "TW", "Asia"),
        ("Taiwan, TW, AS", "TW", "Asia"),
        (", CN, AS", "CN", "Asia"),
        ("Australia, AU, OC", "AU", "Oceania"),
        ("Windhoek, NA", "NA", "Africa"),
        ("Riyadh, SA", "SA", "Middle East"),
        ("Sao Paulo, BR", "BR", "South America"),
        ("Mexico, MX", "MX", "Global"),
        ("Sweden", "SE", "Europe"),
        ("us-east-1", "US", "US-East"),
        ("us-central1", "US", "US-West"),
        ("US-TX-3", "US", "US-West"),
        ("EU-RO-1", "RO", "Europe"),
        ("CANADA-1", "CA", "Canada"),
        ("europe-west4", "NL", "Europe"),
        ("asia-east1", "TW", "Asia"),
        ("East Coast (NY2)", "US", "US-East"),
        ("us-central9", "US", "US"),
        ("europe-west99", None, "Europe"),
        ("usual", None, "Global"),
        ("", None, "Global"),
    ],
)
def test_places_of_real_region_texts(text: str, country: str | None, area: str) -> None:
    place = locate(text)
    assert (place.country, place.area) == (country, area)


def test_the_vendors_own_country_code_wins() -> None:
    assert locate("FIN-03", "FI").area == "Europe"
    assert locate("Georgia", "US").area == "US-East"


def test_a_name_that_two_clouds_use_means_what_the_asked_one_means() -> None:
    assert locate("us-east-2", provider="aws").area == "US-East"
    assert locate("eu-west-2", provider="aws").country == "GB"
    assert locate("me-west1").country == "IL"
    assert locate("asia-northeast2").country == "JP"
    assert locate("us-east1", provider="northflank").area == "US-East"


@given(st.text(max_size=40), st.none() | st.text(max_size=3))
def test_locating_never_raises(text: str, country: str | None) -> None:
    assert locate(text, country).area in AREAS


TEXAS = ("Texas, US", "US", "US-West")
PARIS = ("France, FR, EU", "FR", "Europe")
SOMEWHERE_US = (", US", "US", "US")
NOWHERE = ("", None, "Global")


@pytest.mark.parametrize(
    ("wanted", "place", "verdict"),
    [
        ("US", TEXAS, True),
        ("us-west", TEXAS, True),
        ("US West", TEXAS, True),
        ("US-East", TEXAS, False),
        ("usa", TEXAS, True),
        ("texas", TEXAS, True),
        ("TX", TEXAS, True),
        ("Ohio", TEXAS, False),
        ("Texas, US", TEXAS, True),
        ("Europe", PARIS, True),
        ("EU", PARIS, True),
        ("fr", PARIS, True),
        ("FRANCE", PARIS, True),
        ("Germany", PARIS, False),
        ("Atlantis", PARIS, False),
        ("US", SOMEWHERE_US, True),
        ("US-East", SOMEWHERE_US, None),
        ("Europe", NOWHERE, None),
        ("Germany", NOWHERE, None),
        ("Global", NOWHERE, True),
        ("CA", ("Ontario, CA", "CA", "Canada"), True),
        ("California", ("CA, US", "US", "US-West"), True),
        ("us-east-1", ("us-east-1", "US", "US-East"), True),
        ("us-east-2", ("us-east-1", "US", "US-East"), False),
    ],
)
def test_a_filter_matches_zone_country_state_or_the_vendors_region(
    wanted: str, place: tuple[str, str | None, str], verdict: bool | None
) -> None:
    assert matches(wanted, *place) is verdict
