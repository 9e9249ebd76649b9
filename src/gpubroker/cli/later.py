"""Verbs and flags of the contract whose machinery comes later: refused, never ignored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from gpubroker.cli.verbs import Verb

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def later_command(verb: Verb) -> click.Command:
    """A verb that says that it comes later, whatever it is told."""

    def refuse(words: tuple[str, ...]) -> None:
        del words
        raise click.UsageError(
            f"gpubroker {verb.name} comes later: in this version {verb.later}. Nothing was done."
        )

    return click.Command(
        verb.name,
        callback=refuse,
        params=[click.Argument(["words"], nargs=-1, type=click.UNPROCESSED, metavar="…")],
        help=f"{verb.help} Comes later: in this version {verb.later}.",
        context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    )


def later_option(name: str, *, metavar: str, why: str, only: str | None = None) -> Decorator:
    """A flag that is refused when it is given; `only` is the one value that says nothing new."""

    def refuse(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
        if value is not None and value != only:
            raise click.UsageError(f"{name} comes later: {why}. Nothing was done.", ctx)

    return click.option(
        name, expose_value=False, callback=refuse, metavar=metavar, help=f"Comes later: {why}."
    )
