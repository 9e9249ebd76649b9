"""The accounts of a realm: where each key was found, and the provider that it opens.

Everything that keys and switches are read from is watched. A change is taken up by the next use:
connections whose key is the same are kept; of a changed one the calls that are on their way end on
the old connection, which closes behind the last of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpubroker.catalog.clouds import UnknownCloud, cloud, clouds
from gpubroker.config import Config, ConfigError, load, parse_account
from gpubroker.connections import Connection, InUse
from gpubroker.model.errors import AuthFailed, Invalid
from gpubroker.providers.accounts import DEFAULT, Account
from gpubroker.realm import Realm
from gpubroker.watched import Watched

if TYPE_CHECKING:
    from gpubroker.credentials.sources import Found, Sources
    from gpubroker.model.home import Home
    from gpubroker.providers.base import Provider
    from gpubroker.providers.exchange import Observer
    from gpubroker.store.store import Store

KEYLESS = "keyless"
"""Alias under which a provider is asked for its public prices."""
Identity = tuple[str, str]
"""(cloud's wire name, account's alias)."""


class CredentialsMissing(AuthFailed):
    """No key for this provider was found."""

    word = "credentials_missing"


class UnknownAccount(Invalid):
    """No account is called so; `nearest` are names that look like it."""

    word = "unknown_account"

    def __init__(self, name: str, known: Iterable[Identity]) -> None:
        from difflib import get_close_matches

        names = sorted({text for one in known for text in (":".join(one), one[1])})
        self.nearest = tuple(get_close_matches(name, names, n=3))
        hint = f"Did you mean {' or '.join(self.nearest)}?" if self.nearest else ""
        super().__init__(f'no account is called "{name}". {hint}'.strip())


class Accounts:
    """Every account of one realm, connected when it is first needed."""

    def __init__(
        self,
        realm: Realm,
        environ: Mapping[str, str],
        home: Home,
        store: Callable[[], Store],
        trace: Callable[[str], None] | None = None,
        observers: tuple[Observer, ...] = (),
        on_refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Raises ConfigError where config.toml makes no sense.

        `trace` gets lines about every exchange, `observers` the exchanges themselves, `on_refused`
        why a changed file was not taken up.
        """
        self._realm = realm
        self._environ = environ
        self._home = home
        self._store = store
        self._trace = trace
        self._observers = observers
        self._on_refused = on_refused
        self._connected: dict[Identity, Connection] = {}
        self._retired: list[Connection] = []
        self._closing: set[Any] = set()
        self._gone_once: set[Identity] = set()
        self._refused = ""
        self._read_config()
        self._read_sources()

    # What is configured

    def _read_config(self) -> None:
        self._config_file = Watched([self._home.config])
        self.config = load(self._home.config)

    def _read_sources(self) -> None:
        self._unread: tuple[str, ...] = ()
        if self._realm.doors is not None:
            self._key_files, self._found = Watched(()), self._of_sandbox()
            return
        sources = self._sources_of(self.config)
        self._key_files = Watched(sources.files())
        self._found = {identity: (found, None) for identity, found in sources.accounts().items()}
        self._unread = tuple(sources.faults)

    def _sources_of(self, config: Config) -> Sources:
        from gpubroker.credentials.sources import Sources
        from gpubroker.providers.registry import ready

        return Sources(self._home, self._environ, config, ready(), folder=_working_folder())

    def _of_sandbox(self) -> dict[Identity, tuple[Found, str | None]]:
        """In a sandbox the only credentials are its own."""
        from gpubroker.credentials.sources import Found, Key
        from gpubroker.providers import registry
        from gpubroker.providers.accounts import sandbox_accounts

        index = {
            name: {"base_url": door.base_url, "env": door.env}
            for name, door in (self._realm.doors or {}).items()
        }
        found: dict[Identity, tuple[Found, str | None]] = {}
        for name, (account, base_url) in sandbox_accounts(index).items():
            if registry.status(name) == "ready":
                mark = tuple(account.secrets.values())
                key = Key(account.found, mark, partial(_secrets, account))
                found[name, account.alias] = (Found(name, account.alias, key), base_url)
        return found

    def refresh(self, *, now: bool = False) -> bool:
        """Take up what changed in the files; looks at most once a second, unless `now`.

        Answer: whether something was read anew. A config.toml that makes no sense is told to
        `on_refused`, and the former one stays.
        """
        config_changed = self._config_file.changed(now=now)
        if not config_changed and not self._key_files.changed(now=now):
            return False
        former, before = self._found, self._marks()
        if config_changed:
            self._refused = ""
            try:
                self._read_config()
            except ConfigError as error:
                self._refused = str(error)
                self._on_refused(self._refused)
        self._read_sources()
        if not now:
            self._keep_for_a_look(former)
        after = self._marks()
        for identity in [one for one in self._connected if one[1] != KEYLESS]:
            if before.get(identity) != after.get(identity):
                self._retire(self._connected.pop(identity))
        return True

    def _keep_for_a_look(self, former: Mapping[Identity, tuple[Found, str | None]]) -> None:
        """A file that is being written lacks its key for a moment: gone is what is gone twice."""
        gone = {one for one in former if former[one][0].key and one not in self._marks()}
        first_time = gone - self._gone_once
        self._found |= {one: former[one] for one in first_time}
        self._gone_once = first_time
        if first_time:
            self._key_files.forget()

    @property
    def faults(self) -> tuple[str, ...]:
        """What could not be read, or was not taken up, and why. Without a value of it."""
        return (*self._unread, *((self._refused,) if self._refused else ()))

    def _marks(self) -> dict[Identity, tuple[str, ...]]:
        return {
            identity: found.key.mark for identity, (found, _) in self._found.items() if found.key
        }

    def found(self) -> tuple[Found, ...]:
        """Every account that has a key or is named in config.toml."""
        self.refresh()
        return tuple(found for found, _ in self._found.values())

    def configured(self) -> tuple[Identity, ...]:
        """(provider, alias) of every account that has a key, those of clouds switched off too.

        What is rented there is looked after all the same.
        """
        self.refresh()
        return tuple(identity for identity, (found, _) in self._found.items() if found.key)

    def rentable(self) -> tuple[Identity, ...]:
        """Those of `configured` whose cloud is not switched off."""
        off = self.switched_off()
        return tuple(one for one in self.configured() if one[0] not in off)

    def switched_off(self) -> frozenset[str]:
        """Clouds that config.toml takes out of searches and launches."""
        self.refresh()
        return self.config.switched_off()

    def keyless(self) -> frozenset[str]:
        """Clouds whose prices are known and whose key is not."""
        return frozenset(known.name for known in clouds()) - {name for name, _ in self.configured()}

    # Which account

    def chosen(self, asked: Collection[str] = ()) -> dict[str, str]:
        """Cloud -> the account that is searched and rented by, of those with a key.

        That is the one `asked` for ("lab" or "vast:lab"), which leaves other clouds out; else the
        one config.toml names for the cloud, `default`, or the first. Raises UnknownAccount.
        """
        wanted = self.meant(asked)
        chosen: dict[str, str] = {}
        for name, alias in self.rentable():
            if not asked:
                settings = self.config.providers.get(name)
                preferred = (settings and settings.account) or DEFAULT
                if name not in chosen or alias == preferred:
                    chosen[name] = alias
            elif (name, alias) in wanted:
                chosen.setdefault(name, alias)
        return chosen

    def meant(self, asked: Collection[str]) -> frozenset[Identity]:
        """The accounts that these words mean, with a key or without. Raises UnknownAccount."""
        known = {*self._found, *((one.name, DEFAULT) for one in clouds())}
        meant: set[Identity] = set()
        for text in asked:
            matching = {one for one in known if _is_called(one, text)}
            if not matching:
                raise UnknownAccount(text, known)
            meant |= matching
        return frozenset(meant)

    # Providers

    def account(self, name: str, alias: str = DEFAULT) -> Account | None:
        """With its secrets, None without a key."""
        found, _ = self._found.get((name, alias), (None, None))
        return None if found is None else found.account()

    def provider(self, name: str, account: str) -> Provider:
        """Connected and in its layers. Raises CredentialsMissing."""
        self.refresh()
        identity = (name, account)
        if identity in self._connected:
            return self._connected[identity].provider
        found, base_url = self._found.get(identity, (None, None))
        opened = found.account() if found is not None else None
        if opened is None:
            raise missing(name, account, found)
        return self._connect(opened, base_url).provider

    def searchable_names(self, asked: Collection[str] = ()) -> tuple[str, ...]:
        """Those that can be asked for offers: with a key, or without where prices are public."""
        from gpubroker.providers.registry import PUBLIC_PRICES

        off = self.switched_off()
        public = () if self._realm.is_sandbox or asked else PUBLIC_PRICES
        without = (name for name in public if name not in off)
        return tuple(dict.fromkeys((*self.chosen(asked), *without)))

    def searchable(self, asked: Collection[str] = ()) -> dict[str, Provider]:
        """Those of searchable_names(), connected, each by one account."""
        aliases = self.chosen(asked)
        return {
            name: self.provider(name, aliases[name])
            if name in aliases
            else self._connect(Account(name), None).provider
            for name in self.searchable_names(asked)
        }

    def overruled(self, name: str, alias: str) -> str:
        """Where the key is that counts before one of `gpubroker login`; "" where that counts."""
        from gpubroker.credentials.sources import BY_LOGIN

        found, _ = self._found.get((name, alias), (None, None))
        stored = [where for where in (found.shadowed if found else ()) if where.endswith(BY_LOGIN)]
        return found.key.where if found is not None and found.key and stored else ""

    @asynccontextmanager
    async def unlisted(self, account: Account) -> AsyncIterator[Provider]:
        """A provider for a key that is none of ours yet, to try it."""
        if self._realm.is_sandbox:
            raise Invalid("a sandbox has keys of its own, and takes no others. Nothing was stored.")
        connection = self._made(account, None)
        try:
            yield connection.provider
        finally:
            await connection.close()

    def health(self, name: str, alias: str | None = None) -> str:
        """The word ok, the word unknown, or what opened the circuit."""
        for (provider, account), connection in self._connected.items():
            if provider == name and alias in (None, account):
                state = connection.connected.circuit.state
                return "ok" if state.position == "closed" else f"error: {state.reason}"
        return "unknown"

    # Connections

    def _connect(self, account: Account, base_url: str | None) -> Connection:
        identity = (account.provider, account.alias if account.key else KEYLESS)
        if identity not in self._connected:
            self._connected[identity] = self._made(account, base_url)
        return self._connected[identity]

    def _made(self, account: Account, base_url: str | None) -> Connection:
        from gpubroker.providers.exchange import trace_lines
        from gpubroker.providers.registry import Hooks, connect

        observers = self._observers
        if self._trace:
            observers = (*observers, trace_lines(self._trace))
        in_use = InUse()
        connected = connect(
            account,
            clock=self._realm.clock,
            book=self._store(),
            base_url=base_url,
            loopback_only=self._realm.is_sandbox,
            hooks=Hooks(observers=observers, outermost=(in_use,)),
        )
        return Connection(connected, in_use)

    def _retire(self, connection: Connection) -> None:
        connection.retire()
        self._retired.append(connection)
        if connection.in_use.calls == 0:
            self._soon(connection.close())

    def _soon(self, work: Coroutine[Any, Any, None]) -> None:
        """Now, where there is a loop; else with `aclose`."""
        import asyncio

        try:
            task = asyncio.get_running_loop().create_task(work)
        except RuntimeError:
            work.close()
            return
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Close every connection."""
        open_ones = [*self._connected.values(), *self._retired]
        self._connected, self._retired = {}, []
        for one in open_ones:
            await one.close()


def _secrets(account: Account) -> Mapping[str, str]:
    return account.secrets


def missing(name: str, alias: str, found: Found | None = None) -> CredentialsMissing:
    """The error of an account without a key: what to set, and where a key is made."""
    try:
        known = cloud(name)
    except UnknownCloud:
        return CredentialsMissing(f"no key for {name} was found", provider=name)
    if found is not None and found.problem:
        way = found.problem
    elif alias != DEFAULT:
        way = f"gpubroker login {name}:{alias} stores one"
    else:
        way = f"set {known.key_in_words}"
    which = "" if alias == DEFAULT else f", account {alias},"
    page = f" (a key is made at {known.key_page})" if known.key_page else ""
    return CredentialsMissing(
        f"no key for {known.display_name}{which} was found: {way}{page}", provider=name
    )


def _is_called(identity: Identity, text: str) -> bool:
    if ":" not in text:
        return identity[1] == text
    try:
        return identity == parse_account(text)
    except (UnknownCloud, Invalid):
        return False


def _working_folder() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # it was removed under our feet
        return None
