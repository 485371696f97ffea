"""Convert digital numbers of optical bands to reflectance: scale, offset and checks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ConfigError, DataError
from zoo.physics import baseline_offset, dark_pixels, guess_offset, harmonize, ndvi
from zoo.physics.sentinel2 import QUANTIFICATION
from zoo.rasters.alignment import AlignedBand
from zoo.rasters.grid import windows
from zoo.rasters.layers import OPTICAL, Layer

Samples: TypeAlias = Mapping[str, NDArray[np.float32]]

MIN_LAND_REFLECTANCE = 0.1
"""Minimum reflectance of land in red or NIR; water and shadow are darker [O]."""

SWAPPED_BELOW = -0.1
"""Lower limit for the NDVI of land: bare soil is near 0.1, snow and cloud near 0 [O]."""

CLOUDY = (0, 1, 3, 8, 9, 10)
"""Classes of the scene classification that hide the ground.

They are no data, saturated or defective, cloud shadow, cloud of medium and of high probability, and thin cirrus.
Topographic shadow (2), snow (11) and unclassified (7) are kept [O].
"""


MAX_CLASS = 11
"""Largest number of the scene classification."""


@dataclass(frozen=True)
class Calibration:
    """Conversion of the digital numbers of one band to reflectance.

    Attributes:
        offset: value that is added to the number in the file.
        scale: factor that is multiplied after the offset is added.
        how: source of both values, for the report.
    """

    offset: float
    scale: float
    how: str

    def apply(self, numbers: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the reflectance of digital numbers, float32, NaN where they are NaN."""
        values: NDArray[np.float32] = harmonize(numbers, offset=self.offset, scale=self.scale, nodata=None).astype(
            np.float32, copy=False
        )
        return values


def sample(bands: Mapping[str, AlignedBand], tiles: int = 6, size: int = 128, enough: int = 20_000) -> Samples:
    """Return the digital numbers of pixels spread over the grid, the same pixels for every band.

    Args:
        bands: bands by role, on one grid.
        tiles: number of squares along each side of the grid.
        size: side of a square in pixels.
        enough: number of pixels with data in every band that is enough; if the squares have fewer, the rest of the
            grid is searched.

    Returns:
        The numbers by role, float32 arrays of equal length, NaN where a band has no data. Pixels without data in all
        bands are left out.
    """
    grid = next(iter(bands.values())).grid
    everywhere = windows((grid.shape[0], grid.shape[1]), size)
    rows, columns = (math.ceil(side / size) for side in grid.shape)
    chosen = {
        round(row) * columns + round(column)
        for row in np.linspace(0, rows - 1, min(tiles, rows))
        for column in np.linspace(0, columns - 1, min(tiles, columns))
    }
    order = [*sorted(chosen), *(place for place in range(len(everywhere)) if place not in chosen)]
    parts: dict[str, list[NDArray[np.float32]]] = {role: [] for role in bands}
    found = 0
    seen_roles: set[str] = set()
    for seen, place in enumerate(order):
        if seen >= len(chosen) and found >= enough:
            break
        pixels = {role: band.read(everywhere[place]).ravel() for role, band in bands.items()}
        present = {role: np.isfinite(values) for role, values in pixels.items()}
        known = np.logical_or.reduce(list(present.values()))
        shared = int(np.logical_and.reduce(list(present.values())).sum())
        # The search can pass over a whole scene. Keep only windows with new information to limit the memory.
        first_seen = {role for role in bands if role not in seen_roles and present[role].any()}
        if seen < len(chosen) or shared or first_seen:
            found += shared
            seen_roles |= first_seen
            for role, values in pixels.items():
                parts[role].append(values[known])
    return {role: np.concatenate(values) for role, values in parts.items()}


@dataclass(frozen=True)
class UserOptics:
    """The user's statements about the digital numbers; see :func:`calibrate`.

    Attributes:
        baseline, offset, scale: of all bands; ``None`` where they are unknown.
        force: accept red and NIR bands that look swapped.
    """

    baseline: str | None = None
    offset: float | None = None
    scale: float | None = None
    force: bool = False


def choose_optics(
    layers: Mapping[str, Layer], samples: Samples, found_baseline: str, user: UserOptics
) -> tuple[dict[str, Calibration], list[str], list[str]]:
    """Choose the calibration of an image and check the reflectances that it gives.

    Args:
        layers: layers by role; only optical ones are used.
        samples: result of :func:`sample`.
        found_baseline: processing baseline of the catalogue or product, "" when unknown.
        user: the user's statements.

    Returns:
        The calibration by role, notes and warnings.

    Raises:
        ZooError: as :func:`calibrate` and :func:`check_swapped`.
    """
    optical = {role: layer for role, layer in layers.items() if role in OPTICAL}
    if not optical:
        return {}, [], []
    calibrations, notes = calibrate(
        optical, samples, found_baseline=found_baseline, baseline=user.baseline, offset=user.offset, scale=user.scale
    )
    reflectances = {role: calibrations[role].apply(samples[role]) for role in optical}
    if "scl" in samples:
        check_classes(samples["scl"], layers["scl"].path)
        for values in reflectances.values():
            values[cloud_pixels(samples["scl"])] = np.nan
    warnings = check_reflectance(reflectances, calibrations)
    if "nir" in optical:
        try:
            check_swapped(reflectances, layers["nir"].path)
        except DataError as error:
            if not user.force:
                raise
            warnings.append(f"{error.problem}; accepted because of --force")
    return calibrations, notes, warnings


def calibrate(
    layers: Mapping[str, Layer],
    samples: Samples,
    *,
    found_baseline: str = "",
    baseline: str | None = None,
    offset: float | None = None,
    scale: float | None = None,
) -> tuple[dict[str, Calibration], list[str]]:
    """Choose the scale and offset of every optical band.

    The user's offset or scale takes precedence, then that of the source or of the file's tags, then the baseline. A
    file with a scale tag but no offset tag has the offset 0. Reflectance in 0..1 keeps its values. If nothing states
    the offset of digital numbers, it is estimated from dark pixels.

    Args:
        layers: optical layers by role.
        samples: result of :func:`sample`.
        found_baseline: processing baseline of the catalogue or product; before 04.00 there is no offset.
        baseline: processing baseline given by the user, for digital numbers as ESA distributes them.
        offset: offset given by the user, added to the digital numbers.
        scale: scale given by the user, multiplied after the offset is added.

    Returns:
        The calibration by role, and notes about every choice that neither the file nor the user states.

    Raises:
        ConfigError: if baseline and offset are both given, or the baseline is invalid.
        DataError: if the numbers are neither reflectance nor digital numbers.
    """
    if baseline is not None and offset is not None:
        raise ConfigError("--baseline and --offset both set the offset", hint="Give only one of them")
    stated = None if baseline is None else baseline_offset(baseline)
    notes: list[str] = []
    scales = {role: _scale(layer, samples[role], scale) for role, layer in layers.items()}
    offsets: dict[str, tuple[float | None, str]] = {}
    for role, layer in layers.items():
        tag_scale, tag_offset = layer.tagged
        if offset is not None:
            offsets[role] = (offset, "offset given by the user")
        elif layer.file.offset is not None:
            offsets[role] = (layer.file.offset, "offset of the source")
        elif tag_offset:
            offsets[role] = (tag_offset / tag_scale, "offset of the file's tags")
        elif scales[role][0] == 1.0:
            offsets[role] = (0.0, "reflectance in the file")
            if stated:
                notes.append(f"{layer.label} holds reflectance, so the offset of baseline {baseline} was not applied")
        elif stated is not None:
            offsets[role] = (stated, f"baseline {baseline}")
        elif layer.states_offset:
            offsets[role] = (0.0, "offset 0 of the file's tags")
        elif found_baseline and baseline_offset(found_baseline) == 0:
            offsets[role] = (0.0, f"baseline {found_baseline}")
        else:
            offsets[role] = (None, "")
    unknown = [role for role, (value, _) in offsets.items() if value is None]
    if unknown:
        guess, why = _estimate_offset(layers, samples, {role: scales[role][0] for role in unknown})
        notes.append(why)
        for role in unknown:
            offsets[role] = (guess / (QUANTIFICATION * scales[role][0]), "offset estimated from dark pixels")
    calibrations = {}
    for role in layers:
        value, how = offsets[role]
        assert value is not None
        calibrations[role] = Calibration(value, scales[role][0], f"{how}; {scales[role][1]}")
    return calibrations, notes


def check_reflectance(reflectances: Samples, calibrations: Mapping[str, Calibration]) -> list[str]:
    """Return warnings about an offset that is still in the numbers or was removed twice.

    Args:
        reflectances: samples after calibration, by role.
        calibrations: calibration by role.
    """
    if not any(np.isfinite(values).any() for values in reflectances.values()):
        return []
    seen = dark_pixels(reflectances)
    if seen.verdict == "left in":
        offset = -0.1 / max(calibration.scale for calibration in calibrations.values())
        return [
            f"the darkest pixels of every band are at {seen.darkest:.3f} reflectance or above: the offset of "
            "Sentinel-2 (baseline 04.00 and later) may still be in the numbers, and it distorts every index. "
            f"--offset {offset:g} removes it. Scenes of only desert or snow cause the same warning"
        ]
    if seen.verdict == "removed twice":
        return [
            f"{seen.negative:.1%} of the pixels of {seen.band} are below -0.02 reflectance: the offset of Sentinel-2 "
            f"seems to have been removed twice (here: {calibrations[seen.band].how}). Try --offset 0"
        ]
    return []


def check_swapped(reflectances: Samples, where: str) -> None:
    """Check that the red and NIR bands are not swapped.

    Args:
        reflectances: samples after calibration, by role.
        where: file name for the error message.

    Raises:
        DataError: if NDVI is below -0.1 on most of the bright pixels.
    """
    if not {"red", "nir"} <= reflectances.keys():
        return
    red, nir = reflectances["red"], reflectances["nir"]
    land = np.fmax(red, nir) >= MIN_LAND_REFLECTANCE
    index = ndvi(nir, red)[land]
    index = index[np.isfinite(index)]
    if index.size >= 100 and float(np.mean(index < SWAPPED_BELOW)) > 0.5:
        raise DataError(
            f"NDVI is negative over most of the land (median {float(np.median(index)):.2f}): red and NIR seem swapped",
            where=where,
            hint="Check that --red is B04 and --nir is B08. --force skips this check",
        )


def are_classes(numbers: NDArray[np.float32]) -> bool:
    """Return whether numbers can be classes of the scene classification: integers from 0 to 11."""
    return bool(((numbers >= 0) & (numbers <= MAX_CLASS) & (numbers == np.rint(numbers))).all())


def check_classes(numbers: NDArray[np.float32], where: str) -> None:
    """Check that the scene classification of a stack is one.

    Args:
        numbers: a sample, NaN where there is no data.
        where: file name for the error message.

    Raises:
        DataError: if it holds other numbers than 0 to 11, or only 0 and 1, as a mask does.
    """
    known = numbers[np.isfinite(numbers)]
    if known.size and (not are_classes(known) or known.max() == 1):
        raise DataError(
            f"holds {known.min():g} to {known.max():g}, which is no Sentinel-2 scene classification (0 to 11)",
            where=where,
            hint="Name the band SCL of the product; a mask can be given to zoo map --cloud-mask",
        )


def cloud_pixels(classes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return a mask of the pixels that the scene classification marks as hidden; NaN counts as no data."""
    return np.isin(classes, CLOUDY) | np.isnan(classes)


def _scale(layer: Layer, numbers: NDArray[np.float32], stated: float | None) -> tuple[float, str]:
    """Return the scale of a layer and its source as text."""
    if stated is not None:
        if not (math.isfinite(stated) and stated > 0):
            raise ConfigError(f"a scale of {stated:g} is not possible", hint="Give a positive number, such as 1e-4")
        return stated, f"scale {stated:g} given by the user"
    if layer.file.scale is not None:
        return layer.file.scale, f"scale {layer.file.scale:g} of the source"
    if layer.tagged[0] != 1:
        return layer.tagged[0], f"scale {layer.tagged[0]:g} of the file's tags"
    if layer.dtype == np.uint8:
        raise DataError(
            "contains 8-bit numbers, which are a picture and not reflectance",
            where=layer.path,
            hint="Use the 16-bit bands of the product, or give the scale to reflectance with --scale",
        )
    if layer.dtype.kind in "ui":
        return 1 / QUANTIFICATION, "integers read as digital numbers of Sentinel-2, scale 1e-4"
    known = numbers[np.isfinite(numbers)]
    high = float(np.quantile(known, 0.99)) if known.size else 0.0
    if high <= 2:
        return 1.0, "read as reflectance"
    if high >= 100:
        return 1 / QUANTIFICATION, "read as digital numbers of Sentinel-2, scale 1e-4"
    raise DataError(
        f"its largest numbers are near {high:.3g}: neither reflectance (0-1) nor digital numbers (0-10000)",
        where=layer.path,
        hint="Give the scale to reflectance with --scale",
    )


def _estimate_offset(layers: Mapping[str, Layer], samples: Samples, scales: Mapping[str, float]) -> tuple[float, str]:
    """Estimate the offset from dark pixels; return it in digital numbers of 1e-4, with a sentence that explains it."""
    numbers = {}
    for role, scale in scales.items():
        values = samples[role]
        numbers[role] = values[np.isfinite(values)] * np.float32(scale * QUANTIFICATION)
    names = ", ".join(dict.fromkeys(layers[role].label for role in scales))
    if not any(values.size for values in numbers.values()):
        return 0.0, f"{names}: no pixel has data, so the offset is unknown; none was applied"
    guess = guess_offset(numbers, nodata=None)
    darkest = min(float(np.quantile(values, 0.001)) for values in numbers.values() if values.size)
    verdict = (
        "the offset of baseline 04.00 is still in the numbers: -1000 was added"
        if guess
        else "there is no offset, or it was already removed: none was applied"
    )
    return guess, (
        f"{names}: it is unknown whether the offset of Sentinel-2 was removed. The darkest pixels are at "
        f"{darkest:.0f}, so {verdict}. To set it, use --baseline or --offset"
    )
