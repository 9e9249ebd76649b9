"""The broker's SSH key in a cloud's register: found by its material, reused, never overwritten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from msgspec import Struct

from gpubroker.model.identity import Attempt
from gpubroker.model.launch import LaunchSpec
from gpubroker.providers.bounds import Bounds
from gpubroker.providers.refusals import name_taken


class RegisteredKey(Protocol):
    """What a vendor tells of a key."""

    @property
    def name(self) -> str:
        """By which a create refers to it."""
        ...

    @property
    def public_key(self) -> str:
        """One line, with or without a comment."""
        ...


Key = TypeVar("Key", bound=RegisteredKey)


class BrokerKey(Struct, frozen=True):
    """The broker's key as it is to be registered; a body of most clouds' call for it, too."""

    name: str
    public_key: str


def key_name(attempt: Attempt) -> str:
    """Under which the owner's key is registered; also its comment."""
    return f"gb-{attempt.owner}"


def broker_key(spec: LaunchSpec, attempt: Attempt, provider: str) -> BrokerKey:
    """Of `spec.ssh_keys` the broker's own: by its comment, else the first. Invalid without any."""
    Bounds(provider).require(bool(spec.ssh_keys), "ssh_keys", "one at least")
    name = key_name(attempt)
    named = [line for line in spec.ssh_keys if line.split()[2:] == [name]]
    return BrokerKey(name, (named or spec.ssh_keys)[0])


def material(line: str) -> str:
    """Kind and blob of a public key, without its comment."""
    return " ".join(line.split()[:2])


def registered(keys: Sequence[Key], wanted: BrokerKey, provider: str) -> Key | None:
    """The registered key of this material whose name stands for no other, by its own name first.

    None where there is none yet; Refused where its name holds another key.
    """
    ours = material(wanted.public_key)
    others = {key.name for key in keys if material(key.public_key) != ours}
    same = [k for k in keys if material(k.public_key) == ours and k.name not in others]
    if not same and any(key.name == wanted.name for key in keys):
        raise name_taken(provider, "ensure", f"another SSH key is registered as {wanted.name}")
    return min(same, key=lambda key: key.name != wanted.name, default=None)
