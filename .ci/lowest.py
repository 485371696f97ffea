"""Print the direct dependencies of pyproject.toml, each pinned to the lowest version that its bound allows.

python .ci/lowest.py [EXTRA...] > lowest.txt    # base dependencies, and those of the extras
"""

import re
import sys
import tomllib
from pathlib import Path

PROJECT = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text(encoding="utf-8"))["project"]
BOUND = re.compile(r"([A-Za-z0-9._-]+)(\[[^\]]*\])?>=([0-9.]+)")


def lowest(extras: list[str]) -> dict[str, str]:
    """Return the lowest version of each direct dependency by name; of two bounds, the higher one counts."""
    found: dict[str, str] = {}
    optional = PROJECT["optional-dependencies"]
    for text in (*PROJECT["dependencies"], *(one for extra in extras for one in optional[extra])):
        match = BOUND.match(text)
        if match is None:
            raise SystemExit(f"{text!r} has no lower bound")
        name, version = match[1], match[3]
        parts = [int(part) for part in version.split(".")]
        if name not in found or parts > [int(part) for part in found[name].split(".")]:
            found[name] = version
    return found


if __name__ == "__main__":
    for name, version in sorted(lowest(sys.argv[1:]).items()):
        print(f"{name}=={version}.*")
