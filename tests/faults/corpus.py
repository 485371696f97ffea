"""Small files of every kind that zoo reads, from real writers."""

from __future__ import annotations

import json
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import geopandas
import h5py
import numpy as np
import pandas as pd
import shapely
import torch
from PIL import Image

from tests.conftest import write_patches
from tests.faults.past import write_past_faults
from tests.rasters.test_safe import write_safe
from tests.weights.conftest import pack
from tests.weights.test_card import NOTES
from zoo.mapping.journal import Journal
from zoo.mapping.tiling import BlockResult, Plan
from zoo.physics.lsi import IndexParameters
from zoo.risk.index import RiskIndex
from zoo.training.bundle import Bundle
from zoo.weights.card import write_card

VRT = """<VRTDataset rasterXSize="8" rasterYSize="8"><SRS>EPSG:32643</SRS>
<GeoTransform>600000,10,0,3800000,0,-10</GeoTransform>
<VRTRasterBand dataType="Float32" band="1"><NoDataValue>-1</NoDataValue>
<SimpleSource><SourceFilename relativeToVRT="1">keep/a.tif</SourceFilename><SourceBand>1</SourceBand>
<SrcRect xOff="0" yOff="0" xSize="8" ySize="8"/><DstRect xOff="0" yOff="0" xSize="8" ySize="8"/></SimpleSource>
</VRTRasterBand></VRTDataset>"""
GRID = "ncols 4\nnrows 3\nxllcorner 600000\nyllcorner 3800000\ncellsize 10\nNODATA_value -9999\n" + "1 2 3 4\n" * 3
METADATA = "Metadata-Version: 2.1\nName: fuzzed\nVersion: 1.0\nSummary: A plugin\nRequires-Python: >=3.11\n"
POINTS = "[fuzzed]\nmain = fuzzed_module\n[zoo]\nmain = fuzzed_module\n"


def stac_item() -> dict[str, Any]:
    """An item of a static catalogue."""
    corners = [[75, 34], [76, 34], [76, 35], [75, 35], [75, 34]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "S2A_43SDT",
        "geometry": {"type": "Polygon", "coordinates": [corners]},
        "bbox": [75, 34, 76, 35],
        "properties": {"datetime": "2024-06-01T05:46:39Z", "eo:cloud_cover": 3.5, "proj:code": "EPSG:32643"},
        "links": [{"rel": "root", "href": "catalog.json"}, {"rel": "parent", "href": "collection.json"}],
        "assets": {"red": {"href": "red.tif", "raster:bands": [{"nodata": 0, "scale": 0.0001, "offset": -0.1}]}},
    }


def write_stac(folder: Path) -> None:
    folder.mkdir(parents=True)
    root = {"type": "Catalog", "stac_version": "1.0.0", "id": "root", "description": "a test"}
    collection = {
        **{"type": "Collection", "stac_version": "1.0.0", "id": "s2", "description": "a test", "license": "other"},
        "extent": {
            "spatial": {"bbox": [[-180, -90, 180, 90]]},
            "temporal": {"interval": [["2020-01-01T00:00:00Z", None]]},
        },
        "links": [{"rel": "root", "href": "catalog.json"}, {"rel": "item", "href": "item.json"}],
    }
    (folder / "catalog.json").write_text(json.dumps({**root, "links": [{"rel": "child", "href": "collection.json"}]}))
    (folder / "collection.json").write_text(json.dumps(collection))
    (folder / "item.json").write_text(json.dumps(stac_item()))


def write_tables(folder: Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "presence": np.tile([0, 1], 15),
            "x": rng.uniform(75, 76, 30).round(4),
            "y": rng.uniform(34, 35, 30).round(4),
            "slope": rng.uniform(0, 50, 30).round(2),
            "litho": rng.integers(1, 4, 30),
        }
    )
    frame.to_csv(folder / "a.csv", index=False)
    frame.to_csv(folder / "b.csv", index=False, sep=";", decimal=",", encoding="latin-1")
    frame.to_excel(folder / "a.xlsx", index=False)
    frame.to_parquet(folder / "a.parquet")
    points = geopandas.points_from_xy(frame["x"], frame["y"], crs="EPSG:4326")
    geopandas.GeoDataFrame(frame, geometry=points).to_file(folder / "a.geojson", driver="GeoJSON")


def write_pictures(patch: Path, raster: Path, tif: Path) -> None:
    patch.mkdir()
    raster.mkdir()
    rng = np.random.default_rng(1)
    colours = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(colours).save(patch / "a.png")
    Image.fromarray(colours).save(patch / "a.jpg")
    Image.fromarray(colours[..., 0] // 128).convert("P").save(patch / "mask.png")
    Image.fromarray(colours[..., 0].astype(np.uint16) * 200).save(patch / "deep.png")
    np.save(patch / "a.npy", colours.astype(np.float32))
    with h5py.File(patch / "a.h5", "w") as file:
        file["img"] = colours.astype(np.float32)
    shutil.copy(tif, patch / "a.tif")
    for folder in (raster, raster / "vrt" / "keep"):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(tif, folder / "a.tif")
    (raster / "vrt" / "a.vrt").write_text(VRT)
    (raster / "a.asc").write_text(GRID)


def write_netcdf(folder: Path) -> None:
    folder.mkdir()
    with h5py.File(folder / "a.nc", "w") as file:
        file.attrs["event_date"], file.attrs["annotated"], file.attrs["crs"] = "2020-08-01", "True", "EPSG:32643"
        file["time"] = np.array([0, 10, 20])
        file["time"].attrs["units"] = "days since 2020-07-01 00:00:00"
        file["x"], file["y"] = np.arange(8.0) * 10, np.arange(8.0)[::-1] * 10
        file["B02"] = np.ones((3, 8, 8), np.int16)


def write_vectors(folder: Path, geojson: Path) -> None:
    (folder / "shape").mkdir(parents=True)
    shutil.copy(geojson, folder / "a.geojson")
    frame = geopandas.read_file(geojson)
    frame.to_file(folder / "a.gpkg", driver="GPKG")
    frame.to_file(folder / "shape" / "a.shp")
    lines = geopandas.GeoDataFrame({"a": [1]}, geometry=[shapely.LineString([(75, 34), (76, 35)])], crs="EPSG:4326")
    lines.to_file(folder / "lines.geojson", driver="GeoJSON")


def write_archives(folder: Path) -> None:
    folder.mkdir()
    inside = folder / "inside.txt"
    inside.write_text("text\n" * 20)
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(inside, "top/inside.txt")
        archive.writestr("top/b/c.txt", "c")
    with tarfile.open(folder / "a.tar.gz", "w:gz") as archive:
        archive.add(inside, "top/inside.txt")
    with tarfile.open(folder / "a.tar", "w") as archive:
        archive.add(inside, "top/inside.txt")
    inside.unlink()


def write_block(folder: Path) -> None:
    folder.mkdir()
    plan = Plan((40, 40), 64, 32)
    [block] = plan.blocks()
    empty = np.zeros((0, 40))
    result = BlockResult(np.ones((40, 40), np.uint8), empty, empty, empty.T, empty.T, np.zeros(3, np.int64))
    with Journal(folder / "prob.tif", {"a": 1}) as journal:
        journal.save(block, result)
        [path] = journal.folder.glob("block-*")
        shutil.copy(path, folder / path.name)
        journal.discard()


def write_shared_weights(corpus: Path, trained: Path) -> None:
    """Write a bundle as an archive, with a model card, with notes, and as the hub lists it."""
    for name in ("card", "notes"):
        shutil.copytree(corpus / "bundle" / "run", corpus / name / "run")
    write_card(Bundle.load(trained), corpus / "card" / "run")
    (corpus / "notes" / "run" / "notes.toml").write_text(NOTES)
    folder = corpus / "archived weights"
    folder.mkdir()
    pack(corpus / "card" / "run", folder / "a.zip", "top/")
    (corpus / "hub").mkdir()
    siblings = [
        {"rfilename": "bundle.json", "size": 120, "blobId": "0"},
        {"rfilename": "model.safetensors", "size": 4000, "lfs": {"size": 4000, "sha256": "0" * 64, "pointerSize": 130}},
    ]
    listing = {"id": "owner/repo", "sha": "0" * 40, "private": False, "tags": ["landslide"], "siblings": siblings}
    (corpus / "hub" / "a.json").write_text(json.dumps(listing))


def write_corpus(corpus: Path, inputs: Path, trained: Path) -> None:
    """Write the corpus of each reader.

    Args:
        corpus: new folder.
        inputs: folder of the inputs of the commands.
        trained: folder that ``zoo train`` wrote.
    """
    corpus.mkdir()
    (corpus / "result" / "run").mkdir(parents=True)
    shutil.copytree(trained / "trials", corpus / "result" / "run" / "trials")
    (corpus / "bundle" / "run").mkdir(parents=True)
    for name in ("bundle.json", "model.safetensors"):
        shutil.copy(trained / name, corpus / "bundle" / "run" / name)
    (corpus / "benchmark").mkdir()
    shutil.copy(inputs / "bench.toml", corpus / "benchmark" / "a.toml")
    (corpus / "weights").mkdir()
    (corpus / "weights" / "a.json").write_text(RiskIndex(IndexParameters()).to_json())
    write_tables(corpus / "table")
    write_pictures(corpus / "patch", corpus / "raster", inputs / "red.tif")
    write_netcdf(corpus / "netcdf")
    write_vectors(corpus / "vectors", inputs / "slides.geojson")
    (corpus / "safe").mkdir()
    write_safe(corpus / "safe")
    write_stac(corpus / "stac" / "catalogue")
    write_archives(corpus / "archive")
    write_patches(corpus / "folder" / "patches", bands=1, size=8, count=6)
    write_block(corpus / "journal")
    (corpus / "resume").mkdir()
    state = {
        "callbacks": {"a": {"curve": [[1, 0.5]], "format": {"precision": "fp32", "channels_last": True}}},
        "global_step": 1,
    }
    torch.save(state, corpus / "resume" / "a.ckpt")
    site = corpus / "plugin" / "site" / "fuzzed-1.0.dist-info"
    site.mkdir(parents=True)
    (site / "METADATA").write_text(METADATA)
    (site / "entry_points.txt").write_text(POINTS)
    write_shared_weights(corpus, trained)
    write_past_faults(corpus)
