"""The loop over one launch: every step is read from the store, so any process can go on with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime, timedelta

from gpubroker.catalog.clouds import parse_offer_id
from gpubroker.fleet import (
    billing,
    budgets,
    ending,
    expiring,
    gangs,
    idling,
    intents,
    launching,
    powering,
    preempting,
    watching,
)
from gpubroker.fleet.context import Context, Work, spec_of
from gpubroker.fleet.errors import GangFailed, StillThere, UnknownName, why_none
from gpubroker.fleet.leases import held
from gpubroker.fleet.requests import LaunchRequest, Plan, SweepReport
from gpubroker.fleet.succession import succeed, waits
from gpubroker.fleet.sweeping import sweep
from gpubroker.fleet.view import machine_of, tries_of
from gpubroker.model.errors import (
    BrokerError,
    NotFound,
    OutcomeUnknown,
    Trouble,
    Unsupported,
)
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.machine import Machine
from gpubroker.model.terms import State
from gpubroker.providers.base import Stoppable
from gpubroker.providers.calling import urgent
from gpubroker.store.errors import LeaseHeld, NoSecretKey, StoreError
from gpubroker.store.rows import AttemptRow, LaunchRow

Goal = Callable[[Work], bool]
Concern = Callable[[Context, Work, AttemptRow], Awaitable[float]]
"""One step of one concern; answers the seconds until the next."""

SETTLE_DEADLINE_S = 900.0


class Fleet:
    """What is rented, in one realm."""

    def __init__(self, ctx: Context) -> None:
        self.context = ctx

    # Launch

    async def launch(
        self, request: LaunchRequest, plan: Plan, spec: LaunchSpec, name: str, *, wait: bool
    ) -> Machine:
        """Commit the intent, then drive it until a machine is ready (`wait`) or accepted.

        Raises NothingToBeHad once every planned offer was tried, or what refused them all alike:
        AuthFailed, OutOfFunds, QuotaExceeded. Nothing is left behind then.
        """
        [launch_id] = intents.commit(self.context, request, [plan.ranked], spec, [name])
        work = await self._drive(launch_id, _ready if wait else _accepted, asked=True)
        if work.launch.error_code == "no_capacity":
            raise why_none(tries_of(work.attempts))
        return self._machine(work.launch)

    async def launch_gang(
        self, request: LaunchRequest, plan: Plan, spec: LaunchSpec, name: str, *, wait: bool
    ) -> tuple[Machine, ...]:
        """`request.nodes` machines, NAME-1 to NAME-N: all are had in time, or none is kept.

        Raises TooFewMachines before anything is asked for, else GangFailed.
        """
        hands = gangs.deal(plan.ranked, request.nodes, request.tries)
        names = gangs.node_names(name, request.nodes)
        ids = intents.commit(self.context, request, hands, spec, names, gang=gangs.new_gang(name))
        goal = _ready_together if wait else _accepted
        works = await gangs.together(self._drive(launch_id, goal, asked=True) for launch_id in ids)
        if failed := [w.launch.error for w in works if w.launch.error_code == "gang_failed"]:
            raise GangFailed(name, failed[0])
        return tuple(self._machine(work.launch) for work in works)

    # The loop

    async def _drive(
        self, launch_id: str, goal: Goal, *, deadline_s: float | None = None, asked: bool = False
    ) -> Work:
        """Step by step under a lease, renewed each time, until the goal holds.

        `asked`: for whom the launch is, and who is told at once why nothing can be had.
        """
        until = None if deadline_s is None else self.context.at() + deadline_s
        async with held(self.context, launch_id) as work:
            work.asked = asked
            while not goal(work) and work.launch.ended_at is None:
                pause = await self._step(work)
                if pause > 0:
                    if until is not None and self.context.at() > until:
                        raise StillThere(
                            f"{work.launch.name}: not done after {deadline_s:.0f} s. What was "
                            "begun is recorded; the next gpubroker command goes on with it."
                        )
                    await self.context.clock.sleep(pause)
                work.renew()
                work.refresh()
            return work

    async def _step(self, work: Work) -> float:
        """What is to be done next, by desired against observed state. Answer: seconds to wait."""
        self._expire(work)
        gangs.judge(self.context, work)
        gone_wanted = work.launch.wanted == "gone"
        owed = self.context.store.owed_releases(work.launch.id)
        unwanted = [a for a in work.attempts if a.open and (gone_wanted or a.wanted == "gone")]
        closed = [a for a in work.attempts if a.id in owed]
        # What ends a machine never queues behind what looks for one.
        with urgent():
            refused: list[BrokerError] = []
            pauses = [
                await self._attempted(_UNWANTED[a.status], work, a, refused) for a in unwanted
            ]
            pauses += [await self._attempted(ending.release, work, a, refused) for a in closed]
        wanted = [a for a in work.attempts if a.open and a.wanted == "running"]
        if not gone_wanted and wanted:
            concern = _concern(work, wanted[-1])
            pauses.append(await self._attempted(concern, work, wanted[-1], refused))
        elif not gone_wanted and (pause := await succeed(self.context, work)) is not None:
            pauses.append(pause)
        elif not pauses and not any(attempt.open for attempt in work.attempts):
            ending.finish(self.context, work)
        if refused:
            raise refused[0]
        return min(pauses, default=0.0)

    async def _attempted(
        self,
        reconcile: Concern,
        work: Work,
        attempt: AttemptRow,
        refused: list[BrokerError],
    ) -> float:
        """One concern's step. What one cloud refuses keeps no other attempt from its end."""
        try:
            return await reconcile(self.context, work, attempt)
        except (Trouble, OutcomeUnknown) as trouble:
            # A provider in trouble delays what is wanted of it and changes nothing else.
            work.tell("waiting", what=f"{attempt.provider}: {trouble}", seconds=None)
            return max(ending.LOOK_S, getattr(trouble, "retry_after_s", None) or 0.0)
        except BrokerError as error:
            if isinstance(error, StoreError) and not isinstance(error, NoSecretKey):
                raise
            refused.append(error)
            return ending.LOOK_S

    def _expire(self, work: Work) -> None:
        launch = work.launch
        if launch.wanted != "gone" and launch.expires_at is not None:
            if launch.expires_at > self.context.at():
                return
            self.context.store.want(launch.id, "gone", self.context.at(), "expired")
            with work.writing() as write:
                write.event("expired")

    # Commands

    async def settle(self) -> tuple[str, ...]:
        """Act on all that is due; what another living process works on is left to it.

        Answer: what could not be done, in words. It stays recorded and is tried again.
        """
        due = self.context.store.due(self.context.at())
        results = await asyncio.gather(
            *(self.settle_one(launch) for launch in due), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result
        told = [result for result in results if isinstance(result, str) and result]
        return (*told, *await self.look_after())

    async def settle_one(self, launch: LaunchRow) -> str:
        """All that is due for one launch. Answer: what could not be done, in words, or ""."""
        try:
            async with held(self.context, launch.id, patience_s=0.0) as work:
                await self._step(work)
            await self._drive(launch.id, _settled, deadline_s=SETTLE_DEADLINE_S)
        except LeaseHeld:
            return ""
        except BrokerError as error:
            return f"{launch.name}: {error}"
        return ""

    async def look_after(self) -> tuple[str, ...]:
        """Bills that are due, ends that are not confirmed, machines that may be idle."""
        return (
            *await billing.settle_bills(self.context),
            *await expiring.hold(self.context),
            *await idling.look(self.context),
        )

    async def show(self, name: str) -> Machine:
        """Ask the provider, record what it says, and answer."""
        launch = self.find(name)
        if launch.ended_at is None and launch.wanted != "gone":
            async with held(self.context, launch.id) as work:
                await self._look(work)
        else:
            for attempt in self.context.store.attempts(launch.id):
                await billing.look(self.context, attempt, wanted=True)
        return self._machine(self.context.store.launch(launch.id))

    async def _look(self, work: Work) -> None:
        made = [a for a in work.attempts if a.status == "made" and a.wanted == "running"]
        for attempt in made:
            provider = self.context.clouds.provider(attempt.provider, attempt.account)
            try:
                await watching.look(self.context, work, attempt, provider)
            except NotFound:
                await ending.lost(self.context, work, attempt)
            except (Trouble, OutcomeUnknown) as trouble:
                with work.writing() as write:
                    write.attempt(attempt.id, look_failed=str(trouble))

    async def terminate(self, name: str) -> Machine:
        """End it, wait until the provider confirms, read the bill."""
        launch = self.find(name)
        if launch.ended_at is None:
            self.context.boundary("end wanted next")
            self.context.store.want(launch.id, "gone", self.context.at(), "asked")
            self.context.boundary("end wanted")
            work = await self._drive(launch.id, _ended, deadline_s=SETTLE_DEADLINE_S)
            for attempt in work.attempts:
                await billing.look(self.context, attempt)
        return self._machine(self.context.store.launch(launch.id))

    async def extend(
        self, name: str, *, by: timedelta | None = None, until: datetime | None = None
    ) -> Machine:
        """Move its end, and wait until cloud or machine have confirmed it, a minute at most.

        Raises WrongState, Invalid, Unsupported, BudgetExceeded: nothing was changed then.
        """
        (machine,) = await self._extend((name,), by, until)
        return machine

    async def extend_gang(
        self, name: str, *, by: timedelta | None = None, until: datetime | None = None
    ) -> tuple[Machine, ...]:
        """As `extend`, all machines of a gang that have not ended, or none."""
        return await self._extend(self.named(name), by, until)

    async def _extend(
        self, names: Iterable[str], by: timedelta | None, until: datetime | None
    ) -> tuple[Machine, ...]:
        launches = [self.find(name) for name in names]
        await expiring.extend(self.context, launches, by=by, until=until)
        return tuple(self._machine(self.context.store.launch(one.id)) for one in launches)

    async def stop(self, name: str) -> Machine:
        """Stop, and wait until the provider says so. Its disk goes on costing."""
        return await self._bring_to(name, State.STOPPED)

    async def start(self, name: str) -> Machine:
        """Start a stopped machine, within all budgets.

        NoCapacity where its GPU was taken, BudgetExceeded where a budget has nothing left for it:
        it stays stopped.
        """
        return await self._bring_to(name, State.RUNNING)

    def _want(self, launch: LaunchRow, state: State) -> None:
        guard = None
        if state is State.RUNNING:
            undone = f"{launch.name} was not started"
            guard = budgets.guard([launch.id], self.context.now(), undone=undone)
        at = self.context.at()
        self.context.store.want(launch.id, state.value, at, "asked", guard, power_at=at)
        self.context.boundary(f"{powering.VERBS[state]} wanted")

    async def _bring_to(self, name: str, state: State) -> Machine:
        launch = self.find(name)
        async with held(self.context, launch.id) as work:
            attempt = powering.in_use(work)
            provider = self.context.clouds.provider(attempt.provider, attempt.account)
            if provider.capabilities.stop == "none" or not isinstance(provider, Stoppable):
                raise Unsupported(
                    f"{provider.display_name} cannot stop and start a machine. It goes on running. "
                    f"To end it: gpubroker terminate {name}",
                    provider=provider.name,
                )
            powering.refuse_unready(work, attempt)
            self._want(launch, state)
            work.refresh()
            await powering.bring(self.context, work, provider, state)
        return self._machine(self.context.store.launch(launch.id))

    async def sweep(self, *, fix: bool, owner: str | None) -> SweepReport:
        """Compare every configured account with the store."""
        return await sweep(self.context, self._machine, fix=fix, owner=owner)

    def named(self, name: str) -> tuple[str, ...]:
        """The machines that a name means: those of a gang that have not ended, or one."""
        rows = self.context.store.launches()
        gang = [row.name for row in rows if row.gang and row.gang_name == name]
        if not gang:
            self.find(name)
        return tuple(gang) or (name,)

    def variables(self, name: str) -> tuple[str, ...]:
        """Names of the variables of its launch, () where they cannot be unsealed."""
        launch = self.find(name)
        with contextlib.suppress(NoSecretKey):
            return tuple(spec_of(self.context, launch).env)
        return ()

    def find(self, name: str) -> LaunchRow:
        """By name among those that have not ended, else the last of that name; or by an id."""
        rows = self.context.store.launches(include_ended=True)
        known_as = {name, self.context.store.launch_of_machine(*_cloud_id(name))}
        named = [row for row in rows if row.name == name or row.id in known_as]
        if not named:
            from difflib import get_close_matches

            raise UnknownName(name, tuple(get_close_matches(name, {row.name for row in rows})))
        living = [row for row in named if row.ended_at is None]
        return (living or named)[-1]

    def _machine(self, launch: LaunchRow) -> Machine:
        return machine_of(self.context.store, launch, self.context.now())


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


def _concern(work: Work, attempt: AttemptRow) -> Concern:
    """What is done with an attempt that is wanted."""
    if attempt.ready_at is None:
        return _WANTED[attempt.status]
    return powering.converge if powering.owed(work, attempt) else preempting.keep


def _cloud_id(text: str) -> tuple[str, str]:
    """(provider, id) of a "vast_12345"; no cloud's where it is none."""
    try:
        return parse_offer_id(text)
    except ValueError:
        return "", text


def _ready(work: Work) -> bool:
    return any(a.ready_at is not None and a.open for a in work.attempts)


def _ready_together(work: Work) -> bool:
    return _ready(work) and gangs.formed(work)


def _accepted(work: Work) -> bool:
    made = any(a.status == "made" and a.wanted == "running" for a in work.attempts)
    return made or waits(work)


def _ended(work: Work) -> bool:
    return work.launch.ended_at is not None


def _settled(work: Work) -> bool:
    """Nothing is undecided or owed; a machine that is only booting is left to its launch."""
    if work.launch.wanted == "gone":
        return _ended(work)
    if waits(work):
        return True
    open_attempts = [a for a in work.attempts if a.open]
    return bool(open_attempts) and all(
        a.status == "made" and a.wanted == "running" for a in open_attempts
    )
