"""Choosing among the items of a catalogue: one day, its least cloudy images, and what their numbers mean."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import shapely
from shapely.geometry import shape

from zoo.errors import DataError

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
