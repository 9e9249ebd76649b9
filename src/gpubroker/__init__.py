"""One broker over every GPU cloud.

    from gpubroker import Broker, LaunchRequest, Query, wanted

    async with Broker() as broker:
        found = await broker.search(Query(gpus=(wanted("RTX 4090"),)))

Names are imported when they are first used: `import gpubroker` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpubroker.blocking import BlockingBroker
    from gpubroker.broker import Broker
    from gpubroker.catalog.gpus import wanted
    from gpubroker.fleet.requests import Event, LaunchRequest, Plan
    from gpubroker.model.errors import BrokerError
    from gpubroker.model.machine import Machine
    from gpubroker.model.money import nanos, usd
    from gpubroker.model.offer import Offer
    from gpubroker.model.query import GpuWanted, Query
    from gpubroker.model.terms import Market

__version__ = "0.1.0"

_HOME_OF = {
    "BlockingBroker": "gpubroker.blocking",
    "Broker": "gpubroker.broker",
    "BrokerError": "gpubroker.model.errors",
    "Event": "gpubroker.fleet.requests",
    "GpuWanted": "gpubroker.model.query",
    "LaunchRequest": "gpubroker.fleet.requests",
    "Machine": "gpubroker.model.machine",
    "Market": "gpubroker.model.terms",
    "Offer": "gpubroker.model.offer",
    "Plan": "gpubroker.fleet.requests",
    "Query": "gpubroker.model.query",
    "nanos": "gpubroker.model.money",
    "usd": "gpubroker.model.money",
    "wanted": "gpubroker.catalog.gpus",
}

__all__ = [
    "BlockingBroker",
    "Broker",
    "BrokerError",
    "Event",
    "GpuWanted",
    "LaunchRequest",
    "Machine",
    "Market",
    "Offer",
    "Plan",
    "Query",
    "nanos",
    "usd",
    "wanted",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'gpubroker' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
