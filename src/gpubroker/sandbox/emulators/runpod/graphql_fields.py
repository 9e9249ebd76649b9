"""What RunPod's GraphQL fields answer, and what its mutations do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

from graphql import GraphQLError, GraphQLResolveInfo
from msgspec import Struct

from gpubroker.model.money import Nanos, nanos, usd
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.base import Call
from gpubroker.sandbox.emulators.runpod.deploy import (
    PodOrder,
    account_keys,
    deploy,
    set_account_keys,
)
from gpubroker.sandbox.emulators.runpod.graphql_market import (
    country_codes,
    cpu_flavors,
    data_centers,
    gpu_types,
)
from gpubroker.sandbox.emulators.runpod.graphql_records import pod_fields, volume_fields
from gpubroker.sandbox.emulators.runpod.keeping import drop_volume, open_volume, resize_volume
from gpubroker.sandbox.emulators.runpod.placing import Wish
from gpubroker.sandbox.emulators.runpod.pod import exited, find_pod, list_pods, shown_rate, start
from gpubroker.sandbox.emulators.runpod.refused import NO_BID, Refused, Why
from gpubroker.sandbox.emulators.runpod.sheet import Template, sheet
from gpubroker.sandbox.rented import Machine, Thing

SPEND_LIMIT = 80
"""USD per hour, that a new account may spend."""
NO_POD = "pod not found to terminate"
CODES: Mapping[Why, str] = {
    "no_capacity": "SUPPLY_CONSTRAINT",
    "host_full": "INTERNAL_SERVER_ERROR",
    "balance": "INTERNAL_SERVER_ERROR",
    "quota": "INTERNAL_SERVER_ERROR",
    "bid": "BAD_USER_INPUT",
    "invalid": "BAD_USER_INPUT",
}
"""`extensions.code` of a refusal; only the first is known for certain."""
DISK_GB = 10
_TIERS = {"SECURE": "SECURE", "COMMUNITY": "COMMUNITY", "ALL": None, None: None}
_PREFIX = "cpu"

Input = dict[str, Any]


class Asked(Struct, frozen=True):
    """The context of a query."""

    cloud: Cloud
    call: Call
    url: str
    """Of the API."""

    @property
    def account(self) -> str:
        """Whose it is."""
        return self.call.owner.name


def _asked(info: GraphQLResolveInfo) -> Asked:
    context: Asked = info.context
    return context


def _error(refused: Refused) -> GraphQLError:
    return GraphQLError(str(refused), extensions={"code": CODES[refused.why]})


def _invalid(text: str) -> GraphQLError:
    return GraphQLError(text, extensions={"code": "BAD_USER_INPUT"})


def _the_pod(asked: Asked, input: Input, words: str = "pod not found") -> Machine:
    machine = find_pod(asked.cloud, asked.account, input["podId"])
    if machine is None:
        raise GraphQLError(words, extensions={"code": "NOT_FOUND"})
    return machine


def _the_volume(asked: Asked, input: Input) -> Thing:
    for volume in asked.cloud.live_things(asked.account, "network_volume"):
        if volume.id == input["id"]:
            return volume
    raise GraphQLError("network volume not found", extensions={"code": "NOT_FOUND"})


# --- queries ------------------------------------------------------------------------------


def _myself(info: GraphQLResolveInfo) -> dict[str, Any]:
    asked = _asked(info)
    cloud, account = asked.cloud, asked.account
    owned = cloud.owned(account)

    def pods(_: GraphQLResolveInfo) -> list[dict[str, Any]]:
        found = list_pods(cloud, account, asked.call.now)
        return [pod_fields(cloud, machine, asked.call.now) for machine in found]

    return {
        "id": f"user_{asked.call.owner.number}",
        "email": f"{account}@sandbox.invalid",
        "pubKey": "\n\n".join(account_keys(cloud, account)) or None,
        "clientBalance": usd(cloud.credit(account)),
        "currentSpendPerHr": usd(sum(shown_rate(m) for m in owned if not m.ended)),
        "spendLimit": SPEND_LIMIT,
        "pods": pods,
        "networkVolumes": [
            volume_fields(volume) for volume in cloud.live_things(account, "network_volume")
        ],
    }


def _pod(info: GraphQLResolveInfo, input: Input | None = None) -> dict[str, Any] | None:
    asked = _asked(info)
    machine = find_pod(asked.cloud, asked.account, input["podId"]) if input else None
    return pod_fields(asked.cloud, machine, asked.call.now) if machine else None


def _gpu_types(info: GraphQLResolveInfo, input: Input | None = None) -> list[dict[str, Any]]:
    asked = _asked(info)
    return gpu_types(asked.cloud, asked.call.now, input or {})


def _data_centers(info: GraphQLResolveInfo) -> list[dict[str, Any]]:
    return data_centers(_asked(info).cloud)


def _country_codes(info: GraphQLResolveInfo) -> list[str]:
    return country_codes(_asked(info).cloud)


def _cpu_flavors(_: GraphQLResolveInfo, input: Input | None = None) -> list[dict[str, Any]]:
    return cpu_flavors(input or {})


# --- deploy -------------------------------------------------------------------------------


def _deploy(info: GraphQLResolveInfo, input: Input, wish: Wish, **more: Any) -> dict[str, Any]:
    asked = _asked(info)
    template = _template(input)
    image = input.get("imageName") or (template.image if template else "")
    if not image:
        raise _invalid("imageName or templateId is required")
    ports = input.get("ports")
    wanted_ports = tuple(ports.split(",")) if ports else (template.ports if template else ())
    order = PodOrder(
        name=input.get("name") or image.partition(":")[0].rpartition("/")[2],
        image=image,
        wish=wish,
        args=input.get("dockerArgs") or "",
        container_gb=_or(input.get("containerDiskInGb"), DISK_GB),
        volume_gb=0 if input.get("networkVolumeId") else input.get("volumeInGb") or 0,
        volume_path=input.get("volumeMountPath") or "",
        network_volume=input.get("networkVolumeId"),
        env={row["key"]: row["value"] for row in input.get("env") or ()},
        ports=wanted_ports,
        registry=input.get("containerRegistryAuthId"),
        start_ssh=bool(input.get("startSsh")),
        start_jupyter=bool(input.get("startJupyter")),
        stops_at=_epoch(input.get("stopAfter")),
        ends_at=_epoch(input.get("terminateAfter")),
        **more,
    )
    try:
        machine = deploy(asked.cloud, asked.account, order, asked.call.now, asked.url)
    except Refused as refused:
        raise _error(refused) from None
    return pod_fields(asked.cloud, machine, asked.call.now)


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _template(input: Input) -> Template | None:
    if not input.get("templateId"):
        return None
    template = sheet().template(input["templateId"])
    if template is None:
        raise _invalid("template not found")
    return template


def _epoch(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise _invalid(f"'{text}' is not a date and time") from None
    return at.replace(tzinfo=at.tzinfo or UTC).timestamp()


def _gpu_wish(input: Input) -> Wish:
    model = sheet().model(input.get("gpuTypeId") or "")
    if model is None:
        raise _invalid("gpuTypeId is not a GPU type")
    count = _or(input.get("gpuCount"), 1)
    if count < 1:
        raise _invalid("gpuCount must be at least 1")
    mbps = max(input.get("minDownload") or 0, input.get("minUpload") or 0)
    return Wish(
        gpu=model.id,
        count=count,
        tier=_TIERS[input.get("cloudType")],  # type: ignore[arg-type]  # the schema's enum
        data_centers=_given(input.get("dataCenterId")),
        countries=_given(input.get("countryCode")),
        cuda_versions=tuple(input.get("allowedCudaVersions") or ()),
        min_cuda=input.get("minCudaVersion"),
        min_vcpus=input.get("minVcpuCount") or 0,
        min_ram_gb=input.get("minMemoryInGb") or 0,
        min_mbps=mbps,
        public_ip=bool(input.get("supportPublicIp")),
    )


def _given(value: str | None) -> tuple[str, ...]:
    return () if value is None else (value,)


def _highest(input: Input) -> Nanos | None:
    return None if input.get("deployCost") is None else nanos(input["deployCost"])


def _deploy_on_demand(info: GraphQLResolveInfo, input: Input | None = None) -> dict[str, Any]:
    wanted = input or {}
    return _deploy(info, wanted, _gpu_wish(wanted), highest_price=_highest(wanted))


def _rent_interruptable(info: GraphQLResolveInfo, input: Input) -> dict[str, Any]:
    if not input["bidPerGpu"] > 0:
        raise _invalid("bidPerGpu must be above 0")
    return _deploy(info, input, _gpu_wish(input), bid=nanos(input["bidPerGpu"]))


def _deploy_cpu(info: GraphQLResolveInfo, input: Input) -> dict[str, Any]:
    """`instanceId` is the flavour, its vCPUs and its GB of RAM: cpu3c-2-4."""
    flavor_id, _, size = input["instanceId"].partition("-")
    vcpus, _, ram = size.partition("-")
    flavor = sheet().flavor(flavor_id)
    if flavor is None or not vcpus.isdecimal() or not ram.isdecimal():
        raise _invalid(f"'{input['instanceId']}' is not a CPU instance")
    if int(ram) != int(vcpus) * flavor.ram_gb_per_vcpu:
        raise _invalid(f"'{input['instanceId']}' is not a CPU instance")
    wish = Wish(
        gpu=flavor.id,
        count=0,
        vcpus=int(vcpus),
        tier=_TIERS[input.get("cloudType")],  # type: ignore[arg-type]  # the schema's enum
        data_centers=_given(input.get("dataCenterId")),
    )
    return _deploy(info, input, wish, highest_price=_highest(input))


# --- other mutations ----------------------------------------------------------------------


async def _stop(info: GraphQLResolveInfo, input: Input) -> dict[str, Any]:
    asked = _asked(info)
    machine = _the_pod(asked, input)
    if machine.wire["locked"]:
        raise _invalid("pod is locked")
    await asked.cloud.stop(machine)
    return pod_fields(asked.cloud, machine, asked.call.now)


def _resume(info: GraphQLResolveInfo, input: Input) -> dict[str, Any]:
    asked = _asked(info)
    machine = _the_pod(asked, input)
    if machine.is_spot:
        raise _invalid(NO_BID)
    return _started(asked, machine, input.get("gpuCount"))


def _started(asked: Asked, machine: Machine, gpus: int | None) -> dict[str, Any]:
    if not exited(machine):
        raise _invalid("pod is not stopped")
    try:
        start(asked.cloud, machine, gpus=gpus)
    except Refused as refused:
        raise _error(refused) from None
    return pod_fields(asked.cloud, machine, asked.call.now)


async def _bid_resume(info: GraphQLResolveInfo, input: Input) -> dict[str, Any]:
    asked = _asked(info)
    machine = _the_pod(asked, input)
    if not machine.is_spot:
        raise _invalid("pod is not interruptable")
    if not input["bidPerGpu"] > 0:
        raise _invalid("bidPerGpu must be above 0")
    count = asked.cloud.slot(machine).gpu_count
    await asked.cloud.bid(machine, Nanos(nanos(input["bidPerGpu"]) * count))
    return _started(asked, machine, input["gpuCount"])


async def _terminate(info: GraphQLResolveInfo, input: Input) -> None:
    asked = _asked(info)
    await asked.cloud.terminate(_the_pod(asked, input, NO_POD))


def _update_settings(info: GraphQLResolveInfo, input: Input | None = None) -> dict[str, Any]:
    asked = _asked(info)
    if input and "pubKey" in input:
        lines = [line.strip() for line in (input["pubKey"] or "").splitlines()]
        set_account_keys(asked.cloud, asked.account, [line for line in lines if line])
    return _myself(info)


def _create_volume(info: GraphQLResolveInfo, input: Input) -> dict[str, Any]:
    asked = _asked(info)
    place, size = input["dataCenterId"], input["size"]
    try:
        volume = open_volume(
            asked.cloud, asked.account, name=input["name"], size_gb=size, place=place, kind=None
        )
    except Refused as refused:
        raise _error(refused) from None
    return volume_fields(volume)


def _update_volume(info: GraphQLResolveInfo, input: Input) -> dict[str, Any]:
    asked = _asked(info)
    volume = _the_volume(asked, input)
    try:
        if input.get("size") is not None:
            resize_volume(asked.cloud, volume, input["size"])
    except Refused as refused:
        raise _error(refused) from None
    if input.get("name"):
        volume.name = input["name"]
        asked.cloud.save(volume)
    return volume_fields(volume)


def _delete_volume(info: GraphQLResolveInfo, input: Input) -> None:
    asked = _asked(info)
    try:
        drop_volume(asked.cloud, _the_volume(asked, input))
    except Refused as refused:
        raise _error(refused) from None


@cache
def fields() -> Mapping[str, Callable[..., Any]]:
    """The root: name of a query or mutation to what answers it."""
    return {
        "myself": _myself,
        "pod": _pod,
        "gpuTypes": _gpu_types,
        "cpuFlavors": _cpu_flavors,
        "dataCenters": _data_centers,
        "countryCodes": _country_codes,
        "podFindAndDeployOnDemand": _deploy_on_demand,
        "podRentInterruptable": _rent_interruptable,
        "deployCpuPod": _deploy_cpu,
        "podStop": _stop,
        "podResume": _resume,
        "podBidResume": _bid_resume,
        "podTerminate": _terminate,
        "updateUserSettings": _update_settings,
        "createNetworkVolume": _create_volume,
        "updateNetworkVolume": _update_volume,
        "deleteNetworkVolume": _delete_volume,
    }
