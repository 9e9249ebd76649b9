"""Verda (formerly DataCrunch): virtual machines with NVIDIA GPUs in Finland and Iceland.

A machine that is off costs as much as one that runs: only a terminate ends the billing, so the
timer on it only warns, and there is no stop. The end names the system's volume, of 50 GB at least,
which would go on costing by itself otherwise. The vendor keeps startup scripts in the clear and
nobody can change them: with variables or a registry login, all that is to run goes over SSH after
the boot. Volumes are not mounted by the cloud, so none can be asked for. Without a key there are
prices, but not what is free. The cloud tells neither whose a key is nor what a machine cost, only
the balance.
"""

# ruff: noqa: ARG002, ARG004 - the interface hands every cloud what any of them needs

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

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
    WrongState,
)
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.instance import Endpoint, Instance
from gpubroker.model.launch import LaunchSpec
from gpubroker.model.money import Nanos
from gpubroker.model.offer import Offer, OfferPage
from gpubroker.model.query import Query
from gpubroker.model.terms import Carrier, Expiry, Kind, Market, Resource, State
from gpubroker.providers.access_token import AccessToken, Granted
from gpubroker.providers.accounts import Account
from gpubroker.providers.bills import bill_to_look_up
from gpubroker.providers.boot import Boot, seconds_left, secrets_of, vm_boot
from gpubroker.providers.bounds import Bounds
from gpubroker.providers.carriers import tags_of, whose
from gpubroker.providers.exchange import UNREADABLE, Answer
from gpubroker.providers.fields import Count, SignedUsd, Text, Told, Word, signed_nanos, told, utc
from gpubroker.providers.fingerprint import fingerprint
from gpubroker.providers.holdings import KeepsThings, Shelf, Thing
from gpubroker.providers.http import Transport
from gpubroker.providers.offering import page_of
from gpubroker.providers.paging import Whole
from gpubroker.providers.pushdown import read_options
from gpubroker.providers.refusals import Rule
from gpubroker.providers.registered_keys import broker_key, registered
from gpubroker.providers.states import StateTable, state_by
from gpubroker.providers.verda_market import (
    NAME,
    Gpus,
    Location,
    Stock,
    Stocked,
    VolumeType,
    disk_price,
    parse_offers,
)

# What it is

USER = "root"
SSH_PORT = 22
LONGEST_SCRIPT = 16_384
"""Bytes. The vendor names no bound: as little as the most modest cloud takes."""
SMALLEST_DISK_GB = 50
"""Of the system: the vendor's images need it. What is asked for with less gets this much."""

_CALLS = (
    "whoami offers find get list ensure create terminate release billing balance resources discard"
)
CAPABILITIES = Capabilities(
    kinds=frozenset({Kind.VM}),
    markets=frozenset({Market.ON_DEMAND, Market.SPOT}),
    carriers=(Carrier.TAG, Carrier.NAME),
    image="docker_on_vm",
    startup="script",
    startup_max_bytes=LONGEST_SCRIPT,
    ssh="sshd",
    ssh_keys="registry",
    env="bootstrap",
    # There is no firewall: every port of the machine's own address is open.
    ports="any_tcp",
    # "A stopped instance is still charged" (the vendor's command line, warning of `shutdown`).
    stop="none",
    expiry=Expiry.CONTROLLER_ONLY,
    registry_auth=True,
    needs=(Resource.SSH_KEY, Resource.STARTUP_SCRIPT),
    # The vendor's client waits as long for a machine to leave `ordered`.
    create_deadline_s=180,
    list_lag_s=120,
    absence_grace_s=120,
    gone="404",
    async_create=True,
    billing="balance",
    # Charged in steps of ten minutes; how soon after is not told.
    billing_lag_s=3600,
    public_prices=True,
    limits=(
        # None is documented. The vendor's client asks again after 0.5 s; a search is six requests.
        Limit("all", frozenset(_CALLS.split()), interval_s=0.5, burst=6),
        Limit("create", frozenset({"create"}), interval_s=10.0),
    ),
)

RULES = (
    Rule(RateLimited, statuses=(429,)),
    # A 503, and no trouble of the service: "Not enough resources to deploy a 1 GPU instance type
    # 1V100.6V in FIN-03".
    Rule(NoCapacity, ("not enough resources",), operations=("create",), scope="type_region",
         code="no_capacity"),
    Rule(OutOfFunds, codes=("insufficient_funds",)),
    Rule(OutOfFunds, statuses=(402,), code="insufficient_funds"),
    Rule(QuotaExceeded, ("quota", "limit exceeded"), (400, 403, 409, 422), code="quota"),
    Rule(NotFound, ("invalid instance id",), (400, 404), ("get", "terminate")),
    # Its code alone is no proof: what a wrong path is answered is not known.
    Rule(NotFound, ("instance",), (404,), ("get", "terminate"), codes=("not_found",)),
    Rule(NotFound, codes=("not_found",), statuses=(404,),
         operations=("create", "release", "discard")),
    Rule(NotFound, ("can't discontinue a discontinued instance",), operations=("terminate",)),
    Rule(WrongState, ("can't discontinue",), operations=("terminate",), code="not_yet"),
)  # fmt: skip
"""From the vendor's clients and those of its users: there is no list of the vendor's."""

_SHOWN = """
code message details status id error statusCode action instanceId instance_type model name
description price_per_hour spot_price currency gpu cpu gpu_memory memory number_of_gpus
number_of_cores size_in_gigabytes location location_code availabilities country_code hostname ip
created_at os_name image is_spot contract pricing os_volume_id volume_ids ssh_key_ids
startup_script_id os_volume size type on_spot_discontinue supported_os price is_os_volume
price_per_month_per_gb instance_id delete_permanently is_permanent amount grant_type
"""
SHOWN = frozenset(_SHOWN.split())
"""Fields whose values may be written down. Not among them: scripts, tokens, keys, tags' values."""

_STATES: StateTable = (
    (
        State.PENDING,
        {"status": {"new", "ordered", "pending", "provisioning", "validating", "restoring"}},
    ),
    (State.RUNNING, {"status": {"running"}}),
    (State.STOPPED, {"status": {"offline"}}),
    (State.STOPPING, {"status": {"starting_hibernation", "hibernating"}}),
    (State.TERMINATING, {"status": {"deleting"}}),
    # Also a spot machine that was taken away: nothing tells it from one that was deleted.
    (State.TERMINATED, {"status": {"discontinued", "notfound", "not_found", "deleted"}}),
    (State.FAILED, {"status": {"error", "no_capacity"}}),
)
_NO_CAPACITY = "no_capacity"
_GONE_DISKS = frozenset({"deleted", "deleting", "canceled", "canceling"})

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
NO_SCRIPT = "none"
"""In the place of a startup script's id: all goes over SSH."""


# What a create sends

_bounds = Bounds(NAME)


def boot_of(spec: LaunchSpec, left_s: float | None) -> Boot:
    """What it does at its start. `left_s`: until the expiry, of which people on it are warned."""
    # Scripts lie in the clear at the vendor: no variable and no login stands in one.
    limit = 0 if spec.env or spec.registry_auth else LONGEST_SCRIPT
    return vm_boot(spec, limit=limit, seconds_left=left_s, user=USER, end="")


def check(spec: LaunchSpec, offer: Offer) -> None:
    """Raises Invalid with the name of the field that the cloud does not take."""
    _bounds.takes_no(spec, "bid", "volumes")
    _bounds.ports(spec.ports, most=len(spec.ports))
    _bounds.disk(spec, offer, usual=SMALLEST_DISK_GB)
    image = spec.vm_image or offer.launch.get("image")
    _bounds.require(bool(image), "vm_image", "one, as none with Docker is known for this type")


def launch(
    spec: LaunchSpec, offer: Offer, attempt: Attempt, have: Mapping[Resource, Ref]
) -> dict[str, Any]:
    """The body of a create."""
    check(spec, offer)
    spot, script = offer.market is Market.SPOT, have[Resource.STARTUP_SCRIPT].id
    disk_gb = _bounds.disk(spec, offer, usual=SMALLEST_DISK_GB)
    disk = {"name": attempt.name, "size": max(SMALLEST_DISK_GB, disk_gb)}
    body = {
        "instance_type": offer.key.partition(":")[0],
        "image": spec.vm_image or offer.launch["image"],
        "hostname": attempt.name,
        "description": attempt.name,
        "location_code": offer.region,
        "ssh_key_ids": [have[Resource.SSH_KEY].id],
        "is_spot": spot,
        "contract": "SPOT" if spot else "PAY_AS_YOU_GO",
        "pricing": "FIXED_PRICE",
        # What becomes of a disk whose spot machine is taken away is refused for all others.
        "os_volume": disk | ({"on_spot_discontinue": "delete_permanently"} if spot else {}),
        "tags": [{"key": key, "value": value} for key, value in tags_of(attempt).items()],
    }
    return body if script == NO_SCRIPT else body | {"startup_script_id": script}


def made_id(answer: Answer) -> str | None:
    """The id that a create's answer is: bare text, in quotes or in an object; None: no id."""
    text = answer.body[:4000].decode("utf-8", "replace").strip()
    if text.startswith("{"):
        with suppress(*UNREADABLE):
            text = msgspec.json.decode(text, type=dict[str, Any]).get("id") or ""
    text = text.strip('"') if isinstance(text, str) else ""
    return text if _ID.fullmatch(text) else None


# How machines, keys, scripts and volumes are read


class Tag(Struct):
    """One of a machine's."""

    key: Word
    value: Word | None = None


class Machine(Struct):
    """One instance. Its Jupyter token is never read.

    Nor its price: whether it is of one GPU or of all, the vendor's own client reads it both ways.
    """

    id: Told
    status: Word
    description: Word | None = None
    hostname: Word | None = None
    ip: Word | None = None
    location: Word | None = None
    instance_type: Word | None = None
    gpu: Gpus | None = None
    is_spot: bool | None = None
    os_volume_id: Word | None = None
    created_at: datetime | None = None
    tags: tuple[Tag, ...] | None = None


class SshKey(Struct):
    """One of the account's."""

    id: Word
    name: Word
    public_key: Text = field(name="key")


class Volume(Struct):
    """A disk, of the system or beside it."""

    id: Word
    name: Word
    status: Word
    instance_id: Word | None = None


class Balance(Struct):
    """What is left on the account."""

    amount: SignedUsd
    currency: Word = "usd"


class Outcome(Struct):
    """Of an action, for one of its machines."""

    status: Word = ""
    error: Text = ""
    instance_id: Word = field(name="instanceId", default="")
    status_code: Count = field(name="statusCode", default=400)


state_of = partial(state_by, _STATES)


def instance_of(row: Machine, account: str) -> Instance:
    """A machine as the vendor tells it."""
    state = state_of(row)
    name = row.description or row.hostname
    owner, attempt = whose(name, {tag.key: tag.value or "" for tag in row.tags or ()})
    ended = state is State.TERMINATED
    there = None if ended else row.ip
    return Instance(
        ref=Ref(NAME, account, "", row.id),
        owner=owner,
        attempt=attempt,
        name=name,
        state=state,
        raw_state=row.status,
        reason="no capacity" if row.status == _NO_CAPACITY else "",
        healthy=state is not State.UNKNOWN,
        # One that is off is charged in full; one that never had a host is not.
        bills_compute=not ended and row.status != _NO_CAPACITY,
        bills_disk=not ended and row.os_volume_id is not None,
        gpu=row.gpu.name if row.gpu else None,
        gpu_count=row.gpu.number_of_gpus if row.gpu else None,
        region=row.location,
        ssh=Endpoint(host=there, port=SSH_PORT, user=USER) if there else None,
        created_at=utc(row.created_at) if row.created_at and row.created_at.tzinfo else None,
        raw=told(row, ("id", "status", "location", "instance_type", "is_spot", "os_volume_id")),
    )


# Calls

_INSTANCES, _KEYS, _SCRIPTS, _VOLUMES = (
    "/v1/instances", "/v1/ssh-keys", "/v1/scripts", "/v1/volumes",
)  # fmt: skip
_TOKEN, _AVAILABILITY = "/v1/oauth2/token", "/v1/instance-availability"
_UNAUTHORIZED, _NO_CLIENT = 401, frozenset({400, 401})


class Verda(KeepsThings):
    """One account at Verda: each call one question."""

    name = NAME
    display_name = "Verda"
    website = "https://verda.com/"
    console = "https://console.verda.com/"
    charges_page = "https://console.verda.com/"
    credentials = (
        "VERDA_CLIENT_ID", "VERDA_CLIENT_SECRET", "DATACRUNCH_CLIENT_ID",
        "DATACRUNCH_CLIENT_SECRET",
    )  # fmt: skip
    capabilities = CAPABILITIES
    base_url = "https://api.verda.com"
    rules = RULES
    shown = SHOWN
    keyless = frozenset({"offers"})
    # Scripts are kept with their text, which is never read.
    shelves = (
        Shelf(Resource.SSH_KEY, _KEYS),
        Shelf(Resource.STARTUP_SCRIPT, _SCRIPTS),
        Shelf(Resource.DISK, _VOLUMES, rows=tuple[Volume, ...]),
    )

    def __init__(self, account: Account, transport: Transport) -> None:
        super().__init__(account, transport)
        first = dict(list(account.secrets.items())[:1])
        # The id alone: its secret may be made anew.
        self._fingerprint = fingerprint(replace(account, secrets=first))
        self._client = tuple(account.secrets.values())
        self._token = AccessToken(transport.clock)
        self._system_disks: dict[str, str] = {}
        """Machine -> its system's volume, of those that were read: it never changes."""
        transport.authorize(self._token.headers)

    @staticmethod
    def authorization(account: Account) -> Mapping[str, str]:
        """Nothing: id and secret are exchanged for a token, which goes with each call."""
        return {}

    async def send(
        self,
        operation: str,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
        hide: Sequence[str] = (),
    ) -> Answer:
        """One request, with the token that id and secret are exchanged for.

        One that is refused within its time is not used again: the next call asks for another.
        """
        token = ""
        if self._has_key:
            token = await self._token.ready(partial(self._granted, operation))
            hide = (*hide, token)
        answer = await super().send(operation, method, path, body, params=params, hide=hide)
        if answer.status == _UNAUTHORIZED:
            self._token.drop(token)
        return answer

    async def _granted(self, operation: str) -> Granted:
        """A new token. What fails here counts as a failure of the call that needs it."""
        client_id, secret = self._client
        body = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
        answer = await self.http.send(operation, "POST", _TOKEN, json=body)
        if answer.status in _NO_CLIENT:
            raise self.http.error(AuthFailed, operation, "no such client", answer)
        if self.refused(answer):
            raise self.refusal(operation, answer)
        return self.http.decode(operation, answer, Granted)

    async def uid(self, operation: str) -> str:
        """The fingerprint of the client's id, once the vendor has taken it: it names no account."""
        if operation == "whoami":
            await self._balance(operation)
        return self._fingerprint

    async def machines(self, operation: str) -> Whole[Instance]:
        """All that are not deleted: the list has no pages."""
        rows = await self.ask_for(tuple[Machine, ...], operation, "GET", _INSTANCES)
        once = {row.id: self._read(row) for row in rows}
        return Whole(tuple(once.values()), complete=True)

    async def offers(self, query: Query) -> AsyncIterator[OfferPage]:
        """All types at once; without a key their prices alone."""
        read_options(query, NAME, {}, {})
        if query.market not in {None, *CAPABILITIES.markets}:
            return
        # The account's currency may be EUR.
        usd = {"currency": "usd"}
        answer = await self.ask("offers", "GET", "/v1/instance-types", params=usd)
        stock = await self._stock() if self._has_key else None
        rows, rejected = parse_offers(
            answer.body, account=self.account, fetched_at=answer.asked_at, stock=stock
        )
        yield page_of(rows, rejected)

    async def _stock(self) -> Stock:
        ask, path = partial(self.ask_for, operation="offers", method="GET"), _AVAILABILITY
        free = {
            market: await ask(tuple[Stocked, ...], path=path, params={"is_spot": word})
            for market, word in ((Market.ON_DEMAND, "false"), (Market.SPOT, "true"))
        }
        places = await ask(tuple[Location, ...], path="/v1/locations")
        disks = await ask(tuple[VolumeType, ...], path="/v1/volume-types")
        return Stock(free, {place.code: place for place in places}, disk_price(disks))

    async def ensure(
        self,
        what: Resource,
        spec: LaunchSpec,
        offer: Offer,
        attempt: Attempt,
        have: Mapping[Resource, Ref],
    ) -> Ref:
        """The owner's SSH key; a script of this attempt, where it may lie in the clear."""
        self._refuse(spec, offer, "ensure")
        if what is Resource.SSH_KEY:
            return await self._ssh_key(spec, attempt)
        if what is Resource.STARTUP_SCRIPT:
            return await self._script(spec, attempt)
        raise self.unsupported("ensure", what.value)

    async def release(self, what: Resource, ref: Ref) -> None:
        """Ends the attempt's script, gone already is fine. The owner's key stays."""
        if what is Resource.STARTUP_SCRIPT and ref.id != NO_SCRIPT:
            await self.remove("release", what, ref)

    async def create(
        self, spec: LaunchSpec, offer: Offer, attempt: Attempt, have: Mapping[Resource, Ref]
    ) -> Ref:
        """One request for one machine."""
        self._refuse(spec, offer, "create")
        if not offer.region:
            raise self.http.error(NoCapacity, "create", f"no place is known for {offer.key}")
        body = launch(spec, offer, attempt, have)
        return await self._made("create", _INSTANCES, body)

    def after_boot(self, spec: LaunchSpec, offer: Offer, attempt: Attempt, now: datetime) -> str:
        """What may not lie in the clear at the vendor, or is too long for it."""
        return boot_of(spec, seconds_left(spec, now)).after

    async def get(self, ref: Ref) -> Instance:
        """NotFound by the vendor's words; for a while it shows the discontinued ones, too."""
        return await self._machine("get", ref)

    async def terminate(self, ref: Ref) -> None:
        """Ends it and its system's disk; what was attached later stays. Gone already is fine.

        The disk is asked for first where this process has not read it. Without one the vendor puts
        it in its trash.
        """
        with suppress(NotFound):
            if ref.id not in self._system_disks:
                await self._machine("terminate", ref)
            body: dict[str, Any] = {"id": [ref.id], "action": "delete"}
            if disk := self._system_disks.get(ref.id):
                body |= {"volume_ids": [disk], "delete_permanently": True}
            answer = await self.ask("terminate", "PUT", _INSTANCES, body)
            self._acted(ref, answer)

    def _acted(self, ref: Ref, answer: Answer) -> None:
        """A status of 207 is success for some machines; an empty answer is success for all."""
        if not answer.body.strip():
            return
        for outcome in self.http.decode("terminate", answer, tuple[Outcome, ...]):
            if outcome.status != "success" and outcome.instance_id in {ref.id, ""}:
                told = msgspec.json.encode({"message": outcome.error})
                answer = Answer(outcome.status_code, {}, told, answer.asked_at, answer.hidden)
                raise self.refusal("terminate", answer)

    async def balance(self) -> Nanos:
        """Of the prepaid money what is left. Unsupported where it is kept in another currency."""
        left = await self._balance("balance")
        if left.currency.lower() != "usd":
            raise self.unsupported("balance", f"balance in USD: it is kept in {left.currency}")
        return signed_nanos(left.amount)

    async def billing(self, ref: Ref, since: datetime, until: datetime | None) -> Bill:
        """No machine's charges are told: by the balance, or by a person on this page."""
        return bill_to_look_up(self.charges_page, ref, since, until)

    async def on_shelf(self, operation: str, shelf: Shelf) -> Whole[Any]:
        """No list has pages. Of volumes those that are not on their way out."""
        whole = await super().on_shelf(operation, shelf)
        kept = (row for row in whole.rows if getattr(row, "status", "") not in _GONE_DISKS)
        return Whole(tuple(kept), whole.complete)

    async def discard(self, what: Resource, ref: Ref) -> None:
        """A volume is looked at first, and does not go into the trash."""
        if what is not Resource.DISK:
            await super().discard(what, ref)
            return
        path = _path(_VOLUMES, ref)
        with suppress(NotFound):
            if (await self.ask_for(Volume, "discard", "GET", path)).instance_id:
                raise self.http.error(WrongState, "discard", f"{ref.id} is on a machine")
            await self.ask("discard", "DELETE", path, {"is_permanent": True})

    def _refuse(self, spec: LaunchSpec, offer: Offer, operation: str) -> None:
        self.takes_no_options(operation, spec)
        check(spec, offer)

    async def _machine(self, operation: str, ref: Ref) -> Instance:
        row = await self.ask_for(Machine, operation, "GET", _path(_INSTANCES, ref))
        return self.same(ref, self._read(row))

    def _read(self, row: Machine) -> Instance:
        if row.os_volume_id:
            self._system_disks[row.id] = row.os_volume_id
        return instance_of(row, self.account)

    async def _balance(self, operation: str) -> Balance:
        return await self.ask_for(Balance, operation, "GET", "/v1/balance")

    async def _made(
        self, operation: str, path: str, body: Mapping[str, Any], hide: Sequence[str] = ()
    ) -> Ref:
        """What a call made, by the id that its answer is. OutcomeUnknown where it is none."""
        answer = await self.ask(operation, "POST", path, body, hide=hide)
        made = made_id(answer)
        if made is None:
            raise self.http.error(OutcomeUnknown, operation, "an answer without an id", answer)
        return self.ref(made)

    async def _ssh_key(self, spec: LaunchSpec, attempt: Attempt) -> Ref:
        wanted = broker_key(spec, attempt, NAME)
        keys = await self.ask_for(tuple[SshKey, ...], "ensure", "GET", _KEYS)
        if key := registered(keys, wanted, NAME):
            return self.ref(key.id)
        return await self._made("ensure", _KEYS, {"name": wanted.name, "key": wanted.public_key})

    async def _script(self, spec: LaunchSpec, attempt: Attempt) -> Ref:
        """One of the attempt's name is this very one: the text changes only with the time left."""
        text = boot_of(spec, seconds_left(spec, self.http.clock.now())).text
        if not text:
            return self.ref(NO_SCRIPT)
        for script in await self.ask_for(tuple[Thing, ...], "ensure", "GET", _SCRIPTS):
            if script.name == attempt.name:
                return self.ref(script.id)
        body = {"name": attempt.name, "script": text}
        return await self._made("ensure", _SCRIPTS, body, (*secrets_of(spec), text))


def _path(below: str, ref: Ref) -> str:
    return f"{below}/{_bounds.plain_id(ref.id, 'ref')}"
