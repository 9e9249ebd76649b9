"""A fleet on an imaginary cloud, in no real time, that can crash and come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpubroker.fleet.context import Context, Probe
from gpubroker.fleet.fleet import Fleet
from gpubroker.fleet.planning import plan
from gpubroker.fleet.requests import Event, LaunchRequest
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.machine import Machine
from gpubroker.providers.base import Provider
from gpubroker.store.seal import Seal
from gpubroker.store.opened import open_store
from gpubroker.store.store import Store
from gpubroker.testing.fake_cloud import FakeCloud, FakeProvider, Switches


class OneCloud:
    """The configured accounts of a test."""

    def __init__(self, cloud: FakeCloud) -> None:
        self._provider = FakeProvider(cloud)

    def provider(self, name: str, account: str) -> Provider:
        assert (name, account) == ("fake", "default")
        return self._provider

    def configured(self) -> tuple[tuple[str, str], ...]:
        return (("fake", "default"),)


class House:
    """One store and one cloud; any number of processes, one after the other."""

    def __init__(self, folder: Path, switches: Switches) -> None:
        self.cloud = FakeCloud(switches)
        self.events: list[Event] = []
        self.forgotten: list[str] = []
        self.probe: Probe | None = None
        self.on_boundary: Callable[[str], None] = lambda _: None
        self._folder = folder
        self._opened: Store | None = None

    def open(self) -> Fleet:
        """A new process: every object is made again."""
        self.close()
        self.store = self._opened = self.another_store()
        return self.fleet_on(self.store)

    def another_store(self) -> Store:
        """The same state, opened by one more process."""
        return open_store(self._folder / "state.db", "live")

    def fleet_on(self, store: Store) -> Fleet:
        """Of the process that opened this store."""
        context = Context(
            store,
            OneCloud(self.cloud),
            self.cloud.clock,
            Seal(self._folder / "secret.key", None),
            probe=self.probe,
            forget_host=self.forgotten.append,
            on_event=self.events.append,
            on_boundary=self.on_boundary,
        )
        return Fleet(context)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    async def launch(
        self,
        fleet: Fleet,
        request: LaunchRequest | None = None,
        *,
        name: str = "train-1",
        wait: bool = True,
    ) -> Machine:
        """The three dearest-last offers for one RTX 4090 are planned."""
        request = request or LaunchRequest(disk_gb=20)
        now = self.cloud.clock.now()
        offers = [offer for offer in self.cloud.stock.values() if offer.gpu_count == 1]
        offers.sort(key=lambda offer: offer.price.compute)
        cooldowns = self.store.cooldowns(now.timestamp())
        planned = plan(offers, request, disk_gb=20, total=len(offers), now=now, cooldowns=cooldowns)
        spec = LaunchSpec(
            ssh_keys=("ssh-ed25519 AAAA first", "ssh-ed25519 BBBB second"),
            disk_gb=request.disk_gb,
            env={"TOKEN": "very-secret"},
            max_price=request.query.max_price,
            expires_at=planned.expires_at,
        )
        return await fleet.launch(request, planned, spec, name, wait=wait)

    def wanted(self) -> set[str]:
        """Attempts that should have a machine now."""
        return {
            attempt.id
            for launch in self.store.launches()
            if launch.wanted != "gone"
            for attempt in self.store.attempts(launch.id)
            if attempt.open and attempt.wanted == "running"
        }

    def leaks(self) -> list[str]:
        return self.cloud.leaks(self.store.owner, self.wanted())


@pytest.fixture
def make_house(tmp_path: Path) -> Iterator[Callable[..., House]]:
    made: list[House] = []

    def make(**switches: object) -> House:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(House(folder, Switches(**switches)))  # type: ignore[arg-type]  # by name
        return made[-1]

    yield make
    for house in made:
        house.close()


@pytest.fixture
def house(make_house: Callable[..., House]) -> House:
    return make_house()
