"""Sources of risk for the pixels of a stack: the risk index, or a risk model fitted to an inventory."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from zoo.errors import ConfigError, DataError, ZooError
from zoo.jobs import ProgressCallback
from zoo.physics import PAPER_WEIGHTS, RAIN_PRESETS, Band, IndexParameters, RainParameters, rainfall_factor
from zoo.rasters.alignment import RainLayers
from zoo.rasters.ground import crs_name
from zoo.rasters.inventory import Inventory
from zoo.rasters.pixel_sample import PixelSample, sample_pixels
from zoo.rasters.stacking import TAG_INDEX
from zoo.rasters.stacks import SOFTWARE, TAG_SOURCE, Stack
from zoo.risk.calibration import Calibration, index_features
from zoo.risk.channel_values import beyond_ranges, check_values
from zoo.risk.index import MIN_FACTOR, ClassBreaks, RiskIndex, fit_breaks
from zoo.risk.splits import block_folds
from zoo.risk.weights import fit_ranges

if TYPE_CHECKING:
    from rasterio.windows import Window

CHUNK_PIXELS = 1 << 16
"""Pixels per chunk: small enough for their sums to stay in the CPU cache from the first band to the sigmoid."""

SAMPLES = 10_000
"""Pixels per class for fitting a risk model [O], limited by the slowest, the SVM."""

_PREDICTED_ROWS = 1 << 18

Factor = float | NDArray[np.float32]
Values = NDArray[np.float32]
Breaks = str | tuple[float, float] | None
Weights = str | os.PathLike[str] | RiskIndex | Calibration | None


class Surface(Protocol):
    """Source of risk values for pixels."""

    def evaluate(self, image: Values, factor: Factor) -> tuple[Values, int]:
        """Return the risk of a window.

        Args:
            image: float32 (C, H, W), the bands of the stack, NaN where unknown; may be overwritten. Infinite values
                count as unknown.
            factor: R_m, one number or float32 (H, W).

        Returns:
            float32 (H, W), 0..1, NaN where unknown; and the number of pixels where more rain lowers the risk.
        """
        ...


@dataclass(frozen=True)
class Rain:
    """Rain on a stack.

    Attributes:
        parameters: reference rain and exponents.
        clip: bounds of the factor; None for none.
        intensity: P in mm/h; None for rasters or no rain.
        duration: D in days; None for rasters or no rain.
        layers: rasters; None for numbers or no rain.
    """

    parameters: RainParameters
    clip: tuple[float, float] | None
    intensity: float | None = None
    duration: float | None = None
    layers: RainLayers | None = None

    @property
    def given(self) -> bool:
        """Whether rain other than the reference rain is given."""
        return self.layers is not None or self.intensity is not None

    def factor(self, window: Window) -> Factor:
        """Return R_m of a window.

        Raises:
            DataError: if an intensity or duration is negative or infinite; the message names the file.
        """
        if self.layers is not None:
            try:
                found = rainfall_factor(
                    self.layers.intensity(window), self.layers.duration(window), self.parameters, self.clip
                )
            except DataError as error:
                raise DataError(error.problem, where=self.layers.path, hint=error.hint) from error
            return found.astype(np.float32)
        if self.intensity is None or self.duration is None:
            return 1.0
        return float(rainfall_factor(self.intensity, self.duration, self.parameters, self.clip))

    def describe(self) -> str:
        """Return the origin of R_m as a phrase."""
        if self.layers is not None:
            bounds = "" if self.clip is None else f", R_m clipped to {self.clip[0]:g}-{self.clip[1]:g}"
            return f"rain from {Path(self.layers.path).name}{bounds}"
        if self.intensity is None or self.duration is None:
            return "no rain is given: R_m = 1, the reference rain"
        free = float(rainfall_factor(self.intensity, self.duration, self.parameters))
        used = float(rainfall_factor(self.intensity, self.duration, self.parameters, self.clip))
        cut = "" if free == used else f", clipped from {free:.3g}"
        days = "day" if self.duration == 1 else "days"
        return f"rain {self.intensity:g} mm/h over {self.duration:g} {days}: R_m = {used:.3g}{cut}"


class IndexSurface:
    """A :class:`RiskIndex` on the bands of one stack, computed in place in float32.

    Args:
        index: index with ranges.
        bands: bands of the stack.
        where: the stack, for messages.

    Raises:
        ZooError: if index and bands are incompatible; see :meth:`RiskIndex.check_bands`.

    Attributes:
        notes: notes on bands of unknown unit.
    """

    def __init__(self, index: RiskIndex, bands: Sequence[Band], where: object = None) -> None:
        self.notes = index.check_bands(bands, where)
        self._index = index
        names = [band.name for band in bands]
        self._terms = [_term(index, name, names.index(name)) for name in index.features]

    def evaluate(self, image: Values, factor: Factor) -> tuple[Values, int]:
        """Return the risk of a window; see :class:`Surface`."""
        shape = image.shape[1:]
        flat = image.reshape(image.shape[0], -1)
        factors = None if isinstance(factor, float) else np.broadcast_to(factor, shape).reshape(-1)
        result = np.empty(flat.shape[1], dtype=np.float32)
        scratch = np.empty(min(CHUNK_PIXELS, flat.shape[1]), dtype=np.float32)
        negative = 0
        with np.errstate(invalid="ignore", over="ignore"):
            for start in range(0, flat.shape[1], CHUNK_PIXELS):
                part = slice(start, start + CHUNK_PIXELS)
                total = result[part]
                total[:] = 0
                term = scratch[: len(total)]
                for band, low, scale, minimum, maximum in self._terms:
                    # Subtract first: elevations of thousands of metres leave few digits for a product.
                    np.subtract(flat[band, part], low, out=term)
                    # One sum detects infinite values, which the bounds below would clip to finite ones.
                    if not math.isfinite(np.add.reduce(term)):
                        term[np.isinf(term)] = np.nan
                    np.multiply(term, scale, out=term)
                    np.maximum(term, minimum, out=term)
                    np.minimum(term, maximum, out=term)
                    np.add(total, term, out=total)
                negative += self._apply_form(total, factor if factors is None else factors[part])
        return result.reshape(shape), negative

    def _apply_form(self, total: Values, factor: Any) -> int:
        """Convert weighted sums to the index in place; return the number that more rain would lower."""
        negative = 0
        if self._index.form == "multiplicative":
            if any(minimum < 0 for *_, minimum, _ in self._terms):
                negative = int(np.count_nonzero(total < 0))
            np.multiply(total, factor, out=total)
        else:
            np.multiply(total, np.float32(self._index.slope), out=total)
            rain = np.log(np.maximum(factor, np.float32(MIN_FACTOR)))
            np.add(total, np.float32(self._index.intercept) + np.float32(self._index.gain) * rain, out=total)
        # sigmoid(z) = (1 + tanh(z / 2)) / 2, which neither overflows nor needs a division.
        half = np.float32(0.5)
        np.multiply(total, half, out=total)
        np.tanh(total, out=total)
        np.multiply(total, half, out=total)
        np.add(total, half, out=total)
        return negative


def _term(index: RiskIndex, name: str, band: int) -> tuple[int, np.float32, np.float32, np.float32, np.float32]:
    weight, span = index.index.weights[name], index.index.ranges[name]
    return (
        band,
        np.float32(span.low),
        np.float32(weight / (span.high - span.low)),
        np.float32(min(weight, 0.0)),
        np.float32(max(weight, 0.0)),
    )


class ModelSurface:
    """A fitted risk model on the bands of one stack.

    Args:
        model: model with ``predict_proba`` for tables.
        names: columns of the table.
        positions: indices of these columns among the bands of the stack.
    """

    def __init__(self, model: Any, names: list[str], positions: list[int]) -> None:
        self._model, self._names, self._positions = model, names, positions

    def evaluate(self, image: Values, factor: Factor) -> tuple[Values, int]:
        """Return the risk of a window; see :class:`Surface`. Rain has no effect."""
        flat = image[self._positions].reshape(len(self._positions), -1)
        risk = np.full(flat.shape[1], np.nan, dtype=np.float32)
        known = np.flatnonzero(np.isfinite(flat).all(axis=0))
        for start in range(0, len(known), _PREDICTED_ROWS):
            rows = known[start : start + _PREDICTED_ROWS]
            risk[rows] = self.probability(flat[:, rows].T)
        return risk.reshape(image.shape[1:]), 0

    def probability(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the risk of pixels (N, k), 0..1, (N,)."""
        import pandas as pd

        table = pd.DataFrame(rows.astype(np.float64), columns=self._names)
        return np.asarray(self._model.predict_proba(table)[:, 1], dtype=np.float32)


def fit_model_surface(
    name: str,
    stack: Stack,
    inventory: Inventory,
    *,
    seed: int = 0,
    samples: int = SAMPLES,
    progress: ProgressCallback | None = None,
) -> tuple[ModelSurface, PixelSample]:
    """Fit a risk model to pixels of a stack with and without landslides.

    Args:
        name: one of :func:`zoo.risk.models.risk_models`.
        stack: an open stack; all bands except the LSI are features.
        inventory: landslides in the coordinates of the stack.
        seed: seed of the sample and the model.
        samples: maximum number of pixels of each class.
        progress: called with the number of windows done and the total while pixels are drawn.

    Returns:
        The surface, and the pixels that the model was fitted to. The risk ranks places. It is not a probability,
        because landslides are oversampled.

    Raises:
        UnknownNameError: if the model does not exist.
        ConfigError: if the model needs rain.
        DataError: if the stack has no feature, or pixels of only one class.
    """
    import pandas as pd

    from zoo.risk.models import create_risk_model, risk_models

    model = create_risk_model(name, seed=seed)
    if risk_models()[name].needs_rain:
        raise ConfigError(
            f"{name} needs rain of several events, which a stack does not have",
            hint="Map the index with --rain, or compare on a table: zoo risk compare",
        )
    bands = [band.name for band in stack.bands]
    names = [band for band in bands if band != "LSI"]
    if not names or len(set(names)) < len(names):
        raise DataError(
            f"cannot use bands {', '.join(names) or 'none'} as features: names must differ", where=stack.path
        )
    sample = sample_pixels(stack, names, inventory, max_pixels=samples, seed=seed, progress=progress)
    table = pd.DataFrame(sample.features.astype(np.float64), columns=names)
    try:
        inner = block_folds(sample.labels, sample.coordinates, folds=3, seed=seed)
    except (ConfigError, DataError):
        # A small region has too few blocks; the risk model then uses random folds.
        inner = None
    model.fit(table, sample.labels, inner=inner)
    return ModelSurface(model, names, [bands.index(name) for name in names]), sample


@dataclass(frozen=True)
class MapInputs:
    """Inputs of a map.

    Attributes:
        surface: source of the risk of each pixel.
        breaks: class breaks.
        rain: rain on the stack.
        index: the index; None for a risk model.
        source: one line on the origin of the risk.
        tags: tags of the files.
        notes: findings and decisions, as sentences.
        warnings: reasons why the risk may be wrong, as sentences.
    """

    surface: Surface
    breaks: ClassBreaks
    rain: Rain
    index: RiskIndex | None
    source: str
    tags: Mapping[str, str]
    notes: tuple[str, ...] = field(default=())
    warnings: tuple[str, ...] = field(default=())


def prepare_index(
    stack: Stack,
    weights: Weights,
    *,
    rain: tuple[float, float] | RainLayers | None = None,
    classes: Breaks = None,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> MapInputs:
    """Prepare an index for a stack.

    Ranges come from the weights, else from the LSI of the stack, else from the 0.5 and 99.5 percentiles of this scene.

    Args:
        stack: an open stack.
        weights: file of :meth:`RiskIndex.save` or ``zoo stack --save-weights``, or an index; None for Table 1.
        rain: (mm/h, days), or rasters; None for the reference rain.
        classes: "jenks" or "quantile" of this scene under the reference rain; "scenario", Jenks of this scene under
            ``rain``; or two breaks. None for the breaks of the weights, else Jenks of this scene.
        seed: seed of the pixels drawn.
        progress: called with the number of windows done and the total if pixels must be drawn.

    Raises:
        ZooError: if the weights are damaged or incompatible with the stack.
    """
    notes: list[str] = []
    index, origin, digest = _load_index(stack, weights, notes)
    home = index.region.crs
    if home is not None and home != crs_name(stack.crs):
        notes.append(f"the weights come from a region in {home}, but the stack is in {crs_name(stack.crs)}")
    index.check_bands(stack.bands, stack.path)
    check_values(stack, index.features)
    ranges = {name: span for name, span in index.index.ranges.items() if name in index.features}
    doubts = tuple(beyond_ranges(stack, ranges)) if ranges else ()
    layers = rain if isinstance(rain, RainLayers) else None
    readers = {}
    if layers is not None and classes == "scenario":
        readers = {"rain intensity": layers.intensity, "rain duration": layers.duration}
    sample: Mapping[str, NDArray[Any]] = {}
    if not index.index.ranges or isinstance(classes, str) or (classes is None and index.classes is None):
        drawn = sample_pixels(stack, index.features, None, layers=readers, seed=seed, progress=progress)
        sample = {name: drawn.region[:, column] for column, name in enumerate(drawn.names)}
    if not index.index.ranges:
        kept = {name: index.index.weights[name] for name in index.features}
        ranges = fit_ranges({name: sample[name] for name in kept})
        parameters = IndexParameters(kept, ranges, index.index.rain, index.index.rain_clip, origin)
        index = replace(index, index=parameters)
        notes.append(
            f"{origin}: features are scaled with the 0.5-99.5 percentiles of this scene, so the map only compares "
            f"places within this scene; weights from zoo risk calibrate carry over to other scenes"
        )
    surface = IndexSurface(index, stack.bands, stack.path)
    notes += surface.notes
    intensity, duration = rain if isinstance(rain, tuple) else (None, None)
    on_stack = Rain(index.index.rain_parameters, index.index.rain_clip, intensity, duration, layers)
    breaks = _choose_breaks(classes, index, sample, on_stack, notes)
    digest = digest or index.digest()
    terms = " ".join(f"{index.index.weights[name]:+.3g} {name}" for name in index.features)
    return MapInputs(
        surface=surface,
        breaks=breaks,
        rain=on_stack,
        index=index,
        source=f"{index.form} index of {terms}; {origin} (sha256 {digest[:12]})",
        tags={
            **_common_tags(stack),
            "FORM": index.form,
            "WEIGHTS": origin,
            "WEIGHTS_SHA256": digest,
            TAG_INDEX: json.dumps(index.index.to_dict(), ensure_ascii=False),
        },
        notes=tuple(notes),
        warnings=doubts,
    )


def _choose_breaks(
    classes: Breaks, index: RiskIndex, sample: Mapping[str, NDArray[Any]], rain: Rain, notes: list[str]
) -> ClassBreaks:
    """Return the given class breaks, those of the weights, or breaks fitted to a sample of the scene."""
    if isinstance(classes, tuple):
        return ClassBreaks(*classes)
    if not sample:
        assert index.classes is not None
        return index.classes
    if classes != "scenario":
        breaks = fit_breaks(index.evaluate(sample), classes or "jenks")
        notes.append(f"class breaks ({breaks.method}) were fitted to this scene under the reference rain")
        return breaks
    p, d = (sample.get(f"rain {name}", getattr(rain, name)) for name in ("intensity", "duration"))
    if p is None or d is None:
        raise ConfigError("breaks for the scenario need rain", where="--classes", hint="Give it: --rain 12,2")
    notes.append("class breaks (jenks) were fitted to this scene under the given rain, so classes rank its places")
    return _scenario_breaks(index.evaluate(sample, rainfall_factor(p, d, rain.parameters)), index.form)


def _scenario_breaks(index: NDArray[Any], form: str) -> ClassBreaks:
    """Fit natural breaks to the index under given rain.

    Heavy rain drives the multiplicative index towards 1, where differences between places vanish, so its breaks are
    fitted to the log-odds R_m S.
    """
    if form != "multiplicative":
        return fit_breaks(index)
    breaks = fit_breaks(logit(np.clip(np.asarray(index, np.float64), 1e-12, 1 - 1e-12)))
    return ClassBreaks(float(expit(breaks.low)), float(expit(breaks.high)), breaks.method)


def prepare_model(
    stack: Stack,
    name: str,
    slides: Inventory,
    *,
    classes: Breaks = None,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> MapInputs:
    """Fit a risk model to a stack and an inventory.

    Args:
        stack: an open stack.
        name: name of the risk model.
        slides: landslides in the coordinates of the stack.
        classes: "jenks" (None), "quantile" or two breaks.
        seed: seed of the pixels drawn and of the model.
        progress: called with the number of windows done and the total while pixels are drawn.

    Raises:
        ZooError: if the risk model cannot be fitted.
    """
    surface, sample = fit_model_surface(name, stack, slides, seed=seed, progress=progress)
    if isinstance(classes, tuple):
        breaks = ClassBreaks(*classes)
    else:
        breaks = fit_breaks(surface.probability(sample.region), classes or "jenks")
    slide_pixels = int(np.sum(sample.labels))
    return MapInputs(
        surface=surface,
        breaks=breaks,
        rain=Rain(RAIN_PRESETS["paper"], None),
        index=None,
        source=f"{name} fitted to {', '.join(sample.names)} and {slides.path.name}",
        tags={**_common_tags(stack), "MODEL": name, "INVENTORY": slides.path.name},
        notes=(
            *(f"{slides.path.name}: {text}" for text in slides.notes),
            f"{name} was fitted to {slide_pixels:,} landslide pixels and {len(sample.labels) - slide_pixels:,} other "
            "pixels; its risk ranks places and is not a probability",
        ),
    )


def _common_tags(stack: Stack) -> dict[str, str]:
    tags = {TAG_SOURCE: stack.path.name, **SOFTWARE}
    return tags | {name: stack.tags[name] for name in ("SCENE", "DATE", "PHASE") if name in stack.tags}


def _load_index(stack: Stack, weights: Weights, notes: list[str]) -> tuple[RiskIndex, str, str]:
    """Return the index, its origin, and the sha256 of its file, which is empty if there is no file."""
    if isinstance(weights, Calibration):
        weights = weights.index
    if isinstance(weights, RiskIndex):
        return weights, weights.index.source or "weights", ""
    if weights is not None:
        path = Path(weights)
        return RiskIndex.load(path), path.name, hashlib.sha256(path.read_bytes()).hexdigest()
    # Table 1 for the bands of the stack, with the ranges of its LSI if that also uses all of Table 1.
    names, found = index_features(stack)
    notes += found
    stored = stack.tags.get(TAG_INDEX)
    if stored is not None and len(names) == len(PAPER_WEIGHTS):
        try:
            parameters = IndexParameters.from_dict(json.loads(stored), stack.path)
        except (ZooError, ValueError, AttributeError, RecursionError) as error:
            raise DataError(f"its tag {TAG_INDEX} is damaged ({error})", where=stack.path) from error
        return RiskIndex(parameters), f"the LSI of {stack.path.name}", ""
    chosen = {name: PAPER_WEIGHTS[name] for name in names}
    size = sum(map(abs, chosen.values()))
    return RiskIndex(IndexParameters({name: weight / size for name, weight in chosen.items()})), "Table 1", ""


def input_path(source: object) -> Path | None:
    """Return ``source`` as a path if it names a file."""
    return Path(source) if isinstance(source, (str, os.PathLike)) else None
