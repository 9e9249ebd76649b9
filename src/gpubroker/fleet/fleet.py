"""The loop over one launch: every step is read from the store, so any process can go on with it."""

from __future__ import annotations

import asyncio
import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import msgspec

from gpubroker.catalog.clouds import parse_offer_id
from gpubroker.fleet import ending, launching, watching
from gpubroker.fleet.context import Context, Work, encoded, identity_of, offer_of, ref_of
from gpubroker.fleet.errors import StillThere, UnknownName, why_none
from gpubroker.fleet.requests import LaunchRequest, Plan, PlannedOffer, SweepReport
from gpubroker.fleet.sweeping import sweep
from gpubroker.fleet.view import machine_of, tries_of
from gpubroker.model.errors import (
    BrokerError,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    Trouble,
    Unsupported,
    WrongState,
)
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.machine import Machine
from gpubroker.model.terms import State
from gpubroker.providers.base import Provider, Stoppable
from gpubroker.providers.calling import urgent
from gpubroker.store.errors import LeaseHeld
from gpubroker.store.rows import AttemptRow, LaunchRow
from gpubroker.store.store import Lease

Goal = Callable[[Work], bool]
Concern = Callable[[Context, Work, AttemptRow], Awaitable[float]]
"""One step of one concern; answers the seconds until the next."""

HELD_PATIENCE_S = 15.0
"""So long a second command on one machine waits for the first."""
SETTLE_DEADLINE_S = 900.0
STATE_DEADLINE_S = 180.0
ASK_AGAIN_S = 20.0


class Fleet:
    """What is rented, in one realm."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    # Launch

    async def launch(
        self, request: LaunchRequest, plan: Plan, spec: LaunchSpec, name: str, *, wait: bool
    ) -> Machine:
        """Commit the intent, then drive it until a machine is ready (`wait`) or accepted.

        Raises NothingToBeHad once every planned offer was tried, or what refused them all alike:
        AuthFailed, OutOfFunds, QuotaExceeded. Nothing is left behind then.
        """
        launch_id = self._commit(request, plan, spec, name)
        goal = _ready if wait else _accepted
        work = await self._drive(launch_id, goal)
        if work.launch.error_code == "no_capacity":
            raise why_none(tries_of(work.attempts))
        return self._machine(work.launch)

    def _commit(self, request: LaunchRequest, plan: Plan, spec: LaunchSpec, name: str) -> str:
        ctx = self._ctx
        at = ctx.at()
        first, *rest = plan.ranked
        launch_id = f"l-{secrets.token_hex(6)}"
        disk_gb = spec.disk_gb or 0
        ctx.boundary("intent next")
        lease = ctx.store.add_launch(
            {
                "id": launch_id,
                "name": name,
                "wanted": "running",
                "spec": ctx.seal.close(encoded(spec).encode()),
                "image": spec.image,
                "disk_gb": disk_gb,
                "candidates": encoded(rest),
                "tolerance": request.max_price_increase,
                "max_price": spec.max_price,
                "created_at": at,
                "expires_at": None if spec.expires_at is None else spec.expires_at.timestamp(),
            },
            launching.attempt_columns(first, 1, disk_gb, at),
            at,
        )
        ctx.boundary("intent committed")
        return lease.launch_id

    # The loop

    async def _drive(self, launch_id: str, goal: Goal, *, deadline_s: float | None = None) -> Work:
        """Step by step under a lease, renewed each time, until the goal holds."""
        until = None if deadline_s is None else self._ctx.at() + deadline_s
        async with self._held(launch_id) as work:
            while not goal(work) and work.launch.ended_at is None:
                pause = await self._step(work)
                if pause > 0:
                    if until is not None and self._ctx.at() > until:
                        raise StillThere(
                            f"{work.launch.name}: not done after {deadline_s:.0f} s. What was "
                            "begun is recorded; the next gpubroker command goes on with it."
                        )
                    await self._ctx.clock.sleep(pause)
                work.renew()
                work.refresh()
            return work

    @asynccontextmanager
    async def _held(
        self, launch_id: str, *, patience_s: float = HELD_PATIENCE_S
    ) -> AsyncIterator[Work]:
        """Our lease on a launch. A crash (no Exception) leaves it as a dead process would."""
        async with self._locks[launch_id]:
            work = Work(self._ctx, await self._acquire(launch_id, patience_s))
            try:
                yield work
            except (Exception, asyncio.CancelledError):
                self._ctx.store.release(work.lease)
                raise
            self._ctx.store.release(work.lease)

    async def _acquire(self, launch_id: str, patience_s: float) -> Lease:
        waited = 0.0
        while True:
            try:
                return self._ctx.store.acquire(launch_id)
            except LeaseHeld:
                if waited >= patience_s:
                    raise
            await asyncio.sleep(0.2)
            waited += 0.2

    async def _step(self, work: Work) -> float:
        """What is to be done next, by desired against observed state. Answer: seconds to wait."""
        self._expire(work)
        gone_wanted = work.launch.wanted == "gone"
        owed = self._ctx.store.owed_releases(work.launch.id)
        unwanted = [a for a in work.attempts if a.open and (gone_wanted or a.wanted == "gone")]
        closed = [a for a in work.attempts if a.id in owed]
        # What ends a machine never queues behind what looks for one.
        with urgent():
            pauses = [await self._attempted(_UNWANTED[a.status], work, a) for a in unwanted]
            pauses += [await self._attempted(ending.release, work, a) for a in closed]
        wanted = [a for a in work.attempts if a.open and a.wanted == "running"]
        if not gone_wanted and wanted:
            pauses.append(await self._attempted(_WANTED[wanted[-1].status], work, wanted[-1]))
        elif not gone_wanted and self._next_offer(work):
            pauses.append(0.0)
        elif not pauses and not any(attempt.open for attempt in work.attempts):
            self._finish(work)
        return min(pauses, default=0.0)

    async def _attempted(
        self,
        reconcile: Concern,
        work: Work,
        attempt: AttemptRow,
    ) -> float:
        try:
            return await reconcile(self._ctx, work, attempt)
        except (Trouble, OutcomeUnknown) as trouble:
            # A provider in trouble delays what is wanted of it and changes nothing else.
            work.tell("waiting", what=f"{attempt.provider}: {trouble}", seconds=None)
            return max(ending.LOOK_S, getattr(trouble, "retry_after_s", None) or 0.0)

    def _expire(self, work: Work) -> None:
        launch = work.launch
        if launch.wanted != "gone" and launch.expires_at is not None:
            if launch.expires_at > self._ctx.at():
                return
            self._ctx.store.want(launch.id, "gone", self._ctx.at(), "expired")
            with work.writing() as write:
                write.event("expired")

    def _next_offer(self, work: Work) -> bool:
        """Begin the next candidate's attempt; False where there is none, or one was in use."""
        if any(attempt.ready_at is not None for attempt in work.attempts):
            return False
        candidates = msgspec.json.decode(work.launch.candidates, type=list[PlannedOffer])
        if not candidates:
            return False
        columns = launching.attempt_columns(
            candidates[0], len(work.attempts) + 1, work.launch.disk_gb or 0.0, self._ctx.at()
        )
        with work.writing() as write:
            write.add_attempt(**columns)
            write.launch(candidates=encoded(candidates[1:]))
        self._ctx.boundary("next attempt committed")
        return True

    def _finish(self, work: Work) -> None:
        """Nothing of this launch exists any more."""
        error, code = "", ""
        if work.launch.wanted != "gone":
            was_ready = any(attempt.ready_at is not None for attempt in work.attempts)
            error, code = (
                ("the machine is gone at the provider; gpubroker did not end it", "lost")
                if was_ready
                else ("no machine could be had", "no_capacity")
            )
        with work.writing() as write:
            write.launch(ended_at=self._ctx.at(), error=error, error_code=code)
            write.event("ended", error=error)
        self._ctx.boundary("ended")

    # Commands

    async def settle(self) -> tuple[str, ...]:
        """Act on all that is due; what another living process works on is left to it.

        Answer: what could not be done, in words. It stays recorded and is tried again.
        """
        due = self._ctx.store.due(self._ctx.at())
        results = await asyncio.gather(
            *(self._settle(launch.id) for launch in due), return_exceptions=True
        )
        problems = []
        for launch, result in zip(due, results, strict=True):
            if isinstance(result, BrokerError) and not isinstance(result, LeaseHeld):
                problems.append(f"{launch.name}: {result}")
            elif isinstance(result, BaseException) and not isinstance(result, BrokerError):
                raise result
        for attempt in self._ctx.store.unbilled():
            await self._look_at_bill(attempt)
        return tuple(problems)

    async def _settle(self, launch_id: str) -> None:
        async with self._held(launch_id, patience_s=0.0) as work:
            await self._step(work)
        await self._drive(launch_id, _settled, deadline_s=SETTLE_DEADLINE_S)

    async def show(self, name: str) -> Machine:
        """Ask the provider, record what it says, and answer."""
        launch = self.find(name)
        if launch.ended_at is None and launch.wanted != "gone":
            async with self._held(launch.id) as work:
                await self._look(work)
        else:
            for attempt in self._ctx.store.attempts(launch.id):
                if attempt.status == "gone" and not attempt.bill_final:
                    await self._look_at_bill(attempt)
        return self._machine(self._ctx.store.launch(launch.id))

    async def _look(self, work: Work) -> None:
        made = [a for a in work.attempts if a.status == "made" and a.wanted == "running"]
        for attempt in made:
            provider = self._ctx.clouds.provider(attempt.provider, attempt.account)
            try:
                await watching.look(self._ctx, work, attempt, provider)
            except NotFound:
                await self._lost(work, attempt)
            except (Trouble, OutcomeUnknown) as trouble:
                with work.writing() as write:
                    write.attempt(attempt.id, look_failed=str(trouble))

    async def _lost(self, work: Work, attempt: AttemptRow) -> None:
        """The provider says that there is no such machine: believed only with the witnesses."""
        if await ending.proven_gone(self._ctx, work, attempt):
            ending.close(self._ctx, work, attempt, "lost")
            self._finish(work)

    async def terminate(self, name: str) -> Machine:
        """End it, wait until the provider confirms, read the bill."""
        launch = self.find(name)
        if launch.ended_at is None:
            self._ctx.boundary("end wanted next")
            self._ctx.store.want(launch.id, "gone", self._ctx.at(), "asked")
            self._ctx.boundary("end wanted")
            work = await self._drive(launch.id, _ended, deadline_s=SETTLE_DEADLINE_S)
            for attempt in work.attempts:
                if attempt.status == "gone" and not attempt.bill_final:
                    await self._look_at_bill(attempt)
        return self._machine(self._ctx.store.launch(launch.id))

    async def _look_at_bill(self, attempt: AttemptRow) -> None:
        try:
            bill = await ending.read_bill(self._ctx, attempt)
        except BrokerError as error:
            # The machine is gone all the same; the bill is asked for again later.
            self._ctx.store.add_event(
                self._ctx.at(), "bill_failed", attempt=attempt.id, why=str(error)
            )
        else:
            self._ctx.store.add_event(
                self._ctx.at(), "billed", attempt=attempt.id, status=bill.status
            )

    async def stop(self, name: str) -> Machine:
        """Stop, and wait until the provider says so. Its disk goes on costing."""
        return await self._bring_to(name, State.STOPPED)

    async def start(self, name: str) -> Machine:
        """Start a stopped machine. NoCapacity where its GPU was taken: it stays stopped."""
        return await self._bring_to(name, State.RUNNING)

    async def _bring_to(self, name: str, state: State) -> Machine:
        launch = self.find(name)
        stopping = state is State.STOPPED
        async with self._held(launch.id) as work:
            attempt = _in_use(work)
            provider = self._ctx.clouds.provider(attempt.provider, attempt.account)
            if provider.capabilities.stop == "none" or not isinstance(provider, Stoppable):
                raise Unsupported(
                    f"{provider.display_name} cannot stop and start a machine. It goes on running. "
                    f"To end it: gpubroker terminate {name}",
                    provider=provider.name,
                )
            self._ctx.store.want(
                launch.id, "stopped" if stopping else "running", self._ctx.at(), "asked"
            )
            act = provider.stop if stopping else provider.start
            deadline = self._ctx.at() + STATE_DEADLINE_S
            asked_at = float("-inf")
            while True:
                try:
                    instance = await watching.look(self._ctx, work, attempt, provider)
                    if instance.state is state and (stopping or instance.ssh is not None):
                        break
                    if self._ctx.at() - asked_at > ASK_AGAIN_S:
                        await act(ref_of(attempt))
                        asked_at = self._ctx.at()
                except NotFound:
                    await self._follow_identity(work, attempt, provider)
                except NoCapacity:
                    self._ctx.store.want(launch.id, "stopped", self._ctx.at(), "no capacity")
                    raise
                except (Trouble, OutcomeUnknown) as trouble:
                    work.tell("waiting", what=str(trouble), seconds=None)
                if self._ctx.at() > deadline:
                    raise StillThere(
                        f"{name} is not {state} after {STATE_DEADLINE_S:.0f} s; the provider still "
                        "works on it. gpubroker show follows."
                    )
                await self._ctx.clock.sleep(watching.LOOK_S)
                work.renew()
                attempt = _in_use(work)
        return self._machine(self._ctx.store.launch(launch.id))

    async def _follow_identity(self, work: Work, attempt: AttemptRow, provider: Provider) -> None:
        """Some clouds give a started machine another id: its carrier tells which."""
        found = await provider.find(identity_of(self._ctx, attempt), offer_of(attempt))
        if not found:
            raise NotFound(f"{provider.display_name} has no such machine any more")
        with work.writing() as write:
            write.attempt(attempt.id, ref_id=found[0].ref.id, scope=found[0].ref.scope)
            write.event("renamed", attempt.id, former=attempt.ref_id, present=found[0].ref.id)

    async def sweep(self, *, fix: bool, owner: str | None) -> SweepReport:
        """Compare every configured account with the store."""
        return await sweep(self._ctx, self._machine, fix=fix, owner=owner)

    def find(self, name: str) -> LaunchRow:
        """By name among those that have not ended, else the last of that name; or by an id."""
        rows = self._ctx.store.launches(include_ended=True)
        known_as = {name, self._ctx.store.launch_of_machine(*_cloud_id(name))}
        named = [row for row in rows if row.name == name or row.id in known_as]
        if not named:
            from difflib import get_close_matches

            raise UnknownName(name, tuple(get_close_matches(name, {row.name for row in rows})))
        living = [row for row in named if row.ended_at is None]
        return (living or named)[-1]

    def _machine(self, launch: LaunchRow) -> Machine:
        return machine_of(self._ctx.store, launch, self._ctx.now())


_WANTED: Mapping[str, Concern] = {
    "intent": launching.begin,
    "sending": launching.look_up,
    "unknown": launching.look_up,
    "made": watching.watch,
}
"""What is done with the attempt in use, by its status."""
_UNWANTED: Mapping[str, Concern] = {
    "intent": ending.end,
    "sending": launching.look_up,
    "unknown": launching.look_up,
    "made": ending.end,
}
"""What is done with an attempt whose machine is not wanted."""


def _cloud_id(text: str) -> tuple[str, str]:
    """(provider, id) of a "vast_12345"; no cloud's where it is none."""
    try:
        return parse_offer_id(text)
    except ValueError:
        return "", text


def _ready(work: Work) -> bool:
    return any(a.ready_at is not None and a.open for a in work.attempts)


def _accepted(work: Work) -> bool:
    return any(a.status == "made" and a.wanted == "running" for a in work.attempts)


def _ended(work: Work) -> bool:
    return work.launch.ended_at is not None


def _settled(work: Work) -> bool:
    """Nothing is undecided or owed; a machine that is only booting is left to its launch."""
    if work.launch.wanted == "gone":
        return _ended(work)
    open_attempts = [a for a in work.attempts if a.open]
    return bool(open_attempts) and all(
        a.status == "made" and a.wanted == "running" for a in open_attempts
    )


def _in_use(work: Work) -> AttemptRow:
    for attempt in reversed(work.attempts):
        if attempt.status == "made" and attempt.wanted == "running":
            return attempt
    raise WrongState(f"{work.launch.name} has no machine at a provider now")
