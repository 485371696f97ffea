"""Intensity-duration thresholds of landslides: published ones, and thresholds fitted to a table of rain events."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import curve_fit
from scipy.special import ndtri

from zoo.errors import ConfigError, DataError, UnknownNameError
from zoo.files import check_outputs
from zoo.physics.rain import CAINE_1980, GUZZETTI_2008, RainParameters, check_rain, check_rain_names
from zoo.rasters.text_tables import check_names, to_numbers
from zoo.risk.scores import block_bootstrap
from zoo.risk.tables import load_frame, read_groups, read_labels, repeated_rows
from zoo.risk.weights import RainFit, fit_rain
from zoo.schema import write_json

PUBLISHED: Mapping[str, tuple[float, float, tuple[float, float]]] = MappingProxyType(
    {"Caine 1980": (*CAINE_1980, (0.167, 240.0)), "Guzzetti et al. 2008": (*GUZZETTI_2008, (0.1, 1000.0))}
)
"""Scale (mm/h) and exponent of I = A D^-B, D in hours, and the durations in hours for which it is drawn [S].

Caine gives 10 minutes to 10 days; later compilations print up to 500 hours. The range of Guzzetti et al. is that of
later compilations; the events behind it last 10 minutes to 35 days.
"""

PROBABILITIES: tuple[float, ...] = (0.01, 0.05, 0.2, 0.5)
"""Shares of landslides below a fitted threshold [O]; 0.05 is used for Italy (Peruccacci et al. 2017,
doi:10.1016/j.geomorph.2017.03.031) [S]."""

MIN_EVENTS = 20
"""Minimum number of events with landslides for a fit [O]."""

SAME_DURATION = 1.01
"""Maximum ratio of durations that count as equal: they do not determine the slope of a line [O]."""

REPEATS = 500
_RAIN_REPEATS = 100
"""Maximum bootstrap draws for alpha, beta and P0 [O]: each is a logistic regression of all events."""

USUAL_DEPTH_MM = (5.0, 800.0)
"""Usual range of the median depth of events with landslides, mm; outside it, the units are doubtful [O]."""

USUAL_DAYS = 7.0
"""Usual maximum of the median duration of events with landslides, days; above it, the units are doubtful [O]."""

_POINTS = 128
_CURVE = 25
"""Number of durations at which the interval of a curve is computed."""


@dataclass(frozen=True)
class Curve:
    """Threshold I = scale * D^-exponent, in mm/h and hours.

    Attributes:
        name: name, such as "5 %" or "Caine 1980".
        scale: scale A, mm/h.
        exponent: exponent B.
        probability: expected share of landslides below the threshold; None for a published threshold.
        scale_interval: 95 % bootstrap interval of the scale.
        hours: durations for which the curve is valid, increasing.
        band: lower and upper bound of the intensity at these durations, mm/h; empty without a bootstrap.
        below: share of the table's landslide events below the threshold.
        false_alarms: share of the events without landslides above the threshold; None without such events.
    """

    name: str
    scale: float
    exponent: float
    probability: float | None = None
    scale_interval: tuple[float, float] | None = None
    hours: tuple[float, ...] = ()
    band: tuple[tuple[float, float], ...] = ()
    below: float | None = None
    false_alarms: float | None = None

    def intensity(self, hours: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the intensity of the threshold in mm/h."""
        return np.asarray(self.scale * hours**-self.exponent)


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of a table of events.

    Attributes:
        curves: fitted thresholds, by increasing probability, then the published ones.
        exponent_interval: 95 % bootstrap interval of the exponent that the fitted thresholds share.
        landslides: number of events with landslides.
        others: number of events without landslides.
        spread: standard deviation of log10 I about the line.
        rain: alpha, beta, P0 and D0 of equation 5; None if all events had landslides.
        rain_intervals: 95 % intervals of the parameters in ``rain``.
        notes: findings and decisions, as sentences.
    """

    curves: tuple[Curve, ...]
    exponent_interval: tuple[float, float] | None
    landslides: int
    others: int
    spread: float
    rain: RainParameters | None = None
    rain_intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything as JSON, atomically."""
        write_json(path, self)


# long: one parameter for each option of `zoo risk thresholds`
def fit_thresholds(
    events: str | os.PathLike[str] | pd.DataFrame,
    *,
    rain_columns: tuple[str, str] = ("P", "D"),
    label: str | None = None,
    group: str | None = None,
    probabilities: Sequence[float] = PROBABILITIES,
    repeats: int = REPEATS,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    picture: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> Thresholds:
    """Fit intensity-duration thresholds to rain events. The command is ``zoo risk thresholds``.

    The method is frequentist (Brunetti et al. 2010, Natural Hazards and Earth System Sciences 10, 447-458): a line of
    log10 I over log10 D by least squares, a kernel density of the distances from it, a normal distribution fitted to
    that density, and its quantiles. Intervals are percentiles of a bootstrap over events (Peruccacci et al. 2012,
    Geomorphology 139-140, 79-90), as in CTRL-T (Melillo et al. 2018, Environmental Modelling & Software 105, 230-243).
    The width of the kernel follows Scott's rule [O].

    Args:
        events: CSV, Parquet or XLSX with one row per event, or a DataFrame.
        rain_columns: columns with the mean intensity (mm/h) and the duration (days).
        label: column that says whether an event had landslides, 0 or 1; None if every event had. With events without
            landslides, alpha, beta and P0 of equation 5 are also fitted, and false alarms are counted.
        group: column of groups, such as storms, which the bootstrap draws as a whole; None to draw events.
        probabilities: shares of landslides below a threshold, 0..1.
        repeats: number of bootstrap draws; 0 for no intervals.
        seed: random seed.
        out: JSON file to write.
        picture: picture to draw: events, curves and bands; PNG, PDF or SVG.
        overwrite: replace existing outputs.

    Returns:
        Curves with intervals, and the parameters of equation 5.

    Raises:
        ZooError: if the table is missing or damaged, a column does not exist, rain is implausible or in another unit,
            or fewer than 20 events had landslides.

    Example:
        >>> import zoo
        >>> found = zoo.risk.thresholds("events.csv", label="landslide", picture="id.png")  # doctest: +SKIP
        >>> found.curves[1].scale, found.curves[1].exponent  # doctest: +SKIP
        (4.9, 0.61)
    """
    check_outputs((out, picture), [] if isinstance(events, pd.DataFrame) else [events], overwrite=overwrite)
    if picture is not None:
        from zoo.rasters.map_frame import check_picture

        check_picture(Path(picture))
    wrong = [probability for probability in probabilities if not 0 < probability < 1]
    if wrong or not probabilities:
        raise ConfigError(
            f"probabilities {', '.join(map(str, probabilities)) or 'none'}", hint="Give shares such as 0.01,0.05"
        )
    if repeats < 0:
        raise ConfigError(f"{repeats} bootstrap draws", hint="Give 0 or more")
    notes: list[str] = []
    p, d, labels, groups = _read(events, rain_columns, label, group, notes)
    if repeats and groups is not None and len(np.unique(groups[labels == 1])) < 2:
        raise DataError(
            "all events with landslides are of one group, so groups cannot be drawn",
            where=f"column {group!r}",
            hint="Name the column of the storm or region with --group; --repeats 0 gives no intervals",
        )
    found = _fit(p, d, labels, groups, sorted(set(probabilities)), repeats, seed, notes)
    if out is not None:
        found.save(out)
    if picture is not None:
        from zoo.rasters.map_frame import save_picture
        from zoo.risk.pictures import draw_thresholds

        save_picture(draw_thresholds(found, 24 * d, p, labels == 1), Path(picture))
    return found


def _read(
    events: str | os.PathLike[str] | pd.DataFrame,
    rain_columns: tuple[str, str],
    label: str | None,
    group: str | None,
    notes: list[str],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[Any] | None]:
    where: object = "table" if isinstance(events, pd.DataFrame) else events
    frame = events if isinstance(events, pd.DataFrame) else load_frame(Path(events), notes)[0]
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1).reset_index(drop=True)
    check_names(list(frame.columns), where)
    if frame.empty:
        raise DataError("has no rows", where=where)
    for name in (*rain_columns, *([label] if label else ()), *([group] if group else ())):
        if name not in frame.columns:
            raise UnknownNameError("column", name, list(frame.columns), where=where)
    if rain_columns[0] == rain_columns[1]:
        raise ConfigError("intensity and duration are the same column", where="option rain-columns")
    check_rain_names(*rain_columns, where=where)
    labels = np.ones(len(frame), dtype=np.int64)
    if label is not None:
        labels, kept = read_labels(frame[label], where, label, notes)
        frame = frame[kept]
    rain = []
    for name in rain_columns:
        numbers = to_numbers(frame[name]).to_numpy()
        invalid = np.flatnonzero(np.isnan(numbers) & frame[name].notna().to_numpy())
        if len(invalid):
            first = int(invalid[0])
            raise DataError(
                f"row {int(frame.index[first]) + 1} holds {str(frame[name].iloc[first])[:60]!r}, not a number",
                where=f"{where}, column {name!r}",
                hint="Write decimal points, and leave the cell empty where the rain is unknown",
            )
        rain.append(numbers)
    p, d = rain
    check_rain(p, d, f"{where}, columns {rain_columns[0]!r} and {rain_columns[1]!r}")
    wet = np.isfinite(p) & np.isfinite(d) & (p > 0) & (d > 0)
    if not wet.all():
        notes.append(f"{int((~wet).sum())} events without rain, or without a number, were left out")
    groups = None
    if group is not None:
        groups = np.unique(read_groups(frame[group], group, notes)[wet], return_inverse=True)[1]
    elif repeated := repeated_rows(frame[wet]):
        notes.append(f"{repeated:,} events repeat another row, so intervals are too narrow. Remove the repeated rows")
    if int(labels[wet].sum()) < MIN_EVENTS:
        raise DataError(
            f"{int(labels[wet].sum())} events with landslides are too few for a threshold; {int((~wet).sum())} rows "
            "have no rain or no number",
            where=where,
            hint=f"At least {MIN_EVENTS} are needed; use --preset caine or guzzetti-global of zoo risk calibrate",
        )
    durations = d[wet][labels[wet] == 1]
    if durations.max() < SAME_DURATION * durations.min():
        raise DataError("all events with landslides have the same duration", where=f"{where}, {rain_columns[1]!r}")
    return p[wet], d[wet], labels[wet], groups


def _fit(
    p: NDArray[np.float64],
    d: NDArray[np.float64],
    labels: NDArray[np.int64],
    groups: NDArray[Any] | None,
    probabilities: list[float],
    repeats: int,
    seed: int,
    notes: list[str],
) -> Thresholds:
    slid = labels == 1
    hours = 24 * d
    x, y = np.log10(hours[slid]), np.log10(p[slid])
    line = _line(x, y, np.ones(len(x)))
    if line is None:
        raise DataError("the distances of the events from their line are not normally distributed")
    at = np.geomspace(hours[slid].min(), hours[slid].max(), _CURVE)

    def refit(times: NDArray[np.float64]) -> dict[str, float] | None:
        drawn = _line(x, y, times)
        if drawn is None:
            return None
        values = {"exponent": drawn[1]}
        for probability in probabilities:
            scale = _scale(drawn, probability)
            values[f"scale {probability}"] = scale
            values |= {f"{probability} {index}": float(scale * at[index] ** -drawn[1]) for index in range(_CURVE)}
        return values

    blocks = None if groups is None else groups[slid]
    spans = block_bootstrap(refit, blocks, len(x), repeats=repeats, seed=seed) if repeats else {}
    curves = [
        Curve(
            name=f"{100 * probability:g} %",
            scale=_scale(line, probability),
            exponent=line[1],
            probability=probability,
            scale_interval=spans.get(f"scale {probability}"),
            hours=tuple(at.tolist()),
            band=tuple(spans[f"{probability} {index}"] for index in range(_CURVE)) if spans else (),
        )
        for probability in probabilities
    ]
    curves += [
        Curve(name, scale, exponent, hours=tuple(np.geomspace(*span, _CURVE).tolist()))
        for name, (scale, exponent, span) in PUBLISHED.items()
    ]
    fitted: RainFit | None = None
    if not slid.all():
        try:
            fitted = fit_rain(
                p, d, np.zeros(len(p)), labels, blocks=groups, repeats=min(repeats, _RAIN_REPEATS), seed=seed
            )
            notes += fitted.notes
        except DataError as error:
            notes.append(f"alpha, beta and P0 were not fitted: {error.problem}")
    notes += _unit_warnings(p[slid], d[slid], line[1])
    return Thresholds(
        curves=tuple(_counted(curve, hours, p, slid) for curve in curves),
        exponent_interval=spans.get("exponent"),
        landslides=int(slid.sum()),
        others=int((~slid).sum()),
        spread=line[3],
        rain=None if fitted is None else fitted.parameters,
        rain_intervals={} if fitted is None else fitted.intervals,
        notes=tuple(notes),
    )


def _unit_warnings(p: NDArray[np.float64], d: NDArray[np.float64], exponent: float) -> list[str]:
    """Return sentences about the units as read, and reasons to doubt them.

    Args:
        p: intensity of the events with landslides, mm/h.
        d: duration of these events, days.
        exponent: exponent of the fitted thresholds.
    """
    depth, days = float(np.median(24 * p * d)), float(np.median(d))
    found = [
        f"events with landslides: P {p.min():.3g} to {p.max():.3g} mm/h, D {d.min():.3g} to {d.max():.3g} days "
        f"(median {days:.3g}), median depth {depth:.4g} mm"
    ]
    if depth < USUAL_DEPTH_MM[0]:
        found.append(f"check the units: {depth:.4g} mm is little for landslides. Is P in inches or metres per hour?")
    elif depth > USUAL_DEPTH_MM[1] or days > USUAL_DAYS:
        found.append(
            f"check the units: events are unusually long or wet. Is D in hours? Its median would be "
            f"{days / 24:.3g} days, and the median depth {depth / 24:.4g} mm"
        )
    if exponent >= 1:
        found.append(f"check the columns: with B = {exponent:.3g}, longer events have less rain. Are P and D swapped?")
    elif exponent <= 0:
        found.append(
            f"check the columns: with B = {exponent:.3g}, longer events are more intense. Is P the depth in mm?"
        )
    return found


def _line(
    x: NDArray[np.float64], y: NDArray[np.float64], times: NDArray[np.float64]
) -> tuple[float, float, float, float] | None:
    """Return the intercept and exponent of the line, and the mean and standard deviation of the distances from it.

    Args:
        x: log10 of hours, (N,).
        y: log10 of mm/h, (N,).
        times: weight of each event, (N,).

    Returns:
        The four numbers; None if the events with a positive weight have one duration, or no normal distribution can
        be fitted.
    """
    from scipy.stats import gaussian_kde  # takes half a second, too long for commands that read stored thresholds

    total = times.sum()
    middle_x, middle_y = times @ x / total, times @ y / total
    width = times @ (x - middle_x) ** 2
    if width <= 0:
        return None
    slope = times @ ((x - middle_x) * (y - middle_y)) / width
    intercept = middle_y - slope * middle_x
    distance = y - intercept - slope * x
    spread = math.sqrt(times @ distance**2 / total)
    if spread < 1e-9:
        return float(intercept), float(-slope), 0.0, 0.0
    places = np.linspace(distance.min() - spread, distance.max() + spread, _POINTS)
    try:
        density = gaussian_kde(distance, weights=times)(places)
        (_, mean, deviation), _ = curve_fit(_normal, places, density, p0=(density.max(), 0.0, spread))
    except (RuntimeError, np.linalg.LinAlgError, ValueError):
        return None
    return float(intercept), float(-slope), float(mean), abs(float(deviation))


def _normal(x: NDArray[np.float64], height: float, mean: float, deviation: float) -> NDArray[np.float64]:
    return np.asarray(height * np.exp(-((x - mean) ** 2) / (2 * deviation**2)))


def _scale(line: tuple[float, float, float, float], probability: float) -> float:
    intercept, _, mean, deviation = line
    return float(10 ** (intercept + mean + deviation * ndtri(probability)))


def _counted(curve: Curve, hours: NDArray[np.float64], p: NDArray[np.float64], slid: NDArray[np.bool_]) -> Curve:
    above = p >= curve.intensity(hours)
    others = None if slid.all() else float(above[~slid].mean())
    return replace(curve, below=float((~above[slid]).mean()), false_alarms=others)
