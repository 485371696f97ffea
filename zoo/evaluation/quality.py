"""Quality of a trained model: figures of a split with their intervals, and warnings derived from them.

A bundle holds these records, ``zoo map`` prints them in its first line, and the model card shows them as a table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from zoo.evaluation import metrics
from zoo.evaluation.comparison import Resampling
from zoo.evaluation.counts import Counts
from zoo.evaluation.histograms import LogitHistogram
from zoo.registry.specs import MeasuredFigures

POOR_DICE = 0.2
"""Pooled Dice below which a model is called poor: most of what it outlines, or most of what it should outline, is
wrong [O]."""
POOR_PRECISION = 0.1
"""Precision below which a model is called poor: nine of ten pixels that it classifies as landslide are not [O]."""
MAX_SHARE_RATIO = 3.0
"""A landslide share above this multiple of the training masks' share is implausible for a scene: training patches are
cut around landslides, so a whole scene has a smaller share [O]."""
MAX_INVERSE_SHARE_RATIO = 100.0
"""A landslide share below the training share divided by this suggests that the model finds nothing in the scene [O].
The factor is larger than :data:`MAX_SHARE_RATIO`, because most of an ordinary scene has no landslides."""
MAX_GROUPS = 20
"""Maximum number of scenes or events that are recorded individually; nobody reads a longer table [O]."""
NOT_MEASURED = "not measured"
SET_COVERAGE = 0.9
"""Coverage of the prediction sets stored in a bundle [O]."""

MIN_CLASS_PIXELS = 100
"""Minimum number of pixels of a class in a block to estimate the coverage of that class [O]."""
USUAL_QUANTILE = 0.95
"""Share of the validation patches that are no farther from the training data than :attr:`UsualDistance.limit` [O]."""

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
class PredictionSets:
    """Split conformal prediction, per class because landslides are rare (Vovk 2012) [S].

    The set of a pixel holds ``landslide`` at or above one probability and ``background`` below another. Both limits are
    chosen on the validation split. The set of a pixel of either class then holds its class with the stated coverage, if
    pixels are exchangeable with those of the validation split.

    Attributes:
        coverage: share of the pixels of each class whose set holds it.
        landslide_from: probability at or above which a set holds ``landslide``.
        background_below: probability below which a set holds ``background``.
    """

    coverage: float
    landslide_from: float
    background_below: float

    def __post_init__(self) -> None:
        _check_shares(self, "coverage", "landslide_from", "background_below")

    @classmethod
    def of(cls, validation: LogitHistogram, coverage: float = SET_COVERAGE) -> PredictionSets:
        """Choose the sets with a given coverage on a validation split; a class without pixels is in every set."""
        return cls(coverage, validation.lower_edge(coverage), validation.upper_edge(coverage))

    def holds(self, probability: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return where sets hold ``landslide`` and where they hold ``background``; a limit of 1 excludes nothing."""
        everywhere = self.background_below >= 1
        return probability >= self.landslide_from, (probability < self.background_below) | everywhere

    def covered(self, found: Sequence[LogitHistogram], blocks: Sequence[str] = ()) -> SetCoverage | None:
        """Return the coverage measured on a split; ``None`` if it lacks a class.

        Args:
            found: pixels of every image.
            blocks: held-out block of every image; empty where blocks are unknown.
        """
        landslide, background = self.shares(LogitHistogram.joined(found))
        if math.isnan(landslide + background):
            return None
        parts: dict[str, LogitHistogram] = {}
        for one, block in zip(found, blocks, strict=bool(blocks)):
            parts[block] = LogitHistogram.joined([parts[block], one]) if block in parts else one
        return SetCoverage(self.coverage, landslide, background, BlockCoverage.of(self, list(parts.values())))

    def shares(self, found: LogitHistogram) -> tuple[float, float]:
        """Return the shares of landslide and of background pixels whose set holds their class; NaN without pixels."""
        return found.shares_beyond(self.landslide_from, self.background_below)


@dataclass(frozen=True)
class BlockCoverage:
    """Coverage of :class:`PredictionSets` in each held-out block of a split.

    Attributes:
        blocks: number of blocks.
        landslide: lowest, median and highest share of the landslide pixels whose set holds ``landslide``, over the
            blocks with at least :data:`MIN_CLASS_PIXELS` such pixels; empty without such a block.
        background: the same for ``background``.
    """

    blocks: int
    landslide: tuple[float, ...]
    background: tuple[float, ...]

    @classmethod
    def of(cls, sets: PredictionSets, blocks: Sequence[LogitHistogram]) -> BlockCoverage | None:
        """Return the coverage of sets by block; ``None`` for a single block."""
        if len(blocks) < 2:
            return None
        known = (
            [sets.shares(block)[0] for block in blocks if block.positive.sum() >= MIN_CLASS_PIXELS],
            [sets.shares(block)[1] for block in blocks if block.negative.sum() >= MIN_CLASS_PIXELS],
        )
        found = [(min(one), float(np.median(one)), max(one)) if one else () for one in known]
        return cls(len(blocks), *found)

    def __str__(self) -> str:
        named = zip(("landslide pixels", "background"), (self.landslide, self.background), strict=True)
        parts = [f"{name} {one[0]:.1%} to {one[2]:.1%}, median {one[1]:.1%}" for name, one in named if one]
        return f"in {self.blocks} held-out blocks: {'; '.join(parts)}" if parts else ""


@dataclass(frozen=True)
class SetCoverage:
    """Coverage of :class:`PredictionSets` measured on a split.

    Attributes:
        stated: coverage chosen on the validation split.
        landslide: share of the landslide pixels whose set holds ``landslide``.
        background: share of the background pixels whose set holds ``background``.
        by_block: coverage in each held-out block; ``None`` for a single block, or if it was not measured.
    """

    stated: float
    landslide: float
    background: float
    by_block: BlockCoverage | None = None

    def __post_init__(self) -> None:
        _check_shares(self, "stated", "landslide", "background")

    def __str__(self) -> str:
        return (
            f"prediction sets of stated coverage {self.stated:.0%} hold the class of {self.landslide:.1%} of the "
            f"landslide pixels and of {self.background:.1%} of the background"
        )


@dataclass(frozen=True)
class UsualDistance:
    """Distance of validation patches from the training data.

    Attributes:
        side: side of the patches in pixels.
        median: median of their distances in standard deviations
            (:class:`zoo.training.running_statistics.ImageDistances`).
        share: share of the patches that are no farther than ``limit``.
        limit: distance within which that share lies.
    """

    side: int
    median: float
    share: float
    limit: float

    def __post_init__(self) -> None:
        _check_shares(self, "share")
        _check_numbers(self, "side", "median", "limit")

    @classmethod
    def of(cls, distances: NDArray[np.float64], side: int, share: float = USUAL_QUANTILE) -> UsualDistance | None:
        """Return the limit that ceil((n + 1) share) of n patches do not exceed (conformal); ``None`` if n is too small.

        Args:
            distances: distance of each patch, NaN if it is unknown.
            side: side of a patch in pixels.
            share: see :attr:`share`.
        """
        known = np.sort(distances[np.isfinite(distances)])
        needed = math.ceil((len(known) + 1) * share)
        return None if needed > len(known) else cls(side, float(np.median(known)), share, float(known[needed - 1]))


@dataclass(frozen=True)
class Calibration:
    """Reliability of the probabilities of a model.

    Attributes:
        ece: expected calibration error on the split, 15 bins.
        temperature: temperature T of sigmoid(z / T), fitted on the validation split; ``None`` if it was not fitted.
        ece_scaled: expected calibration error with that temperature.
        reliability: non-empty bins, without the temperature.
        sets: conformal prediction sets chosen on the validation split; ``None`` if they were not chosen.
        coverage: coverage of the sets on the split; ``None`` without sets.
        usual: distance of validation patches from the training data; ``None`` if it was not measured.
    """

    ece: float
    temperature: float | None = None
    ece_scaled: float | None = None
    reliability: tuple[ReliabilityBin, ...] = ()
    sets: PredictionSets | None = None
    coverage: SetCoverage | None = None
    usual: UsualDistance | None = None

    def __post_init__(self) -> None:
        _check_shares(self, "ece", "ece_scaled")
        _check_numbers(self, "temperature")
        if self.temperature == 0:
            raise ValueError("temperature is 0, expected a number above 0")

    @classmethod
    def of(
        cls,
        images: Sequence[LogitHistogram],
        temperature: float | None = None,
        sets: PredictionSets | None = None,
        usual: UsualDistance | None = None,
        blocks: Sequence[str] = (),
    ) -> Calibration | None:
        """Return the calibration on a split; ``None`` if it has no pixels.

        Args:
            images: logits of every image of the split.
            temperature: temperature fitted on the validation split; ``None`` if it is unknown.
            sets: prediction sets chosen on the validation split; ``None`` if they are unknown.
            usual: distance of its patches from the training data; ``None`` if it is unknown.
            blocks: held-out block of every image of the split; empty if it is unknown.
        """
        test = LogitHistogram.joined(images)
        found = test.reliability()
        ece = found.expected_calibration_error
        if math.isnan(ece):
            return None
        bins = zip(found.predicted.tolist(), found.observed.tolist(), found.pixels.tolist(), strict=True)
        return cls(
            ece=ece,
            temperature=temperature,
            ece_scaled=None if temperature is None else test.reliability(temperature).expected_calibration_error,
            reliability=tuple(ReliabilityBin(*bin_) for bin_ in bins if bin_[2]),
            sets=sets,
            coverage=None if sets is None else sets.covered(images, blocks),
            usual=usual,
        )


@dataclass(frozen=True, kw_only=True)
class MeasuredSplit(MeasuredFigures):
    """Record of a split, or of one scene of it, in a bundle: the figures, and how they were measured.

    Attributes:
        split_sha256: sha256 of the content of the split; empty if it is unknown.
        interval_unit: resampling unit of the bootstrap interval, ``event`` or ``tile``; empty if there is no interval.
        pixels: number of counted pixels.
        landslide_share: share of the counted pixels that are landslide.
        threshold: probability at or above which a pixel counts as landslide.
        calibration: calibration on the whole split; ``None`` if it was not measured.
    """

    split_sha256: str = ""
    interval_unit: str = ""
    pixels: int = 0
    landslide_share: float | None = None
    threshold: float | None = None
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_shares(self, "landslide_share", "threshold")
        _check_numbers(self, "patches", "pixels")

    @property
    def key(self) -> tuple[str, str, str | None, bool]:
        """Identity of the measurement; a new measurement with the same key replaces the old one."""
        return self.data, self.split, self.group, self.adapted

    @property
    def heading(self) -> str:
        """Return the heading of the Dice, such as ``test Dice``."""
        return f"{_SPLITS[self.split]} Dice" if self.split in _SPLITS else "Dice"

    @property
    def place(self) -> str:
        """Return what was measured: data, scene, split, number of patches, adaptation."""
        parts = [self.data or "unnamed data", self.group or "", "" if self.split in _SPLITS else self.split]
        number = f"{self.patches:,} patch{'' if self.patches == 1 else 'es'}" if self.patches else ""
        parts += [number, "adapted without labels" if self.adapted else ""]
        return ", ".join(filter(None, parts))

    @property
    def figures(self) -> str:
        """Return Dice with its interval, precision and recall as text."""
        if self.dice is None:
            return f"{self.heading} undefined"
        reach = "" if self.dice_interval is None else " (95 % interval {:.3f} to {:.3f})".format(*self.dice_interval)
        others = (f", {name} {value:.3f}" for name, value in self._precision_recall() if value is not None)
        return f"{self.heading} {self.dice:.3f}{reach}{''.join(others)}"

    def _precision_recall(self) -> Sequence[tuple[str, float | None]]:
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
        threshold: probability at or above which a pixel counts as landslide.
        data: name of the data set.
        split: name or description of the split.
        split_sha256: sha256 of the content of the split.
        adapted: whether the statistics were re-estimated on the images of the split.
        calibration: calibration on the whole split.

    Returns:
        The whole split first, then its groups in alphabetical order; none if there are more than :data:`MAX_GROUPS`.
    """
    shared = MeasuredSplit(data=data, split=split, split_sha256=split_sha256, adapted=adapted, threshold=threshold)
    found = [replace(_measured(shared, counts, groups), calibration=calibration)]
    names = np.asarray(groups)
    known = sorted(set(groups))
    if 1 < len(known) <= MAX_GROUPS:
        for name in known:
            chosen = counts.select(names == name)
            found.append(replace(_measured(shared, chosen, [name] * len(chosen)), group=name))
    return tuple(found)


def _measured(shared: MeasuredSplit, counts: Counts, groups: Sequence[str]) -> MeasuredSplit:
    cells = counts.pooled().cells
    resampling = Resampling.draw(groups)
    low, high = resampling.interval(resampling.pooled(counts, metrics.dice))
    pixels = int(sum(int(cell[0]) for cell in cells))
    return replace(
        shared,
        dice=_none_if_not_finite(metrics.dice(*cells)[0]),
        precision=_none_if_not_finite(metrics.precision(*cells)[0]),
        recall=_none_if_not_finite(metrics.recall(*cells)[0]),
        iou=_none_if_not_finite(metrics.iou(*cells)[0]),
        dice_interval=None if math.isnan(low) else (low, high),
        interval_unit="" if math.isnan(low) else resampling.unit,
        patches=len(counts),
        pixels=pixels,
        landslide_share=int(cells[0][0] + cells[2][0]) / pixels if pixels else None,
    )


def merge_evaluations(old: Iterable[MeasuredSplit], new: Iterable[MeasuredSplit]) -> tuple[MeasuredSplit, ...]:
    """Return the old records updated with the new ones; records with the same key are replaced."""
    found = {evaluation.key: evaluation for evaluation in old}
    return tuple((found | {evaluation.key: evaluation for evaluation in new}).values())


def headline(
    evaluations: Sequence[MeasuredSplit], metrics: Mapping[str, float | None], *, data: str = "", adapted: bool = False
) -> MeasuredSplit | None:
    """Return the record that represents a model; ``None`` if nothing was measured.

    This is the first record of a whole split that was measured adapted if ``adapted``, otherwise not adapted. A bundle
    from an older version has no records; its test figures are used instead.

    Args:
        evaluations: records of a bundle.
        metrics: figures of the test split, by name.
        data: name of the training data, for a bundle without records.
        adapted: whether the model is used adapted.
    """
    splits = [evaluation for evaluation in evaluations if evaluation.group is None]
    for wanted in (adapted, False, True):
        for one in splits:
            if one.adapted is wanted:
                return one
    if metrics.get("dice") is None:
        return None
    dice, precision, recall, iou = (_valid_share(metrics.get(name)) for name in ("dice", "precision", "recall", "iou"))
    return MeasuredSplit(data=data, dice=dice, precision=precision, recall=recall, iou=iou)


def quality_line(found: MeasuredSplit | None, *, adapted: bool = False, label: str = "") -> str:
    """Return the quality of a model in one line.

    Args:
        found: return value of :func:`headline`.
        adapted: whether the model is used adapted.
        label: label of the bundle, such as ``demo``.
    """
    text = f"quality {NOT_MEASURED}" if found is None else str(found)
    plain = "; measured without adaptation" if adapted and found is not None and not found.adapted else ""
    return f"{label + ' ' if label else ''}model: {text}{plain}"


def quality_warnings(found: MeasuredSplit | None) -> tuple[str, ...]:
    """Return the reasons why a model is too poor to rely on, as sentences; empty if it is good or unknown.

    A split without a landslide says nothing: its Dice and precision are 0 or undefined for every model.
    """
    if found is None or found.landslide_share == 0:
        return ()
    reasons = []
    if found.dice is not None and found.dice < POOR_DICE:
        reasons.append(f"its {found.heading} is {found.dice:.3f}, below {POOR_DICE:g}")
    if found.precision is not None and found.precision < POOR_PRECISION:
        reasons.append(
            f"its precision is {found.precision:.3f}, below {POOR_PRECISION:g}: "
            f"{1 - found.precision:.0%} of the pixels that it classifies as landslide are not"
        )
    return (f"this model is poor: {'; '.join(reasons)}",) if reasons else ()


def share_warnings(mapped: float, trained: float | None, *, adapted: bool = False) -> tuple[str, ...]:
    """Return warnings if the landslide share of a map is far from that of the training masks.

    Args:
        mapped: share of the mapped pixels at or above the threshold.
        trained: share of the landslide pixels in the training masks; ``None`` if it is unknown.
        adapted: whether the model was adapted to the scene; if so, adaptation is not recommended.
    """
    if not trained:
        return ()
    advice = "" if adapted else " (try --adapt)"
    if mapped > min(MAX_SHARE_RATIO * trained, 1.0):
        return (
            f"{mapped:.2%} of the mapped pixels are classified as landslide, more than {MAX_SHARE_RATIO:g} times the "
            f"share in the training masks ({trained:.2%}): the scene may be unlike the training data{advice}, or the "
            "threshold too low",
        )
    if mapped < trained / MAX_INVERSE_SHARE_RATIO:
        return (
            f"{mapped:.4%} of the mapped pixels are classified as landslide, less than "
            f"1/{MAX_INVERSE_SHARE_RATIO:g} of the share in the training masks ({trained:.2%}): if there are "
            f"landslides, the scene may be unlike the training data{advice}",
        )
    return ()


def _none_if_not_finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _valid_share(value: float | None) -> float | None:
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
            raise ValueError(f"{name} is {value!r}, expected a number of at least 0")
