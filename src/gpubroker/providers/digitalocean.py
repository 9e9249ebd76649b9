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

from gpubroker.catalog.gpus import resolve
from gpubroker.catalog.shapes import shape
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
from gpubroker.model.gpu import Gpu
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import Endpoint, Holdings, Instance
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import nanos
from gpubroker.model.offer import Offer, OfferPage, Price
from gpubroker.model.query import Query
from gpubroker.model.quota import Quota
from gpubroker.model.terms import Availability, Carrier, Expiry, Kind, Market, Resource, State
from gpubroker.providers.bills import bill_of
from gpubroker.providers.boot import seconds_left, secrets_of, vm_boot
from gpubroker.providers.bounds import Bounds
from gpubroker.providers.carriers import held, tags_of, whose
from gpubroker.providers.endpoints import at
from gpubroker.providers.fields import Amount, Count, Id, Text, Usd, Word, told
from gpubroker.providers.offering import Gathered, live, placed
from gpubroker.providers.paging import PageShape, Whole
from gpubroker.providers.pushdown import read_options
from gpubroker.providers.quarantine import Rejected, RowReader, mostly_sound
from gpubroker.providers.refusals import Rule
from gpubroker.providers.registered_keys import broker_key, registered
from gpubroker.providers.rest import RestCloud
from gpubroker.providers.states import StateTable, state_by

# What it is

NAME = "digitalocean"
USER, SSH_PORT = "root", 22
LONGEST_USER_DATA = 64 * 1024
"""Bytes: "may not exceed 64 KiB in size" (DigitalOcean API, create a Droplet)."""
MINIMUM_S = 60
""""Per second, with a minimum charge of 60 seconds" (DigitalOcean changelog, January 2026)."""
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
_SPOT = re.compile(r"-spot\b")
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


class Pages(Struct):
    """Addresses of other pages."""

    next: Text | None = None


class Links(Struct):
    """Without pages where there is but one."""

    pages: Pages | None = None


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
        address = self.links.pages.next if self.links and self.links.pages else None
        number = _PAGE_OF.search(address or "")
        return number[1] if number else None

    @property
    def total(self) -> int:
        """Rows of all pages."""
        return self.meta.total


# How offers are read


class Memory(Struct):
    """Of all GPUs together, in GiB."""

    amount: Amount | None = None


class Gpus(Struct):
    """What a size or a Droplet has of them."""

    count: Count
    model: Word = ""
    vram: Memory | None = None


class Size(Struct):
    """A Droplet as it is sold."""

    slug: Word
    price_hourly: Usd
    regions: tuple[Word, ...]
    memory: Amount | None = None
    """MiB."""
    vcpus: Count | None = None
    disk: Amount | None = None
    """GB that outlive a reboot; the scratch disk does not."""
    available: bool = True
    gpu_info: Gpus | None = None


class Sizes(Paged):
    """A page of them, each unread."""

    rows: tuple[Raw, ...] = field(name="sizes")


_sizes = RowReader(Size, under="sizes", provider=NAME)


def parse_offers(
    body: bytes, *, account: str, fetched_at: datetime
) -> tuple[tuple[Offer, ...], tuple[Rejected, ...]]:
    """One offer a size and region, and the sizes that are none with the reason.

    A size without a region is sold out, or not open to this account: one offer without a region.
    Sizes without GPU are left out. Raises BadResponse where it is no answer of this call.
    """
    sizes, rejected = _sizes.read(body)
    shared = live(NAME, account, Kind.VM, fetched_at)
    found = Gathered(rejected)
    for size in sizes:
        gpu, count = gpus_of(size.slug, size.gpu_info)
        if gpu is None:
            continue
        for region in size.regions or ("",):
            found.add(size, _offer(size, gpu, count, region, shared))
    return found.told()


def gpus_of(slug: str, told: Gpus | None) -> tuple[Gpu | None, int]:
    """One of a size's GPUs, and how many there are; (None, 0) where it has none."""
    by_name = shape(NAME, slug)
    count = told.count if told else by_name.count if by_name else 0
    if not count:
        return None, 0
    memory = told.vram.amount if told and told.vram else None
    each = memory / count if memory else None
    gpu = resolve(slug, memory_gb=each)
    if gpu.name is None and told and told.model:
        gpu = resolve(told.model, memory_gb=each)
    return gpu, count


def _offer(size: Size, gpu: Gpu, count: int, region: str, shared: Mapping[str, Any]) -> Offer:
    there = bool(region) and size.available
    return Offer(
        **shared,
        **placed(region, provider=NAME),
        key=f"{size.slug}:{region}" if region else size.slug,
        gpu=gpu,
        gpu_count=count,
        market=Market.SPOT if _SPOT.search(size.slug) else Market.ON_DEMAND,
        vcpus=size.vcpus or None,
        ram_gb=size.memory / 1024 if size.memory else None,
        disk_gb=size.disk or None,
        price=Price(compute=nanos(size.price_hourly), minimum_s=MINIMUM_S),
        # "Region slugs where this size is available for Droplet creates" (API, sizes).
        availability=Availability.YES if there else Availability.NO,
        datacenter=True,
    )


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

Moment = Annotated[datetime, Meta(tz=True)]


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


class Made(Struct):
    """A Droplet, key or volume of which the id is all that is read."""

    id: Id


class SshKey(Struct):
    """One of the account's."""

    id: Id
    name: Word
    public_key: Text


class SshKeys(Paged):
    """A page of them."""

    rows: tuple[SshKey, ...] = field(name="ssh_keys")


class Volume(Struct):
    """A disk that outlives machines."""

    id: Word
    name: Word


class Volumes(Paged):
    """A page of them."""

    rows: tuple[Volume, ...] = field(name="volumes")


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
        created_at=row.created_at,
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
        if not self.start_time or not self.end_time:
            return ()
        return (BillLine(self.product, nanos(self.amount), self.start_time, self.end_time),)


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


class DigitalOcean(RestCloud):
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

    async def uid(self, operation: str) -> str:
        """The team's, whose machines the lists hold; the user's where there is no team."""
        user = await self._user(operation)
        return user.team.uuid if user.team else user.uuid

    async def machines(self, operation: str) -> Whole[Instance]:
        """All with GPUs. The filter by tag excludes the one by type, and so is not used."""
        whole = await self._all(operation, _DROPLETS, Droplets, _id, GPU_DROPLETS)
        return Whole(tuple(instance_of(row, self.account) for row in whole.rows), whole.complete)

    async def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        """All sizes at once; the call takes no filters."""
        read_options(query, NAME, {}, {})
        if query.market not in {None, *CAPABILITIES.markets}:
            return
        fetched_at = self.http.clock.now()
        whole = await self._all("offers", "/v2/sizes", Sizes, bytes)
        body = b'{"sizes":[%s]}' % b",".join(bytes(row) for row in whole.rows)
        rows, rejected = parse_offers(body, account=self.account, fetched_at=fetched_at)
        # Sold-out sizes are told too: an answer without any is no evidence that all are gone.
        sound = bool(rows) and mostly_sound(len(rows), len(rejected))
        yield OfferPage(None, whole.complete and sound, rows, rejected)

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
        listed = await self._keys("ensure")
        if key := registered(listed.rows, wanted, NAME):
            return self.ref(key.id)
        body = asdict(wanted)
        made = await self.ask_for(Made, "ensure", "POST", _KEYS, body, under="ssh_key")
        return self.ref(made.id)

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
        made = await self.ask_for(
            Made, "create", "POST", _DROPLETS, body, under="droplet", hide=hide
        )
        return self.ref(made.id)

    async def get(self, ref: Ref) -> Instance:
        """NotFound by the vendor's word; for two minutes after a create it may say that, too."""
        path = f"{_DROPLETS}/{_bounds.number(ref.id, 'ref')}"
        row = await self.ask_for(Machine, "get", "GET", path, under="droplet")
        return self.same(ref, instance_of(row, self.account))

    async def terminate(self, ref: Ref) -> None:
        """Volumes stay. Gone already is fine."""
        with suppress(NotFound):
            number = _bounds.number(ref.id, "ref")
            await self.ask("terminate", "DELETE", f"{_DROPLETS}/{number}")

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
        used = 0
        for kind in ("gpus", "droplets"):
            params = {"type": kind, "per_page": "1"}
            page = await self.ask_for(
                Total, "quotas", "GET", _DROPLETS, params=params, under="meta"
            )
            used += page.total
        return (Quota(bucket="droplet_limit", limit=limit, used=used, unit="machines"),)

    async def resources(self, scope: str) -> Holdings:
        """SSH keys and volumes."""
        keys = await self._keys("resources")
        volumes = await self._all("resources", _VOLUMES, Volumes, _id)
        found = (
            *(held(Resource.SSH_KEY, self.ref(key.id), key.name) for key in keys.rows),
            *(held(Resource.VOLUME, self.ref(one.id), one.name) for one in volumes.rows),
        )
        uid = await self.uid("resources")
        return Holdings(uid, scope, keys.complete and volumes.complete, found)

    async def discard(self, what: Resource, ref: Ref) -> None:
        """A key that no machine boots with any more, a volume of none; gone already is fine."""
        below = {Resource.SSH_KEY: _KEYS, Resource.VOLUME: _VOLUMES}.get(what)
        if below is None:
            raise self.unsupported("discard", what.value)
        with suppress(NotFound):
            await self.ask("discard", "DELETE", f"{below}/{_bounds.plain_id(ref.id, 'ref')}")

    async def _user(self, operation: str) -> User:
        return await self.ask_for(User, operation, "GET", _ACCOUNT, under="account")

    async def _keys(self, operation: str) -> Whole[SshKey]:
        return await self._all(operation, _KEYS, SshKeys, _id)

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
