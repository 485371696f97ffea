"""Scene to map: its rasters on one grid, with the bands that the bundle needs."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zoo.errors import ConfigError, DataError, suggestion
from zoo.files import Closable
from zoo.mapping.tiling import PixelRange
from zoo.physics.bands import Band
from zoo.physics.display import COLOURS, DISPLAY, display_colours
from zoo.rasters.colours import ColourScale, choose_scale, find_colours, hide_borders
from zoo.rasters.grid import windows
from zoo.rasters.ground import ground_size, window_bounds
from zoo.rasters.reading import window_of
from zoo.rasters.resampling import ResampledMosaic
from zoo.rasters.safe import TrueColour, is_product, true_colour
from zoo.rasters.stacks import Mosaic, hide_number
from zoo.training.bundle import Bundle, same_pixel_size

Raster: TypeAlias = Mosaic | ResampledMosaic

UNKNOWN = "unknown"
"""Unit of a band whose file does not state it."""

WINDOW_SIDE = 512
"""Side in pixels of the windows in which a constant band is searched."""

PROBE_WINDOWS, PROBE_SIDE = 16, 32
"""Number and side in pixels of the windows that identify a remote scene."""


class Scene(Closable):
    """Rasters on one grid with the bands of a model; a context manager.

    Bands are matched by name and unit, in any order and any file; other bands are not read. Bands in the unit
    :data:`zoo.physics.display.DISPLAY` are derived from the colours of the scene (:mod:`zoo.rasters.colours`).

    Args:
        paths: one raster or VRT, or several that are adjacent tiles or hold different bands; see
            :class:`zoo.rasters.stacks.Mosaic`. Or one Sentinel-2 product, whose true-colour image is the scene.
        bands: bands of the model, in its order; see :attr:`zoo.training.bundle.Bundle.input_bands`.
        names: names of the rasters' bands, if the files do not name them: those of the first file in order, then those
            that the other files add. Their units are then those of ``bands``, except for colours.
        pixel_size: pixel size in metres to resample the scene to; None for its own pixels.

    Raises:
        ZooError: if the rasters cannot be read as one, lack a band, or hold it in another unit.

    Attributes:
        mosaic: the rasters, on the grid of the map.
        bands: the bands of the model.
        names: see above.
        resampled_to: pixel size that the scene was resampled to; None for its own pixels.
        product: the Sentinel-2 product of the scene; None for rasters.
        scale: conversion of colours to display values; None if no band is a colour.
        colour_bands: indices of red, green and blue in the rasters, if the model uses display colours; else None.
        choices: sentences about how bands and colours were read.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        bands: Sequence[Band],
        *,
        names: Sequence[str] | None = None,
        pixel_size: float | None = None,
    ) -> None:
        listed = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
        self.bands, self.names, self.resampled_to = tuple(bands), names, pixel_size
        self.scale: ColourScale | None = None
        self.colour_bands: tuple[int, int, int] | None = None
        self.product: TrueColour | None = None
        if len(listed) == 1 and is_product(listed[0]):
            self.product = self._product(listed[0])
            listed = [self.product.image]
        mosaic = Mosaic(listed)
        self.mosaic: Raster = mosaic
        self.choices: tuple[str, ...] = ()
        try:
            if names is not None:
                # The unit of a colour follows from its values.
                mosaic.rename(names, {band.name: band.unit for band in bands if band.unit != DISPLAY})
            found = mosaic.bands
            if any(band.unit == DISPLAY for band in self.bands):
                found = self._read_colours(mosaic)
            self._order = match_bands(self.bands, found, self.source)
            # Before resampling, which would average missing codes into their neighbours.
            placed = zip(self._order, self.bands, strict=True)
            mosaic.hide_numbers({place: band.nodata for place, band in placed if band.nodata is not None})
            if pixel_size is not None:
                self.mosaic = ResampledMosaic(mosaic, pixel_size)
        except BaseException:
            mosaic.close()
            raise

    def _product(self, path: str | os.PathLike[str]) -> TrueColour:
        if all(band.unit == DISPLAY for band in self.bands):
            return true_colour(Path(path))
        raise ConfigError(
            f"is a Sentinel-2 product, but the bundle takes {_join_bands(self.bands)}",
            where=path,
            hint=f"Make these bands first: zoo stack {path} --dem DEM --out stack.tif; then map stack.tif",
        )

    def _read_colours(self, mosaic: Mosaic) -> tuple[Band, ...]:
        """Choose how to read colours, and return the scene's bands with colours in the display unit."""
        colours = find_colours(mosaic.bands, mosaic.dtypes)
        if colours is None:
            return mosaic.bands
        self.colour_bands = colours
        bands = list(mosaic.bands)
        called = [bands[band].name for band in colours]
        for band, name in zip(colours, COLOURS, strict=True):
            bands[band] = replace(bands[band], name=name, unit=DISPLAY)
        self.scale = choose_scale(mosaic, colours)
        border = hide_borders(mosaic, colours)
        choices = [f"{', '.join(called)} are read as red, green, blue"] if called != list(COLOURS) else []
        choices += [] if self.scale.kind == "display" and border else [self.scale.words]
        self.choices = (*choices, *([border] if border else []))
        return tuple(bands)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.mosaic.shape

    @property
    def source(self) -> str:
        """Path of the first file, or of the product, as given."""
        return self.mosaic.paths[0] if self.product is None else str(self.product.path)

    @property
    def stem(self) -> str:
        """Name of the first file without its suffix."""
        return Path(self.mosaic.paths[0]).stem

    def read(self, rows: PixelRange, columns: PixelRange) -> NDArray[np.float32]:
        """Return a window, float32 (C, rows, columns) in the order of ``bands``, NaN where there is no data."""
        image = self.mosaic.read(window_of((rows.start, rows.stop), (columns.start, columns.stop)), self._order)
        return self._in_units(image)

    def overview(self, step: int) -> NDArray[np.float32]:
        """Return every ``step``-th pixel of the scene, as :meth:`read` does; see :meth:`Mosaic.overview`."""
        return self._in_units(self.mosaic.overview(step, self._order))

    def _in_units(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.scale is not None and self.scale.kind != "display":
            for values, band in zip(image, self.bands, strict=True):
                if band.unit == DISPLAY:
                    values[...] = self.scale.apply(values)
        return image

    def constant_bands(self) -> dict[str, float]:
        """Return the bands that have one value in all valid pixels of the scene, by name.

        All pixels are read only if there is such a band.
        """
        found: dict[str, float] = {}
        names = {band.name for band in self.bands}
        pieces = windows(self.shape, WINDOW_SIDE)
        # The first rows of a scene are often without data.
        for place in np.random.default_rng(0).permutation(len(pieces)):
            (top, bottom), (left, right) = pieces[place].toranges()
            for band, values in zip(
                self.bands, self.read(PixelRange(top, bottom), PixelRange(left, right)), strict=True
            ):
                known = values[np.isfinite(values)]
                if band.name in names and known.size and np.any(known != found.setdefault(band.name, known[0])):
                    names.remove(band.name)
            if not names:
                break
        return {band.name: float(found[band.name]) for band in self.bands if band.name in names & found.keys()}

    @property
    def colours(self) -> list[int] | None:
        """Indices of red, green and blue in :attr:`bands`; None unless all three are display colours."""
        return display_colours(self.bands)

    def check_pixel_size(self, trained: float | None) -> None:
        """Check that the pixel size of the scene is close to that of the training data.

        Args:
            trained: side of a pixel of the training data in metres; None if it is unknown, to skip the check.

        Raises:
            DataError: if the sizes differ by more than :data:`zoo.training.bundle.SIZE_TOLERANCE`.
        """
        if trained is None:
            return
        if self.has_pixel_size(trained):
            return
        raise DataError(
            f"has pixels of {self.ground_pixel:.3g} m, but the bundle was trained on pixels of {trained:.3g} m",
            where=self.source,
            hint="Resample it with --resample, or map it as it is with --any-pixel-size",
        )

    @property
    def ground_pixel(self) -> float:
        """Side in metres of a square with the ground area of a pixel."""
        mosaic = self.mosaic
        return math.sqrt(math.prod(ground_size(mosaic.crs, window_bounds(mosaic.transform, self.shape), self.shape)))

    def has_pixel_size(self, trained: float) -> bool:
        """Return whether the pixel size of the scene is close to that of the training data, in metres."""
        # Training data in a projection such as Web Mercator may state the projected pixel size.
        sizes = (self.ground_pixel, self.mosaic.pixel_size)
        return any(same_pixel_size(size, trained) for size in sizes if size is not None)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about values that were read as missing although no tag says so."""
        return self.mosaic.code_notes

    def identity(self) -> dict[str, Any]:
        """Return the identity of this scene, which differs between scenes and between versions of a file.

        Files are identified by size and modification time. A remote file provides neither, so a few windows of pixels
        are read.
        """
        files = []
        for name in self.mosaic.files:
            path = Path(name)
            if not path.exists():
                return {"paths": list(self.mosaic.paths), **self._reading, "pixels": self._probe()}
            state = path.stat()
            files.append([str(path.resolve()), state.st_size, state.st_mtime_ns])
        return {"files": files, **self._reading}

    @property
    def _reading(self) -> dict[str, Any]:
        """Return the settings that determine how the files are read, as JSON values."""
        scale = None if self.scale is None else asdict(self.scale)
        return {"shape": list(self.shape), "resampled_to": self.resampled_to, "colours": scale}

    def _probe(self) -> str:
        digest = hashlib.sha256()
        height, width = self.shape
        generator = np.random.default_rng(0)
        for _ in range(PROBE_WINDOWS):
            row = int(generator.integers(0, max(1, height - PROBE_SIDE + 1)))
            column = int(generator.integers(0, max(1, width - PROBE_SIDE + 1)))
            pixels = self.read(
                PixelRange(row, min(row + PROBE_SIDE, height)), PixelRange(column, min(column + PROBE_SIDE, width))
            )
            digest.update(np.ascontiguousarray(pixels).tobytes())
        return digest.hexdigest()

    def close(self) -> None:
        """Close the files."""
        self.mosaic.close()


def open_scene(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    bundle: Bundle,
    *,
    names: Sequence[str] | None = None,
    any_pixel_size: bool = False,
    resample: bool = False,
) -> Scene:
    """Open a scene for a bundle, and check its pixel size.

    Args:
        paths: see :class:`Scene`.
        bundle: a trained model.
        names: see :class:`Scene`.
        any_pixel_size: accept pixels of any size.
        resample: resample the scene to the pixel size of the training data if they differ.

    Raises:
        ConfigError: if the scene is to be resampled but the bundle does not record its pixel size, or both options are
            given.
        ZooError: if the scene does not fit the bundle.
    """
    trained = bundle.pixel_size
    if resample and any_pixel_size:
        raise ConfigError("--resample and --any-pixel-size cannot be combined", hint="Give one of them")
    if resample and trained is None:
        raise ConfigError(
            "the bundle does not record the pixel size of its training data",
            where="--resample",
            hint='If you know it, add "pixel_size": METRES to its bundle.json',
        )
    scene = Scene(paths, bundle.input_bands, names=names)
    if any_pixel_size or trained is None or scene.has_pixel_size(trained):
        return scene
    if not resample:
        with scene:
            scene.check_pixel_size(trained)
    found = scene.ground_pixel
    scene.close()
    scene = Scene(paths, bundle.input_bands, names=names, pixel_size=trained)
    coarse = f". Nothing smaller than {found:.3g} m is visible" if found > trained else ""
    scene.choices = (
        *scene.choices,
        f"resampled from pixels of {found:.3g} m to {trained:g} m, which are those of the map{coarse}",
    )
    return scene


def hide_nodata(image: NDArray[np.float32], bands: Sequence[Band]) -> None:
    """Replace the nodata value of each band with NaN, in place; ``image`` is float32 (C, rows, columns)."""
    for values, band in zip(image, bands, strict=True):
        if band.nodata is not None and not math.isnan(band.nodata):
            hide_number(values, band.nodata)


def match_bands(wanted: Sequence[Band], found: Sequence[Band], where: object) -> list[int]:
    """Return the index of each wanted band among those found.

    Args:
        wanted: bands of the model.
        found: bands of the scene.
        where: the scene, for errors.

    Raises:
        DataError: if bands are missing or in another unit; the message names them.
    """
    places = {band.name: number for number, band in enumerate(found)}
    missing = [band.name for band in wanted if band.name not in places]
    if missing:
        nameless = all(band.name == f"band_{number}" for number, band in enumerate(found, 1))
        listed = ", ".join(missing)
        if nameless and len(found) >= len(wanted):
            named = [band.name for band in wanted]
            named += [band.name for band in found[len(named) :]]
            hint = f"Its bands have no names. If you know them, name them in order: --bands {','.join(named)}"
        else:
            hint = f"The bundle takes {_join_bands(wanted)}; the scene has {_join_bands(found)}"
            if len(missing) == 1:
                near = suggestion(missing[0], places)
                hint = f"{near} {hint}" if near.startswith("Did you mean") else hint
        raise DataError(f"has no band {listed}", where=where, hint=hint)
    for band in wanted:
        other = found[places[band.name]]
        if other.unit == band.unit:
            continue
        if other.unit == UNKNOWN:
            raise DataError(
                f"band {band.name} does not state its unit, but the bundle takes {band.unit}",
                where=where,
                hint="If its values are in the units of the bundle, name all bands in order: --bands "
                + ",".join(one.name for one in found),
            )
        raise DataError(
            f"band {band.name} is in {other.unit}, but the bundle takes {band.unit}",
            where=where,
            hint="Convert it, or make the scene in the same way as the training data (zoo stack)",
        )
    return [places[band.name] for band in wanted]


def _join_bands(bands: Sequence[Band]) -> str:
    return ", ".join(f"{band.name} [{band.unit}]" for band in bands)
