"""DigitalOcean: GPU Droplets, virtual machines with one or eight NVIDIA or AMD GPUs, by the second.

A Droplet that is off costs as much as one that runs, so that there is no stop, and the timer on
it only warns: only a destroy ends the billing. Spot Droplets are sizes of their own, which cost
what they cost at their create, and are destroyed by a reclaim, with two hours' notice by mail.
Every port is open unless a Cloud Firewall of yours says otherwise. The AMD image has no Docker:
a container there needs a `vm_image` that has it. A volume is attached and not mounted: its path
is that of its device. The account keeps the name of each tag after its machine. It is billed
afterwards, so that its balance tells what is owed and not what is left to spend.
"""

# ruff: noqa: ARG002 - the interface hands every cloud what any of them needs

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Annotated, Any, TypeVar

from msgspec import Meta, Raw, Struct, field
from msgspec.structs import asdict

from gpubroker.model.bill import Bill, BillLine
from gpubroker.model.capabilities import Capabilities, Limit
from gpubroker.model.errors import (
    NoCapacity,
    NotFound,
    QuotaExceeded,
    Refused,
    Unavailable,
    WrongState,
)
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import Endpoint, Instance
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import nanos
from gpubroker.model.offer import Offer, OfferPage
from gpubroker.model.query import Query
from gpubroker.model.quota import Quota
from gpubroker.model.terms import Carrier, Expiry, Kind, Market, Resource, State
from gpubroker.providers.bills import bill_of
from gpubroker.providers.boot import seconds_left, secrets_of, vm_boot
from gpubroker.providers.bounds import Bounds
from gpubroker.providers.carriers import tags_of, whose
from gpubroker.providers.digitalocean_market import NAME, Gpus, gpus_of, parse_offers
from gpubroker.providers.endpoints import at
from gpubroker.providers.fields import (
    Amount,
    Count,
    Id,
    Moment,
    Text,
    Usd,
    Word,
    signed_nanos,
    told,
    utc,
)
from gpubroker.providers.holdings import KeepsThings, Shelf, Thing
from gpubroker.providers.offering import page_of
from gpubroker.providers.paging import PageShape, Whole
from gpubroker.providers.pushdown import read_options
from gpubroker.providers.refusals import Rule
from gpubroker.providers.registered_keys import broker_key, registered
from gpubroker.providers.states import StateTable, state_by

# What it is

USER, SSH_PORT = "root", 22
LONGEST_USER_DATA = 64 * 1024
"""Bytes: "may not exceed 64 KiB in size" (DigitalOcean API, create a Droplet)."""
BILLING_LAG_S = 48 * 3600.0
"""The preview is written anew each day (Billing API reference): a whole day has passed by then."""

_CALLS = (
    "whoami offers find get list create ensure terminate quotas resources discard bills billing"
)
CAPABILITIES = Capabilities(
    kinds=frozenset({Kind.VM}),
    markets=frozenset({Market.ON_DEMAND, Market.SPOT}),
    carriers=(Carrier.TAG, Carrier.NAME),
    image="docker_on_vm",
    startup="cloud_init",
    startup_max_bytes=LONGEST_USER_DATA,
    ssh="sshd",
    # The broker's is registered, the others are in the user data.
    ssh_keys="registry",
    env="bootstrap",
    ports="any_tcp",
    # "You are still billed for Droplets that are powered off" (Droplet pricing).
    stop="none",
    expiry=Expiry.CONTROLLER_ONLY,
    registry_auth=True,
    needs=(Resource.SSH_KEY,),
    # The vendor promises none of these three. A new Droplet may be missing for two minutes.
    create_deadline_s=120,
    list_lag_s=120,
    absence_grace_s=120,
    gone="404",
    # "202 Accepted does not indicate the success or failure" (API, create a Droplet).
    async_create=True,
    billing="daily",
    billing_lag_s=BILLING_LAG_S,
    limits=(
        # "5,000 requests per hour", "250 per minute" (API, rate limit); some calls are two.
        Limit("all", frozenset(_CALLS.split()), interval_s=1.0, burst=20),
        # The list of SSH keys: 10 a minute.
        Limit("keys", frozenset({"ensure", "resources"}), interval_s=12.0, burst=5),
    ),
)  # fmt: skip

RULES = (
    Rule(NoCapacity, ("region is not available",), (422,), ("create",), scope="region",
         code="region_unavailable"),
    # Sold out, retired, or not open to this account: the vendor tells no difference.
    Rule(NoCapacity, ("size is not available in this region", "size is unavailable",
                      "size is currently restricted"),
         (422,), ("create",), scope="type_region", code="size_unavailable"),
    # Another region's offer may fit: it is no fault of the request everywhere.
    Rule(Refused, ("not available in the selected region",), (422,), ("create",),
         code="image_not_in_region"),
    Rule(QuotaExceeded, ("exceed your droplet limit",), (422,), ("create",), code="droplet_limit"),
    # Read just before and not there: another process of this owner made it meanwhile.
    Rule(Unavailable, ("already in use on your account",), (422,), ("ensure",), code="key_in_use"),
    Rule(WrongState, ("pending event",), (422,), ("terminate",), code="pending_event"),
    Rule(WrongState, ("attached",), (422,), ("discard",), code="attached"),
    # The vendor's own word: a gateway's 404 has none.
    Rule(NotFound, codes=("not_found",), statuses=(404,),
         operations=("get", "terminate", "discard")),
)  # fmt: skip

_SHOWN = """
id message request_id sizes slug memory vcpus disk price_hourly price_monthly available description
gpu_info count vram amount unit model disk_info type links meta total pages first prev next last
droplet droplets name locked status created_at networks v4 v6 ip_address size size_slug region tags
image volume_ids volumes actions rel account droplet_limit uuid team ssh_keys ssh_key fingerprint
ipv6 monitoring vpc_uuid with_droplet_agent droplet_ids size_gigabytes invoices invoice_preview
invoice_uuid invoice_period updated_at invoice_items product resource_id duration duration_unit
start_time end_time
"""
SHOWN = frozenset(_SHOWN.split())
"""Fields whose values may be written down. Not among them: user_data, public_key, email."""

_STATES: StateTable = (
    (State.PENDING, {"status": {"new"}}),
    (State.RUNNING, {"status": {"active"}}),
    (State.STOPPED, {"status": {"off"}}),
    # "archive" is nowhere explained, and so no proof of an end: it stays UNKNOWN.
)
_FOR_ONE, _FOR_EIGHT, _FOR_AMD = "gpu-h100x1-base", "gpu-h100x8-base", "gpu-amd-base"
"""The AI/ML-ready images: for any single NVIDIA GPU, for eight with NVLink, for any AMD GPUs."""
_DEVICE = re.compile(r"/dev/disk/by-id/scsi-0DO_Volume_[a-z0-9-]{1,64}")
"""Where a volume is found: "we cannot automatically mount volumes" (Volumes docs, mount)."""
_FLAGS = frozenset({"ipv6", "monitoring", "with_droplet_agent"})
_OPTIONS = _FLAGS | {"vpc_uuid"}
MOST_PORTS = 20
"""As many as a tag's 255 characters name."""
PORTS_TAG = "gpubroker-ports"
LARGEST_PAGE, _NEXT = "200", "page"
_PAGE_OF = re.compile(r"[?&]page=([0-9]{1,9})(?:&|$)")
_UNFILTERED: Mapping[str, str] = {}
Row = TypeVar("Row")
_id = attrgetter("id")


# How lists come


class Links(Struct):
    """Addresses of other pages: none where there is but one."""

    pages: Mapping[str, Text] | None = None


class Total(Struct):
    """Of all pages."""

    total: Count


class Paged(Struct, kw_only=True):
    """What the page of any list has."""

    links: Links | None = None
    meta: Total

    @property
    def next_token(self) -> str | None:
        """The next page's number, out of its address."""
        pages = self.links.pages if self.links else None
        number = _PAGE_OF.search((pages or {}).get("next", ""))
        return number[1] if number else None

    @property
    def total(self) -> int:
        """Rows of all pages."""
        return self.meta.total


class Sizes(Paged):
    """A page of what is sold, each unread."""

    rows: tuple[Raw, ...] = field(name="sizes")


# What a create sends

_bounds = Bounds(NAME)


def droplet(
    spec: LaunchSpec,
    offer: Offer,
    attempt: Attempt,
    have: Mapping[Resource, Ref],
    left_s: float | None = None,
) -> dict[str, Any]:
    """The body of a create. Invalid names the field that is out of bounds.

    `left_s`: seconds until the expiry, of which people on the machine are warned.
    """
    amd = offer.gpu.vendor == "amd"
    _bounds.disk_of_type(spec, offer)
    rule = "a container on AMD GPUs only with a vm_image that has Docker: the vendor's has none"
    _bounds.require(not (amd and spec.image and not spec.vm_image), "image", rule)
    # Only a destroy ends the billing: the timer warns, and powers nothing off.
    boot = vm_boot(
        spec,
        limit=LONGEST_USER_DATA,
        seconds_left=left_s,
        user=USER,
        end="",
        gpus="amd" if amd else "nvidia",
    )
    rule = f"at most {LONGEST_USER_DATA} bytes, compressed, with the variables and the command"
    _bounds.require(not boot.after, "startup_script", rule)
    usual = _FOR_AMD if amd else _FOR_EIGHT if offer.gpu_count > 1 else _FOR_ONE
    image = spec.vm_image or usual
    body: dict[str, Any] = {
        "name": attempt.name,
        "region": offer.region,
        "size": offer.key.removesuffix(f":{offer.region}"),
        "image": int(image) if image.isdecimal() else image,
        "ssh_keys": [_bounds.number(have[Resource.SSH_KEY].id, "ssh_keys")],
        "tags": [f"{name}:{value}" for name, value in tags_of(attempt).items()],
        "user_data": boot.text,
        **_options(spec),
    }
    if spec.ports:
        _bounds.ports(spec.ports, most=MOST_PORTS)
        ports = "_".join(f"{port}-{protocol}" for port, protocol in sorted(set(spec.ports)))
        body["tags"].append(f"{PORTS_TAG}:{ports}")
    if spec.volumes:
        body["volumes"] = [_attached(volume, path) for volume, path in spec.volumes]
    return body


def _attached(volume: Ref, path: str) -> str:
    rule = "a path of its device: /dev/disk/by-id/scsi-0DO_Volume_ and its name"
    _bounds.require(bool(_DEVICE.fullmatch(path)), "volumes", rule)
    return _bounds.plain_id(volume.id, "volumes")


def _options(spec: LaunchSpec) -> dict[str, Any]:
    unknown = sorted(set(spec.options) - _OPTIONS)
    rule = f"{', '.join(sorted(_OPTIONS))}; not {', '.join(unknown)}"
    _bounds.require(not unknown, "options", rule)
    for name in _FLAGS & set(spec.options):
        _bounds.require(isinstance(spec.options[name], bool), name, "true or false")
    if "vpc_uuid" in spec.options:
        _bounds.plain_id(str(spec.options["vpc_uuid"]), "vpc_uuid")
    return dict(spec.options)


# How machines, keys and volumes are read


class Address(Struct):
    """One of a Droplet's."""

    ip_address: Word
    type: Word = "public"


class Networks(Struct):
    """Empty until it is up."""

    v4: tuple[Address, ...] = ()


class Region(Struct):
    """Where it stands."""

    slug: Word


class Rented(Struct):
    """Its size, as it was at the create."""

    price_hourly: Usd | None = None


class Machine(Struct):
    """One Droplet."""

    id: Id
    status: Word
    name: Word | None = None
    locked: bool | None = None
    """An action is at work on it."""
    created_at: Moment | None = None
    networks: Networks | None = None
    size: Rented | None = None
    size_slug: Word | None = None
    region: Region | None = None
    tags: tuple[Word, ...] = ()
    disk: Amount | None = None
    gpu_info: Gpus | None = None

    @property
    def address(self) -> str | None:
        """The public one, None while there is none."""
        v4 = self.networks.v4 if self.networks else ()
        return next((one.ip_address for one in v4 if one.type == "public"), None)


class Droplets(Paged):
    """A page of them."""

    rows: tuple[Machine, ...] = field(name="droplets")


class SshKey(Struct):
    """One of the account's."""

    id: Id
    name: Word
    public_key: Text


class SshKeys(Paged):
    """A page of them."""

    rows: tuple[SshKey, ...] = field(name="ssh_keys")


class Volumes(Paged):
    """A page of disks that outlive machines."""

    rows: tuple[Thing, ...] = field(name="volumes")


class Team(Struct):
    """Whose machines a key sees."""

    uuid: Word


class User(Struct):
    """Of `/v2/account`. Mail address and name are left unread."""

    uuid: Word
    team: Team | None = None
    droplet_limit: Count | None = None
    """None for a key that may not read Droplets."""


state_of = partial(state_by, _STATES)


def instance_of(row: Machine, account: str) -> Instance:
    """A machine as the vendor tells it. Off or on, it bills the same."""
    state, there = state_of(row), row.address
    tags = dict(tag.partition(":")[::2] for tag in row.tags)
    owner, attempt = whose(row.name, tags)
    gpu, count = gpus_of(row.size_slug or "", row.gpu_info)
    ports = tags.get(PORTS_TAG, "") if attempt and there else ""
    opened = (port.partition("-")[::2] for port in ports.split("_") if port)
    return Instance(
        ref=Ref(NAME, account, "", str(row.id)),
        owner=owner,
        attempt=attempt,
        name=row.name,
        state=state,
        raw_state=row.status,
        healthy=state is not State.UNKNOWN,
        bills_compute=True,
        bills_disk=False,
        price=nanos(row.size.price_hourly) if row.size and row.size.price_hourly else None,
        gpu=(row.gpu_info.model if row.gpu_info else "") or (gpu.raw if gpu else None),
        gpu_count=count or None,
        disk_gb=row.disk,
        region=row.region.slug if row.region else None,
        ssh=Endpoint(host=there, port=SSH_PORT, user=USER) if there else None,
        ports={f"{port}/{protocol}": at(there, port) for port, protocol in opened},
        created_at=utc(row.created_at),
        raw=told(row, ("id", "status", "locked", "size_slug")),
    )


# How charges are read

Decimal = Annotated[str, Meta(pattern=r"^-?[0-9]{1,9}(\.[0-9]{1,9})?$")]


class Invoice(Struct):
    """A month's, or the preview of the month that runs."""

    invoice_uuid: Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,64}$")]
    invoice_period: Word | None = None
    """`2026-11`."""


class Invoices(Paged):
    """A page of them, with the preview beside."""

    invoices: tuple[Invoice, ...]
    invoice_preview: Invoice | None = None

    @property
    def rows(self) -> tuple[Invoice, ...]:
        """The preview among them."""
        return (*self.invoices, self.invoice_preview) if self.invoice_preview else self.invoices

    @property
    def total(self) -> int:
        """The preview is not counted by the vendor."""
        return self.meta.total + bool(self.invoice_preview)


class Item(Struct, frozen=True):
    """What one thing cost in a month: a Droplet, its backups."""

    charged: Decimal = field(name="amount")
    resource_id: Word = ""
    product: Word = ""
    description: Text = ""
    start_time: Moment | None = None
    end_time: Moment | None = None

    @property
    def amount(self) -> float:
        """USD."""
        return float(self.charged)

    def lines(self) -> tuple[BillLine, ...]:
        """Itself, where it tells from when to when."""
        since, until = utc(self.start_time), utc(self.end_time)
        if not since or not until:
            return ()
        return (BillLine(self.product, signed_nanos(self.amount), since, until),)


class Items(Paged):
    """A page of an invoice."""

    rows: tuple[Item, ...] = field(name="invoice_items")


Asked = tuple[Ref, datetime, datetime | None]


def months(since: datetime, until: datetime) -> Iterator[str]:
    """`2026-11` of each month between, both ends included."""
    year, month = since.year, since.month
    while (year, month) <= (until.year, until.month):
        yield f"{year:04}-{month:02}"
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)  # noqa: PLR2004 - December


# Calls

_ACCOUNT, _DROPLETS, _KEYS = "/v2/account", "/v2/droplets", "/v2/account/keys"
_VOLUMES, _INVOICES = "/v2/volumes", "/v2/customers/my/invoices"
GPU_DROPLETS = {"type": "gpus"}
""""By default, only non-GPU Droplets are returned" (API, list Droplets)."""


class DigitalOcean(KeepsThings):
    """One account at DigitalOcean: each call one question."""

    name = NAME
    display_name = "DigitalOcean"
    website = "https://www.digitalocean.com/"
    console = "https://cloud.digitalocean.com/droplets/{id}"
    credentials = ("DIGITALOCEAN_ACCESS_TOKEN", "DIGITALOCEAN_TOKEN", "DIGITAL_OCEAN_API_KEY")
    capabilities = CAPABILITIES
    base_url = "https://api.digitalocean.com"
    rules = RULES
    shown = SHOWN
    shelves = (
        Shelf(Resource.SSH_KEY, _KEYS, rows=SshKeys),
        Shelf(Resource.VOLUME, _VOLUMES, rows=Volumes),
    )

    async def uid(self, operation: str) -> str:
        """The team's, whose machines the lists hold; the user's where there is no team."""
        user = await self._user(operation)
        return user.team.uuid if user.team else user.uuid

    async def machines(self, operation: str) -> Whole[Instance]:
        """All with GPUs. The filter by tag excludes the one by type, and so is not used."""
        whole = await self._all(operation, _DROPLETS, Droplets, _id, GPU_DROPLETS)
        return Whole(tuple(instance_of(row, self.account) for row in whole.rows), whole.complete)

    async def on_shelf(self, operation: str, shelf: Shelf) -> Whole[Any]:
        """Keys and volumes come in pages."""
        return await self._all(operation, shelf.path, shelf.rows, _id)

    async def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        """All sizes at once; the call takes no filters."""
        read_options(query, NAME, {}, {})
        if query.market not in {None, *CAPABILITIES.markets}:
            return
        fetched_at = self.http.clock.now()
        whole = await self._all("offers", "/v2/sizes", Sizes, bytes)
        body = b'{"sizes":[%s]}' % b",".join(bytes(row) for row in whole.rows)
        rows, rejected = parse_offers(body, account=self.account, fetched_at=fetched_at)
        yield page_of(rows, rejected, whole=whole.complete)

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
        listed = await self._all("ensure", _KEYS, SshKeys, _id)
        if key := registered(listed.rows, wanted, NAME):
            return self.ref(key.id)
        body, under = asdict(wanted), "ssh_key.id"
        return self.ref(await self.ask_for(Id, "ensure", "POST", _KEYS, body, under=under))

    async def release(self, what: Resource, ref: Ref) -> None:
        """The key is the owner's: it stays for his next machine."""

    async def create(
        self, spec: LaunchSpec, offer: Offer, attempt: Attempt, have: Mapping[Resource, Ref]
    ) -> Ref:
        """One request for one machine."""
        if not offer.region:
            raise self.http.error(NoCapacity, "create", f"{offer.key} is to be had nowhere")
        body = droplet(spec, offer, attempt, have, seconds_left(spec, self.http.clock.now()))
        hide = (*secrets_of(spec), body["user_data"])
        return self.ref(
            await self.ask_for(Id, "create", "POST", _DROPLETS, body, under="droplet.id", hide=hide)
        )

    async def get(self, ref: Ref) -> Instance:
        """NotFound by the vendor's word; for two minutes after a create it may say that, too."""
        row = await self.ask_for(Machine, "get", "GET", _path(ref), under="droplet")
        return self.same(ref, instance_of(row, self.account))

    async def terminate(self, ref: Ref) -> None:
        """Volumes stay. Gone already is fine."""
        with suppress(NotFound):
            await self.ask("terminate", "DELETE", _path(ref))

    async def billing(self, ref: Ref, since: datetime, until: datetime | None) -> Bill:
        """From the invoices, the preview of this month's among them."""
        (bill,) = await self._bills("billing", [(ref, since, until)])
        return bill

    async def bills(self, asked: Sequence[Asked]) -> Sequence[Bill]:
        """Each invoice is read once for all of them."""
        return await self._bills("bills", asked)

    async def quotas(self) -> tuple[Quota, ...]:
        """Droplets of any kind count against the team's limit."""
        limit = (await self._user("quotas")).droplet_limit
        if limit is None:
            return ()
        used, under = 0, "meta.total"
        for kind in ("gpus", "droplets"):
            params = {"type": kind, "per_page": "1"}
            used += await self.ask_for(
                Count, "quotas", "GET", _DROPLETS, params=params, under=under
            )
        return (Quota(bucket="droplet_limit", limit=limit, used=used, unit="machines"),)

    async def _user(self, operation: str) -> User:
        return await self.ask_for(User, operation, "GET", _ACCOUNT, under="account")

    async def _all(
        self,
        operation: str,
        path: str,
        page: type[PageShape[Row]],
        identity: Callable[[Row], object],
        params: Mapping[str, str] = _UNFILTERED,
    ) -> Whole[Row]:
        asked = {**params, "per_page": LARGEST_PAGE}
        return await self.pages(operation, path, asked, page, identity=identity, token_name=_NEXT)

    async def _bills(self, operation: str, asked: Sequence[Asked]) -> list[Bill]:
        now = self.http.clock.now()
        wanted = {month for _, since, until in asked for month in months(since, until or now)}
        invoices = await self._all(operation, _INVOICES, Invoices, lambda row: row.invoice_uuid)
        # One that does not tell its month may be of any.
        chosen = [one for one in invoices.rows if one.invoice_period in {None, *wanted}]
        told_months = {one.invoice_period for one in chosen}
        items: list[Item] = []
        complete = invoices.complete and (None in told_months or wanted <= told_months)
        for invoice in chosen:
            path = f"{_INVOICES}/{invoice.invoice_uuid}"
            page = await self._all(operation, path, Items, lambda row: row)
            items += page.rows
            complete &= page.complete
        return [
            bill_of(
                [item for item in items if item.resource_id == ref.id],
                until=until,
                now=now,
                lag_s=BILLING_LAG_S,
                complete=complete,
                evidence=f"DigitalOcean invoices, {', '.join(sorted(months(since, until or now)))}",
            )
            for ref, since, until in asked
        ]


def _path(ref: Ref) -> str:
    return f"{_DROPLETS}/{_bounds.number(ref.id, 'ref')}"
