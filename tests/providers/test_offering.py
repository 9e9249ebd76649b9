"""What no offer may be without, whatever the cloud."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from gpubroker.catalog.gpus import resolve
from gpubroker.model.money import FREE, Nanos
from gpubroker.model.offer import Offer, Price
from gpubroker.model.terms import Availability, Kind, Market, Source
from gpubroker.providers.offering import Gathered, live, placed

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def offer(**told: Any) -> Offer:
    usual: dict[str, Any] = {
        "key": "h100x8:us-east-3",
        "gpu": resolve("H100 SXM"),
        "gpu_count": 8,
        "market": Market.ON_DEMAND,
        "price": Price(compute=Nanos(1)),
        "availability": Availability.UNKNOWN,
    }
    shared = live("acme", "work", Kind.VM, NOW)
    return Offer(**(shared | placed("us-east-3", "Washington DC, USA") | usual | told))


def test_what_all_offers_of_an_answer_share_is_told_once() -> None:
    one = offer()
    assert (one.provider, one.account, one.kind) == ("acme", "work", Kind.VM)
    assert (one.source, one.fetched_at) == (Source.LIVE, NOW)


def test_a_place_is_read_from_the_richest_text_and_kept_in_the_vendors_word() -> None:
    assert placed("us-east-3", "Washington DC, USA")["country"] == "US"
    assert placed("FI-1", country="FI") == {"region": "FI-1", "country": "FI", "area": "Europe"}
    assert placed("")["area"] == "Global"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"gpu": resolve("")}, "no GPU"),
        ({"gpu_count": 0}, "no GPU"),
        ({"price": Price(compute=FREE)}, "no price"),
        ({"key": "a b"}, "a type or region of another form"),
        ({"key": ""}, "a type or region of another form"),
        ({"key": "h100x8:"}, "a type or region of another form"),
        ({"key": "../launch"}, "a type or region of another form"),
        ({}, "told twice"),
    ],
)
def test_a_row_that_makes_no_offer_is_put_aside_with_the_reason(change: Any, reason: str) -> None:
    found = Gathered([("cut", "no row")])
    first = offer()
    found.add({"id": 1}, first)
    found.add({"id": 2}, offer(**change))
    assert found.told() == ((first,), (("cut", "no row"), ("id: 2", reason)))
