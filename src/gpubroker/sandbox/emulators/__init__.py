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
    """The vendor's real host names, for the proxy; with a port where it is not 443."""
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
    "jarvislabs": Entry(
        target="gpubroker.sandbox.emulators.jarvislabs.api:JarvisLabs",
        hosts=(
            "backendn.jarvislabs.net",
            "backendc.jarvislabs.net",
            "backendeu.jarvislabs.net",
            "backendprod.jarvislabs.net",
        ),
        env={"JL_API_KEY": "{key}", "JARVISLABS_API_URL": "{url}"},
    ),
    "lyceum": Entry(
        target="gpubroker.sandbox.emulators.lyceum.api:Lyceum",
        hosts=("api.lyceum.technology",),
        env={"LYCEUM_API_KEY": "lk_{key}", "LYCEUM_API_URL": "{url}"},
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
    "hyperstack": Entry(
        target="gpubroker.sandbox.emulators.hyperstack.api:Hyperstack",
        hosts=("infrahub-api.nexgencloud.com",),
        env={
            "HYPERSTACK_API_KEY": "{key}",
            "HYPERSTACK_API_ADDRESS": "{url}/v1",
            "HYPERSTACK_API_URL": "{url}/v1",
        },
    ),
    "tensordock": Entry(
        target="gpubroker.sandbox.emulators.tensordock.api:TensorDock",
        hosts=("dashboard.tensordock.com", "marketplace.tensordock.com"),
        env={
            "TENSORDOCK_API_TOKEN": "{key}",
            "TENSORDOCK_API_KEY": "{key}",
            "TENSORDOCK_AUTH_ID": "sandbox-authorization",
            "TENSORDOCK_BASE_URL": "{url}/api/v2",
        },
    ),
    "thunder_compute": Entry(
        target="gpubroker.sandbox.emulators.thunder_compute.api:ThunderCompute",
        hosts=("api.thundercompute.com:8443",),
        env={
            "TNR_API_TOKEN": "{key}",
            "THUNDER_COMPUTE_API_KEY": "{key}",
            "TNR_API_URL": "{url}",
        },
    ),
    "fluidstack": Entry(
        target="gpubroker.sandbox.emulators.fluidstack.api:FluidStack",
        hosts=("platform.fluidstack.io",),
        env={"FLUIDSTACK_API_KEY": "{key}", "FLUIDSTACK_BASE_URL": "{url}"},
    ),
    "paperspace": Entry(
        target="gpubroker.sandbox.emulators.paperspace.api:Paperspace",
        hosts=("api.paperspace.com",),
        env={"PAPERSPACE_API_KEY": "{key}", "PAPERSPACE_API_URL": "{url}/v1"},
    ),
    "salad": Entry(
        target="gpubroker.sandbox.emulators.salad.api:Salad",
        hosts=("api.salad.com", "*.salad.cloud"),
        env={
            "SALAD_BASE_URL": "{url}/api/public",
            "SALAD_API_KEY": "{key}",
            "SALAD_ORGANIZATION_NAME": "sandbox",
            "SALAD_PROJECT_NAME": "default",
        },
    ),
    "shadeform": Entry(
        target="gpubroker.sandbox.emulators.shadeform.api:Shadeform",
        hosts=("api.shadeform.ai",),
        env={"SHADEFORM_API_KEY": "{key}", "SHADEFORM_BASE_URL": "{url}/v1"},
    ),
    "northflank": Entry(
        target="gpubroker.sandbox.emulators.northflank.api:Northflank",
        hosts=("api.northflank.com", "*.code.run"),
        env={
            "NORTHFLANK_API_BASE_URL": "{url}",
            "NF_API_HOST": "{url}",
            "NORTHFLANK_API_TOKEN": "{key}",
            "NF_API_TOKEN": "{key}",
        },
    ),
}


def load(provider: str) -> type[Emulator]:
    """The emulator's class, imported when first asked for."""
    module, _, name = EMULATORS[provider].target.partition(":")
    found: type[Emulator] = getattr(import_module(module), name)
    return found
