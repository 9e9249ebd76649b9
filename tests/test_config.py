"""The configuration: what is not understood is refused, with file, line and what was expected."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpubroker.config import Config, ConfigError, load


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
