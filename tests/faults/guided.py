"""Fuzzing of the readers in pure Python that is guided by coverage, with atheris; one process for each reader.

``python -m tests.faults.guided READER CORPUS SCRATCH COUNT`` prints the figures as JSON. libFuzzer changes the bytes of
one file of a case, keeps what reaches new lines of zoo, and stops at the first crash or hang.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path

import atheris

from tests.faults.fuzzing import HANG_S, attempt, cases_in


def main() -> None:
    reader, corpus, scratch, count = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    warnings.simplefilter("ignore")
    cases = cases_in(corpus)
    seeds = scratch / "seeds"
    seeds.mkdir(parents=True)
    for number, (_, file) in enumerate(cases):
        # The first byte chooses the case.
        (seeds / str(number)).write_bytes(bytes([number % 256]) + file.read_bytes())
    figures = {"reader": reader, "inputs": 0, "used": 0, "refused": 0}

    def read(data: bytes) -> None:
        case, file = cases[data[0] % len(cases)] if data else cases[0]
        outcome = attempt(reader, case, file, data[1:], scratch)
        if outcome not in ("used", "refused"):
            raise RuntimeError(f"{reader}, {case.name}/{file.name}: {outcome}")
        figures["inputs"] += 1
        figures[outcome] += 1
        if figures["inputs"] == count:
            print(json.dumps(figures), flush=True)
            os._exit(0)

    options = [f"-timeout={HANG_S}", f"-artifact_prefix={scratch}/", "-verbosity=0", "-rss_limit_mb=8000"]
    atheris.Setup([sys.argv[0], *options, str(seeds)], read)
    with atheris.instrument_imports(include=["zoo"]):
        attempt(reader, *cases[0], cases[0][1].read_bytes(), scratch)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
