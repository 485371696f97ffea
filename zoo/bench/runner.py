"""Running many trials: what is done already is kept, what fails stops nothing, what is interrupted resumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from zoo.bench.config import TrialConfig
from zoo.bench.results import TrialResult, result_path
from zoo.bench.worker import run_isolated, trial_context
from zoo.errors import ResultError
from zoo.files import check_writable_folder

BUNDLES = "bundles"
LOGS = "logs"


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
    """Runs trials one after the other, each in its own process.

    Attributes:
        folder: results go to ``trials/``, weights to ``bundles/``, what processes print to ``logs/``.
    """

    folder: Path

    def run(self, trials: Sequence[TrialConfig], listener: Listener) -> list[TrialResult]:
        """Run all trials that have no good result yet.

        Args:
            trials: in the order to run them.
            listener: told of everything.

        Returns:
            A result a trial, in the same order.

        Raises:
            ZooError: if the folder cannot be written to.
            KeyboardInterrupt: the running trial is dropped; finished ones are on the disk.
        """
        check_writable_folder(self.folder)
        context = None
        results = []
        for config in trials:
            earlier = self._earlier(config, listener)
            if earlier is not None:
                listener.kept(config, earlier)
                results.append(earlier)
                continue
            context = context or trial_context()
            result = run_isolated(
                config,
                self.folder / BUNDLES / config.file_stem,
                self.folder / LOGS / f"{config.file_stem}.log",
                partial(listener.progress, config),
                context=context,
            )
            result.save(self.folder)
            listener.finished(config, result)
            results.append(result)
        return results

    def _earlier(self, config: TrialConfig, listener: Listener) -> TrialResult | None:
        path = result_path(self.folder, config)
        if not path.is_file():
            return None
        try:
            result = TrialResult.load(path)
        except ResultError as error:
            listener.damaged(error)
            return None
        return result if result.ok else None
