"""The configuration: what is not understood is refused, with file, line and what was expected."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from jsonschema import (  # type: ignore[import-untyped]  # it ships no types
    Draft202012Validator,
)

from gpubroker.config import Config, ConfigError, load, schema

SCHEMA = Path(__file__).parents[1] / "docs/config.schema.json"


def test_no_file_is_no_error(tmp_path: Path) -> None:
    assert load(tmp_path / "config.toml") == Config()


def test_every_setting_is_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        '[defaults]\nttl = "8h"\nimage = "a/b:c"\ndisk_gb = 40\nmax_price = 2\n'
        "max_price_increase = 0.2\ntries = 7\n[ssh]\ninclude = false\n"
    )
    config = load(path)
    assert (config.defaults.ttl, config.defaults.disk_gb, config.defaults.max_price) == (
        "8h",
        40,
        2,
    )
    assert config.ssh.include is False


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ('[defaults]\n\ntll = "8h"\n', 3, "did you mean ttl"),
        ('[defaluts]\nttl = "8h"\n', 1, "did you mean defaults"),
        ("[defaults]\ntries = 5\ndisk_gb = 'big'\n", 3, "expected `int"),
        ("[defaults]\ntries = 0\n", 2, "from 1 to 50"),
        ('[defaults]\nttl = "never"\n', 2, "no duration: write 30m"),
        ("[defaults]\nmax_price = -1\n", 2, "out of range"),
        ("[ssh]\ninclude = 1\n", 2, "expected `bool`"),
        ("[defaults\nttl = 1\n", 1, "Expected ']'"),
    ],
)
def test_a_malformed_file_names_line_and_what_was_expected(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message
    assert f"line {line}" in message
    assert words in message
    assert message.endswith("Nothing was done.")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(path)


def test_clouds_and_accounts_are_known_by_any_of_their_spellings(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        '[defaults]\nregions = ["Europe", "US"]\n'
        '[providers.lambda]\nenabled = false\n[providers."Vast.ai"]\naccount = "lab"\n'
        '[accounts.vast]\nkeyring = true\n[accounts."vast:lab"]\nkey_env = "VAST_LAB_KEY"\n'
        '[accounts."verda:work"]\nkey_env = ["A_ID", "A_SECRET"]\n'
        '[accounts."runpod:x"]\nkey_file = "~/x"\n'
    )
    config = load(path)
    assert config.defaults.regions == ("Europe", "US")
    assert config.switched_off() == {"lambda_labs"}
    assert config.providers["vast_ai"].account == "lab"
    assert set(config.accounts) == {
        ("vast_ai", "default"),
        ("vast_ai", "lab"),
        ("verda", "work"),
        ("runpod", "x"),
    }
    assert config.accounts["verda", "work"].variables == ("A_ID", "A_SECRET")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[providers.vats]\nenabled = false\n", 1, "Did you mean vast_ai"),
        ('[accounts."vats:lab"]\n', 1, "Did you mean vast_ai"),
        ("[providers.vast]\nenabeld = false\n", 2, "did you mean enabled"),
        ("[providers.vast]\nenabled = 'no'\n", 2, "expected `bool`"),
        ("[providers.vast]\naccount = 'My Lab'\n", 2, "the name of one of its accounts"),
        ("[defaults]\n\n[accounts.'vast:My Lab']\n", 3, "small letters"),
        ('[accounts."vast:lab"]\n\nkey_evn = "A"\n', 3, "did you mean key_env"),
        ('[accounts."vast:lab"]\nkey_env = "A"\nkeyring = true\n', 1, "one of key_env"),
        ("accounts = 5\n", 1, "expected a table"),
        ("[defaults]\nregions = 'Europe'\n", 2, "expected `array`"),
    ],
)
def test_a_cloud_or_account_that_makes_no_sense_names_line_and_nearest(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert f"line {line}: " in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "setting",
    [
        'key = "0f3asesame"',
        'api_key = "0f3asesame"',
        'token = "0f3asesame"',
        'key_env = "0f3asesame"',
        'key_env = "rpa_sesame"',
        'client_secret = "0f3asesame"',
    ],
)
def test_a_key_in_the_file_is_refused_and_not_repeated(tmp_path: Path, setting: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'[accounts."vast:lab"]\n{setting}\n')
    with pytest.raises(ConfigError) as caught:
        load(path)
    message = str(caught.value)
    assert "line 2" in message
    assert "sesame" not in message
    assert "stand" in message


def test_the_shipped_schema_is_the_one_of_the_structs() -> None:
    assert json.loads(SCHEMA.read_text()) == schema(), (
        "python -m gpubroker.cli.pages docs writes it anew"
    )


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("", True),
        (
            (
                "[defaults]\ntries = 5\n[providers.vast]\nenabled = false\n"
                '[accounts."vast:lab"]\nkey_env = "A"\n[ssh]\ninclude = false\n'
            ),
            True,
        ),
        ("[defaults]\ntries = 0\n", False),
        ("[defaults]\ntll = '8h'\n", False),
        ("[accounts.'vast:My Lab']\n", False),
        ("[accounts.'vast:lab']\napi_key = 'x'\n", False),
    ],
)
def test_the_schema_takes_what_is_read_and_nothing_else(
    tmp_path: Path, text: str, fits: bool
) -> None:
    validator = Draft202012Validator(schema())
    assert validator.is_valid(tomllib.loads(text)) is fits
    path = tmp_path / "config.toml"
    path.write_text(text)
    if fits:
        load(path)
    else:
        with pytest.raises(ConfigError):
            load(path)
