"""Shell text that a machine runs at its start."""

from __future__ import annotations

import shlex
from collections.abc import Mapping


def environment_lines(env: Mapping[str, str]) -> tuple[str, ...]:
    """Each variable as a line of /etc/environment, quoted for the shell.

    That file knows quotes and no escapes: the outermost pair is taken off, all between stands
    for itself. Values must be of one line.
    """
    return tuple(shlex.quote(f"{name}={_in_quotes(value)}") for name, value in env.items())


def _in_quotes(value: str) -> str:
    # Either pair does for who logs in; single quotes keep a shell that reads it from expanding.
    quote = "'" if set('"$`\\') & set(value) and "'" not in value else '"'
    return f"{quote}{value}{quote}"


def startup_text(script: str, command: str | None, lines: tuple[str, ...] = ()) -> str:
    """The script, with `lines` of `environment_lines` written before it and the command after it.

    The command runs beside the machine's own SSH server, its output in /var/log/command.log.
    """
    parts = []
    if script.startswith("#!"):
        first, _, script = script.partition("\n")
        parts.append(first)
    if lines:
        parts.append(f"printf '%s\\n' {' '.join(lines)} >> /etc/environment")
    if script:
        parts.append(script)
    if command:
        parts.append(f"nohup sh -c {shlex.quote(command)} >/var/log/command.log 2>&1 &")
    return "\n".join(parts)
