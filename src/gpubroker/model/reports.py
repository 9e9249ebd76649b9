"""What the broker finds when it looks at itself and at the clouds."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from gpubroker.model.capabilities import Capabilities
from gpubroker.model.money import Nanos


class Check(Struct, frozen=True, kw_only=True):
    """One finding of the doctor; `ok` is None where it cannot tell."""

    provider: str
    what: str
    ok: bool | None
    detail: str
    fix: str = ""
    account: str = ""
    """Its alias, where it is about one."""


class AccountInfo(Struct, frozen=True, kw_only=True):
    """One account: where its key was found."""

    name: str
    """Its alias: `default`, or as config.toml or login calls it."""
    found: str | None
    """Where the key is that counts, None without one."""
    shadowed: tuple[str, ...] = ()
    """Where others were found, which are not used."""
    problem: str = ""
    """Why there is no key, where config.toml names the account."""
    health: str = "unknown"


class Login(Struct, frozen=True, kw_only=True):
    """A key that was tried and stored."""

    provider: str
    account: str
    uid: str
    """Of the account behind it, as the cloud tells it."""
    balance: Nanos | None
    """What can be spent, None where the cloud does not tell."""
    stored: str
    """Where it is now."""
    overruled_by: str = ""
    """Where another key was found that counts before this one."""


class Facts(Struct, frozen=True, kw_only=True):
    """What a newcomer wants to know of a cloud. "" and None where it is not known."""

    sign_up_page: str = ""
    key_page: str = ""
    billing_page: str = ""
    min_deposit_usd: float | None = None
    """Smallest amount that an account can be filled up with; 0: it is billed afterwards."""
    payment: str = ""
    """Prepaid or billed afterwards, and what of it a newcomer meets."""
    new_account: str = ""
    """What a new account may usually rent."""
    source: str = ""
    """Where the last three are told."""


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
    enabled: bool = True
    """False where config.toml takes it out of searches and launches."""
    accounts: tuple[AccountInfo, ...] = ()
    answers: frozenset[str] = frozenset()
    """Calls beyond those that every cloud has: stop, extend, bid, balance, resources and so on."""
    facts: Facts = Facts()
