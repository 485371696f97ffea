"""Find the bands of a satellite image in a Sentinel-2 product or a folder with one file per band."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from zoo.errors import DataError
from zoo.rasters.inventory import parse_day
from zoo.rasters.layers import OPTICAL, BandFile, Sources
from zoo.rasters.safe import BANDS, is_product, open_safe

RASTERS = (".tif", ".tiff", ".jp2", ".vrt")
_WORDS = re.compile(r"[a-z0-9]+")
_DAY = re.compile(r"(?<!\d)(20\d\d)-?(0[1-9]|1[0-2])-?(0[1-9]|[12]\d|3[01])(?!\d)")
_TILE = re.compile(r"(?<![A-Za-z0-9])T\d{2}[A-Z]{3}(?![A-Za-z0-9])")


def open_image(path: Path) -> Sources:
    """Find the bands of an image in a product or a folder.

    In a folder, each band is a raster whose name contains its Sentinel-2 band name or its role as a word:
    ``T43SCT_20240611T054639_B04_10m.jp2``, ``red.tif``. Scene and date come from the names, if they agree.

    Args:
        path: a path that :func:`zoo.rasters.safe.open_safe` accepts, or a folder of band files.

    Returns:
        The bands, including blue, with date, scene and baseline if they are known.

    Raises:
        DataError: if there is no image, or a band has two files.
    """
    if is_product(path):
        return open_safe(path, blue=True)
    check_folder(path, "Name a Sentinel-2 product, or a folder with a file for each band")
    rasters = sorted(file for file in path.iterdir() if file.suffix.lower() in RASTERS)
    files = files_by_word(rasters, {role: {role, band.lower()} for role, (band, _) in BANDS.items()}, path)
    if not files:
        raise DataError(
            "contains no image",
            where=path,
            hint="Name a Sentinel-2 product, or a folder with files such as B04.tif, B08.tif or red.tif, nir.tif",
        )
    return Sources(
        {
            role: BandFile(str(file), offset=None, scale=None, chosen=False)
            if role in OPTICAL
            else BandFile(str(file), nodata=0.0, chosen=False)
            for role, file in files.items()
        },
        scene=_single_value({tile for file in files.values() for tile in _TILE.findall(file.stem)}),
        date=day_of_names(list(files.values())),
    )


def check_folder(path: Path, hint: str) -> None:
    """Check that a path is a folder.

    Raises:
        DataError: if the path is not a folder; the error has ``hint``.
    """
    if not path.is_dir():
        raise DataError("is not a folder" if path.exists() else "does not exist", where=path, hint=hint)


def files_by_word(files: list[Path], wanted: Mapping[str, set[str]], where: Path) -> dict[str, Path]:
    """Return the file for each key, whose name contains one of the key's words, in lower case.

    Raises:
        DataError: if two files match one key.
    """
    found: dict[str, Path] = {}
    for file in files:
        for key in [key for key, names in wanted.items() if names & split_words(file.stem)]:
            if key in found:
                raise DataError(
                    f"has two files for {key}: {found[key].name} and {file.name}",
                    where=where,
                    hint="Keep only one file per band, all of one image, in the folder",
                )
            found[key] = file
    return {key: found[key] for key in wanted if key in found}


def split_words(text: str) -> set[str]:
    """Split a name into words in lower case, at all characters other than letters and digits."""
    return set(_WORDS.findall(text.lower()))


def day_of_names(files: list[Path]) -> str:
    """Return the first ISO date in the names of files; "" if there is none, or the files differ."""
    days = [_DAY.search(file.stem) for file in files]
    return _single_value({parse_day("-".join(day.groups()), "file name").isoformat() for day in days if day})


def _single_value(found: set[str]) -> str:
    return found.pop() if len(found) == 1 else ""
