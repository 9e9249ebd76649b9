"""The blocking twin of Broker: one background thread with one event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar

from gpubroker.broker import Broker

if TYPE_CHECKING:
    from types import TracebackType

    from gpubroker.fleet.requests import Event, LaunchRequest, Plan, SweepReport
    from gpubroker.market.marketplace import Mode
    from gpubroker.market.results import SearchResult
    from gpubroker.model.gpu import GpuModel
    from gpubroker.model.home import Home
    from gpubroker.model.machine import Machine
    from gpubroker.model.query import Query, SortKey
    from gpubroker.model.reports import Check, ProviderInfo

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

    def doctor(self) -> tuple[Check, ...]:
        """As Broker.doctor."""
        return self._run(self._broker.doctor())
