"""Parse and normalise one Vast.ai search answer of 3,000 rows: gpubroker against gpuhunt.

    python benchmarks/parse_vast.py --gpuhunt PATH_TO_A_VENV

The venv must hold gpuhunt (0.1.34 was used) for the same Python version. Both read the same bytes
in the same process, in turns; the least of all turns counts. gpuhunt makes an on-demand and a spot
item of each row. gpubroker searches each market by itself, so it is timed twice: for the answer to
one search, and for both, which gives as many offers as gpuhunt makes.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from gpubroker.model.terms import Market
from gpubroker.providers.vast_ai_market import parse_offers

ROWS, TURNS = 3000, 20
GPUS = (
    ("RTX 4090", 24564, 0.35),
    ("RTX 3090", 24576, 0.18),
    ("RTX 5090", 32607, 0.6),
    ("RTX A6000", 49140, 0.45),
    ("A100 SXM4", 81920, 1.1),
    ("A100 PCIE", 40960, 0.8),
    ("H100 SXM", 81559, 2.1),
    ("H100 NVL", 95830, 2.0),
    ("H200", 143771, 2.9),
    ("L40S", 46068, 0.7),
    ("RTX 4070S Ti", 16376, 0.12),
    ("Tesla V100", 32768, 0.2),
)
PLACES = ("Texas, US", "California, US", "Sweden, SE", "Germany, DE", "Japan, JP", "Quebec, CA")


def answer(rows: int) -> bytes:
    """A search answer with every field that a row usually has; the same at each run."""
    chance = random.Random(1)  # noqa: S311 - no secret, the same rows every time
    return json.dumps({"offers": [row(chance, 7_000_000 + at) for at in range(rows)]}).encode()


def row(chance: random.Random, number: int) -> dict[str, Any]:
    name, memory, price = chance.choice(GPUS)
    count = chance.choice((1, 1, 1, 2, 4, 8))
    cores = chance.choice((16, 32, 64, 128, 192))
    base = round(price * count * chance.uniform(0.8, 1.5), 4)
    storage = round(chance.uniform(0.05, 0.3), 3)
    figures = (
        "dlperf dlperf_per_dphtotal flops_per_dphtotal total_flops score pcie_bw disk_bw gpu_mem_bw"
        " inet_up inet_down gpu_max_power gpu_max_temp cpu_ghz"
    )
    return {
        "id": number,
        "ask_contract_id": number,
        "bundle_id": number * 3,
        "machine_id": chance.randrange(100, 60_000),
        "host_id": chance.randrange(100, 300_000),
        "gpu_name": name,
        "gpu_arch": "nvidia",
        "num_gpus": count,
        "gpu_frac": 1.0,
        "gpu_ram": memory,
        "gpu_total_ram": memory * count,
        "gpu_lanes": 16,
        "compute_cap": 890,
        "cpu_arch": "amd64",
        "cpu_name": "AMD EPYC 7763 64-Core Processor",
        "cpu_cores": cores,
        "cpu_cores_effective": cores / chance.choice((1, 2, 4)),
        "cpu_ram": cores * 4096,
        "mobo_name": "ROMED8-2T",
        "pci_gen": 4.0,
        "bw_nvlink": 0.0,
        "disk_space": round(chance.uniform(50, 4000), 3),
        "disk_name": "SAMSUNG MZQL23T8HCLS-00A07",
        "dph_base": base,
        "dph_total": round(base + 5 * storage / 720, 6),
        "discounted_dph_total": round(base, 6),
        "min_bid": round(base * 0.6, 4),
        "storage_cost": storage,
        "storage_total_cost": round(5 * storage / 720, 6),
        "inet_up_cost": 0.002,
        "inet_down_cost": 0.001,
        "reliability": 0.99,
        "reliability2": round(chance.uniform(0.9, 1), 7),
        "verification": "verified",
        "rentable": True,
        "rented": False,
        "external": False,
        "is_bid": False,
        "vms_enabled": False,
        "static_ip": True,
        "direct_port_count": 200,
        "cuda_max_good": 12.8,
        "driver_version": "570.133.20",
        "hosting_type": 1,
        "duration": round(chance.uniform(1e5, 1e7), 3),
        "end_date": 1893456000.0,
        "geolocation": chance.choice(PLACES),
        "search": {"gpuCostPerHour": base, "diskHour": 0.001, "totalHour": base + 0.001},
    } | {figure: round(chance.uniform(1, 1000), 6) for figure in figures.split()}


def ours(body: bytes, markets: tuple[Market, ...]) -> int:
    now = datetime.now(UTC)
    required = {"rentable": True, "external": False, "verification": "verified"}
    made = 0
    for market in markets:
        rows, rejected = parse_offers(
            body, account="default", market=market, fetched_at=now, required=required
        )
        assert not rejected
        made += len(rows)
    return made


class Served:
    """Stands where `requests` does: its answer is the bytes."""

    body: ClassVar[bytes] = b""

    def raise_for_status(self) -> None:
        """It was fine."""

    def json(self) -> Any:
        """As `requests` reads it."""
        import requests

        response = requests.Response()
        response._content, response.status_code = self.body, 200  # noqa: SLF001 - as if received
        return response.json()


def theirs(venv: Path) -> Callable[[bytes], int]:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    sys.path.append(str(venv / "lib" / version / "site-packages"))
    import logging

    from gpuhunt.providers import vastai  # type: ignore[import-not-found]  # of another venv

    logging.disable(logging.WARNING)
    provider = vastai.VastAIProvider()

    def read(body: bytes) -> int:
        Served.body = body
        vastai.requests.post = lambda *_, **__: Served()
        return len(provider.get())

    return read


def seconds(read: Callable[[bytes], int], body: bytes) -> float:
    gc.collect()
    started = time.perf_counter()
    read(body)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gpuhunt", type=Path, default=os.environ.get("GPUBROKER_GPUHUNT_VENV"))
    venv = parser.parse_args().gpuhunt
    if venv is None:
        parser.error("name the venv that holds gpuhunt: --gpuhunt or GPUBROKER_GPUHUNT_VENV")
    body, peer = answer(ROWS), theirs(Path(venv))
    one = partial(ours, markets=(Market.ON_DEMAND,))
    both = partial(ours, markets=(Market.ON_DEMAND, Market.SPOT))
    readers = (one, both, peer)
    made = [read(body) for read in readers]
    assert made == [ROWS, 2 * ROWS, 2 * ROWS]
    turns = [[seconds(read, body) for read in readers] for _ in range(TURNS)]
    one_s, both_s, peer_s = (min(column) for column in zip(*turns, strict=True))
    fields = len(json.loads(body)["offers"][0])
    print(f"{ROWS} rows of {fields} fields, {len(body) / 1e6:.1f} MB; least of {TURNS} turns")
    print(f"gpuhunt    {peer_s * 1000:6.1f} ms  {made[2]} items, on-demand and spot of each row")
    print(f"gpubroker  {one_s * 1000:6.1f} ms  {made[0]} offers: the answer to one search")
    print(f"gpubroker  {both_s * 1000:6.1f} ms  {made[1]} offers: the same bytes read twice")
    print(
        "gpuhunt takes both markets from one answer; the vendor may list other machines for bids,"
    )
    print("so gpubroker asks for each, and makes no spot offer of an on-demand answer")
    print(f"ratio {peer_s / one_s:.1f} for one answer, {peer_s / both_s:.1f} for as many offers")


if __name__ == "__main__":
    main()
