"""Jarvis Labs: containers and virtual machines in India and Europe, paid from a prepaid wallet.

A paused machine loses its GPU, and its disk goes on costing; of a container only `/home` outlives
the pause, and what was started on it is started anew. A resumed machine has another id: it is
followed by its name. SSH keys belong to the account: the broker's, registered as `gb-<owner>`,
opens every machine that anyone of the account starts from then on; your own, variables and scripts
come over SSH. Containers are made of the vendor's templates (`--vm-image`, "pytorch" where none is
named), never of an image of yours. A machine cannot end its own billing: the timer on it only
warns. Each region has a host of its own for what changes a machine. An Indian account is charged in
rupees, and its prices are not ranked.
"""

# ruff: noqa: ARG002 - the interface hands every cloud what any of them needs

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct, field

from gpubroker.model.bill import Bill
from gpubroker.model.capabilities import Capabilities, Limit
from gpubroker.model.errors import (
    AuthFailed,
    NoCapacity,
    NotFound,
    OutcomeUnknown,
    OutOfFunds,
    QuotaExceeded,
    RateLimited,
    Refused,
    WrongState,
)
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import Endpoint, Instance
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import Nanos
from gpubroker.model.offer import Offer, OfferPage
from gpubroker.model.query import Query
from gpubroker.model.terms import Carrier, Expiry, Kind, Market, Resource, State
from gpubroker.providers.bills import bill_to_look_up
from gpubroker.providers.boot import container_boot, seconds_left, vm_boot
from gpubroker.providers.bounds import Bounds
from gpubroker.providers.carriers import whose
from gpubroker.providers.endpoints import at
from gpubroker.providers.exchange import UNREADABLE, Answer
from gpubroker.providers.fields import Id, SignedUsd, Text, Word, signed_nanos, told
from gpubroker.providers.holdings import KeepsThings, Shelf
from gpubroker.providers.jarvislabs_market import (
    DEFAULT_REGION,
    HOSTS,
    NAME,
    ONE_GPU_ONLY,
    Number,
    amount,
    parse_offers,
)
from gpubroker.providers.offering import page_of
from gpubroker.providers.paging import Whole
from gpubroker.providers.pushdown import read_options
from gpubroker.providers.refusals import Rule
from gpubroker.providers.registered_keys import broker_key, registered
from gpubroker.providers.states import StateTable, state_by

# What it is

CONTAINER, VM, CPU = "container", "vm", "cpu"
PATHS = {CONTAINER: "/misc", VM: "/templates/vm", CPU: "/templates/vm/cpu"}
USERS = {CONTAINER: "root", VM: "ubuntu", CPU: "ubuntu"}
USUAL_TEMPLATE = "pytorch"
SMALLEST_DISK_GB, SMALLEST_CONTAINER_GB = 100, 50
"""Containers in India take less than VMs, and than Europe. Who asks for less gets this much."""
MOST_PORTS = 10
VOLUME_PATH = "/home/jl_fs"

_CALLS = (
    "whoami offers find get list ensure create terminate stop start billing balance resources "
    "discard"
)
CAPABILITIES = Capabilities(
    kinds=frozenset({Kind.CONTAINER, Kind.VM}),
    markets=frozenset({Market.ON_DEMAND, Market.SPOT}),
    carriers=(Carrier.NAME,),
    # Whether the VMs bring Docker is not told.
    image="none",
    startup="over_ssh",
    startup_max_bytes=1_000_000,
    ssh="sshd",
    ssh_keys="registry",
    env="bootstrap",
    ports="http_only",
    stop="loses_gpu",
    # Of a container all outside of /home: "apt installs, /tmp and /root" (the client's guide).
    stop_wipes=True,
    start_renames=True,
    expiry=Expiry.CONTROLLER_ONLY,
    needs=(Resource.SSH_KEY,),
    # The vendor's client waits as long for an answer; none of these three is promised.
    create_deadline_s=120,
    list_lag_s=120,
    absence_grace_s=120,
    # A bare 404 is all that is said of one that is gone: its lists decide.
    gone="absent",
    async_create=True,
    billing="balance",
    # Charged by the minute; how soon after is not told.
    billing_lag_s=3600,
    limits=(
        # None is documented.
        Limit("all", frozenset(_CALLS.split()), interval_s=1.0, burst=4),
        Limit("create", frozenset({"create"}), interval_s=10.0),
    ),
)

KEYS_FULL = "ssh_keys_full"
_SOLD_OUT = ("capacity", "available", "stock")
RULES = (
    Rule(RateLimited, statuses=(429,)),
    Rule(OutOfFunds, statuses=(402,), code="insufficient_balance"),
    Rule(OutOfFunds, ("balance",), (200, 400, 403), code="insufficient_balance"),
    # "Maximum of 10 SSH keys reached".
    Rule(
        QuotaExceeded,
        ("maximum of", "ssh keys reached"),
        (200, 400, 403, 409),
        ("ensure",),
        KEYS_FULL,
    ),
    Rule(NoCapacity, _SOLD_OUT, (200, 400, 409), ("create", "start"), "no_capacity", "type_region"),
)
"""The vendor has neither list nor codes: by the words that its clients look for."""

_SHOWN = """
success sucess message error detail loc msg type code status server_meta gpu_type region currency
num_free_devices effective_num_free_devices spot_num_free_devices price_per_hour spot_price vram
arc cpus_per_gpu ram_per_gpu workload_type num_gpus instance instances machine_id instance_name
framework cores ram hdd cost runtime frequency public_ip http_ports is_spot is_reserved fs_id
disk_type name duration script_id key_id key_name script_meta script_name user_id balance grants
"""
SHOWN = frozenset(_SHOWN.split())
"""Fields whose values may be written down. Not among them: `url`, which holds a token."""

_STATES: StateTable = (
    (State.RUNNING, {"status": {"Running"}, "reachable": {True}}),
    (State.PENDING, {"status": {"Creating", "Resuming", "Running"}}),
    (State.STOPPING, {"status": {"Pausing"}}),
    # Also a spot machine that was taken away, and any once the wallet is empty.
    (State.STOPPED, {"status": {"Paused"}}),
    (State.TERMINATING, {"status": {"Destroying"}}),
    (State.FAILED, {"status": {"Failed"}}),
)
_TEMPLATE = re.compile(r"(?!vm$)[a-z0-9][a-z0-9_.-]{0,60}")
_SSH_PORT, _SSH_HOST = re.compile(r"\s-p\s*([0-9]{1,5})\b"), re.compile(r"([\w.-]+)@([\w.-]+)")


# What a create sends

_bounds = Bounds(NAME)


def launch(spec: LaunchSpec, offer: Offer, attempt: Attempt) -> dict[str, Any]:
    """The body of a create: every key of it always, as the vendor's client sends them.

    Invalid names the field that is out of bounds.
    """
    container = offer.kind is Kind.CONTAINER
    small = container and offer.region not in ONE_GPU_ONLY
    smallest = SMALLEST_CONTAINER_GB if small else SMALLEST_DISK_GB
    _bounds.takes_no(spec, "image", "registry_auth", "bid")
    _bounds.ports(spec.ports, most=MOST_PORTS, protocols=("tcp",))
    fits = not spec.vm_image or (container and bool(_TEMPLATE.fullmatch(spec.vm_image)))
    _bounds.require(fits, "vm_image", "a template, for a container alone")
    mounted = [_bounds.number(volume.id, "volumes") for volume, _ in spec.volumes]
    fits = all(path == VOLUME_PATH for _, path in spec.volumes) and len(mounted) <= 1
    _bounds.require(fits, "volumes", f"one at {VOLUME_PATH}")
    return {
        "gpu_type": offer.launch["gpu_type"],
        "num_gpus": offer.gpu_count,
        "hdd": max(smallest, _bounds.disk(spec, offer, usual=smallest)),
        "region": offer.region,
        "name": attempt.name,
        "is_spot": offer.market is Market.SPOT,
        "duration": "hour",
        "disk_type": "ssd",
        "http_ports": ",".join(str(port) for port, _ in spec.ports),
        "script_id": None,
        "script_args": "",
        "fs_id": mounted[0] if mounted else None,
        "arguments": "",
    }


# How machines and keys are read


class Machine(Struct):
    """A container or VM. Addresses of its notebook, which hold a token, are never read."""

    machine_id: Id
    status: Word
    framework: Word
    instance_name: Word | None = None
    region: Word | None = None
    gpu_type: Word | None = None
    num_gpus: Number = None
    hdd: Number = None
    ssh_str: Text | None = None
    public_ip: Word | None = None
    endpoints: tuple[Text, ...] | None = None
    http_ports: Word | None = None
    is_spot: bool | None = None
    fs_id: Id | None = None

    @property
    def kind(self) -> str:
        """By which path it is changed."""
        if self.framework != VM:
            return CONTAINER
        return CPU if self.gpu_type == "CPU" else VM

    @property
    def reachable(self) -> bool:
        """Until it is it boots; addresses of one that does not run are stale."""
        return bool(self.ssh_str or self.public_ip)

    @property
    def ssh(self) -> Endpoint | None:
        """By the command that the vendor shows, else at its own address."""
        command, usual = f" {self.ssh_str or ''}", f"{USERS[self.kind]}@{self.public_ip or ''}"
        found, port = (
            _SSH_HOST.search(command) or _SSH_HOST.search(usual),
            _SSH_PORT.search(command),
        )
        return Endpoint(found[2], int(port[1]) if port else 22, found[1]) if found else None

    @property
    def ports(self) -> dict[str, str]:
        """A container's have an address each, after that of port 6006; all of a VM's are open."""
        wanted = [port.strip() for port in (self.http_ports or "").split(",") if port.strip()]
        there = tuple(at(self.public_ip, port) for port in wanted)
        if self.kind == CONTAINER:
            there = (self.endpoints or ())[1:]
        return {f"{port}/tcp": where for port, where in zip(wanted, there, strict=False) if where}


class Fetched(Struct):
    """A machine's own record."""

    instance: Machine


class Progress(Struct):
    """Of a create, beside the machine's record."""

    error: Text | None = None


class Key(Struct):
    """An SSH key of the account."""

    id: Word = field(name="key_id")
    name: Word = field(name="key_name")
    public_key: Text = field(name="ssh_key")


class Script(Struct):
    """A startup script of the account, of which gpubroker makes none."""

    id: Id = field(name="script_id")
    name: Word | None = field(name="script_name", default=None)


class Wallet(Struct):
    """What was paid in and what was given, less what was used."""

    balance: SignedUsd
    grants: SignedUsd


class Told(Struct):
    """What any answer may hold. The flag has two spellings and is true, "true" or "True"."""

    success: bool | Word | None = None
    sucess: bool | Word | None = None
    machine_id: Id | Word | None = None
    currency: Word | None = None

    @property
    def agrees(self) -> bool | None:
        """None where there is no flag."""
        flag = self.sucess if self.success is None else self.success
        return None if flag is None else str(flag).lower() == "true"


def told_by(body: bytes) -> Told:
    """Nothing where the answer is of another form."""
    try:
        return msgspec.json.decode(body, type=Told)
    except UNREADABLE:
        return Told()


state_of = partial(state_by, _STATES)


def instance_of(row: Machine, account: str) -> Instance:
    """A machine as the vendor tells it: without the time of its start, or an hour's price."""
    state = state_of(row)
    owner, attempt = whose(row.instance_name)
    on, region = state is State.RUNNING, row.region or DEFAULT_REGION
    return Instance(
        ref=Ref(NAME, account, "", f"{region}/{row.kind}/{row.machine_id}"),
        owner=owner,
        attempt=attempt,
        name=row.instance_name,
        state=state,
        raw_state=row.status,
        healthy=state is not State.UNKNOWN,
        bills_compute=state is not State.STOPPED,
        # Until it is destroyed.
        bills_disk=True,
        gpu=row.gpu_type if row.kind != CPU else None,
        gpu_count=int(amount(row.num_gpus)) or None,
        disk_gb=amount(row.hdd) or None,
        region=region,
        ssh=row.ssh if on else None,
        ports=row.ports if on else {},
        raw=told(row, ("machine_id", "status", "framework", "region", "is_spot", "fs_id")),
    )


def addressed(ref: Ref) -> tuple[str, str, int]:
    """(region, kind, number): what a call about a machine needs, so that none asks for it first."""
    region, _, rest = ref.id.partition("/")
    kind, _, number = rest.partition("/")
    known = region in HOSTS and kind in PATHS
    _bounds.require(known, "ref", f"region/kind/number, not {ref.id[:60]!r}")
    return region, kind, _bounds.number(number, "ref")


# Calls

_MACHINES, _KEYS = "/users/fetch", "/ssh/"
_MISSING, _SERVER_FAULT = 404, 500


class JarvisLabs(KeepsThings):
    """One account at Jarvis Labs: each call one question."""

    name = NAME
    display_name = "Jarvis Labs"
    website = "https://jarvislabs.ai/"
    console = "https://jarvislabs.ai/"
    charges_page = "https://jarvislabs.ai/"
    credentials = ("JL_API_KEY", "JARVISLABS_API_KEY")
    capabilities = CAPABILITIES
    base_url = HOSTS[DEFAULT_REGION]
    rules = RULES
    shown = SHOWN
    shelves = (
        Shelf(Resource.SSH_KEY, _KEYS, delete="DELETE {path}{id}", rows=tuple[Key, ...]),
        Shelf(Resource.STARTUP_SCRIPT, "/scripts/", "script_meta", "DELETE {path}?script_id={id}",
              tuple[Script, ...]),
    )  # fmt: skip

    @staticmethod
    def says_no(body: bytes) -> bool:
        """A status of 200 may hold a refusal."""
        return told_by(body).agrees is False

    async def uid(self, operation: str) -> str:
        """The user behind the key."""
        path = "/users/user_info"
        return await self.ask_for(Word, operation, "GET", path, under="user_id")

    async def machines(self, operation: str) -> Whole[Instance]:
        """All of the team, paused ones too: the list has no pages."""
        shape = tuple[Machine, ...]
        rows = await self.ask_for(shape, operation, "GET", _MACHINES, under="instances")
        once = {row.machine_id: instance_of(row, self.account) for row in rows}
        return Whole(tuple(once.values()), complete=True)

    async def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        """All regions at once."""
        read_options(query, NAME, {}, {})
        if query.market not in {None, *CAPABILITIES.markets}:
            return
        answer = await self.ask("offers", "GET", "/misc/server_meta")
        currency = told_by(answer.body).currency or await self._currency("offers")
        rows, rejected = parse_offers(
            answer.body, account=self.account, fetched_at=answer.asked_at, currency=currency
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
        """The owner's SSH key. Once registered it is read again: the answer tells no id."""
        if what is not Resource.SSH_KEY:
            raise self.unsupported("ensure", what.value)
        self._body(spec, offer, attempt, "ensure")
        wanted = broker_key(spec, attempt, NAME)
        key = registered(await self._keys(), wanted, NAME)
        if key is None:
            body = {"ssh_key": wanted.public_key, "key_name": wanted.name}
            await self._register(body)
            key = registered(await self._keys(), wanted, NAME)
        if key is None:
            raise self.http.error(OutcomeUnknown, "ensure", "the key is not listed yet")
        return self.ref(key.id)

    async def release(self, what: Resource, ref: Ref) -> None:
        """The owner's key stays."""

    async def create(
        self, spec: LaunchSpec, offer: Offer, attempt: Attempt, have: Mapping[Resource, Ref]
    ) -> Ref:
        """One request for one machine, which may fail later."""
        body = self._body(spec, offer, attempt, "create")
        template = VM if offer.kind is Kind.VM else spec.vm_image or USUAL_TEMPLATE
        path = self._at(offer.region, f"/templates/{template}/create")
        number = self._made("create", await self.send("create", "POST", path, body))
        return self.ref(f"{offer.region}/{offer.kind}/{number}")

    def after_boot(self, spec: LaunchSpec, offer: Offer, attempt: Attempt, now: datetime) -> str:
        """All that a machine does at its start: the vendor's scripts lie in the clear."""
        left_s = seconds_left(spec, now)
        if offer.kind is Kind.VM:
            return vm_boot(spec, limit=0, seconds_left=left_s, user=USERS[VM], end="").after
        return container_boot(
            spec, limit=0, seconds_left=left_s, end="", sessions_see_env=False, sshd="keys"
        ).after

    async def get(self, ref: Ref) -> Instance:
        """What has no record of its own is looked for in the list, which decides."""
        region, _, number = addressed(ref)
        answer = await self.send("get", "GET", f"{_MACHINES}/{number}")
        if answer.status == _MISSING or (answer.ok and self.says_no(answer.body)):
            whole = await self.machines("get")
            seen = next((one for one in whole.rows if one.ref.id == ref.id), None)
            if seen is None:
                raise self.http.error(NotFound, "get", f"{ref.id} is in no list", answer)
            return seen
        if self.refused(answer):
            raise self.refusal("get", answer)
        row = self.http.decode("get", answer, Fetched).instance
        machine = self.same(ref, instance_of(row, self.account))
        if machine.state is State.FAILED:
            path, asked = self._at(region, "/misc/status"), {"machine_id": str(number)}
            progress = await self.ask_for(Progress, "get", "GET", path, params=asked)
            return msgspec.structs.replace(machine, reason=progress.error or "")
        return machine

    async def terminate(self, ref: Ref) -> None:
        """Gone already, or on its way, is fine: a refusal is held against its record."""
        try:
            await self._change("terminate", ref, "destroy")
        except (Refused, OutcomeUnknown) as refusal:
            status = refusal.http_status or _SERVER_FAULT
            if isinstance(refusal, AuthFailed) or status >= _SERVER_FAULT:
                raise
            try:
                state = (await self.get(ref)).state
            except NotFound:
                return
            if state is not State.TERMINATING:
                raise

    async def stop(self, ref: Ref) -> None:
        """Pauses it: the GPU is free then, the disk goes on costing."""
        await self._change("stop", ref, "pause")

    async def start(self, ref: Ref) -> Ref:
        """Resumes it as it was; under the same name it may have another id then.

        One that runs, or is resumed already, is left alone: a second resume might make a second.
        """
        region, kind, number = addressed(ref)
        if kind == CPU:
            raise self.unsupported("start", "start of a machine without GPU here")
        row = await self.ask_for(Machine, "get", "GET", f"{_MACHINES}/{number}", under="instance")
        state = state_of(row)
        if state in {State.PENDING, State.RUNNING}:
            return ref
        if state is not State.STOPPED:
            raise self.http.error(WrongState, "start", f"it is {row.status}")
        body = {
            "machine_id": number,
            "gpu_type": row.gpu_type,
            "num_gpus": int(amount(row.num_gpus, 1)),
            "is_spot": bool(row.is_spot),
            "hdd": int(amount(row.hdd)),
            "name": row.instance_name,
            "duration": "hour",
            "script_id": None,
            "http_ports": row.http_ports or "",
            "script_args": "",
            "fs_id": row.fs_id,
            "arguments": "",
        }
        path = self._at(region, f"/templates/{row.framework}/resume")
        number = self._made("start", await self.send("start", "POST", path, body))
        return self.ref(f"{region}/{kind}/{number}")

    async def balance(self) -> Nanos:
        """Of the prepaid money what is left. Unsupported where it is kept in rupees."""
        currency = await self._currency("balance")
        if currency != "USD":
            raise self.unsupported("balance", f"balance in USD: it is kept in {currency}")
        left = await self.ask_for(Wallet, "balance", "GET", "/users/balance")
        return Nanos(signed_nanos(left.balance) + signed_nanos(left.grants))

    async def billing(self, ref: Ref, since: datetime, until: datetime | None) -> Bill:
        """A machine's cost goes with its record: by the balance, or by a person on this page."""
        return bill_to_look_up(self.charges_page, ref, since, until)

    def _at(self, region: str, path: str) -> str:
        """At the region's own host; a sandbox has one address for all."""
        return HOSTS[region] + path if self.http.base_url == self.base_url else path

    def _body(
        self, spec: LaunchSpec, offer: Offer, attempt: Attempt, operation: str
    ) -> dict[str, Any]:
        self.takes_no_options(operation, spec)
        return launch(spec, offer, attempt)

    async def _change(self, operation: str, ref: Ref, act: str) -> None:
        region, kind, number = addressed(ref)
        path, asked = self._at(region, f"{PATHS[kind]}/{act}"), {"machine_id": str(number)}
        self._agreed(operation, await self.ask(operation, "POST", path, params=asked))

    def _agreed(self, operation: str, answer: Answer) -> None:
        if not told_by(answer.body).agrees:
            raise self.refusal(operation, answer)

    def _made(self, operation: str, answer: Answer) -> int:
        """The machine's number, which may be text.

        It is refused only where no machine is named beside a no: whatever else an answer says
        without one, "will be available shortly" too, may come after the machine was made.
        """
        told = told_by(answer.body)
        number, named = str(told.machine_id), told.machine_id is not None
        if self.refused(answer) and not named:
            raise self.refusal(operation, answer)
        if self.refused(answer) or not number.isdecimal():
            raise self.http.error(OutcomeUnknown, operation, "neither a machine nor a no", answer)
        return int(number)

    async def _register(self, key: Mapping[str, Any]) -> None:
        try:
            self._agreed("ensure", await self.ask("ensure", "POST", _KEYS, key))
        except QuotaExceeded as full:
            advice = f"Delete an SSH key that nobody needs at {self.website}, and launch again"
            full.args = (f"{full}. {advice}",)
            raise

    async def _keys(self) -> tuple[Key, ...]:
        return await self.ask_for(tuple[Key, ...], "ensure", "GET", _KEYS)

    async def _currency(self, operation: str) -> str:
        """Of the account: success means rupees here, and no success dollars."""
        answer = await self.send(operation, "GET", "/misc/")
        agrees = told_by(answer.body).agrees
        if not answer.ok or agrees is None:
            raise self.refusal(operation, answer)
        return "INR" if agrees else "USD"
