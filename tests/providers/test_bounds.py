"""What a vendor would not take is refused with the field's name."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gpubroker.model.errors import Invalid
from gpubroker.model.launch import LaunchSpec
from gpubroker.providers.bounds import Bounds

bounds = Bounds("acme")


def spec(**told: Any) -> LaunchSpec:
    return LaunchSpec(expires_at=None, **told)


def refused_field(check: Any) -> str:
    with pytest.raises(Invalid) as caught:
        check()
    assert (caught.value.provider, caught.value.code) == ("acme", "bounds")
    return caught.value.field


def test_a_disk_by_the_gb_has_a_usual_size_a_least_and_the_hosts_most(offer_of: Any) -> None:
    def disk(wanted: int | None, most: float | None = 100.0) -> int:
        offer = replace(offer_of(), disk_max_gb=most)
        return bounds.disk(spec(disk_gb=wanted), offer, usual=10, smallest=8)

    assert [disk(None), disk(8), disk(100), disk(500, None)] == [10, 8, 100, 500]
    assert refused_field(lambda: disk(7)) == "disk_gb"
    assert refused_field(lambda: disk(101)) == "disk_gb"
    assert refused_field(lambda: disk(None, 9.0)) == "disk_gb"


def test_a_types_own_disk_is_enough_or_it_is_not(offer_of: Any) -> None:
    def check(wanted: int | None, there: float | None) -> None:
        bounds.disk_of_type(spec(disk_gb=wanted), replace(offer_of(), disk_gb=there))

    check(None, 50.0)
    check(50, 50.0)
    check(500, None)
    assert refused_field(lambda: check(51, 50.0)) == "disk_gb"


@pytest.mark.parametrize("told", [{"vm_image": "ubuntu"}, {"disk_gb": 5}, {"env": {"A": "1"}}])
def test_what_the_cloud_does_not_know_is_not_dropped(told: dict[str, Any]) -> None:
    (field,) = told
    bounds.takes_no(spec(), field)
    assert refused_field(lambda: bounds.takes_no(spec(**told), "volumes", field)) == field
