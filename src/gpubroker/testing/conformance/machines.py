"""From the create to the end: one request each, and found again by what the machine carries."""

from __future__ import annotations

from msgspec import Struct

from gpubroker.model.errors import BadResponse, BrokerError, NotFound, Refused, Unsupported
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import Instance, Listing
from gpubroker.model.terms import Kind, State
from gpubroker.providers.base import Stoppable
from gpubroker.testing.conformance.bench import Bench, Made, bills
from gpubroker.testing.conformance.check import Chapter, broken, none_of, require

_chapter = Chapter()
CHECKS = _chapter.checks
promise = _chapter.promise

STRANGERS_NAME = "my-own-box"
_MIRRORED = str.maketrans("0123456789abcdef", "9876543210fedcba")


class Stranger(Attempt, frozen=True):
    """What somebody makes by hand: nothing of it is in our encoding."""

    @property
    def name(self) -> str:
        """Legal everywhere."""
        return STRANGERS_NAME


async def lists(bench: Bench) -> list[Listing]:
    """One of each scope."""
    return [await bench.provider.list(scope) for scope in await bench.provider.scopes()]


async def listed(bench: Bench, ref: Ref) -> list[Instance]:
    """The machine, as often as the lists have it."""
    machines = [machine for listing in await lists(bench) for machine in listing.instances]
    return [machine for machine in machines if machine.ref == ref]


@promise()
async def the_account_has_one_uid(bench: Bench) -> None:
    """`whoami` says the same twice, and it does not hold the key."""
    first, second = await bench.provider.whoami(), await bench.provider.whoami()
    require(bool(first.strip()), "the uid is empty")
    require(first == second, "two calls, two uids")
    require(not any(secret in first for secret in bench.secrets), "the uid holds the key")


@promise("accounts")
async def another_key_is_another_account(bench: Bench) -> None:
    """The key of somebody else has another uid."""
    async with bench.another("somebody-elses-key-0123456789abcdef") as theirs:
        require(await theirs.whoami() != await bench.provider.whoami(), "the same uid")


@promise()
async def every_scope_can_be_listed(bench: Bench) -> None:
    """Lists say their scope, their account and when they were asked; scopes are different."""
    uid, scopes = await bench.provider.whoami(), await bench.provider.scopes()
    require(bool(scopes), "no scope: nothing could be swept")
    require(len(set(scopes)) == len(scopes), "a scope twice")
    for scope in scopes:
        before = bench.clock.now()
        listing = await bench.provider.list(scope)
        require(listing.scope == scope, f"asked for {scope!r}, answered for {listing.scope!r}")
        require(listing.account_uid == uid, "the list's account is not that of `whoami`")
        require(listing.complete, "a list without any trouble is not complete")
        require(listing.asked_at >= before, "asked_at lies before the question")


@promise("many", "requests")
async def a_create_is_one_request(bench: Bench) -> None:
    """Exactly one request arrives, and the machine exists then."""
    spec, offer, attempt = bench.spec(), await bench.cheapest(), bench.attempt()
    have = await bench.needs(spec, offer, attempt)
    before = bench.requests()
    ref = await bench.provider.create(spec, offer, attempt, have)
    sent = bench.requests() - before
    bench.made.append(Made(ref=ref, attempt=attempt, spec=spec, offer=offer, have=have))
    require(sent == 1, f"{sent} requests arrived")
    require(bool(await bench.provider.get(ref)), "there is no such machine")


@promise("machine")
async def a_machine_is_the_same_wherever_it_is_told(bench: Bench) -> None:
    """`create`, `find`, `get` and `list` give one Ref, owner, attempt and name."""
    made = await bench.machine()
    found = await bench.provider.find(made.attempt, made.offer)
    told = {
        "find": found,
        "get": (await bench.provider.get(made.ref),),
        "list": await listed(bench, made.ref),
    }
    faults = []
    for how, machines in told.items():
        if len(machines) != 1:
            faults.append(f"{how} tells it {len(machines)} times")
        faults += [f"{how}: {fault}" for machine in machines for fault in _unlike(made, machine)]
    none_of(faults)


def _unlike(made: Made, machine: Instance) -> list[str]:
    wanted = {"ref": made.ref, "owner": made.attempt.owner, "attempt": made.attempt.id}
    return [
        f"{field} is {getattr(machine, field)!r}, not {value!r}"
        for field, value in wanted.items()
        if getattr(machine, field) != value
    ]


@promise("machine")
async def a_machine_is_as_it_was_offered(bench: Bench) -> None:
    """GPU, count and price of the record are those of the offer, as far as they are told."""
    from gpubroker.catalog.gpus import resolve

    made = await bench.machine()
    machine, offer = await bench.provider.get(made.ref), made.offer
    if machine.gpu is not None:
        gpu = resolve(machine.gpu, memory_gb=offer.gpu.memory_gb)
        require(gpu.name == offer.gpu.name, f"{machine.gpu!r} was offered as {offer.gpu.raw!r}")
    if machine.gpu_count is not None:
        require(machine.gpu_count == offer.gpu_count, f"{machine.gpu_count} GPUs")
    if machine.price is not None:
        dearest = offer.price.hourly(machine.disk_gb or 0) * 1.02
        require(0 < machine.price <= dearest, f"{machine.price} an hour, offered for {dearest:.0f}")
    require(machine.healthy, f"it runs and is not healthy: {machine.raw_state}")
    require(machine.bills_compute, "it runs, and bills_compute is False")
    require(bool(machine.raw_state), "raw_state is empty")


@promise("machine")
async def another_attempt_finds_nothing(bench: Bench) -> None:
    """`find` tells no machine of another attempt, ours or not."""
    made = await bench.machine()
    found = await bench.provider.find(bench.attempt(), made.offer)
    require(found == (), f"{len(found)} machines of another attempt")


@promise("many")
async def attempts_are_told_apart(bench: Bench) -> None:
    """Of two machines each is found by its own attempt alone."""
    first, second = await bench.make(), await bench.make()
    require(first.ref != second.ref, "two machines, one Ref")
    for made in (first, second):
        refs = [machine.ref for machine in await bench.provider.find(made.attempt, made.offer)]
        require(refs == [made.ref], f"{len(refs)} machines")


@promise("many")
async def machines_of_others_are_listed_without_an_owner(bench: Bench) -> None:
    """A machine that gpubroker did not make is in the list, and nobody's."""
    made = await bench.make(attempt=Stranger("by-hand", "by-hand", "none"))
    seen = await listed(bench, made.ref)
    require(len(seen) == 1, f"it is in the list {len(seen)} times")
    for machine in (*seen, await bench.provider.get(made.ref)):
        mark = machine.owner, machine.attempt
        require(mark == (None, None), f"owner and attempt are {mark}")


@promise("many", "accounts")
async def machines_of_other_accounts_are_not_listed(bench: Bench) -> None:
    """With another key our machine is in no list and not found."""
    made = await bench.make()
    async with bench.another("somebody-elses-key-0123456789abcdef") as theirs:
        for scope in await theirs.scopes():
            refs = {machine.ref.id for machine in (await theirs.list(scope)).instances}
            require(made.ref.id not in refs, "it is in the list")
        require(await theirs.find(made.attempt, made.offer) == (), "it is found")


@promise("machine")
async def an_unknown_id_is_not_found(bench: Bench) -> None:
    """`get` of an id that never was is NotFound, where the cloud has words for it."""
    made = await bench.machine()
    last = made.ref.id.rpartition("/")
    twin = Ref(
        made.ref.provider, made.ref.account, made.ref.scope, "".join(last[:2]) + unlike(last[2])
    )
    try:
        machine = await bench.provider.get(twin)
    except NotFound:
        return
    except BadResponse:
        require(bench.provider.capabilities.gone == "absent", "bad_response instead of not_found")
        return
    require(machine.state is State.TERMINATED, f"a machine that is {machine.state}")


def unlike(id_: str) -> str:
    """An id of the same form that is another one."""
    turned = id_[:1] + id_[1:].translate(_MIRRORED)
    return turned if turned != id_ else id_ + "x"


@promise("many", "requests")
async def a_terminate_is_one_request_and_can_be_repeated(bench: Bench) -> None:
    """One request each; the second one is no error, before the machine is gone and after."""
    made = await bench.make()
    await bench.until(made, State.RUNNING)
    before = bench.requests()
    await bench.provider.terminate(made.ref)
    sent = bench.requests() - before
    require(sent == 1, f"{sent} requests arrived")
    await bench.provider.terminate(made.ref)
    await bench.until_gone(made)
    await bench.provider.terminate(made.ref)


@promise("machine", ends=True)
async def the_end_is_proven_as_declared(bench: Bench) -> None:
    """After `terminate` the machine is gone by `capabilities.gone`, and costs nothing."""
    made = await bench.machine()
    await bench.end(made)
    if "truth" in bench.abilities:
        require(not bench.is_billed(made.ref), "the cloud still charges for it")
    for machine in await listed(bench, made.ref):
        require(not bills(machine), f"it is listed as {machine.state} and billed")


@promise("many", applies=lambda provider: provider.capabilities.stop != "none")
async def a_machine_stops_and_starts(bench: Bench) -> None:
    """Stopped it says so and charges no compute; started it runs again under its attempt."""
    provider = bench.provider
    if not isinstance(provider, Stoppable):
        broken("no stop() and start()")
    made = await _told_to_stop(bench, provider)
    stopped = await bench.until(made, State.STOPPED)
    require(not stopped.bills_compute, "stopped, and bills_compute is True")
    if "truth" in bench.abilities:
        charged = bench.is_billed(made.ref)
        require(stopped.bills_disk >= charged, "it is charged, and bills_disk is False")
    told = await provider.start(made.ref)
    # A started machine may have another id: its attempt is the same.
    (again,) = await provider.find(made.attempt, made.offer) or (stopped,)
    require(told in {None, again.ref}, "start() tells another id than find()")
    renames = bench.provider_class.capabilities.start_renames
    require(renames or again.ref == made.ref, "it has another id: declare start_renames")
    moved = Made(
        ref=again.ref, attempt=made.attempt, spec=made.spec, offer=made.offer, have=made.have
    )
    bench.made[bench.made.index(made)] = moved
    await bench.until(moved, State.RUNNING)


async def _told_to_stop(bench: Bench, provider: Stoppable) -> Made:
    """A machine of the cheapest model that can be stopped: a cloud may refuse it of some."""
    models = {offer.gpu.label: offer for offer in reversed(await bench.affordable())}
    for offer in sorted(models.values(), key=lambda offer: (offer.price.compute, offer.key)):
        made = await bench.make(offer=offer)
        await bench.until(made, State.RUNNING)
        try:
            await provider.stop(made.ref)
        except Unsupported:
            await bench.end(made)
        else:
            return made
    return broken("no model can be stopped")


class Impossible(Struct, frozen=True):
    """Something to ask for that a cloud of these capabilities has not."""

    what: str
    change: dict[str, object]


def impossible(bench: Bench) -> list[Impossible]:
    """What this cloud declares that it cannot do."""
    can = bench.provider_class.capabilities
    volume = Ref(bench.provider_class.name, "default", "", "no such volume")
    wishes = [Impossible("a volume that there is not", {"volumes": ((volume, "/data"),)})]
    if can.image == "none":
        wishes.append(Impossible("a container image", {"image": "ubuntu:24.04"}))
    if Kind.VM not in can.kinds:
        wishes.append(Impossible("a VM's image", {"vm_image": "ubuntu-24-04"}))
    if can.env == "none":
        wishes.append(Impossible("variables", {"env": {"GREETING": "hello"}}))
    if can.ports == "none":
        wishes.append(Impossible("a port", {"ports": ((8888, "tcp"),)}))
    if can.startup == "none":
        wishes.append(Impossible("a startup script", {"startup_script": "true"}))
    return wishes


@promise("many")
async def nothing_that_was_asked_for_is_dropped(bench: Bench) -> None:
    """What the cloud cannot do is refused, and no machine is made without it."""
    offer, faults = await bench.cheapest(), []
    for wish in impossible(bench):
        try:
            await bench.make(bench.spec(**wish.change), offer)
        except Refused:
            continue
        except BrokerError as error:
            faults.append(f"{wish.what}: {error.word} instead of a refusal")
        else:
            faults.append(f"{wish.what} was passed over in silence")
    none_of(faults)
