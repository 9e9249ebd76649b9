"""The order in which the key of an account is looked for, and what was found where.

An account that config.toml says the key of has that key and no other. Elsewhere, best first: the
environment, .env of the working folder, GPUBROKER_HOME/.env, `gpubroker login` (its file, or the
keyring), the file of the vendor's own client. The environment and the files know one account a
cloud: its `default`. What is found behind the first is told as shadowed, never used.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from gpubroker.catalog.clouds import Cloud, cloud
from gpubroker.config import AccountSettings, Config, load
from gpubroker.credentials.dotenv import lines
from gpubroker.credentials.files import KEY_FILES, LARGEST, KeyFile, read
from gpubroker.credentials.vault import KEYRING, Stored, Vault, from_keyring
from gpubroker.model.errors import Invalid
from gpubroker.model.home import Home
from gpubroker.providers.accounts import DEFAULT, Account

BY_LOGIN = "by gpubroker login"
Secrets = Mapping[str, str]
Identity = tuple[str, str]
"""(cloud's wire name, account's alias)."""


class Key(Struct, frozen=True):
    """One key as found. Its secrets are in no repr."""

    where: str
    """Variable, file or keyring, to be shown."""
    mark: tuple[str, ...]
    """Another one for another key; secret itself."""
    open: Callable[[], Secrets]
    """First spelling of each credential variable -> value. May open a seal."""

    def __repr__(self) -> str:
        return f"Key({self.where!r})"


class Found(Struct, frozen=True):
    """One account: the key that counts, and the rest."""

    provider: str
    alias: str
    key: Key | None = None
    shadowed: tuple[str, ...] = ()
    """Where other keys for it were found, which are not used."""
    problem: str = ""
    """Why an account that config.toml names has no key."""

    def account(self) -> Account | None:
        """With its secrets, None without a key. Raises NoSecretKey where a seal stays shut."""
        if self.key is None:
            return None
        secrets = self.key.open()
        return Account(self.provider, self.alias, secrets, self.key.where) if secrets else None


class _Variable(NamedTuple):
    value: str
    where: str


class Sources:
    """Where keys may be, at one moment."""

    def __init__(
        self,
        home: Home,
        environ: Mapping[str, str],
        config: Config,
        clouds: Sequence[str],
        *,
        folder: Path | None = None,
    ) -> None:
        """`clouds`: those to look for; `folder`: the working folder, whose .env is read."""
        self._home = home
        self._environ = environ
        self._config = config
        self._clouds = clouds
        self._user_home = Path(environ["HOME"]) if environ.get("HOME") else None
        self._folder = folder
        self.vault = Vault(home, environ)
        self.faults: list[str] = []
        """Lines and files that make no sense, after `accounts`; without a value of theirs."""

    def files(self) -> tuple[Path, ...]:
        """Every file that is looked into, whether it is there or not."""
        named = [self._path(one.key_file) for one in self._config.accounts.values() if one.key_file]
        vendors = [path for name in self._clouds for _, path in self._vendor_files(name)]
        return (*self._env_files(), self.vault.path, *named, *dict.fromkeys(vendors))

    def accounts(self) -> dict[Identity, Found]:
        """Every account that has a key, or that config.toml names; `default` first."""
        self.faults.clear()
        layers = self._layers()
        stored = self._stored()
        found: dict[Identity, Found] = {}
        for name in self._clouds:
            if default := self._default(cloud(name), layers, stored):
                found[name, DEFAULT] = default
        for name, alias in stored:
            if name in self._clouds and alias != DEFAULT:
                key = self._from_vault(cloud(name), alias, stored[name, alias])
                found[name, alias] = Found(name, alias, key)
        for (name, alias), settings in self._config.accounts.items():
            if name in self._clouds:
                found[name, alias] = self._named(name, alias, settings, layers, found)
        return found

    # config.toml

    def _named(
        self,
        name: str,
        alias: str,
        settings: AccountSettings,
        layers: Sequence[Mapping[str, _Variable]],
        found: Mapping[Identity, Found],
    ) -> Found:
        other = found.get((name, alias))
        if not settings.names_its_key:
            return other or Found(name, alias, problem=f"gpubroker login {name}:{alias} stores one")
        key, problem = self._where_it_says(name, alias, settings, layers)
        shadowed = (other.key.where, *other.shadowed) if other and other.key else ()
        return Found(name, alias, key, shadowed, problem)

    def _where_it_says(
        self,
        name: str,
        alias: str,
        settings: AccountSettings,
        layers: Sequence[Mapping[str, _Variable]],
    ) -> tuple[Key | None, str]:
        """The key, or why there is none."""
        firsts = [spellings[0] for spellings in cloud(name).credentials]
        if settings.variables:
            return _from_variables(settings.variables, firsts, layers)
        if settings.key_file:
            path = self._path(settings.key_file)
            values = [_Variable(value, str(path)) for value in _from_named_file(path, firsts)]
            return (_plain(firsts, values), "") if values else (None, f"{path} holds no key")
        secrets = from_keyring(f"{name}:{alias}", tuple(firsts))
        if not secrets:
            return None, "there is no keyring here, or no such key in it"
        return Key(KEYRING, tuple(secrets.values()), lambda: secrets), ""

    # The default account of a cloud

    def _default(
        self,
        known: Cloud,
        layers: Sequence[Mapping[str, _Variable]],
        stored: Mapping[Identity, Stored],
    ) -> Found | None:
        firsts = [spellings[0] for spellings in known.credentials]
        told = [_all(layers, spellings) for spellings in known.credentials]
        keys: list[Key] = []
        shadowed: list[str] = []
        if told and all(told):
            keys.append(_plain(firsts, [one[0] for one in told]))
            shadowed += [other.where for one in told for other in one[1:]]
        if entry := stored.get((known.name, DEFAULT)):
            keys.append(self._from_vault(known, DEFAULT, entry))
        for file, path in self._vendor_files(known.name):
            if values := read(file, path):
                keys.append(_plain(firsts, [_Variable(value, str(path)) for value in values]))
        if not keys:
            return None
        shadowed += [key.where for key in keys[1:]]
        return Found(known.name, DEFAULT, keys[0], tuple(shadowed))

    def _vendor_files(self, name: str) -> Iterator[tuple[KeyFile, Path]]:
        if self._user_home is not None:
            for file in KEY_FILES.get(name, ()):
                yield file, file.at(self._environ, self._user_home)

    # Variables

    def _env_files(self) -> tuple[Path, ...]:
        own = self._home.env_file
        there = self._folder / ".env" if self._folder else own
        return tuple(dict.fromkeys((there, own)))

    def _layers(self) -> list[Mapping[str, _Variable]]:
        """Variables, best first: the process's own, then those of each .env."""
        wanted = {variable for name in self._clouds for variable in cloud(name).key_variables}
        wanted |= {name for one in self._config.accounts.values() for name in one.variables}
        process = {
            name: _Variable(self._environ[name].strip(), name)
            for name in wanted
            if self._environ.get(name, "").strip()
        }
        return [process, *(self._env_layer(path, wanted) for path in self._env_files())]

    def _env_layer(self, path: Path, wanted: Collection[str]) -> Mapping[str, _Variable]:
        try:
            with path.open(encoding="utf-8") as opened:
                text = opened.read(LARGEST)
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            self.faults.append(f"{path} cannot be read ({type(error).__name__}): it is left out")
            return {}
        layer: dict[str, _Variable] = {}
        for line in lines(text):
            if line.fault:
                # Such a file serves other programs, too: one of its lines stops nobody here.
                self.faults.append(f"{path}:{line.number}: {line.fault}: the line is left out")
            elif line.name in wanted and line.value.strip():
                where = f"{line.name}, {path} line {line.number}"
                layer[line.name] = _Variable(line.value.strip(), where)
        return layer

    # What login stored

    def _stored(self) -> Mapping[Identity, Stored]:
        try:
            entries = self.vault.stored()
        except Invalid as error:
            self.faults.append(f"{error}: it is left out")
            return {}
        parted = {name: name.partition(":") for name in entries}
        return {(parts[0], parts[2]): entries[name] for name, parts in parted.items()}

    def _from_vault(self, known: Cloud, alias: str, stored: Stored) -> Key:
        name = f"{known.name}:{alias}"
        firsts = tuple(spellings[0] for spellings in known.credentials)
        where = KEYRING if stored.in_keyring else str(self.vault.path)
        return Key(
            f"{where}, {BY_LOGIN}",
            (stored.sealed,),
            lambda: self.vault.secrets(name, stored, firsts),
        )

    def _path(self, text: str) -> Path:
        path = Path(text)
        if text.startswith("~/") and self._user_home is not None:
            path = self._user_home / text[2:]
        return path if path.is_absolute() else self._home.root / path


def default_account(name: str, environ: Mapping[str, str]) -> Account | None:
    """A cloud's default account as a command in this environment would find it; no .env here."""
    home = Home.from_env(environ)
    found = Sources(home, environ, load(home.config), (name,)).accounts().get((name, DEFAULT))
    return None if found is None else found.account()


def _from_variables(
    variables: Sequence[str], firsts: Sequence[str], layers: Sequence[Mapping[str, _Variable]]
) -> tuple[Key | None, str]:
    if len(variables) != len(firsts):
        return None, f"key_env must name {len(firsts)} variables, for {', '.join(firsts)}"
    values = []
    for variable in variables:
        told = _all(layers, (variable,))
        if not told:
            return None, f"{variable} is not set"
        values.append(told[0])
    return _plain(firsts, values), ""


def _plain(firsts: Sequence[str], values: Sequence[_Variable]) -> Key:
    """A key whose secrets are at hand."""
    secrets = {first: one.value for first, one in zip(firsts, values, strict=True)}
    where = ", ".join(dict.fromkeys(one.where for one in values))
    return Key(where, tuple(secrets.values()), lambda: secrets)


def _all(layers: Sequence[Mapping[str, _Variable]], spellings: Sequence[str]) -> list[_Variable]:
    return [layer[name] for layer in layers for name in spellings if name in layer]


def _from_named_file(path: Path, firsts: Sequence[str]) -> tuple[str, ...]:
    """The whole file where one secret is wanted, NAME=VALUE lines where several are."""
    (text,) = read(KeyFile("", ""), path) or ("",)
    if len(firsts) == 1:
        return (text,) if text else ()
    told = {line.name: line.value for line in lines(text)}
    return tuple(told[first] for first in firsts) if all(told.get(f) for f in firsts) else ()
