"""``zoo.stack``, ``zoo.rain``, ``zoo.patches``, ``zoo.describe`` and ``zoo.audit``: from satellite bands, rain and
inventories to training data and their description.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from zoo.datasets.source import DataSource
from zoo.errors import ConfigError
from zoo.files import PathLike, check_outputs

if TYPE_CHECKING:
    from zoo.datasets.audit import Audit
    from zoo.datasets.base import PatchDataset
    from zoo.diagnostics.description import Description
    from zoo.jobs import ProgressCallback, StageCallback
    from zoo.physics import IndexParameters
    from zoo.physics.rain_events import EventRules
    from zoo.physics.stability import Soil
    from zoo.rasters.layers import BandFile, Sources
    from zoo.rasters.patches import PatchReport
    from zoo.rasters.rain_bands import RainReport
    from zoo.rasters.rain_series import RainReading
    from zoo.rasters.stacking import StackReport


Bounds: TypeAlias = tuple[float, float, float, float]

EARTH_SEARCH = "https://earth-search.aws.element84.com/v1"
"""A STAC catalogue of Sentinel-2 that requires no account."""

RASTER_SUFFIXES = (".tif", ".tiff", ".vrt")

_OPTICAL = ("green", "red", "nir", "swir", "swir2")
_MOISTURE_WORDS = ("optram", "ndmi", "none")


# long: one parameter for each input and option of `zoo stack`
def stack(
    out: PathLike,
    safe: PathLike | None = None,
    *,
    pre: PathLike | None = None,
    post: PathLike | None = None,
    s1: PathLike | None = None,
    s1_pre: PathLike | None = None,
    s1_looks: float | None = None,
    green: PathLike | None = None,
    red: PathLike | None = None,
    nir: PathLike | None = None,
    swir: PathLike | None = None,
    swir2: PathLike | None = None,
    scl: PathLike | None = None,
    dem: PathLike | None = None,
    moisture: PathLike | None = None,
    moisture_range: tuple[float, float] | None = None,
    rain: tuple[float, float] | None = None,
    rain_intensity: PathLike | None = None,
    rain_duration: PathLike | None = None,
    weights: PathLike | IndexParameters | None = None,
    save_weights: PathLike | None = None,
    soil: Soil | None = None,
    stac_box: Bounds | None = None,
    stac_dates: str | None = None,
    stac_pre_dates: str | None = None,
    stac_url: str = EARTH_SEARCH,
    stac_collection: str = "sentinel-2-l2a",
    max_cloud: float = 30.0,
    grid: PathLike | None = None,
    crs: str | None = None,
    resolution: float | None = None,
    bounds: Bounds | None = None,
    baseline: str | None = None,
    offset: float | None = None,
    scale: float | None = None,
    date: str | None = None,
    pre_date: str | None = None,
    phase: str | None = None,
    scene: str | None = None,
    coregister: bool = False,
    force: bool = False,
    overwrite: bool = False,
    progress: StageCallback | None = None,
) -> StackReport:
    """Put satellite bands, terrain and moisture on one grid: SMI, NDBI, NDVI, NDWI, slope, DEM and LSI.

    Two dates, ``pre`` and ``post``, add the differences dNDBI, dNDVI, dNDWI and dBSI: after minus before. Channels that
    cannot be computed from the inputs are left out. Files given by keyword replace those of ``safe`` and of the
    catalogue. Write ``"mosaic.tif:4"`` for band 4 of a file.

    Args:
        out: the stack, a GeoTIFF; it appears when it is complete.
        safe: a Sentinel-2 product, folder or zip.
        pre, post: images before and after the landslides: a product, or a folder with a file for each band such as
            ``B04.tif`` or ``red.tif``. Both are put on the grid of ``post``; the other channels come from ``post``.
        s1: folder with terrain-corrected Sentinel-1: adds VV, VH and VV_VH (their ratio) in dB, by orbit.
        s1_pre: the same from before the landslides: adds the log-ratios dVV and dVH in dB.
        s1_looks: filter the speckle of Sentinel-1, whose pixels have this equivalent number of looks.
        green, red, nir, swir: reflectance (Sentinel-2: B03, B04, B08, B11).
        swir2: short-wave infrared at 2.2 micrometres (B12): SMI by OPTRAM.
        scl: scene classification; clouds and their shadows become nodata.
        dem: elevation in metres.
        moisture: a coarse soil-moisture product, or "optram", "ndmi" or "none".
        moisture_range: dry and saturated value of the product, in its unit.
        rain: intensity in mm/h and duration in days for the rainfall factor of the LSI.
        rain_intensity, rain_duration: the same as rasters.
        weights: weights and feature ranges of the LSI: a file or parameters.
        save_weights: file for the weights with the ranges that were used.
        soil: add the channels wetness and factor_of_safety of this soil under ``rain``.
        stac_box: west, south, east, north in degrees: fetch the bands from a catalogue.
        stac_dates: a day, or the first and last day: "2024-06-01/2024-06-30".
        stac_pre_dates: a day or period before the landslides; its image is fetched too and used as ``pre``.
        stac_url, stac_collection: the catalogue and its collection.
        max_cloud: maximum cloud cover of an image in per cent.
        grid: raster whose grid is used unchanged.
        crs, resolution, bounds: another grid; see :func:`zoo.rasters.grid.choose_grid`.
        baseline: processing baseline of Sentinel-2, such as "05.09", for bands as ESA distributes them.
        offset: added to the digital numbers: -1000, or 0 if it was already removed.
        scale: factor from digital numbers to reflectance, such as 1e-4.
        date: ISO date of the image; of ``post`` with two dates.
        pre_date: ISO date of ``pre``.
        phase: "pre" or "post": before or after the landslides.
        scene: name of the scene or event, by which data sets are split.
        coregister: align ``pre`` with ``post``, and ``s1_pre`` with ``s1``. The shift between them is measured and
            reported in any case.
        force: accept red and NIR bands that look swapped, and dates that are shifted by more than a pixel.
        overwrite: replace an existing file.
        progress: called with the name of the stage, the number of items done and the total.

    Returns:
        The channels with their statistics, the source of each, notes and warnings.

    Raises:
        ZooError: if an input is missing, damaged or contradictory, or the output cannot be written.

    Examples:
        >>> report = zoo.stack("terrain.tif", dem="dem.tif", rain=(12, 2))  # doctest: +SKIP
        >>> list(report.statistics)  # doctest: +SKIP
        ['slope', 'DEM']
        >>> report = zoo.stack("change.tif", pre="june/", post="july/", moisture="none")  # doctest: +SKIP
        >>> report.shift.pixels  # doctest: +SKIP
        0.21
    """
    from zoo.physics import IndexParameters
    from zoo.rasters.layers import Sources
    from zoo.rasters.stac import check_order
    from zoo.rasters.stacking import StackOptions, build_stack

    given = {
        **{"green": green, "red": red, "nir": nir, "swir": swir, "swir2": swir2, "scl": scl, "dem": dem},
        **{"rain_intensity": rain_intensity, "rain_duration": rain_duration},
    }
    word = moisture if isinstance(moisture, str) and moisture in _MOISTURE_WORDS else None
    if moisture is not None and word is None:
        given["moisture"] = moisture
    if isinstance(weights, (str, os.PathLike)):
        weights = IndexParameters.load(weights)
    options = StackOptions(
        moisture="optram" if word == "optram" else "ndmi" if word == "ndmi" else "none" if word == "none" else None,
        moisture_range=moisture_range,
        rain=rain,
        index=weights or IndexParameters(),
        soil=soil,
        save_weights=None if save_weights is None else Path(save_weights),
        like=grid,
        crs=crs,
        resolution=resolution,
        bounds=bounds,
        baseline=baseline,
        offset=offset,
        scale=scale,
        phase=phase or ("" if post is None and s1_pre is None and stac_pre_dates is None else "post"),
        looks=s1_looks,
        coregister=coregister,
        force=force,
        overwrite=overwrite,
    )
    files = {role: band_file(path, optical=role in _OPTICAL) for role, path in given.items() if path is not None}
    two_dates = stac_pre_dates is not None
    if two_dates:
        found, before = Sources({}), None
        _check_fetched_dates(pre, post, safe, pre_date, phase)
    else:
        # coregister also applies to two dates of Sentinel-1 without optical images.
        needs_pre = coregister and s1_pre is None
        found, before = _open_images(pre, post, pre_date, safe or stac_box, phase, needs_pre=needs_pre)
    if safe is not None:
        from zoo.rasters.safe import open_safe

        found = open_safe(Path(safe))
    if (stac_box is None) != (stac_dates is None):
        raise ConfigError("a catalogue needs a box and dates", hint="Give stac_box and stac_dates")
    if two_dates and stac_box is None:
        raise ConfigError("dates before the landslides need a catalogue", hint="Give a box and dates: --from-stac")
    if stac_box is not None and stac_dates is not None:
        catalogue = stac_url, stac_collection, max_cloud, inputs_folder(out), progress
        if stac_pre_dates is not None:
            check_order(stac_pre_dates, stac_dates)
            before = _fetch(stac_box, stac_pre_dates, *catalogue, change="before")
        found = found.merged(_fetch(stac_box, stac_dates, *catalogue, change="after" if two_dates else None))
    found = found.merged(Sources(files, scene=scene or "", date=_iso_date(date)))

    def show(done: int, total: int) -> None:
        if progress is not None:
            progress("stack", done, total)

    radar, radar_before = _open_backscatter(s1, s1_pre, s1_looks)
    return build_stack(found, out, options, show, before=before, radar=radar, radar_before=radar_before)


def _open_backscatter(
    s1: PathLike | None, s1_pre: PathLike | None, looks: float | None
) -> tuple[Sources | None, Sources | None]:
    """Return the backscatter after and before the landslides."""
    from zoo.rasters.sentinel1 import open_radar

    if s1_pre is not None and s1 is None:
        raise ConfigError("Sentinel-1 after the landslides is missing", hint="Give it with --s1")
    if looks is not None and s1 is None:
        raise ConfigError("a speckle filter needs Sentinel-1", where="--s1-looks", hint="Give --s1 FOLDER")
    return None if s1 is None else open_radar(Path(s1)), None if s1_pre is None else open_radar(Path(s1_pre))


def _open_images(
    pre: PathLike | None,
    post: PathLike | None,
    pre_date: str | None,
    other: object,
    phase: str | None,
    *,
    needs_pre: bool,
) -> tuple[Sources, Sources | None]:
    """Return the images after and before the landslides; without two dates, empty sources and ``None``."""
    from zoo.rasters.image_folder import open_image
    from zoo.rasters.layers import Sources

    if pre is None and post is None:
        if pre_date is not None or needs_pre:
            raise ConfigError(
                f"{'a date before' if pre_date else 'coregistration'} is for two images",
                hint="Give both images with --pre and --post",
            )
        return Sources({}), None
    if pre is None or post is None:
        missing = "before" if pre is None else "after"
        raise ConfigError(
            f"the image {missing} the landslides is missing", hint=f"Give it with --{'pre' if pre is None else 'post'}"
        )
    if other is not None:
        raise ConfigError("two images after the landslides are given", hint="Give only --pre and --post")
    if phase == "pre":
        raise ConfigError("a stack of two dates shows the ground after the landslides", hint="Leave --phase pre out")
    before = open_image(Path(pre))
    return open_image(Path(post)), before.merged(Sources({}, date=_iso_date(pre_date)))


def _check_fetched_dates(
    pre: PathLike | None, post: PathLike | None, safe: PathLike | None, pre_date: str | None, phase: str | None
) -> None:
    """Check that no other argument contradicts fetching two dates from a catalogue.

    Raises:
        ConfigError: if one does.
    """
    if pre is not None or post is not None or safe is not None:
        raise ConfigError(
            "images are both given and fetched", where="--pre-dates", hint="Leave --pre, --post and SAFE out"
        )
    if pre_date is not None:
        raise ConfigError("the catalogue states the dates", where="--pre-date", hint="Leave --pre-date out")
    if phase == "pre":
        raise ConfigError("a stack of two dates shows the ground after the landslides", hint="Leave --phase pre out")


def inputs_folder(out: PathLike) -> Path:
    """Return the folder next to a stack where the bands of a catalogue are written."""
    return Path(out).parent / f"{Path(out).stem}-inputs"


def _fetch(
    box: Bounds,
    dates: str,
    url: str,
    collection: str,
    max_cloud: float,
    folder: Path,
    progress: StageCallback | None,
    *,
    change: Literal["before", "after"] | None = None,
) -> Sources:
    from zoo.rasters.stac import fetch_sources

    def show(done: int, total: int) -> None:
        if progress is not None:
            progress("catalogue", done, total)

    return fetch_sources(
        box,
        dates,
        folder,
        url=url,
        collection=collection,
        max_cloud=max_cloud,
        blue=change is not None,
        dem=change != "before",
        progress=show,
    )


def band_file(path: PathLike, *, optical: bool) -> BandFile:
    """Parse ``FILE`` or ``FILE:BAND``.

    Args:
        path: the text.
        optical: whether the band is a reflectance, whose scale and offset are chosen later.
    """
    from zoo.rasters.layers import BandFile

    text = os.fspath(path)
    name, colon, band = text.rpartition(":")
    chosen = bool(colon and band.isdigit() and len(band) <= 6 and name and not Path(text).exists())
    if not chosen:
        name, band = text, "1"
    file = BandFile(name, int(band), chosen=chosen)
    return replace(file, offset=None, scale=None) if optical else file


def _iso_date(text: str | None) -> str:
    if text is None:
        return ""
    from zoo.rasters.inventory import parse_day

    return parse_day(text, "option date").isoformat()


def rain(
    files: PathLike | Sequence[PathLike],
    grid: PathLike,
    out: PathLike,
    *,
    at: str | None = None,
    rules: EventRules | None = None,
    reading: RainReading | None = None,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> RainReport:
    """Write the rain event at one time, and the rain before it, on the grid of a stack. The command is ``zoo rain``.

    Args:
        files: rain of one product: IMERG, ERA5, ERA5-Land, CHIRPS or another longitude-latitude grid, or tables of
            gauges.
        grid: the stack.
        out: the GeoTIFF: intensity (P, mm/h), duration (D, days), antecedent_3d, _7d, _15d, _30d (mm before the event)
            and api (mm). :func:`zoo.risk.map` reads it as ``rain``.
        at: time in UTC, such as "2024-06-11T12:00Z"; by default the end of the rain.
        rules: rules that separate rain events, such as ``zoo.EventRules(dry_gap=48)``.
        reading: facts that the files do not state, such as ``zoo.RainReading(unit="mm", time_zone="Asia/Karachi")``.
        overwrite: replace an existing file.
        progress: called with the number of files read and the total.

    Returns:
        Statistics of each band, and notes.

    Raises:
        ZooError: if a file is missing, damaged or contradictory, states no unit or time zone, covers another area, or
            ends before the date of the stack.

    Examples:
        >>> report = zoo.rain(["rain/a.HDF5", "rain/b.HDF5"], "stack.tif", "rain.tif")  # doctest: +SKIP
        >>> report.bands["intensity"]  # doctest: +SKIP
        ('mm/h', 0.0, 3.1, 11.8, 1.0)
    """
    from zoo.rasters.rain_bands import make_rain

    return make_rain(
        files,
        Path(grid),
        Path(out),
        at=at,
        rules=rules,
        reading=reading,
        overwrite=overwrite,
        progress=progress,
    )


def patches(
    stacks: PathLike | Sequence[PathLike],
    inventory: PathLike,
    out: PathLike,
    *,
    size: int = 128,
    stride: int | None = None,
    bands: Sequence[str] | None = None,
    select: str = "all",
    negatives: float = 1.0,
    seed: int = 0,
    min_valid: float = 0.5,
    phase: str | None = None,
    date: str | None = None,
    scene: str | None = None,
    layer: str | None = None,
    where: str | None = None,
    date_column: str | None = None,
    buffer: float | None = None,
    all_touched: bool = False,
    overwrite: bool = False,
    progress: StageCallback | None = None,
) -> PatchReport:
    """Cut stacks and an inventory of landslides into patches and masks that every command reads.

    Args:
        stacks: one raster per scene, all with the same bands.
        inventory: landslides as GeoPackage, Shapefile or GeoJSON.
        out: the folder to create: ``images/``, ``masks/``, ``tiles.csv``, ``overview.png`` and ``patches.json``. It
            appears when it is complete.
        size: side of a patch in pixels.
        stride: pixels from one patch to the next; by default the size.
        bands: names of the bands to cut, in order; all by default.
        select: "all" patches, "positives" only, or "sampled": positives and ``negatives`` times as many others.
        negatives: for "sampled", number of patches without a landslide per patch with one.
        seed: random seed of that draw.
        min_valid: minimum share of a patch with valid data in all bands.
        phase: "pre" or "post": image before or after the landslides; by default the stack's tag.
        date: day of the image, ISO; by default the stack's tag.
        scene: name of the scene; by default the stack's tag, otherwise its file name.
        layer: layer of the inventory, if it has several.
        where: SQL condition on the inventory, such as ``"Year_obs >= 2010"``.
        date_column: column with the day or year of a landslide: draw only landslides that the image can show.
        buffer: radius in metres that turns points and lines into areas.
        all_touched: draw every pixel that a landslide touches, not only those whose centre it covers.
        overwrite: replace a folder that ``zoo patches`` made before.
        progress: called with the scene, the number of places done and the total.

    Returns:
        The number of patches, landslides and pixels by scene, with notes.

    Raises:
        ZooError: if a stack or the inventory cannot be read or used, no landslide is left, or the folder cannot be
            written.

    Examples:
        >>> report = zoo.patches("stack.tif", "landslides.gpkg", "patches/", phase="post")  # doctest: +SKIP
        >>> report.scenes[0].patches, report.scenes[0].positives  # doctest: +SKIP
        (210, 34)
    """
    from zoo.rasters.patches import PatchOptions, cut_patches

    options = PatchOptions(
        size=size,
        stride=stride,
        select=select,
        negatives=negatives,
        seed=seed,
        min_valid=min_valid,
        all_touched=all_touched,
        scene=scene,
        date=date,
        phase=phase,
        layer=layer,
        where=where,
        buffer=buffer,
        date_column=date_column,
        bands=None if bands is None else tuple(bands),
    )
    paths = [stacks] if isinstance(stacks, (str, os.PathLike)) else list(stacks)
    return cut_patches(
        [Path(path) for path in paths], Path(inventory), Path(out), options, overwrite=overwrite, progress=progress
    )


def describe(
    data: PathLike | PatchDataset,
    *,
    split: str = "train",
    bands: Sequence[str] | None = None,
    picture: PathLike | None = None,
    progress: ProgressCallback | None = None,
    data_options: Mapping[str, Any] | None = None,
) -> Description:
    """Describe a split of a data set, or a raster of several bands.

    Args:
        data: name of a registered data set, path of a folder of patches or of a raster, or an open data set.
        split: "train", "val" or "test"; for data sets.
        bands: names of the channels to describe; all by default.
        picture: draw the description into this file (``.png``, ``.pdf``, ``.svg``).
        progress: called with the number of blocks done and the total.
        data_options: options of the data set, such as ``{"split_by": "block"}``.

    Returns:
        Statistics of each channel, correlation and collinearity, balance of the classes and sizes of the landslides.

    Raises:
        ZooError: if the data are missing or damaged, a name is unknown, or no channel has a valid value.

    Examples:
        >>> found = zoo.describe("stack.tif", bands=["NDVI", "slope"])  # doctest: +SKIP
        >>> found.channels[0].mean  # doctest: +SKIP
        0.41
    """
    if picture is not None:
        from zoo.rasters.map_frame import check_picture

        check_outputs([picture], [data] if isinstance(data, (str, os.PathLike)) else [], overwrite=True)
        check_picture(Path(picture))
    found = _describe(data, split, bands, progress, data_options or {})
    if picture is not None:
        from zoo.diagnostics.drawing import draw_description
        from zoo.rasters.map_frame import save_picture

        save_picture(draw_description(found), Path(picture))
    return found


def _describe(
    data: PathLike | PatchDataset,
    split: str,
    bands: Sequence[str] | None,
    progress: ProgressCallback | None,
    options: Mapping[str, Any],
) -> Description:
    if isinstance(data, (str, os.PathLike)):
        name = os.fspath(data)
        if name.lower().endswith(RASTER_SUFFIXES) and not Path(name).is_dir():
            if options:
                raise ConfigError(
                    "a raster has no splits", where=f"option {min(options)}", hint="Leave the split options out"
                )
            return _describe_raster(name, bands, progress)
        from zoo.datasets.source import DataSource

        source = DataSource.of(name, options)
        return _describe_split(source.open(split), f"{source.label}, {split} split", bands, progress)
    return _describe_split(data, f"{data.split} split", bands, progress)


def _describe_split(
    dataset: PatchDataset, label: str, bands: Sequence[str] | None, progress: ProgressCallback | None
) -> Description:
    from zoo.datasets.base import IGNORE
    from zoo.diagnostics.description import Describer
    from zoo.errors import DataError
    from zoo.rasters.patch_files import select_bands

    if not len(dataset):
        raise DataError("the split has no patch", where=label)
    kept = list(select_bands(dataset.bands, bands, label))
    describer = Describer(
        [dataset.bands[band] for band in kept],
        class_names=dataset.class_names,
        pixel_size=dataset.pixel_size,
        expected=dataset.read(0)[1].size * len(dataset),
        ignore=IGNORE,
    )
    for index in range(len(dataset)):
        image, mask = dataset.read(index)
        describer.add(image[kept], mask)
        if progress is not None:
            progress(index + 1, len(dataset))
    return describer.finish(label, notes=dataset.split_notes)


def _describe_raster(path: str, bands: Sequence[str] | None, progress: ProgressCallback | None) -> Description:
    from zoo.diagnostics.description import Describer
    from zoo.rasters.elevation import elevation_warnings, is_terrain
    from zoo.rasters.ground import ground_size, window_bounds
    from zoo.rasters.patch_files import select_bands
    from zoo.rasters.reading import small_cache
    from zoo.rasters.stacks import Stack, read_ahead

    with small_cache(), Stack(path) as stack:
        kept = select_bands(stack.bands, bands, path)
        windows = list(stack.windows())
        describer = Describer(
            [stack.bands[band] for band in kept],
            pixel_size=stack.pixel_size,
            expected=stack.shape[0] * stack.shape[1],
        )
        for number, image in enumerate(read_ahead(windows, lambda window: stack.read(window, kept)), 1):
            describer.add(image)
            if progress is not None:
                progress(number, len(windows))
        notes = list(stack.code_notes)
        pixel = math.sqrt(math.prod(ground_size(stack.crs, window_bounds(stack.transform, stack.shape), stack.shape)))
        for band in kept:
            if is_terrain(stack.bands[band]):
                found = elevation_warnings(
                    lambda window, band=band: stack.read(window, [band])[0],  # type: ignore[misc]
                    stack.shape,
                    pixel,
                )
                notes += [f"{stack.bands[band].name}: {text}" for text in found]
        shape = stack.shape
    return describer.finish(Path(path).name, notes=notes, shape=shape)


def audit(
    data: str | os.PathLike[str] | DataSource | Mapping[str, PatchDataset],
    *,
    overlaps: bool = True,
    progress: StageCallback | None = None,
    data_options: Mapping[str, Any] | None = None,
) -> Audit:
    """Find what the train, val and test splits of a data set share.

    The audit searches for equal images, copies that were rotated, brightened or compressed, patches that overlap,
    landslides with the same outline, neighbours on the ground, and scenes in two splits.

    Args:
        data: name of a registered data set, path of a folder of images and masks, or data sets by split name.
        overlaps: search for shifted overlaps, the slowest of the checks.
        progress: called with the name of the stage, the number of items done and the total.
        data_options: options of the data set, such as ``{"split_by": "block", "group_column": "scene"}``.

    Returns:
        The findings. ``leaks`` tells whether any two splits share data, and ``to_pandas()`` lists every pair.

    Raises:
        ZooError: if the data are missing or damaged, or an option is invalid.

    Examples:
        >>> found = zoo.audit("patches/", data_options={"split_by": "random"})  # doctest: +SKIP
        >>> found  # doctest: +SKIP
        <Audit: LEAK 379 of 396 test patches touch training patches>
        >>> found.to_pandas().head()  # doctest: +SKIP
    """
    from zoo.datasets.audit import audit_splits

    if isinstance(data, Mapping):
        splits = data
    else:
        splits = DataSource.of(data, data_options).open_splits()
    return audit_splits(splits, overlaps=overlaps, progress=progress)
