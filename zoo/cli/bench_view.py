"""Show the progress of a benchmark: a live table on a terminal, occasional lines in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from zoo.api.benchmark import BenchmarkView
from zoo.bench.config import TrialConfig
from zoo.bench.leaderboard import make_rows
from zoo.bench.results import SplitSizes, TrialResult
from zoo.bench.time_left import TimeLeft
from zoo.cli.console import err, note, warn
from zoo.cli.progress import LazyProgressBar
from zoo.errors import ResultError

if TYPE_CHECKING:
    from zoo.bench.benchmark import Setting
    from zoo.bench.plan import Plan
    from zoo.datasets.audit import AuditSummary
    from zoo.datasets.base import PatchDataset
    from zoo.datasets.source import DataSource

LOG_EVERY_S = 15.0
RESERVED_LINES = 6
"""Terminal lines reserved for the heading of the table, the clock and earlier output."""


class BenchView:
    """Progress display of trials: a context manager and a :class:`zoo.bench.runner.Listener`.

    Args:
        trials: all trials, including finished ones.
        console: console of standard error.
        sizes: number of patches in each split, by setting.
        pixels: pixels of a patch, by setting.
    """

    def __init__(
        self,
        trials: Sequence[TrialConfig],
        console: Console,
        sizes: Mapping[str, SplitSizes],
        pixels: Mapping[str, int],
    ) -> None:
        from zoo.bench.plan import relative_costs

        self.trials = list(trials)
        self.console = console
        self.results: dict[str, TrialResult] = {}
        self._stage: dict[str, str] = {}
        self._running: dict[str, TrialConfig] = {}
        self._time_left = TimeLeft(
            {trial.file_stem: relative_costs(trial, sizes[trial.setting], pixels[trial.setting]) for trial in trials},
            frozenset(trial.file_stem for trial in trials if trial.adapted),
        )
        self._started = time.monotonic()
        self._logged = 0.0
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=4, transient=True)

    @classmethod
    def of_run(cls, config: TrialConfig, splits: Mapping[str, PatchDataset], console: Console) -> BenchView:
        """Return the view of a single training run on these splits."""
        sizes = SplitSizes(*(len(splits[split]) for split in ("train", "val", "test")))
        pixels = splits["test"][0]["mask"].numel()
        return cls([config], console, {config.setting: sizes}, {config.setting: pixels})

    @property
    def done(self) -> int:
        """Number of trials that have a result."""
        return len(self.results)

    def __enter__(self) -> BenchView:
        self._started = time.monotonic()
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def kept(self, config: TrialConfig, result: TrialResult) -> None:
        """Count a trial of an earlier call."""
        self.results[config.file_stem] = result
        self._time_left.kept(config.file_stem)
        self._line(config, f"kept from an earlier run, {_outcome(result)}")

    def damaged(self, error: ResultError) -> None:
        """Warn that a trial is repeated because its result file cannot be used."""
        warn(f"the trial of {error.where} is repeated: {error.problem}")

    def progress(self, config: TrialConfig, stage: str, done: int, total: int) -> None:
        """Move the bar of a trial."""
        self._time_left.progress(config.file_stem, stage, done, total)
        self._stage[config.file_stem] = f"{stage} {done}/{total}" if total > 1 else stage
        self._running[config.file_stem] = config
        if time.monotonic() - self._logged > LOG_EVERY_S:
            self._line(config, f"{self._stage[config.file_stem]}{self._time_left_text(', {} left in total')}")

    def finished(self, config: TrialConfig, result: TrialResult) -> None:
        """Count a trial of this call."""
        self.results[config.file_stem] = result
        self._time_left.finished(config.file_stem, ok=result.ok)
        self._running.pop(config.file_stem, None)
        seconds = result.seconds
        self._line(config, _outcome(result) + (f" in {seconds:.0f} s" if seconds else ""))

    def _line(self, config: TrialConfig, text: str) -> None:
        if self.console.is_terminal:
            return
        self._logged = time.monotonic()
        place = self.trials.index(config) + 1
        where = f", {config.setting}" if config.setting else ""
        self.console.print(
            Text(f"[{place}/{len(self.trials)}] {config.label} seed {config.seed}{where}: {text}"), soft_wrap=True
        )

    def _time_left_text(self, pattern: str) -> str:
        seconds = self._time_left.seconds()
        return "" if seconds is None else pattern.format(_clock(seconds))

    def _visible_trials(self) -> list[TrialConfig]:
        """Return all trials; on a terminal with too few lines, only running trials and their neighbours."""
        room = max(3, self.console.height - RESERVED_LINES)
        if len(self.trials) <= room:
            return self.trials
        running = [config for config in self.trials if config.file_stem in self._running]
        ended = [config for config in self.trials if config.file_stem in self.results]
        coming = [config for config in self.trials if config.file_stem not in self.results and config not in running]
        kept = {config.file_stem for config in [*running, *ended[::-1], *coming][:room]}
        return [config for config in self.trials if config.file_stem in kept]

    def _render(self) -> RenderableType:
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
        table.add_column("model")
        table.add_column("", width=24)
        table.add_column("now")
        for heading in ("Dice", "Prec.", "Recall"):
            table.add_column(heading, justify="right")
        several = len({config.seed for config in self.trials}) > 1
        shown = self._visible_trials()
        for config in shown:
            name = Text(f"{config.label} #{config.seed}" if several else config.label)
            if config.setting:
                name.append(f"  {config.setting}", style="dim")
            result = self.results.get(config.file_stem)
            if result is None:
                share = self._time_left.share(config.file_stem)
                stage = self._stage.get(config.file_stem, "waiting")
                table.add_row(name, ProgressBar(total=1.0, completed=share), stage)
            elif result.ok:
                figures = make_rows([result])[0].figures
                cells = [
                    _three_decimals(figures["dice"]),
                    _three_decimals(figures["precision"]),
                    _three_decimals(figures["recall"]),
                ]
                table.add_row(name, ProgressBar(total=1.0, completed=1.0), "done", *cells)
            else:
                table.add_row(name, "", Text(f"{result.status}: {result.error}", style="red", overflow="ellipsis"))
        spent = time.monotonic() - self._started
        counts = f"{self.done} of {len(self.trials)} trials done, {len(self._running)} running; "
        clock = f"{_clock(spent)} spent{self._time_left_text(', about {} left')}   Ctrl-C keeps finished trials"
        if len(shown) < len(self.trials):
            clock = counts + clock
        return Group(table, Text(clock, style="dim"))


def warn_of_precision(config: TrialConfig) -> None:
    """Warn if the device of a trial is slow in the precision of its recipe."""
    from zoo.bench.plan import precision_problem

    problem = precision_problem(config)
    if problem:
        warn(problem)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"


def _outcome(result: TrialResult) -> str:
    if not result.ok:
        return f"{result.status}: {result.error}"
    figures = make_rows([result])[0].figures
    micro = None if result.training is None else result.training.micro_batch
    halved = f", {micro} patches at a time for lack of memory" if result.attempts else ""
    return f"Dice {_three_decimals(figures['dice'])}{halved}"


def _three_decimals(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


class TerminalView(BenchmarkView):
    """View of ``zoo bench``: prints data, audit, progress and interruptions."""

    def __init__(self) -> None:
        self._bar = LazyProgressBar()
        self._view: BenchView | None = None

    def setting(self, setting: Setting) -> None:
        """Print the name of the setting."""
        if setting.name:
            note(f"setting {setting.name}")

    def open_splits(self, source: DataSource) -> dict[str, PatchDataset]:
        """Open the splits with a progress bar and print a summary."""
        from zoo.cli.opening import open_splits

        return open_splits(source)

    def audit(self, splits: Mapping[str, PatchDataset], fingerprints: Mapping[str, str]) -> AuditSummary:
        """Print the verdict of the audit."""
        from zoo.cli.audit import print_verdict

        found = super().audit(splits, fingerprints)
        print_verdict(found)
        return found

    def measuring(self, number: int, total: int, config: TrialConfig) -> None:
        """Update the bar, or print a line in a log."""
        self._bar.show("measuring", number, total)
        if not err().is_terminal:
            note(f"[{number + 1}/{total}] timing a few steps of {config.label}")

    def trials(self, plan: Plan) -> AbstractContextManager[None]:
        """Show the table of trials while they run."""
        self._bar.stop()
        return self._trials(plan)

    @contextmanager
    def _trials(self, plan: Plan) -> Iterator[None]:
        trials, recipe = plan.trials, plan.benchmark.recipe
        steps = " or ".join(map(str, sorted(set(plan.steps.values()))))
        note(
            f"recipe {recipe.name}: {steps} steps of batch {recipe.batch_size} for every model; "
            f"{len(trials)} trial{'s' if len(trials) > 1 else ''} on {trials[0].device}"
        )
        warn_of_precision(trials[0])
        self._view = BenchView(trials, err(), plan.sizes, plan.pixels)
        try:
            with self._view:
                yield
        except KeyboardInterrupt:
            warn(
                f"stopped; {self._view.done} of {len(trials)} trials are finished; the same command continues from "
                "there"
            )
            raise

    def kept(self, config: TrialConfig, result: TrialResult) -> None:
        """Count a trial of an earlier call."""
        if self._view is not None:
            self._view.kept(config, result)

    def damaged(self, error: ResultError) -> None:
        """Warn that a trial is repeated."""
        if self._view is not None:
            self._view.damaged(error)

    def progress(self, config: TrialConfig, stage: str, done: int, total: int) -> None:
        """Move the bar of a trial."""
        if self._view is not None:
            self._view.progress(config, stage, done, total)

    def finished(self, config: TrialConfig, result: TrialResult) -> None:
        """Count a trial of this call."""
        if self._view is not None:
            self._view.finished(config, result)

    def timing(self, done: int, total: int) -> None:
        """Update the bar; print once what is timed."""
        if not self._bar.active:
            note("timing the models in rounds, each time in a fresh process")
        self._bar.show("timing", done, total)

    def stop(self) -> None:
        """Remove the progress bar."""
        self._bar.stop()
