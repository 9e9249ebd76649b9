"""Users and groups of a machine: getent, id, chown, su and their like.

A machine's users are lines of its own /etc/passwd. On this computer all that runs in it runs as
the one user who started the sandbox, so that no owner of a file is ever really changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from .facts import become, refuse, say, variable

_NOT_FOUND, _NO_KEY = 1, 2
_ID = {"-u": 2, "-g": 3}
_SU_VALUES = {"-c", "--command", "-s", "--shell", "-g", "--group", "-w"}


def _root() -> Path:
    return Path(os.environ["GPUBROKER_ROOT"])


def _rows(database: str) -> list[list[str]]:
    return [line.split(":") for line in (_root() / "etc" / database).read_text().splitlines()]


def _find(database: str, key: str) -> list[str] | None:
    return next((row for row in _rows(database) if key in (row[0], row[2])), None)


def _home(row: list[str]) -> str:
    return str(_root() / row[5].lstrip("/"))


def getent(words: list[str]) -> int:
    """`getent passwd|group [KEY…]`; homes are where they are on this computer."""
    database, *keys = words or [""]
    if database not in ("passwd", "group"):
        return refuse(f"getent: the sandbox knows passwd and group, not {database}", _NO_KEY)
    found = [_find(database, key) for key in keys] if keys else list(_rows(database))
    for row in found:
        if row is not None:
            shown = [*row[:5], _home(row), *row[6:]] if database == "passwd" else row
            say(":".join(shown))
    return _NO_KEY if None in found else 0


def identity(words: list[str]) -> int:
    """`id [-u|-g|-G] [-n] [NAME]`."""
    flags = {f"-{letter}" for word in words if word.startswith("-") for letter in word[1:]}
    named = [word for word in words if not word.startswith("-")]
    who = named[0] if named else os.environ["USER"]
    row = _find("passwd", who)
    if row is None:
        return refuse(f"id: '{who}': no such user", _NOT_FOUND)
    wanted = next((flag for flag in ("-u", "-g", "-G") if flag in flags), None)
    if wanted is None:
        uid, name = row[2], row[0]
        return say(f"uid={uid}({name}) gid={row[3]}({name}) groups={row[3]}({name}),999(docker)")
    if wanted == "-G":
        return say(f"{row[0]} docker" if "-n" in flags else f"{row[3]} 999")
    return say(row[0] if "-n" in flags else row[_ID[wanted]])


def whoami(_words: list[str]) -> int:
    """The user of the process."""
    return say(os.environ["USER"])


def change_owner(words: list[str], tool: str = "chown") -> int:
    """Refuses owners and files that there are not, else leaves things as they are."""
    plain = [word for word in words if not word.startswith("-")]
    if not any(word.startswith("--reference") for word in words):
        if not plain:
            return refuse(f"{tool}: missing operand", 1)
        owner, _, group = plain.pop(0).replace(".", ":").partition(":")
        owner, group = ("", owner) if tool == "chgrp" else (owner, group)
        if owner and _find("passwd", owner) is None:
            return refuse(f"{tool}: invalid user: '{owner}'", 1)
        if group and _find("group", group) is None:
            return refuse(f"{tool}: invalid group: '{group}'", 1)
    missing = [path for path in plain if not os.path.lexists(path)]
    for path in missing:
        refuse(f"{tool}: cannot access '{path}': No such file or directory", 1)
    return 1 if missing else 0


def change_group(words: list[str]) -> int:
    """As `change_owner`."""
    return change_owner(words, "chgrp")


def install(words: list[str]) -> int:
    """The real one, without its owners."""
    kept: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in ("-o", "-g", "--owner", "--group"):
            del rest[:1]
        elif not word.startswith(("--owner=", "--group=")):
            kept.append(word)
    own = os.environ["PATH"].split(":")
    real = ":".join(part for part in own if not part.startswith(str(_root())))
    os.environ["PATH"] = real
    return become(["install", *kept])


def add_user(words: list[str]) -> int:
    """A line in the machine's own passwd, and a home."""
    name = next((word for word in reversed(words) if not word.startswith("-")), "")
    if not name:
        return refuse("useradd: a name is missing", 2)
    if _find("passwd", name) is not None:
        return refuse(f"useradd: user '{name}' already exists", 9)
    number = 1000 + len(_rows("passwd"))
    with (_root() / "etc/passwd").open("a") as people:
        people.write(f"{name}:x:{number}:{number}:{name}:/home/{name}:/bin/bash\n")
    with (_root() / "etc/group").open("a") as groups:
        groups.write(f"{name}:x:{number}:\n")
    (_root() / "home" / name).mkdir(parents=True, exist_ok=True)
    return 0


def switch_user(words: list[str]) -> int:
    """`su [-] [USER] [-c COMMAND]`, `runuser -u USER -- COMMAND…`."""
    command: str | None = None
    argv: list[str] = []
    user, login = "", False
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, sign, value = word.partition("=")
        if word in ("-u", "--user") and rest:
            user = rest.pop(0)
        elif name in _SU_VALUES:
            value = value if sign else rest.pop(0) if rest else ""
            command = value if name in ("-c", "--command") else command
        elif word in ("-", "-l", "--login"):
            login = True
        elif word == "--":
            argv, rest = rest, []
        elif not word.startswith("-"):
            if user:
                argv, rest = [word, *rest], []
            user = user or word
    row = _find("passwd", user or "root")
    if row is None:
        return refuse(f"su: user {user} does not exist or the user entry does not contain all", 1)
    os.environ.update(USER=row[0], LOGNAME=row[0], HOME=_home(row))
    if login:
        os.chdir(_home(row))
    shell = variable("SHELL")
    argv = [shell, "-c", command] if command is not None else argv or [shell]
    return become(argv)


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "getent": getent,
    "id": identity,
    "whoami": whoami,
    "chown": change_owner,
    "chgrp": change_group,
    "install": install,
    "useradd": add_user,
    "adduser": add_user,
    "su": switch_user,
    "runuser": switch_user,
}
NAMES = tuple(_COMMANDS)


def main(argv: list[str]) -> int:
    """`NAME ARGUMENTS…`, NAME being the command it is called as; the exit code."""
    name, *arguments = argv
    return _COMMANDS[name](arguments)
