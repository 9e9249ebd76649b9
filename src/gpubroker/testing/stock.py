"""The offers of an imaginary cloud."""

from __future__ import annotations

from datetime import UTC, datetime

from gpubroker.model.gpu import Gpu
from gpubroker.model.money import nanos
from gpubroker.model.offer import Offer, Price
from gpubroker.model.terms import Availability, Kind, Market, Source


def first_stock(provider: str) -> tuple[Offer, ...]:
    """What an imaginary cloud sells at first: small ones in two places, spot, and eight H100s."""

    def offer(key: str, gpu: Gpu, count: int, region: str, usd: float, market: Market) -> Offer:
        return Offer(
            provider=provider,
            account="default",
            key=key,
            gpu=gpu,
            gpu_count=count,
            kind=Kind.VM,
            market=market,
            vcpus=8.0 * count,
            ram_gb=64.0 * count,
            disk_max_gb=2000.0,
            region=region,
            price=Price(compute=nanos(usd), disk_gb=nanos(0.0002), disk_gb_stopped=nanos(0.0003)),
            availability=Availability.YES,
            source=Source.LIVE,
            fetched_at=datetime(2026, 1, 1, 12, tzinfo=UTC),
        )

    small = Gpu("RTX 4090", "NVIDIA RTX 4090", 24, "", "nvidia")
    large = Gpu("H100", "NVIDIA H100 SXM", 80, "SXM", "nvidia")
    return (
        offer("4090-north", small, 1, "north", 0.4, Market.ON_DEMAND),
        offer("4090-south", small, 1, "south", 0.35, Market.ON_DEMAND),
        offer("4090-spot", small, 1, "north", 0.2, Market.SPOT),
        offer("h100-north", large, 8, "north", 16.0, Market.ON_DEMAND),
    )
