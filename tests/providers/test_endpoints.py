"""Where a machine is reached."""

from __future__ import annotations

import pytest

from gpubroker.model.instance import Endpoint
from gpubroker.providers.endpoints import at, ssh_of, without_ssh


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("203.0.113.7", "203.0.113.7:8888"),
        (" 203.0.113.7\n", "203.0.113.7:8888"),
        ("2001:db8::7", "[2001:db8::7]:8888"),
        ("box.acme.invalid", "box.acme.invalid:8888"),
        ("", ""),
        (" ", ""),
        (None, ""),
    ],
)
def test_an_address_and_its_port_are_one_word(address: str | None, told: str) -> None:
    assert at(address, 8888) == told


@pytest.mark.parametrize("address", ["203.0.113.7", "2001:db8::7"])
def test_ssh_is_where_the_containers_port_22_is_published(address: str) -> None:
    ports = {"22/tcp": at(address, 40022), "80/tcp": at(address, 40080)}
    assert ssh_of(ports) == Endpoint(host=address, port=40022, user="root")
    assert ssh_of(ports, "ubuntu") == Endpoint(host=address, port=40022, user="ubuntu")
    assert without_ssh(ports) == {"80/tcp": ports["80/tcp"]}


@pytest.mark.parametrize("ports", [{}, {"22/tcp": ""}, {"22/tcp": "203.0.113.7:?"}])
def test_without_that_port_there_is_no_way_in(ports: dict[str, str]) -> None:
    assert ssh_of(ports) is None
