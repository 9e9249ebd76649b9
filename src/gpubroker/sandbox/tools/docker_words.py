"""How docker is spoken to: its options, and the templates of --format."""

from __future__ import annotations

import json
import re
from typing import Any

_FLAGS = {
    *("-d", "--detach", "-i", "--interactive", "-t", "--tty", "--rm", "--privileged", "--init"),
    *("-P", "--publish-all", "-q", "--quiet", "--no-healthcheck", "--read-only", "--no-trunc"),
    *("-f", "--force", "--password-stdin", "--all", "-a", "--follow", "--timestamps", "-L"),
    *("--follow-link", "--archive", "--size"),
}
_LONG = {
    "-d": "--detach", "-e": "--env", "-p": "--publish", "-q": "--quiet", "-u": "--user",
    "-i": "--interactive", "-t": "--tty", "-w": "--workdir", "-v": "--volume", "-l": "--label",
    "-h": "--hostname", "-f": "--force", "-a": "--all", "--net": "--network",
}  # fmt: skip
_SHORT_FLAGS = "ditPqfa"
_TEMPLATE = re.compile(r"\{\{\s*(json\s+)?((?:\.[\w]*)+)\s*\}\}")

Options = dict[str, list[str]]


def parsed(words: list[str]) -> tuple[Options, list[str]]:
    """Options by long name, each with its values, and what follows them."""
    options: Options = {}
    rest = list(words)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word == "--":
            break
        if len(word) > 2 and word[1] != "-" and set(word[1:]) <= set(_SHORT_FLAGS):  # noqa: PLR2004
            rest[:0] = [f"-{letter}" for letter in word[1:]]
            continue
        name, sign, value = word.partition("=")
        if len(name) > 2 and name[1] != "-":  # noqa: PLR2004  (`-p80:80`)
            name, sign, value = word[:2], "=", word[2:]
        if name not in _FLAGS and not sign and rest:
            value = rest.pop(0)
        options.setdefault(_LONG.get(name, name), []).append(value)
    return options, rest


def is_set(options: Options, name: str) -> bool:
    """Whether a flag was given, and not as `=false`."""
    return name in options and options[name][-1] != "false"


def formatted(form: str, document: Any) -> str:
    """A Go template of fields alone."""

    def field(match: re.Match[str]) -> str:
        value = document
        for name in match[2].strip(".").split("."):
            if name:
                value = value.get(name, "<no value>") if isinstance(value, dict) else "<no value>"
        if match[1]:
            return json.dumps(value)
        return str(value).lower() if isinstance(value, bool) else str(value)

    if form == "json":
        return json.dumps(document)
    return _TEMPLATE.sub(field, form)
