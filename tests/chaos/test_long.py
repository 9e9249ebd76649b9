"""The long proof, run by `scripts/test --long` alone: it writes docs/crash-matrix.md."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpubroker.providers.registry import ready
from gpubroker.testing.chaos.kills import Row, at_every_boundary, at_random, killing, table, tallied
from gpubroker.testing.chaos.servers import Kept, kept

PAGE = os.environ.get("GPUBROKER_CRASH_MATRIX", "")
KILLS = int(os.environ.get("GPUBROKER_KILLS", "200"))
LAUNCHES = int(os.environ.get("GPUBROKER_LAUNCHES", "500"))
SERVED_S = float(os.environ.get("GPUBROKER_SERVED_S", "120"))
ROOT = Path(__file__).parents[2]
HEAD = """# Crash matrix

Written by `scripts/test --long` on {date}, at commit {commit}. {kills} kills by SIGKILL in
all, {wrong} of which left something wrong.

Each row is a boundary between two lasting effects. A process that lives a machine's whole life
(launch, extend, terminate) is killed there; the next process on the same store goes on. *Machines
at the kill* are those that existed at the cloud at that moment, *attempts unknown* those whose
outcome the next process had to find out. The end state is what it came to: the machine that was
wanted *running*, or everything *ended*. "Wrong" would be a machine billed that nobody wants, one
wanted that is not there, or anything that was made for a machine and is kept without it.

"At every boundary" is SIGKILL by the process's own hand, exactly there. "At any instant" is SIGKILL
from outside after a random time (the seed is the row's number); the row says which boundary was
passed last.
"""


@pytest.fixture(scope="module")
def page() -> list[str]:
    """Sections, in the order in which they are found out."""
    return []


@pytest.fixture(scope="module")
def all_rows() -> list[Row]:
    return []


pytestmark = pytest.mark.skipif(not PAGE, reason="only scripts/test --long takes that long")


@pytest.mark.parametrize("provider", ready())
@pytest.mark.parametrize("database", ["SQLite", "PostgreSQL"])
def test_kills(
    tmp_path: Path,
    postgres: str,
    page: list[str],
    all_rows: list[Row],
    provider: str,
    database: str,
) -> None:
    url = postgres if database == "PostgreSQL" else ""
    with killing(tmp_path, provider, database=url) as one:
        each = list(at_every_boundary(one))
        anywhere = list(at_random(one, KILLS, seed=len(page)))
    page.append(f"## {provider} on {database}: at every boundary\n\n{table(tallied(each))}\n")
    page.append(
        f"## {provider} on {database}: at any instant ({KILLS} kills)\n\n"
        f"{table(tallied(anywhere))}\n"
    )
    all_rows += each + anywhere
    _write(page, all_rows)
    assert [row for row in each + anywhere if row.problems] == []


@pytest.mark.parametrize("servers", [2, 4])
def test_servers(
    tmp_path: Path, postgres: str, page: list[str], all_rows: list[Row], servers: int
) -> None:
    found = kept(
        tmp_path, postgres, servers=servers, launches=LAUNCHES, seconds=SERVED_S, seed=servers
    )
    page.append(_told(servers, found))
    _write(page, all_rows)
    assert found.problems == ()
    assert found.billed == found.wanted


def _told(servers: int, found: Kept) -> str:
    shares = ", ".join(str(steps) for steps in found.steps[:12])
    return (
        f"## {servers} servers on one PostgreSQL\n\n"
        f"{LAUNCHES} launches, half of them given up again, {found.kills} servers killed within "
        f"{SERVED_S:.0f} s. At rest: wanted {found.wanted}, billed {found.billed}. Steps by "
        f"process, the busiest first: {shares}. Overlap (a launch with a machine too many): "
        f"{found.overlap_s:.0f} of {found.machine_s:.0f} machine-seconds.\n"
    )


def _write(page: list[str], rows: list[Row]) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    changed = subprocess.run(
        ["git", "status", "--porcelain", "src"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    head = HEAD.format(
        date=datetime.now(UTC).date(),
        commit=f"{commit} with changes" if changed else commit,
        kills=len(rows),
        wrong=sum(bool(row.problems) for row in rows),
    )
    Path(PAGE).write_text("\n".join([head, *page]))
