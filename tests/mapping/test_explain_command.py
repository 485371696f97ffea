"""`zoo explain` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from PIL import Image

from tests.mapping.conftest import BANDS, CORNER, PIXEL, WriteScene, make_image
from zoo.cli import run
from zoo.physics.bands import Band


@pytest.fixture
def scene(write_scene: WriteScene) -> Path:
    return write_scene(make_image(120, 150))


def ask(bundle: Path, scene: Path, out: Path, *more: object) -> int:
    return run(["explain", str(bundle), str(scene), "--out", str(out), "--cells", "3", *map(str, more)])


def test_a_window_is_explained(bundle, scene, tmp_path, capsys):
    slides = tmp_path / "slides.gpkg"
    box = shapely.box(CORNER[0] + 300, CORNER[1] - 500, CORNER[0] + 400, CORNER[1] - 400)
    geopandas.GeoDataFrame(geometry=[box], crs="EPSG:32643").to_file(slides)
    out, record = tmp_path / "why.png", tmp_path / "why.json"
    done = ask(
        bundle, scene, out, "--window", "20,30,64,48", "--truth", slides, "--together", "NDVI,slope", "--json", record
    )
    told = capsys.readouterr()
    assert done == 0, told.err
    assert "slope [degree] = 25" in told.out
    assert "no attention blocks" in told.err
    assert np.asarray(Image.open(out).convert("L")).std() > 10
    values = json.loads(record.read_text())
    assert values["window"] == [20, 30, 64, 48]
    assert values["bounds"] == [CORNER[0] + 200, CORNER[1] - 780, CORNER[0] + 840, CORNER[1] - 300]
    assert values["context_pixels"] == {"above": 30, "below": 32, "left": 20, "right": 32}
    assert [one["names"] for one in values["channels"]] == [["NDVI"], ["slope"]]
    assert values["together"][0]["names"] == ["NDVI", "slope"]
    assert 0 <= values["dice"] < 1
    squares = values["ground"]["change_of_probability"]
    assert (len(squares), len(squares[0])) == (3, 3)
    assert values["attention"] == []


def test_a_window_without_a_reference_landslide_is_warned_of(bundle, scene, tmp_path, capsys):
    slides = tmp_path / "slides.gpkg"
    box = shapely.box(CORNER[0] + 1300, CORNER[1] - 1150, CORNER[0] + 1350, CORNER[1] - 1100)
    geopandas.GeoDataFrame(geometry=[box], crs="EPSG:32643").to_file(slides)
    out, record = tmp_path / "why.png", tmp_path / "why.json"
    assert ask(bundle, scene, out, "--window", "20,30,40,40", "--truth", slides, "--json", record) == 0
    told = capsys.readouterr()
    assert "the reference has no landslide in the window, so the Dice is undefined" in told.err
    assert "Dice with all channels" not in told.err
    rows = [line.split() for line in told.out.splitlines() if line.startswith(("NDVI", "slope"))]
    assert [row[-1] for row in rows] == ["-", "-"]
    values = json.loads(record.read_text())
    assert values["dice"] is None
    assert [one["dice"] for one in values["channels"]] == [None, None]


def test_a_place_is_a_window_around_it(bundle, scene, tmp_path, capsys):
    out, record = tmp_path / "why.png", tmp_path / "why.json"
    place = f"{CORNER[0] + 75 * PIXEL},{CORNER[1] - 60 * PIXEL}"
    assert ask(bundle, scene, out, "--at", place, "--size", 40, "--json", record) == 0, capsys.readouterr().err
    assert json.loads(record.read_text())["window"] == [55, 40, 40, 40]
    # At the corner the window moves inwards.
    place = f"{CORNER[0] + 1},{CORNER[1] - 1}"
    assert ask(bundle, scene, out, "--at", place, "--size", 40, "--json", record, "--overwrite") == 0
    assert json.loads(record.read_text())["window"] == [0, 0, 40, 40]


def test_bad_options_are_refused_and_nothing_is_written(bundle, scene, write_scene, tmp_path, capsys):
    out = tmp_path / "why.png"

    def refusal(*more: object, scene: Path = scene, bundle: Path = bundle, out: Path = out) -> str:
        assert ask(bundle, scene, out, *more) == 2
        told = capsys.readouterr()
        assert told.out == ""
        return told.err

    window = ("--window", "20,30,64,48")
    assert "beyond the scene" in refusal("--window", "100,30,64,48")
    assert "150 columns and 120 rows" in refusal("--window=-1,30,64,48")
    assert "COL,ROW,WIDTH,HEIGHT" in refusal("--window", "1,2,3")
    assert "COL,ROW,WIDTH,HEIGHT" in refusal("--window", "1,2,0,3")
    assert "outside the scene" in refusal("--at", "75.1,34.2")
    assert "--window" in refusal()
    assert "--window" in refusal(*window, "--at", "600500,3799500")
    assert "needs 32 x 32" in refusal("--window", "20,30,8,8", "--context", 0)
    assert "bundle.json" in refusal(*window, bundle=tmp_path)
    assert ".png" in refusal(*window, out=tmp_path / "why.xyz")
    assert "the same name" in refusal(*window, "--json", out)
    assert "no such file" in refusal(*window, scene=tmp_path / "no.tif")
    assert "Did you mean 'slope'" in refusal(*window, "--together", "slop,NDVI")
    assert "no such" in refusal(*window, "--truth", tmp_path / "no.gpkg")
    other = write_scene(make_image(120, 150), "other.tif", bands=(Band("NDVI", "1"), Band("slope", "radian")))
    assert "radian" in refusal(*window, scene=other)
    bare = write_scene(make_image(120, 150), "bare.tif", crs=None)
    assert "coordinate reference system" in refusal(*window, scene=bare)
    empty = write_scene(np.full((2, 120, 150), np.nan, np.float32), "empty.tif")
    assert "no pixel of the window is valid" in refusal(*window, scene=empty)
    mask = write_scene(make_image(60, 60)[:1], "mask.tif", bands=BANDS[:1])
    assert "pixel grid of the scene" in refusal(*window, "--truth", mask)
    assert not out.exists()
    out.write_bytes(b"mine")
    assert "already exists" in refusal(*window)
    assert out.read_bytes() == b"mine"
