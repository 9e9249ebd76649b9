"""cloud-init of a sandbox machine: does at its first boot what its user data ask for.

In cloud-init's order: boot commands, files, keys; then, with their output in
`/var/log/cloud-init-output.log`, deferred files, scripts and `runcmd`. All of it is done as root,
once in the machine's life; boot commands at every boot.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Awaitable, Callable, Sequence

from gpubroker.sandbox.authorized_keys import keep_lines
from gpubroker.sandbox.filesystem import inside, local_script, script_words
from gpubroker.sandbox.host import MachineSpec
from gpubroker.sandbox.shell import Layout, layout_of
from gpubroker.sandbox.user_data import BadUserData, FileWanted, FirstBoot, read

OUTPUT = "cloud-init-output"
"""Name of the log."""
_INSTANCE = "/var/lib/cloud/instance"
FINISHED = f"{_INSTANCE}/boot-finished"
"""There once the first boot is over: `cloud-init status --wait` waits for it."""

Run = Callable[[str, list[str]], Awaitable[int]]
"""Runs (log, command) in the machine as root; its exit status."""


class CloudInit:
    """Of one machine, at one boot."""

    def __init__(self, spec: MachineSpec) -> None:
        self._spec = spec
        self._layout = layout_of(spec)
        self._folder = inside(self._layout.root, _INSTANCE)
        self._first = not (self._folder / "sem").exists()
        self._problems: list[str] = []

    @property
    def first(self) -> bool:
        """Whether this is the machine's first boot."""
        return self._first

    def before_login(self) -> None:
        """What is done before anybody can log in: the cloud's own keys."""
        if self._first and self._spec.keys_in_home:
            keep_lines(self._layout, (), self._spec.keys)

    async def run(self, execute: Run) -> None:
        """The rest. A step that fails is told in the log and keeps no other from running."""
        plan = self._plan()
        for number, command in enumerate(plan.boot_commands):
            await self._script(execute, f"boot-{number:03}", _as_script([command]))
        if not self._first:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        # Marked before it is done: what a reboot cuts short is not done again.
        (self._folder / "sem").touch()
        self._write(plan.files, deferred=False)
        if plan.keys:
            keep_lines(self._layout, (), plan.keys)
        self._write(plan.files, deferred=True)
        self._tell([*plan.ignored, *self._problems])
        for number, script in enumerate(plan.scripts):
            await self._script(execute, f"part-{number + 1:03}", script)
        if plan.commands:
            await self._script(execute, "runcmd", _as_script(plan.commands))
        inside(self._layout.root, FINISHED).touch()

    def _plan(self) -> FirstBoot:
        try:
            return read(self._spec.user_data)
        except BadUserData as bad:
            return FirstBoot(ignored=[str(bad)])

    def _write(self, files: Sequence[FileWanted], *, deferred: bool) -> None:
        for file in files:
            if file.deferred == deferred:
                try:
                    _write_file(self._layout, file)
                except OSError as error:
                    self._problems.append(f"write_files: {file.path}: {error.strerror}")

    def _tell(self, lines: list[str]) -> None:
        log = self._layout.logs / f"{OUTPUT}.log"
        with os.fdopen(os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600), "a") as output:
            output.writelines(f"cloud-init: {line}\n" for line in lines)

    async def _script(self, execute: Run, name: str, text: bytes) -> None:
        file = self._folder / "scripts" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        local = local_script(text.decode(errors="replace"), self._layout.root, self._spec.user)
        file.write_text(local)
        file.chmod(0o700)
        # By its own first line; that of a plain text is the shell, as execve's ENOEXEC has it.
        status = await execute(OUTPUT, [*(script_words(local) or ["/bin/sh"]), str(file)])
        if status:
            self._tell([f"Failed running {name} [{status}]"])


def _as_script(commands: Sequence[str | list[str]]) -> bytes:
    lines = [c if isinstance(c, str) else shlex.join(c) for c in commands]
    return "\n".join(["#!/bin/sh", *lines, ""]).encode()


def _write_file(layout: Layout, file: FileWanted) -> None:
    target = inside(layout.root, file.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    content = file.content
    if content.startswith(b"#!"):
        text = local_script(content.decode(errors="replace"), layout.root, layout.user)
        content = text.encode()
    with target.open("ab" if file.append else "wb") as output:
        output.write(content)
    target.chmod(file.mode)
