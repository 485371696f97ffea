"""How good a trained model is: figures of a split with their interval, and warnings that follow from them.

A bundle holds these records, ``zoo map`` quotes them in its first line, and the model card prints them as a table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from zoo.evaluation import metrics
from zoo.evaluation.comparison import Resampling, interval
from zoo.evaluation.counts import Counts
from zoo.evaluation.histograms import LogitHistogram

POOR_DICE = 0.2
"""A pooled Dice below this is called poor: most of what such a model outlines, or most of what it should outline, is
wrong [O]."""
POOR_PRECISION = 0.1
"""A precision below this is called poor: nine of ten pixels that such a model calls landslide are not [O]."""
SHARE_ABOVE = 3.0
"""A scene with more than this many times the landslide share of the training masks is unlikely: training patches are
cut around landslides, so that a whole scene has a smaller share [O]."""
SHARE_BELOW = 100.0
"""A scene with less than the training share divided by this may be one where the model finds nothing at all [O]. The
factor is larger than :data:`SHARE_ABOVE`, because most of an ordinary scene has no landslide."""
MOST_GROUPS = 20
"""A split with more scenes or events is recorded as a whole only: a table of more rows is not read [O]."""
NOT_MEASURED = "not measured"

_SPLITS = {"train": "training", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class ReliabilityBin:
    """One bin of a reliability curve.

    Attributes:
        predicted: mean landslide probability of its pixels.
        observed: share of its pixels that are landslide.
        pixels: number of its pixels.
    """

    predicted: float
    observed: float
    pixels: int

    def __post_init__(self) -> None:
        _check_shares(self, "predicted", "observed")
        _check_numbers(self, "pixels")


@dataclass(frozen=True)
class Calibration:
    """How far the probabilities of a model can be believed.

    Attributes:
        ece: expected calibration error on the split, 15 bins.
        temperature: temperature T of sigmoid(z / T) that was fitted on the validation split; ``None`` where it was not.
        ece_scaled: expected calibration error with that temperature.
        reliability: bins that hold a pixel, without the temperature.
    """

    ece: float
    temperature: float | None = None
    ece_scaled: float | None = None
    reliability: tuple[ReliabilityBin, ...] = ()

    def __post_init__(self) -> None:
        _check_shares(self, "ece", "ece_scaled")
        _check_numbers(self, "temperature")

    @classmethod
    def of(cls, test: LogitHistogram, temperature: float | None = None) -> Calibration | None:
        """Return the calibration on a split; ``None`` without a pixel.

        Args:
            test: logits of the split.
            temperature: temperature that was fitted on the validation split; ``None`` where it is unknown.
        """
        found = test.reliability()
        ece = found.expected_calibration_error
        if math.isnan(ece):
            return None
        bins = zip(found.predicted.tolist(), found.observed.tolist(), found.pixels.tolist(), strict=True)
        return cls(
            ece=ece,
            temperature=temperature,
            ece_scaled=None if temperature is None else test.reliability(temperature).expected_calibration_error,
            reliability=tuple(ReliabilityBin(*one) for one in bins if one[2]),
        )


@dataclass(frozen=True, kw_only=True)
class MeasuredSplit:
    """Figures of a model on a split, or on one scene of it, pooled over all its pixels.

    Attributes:
        data: name of the data set.
        split: ``train``, ``val`` or ``test``, or a description such as ``held-out blocks``.
        split_sha256: sha256 of the content of the split; empty if it is unknown.
        group: scene or event; ``None`` for the whole split.
        adapted: whether the normalisation statistics were re-estimated on the images of the split first, without
            labels.
        dice: ``None`` where it is undefined, as the following three.
        precision: TP / (TP + FP).
        recall: TP / (TP + FN).
        iou: TP / (TP + FP + FN).
        dice_interval: 95 % bootstrap interval of the Dice; ``None`` where there is none.
        interval_unit: what was drawn for the interval, ``event`` or ``tile``; empty if there is no interval.
        patches: number of patches.
        pixels: number of pixels that count.
        landslide_share: share of these pixels that are landslide.
        threshold: probability from which a pixel was called landslide.
        calibration: of the whole split; ``None`` where it was not measured.
    """

    data: str = ""
    split: str = "test"
    split_sha256: str = ""
    group: str | None = None
    adapted: bool = False
    dice: float | None = None
    precision: float | None = None
    recall: float | None = None
    iou: float | None = None
    dice_interval: tuple[float, float] | None = None
    interval_unit: str = ""
    patches: int = 0
    pixels: int = 0
    landslide_share: float | None = None
    threshold: float | None = None
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        _check_shares(self, "dice", "precision", "recall", "iou", "landslide_share", "threshold")
        _check_numbers(self, "patches", "pixels")
        if self.dice_interval is not None and not 0 <= self.dice_interval[0] <= self.dice_interval[1] <= 1:
            raise ValueError(f"dice_interval is {list(self.dice_interval)}, expected two rising numbers from 0 to 1")

    @property
    def key(self) -> tuple[str, str, str | None, bool]:
        """What is measured; a second measurement of the same replaces the first."""
        return self.data, self.split, self.group, self.adapted

    @property
    def heading(self) -> str:
        """Return what the Dice is of, such as ``test Dice``."""
        return f"{_SPLITS[self.split]} Dice" if self.split in _SPLITS else "Dice"

    @property
    def place(self) -> str:
        """Return what was measured: data, scene, split, number of patches, adaptation."""
        parts = [self.data or "unnamed data", self.group or "", "" if self.split in _SPLITS else self.split]
        parts += [f"{self.patches:,} patches" if self.patches else "", "adapted without labels" if self.adapted else ""]
        return ", ".join(filter(None, parts))

    @property
    def figures(self) -> str:
        """Return Dice with its interval, precision and recall as text."""
        if self.dice is None:
            return f"{self.heading} undefined"
        reach = "" if self.dice_interval is None else " (95 % interval {:.3f} to {:.3f})".format(*self.dice_interval)
        others = (f", {name} {value:.3f}" for name, value in self._others() if value is not None)
        return f"{self.heading} {self.dice:.3f}{reach}{''.join(others)}"

    def _others(self) -> Sequence[tuple[str, float | None]]:
        return ("precision", self.precision), ("recall", self.recall)

    def __str__(self) -> str:
        return f"{self.figures}; {self.place}"


def measure_split(
    counts: Counts,
    groups: Sequence[str],
    *,
    threshold: float,
    data: str = "",
    split: str = "test",
    split_sha256: str = "",
    adapted: bool = False,
    calibration: Calibration | None = None,
) -> tuple[MeasuredSplit, ...]:
    """Return the figures of a split, and those of each of its scenes if there are several.

    Args:
        counts: counts of every image.
        groups: scene or event of every image.
        threshold: probability from which a pixel was called landslide.
        data: name of the data set.
        split: name or description of the split.
        split_sha256: sha256 of the content of the split.
        adapted: whether the statistics were re-estimated on the images of the split.
        calibration: of the whole split.

    Returns:
        The whole split first; then its groups in alphabetical order, at most :data:`MOST_GROUPS`, else none.
    """
    shared = MeasuredSplit(data=data, split=split, split_sha256=split_sha256, adapted=adapted, threshold=threshold)
    found = [replace(_measured(shared, counts, groups), calibration=calibration)]
    names = np.asarray(groups)
    known = sorted(set(groups))
    if 1 < len(known) <= MOST_GROUPS:
        for name in known:
            chosen = counts.select(names == name)
            found.append(replace(_measured(shared, chosen, [name] * len(chosen)), group=name))
    return tuple(found)


def _measured(shared: MeasuredSplit, counts: Counts, groups: Sequence[str]) -> MeasuredSplit:
    cells = counts.pooled().cells
    resampling = Resampling.draw(groups)
    low, high = interval(resampling.pooled(counts, metrics.dice))
    pixels = int(sum(int(cell[0]) for cell in cells))
    return replace(
        shared,
        dice=_known(metrics.dice(*cells)[0]),
        precision=_known(metrics.precision(*cells)[0]),
        recall=_known(metrics.recall(*cells)[0]),
        iou=_known(metrics.iou(*cells)[0]),
        dice_interval=None if math.isnan(low) else (low, high),
        interval_unit="" if math.isnan(low) else resampling.unit,
        patches=len(counts),
        pixels=pixels,
        landslide_share=int(cells[0][0] + cells[2][0]) / pixels if pixels else None,
    )


def merge_evaluations(old: Iterable[MeasuredSplit], new: Iterable[MeasuredSplit]) -> tuple[MeasuredSplit, ...]:
    """Return the old records with the new ones in the place of those that measure the same."""
    found = {one.key: one for one in old}
    return tuple((found | {one.key: one for one in new}).values())


def headline(
    evaluations: Sequence[MeasuredSplit], metrics: Mapping[str, float | None], *, data: str = "", adapted: bool = False
) -> MeasuredSplit | None:
    """Return the record that stands for a model; ``None`` if nothing was measured.

    It is the first record of a whole split, of an adapted model if ``adapted``, else of one that is not. A bundle of an
    older version has no records, and its test figures stand for it.

    Args:
        evaluations: records of a bundle.
        metrics: its figures of the test split by name.
        data: name of the training data, for a bundle without records.
        adapted: whether the model is used adapted.
    """
    whole = [one for one in evaluations if one.group is None]
    for wanted in (adapted, False, True):
        for one in whole:
            if one.adapted is wanted:
                return one
    if metrics.get("dice") is None:
        return None
    dice, precision, recall, iou = (_share(metrics.get(name)) for name in ("dice", "precision", "recall", "iou"))
    return MeasuredSplit(data=data, dice=dice, precision=precision, recall=recall, iou=iou)


def quality_line(found: MeasuredSplit | None, *, adapted: bool = False, label: str = "") -> str:
    """Return how good a model is in one line.

    Args:
        found: what :func:`headline` returned.
        adapted: whether the model is used adapted.
        label: label of the bundle, such as ``demo``.
    """
    text = f"quality {NOT_MEASURED}" if found is None else str(found)
    plain = "; measured without adaptation" if adapted and found is not None and not found.adapted else ""
    return f"{label + ' ' if label else ''}model: {text}{plain}"


def quality_warnings(found: MeasuredSplit | None) -> tuple[str, ...]:
    """Return why a model is too poor to be relied on, in sentences; empty for a good one and for an unknown one."""
    if found is None:
        return ()
    reasons = []
    if found.dice is not None and found.dice < POOR_DICE:
        reasons.append(f"its {found.heading} is {found.dice:.3f}, below {POOR_DICE:g}")
    if found.precision is not None and found.precision < POOR_PRECISION:
        reasons.append(
            f"its precision is {found.precision:.3f}, below {POOR_PRECISION:g}: "
            f"{1 - found.precision:.0%} of the pixels that it calls landslide are something else"
        )
    return (f"this model is poor: {'; '.join(reasons)}",) if reasons else ()


def share_warnings(mapped: float, trained: float | None) -> tuple[str, ...]:
    """Return whether the landslide share of a map is far from that of the training masks, in sentences.

    Args:
        mapped: share of the mapped pixels at or above the threshold.
        trained: share of the landslide pixels in the training masks; ``None`` where it is unknown.
    """
    if not trained:
        return ()
    if mapped > min(SHARE_ABOVE * trained, 1.0):
        return (
            f"{mapped:.2%} of the mapped pixels are called landslide, more than {SHARE_ABOVE:g} times the share in the "
            f"training masks ({trained:.2%}): the scene may be unlike the training data (try --adapt), or the "
            "threshold too low",
        )
    if mapped < trained / SHARE_BELOW:
        return (
            f"{mapped:.4%} of the mapped pixels are called landslide, less than 1/{SHARE_BELOW:g} of the share in the "
            f"training masks ({trained:.2%}): if there are landslides, the scene may be unlike the training data "
            "(try --adapt)",
        )
    return ()


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _share(value: float | None) -> float | None:
    return value if value is not None and 0 <= value <= 1 else None


def _check_shares(instance: object, *names: str) -> None:
    for name in names:
        value = getattr(instance, name)
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name} is {value!r}, expected a number from 0 to 1")


def _check_numbers(instance: object, *names: str) -> None:
    for name in names:
        value = getattr(instance, name)
        if value is not None and not 0 <= value < math.inf:
            raise ValueError(f"{name} is {value!r}, expected a number from 0 on")
