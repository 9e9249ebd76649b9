"""Whose key: credentials as found, and all that connecting one account needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct, field

from gpubroker.catalog.clouds import cloud
from gpubroker.model.clock import Clock, SystemClock

if TYPE_CHECKING:
    from gpubroker.providers.exchange import Observer

DEFAULT = "default"


class Account(Struct, frozen=True):
    """One account at one provider. Its secrets are in no repr and no comparison."""

    provider: str
    alias: str = DEFAULT
    secrets: Mapping[str, str] = {}
    """First spelling of each credential variable -> value; empty: asked without a key."""
    found: str = ""
    """The variable or file it came from, to be shown."""

    def __repr__(self) -> str:
        return f"Account({self.provider!r}, {self.alias!r}, found={self.found!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Account) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[str, str, str]:
        return self.provider, self.alias, self.found

    @property
    def key(self) -> str:
        """The first credential, "" where there is none."""
        return next(iter(self.secrets.values()), "")


class Wiring(Struct, frozen=True):
    """How a provider is reached."""

    base_url: str | None = None
    """None: the vendor's own."""
    loopback_only: bool = False
    """A sandbox realm: nothing leaves this machine."""
    clock: Clock = field(default_factory=SystemClock)
    observers: Sequence[Observer] = ()
    deadlines: Mapping[str, float] = {}
    """Operation -> seconds for one request, where the transport's own are not wanted."""


def account_of(provider: str, environ: Mapping[str, str], alias: str = DEFAULT) -> Account | None:
    """The account whose credentials these variables hold, None without."""
    known = cloud(provider)
    found: list[tuple[str, str, str]] = []
    for spellings in known.credentials:
        name = next((name for name in spellings if environ.get(name, "").strip()), None)
        if name:
            found.append((spellings[0], environ[name].strip(), name))
    if not known.credentials or len(found) != len(known.credentials):
        return None
    secrets = {first: value for first, value, _ in found}
    return Account(known.name, alias, secrets, ", ".join(name for *_, name in found))


def sandbox_accounts(
    index: Mapping[str, Mapping[str, object]], alias: str = DEFAULT
) -> dict[str, tuple[Account, str]]:
    """Provider -> (account, base URL) from a sandbox's index: the only credentials there."""
    accounts = {}
    for provider, entry in index.items():
        variables = entry.get("env")
        if not isinstance(variables, Mapping):
            continue
        environ = {str(name): str(value) for name, value in variables.items()}
        account = account_of(provider, environ, alias=alias)
        if account is not None:
            accounts[account.provider] = (
                Account(account.provider, alias, account.secrets, "sandbox"),
                str(entry["base_url"]),
            )
    return accounts
