"""One package a cloud: its own protocol, strict, with its quirks."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from gpubroker.sandbox.emulators.base import Emulator


class Entry(Struct, frozen=True, kw_only=True):
    """What is known of an emulator without importing it."""

    target: str
    """module:class."""
    hosts: tuple[str, ...]
    """The vendor's real host names, for the proxy."""
    env: Mapping[str, str]
    """Variables that point the vendor's own client here; {url} and {key} are filled in."""
    protocol: str = "rest"


EMULATORS: Mapping[str, Entry] = {
    "vast_ai": Entry(
        target="gpubroker.sandbox.emulators.vast_ai.api:VastAi",
        hosts=("console.vast.ai", "cloud.vast.ai"),
        env={"VAST_URL": "{url}", "VAST_API_KEY": "{key}"},
    ),
    "lambda_labs": Entry(
        target="gpubroker.sandbox.emulators.lambda_labs.api:LambdaLabs",
        hosts=("cloud.lambda.ai", "cloud.lambdalabs.com"),
        env={
            "LAMBDA_CLOUD_BASE_URL": "{url}",
            "LAMBDA_API_KEY": "{key}",
            "LAMBDA_CLOUD_API_TOKEN": "{key}",
            "LAMBDA_CLOUD_TOKEN": "{key}",
        },
    ),
    "runpod": Entry(
        target="gpubroker.sandbox.emulators.runpod.api:RunPod",
        hosts=("api.runpod.io", "rest.runpod.io"),
        env={
            "RUNPOD_API_KEY": "{key}",
            "RUNPOD_API_BASE_URL": "{url}",
            "RUNPOD_GRAPHQL_URL": "{url}/graphql",
            "RUNPOD_API_URL": "{url}/v1",
            "RUNPOD_REST_V2_URL": "{url}/v2",
        },
    ),
    "digitalocean": Entry(
        target="gpubroker.sandbox.emulators.digitalocean.api:DigitalOcean",
        hosts=("api.digitalocean.com",),
        env={
            "DIGITALOCEAN_ACCESS_TOKEN": "{key}",
            "DIGITALOCEAN_TOKEN": "{key}",
            "DIGITALOCEAN_API_URL": "{url}",
            "GRADIENT_BASE_URL": "{url}",
        },
    ),
    "verda": Entry(
        target="gpubroker.sandbox.emulators.verda.api:Verda",
        hosts=("api.verda.com", "api.datacrunch.io"),
        env={
            "VERDA_BASE_URL": "{url}/v1",
            "VERDA_CLIENT_ID": "sandbox-client",
            "VERDA_CLIENT_SECRET": "{key}",
        },
    ),
}


def load(provider: str) -> type[Emulator]:
    """The emulator's class, imported when first asked for."""
    module, _, name = EMULATORS[provider].target.partition(":")
    found: type[Emulator] = getattr(import_module(module), name)
    return found
