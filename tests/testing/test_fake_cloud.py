"""The imaginary cloud behaves as its switches say, or tests on it would prove nothing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from allpairspy import AllPairs

from gpubroker.model.errors import (
    AuthFailed,
    BadResponse,
    BrokerError,
    Invalid,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    PriceChanged,
    QuotaExceeded,
    RateLimited,
    Unavailable,
    WrongState,
)
from gpubroker.model.identity import Attempt, Ref, new_attempt_id, new_owner
from gpubroker.model.instance import Instance
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import nanos
from gpubroker.model.offer import Offer
from gpubroker.model.query import Query
from gpubroker.model.terms import Carrier, Expiry, Resource, State
from gpubroker.providers.base import HasBalance, KeyAttachable, Provider, Stoppable
from gpubroker.testing.fake_cloud import (
    SWITCHES,
    Crashed,
    FakeCloud,
    FakeProvider,
    ManualClock,
    Switches,
)

KEY = "ssh-ed25519 AAAA me"
RESENDS = {Carrier.TOKEN, Carrier.UNIQUE_NAME}


class Rig:
    """A cloud, a provider on it and one attempt."""

    def __init__(self, switches: Switches | None = None, offer: str = "4090-north") -> None:
        self.cloud = FakeCloud(switches)
        self.provider = FakeProvider(self.cloud)
        self.attempt = Attempt(new_owner(), new_attempt_id(), "launch")
        self.offer: Offer = self.cloud.stock[offer]
        self.spec = LaunchSpec(ssh_keys=(KEY,), disk_gb=100, expires_at=None)

    async def prepare(self) -> dict[Resource, Ref]:
        have: dict[Resource, Ref] = {}
        for what in self.provider.capabilities.needs:
            have[what] = await self.provider.ensure(what, self.spec, self.offer, self.attempt, have)
        return have

    async def create(self) -> Ref:
        return await self.provider.create(self.spec, self.offer, self.attempt, await self.prepare())

    async def boot(self, ref: Ref) -> Instance:
        self.cloud.clock.advance(self.cloud.switches.boot_s + self.cloud.switches.list_lag_s)
        return await self.provider.get(ref)

    async def found(self) -> tuple[Instance, ...]:
        return await self.provider.find(self.attempt, self.offer)

    def admits(self, key: str) -> bool:
        return key in self.cloud.machines[0].admitted

    @property
    def leaked(self) -> list[str]:
        return self.cloud.leaks(self.attempt.owner, ())


def combinations() -> list[Switches]:
    rows = AllPairs(list(SWITCHES.values()))
    return [Switches(**dict(zip(SWITCHES, row, strict=True))) for row in rows]


def keeps_the_interface(provider: FakeProvider) -> Provider:
    return provider


@pytest.mark.parametrize("switches", combinations(), ids=lambda _: "")
async def test_a_whole_life_at_every_pair_of_switches(switches: Switches) -> None:
    rig = Rig(switches)
    cloud, provider = rig.cloud, rig.provider
    keeps_the_interface(provider)
    assert provider.capabilities == switches.capabilities()
    assert isinstance(provider, Stoppable) == (switches.stop != "none")
    assert isinstance(provider, HasBalance) == (switches.billing == "balance")
    assert isinstance(provider, KeyAttachable) == (switches.ssh_keys == "attached")
    have = await rig.prepare()
    ref = await provider.create(rig.spec, rig.offer, rig.attempt, have)
    assert ref.scope in await provider.scopes()
    running = await rig.boot(ref)
    assert (running.state, running.bills_compute) == (State.RUNNING, True)
    assert (running.owner, running.attempt) == (rig.attempt.owner, rig.attempt.id)
    assert [found.ref for found in await rig.found()] == [ref]
    assert [one.ref for one in (await provider.list(ref.scope)).instances] == [ref]
    assert len(cloud.billed()) == 1
    assert cloud.leaks(rig.attempt.owner, {rig.attempt.id}) == []
    if have:
        with pytest.raises(WrongState):
            await provider.release(next(iter(have)), have[next(iter(have))])
    await provider.terminate(ref)
    assert bool(cloud.billed()) == (switches.terminate_s > 0), "accepted is not gone"
    cloud.clock.advance(switches.terminate_s)
    assert cloud.billed() == []
    await provider.terminate(ref)
    await assert_gone(provider, ref, switches)
    for what, at in have.items():
        await provider.release(what, at)
    assert rig.leaked == []
    cloud.clock.advance(2 * 86400 + switches.billing_lag_s)
    bill = await provider.billing(ref, cloud.clock.now(), None)
    assert bill.status == ("manual" if switches.billing == "manual" else "ended")
    if switches.billing in {"exact", "daily"}:
        assert bill.amount == cloud.charged(cloud.machines[0])


async def assert_gone(provider: FakeProvider, ref: Ref, switches: Switches) -> None:
    listed = (await provider.list(ref.scope)).instances
    if switches.gone == "tombstone":
        assert (await provider.get(ref)).state is State.TERMINATED
        assert [one.state for one in listed] == [State.TERMINATED]
        return
    assert listed == ()
    with pytest.raises(NotFound if switches.gone == "404" else BadResponse):
        await provider.get(ref)


@pytest.mark.parametrize("carrier", list(Carrier))
async def test_only_tokens_and_unique_names_make_a_resend_safe(carrier: Carrier) -> None:
    rig = Rig(Switches(carrier=carrier))
    first, second = await rig.create(), await rig.create()
    assert (first == second) == (carrier in RESENDS)
    assert len(rig.cloud.billed()) == (1 if carrier in RESENDS else 2)
    assert len(rig.cloud.leaks(rig.attempt.owner, {rig.attempt.id})) == len(await rig.found()) - 1


async def test_a_token_remembers_an_ended_machine_and_a_name_does_not() -> None:
    for carrier in RESENDS:
        rig = Rig(Switches(carrier=carrier))
        first = await rig.create()
        await rig.provider.terminate(first)
        assert (await rig.create() == first) == (carrier is Carrier.TOKEN)
        assert len(rig.cloud.billed()) == (0 if carrier is Carrier.TOKEN else 1)


async def test_ids_repeat_across_scopes_and_lists_show_one_scope() -> None:
    north = Rig(Switches(scoped=True))
    ref = await north.create()
    south = await north.provider.create(
        north.spec, north.cloud.stock["4090-south"], Attempt("zzzzzz", "a" * 16, "l"), {}
    )
    assert (ref.id, ref.scope, south.id, south.scope) == ("m-1", "north", "m-1", "south")
    assert [one.ref for one in (await north.provider.list("south")).instances] == [south]
    await north.provider.terminate(south)
    assert [machine.scope for machine in north.cloud.billed()] == ["north"]


async def test_a_made_machine_is_missing_from_lists_for_the_lag_only() -> None:
    rig = Rig(Switches(list_lag_s=30))
    ref = await rig.create()
    rig.cloud.clock.advance(29)
    assert await rig.found() == ()
    assert (await rig.provider.get(ref)).ref == ref
    rig.cloud.clock.advance(1)
    assert len(await rig.found()) == 1


async def test_a_create_without_answer_may_have_acted_or_not_or_act_late() -> None:
    made: dict[str, tuple[int, int]] = {}
    for kind in ("unknown_before", "unknown_after", "unknown_late"):
        rig = Rig(Switches(create_deadline_s=60))
        rig.cloud.script("create", kind)
        with pytest.raises(OutcomeUnknown):
            await rig.create()
        before = len(rig.cloud.billed())
        rig.cloud.clock.advance(60)
        made[kind] = (before, len(rig.cloud.billed()))
    assert made == {
        "unknown_before": (0, 0),
        "unknown_after": (1, 1),
        "unknown_late": (0, 1),
    }


async def test_a_late_create_and_a_resend_are_one_machine_where_the_carrier_says_so() -> None:
    for carrier in Carrier:
        rig = Rig(Switches(carrier=carrier, create_deadline_s=60))
        rig.cloud.script("create", "unknown_late")
        with pytest.raises(OutcomeUnknown):
            await rig.create()
        await rig.create()
        rig.cloud.clock.advance(60)
        assert len(rig.cloud.billed()) == (1 if carrier in RESENDS else 2)


@pytest.mark.parametrize("error", [AuthFailed, NoCapacity, QuotaExceeded, Invalid, RateLimited])
async def test_a_refused_create_makes_nothing(error: type[BrokerError]) -> None:
    rig = Rig()
    rig.cloud.script("create", "error", error=error)
    with pytest.raises(error):
        await rig.create()
    assert rig.cloud.machines == []
    await rig.create()
    assert len(rig.cloud.billed()) == 1, "a fault strikes once"


async def test_a_failed_connection_makes_nothing_and_is_counted() -> None:
    rig = Rig()
    rig.cloud.script("create", "unavailable", times=2, skip=1)
    await rig.create()
    for _ in range(2):
        with pytest.raises(Unavailable):
            await rig.create()
    await rig.create()
    assert rig.cloud.count("create") == 4
    assert len(rig.cloud.machines) == 1


async def test_a_crash_is_not_caught_as_an_error() -> None:
    rig = Rig()
    rig.cloud.script("create", "crash_after")
    with pytest.raises(Crashed):
        await rig.create()
    assert len(await rig.found()) == 1
    assert not issubclass(Crashed, Exception)


async def test_a_refusal_can_leave_a_stopped_machine_that_bills() -> None:
    rig = Rig()
    rig.cloud.script("create", "left_stopped")
    with pytest.raises(OutcomeUnknown):
        await rig.create()
    (left,) = await rig.found()
    assert (left.state, left.bills_compute, left.bills_disk) == (State.STOPPED, False, True)
    assert len(rig.leaked) == 1
    rig.cloud.clock.advance(3600)
    assert (await rig.provider.get(left.ref)).state is State.STOPPED


async def test_machines_that_do_not_become_ready() -> None:
    seen: dict[str, tuple[State, bool, bool]] = {}
    for kind in ("boot_failure", "stuck_pending", "no_ssh", "late_failure"):
        rig = Rig(Switches(async_create=True))
        rig.cloud.script("create", kind)
        ref = await rig.create()
        machine = await rig.boot(ref)
        seen[kind] = (machine.state, machine.bills_compute, machine.ssh is not None)
    assert seen == {
        "boot_failure": (State.FAILED, True, False),
        "stuck_pending": (State.PENDING, False, False),
        "no_ssh": (State.RUNNING, True, False),
        "late_failure": (State.FAILED, False, False),
    }


async def test_another_gpu_or_price_than_rented_is_reported() -> None:
    rig = Rig()
    rig.cloud.script("create", "wrong_gpu")
    rig.cloud.script("create", "price_drift", factor=2.0)
    first = await rig.provider.get(await rig.create())
    assert (first.gpu, first.price) == ("NVIDIA Tesla K80", rig.offer.price.hourly(100))
    rig.attempt = Attempt(rig.attempt.owner, new_attempt_id(), "l")
    second = await rig.provider.get(await rig.create())
    assert (second.gpu, second.price) == ("NVIDIA RTX 4090", nanos(0.82))


async def test_lists_can_be_partial_doubled_or_wrongly_empty() -> None:
    rig = Rig()
    await rig.create()
    rig.cloud.plant()
    for kind, rows, complete in (
        ("partial_list", 1, False),
        ("duplicate_list", 4, True),
        ("empty_list", 0, True),
    ):
        rig.cloud.script("list", kind)  # type: ignore[arg-type] # the loop's words are kinds
        listing = await rig.provider.list("")
        assert (len(listing.instances), listing.complete) == (rows, complete)
    whole = await rig.provider.list("")
    assert [one.owner for one in whole.instances] == [rig.attempt.owner, None]


async def test_the_key_of_another_account_sees_nothing_of_ours() -> None:
    rig = Rig()
    ref = await rig.create()
    ours = await rig.provider.whoami()
    rig.cloud.script("list", "other_account")
    listing = await rig.provider.list("")
    assert (listing.instances, listing.complete) == ((), True)
    assert listing.account_uid != ours
    rig.cloud.answer_as("default", "new-uid")
    assert await rig.provider.whoami() == "new-uid"
    for ask in (rig.provider.get, rig.provider.terminate):
        with pytest.raises(NotFound):
            await ask(ref)
    assert len(rig.cloud.billed()) == 1
    rig.cloud.answer_as("default", ours)
    assert (await rig.provider.get(ref)).ref == ref


async def test_garbage_is_bad_at_reads_and_unknown_at_mutations() -> None:
    rig = Rig()
    ref = await rig.create()
    rig.cloud.script("get", "garbage")
    with pytest.raises(BadResponse):
        await rig.provider.get(ref)
    rig.cloud.script("terminate", "garbage")
    with pytest.raises(OutcomeUnknown):
        await rig.provider.terminate(ref)
    assert rig.cloud.billed() == []


async def test_an_ignored_terminate_goes_on_billing() -> None:
    rig = Rig()
    ref = await rig.create()
    rig.cloud.script("terminate", "ignored", times=2)
    for billed in (1, 1, 0):
        await rig.provider.terminate(ref)
        assert len(rig.cloud.billed()) == billed


async def test_prices_move_and_offers_run_out() -> None:
    rig = Rig()
    rig.spec = LaunchSpec(expires_at=None, max_price=nanos(0.5))
    rig.cloud.reprice("4090-north", 2)
    with pytest.raises(PriceChanged):
        await rig.create()
    rig.cloud.reprice("4090-north", 0.5)
    rig.cloud.sell_out("4090-north")
    pages = [page async for page in rig.provider.offers(Query())]
    assert "4090-north" not in {offer.key for offer in pages[0].rows}
    with pytest.raises(NoCapacity):
        await rig.create()
    rig.cloud.restock("4090-north")
    await rig.create()


@pytest.mark.parametrize("expiry", list(Expiry))
async def test_an_expired_machine_ends_as_the_switch_says(expiry: Expiry) -> None:
    rig = Rig(Switches(expiry=expiry, gone="tombstone"))
    expires_at = rig.cloud.clock.now() + timedelta(hours=1)
    rig.spec = LaunchSpec(expires_at=expires_at)
    ref = await rig.create()
    rig.cloud.clock.advance(3000)
    assert (await rig.provider.get(ref)).state is State.RUNNING
    rig.cloud.clock.advance(700)
    machine = await rig.provider.get(ref)
    assert (machine.state, machine.bills_compute, machine.bills_disk) == {
        Expiry.PROVIDER: (State.TERMINATED, False, False),
        Expiry.MACHINE_ENDS_BILLING: (State.TERMINATED, False, False),
        Expiry.MACHINE_FREES_GPU: (State.STOPPED, False, True),
        Expiry.CONTROLLER_ONLY: (State.RUNNING, True, True),
    }[expiry]
    if expiry is Expiry.PROVIDER:
        assert rig.cloud.machines[0].ended_at == expires_at, "at its own time, not when looked at"


async def test_a_stopped_machine_bills_its_disk_and_may_lose_its_gpu() -> None:
    rig = Rig(Switches(stop="loses_gpu"))
    ref = await rig.create()
    provider = rig.provider
    assert isinstance(provider, Stoppable)
    with pytest.raises(WrongState):
        await provider.stop(ref)
    await rig.boot(ref)
    await provider.stop(ref)
    assert (await rig.provider.get(ref)).state is State.STOPPING
    rig.cloud.clock.advance(5)
    before = rig.cloud.charged(rig.cloud.machines[0])
    rig.cloud.clock.advance(3600)
    assert rig.cloud.charged(rig.cloud.machines[0]) - before == nanos(0.03)
    rig.cloud.sell_out("4090-north")
    with pytest.raises(NoCapacity):
        await provider.start(ref)
    rig.cloud.restock("4090-north")
    await provider.start(ref)
    assert (await rig.boot(ref)).state is State.RUNNING


async def test_a_started_machine_can_come_back_under_another_id() -> None:
    rig = Rig(Switches(resume_id="new"))
    ref = await rig.create()
    await rig.boot(ref)
    provider = rig.provider
    assert isinstance(provider, Stoppable)
    await provider.stop(ref)
    rig.cloud.clock.advance(5)
    await provider.start(ref)
    with pytest.raises(NotFound):
        await rig.provider.get(ref)
    (found,) = await rig.found()
    assert found.ref != ref


async def test_attached_keys_are_taken_by_a_running_machine_only() -> None:
    rig = Rig(Switches(ssh_keys="attached"))
    ref = await rig.create()
    provider = rig.provider
    assert isinstance(provider, KeyAttachable)
    with pytest.raises(WrongState):
        await provider.attach_key(ref, KEY)
    await rig.boot(ref)
    assert not rig.admits(KEY)
    for _ in range(2):
        await provider.attach_key(ref, KEY)
    assert rig.cloud.machines[0].admitted == (KEY,)


async def test_needs_are_found_again_by_name_and_owner_wide_ones_are_shared() -> None:
    rig = Rig(Switches(needs=(Resource.NETWORK, Resource.ADDRESS)))
    have = await rig.prepare()
    assert await rig.prepare() == have
    other = Attempt(rig.attempt.owner, new_attempt_id(), "l")
    network = await rig.provider.ensure(Resource.NETWORK, rig.spec, rig.offer, other, {})
    assert network == have[Resource.NETWORK]
    with pytest.raises(Invalid):
        await rig.provider.create(rig.spec, rig.offer, rig.attempt, {})
    assert rig.leaked == [
        f"address {have[Resource.ADDRESS].id} of unwanted attempt {rig.attempt.id}"
    ]
    await rig.provider.release(Resource.ADDRESS, have[Resource.ADDRESS])
    assert rig.leaked == []


async def test_a_record_tells_no_more_than_it_knows() -> None:
    rig = Rig(Switches(billing_lag_s=3600, boot_s=0))
    ref = await rig.create()
    rig.cloud.clock.advance(7200)
    await rig.provider.terminate(ref)
    bill = await rig.provider.billing(ref, rig.cloud.clock.now(), None)
    assert (bill.status, bill.amount) == ("pending", nanos(0.42))
    rig.cloud.clock.advance(3600)
    bill = await rig.provider.billing(ref, rig.cloud.clock.now(), None)
    assert (bill.status, bill.amount) == ("ended", nanos(0.84))
    assert bill.amount == sum(line.amount for line in bill.lines)


async def test_a_balance_falls_by_what_was_used() -> None:
    rig = Rig(Switches(billing="balance"))
    await rig.create()
    rig.cloud.clock.advance(3600)
    provider = rig.provider
    assert isinstance(provider, HasBalance)
    assert await provider.balance() == nanos(100) - nanos(0.42)


async def test_a_preempted_machine_is_told_and_bills_no_more() -> None:
    rig = Rig(offer="4090-spot")
    ref = await rig.create()
    await rig.boot(ref)
    rig.cloud.preempt(rig.cloud.machines[0])
    assert (await rig.provider.get(ref)).state is State.PREEMPTED
    assert rig.cloud.billed() == []


async def test_faults_that_cannot_happen_are_refused() -> None:
    cloud = FakeCloud()
    for operation, kind in (
        ("get", "unknown_after"),
        ("list", "boot_failure"),
        ("nonsense", "slow"),
    ):
        with pytest.raises(ValueError, match="cannot happen"):
            cloud.script(operation, kind)  # type: ignore[arg-type] # the loop's words are kinds
    with pytest.raises(ValueError, match="error class"):
        cloud.script("create", "error")


async def test_two_clouds_have_their_own_names_and_capabilities() -> None:
    one = FakeProvider(FakeCloud(Switches(stop="none"), name="one"))
    two = FakeProvider(FakeCloud(name="two"), "work")
    assert (one.name, two.name, two.account) == ("one", "two", "work")
    assert (one.capabilities.stop, two.capabilities.stop) == ("none", "keeps_disk")


async def test_sleepers_wake_in_order_and_in_no_real_time() -> None:
    clock = ManualClock()
    woken: list[tuple[str, float]] = []

    async def nap(name: str, *seconds: float) -> None:
        for one in seconds:
            await clock.sleep(one)
            woken.append((name, clock.boot_s() - 1000))

    await asyncio.gather(nap("a", 60, 60), nap("b", 10, 80), nap("c", 0))
    assert woken == [("c", 0), ("b", 10), ("a", 60), ("b", 90), ("a", 120)]
    clock.step_wall(-3600)
    assert clock.boot_s() == 1120
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1)


async def test_a_cancelled_sleeper_holds_nobody_up() -> None:
    clock = ManualClock()
    sleeper = asyncio.create_task(clock.sleep(5))
    await asyncio.sleep(0)
    sleeper.cancel()
    await clock.sleep(10)
    assert clock.boot_s() == 1010


async def test_a_slow_answer_takes_time_of_the_clock() -> None:
    rig = Rig()
    rig.cloud.script("create", "slow", delay_s=45)
    before = rig.cloud.clock.boot_s()
    await rig.create()
    assert rig.cloud.clock.boot_s() - before == 45


def test_it_is_importable_without_pytest() -> None:
    code = (
        "import sys; sys.modules['pytest'] = None; sys.modules['allpairspy'] = None\n"
        "import gpubroker.testing.fake_cloud as f; print(len(f.SWITCHES) > 10)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "True\n"


def test_the_table_of_switches_names_fields_and_their_defaults() -> None:
    defaults: dict[str, Any] = {name: getattr(Switches(), name) for name in SWITCHES}
    assert all(defaults[name] in values for name, values in SWITCHES.items())
