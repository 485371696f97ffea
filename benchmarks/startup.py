"""Compare the start-up time of the command line, and the imports of large commands, with importing torch.

Install the plugin zoo-smp to see the cost of thousands of models; ``zoo models --all`` prints a row for each.
"libraries" is the part that every command needs. Bytecode is kept, as in an installation.

python benchmarks/startup.py [--repeats 15]
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import make_parser, save_rows

ZOO = str(Path(sys.executable).with_name("zoo"))
COMMANDS = {
    "python": [sys.executable, "-c", "pass"],
    "libraries": [sys.executable, "-c", "import importlib.metadata, click, pluggy"],
    "zoo --help": [ZOO, "--help"],
    "zoo models": [ZOO, "models"],
    "without plugins": ["env", "ZOO_PLUGINS=none", ZOO, "models"],
    "zoo models --all": [ZOO, "models", "--all"],
    "list_models": [sys.executable, "-c", "import zoo; print(len(zoo.list_models('*')))"],
    "zoo plugins": [ZOO, "plugins"],
    **{
        f"imports of {name}": [sys.executable, "-c", f"import {modules}"]
        for name, modules in {
            "zoo stack": "zoo.rasters.stacking",
            "zoo risk": "zoo.risk.mapping, zoo.risk.calibration",
            "zoo evaluate": "zoo.training.evaluate, zoo.datasets.folder",
            "zoo map": "zoo.mapping.pipeline",
            "zoo train": "zoo.bench.trial",
        }.items()
    },
    "import torch": [sys.executable, "-c", "import torch"],
}


def seconds(command: list[str], bytecode: str) -> tuple[float, float]:
    """Wall-clock seconds and processor seconds of one run."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    start, used = time.perf_counter(), processor_seconds()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.perf_counter() - start, processor_seconds() - used


def processor_seconds() -> float:
    """Processor seconds of all finished child processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Print a table, and write its rows with --json."""
    parser = make_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as bytecode:
        for command in COMMANDS.values():
            seconds(command, bytecode)  # the first run reads files from the disk and compiles
        for _ in range(arguments.repeats):
            for name, command in COMMANDS.items():
                times[name].append(seconds(command, bytecode))
    rows = []
    for name, values in times.items():
        wall, processor = zip(*values, strict=True)
        rows.append(
            {
                "command": name,
                "median_ms": 1000 * statistics.median(wall),
                "least_ms": 1000 * min(wall),
                "processor_ms": 1000 * statistics.median(processor),
            }
        )
    torch = rows[-1]["median_ms"]
    print(f"{'command':24} {'median ms':>10} {'least ms':>10} {'processor ms':>13} {'of torch':>9}")
    for row in rows:
        print(
            f"{row['command']:24} {row['median_ms']:10.0f} {row['least_ms']:10.0f} {row['processor_ms']:13.0f} "
            f"{row['median_ms'] / torch:9.3f}"
        )
    listed = subprocess.run(COMMANDS["list_models"], check=True, capture_output=True, text=True).stdout.strip()
    print(f"{listed} models")
    save_rows(rows, arguments.json)


if __name__ == "__main__":
    main()
