"""A broker without clouds or store, put where the command line opens the real one."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, NamedTuple, Self

import pytest

from gpubroker.cli import session as sessions
from gpubroker.cli.main import invoke
from gpubroker.fleet.errors import NoOfferMatches, NothingToBeHad, UnknownName
from gpubroker.fleet.keeping import Round
from gpubroker.fleet.requests import Event, LaunchRequest, Plan, PlannedOffer, Stray, SweepReport
from gpubroker.market.results import NearMiss, Removed, SearchResult, SourceReport
from gpubroker.model.bill import Bill, BillCheck
from gpubroker.model.budget import Budget, BudgetReport, BudgetShare
from gpubroker.model.costs import NOTHING_SPENT, Costs
from gpubroker.model.gpu import Gpu, GpuModel
from gpubroker.model.identity import Ref
from gpubroker.model.instance import Endpoint
from gpubroker.model.launch import RegistryLogin
from gpubroker.model.machine import Machine, Try
from gpubroker.model.money import Nanos, nanos
from gpubroker.model.notices import ChannelReport, Warned
from gpubroker.model.offer import Offer, Price
from gpubroker.model.query import Query
from gpubroker.model.reports import Check, Login, ProviderInfo
from gpubroker.model.terms import Availability, Expiry, Kind, Market, Source, State

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUz4Zsd3WJrtzfZ6GdHk1vYHJhJ8m5n0c5h7o9Qm3fX me"


def make_offer(**change: Any) -> Offer:
    """An RTX 4090 of Vast.ai at $0.312/h."""
    plain: dict[str, Any] = {
        "provider": "vast_ai",
        "account": "default",
        "key": "12345",
        "gpu": Gpu("RTX 4090", "RTX 4090", 24.0, vendor="nvidia"),
        "gpu_count": 1,
        "kind": Kind.CONTAINER,
        "market": Market.SPOT,
        "vcpus": 16.0,
        "ram_gb": 64.0,
        "region": "California, US",
        "country": "US",
        "area": "US-West",
        "price": Price(compute=nanos(0.312)),
        "availability": Availability.YES,
        "reliability": 0.98,
        "source": Source.LIVE,
        "fetched_at": NOW - timedelta(seconds=12),
    }
    return Offer(**(plain | change))


def make_machine(**change: Any) -> Machine:
    """`train-1`, ready, at Vast.ai."""
    plain: dict[str, Any] = {
        "launch_id": "l-abc",
        "name": "train-1",
        "realm": "live",
        "provider": "vast_ai",
        "account": "default",
        "provider_id": "998",
        "state": State.RUNNING,
        "wanted": "running",
        "phase": "ready",
        "gpu": Gpu("RTX 4090", "RTX 4090", 24.0, vendor="nvidia"),
        "gpu_count": 1,
        "market": Market.SPOT,
        "region": "California, US",
        "price": nanos(0.34),
        "price_stopped": nanos(0.02),
        "created_at": NOW - timedelta(hours=1),
        "started_at": NOW - timedelta(minutes=58),
        "expires_at": NOW + timedelta(hours=23),
        "expiry": Expiry.CONTROLLER_ONLY,
        "ssh": Endpoint("127.0.0.1", 2222, "root"),
        "host_key_alias": "gb-abcdef-abcdefghijklmnop",
        "ports": {"8888/tcp": "127.0.0.1:40001", "80/tcp": "https://x.example"},
        "cost_so_far": nanos(0.41),
        "bill": Bill(status="running"),
        "tries": (
            Try(
                attempt="a1",
                offer_id="vast_12345",
                provider="vast_ai",
                outcome="refused",
                reason="taken by somebody else",
                error_code="no_capacity",
                price=nanos(0.312),
            ),
        ),
    }
    told = plain | change
    return Machine(**({"ends_at": told["expires_at"]} | told))


def make_budget(**change: Any) -> BudgetReport:
    """`thesis`: $50 in all, a fifth of it spent by `train-1`."""
    plain: dict[str, Any] = {"name": "thesis", "amount": nanos(50), "created_at": NOW}
    return BudgetReport(
        budget=Budget(**(plain | change)),
        since=NOW - timedelta(days=2),
        until=None,
        spent=nanos(10),
        committed=nanos(14.5),
        burn=nanos(0.5),
        used_up_at=NOW + timedelta(hours=80),
        reached=None,
        shares=(
            BudgetShare(
                launch_id="l-abc",
                name="train-1",
                spent=nanos(10),
                to_come=nanos(4.5),
                burn=nanos(0.5),
            ),
        ),
    )


def make_warning(number: int = 1, **change: Any) -> Warned:
    """That `train-1` ends soon."""
    plain: dict[str, Any] = {
        "id": number,
        "at": NOW - timedelta(minutes=1),
        "kind": "expiring",
        "severity": "warning",
        "name": "train-1",
        "launch_id": "l-abc",
        "text": f"train-1 ends in {number}m, unless it is extended",
        "data": {},
    }
    return Warned(**(plain | change))


class FakeBroker:
    """Answers of a facade; `world` says which, and records what was asked."""

    def __init__(
        self, world: World, url: str | None, on_event: Callable[[Event], None] | None
    ) -> None:
        self.world, self.url = world, url
        self._tell = on_event or (lambda _: None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.world.closed += 1

    def _asked(self, verb: str, *details: Any) -> None:
        self.world.asked.append((verb, self.url, *details))
        if error := self.world.fails.get(verb):
            raise error

    def search_known(self, query: Query, **how: Any) -> SearchResult | None:
        return None

    async def search(self, query: Query, **how: Any) -> SearchResult:
        self._asked("search", query, how)
        return self.world.result()

    async def plan(self, request: LaunchRequest) -> Plan:
        self._asked("plan", request)
        if not self.world.offers and request.retry_for is None:
            raise NoOfferMatches(10)
        ranked = tuple(
            PlannedOffer(
                offer=offer,
                offer_id=f"vast_{offer.key}",
                price=offer.price.compute,
                reason="best by the chosen order",
            )
            for offer in self.world.offers
        )
        most = None if request.ttl is None else nanos(1.36)
        expires = None if request.ttl is None else NOW + request.ttl
        return Plan(
            ranked=ranked,
            most=most,
            expires_at=expires,
            total=len(ranked),
            ended_by=self.world.ended_by,
            kept_by=self.world.kept_by,
        )

    def ssh_folder(self) -> Path:
        return self.world.ssh_folder

    async def launch(
        self, request: LaunchRequest, *, plan: Plan | None = None, wait: bool = True
    ) -> Machine:
        self._asked("launch", request, plan, wait)
        for kind, data in (
            ("attempt_started", {"provider": "vast_ai", "offer": "12345", "price": 312_000_000}),
            ("attempt_refused", {"provider": "vast_ai", "offer": "12345", "reason": "taken"}),
            ("bookkeeping", {}),
            ("ready", {"detail": "RTX 4090 24 GB"}),
        ):
            self._tell(Event(at=NOW, kind=kind, name="train-1", data=data))
        return make_machine()

    async def launch_gang(
        self, request: LaunchRequest, *, plan: Plan | None = None, wait: bool = True
    ) -> tuple[Machine, ...]:
        self._asked("launch_gang", request, plan, wait)
        name = request.name or "rtx-4090-1"
        numbers = range(1, request.nodes + 1)
        return tuple(make_machine(name=f"{name}-{number}", gang=name) for number in numbers)

    def machines(self, *, include_ended: bool = False) -> tuple[Machine, ...]:
        self._asked("machines", include_ended)
        found = self.world.machines.get(self.url, ())
        return tuple(m for m in found if include_ended or m.ended_at is None)

    def due(self) -> bool:
        return self.world.due

    async def settle(self) -> tuple[str, ...]:
        self._asked("settle")
        return ("vast_ai does not answer",)

    def _known(self, name: str) -> Machine:
        for machine in self.world.machines.get(self.url, ()):
            if name in {machine.name, machine.launch_id, f"vast_{machine.provider_id}"}:
                return machine
        raise UnknownName(name)

    async def show(self, name: str) -> Machine:
        self._asked("show", name)
        return self._known(name)

    async def endpoint(self, name: str) -> Machine:
        self._asked("endpoint", name)
        return self._known(name)

    async def extend_gang(self, name: str, **how: Any) -> tuple[Machine, ...]:
        self._asked("extend", name, how)
        return (self.world.extended or self._known(name),)

    def kept_by(self) -> tuple[str, ...]:
        return self.world.kept_by

    async def keep(self, *, rounds: int | None = None, on_round: Any = None) -> None:
        self._asked("keep", rounds)
        self._tell(Event(at=NOW, kind="expired", name="train-1"))
        self._tell(Event(at=NOW, kind="waiting", name="train-1", data={"what": "nothing"}))
        for problems in self.world.rounds:
            on_round(Round(due=0, problems=problems))

    async def stop(self, name: str) -> Machine:
        self._asked("stop", name)
        return make_machine(name=name, state=State.STOPPED, wanted="stopped")

    async def start(self, name: str) -> Machine:
        self._asked("start", name)
        return self._known(name)

    async def terminate(self, *names: str) -> tuple[Machine, ...]:
        self._asked("terminate", *names)
        bill = Bill(status="ended", amount=nanos(0.43))
        return tuple(make_machine(name=name, ended_at=NOW, bill=bill) for name in names)

    async def sweep(self, *, fix: bool = False, owner: str | None = None) -> SweepReport:
        self._asked("sweep", fix, owner)
        orphan = Stray(
            provider="vast_ai",
            account="default",
            ref=Ref("vast_ai", "default", "", "998"),
            name="gb-abcdef-abcdefghijklmnop",
            owner="abcdef",
            gpu="RTX 3090",
            state=State.RUNNING,
            price=nanos(0.21),
            since=NOW - timedelta(hours=3),
            cost=nanos(0.63),
            why="wanted by nothing",
        )
        return SweepReport(
            ours=(make_machine(),),
            orphans=(orphan,),
            ghosts=(make_machine(name="ghost-1"),),
            foreign=(),
            errors=self.world.sweep_errors,
            fixed=fix,
        )

    async def adopt(self, provider: str, id: str, **how: Any) -> Machine:
        self._asked("adopt", provider, id, how)
        return make_machine(name=how["name"] or "adopted-vast-ai-1")

    async def bill(self, name: str) -> tuple[BillCheck, ...]:
        self._asked("bill", name)
        return self.world.bills

    def costs(self, *, since: datetime | None = None) -> Costs:
        self._asked("costs", since)
        return self.world.costs

    async def doctor(self) -> tuple[Check, ...]:
        self._asked("doctor")
        return self.world.checks

    def providers(self) -> tuple[ProviderInfo, ...]:
        self._asked("providers")
        return (
            ProviderInfo(
                name="vast_ai",
                display_name="Vast.ai",
                website="https://vast.ai/",
                configured=False,
                key_variable=None,
                variables=("VAST_AI_API_KEY",),
                capabilities=None,
                health="unknown",
                status="ready",
            ),
        )

    async def login(self, provider: str, account: str = "default", **how: Any) -> Login:
        self._asked("login", provider, account, how)
        return Login(
            provider=provider,
            account=account,
            uid="42",
            balance=nanos(12.5),
            stored="/home/me/credentials",
            overruled_by=self.world.overruled_by,
        )

    def logout(self, provider: str, account: str = "default") -> bool:
        self._asked("logout", provider, account)
        return self.world.has_key

    def budgets(self) -> tuple[BudgetReport, ...]:
        self._asked("budgets")
        return self.world.budgets

    def set_budget(self, name: str, amount: Nanos, **how: Any) -> BudgetReport:
        self._asked("set_budget", name, amount, how)
        return make_budget(name=name, amount=amount, **{k: how[k] for k in ("period", "hard")})

    def remove_budget(self, name: str) -> None:
        self._asked("remove_budget", name)

    def warnings(self) -> tuple[Warned, ...]:
        return self.world.warnings

    def channels(self) -> tuple[ChannelReport, ...]:
        self._asked("channels")
        return self.world.channels

    async def test_channel(self, name: str) -> None:
        self._asked("test_channel", name)

    def variables(self, name: str) -> tuple[str, ...]:
        self._asked("variables", name)
        return ("HF_TOKEN",)

    def registries(self) -> tuple[RegistryLogin, ...]:
        self._asked("registries")
        return (RegistryLogin("hub", "ghcr.io", "me", NOW),)

    def add_registry(
        self, name: str, *, server: str, username: str, password: str
    ) -> RegistryLogin:
        self._asked("add_registry", name, server, username, password)
        return RegistryLogin(name, server, username, NOW)

    def remove_registry(self, name: str) -> None:
        self._asked("remove_registry", name)

    def set_channel_secret(self, name: str, secret: str) -> str:
        self._asked("set_channel_secret", name, secret)
        return "/home/me/credentials"

    def gpus(self) -> tuple[GpuModel, ...]:
        self._asked("gpus")
        from gpubroker.catalog.gpus import models

        return models()


class World:
    """What the fake broker answers with."""

    def __init__(self, ssh_folder: Path) -> None:
        self.ssh_folder = ssh_folder
        self.offers: tuple[Offer, ...] = (make_offer(),)
        self.machines: dict[str | None, tuple[Machine, ...]] = {None: (make_machine(),)}
        self.fails: dict[str, Exception] = {}
        self.sweep_errors: dict[str, str] = {}
        self.bills: tuple[BillCheck, ...] = ()
        self.costs = Costs(since=None, until=NOW, total=NOTHING_SPENT, by={})
        self.checks: tuple[Check, ...] = (
            Check(provider="vast_ai", what="key", ok=True, detail="accepted", fix=""),
        )
        self.budgets: tuple[BudgetReport, ...] = (make_budget(),)
        self.warnings: tuple[Warned, ...] = ()
        self.channels: tuple[ChannelReport, ...] = ()
        self.due = False
        self.extended: Machine | None = None
        self.kept_by: tuple[str, ...] = ()
        self.ended_by = {"vast_ai": Expiry.CONTROLLER_ONLY}
        self.rounds: tuple[tuple[str, ...], ...] = ((),)
        self.has_key = True
        self.overruled_by = ""
        self.closed = 0
        self.asked: list[tuple[Any, ...]] = []

    def result(self) -> SearchResult:
        """Of `offers`."""
        prices = sorted(offer.price.compute for offer in self.offers)
        return SearchResult(
            offers=self.offers,
            total=len(self.offers),
            scanned=4120,
            sources={
                "vast_ai": SourceReport(
                    status="live", as_of=NOW, offers=3, complete=True, needs_key=True
                ),
                "lambda_labs": SourceReport(
                    status="error", as_of=None, error="503", offers=0, complete=False
                ),
            },
            funnel=(Removed("GPU RTX 4090", 31, {"vast_ai": 31}),),
            nearest=()
            if self.offers
            else (NearMiss("raise --max-price to $14.32", 2, nanos(14.32), "vast_1"),),
            median=Nanos(prices[len(prices) // 2]) if prices else None,
            now=NOW,
            disk_gb=20.0,
        )

    def verbs(self) -> list[str]:
        """What was asked of the broker, in order."""
        return [asked[0] for asked in self.asked]

    def last(self, verb: str) -> tuple[Any, ...]:
        """Details of the last such question: (realm's address, …)."""
        return next(asked[1:] for asked in reversed(self.asked) if asked[0] == verb)


class Ran(NamedTuple):
    """A finished command line."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document of stdout."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The failure that --json tells on stderr: its last line."""
        told: dict[str, Any] = json.loads(self.err.splitlines()[-1])["error"]
        return told


Runner = Callable[..., Ran]
RUNNING = SimpleNamespace(
    base_url="http://127.0.0.1:9999", id="abc", pid=1, port=9999, token="t", started=NOW
)


class FakeDaemon:
    """The background sandbox: whether it runs, and how often it was started."""

    def __init__(self) -> None:
        self.running = False
        self.started = 0

    def ensure(self, _home: Any) -> Any:
        self.started += not self.running
        self.running = True
        return RUNNING

    def status(self, _home: Any) -> Any:
        return RUNNING if self.running else None

    def stop(self, _home: Any) -> bool:
        was, self.running = self.running, False
        return was


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    """The fake clouds, in place of the broker."""
    made = World(tmp_path / "ssh")
    monkeypatch.setattr(sessions, "realm_time", lambda _url: NOW)
    monkeypatch.setattr(
        sessions, "open_broker", lambda _session, url, on_event: FakeBroker(made, url, on_event)
    )
    return made


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    """In place of the module that keeps the background sandbox."""
    fake = FakeDaemon()
    monkeypatch.setitem(sys.modules, "gpubroker.sandbox.daemon", fake)
    monkeypatch.setattr("gpubroker.sandbox.daemon", fake, raising=False)
    return fake


@pytest.fixture
def run(
    world: World,
    daemon: FakeDaemon,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Runner:
    """Runs a command line without a terminal, with standard input at its end."""

    def call(*argv: str, **environ: str) -> Ran:
        monkeypatch.setattr(sys, "stdin", io.StringIO(""))
        code = invoke(list(argv), {"GPUBROKER_HOME": str(tmp_path / "home"), **environ})
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    del world, daemon
    return call


@pytest.fixture
def tries() -> NothingToBeHad:
    """A launch that found nothing."""
    return NothingToBeHad(make_machine().tries)
