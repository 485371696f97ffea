"""What the bands of a folder's images are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from zoo.datasets.folder.files import PICTURES
from zoo.errors import ConfigError
from zoo.physics.bands import Band


def name_bands(
    given: Sequence[Band] | None,
    *,
    count: int,
    names: Sequence[str],
    units: Sequence[str],
    nodata: float | None,
    files: Sequence[Path],
) -> tuple[Band, ...]:
    """The bands as the user names them, else as the files do, else red, green, blue or numbers.

    Args:
        given: by the user; a band without a nodata value gets that of the files.
        count: bands of an image.
        names: that the files give; empty when they give none.
        units: that the files give, "" where unknown.
        nodata: value of missing pixels in the files.
        files: the images.

    Raises:
        ConfigError: if the user names another number of bands.
    """
    if given is not None:
        if len(given) != count:
            raise ConfigError(f"{len(given)} bands are named, and the images have {count}", where=files[0].parent)
        return tuple(replace(band, nodata=nodata) if band.nodata is None else band for band in given)
    if names and len(set(names)) == count:
        return tuple(Band(name, unit or "unknown", nodata=nodata) for name, unit in zip(names, units, strict=True))
    pictures = all(path.suffix.lower() in PICTURES for path in files)
    chosen = ("red", "green", "blue") if pictures and count == 3 else [f"band_{band + 1}" for band in range(count)]
    return tuple(Band(name, "unknown", nodata=nodata) for name in chosen)
