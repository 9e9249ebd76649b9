"""docker of a sandbox VM: runs the command that an image is given, as a process of the machine.

What it was asked for is kept in the machine's folder to be checked (see `containers`). A published
port leads to its container's port from outside the machine; inside, the container's own port is
the one to use.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import containers, docker_registry
from .docker_words import Options, formatted, is_set, parsed
from .facts import become, refuse, say, variable

_OCI = "OCI runtime exec failed: exec failed: unable to start container process: exec:"
_NOT_FOUND, _DAEMON_REFUSED = 127, 125

Record = containers.Record


def _environment(options: Options) -> dict[str, str]:
    """As docker reads it: of a file each line as it stands, a bare name from our own."""
    lines = [
        line
        for file in options.get("--env-file", [])
        for line in Path(file).read_text().splitlines()
    ]
    pairs = [line.lstrip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    env = {}
    for pair in pairs + options.get("--env", []):
        name, sign, value = pair.partition("=")
        if sign or name in os.environ:
            env[name] = value if sign else os.environ[name]
    return env


def _ports(options: Options) -> dict[str, str]:
    """Port of the machine -> port of the container, from `-p [ip:]host:container[/protocol]`."""
    ports = {}
    for wanted in options.get("--publish", []):
        *outer, inner = wanted.partition("/")[0].split(":")
        ports[outer[-1] if outer else inner] = inner
    return ports


def _no_terminal(options: Options) -> int | None:
    if is_set(options, "--tty") and not is_set(options, "--detach") and not sys.stdin.isatty():
        return refuse("the input device is not a TTY", 1)
    return None


def _made(words: list[str]) -> Record | int:
    """A container that does not run yet, or the exit code where it cannot be made."""
    options, rest = parsed(words)
    if not rest:
        return refuse('"docker run" requires at least 1 argument.', _DAEMON_REFUSED)
    image, *command = rest
    made = hashlib.sha256(os.urandom(16)).hexdigest()
    name = options.get("--name", [f"box_{made[:8]}"])[0]
    if containers.found(name):
        words_ = f'The container name "/{name}" is already in use by container "{made}".'
        return refuse(f"docker: Error response from daemon: Conflict. {words_}", _DAEMON_REFUSED)
    if image not in containers.known("images"):
        sys.stderr.write(f"Unable to find image '{image}' locally\n")
        if options.get("--pull") == ["never"] or containers.pull(image) is not None:
            return _DAEMON_REFUSED
    entrypoint = [word for word in options.get("--entrypoint", []) if word]
    record: Record = {
        "id": made,
        "name": name,
        "image": image,
        "command": command,
        "entrypoint": entrypoint,
        "argv": entrypoint + command or ["sleep", "infinity"],
        "env": _environment(options),
        "ports": _ports(options),
        "labels": dict(label.partition("=")[::2] for label in options.get("--label", [])),
        "workdir": options.get("--workdir", [""])[-1],
        "network": options.get("--network", ["default"])[-1],
        "restart": options.get("--restart", ["no"])[-1],
        "options": options,
        "pid": 0,
        "exit_code": None,
        "stopped": False,
        "created_at": containers.now(),
        "started_at": "0001-01-01T00:00:00Z",
    }
    containers.keep(record)
    return record


def _create(words: list[str]) -> int:
    made = _made(words)
    return made if isinstance(made, int) else say(made["id"])


def _run(words: list[str]) -> int:
    if (code := _no_terminal(parsed(words)[0])) is not None:
        return code
    record = _made(words)
    if isinstance(record, int):
        return record
    options = record["options"]
    detached = is_set(options, "--detach")
    try:
        process = containers.start(record, detached=detached)
    except OSError:
        containers.forget(record)
        problem = f'exec: "{record["argv"][0]}": executable file not found in $PATH'
        return refuse(f"docker: Error response from daemon: {problem}", _NOT_FOUND)
    if detached:
        return say(record["id"])
    code = process.wait()
    if is_set(options, "--rm"):
        containers.forget(record)
    else:
        containers.keep({**record, "pid": process.pid, "exit_code": code})
    return code


def _ps(words: list[str]) -> int:
    options, _ = parsed([word for word in words if word != "ls"])
    shown = [r for r in containers.records() if "--all" in options or containers.runs(r)]
    for wanted in options.get("--filter", []):
        key, _, value = wanted.partition("=")
        if key == "name":
            shown = [r for r in shown if re.search(value.replace("/", ""), r["name"])]
        elif key == "status":
            shown = [r for r in shown if containers.shown(r)["State"]["Status"] == value]
        elif key == "label":
            name, sign, text = value.partition("=")
            shown = [r for r in shown if r["labels"].get(name, text if not sign else None) == text]
    if "--quiet" in options:
        lines = [record["id"][:12] for record in shown]
    elif form := options.get("--format"):
        lines = [formatted(form[-1], _row(record)) for record in shown]
    else:
        lines = [f"{'CONTAINER ID':<15}{'IMAGE':<30}{'STATUS':<10}NAMES"]
        rows = map(_row, shown)
        lines += [f"{r['ID']:<15}{r['Image']:<30}{r['Status']:<10}{r['Names']}" for r in rows]
    return say(*lines) if lines else 0


def _row(record: Record) -> dict[str, Any]:
    up = containers.runs(record)
    status = "Up" if up else f"Exited ({containers.exit_code(record)})"
    return {
        "ID": record["id"][:12],
        "Image": record["image"],
        "Names": record["name"],
        "Status": status,
        "State": "running" if up else "exited",
    }


def _each(words: list[str], act: Callable[[Record], int | None]) -> int:
    code = 0
    _, names = parsed(words)
    for name in names:
        record = containers.found(name)
        if record is None:
            code = refuse(f"Error response from daemon: No such container: {name}", 1)
        elif failed := act(record):
            code = failed
        else:
            say(name)
    return code


def _start(record: Record) -> int:
    if containers.runs(record):
        return 0
    try:
        containers.start({**record, "stopped": False})
    except OSError as error:
        return refuse(f"Error response from daemon: {error}", 1)
    return 0


def _stop(words: list[str]) -> int:
    options, _ = parsed(words)
    patience = float(options.get("--time", options.get("--force", ["10"]))[-1] or 10)
    return _each(words, lambda record: containers.end(record, min(patience, 5.0)))


def _restart(record: Record) -> int:
    containers.end(record)
    return _start(containers.found(record["id"]) or record)


def _remove(words: list[str]) -> int:
    force = "--force" in parsed(words)[0]

    def remove(record: Record) -> int:
        if containers.runs(record) and not force:
            problem = "cannot remove a running container"
            return refuse(f'Error response from daemon: {problem} "/{record["name"]}"', 1)
        containers.end(record, 0.0)
        containers.forget(record)
        return 0

    return _each(words, remove)


def _wait(words: list[str]) -> int:
    record = containers.found(words[-1]) if words else None
    if record is None:
        return _no_such(words)
    while containers.runs(record):
        time.sleep(0.1)
        record = containers.found(words[-1]) or record
    return say(str(containers.exit_code(record)))


def _no_such(words: list[str]) -> int:
    name = words[-1] if words else ""
    return refuse(f"Error response from daemon: No such container: {name}", 1)


def _logs(words: list[str]) -> int:
    record = containers.found(words[-1]) if words else None
    if record is None:
        return _no_such(words)
    file = containers.folder() / f"{record['name']}.log"
    lines = file.read_text(errors="replace").splitlines(keepends=True) if file.exists() else []
    tail = parsed(words[:-1])[0].get("--tail", ["all"])[-1]
    sys.stdout.write("".join(lines[-int(tail) :] if tail.isdecimal() else lines))
    return 0


def _exec(words: list[str]) -> int:
    options, rest = parsed(words)
    record = containers.found(rest[0]) if rest else None
    if record is None:
        return _no_such(rest)
    if not containers.runs(record):
        return refuse(f"Error response from daemon: container {record['id']} is not running", 1)
    if (code := _no_terminal(options)) is not None:
        return code
    if len(rest) == 1:
        return refuse('"docker exec" requires at least 2 arguments.', 1)
    directory = options.get("--workdir", [record["workdir"] or str(containers.root() / "root")])
    containers.go_to(directory[-1])
    env = containers.environment_of(record) | _environment(options)
    if is_set(options, "--tty"):
        env |= {"TERM": variable("TERM")}
    if not is_set(options, "--interactive"):
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        become(rest[1:], env)
    except OSError:
        return refuse(f'{_OCI} "{rest[1]}": executable file not found in $PATH', _NOT_FOUND)


def _inspected(words: list[str], kind: str = "") -> int:
    options, names = parsed(["--format" if word == "-f" else word for word in words])
    kind = options.get("--type", [kind])[-1]
    code, shown = 0, []
    for name in names:
        document = _document(name, kind)
        if document is None:
            what = kind or "object"
            code = refuse(f"Error: No such {what}: {name}", 1)
        else:
            shown.append(document)
    if form := options.get("--format"):
        lines = [formatted(form[-1], document) for document in shown]
        if lines:
            say(*lines)
    else:
        say(json.dumps(shown, indent=4))
    return code


def _document(name: str, kind: str) -> dict[str, Any] | None:
    if kind != "image" and (record := containers.found(name)) is not None:
        return containers.shown(record)
    if kind != "container" and (id_ := containers.known("images").get(name)):
        return {"Id": id_, "RepoTags": [name], "Architecture": "amd64", "Os": "linux", "Size": 0}
    return None


def _info(words: list[str]) -> int:
    options, _ = parsed(["--format" if word == "-f" else word for word in words])
    facts = {
        "ServerVersion": "28.3.3",
        "Runtimes": {"nvidia": {"path": "nvidia-container-runtime"}, "runc": {"path": "runc"}},
        "DefaultRuntime": "runc",
        "Containers": len(containers.records()),
        "OperatingSystem": "gpubroker sandbox",
    }
    if form := options.get("--format"):
        return say(formatted(form[-1], facts))
    return say("Server:", " Server Version: 28.3.3", " Runtimes: nvidia runc")


def _boot(_words: list[str]) -> int:
    containers.boot()
    return 0


def _copy(words: list[str]) -> int:
    """Containers share the machine's folder: what is copied is there already, or goes there."""
    _, rest = parsed(words)
    if len(rest) != 2:  # noqa: PLR2004
        return refuse('"docker cp" requires exactly 2 arguments.', 1)
    places = []
    for word in rest:
        name, sign, path = word.partition(":")
        inside = sign and containers.found(name) is not None
        outer = path if inside else word
        if inside and not outer.startswith(str(containers.root())):
            outer = str(containers.root() / outer.lstrip("/"))
        places.append(outer)
    Path(places[1]).parent.mkdir(parents=True, exist_ok=True)
    return become(["cp", "-a", "--", *places])


_GROUPS = {"container", "image", "system"}
_COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "run": _run,
    "create": _create,
    "start": lambda words: _each(words, _start),
    "restart": lambda words: _each(words, _restart),
    "ps": _ps,
    "ls": _ps,
    "stop": _stop,
    "kill": lambda words: _each(words, lambda record: containers.end(record, 0.0)),
    "rm": _remove,
    "wait": _wait,
    "logs": _logs,
    "exec": _exec,
    "cp": _copy,
    "inspect": _inspected,
    "pull": docker_registry.pull,
    "images": docker_registry.images,
    "login": docker_registry.login,
    "logout": docker_registry.logout,
    "info": _info,
    "version": lambda _words: say("Client: 28.3.3", "Server: gpubroker sandbox 28.3.3"),
    "--version": lambda _words: say("Docker version 28.3.3, of the gpubroker sandbox"),
    "boot": _boot,
}


def main(argv: list[str]) -> int:
    """Answers one call; the exit code."""
    group = argv[0] if argv and argv[0] in _GROUPS else ""
    words = argv[1:] if group else argv
    if not words or words[0] not in _COMMANDS:
        return refuse(f"docker: the sandbox knows {', '.join(_COMMANDS)}", 1)
    if words[0] == "inspect":
        return _inspected(words[1:], group)
    return _COMMANDS["images" if group == "image" and words[0] == "ls" else words[0]](words[1:])
