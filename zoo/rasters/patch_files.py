"""Parts of a folder of patches: scenes, the grid of patches, their files, and the folder."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.transform import Affine
from rasterio.windows import Window

from zoo.errors import ConfigError, DataError, UnknownNameError, ZooError
from zoo.files import file_name, remove_leftovers, unwritable, working_folder
from zoo.physics.bands import Band
from zoo.rasters.ground import crs_name
from zoo.rasters.inventory import PHASES, parse_day
from zoo.rasters.reading import gdal_message
from zoo.rasters.stacks import TAG_DATE, TAG_PHASE, TAG_SCENE, Stack


@dataclass(frozen=True)
class PatchScene:
    """A stack to cut into patches.

    Attributes:
        path: file of the stack.
        name: name of the scene, unique in the folder.
        slug: unique form of the name in characters that every file system accepts.
        date: ISO date of the image, "" when unknown.
        phase: "pre" or "post".
        bands: the bands to cut.
        positions: their indices in the stack.
        crs: short name of the coordinate system.
        pixel_size: side of a pixel on the ground in metres; ``None`` in degrees.
        shape: (rows, columns).
        notes: sentences about doubtful properties.
    """

    path: Path
    name: str
    slug: str
    date: str
    phase: str
    bands: tuple[Band, ...]
    positions: tuple[int, ...]
    crs: str
    pixel_size: float | None
    shape: tuple[int, int]
    notes: tuple[str, ...]


def open_scenes(
    paths: Sequence[Path],
    *,
    scene: str | None = None,
    date: str | None = None,
    phase: str | None = None,
    bands: Sequence[str] | None = None,
) -> list[PatchScene]:
    """Open each stack once, and read and check its metadata.

    Args:
        paths: the stacks.
        scene: name of the only scene; ``None`` for the stack's tag, else the name of its file.
        date: ISO date of the images; ``None`` for the stacks' tags, else unknown.
        phase: "pre" or "post"; ``None`` for the stacks' tags.
        bands: names of the bands to cut, in order; ``None`` for all.

    Raises:
        ConfigError: if the phase is unknown or differs between stacks, an option contradicts a tag, or two scenes have
            the same name.
        DataError: if a stack cannot be read, or stacks differ in bands, units or pixel size.
        UnknownNameError: if a stack lacks a band.
    """
    if scene is not None and len(paths) > 1:
        raise ConfigError(f"one scene name is given for {len(paths)} stacks", where="option scene")
    if scene is not None and not scene.strip():
        raise ConfigError("the name is empty", where="option scene")
    if phase is not None and phase not in PHASES:
        raise ConfigError(f"unknown phase {phase!r}", where="option phase", hint="Choose pre or post")
    if date is not None:
        date = parse_day(date, "option date").isoformat()
    scenes: list[PatchScene] = []
    for path in paths:
        with Stack(path) as stack:
            found = _describe(stack, scene, date, phase, bands)
        for other in scenes:
            if found.slug.casefold() == other.slug.casefold():
                raise ConfigError(
                    f"{other.path} and {path} are both scene {found.name!r}",
                    hint="Cut them into two folders, or give each its own SCENE tag",
                )
        if scenes:
            _check_equal(scenes[0], found)
        scenes.append(found)
    return scenes


def _describe(
    stack: Stack, scene: str | None, date: str | None, phase: str | None, bands: Sequence[str] | None
) -> PatchScene:
    name = scene or stack.tags.get(TAG_SCENE, "").strip() or stack.path.stem
    notes = []
    written = stack.tags.get(TAG_DATE, "").strip()
    day = _resolve_tag(
        stack, TAG_DATE, parse_day(written, f"{stack.path}, tag {TAG_DATE}").isoformat() if written else "", date
    )
    if not day:
        notes.append("the date of the image is unknown: give it with --date")
    side = _resolve_tag(stack, TAG_PHASE, stack.tags.get(TAG_PHASE, "").strip(), phase)
    if side not in PHASES:
        raise ConfigError(
            "the phase of the image is unknown" if not side else f"the phase of the image is {side!r}",
            where=stack.path,
            hint="Was it taken before or after the landslides? Give --phase pre or --phase post",
        )
    positions = select_bands(stack.bands, bands, stack.name)
    return PatchScene(
        path=stack.path,
        name=name,
        slug=file_name(name),
        date=day,
        phase=side,
        bands=tuple(stack.bands[position] for position in positions),
        positions=positions,
        crs=crs_name(stack.crs),
        pixel_size=stack.pixel_size,
        shape=stack.shape,
        notes=tuple(notes),
    )


def select_bands(bands: Sequence[Band], names: Sequence[str] | None, where: object) -> tuple[int, ...]:
    """Return the indices of bands by name, in the order of the names; of all bands without names.

    Raises:
        ConfigError: if the names are empty or repeated.
        UnknownNameError: if a band does not exist.
    """
    if names is None:
        return tuple(range(len(bands)))
    if not names or len(set(names)) < len(names):
        raise ConfigError("a band is named twice" if names else "no band is named", where="option bands")
    known = [band.name for band in bands]
    for name in names:
        if name not in known:
            raise UnknownNameError("band", name, known, where=where)
    return tuple(known.index(name) for name in names)


def _resolve_tag(stack: Stack, tag: str, written: str, given: str | None) -> str:
    if given is not None and written and written != given:
        raise ConfigError(
            f"its tag {tag} is {written}, but the option is {given}",
            where=stack.path,
            hint=f"Leave the option out, or correct the tag: gdal_edit.py -mo {tag}={given} FILE",
        )
    return given or written


def _check_equal(first: PatchScene, other: PatchScene) -> None:
    if first.phase != other.phase:
        raise ConfigError(
            f"its phase is {other.phase}, that of {first.path} is {first.phase}, and their masks differ in meaning",
            where=other.path,
            hint="Cut them into two folders",
        )
    for what, value, expected in (
        ("bands", [band.name for band in first.bands], [band.name for band in other.bands]),
        ("units", [band.unit for band in first.bands], [band.unit for band in other.bands]),
    ):
        if value != expected:
            raise DataError(
                f"its {what} are {', '.join(expected)}, those of {first.path} {', '.join(value)}",
                where=other.path,
                hint="The patches of one folder need the same bands in the same order: choose them with --bands",
            )
    sizes = first.pixel_size, other.pixel_size
    if sizes[0] is None or sizes[1] is None:
        same = sizes[0] is sizes[1]
    else:
        same = math.isclose(sizes[0], sizes[1], rel_tol=0.01)
    if not same:
        raise DataError(
            f"its pixels are {_metres(sizes[1])}, those of {first.path} {_metres(sizes[0])}",
            where=other.path,
            hint="Warp one to the other's resolution first: gdalwarp -tr",
        )


def _metres(size: float | None) -> str:
    return "not in metres" if size is None else f"{size:g} m"


MARKER_FILE = "patches.json"
"""File that identifies a folder of zoo patches, so that no other folder is replaced."""

TABLE = "tiles.csv"
OVERVIEW = "overview.png"
PATCH_FOLDER_ENTRIES = frozenset({"images", "masks", TABLE, OVERVIEW, MARKER_FILE})
"""What a folder of zoo patches holds."""

_REPLACED = "replaced"


@contextmanager
def whole_folder(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder next to ``path``; rename it into place when the block ends without an error.

    On an error or Ctrl-C, the temporary folder is removed and ``path`` does not change.

    Args:
        path: the folder to create; an empty one may exist.
        overwrite: replace an existing folder that holds :data:`MARKER_FILE`.

    Raises:
        ConfigError: if ``path`` exists and may not be replaced.
        ZooError: if the folder cannot be written, or the disk is full.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a link that is to be replaced
    check_free(path, overwrite=overwrite)
    with working_folder(path, keep=_REPLACED) as folder:
        replaced = folder / _REPLACED
        try:
            if replaced.exists():
                # A previous run was killed while it replaced the folder.
                if path.exists():
                    shutil.rmtree(replaced)
                else:
                    replaced.rename(path)
                    check_free(path, overwrite=overwrite)
            temporary = folder / path.name
            temporary.mkdir()
            yield temporary
            _swap_folders(temporary, path, replaced)
        except OSError as error:
            raise unwritable(path, error) from error


def check_free(path: Path, *, overwrite: bool) -> None:
    """Check that the output folder may be written, before a long run starts.

    Raises:
        ConfigError: if ``path`` exists and must not be replaced, or is a symbolic link.
    """
    if path.is_symlink():
        raise ConfigError("is a symbolic link, which is not replaced", where=path, hint="Name the folder itself")
    if not path.exists():
        return
    if not path.is_dir():
        raise ConfigError("is a file, but a folder is written", where=path, hint="Name another folder")
    if not any(path.iterdir()):
        return
    if not overwrite:
        remove_leftovers(path)
        raise ConfigError("already exists", where=path, hint="Name another folder, or replace it with --overwrite")
    if not (path / MARKER_FILE).is_file():
        raise ConfigError(
            f"was not made by zoo patches (it has no {MARKER_FILE}), so it is not replaced",
            where=path,
            hint="Name another folder, or remove it yourself",
        )
    others = sorted(
        entry.name for entry in path.iterdir() if entry.name not in PATCH_FOLDER_ENTRIES and entry.name[0] != "."
    )
    if others:
        raise ConfigError(
            f"holds {others[0]}, which zoo patches did not write, so it is not replaced",
            where=path,
            hint="Move it elsewhere, or name another folder",
        )


def _swap_folders(temporary: Path, path: Path, replaced: Path) -> None:
    if not path.exists():
        temporary.rename(path)
        return
    path.rename(replaced)
    try:
        temporary.rename(path)
    except BaseException:
        if not path.exists():
            replaced.rename(path)
        raise


MAX_PATCH_SIDE = 8192

IGNORE = 255
"""Mask value of ignored pixels: nodata, outside the raster, or a landslide whose date is not exact enough."""

COLUMNS = ("tile", "scene", "row", "col", "date", "phase", "landslide_pixels", "valid_share", "x", "y")


@dataclass(frozen=True)
class Patch:
    """One patch of a scene.

    Attributes:
        row: row in the grid of patches, from 0.
        column: column in the grid of patches, from 0.
        image: float32 (C, size, size), NaN where missing.
        mask: uint8 (size, size): 0, 1, and :data:`IGNORE`.
        valid_share: share of pixels with data in all bands.
        landslide_pixels: number of mask pixels that are 1.
        origin: coordinates of the upper left corner.
    """

    row: int
    column: int
    image: NDArray[np.float32]
    mask: NDArray[np.uint8]
    valid_share: float
    landslide_pixels: int
    origin: tuple[float, float]


@dataclass(frozen=True)
class PatchFiles:
    """Writer of the patches of one scene.

    Args:
        folder: folder that contains ``images`` and ``masks``.
        stack: the stack; its units, valid ranges and tags are copied to each patch.
        scene: the scene; its slug is the prefix of file names.
        digits: digits of rows and columns in file names.
    """

    folder: Path
    stack: Stack
    scene: PatchScene
    digits: int

    def write(self, patch: Patch) -> tuple[str | int | float, ...]:
        """Write the image and the mask of a patch.

        Returns:
            The table row, in the order of :data:`COLUMNS`.

        Raises:
            ZooError: if a file cannot be written.
        """
        scene = self.scene
        name = f"{scene.slug}_{patch.row:0{self.digits}}_{patch.column:0{self.digits}}.tif"
        stack_transform = self.stack.transform
        x, y = patch.origin
        transform = Affine(stack_transform.a, 0.0, x, 0.0, stack_transform.e, y)
        about = {TAG_SCENE: scene.name, TAG_DATE: scene.date, TAG_PHASE: scene.phase}
        place = {"PATCH_ROW": str(patch.row), "PATCH_COL": str(patch.column)}
        tags = {**self._inherited_tags(self.stack.tags), **{key: text for key, text in about.items() if text}, **place}
        try:
            with _create(self.folder / "images" / name, patch.image, self.stack.crs, transform, np.nan) as image:
                image.write(patch.image)
                image.update_tags(**tags)
                image.units = ["" if band.unit == "unknown" else band.unit for band in scene.bands]
                for index, (band, position) in enumerate(zip(scene.bands, scene.positions, strict=True), 1):
                    image.set_band_description(index, band.name)
                    image.update_tags(index, **self._inherited_tags(self.stack.band_tags(position)))
            with _create(self.folder / "masks" / name, patch.mask[None], self.stack.crs, transform, IGNORE) as mask:
                mask.write(patch.mask, 1)
                mask.set_band_description(1, "landslide")
                mask.update_tags(**{key: text for key, text in about.items() if text}, **place)
        except (RasterioError, OSError) as error:
            raise ZooError(
                f"cannot write a patch ({gdal_message(error)})", where=self.folder, hint="Is the disk full?"
            ) from error
        return (
            name,
            scene.name,
            patch.row,
            patch.column,
            scene.date,
            scene.phase,
            patch.landslide_pixels,
            round(patch.valid_share, 4),
            x,
            y,
        )

    @staticmethod
    def _inherited_tags(tags: Any) -> dict[str, str]:
        """Return the tags of the stack that also apply to a patch."""
        return {key: text for key, text in tags.items() if not key.startswith(("STATISTICS_", "AREA_OR_POINT", "OVR_"))}


def _create(path: Path, values: NDArray[Any], crs: CRS, transform: Affine, nodata: float) -> Any:
    return rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=values.shape[0],
        height=values.shape[1],
        width=values.shape[2],
        dtype=values.dtype,
        crs=crs,
        transform=transform,
        nodata=nodata,
        compress="deflate",
        predictor=3 if values.dtype.kind == "f" else 1,
        photometric="MINISBLACK",
    )


@dataclass(frozen=True)
class PatchGrid:
    """Grid of square patches that starts at the upper left corner of a raster.

    The last row and column may extend beyond the raster, so that no pixels at its edges are lost. Pixels outside are
    nodata in the image and ignored in the mask [O].

    Args:
        shape: (rows, columns) of the raster in pixels.
        size: side of a patch in pixels.
        stride: pixels from one patch to the next, at most ``size``; if equal, each pixel is in exactly one patch.

    Raises:
        ConfigError: if size or stride is out of range.
    """

    shape: tuple[int, int]
    size: int
    stride: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError(f"a patch of {self.size} pixels is not possible", where="option size")
        if self.size > MAX_PATCH_SIDE:
            raise ConfigError(
                f"a patch of {self.size:,} pixels is too large", where="option size", hint=f"At most {MAX_PATCH_SIDE:,}"
            )
        if not 1 <= self.stride <= self.size:
            raise ConfigError(
                f"a stride of {self.stride} with patches of {self.size} pixels",
                where="option stride",
                hint="Give 1 to the size of a patch: a larger stride would skip ground, and landslides with it",
            )

    @property
    def rows(self) -> int:
        """Number of patches from top to bottom."""
        return self._count(self.shape[0])

    @property
    def columns(self) -> int:
        """Number of patches from left to right."""
        return self._count(self.shape[1])

    def __len__(self) -> int:
        return self.rows * self.columns

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the (row, column) of each patch in the grid, row by row."""
        return ((row, column) for row in range(self.rows) for column in range(self.columns))

    def window(self, row: int, column: int) -> Window:
        """Return the part of a patch inside the raster, in pixels, from the patch's upper left corner."""
        top, left = row * self.stride, column * self.stride
        return Window(left, top, min(self.size, self.shape[1] - left), min(self.size, self.shape[0] - top))

    def _count(self, length: int) -> int:
        return 1 + max(0, -(-(length - self.size) // self.stride))


class Coverage:
    """Counter that counts each pixel once although patches overlap.

    The edges of all patches divide the raster into cells, and a patch covers whole cells, so one count per cell is
    enough.

    Args:
        grid: the patches.
    """

    def __init__(self, grid: PatchGrid) -> None:
        self._edges = tuple(
            np.unique(
                [
                    min(length, edge)
                    for index in range(count)
                    for edge in (index * grid.stride, index * grid.stride + grid.size)
                ]
            )
            for length, count in zip(grid.shape, (grid.rows, grid.columns), strict=True)
        )
        cells = (len(self._edges[0]) - 1, len(self._edges[1]) - 1)
        self._counts = np.zeros(cells, np.int64)
        self._kept = np.zeros(cells, bool)

    def count(self, window: Window, pixels: NDArray[np.bool_]) -> None:
        """Count the marked pixels of a patch; overlapping patches give the same counts again.

        Args:
            window: part of the patch inside the raster.
            pixels: bool, in the shape of the window.
        """
        rows, columns, starts = self._cells(window)
        sums = np.add.reduceat(np.add.reduceat(pixels.astype(np.int64), starts[0], axis=0), starts[1], axis=1)
        self._counts[rows, columns] = sums

    def keep(self, window: Window) -> None:
        """Mark a patch as kept."""
        rows, columns, _ = self._cells(window)
        self._kept[rows, columns] = True

    @property
    def total(self) -> int:
        """Number of marked pixels, each counted once."""
        return int(self._counts.sum())

    @property
    def kept(self) -> int:
        """Number of marked pixels in at least one kept patch."""
        return int(self._counts[self._kept].sum())

    def _cells(self, window: Window) -> tuple[slice, slice, tuple[NDArray[np.intp], NDArray[np.intp]]]:
        slices, starts = [], []
        spans = ((window.row_off, window.height), (window.col_off, window.width))
        for edges, (offset, length) in zip(self._edges, spans, strict=True):
            first, last = np.searchsorted(edges, (offset, offset + length))
            slices.append(slice(int(first), int(last)))
            starts.append(edges[first:last] - offset)
        return slices[0], slices[1], (starts[0], starts[1])
