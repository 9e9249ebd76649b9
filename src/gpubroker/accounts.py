"""The accounts of a realm: where each key was found, and the provider that it opens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gpubroker.catalog.clouds import cloud
from gpubroker.model.errors import AuthFailed
from gpubroker.realm import Realm

if TYPE_CHECKING:
    from gpubroker.providers.accounts import Account
    from gpubroker.providers.base import Provider
    from gpubroker.providers.exchange import Observer
    from gpubroker.providers.registry import Connected
    from gpubroker.store.store import Store

KEYLESS = "keyless"
"""Alias under which a provider is asked for its public prices."""


class CredentialsMissing(AuthFailed):
    """No key for this provider was found."""

    word = "credentials_missing"


class Accounts:
    """Every configured account of one realm, connected when it is first needed."""

    def __init__(
        self,
        realm: Realm,
        environ: Mapping[str, str],
        store: Callable[[], Store],
        trace: Callable[[str], None] | None = None,
        observers: tuple[Observer, ...] = (),
    ) -> None:
        """`trace` gets lines about every exchange, `observers` the exchanges themselves."""
        self._realm = realm
        self._store = store
        self._trace = trace
        self._observers = observers
        self._connected: dict[tuple[str, str], Connected] = {}
        self._found = self._find(environ)

    def _find(self, environ: Mapping[str, str]) -> dict[str, tuple[Account, str | None]]:
        """Provider -> (account, base URL). In a sandbox the only credentials are its own."""
        from gpubroker.providers import registry
        from gpubroker.providers.accounts import account_of, sandbox_accounts

        if self._realm.doors is not None:
            index = {
                name: {"base_url": door.base_url, "env": door.env}
                for name, door in self._realm.doors.items()
            }
            return {
                name: found
                for name, found in sandbox_accounts(index).items()
                if registry.status(name) == "ready"
            }
        home = Path(environ["HOME"]) if environ.get("HOME") else None
        found = {name: account_of(name, environ, home=home) for name in registry.ready()}
        return {name: (account, None) for name, account in found.items() if account is not None}

    def configured(self) -> tuple[tuple[str, str], ...]:
        """(provider, alias) of every account that has a key."""
        return tuple((name, account.alias) for name, (account, _) in self._found.items())

    def account(self, name: str) -> Account | None:
        """The account of a provider, None without a key."""
        found = self._found.get(name)
        return None if found is None else found[0]

    def provider(self, name: str, account: str) -> Provider:
        """Connected and in its layers. Raises CredentialsMissing."""
        found = self._found.get(name)
        if found is None or found[0].alias != account:
            known = cloud(name)
            variables = " or ".join(known.key_variables)
            raise CredentialsMissing(
                f"no key for {known.display_name} was found: set {variables}"
                + (f" (a key is made at {known.key_page})" if known.key_page else ""),
                provider=name,
            )
        return self.connected(found[0], found[1]).provider

    def searchable_names(self) -> tuple[str, ...]:
        """Those that can be asked for offers: with a key, or without where prices are public."""
        from gpubroker.providers.registry import PUBLIC_PRICES

        without = () if self._realm.is_sandbox else PUBLIC_PRICES
        return tuple(dict.fromkeys((*self._found, *without)))

    def searchable(self) -> dict[str, Provider]:
        """Those of searchable_names(), connected."""
        from gpubroker.providers.accounts import Account

        aliases = dict(self.configured())
        return {
            name: self.provider(name, aliases[name])
            if name in aliases
            else self.connected(Account(name), None).provider
            for name in self.searchable_names()
        }

    def keyless(self) -> frozenset[str]:
        """Providers whose prices are known and whose key is not."""
        from gpubroker.catalog.clouds import CLOUDS

        return frozenset(known.name for known in CLOUDS) - set(self._found)

    def connected(self, account: Account, base_url: str | None) -> Connected:
        """The provider with its meter and circuit; made once."""
        identity = (account.provider, account.alias if account.key else KEYLESS)
        if identity not in self._connected:
            from gpubroker.providers.exchange import trace_lines
            from gpubroker.providers.registry import Hooks, connect

            observers = self._observers
            if self._trace:
                observers = (*observers, trace_lines(self._trace))
            self._connected[identity] = connect(
                account,
                clock=self._realm.clock,
                book=self._store(),
                base_url=base_url,
                loopback_only=self._realm.is_sandbox,
                hooks=Hooks(observers=observers),
            )
        return self._connected[identity]

    def health(self, name: str) -> str:
        """The word ok, the word unknown, or what opened the circuit."""
        for (provider, _), connected in self._connected.items():
            if provider == name:
                state = connected.circuit.state
                return "ok" if state.position == "closed" else f"error: {state.reason}"
        return "unknown"

    async def aclose(self) -> None:
        """Close every connection."""
        connected, self._connected = self._connected, {}
        for one in connected.values():
            close = getattr(one.provider, "aclose", None)
            if close is not None:
                await close()
