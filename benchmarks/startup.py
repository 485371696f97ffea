"""Start-up of the command line against importing torch, interleaved, medians.

python benchmarks/startup.py [--repeats 15]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ZOO = str(Path(sys.executable).with_name("zoo"))
COMMANDS = {
    "python": [sys.executable, "-c", "pass"],
    "zoo --help": [ZOO, "--help"],
    "zoo models": [ZOO, "models"],
    "zoo plugins": [ZOO, "plugins"],
    "import torch": [sys.executable, "-c", "import torch"],
}


def seconds(command: list[str]) -> float:
    """Wall-clock seconds of one run."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Print a table, and write its rows with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for command in COMMANDS.values():
        seconds(command)  # the first run reads files from the disk
    for _ in range(arguments.repeats):
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))
    torch = statistics.median(times["import torch"])
    rows = [
        {
            "command": name,
            "median_ms": 1000 * statistics.median(values),
            "least_ms": 1000 * min(values),
            "ratio_to_torch": statistics.median(values) / torch,
        }
        for name, values in times.items()
    ]
    print(f"{'command':14} {'median ms':>10} {'least ms':>10} {'of torch':>9}")
    for row in rows:
        print(f"{row['command']:14} {row['median_ms']:10.0f} {row['least_ms']:10.0f} {row['ratio_to_torch']:9.3f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
