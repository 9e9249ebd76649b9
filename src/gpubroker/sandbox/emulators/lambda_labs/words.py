"""Lambda's words: how it refuses, and how a call is read before it is carried out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, TypeVar
from uuid import uuid4

import msgspec
from msgspec import Meta, Struct
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Limit, Refusal, answer
from gpubroker.sandbox.rented import Machine, Thing

GENERAL = Limit("general", 1.0, burst=4)
"""For all calls together, "generally": clients that are in use send up to four in a row."""
LAUNCH = Limit("launch", 11.9, burst=1)
"""One in 12 s, less what a clock and a network may take off."""

REGIONS: Mapping[str, str] = {
    "us-east-1": "Virginia, USA",
    "us-east-2": "Washington DC, USA",
    "us-east-3": "Washington DC, USA",
    "us-west-1": "California, USA",
    "us-west-2": "Arizona, USA",
    "us-west-3": "Utah, USA",
    "us-south-1": "Texas, USA",
    "us-south-2": "North Texas, USA",
    "us-south-3": "Central Texas, USA",
    "us-midwest-1": "Illinois, USA",
    "us-midwest-2": "Missouri, USA",
    "europe-central-1": "Germany",
    "asia-south-1": "India",
    "asia-northeast-1": "Osaka, Japan",
    "asia-northeast-2": "Tokyo, Japan",
    "me-west-1": "Israel",
    "australia-east-1": "Sydney, Australia",
}

WRONG_REGION = "instance-operations/launch/file-system-in-wrong-region"
NO_CAPACITY = "instance-operations/launch/insufficient-capacity"
UNKNOWN = "global/object-does-not-exist"
INVALID = "global/invalid-parameters"
_TEXTS: Mapping[str, tuple[str, str | None]] = {
    "global/invalid-api-key": (
        "API key was invalid, expired, or deleted.",
        "Check your API key or create a new one, then try again.",
    ),
    "global/account-inactive": (
        "Your account is inactive.",
        "Verify your email address and payment method. Contact Support if problems continue.",
    ),
    "global/quota-exceeded": ("Quota exceeded.", "Contact Support to increase your quota."),
    "global/internal-error": (
        "An internal server error occurred.",
        "Try again later. Contact Support if the problem persists.",
    ),
    "global/duplicate": ("A resource with this name already exists.", None),
    INVALID: ("Invalid request data.", None),
    UNKNOWN: ("Specified instance does not exist.", None),
    NO_CAPACITY: ("Not enough capacity to fulfill launch request.", None),
    WRONG_REGION: ("The filesystem is not in the region of the instance.", None),
    "filesystems/filesystem-in-use": ("The filesystem is in use by an instance.", None),
    "firewall-rulesets/firewall-ruleset-in-use": (
        "Firewall ruleset is in use by one or more instances.",
        "Terminate all instances that are using the ruleset before deleting it.",
    ),
}
"""What it says with a code; a second text is its suggestion."""

T = TypeVar("T", bound=Struct)
Named = Annotated[str, Meta(max_length=64)]


def error(status: int, code: str, message: str = "", suggestion: str = "") -> Response:
    """The one form of every refusal."""
    usual, hint = _TEXTS.get(code, ("", None))
    body = {"code": code, "message": message or usual}
    if suggestion or hint:
        body["suggestion"] = suggestion or hint or ""
    return answer({"error": body}, status)


def refusal(status: int, code: str, message: str = "", suggestion: str = "") -> Refusal:
    """Likewise, to be raised."""
    return Refusal(error(status, code, message, suggestion))


def invalid(message: str) -> Refusal:
    """400 for what is not as documented."""
    return refusal(400, INVALID, message)


def success(data: Any) -> Response:
    """The one form of every answer."""
    return answer({"data": data})


def check_query(call: Call, allowed: Collection[str] = ()) -> Mapping[str, str]:
    """The query's parameters, none unknown."""
    for name in call.request.query_params:
        if name not in allowed:
            raise invalid(f"{name}: unknown query parameter")
    return call.request.query_params


def no_body(call: Call) -> None:
    """For a call that takes none."""
    check_query(call)
    if call.body not in (None, {}):
        raise invalid("This call takes no body.")


def read_body(call: Call, type_: type[T]) -> T:
    """The body, of known fields alone and each as documented."""
    check_query(call)
    try:
        return msgspec.convert({} if call.body is None else call.body, type_)
    except msgspec.ValidationError as wrong:
        raise invalid(str(wrong)) from None


def check_region(name: str) -> str:
    """One of the vendor's names."""
    if name not in REGIONS:
        raise invalid(f"region: {name!r} is not a region")
    return name


def region_json(name: str) -> dict[str, str]:
    """As it is told everywhere."""
    return {"name": name, "description": REGIONS[name]}


def new_id(_number: int) -> str:
    """32 hexadecimal characters."""
    return uuid4().hex


def moment(epoch_s: float) -> str:
    """A time of the vendor."""
    from gpubroker.sandbox.clock import iso

    return iso(epoch_s)


def owned_thing(cloud: Cloud, call: Call, kind: str, id_: str) -> Thing | None:
    """The account's, by id."""
    things = cloud.live_things(call.owner.name, kind)
    return next((thing for thing in things if thing.id == id_), None)


def machines_with(cloud: Cloud, field: str, id_: str) -> list[Machine]:
    """The living machines whose launch named a thing."""
    return [m for m in cloud.machines.values() if not m.ended and id_ in m.wire[field]]
