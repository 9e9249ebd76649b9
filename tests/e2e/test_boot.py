"""What is asked for at a launch is on the machine, whether a container or a VM that runs one."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

VALUE = 'it\'s $HOME `id` "x" # ü\nline two'


@pytest.mark.parametrize("cloud", ["vast_ai", "lambda_labs"])
def test_variables_script_and_login_arrive(person: Any, cloud: str) -> None:
    added = person.run(
        "registry", "add", "hub", "--sandbox", "--server", "ghcr.io", "--username", "me", code=None
    )
    assert added.returncode != 0, "without a password there is no login"
    noise = "".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(256))
    script = person.home / "start.sh"
    script.write_text(f'#!/bin/sh\n# {noise}\nprintf %s "$A" >~/out\n')
    launched = person.json(
        "launch", "--provider", cloud, "--ttl", "1h", "--name", "box", "--env", f"A={VALUE}",
        "--startup-script", str(script), "--image", "ghcr.io/me/it:1",
    )  # fmt: skip
    assert launched["name"] == "box"
    assert person.json("show", "box")["env"] == {"A": "***"}
    shown = person.run("ssh", "--sandbox", "box", "--", 'printf %s "$A"').stdout
    assert shown == VALUE
    wait = "n=0; until [ -s ~/out ] || [ $n -gt 100 ]; do sleep 0.1; n=$((n + 1)); done; cat ~/out"
    assert person.run("ssh", "--sandbox", "box", "--", wait).stdout == VALUE
    where = 'printf %s "${GPUBROKER_CONTAINER-vm}"'
    on_the_host = person.run("ssh", "--sandbox", "--host", "box", "--", where).stdout
    assert on_the_host == "vm"
    inside = person.run("ssh", "--sandbox", "box", "--", where).stdout
    assert inside == ("1" if cloud == "lambda_labs" else "vm")
