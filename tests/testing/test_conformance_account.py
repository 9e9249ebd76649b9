"""The conformance run at a real account, against the sandbox as if it were one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpubroker.model.identity import Ref
from gpubroker.providers.registry import provider_class
from gpubroker.testing.conformance import SandboxBench, sandbox_bench
from gpubroker.testing.conformance.__main__ import tried

CAPS = ("--max-cost", "2.00", "--ttl", "20m")


@pytest.fixture
async def cloud(tmp_path: Path) -> AsyncIterator[SandboxBench]:
    async with sandbox_bench(provider_class("vast_ai"), tmp_path) as bench:
        yield bench


def never(_: str) -> str:
    raise AssertionError("nobody is to be asked")


async def test_it_says_what_it_costs_and_leaves_nothing(
    cloud: SandboxBench, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = iter(("yes",))
    code = await tried(
        ["vast", *CAPS, "--sandbox", cloud.sandbox.base_url],
        environ={},
        ask=lambda _: next(answers),
        clock=cloud.clock,
    )
    told = capsys.readouterr().out
    assert code == 0, told
    machines = cloud.sandbox.clouds["vast_ai"].machines
    assert len(machines) == 1
    assert cloud.billed() == frozenset()
    lines = told.splitlines()
    plan = next(number for number, line in enumerate(lines) if "at most" in line)
    assert "for 20 minutes and $" in lines[plan]
    assert all(line.startswith("kept") for line in lines[plan + 1 : -1])
    assert lines[-1] == "swept: nothing of this run is left"


async def test_without_yes_nothing_is_rented(cloud: SandboxBench) -> None:
    argv = ["vast", *CAPS, "--sandbox", cloud.sandbox.base_url]
    code = await tried(argv, environ={}, ask=lambda _: "y", clock=cloud.clock)
    assert code == 2
    assert cloud.sandbox.clouds["vast_ai"].machines == {}


@pytest.mark.parametrize("missing", ["--max-cost", "--ttl"])
async def test_it_refuses_without_a_cap(missing: str) -> None:
    at = CAPS.index(missing)
    argv = ["vast", *CAPS[:at], *CAPS[at + 2 :]]
    with pytest.raises(SystemExit) as ended:
        await tried(argv, environ={"VAST_API_KEY": "not-real"}, ask=never)
    assert ended.value.code == 2


@pytest.mark.parametrize(
    "caps",
    [("0", "20m"), ("-1", "20m"), ("51", "20m"), ("2", "7h"), ("2", "soon")],
)
async def test_it_refuses_a_cap_that_is_none(
    caps: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    most, ttl = caps
    argv = ["vast", f"--max-cost={most}", "--ttl", ttl, "--yes"]
    assert await tried(argv, environ={"VAST_API_KEY": "not-real"}, ask=never) == 2
    assert capsys.readouterr().out.startswith("refused: ")


async def test_it_refuses_where_everything_is_too_dear(cloud: SandboxBench) -> None:
    argv = ["vast", "--max-cost", "0.0001", "--ttl", "1h", "--yes"]
    argv += ["--sandbox", cloud.sandbox.base_url]
    assert await tried(argv, environ={}, ask=never, clock=cloud.clock) == 2
    assert cloud.sandbox.clouds["vast_ai"].machines == {}


async def test_a_broken_promise_is_named_and_the_machine_ended(
    cloud: SandboxBench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = provider_class("vast_ai")
    honest = kind.get

    async def forgetful(self: object, ref: Ref) -> object:
        from msgspec.structs import replace

        return replace(await honest(self, ref), owner=None)  # type: ignore[arg-type]  # the class's own

    monkeypatch.setattr(kind, "get", forgetful)
    argv = ["vast", *CAPS, "--yes", "--sandbox", cloud.sandbox.base_url]
    assert await tried(argv, environ={}, ask=never, clock=cloud.clock) == 1
    told = capsys.readouterr().out
    assert "BROKEN  a machine is the same wherever it is told" in told
    assert "get: owner is None" in told
    assert cloud.billed() == frozenset()


async def test_without_a_key_it_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    environ = {"HOME": str(tmp_path), "GPUBROKER_HOME": str(tmp_path / "state")}
    assert await tried(["vast", *CAPS, "--yes"], environ=environ, ask=never) == 2
    assert "no key for vast_ai" in capsys.readouterr().out
