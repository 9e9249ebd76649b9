"""`registry`: logins for private images."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from gpubroker.cli.session import Session
from gpubroker.cli.table import Column, table

if TYPE_CHECKING:
    from gpubroker.model.launch import RegistryLogin

COLUMNS = (Column("NAME"), Column("SERVER"), Column("USERNAME"), Column("SINCE", drop=1))


@click.group("registry", invoke_without_command=True)
@click.pass_context
def registry_command(ctx: click.Context) -> None:
    """Logins for private images, used by launch --registry-auth NAME.

    Without a sub-command: list.
    """
    if ctx.invoked_subcommand is None:
        _list(ctx.obj)


@registry_command.command("add")
@click.argument("name")
@click.option("--server", required=True, metavar="HOST", help="As in the image: ghcr.io.")
@click.option("--username", required=True, metavar="NAME", help="At the registry.")
@click.pass_obj
def add_command(session: Session, name: str, server: str, username: str) -> None:
    """Keep a login, sealed. One of the same name is replaced.

    The password or token is asked for, or read from standard input; it is never an argument.
    """
    if session.interactive:
        password = str(click.prompt(f"Password of {username}", hide_input=True, err=True))
    else:
        password = sys.stdin.read().removesuffix("\n")
    broker = session.broker(session.realm())
    try:
        login = broker.add_registry(name, server=server, username=username, password=password)
    finally:
        broker.close()
    session.show(
        lambda: _document(login), lambda: [f"launch --registry-auth {name} logs in to {server}."]
    )


@registry_command.command("list")
@click.pass_obj
def list_command(session: Session) -> None:
    """Every login, without its password."""
    _list(session)


@registry_command.command("remove")
@click.argument("name")
@click.pass_obj
def remove_command(session: Session, name: str) -> None:
    """Forget a login. Machines that were launched with it keep theirs."""
    broker = session.broker(session.realm())
    try:
        broker.remove_registry(name)
    finally:
        broker.close()
    session.show(lambda: {"name": name, "removed": True}, lambda: [f"{name} is forgotten."])


def _list(session: Session) -> None:
    broker = session.broker(session.realm())
    try:
        logins = broker.registries()
    finally:
        broker.close()
    session.show(
        lambda: {"registries": [_document(one) for one in logins]},
        lambda: _screen(session, logins),
    )


def _document(login: RegistryLogin) -> dict[str, Any]:
    return {
        "name": login.name,
        "server": login.server,
        "username": login.username,
        "created_at": login.created_at.isoformat(),
    }


def _screen(session: Session, logins: tuple[RegistryLogin, ...]) -> Iterator[str]:
    if not logins:
        yield "  No logins. gpubroker registry add NAME --server ghcr.io --username YOU makes one."
        return
    rows = [[one.name, one.server, one.username, f"{one.created_at:%Y-%m-%d}"] for one in logins]
    header, *lines = table(COLUMNS, rows, session.width)
    yield session.styled(header, bold=True)
    yield from lines
