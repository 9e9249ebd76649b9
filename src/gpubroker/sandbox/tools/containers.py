"""What docker of a sandbox VM keeps: containers, images, logins; and the processes behind them.

A container is one file, `docker/<name>.json` in the machine's folder, with what was asked for, and
a process that leads a session of its own. There is no image: without a command of its own a
container just waits.
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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .facts import alive, alive_in_group

Record = dict[str, Any]

KILLED, ENDED = 137, 143
_END_S = 5.0
_RESTARTED = ("always", "unless-stopped")
_KEEPER = """\
status=$1; policy=$2; shift 2
while :; do
  "$@"
  code=$?
  case $policy/$code in
    on-failure*/0|no/*) break;;
    always/*|unless-stopped/*|on-failure*/*) sleep 1;;
    *) break;;
  esac
done
echo $code >"$status"
"""
"""Leads the container's session: keeps how the command ended, and starts it again where told to."""
_HOST_VARIABLES = ("PATH", "LANG", "TMPDIR", "GPUBROKER_ROOT", "GPUBROKER_MACHINE", "SHELL")
"""A container sees nothing else of its machine's environment."""


def root() -> Path:
    """The machine's folder."""
    return Path(os.environ["GPUBROKER_ROOT"])


def folder() -> Path:
    """Where containers are kept."""
    found = root() / "docker"
    found.mkdir(exist_ok=True)
    return found


def _daemon(name: str) -> Path:
    kept = folder() / "daemon"
    kept.mkdir(exist_ok=True)
    return kept / f"{name}.json"


def known(name: str) -> dict[str, Any]:
    """The daemon's `images` or `logins`."""
    file = _daemon(name)
    kept: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return kept


def know(name: str, what: dict[str, Any]) -> None:
    """Keeps them."""
    _daemon(name).write_text(json.dumps(what))


def image_id(name: str) -> str:
    """Made from the name: the same on every machine."""
    return f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"


def records() -> list[Record]:
    """Every container."""
    return [json.loads(file.read_text()) for file in sorted(folder().glob("*.json"))]


def found(name: str) -> Record | None:
    """By name or by the beginning of the id."""
    name = name.removeprefix("/")
    return next((r for r in records() if name == r["name"] or r["id"].startswith(name)), None)


def keep(record: Record) -> None:
    """Writes it at once."""
    fresh = folder() / f"{record['name']}.new"
    fresh.write_text(json.dumps(record))
    fresh.replace(folder() / f"{record['name']}.json")


def forget(record: Record) -> None:
    """The container and its log."""
    for ending in ("json", "log", "status"):
        (folder() / f"{record['name']}.{ending}").unlink(missing_ok=True)


def runs(record: Record) -> bool:
    """Whether its process is there."""
    over = record["exit_code"] is not None or _status(record).exists()
    return bool(record["pid"]) and not over and alive(record["pid"])


def exit_code(record: Record) -> int:
    """How it ended; 0 while it runs."""
    if record["exit_code"] is not None:
        return int(record["exit_code"])
    if runs(record):
        return 0
    with contextlib.suppress(OSError, ValueError):
        return int(_status(record).read_text())
    return KILLED


def _status(record: Record) -> Path:
    return folder() / f"{record['name']}.status"


def environment_of(record: Record) -> dict[str, str]:
    """All that a process of the container sees."""
    host = {name: os.environ[name] for name in _HOST_VARIABLES if name in os.environ}
    own = {"HOME": str(root() / "root"), "HOSTNAME": record["id"][:12], "USER": "root"}
    tools = host["PATH"]
    env: dict[str, str] = host | own | record["env"]
    # An image's PATH stands before the machine's, whose tools must be found all the same.
    return env if env["PATH"] == tools else env | {"PATH": f"{tools}:{env['PATH']}"}


def go_to(directory: str) -> None:
    """Into a working directory, made where it is missing, as docker makes it."""
    inside = Path(directory)
    if not directory.startswith(str(root())):
        inside = root() / directory.lstrip("/")
    inside.mkdir(parents=True, exist_ok=True)
    os.chdir(inside)


def start(record: Record, *, detached: bool = True) -> subprocess.Popen[bytes]:
    """Starts its command. Raises OSError where that cannot be run."""
    _status(record).unlink(missing_ok=True)
    argv = record["argv"]
    env = environment_of(record)
    if not any(os.access(Path(part) / argv[0], os.X_OK) for part in env["PATH"].split(":")):
        raise FileNotFoundError(argv[0])
    if record["workdir"]:
        go_to(record["workdir"])
    keeper = ["/bin/sh", "-c", _KEEPER, "sh", str(_status(record)), record["restart"]]
    with (folder() / f"{record['name']}.log").open("ab") as log:
        process = subprocess.Popen(
            [*keeper, *argv] if detached else argv,
            env=env,
            stdin=subprocess.DEVNULL if detached else None,
            stdout=log if detached else None,
            stderr=log if detached else None,
            start_new_session=detached,
        )
    keep({**record, "pid": process.pid, "exit_code": None, "started_at": now()})
    return process


def end(record: Record, wait_s: float = _END_S) -> None:
    """Asks it to end, then kills it."""
    if not runs(record):
        return
    code = ENDED
    for number, patience in ((signal.SIGTERM, wait_s), (signal.SIGKILL, _END_S)):
        with contextlib.suppress(OSError):
            os.killpg(record["pid"], number)
        deadline = time.monotonic() + patience
        while alive_in_group(record["pid"]) and time.monotonic() < deadline:
            time.sleep(0.02)
        if not alive_in_group(record["pid"]):
            break
        code = KILLED
    keep({**record, "exit_code": code, "stopped": True})


def boot() -> None:
    """What was told to restart with the machine does."""
    for record in records():
        if record["restart"] in _RESTARTED and not (
            record["restart"] == "unless-stopped" and record["stopped"]
        ):
            with contextlib.suppress(OSError):
                start({**record, "stopped": False})
        elif record["exit_code"] is None:
            keep({**record, "exit_code": KILLED})


def now() -> str:
    """As docker writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def shown(record: Record) -> dict[str, Any]:
    """As `docker inspect` tells it, in docker's own words."""
    alive = runs(record)
    created = record["pid"] == 0
    status = "running" if alive else "created" if created else "exited"
    ports = {
        f"{inner}/tcp": [{"HostIp": "0.0.0.0", "HostPort": outer}]  # noqa: S104  (docker's word)
        for outer, inner in record["ports"].items()
    }
    return {
        "Id": record["id"],
        "Name": f"/{record['name']}",
        "Created": record["created_at"],
        "Image": image_id(record["image"]),
        "Path": record["argv"][0],
        "Args": record["argv"][1:],
        "RestartCount": 0,
        "State": {
            "Status": status,
            "Running": alive,
            "Paused": False,
            "Restarting": False,
            "OOMKilled": False,
            "Dead": False,
            "Pid": record["pid"] if alive else 0,
            "ExitCode": exit_code(record),
            "Error": "",
            "StartedAt": record["started_at"],
        },
        "Config": {
            "Image": record["image"],
            "Env": [f"{name}={value}" for name, value in record["env"].items()],
            "Cmd": record["command"],
            "Entrypoint": record["entrypoint"] or None,
            "WorkingDir": record["workdir"],
            "User": "",
            "Labels": record["labels"],
            "Hostname": record["id"][:12],
        },
        "HostConfig": {
            "NetworkMode": record["network"],
            "RestartPolicy": {"Name": record["restart"], "MaximumRetryCount": 0},
            "PortBindings": ports,
        },
        "NetworkSettings": {"Ports": ports, "IPAddress": "172.17.0.2"},
    }


def refused_name(image: str) -> str | None:
    """Why an image cannot be pulled; None where it can. Hosts below `.invalid` do not exist."""
    host = image.partition("/")[0]
    if host.partition(":")[0].endswith(".invalid"):
        return f'Get "https://{host}/v2/": dial tcp: lookup {host}: no such host'
    return None


def pull(image: str) -> str | None:
    """Keeps that it is there; why not, otherwise."""
    why = refused_name(image)
    if why is None:
        know("images", {**known("images"), image: image_id(image)})
    else:
        sys.stderr.write(f"Error response from daemon: {why}\n")
    return why
