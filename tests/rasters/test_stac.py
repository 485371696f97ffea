"""Searching catalogues: against a static one of real files, and the choice among items against made-up ones."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds

import zoo
from zoo.errors import ConfigError, DataError, UnknownNameError, ZooError
from zoo.rasters import stac
from zoo.rasters.stac import check_bbox, choose_day, fetch_sources, offset_of, parse_dates, tile_of

LEFT, TOP = 399960.0, 4000020.0
SIZE = 40
BBOX = transform_bounds("EPSG:32643", "EPSG:4326", LEFT + 100, TOP - 300, LEFT + 300, TOP - 100)
VALUES = {"blue": 1300, "green": 1500, "red": 1400, "nir": 4000, "swir16": 2500, "swir22": 2000}
Catalogue = Callable[..., Path]


def write_band(path: Path, values: np.ndarray, metres: float, left: float = LEFT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path,
        "w",
        driver="COG",
        count=1,
        height=values.shape[0],
        width=values.shape[1],
        dtype=values.dtype,
        crs="EPSG:32643",
        transform=from_origin(left, TOP, metres, metres),
        nodata=0,
    ) as target:
        target.write(values, 1)


def make_item(
    folder: Path, name: str, day: str, *, cloud: float, add: int = 0, left: float = LEFT, **properties: Any
) -> pystac.Item:
    """An item of Earth Search's kind: 400 m of ground in six files."""
    ramp = np.arange(SIZE * SIZE, dtype=np.uint16).reshape(SIZE, SIZE) % 50
    bounds = transform_bounds("EPSG:32643", "EPSG:4326", left, TOP - 400, left + 400, TOP)
    item = pystac.Item(
        name,
        json.loads(shapely.to_geojson(shapely.box(*bounds))),
        list(bounds),
        datetime.fromisoformat(day).replace(tzinfo=UTC),
        {"eo:cloud_cover": cloud, "proj:code": "EPSG:32643", "grid:code": "MGRS-43SDT", **properties},
    )
    for band, value in VALUES.items():
        fine = band in ("blue", "green", "red", "nir")
        values = (ramp if fine else ramp[::2, ::2]) + value + add
        write_band(folder / name / f"{band}.tif", values.astype(np.uint16), 10 if fine else 20, left)
        extra = {"raster:bands": [{"nodata": 0, "scale": 0.0001, "offset": -0.1}]}
        item.add_asset(band, pystac.Asset(str(folder / name / f"{band}.tif"), extra_fields=extra))
    write_band(folder / name / "scl.tif", np.full((SIZE // 2, SIZE // 2), 4, np.uint8), 20, left)
    item.add_asset("scl", pystac.Asset(str(folder / name / "scl.tif")))
    return item


@pytest.fixture
def catalogue(tmp_path: Path) -> Catalogue:
    """Write a static catalogue of one collection, and a DEM when it is asked for."""

    def make(*items: dict[str, Any], dem: bool = False) -> Path:
        root = pystac.Catalog("root", "a test")
        extent = pystac.Extent(
            pystac.SpatialExtent([[-180, -90, 180, 90]]), pystac.TemporalExtent([[datetime(2020, 1, 1), None]])
        )
        collection = pystac.Collection("sentinel-2-l2a", "a test", extent)
        root.add_child(collection)
        for item in items:
            collection.add_item(make_item(tmp_path / "data", **item))
        if dem:
            heights = pystac.Collection("cop-dem-glo-30", "a test", extent)
            root.add_child(heights)
            bounds = transform_bounds("EPSG:32643", "EPSG:4326", LEFT - 500, TOP - 900, LEFT + 900, TOP + 500)
            tile = pystac.Item(
                "dem", json.loads(shapely.to_geojson(shapely.box(*bounds))), list(bounds), datetime(2021, 1, 1), {}
            )
            path = tmp_path / "data" / "dem.tif"
            path.parent.mkdir(exist_ok=True)
            with rasterio.open(
                path,
                "w",
                driver="GTiff",
                count=1,
                height=60,
                width=60,
                dtype="float32",
                crs="EPSG:4326",
                transform=rasterio.transform.from_bounds(*bounds, 60, 60),
            ) as target:
                target.write(np.full((1, 60, 60), 1234.5, np.float32))
            tile.add_asset("data", pystac.Asset(str(path)))
            heights.add_item(tile)
        root.normalize_and_save(str(tmp_path / "catalogue"), pystac.CatalogType.SELF_CONTAINED)
        return tmp_path / "catalogue" / "catalog.json"

    return make


def fetch(url: Path | str, folder: Path, bbox: Any = BBOX, dates: str = "2024-06-01/2024-06-30", **more: Any) -> Any:
    options = {"collection": "sentinel-2-l2a", "max_cloud": 20.0, **more}
    return fetch_sources(bbox, dates, folder, url=str(url), **options)


APPLIED = {"earthsearch:boa_offset_applied": True, "s2:processing_baseline": "05.10"}


def test_the_clearest_day_is_written_on_one_grid(catalogue: Catalogue, tmp_path: Path) -> None:
    url = catalogue(
        {"name": "cloudy", "day": "2024-06-05T05:40:00", "cloud": 15.0, **APPLIED},
        {"name": "clear", "day": "2024-06-10T05:40:00", "cloud": 3.0, "add": 7, **APPLIED},
        {"name": "clearer-but-july", "day": "2024-07-10T05:40:00", "cloud": 0.0, **APPLIED},
    )
    seen = []
    folder = tmp_path / "süd"
    sources = fetch(url, folder, progress=lambda done, total: seen.append((done, total)))
    assert (sources.date, sources.scene, sources.baseline) == ("2024-06-10", "T43SDT", "05.10")
    assert seen == [(1, 1)]
    assert set(sources.files) == {"green", "red", "nir", "swir", "swir2", "scl"}
    assert {(file.offset, file.scale, file.nodata) for role, file in sources.files.items() if role != "scl"} == {
        (0.0, 1e-4, 0.0)
    }
    grids = set()
    for file in sources.files.values():
        with rasterio.open(file.path) as source:
            grids.add((source.crs.to_epsg(), source.transform, source.shape))
            assert source.profile["tiled"]
    ((epsg, transform, shape),) = grids
    assert epsg == 32643
    assert transform.a == 10
    assert transform.c % 10 == 0
    assert 20 <= shape[0] <= 24
    # 10 m bands are copied, not interpolated: every number is where the item has it.
    with rasterio.open(sources.files["nir"].path) as ours, rasterio.open(tmp_path / "data/clear/nir.tif") as theirs:
        assert np.array_equal(ours.read(1), theirs.read(1, window=theirs.window(*ours.bounds)))
    with rasterio.open(sources.files["scl"].path) as ours:
        assert ours.dtypes == ("uint8",)
        assert set(np.unique(ours.read(1))) == {4}
    assert not list(folder.glob(".*"))


def test_two_dates_are_fetched_and_compared(catalogue: Catalogue, tmp_path: Path) -> None:
    url = catalogue(
        {"name": "june", "day": "2024-06-10T05:40:00", "cloud": 3.0, **APPLIED},
        {"name": "july", "day": "2024-07-10T05:40:00", "cloud": 3.0, "add": 300, **APPLIED},
        dem=True,
    )
    box = {"stac_box": BBOX, "stac_url": str(url), "moisture": "none", "max_cloud": 20.0}
    out = tmp_path / "change.tif"
    report = zoo.stack(
        out, stac_dates="2024-07-01/2024-07-31", stac_pre_dates="2024-06-01/2024-06-30", force=True, **box
    )
    folder = tmp_path / "change-inputs"
    band = {}
    for day in ("2024-06-10", "2024-07-10"):
        for role in ("blue", "red", "nir", "swir"):
            with rasterio.open(folder / f"T43SDT_{day}_{role}.tif") as file:
                band[day[5:7], role] = file.read(1).astype(float)
    assert not list(folder.glob("*2024-06-10_dem*"))
    assert len(list(folder.glob("*_dem.tif"))) == 1

    def bsi(month: str) -> np.ndarray:
        blue, red, nir, swir = (band[month, role] for role in ("blue", "red", "nir", "swir"))
        return (swir + red - nir - blue) / (swir + red + nir + blue)

    def ndvi(month: str) -> np.ndarray:
        return (band[month, "nir"] - band[month, "red"]) / (band[month, "nir"] + band[month, "red"])

    with rasterio.open(out) as file:
        names = list(file.descriptions)
        found = dict(zip(names, file.read(), strict=True))
        assert file.tags()["DATE"] == "2024-07-10"
    np.testing.assert_allclose(found["dBSI"], bsi("07") - bsi("06"), atol=2e-3)
    np.testing.assert_allclose(found["dNDVI"], ndvi("07") - ndvi("06"), atol=2e-3)
    assert np.abs(found["dNDVI"]).min() > 0.01
    assert "slope" in report.statistics
    for given, words in (
        ({"stac_dates": "2024-06-01/2024-06-30", "stac_pre_dates": "2024-07-10"}, "does not end before"),
        ({"stac_dates": "2024-07-10", "stac_pre_dates": "2024-06-10", "pre": "folder", "post": "other"}, "and fetched"),
        ({"stac_dates": "2024-07-10", "stac_pre_dates": "2024-06-10", "phase": "pre"}, "after the landslides"),
        ({"stac_dates": "2024-07-10", "stac_pre_dates": "2024-05-10"}, "no image"),
    ):
        with pytest.raises(ZooError, match=words):
            zoo.stack(tmp_path / "none.tif", **{**box, **given})
    with pytest.raises(ConfigError, match="need a catalogue"):
        zoo.stack(tmp_path / "none.tif", stac_pre_dates="2024-06-10")


def test_the_window_size_does_not_matter(catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = catalogue({"name": "one", "day": "2024-06-10T05:40:00", "cloud": 3.0, **APPLIED})
    whole = fetch(url, tmp_path / "whole")
    monkeypatch.setattr(stac, "_WINDOW", 8)
    seen = []
    parts = fetch(url, tmp_path / "parts", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == 9
    for role in whole.files:
        with rasterio.open(whole.files[role].path) as one, rasterio.open(parts.files[role].path) as other:
            assert np.array_equal(one.read(), other.read()), role


def test_images_of_one_day_are_laid_side_by_side(catalogue: Catalogue, tmp_path: Path) -> None:
    url = catalogue(
        {"name": "west", "day": "2024-06-10T05:40:00", "cloud": 9.0, "left": LEFT - 200, **APPLIED},
        {"name": "east", "day": "2024-06-10T05:40:10", "cloud": 3.0, "left": LEFT + 200, **APPLIED},
    )
    sources = fetch(url, tmp_path / "out")
    with rasterio.open(sources.files["red"].path) as source:
        assert (source.read(1) > 0).mean() > 0.95
    assert "100% covered by east, west" in sources.notes[0]


def test_elevation_is_fetched_where_there_is_some(catalogue: Catalogue, tmp_path: Path) -> None:
    url = catalogue({"name": "one", "day": "2024-06-10T05:40:00", "cloud": 3.0, **APPLIED}, dem=True)
    sources = fetch(url, tmp_path / "out")
    with rasterio.open(sources.files["dem"].path) as dem, rasterio.open(sources.files["red"].path) as red:
        assert (dem.crs, dem.transform.a) == (red.crs, 30)
        assert dem.bounds.left < red.bounds.left
        assert dem.bounds.top > red.bounds.top
        assert dem.read(1) == pytest.approx(1234.5)
    assert sources.files["dem"].offset == 0
    assert sources.files["dem"].scale == 1


def test_missing_images_and_catalogues_are_reported(catalogue: Catalogue, tmp_path: Path) -> None:
    url = catalogue({"name": "one", "day": "2024-06-10T05:40:00", "cloud": 60.0, **APPLIED})
    with pytest.raises(DataError, match="the clearest has 60 %"):
        fetch(url, tmp_path / "out")
    with pytest.raises(DataError, match="no image of this area and period"):
        fetch(url, tmp_path / "out", dates="2023-06-10")
    with pytest.raises(DataError, match="no image of this area and period"):
        fetch(url, tmp_path / "out", bbox=(10, 10, 10.1, 10.1))
    with pytest.raises(UnknownNameError, match="Did you mean 'sentinel-2-l2a'"):
        fetch(url, tmp_path / "out", collection="sentinel-2-l2")
    with pytest.raises(DataError, match="the catalogue does not exist"):
        fetch(tmp_path / "none.json", tmp_path / "out")
    url.write_text('{"type": "Catal')
    with pytest.raises(ZooError, match="cannot be read"):
        fetch(url, tmp_path / "out")
    with pytest.raises(ZooError, match=r"its server cannot be reached\).*Check the URL"):
        fetch("http://127.0.0.1:9/stac", tmp_path / "out")


def test_a_damaged_image_leaves_no_half_file(catalogue: Catalogue, tmp_path: Path) -> None:
    url = catalogue({"name": "one", "day": "2024-06-10T05:40:00", "cloud": 3.0, **APPLIED})
    (tmp_path / "data" / "one" / "nir.tif").write_bytes(b"II*\0nothing")
    with pytest.raises(DataError, match="an image of the catalogue cannot be read"):
        fetch(url, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_vrt_among_the_images_is_not_opened(catalogue: Catalogue, tmp_path: Path) -> None:
    url = catalogue({"name": "one", "day": "2024-06-10T05:40:00", "cloud": 3.0, **APPLIED})
    band = tmp_path / "data" / "one" / "nir.tif"
    secret = band.rename(band.with_name("secret.tif"))
    band.write_text(
        '<VRTDataset rasterXSize="40" rasterYSize="40"><VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
        f"<SourceFilename>{secret}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with pytest.raises(DataError, match="an image of the catalogue cannot be read"):
        fetch(url, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_api_is_searched(catalogue: Catalogue, tmp_path: Path) -> None:
    url = catalogue({"name": "one", "day": "2024-06-10T05:40:00", "cloud": 3.0, **APPLIED})
    (found,) = pystac.Catalog.from_file(url).get_items(recursive=True)
    asked = []

    class Api(BaseHTTPRequestHandler):
        def answer(self, value: dict[str, Any]) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(value).encode())

        def do_GET(self) -> None:
            here = f"http://127.0.0.1:{self.server.server_port}/"  # type: ignore[attr-defined]
            core = "https://api.stacspec.org/v1.0.0"
            links = [{"rel": "root", "href": here}, {"rel": "search", "href": f"{here}search", "method": "POST"}]
            self.answer(
                {
                    "type": "Catalog",
                    "id": "api",
                    "description": "a test",
                    "stac_version": "1.0.0",
                    "conformsTo": [f"{core}/core", f"{core}/item-search"],
                    "links": links,
                }
            )

        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            items = [found.to_dict()] if asked[-1]["collections"] == ["sentinel-2-l2a"] else []
            self.answer({"type": "FeatureCollection", "features": items, "links": []})

        def log_message(self, *words: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        sources = fetch(f"http://127.0.0.1:{server.server_port}/", tmp_path / "out")
    finally:
        server.shutdown()
        server.server_close()
    assert sources.date == "2024-06-10"
    assert asked[0]["bbox"] == pytest.approx(list(BBOX))
    assert asked[0]["datetime"] == "2024-06-01T00:00:00Z/2024-06-30T23:59:59Z"
    assert "no elevation" in sources.notes[-1]


@pytest.mark.parametrize(
    ("bbox", "problem"),
    [
        ((75, 34, 74, 35), "is empty"),
        ((74, 35, 75, 34), "is empty"),
        ((341966, 3819292, 357557, 3843535), "outside the range of longitude"),
        ((34.5, 73.3, 34.7, float("nan")), "is not four finite numbers"),
        ((1, 2, 3), "is not four finite numbers"),
    ],
)
def test_an_invalid_box_is_refused(bbox: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        check_bbox(bbox)


@pytest.mark.parametrize("dates", ["2024-13-01", "June", "2024-06-30/2024-06-01", "2024", "a/b/c", ""])
def test_invalid_dates_are_refused(dates: str) -> None:
    with pytest.raises(ConfigError, match="dates"):
        parse_dates(dates)


def test_dates_are_a_day_or_two() -> None:
    assert parse_dates("2024-06-01/2024-06-30") == ("2024-06-01", "2024-06-30")
    assert parse_dates("2024-06-01") == ("2024-06-01", "2024-06-01")


def test_a_box_as_large_as_a_country_is_refused(catalogue: Catalogue, tmp_path: Path) -> None:
    url = catalogue({"name": "one", "day": "2024-06-10T05:40:00", "cloud": 3.0, **APPLIED})
    with pytest.raises(ConfigError, match="exceed the limit of 22,000 per side"):
        fetch(url, tmp_path / "out", bbox=(BBOX[0], BBOX[1], BBOX[0] + 5, BBOX[3]))


def test_the_extra_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pystac_client", None)
    with pytest.raises(ConfigError, match=r"pip install 'landslide-zoo\[stac\]'"):
        fetch("https://example.com", tmp_path / "out")


def item(offset: float | None = None, *, name: str = "red", day: str = "2024-06-10T05:40:00", **properties: Any) -> Any:
    made = pystac.Item(
        str(properties.pop("id", "x")),
        json.loads(shapely.to_geojson(shapely.box(*properties.pop("bounds", BBOX)))),
        list(BBOX),
        datetime.fromisoformat(day).replace(tzinfo=UTC),
        properties,
    )
    extra = {} if offset is None else {"raster:bands": [{"scale": 1e-4, "offset": offset}]}
    for band in ("green", "red", "nir", "swir16", name):
        made.add_asset(band, pystac.Asset("x.tif", extra_fields=extra))
    return made


@pytest.mark.parametrize(
    ("declared", "applied", "baseline", "keeps", "expected"),
    [
        (-0.1, True, "05.10", False, 0.0),
        (-0.1, False, "05.10", False, -1000.0),
        (-0.1, None, "05.10", False, -1000.0),
        (0, None, "02.14", False, 0.0),
        (None, None, "02.14", False, 0.0),
        (None, False, "04.00", False, -1000.0),
        (None, None, "05.10", True, -1000.0),
        (-0.1, None, None, False, -1000.0),
        # Two statements that cannot both be true, or none at all.
        (-0.1, None, "03.01", False, None),
        (0, None, "05.10", False, None),
        (None, None, "05.10", False, None),
        (None, None, None, False, None),
    ],
)
def test_offsets_as_catalogues_state_them(
    declared: float | None, applied: bool | None, baseline: str | None, keeps: bool, expected: float | None
) -> None:
    properties = {"earthsearch:boa_offset_applied": applied, "s2:processing_baseline": baseline}
    stated = {key: value for key, value in properties.items() if value is not None}
    assert offset_of(item(declared, **stated), "red", keeps_offset=keeps) == (expected, 1e-4)


def test_a_day_that_covers_the_box_beats_a_clearer_one_that_does_not() -> None:
    west, south, east, north = BBOX
    corner = (west, south, west + (east - west) / 10, north)
    items = [
        item(id="corner", **{"eo:cloud_cover": 0, "bounds": corner}),
        item(id="whole", day="2024-06-12T05:40:00", **{"eo:cloud_cover": 12}),
    ]
    day = choose_day(items, BBOX, 20, keeps_offset=False, where="x")
    assert [one.id for one in day.items] == ["whole"]
    assert day.cloud == 12


def test_a_product_that_was_processed_again_replaces_the_older_one() -> None:
    tile = {"grid:code": "MGRS-43SDT", "eo:cloud_cover": 1}
    items = [item(id=base, **tile, **{"s2:processing_baseline": base}) for base in ("02.14", "05.00")]
    day = choose_day(items, BBOX, 20, keeps_offset=True, where="x")
    assert [one.id for one in day.items] == ["05.00"]
    assert set(day.offsets.values()) == {-1000.0}


def test_a_day_of_two_offsets_is_passed_over() -> None:
    base = {"eo:cloud_cover": 1, "s2:processing_baseline": "05.00"}
    mixed = [item(id="a", **base, **{"earthsearch:boa_offset_applied": True}), item(-0.1, id="b", **base)]
    with pytest.raises(DataError, match="have different offsets"):
        choose_day(mixed, BBOX, 20, keeps_offset=False, where="x")
    later = item(-0.1, id="c", day="2024-06-12T05:40:00", **{**base, "eo:cloud_cover": 9})
    assert choose_day([*mixed, later], BBOX, 20, keeps_offset=False, where="x").items == (later,)


def test_a_day_follows_local_solar_time() -> None:
    # Over 74 degrees east the sun is five hours ahead: 20:00 in Greenwich is tomorrow there.
    day = choose_day([item(day="2024-06-10T20:00:00", **{"eo:cloud_cover": 1})], BBOX, 20, keeps_offset=True, where="x")
    assert day.date == "2024-06-11"


def test_images_without_the_bands_are_refused() -> None:
    bare = item(**{"eo:cloud_cover": 1})
    del bare.assets["swir16"]
    with pytest.raises(DataError, match=r"no band swir \(1\)"):
        choose_day([bare], BBOX, 20, keeps_offset=True, where="x")


@pytest.mark.parametrize(
    ("properties", "tile"),
    [({"grid:code": "MGRS-43SDT"}, "T43SDT"), ({"s2:mgrs_tile": "43SDT"}, "T43SDT"), ({"grid:code": "WRS2-1"}, "")],
)
def test_tiles_of_both_catalogues(properties: dict[str, str], tile: str) -> None:
    assert tile_of(item(**properties)) == tile
