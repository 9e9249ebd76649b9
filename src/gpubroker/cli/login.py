"""`login` and `logout`: keys of clouds, tried before they are stored."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from gpubroker.cli.knowledge import fact_lines
from gpubroker.cli.session import Session
from gpubroker.cli.table import Column, table
from gpubroker.cli.words import NOTHING, money

if TYPE_CHECKING:
    from gpubroker.catalog.clouds import Cloud
    from gpubroker.model.reports import Login, ProviderInfo

COLUMNS = (Column("CLOUD"), Column("KEY"), Column("A KEY IS MADE AT"), Column("SIGN UP", drop=1))


@click.command("login")
@click.argument("account", required=False, metavar="[CLOUD[:NAME]]")
@click.argument("more", nargs=-1, metavar="")
@click.option("--keyring", is_flag=True, help="Into the keyring of the system, not our file.")
@click.option(
    "--same-account",
    is_flag=True,
    help="The new key is of the account that the machines are recorded under.",
)
@click.pass_obj
def login_command(
    session: Session,
    /,
    account: str | None,
    more: tuple[str, ...],
    keyring: bool,
    same_account: bool,
) -> None:
    """Store a key of a cloud, once a real call has shown that it works.

    The key is asked for, or read from standard input; it is never an argument. It is kept sealed
    in GPUBROKER_HOME/credentials, which only you can read. Several accounts of a cloud have names:
    vast:lab. Without CLOUD: where keys are made.
    """
    if more:
        raise click.UsageError(
            "a key is never an argument: other users could see it. Pipe it in, or type it when it "
            "is asked for. Nothing was stored."
        )
    if account is None:
        _list(session)
        return
    name, alias = identity(account)
    known = _built(name)
    given = _typed(session, known) if session.interactive else _piped(known)
    if not given:
        _without_a_key(known)
    realm = session.realm()

    async def ask() -> Login:
        async with session.broker(realm) as broker:
            return await broker.login(
                name, alias, secrets=given, keyring=keyring, same_account=same_account
            )

    done = session.run(ask())
    from gpubroker import wire

    session.show(lambda: wire.login(done), lambda: _stored_lines(done))


@click.command("logout")
@click.argument("account", metavar="CLOUD[:NAME]")
@click.pass_obj
def logout_command(session: Session, account: str) -> None:
    """Forget a key that `login` stored. Keys in variables and other files stay."""
    from gpubroker.model.errors import NotFound

    name, alias = identity(account)
    broker = session.broker(session.realm())
    try:
        gone = broker.logout(name, alias)
    finally:
        broker.close()
    if not gone:
        raise NotFound(f"login has stored no key for {name}:{alias}")
    session.show(
        lambda: {"provider": name, "account": alias, "forgotten": True},
        lambda: [f"The key of {name}:{alias} is forgotten here. At the cloud it goes on working."],
    )


def identity(text: str) -> tuple[str, str]:
    """(wire name, alias) of "vast:lab", or a usage error that names the nearest."""
    from gpubroker.catalog.clouds import UnknownCloud
    from gpubroker.config import parse_account
    from gpubroker.model.errors import Invalid

    try:
        return parse_account(text)
    except (UnknownCloud, Invalid) as error:
        raise click.UsageError(f"{error}. gpubroker providers lists all") from None


def _built(name: str) -> Cloud:
    from gpubroker.catalog.clouds import cloud
    from gpubroker.model.errors import Unsupported
    from gpubroker.providers import registry

    known = cloud(name)
    if registry.status(name) != "ready":
        raise Unsupported(f"{known.display_name} is planned, not built yet. Nothing was stored.")
    if not known.credentials:
        raise Unsupported(f"{known.display_name} needs no key. Nothing was stored.")
    return known


def _typed(session: Session, known: Cloud) -> dict[str, str]:
    for line in fact_lines(known.facts):
        session.say(line)
    return {
        first: str(click.prompt(f"{first}", hide_input=True, err=True)).strip()
        for first, *_ in known.credentials
    }


def _piped(known: Cloud) -> Mapping[str, str]:
    """The whole input for one secret; for several NAME=VALUE lines, or one a line in order."""
    from gpubroker.credentials.dotenv import lines

    text = sys.stdin.read().strip() if sys.stdin else ""
    if len(known.credentials) == 1:
        return {known.credentials[0][0]: text} if text else {}
    told = {line.name: line.value for line in lines(text) if line.value}
    named = {
        spellings[0]: told[name]
        for spellings in known.credentials
        for name in spellings[::-1]
        if name in told
    }
    plain = text.split()
    if not named and len(plain) == len(known.credentials):
        named = {
            spellings[0]: value for spellings, value in zip(known.credentials, plain, strict=True)
        }
    return named if len(named) == len(known.credentials) else {}


def _without_a_key(known: Cloud) -> None:
    from gpubroker.accounts import CredentialsMissing

    wanted = " and ".join(spellings[0] for spellings in known.credentials)
    pages = "".join(f"\n{line}" for line in fact_lines(known.facts))
    raise CredentialsMissing(
        f"no key of {known.display_name} was given: type it on a terminal, or pipe it in ({wanted})"
        f".{pages}",
        provider=known.name,
    )


def _stored_lines(done: Login) -> Iterator[str]:
    balance = "" if done.balance is None else f", balance {money(done.balance)}"
    yield f"{done.provider}:{done.account} works: account {done.uid}{balance}."
    yield f"    Its key is in {done.stored}."
    if done.overruled_by:
        yield f"    Not used yet: the key from {done.overruled_by} counts before it."


def _list(session: Session) -> None:
    from gpubroker import wire

    broker = session.broker(session.realm())
    try:
        infos = [info for info in broker.providers() if info.status != "planned"]
    finally:
        broker.close()

    def screen() -> Iterator[str]:
        header, *rows = table(COLUMNS, [_row(info) for info in infos], session.width)
        yield session.styled(header, bold=True)
        yield from rows
        yield "  Store one: gpubroker login CLOUD. A second account: gpubroker login CLOUD:NAME."

    session.show(lambda: {"providers": [wire.provider(info) for info in infos]}, screen)


def _row(info: ProviderInfo) -> list[str]:
    names = [account.name for account in info.accounts if account.found]
    facts: Any = info.facts
    return [
        info.name,
        ", ".join(names) if names else "not set",
        facts.key_page or NOTHING,
        facts.sign_up_page or NOTHING,
    ]
