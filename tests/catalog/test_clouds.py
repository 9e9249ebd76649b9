"""Names of clouds and ids of offers."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubroker.catalog.clouds import CLOUDS, UnknownCloud, cloud, offer_id, parse_offer_id

WIRE_NAMES = [
    "aws",
    "azure",
    "coreweave",
    "digitalocean",
    "fluidstack",
    "gcp",
    "hyperstack",
    "jarvislabs",
    "kubernetes",
    "lambda_labs",
    "lyceum",
    "modal",
    "nebius",
    "northflank",
    "oci",
    "paperspace",
    "runpod",
    "salad",
    "shadeform",
    "slurm",
    "tensordock",
    "thunder_compute",
    "vast_ai",
    "verda",
]


def test_the_table_holds_the_contracts_24_names_in_order() -> None:
    assert [entry.name for entry in CLOUDS] == WIRE_NAMES


def test_no_spelling_means_two_clouds() -> None:
    spelled: dict[str, set[str]] = {}
    for entry in CLOUDS:
        for spelling in (entry.name, entry.display_name, entry.id_prefix, *entry.aliases):
            squashed = re.sub(r"[ _.\-]", "", spelling.casefold())
            spelled.setdefault(squashed, set()).add(entry.name)
    assert [names for names in spelled.values() if len(names) > 1] == []
    assert len({entry.id_prefix for entry in CLOUDS}) == len(CLOUDS)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("vast", "vast_ai"),
        ("vastai", "vast_ai"),
        ("Vast.ai", "vast_ai"),
        ("VAST-AI", "vast_ai"),
        ("lambda", "lambda_labs"),
        ("Lambda Labs", "lambda_labs"),
        ("thunder", "thunder_compute"),
        ("datacrunch", "verda"),
        ("do", "digitalocean"),
        ("k8s", "kubernetes"),
        ("RunPod", "runpod"),
        ("google", "gcp"),
    ],
)
def test_short_forms_are_accepted(spelling: str, name: str) -> None:
    assert cloud(spelling).name == name


def test_an_unknown_name_comes_with_the_nearest() -> None:
    with pytest.raises(UnknownCloud) as caught:
        cloud("runpdo")
    assert caught.value.nearest == ("runpod",)
    assert str(caught.value) == 'no cloud is called "runpdo". Did you mean runpod?'


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("vast_ai", ("VAST_AI_API_KEY", "VAST_API_KEY")),
        ("runpod", ("RUNPOD_API_KEY",)),
        ("paperspace", ("PAPERSPACE_API_KEY",)),
        ("modal", ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET")),
    ],
)
def test_the_contracts_variable_comes_before_the_vendors(
    name: str, variables: tuple[str, ...]
) -> None:
    assert cloud(name).key_variables == variables


def test_every_cloud_says_where_it_lives_and_what_it_needs() -> None:
    for entry in CLOUDS:
        assert entry.website.startswith("https://")
        assert entry.credentials
        assert all(re.fullmatch(r"[A-Z][A-Z0-9_]+", name) for name in entry.key_variables)


@pytest.mark.parametrize(
    "text", ["vast_12345", "vast_ai_12345", "vastai_12345", "Vast_12345", "vast:12345"]
)
def test_an_id_is_read_with_every_prefix(text: str) -> None:
    assert parse_offer_id(text) == ("vast_ai", "12345")


def test_the_contracts_prefixes() -> None:
    assert offer_id("vast_ai", "12345") == "vast_12345"
    assert offer_id("lambda_labs", "gpu_1x_a10:us-west-1") == "lambda_gpu_1x_a10:us-west-1"
    assert offer_id("aws", "p5.48xlarge:us-east-1") == "aws_p5.48xlarge:us-east-1"
    assert offer_id("somebodys_cloud", "7") == "somebodys_cloud_7"


@pytest.mark.parametrize("text", ["", "12345", "vast", "vast_", "nobody_12345", "_1"])
def test_what_is_no_id_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="is not an offer id"):
        parse_offer_id(text)


@given(st.sampled_from(WIRE_NAMES), st.from_regex(r"[0-9][A-Za-z0-9:._%-]{0,30}", fullmatch=True))
def test_every_id_reads_back(name: str, key: str) -> None:
    assert parse_offer_id(offer_id(name, key)) == (name, key)


def test_a_cloud_with_two_secrets_asks_for_both() -> None:
    assert cloud("verda").key_in_words == "VERDA_CLIENT_ID and VERDA_CLIENT_SECRET"
    assert cloud("runpod").key_in_words == "RUNPOD_API_KEY"
