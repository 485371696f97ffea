"""Files of a forecast run: STAC items and catalogue, tables of alerts and class shares, and an animation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import shapely
from PIL import Image

import zoo
from zoo.errors import ResultError
from zoo.files import atomic_path, csv_text, file_name, write_text_atomic
from zoo.physics.rain_events import time_text
from zoo.rasters.ground import Ground, crs_name
from zoo.rasters.pixel_sample import extent_of
from zoo.rasters.stacks import Stack
from zoo.risk.index import CLASS_NAMES
from zoo.schema import encode_json, read_json, write_json

ITEM, INDEX, CLASSES, PICTURE = "item.json", "index.tif", "classes.tif", "map.png"
"""Names of the files in the folder of a step."""

FRAME_MS = 400
"""Milliseconds per frame of the animation."""

MAX_FRAMES = 120
"""Maximum number of steps in the animation, the latest ones: a month of six-hourly maps."""

FRAME_SIDE = 900
"""Longer side of the animation in pixels."""

_COG = "image/tiff; application=geotiff; profile=cloud-optimized"
_STAC = "1.0.0"


@dataclass(frozen=True)
class StepRecord:
    """Record of one step in the catalogue.

    Attributes:
        digest: digest of all inputs of the step.
        settings: digest of the settings that all steps of a folder share.
        rain_from: start of the rain used, such as ``2024-06-01T00:00Z``.
        shares: by district, the shares of "low", "medium" and "high" in the known area, and the share "known".
        raining: share of rain cells with an event in progress.
        missing_hours: maximum number of hours without rain data in a cell.
        negative: share of pixels where more rain lowers the index.
    """

    digest: str
    settings: str
    rain_from: str
    shares: dict[str, dict[str, float]]
    raining: float
    missing_hours: float
    negative: float


@dataclass(frozen=True)
class _Properties:
    datetime: str
    zoo: StepRecord


@dataclass(frozen=True)
class StepItem:
    """Part of a step's STAC item that later runs read."""

    id: str
    properties: _Properties

    @property
    def record(self) -> StepRecord:
        """Record of the step in the catalogue."""
        return self.properties.zoo

    @property
    def time(self) -> str:
        """Time of the step, such as ``2024-06-11T09:00Z``."""
        return time_text(np.datetime64(self.properties.datetime.removesuffix("Z"), "s"))


@dataclass(frozen=True)
class Alert:
    """Alert status of one district over all steps.

    Attributes:
        district: name of the district.
        km2: area on the grid.
        first: first time with at least the alert share in the high class; None without one.
        highest: largest share in the high class, and its time.
        latest: share in the high class at the last step, and its time.
    """

    district: str
    km2: float
    first: str | None
    highest: tuple[float, str]
    latest: tuple[float, str]


def read_item(path: Path) -> StepItem:
    """Read the STAC item of a step.

    Raises:
        ResultError: if the item is missing or damaged.
    """
    return read_json(path, StepItem, what="step")


def read_items(folder: Path) -> list[StepItem]:
    """Return the finished steps of a folder in chronological order; remove damaged items so that their steps rerun."""
    found = []
    for path in sorted(folder.glob(f"*/{ITEM}")):
        try:
            found.append(read_item(path))
        except ResultError:
            path.unlink()
    return sorted(found, key=lambda item: item.time)


def write_item(place: Path, stack: Stack, time: np.datetime64, record: StepRecord) -> None:
    """Write the STAC item of a step; it has no timestamp of its creation, so the same rain gives the same bytes."""
    left, bottom, right, top = extent_of(stack)
    ring = np.array([(left, bottom), (right, bottom), (right, top), (left, top), (left, bottom)])
    x, y = Ground(stack.crs).degrees(ring[:, 0], ring[:, 1])
    outline = shapely.Polygon(np.column_stack([x, y]).round(6))
    assets = {
        "index": (INDEX, _COG, ["data"], "landslide risk index"),
        "classes": (CLASSES, _COG, ["data"], "class: 1 low, 2 medium, 3 high, 0 no data"),
        "map": (PICTURE, "image/png", ["thumbnail"], "map of the classes"),
    }
    item = {
        "type": "Feature",
        "stac_version": _STAC,
        "stac_extensions": [],
        "id": place.name,
        "geometry": shapely.geometry.mapping(outline),
        "bbox": list(outline.bounds),
        "properties": {"datetime": f"{np.datetime_as_string(time)}Z", "crs": crs_name(stack.crs), "zoo": record},
        "links": [{"rel": rel, "href": "../catalog.json", "type": "application/json"} for rel in ("root", "parent")],
        "assets": {
            key: {"href": f"./{file}", "type": kind, "roles": roles, "title": title}
            for key, (file, kind, roles, title) in assets.items()
        },
    }
    write_json(place / ITEM, item)


def publish(
    folder: Path,
    stack: Stack,
    items: Sequence[StepItem],
    districts: Sequence[str],
    alert_share: float,
    *,
    animate: bool,
) -> tuple[Alert, ...]:
    """Write the catalogue, the tables and the animation of all steps; return the alerts.

    Args:
        folder: folder of the run, with a subfolder per step.
        stack: mapped raster.
        items: steps in chronological order.
        districts: names of the districts.
        alert_share: share of a district in the high class that raises an alert, 0..1.
        animate: rewrite the animation even if it exists.
    """
    write_text_atomic(folder / "catalog.json", encode_json(_catalogue(stack, items), indent=2) + "\n")
    alerts = tuple(_alert(name, items, alert_share) for name in districts)
    rows: list[tuple[object, ...]] = [
        (csv_text(alert.district), f"{alert.km2:.3f}", alert.first, *alert.highest, *alert.latest) for alert in alerts
    ]
    _write_table(
        folder / "alerts.csv", "district,km2,first_alert,highest_share,highest_time,latest_share,latest_time", rows
    )
    rows = [
        (item.properties.datetime, csv_text(name), *(shares[one] for one in (*CLASS_NAMES, "known")))
        for item in items
        for name, shares in item.record.shares.items()
    ]
    _write_table(folder / "shares.csv", "time,district,low,medium,high,known", rows)
    if animate or not (folder / "animation.gif").exists():
        _write_animation([folder / item.id / PICTURE for item in items[-MAX_FRAMES:]], folder / "animation.gif")
    return alerts


def _catalogue(stack: Stack, items: Sequence[StepItem]) -> dict[str, Any]:
    links = [{"rel": "root", "href": "./catalog.json", "type": "application/json"}]
    links += [{"rel": "item", "href": f"./{item.id}/{ITEM}", "type": "application/geo+json"} for item in items]
    return {
        "type": "Catalog",
        "stac_version": _STAC,
        "id": file_name(f"landslide-risk-{stack.path.stem}"),
        "description": f"Landslide risk of {stack.path.name}, {len(items)} steps, landslide-zoo {zoo.__version__}",
        "links": links,
    }


def _alert(name: str, items: Sequence[StepItem], alert_share: float) -> Alert:
    found = [(item.record.shares[name]["high"], item.time) for item in items]
    first = next((time for share, time in found if share >= alert_share), None)
    highest = max(found, key=lambda one: one[0])
    return Alert(name, items[-1].record.shares[name]["km2"], first, highest, found[-1])


def _write_table(path: Path, heading: str, rows: Sequence[tuple[object, ...]]) -> None:
    table = pd.DataFrame(rows, columns=heading.split(","))
    write_text_atomic(path, table.to_csv(index=False, float_format="%.4f", lineterminator="\n"))


def _write_animation(frames: Sequence[Path], path: Path) -> None:
    """Combine pictures into a GIF; smaller ones get a white margin on the right and at the bottom."""
    sizes = []
    for frame in frames:
        with Image.open(frame) as picture:
            sizes.append(picture.size)
    width, height = (max(size[axis] for size in sizes) for axis in (0, 1))
    shrink = min(1.0, FRAME_SIDE / max(width, height))
    pictures = []
    for frame in frames:
        canvas = Image.new("RGB", (width, height), "white")
        with Image.open(frame) as picture:
            canvas.paste(picture.convert("RGB"))
        small = canvas.resize((round(width * shrink), round(height * shrink)), Image.Resampling.LANCZOS)
        # This method keeps the colours of small areas, such as the legend.
        pictures.append(small.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE))
    with atomic_path(path) as temporary:
        first, *others = pictures
        first.save(temporary, format="GIF", save_all=True, append_images=others, duration=FRAME_MS, loop=0)
