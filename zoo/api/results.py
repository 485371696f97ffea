"""Results of a benchmark: read a folder, show its tables, compare it with another one, write its report."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, overload

from zoo.errors import ResultError, ZooError

if TYPE_CHECKING:
    import pandas as pd

    from zoo.bench.changes import Change
    from zoo.bench.leaderboard import Leaderboard
    from zoo.bench.results import TrialResult
    from zoo.evaluation.columns import Value

PLAIN_WIDTH = 200
"""Width of a table as text, in characters."""


class Results(Sequence["TrialResult"]):
    """The trials of a results folder, as a sequence, with the tables and the report computed from them.

    In a notebook, one table per setting is displayed. Trials with different data, recipes or devices belong to
    different settings and never share a table.

    Args:
        trials: the trials.
        folder: folder that they were read from, or ``None``. The report reads its pictures from there.
        problems: errors of result files that could not be used.
        baseline: label of the model that the others are compared with; by default that of the configuration, otherwise
            ``unet`` if present, otherwise the best.

    Raises:
        UnknownNameError: if no model with figures has the label ``baseline``.

    Example:
        >>> results = zoo.read_results("results")  # doctest: +SKIP
        >>> results.to_pandas()[["model", "dice", "group"]]  # doctest: +SKIP
        >>> results.html("report.html")  # doctest: +SKIP
    """

    def __init__(
        self,
        trials: Sequence[TrialResult],
        *,
        folder: Path | None = None,
        problems: Sequence[ZooError] = (),
        baseline: str | None = None,
    ) -> None:
        self.trials = tuple(trials)
        self.folder = folder
        self.problems = tuple(problems)
        self.baseline = baseline

    @cached_property
    def leaderboards(self) -> list[Leaderboard]:
        """One leaderboard per setting: rows with means over seeds, intervals, differences and groups."""
        from zoo.bench.leaderboard import make_leaderboards

        return make_leaderboards(self.trials, self.baseline)

    def to_pandas(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Return one row per model and setting, with unrounded values; undefined figures are NaN.

        Args:
            columns: keys of columns (:func:`zoo.evaluation.columns.all_columns`), or ``all``; ``None`` for every value
                of the leaderboard.

        Raises:
            UnknownNameError: if there is no such column.
        """
        import pandas as pd

        return pd.DataFrame(self._records(columns))

    def table(self, columns: Sequence[str] | None = None, *, width: int = PLAIN_WIDTH) -> str:
        """Return the tables as plain text, with their warnings and notes.

        Args:
            columns: keys of the columns to show; ``None`` for the default ones.
            width: characters per line; default columns that do not fit are left out and named.

        Raises:
            UnknownNameError: if there is no such column.
        """
        from zoo.bench.tables import plain_section

        return "\n".join(plain_section(board, width, columns) for board in self.leaderboards)

    def markdown(self, columns: Sequence[str] | None = None) -> str:
        """Return the tables in GitHub Markdown, with their warnings and notes; see :meth:`table`."""
        from zoo.bench.tables import markdown_section

        return "\n".join(markdown_section(board, columns) for board in self.leaderboards)

    def csv(self, columns: Sequence[str] | None = None) -> str:
        """Return the rows of all settings as CSV with unrounded values; see :meth:`to_pandas`."""
        from zoo.bench.tables import comma_separated

        return comma_separated(self._records(columns))

    def json(self, columns: Sequence[str] | None = None) -> str:
        """Return the rows of all settings as a JSON list with unrounded values; see :meth:`to_pandas`."""
        from zoo.bench.tables import as_json

        return as_json(self._records(columns))

    def _records(self, columns: Sequence[str] | None) -> list[dict[str, Value]]:
        """Return every row with the name of its setting, which is the whole description if headings are equal."""
        from zoo.bench.tables import records

        headings = [board.heading for board in self.leaderboards]
        return [
            {"setting": heading if headings.count(heading) == 1 else board.description, **record}
            for heading, board in zip(headings, self.leaderboards, strict=True)
            for record in records(board.rows, columns)
        ]

    def html(self, path: str | os.PathLike[str]) -> Path:
        """Write the report: one self-contained HTML page with tables, charts and pictures.

        Returns:
            The path.

        Raises:
            ConfigError: if the path is one of the files that the report reads.
            ZooError: if the file cannot be written.
        """
        from zoo.bench.page.document import render_page
        from zoo.bench.results import files_of
        from zoo.files import check_output, write_text_atomic

        page = Path(path)
        folder = None if self.folder is None else self.folder.resolve()
        check_output(page, [] if folder is None else files_of(folder), overwrite=True)
        write_text_atomic(page, render_page(self.leaderboards, folder, self.problems))
        return page

    def compare(self, before: Results) -> list[Change]:
        """Return the changes since earlier results for each model, and whether they exceed noise.

        Raises:
            ResultError: if the results have no test split in common.
        """
        from zoo.bench.changes import compare_results

        return compare_results(self.trials, before.trials)

    @overload
    def __getitem__(self, index: int) -> TrialResult: ...

    @overload
    def __getitem__(self, index: slice) -> Results: ...

    def __getitem__(self, index: int | slice) -> TrialResult | Results:
        if isinstance(index, slice):
            return Results(self.trials[index], folder=self.folder)
        return self.trials[index]

    def __len__(self) -> int:
        return len(self.trials)

    def __iter__(self) -> Iterator[TrialResult]:
        return iter(self.trials)

    def __repr__(self) -> str:
        models = len({trial.config.label for trial in self.trials})
        failed = sum(not trial.ok for trial in self.trials)
        parts = [f"{len(self)} trials of {models} models"]
        parts += [f"{failed} without figures"] if failed else []
        parts += [f"{len(self.problems)} files that could not be used"] if self.problems else []
        parts += [f"from {self.folder}"] if self.folder is not None else []
        return f"<Results: {', '.join(parts)}>"

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        from zoo.bench.page.document import render_table

        return "\n".join(render_table(board) for board in self.leaderboards)


def read_results(folder: str | os.PathLike[str], *, baseline: str | None = None) -> Results:
    """Read the results of a benchmark.

    A file that is truncated, edited or written by a newer version is skipped; :attr:`Results.problems` names it.

    Args:
        folder: folder that ``zoo bench`` or :func:`zoo.benchmark` wrote to.
        baseline: label of the model that the others are compared with; by default that of the configuration, else
            ``unet`` if present, else the best.

    Raises:
        ResultError: if there is no such folder, or it holds no results; folders inside that do are named.
        UnknownNameError: if no model with figures is called ``baseline``.
    """
    from zoo.bench.results import FOLDER, load_results

    place = Path(folder)
    if place.is_dir() and not (place / FOLDER).is_dir():
        inside = sorted(path.parent.name for path in place.glob(f"*/{FOLDER}") if path.is_dir())
        if inside:
            names = ", ".join(inside[:20]) + (f" and {len(inside) - 20} more" if len(inside) > 20 else "")
            raise ResultError(
                f"holds no results itself; {len(inside)} folders inside do: {names}",
                where=place,
                hint=f"Name one of them: zoo report {place / inside[0]}",
            )
    loaded, problems = load_results(place)
    trials, others = _with_equal_images(loaded, place)
    return Results(trials, folder=place, problems=[*problems, *others], baseline=baseline)


def _with_equal_images(trials: Sequence[TrialResult], folder: Path) -> tuple[list[TrialResult], list[ResultError]]:
    """Return the trials, and an error for each whose test images differ from those of most trials of its setting.

    The data of a setting have one sha256, so their images have the same names unless a file was edited.
    """
    from zoo.bench.results import group_by_setting, result_path

    edited: dict[int, ResultError] = {}
    for group in group_by_setting(trials):
        good = [trial for trial in group if trial.ok]
        common = Counter((trial.test.names, trial.test.groups) for trial in good).most_common(1)
        for trial in good:
            if (trial.test.names, trial.test.groups) != common[0][0]:
                edited[id(trial)] = ResultError(
                    "names other test images than the other trials of its setting; was it edited?",
                    where=result_path(folder, trial.config),
                    hint="Delete it and run the same zoo bench again: only that trial is repeated",
                )
    return [trial for trial in trials if id(trial) not in edited], list(edited.values())
