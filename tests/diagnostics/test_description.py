"""Landslide sizes, class balance, and the picture of it all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from zoo.diagnostics.description import Describer, LandslideSizes
from zoo.diagnostics.drawing import draw_description
from zoo.errors import DataError
from zoo.physics.bands import Band

MASK = np.array(
    [
        [1, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 1, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 1, 1, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ],
    dtype=bool,
)
"""Two pixels that touch by a corner, at the border; two inside; four inside."""


def test_components_touch_by_corners_and_know_the_border():
    sizes = LandslideSizes(pixel_size=20.0)
    sizes.add(MASK)
    sizes.add(np.zeros((6, 6), bool))
    sizes.add(np.ones((1, 1), bool))
    assert sorted(zip(sizes.pixels, sizes.border, strict=True)) == [(1, True), (2, False), (2, True), (4, False)]
    assert (sizes.masks, sizes.masks_with, sizes.at_border) == (3, 2, 2)
    assert sizes.unit == "m2"
    assert sorted(sizes.areas) == [400, 800, 800, 1600]
    assert sizes.quantiles()[0.5] == 800
    assert sizes.small == 0.75  # 1,600 m2 itself is not below 1,600


def test_areas_are_in_pixels_where_their_size_is_unknown():
    sizes = LandslideSizes()
    assert (sizes.quantiles(), sizes.small, sizes.unit) == ({}, None, "px")
    sizes.add(MASK)
    assert sorted(sizes.areas) == [2, 2, 4]
    assert sizes.small is None


def described(masks: bool = True, **change: object):
    rng = np.random.default_rng(0)
    bands = [Band("NDVI", "1", -1, 1), Band("DEM", "m"), Band("flat", "1"), Band("copy", "1")]
    describer = Describer(bands, class_names=("background", "landslide") if masks else None, pixel_size=10.0)
    for _ in range(3):
        image = rng.uniform(-0.5, 0.5, (4, 6, 6)).astype(np.float32)
        image[2], image[3] = 7, -image[0]
        image[1, 0, 0] = np.nan
        mask = MASK.astype(np.int64)
        mask[5] = 255
        for band, value in change.items():
            image[int(band[1:])] = value
        describer.add(image, mask if masks else None)
    return describer.finish("Übung")


def test_ignored_pixels_are_no_class_and_no_landslide():
    found = described()
    assert found.classes.pixels.tolist() == [3 * (30 - 8), 3 * 8]
    assert found.classes.ignored == 18
    assert found.classes.shares.tolist() == pytest.approx([22 / 30, 8 / 30])
    assert len(found.sizes.pixels) == 9
    assert found.complete == 3 * 35


def test_json_holds_what_json_can_hold():
    values = json.loads(json.dumps(described().to_dict(), allow_nan=False))
    assert values["dependence"]["constant"] == ["flat"]
    assert values["dependence"]["vif"] == ["infinite", pytest.approx(1, abs=0.3), None, "infinite"]
    assert values["landslides"]["share_below_1600_m2"] == 1
    assert values["channels"][1]["missing"] == pytest.approx(1 / 36)
    assert described(masks=False).to_dict()["classes"] is None


@pytest.mark.parametrize(
    "found",
    [described(), described(masks=False), described(b0=np.nan), described(b0=1, b1=1, b3=1)],
    ids=["masks", "no masks", "a channel is missing", "all constant"],
)
def test_every_description_can_be_drawn(tmp_path: Path, found):
    figure = draw_description(found)
    figure.savefig(tmp_path / "picture.png", dpi=40)
    assert imread(tmp_path / "picture.png").std() > 0.01
    assert [ax.get_title() for ax in figure.axes[:1]] == ["correlation" if found.dependence else ""]


def test_a_description_without_a_landslide_can_be_drawn(tmp_path: Path):
    describer = Describer([Band("x", "1")], class_names=("background", "landslide"))
    describer.add(np.random.default_rng(0).normal(size=(1, 4, 4)), np.zeros((4, 4), int))
    draw_description(describer.finish("quiet")).savefig(tmp_path / "picture.png", dpi=40)


def test_images_without_valid_pixels_are_refused():
    describer = Describer([Band("x", "1")])
    describer.add(np.full((1, 3, 3), np.nan))
    with pytest.raises(DataError, match="no channel has a valid value"):
        describer.finish("empty")


def test_a_mask_that_holds_no_class_is_refused():
    describer = Describer([Band("x", "1")], class_names=("a", "b"))
    with pytest.raises(DataError, match="-1 to 0"):
        describer.add(np.zeros((1, 2, 2)), np.array([[0, -1], [0, 0]]))


def test_a_class_without_a_name_gets_one():
    describer = Describer([Band("x", "1")], class_names=("background", "landslide"))
    describer.add(np.zeros((1, 2, 2)), np.array([[0, 1], [2, 255]]))
    assert describer.finish("three").classes.names == ("background", "landslide", "class_2")
