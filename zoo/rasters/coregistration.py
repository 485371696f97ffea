"""Measure the shift between an earlier and a later image by phase correlation; report, reject or correct it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window
from scipy import fft, ndimage

from zoo.errors import DataError

Image: TypeAlias = Callable[[Window], NDArray[np.float32]]
"""Function that reads a window of an image on the grid of a stack, NaN where there is no data."""
Spectrum: TypeAlias = NDArray[np.complex128]

MAX_SHIFT = 1.0
"""Maximum shift in pixels; above it, edges of fields and forests change more than landslides [O]."""
MIN_REPORTED_SHIFT = 0.5
"""Shift in pixels that causes a warning: ESA expects 5 m between dates of one relative orbit of refined Sentinel-2
products (95 %; announcement of the geometric refinement, 22 March 2021 [S])."""
MIN_SHIFT = 0.1
"""Pixels below which a shift is not corrected: interpolation would blur the image more [O]."""

SQUARE_SIDE = 256
"""Side of the correlated squares in pixels; shifts of up to half of it are detected."""
SQUARES_PER_SIDE = 5
"""Squares along each side of the grid."""
MIN_VALID_SHARE = 0.7
"""Minimum share of a square with data in both images [O]."""
MIN_PEAK_HEIGHT = 8.0
"""Minimum height of the peak, in standard deviations of the correlation surface. The maximum of 65,536 noise values is
4 to 5 [O]."""
FADE_PIXELS = 48
"""Pixels over which an image fades to 0 towards unknown pixels [O]."""
PEAK_STEP = 0.02
"""Step of the peak search, in pixels."""
LOW_PASS_STD = 0.2
"""Standard deviation of the low-pass filter, in cycles per pixel; higher frequencies are noise and resampling [O]."""


@dataclass(frozen=True)
class Shift:
    """Shift of an image relative to a reference.

    Attributes:
        rows: shift down in pixels; row r of the reference corresponds to row r + ``rows`` of the image.
        columns: shift to the right in pixels.
        strength: height of the peak, in standard deviations of the correlation surface.
    """

    rows: float
    columns: float
    strength: float

    @property
    def pixels(self) -> float:
        """Length of the shift in pixels."""
        return math.hypot(self.rows, self.columns)

    @property
    def known(self) -> bool:
        """Whether the peak stands out from the noise."""
        return self.strength >= MIN_PEAK_HEIGHT

    def __str__(self) -> str:
        """Return the shift as text: "0.31 pixels down and 0.12 pixels left"."""
        down = f"{abs(self.rows):.2f} pixels {'up' if self.rows < 0 else 'down'}"
        return f"{down} and {abs(self.columns):.2f} pixels {'left' if self.columns < 0 else 'right'}"


@dataclass
class Registration:
    """Result of the registration of two dates.

    Attributes:
        shift: shift of the earlier image relative to the later one; ``None`` if it is unknown.
        notes, warnings: sentences about the shift.
    """

    shift: Shift | None = None
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def register(
    later: Image,
    earlier: Image,
    move: Callable[[Shift], Image],
    shape: tuple[int, int],
    *,
    names: tuple[str, str],
    of: str,
    where: str,
    coregister: bool,
    force: bool,
    cut: float = LOW_PASS_STD,
    smallest: float = MIN_SHIFT,
) -> Registration:
    """Measure the shift between two dates; report it, correct the earlier image on request, or reject the pair.

    Args:
        later: the reference.
        earlier: the image that may be shifted.
        move: function that returns the earlier image with a shift corrected.
        shape: (rows, columns) of the common grid.
        names: names of the earlier and the later image in messages.
        of: quantity that is compared, such as "NIR".
        where: file of the earlier image, for the error.
        coregister: whether to correct the shift.
        force: whether to accept a shift of more than a pixel.
        cut: standard deviation of the low-pass filter, in cycles per pixel.
        smallest: pixels below which a shift is not corrected.

    Raises:
        DataError: if the shift is more than a pixel and neither corrected nor accepted.
    """
    done = Registration()
    shift = measure_shift(later, earlier, shape, cut)
    if shift is None or not shift.known:
        reason = (
            "too few pixels are visible on both dates" if shift is None else "the images do not resemble each other"
        )
        between = f"between {names[0]} and {names[1]}"
        done.warnings.append(f"the shift {between} could not be measured: {reason}")
        return done
    done.shift = shift
    found = f"{names[0]} lies {shift} of {names[1]} (phase correlation of {of})"
    if coregister and shift.pixels >= smallest:
        left = measure_shift(later, move(shift), shape, cut)
        done.notes.append(f"{found}; it was moved, and {'an unknown shift' if left is None else left} remains")
    elif shift.pixels > MAX_SHIFT and not force:
        raise DataError(
            f"the two dates are not aligned: {found}",
            where=where,
            hint="Move the earlier image with --coregister, or accept the shift with --force",
        )
    elif shift.pixels > MIN_REPORTED_SHIFT:
        done.warnings.append(f"{found}: edges look like changes. --coregister corrects it")
    else:
        done.notes.append(found)
    return done


def measure_shift(reference: Image, moved: Image, shape: tuple[int, int], cut: float = LOW_PASS_STD) -> Shift | None:
    """Measure the shift between two images on one grid.

    The phase spectra of squares spread over the grid are averaged before the search for the peak, so that a cloud or a
    landslide in one square has little effect.

    Args:
        reference: the reference.
        moved: the other image.
        shape: (rows, columns) of the common grid.
        cut: standard deviation of the low-pass filter, in cycles per pixel.

    Returns:
        The shift of ``moved``; ``None`` if no square has enough data in both images.
    """
    rows, columns = shape
    height, width = min(SQUARE_SIDE, rows), min(SQUARE_SIDE, columns)
    total: Spectrum = np.zeros((height, width), np.complex128)
    for top in _starts(rows, height):
        for left in _starts(columns, width):
            window = Window(left, top, width, height)
            images = [reference(window), moved(window)]
            known = np.isfinite(images[0]) & np.isfinite(images[1])
            if known.mean() >= MIN_VALID_SHARE:
                total += phase_spectrum(*(_flattened(image, known) for image in images))
    return find_peak(total, cut) if total.any() else None


def phase_spectrum(reference: NDArray[np.floating], moved: NDArray[np.floating]) -> Spectrum:
    """Return the cross power spectrum of two images of the same shape, with magnitude 1 or 0 at each frequency.

    Kuglin and Hines (1975) [S]. The images should fall to 0 at the edges.
    """
    product = fft.fft2(moved) * np.conj(fft.fft2(reference))
    magnitude = np.abs(product)
    spectrum: Spectrum = np.divide(product, magnitude, out=np.zeros_like(product), where=magnitude > 0)
    return spectrum


def find_peak(spectrum: Spectrum, cut: float = LOW_PASS_STD) -> Shift:
    """Return the shift at the peak of a cross power spectrum.

    The maximum of the inverse transform gives whole pixels. Around it, matrix products evaluate a finer grid
    (Guizar-Sicairos, Thurman and Fienup 2008, Optics Letters 33, 156-158 [S]).
    """
    down, across = (fft.fftfreq(length) for length in spectrum.shape)
    spectrum = spectrum * np.exp(-(down[:, None] ** 2 + across[None] ** 2) / (2 * cut**2))
    surface = fft.ifft2(spectrum).real
    peak = np.unravel_index(int(np.argmax(surface)), surface.shape)
    row, column = (
        place if place <= length // 2 else place - length for place, length in zip(peak, surface.shape, strict=True)
    )
    near = np.arange(-1, 1 + PEAK_STEP / 2, PEAK_STEP)
    left = np.exp(2j * np.pi * np.outer(row + near, down))
    right = np.exp(2j * np.pi * np.outer(across, column + near))
    fine = (left @ spectrum @ right).real
    best = np.unravel_index(int(np.argmax(fine)), fine.shape)
    spread = float(surface.std())
    return Shift(
        float(row + near[best[0]]), float(column + near[best[1]]), float(surface.max() / spread) if spread else 0.0
    )


def _flattened(image: NDArray[np.float32], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the image with mean 0, faded to 0 towards its edges and unknown pixels.

    Otherwise sharp mask edges at the same place in both images would appear as a shift of 0.
    """
    weight = np.minimum(ndimage.distance_transform_edt(np.pad(known, 1))[1:-1, 1:-1] / FADE_PIXELS, 1.0)
    weight = weight**2 * (3 - 2 * weight)
    return np.asarray(np.where(known, image - image[known].mean(dtype=np.float64), 0.0) * weight)


def _starts(length: int, side: int) -> list[int]:
    """Return the start positions of squares spread along a length, without overlap if they fit."""
    count = max(1, min(SQUARES_PER_SIDE, length // side))
    return [round(start) for start in np.linspace(0, length - side, count)]
