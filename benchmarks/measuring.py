"""Shared parts of the benchmarks: the option --json, and a job in its own process with its time and peak memory."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the option --json."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file")
    return parser


def save_rows(rows: Sequence[Mapping[str, Any]], path: Path | None) -> None:
    """Write the rows as JSON if a file was named."""
    if path is not None:
        path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def run_job(code: str, *arguments: object) -> tuple[str, float, float]:
    """Run Python code, which must print /proc/self/status; return its output, wall seconds and peak memory in MB."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True, check=True
    )
    seconds = time.perf_counter() - begin
    found = re.search(r"VmHWM:\s+(\d+) kB", done.stdout)
    assert found is not None, "this needs Linux's /proc"
    return done.stdout, seconds, int(found[1]) / 1024


def compare_sides(description: str | None, sides: str, code: str, write: Callable[[Path, int], None]) -> None:
    """Print peak memory and time of a job on inputs of several sizes, the last beside the first.

    Args:
        description: text of --help.
        sides: pixels along a side, separated by commas, if --sides does not name others.
        code: the job, for :func:`run_job`, which gets the folder of its input as argument.
        write: writes the input of a side to a folder.
    """
    parser = make_parser(description)
    parser.add_argument("--sides", default=sides, help="pixels along a side, separated by commas")
    arguments = parser.parse_args()
    rows = []
    print(f"{'pixels':>15}  {'peak MB':>8}  {'seconds':>8}  {'Mpx/s':>6}  {'bands in memory MB':>18}")
    for side in map(int, arguments.sides.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), side)
            _, seconds, peak = run_job(code, folder)
        rows.append({"side": side, "peak_mb": peak, "seconds": seconds})
        print(
            f"{side:>6} x {side:<6}  {peak:8.0f}  {seconds:8.1f}  {side**2 / 1e6 / seconds:6.2f}  "
            f"{side**2 * 7 * 4 / 2**20:18.0f}",
            flush=True,
        )
    print(f"{rows[-1]['side'] ** 2 / rows[0]['side'] ** 2:.1f} x the pixels, ", end="")
    print(f"{rows[-1]['peak_mb'] / rows[0]['peak_mb']:.2f} x the peak memory")
    save_rows(rows, arguments.json)
