"""Shell text for a machine's start: variables for its SSH sessions, the script, the command."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpubroker.providers.startup_text import environment_lines, startup_text

VALUES = [
    "plain", "", "two words", " edges ", "it's", 'say "hi"', "'", '"', "$HOME `id` $(id)",
    "back\\slash\\", "both ' and \" and $x", "%s %d", "a=b", "; rm -rf /", "*", "ü→",
]  # fmt: skip


def login(line: str) -> tuple[str, str]:
    """What a session makes of a line: the outermost quotes go, nothing else is special."""
    name, _, value = line.partition("=")
    if value[:1] in {'"', "'"}:
        value = value[1:]
        value = value[:-1] if value[-1:] in {'"', "'"} else value
    return name, value


@pytest.mark.parametrize("value", VALUES)
def test_the_shell_writes_exactly_the_variables(tmp_path: Path, value: str) -> None:
    file = tmp_path / "environment"
    text = startup_text("", None, environment_lines({"A": value, "B": "last"}))
    text = text.replace("/etc/environment", shlex.quote(str(file)))
    subprocess.run(["sh", "-c", text], check=True)
    assert [login(line) for line in file.read_text().splitlines()] == [("A", value), ("B", "last")]


@given(value=st.text(st.characters(exclude_characters="\n\r\0", exclude_categories=["Cs"])))
def test_any_value_is_one_word_of_the_shell_and_comes_back(value: str) -> None:
    (quoted,) = environment_lines({"A": value})
    (line,) = shlex.split(quoted)
    assert login(line) == ("A", value)


def test_the_first_line_of_a_script_stays_its_first() -> None:
    text = startup_text("#!/bin/bash\necho hi", "serve", ("'A=1'",))
    first, variables, script, command = text.split("\n")
    assert (first, script) == ("#!/bin/bash", "echo hi")
    assert variables == r"printf '%s\n' 'A=1' >> /etc/environment"
    assert command.startswith("nohup sh -c serve ")


def test_nothing_to_run_is_no_text() -> None:
    assert startup_text("", None, environment_lines({})) == ""
