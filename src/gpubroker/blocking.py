"""The blocking twin of Broker: one background thread with one event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar

from gpubroker.broker import Broker

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from types import TracebackType

    from gpubroker.fleet.keeping import Round
    from gpubroker.fleet.requests import Event, LaunchRequest, Plan, SweepReport
    from gpubroker.market.marketplace import Mode
    from gpubroker.market.results import SearchResult
    from gpubroker.model.bill import BillCheck
    from gpubroker.model.budget import BudgetReport, Period, Rung
    from gpubroker.model.costs import Costs
    from gpubroker.model.gpu import GpuModel
    from gpubroker.model.home import Home
    from gpubroker.model.launch import RegistryLogin
    from gpubroker.model.machine import Machine
    from gpubroker.model.money import Nanos
    from gpubroker.model.notices import ChannelReport, Warned
    from gpubroker.model.query import Query, SortKey
    from gpubroker.model.reports import Check, Login, ProviderInfo

T = TypeVar("T")


class BlockingBroker:
    """Broker for programs without an event loop. Use it as `with BlockingBroker() as broker`."""

    def __init__(
        self,
        *,
        home: Home | None = None,
        environ: Mapping[str, str] | None = None,
        sandbox: str | None = None,
        on_event: Callable[[Event], None] | None = None,
        on_boundary: Callable[[str], None] | None = None,
        trace_http: Callable[[str], None] | None = None,
    ) -> None:
        """As Broker. `on_event` and the other callbacks run on the background thread."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="gpubroker", daemon=True
        )
        self._thread.start()
        try:
            self._broker = self._on_thread(
                lambda: Broker(
                    home=home,
                    environ=environ,
                    sandbox=sandbox,
                    on_event=on_event,
                    on_boundary=on_boundary,
                    trace_http=trace_http,
                )
            )
        except BaseException:
            self._end_thread()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the store and all connections, and end the thread."""
        if not self._loop.is_closed():
            self._run(self._broker.aclose())
            self._end_thread()

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """The answer of a coroutine; an interrupt cancels it, so that it ends cleanly."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("BlockingBroker was called from its own callback")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def _on_thread(self, work: Callable[[], T]) -> T:
        """SQLite's connection lives on the one thread."""

        async def call() -> T:
            return work()

        return self._run(call())

    @property
    def realm(self) -> str:
        """Its name: live, or sandbox:<id>."""
        return self._broker.realm

    def search(
        self,
        query: Query,
        *,
        sort: SortKey = "price",
        descending: bool | None = None,
        limit: int | None = 20,
        mode: Mode = "auto",
        refresh_timeout_s: float = 3.0,
    ) -> SearchResult:
        """As Broker.search."""
        return self._run(
            self._broker.search(
                query,
                sort=sort,
                descending=descending,
                limit=limit,
                mode=mode,
                refresh_timeout_s=refresh_timeout_s,
            )
        )

    def search_known(
        self,
        query: Query,
        *,
        sort: SortKey = "price",
        descending: bool | None = None,
        limit: int | None = 20,
        mode: Mode = "auto",
    ) -> SearchResult | None:
        """As Broker.search_known."""
        return self._on_thread(
            lambda: self._broker.search_known(
                query, sort=sort, descending=descending, limit=limit, mode=mode
            )
        )

    def gpus(self) -> tuple[GpuModel, ...]:
        """As Broker.gpus."""
        return self._on_thread(self._broker.gpus)

    def providers(self) -> tuple[ProviderInfo, ...]:
        """As Broker.providers."""
        return self._on_thread(self._broker.providers)

    def plan(self, request: LaunchRequest) -> Plan:
        """As Broker.plan."""
        return self._run(self._broker.plan(request))

    def launch(
        self, request: LaunchRequest, *, plan: Plan | None = None, wait: bool = True
    ) -> Machine:
        """As Broker.launch."""
        return self._run(self._broker.launch(request, plan=plan, wait=wait))

    def launch_gang(
        self, request: LaunchRequest, *, plan: Plan | None = None, wait: bool = True
    ) -> tuple[Machine, ...]:
        """As Broker.launch_gang."""
        return self._run(self._broker.launch_gang(request, plan=plan, wait=wait))

    def machines(self, *, include_ended: bool = False) -> tuple[Machine, ...]:
        """As Broker.machines."""
        return self._on_thread(lambda: self._broker.machines(include_ended=include_ended))

    def due(self) -> bool:
        """As Broker.due."""
        return self._on_thread(self._broker.due)

    def settle(self) -> tuple[str, ...]:
        """As Broker.settle."""
        return self._run(self._broker.settle())

    def show(self, name: str) -> Machine:
        """As Broker.show."""
        return self._run(self._broker.show(name))

    def endpoint(self, name: str) -> Machine:
        """As Broker.endpoint."""
        return self._run(self._broker.endpoint(name))

    def extend(
        self, name: str, *, by: timedelta | None = None, until: datetime | None = None
    ) -> Machine:
        """As Broker.extend."""
        return self._run(self._broker.extend(name, by=by, until=until))

    def extend_gang(
        self, name: str, *, by: timedelta | None = None, until: datetime | None = None
    ) -> tuple[Machine, ...]:
        """As Broker.extend_gang."""
        return self._run(self._broker.extend_gang(name, by=by, until=until))

    def kept_by(self) -> tuple[str, ...]:
        """As Broker.kept_by."""
        return self._on_thread(self._broker.kept_by)

    def keep(
        self, *, rounds: int | None = None, on_round: Callable[[Round], None] | None = None
    ) -> None:
        """As Broker.keep."""
        self._run(self._broker.keep(rounds=rounds, on_round=on_round))

    def stop(self, name: str) -> Machine:
        """As Broker.stop."""
        return self._run(self._broker.stop(name))

    def start(self, name: str) -> Machine:
        """As Broker.start."""
        return self._run(self._broker.start(name))

    def terminate(self, *names: str) -> tuple[Machine, ...]:
        """As Broker.terminate."""
        return self._run(self._broker.terminate(*names))

    def sweep(self, *, fix: bool = False, owner: str | None = None) -> SweepReport:
        """As Broker.sweep."""
        return self._run(self._broker.sweep(fix=fix, owner=owner))

    def adopt(
        self,
        provider: str,
        id: str,
        *,
        ttl: timedelta | None,
        no_expiry: bool = False,
        name: str | None = None,
        account: str | None = None,
        scope: str | None = None,
        owner: str | None = None,
        price: Nanos | None = None,
    ) -> Machine:
        """As Broker.adopt."""
        return self._run(
            self._broker.adopt(
                provider,
                id,
                ttl=ttl,
                no_expiry=no_expiry,
                name=name,
                account=account,
                scope=scope,
                owner=owner,
                price=price,
            )
        )

    def bill(self, name: str) -> tuple[BillCheck, ...]:
        """As Broker.bill."""
        return self._run(self._broker.bill(name))

    def costs(self, *, since: datetime | None = None) -> Costs:
        """As Broker.costs."""
        return self._on_thread(lambda: self._broker.costs(since=since))

    def doctor(self) -> tuple[Check, ...]:
        """As Broker.doctor."""
        return self._run(self._broker.doctor())

    def budgets(self) -> tuple[BudgetReport, ...]:
        """As Broker.budgets."""
        return self._on_thread(self._broker.budgets)

    def set_budget(
        self,
        name: str,
        amount: Nanos,
        *,
        period: Period = "total",
        project: str | None = None,
        tag: str | None = None,
        hard: bool = True,
        ladder: tuple[Rung, ...] | None = None,
    ) -> BudgetReport:
        """As Broker.set_budget."""
        return self._on_thread(
            lambda: self._broker.set_budget(
                name, amount, period=period, project=project, tag=tag, hard=hard, ladder=ladder
            )
        )

    def remove_budget(self, name: str) -> None:
        """As Broker.remove_budget."""
        self._on_thread(lambda: self._broker.remove_budget(name))

    def warnings(self) -> tuple[Warned, ...]:
        """As Broker.warnings."""
        return self._on_thread(self._broker.warnings)

    def channels(self) -> tuple[ChannelReport, ...]:
        """As Broker.channels."""
        return self._on_thread(self._broker.channels)

    def test_channel(self, name: str) -> None:
        """As Broker.test_channel."""
        self._run(self._broker.test_channel(name))

    def variables(self, name: str) -> tuple[str, ...]:
        """As Broker.variables."""
        return self._on_thread(lambda: self._broker.variables(name))

    def registries(self) -> tuple[RegistryLogin, ...]:
        """As Broker.registries."""
        return self._on_thread(self._broker.registries)

    def add_registry(
        self, name: str, *, server: str, username: str, password: str
    ) -> RegistryLogin:
        """As Broker.add_registry."""
        return self._on_thread(
            lambda: self._broker.add_registry(
                name, server=server, username=username, password=password
            )
        )

    def remove_registry(self, name: str) -> None:
        """As Broker.remove_registry."""
        self._on_thread(lambda: self._broker.remove_registry(name))

    def set_channel_secret(self, name: str, secret: str) -> str:
        """As Broker.set_channel_secret."""
        return self._on_thread(lambda: self._broker.set_channel_secret(name, secret))

    def login(
        self,
        provider: str,
        account: str = "default",
        *,
        secrets: Mapping[str, str],
        keyring: bool = False,
        same_account: bool = False,
    ) -> Login:
        """As Broker.login."""
        return self._run(
            self._broker.login(
                provider, account, secrets=secrets, keyring=keyring, same_account=same_account
            )
        )

    def logout(self, provider: str, account: str = "default") -> bool:
        """As Broker.logout."""
        return self._on_thread(lambda: self._broker.logout(provider, account))

    def watch(self) -> None:
        """As Broker.watch."""
        self._run(self._broker.watch())
