"""What an account may have at most, as far as its cloud tells."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from gpubroker.model.offer import Offer
from gpubroker.model.terms import Market


class Quota(Struct, frozen=True, kw_only=True):
    """One limit of an account, and which offers count against it. None: all of them."""

    bucket: str
    """The cloud's own name for it."""
    limit: float
    used: float
    unit: Literal["gpus", "vcpus", "machines"]
    gpu: str | None = None
    """Canonical name of the model."""
    region: str | None = None
    market: Market | None = None

    def need(self, offer: Offer) -> float | None:
        """How much of it a machine of that offer takes; None where it does not count, or who knows.

        An offer that does not tell its vCPUs is not measured by them.
        """
        narrowed = (
            (self.gpu, offer.gpu.name),
            (self.region, offer.region),
            (self.market, offer.market),
        )
        if any(wanted is not None and wanted != had for wanted, had in narrowed):
            return None
        return {"gpus": float(offer.gpu_count), "vcpus": offer.vcpus, "machines": 1.0}[self.unit]

    def why_not(self, offer: Offer) -> str:
        """Why a machine of that offer is not to be had, "" where this quota allows it."""
        need = self.need(offer)
        if need is None or need <= self.limit - self.used:
            return ""
        return (
            f"quota: needs {need:g} {self.unit} of {self.bucket}, "
            f"{self.used:g} of {self.limit:g} used"
        )
