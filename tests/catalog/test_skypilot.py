"""SkyPilot's price lists: every shape of row that they have, against a table checked by hand."""

from __future__ import annotations

import csv
import io
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from gpubroker.catalog.skypilot import PriceRow, read_price_list, sheet
from gpubroker.model.terms import Market

with (Path(__file__).parent / "data" / "price_rows.csv").open(newline="") as _file:
    ROWS = list(csv.DictReader(_file))

TEMPLATES = {
    # How each cloud's file writes the description: Python, JSON, neither, lower case, a bare name.
    "hyperstack": "{{'Gpus': [{{'Name': '{name}', 'Manufacturer': null, 'Count': {count}, "
    "'MemoryInfo': {{'SizeInMiB': {mib}}}}}], 'TotalGpuMemoryInMiB': 1}}",
    "digitalocean": "{{'gpus': [{{'name': '{name}', 'manufacturer': 'nvidia', 'count': {count}, "
    "'memoryinfo': {{'sizeinmib': {mib}}}}}], 'totalgpumemoryinmib': {mib}}}",
    "verda": '{{"Gpus": [{{"Name": "{name}", "Count": {count}, "MemoryInfo": '
    '{{"SizeInMiB": {mib}}}}}], "TotalGpuMemoryInMiB": 1}}',
    "primeintellect": '{{"Gpus":[{{"Name":"{name}","Count":{count},"MemoryInfo":'
    '{{"SizeInMiB":{mib}}}}}],"TotalGpuMemoryInMiB":1}}',
    "lium": "{{'Gpus': [{{'Name': '{name}', 'Count': {count}, 'MemoryInfo': "
    "{{'SizeInMiB': {mib}}}, 'TotalGpuMemoryInMiB': {mib}}}]}}",
    "cudo": "{{'Gpus': [{{'Name': '{name}', 'Manufacturer': 'NVIDIA', 'Count': '{count}', "
    "'MemoryInfo': {{'SizeInMiB': {mib}}}}}], 'TotalGpuMemoryInMiB': 1}}",
    "yotta": "{{'Gpus': [{{'Name': '{name}', 'Count': 1, 'MemoryInfo': {{'SizeInMiB': {mib}}}}}], "
    "'TotalGpuMemoryInMiB': 1}}",
    "gcp": "{name}",
    "paperspace": "{name}",
}
USUAL = (
    "{{'Gpus': [{{'Name': '{name}', 'Manufacturer': 'NVIDIA', 'Count': {count}, 'MemoryInfo': "
    "{{'SizeInMiB': {mib}}}}}], 'TotalGpuMemoryInMiB': 1}}"
)
COLUMNS = (
    "InstanceType",
    "AcceleratorName",
    "AcceleratorCount",
    "vCPUs",
    "MemoryGiB",
    "Price",
    "SpotPrice",
    "Region",
    "AvailabilityZone",
    "GpuInfo",
    "UpstreamCloudId",
)


def read(cloud: str, **told: str) -> PriceRow | None:
    """What a list of one row says."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    usual = {"vCPUs": "8", "MemoryGiB": "64", "Price": "2.5", "SpotPrice": ""}
    writer.writerow(dict.fromkeys(COLUMNS, "") | usual | told)
    (row,) = read_price_list(cloud, text.getvalue())
    return row


def _described(row: dict[str, str]) -> str:
    if not row["accelerator"]:
        return ""
    name, count = row["told_name"] or row["accelerator"], row["told_count"]
    template = TEMPLATES.get(row["cloud"], USUAL)
    return template.format(name=name, count=count, mib=row["told_mib"])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['cloud']}:{row['type']}")
def test_gpu_memory_form_and_count_of_every_shape_of_row(row: dict[str, str]) -> None:
    found = read(
        row["cloud"],
        InstanceType=row["type"],
        UpstreamCloudId=row["upstream_type"],
        AcceleratorName=row["accelerator"],
        AcceleratorCount=row["told_count"],
        GpuInfo=_described(row),
    )
    if not row["gpu"]:
        assert found is None
        return
    assert found is not None
    gpu = found.gpu
    assert (gpu.name, gpu.memory_gb, gpu.form) == (row["gpu"], float(row["memory_gb"]), row["form"])
    assert found.count == int(row["count"])
    assert gpu.raw == row["accelerator"]


def test_the_shapes_stand_for_every_row_that_was_published() -> None:
    assert sum(int(row["rows"]) for row in ROWS) == 1523
    assert sum(int(row["rows"]) for row in ROWS if row["gpu"]) == 1267
    assert len({row["cloud"] for row in ROWS}) == 19


@pytest.mark.parametrize(
    ("cloud", "count", "price", "spot", "usd", "spot_usd"),
    [
        ("cudo", "1", "0.36979999999999996", "", "0.3698", None),
        ("cudo", "1", "5.8854999999999995", "", "5.8855", None),
        ("gcp", "1", "700.0", "700.0", None, None),
        ("mithril", "8", "8.0", "8.0", None, None),
        ("mithril", "8", "20.0", "16.0", "20", "16"),
        ("hyperstack", "1", "1.0", "", "1", None),
        ("verda", "2", "", "4.893", None, "4.893"),
        ("vast_ai", "1", "2.65", "0.00", "2.65", None),
        ("aws", "1", "8.256", "8.256000", "8.256", "8.256"),
    ],
)
def test_placeholders_are_no_price_and_noise_is_rounded_off(
    cloud: str, count: str, price: str, spot: str, usd: str | None, spot_usd: str | None
) -> None:
    row = read(cloud, AcceleratorName="H100", AcceleratorCount=count, Price=price, SpotPrice=spot)
    assert row is not None
    assert row.usd == (None if usd is None else Decimal(usd))
    assert row.spot_usd == (None if spot_usd is None else Decimal(spot_usd))


def test_a_resellers_upstream_and_true_country_are_told() -> None:
    row = read(
        "primeintellect",
        InstanceType="lambdalabs__1xH100_80GB__26__225",
        UpstreamCloudId="gpu_1x_h100_sxm5",
        AcceleratorName="H100",
        AcceleratorCount="1.0",
        Region="IS",
        AvailabilityZone="me-west-1",
    )
    assert row is not None
    assert (row.upstream, row.country, row.gpu.form) == ("lambdalabs", "IL", "SXM")


def test_an_unknown_accelerator_is_told_by_name() -> None:
    with pytest.raises(LookupError, match="Frobnicator"):
        read("cudo", AcceleratorName="Frobnicator 9000", AcceleratorCount="1")


def test_a_sheet_has_one_row_a_price_with_all_its_places() -> None:
    told = {"InstanceType": "p5.4xlarge", "AcceleratorName": "H100", "AcceleratorCount": "1.0"}
    rows = [
        read("aws", **told, Price="6.88", SpotPrice="3.2", Region="us-east-1"),
        read("aws", **told, Price="6.88", SpotPrice="", Region="us-east-2"),
        read("aws", **told, Price="6.88", SpotPrice="3.2", Region="us-east-1"),
        read("aws", **told, Price="", SpotPrice="", Region="eu-west-2"),
    ]
    made = sheet("aws", filter(None, rows), date(2026, 1, 1))
    assert [(site.region, site.country) for site in made.places] == [
        ("us-east-1", "US"),
        ("us-east-2", "US"),
        ("eu-west-2", "GB"),
    ]
    assert [(row.market, row.usd_per_hour, row.places) for row in made.rows] == [
        (Market.ON_DEMAND, "6.88", (0, 1)),
        (Market.SPOT, "3.2", (0,)),
    ]
    assert {(row.gpu, row.form, row.raw, row.count) for row in made.rows} == {
        ("H100", "SXM", "H100", 1)
    }


def test_a_price_that_a_list_repeats_for_every_region_has_no_place() -> None:
    told = {"InstanceType": "gpu_1x_gh200", "AcceleratorName": "GH200", "AcceleratorCount": "1.0"}
    rows = [read("lambda_labs", **told, Region=region) for region in ("us-east-1", "me-west-1")]
    made = sheet("lambda_labs", filter(None, rows), date(2026, 1, 1))
    assert [(row.places, row.arch) for row in made.rows] == [((0,), "arm64")]
    assert [(site.region, site.area) for site in made.places] == [("", "Global")]
