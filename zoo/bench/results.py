"""Result files: one JSON a trial, from which every table is computed again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.bench.config import TrialConfig
from zoo.errors import ResultError, ZooError
from zoo.evaluation.counts import Counts
from zoo.files import write_json_atomic

SCHEMA = 1
FOLDER = "trials"
STATUSES = ("ok", "failed", "out-of-memory", "skipped")


@dataclass(frozen=True)
class TrialResult:
    """What became of a trial.

    Attributes:
        config: the trial.
        status: ``ok``, ``failed``, ``out-of-memory`` or ``skipped``.
        error: why it is not ``ok``; one line.
        measured: for an ``ok`` trial the counts of every test image, loss, threshold, parameters, GMAC, speed,
            training curve, data and environment, as plain JSON values.
    """

    config: TrialConfig
    status: str
    error: str
    measured: dict[str, Any]

    @property
    def ok(self) -> bool:
        """Whether the trial has figures."""
        return self.status == "ok"

    @property
    def counts(self) -> Counts:
        """Of every test image."""
        return Counts.from_dict(self.measured["test"]["counts"])

    def save(self, folder: Path) -> Path:
        """Write the result under ``folder/trials``, whole or not at all.

        Raises:
            ZooError: if the folder cannot be written to.
        """
        path = result_path(folder, self.config)
        content = {
            "schema": SCHEMA,
            "key": self.config.key,
            "status": self.status,
            "error": self.error,
            "config": self.config.to_dict(),
            **self.measured,
        }
        write_json_atomic(path, content)
        return path

    @classmethod
    def load(cls, path: Path) -> TrialResult:
        """Read and check a result file.

        Raises:
            ResultError: if it was cut short, is of another schema, or does not add up.
        """
        hint = "Delete it and run the same zoo bench again: that trial alone is done anew"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise ResultError("is no whole JSON; was it cut short?", where=path, hint=hint) from None
        except OSError as error:
            raise ResultError(f"cannot be read ({error.strerror})", where=path) from error
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            found = content.get("schema") if isinstance(content, dict) else None
            raise ResultError(f"has schema {found!r}, and this version reads schema {SCHEMA}", where=path, hint=hint)
        try:
            known = ("schema", "key", "status", "error", "config")
            result = cls(
                config=TrialConfig.from_dict(content["config"]),
                status=content["status"],
                error=content["error"],
                measured={name: value for name, value in content.items() if name not in known},
            )
            if result.config.key != content["key"]:
                raise ResultError("the configuration is not the one that was run (its key differs)")
            if result.status not in STATUSES:
                raise ResultError(f"has status {result.status!r}")
            if result.ok and len(result.counts) != len(content["test"]["names"]):
                raise ResultError("has not one count for every image")
        except (KeyError, TypeError, ValueError, AttributeError, ZooError) as error:
            problem = error.problem if isinstance(error, ZooError) else f"{type(error).__name__}: {error}"
            raise ResultError(f"is damaged: {problem}", where=path, hint=hint) from error
        return result


def result_path(folder: Path, config: TrialConfig) -> Path:
    """Where the result of a trial is kept."""
    return folder / FOLDER / f"{config.file_stem}.json"


def load_results(folder: Path) -> tuple[list[TrialResult], list[ResultError]]:
    """All results under ``folder``, and what is wrong with those that cannot be used.

    Raises:
        ResultError: if there is no result file at all.
    """
    paths = sorted((folder / FOLDER).glob("*.json"))
    if not paths:
        raise ResultError("holds no results", where=folder, hint="Name the folder that was given to zoo bench as --out")
    results, problems = [], []
    for path in paths:
        try:
            results.append(TrialResult.load(path))
        except ResultError as error:
            problems.append(error)
    return results, problems


def group_by_setting(results: Iterable[TrialResult]) -> list[list[TrialResult]]:
    """Results that may stand in one table: same patches, same recipe, same device, same configuration."""
    groups: dict[tuple[str, ...], list[TrialResult]] = {}
    for result in results:
        config = result.config
        patches = json.dumps(config.fingerprints, sort_keys=True)
        setting = (config.benchmark, config.setting, patches, config.recipe.name, config.device)
        groups.setdefault(setting, []).append(result)
    return list(groups.values())
