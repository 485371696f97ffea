"""Write the tables of the documents from committed results, or check them.

    python benchmarks/render_tables.py                                  # write the tables
    python benchmarks/render_tables.py --check                          # change nothing; exit code 1 if they differ
    python benchmarks/render_tables.py --compact benchmarks/results/quick   # make result files small enough to commit

A table stands between two comments, and the text between them is replaced. The first comment names a folder with
trials/*.json, relative to the repository:

    <!-- table: benchmarks/results/quick -->
    <!-- end of table -->
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from zoo.bench.results import FOLDER, load_results
from zoo.bench.tables import markdown_tables
from zoo.errors import ResultError, ZooError
from zoo.files import write_text_atomic

REPOSITORY = Path(__file__).resolve().parents[1]
DOCUMENTS = ("*.md", "docs/**/*.md", "benchmarks/**/*.md", "plugins/*/*.md")
BEGIN = re.compile(r"^<!-- table: (?P<folder>\S+) -->$")
END = "<!-- end of table -->"
FENCE = "```"


def render(text: str, repository: Path, where: Path) -> str:
    """Return the text of a document with its tables written from the results.

    Args:
        text: text of the document; markers within blocks of code are examples and stay.
        repository: folder that the paths in the markers are relative to.
        where: path of the document, for errors.

    Raises:
        ResultError: if a marker has no end, or a folder has no results or a result that cannot be used.
    """
    lines, fenced, rendered = iter(enumerate(text.splitlines(), start=1)), False, []
    for number, line in lines:
        fenced ^= line.startswith(FENCE)
        rendered.append(line)
        found = None if fenced else BEGIN.match(line)
        if found is None:
            continue
        if not any(later == END for _, later in lines):
            raise ResultError(f"the table has no end: a line {END!r} is missing", where=f"{where}:{number}")
        folder = repository / found["folder"]
        results, problems = load_results(folder)
        if problems:
            raise problems[0]
        rendered += ["", *markdown_tables(results).splitlines(), "", END]
    return "\n".join(rendered) + "\n"


def compact(folder: Path) -> list[tuple[Path, int, int]]:
    """Rewrite result files and pictures without indentation.

    Returns:
        Each file with its number of bytes before and after.
    """
    load_results(folder)
    changed = []
    for path in sorted(folder.glob("*/*.json")):
        before = path.stat().st_size
        content = json.loads(path.read_text(encoding="utf-8"))
        write_text_atomic(path, json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n")
        changed.append((path, before, path.stat().st_size))
    return changed


def main(arguments: Sequence[str] | None = None) -> int:
    """Write, check or compact tables; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="print the differences and change nothing")
    parser.add_argument("--compact", type=Path, metavar="FOLDER", help=f"rewrite FOLDER/{FOLDER} without indentation")
    parser.add_argument("--repository", type=Path, default=REPOSITORY, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    try:
        if given.compact is not None:
            for path, before, after in compact(given.compact):
                print(f"{path}: {before / 1e3:.0f} kB -> {after / 1e3:.0f} kB")
            return 0
        return _documents(given.repository, check=given.check)
    except ZooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _documents(repository: Path, *, check: bool) -> int:
    stale = False
    for path in sorted({path for pattern in DOCUMENTS for path in repository.glob(pattern)}):
        place = path.relative_to(repository)
        before = path.read_text(encoding="utf-8")
        after = render(before, repository, place) if "<!-- table: " in before else before
        if after == before:
            continue
        if check:
            stale = True
            print("".join(difflib.unified_diff(
                before.splitlines(keepends=True), after.splitlines(keepends=True), str(place), "from the results"
            )), end="")  # fmt: skip
        else:
            write_text_atomic(path, after)
            print(f"wrote {place}")
    if stale:
        print("the tables above differ from the results; run: python benchmarks/render_tables.py", file=sys.stderr)
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
