"""A window of a scene that somebody asks about, by pixels or by a place."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.errors import ConfigError
from zoo.mapping.explain.occlusion import Crop
from zoo.mapping.scene import Scene
from zoo.mapping.tiling import Reach
from zoo.rasters.inventory import Bounds, window_bounds
from zoo.rasters.layers import crs_name, crs_unit
from zoo.rasters.reading import window_of

if TYPE_CHECKING:
    from rasterio.windows import Window

LARGEST = 1024
"""Pixels along a side: the model runs some 150 times on the window."""


@dataclass(frozen=True)
class AskedWindow:
    """A window and the ground around it.

    Attributes:
        rows, columns: of the scene that are asked about.
        seen_rows, seen_columns: of the scene that the model sees, the ground around included.
    """

    rows: Reach
    columns: Reach
    seen_rows: Reach
    seen_columns: Reach

    @property
    def crop(self) -> Crop:
        """The window in what the model sees."""
        return self.rows.within(self.seen_rows), self.columns.within(self.seen_columns)

    @property
    def place(self) -> Window:
        """The window as rasters know it."""
        return window_of((self.rows.start, self.rows.stop), (self.columns.start, self.columns.stop))

    def bounds(self, scene: Scene) -> Bounds:
        """(left, bottom, right, top) of the window in the scene's coordinates."""
        place = scene.mosaic.transform
        x0, y0 = place * (self.columns.start, self.rows.start)
        x1, y1 = place * (self.columns.stop, self.rows.stop)
        return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def ask_window(scene: Scene, column: int, row: int, width: int, height: int, context: int) -> AskedWindow:
    """A window by its upper left pixel and size, as in GDAL's ``-srcwin``.

    Args:
        scene: in which it lies.
        column, row: of its upper left pixel, from 0.
        width, height: in pixels.
        context: pixels around it that the model sees too, where the scene has them.

    Raises:
        ConfigError: if it reaches beyond the scene, is empty or too large.
    """
    rows, columns = scene.shape
    inside = f"The scene has {columns} columns and {rows} rows"
    if width < 1 or height < 1:
        raise ConfigError(f"a window of {width} x {height} pixels", hint="Give COL,ROW,WIDTH,HEIGHT in pixels")
    if max(width, height) > LARGEST:
        raise ConfigError(
            f"a window of {width} x {height} pixels is too large to explain",
            hint=f"Ask about {LARGEST} x {LARGEST} pixels at most: the model runs on it some 150 times",
        )
    if column < 0 or row < 0 or column + width > columns or row + height > rows:
        raise ConfigError(
            f"the window of columns {column} to {column + width - 1} and rows {row} to {row + height - 1} reaches "
            "beyond the scene",
            where=scene.mosaic.paths[0],
            hint=inside,
        )
    return AskedWindow(
        Reach(row, row + height),
        Reach(column, column + width),
        Reach(max(0, row - context), min(rows, row + height + context)),
        Reach(max(0, column - context), min(columns, column + width + context)),
    )


def ask_place(scene: Scene, x: float, y: float, size: int, context: int) -> AskedWindow:
    """A square window around a place in the scene's coordinates, moved inwards at the scene's edges.

    Raises:
        ConfigError: if the place lies outside the scene, or as :func:`ask_window`.
    """
    rows, columns = scene.shape
    column, row = (math.floor(one) for one in ~scene.mosaic.transform * (x, y))
    if not (0 <= column < columns and 0 <= row < rows):
        left, bottom, right, top = window_bounds(scene.mosaic.transform, scene.shape)
        raise ConfigError(
            f"the place {x:g}, {y:g} lies outside the scene",
            where=scene.mosaic.paths[0],
            hint=f"In {crs_name(scene.mosaic.crs)} [{crs_unit(scene.mosaic.crs)}] the scene spans x {left:.10g} to "
            f"{right:.10g} and y {bottom:.10g} to {top:.10g}",
        )
    width, height = min(size, columns), min(size, rows)
    return ask_window(
        scene,
        min(max(column - width // 2, 0), columns - width),
        min(max(row - height // 2, 0), rows - height),
        width,
        height,
        context,
    )
