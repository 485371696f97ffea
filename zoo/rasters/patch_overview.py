"""Draw an overview of the scenes, patches and landslides in a folder of patches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from rasterio.transform import Affine

from zoo.physics.bands import Band
from zoo.physics.slope import hillshade
from zoo.rasters.ground import window_bounds
from zoo.rasters.inventory import Inventory
from zoo.rasters.map_frame import reduced, stretch
from zoo.rasters.patch_files import PatchGrid, PatchScene
from zoo.rasters.stacks import Stack

_PIXELS = 900
_COLOURS = {"with a landslide": "#f3a712", "without": "#5b8dd9", "too empty": "#9aa0a6"}
_LANDSLIDE, _DOUBTFUL = "#e4002b", "#a63ad6"


@dataclass(frozen=True)
class ScenePicture:
    """The content of one panel.

    Attributes:
        scene: the scene.
        inventory: its landslides.
        grid: its patches.
        kept: position of each written patch, and whether it contains a landslide.
        too_empty: positions excluded because too few of their pixels are valid.
    """

    scene: PatchScene
    inventory: Inventory
    grid: PatchGrid
    kept: Mapping[tuple[int, int], bool]
    too_empty: Sequence[tuple[int, int]]


def draw_overview(scenes: Sequence[ScenePicture], path: Path) -> None:
    """Write the picture as PNG: a hillshade if there is a DEM, else the first band, overlaid with outlines.

    Args:
        scenes: one panel per scene, four in a row.
        path: the PNG file.

    Raises:
        DataError: if a stack cannot be read again.
    """
    across = min(4, len(scenes))
    down = math.ceil(len(scenes) / across)
    tallest = max(one.grid.rows / one.grid.columns for one in scenes)
    width = 9.0 if across == 1 else 5.0
    figure = Figure(
        figsize=(width * across, down * min(1.6 * width, max(4.0, width * tallest)) + 0.9), layout="constrained"
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for panel in panels[len(scenes) :]:
        panel.set_axis_off()
    for panel, one in zip(panels, scenes, strict=False):
        _draw(panel, one)
    handles = [Line2D([], [], color=colour, lw=2, label=f"patch {name}") for name, colour in _COLOURS.items()]
    handles.append(Line2D([], [], color=_LANDSLIDE, lw=2, label="landslide"))
    if not all(one.inventory.known.all() for one in scenes):
        handles.append(Line2D([], [], color=_DOUBTFUL, lw=2, label="landslide with uncertain date, ignored"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(3, len(handles)), fontsize=9, frameon=False)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _draw(panel: Axes, one: ScenePicture) -> None:
    with Stack(one.scene.path) as stack:
        left, bottom, right, top = window_bounds(stack.transform, stack.shape)
        transform = stack.transform
        picture, step, label = _background(stack)
    # The last squares of the reduced picture extend beyond the raster.
    extent = (left, left + picture.shape[1] * step * transform.a, top + picture.shape[0] * step * transform.e, top)
    panel.imshow(picture, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="nearest")
    places = {
        "too empty": one.too_empty,
        "without": [place for place, positive in one.kept.items() if not positive],
        "with a landslide": [place for place, positive in one.kept.items() if positive],
    }
    for name, chosen in places.items():
        squares = [_square(transform, one.grid, place) for place in chosen]
        panel.add_collection(
            PolyCollection(
                squares,
                facecolors="none",
                edgecolors=_COLOURS[name],
                linewidths=1.4 if len(one.grid) < 400 else 0.5,
                linestyles=":" if name == "too empty" else "-",
            )
        )
    for known, colour in ((False, _DOUBTFUL), (True, _LANDSLIDE)):
        parts = shapely.get_parts(one.inventory.shapes[one.inventory.known == known])
        # Vertices finer than a pixel of the picture are invisible, and a national inventory has millions.
        parts = shapely.simplify(parts, (right - left) / (2 * _PIXELS))
        rings = [shapely.get_coordinates(ring) for ring in shapely.get_exterior_ring(parts) if ring is not None]
        panel.add_collection(PolyCollection(rings, facecolors=colour, edgecolors=colour, linewidths=0.4, alpha=0.8))
    last = one.grid.window(one.grid.rows - 1, one.grid.columns - 1)
    outer = _square(transform, one.grid, (one.grid.rows - 1, one.grid.columns - 1))
    xs, ys = [left, right, *outer[:, 0]], [bottom, top, *outer[:, 1]]
    margin = 0.01 * max(max(xs) - min(xs), max(ys) - min(ys), abs(transform.a) * last.width)
    panel.set_xlim(min(xs) - margin, max(xs) + margin)
    panel.set_ylim(min(ys) - margin, max(ys) + margin)
    positives = sum(one.kept.values())
    phase = f"{one.scene.phase}-event" + (f", {one.scene.date}" if one.scene.date else "")
    panel.set_title(f"{one.scene.name} ({phase}): {len(one.kept)} patches, {positives} with a landslide", fontsize=10)
    panel.set_xlabel(f"{label}; {one.scene.crs}", fontsize=8)
    panel.tick_params(labelsize=7)
    panel.ticklabel_format(useOffset=False, style="plain")


def _square(transform: Affine, grid: PatchGrid, place: tuple[int, int]) -> NDArray[np.float64]:
    top, left = place[0] * grid.stride, place[1] * grid.stride
    corners = ((left, top), (left + grid.size, top), (left + grid.size, top + grid.size), (left, top + grid.size))
    return np.array([transform * corner for corner in corners])


def _background(stack: Stack) -> tuple[NDArray[np.float32], int, str]:
    """Return a grey picture of a stack in 0..1, the side of its squares in pixels, and its caption."""
    names = [band.name.casefold() for band in stack.bands]
    band = names.index("dem") if "dem" in names else 0
    values, step = reduced(stack.shape, lambda window: stack.read(window, [band]), _PIXELS, "mean")
    values[~np.isfinite(values)] = np.nan
    if "dem" in names and stack.pixel_size is not None and min(values.shape[1:]) >= 2:
        # White where the elevation is unknown.
        return np.nan_to_num(hillshade(values[0], stack.pixel_size * step), nan=1.0), step, "hillshade of the DEM"
    return stretch(values)[..., 0], step, _caption(stack.bands[band])


def _caption(band: Band) -> str:
    return band.name if band.unit in ("1", "unknown") else f"{band.name} [{band.unit}]"
