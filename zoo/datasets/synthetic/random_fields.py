"""Generate the random numbers and random fields of a scene."""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from zoo.physics.arrays import FloatArray

Field = FloatArray
Mask = npt.NDArray[np.bool_]


def stream(seed: int, step: str) -> np.random.Generator:
    """Return the random generator for one named step of one scene.

    Every step has its own generator, so that changing one step does not affect the others.
    """
    return np.random.default_rng([seed, zlib.crc32(step.encode())])


def fractal(size: int, hurst: float, rng: np.random.Generator, longest: float | None = None) -> Field:
    """Return fractional Brownian motion on a (size, size) grid, mean 0 and standard deviation 1.

    Args:
        size: cells along an edge.
        hurst: Hurst exponent, (0, 1); higher is smoother. The amplitude falls as frequency^-(hurst + 1).
        rng: random generator.
        longest: longest wavelength in cells; None for no limit. The field is generated on a doubled grid, so that
            opposite edges do not match.
    """
    doubled = 2 * size
    frequency = np.hypot(fft.fftfreq(doubled)[:, None], fft.rfftfreq(doubled)[None])
    frequency[0, 0] = 1.0
    amplitude = frequency ** -(hurst + 1.0)
    amplitude[0, 0] = 0.0
    if longest is not None:
        amplitude[frequency < 1.0 / longest] = 0.0
    phase = rng.standard_normal(amplitude.shape) + 1j * rng.standard_normal(amplitude.shape)
    return standardized(fft.irfft2(amplitude * phase, s=(doubled, doubled))[:size, :size])


def smooth(size: int, radius: float, rng: np.random.Generator) -> Field:
    """Return white noise smoothed by a Gaussian of ``radius`` cells, mean 0 and standard deviation 1, (size, size).

    Fields with a large radius are generated on a coarser grid and interpolated; details of the size of the radius
    are kept.
    """
    step = max(1, int(radius / 3))
    coarse = -(-size // step) + 3
    field = ndimage.gaussian_filter(rng.standard_normal((coarse, coarse)), radius / step, mode="wrap")
    if step > 1:
        at = np.arange(size) / step + rng.uniform(0, 1, 1)
        grid = np.meshgrid(at, at, indexing="ij")
        field = ndimage.map_coordinates(field, grid, order=2, mode="nearest", prefilter=False)
    return standardized(field[:size, :size])


def standardized(field: Field) -> Field:
    """Return ``field`` with mean 0 and standard deviation 1."""
    centred = field - field.mean()
    return np.asarray(centred / centred.std())
