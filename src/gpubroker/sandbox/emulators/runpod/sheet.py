"""What RunPod says of its GPUs, CPUs, places and templates: the rest of data/runpod.json."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Literal

import msgspec
from msgspec import Struct

Tier = Literal["SECURE", "COMMUNITY"]
TIERS: tuple[Tier, ...] = ("SECURE", "COMMUNITY")


class Model(Struct, frozen=True):
    """A GPU type. `memory` is GB of one GPU."""

    id: str
    name: str
    memory: int
    cuda_cores: int
    manufacturer: str = "NVIDIA"
    pool: str | None = None
    serverless: float | None = None


class Flavor(Struct, frozen=True):
    """A kind of CPU; prices per vCPU and hour, USD."""

    id: str
    name: str
    group: str
    ram_gb_per_vcpu: float
    vcpu_min: int
    vcpu_max: int
    price: float
    serverless: float


class DataCenter(Struct, frozen=True):
    """A place of the secure cloud."""

    id: str
    name: str
    region: str
    country: str
    listed: bool
    volume_types: tuple[str, ...]
    compliance: tuple[str, ...]


class Template(Struct, frozen=True):
    """A public template: what an order leaves out, it fills in."""

    id: str
    image: str
    ports: tuple[str, ...] = ()


class Sheet(Struct, frozen=True):
    """All of it. Volumes: USD per GB and month, by tier; `large` from 1,000 GB on."""

    models: tuple[Model, ...]
    flavors: tuple[Flavor, ...]
    data_centers: tuple[DataCenter, ...]
    templates: tuple[Template, ...]
    volume_gb_month: dict[str, float]
    large_volume_gb_month: dict[str, float]

    def model(self, id_: str) -> Model | None:
        """A GPU type by its id, to the letter."""
        return next((model for model in self.models if model.id == id_), None)

    def flavor(self, id_: str) -> Flavor | None:
        """A CPU flavour by its id."""
        return next((flavor for flavor in self.flavors if flavor.id == id_), None)

    def data_center(self, id_: str) -> DataCenter | None:
        """A data centre by its id."""
        return next((place for place in self.data_centers if place.id == id_), None)

    def template(self, id_: str) -> Template | None:
        """A public template by its id."""
        return next((template for template in self.templates if template.id == id_), None)


@cache
def sheet() -> Sheet:
    """Read when first asked for."""
    file = resources.files("gpubroker.sandbox.data") / "runpod.json"
    return msgspec.json.decode(file.read_bytes(), type=Sheet)
