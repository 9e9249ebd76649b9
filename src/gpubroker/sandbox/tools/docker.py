"""docker of a sandbox VM: runs the command that an image is given, as a process of the machine.

What it was asked for is kept in the machine's folder (`docker/<name>.json`) to be checked. There
is no image: without a command of its own a container just waits. A published port leads to its
container's port from outside the machine; inside, the container's own port is the one to use.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .facts import refuse, say

_FLAGS = {
    *("-d", "--detach", "-i", "--interactive", "-t", "--tty", "--rm", "--privileged", "--init"),
    *("-P", "--publish-all", "-q", "--quiet", "--no-healthcheck", "--read-only"),
}
_LONG = {"-d": "--detach", "-e": "--env", "-p": "--publish", "-q": "--quiet", "-u": "--user"}
_SHORT_FLAGS = "ditPq"
_END_S = 5.0
_NOT_FOUND = 127

Options = dict[str, list[str]]


def _folder() -> Path:
    folder = Path(os.environ["GPUBROKER_ROOT"]) / "docker"
    folder.mkdir(exist_ok=True)
    return folder


def _records() -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(_folder().glob("*.json"))]


def _found(name: str) -> dict[str, Any] | None:
    return next((r for r in _records() if name == r["name"] or r["id"].startswith(name)), None)


def _keep(record: dict[str, Any]) -> None:
    (_folder() / f"{record['name']}.json").write_text(json.dumps(record))


def _parsed(words: list[str]) -> tuple[Options, list[str]]:
    """Options by long name, each with its values, and what follows them."""
    options: Options = {}
    rest = list(words)
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if len(word) > 2 and word[1] != "-" and set(word[1:]) <= set(_SHORT_FLAGS):  # noqa: PLR2004
            rest[:0] = [f"-{letter}" for letter in word[1:]]
            continue
        name, sign, value = word.partition("=")
        if name not in _FLAGS and not sign and rest:
            value = rest.pop(0)
        options.setdefault(_LONG.get(name, name), []).append(value)
    return options, rest


def _environment(options: Options) -> dict[str, str]:
    lines = [
        line
        for file in options.get("--env-file", [])
        for line in Path(file).read_text().splitlines()
    ]
    pairs = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    env = {}
    for pair in pairs + options.get("--env", []):
        name, sign, value = pair.partition("=")
        env[name] = value if sign else os.environ.get(name, "")
    return env


def _ports(options: Options) -> dict[str, str]:
    """Port of the machine -> port of the container, from `-p [ip:]host:container[/protocol]`."""
    ports = {}
    for wanted in options.get("--publish", []):
        *outer, inner = wanted.partition("/")[0].split(":")
        ports[outer[-1] if outer else inner] = inner
    return ports


def _run(words: list[str]) -> int:
    options, rest = _parsed(words)
    if not rest:
        return refuse('"docker run" requires at least 1 argument.', 125)
    image, *command = rest
    made = hashlib.sha256(os.urandom(16)).hexdigest()
    name = options.get("--name", [f"box_{made[:8]}"])[0]
    if _found(name):
        return refuse(f'docker: Conflict. The container name "/{name}" is already in use.', 125)
    argv = options.get("--entrypoint", []) + command or ["sleep", "infinity"]
    env = _environment(options)
    detached = "--detach" in options
    record = {
        "id": made,
        "name": name,
        "image": image,
        "command": command,
        "env": env,
        "ports": _ports(options),
        "options": options,
        "pid": 0,
        "exit_code": None,
    }
    with (_folder() / f"{name}.log").open("ab") as log:
        try:
            process = subprocess.Popen(
                argv,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL if detached else None,
                stdout=log if detached else None,
                stderr=log if detached else None,
                start_new_session=detached,
            )
        except OSError as error:
            return refuse(f"docker: cannot run {argv[0]}: {error.strerror}", _NOT_FOUND)
    _keep({**record, "pid": process.pid})
    if detached:
        return say(made)
    code = process.wait()
    _keep({**record, "exit_code": code})
    if "--rm" in options:
        (_folder() / f"{name}.json").unlink()
    return code


def _runs(record: dict[str, Any]) -> bool:
    try:
        os.kill(record["pid"], 0)
    except OSError:
        return False
    return bool(record["pid"]) and record["exit_code"] is None


def _ps(words: list[str]) -> int:
    options, _ = _parsed(["-q" if word == "-aq" else word for word in words if word != "-a"])
    every = bool({"-a", "-aq", "--all"} & set(words))
    shown = [record for record in _records() if every or _runs(record)]
    if "--quiet" in options:
        return say(*(record["id"][:12] for record in shown)) if shown else 0
    lines = [f"{'CONTAINER ID':<15}{'IMAGE':<30}{'STATUS':<10}NAMES"]
    lines += [
        f"{r['id'][:12]:<15}{r['image']:<30}{'Up' if _runs(r) else 'Exited':<10}{r['name']}"
        for r in shown
    ]
    return say(*lines)


def _end(record: dict[str, Any]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(OSError):
            os.killpg(record["pid"], number)
        deadline = time.monotonic() + _END_S
        while _runs(record) and time.monotonic() < deadline:
            time.sleep(0.02)
    _keep({**record, "exit_code": 0})


def _each(words: list[str], act: Callable[[dict[str, Any]], None]) -> int:
    code = 0
    for name in (word for word in words if not word.startswith("-")):
        record = _found(name)
        if record is None:
            code = refuse(f"Error response from daemon: No such container: {name}", 1)
        else:
            act(record)
            say(name)
    return code


def _remove(record: dict[str, Any]) -> None:
    if _runs(record):
        _end(record)
    (_folder() / f"{record['name']}.json").unlink()


def _logs(words: list[str]) -> int:
    record = _found(words[-1]) if words else None
    if record is None:
        return refuse("Error response from daemon: No such container", 1)
    sys.stdout.write((_folder() / f"{record['name']}.log").read_text(errors="replace"))
    return 0


def _exec(words: list[str]) -> int:
    options, rest = _parsed(words)
    record = _found(rest[0]) if rest else None
    if record is None or not _runs(record):
        return refuse("Error response from daemon: No such container", 1)
    env = {**os.environ, **record["env"], **_environment(options)}
    return subprocess.run(rest[1:], env=env, check=False).returncode


def _inspect(words: list[str]) -> int:
    found = [record for record in map(_found, words) if record]
    say(json.dumps(found, indent=4))
    return 0 if len(found) == len(words) else 1


def _login(_words: list[str]) -> int:
    return say("Login Succeeded")


_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "run": _run,
    "ps": _ps,
    "stop": lambda words: _each(words, _end),
    "kill": lambda words: _each(words, _end),
    "rm": lambda words: _each(words, _remove),
    "logs": _logs,
    "exec": _exec,
    "inspect": _inspect,
    "pull": lambda words: say(f"Status: Image is up to date for {words[-1] if words else ''}"),
    "login": _login,
    "info": lambda _words: say("Server:", " Server Version: sandbox", " Runtimes: nvidia runc"),
    "version": lambda _words: say("Server: gpubroker sandbox"),
    "--version": lambda _words: say("Docker version of the gpubroker sandbox"),
}


def main(argv: list[str]) -> int:
    """Answers one call; the exit code."""
    if not argv or argv[0] not in _COMMANDS:
        return refuse(f"docker: the sandbox knows {', '.join(_COMMANDS)}", 1)
    return _COMMANDS[argv[0]](argv[1:])
