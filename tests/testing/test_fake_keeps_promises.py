"""The imaginary cloud keeps the promises of a real one, whatever its switches say."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpubroker.model.terms import Carrier
from gpubroker.providers.base import Provider
from gpubroker.testing.conformance import Bench, Check, bills, checks_for, machines
from gpubroker.testing.fake_cloud import FakeCloud, FakeProvider, ManualClock, Switches

CLOUDS = (
    Switches(),
    Switches(carrier=Carrier.NAME, gone="tombstone", billing="manual", stop="none"),
    Switches(carrier=Carrier.TAG, gone="absent", list_lag_s=30.0, billing_lag_s=7200.0),
    Switches(carrier=Carrier.KEY_COMMENT, scoped=True, ssh_keys="registry", terminate_s=60.0),
    Switches(carrier=Carrier.UNIQUE_NAME, resume_id="new", billing="daily", async_create=True),
)
CHAPTERS = {*machines.CHECKS, *bills.CHECKS}
REAL_ONLY = {
    "machines of others are listed without an owner",  # the cloud plants them itself
    "nothing that was asked for is dropped",  # it has everything
}


class FakeBench(Bench):
    """At a FakeCloud, on its own clock."""

    abilities = frozenset({"machine", "many", "truth"})

    def __init__(self, switches: Switches, folder: Path) -> None:
        super().__init__()
        self.cloud = FakeCloud(switches, clock=ManualClock())
        self.clock, self.folder = self.cloud.clock, folder
        self._provider: Provider = FakeProvider(self.cloud)
        self.provider_class = type(self._provider)

    @property
    def provider(self) -> Provider:
        return self._provider

    def billed(self) -> frozenset[str]:
        return frozenset(machine.id for machine in self.cloud.billed())

    def charged(self, machine_id: str) -> int:
        found = [m for m in self.cloud.machines if m.id == machine_id]
        return self.cloud.charged(found[0])


def kind_of(switches: Switches) -> type[Provider]:
    return type(FakeProvider(FakeCloud(switches)))


PROMISES = [
    pytest.param(switches, check, id=f"{number}-{check}")
    for number, switches in enumerate(CLOUDS)
    for check in checks_for(kind_of(switches), FakeBench.abilities)
    if check in CHAPTERS and str(check) not in REAL_ONLY
]


@pytest.mark.parametrize(("switches", "check"), PROMISES)
async def test_it_keeps_the_promise(switches: Switches, check: Check, tmp_path: Path) -> None:
    await check(FakeBench(switches, tmp_path))
