"""Clouds where gpubroker does not log in: said before a launch, in its answers and by `ssh`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpubroker.model.errors import Unsupported
from gpubroker.model.terms import Kind
from gpubroker.ssh_access import refuse_without_login

from .conftest import make_machine, make_offer

URL = "https://p8888--box--xyz.code.run"
EXEC = "northflank exec service --projectId project --serviceId box"


def northflank(**change: Any) -> Any:
    plain = {"provider": "northflank", "provider_id": "project/box", "ssh": None}
    return make_machine(**(plain | {"ports": {"8888/tcp": URL}} | change))


@pytest.fixture
def sold(world: Any) -> None:
    world.offers = (make_offer(provider="northflank", kind=Kind.CONTAINER), make_offer())


@pytest.mark.usefixtures("sold")
def test_a_search_marks_them(run: Any) -> None:
    told = run("offers").out.splitlines()
    assert [line for line in told if "northflank^" in line]
    assert not [line for line in told if "vast_ai^" in line or "vast^" in line]
    assert any("^ gpubroker does not log in there" in line for line in told)


def test_a_search_without_them_says_nothing(run: Any) -> None:
    assert "^" not in run("offers").out


@pytest.mark.usefixtures("sold")
def test_a_plan_tells_the_way_in_and_what_ports_and_idle_mean_there(run: Any) -> None:
    told = run(*"launch --gpu 4090 --port 8888 --idle 30m --dry-run".split()).out
    assert "At northflank: no SSH: `northflank exec service --projectId PROJECT" in told
    assert "At northflank a port is published for HTTP alone" in told
    assert "At northflank nothing sees whether a machine is idle" in told
    assert "At vast_ai" not in told
    plan = run(*"launch --gpu 4090 --dry-run --json".split()).json
    assert list(plan["ways_in"]) == ["northflank"]


def test_a_machine_without_ssh_shows_its_address_and_its_way_in(run: Any, world: Any) -> None:
    world.machines[None] = (northflank(),)
    assert run("ps").out.splitlines()[1].endswith(URL)
    told = run("show", "train-1").out
    assert EXEC in told
    assert f"8888/tcp at {URL}" in told
    assert EXEC in run("show", "train-1", "--json").json["way_in"]


def test_the_key_that_a_portal_wants_is_named_by_its_file(run: Any, world: Any) -> None:
    world.machines[None] = (make_machine(provider="salad", provider_id="box/1"),)
    told = run("show", "train-1").out
    assert str(world.ssh_folder / "gb-abcdef.pub") in told


def test_elsewhere_no_way_in_is_told(run: Any) -> None:
    assert "way in" not in run("show", "train-1").out
    assert run("show", "train-1", "--json").json["way_in"] == ""


def test_ssh_names_what_works_instead() -> None:
    with pytest.raises(Unsupported) as refused:
        refuse_without_login(northflank())
    assert EXEC in str(refused.value)
    assert URL in str(refused.value)
    refuse_without_login(make_machine())


def test_ssh_that_a_portal_refuses_names_the_key(
    run: Any, world: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 255\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    world.machines[None] = (make_machine(provider="salad", provider_id="box/1"),)
    ran = run("ssh", "train-1", "--", "true")
    assert ran.code == 125
    assert str(world.ssh_folder / "gb-abcdef.pub") in ran.err
