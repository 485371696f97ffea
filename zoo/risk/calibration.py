"""From a stack and an inventory to a calibrated index, and what it is worth in places that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

import zoo
from zoo.errors import ConfigError, DataError
from zoo.physics import PAPER_WEIGHTS, RAIN_PRESETS, FeatureRange, IndexParameters, RainParameters, rainfall_factor
from zoo.physics.lsi import FEATURES, RAIN_CLIP
from zoo.rasters.alignment import RainLayers
from zoo.rasters.ground import crs_name
from zoo.rasters.inventory import read_inventory
from zoo.rasters.pixel_sample import MOST, PixelSample, Reader, extent_of, sample_pixels
from zoo.rasters.stacks import Stack
from zoo.risk import rain_fit
from zoo.risk.blocks import square_blocks
from zoo.risk.classes import ClassBreaks, ClassShare, class_shares, fit_breaks, success_rate
from zoo.risk.folds import block_folds
from zoo.risk.index import FORMS, RiskIndex
from zoo.risk.resampling import Judgement, intervals
from zoo.risk.scores import auc
from zoo.risk.weights import PAPER_SIGNS, FittedWeights, Scaler, fit_weights, ranges_of

_JUDGED = 20_000
"""Rows of each kind that the AUC under spatial blocks is measured on [O]: its interval comes from the blocks."""

FOLDS = 5


@dataclass(frozen=True)
class CalibrationOptions:
    """How an index is calibrated.

    Attributes:
        method: "logistic", "spearman" or "expert".
        form: one of :data:`zoo.risk.index.FORMS`.
        signs: direction by feature that weights may not contradict; None to let the data speak.
        scaler: "percentiles" (0.5 and 99.5) or "minmax".
        classes: "jenks", "quantile", or the two breaks.
        preset: rain parameters by name or themselves, unless rain is a raster and they are fitted.
        rain: (mm/h, days) for the whole region; None for the reference rain, or a raster.
        rain_file: raster of the rain that came before the landslides; alpha, beta and P0 are fitted to it.
        rain_duration: days, when the raster holds the intensity alone.
        clip: bounds of R_m.
        most: pixels of each kind to draw.
        block: side of the blocks of the bootstrap and the folds in metres; None for a tenth of the region in the
            bootstrap and a fifth in the folds.
        repeats: draws of the bootstrap.
        seed: of every draw.
        layer, where, buffer: of the inventory; see :func:`zoo.rasters.inventory.read_inventory`.

    Raises:
        ConfigError: for options that contradict each other or do not exist.
    """

    method: str = "logistic"
    form: str = "multiplicative"
    signs: Mapping[str, int] | None = field(default_factory=lambda: PAPER_SIGNS)
    scaler: Scaler = "percentiles"
    classes: str | tuple[float, float] = "jenks"
    preset: str | RainParameters = "paper"
    rain: tuple[float, float] | None = None
    rain_file: Path | None = None
    rain_duration: float | None = None
    clip: tuple[float, float] | None = RAIN_CLIP
    most: int = MOST
    block: float | None = None
    repeats: int = 200
    seed: int = 0
    layer: str | None = None
    where: str | None = None
    buffer: float | None = None

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ConfigError(f"form {self.form!r}", hint=f"One of: {', '.join(FORMS)}")
        if isinstance(self.preset, str) and self.preset not in RAIN_PRESETS:
            raise ConfigError(f"rain preset {self.preset!r}", hint=f"One of: {', '.join(RAIN_PRESETS)}")
        if self.rain is not None and self.rain_file is not None:
            raise ConfigError("rain is given both as numbers and as a raster")
        if self.most < 10:
            raise ConfigError(f"{self.most} pixels of each kind are too few", hint="At least 10")


@dataclass(frozen=True)
class Calibration:
    """A calibrated index and what it is worth.

    Attributes:
        index: to save.
        fitted: weights with intervals and what the data say against signs.
        sample: pixels that it was calibrated on.
        auc: on the pixels fitted on; in blocks not fitted on, and its interval, None where blocks cannot be cut.
        shares: area and landslides by class.
        curve: success rate: share of the area, share of the landslides.
        notes: what was found and decided on the way.
        warnings: what may spoil the index.
    """

    index: RiskIndex
    fitted: FittedWeights
    sample: PixelSample
    auc: tuple[float, float | None, tuple[float, float] | None]
    shares: tuple[ClassShare, ...]
    curve: tuple[NDArray[np.float64], NDArray[np.float64]]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def index_features(stack: Stack) -> tuple[list[str], list[str]]:
    """Bands of a stack that the index may be made of, in the order of Table 1, and notes on those that are not there.

    Raises:
        DataError: if there is none, or one is in another unit.
    """
    bands = {band.name: band for band in stack.bands}
    names = [name for name in PAPER_WEIGHTS if name in bands]
    if not names:
        raise DataError(
            f"no band is named after a feature of the index; there are: {', '.join(bands)}",
            where=stack.path,
            hint=f"The index is made of {', '.join(PAPER_WEIGHTS)}; zoo stack names them so",
        )
    notes = []
    for name in names:
        if bands[name].unit not in (FEATURES[name], "unknown"):
            raise DataError(
                f"{name} is in {bands[name].unit!r}, the index takes it in {FEATURES[name]!r}",
                where=stack.path,
                hint="Convert the band, or put its unit right",
            )
        if bands[name].unit == "unknown":
            notes.append(f"{name}: the stack does not say its unit; taken to be {FEATURES[name]}")
    missing = [name for name in PAPER_WEIGHTS if name not in bands]
    if missing:
        notes.append(f"the stack has no {', '.join(missing)}: the index is made of {', '.join(names)} alone")
    return names, notes


def calibrate(
    stack: Stack,
    inventory: Path,
    options: CalibrationOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Calibrate the index of a region: the same as the command ``zoo risk calibrate``.

    Args:
        stack: an open one, with bands named after features of the index.
        inventory: polygons of landslides.
        options: all others.
        progress: called with (windows done, all windows) while pixels are drawn.

    Raises:
        ZooError: if files are missing or damaged or lie elsewhere, or nothing can be learnt from them.
    """
    options = options or CalibrationOptions()
    names, notes = index_features(stack)
    slides = read_inventory(
        inventory, stack.crs, extent_of(stack), layer=options.layer, where=options.where, buffer=options.buffer
    )
    notes += [f"{inventory.name}: {text}" for text in slides.notes]
    with _rain_layers(options, stack) as layers:
        readers: dict[str, Reader] = {}
        if layers is not None:
            readers = {"rain intensity": layers.intensity, "rain duration": layers.duration}
        sample = sample_pixels(
            stack, names, slides, layers=readers, most=options.most, seed=options.seed, progress=progress
        )
    notes.append(_tell_sample(sample))
    return _fit(stack, inventory, options, names, sample, notes)


def _fit(
    stack: Stack, inventory: Path, options: CalibrationOptions, names: list[str], sample: PixelSample, notes: list[str]
) -> Calibration:
    warnings: list[str] = []
    region = {name: sample.region[:, column] for column, name in enumerate(sample.names)}
    features = {name: sample.column(name) for name in names}
    ranges = ranges_of({name: region[name] for name in names}, options.scaler)
    blocks = square_blocks(sample.coordinates, options.block)
    usable = None if blocks.max() < 1 else blocks
    if usable is None:
        warnings.append("all pixels lie in one block: intervals take pixels for independent, and are too narrow")
    fitted = fit_weights(
        options.method,
        features,
        sample.labels,
        ranges,
        signs=options.signs,
        blocks=usable,
        repeats=options.repeats,
        seed=options.seed,
    )
    warnings += _against(fitted, options)
    rain, rain_result = _rain(options, sample, fitted, usable, notes)
    index = RiskIndex(
        IndexParameters(fitted.weights, ranges, rain, options.clip, source=f"{stack.path.name}, {options.method}"),
        form=options.form,
        # Landslides were drawn more often than they are: King & Zeng (2001), Political Analysis 9, 137-163 [S].
        intercept=(fitted.intercept if rain_result is None else rain_result.intercept) + _prior_shift(sample),
        slope=fitted.slope if rain_result is None else rain_result.slope,
        method=options.method,
        intervals={**fitted.intervals, **({} if rain_result is None else rain_result.intervals)},
    )
    region_index = index.evaluate(region, _factor(options, index, region))
    slide_rows = sample.labels == 1
    sampled = {name: sample.features[:, column] for column, name in enumerate(sample.names)}
    row_index = index.evaluate(sampled, _factor(options, index, sampled))
    breaks = _breaks(options, region_index)
    shares = class_shares(breaks, region_index, row_index[slide_rows])
    if any(share.area == 0 for share in shares):
        warnings.append("a class is empty: the breaks do not fit the index of this region")
    blocked = _blocked_auc(options, features, sample, ranges, notes)
    whole = auc(sample.labels, row_index.astype(np.float64))
    index = replace(
        index,
        classes=breaks,
        region={
            "crs": crs_name(stack.crs),
            "bounds": list(extent_of(stack)),
            "pixel_size_m": stack.pixel_size,
            "landslide_share": sample.landslide_share,
        },
        evaluation={
            "auc_fitted": whole,
            "auc_blocks": None if blocked is None else blocked[0],
            "auc_blocks_interval": None if blocked is None else list(blocked[1]),
            "classes": {share.name: {"area": share.area, "landslides": share.landslides} for share in shares},
        },
        provenance={
            "software": f"landslide-zoo {zoo.__version__}",
            "stack": stack.path.name,
            "inventory": inventory.name,
            "landslide_pixels": int(slide_rows.sum()),
            "other_pixels": int((~slide_rows).sum()),
            "scaler": options.scaler,
            "signs": None if options.signs is None else {name: options.signs.get(name, 0) for name in names},
            "seed": options.seed,
        },
    )
    return Calibration(
        index,
        fitted,
        sample,
        (whole, None, None) if blocked is None else (whole, *blocked),
        shares,
        success_rate(region_index, row_index[slide_rows]),
        tuple(notes),
        tuple(warnings),
    )


class _NoRain:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def _rain_layers(options: CalibrationOptions, stack: Stack) -> RainLayers | _NoRain:
    if options.rain_file is None:
        return _NoRain()
    return RainLayers(options.rain_file, stack, options.rain_duration)


def _rain(
    options: CalibrationOptions,
    sample: PixelSample,
    fitted: FittedWeights,
    blocks: NDArray[np.int64] | None,
    notes: list[str],
) -> tuple[RainParameters | str, rain_fit.RainFit | None]:
    if options.rain_file is None:
        return options.preset, None
    wet = (sample.column("rain intensity") > 0) & (sample.column("rain duration") > 0)
    if not wet.all():
        notes.append(f"{np.count_nonzero(~wet):,} pixels without rain were left out of the fit of alpha, beta and P0")
    names = [name for name in sample.names if not name.startswith("rain ")]
    total = fitted.sum_of({name: sample.column(name) for name in names})
    found = rain_fit.fit(
        sample.column("rain intensity")[wet],
        sample.column("rain duration")[wet],
        total[wet],
        sample.labels[wet],
        blocks=None if blocks is None else blocks[wet],
        # Rows beside each other repeat each other, so a short bootstrap over blocks tells as much.
        repeats=min(options.repeats, 50),
        seed=options.seed,
    )
    p = found.parameters
    notes.append(f"rain fitted: alpha {p.alpha:.3g}, beta {p.beta:.3g}, P0 {p.intensity:.3g} mm/h at D0 = 1 day")
    notes += found.notes
    return p, found


def _factor(options: CalibrationOptions, index: RiskIndex, columns: Mapping[str, NDArray[Any]]) -> Any:
    parameters = index.index.rain_parameters
    if options.rain_file is not None:
        return rainfall_factor(columns["rain intensity"], columns["rain duration"], parameters)
    return 1.0 if options.rain is None else rainfall_factor(*options.rain, parameters)


def _breaks(options: CalibrationOptions, region_index: NDArray[Any]) -> ClassBreaks:
    if isinstance(options.classes, tuple):
        return ClassBreaks(*options.classes)
    return fit_breaks(region_index, options.classes)


def _prior_shift(sample: PixelSample) -> float:
    share, drawn = sample.landslide_share, float(np.mean(sample.labels))
    return float(np.log(share / (1 - share)) - np.log(drawn / (1 - drawn)))


def _against(fitted: FittedWeights, options: CalibrationOptions) -> list[str]:
    what = "rank correlation" if options.method == "spearman" else "coefficient"
    return [
        f"{name}: the data say the opposite of Table 1 ({what} {value:+.3g}), so it weighs 0; --signs free lets it go"
        for name, value in fitted.against.items()
    ]


def _blocked_auc(
    options: CalibrationOptions,
    features: Mapping[str, NDArray[np.float32]],
    sample: PixelSample,
    ranges: Mapping[str, FeatureRange],
    notes: list[str],
) -> tuple[float, tuple[float, float]] | None:
    """AUC in blocks that the weights were not fitted on, pooled over folds; None where folds cannot be cut."""
    rng = np.random.default_rng(options.seed)
    rows = np.sort(
        np.concatenate(
            [rng.permutation(np.flatnonzero(sample.labels == label))[: min(_JUDGED, options.most)] for label in (0, 1)]
        )
    )
    labels, coordinates = sample.labels[rows], sample.coordinates[rows]
    part = {name: values[rows] for name, values in features.items()}
    try:
        folds = block_folds(labels, coordinates, folds=FOLDS, side=options.block, seed=options.seed)
    except (ConfigError, DataError) as error:
        notes.append(f"no AUC under spatial blocks: {error.problem}")
        return None
    probability = np.zeros(len(rows))
    for fold in folds:
        train = {name: values[fold.train] for name, values in part.items()}
        test = {name: values[fold.test] for name, values in part.items()}
        try:
            fitted = fit_weights(options.method, train, labels[fold.train], ranges, signs=options.signs, repeats=0)
        except DataError as error:
            notes.append(f"no AUC under spatial blocks: in one fold {error.problem}")
            return None
        total = fitted.sum_of(test)
        # An expert's weights are the same in every fold; others need their line, or folds could not be pooled.
        expert = options.method == "expert"
        probability[fold.test] = expit(total if expert else fitted.intercept + fitted.slope * total)
    blocks = square_blocks(coordinates, options.block)
    # One fold: the weights of all folds are of one index, so its values rank against each other.
    judged = Judgement(labels, probability, np.zeros(len(labels), dtype=np.int64))
    found = intervals(judged, blocks, repeats=min(options.repeats, 200) or 1, seed=options.seed)
    return judged.scores()["auc"], found["auc"]


def _tell_sample(sample: PixelSample) -> str:
    slides = int(sample.labels.sum())
    return (
        f"{slides:,} of {sample.landslide_pixels:,} landslide pixels and {len(sample.labels) - slides:,} others were "
        f"drawn; landslides cover {sample.landslide_share:.2%} of {sample.known_pixels:,} pixels; "
        f"{sample.border_pixels:,} beside an outline were left out"
    )
