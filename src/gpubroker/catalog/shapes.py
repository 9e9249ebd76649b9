"""What an instance type is made of, by its name alone: `shape("aws", "p5.48xlarge")`."""

from __future__ import annotations

from functools import lru_cache

from msgspec import Struct

from gpubroker.catalog.gpus import resolve
from gpubroker.catalog.lexicon import cut
from gpubroker.catalog.type_names import Arch, readings
from gpubroker.model.gpu import Gpu


class Shape(Struct, frozen=True):
    """The accelerators of an instance type."""

    gpu: Gpu
    """One of them; `raw` is the type's name, `fraction` below 1 where it is a part of a card."""
    count: int
    arch: Arch = "x86_64"

    @property
    def memory_gb(self) -> float:
        """Of one GPU."""
        return self.gpu.memory_gb

    @property
    def form(self) -> str:
        """As in `Gpu.form`."""
        return self.gpu.form


def shape(provider: str, name: str) -> Shape | None:
    """The GPUs that a cloud's instance type has, None where its name does not tell.

    `provider` is the wire name; a few clouds that others resell are known too.
    """
    for said in _readings(provider, name):
        gpu = resolve(said.gpu)
        if gpu.name is not None:
            return Shape(cut(gpu, name, said.fraction), said.count, said.arch)
    return None


_readings = lru_cache(maxsize=4096)(lambda provider, name: tuple(readings(name, provider)))
