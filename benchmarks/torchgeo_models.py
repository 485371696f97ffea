"""List the models of the plugin zoo-torchgeo with parameters, GMAC at 7x128x128 and the result of the contract suite.

python benchmarks/torchgeo_models.py [PATTERN ...] [--check] [--json FILE]

With --check, a model is skipped if its contract would need more memory than is free. With --json, rows in FILE are
kept and their models skipped, so an interrupted run continues.
"""

from __future__ import annotations

import argparse
import json
import warnings
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from zoo_torchgeo import variants
from zoo_torchgeo.backbones import LEFT_OUT

import zoo
from zoo.bench.speed import count_gmac
from zoo.errors import ZooError
from zoo.registry import catalogue
from zoo.testing import run_checks

COPIES = 6
"""Copies of the weights that the contract suite holds: two models, initial weights, gradients, Adam's two moments."""


def free_bytes() -> int:
    """Return the memory that is free on this machine."""
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    return int(line.split()[1]) * 1024


def measure(name: str, check: bool) -> dict[str, Any]:
    """Return the row of one model."""
    spec = catalogue().models.get(f"torchgeo/{name}")
    row: dict[str, Any] = {"model": spec.name, "minimum_size": spec.minimum_size, "weights": len(spec.encoder_weights)}
    try:
        with torch.device("meta"):
            model = zoo.create_model(spec.name)
        row["parameters"] = sum(one.numel() for one in model.parameters() if one.requires_grad)
        # Without memory for the weights; some constants are computed on the CPU and follow.
        row["gmac"] = round(count_gmac(model.to("meta"), (7, 128, 128), torch.device("meta")), 2)
    except ZooError as error:
        return {**row, "contract": f"not made: {error.problem}"}
    needed = COPIES * 4 * row["parameters"]
    if not check:
        return {**row, "contract": "not run"}
    if needed > free_bytes():
        return {**row, "contract": f"not run: needs about {needed / 1e9:.0f} GB of memory"}
    results = run_checks(spec.name)
    failed = [f"{result.check}: {result.message}" for result in results if result.status == "failed"]
    return {**row, "contract": "; ".join(failed) or "passed"}


def main() -> None:
    """Print the table, and keep its rows with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("patterns", nargs="*", default=["*"])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = json.loads(arguments.json.read_text()) if arguments.json and arguments.json.is_file() else []
    done = {row["model"] for row in rows}
    # The models that are named after weights have the architecture of their backbone.
    named = {one.lower() for fields in variants("torchgeo").values() for one in fields["encoder_weights"]}
    plain = [name for name in variants("torchgeo") if name.rpartition("-")[2] not in named]
    print(f"{'model':36} {'parameters':>12} {'GMAC':>7} {'weights':>8}  contract", flush=True)
    for name in plain:
        if f"torchgeo/{name}" in done or not any(fnmatchcase(name, pattern) for pattern in arguments.patterns):
            continue
        rows.append(measure(name, arguments.check))
        if arguments.json:
            arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    for row in rows:
        counted = f"{row['parameters']:>12,} {row['gmac']:>7.2f}" if "gmac" in row else f"{'':>12} {'':>7}"
        print(f"{row['model']:36} {counted} {row['weights']:>8}  {row['contract']}")
    for name, reason in LEFT_OUT.items():
        print(f"{name}: left out, {reason}")


if __name__ == "__main__":
    main()
