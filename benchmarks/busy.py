"""Time a training step and a prediction for each way in which threads wait, alone and next to N busy programs.

Threads of GNU OpenMP spin while they wait for each other; see ``zoo/machine.py``. OpenMP reads its variables once, so
each setting runs in a new process, and the settings take turns. "as zoo chooses" is the setting that zoo gives to the
processes that it starts.

python benchmarks/busy.py [--busy 0,1,2] [--spin 100,10000] [--rounds 4] [--json FILE]
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from measuring import make_parser, save_rows

from zoo.machine import available_cores, cores_in_use, waiting_variables

BATCH, SIDE, STEPS = 4, 96, 3
BURN = [sys.executable, "-c", "while True: pass"]
WORK = f"""
import json, time, torch
from zoo.registry import create_model

torch.manual_seed(0)
model = create_model("unet", 7, 2, widths=(16, 32, 64, 128, 256))
images, masks = torch.randn({BATCH}, 7, {SIDE}, {SIDE}), torch.randint(0, 2, ({BATCH}, {SIDE}, {SIDE}))
optimiser = torch.optim.AdamW(model.parameters())
seconds = {{"training step": [], "prediction": []}}
for step in range({STEPS} + 1):
    start = time.perf_counter()
    torch.nn.functional.cross_entropy(model(images), masks).backward()
    optimiser.step()
    seconds["training step"].append(time.perf_counter() - start)
    start = time.perf_counter()
    with torch.inference_mode():
        model(images)
    seconds["prediction"].append(time.perf_counter() - start)
print(json.dumps({{name: values[1:] for name, values in seconds.items()}}))
"""


@contextmanager
def busy_programs(number: int) -> Iterator[None]:
    """Keep ``number`` other programs computing, each on one core at most."""
    with ExitStack() as exits:
        for _ in range(number):
            exits.callback(exits.enter_context(subprocess.Popen(BURN)).kill)
        time.sleep(0.5)
        yield


def ways(spins: list[int]) -> dict[str, dict[str, str]]:
    """Return the environment variables of each way of waiting."""
    return {
        "as torch starts": {},
        "passive": {"OMP_WAIT_POLICY": "passive"},
        **{f"spin count {spin:,}": {"GOMP_SPINCOUNT": str(spin)} for spin in spins},
        "as zoo chooses": waiting_variables(),
        "one thread": {"OMP_NUM_THREADS": "1"},
    }


def timings(variables: dict[str, str]) -> dict[str, list[float]]:
    """Return the seconds of every step in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", WORK], env={**os.environ, **variables}, check=True, capture_output=True, text=True
    )
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


def measure(busy: int, spins: list[int], rounds: int) -> list[dict[str, Any]]:
    """Return one row for each way of waiting and kind of work, beside ``busy`` other programs."""
    times: dict[tuple[str, str], list[float]] = {}
    with busy_programs(busy):
        in_use = cores_in_use(1.0)
        for _ in range(rounds):
            for way, variables in ways(spins).items():
                for work, seconds in timings(variables).items():
                    times.setdefault((work, way), []).extend(seconds)
    return [
        {
            "busy_programs": busy,
            "cores_in_use": in_use,
            "work": work,
            "waiting": way,
            "median_s": statistics.median(seconds),
            "least_s": min(seconds),
            "ratio": statistics.median(seconds) / statistics.median(times[work, "as torch starts"]),
        }
        for (work, way), seconds in sorted(times.items(), key=lambda item: item[0][0])
    ]


def main() -> None:
    """Print a table, and write its rows with --json."""
    parser = make_parser(__doc__)
    parser.add_argument("--busy", default="0,1,2", help="numbers of other programs (0,1,2)")
    parser.add_argument("--spin", default="", help="spin counts to try too, such as 100,10000")
    parser.add_argument("--rounds", type=int, default=4)
    arguments = parser.parse_args()
    spins = [int(spin) for spin in arguments.spin.split(",") if spin]
    rows = []
    print(f"{available_cores()} cores; U-Net, {BATCH} patches of 7x{SIDE}x{SIDE}, float32")
    print(f"{'others':>6} {'cores used':>10}  {'work':14} {'waiting':20} {'median s':>9} {'least s':>8} {'ratio':>6}")
    for busy in map(int, arguments.busy.split(",")):
        for row in measure(busy, spins, arguments.rounds):
            rows.append(row)
            used = "?" if row["cores_in_use"] is None else f"{row['cores_in_use']:.2f}"
            print(
                f"{busy:6} {used:>10}  {row['work']:14} {row['waiting']:20} {row['median_s']:9.3f} "
                f"{row['least_s']:8.3f} {row['ratio']:6.2f}"
            )
    save_rows(rows, arguments.json)


if __name__ == "__main__":
    main()
