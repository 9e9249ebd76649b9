"""What a keeper with nothing to do costs: `python benchmarks/keeper_idle.py [--seconds 180]`.

A real `gpubroker keeper run` keeps machines of a sandbox that nothing is due for: it looks at their
account once a minute. CPU time is read from the system after the start, and told per hour, beside
that of an interpreter that only sleeps. Fails above 1 % of one core. Linux only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MOST = 0.01
SETTLED_S = 20.0
"""After its start and its first round."""
MACHINES = 3


def cpu_s(pid: int) -> float:
    """User and system time of a process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def measured(argv: list[str], environ: dict[str, str], seconds: float) -> float:
    """CPU seconds per hour of a process that runs on."""
    process = subprocess.Popen(argv, env=environ, stderr=subprocess.DEVNULL)
    try:
        time.sleep(SETTLED_S)
        before, began = cpu_s(process.pid), time.monotonic()
        time.sleep(seconds)
        return (cpu_s(process.pid) - before) / (time.monotonic() - began) * 3600
    finally:
        process.terminate()
        process.wait()


def main() -> int:
    """Prints the figures; 1 where the keeper needs too much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as home:
        environ = {"PATH": os.environ["PATH"], "HOME": home, "GPUBROKER_HOME": f"{home}/state"}
        broker = [sys.executable, "-m", "gpubroker", "--sandbox"]
        try:
            for number in range(MACHINES):
                subprocess.run(
                    [*broker, *f"launch --provider vast --ttl 24h --name m-{number}".split()],
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    check=True,
                )
            bare = measured(
                [sys.executable, "-c", "import time; time.sleep(9999)"], environ, min(seconds, 10.0)
            )
            kept = measured([*broker, "keeper", "run"], environ, seconds)
        finally:
            subprocess.run([*broker, "sandbox", "stop"], env=environ, check=False)
    print(f"interpreter that waits   {bare:7.1f} CPU s per hour")
    share = f"{kept / 3600:.2%} of a core"
    print(f"keeper, {MACHINES} machines, idle  {kept:7.1f} CPU s per hour, {share}")
    return int(kept / 3600 > MOST)


if __name__ == "__main__":
    sys.exit(main())
