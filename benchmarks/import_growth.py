"""What one more cloud costs a start that does not need it: `python benchmarks/import_growth.py`.

The package as it is, against a copy that has one cloud only: its other providers' modules are
removed, and their rows in the table. Starts are interleaved; the minimum of each is compared.
"""

from __future__ import annotations

import argparse
import compileall
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gpubroker
from gpubroker.providers.registry import BUILT_IN

ROUNDS = 40
AT_MOST = 1.05
KEPT = "vast_ai"
START = "import gpubroker, gpubroker.cli.main, gpubroker.providers.registry as r; r.ready()"


def with_one_cloud(folder: Path) -> Path:
    """A copy of the package without all clouds but one."""
    package = folder / "gpubroker"
    shutil.copytree(Path(gpubroker.__file__).parent, package)
    for target in (target for name, target in BUILT_IN.items() if name != KEPT):
        module = target.partition(":")[0].rpartition(".")[2]
        for file in (package / "providers").glob(f"{module}*.py"):
            file.unlink()
    table = package / "providers" / "registry.py"
    rows = re.compile(rf'^    "(?!{KEPT})\w+": "gpubroker\.providers\..*\n', re.MULTILINE)
    text, removed = rows.subn("", table.read_text())
    assert removed == len(BUILT_IN) - 1, "the table is written in another way"
    table.write_text(text)
    compileall.compile_dir(folder, quiet=1)
    return folder


def seconds(source: Path) -> float:
    """One start."""
    began = time.perf_counter()
    command = [
        sys.executable,
        "-P",
        "-c",
        f"import sys; sys.path.insert(0, {str(source)!r}); {START}",
    ]
    subprocess.run(command, check=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        every = Path(gpubroker.__file__).parents[1]
        compileall.compile_dir(every, quiet=1)
        one = with_one_cloud(Path(name))
        runs = [(seconds(every), seconds(one)) for _ in range(rounds)]
    best_every, best_one = (min(times) for times in zip(*runs, strict=True))
    ratio = best_every / best_one
    print(f"{len(BUILT_IN)} clouds  {best_every * 1000:6.1f} ms")
    print(f" 1 cloud   {best_one * 1000:6.1f} ms")
    print(f"{ratio:.3f} x   at most {AT_MOST:g} x   minimum of {rounds}")
    assert ratio <= AT_MOST, "a start pays for clouds that it does not need"


if __name__ == "__main__":
    main()
