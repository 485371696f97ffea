"""Calibration of a risk index on a stack and a landslide inventory, with scores in held-out blocks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

import zoo
from zoo.errors import ConfigError, DataError
from zoo.jobs import ProgressCallback
from zoo.physics import PAPER_WEIGHTS, RAIN_PRESETS, FeatureRange, IndexParameters, RainParameters, rainfall_factor
from zoo.physics.lsi import FEATURES, RAIN_CLIP
from zoo.physics.rain import check_rain
from zoo.rasters.alignment import RainLayers
from zoo.rasters.ground import crs_name
from zoo.rasters.inventory import read_inventory
from zoo.rasters.pixel_sample import MAX_SAMPLE_PIXELS, PixelSample, Reader, extent_of, sample_pixels
from zoo.rasters.reading import gdal_threads
from zoo.rasters.stacks import Stack
from zoo.risk.channel_values import check_values
from zoo.risk.index import (
    FORMS,
    ClassBreaks,
    ClassShare,
    IndexEvaluation,
    Provenance,
    RiskIndex,
    TrainingRegion,
    class_shares,
    fit_breaks,
    success_rate,
)
from zoo.risk.scores import SortedProbabilities, auc, intervals
from zoo.risk.splits import block_folds, square_blocks
from zoo.risk.weights import METHODS, PAPER_SIGNS, FittedWeights, RainFit, Scaler, fit_rain, fit_ranges, fit_weights

FOLDS = 5

_EVALUATED_ROWS = 20_000
"""Rows per class for the AUC of held-out blocks [O]: its interval depends on the blocks, not on their rows."""


@dataclass(frozen=True)
class CalibrationOptions:
    """Options of :func:`calibrate`, which documents them.

    Raises:
        ConfigError: if options contradict each other or do not exist.
    """

    method: str = "logistic"
    form: str = "multiplicative"
    signs: Mapping[str, int] | None = field(default_factory=lambda: PAPER_SIGNS)
    scaler: Scaler = "percentiles"
    classes: str | tuple[float, float] = "jenks"
    preset: str | RainParameters = "paper"
    rain: tuple[float, float] | Path | None = None
    duration: float | None = None
    clip: tuple[float, float] | None = RAIN_CLIP
    samples: int = MAX_SAMPLE_PIXELS
    block: float | None = None
    repeats: int = 200
    seed: int = 0
    layer: str | None = None
    where: str | None = None
    buffer: float | None = None

    def __post_init__(self) -> None:
        for what, value, known in (
            ("form", self.form, FORMS),
            ("method", self.method, METHODS),
            ("scaler", self.scaler, get_args(Scaler)),
        ):
            if value not in known:
                raise ConfigError(f"unknown {what} {value!r}", hint=f"Choose from: {', '.join(known)}")
        if isinstance(self.preset, str) and self.preset not in RAIN_PRESETS:
            raise ConfigError(f"unknown rain preset {self.preset!r}", hint=f"Choose from: {', '.join(RAIN_PRESETS)}")
        if self.duration is not None and not isinstance(self.rain, Path):
            raise ConfigError(
                "a duration can only be given with a rain raster",
                where="--duration",
                hint="Write numbers as --rain 12,2 (mm/h, days)",
            )
        if self.rain_numbers is not None:
            check_rain(*self.rain_numbers, where="--rain")
            if 0 in self.rain_numbers:
                raise ConfigError(
                    "without rain, the index is the same everywhere",
                    where="--rain",
                    hint="Give the rain before the landslides, or leave it out for the reference rain",
                )
        if self.samples < 10:
            raise ConfigError(f"{self.samples} pixels of each class are too few", hint="Draw at least 10")
        if self.repeats < 0:
            raise ConfigError(f"{self.repeats} bootstrap draws", hint="Give 0 or more")

    @property
    def rain_numbers(self) -> tuple[float, float] | None:
        """Intensity (mm/h) and duration (days) of the whole region; None for a raster or the reference rain."""
        return self.rain if isinstance(self.rain, tuple) else None


@dataclass(frozen=True)
class Calibration:
    """A calibrated index with its scores.

    Attributes:
        index: the index; :meth:`save` writes it.
        fitted: weights with intervals.
        sample: pixels of the calibration.
        auc_training: AUC of the training pixels.
        auc_blocks: AUC of held-out blocks; None if there are too few blocks.
        auc_interval: 95 % interval of ``auc_blocks``.
        shares: shares of area and landslides by class.
        curve: success rate: share of the area, share of the landslides.
        notes: findings and decisions, as sentences.
        warnings: problems that affect the quality of the index.
    """

    index: RiskIndex
    fitted: FittedWeights
    sample: PixelSample
    auc_training: float
    auc_blocks: float | None
    auc_interval: tuple[float, float] | None
    shares: tuple[ClassShare, ...]
    curve: tuple[NDArray[np.float64], NDArray[np.float64]]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index as JSON, atomically; ``zoo.risk.map(..., weights=path)`` reads it."""
        self.index.save(path)

    def auc_text(self) -> str:
        """Return the AUC of training pixels and held-out blocks as a phrase."""
        text = f"AUC {self.auc_training:.3f} (training)"
        if self.auc_blocks is not None and self.auc_interval is not None:
            low, high = self.auc_interval
            text += f", {self.auc_blocks:.3f} [{low:.3f}, {high:.3f}] (held-out blocks)"
        return text

    def __repr__(self) -> str:
        weights = ", ".join(f"{name} {weight:+.3f}" for name, weight in self.index.index.weights.items())
        return f"Calibration({self.index.form}; {weights}; {self.auc_text()})"


def calibrate(
    stack: str | os.PathLike[str],
    inventory: str | os.PathLike[str],
    *,
    method: Literal["logistic", "spearman", "expert"] = "logistic",
    form: Literal["multiplicative", "log-additive"] = "multiplicative",
    signs: Mapping[str, int] | None = PAPER_SIGNS,
    scaler: Scaler = "percentiles",
    classes: str | tuple[float, float] = "jenks",
    preset: str | RainParameters = "paper",
    rain: tuple[float, float] | str | os.PathLike[str] | None = None,
    duration: float | None = None,
    clip: tuple[float, float] | None = RAIN_CLIP,
    samples: int = MAX_SAMPLE_PIXELS,
    block: float | None = None,
    repeats: int = 200,
    seed: int = 0,
    layer: str | None = None,
    where: str | None = None,
    buffer: float | None = None,
    progress: ProgressCallback | None = None,
) -> Calibration:
    """Fit weights, scaling, rain and classes of the landslide risk index. The command is ``zoo risk calibrate``.

    Args:
        stack: raster with bands named after features of the index: SMI, NDBI, NDVI, NDWI, slope (degree), DEM (m).
        inventory: polygons of landslides: GeoPackage, Shapefile or GeoJSON.
        method: origin of the weights: "logistic" regression, "spearman" rank correlation, or "expert" (Table 1).
        form: "multiplicative", sigmoid(R_m S), or "log-additive", sigmoid(a + b S + g ln R_m).
        signs: direction by feature, -1 or 1, that weights must keep; Table 1 by default, None for free signs.
        scaler: "percentiles" scales features by their 0.5 and 99.5 percentiles, "minmax" by their extremes.
        classes: "jenks", "quantile", or the two class breaks.
        preset: rain parameters, or the name of a preset: "paper", "caine" or "guzzetti-global". A rain raster replaces
            them by fitted ones.
        rain: rain before the landslides: (mm/h, days) for the whole region, or a raster to which alpha, beta and P0 are
            fitted; None for the reference rain.
        duration: duration in days, if the raster holds only the intensity.
        clip: smallest and largest R_m; None for no bounds.
        samples: number of pixels to draw per class.
        block: side of spatial blocks in metres on the ground; None for a tenth of the region in the bootstrap and a
            fifth in the folds.
        repeats: number of bootstrap draws; 0 for no intervals.
        seed: random seed.
        layer, where, buffer: layer, SQL condition, and buffer in metres of the inventory.
        progress: called with the number of windows done and the total while pixels are drawn.

    Returns:
        The calibrated index with its scores; ``save`` writes it.

    Raises:
        ZooError: if files are missing, damaged or do not overlap, options contradict each other, or no feature is
            related to landslides.

    Example:
        >>> import zoo
        >>> found = zoo.risk.calibrate("stack.tif", "landslides.gpkg", form="log-additive")  # doctest: +SKIP
        >>> found.save("weights.json")  # doctest: +SKIP
    """
    options = CalibrationOptions(
        method=method,
        form=form,
        signs=signs,
        scaler=scaler,
        classes=classes,
        preset=preset,
        rain=rain if rain is None or isinstance(rain, tuple) else Path(rain),
        duration=duration,
        clip=clip,
        samples=samples,
        block=block,
        repeats=repeats,
        seed=seed,
        layer=layer,
        where=where,
        buffer=buffer,
    )
    with gdal_threads(stack), Stack(stack) as opened:
        return calibrate_stack(opened, Path(inventory), options, progress)


def index_features(stack: Stack) -> tuple[list[str], list[str]]:
    """Return the bands of a stack that the index can use, in the order of Table 1, and notes on missing ones.

    Raises:
        DataError: if there are none, or one is in another unit.
    """
    bands = {band.name: band for band in stack.bands}
    names = [name for name in PAPER_WEIGHTS if name in bands]
    if not names:
        raise DataError(
            f"no band is named after a feature of the index; the bands are {', '.join(bands)}",
            where=stack.path,
            hint=f"The index uses {', '.join(PAPER_WEIGHTS)}; zoo stack uses these names",
        )
    notes = []
    for name in names:
        if bands[name].unit not in (FEATURES[name], "unknown"):
            raise DataError(
                f"{name} is in {bands[name].unit!r}, but the index needs {FEATURES[name]!r}",
                where=stack.path,
                hint="Convert the band, or correct its unit",
            )
        if bands[name].unit == "unknown":
            notes.append(f"{name}: the stack does not state the unit; {FEATURES[name]} is assumed")
    missing = [name for name in PAPER_WEIGHTS if name not in bands]
    if missing:
        notes.append(f"the stack has no {', '.join(missing)}, so the index only uses {', '.join(names)}")
    return names, notes


def calibrate_stack(
    stack: Stack, inventory: Path, options: CalibrationOptions, progress: ProgressCallback | None = None
) -> Calibration:
    """Calibrate the index on an open stack; see :func:`calibrate`."""
    names, notes = index_features(stack)
    check_values(stack, names)
    slides = read_inventory(
        inventory, stack.crs, extent_of(stack), layer=options.layer, where=options.where, buffer=options.buffer
    )
    notes += [f"{inventory.name}: {text}" for text in slides.notes]
    with ExitStack() as exits:
        readers: dict[str, Reader] = {}
        if isinstance(options.rain, Path):
            layers = exits.enter_context(RainLayers(options.rain, stack, options.duration))
            readers = {"rain intensity": layers.intensity, "rain duration": layers.duration}
        sample = sample_pixels(
            stack, names, slides, layers=readers, max_pixels=options.samples, seed=options.seed, progress=progress
        )
    notes.append(_describe_sample(sample))
    return _fit(stack, inventory, options, names, sample, notes)


def _fit(
    stack: Stack, inventory: Path, options: CalibrationOptions, names: list[str], sample: PixelSample, notes: list[str]
) -> Calibration:
    warnings: list[str] = []
    region = {name: sample.region[:, column] for column, name in enumerate(sample.names)}
    features = {name: sample.column(name) for name in names}
    ranges = fit_ranges({name: region[name] for name in names}, options.scaler)
    blocks: NDArray[np.int64] | None = square_blocks(sample.coordinates, options.block)
    if blocks is not None and blocks.max() < 1:
        blocks = None
        warnings.append("all pixels lie in one block, so intervals treat pixels as independent and are too narrow")
    fitted = fit_weights(
        options.method,
        features,
        sample.labels,
        ranges,
        signs=options.signs,
        blocks=blocks,
        repeats=options.repeats,
        seed=options.seed,
    )
    warnings += _sign_contradictions(fitted, options.method)
    parameters, rain = _fit_rain(options, sample, fitted, blocks, notes)
    origin = f"{stack.path.name}, {options.method}"
    index = RiskIndex(
        IndexParameters(fitted.weights, ranges, parameters, options.clip, source=origin),
        form=options.form,
        # Correct for the oversampling of landslides: King & Zeng (2001), Political Analysis 9, 137-163 [S].
        intercept=(fitted.intercept if rain is None else rain.intercept) + _prior_shift(sample),
        slope=fitted.slope if rain is None else rain.slope,
        method=options.method,
        intervals={**fitted.intervals, **({} if rain is None else rain.intervals)},
    )
    on_landslides = sample.labels == 1
    rows = {name: sample.features[:, column] for column, name in enumerate(sample.names)}
    region_index = index.evaluate(region, _factor(options, index, region))
    row_index = index.evaluate(rows, _factor(options, index, rows))
    if isinstance(options.classes, tuple):
        breaks = ClassBreaks(*options.classes)
    else:
        breaks = fit_breaks(region_index, options.classes)
    shares = class_shares(breaks, region_index, row_index[on_landslides])
    if any(share.area == 0 for share in shares):
        warnings.append("a class is empty, because the breaks do not fit the index of this region")
    training = auc(sample.labels, row_index.astype(np.float64))
    blocked = _blocked_auc(options, features, sample, ranges, notes)
    held_out, interval = (None, None) if blocked is None else blocked
    index = replace(
        index,
        classes=breaks,
        region=TrainingRegion(crs_name(stack.crs), extent_of(stack), stack.pixel_size, sample.landslide_share),
        evaluation=IndexEvaluation(
            auc_fitted=training,
            auc_blocks=held_out,
            auc_blocks_interval=interval,
            classes={share.name: {"area": share.area, "landslides": share.landslides} for share in shares},
        ),
        provenance=Provenance(
            software=f"landslide-zoo {zoo.__version__}",
            stack=stack.path.name,
            inventory=inventory.name,
            landslide_pixels=int(on_landslides.sum()),
            other_pixels=int((~on_landslides).sum()),
            scaler=options.scaler,
            signs=None if options.signs is None else {name: options.signs.get(name, 0) for name in names},
            seed=options.seed,
        ),
    )
    return Calibration(
        index,
        fitted,
        sample,
        training,
        held_out,
        interval,
        shares,
        success_rate(region_index, row_index[on_landslides]),
        tuple(notes),
        tuple(warnings),
    )


def _fit_rain(
    options: CalibrationOptions,
    sample: PixelSample,
    fitted: FittedWeights,
    blocks: NDArray[np.int64] | None,
    notes: list[str],
) -> tuple[RainParameters | str, RainFit | None]:
    if not isinstance(options.rain, Path):
        return options.preset, None
    wet = (sample.column("rain intensity") > 0) & (sample.column("rain duration") > 0)
    if not wet.all():
        notes.append(f"{np.count_nonzero(~wet):,} pixels without rain were left out of the fit of alpha, beta and P0")
    names = [name for name in sample.names if not name.startswith("rain ")]
    total = fitted.weighted_sum({name: sample.column(name) for name in names})
    found = fit_rain(
        sample.column("rain intensity")[wet],
        sample.column("rain duration")[wet],
        total[wet],
        sample.labels[wet],
        blocks=None if blocks is None else blocks[wet],
        # Neighbouring rows are similar, so a few draws of blocks are enough.
        repeats=min(options.repeats, 50),
        seed=options.seed,
    )
    p = found.parameters
    notes.append(f"rain fitted: alpha {p.alpha:.3g}, beta {p.beta:.3g}, P0 {p.intensity:.3g} mm/h at D0 = 1 day")
    notes += found.notes
    return p, found


def _factor(options: CalibrationOptions, index: RiskIndex, columns: Mapping[str, NDArray[Any]]) -> Any:
    parameters = index.index.rain_parameters
    if isinstance(options.rain, Path):
        return rainfall_factor(columns["rain intensity"], columns["rain duration"], parameters)
    return 1.0 if options.rain is None else rainfall_factor(*options.rain, parameters)


def _prior_shift(sample: PixelSample) -> float:
    share, drawn = sample.landslide_share, float(np.mean(sample.labels))
    return float(np.log(share / (1 - share)) - np.log(drawn / (1 - drawn)))


def _sign_contradictions(fitted: FittedWeights, method: str) -> list[str]:
    what = "rank correlation" if method == "spearman" else "coefficient"
    return [
        f"{name}: the data contradict the sign of Table 1 ({what} {value:+.3g}), so its weight is 0. "
        "--signs free allows any sign"
        for name, value in fitted.contradicted.items()
    ]


def _blocked_auc(
    options: CalibrationOptions,
    features: Mapping[str, NDArray[np.float32]],
    sample: PixelSample,
    ranges: Mapping[str, FeatureRange],
    notes: list[str],
) -> tuple[float, tuple[float, float]] | None:
    """Return the AUC of held-out blocks, pooled over folds, with its interval; None if there are too few blocks."""
    rng = np.random.default_rng(options.seed)
    maximum = min(_EVALUATED_ROWS, options.samples)
    rows = np.sort(
        np.concatenate([rng.permutation(np.flatnonzero(sample.labels == label))[:maximum] for label in (0, 1)])
    )
    labels, coordinates = sample.labels[rows], sample.coordinates[rows]
    part = {name: values[rows] for name, values in features.items()}
    probability = np.zeros(len(rows))
    try:
        for fold in block_folds(labels, coordinates, folds=FOLDS, side=options.block, seed=options.seed):
            train = {name: values[fold.train] for name, values in part.items()}
            fitted = fit_weights(options.method, train, labels[fold.train], ranges, signs=options.signs, repeats=0)
            total = fitted.weighted_sum({name: values[fold.test] for name, values in part.items()})
            # Expert weights are the same in every fold; other weights need intercept and slope before pooling.
            expert = options.method == "expert"
            probability[fold.test] = expit(total if expert else fitted.intercept + fitted.slope * total)
    except (ConfigError, DataError) as error:
        notes.append(f"no AUC of held-out blocks: {error.problem}")
        return None
    # One fold, because the pooled values of all folds are comparable.
    judged = SortedProbabilities(labels, probability)
    found = intervals(
        judged, square_blocks(coordinates, options.block), repeats=min(options.repeats, 200) or 1, seed=options.seed
    )
    return judged.scores()["auc"], found["auc"]


def _describe_sample(sample: PixelSample) -> str:
    slides = int(sample.labels.sum())
    return (
        f"{slides:,} of {sample.landslide_pixels:,} landslide pixels and {len(sample.labels) - slides:,} other pixels "
        f"were drawn; landslides cover {sample.landslide_share:.2%} of {sample.known_pixels:,} pixels; "
        f"{sample.border_pixels:,} pixels next to an outline were left out"
    )
