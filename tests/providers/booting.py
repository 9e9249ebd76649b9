"""A folder that stands for a machine: its boot is really run, by stand-ins for docker and co."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

DEADLINE_S = 20.0
DOCKER = r"""#!/usr/bin/env python3
import json, os, subprocess, sys
argv, folder = sys.argv[1:], os.environ["CALLS"]
there = os.path.join(folder, "container")
record = {"argv": argv, "env": dict(os.environ)}
if argv[0] == "login" or argv[:2] == ["exec", "-i"] and "cat >" in argv[-1]:
    record["stdin"] = sys.stdin.read()
if "--env-file" in argv:
    with open(argv[argv.index("--env-file") + 1]) as file:
        record["env_file"] = file.read()
name = os.path.join(folder, f"{len(os.listdir(folder)):04}-{argv[0]}.json")
with open(name + ".new", "w") as file:
    json.dump(record, file)
os.rename(name + ".new", name)
if argv[0] == "run":
    open(there, "w").close()
if argv[0] == "inspect":
    sys.exit(not os.path.exists(there))
if argv[0] in os.environ.get("DOCKER_FAILS", "").split():
    sys.exit(1)
if argv[0] == "exec" and "stdin" not in record and "-d" not in argv:
    sys.exit(subprocess.run(argv[argv.index("gpubroker") + 1:]).returncode)
if argv[0] == "exec" and "stdin" in record:
    inside = argv[argv.index("gpubroker") + 1:]
    sys.exit(subprocess.run(inside, input=record["stdin"].encode()).returncode)
"""
GETENT = '#!/bin/sh\necho "$2:x:1000:1000::$HOME:/bin/bash"\n'


class StandIn:
    """One machine. `run` starts a text as its boot or as an SSH session does."""

    def __init__(self, folder: Path) -> None:
        self.home, self.bin, self.calls = folder / "ho me", folder / "bin", folder / "calls"
        self.root = folder
        for made in (self.home, self.bin, self.calls, folder / "tmp"):
            made.mkdir()
        self.state = self.home / ".gpubroker"
        self.command("docker", DOCKER)
        self.command("getent", GETENT)
        self.command("systemd-run", "#!/bin/sh\nexit 1\n")
        self.command("sudo", '#!/bin/sh\nshift\nexec "$@"\n')
        self.command("poweroff", f"#!/bin/sh\necho off >>'{folder}/power'\n")

    def command(self, name: str, text: str) -> None:
        """Puts a program first on the machine's PATH."""
        file = self.bin / name
        file.write_text(text)
        file.chmod(0o755)

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Built from nothing."""
        return {
            "HOME": str(self.home),
            "PATH": f"{self.bin}:/usr/sbin:/usr/bin:/sbin:/bin",
            "GPUBROKER_ROOT": str(self.root),
            "TMPDIR": str(self.root / "tmp"),
            "CALLS": str(self.calls),
            **(more or {}),
        }

    def boot(self, text: str, more: Mapping[str, str] | None = None) -> None:
        """As a cloud runs it: a file, by its first line."""
        file = self.root / "user-data"
        file.write_text(text)
        file.chmod(0o700)
        subprocess.run([str(file)], env=self.environment(more), check=True, timeout=DEADLINE_S)

    def over_ssh(self, script: str) -> int:
        """As the fleet does: on the standard input of a session's `sh`."""
        ran = subprocess.run(
            ["sh"],
            input=script.encode(),
            env=self.environment(),
            timeout=DEADLINE_S,
            check=False,
        )
        return ran.returncode

    def session(self, *argv: str) -> str:
        """What a command of an SSH session prints: its variables are /etc/environment's."""
        ran = subprocess.run(
            argv,
            env=self.environment(self.etc_environment()),
            capture_output=True,
            check=True,
            timeout=DEADLINE_S,
        )
        return ran.stdout.decode()

    def enter(self, command: str = "") -> subprocess.CompletedProcess[str]:
        """A login with a key that the boot admitted: the forced command of its first line."""
        first = (self.home / ".ssh" / "authorized_keys").read_text().partition("\n")[0]
        forced = first.removeprefix('command="').partition('" ')[0]
        return subprocess.run(
            ["sh", "-c", forced],
            env=self.environment({"SSH_ORIGINAL_COMMAND": command} if command else {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )

    def etc_environment(self) -> dict[str, str]:
        """As the strictest reader of that file takes it: `#` ends a line, quotes go."""
        found = {}
        file = self.root / "etc/environment"
        for line in file.read_text().split("\n") if file.exists() else ():
            assert len(line.encode()) < 1024
            name, sign, value = line.partition("#")[0].partition("=")
            if sign and value[:1] in {'"', "'"}:
                value = value[1:].removesuffix(value[0])
            if sign:
                found[name] = value
        return found

    def docker(self, verb: str) -> list[dict[str, Any]]:
        """What docker was asked for, in order."""
        files = sorted(self.calls.glob(f"*-{verb}.json"))
        return [json.loads(file.read_text()) for file in files]

    def container_env(self) -> dict[str, str]:
        """The variables that docker gave the container, as docker reads them."""
        (run,) = self.docker("run")
        lines = [line for line in run["env_file"].split("\n") if line]
        env = dict(line.split("=", 1) for line in lines)
        named = [run["argv"][i + 1] for i, word in enumerate(run["argv"]) if word == "-e"]
        pairs = (name.partition("=") for name in named)
        return env | {name: value if sign else run["env"][name] for name, sign, value in pairs}

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Waits for it; fails after a while."""
        deadline = time.monotonic() + DEADLINE_S
        while not holds():
            assert time.monotonic() < deadline, f"{what}: {self.log()}"
            time.sleep(0.02)

    def log(self) -> str:
        """What the boot said of itself."""
        file = self.state / "boot.log"
        return file.read_text() if file.exists() else ""

    def end(self) -> None:
        """Ends what still runs of it."""
        mark = f"GPUBROKER_ROOT={self.root}".encode()
        for entry in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                pid = int(entry.name)
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(pid, signal.SIGKILL)
