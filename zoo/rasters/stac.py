"""Fetch Sentinel-2 bands of a place and time from a STAC catalogue, online or on disk."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import numpy as np
import rasterio
import requests
import shapely
from odc.geo.geobox import GeoBox
from odc.geo.geom import box as geo_box
from rasterio.errors import RasterioError
from rasterio.windows import Window
from shapely.geometry import shape

from zoo.errors import ConfigError, DataError, UnknownNameError, ZooError
from zoo.files import atomic_path, check_writable_folder, file_name
from zoo.rasters.inventory import parse_day
from zoo.rasters.layers import BandFile, Sources
from zoo.rasters.reading import first_line

Item: TypeAlias = Any
"""A pystac.Item; the library is an optional one."""

ASSETS: dict[str, tuple[str, ...]] = {
    "green": ("green", "B03", "B03_10m"),
    "red": ("red", "B04", "B04_10m"),
    "nir": ("nir", "B08", "B08_10m"),
    "swir": ("swir16", "B11", "B11_20m"),
    "swir2": ("swir22", "B12", "B12_20m"),
    "scl": ("scl", "SCL", "SCL_20m"),
}
"""Names of the bands by role: Earth Search, Planetary Computer, Copernicus Data Space."""

REQUIRED: tuple[str, ...] = ("green", "red", "nir", "swir")

_COVERED = 0.99


@dataclass(frozen=True)
class Day:
    """The images of one solar day.

    Attributes:
        date: ISO date, in local solar time.
        items: least cloudy first.
        cloud: share of the images under cloud in percent, weighted by what they cover of the box.
        coverage: share of the box that they cover, 0 to 1.
        assets: name of the asset, by role.
        offsets: to be added to the numbers, by role; None where it is not known.
        scales: to be multiplied afterwards, by role.
        notes: what is doubtful, in words.
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
        """Processing baseline, "" when unknown or not one."""
        found = {baseline_of(item) for item in self.items}
        return found.pop() if len(found) == 1 else ""

    @property
    def scene(self) -> str:
        """Tile, or tiles, in Sentinel-2's grid; "" when unknown."""
        return "+".join(sorted({tile_of(item) for item in self.items} - {""}))


def choose_day(
    items: Sequence[Item], bbox: tuple[float, float, float, float], max_cloud: float, *, keeps_offset: bool, where: str
) -> Day:
    """Choose the least cloudy day among those that cover the box, or cover the most of it.

    Args:
        items: all of one search.
        bbox: west, south, east, north in degrees.
        max_cloud: percent of an image that may be under cloud.
        keeps_offset: the catalogue is known to hand out ESA's numbers as they are.
        where: the catalogue, for errors.

    Raises:
        DataError: if no item is clear enough, or none has the bands that are needed.
    """
    if not items:
        raise DataError(
            "no image of this place and time",
            where=where,
            hint="Is the box west,south,east,north in degrees? Try longer dates, or another collection",
        )
    clear = [item for item in items if cloud_of(item) <= max_cloud]
    if not clear:
        least = min(cloud_of(item) for item in items)
        raise DataError(
            f"none of {len(items)} images has at most {max_cloud:g} % cloud; the clearest has {least:.0f} %",
            where=where,
            hint="Raise the limit, or try longer dates",
        )
    whole, refused = [], Counter[str]()
    for item in clear:
        missing = [role for role in REQUIRED if asset_of(item, role) is None]
        if missing:
            refused[f"no band {missing[0]}"] += 1
        else:
            whole.append(item)
    days = []
    for date, group in _by_day(_newest(whole), bbox).items():
        day = _day(date, group, bbox, keeps_offset)
        if isinstance(day, str):
            refused[day] += len(group)
        else:
            days.append(day)
    if not days:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in refused.items())
        raise DataError(
            f"none of {len(clear)} images can be used: {reasons}",
            where=where,
            hint=f"Assets looked for: {', '.join(name for role in REQUIRED for name in ASSETS[role])}",
        )
    widest = max(day.coverage for day in days)
    wide = [day for day in days if day.coverage >= min(_COVERED, widest - 0.01)]
    return min(wide, key=lambda day: (day.cloud, -day.coverage, day.date))


def cloud_of(item: Item) -> float:
    """Percent of an image under cloud; 100 when the item does not say [O]."""
    value = item.properties.get("eo:cloud_cover")
    return float(value) if isinstance(value, (int, float)) else 100.0


def asset_of(item: Item, role: str) -> str | None:
    """Name of the asset that holds a role; None without one."""
    return next((name for name in ASSETS[role] if name in item.assets), None)


def baseline_of(item: Item) -> str:
    """Processing baseline, "05.09"; "" when the item does not say."""
    value = str(item.properties.get("s2:processing_baseline", item.properties.get("processing:version", "")))
    match = re.match(r"(\d{1,2})\.(\d{2})$", value)
    return f"{int(match[1]):02}.{match[2]}" if match else ""


def tile_of(item: Item) -> str:
    """Tile of Sentinel-2's grid, "T43SDT"; "" when the item does not say."""
    text = str(item.properties.get("grid:code", item.properties.get("s2:mgrs_tile", "")))
    name = text.removeprefix("MGRS-").removeprefix("T")
    return f"T{name}" if re.fullmatch(r"\d{1,2}[A-Z]{3}", name) else ""


def offset_of(item: Item, asset: str, *, keeps_offset: bool) -> tuple[float | None, float]:
    """What has to be added to the numbers of a band, and multiplied afterwards.

    Catalogues disagree: Earth Search has taken the offset off and says so in ``earthsearch:boa_offset_applied``
    while its ``raster:bands`` still name it (Element84/earth-search#66); Planetary Computer leaves it on and names
    nothing (microsoft/PlanetaryComputer#134). Where statements contradict each other the offset is unknown [O].

    Args:
        item: of the catalogue.
        asset: name of the band's asset.
        keeps_offset: the catalogue is known to hand out ESA's numbers as they are.

    Returns:
        Offset in digital numbers, None when it is not known, and scale.
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


def _newest(items: Sequence[Item]) -> list[Item]:
    """One item a tile and moment: a product that was processed again replaces the older one."""
    best: dict[tuple[str, datetime | None], Item] = {}
    alone = []
    for item in items:
        if not tile_of(item):
            alone.append(item)
            continue
        key = (tile_of(item), item.datetime)
        if key not in best or baseline_of(item) > baseline_of(best[key]):
            best[key] = item
    return [*best.values(), *alone]


def _by_day(items: Sequence[Item], bbox: tuple[float, float, float, float]) -> dict[str, list[Item]]:
    # The sun crosses 15 degrees an hour; a day that begins at Greenwich's midnight would cut a pass over the Pacific.
    shift = timedelta(hours=(bbox[0] + bbox[2]) / 30)
    days: dict[str, list[Item]] = {}
    for item in items:
        moment = item.datetime or item.common_metadata.start_datetime
        if moment is not None:
            days.setdefault((moment + shift).date().isoformat(), []).append(item)
    return days


def _day(date: str, items: Sequence[Item], bbox: tuple[float, float, float, float], keeps_offset: bool) -> Day | str:
    """The day, or why it cannot be used."""
    box = shapely.box(*bbox)
    feet = [shapely.make_valid(shape(item.geometry)) if item.geometry else box for item in items]
    parts = [shapely.area(shapely.intersection(foot, box)) for foot in feet]
    if not sum(parts) > 0:
        return "beside the box"
    order = sorted(range(len(items)), key=lambda index: (cloud_of(items[index]), items[index].id))
    chosen = [items[index] for index in order if parts[index] > 0]
    assets: dict[str, str] = {}
    offsets: dict[str, float | None] = {}
    scales: dict[str, float] = {}
    notes = []
    for role in ASSETS:
        names = {asset_of(item, role) for item in chosen}
        if len(names) > 1:
            return f"images of {date} name their bands differently"
        name = names.pop()
        if name is None:
            continue
        assets[role] = name
        if role == "scl":
            offsets[role], scales[role] = 0.0, 1.0
            continue
        meanings = {offset_of(item, name, keeps_offset=keeps_offset) for item in chosen}
        if len(meanings) > 1:
            return f"images of {date} carry different offsets"
        offsets[role], scales[role] = meanings.pop()
    if any(offset is None for offset in offsets.values()):
        notes.append("the catalogue does not say whether the offset of baseline 04.00 is still in the numbers")
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
_LONGEST_SIDE = 22_000
_MOST_ITEMS = 500
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
    progress: Progress | None = None,
) -> Sources:
    """Find the least cloudy day of a place and write its bands as GeoTIFFs on one 10 m grid.

    The images of that (solar) day are laid over each other, the clearest on top. Bands keep their digital numbers;
    20 m bands are interpolated (bilinear), the scene classification is not (nearest). Windows of 2048 pixels are read
    one after another, so that memory does not grow with the box. Where the catalogue also has Copernicus DEM GLO-30,
    it is written on a 30 m grid that reaches a little beyond the box.

    Args:
        bbox: west, south, east, north in degrees.
        dates: a day, or the first and last one: "2024-06-01/2024-06-30".
        folder: for the files; each appears when it is whole.
        url: of a STAC API, or address or path of a static ``catalog.json``, which is walked instead of searched.
        collection: its collection of Sentinel-2 level 2A.
        max_cloud: percent of an image that may be under cloud.
        progress: called with the number of windows read and of all.

    Raises:
        ConfigError: if the box or the dates are none, or the extra ``stac`` is not installed.
        DataError: if there is no image, or it cannot be read.
        ZooError: if the catalogue cannot be reached, or the folder cannot be written.
    """
    check_bbox(bbox)
    first, last = parse_dates(dates)
    if not 0 <= max_cloud <= 100:
        raise ConfigError(f"{max_cloud} percent", where="cloud limit", hint="From 0 to 100")
    load, patch_url = _libraries(url)
    check_writable_folder(folder)
    keeps_offset = urlsplit(url).netloc.endswith(_KEEPS_OFFSET)
    catalogue = _Catalogue(url)
    items = catalogue.items(collection, bbox, (first, last))
    day = choose_day(items, bbox, max_cloud, keeps_offset=keeps_offset, where=f"{url}, {collection}")
    polygon = geo_box(*bbox, "EPSG:4326")
    geobox = GeoBox.from_geopolygon(polygon, resolution=10, crs=_crs_of(day.items, bbox))
    if max(geobox.shape) > _LONGEST_SIDE:
        raise ConfigError(
            f"a box of {geobox.shape[1]:,} x {geobox.shape[0]:,} pixels",
            where="box",
            hint=f"At most {_LONGEST_SIDE:,} on a side (two tiles): cut it into several",
        )
    notes = [
        f"{len(items)} images found; {day.date} is the clearest that covers the box: {day.cloud:.1f} % cloud, "
        f"{day.coverage:.0%} covered by {', '.join(item.id for item in day.items)}",
        *day.notes,
    ]
    jobs = [_Job(load, patch_url, day.items, day.assets, geobox, folder, f"{day.scene or 'S2'}_{day.date}")]
    tiles = catalogue.dem(bbox, notes)
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
    for role, offset in day.offsets.items():
        files[role] = BandFile(str(written[role]), offset=offset, scale=day.scales[role], nodata=0.0)
    return Sources(files, scene=day.scene, date=day.date, baseline=day.baseline, notes=tuple(notes))


def check_bbox(bbox: Sequence[float]) -> None:
    """Refuse what is no box in degrees.

    Raises:
        ConfigError: if it has not four finite numbers in the order west, south, east, north.
    """
    order = "Write west,south,east,north in degrees, such as 73.3,34.5,73.5,34.7"
    if len(bbox) != 4 or not np.isfinite(bbox).all():
        raise ConfigError(f"{tuple(bbox)} are not four numbers", where="box", hint=order)
    west, south, east, north = bbox
    if max(abs(west), abs(east)) > 180 or max(abs(south), abs(north)) > 90:
        raise ConfigError(f"{tuple(bbox)} are no longitudes and latitudes", where="box", hint=order)
    if west >= east or south >= north:
        raise ConfigError(
            f"{tuple(bbox)} is empty: west must be less than east, and south less than north", where="box", hint=order
        )


def parse_dates(text: str) -> tuple[str, str]:
    """Read a day or two as the first and the last one, in ISO.

    Raises:
        ConfigError: if they are no dates, or in the wrong order.
    """
    parts = text.split("/")
    if len(parts) > 2:
        raise ConfigError(f"{text!r} are more than two dates", where="dates", hint="Write 2024-06-01/2024-06-30")
    first, last = parse_day(parts[0], "dates"), parse_day(parts[-1], "dates")
    if last < first:
        raise ConfigError(f"{text!r} ends before it begins", where="dates", hint="Write 2024-06-01/2024-06-30")
    return first.isoformat(), last.isoformat()


def _libraries(url: str) -> tuple[Callable[..., Any], Callable[[str], str] | None]:
    try:
        stac = import_module("odc.stac")
        import_module("pystac_client")
    except ImportError as error:
        raise ConfigError(
            f"catalogues need a library that is not installed ({error.name})",
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
            "Planetary Computer hands out its images against a signature, and the library that signs is not installed",
            where=url,
            hint="Run: pip install planetary-computer",
        ) from error
    return stac.load, signer.sign


class _Catalogue:
    """A catalogue that is searched when it can be, and walked when it is a tree of files."""

    def __init__(self, url: str) -> None:
        self.url = url
        online = urlsplit(url).scheme in ("http", "https")
        if not online and not Path(url).exists():
            raise DataError("there is no such catalogue", where=url, hint="Give the address of a STAC API or a file")
        pystac, client = import_module("pystac"), import_module("pystac_client")
        try:
            if online:
                io = import_module("pystac_client.stac_api_io").StacApiIO(timeout=(_CONNECT, _READ), max_retries=2)
                self._root = client.Client.open(url, stac_io=io)
                self._searches = bool(self._root.conforms_to("ITEM_SEARCH"))
            else:
                self._root = pystac.Catalog.from_file(url)
                self._searches = False
        except (OSError, ValueError, KeyError, TypeError, pystac.STACError, client.exceptions.APIError) as error:
            raise self._unreachable(error) from error

    def items(self, collection: str, bbox: Bbox, dates: tuple[str, str] | None) -> list[Item]:
        """Items of a collection that touch the box, between two days when they are given.

        Raises:
            UnknownNameError: for a collection that a static catalogue does not have.
            ZooError: if the catalogue does not answer, or not in STAC.
        """
        pystac, client = import_module("pystac"), import_module("pystac_client")
        try:
            if self._searches:
                period = None if dates is None else "/".join(dates)
                search = self._root.search(
                    collections=[collection], bbox=list(bbox), datetime=period, max_items=_MOST_ITEMS
                )
                return list(search.items())
            return [item for item in self._walk(collection) if _fits(item, bbox, dates)]
        except (OSError, ValueError, KeyError, TypeError, pystac.STACError, client.exceptions.APIError) as error:
            raise self._unreachable(error) from error

    def dem(self, bbox: Bbox, notes: list[str]) -> list[Item]:
        """Tiles of the Copernicus DEM over the box; none, and a note, where the catalogue has none."""
        try:
            tiles = [item for item in self.items(DEM_COLLECTION, bbox, None) if "data" in item.assets]
        except ZooError:
            tiles = []
        if not tiles:
            notes.append(f"no elevation: the catalogue has no {DEM_COLLECTION} here")
        return tiles

    def _walk(self, collection: str) -> Iterator[Item]:
        children = {child.id: child for child in (self._root, *self._root.get_children())}
        for child in list(children.values()):
            children.update({one.id: one for one in child.get_children()})
        if collection not in children:
            raise UnknownNameError("collection", collection, set(children) - {self._root.id}, where=self.url)
        yield from children[collection].get_items(recursive=True)

    def _unreachable(self, error: Exception) -> ZooError:
        reason = "its server cannot be reached"
        if not _is_offline(error):
            lines = str(error).strip().splitlines()
            reason = f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
        return ZooError(
            f"the catalogue cannot be read ({reason})",
            where=self.url,
            hint="Is the address right, and is this machine online?",
        )


def _is_offline(error: BaseException | None) -> bool:
    """Whether no answer came: the libraries between wrap what the connection said, twice and in their own words."""
    while error is not None:
        if isinstance(error, (requests.ConnectionError, requests.Timeout)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _fits(item: Item, bbox: Bbox, dates: tuple[str, str] | None) -> bool:
    if item.geometry is None or not shapely.intersects(shape(item.geometry), shapely.box(*bbox)):
        return False
    moment = item.datetime or item.common_metadata.start_datetime
    return dates is None or (moment is not None and dates[0] <= moment.date().isoformat() <= dates[1])


def _crs_of(items: Sequence[Item], bbox: Bbox) -> str:
    """The system of the item that covers most of the box, so that most pixels are copied as they are."""
    target = shapely.box(*bbox)
    widest = max(items, key=lambda item: shapely.area(shapely.intersection(shape(item.geometry), target)))
    code = widest.properties.get("proj:code") or widest.properties.get("proj:epsg")
    if code:
        return code if str(code).startswith("EPSG:") else f"EPSG:{code}"
    zone = min(60, int(((bbox[0] + bbox[2]) / 2 + 180) // 6) + 1)
    return f"EPSG:{(32600 if bbox[1] + bbox[3] >= 0 else 32700) + zone}"


class _Job:
    """Bands that go onto one grid, window by window, into one file each."""

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
        self.load, self.patch_url, self.items, self.assets = load, patch_url, items, dict(assets)
        self.geobox, self.folder, self.name = geobox, folder, file_name(name, also="+")
        self.windows = [
            Window(column, row, min(_WINDOW, geobox.shape[1] - column), min(_WINDOW, geobox.shape[0] - row))
            for row in range(0, geobox.shape[0], _WINDOW)
            for column in range(0, geobox.shape[1], _WINDOW)
        ]

    def __len__(self) -> int:
        return len(self.windows)

    def run(self, written: dict[str, Path]) -> Iterator[Window]:
        """Write the files; yield each window that is done; fill ``written`` at the end."""
        paths = {role: self.folder / f"{self.name}_{role}.tif" for role in self.assets}
        something = False
        # Datasets close before the temporary files are renamed: what is entered last is left first.
        with ExitStack() as stack:
            temporary = {role: stack.enter_context(atomic_path(path)) for role, path in paths.items()}
            try:
                files = {role: stack.enter_context(self._create(role, path)) for role, path in temporary.items()}
                for window in self.windows:
                    arrays = self._read(window)
                    for role, values in arrays.items():
                        files[role].write(values, 1, window=window)
                        something = something or bool((values > 0).any())
                    yield window
            except (RasterioError, OSError, RuntimeError) as error:
                raise DataError(
                    f"an image of the catalogue cannot be read ({first_line(error)})",
                    where=", ".join(item.id for item in self.items),
                    hint="Is this machine online? Run the same command again",
                ) from error
            if not something:
                raise DataError("its images hold nothing in this box", where=", ".join(i.id for i in self.items))
        written.update(paths)

    def _read(self, window: Window) -> dict[str, Any]:
        rows, columns = window.toslices()
        loaded = self.load(
            list(self.items),
            bands=list(self.assets.values()),
            geobox=self.geobox[rows, columns],
            # All items are of one day, and the clearest comes first.
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

    def _create(self, role: str, path: Path) -> Any:
        kind = self._kind(role)
        created = rasterio.open(
            path,
            "w",
            driver="GTiff",
            count=1,
            height=self.geobox.shape[0],
            width=self.geobox.shape[1],
            dtype=kind["data_type"],
            nodata=kind["nodata"],
            crs=str(self.geobox.crs),
            transform=self.geobox.affine,
            compress="deflate",
            predictor=3 if role == "dem" else 2,
            tiled=True,
            blockxsize=512,
            blockysize=512,
            bigtiff="IF_SAFER",
        )
        created.set_band_description(1, role)
        created.update_tags(SOURCE=", ".join(item.id for item in self.items))
        return created
