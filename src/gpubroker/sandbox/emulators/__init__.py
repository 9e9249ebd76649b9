"""One package a cloud: its own protocol, strict, with its quirks."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from gpubroker.sandbox.emulators.base import Emulator


class Entry(Struct, frozen=True, kw_only=True):
    """What is known of an emulator without importing it."""

    target: str
    """module:class."""
    hosts: tuple[str, ...]
    """The vendor's real host names, for the proxy."""
    env: Mapping[str, str]
    """Variables that point the vendor's own client here; {url} and {key} are filled in."""
    protocol: str = "rest"


EMULATORS: Mapping[str, Entry] = {
    "vast_ai": Entry(
        target="gpubroker.sandbox.emulators.vast_ai.api:VastAi",
        hosts=("console.vast.ai", "cloud.vast.ai"),
        env={"VAST_URL": "{url}", "VAST_API_KEY": "{key}"},
    ),
}


def load(provider: str) -> type[Emulator]:
    """The emulator's class, imported when first asked for."""
    module, _, name = EMULATORS[provider].target.partition(":")
    found: type[Emulator] = getattr(import_module(module), name)
    return found
