"""Values of launch flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubroker.cli.launch_inputs import environment, parse_env_file, port, public_key

from .conftest import KEY


def parsed(tmp_path: Path, text: str) -> dict[str, str]:
    file = tmp_path / "job.env"
    file.write_text(text)
    return parse_env_file(file)


def test_an_environment_file_is_read_as_dotenv_writes_it(tmp_path: Path) -> None:
    text = """
# a comment
PLAIN=one two   # behind
EMPTY=
export SHOWN=1
LITERAL='no $HOME \\n # here'
ESCAPED="two\\nlines \\"quoted\\" \\$HOME \\\\"  # said
URL=https://x/y?a=b#c
"""
    assert parsed(tmp_path, text) == {
        "PLAIN": "one two",
        "EMPTY": "",
        "SHOWN": "1",
        "LITERAL": "no $HOME \\n # here",
        "ESCAPED": 'two\nlines "quoted" $HOME \\',
        "URL": "https://x/y?a=b#c",
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("A=1\nhunter2", "expected NAME=VALUE"),
        ("A=1\n2B=hunter2", "expected NAME=VALUE"),
        ("A=1\nB='hunter2", "not closed"),
        ('A=1\nB="hunter2\\"', "not closed"),
        ("A=1\nB='x' hunter2", "behind the closing"),
    ],
)
def test_errors_name_file_and_line_and_no_value(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        parsed(tmp_path, text)
    assert "job.env:2: " in refused.value.message
    assert why in refused.value.message
    assert "hunter2" not in refused.value.message


@given(
    st.text(
        st.characters(codec="utf-8", exclude_characters="'\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
    )
)
def test_a_literal_value_is_kept_as_it_is(tmp_path_factory: Any, value: str) -> None:
    folder = tmp_path_factory.mktemp("env")
    assert parsed(folder, f"A='{value}'\n") == {"A": value}


def test_a_flag_has_the_last_word_over_files(tmp_path: Path) -> None:
    file = tmp_path / "a.env"
    file.write_text("A=file\nB=file\n")
    assert environment(["A=flag", "C=x=y"], [file]) == {"A": "flag", "B": "file", "C": "x=y"}


@pytest.mark.parametrize("pair", ["hunter2", "2A=hunter2", "=hunter2"])
def test_a_bad_pair_is_refused_without_its_value(pair: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        environment([pair], [])
    assert "hunter2" not in refused.value.message


def test_ports_are_tcp_where_nothing_else_is_said() -> None:
    assert port("8888") == (8888, "tcp")
    assert port("53/UDP") == (53, "udp")


@pytest.mark.parametrize("text", ["0", "65536", "80/icmp", "http", "-1", "8888/"])
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError, match="expected 8888/tcp"):
        port(text)


def test_a_public_key_is_given_as_itself_or_as_its_file(tmp_path: Path) -> None:
    file = tmp_path / "id.pub"
    file.write_text(KEY + "\n")
    assert public_key(KEY) == public_key(str(file)) == KEY


def test_a_private_key_is_refused_and_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "id"
    file.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n")
    with pytest.raises(click.UsageError, match="private key") as refused:
        public_key(str(file))
    assert "hunter2" not in refused.value.message
    with pytest.raises(click.UsageError, match="no such key file"):
        public_key(str(tmp_path / "missing.pub"))
