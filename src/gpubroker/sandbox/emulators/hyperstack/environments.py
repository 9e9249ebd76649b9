"""Hyperstack's environments, one region each, and the key pairs that belong to one."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

from msgspec import Struct
from starlette.responses import Response

from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call, Emulator
from gpubroker.sandbox.emulators.hyperstack.words import (
    PAGED,
    REGIONS,
    Name,
    bad,
    check_query,
    check_region,
    conflict,
    done,
    moment,
    no_body,
    not_found,
    owned_thing,
    paged,
    read_body,
)
from gpubroker.sandbox.rented import Account, Machine, Thing

KIND, KEY = "environment", "keypair"
MOST_VMS = 100
"""That fit into an environment's network."""
_DEFAULT_IDS, _OWN_IDS = 10, 2**33
_PUBLIC_KEY = re.compile(r"(ssh|ecdsa|sk)-[a-z0-9@.-]+ ([A-Za-z0-9+/]+={0,2})( .*)?")


class Environment(Struct, frozen=True):
    """Those named default-<REGION> are there from the account's first day, and stay."""

    id: int
    name: str
    region: str
    created_at: float
    thing: Thing | None = None

    def json(self) -> dict[str, Any]:
        """As everywhere but in instances."""
        _, _, green = REGIONS[self.region]
        return {
            "id": self.id,
            "name": self.name,
            "region": self.region,
            "created_at": moment(self.created_at),
            "features": {"green_status": green, "network_optimised": self.region != "NORWAY-1"},
        }


class NewEnvironment(Struct, forbid_unknown_fields=True):
    """Body of POST environments."""

    name: Name
    region: str


class NewKey(Struct, forbid_unknown_fields=True):
    """Body of POST keypairs."""

    name: Name
    environment_name: str
    public_key: str


def environments_of(cloud: Cloud, account: Account) -> list[Environment]:
    """The account's, oldest first."""
    first = account.number * _DEFAULT_IDS
    found = [
        Environment(first + place, f"default-{region}", region, account.created_at)
        for region, (place, _, _) in REGIONS.items()
    ]
    for thing in cloud.live_things(account.name, KIND):
        region = thing.wire["region"]
        found.append(Environment(int(thing.id), thing.name, region, thing.created_at, thing))
    return found


def environment_named(cloud: Cloud, call: Call, name: str) -> Environment:
    """By name, or the refusal."""
    for environment in environments_of(cloud, call.owner):
        if environment.name == name:
            return environment
    raise not_found(f"Environment {name} does not exist")


def _found(cloud: Cloud, call: Call) -> Environment:
    for environment in environments_of(cloud, call.owner):
        if str(environment.id) == call.ids[0]:
            return environment
    raise not_found("Environment not found")


def machines_in(cloud: Cloud, environment: Environment, account: str) -> list[Machine]:
    """The account's, that have not ended."""
    owned = cloud.owned(account)
    return [m for m in owned if not m.ended and m.wire["environment"] == environment.name]


async def list_all(api: Emulator, call: Call) -> Response:
    """GET core/environments; `search` is by id, name or region."""
    words = check_query(call, (*PAGED, "search")).get("search", "").lower()
    rows = [
        environment.json()
        for environment in environments_of(api.cloud, call.owner)
        if any(
            words in text.lower()
            for text in (str(environment.id), environment.name, environment.region)
        )
    ]
    return paged(api, call, "environments", rows)


async def create(api: Emulator, call: Call) -> Response:
    """POST core/environments."""
    body = read_body(call, NewEnvironment)
    region = check_region(body.region)
    if any(known.name == body.name for known in environments_of(api.cloud, call.owner)):
        raise conflict(f"Environment with name {body.name} already exists")
    thing = api.cloud.add_thing(
        call.owner.name, KIND, number_from=_OWN_IDS, name=body.name, region=region
    )
    made = Environment(int(thing.id), thing.name, region, thing.created_at)
    return done("Environment created successfully", environment=made.json())


async def show(api: Emulator, call: Call) -> Response:
    """GET core/environments/{id}."""
    check_query(call)
    shown = _found(api.cloud, call).json()
    return done("Getting environment successful", environment=shown)


async def quota(api: Emulator, call: Call) -> Response:
    """GET core/environments/{id}/vm-quota."""
    check_query(call)
    used = len(machines_in(api.cloud, _found(api.cloud, call), call.owner.name))
    return done(
        "Getting VM quota successful",
        cidr="10.0.0.0/24",
        current_vms=used,
        max_vms=MOST_VMS,
        available_vms=MOST_VMS - used,
        percentage_used=round(100 * used / MOST_VMS, 2),
    )


async def delete(api: Emulator, call: Call) -> Response:
    """DELETE core/environments/{id}: with its key pairs; not while anything else is in it."""
    no_body(call)
    cloud, account = api.cloud, call.owner.name
    environment = _found(cloud, call)
    if environment.thing is None:
        raise bad("A default environment cannot be deleted")
    volumes = cloud.live_things(account, "volume")
    if machines_in(cloud, environment, account) or any(
        volume.wire["environment"] == environment.name for volume in volumes
    ):
        raise bad("Environment has resources in it and cannot be deleted")
    for key in cloud.live_things(account, KEY):
        if key.wire["environment"] == environment.name:
            cloud.end_thing(key)
    cloud.end_thing(environment.thing)
    return done("Environment deleted successfully")


# --- key pairs ----------------------------------------------------------------------------


def _key_json(cloud: Cloud, call: Call, thing: Thing) -> dict[str, Any]:
    fields = _PUBLIC_KEY.fullmatch(thing.wire["public_key"])
    digest = hashlib.md5(_decoded(fields[2] if fields else ""), usedforsecurity=False).hexdigest()
    return {
        "id": int(thing.id),
        "name": thing.name,
        "public_key": thing.wire["public_key"],
        "fingerprint": ":".join(digest[n : n + 2] for n in range(0, 32, 2)),
        "environment": environment_named(cloud, call, thing.wire["environment"]).json(),
        "created_at": moment(thing.created_at),
    }


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))


def key_named(cloud: Cloud, call: Call, environment: Environment, name: str) -> Thing:
    """A key pair of the environment, or the refusal."""
    for thing in cloud.live_things(call.owner.name, KEY):
        if (thing.name, thing.wire["environment"]) == (name, environment.name):
            return thing
    raise not_found(f"Keypair {name} does not exist in environment {environment.name}")


async def list_keys(api: Emulator, call: Call) -> Response:
    """GET core/keypairs: of all environments."""
    words = check_query(call, (*PAGED, "search")).get("search", "").lower()
    rows = [
        _key_json(api.cloud, call, thing)
        for thing in api.cloud.live_things(call.owner.name, KEY)
        if words in thing.name.lower()
    ]
    return paged(api, call, "keypairs", rows)


async def import_key(api: Emulator, call: Call) -> Response:
    """POST core/keypairs: a name is unique in its environment."""
    body = read_body(call, NewKey)
    environment = environment_named(api.cloud, call, body.environment_name)
    public = body.public_key.strip()
    if not _PUBLIC_KEY.fullmatch(public):
        raise bad("Invalid public key")
    known = [
        (key.name, key.wire["environment"]) for key in api.cloud.live_things(call.owner.name, KEY)
    ]
    if (body.name, environment.name) in known:
        raise conflict(f"Keypair with name {body.name} already exists")
    thing = api.cloud.add_thing(
        call.owner.name, KEY, name=body.name, public_key=public, environment=environment.name
    )
    return done("Keypair imported successfully", keypair=_key_json(api.cloud, call, thing))


async def delete_key(api: Emulator, call: Call) -> Response:
    """DELETE core/keypair/{id}, in the singular: instances that have it keep it."""
    no_body(call)
    api.cloud.end_thing(owned_thing(api.cloud, call, KEY, call.ids[0], "Keypair"))
    return done("Keypair deleted successfully")
