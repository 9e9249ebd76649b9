"""A fleet on an imaginary cloud, in no real time, that can crash and come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpubroker.fleet.context import Context, Probe
from gpubroker.fleet.errors import NoOfferMatches
from gpubroker.fleet.fleet import Fleet
from gpubroker.fleet.planning import plan
from gpubroker.fleet.requests import Event, LaunchRequest, Plan
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.machine import Machine
from gpubroker.model.offer import Offer
from gpubroker.providers.base import Provider
from gpubroker.store.opened import open_store
from gpubroker.store.rows import LaunchRow
from gpubroker.store.seal import Seal
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


def spec_of(request: LaunchRequest, planned: Plan) -> LaunchSpec:
    """What goes onto the machine."""
    return LaunchSpec(
        image=request.image,
        ssh_keys=("ssh-ed25519 AAAA first", "ssh-ed25519 BBBB second"),
        disk_gb=request.disk_gb,
        env={"TOKEN": "very-secret"},
        ports=request.ports,
        max_price=request.query.max_price,
        expires_at=planned.expires_at,
    )


class House:
    """One store and one cloud; any number of processes, one after the other."""

    def __init__(self, folder: Path, switches: Switches, postgres: str = "") -> None:
        self.cloud = FakeCloud(switches)
        self.events: list[Event] = []
        self.forgotten: list[str] = []
        self.plans: list[LaunchRequest] = []
        """Asked for by launches that are planned anew."""
        self.probe: Probe | None = None
        self.on_boundary: Callable[[str], None] = lambda _: None
        self._folder, self._postgres = folder, postgres
        self._opened: Store | None = None

    def open(self) -> Fleet:
        """A new process: every object is made again."""
        self.close()
        self.store = self._opened = self.another_store()
        return self.fleet_on(self.store)

    def another_store(self) -> Store:
        """The same state, opened by one more process."""
        if self._postgres:
            from gpubroker.store.postgres import PostgresDatabase

            return Store(PostgresDatabase(self._postgres, self._folder.name), "live")
        store = open_store(self._folder / "state.db", "live")
        # A process dies here, never the computer: nobody has to wait for the disk.
        store._db.execute("PRAGMA synchronous = OFF")
        return store

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
            planner=self.planned,
            timer_at=self.cloud.timer_at,
            run_boot=self.cloud.run_boot,
            idle_at=self.cloud.idle_at,
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
        planned = self._plan(list(self.cloud.stock.values()), request)
        return await fleet.launch(request, planned, spec_of(request, planned), name, wait=wait)

    async def launch_gang(
        self, fleet: Fleet, request: LaunchRequest, *, name: str = "train", wait: bool = True
    ) -> tuple[Machine, ...]:
        """As `launch`, of what is for sale now."""
        planned = await self.planned(request)
        spec = spec_of(request, planned)
        return await fleet.launch_gang(request, planned, spec, name, wait=wait)

    async def planned(self, request: LaunchRequest) -> Plan:
        """From what is for sale now, as the broker plans anew."""
        self.plans.append(request)
        stock = self.cloud.stock.values()
        offers = [offer for offer in stock if offer.key not in self.cloud.sold_out]
        if not offers:
            raise NoOfferMatches(0)
        return self._plan(offers, request)

    def _plan(self, offers: list[Offer], request: LaunchRequest) -> Plan:
        now = self.cloud.clock.now()
        fitting = [o for o in offers if o.gpu_count == 1]
        fitting = [o for o in fitting if request.query.market in {None, o.market}]
        fitting.sort(key=lambda offer: offer.price.compute)
        cooldowns = self.store.cooldowns(now.timestamp())
        return plan(fitting, request, disk_gb=20, total=len(fitting), now=now, cooldowns=cooldowns)

    def wanted(self) -> set[str]:
        """Attempts that should have a machine now."""
        return {
            attempt.id
            for launch in self.store.launches()
            if launch.wanted != "gone"
            for attempt in self.store.attempts(launch.id)
            if attempt.open and attempt.wanted == "running"
        }

    def fleet_row(self, name: str) -> LaunchRow:
        """A launch by its name."""
        [row] = [row for row in self.store.launches(include_ended=True) if row.name == name]
        return row

    def leaks(self) -> list[str]:
        return self.cloud.leaks(self.store.owner, self.wanted())


@pytest.fixture
def make_house(tmp_path: Path) -> Iterator[Callable[..., House]]:
    made: list[House] = []

    def make(*, postgres: str = "", **switches: object) -> House:
        folder = tmp_path / f"house_{len(made)}"
        folder.mkdir()
        made.append(House(folder, Switches(**switches), postgres))  # type: ignore[arg-type]  # by name
        return made[-1]

    yield make
    for house in made:
        house.close()


@pytest.fixture
def make_house_at() -> Callable[..., House]:
    """In a folder of the caller's, who closes it."""
    return lambda folder, **switches: House(folder, Switches(**switches))


@pytest.fixture
def house(make_house: Callable[..., House]) -> House:
    return make_house()
