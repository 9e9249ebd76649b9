"""GPUBROKER_HOME/config.toml: clouds that are switched off, accounts, and what a launch assumes.

    [defaults]
    ttl = "8h"                  # or "none", in so many letters
    image = "pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime"
    max_price = 2.50            # USD per hour
    regions = ["Europe"]

    [providers.runpod]
    enabled = false             # not searched, nothing new is rented there

    [accounts."vast:lab"]
    key_env = "VAST_LAB_KEY"    # the variable that holds its key; never the key itself

    [notify.channels.desk]
    command = ["notify-send", "gpubroker"]  # gets each warning as JSON on its standard input

An unknown name or a value of the wrong kind is an error that names file and line: a setting is
never ignored. `schema` describes the file for editors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from gpubroker.model.durations import duration
from gpubroker.model.errors import Invalid
from gpubroker.model.notices import Channel

NO_EXPIRY = "none"
MOST_TRIES = 50
BOUNDS: Mapping[str, tuple[float, float]] = {
    "disk_gb": (1, 1_000_000),
    "max_price": (0, 1_000_000),
    "max_price_increase": (0, 10),
    "tries": (1, MOST_TRIES),
}
"""Number of [defaults] -> least and most."""
ALIAS = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
"""What an account may be called."""
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
"""In capitals: a key that was put in its place does not pass for one."""
KEY_WORDS = re.compile(r"key|api_?key|token|secret|password|client_?(id|secret)|credentials?")
"""What people call a setting that is to hold a key."""

_EXPECTED = re.compile(r"(.*?)(?: - at `\$\.?(.*)`)?$")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_Table = TypeVar("_Table")


class ConfigError(Invalid):
    """The configuration cannot be used; nothing was done."""

    word = "config"


class Defaults(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `launch` takes where no flag says otherwise; None leaves gpubroker's own default."""

    ttl: str | None = None
    image: str | None = None
    disk_gb: int | None = None
    max_price: float | None = None
    max_price_increase: float | None = None
    tries: int | None = None
    regions: tuple[str, ...] = ()
    project: str | None = None


class Ssh(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far gpubroker goes into the user's own ssh."""

    include: bool = True


class ProviderSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One cloud: whether it is searched and rented at, and by which account where none is named."""

    enabled: bool = True
    account: str | None = None


class AccountSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the key of one account is; none of the three: where `gpubroker login` stored it."""

    key_env: str | tuple[str, ...] = ()
    """The variable that holds the key; one a secret, in order, where the cloud has several."""
    key_file: str | None = None
    """The file that holds it; several secrets as NAME=VALUE lines."""
    keyring: bool = False
    """It is in the keyring of the system: service gpubroker, user cloud:account."""

    @property
    def variables(self) -> tuple[str, ...]:
        """Of `key_env`."""
        return (self.key_env,) if isinstance(self.key_env, str) else self.key_env

    @property
    def names_its_key(self) -> bool:
        """Whether it says where the key is; only there it is looked for then."""
        return bool(self.variables or self.key_file or self.keyring)


class Notify(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is warned of, and where warnings go."""

    ttl_warnings: tuple[str, ...] = ("30m", "5m")
    """So long before its end a machine's end is warned of, each once."""
    channels: Mapping[str, Channel] = {}

    def warn_before_s(self) -> tuple[float, ...]:
        """Of `ttl_warnings`, in seconds."""
        return tuple(duration(text).total_seconds() for text in self.ttl_warnings)


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. Clouds have their wire names here, accounts (cloud, alias)."""

    defaults: Defaults = Defaults()
    ssh: Ssh = Ssh()
    providers: Mapping[str, ProviderSettings] = {}
    accounts: Mapping[tuple[str, str], AccountSettings] = {}
    notify: Notify = Notify()

    def switched_off(self) -> frozenset[str]:
        """Clouds that are neither searched nor rented at."""
        return frozenset(name for name, one in self.providers.items() if not one.enabled)


def load(path: Path) -> Config:
    """The configuration; an absent file is an empty one. Raises ConfigError with file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}. Nothing was done.") from None
    return _File(path, text).config()


def parse_account(text: str, alias: str = "default") -> tuple[str, str]:
    """(wire name, alias) of "vast:lab"; a cloud alone means `alias`.

    Raises Invalid for an alias that none can have, UnknownCloud for a cloud that nobody knows.
    """
    from gpubroker.catalog.clouds import cloud

    name, colon, told = text.partition(":")
    if colon:
        alias = told
    if not ALIAS.fullmatch(alias):
        raise Invalid(
            f'"{alias}" cannot be an account\'s name: small letters, digits, - and _, 32 at most'
        )
    return cloud(name).name, alias


def schema() -> dict[str, Any]:
    """The file as a JSON Schema, made from the structs."""
    documents, definitions = msgspec.json.schema_components(
        [Defaults, Ssh, ProviderSettings, AccountSettings, Notify], ref_template="#/$defs/{name}"
    )
    for name, (least, most) in BOUNDS.items():
        definitions["Defaults"]["properties"][name] |= {"minimum": least, "maximum": most}
    defaults, ssh, provider, account, notify = documents
    tables = {
        "defaults": defaults,
        "ssh": ssh,
        "providers": {"type": "object", "additionalProperties": provider},
        "accounts": {
            "type": "object",
            "propertyNames": {"pattern": f"^[^:]+(:{ALIAS.pattern})?$"},
            "additionalProperties": account,
        },
        "notify": notify,
    }
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gpubroker's config.toml",
        "type": "object",
        "properties": tables,
        "additionalProperties": False,
        "$defs": definitions,
    }
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document))
    return plain


class _File:
    """One text, turned into a Config; its errors name the line."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text

    def config(self) -> Config:
        document = self._document()
        providers = self._table(document, "providers")
        accounts = self._table(document, "accounts")
        channels = self._channel_tables(document)
        plain = self._convert(document, Config, "")
        for name, why in _out_of_range(plain.defaults):
            raise self._error(f"defaults.{name}", why)
        for text in plain.notify.ttl_warnings:
            try:
                duration(text)
            except ValueError as error:
                raise self._error("notify.ttl_warnings", str(error)) from None
        notify = msgspec.structs.replace(plain.notify, channels=dict(self._channels(channels)))
        return msgspec.structs.replace(
            plain,
            providers=dict(self._providers(providers)),
            accounts=dict(self._accounts(accounts)),
            notify=notify,
        )

    def _document(self) -> dict[str, Any]:
        import tomllib

        try:
            return tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{self._path}: {error}. Nothing was done.") from None

    def _table(self, document: dict[str, Any], name: str) -> dict[str, Any]:
        table = document.pop(name, {})
        if not isinstance(table, dict):
            raise self._error(name, "expected a table")
        return table

    def _providers(self, table: Mapping[str, Any]) -> Iterator[tuple[str, ProviderSettings]]:
        for name, told in table.items():
            place = f"providers.{name}"
            wire_name, _ = self._named(place, name)
            settings = self._convert(told, ProviderSettings, place)
            if settings.account is not None and not ALIAS.fullmatch(settings.account):
                raise self._error(f"{place}.account", "expected the name of one of its accounts")
            yield wire_name, settings

    def _accounts(
        self, table: Mapping[str, Any]
    ) -> Iterator[tuple[tuple[str, str], AccountSettings]]:
        for name, told in table.items():
            place = f"accounts.{name}"
            account = self._named(place, name)
            self._refuse_keys(place, told, account)
            settings = self._convert(told, AccountSettings, place)
            for variable in settings.variables:
                if not VARIABLE.fullmatch(variable):
                    raise self._error(
                        f"{place}.key_env",
                        "expected the name of a variable, in capitals. A key itself never stands "
                        "in this file",
                    )
            if sum((bool(settings.variables), bool(settings.key_file), settings.keyring)) > 1:
                raise self._error(place, "one of key_env, key_file and keyring says where it is")
            yield account, settings

    def _channel_tables(self, document: dict[str, Any]) -> dict[str, Any]:
        notify = document.get("notify", {})
        channels = notify.pop("channels", {}) if isinstance(notify, dict) else {}
        if not isinstance(channels, dict):
            raise self._error("notify.channels", "expected a table")
        return channels

    def _channels(self, table: Mapping[str, Any]) -> Iterator[tuple[str, Channel]]:
        from gpubroker.channel_settings import faults

        for name, told in table.items():
            place = f"notify.channels.{name}"
            for setting in told if isinstance(told, dict) else ():
                if KEY_WORDS.fullmatch(setting.lower()):
                    raise self._error(
                        f"{place}.{setting}",
                        "secrets do not stand in this file. Store it with gpubroker notify secret "
                        f"{name}, or name the variable that holds it: secret_env",
                    )
            channel = self._convert(told, Channel, place)
            if not ALIAS.fullmatch(name):
                raise self._error(place, "its name is small letters, digits, - and _, 32 at most")
            if channel.secret_env is not None and not VARIABLE.fullmatch(channel.secret_env):
                raise self._error(
                    f"{place}.secret_env",
                    "expected the name of a variable, in capitals, never the secret itself",
                )
            for setting, why in faults(channel, frozenset(told)):
                raise self._error(f"{place}.{setting}", why)
            yield name, channel

    def _named(self, place: str, name: str) -> tuple[str, str]:
        from gpubroker.catalog.clouds import UnknownCloud
        from gpubroker.providers.registry import take_up

        try:
            return parse_account(name)
        except UnknownCloud as error:
            # Packages are asked for providers only where the file names one that is not ours.
            if take_up(name.partition(":")[0]):
                return parse_account(name)
            raise self._error(place, str(error)) from None
        except Invalid as error:
            raise self._error(place, str(error)) from None

    def _refuse_keys(self, place: str, told: Any, account: tuple[str, str]) -> None:
        """A key in the file is refused before anything could repeat it."""
        for name in told if isinstance(told, dict) else ():
            if KEY_WORDS.fullmatch(name.lower()):
                cloud, alias = account
                raise self._error(
                    f"{place}.{name}",
                    "keys do not stand in this file. Store it with gpubroker login "
                    f"{cloud}:{alias}, or name the variable that holds it: key_env",
                )

    def _convert(self, told: Any, kind: type[_Table], place: str) -> _Table:
        try:
            return msgspec.convert(told, type=kind)
        except msgspec.ValidationError as error:
            raise self._explained(kind, place, str(error)) from None

    def _explained(self, kind: type[Any], place: str, message: str) -> ConfigError:
        """The message of msgspec in the words of the file."""
        match = _EXPECTED.fullmatch(message)
        what, where = (match[1], match[2] or "") if match else (message, "")
        if unknown := _UNKNOWN.fullmatch(what):
            names = _fields(kind, where)
            hint = _nearest(unknown[1], names) or f"known are {', '.join(names)}"
            why = f"there is no such setting; {hint}"
            return self._error(f"{place}.{where}.{unknown[1]}", why)
        return self._error(f"{place}.{where}", what[:1].lower() + what[1:])

    def _error(self, place: str, why: str) -> ConfigError:
        place = ".".join(part for part in place.split(".") if part)
        line = _line_of(self._text, place)
        return ConfigError(f"{self._path}, line {line}: {place}: {why}. Nothing was done.")


def _fields(kind: type[Any], where: str) -> tuple[str, ...]:
    inner: Mapping[str, type[Any]] = {"defaults": Defaults, "ssh": Ssh, "notify": Notify}
    names: tuple[str, ...] = inner.get(where, kind).__struct_fields__
    return names


def _nearest(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else ""


def _out_of_range(defaults: Defaults) -> Iterator[tuple[str, str]]:
    if defaults.ttl is not None and defaults.ttl != NO_EXPIRY:
        try:
            duration(defaults.ttl)
        except ValueError as error:
            yield "ttl", f'{error}, or "{NO_EXPIRY}"'
    for name, (least, most) in BOUNDS.items():
        value = getattr(defaults, name)
        if value is not None and not least <= value <= most:
            yield name, f"{value} is out of range: from {least:g} to {most:g}"


def _line_of(text: str, place: str) -> int:
    """Where a setting stands: its line within its section, else the section's."""
    section, _, name = place.rpartition(".")
    top = place.partition(".")[0]
    wanted = {_bare(place), _bare(section), top}
    spellings = {_bare(section): name, "": place}
    current, at = "", 1
    for number, line in enumerate(text.splitlines(), 1):
        plain = line.strip()
        if plain.startswith("["):
            current = _bare(plain.partition("#")[0])
            if current == _bare(place):
                return number
            at = number if current in wanted else at
        elif re.match(rf"[\"']?{re.escape(spellings.get(current, place))}[\"']?\s*=", plain):
            return number
    return at


def _bare(section: str) -> str:
    """A section's name without what may be written in several ways."""
    return re.sub(r"[\s\"'\[\]]", "", section)
