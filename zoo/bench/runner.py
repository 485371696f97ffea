"""Run many trials: results are kept, failures do not stop other trials, and interrupted training runs resume."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from zoo.bench.config import TrialConfig
from zoo.bench.results import Attempt, TrialResult, result_path, valid_result
from zoo.datasets.audit import AuditSummary
from zoo.errors import ModelError, PluginError, ResultError, ResumeError, ZooError
from zoo.files import check_writable_folder
from zoo.jobs import Executor, Job, JobProgress, LocalExecutor, Outcome
from zoo.registry import Flag, catalogue
from zoo.schema import read_json, write_json
from zoo.training.bundle import Bundle
from zoo.training.bundle_layout import LAST_CHECKPOINT, ComputeFormat, read_header

BUNDLES = "bundles"
LOGS = "logs"
RESUME = "resume"
ATTEMPTS = "attempts.json"


@dataclass(frozen=True)
class TrialTask:
    """Input for the process of a trial.

    Attributes:
        config: the trial.
        resume: whether to continue from the resume state, if there is one.
        accumulate: number of parts into which a training batch is split; their gradients are averaged.
        attempts: earlier attempts that ran out of memory.
        checkpoint: time in nanoseconds at which the resume state was written before the trial started; 0 without one.
        recorded: number format of an earlier training of this trial, which the precision ``auto`` keeps.
    """

    config: TrialConfig
    resume: bool = True
    accumulate: int = 1
    attempts: tuple[Attempt, ...] = ()
    checkpoint: int = 0
    recorded: ComputeFormat | None = None


class Listener(Protocol):
    """Callbacks that show the progress of a benchmark."""

    def kept(self, config: TrialConfig, result: TrialResult) -> None:
        """Called for a trial that an earlier run finished."""

    def damaged(self, error: ResultError) -> None:
        """Called if the result file or resume state of an earlier run cannot be used; its trial is repeated."""

    def progress(self, config: TrialConfig, stage: str, done: int, total: int) -> None:
        """Called when a running trial makes progress."""

    def finished(self, config: TrialConfig, result: TrialResult) -> None:
        """Called when a trial has ended, with or without success, and its result is on disk."""


@dataclass(frozen=True)
class Runner:
    """Runs trials, each in a separate process.

    Attributes:
        folder: folder for results (``trials/``), weights (``bundles/``), output of the processes (``logs/``) and the
            private resume state of unfinished training runs (``resume/``).
        executor: creates the executor of the trials, given the progress callback; ``None`` runs one trial after another
            on this machine.
        audits: findings of the audit of the splits, by setting, for the result files.
    """

    folder: Path
    executor: Callable[[JobProgress], Executor[TrialResult]] | None = None
    audits: Mapping[str, AuditSummary] = field(default_factory=dict)

    def run(self, trials: Sequence[TrialConfig], listener: Listener) -> list[TrialResult]:
        """Run all trials that have no good result yet; adapted trials run after those whose bundles they start from.

        Args:
            trials: trials in the order in which they start.
            listener: called for every event.

        Returns:
            One result per trial, in the same order.

        Raises:
            ZooError: if the folder cannot be written to.
            KeyboardInterrupt: if the user interrupts. Running trials are stopped and resume in the next run; results
                of finished trials are on disk.
        """
        check_writable_folder(self.folder)
        stems = {config.file_stem for config in trials}
        assert all(config.plain.file_stem in stems for config in trials), (
            "an adapted trial lacks the trial that it adapts"
        )
        results: dict[str, TrialResult] = {}
        waiting: list[TrialConfig] = []
        unusable: set[str] = set()
        kept = self._valid_results(trials, listener)
        for config in trials:
            earlier = kept.get(config.file_stem)
            if earlier is None:
                waiting.append(config)
            else:
                listener.kept(config, earlier)
                results[config.file_stem] = self._renamed(earlier, config)
        by_name = {config.file_stem: config for config in trials}

        def progress(job: Job[TrialResult], stage: str, done: int, total: int) -> None:
            listener.progress(by_name[job.name], stage, done, total)

        def keep(config: TrialConfig, result: TrialResult, error: ZooError | None = None) -> None:
            result = result.with_audit(self.audits.get(config.setting))
            result.save(self.folder)
            # The next run resumes a failed training, unless the model is at fault: its code will change.
            at_fault = isinstance(error, ModelError | PluginError)
            if result.status in ("ok", "skipped") or at_fault or not _checkpoint_time(self._state(config)):
                self._remove_state(config)
            listener.finished(config, result)
            results[config.file_stem] = result

        with (self.executor or _sequential_executor)(progress) as executor:
            running = 0
            while waiting or running:
                for config in list(waiting):
                    source = results.get(config.plain.file_stem) if config.adapted else None
                    if config.adapted and source is None:
                        continue
                    if source is not None and not source.ok:
                        waiting.remove(config)
                        error = f"the trained model that it starts from is {source.status}: {source.error}"
                        keep(config, TrialResult(config, source.status, error))
                    elif executor.free:
                        waiting.remove(config)
                        try:
                            executor.submit(self._job(config, resume=config.file_stem not in unusable))
                            running += 1
                        except ZooError as problem:
                            keep(config, TrialResult(config, "failed", str(problem)))
                for job, outcome in executor.poll() if running else ():
                    running -= 1
                    config = by_name[job.name]
                    if isinstance(outcome.exception, ResumeError) and config.file_stem not in unusable:
                        listener.damaged(outcome.exception)
                        # A state on another machine, or one that cannot be removed, would be found again.
                        unusable.add(config.file_stem)
                        self._remove_state(config)
                        waiting.insert(0, config)
                    else:
                        keep(config, result_of(config, outcome), outcome.exception)
        return [results[config.file_stem] for config in trials]

    def _valid_results(self, trials: Sequence[TrialConfig], listener: Listener) -> dict[str, TrialResult]:
        """Return the results of earlier runs that are still valid, by file stem.

        An adapted trial belongs to the weights of one training run. Its result is kept only together with the result of
        these weights, and a trained trial whose bundle is missing is repeated if it still has to be adapted.
        """
        found = {config.file_stem: self._load_earlier(config, listener) for config in trials}
        kept = {stem: result for stem, result in found.items() if result is not None}
        pairs = [(config, config.plain) for config in trials if config.adapted]

        def repeat(config: TrialConfig, problem: str) -> None:
            if kept.pop(config.file_stem, None) is not None:
                listener.damaged(ResultError(problem, where=result_path(self.folder, config)))

        for config, plain in pairs:
            adapted, trained = kept.get(config.file_stem), kept.get(plain.file_stem)
            if adapted is not None and trained is not None and not _same_weights(adapted, trained):
                repeat(config, "other weights were adapted than those of the trained model's result")
        for config, plain in pairs:
            trained = kept.get(plain.file_stem)
            if config.file_stem not in kept and trained is not None and not self._has_bundle(trained):
                repeat(plain, "an adapted trial starts from its bundle, which is missing or holds other weights")
        for config, plain in pairs:
            if plain.file_stem not in kept:
                repeat(config, "the trained model that it starts from is repeated")
        return kept

    def _has_bundle(self, trained: TrialResult) -> bool:
        """Return whether the bundle of a trained model exists and has the weights that were measured."""
        try:
            header = read_header(self.folder / BUNDLES / trained.config.file_stem)
        except ZooError:
            return False
        measured = "" if trained.measurements is None else trained.measurements.weights_sha256
        return measured in ("", header.weights.sha256)

    def _load_earlier(self, config: TrialConfig, listener: Listener) -> TrialResult | None:
        try:
            return valid_result(self.folder, config)
        except ResultError as error:
            listener.damaged(error)
            return None

    def _renamed(self, earlier: TrialResult, config: TrialConfig) -> TrialResult:
        """Return a kept result with the current label, data location and audit; save it if they changed."""
        named = earlier if earlier.config == config else replace(earlier, config=config)
        result = named.with_audit(self.audits.get(config.setting))
        if result is not earlier:
            result.save(self.folder)
        return result

    def _job(self, config: TrialConfig, *, resume: bool) -> Job[TrialResult]:
        return trial_job(
            config,
            bundle=self.folder / BUNDLES / config.file_stem,
            log=self.folder / LOGS / f"{config.file_stem}.log",
            state=self._state(config),
            source=self.folder / BUNDLES / config.plain.file_stem if config.adapted else None,
            resume=resume,
            recorded=recorded_format(self.folder, config, self.folder / BUNDLES / config.file_stem),
        )

    def _state(self, config: TrialConfig) -> Path:
        return self.folder / RESUME / config.file_stem

    def _remove_state(self, config: TrialConfig) -> None:
        shutil.rmtree(self._state(config), ignore_errors=True)
        with suppress(OSError):
            (self.folder / RESUME).rmdir()


def _same_weights(adapted: TrialResult, trained: TrialResult) -> bool:
    """Return whether an adapted trial started from the weights of a trained trial, as far as is known."""
    if adapted.measurements is None or trained.measurements is None:
        return True
    sources = {adaptation.source.weights_sha256 for adaptation in adapted.measurements.adaptations} - {""}
    return not trained.measurements.weights_sha256 or sources <= {trained.measurements.weights_sha256}


def _sequential_executor(progress: JobProgress) -> Executor[TrialResult]:
    return LocalExecutor[TrialResult](1, progress)


def trial_job(
    config: TrialConfig,
    *,
    bundle: Path,
    log: Path,
    state: Path,
    source: Path | None = None,
    resume: bool = True,
    threads: int | None = None,
    recorded: ComputeFormat | None = None,
) -> Job[TrialResult]:
    """Return the job that runs a trial; :func:`result_of` converts its outcome to a result.

    Args:
        config: the trial.
        bundle: folder for the bundle.
        log: file for the output of the process.
        state: folder for the private resume state; remove it once the result is saved.
        source: folder of the bundle that an adapted trial starts from.
        resume: whether to continue from the resume state, if there is one.
        threads: number of torch threads; ``None`` for torch's default.
        recorded: return value of :func:`recorded_format`.
    """
    known = _read_attempts(state) if resume else _Attempts()
    reads = {} if source is None else {"source": source}
    if config.fine_tuning is not None and not config.adapted:
        reads["parent"] = Path(config.fine_tuning.folder)
    return Job(
        "zoo.bench.trial:run_in_process",
        TrialTask(config, resume, known.accumulate, known.attempts, _checkpoint_time(state), recorded),
        name=config.file_stem,
        reads=reads,
        writes={"bundle": bundle},
        scratch={"state": state},
        log=log,
        append_log=bool(known.attempts),
        time_limit=config.recipe.time_limit,
        threads=threads,
        gpus=1 if config.device.startswith("cuda") else 0,
        retry=_after_out_of_memory,
    )


def recorded_format(folder: Path, config: TrialConfig, bundle: Path | None = None) -> ComputeFormat | None:
    """Return the number format of an earlier training of a trial; ``None`` without one.

    Args:
        folder: folder of the results.
        config: the trial.
        bundle: folder of its bundle, for a trial without a valid result; ``None`` for none.
    """
    if config.adapted or config.recipe.precision != "auto":
        return None
    with suppress(ZooError):
        result = valid_result(folder, config)
        if result is not None:
            return None if result.training is None else result.training.format
    with suppress(ZooError):
        return None if bundle is None else Bundle.load(bundle).compute_format
    return None


def result_of(config: TrialConfig, outcome: Outcome[TrialResult]) -> TrialResult:
    """Return the result of a trial whose job ended."""
    if outcome.status == "ok" and outcome.value is not None:
        return replace(outcome.value, config=config)
    task, error = outcome.argument, outcome.error
    attempts = task.attempts if isinstance(task, TrialTask) else ()
    if attempts:
        tried = ", ".join(str(attempt.micro_batch) for attempt in attempts)
        last = config.recipe.batch_size // task.accumulate
        error = f"{error} (with {last} patches at a time, after memory ran out with {tried})"
    status = "failed" if outcome.status == "ok" else outcome.status
    return TrialResult(config, status, error, attempts=attempts)


def default_threads() -> int:
    """Return the number of threads that torch uses if one trial runs at a time."""
    setting = os.environ.get("OMP_NUM_THREADS", "")
    if setting.isdigit() and int(setting) > 0:
        return int(setting)
    import torch

    return torch.get_num_threads()


def visible_gpus() -> list[str]:
    """Return the identifiers of the GPUs that this process sees, in the format of ``CUDA_VISIBLE_DEVICES``."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


@dataclass(frozen=True)
class _Attempts:
    """Record of earlier attempts that ran out of memory, stored in the resume state."""

    accumulate: int = 1
    attempts: tuple[Attempt, ...] = ()


def _read_attempts(state: Path) -> _Attempts:
    try:
        return read_json(state / ATTEMPTS, _Attempts, what="record of attempts")
    except (FileNotFoundError, ZooError):
        return _Attempts()


def _checkpoint_time(state: Path | None) -> int:
    """Return the time in nanoseconds at which a resume state was written; 0 if there is none."""
    try:
        return 0 if state is None else (state / LAST_CHECKPOINT).stat().st_mtime_ns
    except OSError:
        return 0


def _after_out_of_memory(job: Job[TrialResult], outcome: Outcome[TrialResult]) -> Job[TrialResult] | None:
    """Return the job that continues from its new resume state, or else the job with parts at most half as large.

    A training that has written a resume state fits into memory, and was probably stopped because of other programs.

    Returns:
        The next attempt; ``None`` if the parts cannot be smaller, or a resumed training ran out of memory again before
        its next resume state, from which the next run of the benchmark continues.
    """
    task: TrialTask = job.argument
    state = job.folders.get("state")
    written = _checkpoint_time(state)
    if written > task.checkpoint:
        return replace(job, argument=replace(task, resume=True, checkpoint=written))
    if written and task.resume and outcome.stage in ("resume", "train"):
        return None
    recipe = task.config.recipe
    smaller = None if task.config.adapted else _more_parts(task.config, task.accumulate)
    if smaller is None:
        return None
    attempt = Attempt(recipe.batch_size // task.accumulate, outcome.status, outcome.error)
    known = _Attempts(smaller, (*task.attempts, attempt))
    if state is not None:
        # A resume state for larger parts counts batches differently.
        shutil.rmtree(state, ignore_errors=True)
        write_json(state / ATTEMPTS, known)
    return replace(job, argument=replace(task, accumulate=known.accumulate, attempts=known.attempts))


def _more_parts(config: TrialConfig, accumulate: int) -> int | None:
    batch = config.recipe.batch_size
    spec = catalogue().models.get(config.model) if config.model in catalogue().models else None
    smallest = 1 if spec is not None and Flag.BATCH1_TRAINING in spec.flags else 2
    sizes = (size for size in range(batch // accumulate // 2, smallest - 1, -1) if batch % size == 0)
    size = next(sizes, None)
    return None if size is None else batch // size
