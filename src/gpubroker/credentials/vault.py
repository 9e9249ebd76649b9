"""What `gpubroker login` stores: sealed in one 0600 file, or in the keyring of the system.

The file says who has a key without opening a seal; a key that is in the keyring is only named.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec
from msgspec import Struct

from gpubroker.model.errors import Invalid, Unsupported
from gpubroker.model.home import Home

SERVICE = "gpubroker"
"""Under which the keyring of the system holds our keys; the user name is cloud:account."""
KEYRING = "the keyring of the system"
VERSION = 1
LOCK_WAIT_S = 10.0
_OTHERS = 0o077


class Damaged(Invalid):
    """The file of stored keys makes no sense."""


class Stored(Struct, frozen=True):
    """One key of the file."""

    sealed: str = ""
    """Base64 of the sealed secrets; "": they are in the keyring."""

    @property
    def in_keyring(self) -> bool:
        """Whether the file only says where it is."""
        return not self.sealed


class _File(Struct, frozen=True):
    version: int = VERSION
    accounts: Mapping[str, Stored] = {}


class Vault:
    """The keys of one GPUBROKER_HOME."""

    def __init__(self, home: Home, environ: Mapping[str, str]) -> None:
        self.path = home.credentials
        self._home = home
        self._seal_key = environ.get("GPUBROKER_SECRET_KEY")

    def stored(self) -> Mapping[str, Stored]:
        """Account, as "cloud:alias", -> its key. Raises Invalid where the file cannot be used."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise Invalid(f"{self.path} cannot be read ({error.strerror})") from None
        try:
            file = msgspec.json.decode(content, type=_File)
        except msgspec.MsgspecError:
            raise Damaged(f"{self.path} is damaged: gpubroker login writes it anew") from None
        if file.version != VERSION:
            raise Invalid(f"{self.path} was written by another version of gpubroker")
        return file.accounts

    def secrets(self, name: str, stored: Stored, variables: tuple[str, ...]) -> Mapping[str, str]:
        """The secrets of "cloud:account", {} where the keyring has lost them.

        Raises NoSecretKey where the seal's key is missing or another one.
        """
        if stored.in_keyring:
            return from_keyring(name, variables)
        try:
            sealed = base64.b64decode(stored.sealed, validate=True)
        except binascii.Error:
            raise Damaged(f"{self.path} is damaged: gpubroker login writes it anew") from None
        return msgspec.json.decode(self._seal().open(sealed), type=dict[str, str])

    def keep(self, name: str, secrets: Mapping[str, str], *, keyring: bool = False) -> str:
        """Store the secrets of "cloud:account". Answer: where they are now."""
        if keyring:
            _into_keyring(name, secrets)
            entry, where = Stored(), KEYRING
        else:
            sealed = self._seal().close(msgspec.json.encode(dict(secrets)))
            entry, where = Stored(base64.b64encode(sealed).decode()), str(self.path)
        with self._locked():
            try:
                others = self.stored()
            except Damaged:
                others = {}
            former = others.get(name)
            if former is not None and former.in_keyring and not keyring:
                _out_of_keyring(name, "Nothing was stored")
            self._write({**others, name: entry})
        return where

    def drop(self, name: str) -> bool:
        """Forget the key of "cloud:account". Answer: whether there was one.

        Raises Unsupported where the keyring does not give it up: nothing was forgotten then.
        """
        with self._locked():
            accounts = dict(self.stored())
            entry = accounts.pop(name, None)
            if entry is None:
                return False
            if entry.in_keyring:
                _out_of_keyring(name, "It is still there")
            self._write(accounts)
        return True

    def open_to_others(self) -> bool:
        """Whether other users of this computer may read the file."""
        try:
            return bool(self.path.stat().st_mode & _OTHERS)
        except OSError:
            return False

    def _seal(self) -> Any:
        from gpubroker.store.seal import Seal

        return Seal(self._home.seal_key, self._seal_key)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        from filelock import FileLock

        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix(".lock"), timeout=LOCK_WAIT_S, mode=0o600):
            yield

    def _write(self, accounts: Mapping[str, Stored]) -> None:
        """A reader sees the old file or the new one, never a part; nobody else sees either."""
        draft = self.path.with_name(f".{self.path.name}.{os.urandom(4).hex()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, opened private
                file.write(msgspec.json.encode(_File(accounts=accounts)))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise


def from_keyring(name: str, variables: tuple[str, ...]) -> Mapping[str, str]:
    """What the keyring of the system holds for "cloud:account"; {} without a keyring.

    One secret stands there as it is, several as NAME=VALUE lines.
    """
    from gpubroker.credentials.dotenv import lines

    value = _asked_of_keyring("get_password", name)
    if not value:
        return {}
    if len(variables) == 1:
        return {variables[0]: value.strip()}
    told = {line.name: line.value for line in lines(value)}
    secrets = {variable: told[variable] for variable in variables if told.get(variable)}
    return secrets if len(secrets) == len(variables) else {}


def _into_keyring(name: str, secrets: Mapping[str, str]) -> None:
    values = [f"{variable}={value}" for variable, value in secrets.items()]
    text = "\n".join(values) if len(values) > 1 else next(iter(secrets.values()))
    backend = _keyring()
    try:
        if backend is None:
            raise RuntimeError("no module named keyring: install gpubroker[keyring]")
        backend.set_password(SERVICE, name, text)
    except Exception as error:
        raise Unsupported(
            f"there is no keyring to store the key in ({type(error).__name__}). Nothing was "
            "stored. Without --keyring it is kept in a file of your own, sealed, mode 0600."
        ) from error


def _out_of_keyring(name: str, undone: str) -> None:
    """What is not in there any more is fine."""
    backend = _keyring()
    if backend is None:
        raise Unsupported(
            f"the key of {name} is in the keyring of the system, which cannot be reached: "
            f"install gpubroker[keyring]. {undone}"
        )
    try:
        if backend.get_password(SERVICE, name) is not None:
            backend.delete_password(SERVICE, name)
    except Exception as error:
        raise Unsupported(
            f"{KEYRING} does not give up the key of {name} ({type(error).__name__}). {undone}"
        ) from error


def _asked_of_keyring(what: str, name: str) -> str:
    backend = _keyring()
    if backend is None:
        return ""
    try:
        return str(getattr(backend, what)(SERVICE, name) or "")
    except Exception:  # noqa: BLE001 - backends raise what they like; one that fails is not there
        return ""


def _keyring() -> Any:
    """The optional module, None where it is not installed."""
    try:
        return importlib.import_module("keyring")
    except ImportError:
        return None
