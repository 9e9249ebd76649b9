"""Vast.ai: a marketplace of hosts that rent containers with GPUs.

Three traps: a wrong key is answered 404, an error answer may still have made a contract
(`new_contract`), and paths end in a slash, but for a few.
"""

# ruff: noqa: ARG002 - the interface hands every cloud what any of them needs

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import Struct

from gpubroker.model.bill import Bill, BillLine
from gpubroker.model.capabilities import Capabilities, Limit
from gpubroker.model.errors import (
    AuthFailed,
    BadResponse,
    Invalid,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    OutOfFunds,
    RateLimited,
    Refused,
)
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import Endpoint, Instance
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import NANOS_PER_USD, Nanos, nanos, usd
from gpubroker.model.offer import Offer, OfferPage
from gpubroker.model.query import Query
from gpubroker.model.terms import Carrier, Expiry, Kind, Market, State
from gpubroker.providers.bills import bill_of
from gpubroker.providers.boot import Boot, container_boot, seconds_left, secrets_of, web_call
from gpubroker.providers.bounds import Bounds
from gpubroker.providers.carriers import whose
from gpubroker.providers.endpoints import at, ssh_of, without_ssh
from gpubroker.providers.exchange import UNREADABLE
from gpubroker.providers.fields import (
    Amount,
    Count,
    Id,
    SignedUsd,
    Text,
    Usd,
    Word,
    moment,
    signed_nanos,
    told,
)
from gpubroker.providers.paging import Whole
from gpubroker.providers.quarantine import mostly_sound
from gpubroker.providers.refusals import Rule
from gpubroker.providers.rest import RestCloud, json_text, of_attempt
from gpubroker.providers.states import StateTable, state_by
from gpubroker.providers.vast_ai_market import MOST_OFFERS, NAME, parse_offers, search

# What it is

DEFAULT_IMAGE = "nvidia/cuda:12.4.1-runtime-ubuntu22.04"
SMALLEST_DISK_GB, DEFAULT_DISK_GB = 8, 10
LONGEST_STARTUP, LONGEST_VARIABLE, ALL_VARIABLES, MOST_PORTS = 4096, 256, 32768, 64
LOWEST_BID, HIGHEST_BID = 0.001, 128.0
LIST_PAGE, CHARGES_PAGE = 25, 500
LONGEST_REFUSAL = 64 * 1024

CAPABILITIES = Capabilities(
    kinds=frozenset({Kind.CONTAINER}),
    markets=frozenset({Market.ON_DEMAND, Market.SPOT}),
    carriers=(Carrier.NAME,),
    image="container",
    startup="script",
    startup_max_bytes=LONGEST_STARTUP,
    ssh="sshd",
    ssh_keys="attached",
    env="native",
    ports="at_create",
    stop="keeps_disk",
    # By the timer on the machine: see `boot_of`.
    expiry=Expiry.MACHINE_ENDS_BILLING,
    registry_auth=True,
    # The figures in seconds from here on are ours: the vendor promises none.
    create_deadline_s=60,
    list_lag_s=60,
    absence_grace_s=60,
    gone="404",
    billing="exact",
    # "0.8 h invoiced of 6.5 real ones" was seen: the record follows by hours.
    billing_lag_s=8 * 3600,
    public_prices=True,
    limits=(
        # "10 per minute per IP", kept in every window of 60 s: a burst of 4 and 6 more.
        Limit("search", frozenset({"offers"}), interval_s=10.0, burst=4, per="ip"),
        Limit("create", frozenset({"create"}), interval_s=4.5),
        Limit("destroy", frozenset({"terminate"}), interval_s=3.0),
        Limit("show", frozenset({"get"}), interval_s=2.0),
        Limit("list", frozenset({"list", "find"}), interval_s=1.0),
        Limit("state", frozenset({"stop", "start"}), interval_s=1.0),
        Limit("bid", frozenset({"bid"}), interval_s=5.5),
        Limit("charges", frozenset({"billing"}), interval_s=1.0),
        Limit("ssh_keys", frozenset({"attach_key"}), interval_s=1.0),
    ),
)

_TAKEN = ("resources_unavailable", "resources are currently unavailable")
RULES = (
    Rule(RateLimited, ("search_quota_exceeded",), code="search_quota_exceeded"),
    Rule(RateLimited, ("api requests too frequent", "rate_limit_exceeded"), code="rate_limited"),
    Rule(RateLimited, statuses=(429,)),
    # Before any word about a missing thing: a wrong key is a 404 too.
    Rule(AuthFailed, ("auth_error", "invalid user key", "requires login"), (401, 403, 404, 200)),
    Rule(NoCapacity, ("no_such_ask",), operations=("create",), code="no_such_ask"),
    Rule(NoCapacity, _TAKEN, operations=("start",), code="resources_unavailable"),
    Rule(OutcomeUnknown, _TAKEN, operations=("create",), code="resources_unavailable"),
    Rule(Refused, ("not your own",), (403,), code="own_machine"),
    Rule(Invalid, ("invalid_price", "set a bid price"), (400,), code="invalid_price"),
    Rule(Invalid, ("label_too_long",), (400,), code="label_too_long"),
    Rule(Invalid, ("no_ssh_key_for_vm",), (400,), code="no_ssh_key_for_vm"),
    Rule(BadResponse, ("invalid_token", "pagination token"), (400,), ("list", "find", "billing")),
    # "lacks credit", "insufficient_balance", "missing_billing" and their like.
    Rule(OutOfFunds, ("credit", "balance", "billing"), (400, 402, 200)),
    Rule(NotFound, ("no_such_instance", "not_found", "instance not found"), (404, 200),
         ("get", "terminate", "stop", "start", "bid", "attach_key"), code="no_such_instance"),
)  # fmt: skip

_SHOWN = """
success error msg message detail ask_id new_contract offers instances instances_found
total_instances next_token results count total source amount items start end type id limit order
allocated_storage eq neq gt gte lt lte in notin verified external rentable num_gpus gpu_name
gpu_ram cpu_ram disk_space dph_base dph_total min_bid storage_cost machine_id host_id
actual_status cur_state next_state intended_status label is_bid geolocation disk image
image_uuid runtype price state target_state cancel_unavail client_id select_filters order_by
after_token latest_first format col dir day start_date end_date owner reliability2 duration
verification inet_up inet_down credit
"""
SHOWN = frozenset(_SHOWN.split())
"""Fields whose values may be written down. Not among them: env, onstart, image_login, api keys."""

_UNHEARD = frozenset({"unknown", "offline"})
_STATES: StateTable = (
    (State.TERMINATED, {"cur_state": {"unloaded"}}),
    (State.UNKNOWN, {"actual_status": _UNHEARD}),
    (State.RUNNING, {"actual_status": {"frozen"}}),
    (State.STOPPING, {"actual_status": {"running"}, "intended_status": {"stopped"}}),
    (State.RUNNING, {"actual_status": {"running"}}),
    (State.STOPPED, {"intended_status": {"stopped"}, "actual_status": {"stopped", "exited"}}),
    (State.STOPPED, {"intended_status": {"stopped"}, "cur_state": {"stopped"}}),
    # Stopped, and nobody asked for it: outbid.
    (State.PREEMPTED, {"is_bid": {True}, "actual_status": {"stopped"}}),
    (State.PREEMPTED, {"is_bid": {True}, "actual_status": {"exited"}, "cur_state": {"stopped"}}),
    # Its GPU is somebody else's: it may never start.
    (State.PENDING, {"intended_status": {"running"}, "cur_state": {"stopped"}}),
    (State.STOPPED, {"actual_status": {"stopped"}}),
    (State.FAILED, {"actual_status": {"exited"}}),
    (State.FAILED, {"creation_failed": {True}}),
    (State.PENDING, {"actual_status": {None, "creating", "created", "loading", "rebooting"}}),
)
"""From the container's status, the wish and the contract's state."""
_RAW = (
    "id", "machine_id", "actual_status", "intended_status", "cur_state", "next_state", "is_bid",
    "min_bid", "geolocation",
)  # fmt: skip
_LONGEST_REASON = 200


# What a create sends

_bounds = Bounds(NAME)


def contract(
    spec: LaunchSpec, offer: Offer, attempt: Attempt, onstart: str | None = None
) -> dict[str, Any]:
    """The body of a create. Invalid names the field that is out of bounds.

    `onstart`: the text of `boot_of`. What of `env` the vendor cannot hold comes by that alone.
    """
    require = _bounds.require
    disk = _bounds.disk(spec, offer, usual=DEFAULT_DISK_GB, smallest=SMALLEST_DISK_GB)
    _bounds.variables(dict.fromkeys(spec.env, ""), longest=LONGEST_VARIABLE, together=ALL_VARIABLES)
    _bounds.ports(spec.ports, most=MOST_PORTS)
    require(spec.vm_image is None, "vm_image", "none, since it rents containers")
    # Variables and port mappings stand in one object, a mapping as a flag of docker.
    mappings = {f"-p {port}:{port}{'/udp' * (protocol == 'udp')}": "1"
                for port, protocol in spec.ports}  # fmt: skip
    body: dict[str, Any] = {
        "client_id": "me",
        "image": spec.image or DEFAULT_IMAGE,
        "disk": disk,
        "label": attempt.name,
        "runtype": "ssh_direct",
        "env": _native(spec.env) | mappings,
        "target_state": "running",
        "cancel_unavail": True,
    }
    if onstart:
        body["onstart"] = onstart
    if offer.market is Market.SPOT:
        body["price"] = bid_usd(spec.bid if spec.bid is not None else offer.price.compute)
    if spec.volumes:
        require(len(spec.volumes) == 1, "volumes", "at most one")
        volume, path = spec.volumes[0]
        number = _bounds.number(volume.id, "volumes")
        body["volume_info"] = {"create_new": False, "volume_id": number, "mount_path": path}
    if spec.registry_auth is not None:
        auth = spec.registry_auth
        words = (auth.username, auth.password, auth.server)
        sound = not any(set(word) & _APART for word in words)
        require(sound, "registry_auth", "a name and password without spaces and quotes")
        body["image_login"] = f"-u {auth.username} -p {auth.password} {auth.server}"
    return body


_APART = frozenset(" \t\n\r'\"\\$`")
"""The vendor gets the login as words of docker's command line, with no rule for quotes told."""


def _native(env: Mapping[str, str]) -> dict[str, str]:
    """What the vendor takes: a line each, 256 characters, 32 KiB together."""
    taken: dict[str, str] = {}
    room = ALL_VARIABLES
    for name, value in env.items():
        size = len(name) + 1 + len(value)
        if size <= min(LONGEST_VARIABLE, room) and value.isprintable():
            taken[name] = value
            room -= size
    return taken


def boot_of(spec: LaunchSpec, left_s: float | None, api: str) -> Boot:
    """What `onstart` does at each start of the container, and what must come over SSH.

    The vendor's ssh run types replace the image's own command, and their SSH sessions see of the
    variables only what stands in /etc/environment. Each container knows its number and has a key
    that is good for itself alone: by it the timer destroys the contract.
    """
    return container_boot(
        spec,
        limit=LONGEST_STARTUP,
        seconds_left=left_s,
        end=web_call("DELETE", f"{api}/api/v0/instances/$CONTAINER_ID/", "CONTAINER_API_KEY"),
        sessions_see_env=False,
    )


def bid_usd(price: Nanos) -> float:
    """A bid as the vendor takes it; Invalid where it takes no such bid."""
    inside = LOWEST_BID * NANOS_PER_USD <= price <= HIGHEST_BID * NANOS_PER_USD
    _bounds.require(inside, "bid", f"${LOWEST_BID} to ${HIGHEST_BID:g} an hour")
    return usd(price)


# How machines, the user and verdicts are read


class PublishedPort(Struct, gc=False):
    """Where a container's port is on the host."""

    HostPort: Word
    HostIp: Word | None = None


class Contract(Struct):
    """One instance. Everything but the id may be missing; its secrets are never read."""

    id: Id
    actual_status: Word | None = None
    intended_status: Word | None = None
    cur_state: Word | None = None
    next_state: Word | None = None
    status_msg: Text | None = None
    label: Text | None = None
    gpu_name: Word | None = None
    num_gpus: Count | None = None
    machine_id: Id | None = None
    dph_total: Usd | None = None
    is_bid: bool | None = None
    min_bid: Usd | None = None
    disk_space: Amount | None = None
    image_uuid: Text | None = None
    geolocation: Word | None = None
    public_ipaddr: Word | None = None
    ssh_host: Word | None = None
    ssh_port: Count | None = None
    ports: Mapping[Word, tuple[PublishedPort, ...] | None] | None = None
    start_date: Amount | None = None
    end_date: Amount | None = None

    @property
    def creation_failed(self) -> bool:
        """Told in the status text alone."""
        failed = "OCI runtime create failed" in (self.status_msg or "")
        return self.actual_status == "created" and failed


class Shown(Struct):
    """Of one instance: the plural key holds one object."""

    instances: Contract | None


class InstancePage(Struct):
    """Of the list. `total` counts all pages of this filter."""

    rows: tuple[Contract, ...] = msgspec.field(name="instances")
    next_token: Text | None = None
    total: Count | None = msgspec.field(name="total_instances", default=None)


class User(Struct):
    """Of users/current."""

    id: Id
    credit: SignedUsd | None = None


class Verdict(Struct):
    """Of an answer to a change, and of any refusal."""

    success: Any = None
    error: Any = None
    new_contract: Any = None


state_of = partial(state_by, _STATES)


def instance_of(row: Contract, account: str) -> Instance:
    """A machine as the vendor tells it."""
    state = state_of(row)
    owner, attempt = whose(row.label)
    on = row.cur_state == "running" and state in {State.PENDING, State.UNKNOWN, State.FAILED}
    ports = {
        inside: where
        for inside, outside in (row.ports or {}).items()
        if outside and (where := at(row.public_ipaddr, outside[0].HostPort))
    }
    return Instance(
        ref=Ref(NAME, account, "", str(row.id)),
        owner=owner,
        attempt=attempt,
        name=row.label,
        state=state,
        raw_state="/".join(
            w or "-" for w in (row.actual_status, row.intended_status, row.cur_state)
        ),
        reason=(row.status_msg or "")[:_LONGEST_REASON],
        healthy=row.actual_status not in _UNHEARD and state is not State.FAILED,
        pulling=state is State.PENDING and row.actual_status == "loading",
        bills_compute=state in {State.RUNNING, State.STOPPING} or on,
        bills_disk=state is not State.TERMINATED,
        price=nanos(row.dph_total) if row.dph_total is not None else None,
        gpu=row.gpu_name,
        gpu_count=row.num_gpus,
        image=row.image_uuid,
        disk_gb=row.disk_space,
        ssh=_ssh(row, ports) if state is not State.TERMINATED else None,
        ports=without_ssh(ports),
        created_at=moment(row.start_date),
        expires_at=moment(row.end_date),
        raw=told(row, _RAW),
    )


def _ssh(row: Contract, ports: Mapping[str, str]) -> Endpoint | None:
    """Direct where port 22 is published, else the vendor's proxy."""
    if direct := ssh_of(ports):
        return direct
    if row.ssh_host and row.ssh_port:
        return Endpoint(host=row.ssh_host.strip(), port=row.ssh_port, user="root")
    return None


def verdict_of(body: bytes) -> Verdict:
    """An empty one where the body is no object."""
    try:
        return msgspec.json.decode(body, type=Verdict)
    except UNREADABLE:
        return Verdict()


def new_contract(body: bytes) -> int | None:
    """The contract that a create made, in an error answer too."""
    made = verdict_of(body).new_contract
    return made if isinstance(made, int) and not isinstance(made, bool) and made > 0 else None


# How charges are read


class ChargeItem(Struct):
    """One kind of a charge: gpu, disk, bwd, bwu."""

    type: Word
    amount: SignedUsd
    start: Amount | None = None
    end: Amount | None = None


class Charge(Struct, kw_only=True):
    """What one contract was charged in some days. A contract may have several rows."""

    source: Word | None = None
    amount: SignedUsd
    start: Amount | None = None
    end: Amount | None = None
    items: tuple[ChargeItem, ...] = ()

    def lines(self) -> tuple[BillLine, ...]:
        """Its items, or itself where it has none."""
        told = [
            (item, moment(item.start) or moment(self.start), moment(item.end) or moment(self.end))
            for item in self.items or (ChargeItem("total", self.amount),)
        ]
        return tuple(
            BillLine(item.type, signed_nanos(item.amount), start, end)
            for item, start, end in told
            if start and end
        )


class Charges(Struct):
    """A page of them."""

    rows: tuple[Charge, ...] = msgspec.field(name="results")
    next_token: Text | None = None
    total: Count | None = None


# Calls

_TOKEN = "after_token"  # noqa: S105 - a parameter's name
_NO_FILTERS: Mapping[str, Any] = {}
_id = attrgetter("id")
_charge = attrgetter("source", "start", "end", "amount")
"""One contract may have several rows, each with its own time."""


class VastAi(RestCloud):
    """One account at Vast.ai: each call one question."""

    name = NAME
    display_name = "Vast.ai"
    website = "https://vast.ai/"
    console = "https://cloud.vast.ai/instances/"
    credentials = ("VAST_AI_API_KEY", "VAST_API_KEY")
    capabilities = CAPABILITIES
    base_url = "https://console.vast.ai"
    rules = RULES
    shown = SHOWN
    keyless = frozenset({"offers"})

    @staticmethod
    def says_no(body: bytes) -> bool:
        """`success` is false, or there is an `error` and no `success`."""
        # Ten megabytes of offers are no refusal, and are not read twice to find out.
        if len(body) > LONGEST_REFUSAL or body[:1] != b"{":
            return False
        said = verdict_of(body)
        return said.success is False or (said.success is None and isinstance(said.error, str))

    async def uid(self, operation: str) -> str:
        """The user's number."""
        return str((await self._user(operation)).id)

    async def machines(
        self, operation: str, filters: Mapping[str, Any] = _NO_FILTERS
    ) -> Whole[Instance]:
        """By pages, in the order of their numbers. `filters`: field -> operator -> value."""
        params = {
            "select_filters": json_text(filters),
            "order_by": '[{"col": "id", "dir": "asc"}]',
            "limit": str(LIST_PAGE),
        }
        whole = await self.pages(
            operation, "/api/v1/instances/", params, InstancePage, identity=_id, token_name=_TOKEN
        )
        machines = tuple(instance_of(row, self.account) for row in whole.rows)
        return Whole(machines, whole.complete)

    async def balance(self) -> Nanos:
        """The `credit`: what can be spent. `balance` is the invoice's side of it."""
        user = await self._user("balance")
        if user.credit is None:
            raise self.http.error(BadResponse, "balance", "an answer without `credit`")
        return signed_nanos(user.credit)

    async def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        """One page a market: on-demand, and interruptible as spot."""
        for market in (Market.ON_DEMAND, Market.SPOT):
            if query.market not in {None, market}:
                continue
            asked = search(query, market)
            answer = await self.ask("offers", "POST", "/api/v0/bundles/", asked.body)
            rows, rejected = parse_offers(
                answer.body,
                account=self.account,
                market=market,
                fetched_at=answer.asked_at,
                required=asked.required,
            )
            all_told = len(rows) + len(rejected) < MOST_OFFERS
            complete = all_told and mostly_sound(len(rows), len(rejected))
            yield OfferPage(asked.covers, complete, rows, rejected)

    async def create(
        self, spec: LaunchSpec, offer: Offer, attempt: Attempt, have: Mapping[Any, Ref]
    ) -> Ref:
        """One request. Keys are attached afterwards: given at creation they are unreliable."""
        boot = self._boot(spec, self.http.clock.now())
        body = contract(spec, offer, attempt, boot.text)
        path = f"/api/v0/asks/{_bounds.number(offer.key.partition(':')[0], 'offer')}/"
        hide = (*secrets_of(spec), boot.text)
        answer = await self.send("create", "PUT", path, body, hide=hide)
        made, refused = new_contract(answer.body), self.refused(answer)
        if made is not None and not refused:
            return self.ref(made)
        if made is None and refused:
            raise self.refusal("create", answer, hide)
        happened = f"an error that made contract {made}" if refused else "no contract in the answer"
        raise self.http.error(OutcomeUnknown, "create", happened, answer)

    def after_boot(self, spec: LaunchSpec, offer: Offer, attempt: Attempt, now: datetime) -> str:
        """What 4096 characters could not hold."""
        return self._boot(spec, now).after

    def _boot(self, spec: LaunchSpec, now: datetime) -> Boot:
        return boot_of(spec, seconds_left(spec, now), self.http.base_url)

    async def attach_key(self, ref: Ref, public_key: str) -> None:
        """Admits one more public key."""
        await self.ask("attach_key", "POST", _path(ref, "ssh/"), {"ssh_key": public_key})

    async def find(self, attempt: Attempt, offer: Offer) -> tuple[Instance, ...]:
        """By label, which is not unique at the vendor but is at ours."""
        labelled = {"label": {"in": [attempt.name]}}
        return of_attempt(attempt, await self.machines("find", labelled))

    async def get(self, ref: Ref) -> Instance:
        """NotFound where the vendor shows no contract, in its own words or as null."""
        answer = await self.ask("get", "GET", _path(ref), params={"owner": "me"})
        machine = self.http.decode("get", answer, Shown).instances
        if machine is None:
            error = self.http.error(NotFound, "get", f"no instance {ref.id}", answer)
            error.code = "no_such_instance"
            raise error
        return self.same(ref, instance_of(machine, self.account))

    async def terminate(self, ref: Ref) -> None:
        """Destroys the contract and its disk; one that is gone already is fine."""
        with suppress(NotFound):
            await self.ask("terminate", "DELETE", _path(ref), {})

    async def stop(self, ref: Ref) -> None:
        """Keeps the disk, which goes on costing."""
        await self.ask("stop", "PUT", _path(ref), {"state": "stopped"})

    async def start(self, ref: Ref) -> None:
        """NoCapacity where somebody else has its GPU now."""
        await self.ask("start", "PUT", _path(ref), {"state": "running"})

    async def bid(self, ref: Ref, price: Nanos) -> None:
        """Changes the bid of a spot machine, per hour of the whole machine."""
        path = f"/api/v0/instances/bid_price/{_bounds.number(ref.id, 'ref')}/"
        await self.ask("bid", "PUT", path, {"client_id": "me", "price": bid_usd(price)})

    async def billing(self, ref: Ref, since: datetime, until: datetime | None) -> Bill:
        """The charges of this contract. Final only `billing_lag_s` after its end."""
        now = self.http.clock.now()
        first = since.replace(hour=0, minute=0, second=0, microsecond=0)
        last = (until or now) + timedelta(days=1)
        days = {"gte": int(first.timestamp()), "lte": int(last.timestamp())}
        params = {
            "select_filters": json_text({"day": days, "type": {"in": ["instance"]}}),
            "latest_first": "true",
            "limit": str(CHARGES_PAGE),
            "format": "table",
        }
        whole = await self.pages(
            "billing", "/api/v0/charges/", params, Charges, identity=_charge, token_name=_TOKEN
        )
        source = f"instance-{ref.id}"
        ours = [charge for charge in whole.rows if charge.source == source]
        return bill_of(
            ours,
            until=until,
            now=now,
            lag_s=self.capabilities.billing_lag_s,
            complete=whole.complete and all(charge.source for charge in whole.rows),
            evidence=f"{source}: {len(ours)} charge rows",
        )

    async def _user(self, operation: str) -> User:
        # No slash: the vendor's client sends none here.
        return await self.ask_for(User, operation, "GET", "/api/v0/users/current")


def _path(ref: Ref, below: str = "") -> str:
    return f"/api/v0/instances/{_bounds.number(ref.id, 'ref')}/{below}"
