"""Prices by component: sizes that fit, and what a machine of a size costs."""

from __future__ import annotations

import pytest

from gpubroker.providers.components import Size, in_dollars, sizes

STEP = Size(2, 16)


@pytest.mark.parametrize(
    ("usual", "most", "expected"),
    [
        (Size(8, 32), Size(56, 331), [Size(8, 32), Size(16, 64), Size(32, 128)]),
        (Size(8, 32), Size(16, 63), [Size(8, 32)]),
        (Size(8, 32), Size(7, 331), [Size(6, 32)]),
        (Size(64, 256), Size(56, 331), [Size(56, 256)]),
        (Size(8, 32), Size(1, 331), []),
        (Size(8, 32), Size(56, 15), []),
    ],
    ids=str,
)
def test_sizes_are_multiples_of_the_usual_one_as_far_as_they_fit(
    usual: Size, most: Size, expected: list[Size]
) -> None:
    assert list(sizes(usual, most, STEP)) == expected


def test_a_machine_costs_the_sum_of_its_parts() -> None:
    rates = in_dollars(gpu=0.40, vcpu=0.004, ram_gb=0.002, disk_gb=0.00007)
    price = rates.price(2, Size(16, 64))
    assert price.compute == 800_000_000 + 64_000_000 + 128_000_000
    assert price.hourly(100) == price.compute + 7_000_000
    assert price.hourly_stopped(100) == 7_000_000
