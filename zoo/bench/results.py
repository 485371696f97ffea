"""Result files: one JSON a trial, from which every table is computed again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zoo.bench.config import TrialConfig
from zoo.bench.samples import Samples, keep_pictures
from zoo.datasets.audit import AuditSummary
from zoo.errors import ResultError, ZooError
from zoo.evaluation.columns import SplitCounts
from zoo.evaluation.counts import BoundaryCounts, Counts, ObjectCounts
from zoo.evaluation.histograms import LogitHistogram, ProbabilityHistogram
from zoo.files import write_json_atomic

SCHEMA = 2
"""1: counts and histogram alone; it is read as it is, and what it lacks is undefined."""
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
            training curve, data, audit and environment, as plain JSON values.
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

    @property
    def evaluated(self) -> SplitCounts:
        """All that was counted of the test split; what an older file lacks is None."""
        test, val = self.measured["test"], self.measured["val"]
        return SplitCounts(
            counts=self.counts,
            groups=tuple(test["groups"]),
            histogram=ProbabilityHistogram.from_dict(test["histogram"]),
            objects=ObjectCounts.from_dict(test["objects"]) if "objects" in test else None,
            boundaries=BoundaryCounts.from_dict(test["boundaries"]) if "boundaries" in test else None,
            logit_histogram=LogitHistogram.from_dict(test["odds"]) if "odds" in test else None,
            validation_logit_histogram=LogitHistogram.from_dict(val["odds"]) if "odds" in val else None,
        )

    @property
    def samples(self) -> Samples | None:
        """Predictions on the patches that are shown; None in a file that was written before there were any."""
        return Samples.from_dict(self.measured["samples"]) if "samples" in self.measured else None

    @property
    def audit(self) -> AuditSummary | None:
        """What the splits know of each other; None in a file that does not say."""
        return AuditSummary.from_dict(self.measured["audit"]) if "audit" in self.measured else None

    def with_audit(self, found: AuditSummary | None) -> TrialResult:
        """With what an audit found, unless the result says the same already or has no figures."""
        if found is None or not self.ok:
            return self
        said = self.audit
        if said is not None and (said.leaks, said.touched) == (found.leaks, found.touched):
            return self
        return replace(self, measured={**self.measured, "audit": found.to_dict()})

    def save(self, folder: Path) -> Path:
        """Write the result under ``folder/trials``, whole or not at all; its pictures once for all trials.

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
        pictures = content.pop("pictures", None)
        if pictures is not None:
            keep_pictures(folder, self.config, pictures)
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
        found = content.get("schema") if isinstance(content, dict) else None
        if not isinstance(found, int) or found < 1:
            raise ResultError(f"has schema {found!r}: it is no result file of zoo bench", where=path, hint=hint)
        if found > SCHEMA:
            raise ResultError(
                f"has schema {found}, and this version reads schemas 1 to {SCHEMA}: a newer landslide-zoo wrote it",
                where=path,
                hint="Install that version: pip install --upgrade landslide-zoo",
            )
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
            if result.ok:
                _check_sums(result)
        except (KeyError, TypeError, ValueError, AttributeError, ZooError) as error:
            problem = error.problem if isinstance(error, ZooError) else f"{type(error).__name__}: {error}"
            raise ResultError(f"is damaged: {problem}", where=path, hint=hint) from error
        return result


def _check_sums(result: TrialResult) -> None:
    """Refuse counts that someone edited: what is counted twice must come out the same."""
    evaluated = result.evaluated
    images = len(result.measured["test"]["names"])
    parts = {
        "counts": len(evaluated.counts),
        "groups": len(evaluated.groups),
        "landslides": images if evaluated.objects is None else len(evaluated.objects.total),
        "boundaries": images if evaluated.boundaries is None else len(evaluated.boundaries.truth),
    }
    for name, length in parts.items():
        if length != images:
            raise ResultError(f"has {name} of {length} images, and names of {images}")
    if result.samples is not None:
        _, height, width = result.measured["data"]["patch"]
        result.samples.check(evaluated.counts, (int(height), int(width)))
    if "audit" in result.measured:
        AuditSummary.from_dict(result.measured["audit"])
    pooled = evaluated.counts.pooled()
    truth = {"landslide": int(pooled.tp[0] + pooled.fn[0]), "background": int(pooled.fp[0] + pooled.tn[0])}
    for name, histogram in (("probabilities", evaluated.histogram), ("log odds", evaluated.logit_histogram)):
        if histogram is None:
            continue
        sums = {"landslide": int(histogram.positive.sum()), "background": int(histogram.negative.sum())}
        for kind, pixels in truth.items():
            if sums[kind] != pixels:
                raise ResultError(
                    f"its counts do not add up: {pixels} {kind} pixels, and {sums[kind]} in the histogram of {name}"
                )


def result_path(folder: Path, config: TrialConfig) -> Path:
    """Where the result of a trial is kept."""
    return folder / FOLDER / f"{config.file_stem}.json"


def load_results(folder: Path) -> tuple[list[TrialResult], list[ResultError]]:
    """All results under ``folder``, and what is wrong with those that cannot be used.

    Raises:
        ResultError: if there is no result file at all.
    """
    paths = sorted((folder / FOLDER).glob("*.json"))
    if not folder.is_dir():
        problem = "is a file, and results are in a folder" if folder.exists() else "there is no such folder"
        raise ResultError(problem, where=folder, hint="Name the folder that was given to zoo bench as --out")
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
