"""How an attempt stands on a machine, where the cloud has tags and names."""

from __future__ import annotations

from collections.abc import Mapping

from gpubroker.model.identity import (
    ATTEMPT_TAG,
    OWNER_TAG,
    Attempt,
    Ref,
    attempt_name,
    parse_name,
    parse_owner,
)
from gpubroker.model.instance import HeldResource
from gpubroker.model.terms import OWNER_WIDE, Resource

_NO_TAGS: Mapping[str, str] = {}


def tags_of(attempt: Attempt) -> dict[str, str]:
    """What a create puts on the machine."""
    return {OWNER_TAG: attempt.owner, ATTEMPT_TAG: attempt.id}


def whose(
    name: str | None, tags: Mapping[str, str] = _NO_TAGS
) -> tuple[str, str] | tuple[None, None]:
    """(owner, attempt) by the tags, else by the name; (None, None) for what is not ours."""
    tagged = attempt_name(tags.get(OWNER_TAG, ""), tags.get(ATTEMPT_TAG, ""))
    return parse_name(tagged) or parse_name(name) or (None, None)


def held(what: Resource, ref: Ref, name: str) -> HeldResource:
    """A key, rule, disk or the like by the name that the vendor holds it under."""
    ours = parse_name(name)
    return HeldResource(
        what=what,
        ref=ref,
        name=name,
        owner=ours[0] if ours else parse_owner(name),
        attempt=ours[1] if ours and what not in OWNER_WIDE else None,
    )
