"""Hyperstack: virtual machines with NVIDIA GPUs in Canada, Norway and the US, billed by the minute.

A machine that is shut off costs as much as one that runs, so that a stop hibernates it: the GPU is
given back, the root disk and the public address go on costing, and the second, larger disk of its
type is lost. Types without hibernation (RTX A4000, H100 SXM in US-1, those marked so) cannot be
stopped. Only a terminate ends the billing: the timer on a machine only warns. Machines and keys
lie in an environment: the account's own `default-<REGION>`, else one of this owner,
`gb-<owner>-<REGION>`, which stays for the next machine, as the key does. All ports but those that
are asked for are closed. Volumes are attached and never mounted by the cloud, so none can be asked
for. The cloud names no account that a key belongs to: another key counts as another account.
"""

# ruff: noqa: ARG002 - the interface hands every cloud what any of them needs

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct, field

from gpubroker.model.bill import Bill, BillLine
from gpubroker.model.capabilities import Capabilities, Limit
from gpubroker.model.errors import (
    Invalid,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    OutOfFunds,
    QuotaExceeded,
    RateLimited,
    Unavailable,
    WrongState,
)
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import Endpoint, Instance
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import Nanos
from gpubroker.model.offer import Offer, OfferPage
from gpubroker.model.query import Query
from gpubroker.model.terms import Carrier, Expiry, Kind, Market, Resource, State
from gpubroker.providers.accounts import Account
from gpubroker.providers.bills import bill_of
from gpubroker.providers.boot import Boot, seconds_left, secrets_of, vm_boot
from gpubroker.providers.bounds import Bounds
from gpubroker.providers.carriers import whose
from gpubroker.providers.endpoints import at
from gpubroker.providers.exchange import UNREADABLE
from gpubroker.providers.fields import Count, Id, SignedUsd, Text, Word, signed_nanos, told, utc
from gpubroker.providers.fingerprint import fingerprint
from gpubroker.providers.holdings import KeepsThings, Shelf
from gpubroker.providers.http import Transport
from gpubroker.providers.hyperstack_market import (
    NAME,
    Flavor,
    Images,
    images_of,
    parse_offers,
    prices_of,
)
from gpubroker.providers.offering import page_of
from gpubroker.providers.paging import Page, Whole, all_pages
from gpubroker.providers.pushdown import read_options
from gpubroker.providers.refusals import Rule
from gpubroker.providers.registered_keys import BrokerKey, broker_key, key_name, registered
from gpubroker.providers.states import StateTable, state_by

# What it is

USER = "ubuntu"
SSH_PORT = (22, "tcp")
LONGEST_USER_DATA = 16_384
"""Bytes. The vendor names no bound: as little as the most modest cloud takes."""
MOST_PORTS = 20
"""The vendor names no bound."""
OPEN_TO_ALL = "0.0.0.0/0"
PAGE_ROWS = 100

_CALLS = (
    "whoami offers find get list ensure create terminate billing balance stop start resources "
    "discard"
)
CAPABILITIES = Capabilities(
    kinds=frozenset({Kind.VM}),
    markets=frozenset({Market.ON_DEMAND, Market.SPOT}),
    # A name that is taken is refused; the label says it once more.
    carriers=(Carrier.UNIQUE_NAME, Carrier.TAG),
    image="docker_on_vm",
    startup="cloud_init",
    startup_max_bytes=LONGEST_USER_DATA,
    ssh="sshd",
    ssh_keys="registry",
    env="bootstrap",
    ports="at_create",
    # SHUTOFF is "billed", HIBERNATED "partially billed" (Hyperstack docs, states and billing).
    stop="loses_gpu",
    expiry=Expiry.CONTROLLER_ONLY,
    registry_auth=True,
    needs=(Resource.NAMESPACE, Resource.SSH_KEY),
    # The vendor promises none of these three.
    create_deadline_s=120,
    list_lag_s=120,
    absence_grace_s=120,
    gone="404",
    async_create=True,
    billing="exact",
    # How soon the record is complete is not told.
    billing_lag_s=3600,
    limits=(
        # None is documented; clients that work keep to 8 a second. A search is three requests.
        Limit("all", frozenset(_CALLS.split()), interval_s=0.5, burst=6),
        Limit("create", frozenset({"create"}), interval_s=10.0),
    ),
)

_BUYS = ("create", "start")
RULES = (
    Rule(RateLimited, statuses=(429,)),
    # By this very attempt, perhaps, sent before: the list tells. "Not available" may be the name.
    Rule(OutcomeUnknown, ("name", "exist"), (409,), ("create",), code="name_taken"),
    # Documented of a public address alone, which a create asks for: the machine may be there.
    Rule(OutcomeUnknown, statuses=(402,), operations=("create",), code="no_credit"),
    Rule(OutOfFunds, statuses=(402,), code="no_credit"),
    Rule(OutOfFunds, ("credit", "funds", "balance"), (400, 403), _BUYS, code="no_credit"),
    Rule(QuotaExceeded, ("quota", "limit"), (400, 403, 409), ("create", "ensure"), code="quota"),
    Rule(Invalid, ("image",), (400, 404), ("create",)),
    Rule(NoCapacity, ("stock", "not available", "insufficient", "capacity"), (400, 409), _BUYS,
         scope="type_region", code="no_capacity"),
    Rule(OutcomeUnknown, statuses=(409,), operations=("create",)),
    # Read just before and not there: another process of this owner made it meanwhile.
    Rule(Unavailable, statuses=(409,), operations=("ensure",)),
    # Its reason alone is no proof: what a wrong path is answered is not documented.
    Rule(NotFound, ("virtual machine", "instance", "vm "), (404,), codes=("not_found",)),
    Rule(NotFound, ("environment", "keypair", "key pair"), (404,), ("discard",),
         codes=("not_found",)),
    Rule(NotFound, codes=("not_found",), statuses=(404,), operations=("create", "ensure")),
    # "… is currently being created and cannot be deleted yet", too.
    Rule(WrongState, statuses=(400, 409), operations=("terminate", "stop", "start", "discard")),
)  # fmt: skip

_SHOWN = """
status message error_reason data gpu region_name flavors id name cpu ram disk ephemeral gpu_count
stock_available value original_value discount_applied images type version environments environment
region keypairs keypair fingerprint instances instance power_state vm_state floating_ip
floating_ip_status fixed_ip flavor security_rules direction protocol port_range_min port_range_max
ethertype remote_ip_prefix labels locked created_at count page page_size environment_name
flavor_name image_name key_name assign_floating_ip enable_port_randomization credit threshold
can_create_instance billing_events_history event start event_duration price_per_hour total_cost
"""
SHOWN = frozenset(_SHOWN.split())
"""Fields whose values may be written down. Not among them: user_data, keys, callbacks."""

_PENDING = "CREATING BUILD STARTING REBOOTING HARD_REBOOT RESTORING REBUILD RESIZE RESIZING"
_STOPPED = "SHUTOFF HIBERNATED STOPPED PAUSED SUSPENDED SHELVED SHELVED_OFFLOADED"
_STATES: StateTable = (
    (State.PENDING, {"status": frozenset(_PENDING.split())}),
    (State.RUNNING, {"status": {"ACTIVE"}}),
    (State.STOPPING, {"status": {"STOPPING", "HIBERNATING"}}),
    (State.STOPPED, {"status": frozenset(_STOPPED.split())}),
    (State.TERMINATING, {"status": {"DELETING"}}),
    (State.TERMINATED, {"status": {"DELETED", "SOFT_DELETED"}}),
    (State.FAILED, {"status": {"ERROR"}}),
)
HIBERNATED = "HIBERNATED"
_PORTS = range(1, 65536)
_NOT_BILLED = """
CREATING BUILD STARTING STOPPING REBOOTING HARD_REBOOT RESTORING HIBERNATING HIBERNATED ERROR
DELETED SOFT_DELETED
"""
_FREE = frozenset(_NOT_BILLED.split())
"""Without a charge for the machine (Hyperstack docs, which states incur costs)."""

# What a create sends

_bounds = Bounds(NAME)


def boot_of(spec: LaunchSpec, left_s: float | None) -> Boot:
    """What it does at its start. `left_s`: until the expiry, of which people on it are warned."""
    return vm_boot(spec, limit=LONGEST_USER_DATA, seconds_left=left_s, user=USER, end="")


def launch(
    spec: LaunchSpec,
    offer: Offer,
    attempt: Attempt,
    have: Mapping[Resource, Ref],
    left_s: float | None = None,
) -> dict[str, Any]:
    """The body of a create. Invalid names the field that is out of bounds."""
    _bounds.takes_no(spec, "bid", "volumes")
    _bounds.disk_of_type(spec, offer)
    _bounds.ports(spec.ports, most=MOST_PORTS)
    image = spec.vm_image or offer.launch.get("image")
    _bounds.require(bool(image), "vm_image", "one, as no Ubuntu is known for this region")
    text = boot_of(spec, left_s).text
    return {
        "name": attempt.name,
        "environment_name": _name_in(have[Resource.NAMESPACE]),
        "image_name": image,
        "flavor_name": offer.key.partition(":")[0],
        "key_name": _name_in(have[Resource.SSH_KEY]),
        "count": 1,
        "assign_floating_ip": True,
        # Else other ports than these are open to the world.
        "enable_port_randomization": False,
        "labels": [attempt.name],
        "security_rules": [_opening(*port) for port in sorted({SSH_PORT, *spec.ports})],
    } | ({"user_data": text} if text else {})


def _opening(port: int, protocol: str) -> dict[str, Any]:
    return {
        "direction": "ingress",
        "ethertype": "IPv4",
        "protocol": protocol,
        "remote_ip_prefix": OPEN_TO_ALL,
        "port_range_min": port,
        "port_range_max": port,
    }


def _name_in(ref: Ref) -> str:
    return ref.id.rpartition("/")[0]


# How machines, environments and keys are read


class Named(Struct):
    """An environment or a key: creates name it, deletes number it."""

    number: Id = field(name="id")
    name: Word

    @property
    def id(self) -> str:
        """`name/number`."""
        return f"{self.name}/{self.number}"


class Environment(Named, kw_only=True):
    """Where machines and keys lie, in one region."""

    region: Word


class Where(Struct):
    """The environment of something."""

    name: Word | None = None
    region: Word | None = None


class Keypair(Named, kw_only=True):
    """One of the account's, in its environment."""

    public_key: Text = ""
    environment: Where | None = None


class SecurityRule(Struct):
    """One opening."""

    direction: Word | None = None
    protocol: Word | None = None
    port_range_min: int | None = None
    """-1 where the protocol has no ports."""
    port_range_max: int | None = None

    @property
    def port(self) -> int | None:
        """The one that it opens inwards, None where it opens none or several."""
        one = self.port_range_min
        alone = self.direction == "ingress" and one == self.port_range_max
        return one if alone and one in _PORTS else None


class Machine(Struct):
    """One VM. Its start text is never told."""

    id: Id
    status: Word
    name: Word | None = None
    floating_ip: Word | None = None
    floating_ip_status: Word | None = None
    environment: Where | None = None
    flavor: Flavor | None = None
    labels: tuple[Word, ...] | None = None
    security_rules: tuple[SecurityRule, ...] | None = None
    created_at: datetime | None = None

    @property
    def region(self) -> str | None:
        """In the words of the offers."""
        return self.environment.region if self.environment else None


class Machines(Struct):
    """A page."""

    rows: tuple[Machine, ...] = field(name="instances")
    count: Count | None = None
    page_size: Count | None = None


class Environments(Struct):
    """A page."""

    rows: tuple[Environment, ...] = field(name="environments")
    count: Count | None = None
    page_size: Count | None = None


class Keypairs(Struct):
    """A page."""

    rows: tuple[Keypair, ...] = field(name="keypairs")
    count: Count | None = None
    page_size: Count | None = None


state_of = partial(state_by, _STATES)


def instance_of(row: Machine, account: str) -> Instance:
    """A machine as the vendor tells it."""
    state, flavor = state_of(row), row.flavor
    owner, attempt = next(filter(all, map(whose, (row.name, *(row.labels or ())))), (None, None))
    there = row.floating_ip if row.floating_ip_status == "ATTACHED" else None
    opened = {
        f"{rule.port}/{rule.protocol}": at(there, rule.port)
        for rule in row.security_rules or ()
        if there and rule.port
    }
    return Instance(
        ref=Ref(NAME, account, "", str(row.id)),
        owner=owner,
        attempt=attempt,
        name=row.name,
        state=state,
        raw_state=row.status,
        healthy=state is not State.UNKNOWN,
        bills_compute=row.status not in _FREE,
        bills_disk=row.status == HIBERNATED,
        gpu=flavor.model if flavor else None,
        gpu_count=flavor.gpu_count if flavor else None,
        disk_gb=flavor.disk if flavor else None,
        region=row.region,
        ssh=Endpoint(host=there, port=SSH_PORT[0], user=USER) if there else None,
        ports={port: where for port, where in opened.items() if port != "22/tcp"},
        created_at=utc(row.created_at),
        raw=told(row, ("id", "status", "floating_ip_status")),
    )


# How charges are read


class Charge(Struct):
    """A stretch in one state, of one machine."""

    event: Word
    start: datetime
    amount: SignedUsd = field(name="total_cost")
    price_per_hour: SignedUsd | None = None

    def lines(self) -> tuple[BillLine, ...]:
        """Its end by its price: the unit of the duration that is told is not documented."""
        since = utc(self.start)
        if since is None:
            return ()
        hours = self.amount / self.price_per_hour if self.price_per_hour else 0.0
        end = since + timedelta(hours=max(0.0, min(hours, 1e5)))
        return (BillLine(self.event, signed_nanos(self.amount), since, end),)


# Calls

_VMS, _ENVIRONMENTS, _KEYS = (
    "/v1/core/virtual-machines",
    "/v1/core/environments",
    "/v1/core/keypairs",
)


class Envelope(Struct):
    """What most answers begin with."""

    status: bool | None = None


class Hyperstack(KeepsThings):
    """One account at Hyperstack: each call one question."""

    name = NAME
    display_name = "Hyperstack"
    website = "https://www.hyperstack.cloud/"
    console = "https://console.hyperstack.cloud/virtual-machines/{id}"
    credentials = ("HYPERSTACK_API_KEY",)
    capabilities = CAPABILITIES
    base_url = "https://infrahub-api.nexgencloud.com"
    rules = RULES
    shown = SHOWN
    shelves = (
        Shelf(Resource.NAMESPACE, _ENVIRONMENTS, rows=Environments),
        Shelf(Resource.SSH_KEY, _KEYS, rows=Keypairs, delete="DELETE /v1/core/keypair/{id}"),
    )

    def __init__(self, account: Account, transport: Transport) -> None:
        super().__init__(account, transport)
        self._fingerprint = fingerprint(account)

    @staticmethod
    def authorization(account: Account) -> Mapping[str, str]:
        """The vendor's own header."""
        return {"api_key": account.key or ""}

    @staticmethod
    def says_no(body: bytes) -> bool:
        """`"status": false`, whatever the HTTP status; two answers have no envelope."""
        with suppress(*UNREADABLE):
            return msgspec.json.decode(body, type=Envelope).status is False
        return False

    async def uid(self, operation: str) -> str:
        """The key's fingerprint, once the vendor has taken the key: it names no account."""
        if operation == "whoami":
            await self.ask_for(Environments, operation, "GET", _ENVIRONMENTS)
        return self._fingerprint

    async def machines(self, operation: str) -> Whole[Instance]:
        """All pages, the oldest machine first."""
        whole = await self._pages(operation, _VMS, Machines)
        return Whole(tuple(instance_of(row, self.account) for row in whole.rows), whole.complete)

    async def on_shelf(self, operation: str, shelf: Shelf) -> Whole[Any]:
        """Environments and keys come in pages, too."""
        return await self._pages(operation, shelf.path, shelf.rows)

    async def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        """All flavors at once; the call takes no filters but the region."""
        read_options(query, NAME, {}, {})
        if query.market not in {None, *CAPABILITIES.markets}:
            return
        prices = prices_of((await self.ask("offers", "GET", "/v1/pricebook")).body)
        public = {"include_public": "true"}
        groups = await self.ask_for(
            tuple[Images, ...], "offers", "GET", "/v1/core/images", under="images", params=public
        )
        answer = await self.ask("offers", "GET", "/v1/core/flavors")
        rows, rejected = parse_offers(
            answer.body,
            account=self.account,
            fetched_at=answer.asked_at,
            prices=prices,
            images=images_of(groups),
        )
        yield page_of(rows, rejected)

    async def ensure(
        self,
        what: Resource,
        spec: LaunchSpec,
        offer: Offer,
        attempt: Attempt,
        have: Mapping[Resource, Ref],
    ) -> Ref:
        """The region's environment, and in it the owner's SSH key."""
        if what is Resource.NAMESPACE:
            return await self._environment(offer.region, attempt)
        if what is Resource.SSH_KEY:
            return await self._key(spec, offer.region, attempt, _name_in(have[Resource.NAMESPACE]))
        raise self.unsupported("ensure", what.value)

    async def release(self, what: Resource, ref: Ref) -> None:
        """Environment and key are the owner's: they stay for his next machine."""

    async def create(
        self, spec: LaunchSpec, offer: Offer, attempt: Attempt, have: Mapping[Resource, Ref]
    ) -> Ref:
        """One request for one machine."""
        self.takes_no_options("create", spec)
        body = launch(spec, offer, attempt, have, seconds_left(spec, self.http.clock.now()))
        hide = (*secrets_of(spec), body.get("user_data", ""))
        made = await self.ask_for(
            tuple[Machine, ...], "create", "POST", _VMS, body, under="instances", hide=hide
        )
        if len(made) != 1:
            raise self.http.error(OutcomeUnknown, "create", f"{len(made)} machines")
        return self.ref(made[0].id)

    def after_boot(self, spec: LaunchSpec, offer: Offer, attempt: Attempt, now: datetime) -> str:
        """What is too long for the create."""
        return boot_of(spec, seconds_left(spec, now)).after

    async def get(self, ref: Ref) -> Instance:
        """NotFound by the vendor's own reason."""
        return self.same(ref, instance_of(await self._machine("get", ref), self.account))

    async def terminate(self, ref: Ref) -> None:
        """Gone already is fine; one that is being created is refused until it is there."""
        with suppress(NotFound):
            await self.ask("terminate", "DELETE", _path(ref))

    async def stop(self, ref: Ref) -> None:
        """Hibernates it, with its address. Unsupported where its type cannot: off bills in full."""
        row = await self._machine("stop", ref)
        if row.status in {HIBERNATED, "HIBERNATING"}:
            return
        if state_of(row) is State.STOPPED:
            why = f"it is {row.status}, which is billed in full: terminate it, or start it first"
            raise self.http.error(WrongState, "stop", why)
        if row.flavor and not row.flavor.hibernates(row.region or ""):
            raise self.unsupported("stop", f"hibernation of {row.flavor.name}")
        await self.ask("stop", "GET", f"{_path(ref)}/hibernate", params={"retain_ip": "true"})

    async def start(self, ref: Ref) -> None:
        """Takes hardware again where it is hibernated; NoCapacity where there is none.

        One that runs, or is on its way there, is left alone: the vendor refuses a second start.
        """
        row = await self._machine("start", ref)
        if state_of(row) in {State.PENDING, State.RUNNING}:
            return
        action = "hibernate-restore" if row.status == HIBERNATED else "start"
        await self.ask("start", "GET", f"{_path(ref)}/{action}")

    async def balance(self) -> Nanos:
        """Of the prepaid money what is left."""
        path, under = "/v1/billing/user-credit/credit", "data.credit"
        return signed_nanos(await self.ask_for(SignedUsd, "balance", "GET", path, under=under))

    async def billing(self, ref: Ref, since: datetime, until: datetime | None) -> Bill:
        """The machine's own events with their costs."""
        path = f"/v1/billing/billing/virtual-machine/{_number(ref)}/billing-events"
        charges = await self.ask_for(
            tuple[Charge, ...], "billing", "GET", path, under="billing_events_history"
        )
        return bill_of(
            charges,
            until=until,
            now=self.http.clock.now(),
            lag_s=CAPABILITIES.billing_lag_s,
            complete=True,
            evidence=f"{len(charges)} billing events of machine {ref.id}",
        )

    async def _machine(self, operation: str, ref: Ref) -> Machine:
        return await self.ask_for(Machine, operation, "GET", _path(ref), under="instance")

    async def _pages(self, operation: str, path: str, shape: Any) -> Whole[Any]:
        async def fetch(token: str | None) -> Page[Any]:
            number = int(token or 1)
            params = {"page": str(number), "pageSize": str(PAGE_ROWS)}
            page = await self.ask_for(shape, operation, "GET", path, params=params)
            # The vendor may give fewer than were asked for.
            most = page.page_size or PAGE_ROWS
            known = page.count if page.count is not None else len(page.rows) + number * most
            more = len(page.rows) >= most and number * most < known
            return Page(page.rows, str(number + 1) if more else None, page.count)

        return await all_pages(fetch, lambda row: row.id)

    async def _environment(self, region: str, attempt: Attempt) -> Ref:
        """The account's own for the region, else the owner's, which is made."""
        ours = f"{key_name(attempt)}-{region}"
        whole: Whole[Environment] = await self._pages("ensure", _ENVIRONMENTS, Environments)
        there = {one.name: one for one in whole.rows if one.region == region}
        if found := there.get(f"default-{region}") or there.get(ours):
            return self.ref(found.id)
        body, under = {"name": ours, "region": region}, "environment"
        made = await self.ask_for(Environment, "ensure", "POST", _ENVIRONMENTS, body, under=under)
        return self.ref(made.id)

    async def _key(self, spec: LaunchSpec, region: str, attempt: Attempt, within: str) -> Ref:
        # Whether two environments may each have a key of one name is not documented.
        line = broker_key(spec, attempt, NAME).public_key
        wanted = BrokerKey(f"{key_name(attempt)}-{region}", line)
        whole: Whole[Keypair] = await self._pages("ensure", _KEYS, Keypairs)
        there = [k for k in whole.rows if k.environment and k.environment.name == within]
        if found := registered(there, wanted, NAME):
            return self.ref(found.id)
        body = {"name": wanted.name, "environment_name": within, "public_key": line}
        made = await self.ask_for(Keypair, "ensure", "POST", _KEYS, body, under="keypair")
        return self.ref(made.id)


def _number(ref: Ref) -> int:
    return _bounds.number(ref.id, "ref")


def _path(ref: Ref) -> str:
    return f"{_VMS}/{_number(ref)}"
