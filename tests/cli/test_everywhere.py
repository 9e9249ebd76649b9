"""What holds for every verb, taken from the table: a new verb is covered when it is added."""

from __future__ import annotations

import json
from typing import Any

import click
import pytest

from gpubroker.cli.main import cli, split_everywhere
from gpubroker.cli.session import Session
from gpubroker.cli.verbs import VERBS
from gpubroker.fleet.errors import NothingToBeHad, UnknownName
from gpubroker.model import errors
from gpubroker.store.errors import LeaseHeld, NameTaken

ARGUMENTS = {
    "show": ["train-1"],
    "ssh": ["train-1"],
    "extend": ["train-1", "2h"],
    "keeper": ["run", "--once"],
    "stop": ["train-1"],
    "start": ["train-1"],
    "terminate": ["train-1"],
    "launch": ["--gpu", "4090", "--yes"],
    "completion": ["bash"],
    "sandbox": ["status"],
    "logout": ["vast"],
    "bill": ["train-1"],
    "adopt": ["vast", "12345", "--ttl", "4h"],
}
"""What a verb needs to do its work."""
CALLS = {
    "offers": "search",
    "gpus": "gpus",
    "providers": "providers",
    "launch": "launch",
    "ps": "machines",
    "show": "show",
    "ssh": "endpoint",
    "extend": "extend",
    "keeper": "keep",
    "stop": "stop",
    "start": "start",
    "terminate": "terminate",
    "bill": "bill",
    "costs": "costs",
    "adopt": "adopt",
    "sweep": "sweep",
    "doctor": "doctor",
    "budget": "budgets",
    "notify": "channels",
    "registry": "registries",
    "login": "providers",
    "logout": "logout",
}
"""Verb -> the question to the broker that can fail."""
BUILT = [verb.name for verb in VERBS if not verb.later]
COMING = [verb.name for verb in VERBS if verb.later]


def only_document(text: str) -> Any:
    """The text is one JSON document and nothing else."""
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert "\x1b" not in text
    return json.loads(text)


@pytest.mark.parametrize("verb", BUILT)
@pytest.mark.parametrize("place", ["before", "after"])
def test_json_prints_one_document_on_stdout(run: Any, verb: str, place: str) -> None:
    argv = [verb, *ARGUMENTS.get(verb, [])]
    ran = run(*(["--json", *argv] if place == "before" else [*argv, "--json"]))
    assert ran.code == 0, ran.err
    only_document(ran.out)


@pytest.mark.parametrize("verb", sorted(CALLS))
def test_a_failure_leaves_stdout_empty_and_tells_json_on_stderr(
    run: Any, world: Any, verb: str
) -> None:
    world.fails[CALLS[verb]] = errors.AuthFailed("the key was refused", provider="vast_ai")
    ran = run(verb, *ARGUMENTS.get(verb, []), "--json")
    assert ran.out == ""
    assert ran.error["code"] == "auth_failed"
    assert ran.error["message"] == "the key was refused"
    assert ran.error["next_step"]
    assert ran.code == ran.error["exit_code"] == (125 if verb == "ssh" else 5)


@pytest.mark.parametrize("verb", [*BUILT, *COMING])
def test_an_unknown_flag_is_a_usage_error_with_nothing_on_stdout(run: Any, verb: str) -> None:
    ran = run(verb, "--no-such-flag", "--json")
    assert (ran.code, ran.out) == (2, "")
    assert ran.error["code"] == "usage"


@pytest.mark.parametrize("verb", [*BUILT, *COMING])
def test_every_verb_has_help(run: Any, verb: str) -> None:
    for flag in ("-h", "--help"):
        ran = run(verb, flag)
        assert ran.code == 0
        assert ran.out.startswith(f"Usage: gpubroker {verb}")


@pytest.mark.parametrize("verb", BUILT)
def test_what_is_no_terminal_gets_no_colour(run: Any, verb: str) -> None:
    for environ in ({}, {"NO_COLOR": "1"}):
        ran = run(verb, *ARGUMENTS.get(verb, []), **environ)
        assert ran.code == (125 if verb == "ssh" else 0), ran.err
        assert "\x1b" not in ran.out + ran.err


@pytest.mark.parametrize("verb", COMING)
def test_what_comes_later_says_so_and_does_nothing(run: Any, world: Any, verb: str) -> None:
    ran = run(verb, "train-1", "--flag", "2h")
    assert ran.code == 2
    assert f"gpubroker {verb} comes later" in ran.err
    assert ran.out == ""
    assert world.asked == []


def test_the_help_lists_every_verb_with_its_own_words(run: Any) -> None:
    told = run("--help").out
    for verb in VERBS:
        assert f"  {verb.name}" in told
        assert " ".join(verb.help.split()) in " ".join(told.split())


def test_the_table_names_commands_that_exist() -> None:
    context = click.Context(cli, obj=Session(environ={}))
    for verb in VERBS:
        command = cli.get_command(context, verb.name)
        assert command is not None
        assert command.name == verb.name


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.AuthFailed("no"), 5),
        (errors.QuotaExceeded("no"), 6),
        (errors.OutOfFunds("no"), 6),
        (errors.BudgetExceeded("no"), 6),
        (errors.NoExpiry("no"), 6),
        (errors.NotFound("no"), 7),
        (UnknownName("x"), 7),
        (errors.NoCapacity("no"), 4),
        (NothingToBeHad(()), 4),
        (NameTaken("no"), 2),
        (LeaseHeld("x", "pid 1"), 1),
        (errors.Unavailable("no"), 1),
        (errors.OutcomeUnknown("no"), 1),
        (KeyboardInterrupt(), 130),
        (OSError("disk full"), 1),
        (RuntimeError("a fault"), 1),
    ],
)
def test_exit_codes_follow_the_kind_of_error(
    run: Any, world: Any, error: Exception, code: int
) -> None:
    world.fails["search"] = error
    assert run("offers").code == code


def test_a_fault_of_ours_is_called_one(run: Any, world: Any) -> None:
    world.fails["search"] = RuntimeError("broken")
    ran = run("offers")
    assert "a fault in gpubroker itself" in ran.err
    assert "GPUBROKER_DEBUG" in ran.err
    assert "Traceback" not in ran.err
    assert "Traceback" in run("offers", GPUBROKER_DEBUG="1").err


def test_an_unknown_verb_is_told_its_nearest(run: Any) -> None:
    ran = run("offrs")
    assert ran.code == 2
    assert "Did you mean offers?" in ran.err


def test_switches_behind_two_dashes_belong_to_the_command_there() -> None:
    assert split_everywhere(["ssh", "a", "--sandbox", "--", "ls", "--json"]) == (
        ["ssh", "a", "--", "ls", "--json"],
        {"sandbox": True},
    )


def test_the_version_is_told_in_both_forms(run: Any) -> None:
    assert run("--version").out.startswith("gpubroker ")
    assert only_document(run("--version", "--json").out)["version"]


def test_an_environment_variable_means_the_sandbox_for_every_verb(run: Any, world: Any) -> None:
    address = "http://127.0.0.1:9900"
    run("offers", GPUBROKER_SANDBOX=address)
    assert world.last("search")[0] == address


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_each_shell(run: Any, shell: str) -> None:
    ran = run("completion", shell)
    assert ran.code == 0
    assert "_GPUBROKER_COMPLETE" in ran.out
