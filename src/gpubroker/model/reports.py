"""What the broker finds when it looks at itself and at the clouds."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from gpubroker.model.capabilities import Capabilities


class Check(Struct, frozen=True, kw_only=True):
    """One finding of the doctor; `ok` is None where it cannot tell."""

    provider: str
    what: str
    ok: bool | None
    detail: str
    fix: str = ""


class ProviderInfo(Struct, frozen=True, kw_only=True):
    """One cloud: whether it can be used, and what it can do."""

    name: str
    display_name: str
    website: str
    configured: bool
    key_variable: str | None
    """Where the key was found."""
    variables: tuple[str, ...]
    capabilities: Capabilities | None
    health: str
    status: Literal["ready", "planned", "external"]
