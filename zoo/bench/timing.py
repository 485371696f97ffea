"""The speed stage of a benchmark: after the training, when nothing else runs, all models beside each other."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from zoo.bench.results import TrialResult
from zoo.bench.speed_session import SpeedSession, SpeedSubject

TimeModels = Callable[[Sequence[SpeedSubject]], SpeedSession]


def time_results(results: Sequence[TrialResult], folder: Path, time_models: TimeModels) -> list[TrialResult]:
    """Time the models of results beside each other, and keep the figures in their result files.

    Models that were all timed in one session already are not timed again. Trials of one model, whatever their seeds
    and whether adapted or not, are timed once.

    Args:
        results: of trials on one device, of one setting or several.
        folder: of the results.
        time_models: times subjects; see :func:`zoo.bench.speed_session.time_models`.

    Returns:
        The results, with ``speed`` and ``speed_protocol`` where a trial is ``ok``.
    """
    good = [result for result in results if result.ok]
    sessions = {result.measured.get("speed_protocol", {}).get("session") for result in good}
    if not good or (len(sessions) == 1 and None not in sessions):
        return list(results)
    subjects: dict[str, SpeedSubject] = {}
    for result in good:
        subjects.setdefault(_identity(result), _subject(result))
    session = time_models(list(subjects.values()))
    records = {identity: session.record(number) for number, identity in enumerate(subjects)}
    timed = []
    for result in results:
        if result.ok:
            result = replace(result, measured={**result.measured, **records[_identity(result)]})
            result.save(folder)
        timed.append(result)
    return timed


def _subject(result: TrialResult) -> SpeedSubject:
    config, data = result.config.plain, result.measured["data"]
    channels, height, width = data["patch"]
    return SpeedSubject(
        config.model,
        config.options,
        len(data["class_names"]),
        (channels, height, width),
        config.device,
        label=config.label,
        data=config.data,
    )


def _identity(result: TrialResult) -> str:
    config, data = result.config, result.measured["data"]
    return json.dumps([config.model, config.options, len(data["class_names"]), data["patch"]], sort_keys=True)
