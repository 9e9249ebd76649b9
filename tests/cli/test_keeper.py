"""`keeper`: in the foreground, as a service of the user's, and no secret in any file of it."""

from __future__ import annotations

import plistlib
from pathlib import Path, PureWindowsPath
from typing import Any

import pytest

from gpubroker.cli import keeper
from gpubroker.cli.session import Session
from gpubroker.keeper_service import service

SECRET = "sk-very-secret"


def of(platform: str, **more: Any) -> Any:
    given: dict[str, Any] = {
        "python": "/opt/my python/bin/python3",
        "home": Path("/home/me/50% off"),
        "environ": {"HOME": "/home/me", "VAST_API_KEY": SECRET, "DATABASE_URL": SECRET},
        "uid": 501,
    }
    return service(platform, **(given | more))


def test_it_runs_and_says_what_happened_once(run: Any, world: Any) -> None:
    world.rounds = ((), ("vast_ai does not answer",), ("vast_ai does not answer",), ())
    ran = run("keeper", "run")
    assert ran.code == 0
    assert world.last("keep")[1] is None
    assert ran.err.count("vast_ai does not answer") == 1
    assert ran.err.count("train-1") == 1
    assert "nothing" not in ran.err


def test_once_is_one_round_and_fails_where_something_is_left(run: Any, world: Any) -> None:
    assert run("keeper", "run", "--once").code == 0
    assert world.last("keep")[1] == 1
    world.rounds = (("vast_ai does not answer",),)
    assert run("keeper", "run", "--once").code == 1


def test_it_keeps_the_home_and_the_keys_that_it_is_told(
    run: Any, world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    opened = Session.broker

    def broker(self: Session, *how: Any) -> Any:
        seen.append(self)
        return opened(self, *how)

    monkeypatch.setattr(Session, "broker", broker)
    keys = tmp_path / "keys.env"
    keys.write_text(f"VAST_API_KEY={SECRET}\n")
    keys.chmod(0o644)
    ran = run("keeper", "run", "--once", "--env-file", str(keys))
    assert ran.code == 2
    assert "chmod 600" in ran.err
    assert SECRET not in ran.err
    keys.chmod(0o600)
    assert run("keeper", "run", "--once", "--home", "/x", "--env-file", str(keys)).code == 0
    assert seen[-1].environ["VAST_API_KEY"] == SECRET
    assert str(seen[-1].home.root) == "/x"


def test_a_unit_of_systemd_runs_it_and_quotes_what_systemd_reads() -> None:
    unit = of("linux")
    assert unit.file == Path("/home/me/.config/systemd/user/gpubroker-keeper.service")
    [line] = [line for line in unit.text.splitlines() if line.startswith("ExecStart=")]
    assert line == (
        'ExecStart="/opt/my python/bin/python3" "-m" "gpubroker" "keeper" "run" '
        '"--home" "/home/me/50%% off"'
    )
    assert "Restart=always" in unit.text
    assert unit.on[-1] == ("systemctl", "--user", "restart", "gpubroker-keeper.service")


def test_a_launch_agent_runs_it() -> None:
    agent = of("darwin", env_file=Path("/home/me/keys.env"))
    told = plistlib.loads(agent.text.encode())
    assert told["ProgramArguments"][-4:] == [
        "--home",
        "/home/me/50% off",
        "--env-file",
        "/home/me/keys.env",
    ]
    assert told["KeepAlive"]
    assert agent.on[-1] == ("launchctl", "bootstrap", "gui/501", str(agent.file))
    assert agent.off == (("launchctl", "bootout", "gui/501/dev.gpubroker.keeper"),)


def test_a_task_of_windows_runs_one_round_each_minute_without_a_window() -> None:
    home = PureWindowsPath(r"C:\Users\me\gpubroker data")
    task = of("win32", python=r"C:\Python 3\python.exe", home=home)
    assert task.file is None
    assert task.on == (
        (
            *("schtasks", "/Create", "/F", "/SC", "MINUTE", "/MO", "1"),
            *("/TN", "gpubroker-keeper", "/TR"),
            (
                r'"C:\Python 3\pythonw.exe" -m gpubroker keeper run --home '
                r'"C:\Users\me\gpubroker data" --once'
            ),
        ),
    )


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_no_secret_is_in_what_is_written(platform: str) -> None:
    wanted = of(platform)
    assert SECRET not in wanted.text
    assert SECRET not in str(wanted.on)


def test_another_system_is_told_what_to_do() -> None:
    with pytest.raises(ValueError, match="keeper run --once"):
        of("plan9")


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Commands that would be run; all go well."""
    ran: list[tuple[str, ...]] = []

    def call(commands: Any, *, quietly: bool = False) -> bool:
        del quietly
        ran.extend(commands)
        return True

    monkeypatch.setattr(keeper, "_call", call)
    monkeypatch.setattr("sys.platform", "linux")
    return ran


def test_print_shows_all_and_does_nothing(run: Any, system: list[Any], tmp_path: Path) -> None:
    ran = run("keeper", "install", "--print", HOME=str(tmp_path))
    assert ran.code == 0
    assert "ExecStart=" in ran.out
    assert "systemctl --user enable" in ran.out
    assert system == []
    assert not (tmp_path / ".config").exists()


def test_install_and_uninstall(run: Any, system: list[Any], tmp_path: Path) -> None:
    ran = run("keeper", "install", HOME=str(tmp_path))
    assert ran.code == 0, ran.err
    unit = tmp_path / ".config/systemd/user/gpubroker-keeper.service"
    assert "keeper" in unit.read_text()
    assert ("systemctl", "--user", "enable", "gpubroker-keeper.service") in system
    assert run("keeper", "uninstall", HOME=str(tmp_path)).code == 0
    assert not unit.exists()


def test_status_tells_who_keeps_watch(run: Any, world: Any, system: list[Any]) -> None:
    ran = run("keeper", "status")
    assert ran.code == 1
    assert "No keeper runs." in ran.out
    world.kept_by = ("workstation",)
    ran = run("keeper", "status")
    assert ran.code == 0
    assert "A keeper runs on workstation." in ran.out
    assert run("keeper", "status", "--json").json["running_on"] == ["workstation"]
    assert system
