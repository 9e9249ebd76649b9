"""Logins to the registries of private images: sealed in the store, given only to machines."""

from __future__ import annotations

import re

from gpubroker.model.errors import Invalid, NotFound
from gpubroker.model.launch import RegistryAuth, RegistryLogin
from gpubroker.store.registries import RegistryRow
from gpubroker.store.rows import when
from gpubroker.store.seal import Seal
from gpubroker.store.store import Store

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SERVER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?")
DOCKER_HUB = "docker.io"


def add(store: Store, seal: Seal, given: RegistryAuth, at: float) -> RegistryLogin:
    """Keep it, in place of one of the same name. Raises Invalid."""
    if not _NAME.fullmatch(given.name):
        raise Invalid(f'"{given.name}" is no name: letters, digits, ".", "_" and "-"')
    if not _SERVER.fullmatch(given.server):
        raise Invalid(f'"{given.server}" is no registry: give its host, like ghcr.io')
    if not given.username.strip() or not given.password:
        raise Invalid("a login needs a username and a password")
    if not (given.username + given.password).isprintable():
        raise Invalid("username and password are one line each")
    row = RegistryRow(
        name=given.name,
        server=given.server,
        username=given.username,
        password=seal.close(given.password.encode()),
        created_at=at,
    )
    store.registries.put(row)
    return _login(row)


def known(store: Store) -> tuple[RegistryLogin, ...]:
    """All, by name, without their passwords."""
    return tuple(_login(row) for row in store.registries.all())


def remove(store: Store, name: str) -> None:
    """Forget it; machines that were launched with it keep theirs. Raises NotFound."""
    if not store.registries.remove(name):
        raise _unknown(name)


def opened(store: Store, seal: Seal, name: str | None) -> RegistryAuth | None:
    """What a launch is given. Raises NotFound, NoSecretKey."""
    if name is None:
        return None
    row = store.registries.get(name)
    if row is None:
        raise _unknown(name)
    password = seal.open(row.password).decode()
    return RegistryAuth(row.name, row.server, row.username, password)


def _login(row: RegistryRow) -> RegistryLogin:
    return RegistryLogin(row.name, row.server, row.username, when(row.created_at))


def _unknown(name: str) -> NotFound:
    return NotFound(
        f"no registry login is named {name}. gpubroker registry list shows them; "
        f"gpubroker registry add {name} --server HOST --username NAME makes one"
    )
