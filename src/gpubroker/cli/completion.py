"""`completion`: the script that teaches a shell our verbs and flags."""

from __future__ import annotations

import click

from gpubroker.cli.session import Session

SHELLS = ("bash", "zsh", "fish")
INSTALL = {
    "bash": 'eval "$(gpubroker completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(gpubroker completion zsh)" in ~/.zshrc',
    "fish": "gpubroker completion fish > ~/.config/fish/completions/gpubroker.fish",
}


@click.command("completion", help="\n\n".join(["Print the completion script.", *INSTALL.values()]))
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_obj
def completion_command(session: Session, shell: str) -> None:
    """Prints the script; nothing is installed."""
    from click.shell_completion import get_completion_class

    from gpubroker.cli.main import cli

    completion = get_completion_class(shell)
    if completion is None:  # pragma: no cover - click knows all of SHELLS
        raise click.UsageError(f"no completion for {shell}")
    source = completion(cli, {}, "gpubroker", "_GPUBROKER_COMPLETE").source()
    session.show(lambda: {"shell": shell, "script": source}, lambda: [source])
