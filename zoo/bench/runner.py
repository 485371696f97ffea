"""Running many trials: what is done already is kept, what fails stops nothing, what is interrupted resumes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from zoo.bench.config import TrialConfig
from zoo.bench.executors import Executor, LocalExecutor, Told
from zoo.bench.results import TrialResult, result_path
from zoo.bench.worker import TrialJob
from zoo.datasets.audit import AuditSummary
from zoo.errors import ResultError
from zoo.files import check_writable_folder

BUNDLES = "bundles"
LOGS = "logs"
RESUME = "resume"


class Listener(Protocol):
    """Whoever shows progress."""

    def kept(self, config: TrialConfig, result: TrialResult) -> None:
        """A trial was done by an earlier call."""

    def damaged(self, error: ResultError) -> None:
        """A result file of an earlier call cannot be used, and its trial is done anew."""

    def progress(self, config: TrialConfig, stage: str, done: int, total: int) -> None:
        """A running trial got further."""

    def finished(self, config: TrialConfig, result: TrialResult) -> None:
        """A trial ended, well or not, and its result is on the disk."""


@dataclass(frozen=True)
class Runner:
    """Runs trials, each in its own process.

    Attributes:
        folder: results go to ``trials/``, weights to ``bundles/``, what processes print to ``logs/``, and the private
            resume state of trainings that run to ``resume/``.
        executor: makes what runs the trials, given whom to tell of progress; ``None`` for one after the other here.
        audits: what the splits know of each other, by setting, for the result files.
    """

    folder: Path
    executor: Callable[[Told], Executor] | None = None
    audits: Mapping[str, AuditSummary] = field(default_factory=dict)

    def run(self, trials: Sequence[TrialConfig], listener: Listener) -> list[TrialResult]:
        """Run all trials that have no good result yet; an adapted trial after the one whose bundle it starts from.

        Args:
            trials: in the order to start them.
            listener: told of everything.

        Returns:
            A result a trial, in the same order.

        Raises:
            ZooError: if the folder cannot be written to.
            KeyboardInterrupt: running trials are stopped, and go on from their resume state in the next call; finished
                ones are on the disk.
        """
        check_writable_folder(self.folder)
        stems = {config.file_stem for config in trials}
        assert all(config.plain.file_stem in stems for config in trials), "an adapted trial lacks the one it adapts"
        results: dict[str, TrialResult] = {}
        waiting: list[TrialConfig] = []
        for config in trials:
            earlier = self._earlier(config, listener)
            if earlier is None:
                waiting.append(config)
            else:
                listener.kept(config, earlier)
                # A row may be called otherwise by now, and the data lie elsewhere.
                named = earlier if earlier.config == config else replace(earlier, config=config)
                results[config.file_stem] = named.with_audit(self.audits.get(config.setting))
                if results[config.file_stem] is not earlier:
                    results[config.file_stem].save(self.folder)

        def keep(config: TrialConfig, result: TrialResult) -> None:
            result = result.with_audit(self.audits.get(config.setting))
            result.save(self.folder)
            self._forget(config)
            listener.finished(config, result)
            results[config.file_stem] = result

        make = self.executor or (lambda told: LocalExecutor(1, told))
        with make(listener.progress) as executor:
            running = 0
            while waiting or running:
                for config in list(waiting):
                    source = results.get(config.plain.file_stem) if config.adapted else None
                    if config.adapted and source is None:
                        continue
                    if source is not None and not source.ok:
                        waiting.remove(config)
                        error = f"the trained model that it starts from is {source.status}: {source.error}"
                        keep(config, TrialResult(config, source.status, error, {}))
                    elif executor.free:
                        waiting.remove(config)
                        executor.submit(self._job(config))
                        running += 1
                for job, result in executor.poll() if running else ():
                    running -= 1
                    keep(job.config, result)
        return [results[config.file_stem] for config in trials]

    def _job(self, config: TrialConfig) -> TrialJob:
        return TrialJob(
            config,
            bundle=self.folder / BUNDLES / config.file_stem,
            log=self.folder / LOGS / f"{config.file_stem}.log",
            state=self.folder / RESUME / config.file_stem,
            source=self.folder / BUNDLES / config.plain.file_stem if config.adapted else None,
        )

    def _forget(self, config: TrialConfig) -> None:
        shutil.rmtree(self.folder / RESUME / config.file_stem, ignore_errors=True)
        with suppress(OSError):
            (self.folder / RESUME).rmdir()

    def _earlier(self, config: TrialConfig, listener: Listener) -> TrialResult | None:
        try:
            return good_result(self.folder, config)
        except ResultError as error:
            listener.damaged(error)
            return None


def good_result(folder: Path, config: TrialConfig) -> TrialResult | None:
    """The result of an earlier call, if there is one and it has figures.

    Raises:
        ResultError: if the file cannot be used.
    """
    path = result_path(folder, config)
    if not path.is_file():
        return None
    result = TrialResult.load(path)
    return result if result.ok else None
