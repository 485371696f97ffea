"""RGB scenes: find the colour bands and missing pixels, and scale the values to 0..255.

A network trained on RGB images expects red, green and blue in the unit :data:`zoo.physics.display.DISPLAY`. This
module defines how a scene is converted to that unit:

- **8-bit numbers** are used unchanged. In a Sentinel-2 true-colour image (TCI), recognised by its name, a pixel with 0
  in all three colours has no data [S: ESA]. Sen2Cor also writes 0 in a single colour over dark water, which is valid.
  In other images without a nodata tag, black is missing only where it is connected to the edge of the image [O].
- **Reflectance** (largest numbers up to 2, or the unit "1" or "reflectance") is scaled like ESA's level 2A TCI: 0 to
  0.2 becomes 1 to 255 [S].
- **Digital numbers** of Sentinel-2 are first divided by 10,000. The offset of -1000 of processing baseline 04.00 is
  detected from the darkest pixels.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from zoo.errors import DataError
from zoo.physics.bands import Band, colour_bands
from zoo.physics.display import COLOURS, DISPLAY, SATURATION, display_from_reflectance
from zoo.physics.sentinel2 import QUANTIFICATION, guess_offset
from zoo.rasters.reading import file_label
from zoo.rasters.stacks import BlackPixels, Mosaic

SURVEY = 2048
"""Maximum number of squares along a side of a scene in the search for borders and clouds [O]."""

MIN_BORDER_CELLS = 4
"""Minimum number of squares of a black region at the edge of an image that counts as a border [O]."""

_TRUE_COLOUR = re.compile(r"(?:^|_)TCI(?:_\d+m)?$", re.IGNORECASE)
_REFLECTANCE_UNITS = frozenset({"1", "reflectance"})
_PLAIN_UNITS = frozenset({"unknown", DISPLAY})


@dataclass(frozen=True)
class ColourScale:
    """Conversion of the numbers of a scene to display colours.

    Attributes:
        kind: kind of the numbers.
        scale: reflectance per unit, after ``offset`` is added.
        offset: value that is added first.
        saturation: reflectance that becomes 255.
    """

    kind: Literal["display", "reflectance", "digital numbers"]
    scale: float = 1.0
    offset: float = 0.0
    saturation: float = SATURATION["2A"]

    def apply(self, colours: NDArray[np.float32]) -> NDArray[np.float32]:
        """Convert numbers to display colours; both are float32 of any shape, NaN where missing."""
        if self.kind == "display":
            return colours
        reflectance = (colours + np.float32(self.offset)) * np.float32(self.scale)
        return display_from_reflectance(reflectance, self.saturation)

    @property
    def words(self) -> str:
        """Description of the conversion."""
        if self.kind == "display":
            return "colours of 0 to 255 are used unchanged"
        offset = f" (offset {self.offset:g})" if self.offset else ""
        return f"{self.kind}{offset}: 0 to {self.saturation:g} reflectance become 1 to 255, as in ESA's TCI"


def survey_step(shape: tuple[int, int], max_pixels: int = SURVEY) -> int:
    """Return the smallest power of two that gives at most ``max_pixels`` squares along each side of a scene."""
    return 1 << max(0, (-(-max(shape) // max_pixels) - 1).bit_length())


def is_true_colour(path: str) -> bool:
    """Return whether a file name follows ESA's true-colour images: ``T43SCT_20240611T054639_TCI_10m.jp2``."""
    return _TRUE_COLOUR.search(file_label(path).rpartition(".")[0]) is not None


def find_colours(bands: Sequence[Band], dtypes: Sequence[np.dtype[Any]]) -> tuple[int, int, int] | None:
    """Return the indices of red, green and blue; ``None`` if they are unknown.

    They are found by name: red, green, blue, or the Sentinel-2 bands B04, B03, B02. Three unnamed 8-bit bands are taken
    as RGB.
    """
    found = colour_bands(bands)
    nameless = all(band.name == f"band_{number}" for number, band in enumerate(bands, 1))
    if found is None and nameless and len(bands) == 3 and all(dtype == np.uint8 for dtype in dtypes):
        return 0, 1, 2
    return found


def choose_scale(mosaic: Mosaic, colours: tuple[int, int, int]) -> ColourScale:
    """Choose the conversion for the numbers of three bands.

    Raises:
        DataError: if the bands differ in unit or dtype, or their unit is neither reflectance nor display.
    """
    units = {mosaic.bands[band].unit for band in colours}
    dtypes = {mosaic.dtypes[band] for band in colours}
    if len(units) > 1 or len({dtype.kind for dtype in dtypes}) > 1:
        raise DataError(
            f"red, green and blue have different units or types: {', '.join(sorted(units))}",
            where=mosaic.paths[0],
            hint="Give three bands of one product",
        )
    [unit] = units
    if unit == DISPLAY or (unit in _PLAIN_UNITS and dtypes == {np.dtype(np.uint8)}):
        return ColourScale("display")
    if unit not in _PLAIN_UNITS and unit not in _REFLECTANCE_UNITS:
        raise DataError(
            f"red, green and blue are in {unit}, but the bundle takes {DISPLAY} or reflectance",
            where=mosaic.paths[0],
            hint="Convert them to reflectance, 0 to 1",
        )
    sample = mosaic.overview(survey_step(mosaic.shape, 512), colours)
    known = sample[:, np.isfinite(sample).all(axis=0)]
    if not known.size:
        return ColourScale("reflectance")  # the map reports that there is no data
    high = float(np.quantile(known, 0.99))
    if high <= 2:
        return ColourScale("reflectance")
    if unit in _REFLECTANCE_UNITS:
        raise DataError(
            f"red, green and blue are in {unit}, but their largest numbers are near {high:.3g}",
            where=mosaic.paths[0],
            hint="Reflectance is a number from 0 to 1. Correct the unit, or the scale tag: gdal_edit.py -scale 0.0001",
        )
    if float(known.max()) <= 255:
        return ColourScale("display")
    offset = guess_offset(dict(zip(COLOURS, known, strict=True)), nodata=None)
    return ColourScale("digital numbers", 1 / QUANTIFICATION, offset)


def hide_borders(mosaic: Mosaic, colours: tuple[int, int, int]) -> str:
    """Treat the black border of an image as missing, if no tag marks missing pixels.

    Returns:
        A sentence that describes the change; empty if there is none.
    """
    if mosaic.declares_missing or any(mosaic.dtypes[band] != np.uint8 for band in colours):
        return ""
    if all(is_true_colour(path) for path in mosaic.paths):
        mosaic.hide_black(BlackPixels(colours))
        return "a Sentinel-2 true-colour image: pixels with 0 in all three colours have no data"
    step = survey_step(mosaic.shape)
    black = np.all(mosaic.overview(step, colours) == 0, axis=0)
    border = _edge_regions(black)
    if not border.any():
        return ""
    share = border.mean()
    # Each sampled pixel represents the pixels up to half a square away, so the border is widened by one square.
    mosaic.hide_black(BlackPixels(colours, ndimage.binary_dilation(border, np.ones((3, 3), bool)), step))
    return (
        f"about {share:.1%} of the image is a black border without a nodata tag: it counts as missing. Black "
        f"pixels inside the image do not"
    )


def _edge_regions(black: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the connected regions that touch an edge of the image and are large enough for a border."""
    numbers, count = ndimage.label(black)
    if not count:
        return black
    touching = np.zeros(count + 1, bool)
    for edge in (numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1]):
        touching[edge] = True
    touching &= np.bincount(numbers.ravel(), minlength=count + 1) >= MIN_BORDER_CELLS
    touching[0] = False
    found: NDArray[np.bool_] = touching[numbers]
    return found
