"""docs/cli.md, written from the help texts: `python -m gpubroker.cli.reference docs/cli.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from gpubroker.cli.failures import EXIT_CODES
from gpubroker.cli.main import cli
from gpubroker.cli.session import Session
from gpubroker.cli.verbs import VERBS

WIDTH = 100
EXITS = (
    (0, "done"),
    (1, "failed, message on stderr"),
    (2, "usage: a flag or value that is not understood, a name that is taken, no --yes"),
    (3, "no offer matches"),
    (4, "every matching offer was tried and none could be had; the message lists each"),
    (5, "credentials missing where they are needed, or refused"),
    (6, "budget, quota or policy refuses"),
    (7, "not found"),
    (125, "`ssh` only: the command did not start on the machine"),
    (130, "interrupted; what was begun is recorded, and `ps` shows it"),
)
DOCUMENTS = (
    ("offers", "offers, total, scanned, median_price_per_hour, sources, explain?"),
    ("gpus", "gpus"),
    ("providers", "providers"),
    (
        "launch",
        "the instance, its attempts included; with --dry-run: plan, left_out, most, total, ways_in",
    ),
    ("launch --nodes N", "gang, hosts, instances"),
    ("ps", "instances, warnings"),
    ("show", "the instance"),
    ("stop, start, terminate", "instances"),
    ("ssh", "name, argv, host (without CMD only)"),
    ("sweep", "ours, orphans, ghosts, foreign, resources, errors, fixed"),
    ("bill", "name, bills: quoted, metered, reported, billed, difference, tolerance, verdict, …"),
    ("costs", "since, until, total, by: instance, provider, gpu, day, project, tag"),
    ("adopt", "the instance"),
    ("doctor", "checks"),
    ("login", "provider, account, uid, balance, stored, overruled_by; without CLOUD: providers"),
    ("logout", "provider, account, forgotten"),
    ("budget", "list: budgets; set and show: the budget; remove: name, removed"),
    ("notify", "list: channels; test: name, sent; secret: name, stored"),
    ("registry", "list: registries; add: name, server, username; remove: name, removed"),
    ("sandbox", "running, base_url, id, pid, port; env: env"),
    ("completion", "shell, script"),
)


def page() -> str:
    """The whole page, in Markdown."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield "# Command line"
    yield ""
    yield "<!-- Written by gpubroker.cli.reference from the help texts: change those. -->"
    yield ""
    yield (
        "`--json`, `--sandbox` and `--trace-http` work before and after the verb, up to a `--`. "
        "Results go to stdout; progress, warnings and questions to stderr. With `--json` stdout "
        "holds one JSON document or nothing, and a failure is one JSON object on stderr: "
        '`{"error": {"code", "message", "exit_code", "next_step"?, "nearest"?, "attempts"?}}`. '
        "Colour is for terminals, and not where `NO_COLOR` is set. Questions are asked on a "
        "terminal only; elsewhere what needs a yes and lacks `--yes` exits 2."
    )
    yield ""
    yield (
        "`GPUBROKER_HOME` holds all state (default: the platform's user data folder). "
        "`GPUBROKER_SANDBOX=<base URL>` does for every command what `--sandbox` does for one, with "
        "the sandbox at that address. A NAME is looked up in the live realm, then in the sandbox, "
        "where it is shown with `(sandbox)`."
    )
    yield from ("", "## Exit codes", "", "| code | means |", "|---|---|")
    yield from (f"| {code} | {meaning} |" for code, meaning in EXITS)
    yield ""
    yield "Codes of errors that have an exit code of their own: " + ", ".join(
        f"`{word}` {code}" for word, code in EXIT_CODES.items()
    )
    yield from ("", "## JSON documents", "", "| verb | fields |", "|---|---|")
    yield from (f"| `{verb}` | {fields} |" for verb, fields in DOCUMENTS)
    yield from ("", "## gpubroker", "", "```", help_text(cli, "gpubroker"), "```")
    for verb in VERBS:
        if verb.later:
            continue
        command = cli.get_command(click.Context(cli), verb.name)
        assert command is not None  # noqa: S101 - the table and the modules are one promise
        yield from _section(command, f"gpubroker {verb.name}")
    yield from ("", "## Comes later", "")
    yield "These verbs exist, say that they come later, and exit 2:"
    yield ""
    yield from (f"- `{verb.name}`: {verb.help}" for verb in VERBS if verb.later)
    yield ""


def _section(command: click.Command, path: str) -> Iterator[str]:
    yield from ("", f"## {path}", "", "```", help_text(command, path), "```")
    if isinstance(command, click.Group):
        for name, sub in sorted(command.commands.items()):
            yield from (
                "",
                f"### {path} {name}",
                "",
                "```",
                help_text(sub, f"{path} {name}"),
                "```",
            )


def help_text(command: click.Command, path: str) -> str:
    """What `--help` prints, at a fixed width."""
    context = click.Context(
        command,
        info_name=path,
        obj=Session(environ={}),
        help_option_names=["-h", "--help"],
        terminal_width=WIDTH,
    )
    return command.get_help(context).rstrip()


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page())
