"""Places out of vendors' words, and filters over them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubroker.catalog.places import AREAS, locate, matches


@pytest.mark.parametrize(
    ("text", "country", "area"),
    [
        ("Texas, US", "US", "US-West"),
        ("Texas, US, NA", "US", "US-West"),
        (", US", "US", "US"),
        (", US, NA", "US", "US"),
        ("United States, US, NA", "US", "US"),
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
        ("us-central1", "US", "US"),
        ("US-TX-3", "US", "US-West"),
        ("EU-RO-1", "RO", "Europe"),
        ("CANADA-1", "CA", "Canada"),
        ("europe-west4", None, "Europe"),
        ("asia-east1", None, "Asia"),
        ("East Coast (NY2)", None, "Global"),
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
