"""Two and four processes that keep one fleet on one PostgreSQL, and die all the time."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpubroker.testing.chaos.servers import Kept, kept


def shown(servers: int, found: Kept) -> None:
    print(
        f"\n{servers} servers, {found.kills} kills: wanted {found.wanted}, billed {found.billed}, "
        f"steps by process {found.steps}, overlap {found.overlap_s:.0f} of "
        f"{found.machine_s:.0f} machine-seconds"
    )


@pytest.mark.slow
@pytest.mark.parametrize("servers", [2, 4])
def test_servers_share_the_work_and_leave_nothing_behind(
    tmp_path: Path, postgres: str, servers: int
) -> None:
    found = kept(tmp_path, postgres, servers=servers, launches=40, seconds=8, seed=servers)
    shown(servers, found)
    assert found.problems == ()
    assert found.billed == found.wanted
    assert found.kills > 3
    assert len([steps for steps in found.steps if steps > 5]) >= servers
    # A create that was sent when its server died is looked for before another is sent.
    assert found.overlap_s <= 0.02 * found.machine_s
