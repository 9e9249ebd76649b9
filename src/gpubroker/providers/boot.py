"""The one boot recipe: what a machine does at its start, as what its cloud takes.

`container_boot` serves clouds that rent containers, `vm_boot` those that rent VMs. Both are pure
and answer with a `Boot`. Shell text is written in `boot_text`, `boot_timer` and `boot_docker`,
nowhere else.

On the machine everything lies in `.gpubroker` of the login user's home, for root alone: `left`
(seconds until its expiry, as the timer last saw it), `until` (the same as a moment, which an
extension moves), `timer` (the timer's process), `startup` and `startup.log`, `command.log`,
`env.sh`, `boot.log`. The home is $HOME in a container, and what `getent passwd` says of the login
user on a VM. Paths that lie elsewhere (/etc/environment, /run/sshd) begin with $GPUBROKER_ROOT,
which is unset on real machines.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from datetime import datetime
from typing import Literal

from msgspec import Struct

from gpubroker.model.launch import LaunchSpec
from gpubroker.providers import boot_docker, boot_timer
from gpubroker.providers import boot_text as shell

_WIDEST = 10**10 - 1
"""Seconds with as many digits as any."""


class Boot(Struct, frozen=True):
    """What a machine does at its start. Both texts hold secrets, so neither stands in a repr."""

    text: str
    """What the cloud is given, a `#!` line first; "" where it can be given nothing."""
    after: str = ""
    """A script that the fleet runs over SSH, as the login user, before the machine is ready.

    "" where `text` holds everything. May be run again: what was done is not done twice.
    """

    def __repr__(self) -> str:
        return f"Boot({len(self.text)} characters, {len(self.after)} afterwards)"


def seconds_left(spec: LaunchSpec, now: datetime) -> float | None:
    """Until the expiry, for the timer on the machine; None where it has none."""
    return None if spec.expires_at is None else (spec.expires_at - now).total_seconds()


def rearmed(seconds_left: float | None) -> str:
    """For `HOST_MARKER sh` over SSH: moves the timer's end, and tells it. See `timer_told`."""
    return boot_timer.rearmed(None if seconds_left is None else max(0, math.ceil(seconds_left)))


def timer_told(output: str) -> float | None:
    """Seconds until the machine's timer ends it, None where none runs, by what `rearmed` printed.

    Raises ValueError where it did not come to its end.
    """
    for line in output.splitlines():
        if line.startswith(boot_timer.TIMER_SAYS):
            word = line.removeprefix(boot_timer.TIMER_SAYS).strip()
            return None if word == "none" else float(word)
    raise ValueError("the machine did not tell how its timer stands")


def secrets_of(spec: LaunchSpec) -> tuple[str, ...]:
    """What no log or error may show of a request that carries a boot's text or the variables."""
    password = (spec.registry_auth.password,) if spec.registry_auth else ()
    command = (spec.command,) if spec.command else ()
    script = (spec.startup_script,) if spec.startup_script else ()
    return (*spec.env.values(), *password, *script, *command)


def web_call(method: str, url: str, token: str) -> str:
    """Shell text that sends `{}` by curl, Python or wget, whichever the image has.

    `url` may name variables of the shell; `token` names the one that holds the bearer token, which
    stands in no process list.
    """
    return boot_timer.web_call(method, url, token)


def as_line(text: str) -> str:
    """The text as one shell line of plain ASCII, for clouds that take a list of commands."""
    return f"echo {base64.b64encode(text.encode()).decode()} | base64 -d | bash"


def as_arguments(text: str, longest: int) -> list[str]:
    """A program and its arguments of plain ASCII that run the text, none longer than `longest`."""
    coded = base64.b64encode(text.encode()).decode()
    parts = [coded[at : at + longest] for at in range(0, len(coded), longest)]
    return ["/bin/sh", "-c", 'IFS=; printf %s "$*" | base64 -d | /bin/sh', "sh", *parts]


def container_boot(
    spec: LaunchSpec,
    *,
    limit: int,
    seconds_left: float | None,
    end: str,
    sessions_see_env: bool = True,
    sshd: Literal["vendor", "keys", "recipe"] = "vendor",
    then: str = "",
) -> Boot:
    """The start of a container whose cloud gives it the image, `env` and ports natively.

    `limit`: bytes of the longest text that the cloud takes. `end`: shell text of the expiry's
    timer, run as root, repeated each minute until the container is gone. `sessions_see_env`:
    whether the cloud's SSH sessions see the variables that it was given; where not, they are
    written to /etc/environment, and what that file cannot hold (several lines, `#`, more than
    900 bytes) to a file that bash and login shells read. `sshd`: "vendor" where the cloud or the
    image starts an SSH server beside the text; "keys" where that one knows the account's keys
    alone, so that the text admits `spec.ssh_keys`; "recipe" where the text must do so and install
    the server (apt-get, dnf or apk, where the image has none). `then`: the shell line at the text's
    end where the text is the container's main process: `exec /start.sh`, `exec tail -f /dev/null`;
    "" where the container lives on without it.

    Startup script (by its own `#!` line, else bash or sh) and command run beside SSH at every
    start of the container, one after the other, with all variables set.
    """
    recipe = sshd == "recipe"
    entrance = {
        "vendor": "",
        "keys": shell.admitted(spec, forced=False),
        "recipe": shell.ssh_server(spec),
    }
    sessions = shell.session_variables(spec) if recipe or not sessions_see_env else ""
    return _fitted(
        shell.container_head(),
        lambda left: boot_timer.timer(left, end) + entrance[sshd],
        sessions + shell.work_on_machine(spec),
        limit,
        seconds_left,
        start=shell.CONTAINER_START,
        then=then,
        over_ssh=shell.over_ssh,
    )


def vm_boot(
    spec: LaunchSpec,
    *,
    limit: int,
    seconds_left: float | None,
    user: str,
    end: str = "poweroff",
    gpus: Literal["nvidia", "amd", "none"] = "nvidia",
) -> Boot:
    """The start of a VM: one bash script that cloud-init, or any plain root script, runs.

    `limit`: bytes of the longest text that the cloud takes, before it encodes it; 0 where it takes
    none: all is `after` then. `user`: the login user, in whose authorized_keys `spec.ssh_keys` are
    put first; of several names ("shadeform ubuntu root") the first that the machine has. `end`:
    what the timer runs at the expiry; "": it only warns who is logged in. `gpus`: how Docker hands
    them on.

    With `spec.image`: Docker, which the VM's image must bring, logs in where there is
    `registry_auth`, pulls, logs out, and runs the image with all GPUs, the variables and the
    published ports; startup script and command run in the container, and SSH lands there. Until
    then an SSH command exits with NOT_READY. Without: both run on the VM, as root, with the
    variables, which SSH sessions see too.

    scp, sftp and rsync work where the container has `sftp-server` (else the VM's own is copied
    there, which needs a C library as new), and rsync; forwarded ports are the VM's own.
    """
    if spec.image:
        body = boot_docker.entrance() + shell.admitted(spec, forced=True)
        body += boot_docker.work_in_container(spec, gpus)
    else:
        body = shell.admitted(spec, forced=False) + shell.session_variables(spec)
        body += shell.work_on_machine(spec)
    return _fitted(
        shell.vm_head(user),
        lambda left: boot_timer.timer(left, end, unit=True),
        body,
        limit,
        seconds_left,
        start=shell.VM_START,
        then="",
        over_ssh=shell.over_ssh_as_root,
    )


def _fitted(
    head: str,
    timer: Callable[[int | None], str],
    body: str,
    limit: int,
    seconds: float | None,
    *,
    start: str,
    then: str,
    over_ssh: Callable[[str], str],
) -> Boot:
    """All in the text, else the body compressed, else the body afterwards, else everything."""
    left = None if seconds is None else max(0, math.ceil(seconds))
    # What fits must not depend on the time that is left: it is asked again later.
    widest = timer(None if left is None else _WIDEST)
    ending = f"{then}\n" if then else ""
    for middle, after in ((body, ""), (shell.packed(body), ""), (shell.LATER, body)):
        if len(f"{head}{start}{widest}{middle}{ending}".encode()) <= limit:
            later = over_ssh(head + shell.kept(after)) if after else ""
            return Boot(head + start + timer(left) + middle + ending, later)
    return Boot("", over_ssh(head + timer(left) + body))
