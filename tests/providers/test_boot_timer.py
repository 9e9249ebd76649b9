"""The timer on a machine: it ends it in time, can be moved, and warns before."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpubroker.providers import boot, boot_timer

PATIENCE_S = 15.0


class Box:
    """A folder that stands for a machine's home and file system."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / ".gpubroker"
        self.terminal = folder / "dev/pts/0"
        self._env = {
            "HOME": str(folder),
            "GPUBROKER_ROOT": str(folder),
            "PATH": os.environ["PATH"],
        }
        self.state.mkdir()
        self.terminal.parent.mkdir(parents=True)
        self.terminal.write_text("")
        (folder / "proc/sys/kernel/random").mkdir(parents=True)
        self._uptime = folder / "proc/uptime"
        self._boot_id = folder / "proc/sys/kernel/random/boot_id"
        self.up(100.0)
        self.boot("first")

    def up(self, seconds: float) -> None:
        fresh = self._uptime.with_suffix(".new")
        fresh.write_text(f"{seconds} {seconds}\n")
        fresh.replace(self._uptime)

    def boot(self, word: str) -> None:
        self._boot_id.write_text(f"{word}\n")

    def arm(
        self, seconds: int, end: str = 'echo ended >>"$d/ended"', *, unit: bool = False
    ) -> None:
        text = f'd="$HOME/.gpubroker"\n{boot_timer.timer(seconds, end, unit=unit)}'
        subprocess.run(["sh", "-c", text], env=self._env, check=True, timeout=PATIENCE_S)
        self.wait((self.state / "until").exists)

    def say(self, seconds: float | None) -> float | None:
        ran = subprocess.run(
            ["sh"],
            input=boot.rearmed(seconds),
            env=self._env,
            text=True,
            capture_output=True,
            check=True,
            timeout=PATIENCE_S,
        )
        assert ran.stderr == ""
        return boot.timer_told(ran.stdout)

    def kill(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((self.state / "timer").read_text()), signal.SIGKILL)

    @staticmethod
    def wait(holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < deadline, "never"
            time.sleep(0.05)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path)
    yield made
    made.kill()


def test_it_tells_how_long_the_machine_has(box: Box) -> None:
    box.arm(4000)
    assert box.say(None) == 4000
    box.up(1100.0)
    assert box.say(None) == 3000


def test_it_can_be_moved_and_told_again_what_it_was_told(box: Box) -> None:
    box.arm(4000)
    assert [box.say(9000), box.say(9000), box.say(None)] == [9000, 9000, 9000]
    assert (box.state / "left").read_text().strip() == "9000"


def test_it_ends_the_machine(box: Box) -> None:
    box.arm(2)
    box.up(103.0)
    box.wait((box.state / "ended").exists)


def test_a_machine_that_was_extended_outlives_its_former_end(box: Box) -> None:
    box.arm(2)
    assert box.say(500) == 500
    box.up(110.0)
    box.wait(lambda: (box.state / "left").read_text().strip() == "490")
    assert not (box.state / "ended").exists()


def test_a_second_timer_takes_over_from_the_first(box: Box) -> None:
    box.arm(3)
    first = (box.state / "timer").read_text()
    box.arm(3)
    box.wait(lambda: (box.state / "timer").read_text() not in {first, ""})
    box.wait(lambda: not alive(int(first)))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_after_another_boot_it_goes_on_where_it_was(box: Box) -> None:
    box.arm(4000)
    box.up(1100.0)
    assert box.say(5000) == 5000
    box.kill()
    box.boot("second")
    box.up(5.0)
    box.arm(4000, unit=True)
    box.wait(lambda: (box.state / "until").read_text().startswith("second"))
    assert box.say(None) == 5000


def test_where_none_runs_it_says_so(box: Box) -> None:
    assert box.say(None) is None
    assert box.say(4000) is None
    box.arm(4000)
    box.kill()
    assert box.say(None) is None


def test_who_is_logged_in_is_warned_once_before_the_end(box: Box) -> None:
    box.arm(3)
    box.wait(lambda: "ends in 1 min" in box.terminal.read_text())
    assert box.terminal.read_text().count("gpubroker:") == 1


def test_where_powering_off_ends_no_billing_it_only_warns(box: Box) -> None:
    box.arm(2, end="")
    box.wait(lambda: "ends in" in box.terminal.read_text())
    box.up(200.0)
    assert "poweroff" not in (box.state / "expiry").read_text()
    box.wait(lambda: (box.say(None) or 0) < 0)


def test_an_answer_that_was_cut_off_is_no_answer() -> None:
    with pytest.raises(ValueError, match="did not tell"):
        boot.timer_told("Welcome\n")
