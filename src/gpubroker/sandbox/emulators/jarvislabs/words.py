"""Jarvis Labs' words: its hosts, and the several ways in which it refuses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Refusal, answer
from gpubroker.sandbox.rented import Thing

DEFAULT_REGION = "india-noida-01"
EUROPE = "europe-01"
LEGACY = "india-01"
REGIONS = (DEFAULT_REGION, "india-chennai-01", EUROPE)
"""Those where something can be made."""
HOSTS: Mapping[str, str] = {
    "backendn.jarvislabs.net": DEFAULT_REGION,
    "backendc.jarvislabs.net": "india-chennai-01",
    "backendeu.jarvislabs.net": EUROPE,
    "backendprod.jarvislabs.net": LEGACY,
}

GB_MONTH_USD = 0.1
"""Of a filesystem."""

Name = Annotated[str, Meta(min_length=1, max_length=40, pattern=r"^[a-zA-Z0-9 _-]+\Z")]


def refusal(status: int, message: str) -> Refusal:
    """`{"message": …}`: the form of most."""
    return Refusal(answer({"message": message}, status))


def refusal_error(status: int, message: str) -> Refusal:
    """`{"error": …}`: the form of VMs."""
    return Refusal(answer({"error": message}, status))


def refusal_detail(status: int, what: str | Mapping[str, Any]) -> Refusal:
    """`{"detail": …}`: the form of the framework, and of what says more than a text."""
    return Refusal(answer({"detail": what}, status))


def declined(message: str) -> Refusal:
    """200 with a false flag."""
    return Refusal(answer({"success": False, "message": message}))


def declined_misspelled(message: str) -> Refusal:
    """200 with a flag that is neither spelled nor typed as the others."""
    return Refusal(answer({"sucess": "false", "error": message}))


def done() -> Response:
    """200 with a true flag."""
    return answer({"success": True})


def no_instance() -> Refusal:
    """404 of an action."""
    return refusal(404, "Instance not found")


def no_balance() -> Refusal:
    """403: money and quota have no code, only this text."""
    return refusal(403, "Insufficient balance. Please recharge your wallet to continue.")


def host_region(call: Call) -> str | None:
    """The region whose host was asked; None at the sandbox's own address."""
    return HOSTS.get(call.request.headers.get("host", "").partition(":")[0].lower())


def check_host(call: Call, region: str) -> None:
    """Of another region this host knows nothing."""
    if host_region(call) not in (None, region):
        raise refusal_detail(404, "Not Found")


def is_public_key(text: str) -> bool:
    """Whether this is an OpenSSH public key line."""
    pattern = r"(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/]+={0,2}( .*)?"
    return re.fullmatch(pattern, text.strip()) is not None


def owned_thing(cloud: Cloud, call: Call, kind: str, id_: str | int) -> Thing | None:
    """The account's, by id."""
    things = cloud.live_things(call.owner.name, kind)
    return next((thing for thing in things if thing.id == str(id_)), None)
