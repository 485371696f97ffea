"""docs/tutorials/own_map.md, run from its first command to its last on parts of its files, with little training."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.windows import Window

from tests.conftest import NIGHTLY
from zoo.cli import run

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorials" / "own_map.md"
STEPS = "4"
"""Number of training steps instead of the tutorial's; the model is not good."""
PARTS = {
    "kashmir/AW3D30.tif": Window(64, 290, 320, 320),
    "chattogram/mosaic_RGBN_uint16.tif": Window(128, 0, 512, 384),
    "chattogram/mosaic_label_uint8.tif": Window(128, 0, 512, 384),
}
"""The part of each raster that is used."""


def blocks() -> list[tuple[str, str]]:
    """Kind and text of each block of code, in order."""
    return re.findall(r"^```(console|python)\n(.*?)^```", TUTORIAL.read_text(encoding="utf-8"), re.M | re.S)


def commands(text: str) -> list[list[str]]:
    """Return the command after each prompt, with a narrow model, fewer training steps and without timing."""
    found = [shlex.split(line[2:]) for line in text.replace("\\\n", "").splitlines() if line.startswith("$ ")]
    for one in found:
        if "--steps" in one:
            one[one.index("--steps") + 1] = STEPS
            one.append("--no-speed")
            widths = next(word for word in one if word.startswith("widths="))
            one[one.index(widths)] = f"widths={[4] * len(widths.split(','))}"
    return found


def test_every_block_has_a_command_or_is_python() -> None:
    kinds = [kind for kind, _ in blocks()]
    assert kinds.count("console") >= 6
    assert kinds.count("python") == 1
    assert all(one[0] == "zoo" for kind, text in blocks() if kind == "console" for one in commands(text))


def link_files(folders: Path) -> None:
    """Put the tutorial's files into the working directory: parts of the rasters, by night all of them."""
    for name in ("kashmir", "chattogram"):
        Path(name).mkdir()
        for path in (folders / name).iterdir():
            Path(name, path.name).symlink_to(path)
    for name, part in ({} if NIGHTLY else PARTS).items():
        with rasterio.open(name) as whole:
            values, place = whole.read(window=part), whole.window_transform(part)
            profile = {**whole.profile, "width": part.width, "height": part.height, "transform": place}
        Path(name).unlink()
        with rasterio.open(name, "w", **profile) as file:
            file.write(values)


@pytest.mark.slow
def test_the_tutorial_does_what_it_says(shared_data: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    link_files(shared_data)
    for kind, text in blocks():
        if kind == "python":
            exec(compile(text, str(TUTORIAL), "exec"), {})
            continue
        for command in commands(text):
            done = run(command[1:])
            told = capsys.readouterr()
            assert done == 0, f"{shlex.join(command)}\n{told.err}"

    with rasterio.open("prob.tif") as made, rasterio.open("kashmir/AW3D30.tif") as dem:
        assert made.crs.to_epsg() == 32643
        assert made.transform.almost_equals(dem.transform)
        assert made.tags()["SCENE"] == "kashmir"
    slides = geopandas.read_file("slides.gpkg")
    assert slides.crs.to_epsg() == 32643
    assert {"area_m2", "mean_probability", "mean_slope_degree", "class"} <= set(slides.columns)
    assert (slides["area_m2"] >= 2000).all()

    with rasterio.open("hills.tif") as made, rasterio.open("chattogram/mosaic_RGBN_uint16.tif") as mosaic:
        assert made.crs.to_epsg() == mosaic.crs.to_epsg() == 4326
        assert made.shape == mosaic.shape
        assert made.transform.almost_equals(mosaic.transform)
        # Nodata of the mosaic is nodata of the map, and nothing else is.
        np.testing.assert_array_equal(made.read(1) == made.nodata, ~(mosaic.read((1, 2, 4)) > 0).all(0))
    hills = geopandas.read_parquet("hills.parquet")
    assert hills.crs.to_epsg() == 4326
    # Pixels of 0.0000898 degrees are 9.2 x 9.9 m at 22.4 degrees north.
    if len(hills):
        np.testing.assert_allclose(hills["area_m2"] / hills["pixels"], 91.9, rtol=5e-3)
    for name in ("map.png", "why.png", "hills.png"):
        assert np.asarray(Image.open(name).convert("L")).std() > 10
