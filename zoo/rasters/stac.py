"""Fetch Sentinel-2 bands for an area and a period from a STAC catalogue, online or on disk."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import numpy as np
import requests
import shapely
from odc.geo.geobox import GeoBox
from odc.geo.geom import box as geo_box
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.windows import Window
from shapely.geometry import shape

from zoo.errors import ConfigError, DataError, UnknownNameError, ZooError, first_line
from zoo.files import check_writable_folder, file_name
from zoo.physics.bands import Band
from zoo.rasters.cog import CogWriter
from zoo.rasters.grid import PixelGrid, windows
from zoo.rasters.inventory import parse_day
from zoo.rasters.layers import BandFile, Sources
from zoo.rasters.reading import check_image, gdal_message

Item: TypeAlias = Any
"""A pystac.Item. The library is optional, so its type is not imported."""

ASSETS: dict[str, tuple[str, ...]] = {
    "blue": ("blue", "B02", "B02_10m"),
    "green": ("green", "B03", "B03_10m"),
    "red": ("red", "B04", "B04_10m"),
    "nir": ("nir", "B08", "B08_10m"),
    "swir": ("swir16", "B11", "B11_20m"),
    "swir2": ("swir22", "B12", "B12_20m"),
    "scl": ("scl", "SCL", "SCL_20m"),
}
"""Asset names of each role at Earth Search, Planetary Computer and the Copernicus Data Space."""

_PYSTAC_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)
"""Errors that the libraries raise for a catalogue that is not valid STAC, in addition to their own."""

REQUIRED: tuple[str, ...] = ("green", "red", "nir", "swir")

_COVERED = 0.99


@dataclass(frozen=True)
class Day:
    """The images of one solar day.

    Attributes:
        date: ISO date in local solar time.
        items: images, least cloudy first.
        cloud: cloud cover of the images in percent, weighted by the area of the box that each covers.
        coverage: share of the box that the images cover, 0..1.
        assets: asset name by role.
        offsets: value to add to the digital numbers, by role; None if it is unknown.
        scales: factor to multiply with after the offset is added, by role.
        notes: warnings for the user.
    """

    date: str
    items: tuple[Item, ...]
    cloud: float
    coverage: float
    assets: dict[str, str]
    offsets: dict[str, float | None]
    scales: dict[str, float]
    notes: tuple[str, ...]

    @property
    def baseline(self) -> str:
        """Processing baseline; "" if it is unknown or differs between the images."""
        found = {baseline_of(item) for item in self.items}
        return found.pop() if len(found) == 1 else ""

    @property
    def scene(self) -> str:
        """MGRS tiles of the images, joined by "+"; "" if they are unknown."""
        return "+".join(sorted({tile_of(item) for item in self.items} - {""}))


def choose_day(
    items: Sequence[Item], bbox: tuple[float, float, float, float], max_cloud: float, *, keeps_offset: bool, where: str
) -> Day:
    """Choose the least cloudy of the days that cover the box, or that cover most of it.

    Args:
        items: results of one search.
        bbox: west, south, east, north in degrees.
        max_cloud: maximum cloud cover of an image in percent.
        keeps_offset: whether the catalogue is known to distribute ESA's digital numbers unchanged.
        where: name of the catalogue for error messages.

    Raises:
        DataError: if no image is clear enough, or none has the required bands.
    """
    if not items:
        raise DataError(
            "no image of this area and period was found",
            where=where,
            hint="Check that the box is west,south,east,north in degrees. Try a longer period or another collection",
        )
    clear = [item for item in items if cloud_of(item) <= max_cloud]
    if not clear:
        min_cloud = min(cloud_of(item) for item in items)
        raise DataError(
            f"none of {len(items)} images has at most {max_cloud:g} % cloud; the clearest has {min_cloud:.0f} %",
            where=where,
            hint="Raise the cloud limit or try a longer period",
        )
    whole, refused = [], Counter[str]()
    for item in clear:
        missing = [role for role in REQUIRED if asset_of(item, role) is None]
        if missing:
            refused[f"no band {missing[0]}"] += 1
        else:
            whole.append(item)
    days = []
    for date, group in _group_by_day(_newest_per_tile(whole), bbox).items():
        day = _make_day(date, group, bbox, keeps_offset)
        if isinstance(day, str):
            refused[day] += len(group)
        else:
            days.append(day)
    if not days:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in refused.items())
        raise DataError(
            f"none of {len(clear)} images can be used: {reasons}",
            where=where,
            hint=f"The images need these assets: {', '.join(name for role in REQUIRED for name in ASSETS[role])}",
        )
    widest = max(day.coverage for day in days)
    wide = [day for day in days if day.coverage >= min(_COVERED, widest - 0.01)]
    return min(wide, key=lambda day: (day.cloud, -day.coverage, day.date))


def cloud_of(item: Item) -> float:
    """Return the cloud cover of an image in percent; 100 if the item does not state it [O]."""
    value = item.properties.get("eo:cloud_cover")
    return float(value) if isinstance(value, (int, float)) else 100.0


def asset_of(item: Item, role: str) -> str | None:
    """Return the name of the asset for a role; None if there is none."""
    return next((name for name in ASSETS[role] if name in item.assets), None)


def baseline_of(item: Item) -> str:
    """Return the processing baseline, such as "05.09"; "" if the item does not state it."""
    value = str(item.properties.get("s2:processing_baseline", item.properties.get("processing:version", "")))
    match = re.match(r"(\d{1,2})\.(\d{2})$", value)
    return f"{int(match[1]):02}.{match[2]}" if match else ""


def tile_of(item: Item) -> str:
    """Return the MGRS tile, such as "T43SDT"; "" if the item does not state it."""
    text = str(item.properties.get("grid:code", item.properties.get("s2:mgrs_tile", "")))
    name = text.removeprefix("MGRS-").removeprefix("T")
    return f"T{name}" if re.fullmatch(r"\d{1,2}[A-Z]{3}", name) else ""


def offset_of(item: Item, asset: str, *, keeps_offset: bool) -> tuple[float | None, float]:
    """Return the offset to add to the digital numbers of a band, and the scale to multiply with afterwards.

    Catalogues treat the offset differently. Earth Search has removed it and states so in
    ``earthsearch:boa_offset_applied``, but its ``raster:bands`` still declare it (Element84/earth-search#66). Planetary
    Computer keeps it and declares nothing (microsoft/PlanetaryComputer#134). If two statements contradict each other,
    the offset is unknown [O].

    Args:
        item: item of the catalogue.
        asset: asset name of the band.
        keeps_offset: whether the catalogue is known to distribute ESA's digital numbers unchanged.

    Returns:
        The offset in digital numbers, None if it is unknown, and the scale.
    """
    properties: Mapping[str, Any] = item.properties
    extra: Mapping[str, Any] = item.assets[asset].extra_fields
    lists = (extra.get("raster:bands"), extra.get("bands"))
    band: Mapping[str, Any] = next((found[0] for found in lists if found and isinstance(found[0], dict)), {})
    scale = _first_number((extra, band), ("raster:scale", "scale")) or 1e-4
    declared = _first_number((extra, band), ("raster:offset", "offset"))
    applied = properties.get("earthsearch:boa_offset_applied", properties.get("sentinel:boa_offset_applied"))
    if applied is True:
        return 0.0, scale
    baseline = baseline_of(item)
    later = None if not baseline else baseline >= "04.00"
    if declared is not None:
        if later is None or later == (declared != 0):
            return float(round(declared / scale)), scale
        return None, scale
    if later is False:
        return 0.0, scale
    if later and (applied is False or keeps_offset):
        return -1000.0, scale
    return None, scale


def _first_number(places: Sequence[Mapping[str, Any]], names: Sequence[str]) -> float | None:
    found = (place[name] for place in places for name in names if name in place)
    return next((float(value) for value in found if isinstance(value, (int, float))), None)


def _newest_per_tile(items: Sequence[Item]) -> list[Item]:
    """Keep one item per tile and time: a reprocessed product replaces the older one."""
    best: dict[tuple[str, datetime | None], Item] = {}
    untiled = []
    for item in items:
        if not tile_of(item):
            untiled.append(item)
            continue
        key = (tile_of(item), item.datetime)
        if key not in best or baseline_of(item) > baseline_of(best[key]):
            best[key] = item
    return [*best.values(), *untiled]


def _group_by_day(items: Sequence[Item], bbox: tuple[float, float, float, float]) -> dict[str, list[Item]]:
    """Group items by local solar day; items without a time are dropped."""
    # The sun moves 15 degrees per hour. A UTC day would split an overpass over the Pacific.
    shift = timedelta(hours=(bbox[0] + bbox[2]) / 30)
    days: dict[str, list[Item]] = {}
    for item in items:
        moment = item.datetime or item.common_metadata.start_datetime
        if moment is not None:
            days.setdefault((moment + shift).date().isoformat(), []).append(item)
    return days


def _make_day(
    date: str, items: Sequence[Item], bbox: tuple[float, float, float, float], keeps_offset: bool
) -> Day | str:
    """Return the day, or the reason why it cannot be used."""
    box = shapely.box(*bbox)
    feet = [shapely.make_valid(shape(item.geometry)) if item.geometry else box for item in items]
    parts = [shapely.area(shapely.intersection(foot, box)) for foot in feet]
    if not sum(parts) > 0:
        return "outside the box"
    order = sorted(range(len(items)), key=lambda index: (cloud_of(items[index]), items[index].id))
    chosen = [items[index] for index in order if parts[index] > 0]
    assets: dict[str, str] = {}
    offsets: dict[str, float | None] = {}
    scales: dict[str, float] = {}
    notes = []
    for role in ASSETS:
        names = {asset_of(item, role) for item in chosen}
        if len(names) > 1:
            return f"images of {date} use different band names"
        name = names.pop()
        if name is None:
            continue
        assets[role] = name
        if role == "scl":
            offsets[role], scales[role] = 0.0, 1.0
            continue
        meanings = {offset_of(item, name, keeps_offset=keeps_offset) for item in chosen}
        if len(meanings) > 1:
            return f"images of {date} have different offsets"
        offsets[role], scales[role] = meanings.pop()
    if any(offset is None for offset in offsets.values()):
        notes.append("it is unknown whether the digital numbers still contain the offset of baseline 04.00")
    return Day(
        date=date,
        items=tuple(chosen),
        cloud=sum(cloud_of(item) * part for item, part in zip(items, parts, strict=True)) / sum(parts),
        coverage=float(shapely.area(shapely.intersection(shapely.union_all(feet), box)) / shapely.area(box)),
        assets=assets,
        offsets=offsets,
        scales=scales,
        notes=tuple(notes),
    )


Bbox = tuple[float, float, float, float]
Progress = Callable[[int, int], None]

DEM_COLLECTION = "cop-dem-glo-30"

_WINDOW = 2048
_MAX_SIDE_PIXELS = 22_000
_MAX_ITEMS = 500
_CONNECT, _READ = 10, 60
_KEEPS_OFFSET = "planetarycomputer.microsoft.com"
_DEM_MARGIN = 3


def fetch_sources(
    bbox: Bbox,
    dates: str,
    folder: Path,
    *,
    url: str,
    collection: str,
    max_cloud: float,
    blue: bool = False,
    dem: bool = True,
    progress: Progress | None = None,
) -> Sources:
    """Find the least cloudy day for a place and write its bands as GeoTIFFs on one 10 m grid.

    The images of that solar day are combined with the clearest on top. Bands keep their digital numbers. 20 m bands
    are resampled with bilinear interpolation, the scene classification with nearest neighbour. Windows of 2048 pixels
    are read one after another, so that memory does not grow with the box. If the catalogue also has Copernicus DEM
    GLO-30, elevation is written on a 30 m grid that extends slightly beyond the box.

    Args:
        bbox: west, south, east, north in degrees.
        dates: a day, or the first and the last day: "2024-06-01/2024-06-30".
        folder: folder for the files; each file appears when it is complete.
        url: URL of a STAC API, or URL or path of a static ``catalog.json``, whose items are read one by one.
        collection: name of the collection of Sentinel-2 level 2A.
        max_cloud: maximum cloud cover of an image in percent.
        blue: also write blue, which only the difference of two dates needs.
        dem: also write elevation.
        progress: called with the number of windows done and the total.

    Returns:
        The files by role, with their offset, scale, date, tile and notes.

    Raises:
        ConfigError: if the box or the dates are invalid, or the extra ``stac`` is not installed.
        DataError: if there is no suitable image, or an image cannot be read.
        ZooError: if the catalogue cannot be reached, or the folder cannot be written to.
    """
    check_bbox(bbox)
    first, last = parse_dates(dates)
    if not 0 <= max_cloud <= 100:
        raise ConfigError(f"{max_cloud} % is not possible", where="cloud limit", hint="Give a number from 0 to 100")
    load, patch_url = _libraries(url)
    check_writable_folder(folder)
    keeps_offset = urlsplit(url).netloc.endswith(_KEEPS_OFFSET)
    catalogue = _Catalogue(url)
    items = catalogue.items(collection, bbox, (first, last))
    day = choose_day(items, bbox, max_cloud, keeps_offset=keeps_offset, where=f"{url}, {collection}")
    polygon = geo_box(*bbox, "EPSG:4326")
    geobox = GeoBox.from_geopolygon(polygon, resolution=10, crs=_crs_of(day.items, bbox))
    if max(geobox.shape) > _MAX_SIDE_PIXELS:
        raise ConfigError(
            f"{geobox.shape[1]:,} x {geobox.shape[0]:,} pixels exceed the limit of {_MAX_SIDE_PIXELS:,} per side",
            where="box",
            hint="Split the box into several smaller ones",
        )
    notes = [
        f"{len(items)} images found; {day.date} is the clearest day that covers the box: {day.cloud:.1f} % cloud, "
        f"{day.coverage:.0%} covered by {', '.join(item.id for item in day.items)}",
        *day.notes,
    ]
    assets = {role: name for role, name in day.assets.items() if blue or role != "blue"}
    jobs = [_Job(load, patch_url, day.items, assets, geobox, folder, f"{day.scene or 'S2'}_{day.date}")]
    tiles = catalogue.dem(bbox, notes) if dem else ()
    if tiles:
        coarse = GeoBox.from_geopolygon(polygon, resolution=30, crs=geobox.crs).pad(_DEM_MARGIN)
        jobs.append(_Job(load, patch_url, tiles, {"dem": "data"}, coarse, folder, DEM_COLLECTION))
    total = sum(len(job) for job in jobs)
    written: dict[str, Path] = {}
    done = 0
    for job in jobs:
        for _ in job.run(written):
            done += 1
            if progress is not None:
                progress(done, total)
    files = {role: BandFile(str(path), offset=0.0, nodata=None) for role, path in written.items()}
    for role in assets.keys() & day.offsets.keys():
        offset = day.offsets[role]
        files[role] = BandFile(str(written[role]), offset=offset, scale=day.scales[role], nodata=0.0)
    return Sources(files, scene=day.scene, date=day.date, baseline=day.baseline, notes=tuple(notes))


def check_bbox(bbox: Sequence[float]) -> None:
    """Check that a box is valid in degrees.

    Args:
        bbox: west, south, east, north in degrees.

    Raises:
        ConfigError: if the box is not four finite numbers in this order, is out of range, or is empty.
    """
    order = "Write west,south,east,north in degrees, such as 73.3,34.5,73.5,34.7"
    if len(bbox) != 4 or not np.isfinite(bbox).all():
        raise ConfigError(f"{tuple(bbox)} is not four finite numbers", where="box", hint=order)
    west, south, east, north = bbox
    if max(abs(west), abs(east)) > 180 or max(abs(south), abs(north)) > 90:
        raise ConfigError(f"{tuple(bbox)} is outside the range of longitude and latitude", where="box", hint=order)
    if west >= east or south >= north:
        raise ConfigError(
            f"{tuple(bbox)} is empty: west must be less than east, and south less than north", where="box", hint=order
        )


def check_order(earlier: str, later: str) -> None:
    """Check that a period ends before another one starts.

    Raises:
        ConfigError: if it does not, or a period is invalid.
    """
    if parse_dates(earlier)[1] >= parse_dates(later)[0]:
        raise ConfigError(
            f"{earlier} does not end before {later} starts",
            where="--pre-dates",
            hint="Give the period before the landslides to --pre-dates, and the period after them to --from-stac",
        )


def parse_dates(text: str) -> tuple[str, str]:
    """Return the first and the last day of a period as ISO dates.

    Args:
        text: a day, or the first and the last day: "2024-06-01/2024-06-30".

    Raises:
        ConfigError: if the dates are invalid or in the wrong order.
    """
    parts = text.split("/")
    if len(parts) > 2:
        raise ConfigError(f"{text!r} contains more than two dates", where="dates", hint="Write 2024-06-01/2024-06-30")
    first, last = parse_day(parts[0], "dates"), parse_day(parts[-1], "dates")
    if last < first:
        raise ConfigError(f"{text!r} ends before it starts", where="dates", hint="Write the earlier date first")
    return first.isoformat(), last.isoformat()


def _libraries(url: str) -> tuple[Callable[..., Any], Callable[[str], str] | None]:
    """Import the optional libraries; return the function that loads bands and the one that signs addresses, if any.

    Raises:
        ConfigError: if a library is not installed.
    """
    try:
        stac = import_module("odc.stac")
        import_module("pystac_client")
    except ImportError as error:
        raise ConfigError(
            f"reading a STAC catalogue needs a library that is not installed ({error.name})",
            hint="Run: pip install 'landslide-zoo[stac]'",
        ) from error
    stac.configure_rio(
        cloud_defaults=True,
        GDAL_HTTP_CONNECTTIMEOUT=str(_CONNECT),
        GDAL_HTTP_TIMEOUT=str(_READ),
        GDAL_HTTP_MAX_RETRY="2",
        GDAL_HTTP_RETRY_DELAY="1",
    )
    if not urlsplit(url).netloc.endswith(_KEEPS_OFFSET):
        return stac.load, None
    try:
        signer = import_module("planetary_computer")
    except ImportError as error:
        raise ConfigError(
            "Planetary Computer requires signed URLs, and the library that signs them is not installed",
            where=url,
            hint="Run: pip install planetary-computer",
        ) from error
    return stac.load, signer.sign


class _Catalogue:
    """A STAC catalogue. An API is searched; a static catalogue is read item by item."""

    def __init__(self, url: str) -> None:
        self.url = url
        online = urlsplit(url).scheme in ("http", "https")
        if not online and not Path(url).exists():
            raise DataError("the catalogue does not exist", where=url, hint="Give the URL of a STAC API or a file")
        pystac, client = import_module("pystac"), import_module("pystac_client")
        try:
            if online:
                io = import_module("pystac_client.stac_api_io").StacApiIO(timeout=(_CONNECT, _READ), max_retries=2)
                self._root = client.Client.open(url, stac_io=io)
                self._searches = bool(self._root.conforms_to("ITEM_SEARCH"))
            else:
                self._root = pystac.Catalog.from_file(url)
                self._searches = False
        except (*_PYSTAC_ERRORS, pystac.STACError, pystac.STACTypeError, client.exceptions.APIError) as error:
            raise self._unreachable(error) from error

    def items(self, collection: str, bbox: Bbox, dates: tuple[str, str] | None) -> list[Item]:
        """Return the items of a collection that intersect the box, limited to a period if one is given.

        Raises:
            UnknownNameError: if a static catalogue does not have the collection.
            ZooError: if the catalogue cannot be reached, or its answer is not valid STAC.
        """
        pystac, client = import_module("pystac"), import_module("pystac_client")
        try:
            if self._searches:
                period = None if dates is None else "/".join(dates)
                search = self._root.search(
                    collections=[collection], bbox=list(bbox), datetime=period, max_items=_MAX_ITEMS
                )
                return list(search.items())
            return [item for item in self._walk(collection) if _matches_query(item, bbox, dates)]
        except (*_PYSTAC_ERRORS, pystac.STACError, pystac.STACTypeError, client.exceptions.APIError) as error:
            raise self._unreachable(error) from error

    def dem(self, bbox: Bbox, notes: list[str]) -> list[Item]:
        """Return the tiles of the Copernicus DEM over the box; add a note if there are none."""
        try:
            tiles = [item for item in self.items(DEM_COLLECTION, bbox, None) if "data" in item.assets]
        except ZooError:
            tiles = []
        if not tiles:
            notes.append(f"no elevation: the catalogue has no {DEM_COLLECTION} for this box")
        return tiles

    def _walk(self, collection: str) -> Iterator[Item]:
        """Yield all items of a collection of a static catalogue; collections may be two levels deep."""
        children = {child.id: child for child in (self._root, *self._root.get_children())}
        for child in list(children.values()):
            children.update({grandchild.id: grandchild for grandchild in child.get_children()})
        if collection not in children:
            raise UnknownNameError("collection", collection, set(children) - {self._root.id}, where=self.url)
        yield from children[collection].get_items(recursive=True)

    def _unreachable(self, error: Exception) -> ZooError:
        reason = "its server cannot be reached"
        if not _is_offline(error):
            reason = f"{type(error).__name__}: {first_line(error)}"
        return ZooError(
            f"the catalogue cannot be read ({reason})",
            where=self.url,
            hint="Check the URL and the network connection",
        )


def _is_offline(error: BaseException | None) -> bool:
    """Return whether a connection error or timeout caused this error; the STAC libraries wrap the original."""
    while error is not None:
        if isinstance(error, (requests.ConnectionError, requests.Timeout)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _matches_query(item: Item, bbox: Bbox, dates: tuple[str, str] | None) -> bool:
    """Return whether an item intersects the box and is within the period."""
    if item.geometry is None or not shapely.intersects(shape(item.geometry), shapely.box(*bbox)):
        return False
    moment = item.datetime or item.common_metadata.start_datetime
    return dates is None or (moment is not None and dates[0] <= moment.date().isoformat() <= dates[1])


def _crs_of(items: Sequence[Item], bbox: Bbox) -> str:
    """Return the CRS of the item that covers most of the box, so that most pixels are copied without resampling."""
    target = shapely.box(*bbox)
    widest = max(items, key=lambda item: shapely.area(shapely.intersection(shape(item.geometry), target)))
    code = widest.properties.get("proj:code") or widest.properties.get("proj:epsg")
    if code:
        return code if str(code).startswith("EPSG:") else f"EPSG:{code}"
    zone = min(60, int(((bbox[0] + bbox[2]) / 2 + 180) // 6) + 1)
    return f"EPSG:{(32600 if bbox[1] + bbox[3] >= 0 else 32700) + zone}"


def _checking(patch_url: Callable[[str], str] | None) -> Callable[[str], str]:
    """Return ``patch_url`` with a check that each address is an image, and no VRT that reads other files."""

    @cache
    def checked(url: str) -> str:
        address = url if patch_url is None else patch_url(url)
        check_image(address)
        return address

    return checked


class _Job:
    """Writes bands on one grid to one file each, window by window."""

    def __init__(
        self,
        load: Callable[..., Any],
        patch_url: Callable[[str], str] | None,
        items: Sequence[Item],
        assets: Mapping[str, str],
        geobox: GeoBox,
        folder: Path,
        name: str,
    ) -> None:
        self.load, self.patch_url, self.items, self.assets = load, _checking(patch_url), items, dict(assets)
        self.geobox, self.folder, self.name = geobox, folder, file_name(name, also="+")
        rows, columns = geobox.shape
        self.grid = PixelGrid(CRS.from_user_input(str(geobox.crs)), geobox.affine, (rows, columns))
        self.windows = windows(self.grid.shape, _WINDOW)

    def __len__(self) -> int:
        return len(self.windows)

    def run(self, written: dict[str, Path]) -> Iterator[Window]:
        """Write the files, yield each finished window, and add the paths to ``written`` at the end."""
        paths = {role: self.folder / f"{self.name}_{role}.tif" for role in self.assets}
        something = False
        with ExitStack() as stack:
            try:
                writers = {role: stack.enter_context(self._writer(role, path)) for role, path in paths.items()}
                for window in self.windows:
                    arrays = self._read(window)
                    for role, values in arrays.items():
                        writers[role].write(values, window)
                        something = something or bool((values > 0).any())
                    yield window
            except (RasterioError, OSError, RuntimeError) as error:
                raise DataError(
                    f"an image of the catalogue cannot be read ({gdal_message(error)})",
                    where=", ".join(item.id for item in self.items),
                    hint="Check the network connection and run the same command again",
                ) from error
            if not something:
                raise DataError(
                    "the images have no data in this box",
                    where=", ".join(item.id for item in self.items),
                    hint="Move the box or choose other dates",
                )
            for writer in writers.values():
                writer.publish({"SOURCE": ", ".join(item.id for item in self.items)})
        written.update(paths)

    def _read(self, window: Window) -> dict[str, Any]:
        rows, columns = window.toslices()
        loaded = self.load(
            list(self.items),
            bands=list(self.assets.values()),
            geobox=self.geobox[rows, columns],
            # All items belong to one day; the first is the clearest and is drawn on top.
            groupby=lambda item, parsed, index: 0,
            preserve_original_order=True,
            resampling={name: "nearest" if role == "scl" else "bilinear" for role, name in self.assets.items()},
            stac_cfg={"*": {"assets": {name: self._kind(role) for role, name in self.assets.items()}}},
            patch_url=self.patch_url,
            pool=4,
        )
        return {role: loaded[name].isel(time=0).to_numpy() for role, name in self.assets.items()}

    @staticmethod
    def _kind(role: str) -> dict[str, Any]:
        if role == "dem":
            return {"data_type": "float32", "nodata": float("nan")}
        return {"data_type": "uint8" if role == "scl" else "uint16", "nodata": 0}

    def _writer(self, role: str, path: Path) -> CogWriter:
        band = Band(role, "m" if role == "dem" else "1")
        return CogWriter(path, self.grid, [band], self._kind(role)["data_type"], average=role != "scl")
