"""Cut stacks and an inventory into patches and masks, window by window, so that memory does not grow with the scene."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from rasterio.transform import Affine

from zoo.errors import ConfigError, DataError
from zoo.physics.bands import Band
from zoo.physics.slope import hillshade
from zoo.rasters.ground import window_bounds
from zoo.rasters.inventory import Inventory, read_inventory
from zoo.rasters.map_frame import reduced, stretch
from zoo.rasters.patch_files import (
    COLUMNS,
    IGNORE,
    MARKER_FILE,
    OVERVIEW,
    TABLE,
    Coverage,
    Patch,
    PatchFiles,
    PatchGrid,
    PatchScene,
    check_free,
    open_scenes,
    whole_folder,
)
from zoo.rasters.reading import small_cache
from zoo.rasters.stacks import Stack
from zoo.schema import to_plain, write_json

SELECTIONS: tuple[str, ...] = ("all", "positives", "sampled")

PICTURE_PIXELS = 900
"""Length of the longer side of a panel of the overview in pixels."""
PATCH_COLOURS = {"with a landslide": "#f3a712", "without": "#5b8dd9", "too empty": "#9aa0a6"}
LANDSLIDE_COLOUR, UNCERTAIN_COLOUR = "#e4002b", "#a63ad6"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PatchOptions:
    """Options for cutting stacks into patches.

    Attributes:
        size: side of a patch in pixels; 128 as in Landslide4Sense [S].
        stride: pixels from one patch to the next; None for ``size``.
        select: "all" patches; "positives", only those with a landslide; or "sampled", these and ``negatives`` times as
            many random others.
        negatives: if ``select`` is "sampled", number of patches without a landslide per patch with one.
        seed: random seed of this selection.
        min_valid: minimum share of a patch with valid data in every band, 0 to 1.
        all_touched: draw every pixel that a landslide touches, not only those whose centre it covers.
        scene: name of the only scene; ``None`` for tag or file name.
        date: ISO date of the images; ``None`` for the tags.
        phase: "pre" or "post"; ``None`` for the tags.
        layer: layer of the inventory.
        where: SQL condition on the inventory.
        buffer: buffer radius in metres that turns points and lines into polygons; ``None`` rejects them.
        date_column: date column of the inventory; landslides that the image cannot show are excluded.
        bands: names of the bands to cut, in order; ``None`` for all.

    Raises:
        ConfigError: if an option is out of range.
    """

    size: int = 128
    stride: int | None = None
    select: str = "all"
    negatives: float = 1.0
    seed: int = 0
    min_valid: float = 0.5
    all_touched: bool = False
    scene: str | None = None
    date: str | None = None
    phase: str | None = None
    layer: str | None = None
    where: str | None = None
    buffer: float | None = None
    date_column: str | None = None
    bands: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        PatchGrid((1, 1), self.size, self.step)
        if self.select not in SELECTIONS:
            raise ConfigError(f"unknown selection {self.select!r}", hint=f"Choose from {', '.join(SELECTIONS)}")
        if not 0 <= self.min_valid <= 1:
            raise ConfigError(
                f"{self.min_valid} is not a share", where="option min_valid", hint="Give a number from 0 to 1"
            )
        if not (self.negatives >= 0 and np.isfinite(self.negatives)):
            raise ConfigError(
                f"{self.negatives} is not a number of patches",
                where="option negatives_per_positive",
                hint="Give a number of at least 0, such as 2",
            )

    @property
    def step(self) -> int:
        """Pixels from one patch to the next."""
        return self.size if self.stride is None else self.stride


@dataclass(frozen=True)
class SceneSummary:
    """The patches of one scene.

    Attributes:
        scene: name of the scene.
        stack: file of the stack.
        date: ISO date, "" when unknown.
        phase: "pre" or "post".
        grid: (rows, columns) of patches.
        patches: number of patches written.
        positives: number of patches with a landslide.
        too_empty: number of positions excluded because too few of their pixels are valid.
        unselected: number of positions excluded by the selection.
        landslides: number of landslides of the inventory in the scene.
        drawn: number of landslides that cover at least one pixel that no later one covers.
        landslide_pixels: number of valid landslide pixels of the scene, each counted once.
        kept_pixels: number of landslide pixels in the patches, each counted once.
        valid_pixels: number of valid pixels in the patches, counted in every patch.
        mask_pixels: number of mask pixels with the value 1, counted in every patch.
        areas: smallest, median and largest geodesic area of a landslide in m2.
        notes: sentences about the inventory and doubtful properties.
    """

    scene: str
    stack: str
    date: str
    phase: str
    grid: tuple[int, int]
    patches: int
    positives: int
    too_empty: int
    unselected: int
    landslides: int
    drawn: int
    landslide_pixels: int
    kept_pixels: int
    valid_pixels: int
    mask_pixels: int
    areas: tuple[float, float, float]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PatchReport:
    """The content of a folder of patches.

    Attributes:
        folder: the folder.
        size: side of a patch in pixels.
        stride: pixels from one patch to the next.
        pixel_size: side of a pixel on the ground in metres; ``None`` in degrees.
        bands: names and units of the bands.
        inventory: file of the landslides.
        scenes: one entry per stack.
    """

    folder: Path
    size: int
    stride: int
    pixel_size: float | None
    bands: tuple[tuple[str, str], ...]
    inventory: str
    scenes: tuple[SceneSummary, ...]


def cut_patches(
    stacks: Sequence[Path],
    inventory: Path,
    folder: Path,
    options: PatchOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> PatchReport:
    """Cut stacks and their landslides into a folder of patches and masks, written atomically.

    The folder contains ``images/`` and ``masks/`` (GeoTIFFs with the same names), ``tiles.csv`` with the columns
    :data:`~zoo.rasters.patch_files.COLUMNS`, ``overview.png`` and ``patches.json``. Images are float32 in the units of
    the stack, NaN where the stack has no data; masks are uint8: 0, 1, and 255 where a band is missing, outside the
    raster, or on a landslide whose date is not exact enough.

    Args:
        stacks: one raster per scene, all with the same bands.
        inventory: vector file of landslides.
        folder: the folder to create.
        options: see :class:`PatchOptions`; the defaults require the phase in the stacks' tags.
        overwrite: replace an existing folder of patches.
        progress: called with the name of the scene, the number of patches done and the total.

    Raises:
        DataError: if a stack or the inventory cannot be read or used, or no patch contains a landslide.
        ConfigError: if options are invalid, or the folder exists and may not be replaced.
        ZooError: if the folder cannot be written.
    """
    options = options or PatchOptions()
    if not stacks:
        raise ConfigError("no stack is given", hint="Name a stack, such as stack.tif")
    check_free(folder, overwrite=overwrite)
    inside = [path for path in (*stacks, inventory) if folder.resolve() in path.resolve().parents]
    if inside:
        raise ConfigError(
            f"lies in {folder}, which is replaced", where=inside[0], hint="Move it elsewhere, or name another folder"
        )
    scenes = open_scenes(stacks, scene=options.scene, date=options.date, phase=options.phase, bands=options.bands)
    landslides = [_landslides_of(scene, inventory, options) for scene in scenes]
    reports, pictures = [], []
    with small_cache(), whole_folder(folder, overwrite=overwrite) as temporary:
        for name in ("images", "masks"):
            (temporary / name).mkdir()
        with (temporary / TABLE).open("w", encoding="utf-8", newline="") as stream:
            table = csv.writer(stream, lineterminator="\n")
            table.writerow(COLUMNS)
            for scene, shapes in zip(scenes, landslides, strict=True):
                with Stack(scene.path) as stack:
                    cut = _SceneCutter(scene, stack, shapes, options, temporary, progress)
                    for row in cut.run():
                        table.writerow(row)
                reports.append(cut.report())
                pictures.append(ScenePicture(scene, shapes, cut.grid, cut.kept, cut.too_empty))
        if not any(report.patches for report in reports) and all(report.too_empty for report in reports):
            raise DataError(
                f"no patch of {options.size} pixels is at least {options.min_valid:.0%} valid",
                where=scenes[0].path,
                hint="Cut smaller patches (--size), or keep emptier ones (--min-valid)",
            )
        if not any(report.positives for report in reports):
            raise DataError(
                "no landslide lies on valid pixels of a patch that is kept",
                where=inventory,
                hint="Landslides smaller than a pixel are drawn with --all-touched; --min-valid keeps emptier patches",
            )
        draw_overview(pictures, temporary / OVERVIEW)
        first = scenes[0]
        report = PatchReport(
            folder=folder,
            size=options.size,
            stride=options.step,
            pixel_size=first.pixel_size,
            bands=tuple((band.name, band.unit) for band in first.bands),
            inventory=str(inventory),
            scenes=tuple(reports),
        )
        values = to_plain(report)
        del values["folder"]
        write_json(temporary / MARKER_FILE, {"options": to_plain(options), **values})
    return report


def _landslides_of(scene: PatchScene, inventory: Path, options: PatchOptions) -> Inventory:
    with Stack(scene.path) as stack:
        crs, extent = stack.crs, window_bounds(stack.transform, stack.shape)
    if options.date_column is not None and not scene.date:
        raise ConfigError(
            "the date of the image is unknown, so the dates of landslides cannot be compared with it",
            where=scene.path,
            hint="Give it with --date",
        )
    return read_inventory(
        inventory,
        crs,
        extent,
        layer=options.layer,
        where=options.where,
        buffer=options.buffer,
        date_column=options.date_column,
        image_date=date.fromisoformat(scene.date) if scene.date else None,
        phase=scene.phase,
    )


class _SceneCutter:
    """Cuts one scene."""

    def __init__(
        self,
        scene: PatchScene,
        stack: Stack,
        inventory: Inventory,
        options: PatchOptions,
        folder: Path,
        progress: Progress | None,
    ) -> None:
        self.scene, self.stack, self.inventory, self.options, self.progress = scene, stack, inventory, options, progress
        self.grid = PatchGrid(stack.shape, options.size, options.step)
        digits = max(3, len(str(max(self.grid.rows, self.grid.columns) - 1)))
        self.files = PatchFiles(folder, stack, scene, digits)
        self.kept: dict[tuple[int, int], bool] = {}
        self.too_empty: list[tuple[int, int]] = []
        self._coverage = Coverage(self.grid)
        self._drawn: set[int] = set()
        self._unselected = self._valid = self._mask_pixels = 0

    def run(self) -> Iterator[tuple[Any, ...]]:
        """Write the patches and yield their table rows in grid order; sampled negatives come last.

        Raises:
            DataError: if the stack is all nodata or truncated.
        """
        negatives = []
        seen = False
        for done, place in enumerate(self.grid, start=1):
            patch = self._read_patch(*place)
            seen = seen or patch.valid_share > 0
            if patch.valid_share < self.options.min_valid or patch.valid_share == 0:
                self.too_empty.append(place)
            elif patch.landslide_pixels or self.options.select == "all":
                yield self._write(patch)
            elif self.options.select == "sampled":
                negatives.append(place)
            else:
                self._unselected += 1
            if self.progress is not None:
                self.progress(self.scene.name, done, len(self.grid))
        if not seen:
            raise DataError(
                "has no pixel with valid data in every band",
                where=self.scene.path,
                hint="Is a band all nodata? zoo describe shows the valid share of each",
            )
        wanted = min(len(negatives), round(self.options.negatives * len(self.kept)))
        rng = np.random.default_rng(self.options.seed)
        for index in sorted(rng.choice(len(negatives), wanted, replace=False)) if wanted else ():
            yield self._write(self._read_patch(*negatives[index]))
        self._unselected += len(negatives) - wanted

    def report(self) -> SceneSummary:
        """Return the summary of the scene, after :meth:`run`."""
        notes = [*self.scene.notes, *self.stack.code_notes, *self.inventory.notes]
        areas = self.inventory.areas()
        missing = len(self.inventory.shapes) - len(self._drawn)
        if missing and not self.options.all_touched:
            notes.append(
                f"{missing} landslides were not drawn: they are smaller than a pixel or hidden by others. "
                "Try --all-touched"
            )
        lost = self._coverage.total - self._coverage.kept
        if lost:
            notes.append(
                f"{lost} of {self._coverage.total} landslide pixels are in no patch, because those patches are less "
                f"than {self.options.min_valid:.0%} valid (--min-valid)"
            )
        return SceneSummary(
            scene=self.scene.name,
            stack=str(self.scene.path),
            date=self.scene.date,
            phase=self.scene.phase,
            grid=(self.grid.rows, self.grid.columns),
            patches=len(self.kept),
            positives=sum(self.kept.values()),
            too_empty=len(self.too_empty),
            unselected=self._unselected,
            landslides=len(self.inventory.shapes),
            drawn=len(self._drawn),
            landslide_pixels=self._coverage.total,
            kept_pixels=self._coverage.kept,
            valid_pixels=self._valid,
            mask_pixels=self._mask_pixels,
            areas=(float(areas.min()), float(np.median(areas)), float(areas.max())),
            notes=tuple(notes),
        )

    def _read_patch(self, row: int, column: int) -> Patch:
        size = self.options.size
        window = self.grid.window(row, column)
        pixels = self.stack.read(window, self.scene.positions)
        valid = np.isfinite(pixels).all(axis=0)
        x, y = self.stack.transform * (window.col_off, window.row_off)
        transform = self.stack.transform * Affine.translation(window.col_off, window.row_off)
        numbers = self.inventory.burn(transform, valid.shape, all_touched=self.options.all_touched)
        self._drawn.update(np.unique(np.abs(numbers[numbers != 0])).tolist())
        landslide = (numbers > 0) & valid
        self._coverage.count(window, landslide)
        image: NDArray[np.float32] = np.full((len(pixels), size, size), np.nan, np.float32)
        image[:, : window.height, : window.width] = np.where(np.isfinite(pixels), pixels, np.nan)
        mask = np.full((size, size), IGNORE, np.uint8)
        mask[: window.height, : window.width] = np.where(valid & (numbers >= 0), landslide, IGNORE)
        return Patch(row, column, image, mask, float(valid.sum()) / size**2, int(landslide.sum()), (x, y))

    def _write(self, patch: Patch) -> tuple[Any, ...]:
        self.kept[patch.row, patch.column] = patch.landslide_pixels > 0
        self._coverage.keep(self.grid.window(patch.row, patch.column))
        self._valid += round(patch.valid_share * self.options.size**2)
        self._mask_pixels += patch.landslide_pixels
        return self.files.write(patch)


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
    tallest = max(picture.grid.rows / picture.grid.columns for picture in scenes)
    width = 9.0 if across == 1 else 5.0
    figure = Figure(
        figsize=(width * across, down * min(1.6 * width, max(4.0, width * tallest)) + 0.9), layout="constrained"
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for panel in panels[len(scenes) :]:
        panel.set_axis_off()
    for panel, scene in zip(panels, scenes, strict=False):
        _draw_scene(panel, scene)
    handles = [Line2D([], [], color=colour, lw=2, label=f"patch {name}") for name, colour in PATCH_COLOURS.items()]
    handles.append(Line2D([], [], color=LANDSLIDE_COLOUR, lw=2, label="landslide"))
    if not all(picture.inventory.known.all() for picture in scenes):
        handles.append(Line2D([], [], color=UNCERTAIN_COLOUR, lw=2, label="landslide with uncertain date, ignored"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(3, len(handles)), fontsize=9, frameon=False)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _draw_scene(panel: Axes, drawn: ScenePicture) -> None:
    with Stack(drawn.scene.path) as stack:
        left, bottom, right, top = window_bounds(stack.transform, stack.shape)
        transform = stack.transform
        picture, step, label = _background(stack)
    # The last squares of the reduced picture extend beyond the raster.
    extent = (left, left + picture.shape[1] * step * transform.a, top + picture.shape[0] * step * transform.e, top)
    panel.imshow(picture, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="nearest")
    places = {
        "too empty": drawn.too_empty,
        "without": [place for place, positive in drawn.kept.items() if not positive],
        "with a landslide": [place for place, positive in drawn.kept.items() if positive],
    }
    for name, chosen in places.items():
        squares = [_square(transform, drawn.grid, place) for place in chosen]
        panel.add_collection(
            PolyCollection(
                squares,
                facecolors="none",
                edgecolors=PATCH_COLOURS[name],
                linewidths=1.4 if len(drawn.grid) < 400 else 0.5,
                linestyles=":" if name == "too empty" else "-",
            )
        )
    for known, colour in ((False, UNCERTAIN_COLOUR), (True, LANDSLIDE_COLOUR)):
        parts = shapely.get_parts(drawn.inventory.shapes[drawn.inventory.known == known])
        # Vertices finer than a pixel of the picture are invisible, and a national inventory has millions.
        parts = shapely.simplify(parts, (right - left) / (2 * PICTURE_PIXELS))
        rings = [shapely.get_coordinates(ring) for ring in shapely.get_exterior_ring(parts) if ring is not None]
        panel.add_collection(PolyCollection(rings, facecolors=colour, edgecolors=colour, linewidths=0.4, alpha=0.8))
    last = drawn.grid.window(drawn.grid.rows - 1, drawn.grid.columns - 1)
    outer = _square(transform, drawn.grid, (drawn.grid.rows - 1, drawn.grid.columns - 1))
    xs, ys = [left, right, *outer[:, 0]], [bottom, top, *outer[:, 1]]
    margin = 0.01 * max(max(xs) - min(xs), max(ys) - min(ys), abs(transform.a) * last.width)
    panel.set_xlim(min(xs) - margin, max(xs) + margin)
    panel.set_ylim(min(ys) - margin, max(ys) + margin)
    positives = sum(drawn.kept.values())
    phase = f"{drawn.scene.phase}-event" + (f", {drawn.scene.date}" if drawn.scene.date else "")
    panel.set_title(
        f"{drawn.scene.name} ({phase}): {len(drawn.kept)} patches, {positives} with a landslide", fontsize=10
    )
    panel.set_xlabel(f"{label}; {drawn.scene.crs}", fontsize=8)
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
    values, step = reduced(stack.shape, lambda window: stack.read(window, [band]), PICTURE_PIXELS, "mean")
    values[~np.isfinite(values)] = np.nan
    if "dem" in names and stack.pixel_size is not None and min(values.shape[1:]) >= 2:
        # White where the elevation is unknown.
        return np.nan_to_num(hillshade(values[0], stack.pixel_size * step), nan=1.0), step, "hillshade of the DEM"
    return stretch(values)[..., 0], step, _caption(stack.bands[band])


def _caption(band: Band) -> str:
    return band.name if band.unit in ("1", "unknown") else f"{band.name} [{band.unit}]"
