"""Lyceum: virtual machines with NVIDIA GPUs in European data centers, on demand and spot.

A machine cannot be stopped, only ended, and what it charges ends with that alone: the timer on it
only warns. Its create takes up to two and a half minutes and is known by its display name. It takes
one SSH key; your own, variables and scripts come over SSH. Its one address may be shared with
others, so that no ports can be asked for. Volumes outlive their machines and are mounted where the
vendor chooses: gpubroker attaches none.
"""

# ruff: noqa: ARG002 - the interface hands every cloud what any of them needs

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import asdict, replace

from gpubroker.catalog.gpus import resolve
from gpubroker.model.bill import Bill, BillLine
from gpubroker.model.capabilities import Capabilities, Limit
from gpubroker.model.errors import (
    BadResponse,
    BrokerError,
    NoCapacity,
    NotFound,
    OutOfFunds,
    RateLimited,
)
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import Endpoint, Instance
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import HIGHEST_PRICE_USD, Nanos, nanos
from gpubroker.model.offer import Offer, OfferPage, Price
from gpubroker.model.query import Query
from gpubroker.model.terms import Availability, Carrier, Expiry, Kind, Market, Resource, State
from gpubroker.providers.accounts import Account, Wiring
from gpubroker.providers.bills import bill_of
from gpubroker.providers.boot import seconds_left, vm_boot
from gpubroker.providers.bounds import Bounds
from gpubroker.providers.carriers import whose
from gpubroker.providers.exchange import UNREADABLE, Answer
from gpubroker.providers.fields import (
    Count,
    Moment,
    SignedUsd,
    Told,
    Usd,
    Word,
    signed_nanos,
    told,
    utc,
)
from gpubroker.providers.holdings import KeepsThings, Shelf
from gpubroker.providers.offering import Gathered, live, placed
from gpubroker.providers.paging import Whole
from gpubroker.providers.pushdown import read_options
from gpubroker.providers.quarantine import Rejected, RowReader, mostly_sound, shortened
from gpubroker.providers.refusals import SERVER, Rule, classify
from gpubroker.providers.registered_keys import broker_key
from gpubroker.providers.states import StateTable, state_by

# What it is

NAME = "lyceum"
USER = "lyceum"
REGION = "eu"
"""The vendor tells no places of machines; all its data centers are in the EU."""
DISK_GB = 100
"""Of each machine, at least (Lyceum docs, virtual machines)."""
LONGEST_CREATE_S = 150.0
"""So long the vendor's client waits for the answer (lyceum-cli 1.2.2)."""

_CALLS = "whoami offers find get list create terminate billing balance resources discard"
CAPABILITIES = Capabilities(
    kinds=frozenset({Kind.VM}),
    markets=frozenset({Market.ON_DEMAND, Market.SPOT}),
    carriers=(Carrier.NAME,),
    # Whether the machines bring Docker is not told.
    image="none",
    startup="over_ssh",
    startup_max_bytes=1_000_000,
    ssh="sshd",
    ssh_keys="inline",
    env="bootstrap",
    ports="none",
    stop="none",
    expiry=Expiry.CONTROLLER_ONLY,
    create_deadline_s=180,
    # The vendor promises neither.
    list_lag_s=120,
    absence_grace_s=120,
    gone="tombstone",
    async_create=True,
    billing="exact",
    # How soon the figure is final is not told.
    billing_lag_s=3600,
    limits=(
        # None is documented.
        Limit("all", frozenset(_CALLS.split()), interval_s=1.0, burst=3),
        Limit("create", frozenset({"create"}), interval_s=10.0),
    ),
)

RULES = (
    Rule(RateLimited, statuses=(429,)),
    Rule(OutOfFunds, statuses=(402,), code="insufficient_credits"),
    # No code for it is documented: the words that the vendor's docs and client hint at.
    Rule(NoCapacity, ("capacity", "not available", "no available"), (400, 409, 422), ("create",),
         "no_capacity", "type_region"),
    # After a fault of the server the machine may be there: see `refusal`.
    Rule(NoCapacity, ("no capacity",), (500, 503), ("create",), "no_capacity", "type_region"),
    # A missing route is a bare "Not Found", and may tell the path that was asked for.
    Rule(NotFound, ("vm not found",), (404,), ("get", "terminate", "billing"), "no_such_vm"),
    Rule(NotFound, ("volume not found",), (404,), ("discard",), "no_such_volume"),
)  # fmt: skip

_SHOWN = """
detail loc msg type error message available_instance_variants hardware_profile instance_type
price_per_hour available_gpus_per_instance block_storage_gpu_counts prices meter_slug group_by
unit_price unit_price_per_hour vms total vm_id status created_at instance_specs gpu_count
ip_address name display_name billed croesus_billed uptime_seconds volumes volume_id size_gb
mount_path detached_volumes location attached_vm_id org_id slug is_personal is_key_scoped balance
account_suspended include_provisioning include_ready include_failed include_terminated
"""
SHOWN = frozenset(_SHOWN.split())
"""Fields whose values may be written down. Not among them: keys."""

_STATES: StateTable = (
    (State.RUNNING, {"status": {"ready", "running"}, "reachable": {True}}),
    (State.PENDING, {"status": {"pending", "provisioning", "ready", "running"}}),
    # Of its bill nobody says a word, and the vendor's client takes it for no end.
    (State.STOPPED, {"status": {"stopped"}}),
    # A spot machine that was taken away says the same.
    (State.TERMINATED, {"status": {"terminated"}}),
    (State.FAILED, {"status": {"failed", "error"}}),
)
MARKETS = {"on-demand": Market.ON_DEMAND, "spot": Market.SPOT}
MOST_GPUS = 99
_MACHINES, _BY = "vm_running", "hardware_profile"
_PRICED = re.compile(r"(on-demand|spot)\.([a-z0-9._-]{1,60})\.([1-9][0-9]?)x")


# How offers are read


class Variant(Struct):
    """A profile that can be had now, priced by the GPU."""

    hardware_profile: Told
    instance_type: Word
    available_gpus_per_instance: tuple[Count, ...]
    price_per_hour: Usd | None = None


class Profile(Struct):
    """What a price is of: `on-demand.a100.2x`."""

    hardware_profile: Told


class Rate(Struct):
    """An hour of a whole machine, where `meter_slug` says that it is of one."""

    meter_slug: Told
    group_by: Any = None
    unit_price_per_hour: Any = None


class MachineRate(Struct):
    """What a rate of machines tells."""

    group_by: Profile
    unit_price_per_hour: Usd


_variants = RowReader(Variant, under="available_instance_variants", provider=NAME)
_rates = RowReader(Rate, under="prices", provider=NAME)
_machine_rates = RowReader(MachineRate, under="prices", provider=NAME)
Sold = tuple[str, str, int]
"""(instance type, profile in lower case, GPUs)."""


def parse_prices(body: bytes) -> tuple[dict[Sold, float], list[Rejected]]:
    """Of whole machines, also of those that are not to be had now; rows that cannot be read."""
    found: dict[Sold, float] = {}
    rates, rejected = _rates.read(body)
    told, unread = _machine_rates.each(asdict(rate) for rate in rates if _of_machines(rate))
    for rate in told:
        named = _PRICED.fullmatch(rate.group_by.hardware_profile.lower())
        if named and rate.unit_price_per_hour:
            sold = named[1], named[2], int(named[3])
            found[sold] = max(rate.unit_price_per_hour, found.get(sold, 0.0))
        else:
            unread.append((shortened(rate.group_by), "a profile of another form, or no price"))
    return found, rejected + unread


def _of_machines(rate: Rate) -> bool:
    """By its meter, or by what it is grouped by: there are rates of tokens, too."""
    group = rate.group_by if isinstance(rate.group_by, dict) else {}
    return rate.meter_slug == _MACHINES or bool(_PRICED.fullmatch(str(group.get(_BY)).lower()))


def parse_offers(
    body: bytes,
    prices: Mapping[Sold, float],
    *,
    account: str,
    fetched_at: datetime,
    unread: Sequence[Rejected] = (),
) -> tuple[tuple[Offer, ...], tuple[Rejected, ...]]:
    """What can be had, and what has a price and cannot. Machines without GPU are left out.

    `unread`: rows of the prices that were put aside. A machine's own may be among them, so that
    its price is made up of that of one GPU only where there are none.
    Raises BadResponse where it is no answer of this call.
    """
    rows, rejected = _variants.read(body)
    shared = live(NAME, account, Kind.VM, fetched_at) | placed(REGION, provider=NAME)
    gone = Availability.UNKNOWN if rejected else Availability.NO
    found, free = Gathered([*unread, *rejected]), set()
    for row in rows:
        profile = row.hardware_profile.lower()
        if row.instance_type not in MARKETS:
            found.reject(row, "an instance type that is not known")
            continue
        for count in row.available_gpus_per_instance:
            sold = row.instance_type, profile, count
            made_up = 0.0 if unread else (row.price_per_hour or 0.0) * count
            free.add(sold)
            if not _has_gpu(profile):
                continue
            if count > MOST_GPUS:
                found.reject(row, "more GPUs than a machine has")
            else:
                found.add(
                    row, _offer(sold, prices.get(sold, made_up), row.hardware_profile, shared)
                )
    for sold, price in prices.items():
        if sold not in free and _has_gpu(sold[1]):
            offer = replace(_offer(sold, price, sold[1], shared), availability=gone)
            found.add(Profile(".".join(map(str, sold))), offer)
    return found.told()


def _has_gpu(profile: str) -> bool:
    return not profile.startswith("cpu")


def _offer(sold: Sold, price: float, profile: str, shared: Mapping[str, Any]) -> Offer:
    instance_type, lower, count = sold
    return Offer(
        **shared,
        key=f"{instance_type}:{lower}:{count}x",
        gpu=resolve(profile),
        gpu_count=count,
        market=MARKETS[instance_type],
        disk_gb=DISK_GB,
        price=Price(compute=nanos(price)),
        availability=Availability.YES,
        datacenter=True,
        launch={"hardware_profile": profile, "instance_type": instance_type},
    )


# What a create sends

_bounds = Bounds(NAME)


def launch(spec: LaunchSpec, offer: Offer, attempt: Attempt) -> dict[str, Any]:
    """The body of a create. Invalid names the field that is out of bounds."""
    _bounds.takes_no(spec, "image", "vm_image", "registry_auth", "ports", "volumes", "bid")
    _bounds.disk_of_type(spec, offer)
    return {
        "user_public_key": broker_key(spec, attempt, NAME).public_key,
        **offer.launch,
        "instance_specs": {"gpu_count": offer.gpu_count},
        "display_name": attempt.name,
    }


# How machines are read


class Machine(Struct):
    """One VM."""

    vm_id: Told
    status: Told
    created_at: Moment | None = None
    ip_address: Word | None = None
    hardware_profile: Word | None = None
    gpu_count: Count | None = None
    instance_type: Word | None = None
    display_name: Word | None = None

    @property
    def reachable(self) -> bool:
        """Until it is it boots."""
        return bool(self.ip_address)

    @property
    def ssh(self) -> Endpoint | None:
        """Behind a shared address the port is another than 22."""
        host, colon, port = (self.ip_address or "").rpartition(":")
        if colon and ":" not in host and port.isdecimal():
            return Endpoint(host, int(port), USER)
        return Endpoint(self.ip_address, 22, USER) if self.ip_address else None


class Listed(Struct):
    """All machines in one answer."""

    vms: tuple[Machine, ...]
    total: Count | None = None


class Volume(Struct):
    """A disk that outlives machines."""

    id: Told = field(name="volume_id")
    name: Word | None = None


class Organisation(Struct):
    """Whose key it is."""

    org_id: Told
    slug: Told


class Made(Struct):
    """What a create answers."""

    vm_id: Told


class Credit(Struct):
    """Of the organisation."""

    balance: SignedUsd | Word

    @property
    def usd(self) -> float:
        """`"123.45"`, too. ValueError where it is no number."""
        return float(self.balance)


state_of = partial(state_by, _STATES)


def instance_of(row: Machine, account: str) -> Instance:
    """A machine as the vendor tells it."""
    state = state_of(row)
    owner, attempt = whose(row.display_name)
    ended = state is State.TERMINATED
    return Instance(
        ref=Ref(NAME, account, "", row.vm_id),
        owner=owner,
        attempt=attempt,
        name=row.display_name,
        state=state,
        raw_state=row.status,
        healthy=state is not State.UNKNOWN,
        bills_compute=not ended,
        bills_disk=False,
        gpu=row.hardware_profile,
        gpu_count=row.gpu_count,
        region=REGION,
        ssh=None if ended or state is State.STOPPED else row.ssh,
        created_at=utc(row.created_at),
        raw=told(row, ("vm_id", "status", "hardware_profile", "instance_type", "gpu_count")),
    )


# How charges are read


Charge = Annotated[float, Meta(ge=0, le=1000 * HIGHEST_PRICE_USD)]


class Charged(Struct):
    """What a machine's record tells of its charges."""

    vm_id: Told
    croesus_billed: Charge | None = None
    billed: Charge | None = None

    @property
    def told(self) -> float | None:
        """Charged so far: the newer figure, else the older. None where neither is there."""
        return self.billed if self.croesus_billed is None else self.croesus_billed

    @property
    def amount(self) -> float:
        """In USD."""
        return self.told or 0.0

    def lines(self) -> tuple[BillLine, ...]:
        """One sum is told, and no times."""
        return ()


# Calls

_BELOW = "/api/v2/external"
_VMS, _VOLUMES = f"{_BELOW}/vms", f"{_BELOW}/storage/block"
_EVERY = dict.fromkeys(
    ("include_provisioning", "include_ready", "include_failed", "include_terminated"), "true"
)
_MISSING = 404


class Detail(Struct):
    """The form of the vendor's refusals."""

    detail: Told


def _detail(body: bytes) -> str:
    """Of an answer in that form, else an empty text."""
    try:
        return msgspec.json.decode(body, type=Detail).detail
    except UNREADABLE:
        return ""


class Lyceum(KeepsThings):
    """One account at Lyceum: each call one question."""

    name = NAME
    display_name = "Lyceum"
    website = "https://lyceum.technology/"
    console = "https://dashboard.lyceum.technology/"
    charges_page = "https://dashboard.lyceum.technology/"
    credentials = ("LYCEUM_API_KEY",)
    capabilities = CAPABILITIES
    base_url = "https://api.lyceum.technology"
    rules = RULES
    shown = SHOWN
    shelves = (Shelf(Resource.VOLUME, _VOLUMES, "volumes", rows=tuple[Volume, ...]),)

    @classmethod
    def connect(cls, account: Account, wiring: Wiring) -> Self:
        """With the patience that its creates need."""
        patient = {"create": LONGEST_CREATE_S, **wiring.deadlines}
        return super().connect(account, replace(wiring, deadlines=patient))

    def refusal(self, operation: str, answer: Answer, hide: Sequence[str] = ()) -> BrokerError:
        """A fault of the server is taken at its word only in the vendor's own form.

        A gateway answers in words of its own, and its create may go on behind it.
        """
        if answer.status < SERVER or _detail(answer.body):
            return super().refusal(operation, answer, hide)
        redactor = self.http.redactor.hiding((*hide, *answer.hidden))
        return classify(answer, (), provider=NAME, operation=operation, redactor=redactor)

    async def uid(self, operation: str) -> str:
        """The organisation that the key is of."""
        return (await self._organisation(operation)).org_id

    async def machines(self, operation: str) -> Whole[Instance]:
        """All, those that ended too: the list has no pages."""
        listed = await self.ask_for(Listed, operation, "GET", f"{_VMS}/list", params=_EVERY)
        once = {row.vm_id: instance_of(row, self.account) for row in listed.vms}
        return Whole(tuple(once.values()), complete=listed.total in {None, len(once)})

    async def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        """What can be had now; an older gateway has no list of prices."""
        read_options(query, NAME, {}, {})
        if query.market not in {None, *CAPABILITIES.markets}:
            return
        priced = await self.send("offers", "GET", f"{_BELOW}/pricing")
        if self.refused(priced) and priced.status != _MISSING:
            raise self.refusal("offers", priced)
        answer = await self.ask("offers", "GET", f"{_VMS}/availability")
        prices, unread = parse_prices(priced.body) if priced.ok else ({}, [])
        rows, rejected = parse_offers(
            answer.body, prices, account=self.account, fetched_at=answer.asked_at, unread=unread
        )
        # That nothing can be had is told by an empty list.
        yield OfferPage(None, mostly_sound(len(rows), len(rejected)), rows, rejected)

    async def create(
        self, spec: LaunchSpec, offer: Offer, attempt: Attempt, have: Mapping[Resource, Ref]
    ) -> Ref:
        """One request for one machine, which may fail later."""
        self.takes_no_options("create", spec)
        body = launch(spec, offer, attempt)
        made = await self.ask_for(Made, "create", "POST", f"{_VMS}/create", body)
        return self.ref(made.vm_id)

    def after_boot(self, spec: LaunchSpec, offer: Offer, attempt: Attempt, now: datetime) -> str:
        """All that a machine does at its start: a create takes none of it."""
        left_s = seconds_left(spec, now)
        return vm_boot(spec, limit=0, seconds_left=left_s, user=USER, end="").after

    async def get(self, ref: Ref) -> Instance:
        """NotFound by the vendor's words; ended ones are told as such for a time."""
        row = await self.ask_for(Machine, "get", "GET", self._path(ref))
        return self.same(ref, instance_of(row, self.account))

    async def terminate(self, ref: Ref) -> None:
        """Ends it; volumes that hang on it stay. Gone already is fine."""
        with suppress(NotFound):
            await self.ask("terminate", "DELETE", f"{_VMS}/{_bounds.plain_id(ref.id, 'ref')}")

    async def billing(self, ref: Ref, since: datetime, until: datetime | None) -> Bill:
        """By the machine's own record, which stays for a time after its end."""
        path = self._path(ref)
        try:
            charged = await self.ask_for(Charged, "billing", "GET", path)
        except NotFound:
            return Bill(status="unknown", evidence=f"{ref.id} is told no more")
        if charged.vm_id != ref.id:
            raise self.http.error(BadResponse, "billing", f"another machine than {ref.id}")
        if charged.told is None:
            waits: Literal["running", "pending"] = "running" if until is None else "pending"
            return Bill(status=waits, evidence=f"{path}: no figure yet")
        return bill_of(
            [charged],
            until=until,
            now=self.http.clock.now(),
            lag_s=CAPABILITIES.billing_lag_s,
            complete=True,
            evidence=path,
        )

    async def balance(self) -> Nanos:
        """What the organisation can still spend."""
        slug = (await self._organisation("balance")).slug
        path = f"{_BELOW}/orgs/{_bounds.plain_id(slug, 'slug')}/balance"
        credit = await self.ask_for(Credit, "balance", "GET", path)
        try:
            return signed_nanos(credit.usd)
        except ValueError:
            raise self.http.error(BadResponse, "balance", "a balance that is none") from None

    async def _organisation(self, operation: str) -> Organisation:
        return await self.ask_for(Organisation, operation, "GET", f"{_BELOW}/user/org")

    @staticmethod
    def _path(ref: Ref) -> str:
        return f"{_VMS}/{_bounds.plain_id(ref.id, 'ref')}/status"
