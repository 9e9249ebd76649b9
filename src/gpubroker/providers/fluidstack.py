"""FluidStack: virtual machines by the hour, from the self-service platform.

A price is of one GPU. What is listed can be rented: no stock is told, nor a machine's size, which
stands in a table here. A create is only taken down and may fail later. Nothing but one key goes by
it: variables, script, command and further keys go over SSH. Docker is not promised, so that no
image runs, and volumes cannot be made. A stopped machine still costs; whether that price is of a
GPU or of the machine is not said, so it counts for each GPU. Only a terminate ends the billing. All
ports are open. Whose a key is it does not tell: another key counts as another account.
"""

# ruff: noqa: ARG002 - the interface hands every cloud what any of them needs

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from itertools import product
from typing import Any

from msgspec import Struct, ValidationError, convert
from msgspec.structs import asdict

from gpubroker.catalog.gpus import resolve
from gpubroker.catalog.shapes import shape
from gpubroker.model.capabilities import Capabilities, Limit
from gpubroker.model.errors import (
    BadResponse,
    Invalid,
    NoCapacity,
    NotFound,
    OutOfFunds,
    QuotaExceeded,
    RateLimited,
    Unavailable,
    WrongState,
)
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import Endpoint, Instance
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import Nanos, nanos
from gpubroker.model.offer import Offer, OfferPage, Price
from gpubroker.model.query import Query
from gpubroker.model.terms import Availability, Carrier, Expiry, Kind, Market, Resource, State
from gpubroker.providers.accounts import Account
from gpubroker.providers.boot import seconds_left, vm_boot
from gpubroker.providers.bounds import Bounds
from gpubroker.providers.carriers import whose
from gpubroker.providers.fields import Amount, Count, Text, Told, Usd, Word, utc
from gpubroker.providers.fingerprint import fingerprint
from gpubroker.providers.holdings import KeepsThings, Shelf
from gpubroker.providers.http import Transport
from gpubroker.providers.offering import Gathered, live, page_of, placed
from gpubroker.providers.paging import Page, Whole, all_pages
from gpubroker.providers.pushdown import read_options
from gpubroker.providers.quarantine import Rejected, RowReader
from gpubroker.providers.refusals import Rule
from gpubroker.providers.registered_keys import BrokerKey, broker_key, registered
from gpubroker.providers.states import StateTable, state_by

# What it is

NAME = "fluidstack"
USER, SSH_PORT = "ubuntu", 22
SYSTEM = "ubuntu_22_04_lts_nvidia"
"""The newer of the two labels (FluidStack docs, operating systems)."""

_CALLS = "whoami offers find get list ensure create terminate stop start resources discard"
CAPABILITIES = Capabilities(
    kinds=frozenset({Kind.VM}),
    markets=frozenset({Market.ON_DEMAND}),
    carriers=(Carrier.NAME,),
    image="none",
    startup="over_ssh",
    startup_max_bytes=1_000_000,
    ssh="sshd",
    ssh_keys="registry",
    env="bootstrap",
    ports="any_tcp",
    stop="keeps_disk",
    expiry=Expiry.CONTROLLER_ONLY,
    needs=(Resource.SSH_KEY,),
    # The vendor promises none of these three.
    create_deadline_s=120,
    list_lag_s=120,
    absence_grace_s=120,
    gone="404",
    async_create=True,
    billing="manual",
    limits=(
        # The vendor publishes none. Clients that work wait for a second between creates.
        Limit("all", frozenset(_CALLS.split()), interval_s=1.0, burst=5),
        Limit("create", frozenset({"create"}), interval_s=10.0),
    ),
)

# How a create without capacity, quota or money is refused is not documented.
_NO_STOCK = ("capacity", "stock", "not available", "unavailable", "no available", "sold out")
_NO_MONEY = ("balance", "credit", "funds", "payment", "billing")
_NOT_MADE, _OF_CREATE = (400, 402, 403, 404, 409, 422), ("create",)
_MACHINE = ("get", "terminate", "stop", "start")
RULES = (
    Rule(RateLimited, statuses=(429,)),
    Rule(NoCapacity, _NO_STOCK, _NOT_MADE, _OF_CREATE, "no_capacity", "type_region"),
    Rule(QuotaExceeded, ("quota", "limit"), _NOT_MADE, _OF_CREATE, "quota"),
    Rule(OutOfFunds, _NO_MONEY, _NOT_MADE, _OF_CREATE, "no_funds"),
    Rule(Invalid, ("key",), (404,), _OF_CREATE),
    Rule(NotFound, ("already terminated",), (400, 404, 409), ("terminate",), "terminated"),
    Rule(NotFound, ("instance", "machine", "key"), (404,), (*_MACHINE, "discard"), "not_found"),
    # "only stop an instance that has the status of running" (FluidStack docs, stop and start).
    Rule(WrongState, ("status", "state", "running", "stopped"), (400, 422), _MACHINE),
    Rule(WrongState, statuses=(400, 409), operations=("discard",)),
    # Read just before and not there: another process of this owner made it meanwhile.
    Rule(Unavailable, ("already exists",), (400, 409, 422), ("ensure",)),
)
_SHOWN = """
message error detail details loc msg type gpu_type gpu_counts gpu_count price_per_gpu_hr id status
stopped_price_per_hour estimated_provisioning_time_minutes regions region name username ssh_port
ssh_keys ssh_key ip_address current_gpu_hr_cost configuration gpu_model memory_size_gb cpu_model
cpu_count nvme_storage_size_gb created_at operating_system_label
"""
SHOWN = frozenset(_SHOWN.split())
"""Fields whose values may be written down. Not among them: public_key, user_email."""

_STATES: StateTable = (
    (State.PENDING, {"status": {"pending", "provisioning", "starting"}}),
    # Told before the machine has an address.
    (State.PENDING, {"status": {"running"}, "ip_address": {None, ""}}),
    (State.RUNNING, {"status": {"running"}}),
    (State.STOPPING, {"status": {"stopping"}}),
    (State.STOPPED, {"status": {"stopped"}}),
    (State.FAILED, {"status": {"failed"}}),
    (State.TERMINATED, {"status": {"terminated"}}),
)

_SIZES: Mapping[str, tuple[int | None, Mapping[int, tuple[int, int]]]] = {
    "A100_NVLINK_80GB": (812, {8: (252, 960)}),
    "A100_PCIE_80GB": (200, {1: (28, 120), 2: (60, 240), 4: (124, 480), 8: (252, 960)}),
    "H100_NVLINK_80GB": (None, {8: (252, 1440)}),
    "H100_PCIE_80GB": (750, {1: (28, 180), 2: (60, 360), 4: (124, 720), 8: (252, 1440)}),
    "H100_SXM5_80GB": (None, {1: (52, 450), 2: (52, 450), 4: (104, 900), 8: (192, 1800)}),
    "L40_48GB": (825, {1: (32, 60), 2: (64, 120), 4: (126, 240), 8: (252, 480)}),
    "RTX_A4000_16GB": (160, {1: (6, 24), 2: (12, 48), 4: (24, 96), 8: (48, 192), 10: (64, 240)}),
    "RTX_A5000_24GB": (200, {1: (8, 30), 2: (16, 60), 4: (32, 120), 8: (64, 240)}),
    "RTX_A6000_48GB": (425, {1: (6, 55), 2: (12, 110), 4: (24, 220), 8: (252, 464)}),
}
"""Type -> (GB of disk for each GPU, {GPUs: (vCPUs, GB of RAM)}), the least that FluidStack docs and
SkyPilot's catalog say: no call tells them before a create."""


# How offers are read


class Configuration(Struct):
    """A type, the counts in which it is sold, and where it can be had now."""

    gpu_type: Told
    gpu_counts: tuple[Count, ...]
    price_per_gpu_hr: Word | Amount
    stopped_price_per_hour: Word | Amount
    regions: tuple[Word, ...]


_configurations = RowReader(Configuration, under="", provider=NAME)


def parse_offers(
    body: bytes, *, account: str, fetched_at: datetime
) -> tuple[tuple[Offer, ...], tuple[Rejected, ...]]:
    """One offer a type, count and region, and the rows that are none with the reason."""
    rows, rejected = _configurations.read(body)
    shared, found = live(NAME, account, Kind.VM, fetched_at), Gathered(rejected)
    for row in rows:
        try:
            prices = row.price_per_gpu_hr, row.stopped_price_per_hour
            running, stopped = map(nanos, convert(prices, tuple[Usd, Usd], strict=False))
        except ValidationError:
            found.reject(row, "no price")
            continue
        disk_gb, sizes = _SIZES.get(row.gpu_type, (None, {}))
        known = shape(NAME, row.gpu_type)
        for count, region in product(row.gpu_counts, row.regions):
            vcpus, ram_gb = sizes.get(count, (None, None))
            offer = Offer(
                **shared,
                **placed(region, provider=NAME),
                key=f"{row.gpu_type}:{count}:{region}",
                gpu=known.gpu if known else resolve(row.gpu_type),
                gpu_count=count,
                market=Market.ON_DEMAND,
                vcpus=vcpus,
                ram_gb=ram_gb,
                disk_gb=disk_gb and disk_gb * count,
                price=Price(compute=Nanos(running * count), stopped=Nanos(stopped * count)),
                # "Regions the configuration is available in" (FluidStack's OpenAPI document).
                availability=Availability.YES,
            )
            found.add(row, offer)
    return found.told()


# What a create sends

_bounds = Bounds(NAME)


def order(
    spec: LaunchSpec, offer: Offer, attempt: Attempt, have: Mapping[Resource, Ref]
) -> dict[str, Any]:
    """The body of a create. Invalid names the field that is out of bounds."""
    _bounds.takes_no(spec, "image", "registry_auth", "volumes")
    _bounds.disk_of_type(spec, offer)
    _bounds.ports(spec.ports, most=len(spec.ports))
    kind, count, region = offer.key.split(":")
    return {
        "name": attempt.name,
        "gpu_type": kind,
        "gpu_count": int(count),
        "region": region,
        "operating_system_label": spec.vm_image or SYSTEM,
        "ssh_key": have[Resource.SSH_KEY].id,
    }


# How machines and keys are read


class Made(Struct):
    """What a machine was made of."""

    gpu_model: Named | None = None
    gpu_count: Count | None = None
    nvme_storage_size_gb: Amount | None = None
    region: Word | None = None


class Named(Struct):
    """A GPU model or an operating system."""

    name: Word


class Machine(Struct):
    """One instance: all but its id may be missing."""

    id: Told
    status: Word = "pending"
    name: Word | None = None
    username: Word | None = None
    ssh_port: Word | Count | None = None
    ip_address: Word | None = None
    current_gpu_hr_cost: Usd | None = None
    """Of one GPU in the present state."""
    configuration: Made | None = None
    operating_system_label: Word | None = None
    created_at: datetime | None = None
    """UTC, with or without its offset."""


class SshKey(Struct):
    """One of the account's, known by its name."""

    name: Word
    public_key: Text | None = None

    @property
    def id(self) -> str:
        """What stands for it everywhere."""
        return self.name


state_of = partial(state_by, _STATES)


def instance_of(row: Machine, account: str) -> Instance:
    """A machine as the vendor tells it."""
    state, has, cost = state_of(row), row.configuration or Made(), row.current_gpu_hr_cost
    owner, attempt = whose(row.name)
    port = str(row.ssh_port or SSH_PORT)
    there = row.ip_address if state is State.RUNNING and port.isdecimal() else None
    billed = state is not State.TERMINATED and not (state is State.FAILED and cost == 0)
    return Instance(
        ref=Ref(NAME, account, "", row.id),
        owner=owner,
        attempt=attempt,
        name=row.name,
        state=state,
        raw_state=row.status,
        healthy=state not in {State.UNKNOWN, State.FAILED},
        bills_compute=billed and state is not State.STOPPED,
        bills_disk=state is State.STOPPED,
        price=None if cost is None or not has.gpu_count else Nanos(nanos(cost) * has.gpu_count),
        gpu=has.gpu_model.name if has.gpu_model else None,
        gpu_count=has.gpu_count,
        image=row.operating_system_label,
        disk_gb=has.nvme_storage_size_gb,
        region=has.region,
        ssh=Endpoint(there, int(port), row.username or USER) if there else None,
        created_at=utc(row.created_at),
    )


# Calls

_INSTANCES, _KEYS = "/instances", "/ssh_keys"


class FluidStack(KeepsThings):
    """One account at FluidStack: each call one question."""

    name = NAME
    display_name = "FluidStack"
    website = "https://www.fluidstack.io/"
    console = "https://dashboard.fluidstack.io/dashboard/instances"
    charges_page = "https://dashboard.fluidstack.io/dashboard/billing"
    credentials = ("FLUIDSTACK_API_KEY",)
    capabilities = CAPABILITIES
    base_url = "https://platform.fluidstack.io"
    rules = RULES
    shown = SHOWN
    shelves = (Shelf(Resource.SSH_KEY, _KEYS, rows=tuple[SshKey, ...]),)

    def __init__(self, account: Account, transport: Transport) -> None:
        super().__init__(account, transport)
        self._fingerprint = fingerprint(account)

    @staticmethod
    def authorization(account: Account) -> Mapping[str, str]:
        """The vendor's own header."""
        return {"api-key": account.key or ""}

    async def uid(self, operation: str) -> str:
        """The key's fingerprint, once the vendor has taken it: an empty list proves nothing."""
        path = "/list_available_os_templates"
        if not await self.ask_for(tuple[Named, ...], operation, "GET", path):
            raise self.http.error(BadResponse, operation, "no templates at all")
        return self._fingerprint

    async def machines(self, operation: str) -> Whole[Instance]:
        """All pages, the failed ones too. A page without anything new is after the last one."""
        ask = partial(self.ask_for, tuple[Machine, ...], operation, "GET", _INSTANCES)
        seen: set[str] = set()

        async def fetch(page: str | None) -> Page[Machine]:
            asked = {"page": page or "1", "include_failed_instances": "true"}
            rows = await ask(params=asked)
            new = {row.id for row in rows} - seen
            seen.update(new)
            return Page(rows, str(int(asked["page"]) + 1) if new else None)

        whole = await all_pages(fetch, lambda row: row.id)
        rows = tuple(instance_of(row, self.account) for row in whole.rows)
        return Whole(rows, whole.complete)

    async def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        """All configurations at once; the call takes no filters."""
        read_options(query, NAME, {}, {})
        if query.market not in {None, Market.ON_DEMAND}:
            return
        answer = await self.ask("offers", "GET", "/list_available_configurations")
        rows, rejected = parse_offers(answer.body, account=self.account, fetched_at=answer.asked_at)
        yield page_of(rows, rejected)

    async def ensure(
        self,
        what: Resource,
        spec: LaunchSpec,
        offer: Offer,
        attempt: Attempt,
        have: Mapping[Resource, Ref],
    ) -> Ref:
        """The owner's SSH key."""
        if what is not Resource.SSH_KEY:
            raise self.unsupported("ensure", what.value)
        wanted = broker_key(spec, attempt, NAME)
        rows = await self.ask_for(tuple[SshKey, ...], "ensure", "GET", _KEYS)
        there = [BrokerKey(row.name, row.public_key or "") for row in rows]
        if key := registered(there, wanted, NAME):
            return self.ref(key.name)
        await self.ask("ensure", "POST", _KEYS, asdict(wanted))
        return self.ref(wanted.name)

    async def release(self, what: Resource, ref: Ref) -> None:
        """The key is the owner's: it stays for his next machine."""

    async def create(
        self, spec: LaunchSpec, offer: Offer, attempt: Attempt, have: Mapping[Resource, Ref]
    ) -> Ref:
        """One request. It only takes the order down: the machine may still fail."""
        self.takes_no_options("create", spec)
        body = order(spec, offer, attempt, have)
        return self.ref(await self.ask_for(Told, "create", "POST", _INSTANCES, body, under="id"))

    def after_boot(self, spec: LaunchSpec, offer: Offer, attempt: Attempt, now: datetime) -> str:
        """All but the one key: the create takes no script."""
        return vm_boot(spec, limit=0, seconds_left=seconds_left(spec, now), user=USER, end="").after

    async def get(self, ref: Ref) -> Instance:
        """NotFound by the vendor's words; one that is not up yet is answered with a 202."""
        row = await self.ask_for(Machine, "get", "GET", _path(ref))
        return self.same(ref, instance_of(row, self.account))

    async def terminate(self, ref: Ref) -> None:
        """The answer may be empty. Gone already is fine."""
        with suppress(NotFound):
            await self.ask("terminate", "DELETE", _path(ref))

    async def stop(self, ref: Ref) -> None:
        """Only of one that runs. It still costs."""
        await self.ask("stop", "PUT", f"{_path(ref)}/stop")

    async def start(self, ref: Ref) -> None:
        """Only of one that is stopped."""
        await self.ask("start", "PUT", f"{_path(ref)}/start")


def _path(ref: Ref) -> str:
    return f"{_INSTANCES}/{_bounds.plain_id(ref.id, 'ref')}"
