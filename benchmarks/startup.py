"""How long a call takes, as a ratio to a bare Python: `python benchmarks/startup.py [--runs 20]`.

Byte code is compiled first. Calls are interleaved, so that a busy moment of the machine hits all
of them; the minimum of each is compared with the minimum of `python -c pass`.
"""

from __future__ import annotations

import argparse
import compileall
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

ROUNDS = 20
CALLS: dict[str, list[str]] = {
    "--help": ["--help"],
    "ps (store)": ["ps"],
    "ps --json": ["ps", "--json"],
    "offers (cached)": ["offers", "--cached", "--gpu", "4090"],
    "offers (auto)": ["offers", "--gpu", "4090"],
}
BARE = "python -c pass"


def seconds(command: list[str], environ: dict[str, str]) -> float:
    """One call, from start to exit."""
    began = time.perf_counter()
    subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return time.perf_counter() - began


def measure(rounds: int, environ: dict[str, str]) -> dict[str, float]:
    """Minimum seconds of each call."""
    commands = {BARE: [sys.executable, "-c", "pass"]}
    commands |= {name: [sys.executable, "-m", "gpubroker", *argv] for name, argv in CALLS.items()}
    best: dict[str, float] = {}
    for command in commands.values():  # makes the store, warms the file cache
        seconds(command, environ)
    for _ in range(rounds):
        for name, command in commands.items():
            best[name] = min(seconds(command, environ), best.get(name, float("inf")))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=ROUNDS)
    rounds = parser.parse_args().runs
    import gpubroker

    for folder in (Path(gpubroker.__file__).parent, sysconfig.get_paths()["purelib"]):
        compileall.compile_dir(str(folder), quiet=2, workers=0)
    with tempfile.TemporaryDirectory() as home:
        keep = {"PATH", "HOME", "LANG"}
        environ = {name: value for name, value in os.environ.items() if name in keep}
        best = measure(rounds, environ | {"GPUBROKER_HOME": home})
    bare = best.pop(BARE)
    print(f"{BARE:<18} {bare * 1000:7.1f} ms   minimum of {rounds}")
    for name, took in best.items():
        print(f"{name:<18} {took * 1000:7.1f} ms   {took / bare:5.2f} x")


if __name__ == "__main__":
    main()
