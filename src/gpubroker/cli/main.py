"""Entry point. Imports little: `--help` must answer before a person notices the wait."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import click

from gpubroker import __version__
from gpubroker.cli.session import Session
from gpubroker.cli.verbs import BY_NAME, VERBS

EVERYWHERE = {"--json": "json", "--sandbox": "sandbox", "--trace-http": "trace_http"}
"""Switches that are understood before and after the verb."""


class Verbs(click.Group):
    """Verbs are imported when they are called."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """All, in the order of the help."""
        return [verb.name for verb in VERBS]

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the verb's module."""
        verb = BY_NAME.get(cmd_name)
        if verb is None:
            return None
        if verb.later:
            from gpubroker.cli.later import later_command

            return later_command(verb)
        module = import_module(f"gpubroker.cli.{verb.module}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; an unknown verb is told its nearest ones."""
        if args and not args[0].startswith("-") and args[0] not in BY_NAME:
            from difflib import get_close_matches

            near = get_close_matches(args[0], BY_NAME, n=2)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            ctx.fail(f'there is no verb "{args[0]}".{hint} gpubroker --help lists all.')
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table: no verb is imported for its help line."""
        for section in dict.fromkeys(verb.section for verb in VERBS):
            with formatter.section(section):
                formatter.write_dl(
                    [(verb.name, verb.help) for verb in VERBS if verb.section == section]
                )


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    session: Session = ctx.ensure_object(Session)
    session.show(lambda: {"version": __version__}, lambda: [f"gpubroker {__version__}"])
    ctx.exit()


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=(
        "First steps, with no account and no network: gpubroker offers --sandbox --gpu 4090, then "
        'gpubroker launch --sandbox --gpu "RTX 4090" --max-price 1'
    ),
)
@click.option("--json", "json_", is_flag=True, help="One JSON document on stdout, nothing else.")
@click.option(
    "--sandbox", is_flag=True, help="Every cloud is the sandbox's, whatever keys there are."
)
@click.option("--trace-http", is_flag=True, help="Each request to a cloud, on stderr.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version.",
)
@click.pass_obj
def cli(session: Session, json_: bool, sandbox: bool, trace_http: bool) -> None:
    """One broker over every GPU cloud: find, rent, use and end a machine.

    --json, --sandbox and --trace-http work before and after the verb.
    """
    session.json = session.json or json_
    session.sandbox = session.sandbox or sandbox
    session.trace_http = session.trace_http or trace_http


def split_everywhere(argv: Sequence[str]) -> tuple[list[str], dict[str, bool]]:
    """Takes the switches of EVERYWHERE out of `argv`, up to a "--"."""
    end = argv.index("--") if "--" in argv else len(argv)
    rest = [word for word in argv[:end] if word not in EVERYWHERE]
    given = {EVERYWHERE[word]: True for word in argv[:end] if word in EVERYWHERE}
    return [*rest, *argv[end:]], given


def invoke(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Runs one command line and answers its exit code; nothing is raised."""
    rest, given = split_everywhere(argv)
    session = Session(environ=environ, **given)
    try:
        code: Any = cli.main(rest, prog_name="gpubroker", obj=session, standalone_mode=False)
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        # The reader has seen enough (`| head`): not our failure, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the outermost frame: all are reported with a code
        from gpubroker.cli.failures import report

        return report(error, session)


def main() -> None:
    """The command `gpubroker`."""
    code = invoke(sys.argv[1:], os.environ)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    # All that is left dies with the process; the collections at its end would look at it in vain.
    gc.freeze()
    sys.exit(code)
