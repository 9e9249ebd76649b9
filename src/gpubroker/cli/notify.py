"""`notify`: where warnings go by config.toml, whether they get there, and their secrets."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from gpubroker.cli.session import Session
from gpubroker.cli.table import Column, table
from gpubroker.cli.words import NOTHING

if TYPE_CHECKING:
    from gpubroker.model.notices import ChannelReport

COLUMNS = (
    Column("CHANNEL"),
    Column("TO"),
    Column("SENT", right=True),
    Column("WAITING", right=True),
    Column("UNDELIVERED", right=True, drop=1),
    Column("NOTE", drop=2),
)


@click.group("notify", invoke_without_command=True)
@click.pass_context
def notify_command(ctx: click.Context) -> None:
    """Where warnings go: the channels of config.toml. The keeper sends them.

    Without a sub-command: list.
    """
    if ctx.invoked_subcommand is None:
        _list(ctx.obj)


@notify_command.command("list")
@click.pass_obj
def list_command(session: Session) -> None:
    """Every channel, and how many warnings got there."""
    _list(session)


@notify_command.command("test")
@click.argument("name")
@click.pass_obj
def test_command(session: Session, name: str) -> None:
    """Send a warning that warns of nothing."""
    realm = session.realm()

    async def send() -> None:
        async with session.broker(realm) as broker:
            await broker.test_channel(name)

    session.run(send())
    session.show(lambda: {"name": name, "sent": True}, lambda: [f"{name} took it."])


@notify_command.command("secret")
@click.argument("name")
@click.pass_obj
def secret_command(session: Session, name: str) -> None:
    """Seal a webhook's secret or a mail server's password.

    It is asked for, or read from standard input; it is never an argument.
    """
    if session.interactive:
        secret = str(click.prompt(f"Secret of {name}", hide_input=True, err=True))
    else:
        secret = sys.stdin.read()
    broker = session.broker(session.realm())
    try:
        stored = broker.set_channel_secret(name, secret)
    finally:
        broker.close()
    session.show(
        lambda: {"name": name, "stored": stored}, lambda: [f"The secret of {name} is in {stored}."]
    )


def _list(session: Session) -> None:
    from gpubroker import wire_budgets

    broker = session.broker(session.realm())
    try:
        channels = broker.channels()
    finally:
        broker.close()
    session.show(
        lambda: {"channels": [wire_budgets.channel(one) for one in channels]},
        lambda: _screen(session, channels),
    )


def _screen(session: Session, channels: tuple[ChannelReport, ...]) -> Iterator[str]:
    if not channels:
        yield "  No channels: warnings are shown by gpubroker ps only. [notify.channels.NAME] in"
        yield f"  {session.home.config} makes one."
        return
    rows = [
        [
            one.name,
            one.to,
            str(one.sent),
            str(one.waiting),
            str(one.undelivered),
            one.problem or one.last_error or NOTHING,
        ]
        for one in channels
    ]
    header, *lines = table(COLUMNS, rows, session.width)
    yield session.styled(header, bold=True)
    yield from lines
