"""``zoo describe`` as a user runs it, on patches and on rasters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import rasterio
from matplotlib.image import imread
from numpy.typing import NDArray
from rasterio.transform import from_origin

from tests.rasters.geotiffs import write_geotiff
from zoo.cli import run


def write_stack(
    path: Path, values: NDArray[np.float32], names: Sequence[str] = (), crs: str | None = "EPSG:32643"
) -> Path:
    write_geotiff(path, values, nodata=-9999, crs=crs, transform=from_origin(500000, 3700000, 20, 20))
    with rasterio.open(path, "r+") as target:
        for band, name in enumerate(names, start=1):
            target.set_band_description(band, name)
            if name in ("NDVI", "NDWI"):
                target.update_tags(band, VALID_MIN="-1", VALID_MAX="1")
    return path


def channels(size: int = 60) -> NDArray[np.float32]:
    """NDVI, its near mirror NDWI, a DEM, and a constant; a corner of the DEM is nodata."""
    rng = np.random.default_rng(0)
    ndvi = rng.uniform(-0.9, 0.9, (size, size))
    values = np.stack([ndvi, -0.9 * ndvi + rng.normal(0, 0.05, ndvi.shape), rng.normal(3000, 5, ndvi.shape), ndvi * 0])
    values[2, :10, :10] = -9999
    values[0, 15, :3] = 1.5
    return values.astype(np.float32)


def test_a_stack_is_described_with_json_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = channels()
    stack = write_stack(tmp_path / "Übung" / "stack.tif", values, ("NDVI", "NDWI", "DEM", "flat"))
    json_file, picture = tmp_path / "out" / "stack.json", tmp_path / "out" / "stack.png"
    assert run(["describe", str(stack), "--json", str(json_file), "--picture", str(picture)]) == 0
    printed = capsys.readouterr()
    assert "60 x 60 px of 20 m, 4 bands" in printed.err
    assert "a raster has no masks, so classes and landslide sizes are left out" in printed.err
    assert "flat is constant (0)" in printed.err
    assert "NDVI: 0.08% of its values lie outside its valid range" in printed.err
    assert "both use the near infrared" in printed.err
    assert "VIF" in printed.out
    found = json.loads(json_file.read_text())
    assert found["complete_pixels"] == 3500
    assert found["channels"][2]["missing"] == pytest.approx(100 / 3600)
    valid = values[2] != -9999
    assert found["channels"][2]["mean"] == pytest.approx(values[2][valid].astype(float).mean(), rel=1e-9)
    expected = np.corrcoef(values[:3][:, valid].astype(float))
    np.testing.assert_allclose(np.array(found["dependence"]["correlation"], float)[:3, :3], expected, atol=1e-9)
    assert found["classes"] is None
    assert imread(picture).shape[1] > 1000


def test_a_stack_is_read_by_windows_that_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.rasters.stacks import Stack

    stack = write_stack(tmp_path / "stack.tif", channels(), ("NDVI", "NDWI", "DEM", "flat"))
    assert run(["describe", str(stack), "--json", str(tmp_path / "whole.json")]) == 0
    windows = Stack.windows
    monkeypatch.setattr(Stack, "windows", lambda self: windows(self, 17))
    assert run(["describe", str(stack), "--json", str(tmp_path / "cut.json")]) == 0
    whole, cut = (json.loads((tmp_path / name).read_text()) for name in ("whole.json", "cut.json"))
    for one, other in zip(whole["channels"], cut["channels"], strict=True):
        assert {key: pytest.approx(value) for key, value in one.items()} == other
    np.testing.assert_allclose(
        np.array(whole["dependence"]["correlation"], float), np.array(cut["dependence"]["correlation"], float)
    )


def test_patches_are_described_with_classes_and_sizes(
    patches: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = ["--group-column", "scene", "--train-groups", "s0", "--val-groups", "s1", "--test-groups", "s2"]
    file = tmp_path / "data.json"
    arguments = ["describe", str(patches), *scenes, "--data-option", "pixel_size=10", "--split", "val"]
    assert run([*arguments, "--bands", "band_3,band_1", "--json", str(file)]) == 0
    printed = capsys.readouterr()
    assert "patches with landslides 8 of 8" in " ".join(printed.out.split())
    assert "below 1,600 m2" in printed.out
    found = json.loads(file.read_text())
    assert found["split"] == "val"
    assert [channel["name"] for channel in found["channels"]] == ["band_3", "band_1"]
    masks = [np.load(patches / "masks" / f"p{index:03}.npy") for index in range(1, 24, 3)]
    landslide = sum(int(mask.sum()) for mask in masks)
    assert found["classes"]["classes"][1]["pixels"] == landslide
    assert found["landslides"]["count"] == 8
    assert found["landslides"]["quantiles"]["0.5"] == 100 * np.median([mask.sum() for mask in masks])


def test_channels_that_share_no_pixel_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = channels(20)
    values[2] = -9999
    stack = write_stack(tmp_path / "stack.tif", values, ("NDVI", "NDWI", "DEM", "flat"))
    assert run(["describe", str(stack), "--picture", str(tmp_path / "p.png")]) == 0
    assert "DEM is missing in 100%); choose channels with --bands" in capsys.readouterr().err
    assert run(["describe", str(stack), "--bands", "NDVI,NDWI"]) == 0
    assert "VIF" in capsys.readouterr().out


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:6000])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["gone.tif"], "there is no such file"),
        (["cut.tif"], "truncated"),
        (["nowhere.crs.tif"], "no coordinate reference system"),
        (["empty.tif"], "no channel has a valid value"),
        (["stack.tif", "--bands", "NDVJ"], "Did you mean 'NDVI'"),
        (["stack.tif", "--bands", ","], "no band is named"),
        (["stack.tif", "--split-by", "block"], "a raster has no splits"),
        (["stack.tif", "--picture", "p.txt"], "cannot write a picture of type 'txt'"),
        (["stack.tif", "--json", "stack.tif/x.json"], "cannot write here"),
        (["stack.tif", "--json", "stack.tif"], "stack.tif: is one of the inputs"),
        (["stack.tif", "--json", "p.png", "--picture", "p.png"], "two outputs have the same name"),
        (["nothing"], "unknown data set or folder"),
        (["void.tif"], "its format does not match its name"),
        (["table.tif"], "its format does not match its name"),
        (["table.csv"], "is a file"),
        (["loop.tif"], "there is no such file"),
        (["self.vrt"], "VRTs are nested more than 8 deep"),
        (["x" * 5000 + ".tif"], "the name of a file is too long"),
    ],
)
def test_bad_input_is_reported_and_exits_with_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_stack(tmp_path / "stack.tif", channels(), ("NDVI", "NDWI", "DEM", "flat"))
    write_stack(tmp_path / "empty.tif", np.full((2, 8, 8), -9999, np.float32))
    write_stack(tmp_path / "nowhere.crs.tif", channels(20), crs=None)
    truncate(write_stack(tmp_path / "cut.tif", channels()))
    (tmp_path / "void.tif").touch()
    for name in ("table.tif", "table.csv"):
        (tmp_path / name).write_text("a,b\n1,2\n")
    (tmp_path / "loop.tif").symlink_to("loop.tif")
    (tmp_path / "self.vrt").write_text(
        "<VRTDataset rasterXSize='8' rasterYSize='8'><VRTRasterBand dataType='Float32' band='1'><SimpleSource>"
        "<SourceFilename relativeToVRT='1'>self.vrt</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    assert run(["describe", *arguments]) == 2
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert "Traceback" not in printed.err


def test_one_pixel_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stack = write_stack(tmp_path / "one.tif", np.ones((2, 1, 1), np.float32))
    assert run(["describe", str(stack), "--picture", str(tmp_path / "one.png")]) == 0
    assert "band_1 is constant" in capsys.readouterr().err


def test_band_names_are_no_markup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name such as [/red] in a heading ended in a traceback."""
    folder = tmp_path / "größe"
    folder.mkdir()
    names = ("[/red]", "[bold]x[/bold]", "a\nb", "\u202eabc")
    stack = write_stack(folder / "stack.tif", channels(20), names)
    assert run(["describe", str(stack), "--json", str(folder / "a.json")]) == 0
    printed = capsys.readouterr().out
    assert printed.count("[/red]") >= 2
    assert "[bold]x[/bold]" in printed
    assert "\u202e" not in printed
    assert [channel["name"] for channel in json.loads((folder / "a.json").read_text())["channels"]] == list(names)
