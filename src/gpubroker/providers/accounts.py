"""Whose key: credentials as found, and all that connecting one account needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct, field

from gpubroker.catalog.clouds import Cloud, cloud
from gpubroker.model.clock import Clock, SystemClock

if TYPE_CHECKING:
    from gpubroker.providers.exchange import Observer

DEFAULT = "default"

KEY_FILES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "vast_ai": (("XDG_CONFIG_HOME", "vastai/vast_api_key"), ("HOME", ".vast_api_key")),
}
"""Files of the vendors' own clients, read after the variables: (folder's variable, path)."""
_FOLDER_DEFAULTS = {"XDG_CONFIG_HOME": ".config"}
_LARGEST_KEY_FILE = 64 * 1024


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


def account_of(
    provider: str, environ: Mapping[str, str], *, home: Path | None = None, alias: str = DEFAULT
) -> Account | None:
    """The account whose credentials the environment or a key file holds, None without.

    `home`: where key files are looked for, None to leave them out.
    """
    known = cloud(provider)
    found: list[tuple[str, str, str]] = []
    for spellings in known.credentials:
        name = next((name for name in spellings if environ.get(name, "").strip()), None)
        if name:
            found.append((spellings[0], environ[name].strip(), name))
    if known.credentials and len(found) == len(known.credentials):
        secrets = {first: value for first, value, _ in found}
        return Account(known.name, alias, secrets, ", ".join(name for *_, name in found))
    return _from_file(known, environ, home, alias) if home else None


def _from_file(known: Cloud, environ: Mapping[str, str], home: Path, alias: str) -> Account | None:
    for variable, path in KEY_FILES.get(known.name, ()):
        base = environ.get(variable) if variable in _FOLDER_DEFAULTS else None
        file = (Path(base) if base else home / _FOLDER_DEFAULTS.get(variable, "")) / path
        try:
            with file.open(encoding="utf-8") as opened:
                value = opened.read(_LARGEST_KEY_FILE).strip()
        except (OSError, UnicodeDecodeError):
            continue
        if value:
            return Account(known.name, alias, {known.credentials[0][0]: value}, str(file))
    return None


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
