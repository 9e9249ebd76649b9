"""SaladCloud's calls: the body of a create, each refusal, each state, each bound."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.providers.scripted import KEY, Scripted, connected

from gpubroker.catalog.clouds import cloud, way_in
from gpubroker.model.errors import (
    AuthFailed,
    BadResponse,
    BrokerError,
    Invalid,
    NotFound,
    OutcomeUnknown,
    OutOfFunds,
    QuotaExceeded,
    RateLimited,
    WrongState,
)
from gpubroker.model.identity import Attempt, Ref
from gpubroker.model.launch import LaunchSpec, RegistryAuth
from gpubroker.model.offer import Offer
from gpubroker.model.query import Query
from gpubroker.model.quota import Quota
from gpubroker.model.terms import Market, State
from gpubroker.providers.salad import LARGEST_LIST, LONGEST_TEXT, Salad, group
from gpubroker.providers.salad_market import Free, parse_offers

FIXTURES = Path(__file__).parent / "fixtures" / "salad"
ATTEMPT = Attempt("abcdef", "abcdefghijklmnop", "launch")
ROOT = "/api/public/organizations/acme"
GROUPS = f"{ROOT}/projects/default/containers"
GROUP = f"{GROUPS}/{ATTEMPT.name}"
UID = "11111111-2222-4333-8444-555555555555"
REF = Ref("salad", "default", "default", f"{ATTEMPT.name}/{UID}")
INCOMPRESSIBLE = "".join(sha256(str(n).encode()).hexdigest() for n in range(LONGEST_TEXT // 30))
SECRETS = {"SALAD_API_KEY": KEY, "SALAD_ORGANIZATION_NAME": "acme"}


def answer(name: str) -> Any:
    return json.loads((FIXTURES / name).read_bytes())


def spec(**change: Any) -> LaunchSpec:
    return LaunchSpec(**({"expires_at": datetime(2026, 11, 2, tzinfo=UTC)} | change))


@pytest.fixture
def offer() -> Offer:
    body = (FIXTURES / "classes.json").read_bytes()
    return parse_offers(body, account="default", fetched_at=datetime.now(UTC), free={})[0][0]


@pytest.fixture
def salad(scripted: Scripted) -> Salad:
    return connected(Salad, scripted, SECRETS)


def test_the_smallest_create(offer: Offer) -> None:
    body = group(spec(), offer, ATTEMPT)
    command = body["container"].pop("command")
    assert body == {
        "name": ATTEMPT.name,
        "display_name": ATTEMPT.name,
        "replicas": 1,
        "autostart_policy": True,
        "restart_policy": "always",
        "container": {
            "image": "nvidia/cuda:12.4.1-runtime-ubuntu22.04",
            "priority": "high",
            "resources": {
                "cpu": 4,
                "memory": 16_384,
                "gpu_classes": ["ed563892-aacd-40f5-80b7-90c9be6c759b"],
                "storage_amount": 20 << 30,
            },
        },
    }
    assert base64.b64decode("".join(command[4:])).decode().endswith("exec tail -f /dev/null\n")


def test_a_create_with_everything(offer: Offer) -> None:
    login = RegistryAuth("mine", "ghcr.io", "me", "p4ss")
    wanted = spec(
        image="ghcr.io/me/train:1",
        env={"TOKEN": "t0ken"},
        startup_script="echo up\n",
        command="python train.py",
        ports=((8888, "tcp"),),
        disk_gb=100,
        registry_auth=login,
    )
    body = group(wanted, offer, ATTEMPT)
    container = body["container"]
    assert body["networking"] == {"protocol": "http", "port": 8888, "auth": True}
    assert container["image"] == "ghcr.io/me/train:1"
    assert container["environment_variables"] == {"TOKEN": "t0ken"}
    assert container["registry_authentication"] == {"basic": {"username": "me", "password": "p4ss"}}
    assert container["resources"]["storage_amount"] == 100 << 30
    assert all(len(word) <= 1000 and "\n" not in word for word in container["command"])
    assert len(container["command"]) <= 100
    text = base64.b64decode("".join(container["command"][4:])).decode()
    assert "python train.py" in text
    assert "echo up" in text


def test_docker_hub_is_logged_into_by_its_own_form(offer: Offer) -> None:
    login = RegistryAuth("hub", "docker.io", "me", "p4ss")
    body = group(spec(registry_auth=login), offer, ATTEMPT)
    assert body["container"]["registry_authentication"] == {
        "docker_hub": {"username": "me", "personal_access_token": "p4ss"}
    }


def test_the_gateway_asks_for_the_key_unless_it_is_opened(offer: Offer) -> None:
    wanted = spec(ports=((80, "tcp"),), options={"gateway_auth": False})
    assert group(wanted, offer, ATTEMPT)["networking"]["auth"] is False


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"ports": ((80, "tcp"), (81, "tcp"))}, "ports"),
        ({"ports": ((53, "udp"),)}, "ports"),
        ({"env": {"EMPTY": ""}}, "env"),
        ({"env": {"LONG": "x" * 1001}}, "env"),
        ({"env": {"LINES": "a\nb"}}, "env"),
        ({"vm_image": "ubuntu"}, "vm_image"),
        ({"volumes": ((REF, "/data"),)}, "volumes"),
        ({"disk_gb": 251}, "disk_gb"),
        ({"startup_script": INCOMPRESSIBLE}, "startup_script"),
        ({"options": {"region": "us"}}, "options"),
    ],
)
def test_what_the_cloud_does_not_take_is_refused_by_its_field(
    offer: Offer, change: dict[str, Any], field: str
) -> None:
    with pytest.raises(Invalid) as refused:
        group(spec(**change), offer, ATTEMPT)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("operation", "status", "detail", "error"),
    [
        ("create", 401, "The API key is not valid.", AuthFailed),
        ("create", 403, "You have no access to this project.", AuthFailed),
        ("create", 403, "The replicas quota is exceeded.", QuotaExceeded),
        ("create", 403, "Your credit balance is used up.", OutOfFunds),
        ("create", 400, "gpu_classes is no list of UUIDs.", Invalid),
        ("create", 429, "Too many requests.", RateLimited),
        ("create", 404, "Not Found", OutcomeUnknown),
        ("create", 503, "Service Unavailable", OutcomeUnknown),
        ("get", 404, "The container group could not be found.", NotFound),
        ("get", 404, "The project could not be found.", BadResponse),
        ("stop", 400, "The container group is not running.", WrongState),
        ("terminate", 409, "The container group is being changed.", WrongState),
    ],
)
async def test_each_refusal_is_what_it_means(
    scripted: Scripted, salad: Salad, offer: Offer, operation: str, status: int, detail: str,
    error: type[BrokerError],
) -> None:  # fmt: skip
    body = {"type": "about:blank", "title": "No", "status": status, "detail": detail}
    path = {"create": f"POST {GROUPS}", "stop": f"POST {GROUP}/stop"}
    path |= {"get": f"GET {GROUP}", "terminate": f"DELETE {GROUP}"}
    scripted.says(path[operation], body, status=status)
    if operation == "create":
        scripted.says(f"GET {GROUP}", answer("missing.json"), status=404)
    with pytest.raises(error) as raised:
        if operation == "create":
            await salad.create(spec(env={"A": "s3cr3t-0f-mine"}), offer, ATTEMPT, {})
        else:
            await getattr(salad, operation)(REF)
    assert type(raised.value) is error
    assert "s3cr3t" not in str(raised.value)


async def test_a_web_page_instead_of_an_error_is_no_end(scripted: Scripted, salad: Salad) -> None:
    scripted.says(f"GET {GROUP}", b"<html>Not Found</html>", status=404)
    with pytest.raises(BadResponse):
        await salad.get(REF)


async def test_a_name_that_is_taken_is_the_attempts_own_group(
    scripted: Scripted, salad: Salad, offer: Offer
) -> None:
    taken = {"title": "Bad Request", "status": 400, "detail": "The name is taken."}
    scripted.says(f"POST {GROUPS}", taken, status=400)
    scripted.says(f"GET {GROUP}", answer("waiting.json"))
    assert await salad.create(spec(), offer, ATTEMPT, {}) == REF
    assert scripted.asked() == [f"POST {GROUPS}", f"GET {GROUP}"]


@pytest.mark.parametrize(
    ("status", "running", "stopping", "state", "bills"),
    [
        ("pending", 0, 0, State.PENDING, False),
        ("deploying", 0, 0, State.PENDING, False),
        ("running", 1, 0, State.RUNNING, True),
        ("running", 0, 0, State.PENDING, False),
        ("running", 0, 1, State.PENDING, True),
        ("stopped", 1, 0, State.STOPPING, True),
        ("stopped", 0, 1, State.STOPPING, True),
        ("stopped", 0, 0, State.STOPPED, False),
        ("succeeded", 0, 0, State.TERMINATED, False),
        ("failed", 0, 0, State.FAILED, False),
        ("dreaming", 0, 0, State.UNKNOWN, False),
    ],
)
async def test_states(
    scripted: Scripted, salad: Salad, status: str, running: int, stopping: int, state: State,
    bills: bool,
) -> None:  # fmt: skip
    row = answer("running.json")
    row["current_state"]["status"] = status
    counts = row["current_state"]["instance_status_counts"]
    counts |= {"running_count": running, "stopping_count": stopping}
    scripted.says(f"GET {GROUP}", row).says(f"GET {GROUP}/instances", answer("instances.json"))
    told = await salad.get(REF)
    assert (told.state, told.bills_compute, told.bills_disk) == (state, bills, False)
    assert (told.ssh is not None) == (state is State.RUNNING)
    assert told.healthy == (status not in {"failed", "dreaming"})


async def test_another_group_of_the_same_name_is_another_machine(
    scripted: Scripted, salad: Salad
) -> None:
    scripted.says(f"GET {GROUP}", answer("made.json") | {"id": "99999999-" + UID[9:]})
    with pytest.raises(NotFound):
        await salad.get(REF)


async def test_a_group_that_gpubroker_did_not_name_is_looked_at_before_its_end(
    scripted: Scripted, salad: Salad
) -> None:
    theirs = answer("list.json")["items"][1]
    path = f"{GROUPS}/my-own-box"
    scripted.says(f"GET {path}", theirs | {"id": "99999999-" + UID[9:]})
    await salad.terminate(Ref("salad", "default", "default", f"my-own-box/{theirs['id']}"))
    assert scripted.asked() == [f"GET {path}"]


async def test_a_full_list_is_not_known_to_be_all(scripted: Scripted, salad: Salad) -> None:
    row = answer("waiting.json")
    rows = [row | {"id": f"{at:08}-{UID[9:]}", "name": f"box-{at}"} for at in range(LARGEST_LIST)]
    scripted.says(f"GET {GROUPS}", {"items": rows})
    assert not (await salad.list("default")).complete


async def test_the_project_stands_behind_the_organisation(scripted: Scripted) -> None:
    salad = connected(Salad, scripted, SECRETS | {"SALAD_ORGANIZATION_NAME": "acme/research"})
    scripted.says(f"GET {ROOT}/projects/research/containers", {"items": []})
    assert await salad.scopes() == ("research",)
    assert (await salad.list("research")).instances == ()


async def test_the_account_is_the_organisation_whatever_its_key(scripted: Scripted) -> None:
    scripted.says(f"GET {ROOT}/quotas", answer("quotas.json"))
    one, other = (
        connected(Salad, scripted, SECRETS | {"SALAD_API_KEY": key}) for key in (KEY, "another-key")
    )
    assert await one.whoami() == await other.whoami()
    assert scripted.requests[0].headers["salad-api-key"] == KEY
    assert "authorization" not in scripted.requests[0].headers


async def test_an_organisation_that_is_no_name_is_refused(scripted: Scripted) -> None:
    salad = connected(Salad, scripted, SECRETS | {"SALAD_ORGANIZATION_NAME": "../x"})
    with pytest.raises(Invalid):
        await salad.whoami()
    assert scripted.requests == []


async def test_a_search_asks_what_is_free_of_each_class(scripted: Scripted, salad: Salad) -> None:
    stock = f"POST {ROOT}/availability/sce-gpu-availability"
    scripted.says(f"GET {ROOT}/gpu-classes", (FIXTURES / "classes.json").read_bytes())
    scripted.says(stock, answer("free.json"), answer("none.json"))
    (page,) = [page async for page in salad.offers(Query())]
    assert len(page.rows) == 6
    assert scripted.asked().count(stock) == 3
    assert scripted.body(1) == {"gpu_classes": ["ed563892-aacd-40f5-80b7-90c9be6c759b"]}
    assert [page async for page in salad.offers(Query(market=Market.RESERVED))] == []


async def test_quotas_are_replicas(scripted: Scripted, salad: Salad) -> None:
    scripted.says(f"GET {ROOT}/quotas", answer("quotas.json"))
    assert await salad.quotas() == (
        Quota(bucket="container_replicas_quota", limit=500, used=10, unit="machines"),
    )


def test_on_call_pcs_count_at_every_priority() -> None:
    assert Free(available_gpu_batch=2, on_call_gpu=3).at("batch") == 5


def test_where_gpubroker_does_not_log_in_the_way_in_is_told() -> None:
    assert not Salad.capabilities.logs_in
    assert "portal.salad.com" in way_in("salad", key="/keys/gb-abcdef.pub")
    assert "/keys/gb-abcdef.pub" in way_in("salad", key="/keys/gb-abcdef.pub")
    assert cloud("salad").way_in


@pytest.mark.parametrize("told_at", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"])
async def test_a_time_that_not_every_zone_knows_is_none(
    scripted: Scripted, salad: Salad, told_at: str
) -> None:
    scripted.says(f"GET {GROUP}", answer("running.json") | {"create_time": told_at})
    scripted.says(f"GET {GROUP}/instances", answer("instances.json"))
    assert (await salad.get(REF)).created_at is None
