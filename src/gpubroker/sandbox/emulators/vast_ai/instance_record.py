"""What Vast.ai's record of an instance looks like: one table of fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from gpubroker.model.money import usd
from gpubroker.model.terms import State
from gpubroker.sandbox.cloud import Cloud
from gpubroker.sandbox.emulators.vast_ai.offers import OFFER_FIELDS, OfferView, always, offer_view
from gpubroker.sandbox.rented import Machine, Thing
from gpubroker.sandbox.stock import GpuFacts, Slot

ADDRESS = "127.0.0.1"
_DAY_S = 86_400
_HEARTBEAT_S = 0.3
"""So long after its creation an instance has no status at all."""
_ABSENT = object()


class InstanceView(Struct, frozen=True):
    """A machine as its owner sees it."""

    machine: Machine
    slot: Slot
    gpu: GpuFacts
    offer: OfferView
    volumes: tuple[Thing, ...]
    credit: float
    now: float

    @property
    def wire(self) -> dict[str, Any]:
        """What the create call left for the record."""
        return self.machine.wire

    @property
    def disk_hour(self) -> float:
        """What the disk costs an hour in the present state."""
        machine = self.machine
        return usd(machine.disk_rate if machine.holds_slot else machine.disk_rate_stopped)

    @property
    def direct(self) -> bool:
        """Whether SSH is reached without the vendor's proxy."""
        return "direc" in self.wire["runtype"]


def instance_view(cloud: Cloud, machine: Machine, now: float) -> InstanceView:
    """A machine with all that its record shows."""
    slot = cloud.slot(machine)
    return InstanceView(
        machine=machine,
        slot=slot,
        gpu=cloud.gpu(machine.gpu),
        offer=offer_view(cloud, slot, bid=machine.is_spot, disk_gb=machine.order.disk_gb, now=now),
        volumes=tuple(
            thing
            for thing in cloud.live_things(machine.account, "volume")
            if machine.id in thing.wire["instances"]
        ),
        credit=usd(cloud.credit(machine.account)),
        now=now,
    )


_STATUS: Mapping[State, tuple[str | None, str]] = {
    State.PENDING: ("loading", "running"),
    State.RUNNING: ("running", "running"),
    State.FAILED: ("created", "running"),
    State.STOPPED: ("exited", "stopped"),
    State.PREEMPTED: ("exited", "stopped"),
    State.TERMINATED: ("exited", "stopped"),
}
"""State: (actual status, contract's state); the intended status is the contract's."""


def _actual_status(view: InstanceView) -> str | None:
    machine = view.machine
    if machine.booting_again:
        return "recycling" if machine.wipe else "rebooting"
    first_moment = view.now - machine.created_at < _HEARTBEAT_S
    if machine.state == State.PENDING and first_moment:
        return None
    if machine.exited:
        return "exited"
    if machine.state == State.STOPPED and not machine.order.start and not machine.host_key:
        return "stopped"
    return _STATUS[machine.state][0]


def _contract_state(view: InstanceView) -> str:
    return _STATUS[view.machine.state][1]


def _status_msg(view: InstanceView) -> str | None:
    machine, image = view.machine, view.machine.order.image
    if machine.exited:
        return f"exited: {machine.reason}"
    match machine.state:
        case State.RUNNING:
            return f"success, running {image.replace(':', '_')}/ssh"
        case State.FAILED:
            return f"Error response from daemon: OCI runtime create failed: {machine.reason}"
        case State.PENDING:
            return f"loading {image}"
        case _:
            return f"stopped: {machine.reason}" if machine.reason else "stopped"


def _ports(view: InstanceView) -> dict[str, list[dict[str, str]]] | None:
    machine = view.machine
    if machine.state != State.RUNNING:
        return None
    open_ports = {"22/tcp": machine.ssh_port} if view.direct else {}
    open_ports.update(machine.published)
    return {
        port: [{"HostIp": "0.0.0.0", "HostPort": str(outside)}]  # noqa: S104 - the vendor's text
        for port, outside in open_ports.items()
    }


def _same(name: str) -> Callable[[InstanceView], Any]:
    return lambda view: OFFER_FIELDS[name](view.offer)


def _costs(gpu: float, disk: float) -> dict[str, float]:
    return {
        "gpuCostPerHour": gpu,
        "diskHour": disk,
        "totalHour": gpu + disk,
        "discountTotalHour": 0.0,
        "discountedTotalPerHour": gpu + disk,
    }


_FROM_OFFER = (
    "machine_id", "host_id", "bundle_id", "num_gpus", "gpu_frac", "gpu_lanes", "bw_nvlink",
    "cpu_arch", "cpu_cores", "cpu_cores_effective", "cpu_name", "cpu_ram", "disk_bw", "disk_name",
    "dlperf", "dlperf_per_dphtotal", "flops_per_dphtotal", "total_flops", "score", "min_bid",
    "reliability2", "verification", "rentable", "external", "static_ip", "direct_port_count",
    "geolocation", "mobo_name", "os_version", "pci_gen", "pcie_bw", "storage_cost", "hosting_type",
    "inet_up", "inet_down", "inet_up_cost", "inet_down_cost", "cuda_max_good", "driver_version",
)  # fmt: skip

INSTANCE_FIELDS: Mapping[str, Callable[[InstanceView], Any]] = {
    "id": lambda i: int(i.machine.id),
    "actual_status": _actual_status,
    "intended_status": _contract_state,
    "cur_state": _contract_state,
    "next_state": _contract_state,
    "status_msg": _status_msg,
    "label": lambda i: i.machine.label or None,
    "template_id": always(None),
    "template_hash_id": always(None),
    "template_name": always(None),
    "image_uuid": lambda i: i.machine.order.image,
    "image_args": lambda i: i.wire["args"],
    "image_runtype": lambda i: i.wire["runtype"],
    "extra_env": lambda i: i.wire["extra_env"],
    "onstart": lambda i: i.wire["onstart"] or "",
    "jupyter_token": lambda i: i.wire["jupyter_token"],
    "local_ipaddrs": always(f"{ADDRESS} \n"),
    "public_ipaddr": always(f"{ADDRESS} "),
    "ssh_host": always(ADDRESS),
    "ssh_idx": always("1"),
    "ssh_port": lambda i: i.machine.ssh_port or _ABSENT,
    "ports": _ports,
    "direct_port_start": always(-1),
    "direct_port_end": always(-1),
    **{name: _same(name) for name in _FROM_OFFER},
    "gpu_name": lambda i: i.offer.fact("name") if i.machine.gpu == i.slot.gpu else i.machine.gpu,
    "gpu_arch": lambda i: i.gpu.vendor,
    "gpu_ram": lambda i: i.gpu.memory_mib,
    "gpu_totalram": lambda i: i.gpu.memory_mib * i.slot.gpu_count,
    "gpu_mem_bw": lambda i: i.gpu.bandwidth_gbs,
    "gpu_util": lambda i: 0.0 if i.machine.state == State.RUNNING else None,
    "gpu_temp": lambda i: 38.0 if i.machine.state == State.RUNNING else None,
    "cpu_util": always(0.0),
    "mem_limit": always(None),
    "mem_usage": always(None),
    "vmem_usage": always(None),
    "disk_space": lambda i: float(i.machine.order.disk_gb),
    "disk_util": always(-1.0),
    "disk_usage": always(-1.0),
    "start_date": lambda i: i.machine.created_at,
    "end_date": lambda i: i.wire["end_date"],
    "duration": lambda i: i.wire["end_date"] - i.now,
    "uptime_mins": always(None),
    "is_bid": lambda i: i.machine.is_spot,
    "dph_base": lambda i: usd(i.machine.gpu_rate),
    "dph_total": lambda i: usd(i.machine.price),
    "storage_total_cost": lambda i: i.disk_hour,
    "search": lambda i: _costs(usd(i.machine.gpu_rate), usd(i.machine.disk_rate)),
    "instance": lambda i: _costs(
        usd(i.machine.gpu_rate) if i.machine.state == State.RUNNING else 0.0, i.disk_hour
    ),
    "credit_balance": lambda i: i.credit,
    "credit_discount": always(0.0),
    "credit_discount_max": always(0.0),
    "client_run_time": lambda i: max(0.0, i.now - (i.machine.running_since or i.now)),
    "host_run_time": always(40.0 * _DAY_S),
    "webpage": always(None),
    "volume_info": lambda i: [{"id": int(v.id), "name": v.name} for v in i.volumes],
}
INSTANCE_FILTERS = frozenset(
    {
        "id",
        "actual_status",
        "intended_status",
        "cur_state",
        "next_state",
        "label",
        "gpu_name",
        "verification",
        "machine_id",
        "host_id",
        "image_uuid",
        "is_bid",
        "start_date",
        "end_date",
        "template_id",
        "template_hash_id",
    }
)
"""Columns stored on the contract; computed ones are refused."""


def instance_json(view: InstanceView) -> dict[str, Any]:
    """An instance's full record."""
    values = ((name, field(view)) for name, field in INSTANCE_FIELDS.items())
    return {name: value for name, value in values if value is not _ABSENT}
