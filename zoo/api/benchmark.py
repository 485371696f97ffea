"""Compare models on the same data: ``zoo.benchmark`` and ``zoo bench``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ConfigError

if TYPE_CHECKING:
    from zoo.api.results import Results
    from zoo.bench.benchmark import Benchmark, ModelEntry, Setting
    from zoo.bench.config import TrialConfig
    from zoo.bench.plan import Estimate, Plan
    from zoo.bench.results import TrialResult
    from zoo.bench.speed_session import SpeedReport, SpeedSubject
    from zoo.datasets.audit import AuditSummary
    from zoo.datasets.base import PatchDataset
    from zoo.datasets.source import DataSource
    from zoo.errors import ResultError
    from zoo.jobs import Executor, JobProgress


class BenchmarkView:
    """Callbacks that show the progress of a benchmark. This class shows nothing; subclasses override its methods."""

    def setting(self, setting: Setting) -> None:
        """Called before the data of a setting are opened."""

    def open_splits(self, source: DataSource) -> dict[str, PatchDataset]:
        """Open the splits of a data set."""
        from zoo.bench.plan import open_splits

        return open_splits(source)

    def audit(self, splits: Mapping[str, PatchDataset], fingerprints: Mapping[str, str]) -> AuditSummary:
        """Audit the splits; a failed audit does not stop the benchmark."""
        from zoo.bench.plan import audit_splits

        return audit_splits(splits, fingerprints)

    def measuring(self, number: int, total: int, config: TrialConfig) -> None:
        """Called before a model is measured for the estimate, with its number, the total and one of its trials."""

    def trials(self, plan: Plan) -> AbstractContextManager[None]:
        """Return a context manager that is active while trials run."""
        return nullcontext()

    def kept(self, config: TrialConfig, result: TrialResult) -> None:
        """Called for a trial that an earlier call finished."""

    def damaged(self, error: ResultError) -> None:
        """Called for a result file of an earlier call that cannot be used; its trial is repeated."""

    def progress(self, config: TrialConfig, stage: str, done: int, total: int) -> None:
        """Called when a running trial makes progress."""

    def finished(self, config: TrialConfig, result: TrialResult) -> None:
        """Called when a trial has ended, with or without success, and its result is on disk."""

    def timing(self, done: int, total: int) -> None:
        """Called while the models are timed, with the number of processes done and the total."""


@dataclass(frozen=True)
class BenchmarkPlan:
    """A benchmark whose data have been opened and checked, ready to run.

    Attributes:
        plan: trials, sizes of the splits, and the result of the audit.
        folder: folder for results, weights and logs.
        jobs: number of trials that run in parallel.
        ray: address of a Ray cluster; ``None`` for this machine.
        view: view that shows the progress.
    """

    plan: Plan
    folder: Path
    jobs: int = 1
    ray: str | None = None
    view: BenchmarkView = field(default_factory=BenchmarkView)

    @property
    def benchmark(self) -> Benchmark:
        """The benchmark."""
        return self.plan.benchmark

    @property
    def trials(self) -> tuple[TrialConfig, ...]:
        """The trials in the order in which they run."""
        return self.plan.trials

    @property
    def other_results(self) -> int:
        """Number of result files in the folder that belong to no trial of this plan."""
        from zoo.bench.results import trial_files

        return len({path.stem for path in trial_files(self.folder)} - {config.file_stem for config in self.trials})

    def estimate(self) -> Estimate:
        """Estimate the time of every trial on this machine, from earlier results or from a few training steps.

        Nothing is saved.
        """
        from zoo.bench.plan import estimate

        return estimate(self.plan, self.folder, self.jobs, self.view.measuring)

    def run(self) -> Results:
        """Run the trials that have no result yet, time the models, and return all results.

        Raises:
            ZooError: if the folder holds other results, cannot be written to, or another process uses it.
            KeyboardInterrupt: if the user interrupts. Finished trials are kept; the next call continues.
        """
        from zoo.api.results import Results
        from zoo.bench.results import locked_results
        from zoo.bench.runner import Runner
        from zoo.bench.speed_session import time_results

        with _connected(self.ray), locked_results(self.folder, self.benchmark.to_dict()):
            with self.view.trials(self.plan):
                results = Runner(self.folder, self._executor, self.plan.audits).run(self.trials, self.view)
            if self.benchmark.speed:
                results = time_results(results, self.folder, self._time)
        return Results(results, folder=self.folder)

    def _executor(self, progress: JobProgress) -> Executor[TrialResult]:
        from zoo.bench.results import TrialResult
        from zoo.bench.runner import default_threads, visible_gpus
        from zoo.jobs import LocalExecutor, RayExecutor

        if self.ray is not None:
            return RayExecutor[TrialResult](self.ray, self.jobs, progress)
        return LocalExecutor[TrialResult](self.jobs, progress, threads=default_threads(), gpus=visible_gpus())

    def _time(self, subjects: Sequence[SpeedSubject]) -> list[SpeedReport]:
        from zoo.bench.speed_session import time_models, time_models_on_cluster

        self.view.timing(0, len(subjects))
        if self.ray is not None:
            return time_models_on_cluster(self.ray, subjects)
        return time_models(subjects, progress=self.view.timing)


def benchmark(
    models: str | Sequence[str | ModelEntry] | None = None,
    data: str | os.PathLike[str] | None = None,
    *,
    config: str | os.PathLike[str] | None = None,
    data_options: Mapping[str, Any] | None = None,
    recipe: str | None = None,
    recipe_options: Mapping[str, Any] | None = None,
    seeds: int | Sequence[int] | None = None,
    out: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    ray: str | None = None,
    device: str = "auto",
    speed: bool | None = None,
    view: BenchmarkView | None = None,
) -> Results:
    """Train and measure models on the same patches, steps and seeds.

    Each trial (a model with a seed) runs in its own process and writes one result file and one bundle. The result of a
    failed trial gives the reason; the other trials continue. After an interruption, the same call continues: finished
    trials are kept, and an interrupted training run resumes.

    Args:
        models: names and shell patterns such as ``"unet,*plus"``, or a list of names and
            :class:`~zoo.bench.benchmark.ModelEntry`, which give a model options, a title and weights to start from.
            ``None`` for all models, or those of ``config``.
        data: registered data set, or folder of patches. ``None`` for ``synthetic``, or the data of ``config``. If the
            data of ``config`` have the same name, or are a folder too, their other options, such as the groups, still
            apply.
        config: TOML file that describes a benchmark; the other arguments override it.
        data_options: options of the data set, such as ``{"group_column": "scene"}``.
        recipe: ``quick``, ``modern``, ``strong`` or ``paper``. ``None`` for ``quick``, or the recipe of ``config``.
        recipe_options: fields of the recipe to replace, such as ``{"steps": 300}``; see
            :class:`~zoo.training.recipes.Recipe`.
        seeds: number of seeds (3 stands for 0, 1 and 2), or the seeds. ``None`` for 1, or those of ``config``.
        out: folder for results, weights and logs. ``None`` for ``results``, or ``results/NAME`` with ``config``.
        jobs: number of trials that run in parallel; threads and GPUs are divided among them.
        ray: address of a Ray cluster that runs the trials, ``HOST:PORT`` or ``auto``; ``None`` for this machine.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        speed: time the models after training. ``None`` for yes, or the choice of ``config``.
        view: view that shows the progress; ``None`` to show nothing.

    Returns:
        The results of all trials: a table in a notebook, ``to_pandas()``, ``table()`` and ``html(path)``.

    Raises:
        ZooError: if an argument, the data or the folder cannot be used.
        KeyboardInterrupt: if the user interrupts; finished trials are kept.

    Example:
        >>> results = zoo.benchmark("unet,segnet", "patches", seeds=3)  # doctest: +SKIP
        >>> results.to_pandas()[["model", "dice", "group"]]  # doctest: +SKIP
    """
    return plan_benchmark(
        models,
        data,
        config=config,
        data_options=data_options,
        recipe=recipe,
        recipe_options=recipe_options,
        seeds=seeds,
        out=out,
        jobs=jobs,
        ray=ray,
        device=device,
        speed=speed,
        view=view,
    ).run()


def plan_benchmark(
    models: str | Sequence[str | ModelEntry] | None = None,
    data: str | os.PathLike[str] | None = None,
    *,
    config: str | os.PathLike[str] | None = None,
    data_options: Mapping[str, Any] | None = None,
    recipe: str | None = None,
    recipe_options: Mapping[str, Any] | None = None,
    seeds: int | Sequence[int] | None = None,
    out: str | os.PathLike[str] | None = None,
    jobs: int = 1,
    ray: str | None = None,
    device: str = "auto",
    speed: bool | None = None,
    view: BenchmarkView | None = None,
) -> BenchmarkPlan:
    """Check a benchmark and open its data without running it; the arguments are those of :func:`benchmark`.

    Returns:
        A plan whose :meth:`~BenchmarkPlan.estimate` gives the time of each trial, and whose
        :meth:`~BenchmarkPlan.run` runs them.

    Raises:
        ZooError: if an argument, the data or the folder cannot be used.
    """
    from zoo.bench.results import check_folder
    from zoo.jobs import prepare

    if jobs < 1:
        raise ConfigError(f"the number of jobs must be at least 1, not {jobs}", where="jobs")
    requested = make_benchmark(
        models,
        data,
        config=config,
        data_options=data_options,
        recipe=recipe,
        recipe_options=recipe_options,
        seeds=seeds,
        speed=speed,
    )
    requested = _with_parents(requested)
    folder = Path(out) if out is not None else Path("results") / requested.name if requested.name else Path("results")
    check_folder(folder, requested.name)
    prepare("zoo.bench.trial", "segmentation_models_pytorch")

    from zoo.bench.plan import make_plan

    view = view or BenchmarkView()
    with _connected(ray):
        plan = make_plan(requested, device, ray, on_setting=view.setting, open_data=view.open_splits, audit=view.audit)
    return BenchmarkPlan(plan, folder, jobs, ray, view)


def make_benchmark(
    models: str | Sequence[str | ModelEntry] | None,
    data: str | os.PathLike[str] | None,
    *,
    config: str | os.PathLike[str] | None,
    data_options: Mapping[str, Any] | None,
    recipe: str | None,
    recipe_options: Mapping[str, Any] | None,
    seeds: int | Sequence[int] | None,
    speed: bool | None,
) -> Benchmark:
    """Return the benchmark that the arguments of :func:`benchmark` describe.

    Raises:
        ZooError: if a name is unknown or a value is out of range.
    """
    from dataclasses import replace

    from zoo.bench.benchmark import Benchmark, check_seeds, load_benchmark
    from zoo.datasets.source import DataSource
    from zoo.registry import catalogue, check_options

    changes = {name: value for name, value in (recipe_options or {}).items() if value is not None}
    if "steps" in changes and "epochs" in changes:
        raise ConfigError("steps and epochs cannot be combined")
    given = dict(data_options or {})
    if config is None:
        source = DataSource.of("synthetic" if data is None else data, given)
        chosen = Benchmark("", "", _entries("all" if models is None else models), source, recipe or "quick", {}, (0,))
    else:
        chosen = load_benchmark(Path(config))
        if models is not None:
            chosen = _selected(chosen, models)
        source = DataSource.of(chosen.data if data is None else data, given)
        if source.name == chosen.data.name:  # for example, the same data in another folder: keep the groups
            source = DataSource.of(chosen.data, source.options)
        chosen = replace(chosen, data=source)
    common = ("root", "transforms", "progress")
    options = {name: value for name, value in chosen.data.options.items() if name not in common}
    check_options(catalogue().datasets.get(chosen.data.name), options)
    if seeds is not None:
        chosen = replace(chosen, seeds=check_seeds(seeds, "seeds"))
    if speed is not None:
        chosen = replace(chosen, speed=speed)
    return chosen.with_recipe(None if config is None else recipe, changes)


def _with_parents(requested: Benchmark) -> Benchmark:
    """Look up the weights that models start from, and give these models the options of the weights."""
    from dataclasses import replace

    if all(entry.start is None for entry in requested.models):
        return requested
    from zoo.api.train import open_parent
    from zoo.training.finetuning import parent_options

    entries = []
    for entry in requested.models:
        if entry.start is not None:
            bundle, start = open_parent(entry.start)
            options = parent_options(bundle, entry.model, entry.options, start.parent)
            entry = replace(entry, options=options, start=start, title=entry.label)
        entries.append(entry)
    return replace(requested, models=tuple(entries))


def _entries(models: str | Sequence[str | ModelEntry]) -> tuple[ModelEntry, ...]:
    from zoo.bench.benchmark import ModelEntry
    from zoo.bench.config import select_models

    if isinstance(models, str):
        return tuple(ModelEntry(name) for name in select_models(models))
    found: list[ModelEntry] = []
    for model in models:
        found += [model] if isinstance(model, ModelEntry) else [ModelEntry(name) for name in select_models(model)]
    if not found:
        raise ConfigError("no model was named", where="models")
    return tuple(found)


def _selected(chosen: Benchmark, models: str | Sequence[str | ModelEntry]) -> Benchmark:
    if isinstance(models, str):
        return chosen.selected(models)
    if all(isinstance(model, str) for model in models):
        return chosen.selected(",".join(map(str, models)))
    raise ConfigError(
        "a configuration names its own models", where="models", hint="Give labels, names or patterns to choose some"
    )


def _connected(address: str | None) -> AbstractContextManager[object]:
    from zoo.jobs import connected

    return nullcontext() if address is None else connected(address)
