"""The promises at a real account: planned, capped, and swept at the end."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, cast

from msgspec import Struct

from gpubroker.model.clock import Clock
from gpubroker.model.errors import BrokerError
from gpubroker.model.identity import Attempt
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import cost, usd
from gpubroker.model.offer import Offer
from gpubroker.model.terms import State
from gpubroker.providers.accounts import Account, Wiring
from gpubroker.providers.decorated import decorate
from gpubroker.providers.layers import RateLimit
from gpubroker.providers.limits import Limiter, MemoryLimitBook
from gpubroker.providers.registry import ProviderClass
from gpubroker.testing.conformance.bench import Bench, Made, bills
from gpubroker.testing.conformance.check import Ability, Broken, Check

if TYPE_CHECKING:
    from gpubroker.providers.base import Provider

USUAL_DISK_GB = 40.0
"""No cloud gives a machine more without being asked to."""
SWEEPS = 3
PAUSE_S = 20.0
Say = Callable[[str], None]


class Caps(Struct, frozen=True):
    """What a run may cost and how long its machine may live."""

    most_cost: int
    """Nano-dollars."""
    ttl_s: float


class AccountBench(Bench):
    """One machine at a real account; the cloud cannot be made to fail nor looked into."""

    abilities: frozenset[Ability] = frozenset({"machine"})

    def __init__(
        self,
        provider_class: type[Provider],
        account: Account,
        folder: Path,
        caps: Caps,
        *,
        clock: Clock,
        base_url: str | None = None,
        loopback_only: bool = False,
    ) -> None:
        super().__init__()
        self.provider_class, self.folder, self.clock = provider_class, folder, clock
        self.secrets = tuple(account.secrets.values())
        self.caps, self.ttl_s = caps, caps.ttl_s
        self.most_price = int(caps.most_cost * 3600 / caps.ttl_s)
        wiring = Wiring(base_url, loopback_only, clock, (self.exchanges.append,))
        bare = cast(ProviderClass, provider_class).connect(account, wiring)
        limiter = Limiter(
            bare.capabilities.limits, MemoryLimitBook(), clock, provider=bare.name, account="bench"
        )
        self._provider = decorate(bare, [RateLimit(limiter, clock)], deadlines={})
        self._chosen: Offer | None = None
        self._rented = False

    @property
    def provider(self) -> Provider:
        """Its rates kept as declared."""
        return self._provider

    async def affordable(self) -> list[Offer]:
        """Those whose whole time costs less than the cap, disk included."""
        if self._chosen is not None:
            return [self._chosen]
        return [
            offer
            for offer in await super().affordable()
            if self.highest_cost(offer) <= self.caps.most_cost
        ]

    def highest_cost(self, offer: Offer) -> int:
        """Of a machine that lives until its expiry."""
        lasts_s = max(self.caps.ttl_s, offer.price.minimum_s)
        return cost(offer.price.hourly(USUAL_DISK_GB), lasts_s)

    async def make(
        self,
        spec: LaunchSpec | None = None,
        offer: Offer | None = None,
        attempt: Attempt | None = None,
    ) -> Made:
        """The one machine of the run: the cap is for one."""
        if self._rented:
            raise Broken("one machine was rented already, and the cap is for one")
        self._rented = True
        return await super().make(spec, offer, attempt)

    async def plan(self) -> Offer:
        """The machine that will be rented. Broken where nothing fits the caps."""
        offers = await self.affordable()
        if not offers:
            raise Broken(f"no machine costs at most ${usd(self.caps.most_cost):.2f} in that time")
        self._chosen = offers[0]
        return offers[0]

    async def sweep(self) -> list[str]:
        """Ends every machine of this run; answers what is still there and costs."""
        left: list[str] = []
        for _ in range(SWEEPS):
            left = []
            for scope in await self.provider.scopes():
                for machine in (await self.provider.list(scope)).instances:
                    ours = machine.owner == self.owner
                    if ours and machine.state is not State.TERMINATED and bills(machine):
                        left.append(f"{machine.ref.id} is {machine.state}")
                        await self.provider.terminate(machine.ref)
            if not left:
                return left
            await self.clock.sleep(PAUSE_S)
        return left

    async def finish(self) -> list[str]:
        """Ends what the checks made, then sweeps; answers what is left, in words."""
        faults: list[str] = []
        for made in tuple(self.made):
            faults += await self._ended(made)
        try:
            await self.clock.sleep(self.provider.capabilities.list_lag_s)
            faults += await self.sweep()
        except BrokerError as error:
            faults.append(f"the sweep failed: {error}")
        return faults

    async def _ended(self, made: Made) -> list[str]:
        try:
            await self.end(made)
        except (BrokerError, Broken) as error:
            return [f"{made.attempt.name} ({made.ref.id}): {error}"]
        return []


async def run(bench: AccountBench, checks: Collection[Check], say: Say) -> list[str]:
    """Tries each, then ends and sweeps whatever happened. Answers what is broken, in words."""
    broken: list[str] = []
    try:
        # What ends the one machine comes last.
        for check in sorted(checks, key=lambda check: check.ends):
            try:
                await check(bench)
            except (Broken, BrokerError) as fault:
                broken.append(str(fault))
                say(f"BROKEN  {check}: {fault}")
            else:
                say(f"kept    {check}")
    finally:
        left = await bench.finish()
        for machine in left:
            say(f"LEFT    {machine}")
        say("swept: nothing of this run is left" if not left else "look at the console NOW")
    return broken + left
