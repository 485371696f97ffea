"""Bands of Sen12Landslides and the channels that they give over several dates."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.datasets.arguments import Names, names_of
from zoo.errors import ConfigError, UnknownNameError
from zoo.physics.bands import Band

SIZE = 128
"""Height and width of a patch in pixels."""

OPTICAL: tuple[str, ...] = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
RADAR: tuple[str, ...] = ("VV", "VH")
SCENE_CLASSES = "SCL"
DEM = "DEM"


def band_names(sensor: str, bands: Names) -> tuple[str, ...]:
    """Give the bands that were asked for, "all" standing for every measured band and the DEM.

    Raises:
        UnknownNameError: for a band that the sensor has not.
        ConfigError: if a band is named twice, or none is.
    """
    measured = OPTICAL if sensor == "s2" else RADAR
    names = names_of(bands) or ()
    if tuple(name.lower() for name in names) == ("all",):
        return (*measured, DEM)
    known = (*measured, SCENE_CLASSES, DEM) if sensor == "s2" else (*measured, DEM)
    for name in names:
        if name not in known:
            raise UnknownNameError("band", name, known, where="option bands")
    if not names or len(set(names)) < len(names):
        raise ConfigError("each band is named once, and at least one", where="option bands")
    return names


def channels_of(names: Sequence[str], sensor: str, edition: str | None, suffixes: Sequence[str]) -> tuple[Band, ...]:
    """Name the channels: each band at each date, then the DEM once.

    Args:
        names: of the bands.
        sensor: "s2", "s1asc" or "s1dsc".
        edition: "harmonized", "raw" or None.
        suffixes: what is added to the name of a band at each date ("_t00"); "" for a single one.
    """
    channels = [_band(name, f"{name}{suffix}", sensor, edition) for suffix in suffixes for name in names if name != DEM]
    if DEM in names:
        channels.append(Band(DEM, "m", description="elevation above sea level; 0 below it [S]"))
    return tuple(channels)


def _band(name: str, label: str, sensor: str, edition: str | None) -> Band:
    if name == SCENE_CLASSES:
        return Band(label, "class", description="scene classification of level 2A; 255 where there is none")
    if sensor != "s2":
        return Band(label, "dB", description=f"backscatter, {name}")
    offset = {
        "harmonized": "reflectance x 10000, the offset of processing baseline 04.00 removed",
        "raw": "digital number; 1000 + reflectance x 10000 where the processing baseline is 04.00 or later",
    }.get(str(edition), "digital number; the files do not say whether the offset of baseline 04.00 is in it")
    return Band(label, "DN", description=offset)
