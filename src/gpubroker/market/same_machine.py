"""Which direct offer an aggregated one is the same machine as, where its naming makes that certain.

An aggregator calls the cloud behind an offer, that cloud's type and a region by names. Certain is
what is left of them: a cloud that we know, one of its own type names, and a region in its own
words, or the only region that it has in the offer's country. All else is nobody's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

from gpubroker.model.offer import Offer
from gpubroker.model.terms import Source

UPSTREAM_TYPE = "upstream_type"
"""In `Offer.launch`: the type's name at the cloud behind the offer."""


class Direct(Struct, frozen=True):
    """A cloud by the names that it gives itself."""

    provider: str
    types: re.Pattern[str]
    regions: re.Pattern[str]
    """In lower case."""
    key: str
    """As its provider makes it."""
    capitals: bool = False
    """Whether its regions are written so."""
    only: Mapping[str, str] = {}
    """Country -> the one region there."""


_LAMBDA = Direct(
    "lambda_labs",
    re.compile(r"gpu_[1-9]x_[a-z0-9_]+"),
    re.compile(r"(us|europe|asia|australia|me)-[a-z]+-\d"),
    "{type}:{region}",
    only={
        "DE": "europe-central-1",
        "IL": "me-west-1",
        "IN": "asia-south-1",
        "AU": "australia-east-1",
    },
)
_VERDA = Direct(
    "verda",
    re.compile(r"[1-9][A-Z0-9]+(\.[0-9]+S)?\.[0-9]+V"),
    re.compile(r"(fin|ice)-\d\d"),
    "{type}:{market}:{region}",
    capitals=True,
)
_HYPERSTACK = Direct(
    "hyperstack",
    re.compile(r"n\d-[A-Za-z0-9-]+?x\d{1,2}(-NVLink)?"),
    re.compile(r"(canada|norway|us)-\d"),
    "{type}:{region}",
    capitals=True,
    only={"CA": "CANADA-1", "NO": "NORWAY-1"},
)
_DIGITALOCEAN = Direct(
    "digitalocean",
    re.compile(r"gpu-[a-z0-9]+x[1-8]-\d+gb"),
    re.compile(r"[a-z]{3}\d"),
    "{type}:{region}",
    only={"CA": "tor1"},
)
DIRECT: Mapping[str, Direct] = {
    "lambda": _LAMBDA,
    "lambda_labs": _LAMBDA,
    "lambdalabs": _LAMBDA,
    "datacrunch": _VERDA,
    "verda": _VERDA,
    "hyperstack": _HYPERSTACK,
    "digitalocean": _DIGITALOCEAN,
}
"""The aggregators' words for a cloud."""


def direct_offer(offer: Offer) -> tuple[str, str] | None:
    """(provider, key) of the same machine's direct offer; None: it is direct, or not certain.

    Asks nothing: whether that offer is to be had now, and at which price, its own row tells.
    """
    direct = DIRECT.get((offer.upstream or "").lower())
    kind = offer.launch.get(UPSTREAM_TYPE)
    if direct is None or direct.provider == offer.provider or offer.source is Source.CATALOG:
        return None
    if not isinstance(kind, str) or not direct.types.fullmatch(kind):
        return None
    region = _region(direct, offer)
    if not region:
        return None
    key = direct.key.format(type=kind, region=region, market=offer.market.value)
    return direct.provider, key


def _region(direct: Direct, offer: Offer) -> str:
    told = offer.region.lower()
    if direct.regions.fullmatch(told):
        return told.upper() if direct.capitals else told
    return direct.only.get(offer.country or "", "")
