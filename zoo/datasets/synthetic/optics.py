"""What a satellite sees of the ground: reflectance in four bands."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy import ndimage

from zoo.datasets.synthetic.noise import Field, smooth, stream
from zoo.physics import horn_gradient

Spectrum = tuple[float, float, float, float]

GREEN, RED, NIR, SWIR = range(4)

SENSOR_NOISE = 0.012
"""Standard deviation of reflectance noise in the noisiest band, NIR [O, risk.md]."""


@dataclass(frozen=True)
class Spectra:
    """Reflectance of each kind of ground in green, red, near infrared and short-wave infrared.

    In the order of :class:`zoo.datasets.synthetic.landcover.Cover`, then the fresh scar. Typical values of Sentinel-2
    surface reflectance [O].
    """

    forest: Spectrum = (0.045, 0.030, 0.300, 0.130)
    grass: Spectrum = (0.080, 0.070, 0.300, 0.220)
    crop: Spectrum = (0.075, 0.065, 0.340, 0.220)
    soil: Spectrum = (0.120, 0.150, 0.230, 0.310)
    rock: Spectrum = (0.140, 0.160, 0.210, 0.250)
    water: Spectrum = (0.060, 0.040, 0.020, 0.010)
    built: Spectrum = (0.130, 0.140, 0.210, 0.240)
    scar: Spectrum = (0.115, 0.145, 0.225, 0.285)

    def table(self) -> Field:
        """Return (8, 4): kinds of ground by bands."""
        return np.asarray([getattr(self, field.name) for field in fields(self)], dtype=np.float64)


def ground_reflectance(shares: Field, vigour: Field, spectra: Spectra) -> Field:
    """Return (4, n, n) reflectance of mixed ground: bands add by area, greenness scales NIR and darkens red."""
    table = spectra.table()[: shares.shape[0]]
    mixed: Field = np.einsum("kb,kyx->byx", table, shares, optimize=False)
    green = shares[:3].sum(axis=0)
    change = (vigour - 1.0) * green
    mixed[NIR] *= 1.0 + change
    mixed[RED] *= 1.0 - 0.8 * change
    return mixed


def observe(
    seed: int,
    ground: Field,
    soil: Field,
    bare: Field,
    wetness: Field,
    elevation: Field,
    cell: float,
    spectra: Spectra,
    haze_share: float,
) -> Field:
    """Return (4, n, n) reflectance as the sensor records it, within [0.001, 1].

    Args:
        seed: number of the scene.
        ground: (4, n, n) reflectance of the ground without scars.
        soil: (n, n) share of each pixel that is bare for other reasons.
        bare: (n, n) share of each pixel that a landslide has laid bare.
        wetness: (n, n), [0, 1]; wet soil is darker in SWIR.
        elevation: metres, for illumination.
        cell: metres between cell centres.
        spectra: of the region.
        haze_share: share of scenes with haze.
    """
    rng = stream(seed, "optics")
    n = elevation.shape[0]
    seen = ground * (1.0 + 0.10 * smooth(n, 2, rng))
    scar = np.array(spectra.scar)[:, None, None] * (1.0 + 0.15 * smooth(n, 1.2, rng))
    seen = (1.0 - bare) * seen + bare * scar
    # Soils differ from place to place and darken in SWIR when wet, on scars and off them: colour alone does not
    # tell a landslide from other bare ground.
    exposed = (1.0 - bare) * soil + bare
    seen *= 1.0 + 0.10 * smooth(n, 10, rng) * exposed
    seen[SWIR] *= (1.0 - 0.3 * wetness * exposed) * (1.0 + 0.12 * smooth(n, 7, rng) * exposed)
    seen[RED] *= 1.0 + 0.06 * smooth(n, 7, rng) * exposed
    seen *= _illumination(elevation, cell, rng)
    seen = np.stack([ndimage.gaussian_filter(band, 0.6) for band in seen])
    # SWIR comes at 20 m.
    coarse = seen[SWIR].reshape(n // 2, 2, n // 2, 2).mean(axis=(1, 3))
    seen[SWIR] = np.repeat(np.repeat(coarse, 2, axis=0), 2, axis=1)
    noise = np.array([0.5, 0.5, 1.0, 0.8])[:, None, None] * SENSOR_NOISE
    seen = seen + noise * rng.standard_normal(seen.shape)
    haze = np.clip(smooth(n, 25, rng) - 1.2, 0.0, None)
    if rng.uniform() < haze_share:
        seen = seen + 0.12 * haze * np.array([1.0, 0.95, 0.8, 0.5])[:, None, None]
    return np.asarray(np.clip(seen, 0.001, 1.0))


def _illumination(elevation: Field, cell: float, rng: np.random.Generator) -> Field:
    """Return what is left of the sun's angle on the slope after a terrain correction: around 1."""
    azimuth = np.radians(rng.uniform(120.0, 160.0))
    zenith = np.radians(rng.uniform(30.0, 50.0))
    south, east = horn_gradient(elevation, cell)
    upright = np.sqrt(1.0 + south**2 + east**2)
    cosine = (np.cos(zenith) + np.sin(zenith) * (south * np.cos(azimuth) - east * np.sin(azimuth))) / upright
    return np.asarray(np.clip(0.55 + 0.6 * cosine, 0.35, 1.5))
